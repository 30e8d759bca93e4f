//! What of two outputs must be equal: everything but what each router chooses for itself.
//!
//! A router chooses external ports and identifiers, and the identification of packets that it makes. Ports
//! stand beside the router's address; there, and only there, our port is replaced by the kernel's, and checksums
//! follow by the difference, so that what was wrong stays wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    packet::{mend_header, mend_sctp},
    plan::{Side, is_router},
};

/// Where things are in an IP packet, or in as much of it as an error quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) protocol: u8,
    /// Where the transport header begins.
    pub(super) transport: usize,
    /// Where the packet ends by its header.
    pub(super) end: usize,
    /// Offset in bytes, and whether more follow.
    pub(super) fragment: Option<(usize, bool)>,
    /// Where a fragment's identification is, and how long.
    pub(super) id: Option<[usize; 2]>,
}

impl Layout {
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::v4(bytes),
            6 => Self::v6(bytes),
            _ => None,
        }
    }

    fn v4(bytes: &[u8]) -> Option<Self> {
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
        let place = word(bytes, 6)?;
        let (offset, more) = (usize::from(place & 0x1fff) * 8, place & 0x2000 != 0);
        Some(Self {
            src: address(12)?.into(),
            dst: address(16)?.into(),
            protocol: bytes[9],
            transport: usize::from(bytes[0] & 15) * 4,
            end: usize::from(word(bytes, 2)?),
            fragment: (offset != 0 || more).then_some((offset, more)),
            id: Some([4, 6]),
        })
    }

    fn v6(bytes: &[u8]) -> Option<Self> {
        let address = |at: usize| {
            Some(Ipv6Addr::from(
                <[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?,
            ))
        };
        let mut layout = Self {
            src: address(8)?.into(),
            dst: address(24)?.into(),
            protocol: bytes[6],
            transport: 40,
            end: 40 + usize::from(word(bytes, 4)?),
            fragment: None,
            id: None,
        };
        while let 0 | 43 | 44 | 60 = layout.protocol {
            let at = layout.transport;
            let (Some(&next), Some(&length)) = (bytes.get(at), bytes.get(at + 1)) else {
                break;
            };
            let size = match layout.protocol {
                44 => {
                    let place = word(bytes, at + 2)?;
                    let (offset, more) = (usize::from(place & 0xfff8), place & 1 != 0);
                    layout.fragment = (offset != 0 || more).then_some((offset, more));
                    layout.id = Some([at + 4, at + 8]);
                    8
                }
                _ => usize::from(length) * 8 + 8,
            };
            layout.protocol = next;
            layout.transport = at + size;
            if layout.fragment.is_some_and(|(offset, _)| offset != 0) {
                break;
            }
        }
        Some(layout)
    }

    /// Whether it is an ICMP error.
    pub(super) fn is_error(&self, bytes: &[u8]) -> bool {
        let kind = bytes.get(self.transport);
        match (self.protocol, kind) {
            (1, Some(kind)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
            (58, Some(kind)) => matches!(kind, 1..=4),
            _ => false,
        }
    }

    /// Where ports and identifiers are, and whose each is.
    fn ports(&self, bytes: &[u8]) -> Vec<(usize, IpAddr)> {
        if self.fragment.is_some_and(|(offset, _)| offset != 0) {
            return Vec::new();
        }
        let at = self.transport;
        match (self.protocol, bytes.get(at)) {
            (6 | 17 | 132 | 136, _) => vec![(at, self.src), (at + 2, self.dst)],
            (1, Some(8 | 13 | 15 | 17)) | (58, Some(128 | 139)) => vec![(at + 4, self.src)],
            (1, Some(0 | 14 | 16 | 18)) | (58, Some(129 | 140)) => vec![(at + 4, self.dst)],
            _ => Vec::new(),
        }
    }

    /// Where the checksum is that covers the ports, if it is there.
    fn checksum(&self, bytes: &[u8]) -> Option<usize> {
        let at = self.transport
            + match self.protocol {
                1 | 58 => 2,
                6 => 16,
                17 => 6,
                _ => return None,
            };
        let value = word(bytes, at)?;
        (self.protocol != 17 || value != 0).then_some(at)
    }
}

/// Ports that the routers may have chosen although they are nobody's of theirs: a client's as a published port's target
/// sees it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chosen {
    /// As the client has it: what neither router left.
    pub(super) original: Option<u16>,
    /// As each router has chosen before.
    pub(super) external: Option<[u16; 2]>,
}

