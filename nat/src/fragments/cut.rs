//! Cutting packets: as they were received, or because the next link wants it.
//!
//! A packet is cut where it lies. Each piece gets its headers in front of its bytes, over the end of the piece before it,
//! which has been sent by then. So nothing is copied but headers, and nothing is left of the packet.

use vswitch_wire::{IpProtocol, IpVersion, Ipv4Header, Ipv4Packet, Ipv6Header, checksum};

use crate::DropReason;

/// How a datagram had been cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Bytes of its largest fragment, with IP header.
    pub(crate) largest: usize,
    /// Its identification.
    pub(crate) id: u32,
    /// Whether all fragments had DF set.
    pub(crate) dont_fragment: bool,
    /// Of IPv6: bytes of the headers that all fragments have, which the fragment header follows.
    pub(super) head: usize,
    /// Of IPv6: where the next header field is that names the fragment header.
    pub(super) link: usize,
}

impl Cut {
    /// Whether [`again`](Self::again) can cut the packet for a link of `mtu` bytes; if not, its sender is to be told.
    pub(crate) const fn fits(&self, version: IpVersion, mtu: usize) -> bool {
        let may_shrink = matches!(version, IpVersion::V4) && !self.dont_fragment;
        may_shrink || self.largest <= mtu
    }

    /// Cuts a packet as it had been, or smaller if `mtu` wants it, with identification `id`; `send` gets each piece, in order.
    /// Nothing is left of the packet but its memory.
    ///
    /// RFC 8200 §4.5 has only sources fragment; what comes in fragments leaves in fragments that are no larger (N-FR-10).
    ///
    /// # Errors
    ///
    /// [`DropReason::Mtu`] if it would have to become smaller and must not (DF, IPv6); it is as it was then.
    pub(crate) fn again(
        &self,
        whole: &mut Vec<u8>,
        mtu: usize,
        id: u32,
        send: impl FnMut(&mut [u8]),
    ) -> Result<(), DropReason> {
        let version = match whole.first().map(|byte| byte >> 4) {
            Some(4) => IpVersion::V4,
            _ => IpVersion::V6,
        };
        if !self.fits(version, mtu) {
            return Err(DropReason::Mtu);
        }
        let size = self.largest.min(mtu);
        match (version, self.dont_fragment) {
            (IpVersion::V4, true) => cut_v4(whole, size, (id, DONT_FRAGMENT), send),
            (IpVersion::V4, false) => cut_v4(whole, size, (id, 0), send),
            (IpVersion::V6, _) => self.cut_v6(whole, size, id, send),
        }
    }

    fn cut_v6(
        &self,
        whole: &mut Vec<u8>,
        size: usize,
        id: u32,
        mut send: impl FnMut(&mut [u8]),
    ) -> Result<(), DropReason> {
        let head = self.head;
        let header_len = head + FRAGMENT_HEADER_LEN;
        let step = size.saturating_sub(header_len) & !7;
        if step == 0 || head < Ipv6Header::LEN || self.link >= head || head > whole.len() {
            return Err(DropReason::Mtu);
        }
        let next_header = std::mem::replace(&mut whole[self.link], IpProtocol::FRAGMENT.0);
        whole.reserve_exact(FRAGMENT_HEADER_LEN);
        whole.splice(head..head, [0; FRAGMENT_HEADER_LEN]);
        let (mut at, end, mut start) = (header_len, whole.len(), 0);
        loop {
            let next = match end - at <= size - header_len {
                true => end,
                false => at + step,
            };
            whole.copy_within(start..start + header_len, at - header_len);
            start = at - header_len;
            let packet = &mut whole[start..next];
            let payload_len = (packet.len() - Ipv6Header::LEN) as u16;
            packet[4..6].copy_from_slice(&payload_len.to_be_bytes());
            // The offset is a multiple of 8, so that the flag has its place below it (RFC 8200 §4.5).
            let place = (at - header_len) as u16 | u16::from(next < end);
            let header = &mut packet[head..header_len];
            header[..2].copy_from_slice(&[next_header, 0]);
            header[2..4].copy_from_slice(&place.to_be_bytes());
            header[4..].copy_from_slice(&id.to_be_bytes());
            send(packet);
            at = next;
            if at == end {
                return Ok(());
            }
        }
    }
}

