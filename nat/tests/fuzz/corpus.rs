//! Valid packets of every kind that the engine knows, and answers to those that have left it.

use std::net::IpAddr;

use vswitch_nat::Zone;
use vswitch_wire::{Gso, GsoKind, Offload, PartialChecksum};

use super::{
    random::Random,
    site::{EXTERNAL, HOSTS, PORTS, SERVERS, SPECIAL},
    sums::{self, ICMP, ICMPV6, SCTP, TCP, UDP, UDP_LITE},
};

/// A packet with where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) zone: Zone,
    pub(crate) bytes: Vec<u8>,
    pub(crate) offload: Offload,
}

impl Input {
    pub(crate) const fn plain(zone: Zone, bytes: Vec<u8>) -> Self {
        Self {
            zone,
            bytes,
            offload: Offload::NONE,
        }
    }
}

/// A packet of a host that asks, from any zone.
pub(crate) fn fresh(random: &mut Random) -> Input {
    let zone = Zone(random.pick(&[0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5]));
    let is_v4 = !random.once_in(3);
    let version = usize::from(!is_v4);
    let own = |random: &mut Random, zone: Zone| match zone.0 {
        1..=4 => random.pick(HOSTS[usize::from(zone.0) - 1][version]),
        _ => random.pick(SERVERS[version]),
    };
    let src = own(random, zone);
    let dst = match random.below(16) {
        // External and gateways' addresses: for published ports.
        0..=5 if zone.is_outside() => random.pick(EXTERNAL[version]),
        0..=2 => random.pick(EXTERNAL[version]),
        3 | 6 => {
            let other = Zone(1 + random.below(4) as u16);
            own(random, other)
        }
        7 => random.pick(SPECIAL[version]),
        _ => random.pick(SERVERS[version]),
    };
    let ports = (random.pick(PORTS), random.pick(PORTS));
    let bytes = match random.below(32) {
        0..=9 => udp(src, dst, ports, &payload(random)),
        10..=18 => {
            let options: &[u8] = random.pick(&[&[][..], &[2, 4, 5, 180], &[2, 4, 35, 40, 1, 3, 3, 7]]);
            let data = random.pick(&[&[][..], &[], b"early"]);
            tcp(src, dst, ports, (2, random.number() as u32, 0), options, data)
        }
        19 | 20 => {
            let numbers = (
                random.byte() & 0x3f,
                random.below(3000) as u32,
                random.below(3000) as u32,
            );
            tcp(src, dst, ports, numbers, &[], &payload(random))
        }
        21..=24 => {
            let kind = match is_v4 {
                true => random.pick(&[8, 8, 8, 13, 15, 17, 0, 14, 40, 10]),
                false => random.pick(&[128, 128, 128, 129, 133, 135, 139]),
            };
            icmp(
                src,
                dst,
                (kind, 0),
                &[&ports.0.to_be_bytes()[..], &[0, 1], b"ping"].concat(),
            )
        }
        25 | 26 => init(src, dst, ports, random),
        27 => {
            let mut bytes = udp(src, dst, ports, &payload(random));
            set_protocol(&mut bytes, UDP_LITE);
            bytes
        }
        28 | 29 => {
            let protocol = random.pick(&[47, 50, 51, 4, 41, 103, 255]);
            ip(src, dst, protocol, &payload(random))
        }
        30 => {
            let len = random.pick(&[1200, 1372, 1400, 1472, 1473, 1480, 2000, 4000, 8000]);
            udp(src, dst, ports, &vec![7; len])
        }
        _ => {
            // An error that nobody waits for.
            let quoted = udp(dst, src, ports, b"quoted");
            let kind = if is_v4 { (3, 3) } else { (1, 4) };
            icmp(src, dst, kind, &[&[0; 4], &quoted[..]].concat())
        }
    };
    Input::plain(zone, bytes)
}

