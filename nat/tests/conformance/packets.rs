//! Packets as the reference writes them, and what is read of those that come out. Sums come from etherparse, not from the code
//! under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::checksum::Sum16BitWords;
use vswitch_testkit::frames::{Packet, Upper};

/// Address and port.
pub(crate) type End = (IpAddr, u16);

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
pub(crate) const URG: u8 = 32;

/// `from>to U"x"`.
pub(crate) fn udp(from: End, to: End) -> Vec<u8> {
    udp_with(from, to, b"x")
}

pub(crate) fn udp_with(from: End, to: End, payload: &[u8]) -> Vec<u8> {
    Packet::new(from.0, to.0, Upper::Udp(from.1, to.1, payload.to_vec())).bytes()
}

/// A segment without data: `from>to T[flags] seq ack`.
pub(crate) fn tcp(from: End, to: End, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    tcp_with(from, to, flags, (seq, ack), &[], &[])
}

/// The same with options, whose length is a multiple of four, and data.
pub(crate) fn tcp_with(
    from: End,
    to: End,
    flags: u8,
    (seq, ack): (u32, u32),
    options: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let mut header = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    header.extend(seq.to_be_bytes());
    header.extend(ack.to_be_bytes());
    let data_offset = (20 + options.len() as u8) / 4;
    header.extend([data_offset << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    header.extend(options);
    header.extend(data);
    mended(Packet::new(from.0, to.0, Upper::Raw(TCP, header)).bytes())
}

/// An echo request.
pub(crate) fn ping(from: IpAddr, to: IpAddr, id: u16) -> Vec<u8> {
    query(from, to, if from.is_ipv4() { 8 } else { 128 }, id)
}

/// An echo reply.
pub(crate) fn pong(from: IpAddr, to: IpAddr, id: u16) -> Vec<u8> {
    query(from, to, if from.is_ipv4() { 0 } else { 129 }, id)
}

/// An ICMP message with an identifier.
pub(crate) fn query(from: IpAddr, to: IpAddr, kind: u8, id: u16) -> Vec<u8> {
    let rest = [&id.to_be_bytes()[..], &[0, 1], b"abcdefgh"].concat();
    Packet::new(from, to, Upper::Icmp(kind, 0, rest)).bytes()
}

/// An ICMP error about `quoted`, cut to `len` bytes; `rest` is the header's second word.
pub(crate) fn error(
    from: IpAddr,
    to: IpAddr,
    (kind, code): (u8, u8),
    rest: [u8; 4],
    quoted: &[u8],
) -> Vec<u8> {
    Packet::new(from, to, Upper::Icmp(kind, code, [&rest[..], quoted].concat())).bytes()
}

/// Port unreachable about the first bytes of `quoted`, as many as RFC 792 wants.
pub(crate) fn unreachable(from: IpAddr, to: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let (kind, header) = if from.is_ipv4() {
        ((3, 3), 20)
    } else {
        ((1, 4), 40)
    };
    error(from, to, kind, [0; 4], &quoted[..header + 8])
}

/// A packet of any protocol.
pub(crate) fn raw(from: IpAddr, to: IpAddr, protocol: u8, content: &[u8]) -> Vec<u8> {
    Packet::new(from, to, Upper::Raw(protocol, content.to_vec())).bytes()
}

/// An SCTP packet with one chunk: type, flags, body.
pub(crate) fn sctp(from: End, to: End, tag: u32, (kind, flags): (u8, u8), body: &[u8]) -> Vec<u8> {
    let mut content = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    content.extend(tag.to_be_bytes());
    content.extend([0; 4]);
    content.extend([kind, flags]);
    content.extend((4 + body.len() as u16).to_be_bytes());
    content.extend(body);
    let sum = crc32c(&content);
    content[8..12].copy_from_slice(&sum.to_le_bytes());
    raw(from.0, to.0, SCTP, &content)
}

/// RFC 9260 §6.8, bit by bit, over a packet whose field is 0.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = register >> 1 ^ (0x82f6_3b78 * (register & 1));
        }
    }
    !register
}

/// With DF.
pub(crate) fn dont_fragment(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] |= 0x40;
    mended(packet)
}

