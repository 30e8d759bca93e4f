//! ICMP errors that routers and hosts send about translated packets (nat-conformance §8).

use vswitch_wire::{
    IpProtocol, IpVersion, Ipv4Packet, Ipv6Header, Ipv6Packet, UpperLayer,
    checksum::{self, Change},
};

use crate::{
    Address, DropReason, Ends, Tuple, Zone,
    packet::Packet,
    rewrite::{self, Query},
};

/// An error of ICMP or ICMPv6 as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IcmpError {
    /// The quoted packet's ends, in the direction in which it went. Of a query of ICMP its identifier is the port of
    /// the side that asks, as in a [`Tuple`](crate::Tuple).
    pub(crate) quoted: Ends,
    /// The quoted packet's transport protocol.
    pub(crate) protocol: IpProtocol,
    /// If that is a query of ICMP, the type of its request, else 0.
    pub(crate) query: u8,
    /// Sequence number of a quoted TCP segment.
    pub(crate) sequence: Option<u32>,
    /// Whether it is a redirect.
    pub(crate) is_redirect: bool,
    /// Where the quoted packet's transport header begins, from the outer packet's first byte.
    quoted_transport: usize,
    /// Where what is quoted of that packet ends; extensions (RFC 4884) may follow.
    quoted_end: usize,
}

impl IcmpError {
    /// Reads an ICMP message of types 3, 4, 5, 11 and 12, or 1 to 4 of ICMPv6; `None` for any other.
    ///
    /// # Errors
    ///
    /// [`DropReason::BadChecksum`] (N-ICE-1; the quoted IPv4 header's too, N-ICE-3), [`DropReason::Malformed`] where the quoted
    /// packet cannot be read or ends within the first eight bytes of a transport header that has ports (N-ICE-2); a quoted fragment
    /// that is not the first, or a quoted ICMP message that is no query, is [`DropReason::IcmpUnrelated`]. An MTU too small to be
    /// true is [`DropReason::Invalid`] (N-ICE-13).
    pub(crate) fn read(bytes: &[u8], packet: &Packet) -> Result<Option<Self>, DropReason> {
        let Some((message, header)) = Self::locate(bytes, packet) else {
            return Ok(None);
        };
        let pseudo_header = match packet.version {
            IpVersion::V4 => 0,
            IpVersion::V6 => rewrite::pseudo_header(packet, message.len()),
        };
        if checksum::fold(pseudo_header + checksum::sum(message)) != 0xffff {
            return Err(DropReason::BadChecksum);
        }
        check_mtu(packet.version, header)?;

        let start = packet.transport + header.len();
        let quoted_end = start + original_len(packet.version, header, message.len() - header.len());
        let quoted = bytes.get(start..quoted_end).ok_or(DropReason::Malformed)?;
        let (src, dst, layer, len) = read_quoted(packet.version, quoted)?;
        if !layer.has_transport_header() {
            return Err(DropReason::IcmpUnrelated);
        }
        let segment = quoted.get(layer.offset..len).ok_or(DropReason::Malformed)?;
        let transport = read_transport(packet.version, layer.protocol, segment)?;
        Ok(Some(Self {
            quoted: Ends {
                src,
                dst,
                src_port: transport.ports.0,
                dst_port: transport.ports.1,
            },
            protocol: layer.protocol,
            query: transport.query,
            sequence: transport.sequence,
            is_redirect: packet.version == IpVersion::V4 && header[0] == REDIRECT,
            quoted_transport: start + layer.offset,
            quoted_end: start + len,
        }))
    }

    /// What the quoted packet's tuple was where the error comes from.
    pub(crate) fn quoted_in(&self, zone: Zone) -> Tuple {
        Tuple {
            src: self.quoted.src,
            dst: self.quoted.dst,
            src_port: self.quoted.src_port,
            dst_port: self.quoted.dst_port,
            zone,
            protocol: self.protocol.0,
            query: self.query,
        }
    }