/// Cuts an IPv4 packet that came in one piece so that it fits `mtu`, with identification `id` (N-FWD-4). A partial checksum
/// must be complete before. As for [`Cut::again`], nothing is left of it.
///
/// # Errors
///
/// [`DropReason::Mtu`] if it must not be cut; it is as it was then.
pub(crate) fn cut(
    bytes: &mut [u8],
    mtu: usize,
    id: u32,
    send: impl FnMut(&mut [u8]),
) -> Result<(), DropReason> {
    let may_be_cut = Ipv4Packet::parse(bytes).is_ok_and(|packet| !packet.header().dont_fragment());
    match may_be_cut {
        true => cut_v4(bytes, mtu, (id, 0), send),
        false => Err(DropReason::Mtu),
    }
}

fn cut_v4(
    bytes: &mut [u8],
    size: usize,
    (id, flags): (u32, u8),
    mut send: impl FnMut(&mut [u8]),
) -> Result<(), DropReason> {
    let packet = Ipv4Packet::parse(bytes)?;
    let (head, end) = (packet.header().header_len(), packet.header().total_len().into());
    if size < head + 8 {
        return Err(DropReason::Mtu);
    }
    let mut header = HeaderV4::new(&bytes[..head], id as u16);
    let mut at = head;
    loop {
        let room = size - header.len;
        let next = match end - at <= room {
            true => end,
            false => at + (room & !7),
        };
        let start = at - header.len;
        let more = if next < end { MORE_FRAGMENTS } else { 0 };
        let piece = &mut bytes[start..next];
        header.write(piece, flags | more, at - head);
        send(piece);
        at = next;
        if at == end {
            return Ok(());
        }
        header.keep_copied_options();
    }
}

/// The header of the next piece.
struct HeaderV4 {
    bytes: [u8; Ipv4Header::MAX_LEN],
    len: usize,
}

impl HeaderV4 {
    fn new(header: &[u8], id: u16) -> Self {
        let mut bytes = [0; Ipv4Header::MAX_LEN];
        bytes[..header.len()].copy_from_slice(header);
        bytes[4..6].copy_from_slice(&id.to_be_bytes());
        Self {
            bytes,
            len: header.len(),
        }
    }

    /// Begins `piece` with the header; `offset` is in bytes.
    fn write(&mut self, piece: &mut [u8], flags: u8, offset: usize) {
        let header = &mut self.bytes[..self.len];
        // Both fit: neither exceeds the length of the packet.
        header[2..4].copy_from_slice(&(piece.len() as u16).to_be_bytes());
        let place = (u16::from(flags) << 8) | (offset >> 3) as u16;
        header[6..8].copy_from_slice(&place.to_be_bytes());
        header[10..12].fill(0);
        let checksum = checksum::finish(checksum::sum(header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        piece[..self.len].copy_from_slice(header);
    }

    /// RFC 791 §3.1: "The copied flag indicates that this option is copied into all fragments on fragmentation." The others
    /// are in the first fragment only.
    fn keep_copied_options(&mut self) {
        let (mut from, mut to) = (Ipv4Header::LEN, Ipv4Header::LEN);
        while from < self.len {
            let len = match self.bytes[from] {
                END_OF_OPTIONS => break,
                NO_OPERATION => 1,
                _ => match self.bytes.get(from + 1) {
                    Some(&len) if len >= 2 && from + usize::from(len) <= self.len => len.into(),
                    // Nobody can read what follows.
                    _ => break,
                },
            };
            if self.bytes[from] & COPIED != 0 {
                self.bytes.copy_within(from..from + len, to);
                to += len;
            }
            from += len;
        }
        let len = to.next_multiple_of(4);
        self.bytes[to..len].fill(END_OF_OPTIONS);
        self.len = len;
        self.bytes[0] = 0x40 | (len / 4) as u8;
    }
}

/// In the first of the two bytes of flags and offset (RFC 791 §3.1).
const DONT_FRAGMENT: u8 = 0x40;
const MORE_FRAGMENTS: u8 = 0x20;
/// Types of options (RFC 791 §3.1).
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const COPIED: u8 = 0x80;
/// RFC 8200 §4.5.
const FRAGMENT_HEADER_LEN: usize = 8;
