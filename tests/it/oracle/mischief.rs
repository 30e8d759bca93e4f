//! What may happen to any packet on its way to the router: other header fields, damage, fragmentation.

use super::{
    compare::Layout,
    packet::{mend_header, piece},
    world::{Step, World},
};

/// The same packet, or one with something else in it.
pub(super) fn varied(world: &mut World, mut step: Step) -> Step {
    let random = &mut world.random;
    if !random.percent(14) {
        return step;
    }
    let version_4 = step.packets[0][0] >> 4 == 4;
    let change = random.weighted(&[
        (4, Change::TimeToLive(0)),
        (4, Change::TimeToLive(1)),
        (6, Change::TimeToLive(2)),
        (6, Change::Tos),
        (5, Change::Padding),
        (4, Change::TransportChecksum),
        (3, Change::NoChecksum),
        (3, Change::HeaderChecksum),
        (4, Change::TransportLength),
        (3, Change::TotalLength),
        (3, Change::Cut),
        (5, Change::Options),
        (8, Change::Large { dont_fragment: true }),
        (5, Change::Large { dont_fragment: false }),
    ]);
    let number = random.next();
    let options = random.pick(OPTIONS);
    let extension = random.pick(EXTENSIONS);
    for packet in &mut step.packets {
        let Some(layout) = Layout::of(packet) else {
            continue;
        };
        let at = layout.transport;
        match change {
            Change::TimeToLive(ttl) => packet[if version_4 { 8 } else { 7 }] = ttl,
            Change::Tos if version_4 => packet[1] = number as u8,
            Change::Tos => packet[1..4].copy_from_slice(&number.to_be_bytes()[..3]),
            Change::Padding => packet.extend([0; 20]),
            Change::TransportChecksum => {
                let place = match layout.protocol {
                    6 => 16,
                    17 => 6,
                    132 => 8,
                    _ => 2,
                };
                packet[at + place] ^= 0x11;
            }
            Change::NoChecksum if layout.protocol == 17 => packet[at + 6..at + 8].fill(0),
            Change::HeaderChecksum if version_4 => packet[10] ^= 0x11,
            Change::TransportLength if layout.protocol == 17 => {
                let length = [0, 7, 9, 100][number as usize % 4];
                packet[at + 4..at + 6].copy_from_slice(&u16::to_be_bytes(length));
            }
            Change::TransportLength if layout.protocol == 6 => {
                packet[at + 12] = [0x00, 0x40, 0xf0][number as usize % 3];
            }
            Change::TotalLength if version_4 => {
                let total = [0, 19, layout.end as u16 + 1, layout.end as u16 - 1][number as usize % 4];
                packet[2..4].copy_from_slice(&total.to_be_bytes());
            }
            Change::Cut => packet.truncate(number as usize % packet.len()),
            Change::Options if version_4 => {
                packet.splice(20..20, options.iter().copied());
                packet[0] += (options.len() / 4) as u8;
                let total = packet.len() as u16;
                packet[2..4].copy_from_slice(&total.to_be_bytes());
            }
            Change::Options => {
                let (protocol, body) = extension;
                let mut header = vec![packet[6]];
                header.extend(body);
                packet[6] = protocol;
                packet.splice(40..40, header);
                let length = packet.len() as u16 - 40;
                packet[4..6].copy_from_slice(&length.to_be_bytes());
            }
            Change::Large { dont_fragment } if layout.protocol == 17 => {
                enlarge(packet, &layout, 1290 + number as usize % 300);
                if version_4 {
                    packet[6] = u8::from(dont_fragment) << 6;
                }
            }
            _ => {}
        }
        if version_4 && !matches!(change, Change::HeaderChecksum | Change::Cut) {
            mend_header(packet);
        }
    }
    if let Change::Cut | Change::TransportChecksum | Change::TransportLength | Change::TotalLength = change {
        // It does not say any more what it said.
        step.segment = None;
    }
    step.what = change.name();
    step
}