    /// Puts other ends into the quoted packet and other addresses around it, and mends the checksums (N-ICE-5 to N-ICE-8, N-ICE-14).
    /// Takes one hop off the outer packet.
    ///
    /// What is behind the quoted packet's transport header stays as it is, and so do extensions (N-ICE-2).
    pub(crate) fn translate(
        &self,
        bytes: &mut [u8],
        packet: &Packet,
        quoted: &Ends,
        (src, dst): (Address, Address),
    ) {
        let Some(addresses) = rewrite::translate_header(bytes, packet.version, (src, dst), 1) else {
            return;
        };
        let Some(message) = bytes.get_mut(packet.transport..packet.len) else {
            return;
        };
        let Some((header, body)) = message.split_first_chunk_mut::<HEADER>() else {
            return;
        };
        let before = checksum::sum(body);
        let start = packet.transport + HEADER;
        let _ = self.translate_quoted(body, start, packet.version, quoted);
        // The sums of what is quoted, as one word that was replaced by another: nothing of the rest of the message needs to be right
        // for that, so that damage stays visible (N-CK-9).
        let change = Change::of16(
            (before as u16).to_be_bytes(),
            (checksum::sum(body) as u16).to_be_bytes(),
        );
        let change = match packet.version {
            IpVersion::V4 => change,
            IpVersion::V6 => change.and(addresses),
        };
        [header[2], header[3]] = change.apply([header[2], header[3]]);
    }

    /// `body` begins at `start` of the outer packet. `None` where it ends early.
    fn translate_quoted(&self, body: &mut [u8], start: usize, version: IpVersion, ends: &Ends) -> Option<()> {
        let quoted = body.get_mut(..self.quoted_end.checked_sub(start)?)?;
        let addresses = rewrite::translate_header(quoted, version, (ends.src, ends.dst), 0)?;
        let segment = quoted.get_mut(self.quoted_transport.checked_sub(start)?..)?;
        let covers_tcp_checksum = covers_tcp_checksum(segment);
        let header = segment.first_chunk_mut::<TRANSPORT_BYTES>()?;
        match self.protocol {
            IpProtocol::TCP => {
                let change = addresses.and(rewrite::set_ports(header, ends));
                if covers_tcp_checksum {
                    let field = segment.get_mut(rewrite::TCP_CHECKSUM..)?.first_chunk_mut::<2>()?;
                    *field = change.apply(*field);
                }
            }
            IpProtocol::UDP | rewrite::UDP_LITE => {
                let change = addresses.and(rewrite::set_ports(header, ends));
                [header[6], header[7]] = change.apply_udp([header[6], header[7]]);
            }
            IpProtocol::SCTP => {
                let _ = rewrite::set_ports(header, ends);
            }
            protocol if rewrite::is_icmp(version, protocol) => {
                rewrite::translate_icmp(segment, version, ends, addresses);
            }
            _ => {}
        }
        Some(())
    }

    /// The message and its header, if it is an error.
    fn locate<'b>(bytes: &'b [u8], packet: &Packet) -> Option<(&'b [u8], &'b [u8; HEADER])> {
        if !rewrite::is_icmp(packet.version, packet.protocol) {
            return None;
        }
        let message = bytes.get(packet.transport..packet.len)?;
        let header = message.first_chunk::<HEADER>()?;
        is_error(packet.version, header[0]).then_some((message, header))
    }
}

/// Whether messages of that type quote a packet.
pub(crate) const fn is_error(version: IpVersion, kind: u8) -> bool {
    match version {
        IpVersion::V4 => matches!(
            kind,
            DESTINATION_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM
        ),
        IpVersion::V6 => matches!(kind, 1..=4),
    }
}

/// What is read of a quoted transport header.
struct Transport {
    ports: (u16, u16),
    query: u8,
    sequence: Option<u32>,
}

/// Addresses, what the packet carries, and how much of it is there.
fn read_quoted(
    version: IpVersion,
    quoted: &[u8],
) -> Result<(Address, Address, UpperLayer, usize), DropReason> {
    match version {
        IpVersion::V4 => {
            let packet = Ipv4Packet::parse_quoted(quoted)?;
            if !packet.has_valid_checksum() {
                return Err(DropReason::BadChecksum);
            }
            let header = packet.header();
            let layer = packet.upper_layer();
            // The offset is the header's length.
            let len = layer.offset + packet.payload().len();
            let (src, dst) = (header.src().octets(), header.dst().octets());
            Ok((Address::v4(src), Address::v4(dst), layer, len))
        }
        IpVersion::V6 => {
            let packet = Ipv6Packet::parse_quoted(quoted)?;
            let header = packet.header();
            let layer = packet.upper_layer()?;
            let len = Ipv6Header::LEN + packet.payload().len();
            let (src, dst) = (header.src().octets(), header.dst().octets());
            Ok((Address::v6(src), Address::v6(dst), layer, len))
        }
    }
}