/// What a host or a router may send that has got this packet from the engine.
pub(crate) fn react(random: &mut Random, packet: &[u8]) -> Option<Vec<u8>> {
    let place = sums::locate(packet).filter(|place| place.fragment.is_none())?;
    let (src, dst) = addresses(packet)?;
    if random.once_in(5) {
        return complain(random, packet, (src, dst));
    }
    let segment = &packet[place.start..place.end];
    let word = |at: usize| {
        segment
            .get(at..at + 2)
            .map(|word| u16::from_be_bytes([word[0], word[1]]))
    };
    let long = |at: usize| {
        let word = segment.get(at..at + 4)?;
        Some(u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
    };
    let ports = || Some((word(2)?, word(0)?));
    let answer = match place.protocol {
        TCP => {
            let (seq, ack) = (long(4)?, long(8)?);
            let flags = *segment.get(13)?;
            let header = usize::from(*segment.get(12)? >> 4) * 4;
            let len = segment.len().saturating_sub(header) as u32;
            let next = seq
                .wrapping_add(len)
                .wrapping_add(u32::from(flags & 2 != 0) + u32::from(flags & 1 != 0));
            let own = match flags & 16 {
                0 => random.number() as u32,
                _ => ack,
            };
            let (flags, data): (u8, &[u8]) = match (flags & 0x17, random.below(16)) {
                (2, 0) => (2, b""),
                (2, 1) => (0x14, b""),
                (2, _) => (0x12, b""),
                (_, 0..=4) => (0x10, b""),
                (_, 5..=9) => (0x18, b"some data"),
                (_, 10..=12) => (0x11, b""),
                (_, 13) => (0x14, b""),
                (_, 14) => (4, b""),
                _ => (2, b""),
            };
            let drift = random.pick(&[0, 0, 0, 0, 0, 0, 1, u32::MAX, 1000, 1 << 30]);
            tcp(
                dst,
                src,
                ports()?,
                (flags, own.wrapping_add(drift), next),
                &[],
                data,
            )
        }
        UDP | UDP_LITE => {
            let mut bytes = udp(dst, src, ports()?, &payload(random));
            if place.protocol == UDP_LITE {
                set_protocol(&mut bytes, UDP_LITE);
            } else if random.once_in(32) {
                let at = bytes.len() - sums::locate(&bytes).map_or(0, |place| place.end - place.start) + 6;
                bytes[at..at + 2].fill(0);
            }
            bytes
        }
        ICMP | ICMPV6 => {
            let kind = match *segment.first()? {
                8 => 0,
                kind @ (13 | 15 | 17) => kind + 1,
                128 => 129,
                129 => 128,
                0 => 8,
                kind => kind,
            };
            icmp(dst, src, (kind, 0), segment.get(4..)?)
        }
        SCTP => chunk_after(random, (dst, src), ports()?, segment)?,
        protocol => ip(dst, src, protocol, segment),
    };
    Some(answer)
}

/// An ICMP error about a packet.
fn complain(random: &mut Random, packet: &[u8], (src, dst): (IpAddr, IpAddr)) -> Option<Vec<u8>> {
    let is_v4 = src.is_ipv4();
    let version = usize::from(!is_v4);
    let from = match random.once_in(3) {
        true => random.pick(SERVERS[version]),
        false => dst,
    };
    let kind = match is_v4 {
        true => random.pick(&[(3, 3), (3, 1), (3, 4), (3, 4), (5, 1), (11, 0), (12, 0), (4, 0)]),
        false => random.pick(&[(1, 4), (1, 0), (2, 0), (2, 0), (3, 0), (4, 1)]),
    };
    let rest = match kind {
        (3, 4) | (2, 0) => u32::to_be_bytes(random.pick(&[0, 68, 576, 1280, 1400, 9000])),
        _ => [0; 4],
    };
    let least = if is_v4 { 28 } else { 48 };
    let len = random.pick(&[least, least, least + 12, 128, 528, packet.len()]);
    let quoted = &packet[..len.min(packet.len())];
    Some(icmp(from, src, kind, &[&rest, quoted].concat()))
}

/// The chunk with which a peer goes on.
fn chunk_after(
    random: &mut Random,
    (src, dst): (IpAddr, IpAddr),
    ports: (u16, u16),
    segment: &[u8],
) -> Option<Vec<u8>> {
    let chunk = segment.get(12..)?;
    let offered = chunk.get(4..8)?.try_into().map(u32::from_be_bytes).ok()?;
    let tag = u32::from_be_bytes(segment.get(4..8)?.try_into().ok()?);
    let body = [
        &random.pick(&[7u32, 9]).to_be_bytes()[..],
        &[0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1],
    ]
    .concat();
    let (tag, kind, body): (u32, u8, &[u8]) = match chunk.first()? {
        1 => (offered, 2, &body),
        2 => (offered, 10, b"cook"),
        10 => (random.pick(&[7, 9]), 11, b""),
        kind => (
            random.pick(&[7, 9, tag]),
            random.pick(&[0, 3, 4, 5, 6, 7, 8, 14, *kind]),
            b"data",
        ),
    };
    Some(sctp(src, dst, ports, tag, (kind, 0), body))
}

fn init(src: IpAddr, dst: IpAddr, ports: (u16, u16), random: &mut Random) -> Vec<u8> {
    let tag = random.pick(&[7u32, 9]);
    let body = [&tag.to_be_bytes()[..], &[0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1]].concat();
    sctp(src, dst, ports, 0, (1, 0), &body)
}

fn payload(random: &mut Random) -> Vec<u8> {
    let len = random.pick(&[0, 1, 2, 8, 8, 20, 33, 64, 200]);
    (0..len).map(|_| random.byte()).collect()
}

pub(crate) fn udp(src: IpAddr, dst: IpAddr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len() as u16).to_be_bytes();
    let header = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), len, [0, 0]].concat();
    ip(src, dst, UDP, &[&header, payload].concat())
}