/// A datagram in pieces.
pub(super) fn fragments(world: &mut World, index: usize) -> Vec<Step> {
    let mut step = world.say(index);
    let random = &mut world.random;
    let Some(layout) = Layout::of(&step.packets[0]) else {
        return vec![step];
    };
    let v6 = layout.src.is_ipv6();
    if layout.protocol == 17 {
        let size = random.pick(&[60, 1300, 1500, 2000, 3000]);
        for packet in &mut step.packets {
            if let Some(layout) = Layout::of(packet) {
                enlarge(packet, &layout, size);
            }
        }
    }
    let id = random.next() as u32;
    let content = step.packets[0].len() - layout.transport;
    let size = random
        .pick(&[8, 24, 600, 1000, 1240])
        .max(content.div_ceil(60))
        .next_multiple_of(8);
    let mut ranges: Vec<[usize; 2]> = (0..content)
        .step_by(size)
        .map(|from| [from, (from + size).min(content)])
        .collect();
    let what = random.weighted(&[
        (8, "fragment in order"),
        (5, "fragment in reverse"),
        (3, "fragment twice"),
        (3, "fragment that overlaps"),
        (3, "fragment of a datagram that lacks one"),
        (2, "fragment beyond the end"),
        (2, "fragment of no multiple of eight"),
        (2, "fragment with DF"),
    ]);
    let header = match layout.protocol {
        6 => 20,
        132 => 12,
        _ => 8,
    };
    let what = if v6 && size < header {
        "tiny first fragment"
    } else {
        what
    };
    match what {
        "fragment in reverse" => ranges.reverse(),
        "fragment twice" => ranges.insert(0, ranges[0]),
        "fragment that overlaps" if ranges.len() > 1 => {
            let [from, to] = ranges[0];
            ranges.insert(1, [from + 8.min(to), to + 8]);
        }
        "fragment of a datagram that lacks one" => {
            ranges.remove(random.below(ranges.len() as u32) as usize);
        }
        _ => {}
    }
    let last = ranges.len();
    let mut steps = Vec::new();
    for (number, range) in ranges.into_iter().enumerate() {
        let mut part = step.clone();
        part.what = what;
        // What arrives is the whole, and that after the last piece.
        part.packets = step.packets.each_ref().map(|packet| {
            let mut bytes = piece(packet, id, range);
            match what {
                "fragment with DF" if !v6 => {
                    bytes[6] |= 0x40;
                    mend_header(&mut bytes);
                }
                "fragment beyond the end" if number + 1 == last && !v6 => {
                    bytes[6..8].copy_from_slice(&0x1fff_u16.to_be_bytes());
                    mend_header(&mut bytes);
                }
                "fragment of no multiple of eight" if number == 0 && bytes.len() > 60 && !v6 => {
                    bytes.pop();
                    let length = bytes.len() as u16;
                    bytes[2..4].copy_from_slice(&length.to_be_bytes());
                    mend_header(&mut bytes);
                }
                _ => {}
            }
            bytes
        });
        steps.push(part);
    }
    steps
}

/// Makes a datagram that large, if it is not.
fn enlarge(packet: &mut Vec<u8>, layout: &Layout, size: usize) {
    let added = size.saturating_sub(packet.len());
    packet.extend(std::iter::repeat_n(0, added));
    let (length, at) = (packet.len(), layout.transport);
    let old = (length - added - at) as u16;
    let new = (length - at) as u16;
    match packet[0] >> 4 {
        4 => {
            packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            mend_header(packet);
        }
        _ => packet[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes()),
    }
    packet[at + 4..at + 6].copy_from_slice(&new.to_be_bytes());
    // The length is in the datagram and in the pseudo-header; what was added is zero.
    let sum = u16::from_be_bytes([packet[at + 6], packet[at + 7]]);
    let change = u32::from(new - old) * 2;
    let total = u32::from(!sum) + (change & 0xffff) + (change >> 16);
    let sum = !(((total >> 16) + (total & 0xffff)) as u16);
    let sum = if sum == 0 { 0xffff } else { sum };
    packet[at + 6..at + 8].copy_from_slice(&sum.to_be_bytes());
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Cut,
    HeaderChecksum,
    Large { dont_fragment: bool },
    NoChecksum,
    Options,
    Padding,
    TimeToLive(u8),
    Tos,
    TotalLength,
    TransportChecksum,
    TransportLength,
}

impl Change {
    const fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut off",
            Self::HeaderChecksum => "wrong header checksum",
            Self::Large { dont_fragment: true } => "too large, DF",
            Self::Large { dont_fragment: false } => "too large",
            Self::NoChecksum => "no checksum",
            Self::Options => "options",
            Self::Padding => "padding",
            Self::TimeToLive(0) => "time to live 0",
            Self::TimeToLive(1) => "time to live 1",
            Self::TimeToLive(_) => "time to live 2",
            Self::Tos => "type of service",
            Self::TotalLength => "wrong total length",
            Self::TransportChecksum => "wrong transport checksum",
            Self::TransportLength => "wrong transport length",
        }
    }
}

/// RFC 791 §3.1: no operation, record route, timestamp, loose and strict source route, and what is malformed.
const OPTIONS: &[&[u8]] = &[
    &[1, 1, 1, 1],
    &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[131, 7, 4, 198, 51, 100, 3, 0],
    &[137, 7, 4, 198, 51, 100, 3, 0],
    &[7, 40, 4, 0],
    &[7, 1, 4, 0],
];

/// Hop-by-hop options, destination options, routing headers of types 0 and 4 with nothing left, an atomic fragment.
const EXTENSIONS: &[(u8, &[u8])] = &[
    (0, &[0, 1, 4, 0, 0, 0, 0]),
    (60, &[0, 1, 4, 0, 0, 0, 0]),
    (43, &[0, 0, 0, 0, 0, 0, 0]),
    (43, &[0, 4, 0, 0, 0, 0, 0]),
    (44, &[0, 0, 0, 0, 0, 0, 9]),
];