impl Chosen {
    fn covers(&self, kernel: u16, ours: u16) -> bool {
        self.original
            .is_some_and(|original| kernel != original && ours != original)
            || self.external == Some([kernel, ours])
    }
}

/// Makes the outputs of two routers comparable; `input_is_error` says that they made no error themselves.
pub(super) fn unify(
    kernel: &[(Side, Vec<u8>)],
    ours: &[(Side, Vec<u8>)],
    input_is_error: bool,
    chosen: Chosen,
) -> [Vec<(Side, Vec<u8>)>; 2] {
    let [mut kernel, mut ours] = [kernel, ours].map(|outputs| {
        let mut outputs = outputs.to_vec();
        for (_, packet) in &mut outputs {
            canonicalize(packet, input_is_error);
        }
        outputs.sort_by_key(|&(side, _)| side as usize);
        outputs
    });
    if kernel.len() == ours.len() {
        for ((_, kernel), (_, ours)) in kernel.iter_mut().zip(&mut ours) {
            adopt_ports(kernel, ours, chosen);
        }
    }
    [kernel, ours]
}

/// The datagrams that the outputs carry: fragments together, each list of fragments as one packet and their sizes.
fn whole(outputs: &[(Side, Vec<u8>)]) -> Option<(Side, Vec<u8>, Vec<usize>)> {
    let (side, first) = outputs.first()?;
    let layout = Layout::of(first)?;
    let start = match first[0] >> 4 {
        4 => layout.transport,
        _ => layout.id?[1],
    };
    let mut bytes = first[..start].to_vec();
    let mut sizes = Vec::new();
    for (_, packet) in outputs {
        let layout = Layout::of(packet)?;
        let offset = match layout.fragment {
            Some((offset, _)) => offset,
            // All of it in one, with a header for fragments (RFC 6946).
            None if packet[0] >> 4 == 6 && layout.id.is_some() => 0,
            None => return None,
        };
        // Identifications are their routers' choice.
        if offset + start != bytes.len() || packet.len() < start {
            return None;
        }
        bytes.extend(&packet[start..]);
        sizes.push(packet.len());
    }
    Some((*side, bytes, sizes))
}

/// Whether both are pieces of one datagram, cut alike.
pub(super) fn are_same_pieces(kernel: &[(Side, Vec<u8>)], ours: &[(Side, Vec<u8>)], chosen: Chosen) -> bool {
    let (Some(kernel), Some(ours)) = (joined(kernel), joined(ours)) else {
        return false;
    };
    let ((side, mut packet, sizes), (our_side, mut our_packet, our_sizes)) = (kernel, ours);
    adopt_ports(&mut packet, &mut our_packet, chosen);
    (side, packet, sizes) == (our_side, our_packet, our_sizes)
}

/// Brings the pieces of a datagram into one form: as if it had not been cut. `None` if it is none.
fn joined(outputs: &[(Side, Vec<u8>)]) -> Option<(Side, Vec<u8>, Vec<usize>)> {
    let (side, mut bytes, sizes) = whole(outputs)?;
    let layout = Layout::of(&bytes)?;
    match bytes[0] >> 4 {
        4 => {
            bytes[4..8].fill(0);
            let length = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            mend_header(&mut bytes);
        }
        _ => {
            let [from, to] = layout.id?;
            let length = (bytes.len() - 40) as u16;
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
            // Atomic, without identification.
            bytes[from - 2..to].fill(0);
        }
    }
    Some((side, bytes, sizes))
}