fn tcp(
    src: IpAddr,
    dst: IpAddr,
    ports: (u16, u16),
    (flags, seq, ack): (u8, u32, u32),
    options: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let mut segment = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    segment.extend(seq.to_be_bytes());
    segment.extend(ack.to_be_bytes());
    segment.extend([(5 + options.len() as u8 / 4) << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(data);
    ip(src, dst, TCP, &segment)
}

fn icmp(src: IpAddr, dst: IpAddr, (kind, code): (u8, u8), rest: &[u8]) -> Vec<u8> {
    let protocol = if src.is_ipv4() { ICMP } else { ICMPV6 };
    ip(src, dst, protocol, &[&[kind, code, 0, 0], rest].concat())
}

fn sctp(
    src: IpAddr,
    dst: IpAddr,
    ports: (u16, u16),
    tag: u32,
    (kind, flags): (u8, u8),
    body: &[u8],
) -> Vec<u8> {
    let mut segment = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    segment.extend(tag.to_be_bytes());
    segment.extend([0, 0, 0, 0, kind, flags]);
    segment.extend((4 + body.len() as u16).to_be_bytes());
    segment.extend(body);
    ip(src, dst, SCTP, &segment)
}

/// A packet with right checksums; `segment` under the version of `src`.
fn ip(src: IpAddr, dst: IpAddr, protocol: u8, segment: &[u8]) -> Vec<u8> {
    let len = segment.len() as u16;
    let mut bytes = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let [a, b] = (20 + len).to_be_bytes();
            let mut header = vec![0x45, 0, a, b, 0x12, 0x34, 0, 0, 64, protocol, 0, 0];
            header.extend(src.octets());
            header.extend(dst.octets());
            header
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let [a, b] = len.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, a, b, protocol, 64];
            header.extend(src.octets());
            header.extend(dst.octets());
            header
        }
        _ => return Vec::new(),
    };
    bytes.extend(segment);
    sums::mend(&mut bytes);
    bytes
}

fn set_protocol(bytes: &mut [u8], protocol: u8) {
    let at = if bytes[0] >> 4 == 4 { 9 } else { 6 };
    bytes[at] = protocol;
    sums::mend(bytes);
}

pub(crate) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<20>()?;
            let [src, dst] = [12, 16].map(|at| [header[at], header[at + 1], header[at + 2], header[at + 3]]);
            Some((src.into(), dst.into()))
        }
        6 => {
            let (src, dst) = packet.get(8..40)?.split_at(16);
            let (src, dst): ([u8; 16], [u8; 16]) = (src.try_into().ok()?, dst.try_into().ok()?);
            Some((src.into(), dst.into()))
        }
        _ => None,
    }
}