/// With another TTL or hop limit.
pub(crate) fn with_ttl(mut packet: Vec<u8>, ttl: u8) -> Vec<u8> {
    let at = if is_v4(&packet) { 8 } else { 7 };
    packet[at] = ttl;
    mended(packet)
}

/// With options behind the IPv4 header, a multiple of four bytes.
pub(crate) fn with_ip_options(mut packet: Vec<u8>, options: &[u8]) -> Vec<u8> {
    packet.splice(20..20, options.iter().copied());
    packet[0] += options.len() as u8 / 4;
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    mended(packet)
}

/// The fragments of an IPv4 packet, cut behind so many bytes of payload.
pub(crate) fn fragments(packet: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(20);
    let bounds: Vec<usize> = [0]
        .into_iter()
        .chain(cuts.iter().copied())
        .chain([payload.len()])
        .collect();
    bounds
        .windows(2)
        .map(|pair| {
            fragment(
                header,
                pair[0],
                &payload[pair[0]..pair[1]],
                pair[1] < payload.len(),
            )
        })
        .collect()
}

/// One fragment behind an IPv4 header.
pub(crate) fn fragment(header: &[u8], offset: usize, payload: &[u8], more: bool) -> Vec<u8> {
    let mut piece = [&header[..20], payload].concat();
    let len = piece.len() as u16;
    piece[2..4].copy_from_slice(&len.to_be_bytes());
    let flags = u16::from(header[6] & 0x40) << 8 | u16::from(more) << 13;
    let place = flags | (offset / 8) as u16;
    piece[6..8].copy_from_slice(&place.to_be_bytes());
    mend_header(&mut piece);
    piece
}

/// The fragments of an IPv6 packet without extension headers.
pub(crate) fn fragments_v6(packet: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(40);
    let bounds: Vec<usize> = [0]
        .into_iter()
        .chain(cuts.iter().copied())
        .chain([payload.len()])
        .collect();
    let piece = |from: usize, to: usize| {
        let place = (from as u16) | u16::from(to < payload.len());
        let mut piece = header.to_vec();
        piece[4..6].copy_from_slice(&((8 + to - from) as u16).to_be_bytes());
        piece[6] = 44;
        piece.extend([header[6], 0]);
        piece.extend(place.to_be_bytes());
        piece.extend(0x0102_0304u32.to_be_bytes());
        piece.extend(&payload[from..to]);
        piece
    };
    bounds.windows(2).map(|pair| piece(pair[0], pair[1])).collect()
}