/// Gives our packet the kernel's ports where they are the router's.
pub(super) fn adopt_ports(kernel: &mut [u8], ours: &mut [u8], chosen: Chosen) {
    let (Some(theirs), Some(own)) = (Layout::of(kernel), Layout::of(ours)) else {
        return;
    };
    if theirs.transport != own.transport || theirs.protocol != own.protocol {
        return;
    }
    if own.is_error(ours) {
        let (outer, start) = (own.transport + 2, own.transport + 8);
        let (Some(inner_kernel), Some(inner)) = (kernel.get(start..), ours.get(start..)) else {
            return;
        };
        let Some(layout) = Layout::of(inner) else { return };
        for (at, owner) in layout.ports(inner) {
            let own = word(&ours[start..], at).unwrap_or_default();
            let is_chosen = |port: &u16| is_router(owner) || chosen.covers(*port, own);
            if let Some(port) = word(inner_kernel, at).filter(is_chosen) {
                let sum = layout.checksum(&ours[start..]).map(|at| at + start);
                replace(ours, at + start, port, sum, Some(outer));
            }
        }
    } else {
        if own.fragment.is_some() && own.protocol != 17 && own.checksum(ours).is_none() {
            // The checksum is in another piece: only the whole can be compared.
            return;
        }
        let is_sctp = own.protocol == 132;
        let was_right = is_sctp && has_right_crc(ours, own.transport);
        for (at, owner) in own.ports(ours) {
            let port = word(ours, at).unwrap_or_default();
            let is_chosen = |other: &u16| is_router(owner) || chosen.covers(*other, port);
            if let Some(port) = word(kernel, at).filter(is_chosen) {
                let sum = own.checksum(ours);
                replace(ours, at, port, sum, None);
            }
        }
        if was_right && own.fragment.is_none() {
            mend_sctp(&mut ours[own.transport..]);
        }
    }
    for packet in [kernel, ours] {
        signless_zero(packet);
    }
}

/// The one packet of IPv6 that the pieces are, without fragment header.
pub(super) fn unfragmented(outputs: &[(Side, Vec<u8>)]) -> Option<(Side, Vec<u8>)> {
    let (side, mut bytes) = match outputs {
        [(side, packet)] => (*side, packet.clone()),
        _ => joined(outputs).map(|(side, bytes, _)| (side, bytes))?,
    };
    if bytes[0] >> 4 != 6 || bytes.get(6) != Some(&44) || word(&bytes, 42).is_none_or(|place| place & !6 != 0)
    {
        return None;
    }
    bytes[6] = bytes[40];
    bytes.drain(40..48);
    let length = bytes.len() as u16 - 40;
    bytes[4..6].copy_from_slice(&length.to_be_bytes());
    Some((side, bytes))
}

/// Replaces a word, and lets a checksum over it, and another over both, follow (RFC 1624).
fn replace(bytes: &mut [u8], at: usize, value: u16, sum: Option<usize>, outer: Option<usize>) {
    let Some(old) = word(bytes, at).filter(|&old| old != value) else {
        return;
    };
    write(bytes, at, value);
    let mut changes = vec![(old, value)];
    if let Some(at) = sum {
        let before = word(bytes, at).unwrap_or_default();
        let mut after = follow(before, old, value);
        // Only the checksum of UDP may not be 0, and no other ever becomes it by chance alone on one side.
        if after == 0 {
            after = 0xffff;
        }
        write(bytes, at, after);
        changes.push((before, after));
    }
    if let Some(at) = outer {
        for (old, new) in changes {
            let sum = word(bytes, at).unwrap_or_default();
            write(bytes, at, follow(sum, old, new));
        }
    }
}

fn follow(sum: u16, old: u16, new: u16) -> u16 {
    let total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    let total = (total >> 16) + (total & 0xffff);
    !(((total >> 16) + (total & 0xffff)) as u16)
}

/// Both zeros of one's complement are right in TCP and ICMP.
fn signless_zero(packet: &mut [u8]) {
    let Some(layout) = Layout::of(packet) else { return };
    let at = layout.checksum(packet).filter(|_| layout.protocol != 17);
    if let Some(at) = at.filter(|&at| word(packet, at) == Some(0xffff)) {
        write(packet, at, 0);
    }
}

fn canonicalize(packet: &mut Vec<u8>, input_is_error: bool) {
    let Some(layout) = Layout::of(packet) else { return };
    // Padding of the frame.
    packet.truncate(layout.end);
    // Whatever source they have: those about published ports are translated.
    let is_own = layout.is_error(packet) && !input_is_error;
    if is_own && packet[0] >> 4 == 4 {
        packet[4..6].fill(0);
        mend_header(packet);
    }
}

fn has_right_crc(packet: &[u8], transport: usize) -> bool {
    let Some(given) = packet.get(transport..).filter(|bytes| bytes.len() >= 12) else {
        return false;
    };
    let mut right = given.to_vec();
    mend_sctp(&mut right);
    right == given
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn write(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