fn read_transport(version: IpVersion, protocol: IpProtocol, segment: &[u8]) -> Result<Transport, DropReason> {
    let plain = |ports, sequence| Transport {
        ports,
        query: 0,
        sequence,
    };
    let has_ports = matches!(
        protocol,
        IpProtocol::TCP | IpProtocol::UDP | IpProtocol::SCTP | rewrite::UDP_LITE
    );
    if !has_ports && !rewrite::is_icmp(version, protocol) {
        return Ok(plain((0, 0), None));
    }
    let &[a, b, c, d, e, f, g, h] = segment
        .first_chunk::<TRANSPORT_BYTES>()
        .ok_or(DropReason::Malformed)?;
    if has_ports {
        let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let sequence = (protocol == IpProtocol::TCP).then_some(u32::from_be_bytes([e, f, g, h]));
        return Ok(plain(ports, sequence));
    }
    // RFC 1122 §3.2.2: no errors about errors.
    let query = Query::of(version, a).ok_or(DropReason::IcmpUnrelated)?;
    Ok(Transport {
        ports: query.ports(u16::from_be_bytes([e, f])),
        query: query.request(),
        sequence: None,
    })
}

/// Refuses sizes that no link has: believing them would let a stranger cut a connection into crumbs (RFC 5927 §7). An MTU
/// of 0, by which routers older than RFC 1191 say that they do not know, is one of them.
fn check_mtu(version: IpVersion, header: &[u8; HEADER]) -> Result<(), DropReason> {
    let [kind, code, _, _, a, b, c, d] = *header;
    let is_too_small = match version {
        IpVersion::V4 => {
            (kind, code) == (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED)
                && u16::from_be_bytes([c, d]) < SMALLEST_MTU_V4
        }
        IpVersion::V6 => kind == PACKET_TOO_BIG && u32::from_be_bytes([a, b, c, d]) < SMALLEST_MTU_V6,
    };
    match is_too_small {
        true => Err(DropReason::Invalid),
        false => Ok(()),
    }
}

/// How many of `available` bytes behind the header are the quoted packet. Where extensions follow, a length in the header says it, and
/// it is at least 128 bytes (RFC 4884); a smaller value stands there by chance, in a field that once was unused.
fn original_len(version: IpVersion, header: &[u8; HEADER], available: usize) -> usize {
    let len = match (version, header[0]) {
        // RFC 4884 §4.1, §4.2, §4.3: in 32-bit words.
        (IpVersion::V4, DESTINATION_UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM) => {
            usize::from(header[5]) * 4
        }
        // RFC 4884 §4.4, §4.5: in 64-bit words.
        (IpVersion::V6, 1 | 3) => usize::from(header[4]) * 8,
        _ => 0,
    };
    match len {
        EXTENDED_ORIGINAL.. => len.min(available),
        _ => available,
    }
}

/// Whether so much of a TCP header is quoted that its checksum is there (N-ICE-6), and not the zeros with which RFC 4884 fills up what
/// a router had not kept: no header has a data offset below 5.
fn covers_tcp_checksum(segment: &[u8]) -> bool {
    match segment {
        [_, _, _, _, _, _, _, _, _, _, _, _, data_offset, _, _, _, _, _, ..] => data_offset >> 4 >= 5,
        _ => false,
    }
}

/// Bytes of every ICMP header.
const HEADER: usize = 8;
/// How much of a transport header is always quoted (RFC 792, N-ICE-2).
const TRANSPORT_BYTES: usize = 8;
/// The smallest datagram with extensions behind it (RFC 4884 §5).
const EXTENDED_ORIGINAL: usize = 128;
/// N-ICE-13; net.ipv4.route.min_pmtu.
const SMALLEST_MTU_V4: u16 = 552;
/// N-ICE-13; RFC 8200 §5.
const SMALLEST_MTU_V6: u32 = 1280;
/// RFC 792, and RFC 4443 for the last.
const DESTINATION_UNREACHABLE: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
/// Code of [`DESTINATION_UNREACHABLE`].
const FRAGMENTATION_NEEDED: u8 = 4;
const PACKET_TOO_BIG: u8 = 2;

#[cfg(test)]
mod tests;