/// The fragments of a packet, in some order, perhaps one twice or with one that overlaps.
pub(crate) fn cut(random: &mut Random, packet: &[u8]) -> Vec<Vec<u8>> {
    let Some(place) = sums::locate(packet).filter(|place| place.fragment.is_none()) else {
        return Vec::new();
    };
    let is_v4 = packet[0] >> 4 == 4;
    let base = if is_v4 { place.start } else { 40 };
    let (header, payload) = (&packet[..base], &packet[base..place.end]);
    let id = random.word();
    let piece = |from: usize, to: usize, more: bool| {
        let mut piece = header.to_vec();
        let place = from as u16 & 0xfff8;
        if is_v4 {
            piece[4..6].copy_from_slice(&id.to_be_bytes());
            let dont = u16::from(header[6] & 0x40) << 8;
            piece[6..8].copy_from_slice(&(place >> 3 | u16::from(more) << 13 | dont).to_be_bytes());
        } else {
            let next = std::mem::replace(&mut piece[6], 44);
            piece.extend([next, 0]);
            piece.extend((place | u16::from(more)).to_be_bytes());
            piece.extend([0, 0]);
            piece.extend(id.to_be_bytes());
        }
        piece.extend(&payload[from..to]);
        let len = piece.len();
        match is_v4 {
            true => piece[2..4].copy_from_slice(&(len as u16).to_be_bytes()),
            false => piece[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes()),
        }
        sums::mend_header(&mut piece);
        piece
    };
    let step = random.pick(&[8, 16, 64, 600, 1208]);
    let bounds: Vec<usize> = (0..payload.len()).step_by(step).take(70).collect();
    let mut pieces: Vec<Vec<u8>> = bounds
        .iter()
        .map(|&from| {
            let to = (from + step).min(payload.len());
            piece(from, to, to < payload.len())
        })
        .collect();
    if pieces.len() > 1 && random.once_in(4) {
        let index = random.index(pieces.len());
        pieces.swap(0, index);
    }
    if random.once_in(8) && !pieces.is_empty() {
        pieces.push(pieces[random.index(pieces.len())].clone());
    }
    if random.once_in(8) && payload.len() > 24 {
        pieces.insert(random.index(pieces.len()), piece(8, 24, true));
    }
    if random.once_in(6) {
        pieces.pop();
    }
    pieces
}

/// The same left for a device to complete, or as a super-frame, or vouched for by one.
pub(crate) fn offloaded(random: &mut Random, mut input: Input) -> Input {
    let Some(place) = sums::locate(&input.bytes).filter(|place| place.fragment.is_none()) else {
        return input;
    };
    let offset = match place.protocol {
        TCP => 16,
        UDP => 6,
        _ => return input,
    };
    if place.end < place.start + 20 {
        return input;
    }
    if random.once_in(4) {
        input.offload.data_valid = true;
        input.bytes[place.start + offset] ^= 1;
        return input;
    }
    input.bytes.truncate(place.end);
    let len = input.bytes.get(place.start + 4..place.start + 6);
    if place.protocol == UDP && len != Some(&((place.end - place.start) as u16).to_be_bytes()) {
        // What is behind a datagram is no device's to sum up.
        return input;
    }
    let is_v4 = input.bytes[0] >> 4 == 4;
    if place.protocol == TCP && random.once_in(3) {
        let more = random.pick(&[1000, 3000, 20_000]);
        input.bytes.resize(place.end + more, 7);
        let len = input.bytes.len();
        match is_v4 {
            true => input.bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes()),
            false => input.bytes[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes()),
        }
        sums::mend_header(&mut input.bytes);
        let header_len = place.start + usize::from(input.bytes[place.start + 12] >> 4) * 4;
        input.offload.gso = Some(Gso {
            kind: if is_v4 { GsoKind::TcpV4 } else { GsoKind::TcpV6 },
            ecn: false,
            size: random.pick(&[500, 1440]),
            header_len: header_len as u16,
        });
    }
    let len = input.bytes.len() - place.start;
    let sum = sums::pseudo_header(&input.bytes, &place, len);
    let at = place.start + offset;
    input.bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    input.offload.checksum = Some(PartialChecksum {
        start: place.start as u16,
        offset: offset as u16,
    });
    input
}
