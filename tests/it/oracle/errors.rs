//! ICMP errors about conversations: those that belong there, and those of liars.

use vswitch_wire::IpVersion;

use super::{
    compare::Layout,
    flow::Party,
    packet::{Ends, icmp, icmp_protocol, mend_header},
    plan::{self, Side},
    world::{Step, World},
};

/// An error about a conversation, if there is something to quote.
pub(super) fn about(world: &mut World, index: usize) -> Option<Step> {
    let mut header = world.header();
    header.tos = world.random.pick(&[0, 0xc0]);
    let random = &mut world.random;
    let flow = &world.flows[index];
    // Who complains about what it received.
    let complainer = random.pick(&[Party::Client, Party::Server]);
    let quotes = flow.received[complainer as usize].clone()?;
    let version = flow.version();
    let side = flow.side(complainer);
    let (kind, code) = match version {
        IpVersion::V4 => random.weighted(&[
            (10, (3, 3)),
            (3, (3, 1)),
            (3, (3, 13)),
            (8, (3, 4)),
            (6, (11, 0)),
            (2, (11, 1)),
            (2, (12, 0)),
            (1, (4, 0)),
            (2, (5, 1)),
        ]),
        IpVersion::V6 => random.weighted(&[(6, (1, 4)), (3, (1, 0)), (8, (2, 0)), (5, (3, 0)), (2, (4, 0))]),
    };
    let rest: u32 = match (version, kind, code) {
        (IpVersion::V4, 3, 4) => random.pick(&[1300, 1000, 576, 0]),
        (IpVersion::V4, 5, _) => 0x0a00_0004,
        (IpVersion::V6, 2, _) => random.pick(&[1280, 1300]),
        (IpVersion::V4, 12, _) => 4 << 24,
        _ => 0,
    };
    let length = random.pick(&[8, 8, 20, 28, 540]);
    let lie = random.weighted(&[
        (60, Lie::None),
        (4, Lie::Checksum),
        (4, Lie::Destination),
        (4, Lie::InnerChecksum),
        (4, Lie::Length),
        (4, Lie::Port),
        (4, Lie::Sequence),
        (3, Lie::Truncated),
    ]);
    let from_router = random.percent(40);
    let other_port = random.next() as u16;
    let complain = |quote: &[u8]| {
        let layout = Layout::of(quote)?;
        let limit = if version == IpVersion::V4 { 548 } else { 1232 };
        let mut inner = quote[..quote.len().min(layout.transport + length).min(limit)].to_vec();
        let at = layout.transport;
        match lie {
            Lie::InnerChecksum if version == IpVersion::V4 => inner[10] ^= 0x55,
            Lie::Length if version == IpVersion::V4 => {
                // Longer than it was.
                inner[2..4].copy_from_slice(&1400_u16.to_be_bytes());
                mend_header(&mut inner);
            }
            Lie::Port if inner.len() >= at + 4 && matches!(layout.protocol, 6 | 17 | 132) => {
                inner[at..at + 2].copy_from_slice(&other_port.to_be_bytes())
            }
            Lie::Sequence if layout.protocol == 6 && inner.len() >= at + 8 => inner[at + 4] ^= 0x40,
            Lie::Truncated => inner.truncate(at + 4),
            _ => {}
        }
        let outer = Ends {
            src: match from_router {
                true => plan::host(side, version, 4),
                false => layout.dst,
            },
            dst: match lie {
                Lie::Destination if side == Side::Inside => plan::host(Side::Outside, version, 3),
                Lie::Destination => plan::host(Side::Inside, version, 4),
                _ => layout.src,
            },
            src_port: 0,
            dst_port: 0,
        };
        let mut content = icmp(&outer, kind, code, &[&rest.to_be_bytes()[..], &inner].concat());
        if let Lie::Checksum = lie {
            content[2] ^= 0x55;
        }
        Some(header.packet(&outer, icmp_protocol(version), &content))
    };
    let is_in_flight = (flow.protocol == 6).then(|| {
        let quoted = Layout::of(&quotes[0]).and_then(|layout| {
            let bytes = quotes[0].get(layout.transport + 4..layout.transport + 8)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        });
        let changed = matches!(lie, Lie::Sequence) as u32 * (0x40 << 24);
        quoted.is_some_and(|quoted| flow.is_in_flight(complainer.opposite(), quoted ^ changed))
    });
    let [Some(kernel), Some(ours)] = quotes.each_ref().map(|quote| complain(quote)) else {
        return None;
    };
    Some(Step {
        side,
        packets: [kernel, ours],
        flow: Some(index),
        from: None,
        what: lie.name(),
        segment: None,
        is_in_flight,
    })
}

/// What is wrong with an error.
#[derive(Debug, Clone, Copy)]
enum Lie {
    Checksum,
    Destination,
    InnerChecksum,
    Length,
    None,
    Port,
    Sequence,
    Truncated,
}

impl Lie {
    const fn name(self) -> &'static str {
        match self {
            Self::Checksum => "error with a wrong checksum",
            Self::Destination => "error to another host",
            Self::InnerChecksum => "error that quotes a wrong header checksum",
            Self::Length => "error that quotes another length",
            Self::None => "error",
            Self::Port => "error that quotes another port",
            Self::Sequence => "error that quotes another sequence number",
            Self::Truncated => "error that quotes too little",
        }
    }
}

/// Whether a packet is an ICMP error.
pub(super) fn is_error(packet: &[u8]) -> bool {
    Layout::of(packet).is_some_and(|layout| layout.is_error(packet))
}