/// With all checksums made anew, of packets without options and extension headers in what is summed.
pub(crate) fn mended(mut packet: Vec<u8>) -> Vec<u8> {
    let start = match is_v4(&packet) {
        true => {
            mend_header(&mut packet);
            usize::from(packet[0] & 15) * 4
        }
        false => 40,
    };
    let field = match protocol(&packet) {
        TCP => 16,
        UDP => 6,
        ICMP | ICMPV6 => 2,
        _ => return packet,
    };
    if packet.len() < start + field + 2 {
        return packet;
    }
    packet[start + field..start + field + 2].fill(0);
    let sum = match (transport_sum(&packet, start), protocol(&packet)) {
        (0, UDP) => 0xffff,
        (sum, _) => sum,
    };
    packet[start + field..start + field + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn mend_header(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let sum = Sum16BitWords::new()
        .add_slice(&packet[..len])
        .ones_complement()
        .to_be();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// The complemented sum of what a transport checksum covers; 0 where that is right.
fn transport_sum(packet: &[u8], start: usize) -> u16 {
    let protocol = protocol(packet);
    let segment = match (protocol, &packet[start..]) {
        // What is behind a datagram is not part of it.
        (UDP, segment @ &[_, _, _, _, high, low, ..]) => {
            let len = usize::from(u16::from_be_bytes([high, low]));
            segment.get(..len).filter(|_| len >= 8).unwrap_or(segment)
        }
        (_, segment) => segment,
    };
    let sum = match (is_v4(packet), protocol) {
        (true, ICMP) => Sum16BitWords::new(),
        (true, _) => Sum16BitWords::new().add_slice(&packet[12..20]),
        (false, _) => Sum16BitWords::new().add_slice(&packet[8..40]),
    };
    let sum = match (is_v4(packet), protocol) {
        (true, ICMP) => sum,
        _ => sum
            .add_2bytes([0, protocol])
            .add_slice(&(segment.len() as u32).to_be_bytes()),
    };
    sum.add_slice(segment).ones_complement().to_be()
}

pub(crate) fn is_v4(packet: &[u8]) -> bool {
    packet[0] >> 4 == 4
}

/// The next header, or an IPv4 packet's protocol.
pub(crate) fn protocol(packet: &[u8]) -> u8 {
    match is_v4(packet) {
        true => packet[9],
        false => packet[6],
    }
}

pub(crate) fn src(packet: &[u8]) -> IpAddr {
    match is_v4(packet) {
        true => v4(&packet[12..16]),
        false => v6(&packet[8..24]),
    }
}

pub(crate) fn dst(packet: &[u8]) -> IpAddr {
    match is_v4(packet) {
        true => v4(&packet[16..20]),
        false => v6(&packet[24..40]),
    }
}

pub(crate) fn ttl(packet: &[u8]) -> u8 {
    match is_v4(packet) {
        true => packet[8],
        false => packet[7],
    }
}

/// The transport header and what follows it; of IPv6 only without extension headers.
pub(crate) fn transport(packet: &[u8]) -> &[u8] {
    match is_v4(packet) {
        true => &packet[usize::from(packet[0] & 15) * 4..],
        false => &packet[40..],
    }
}

/// Source and destination with ports; of a query the identifier is both ports.
pub(crate) fn ends(packet: &[u8]) -> (End, End) {
    let header = transport(packet);
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (from, to) = match protocol(packet) {
        ICMP | ICMPV6 => (word(4), word(4)),
        _ => (word(0), word(2)),
    };
    ((src(packet), from), (dst(packet), to))
}

/// Type and code of an ICMP message.
pub(crate) fn icmp_kind(packet: &[u8]) -> (u8, u8) {
    assert!(
        matches!(protocol(packet), ICMP | ICMPV6),
        "not ICMP: {packet:02x?}"
    );
    let message = transport(packet);
    (message[0], message[1])
}

/// What an ICMP error quotes.
pub(crate) fn quoted(packet: &[u8]) -> &[u8] {
    &transport(packet)[8..]
}

/// Checks the checksums of a packet that leaves. Of fragments only that of the header.
///
/// # Panics
///
/// One is wrong.
pub(crate) fn assert_sound(packet: &[u8]) {
    let is_fragment = match is_v4(packet) {
        true => {
            let len = usize::from(packet[0] & 15) * 4;
            let sum = Sum16BitWords::new().add_slice(&packet[..len]).ones_complement();
            assert_eq!(sum, 0, "header checksum of {packet:02x?}");
            let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            assert_eq!(total, packet.len(), "length of {packet:02x?}");
            u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0
        }
        false => {
            let total = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            assert_eq!(total, packet.len(), "length of {packet:02x?}");
            false
        }
    };
    if is_fragment {
        return;
    }
    let start = packet.len() - transport(packet).len();
    let field = match protocol(packet) {
        TCP => Some(16),
        UDP => Some(6),
        ICMP | ICMPV6 => Some(2),
        _ => None,
    };
    let Some(field) = field else { return };
    let is_absent = protocol(packet) == UDP && packet[start + field..start + field + 2] == [0, 0];
    if !is_absent {
        assert_eq!(transport_sum(packet, start), 0, "checksum of {packet:02x?}");
    }
}

/// The bytes of a golden vector.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<char> = digits.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex digits"))
        .collect()
}

fn v4(bytes: &[u8]) -> IpAddr {
    Ipv4Addr::from(<[u8; 4]>::try_from(bytes).expect("four bytes")).into()
}

fn v6(bytes: &[u8]) -> IpAddr {
    Ipv6Addr::from(<[u8; 16]>::try_from(bytes).expect("sixteen bytes")).into()
}
