//! Packets that belong to no conversation, and mostly to no network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vswitch_wire::IpVersion;

use super::{
    packet::{ACK, Ends, Header, RST, SYN, Segment, icmp, icmp_protocol, tcp, udp},
    plan::{self, Side},
    random::Random,
    world::{Step, World},
};

/// One of them.
pub(super) fn packet(world: &mut World) -> Step {
    let header = world.header();
    let random = &mut world.random;
    let side = random.weighted(&[(60, Side::Inside), (40, Side::Outside)]);
    let version = random.weighted(&[(70, IpVersion::V4), (30, IpVersion::V6)]);
    let usual = Ends {
        src: plan::host(side, version, random.pick(&[2, 3, 4])),
        dst: match side {
            Side::Inside => plan::host(Side::Outside, version, random.pick(&[2, 3])),
            Side::Outside => plan::router(Side::Outside, version),
        },
        // Those of no conversation, so that whoever lets one in alone keeps nothing that matters.
        src_port: 600 + random.below(60) as u16,
        dst_port: 600 + random.below(400) as u16,
    };
    let kind = random.weighted(&[
        (10, Kind::StrangeSource),
        (10, Kind::StrangeDestination),
        (8, Kind::StrangeMessage),
        (4, Kind::StrangeProtocol),
        (8, Kind::Unsolicited),
        (4, Kind::NoPort),
        (3, Kind::Garbage),
    ]);
    let (what, packet) = match kind {
        Kind::StrangeSource => {
            let ends = Ends {
                src: strange(random, version),
                ..usual
            };
            ("strange source", some_packet(random, &header, &ends))
        }
        Kind::StrangeDestination => {
            let ends = Ends {
                dst: strange(random, version),
                ..usual
            };
            ("strange destination", some_packet(random, &header, &ends))
        }
        Kind::StrangeMessage => ("strange ICMP message", message(random, &header, &usual)),
        Kind::StrangeProtocol => {
            let protocol = random.pick(&[2, 4, 41, 51, 89, 103, 136, 253]);
            let length = random.below(40) as usize;
            let content = random.bytes(length);
            ("strange protocol", header.packet(&usual, protocol, &content))
        }
        Kind::Unsolicited => {
            let ends = match side {
                // From outside straight to a host inside.
                Side::Outside if random.percent(30) => Ends {
                    dst: plan::host(Side::Inside, version, 2),
                    ..usual
                },
                // To the router itself.
                Side::Inside => Ends {
                    dst: plan::router(random.pick(&[Side::Inside, Side::Outside]), version),
                    ..usual
                },
                Side::Outside => usual,
            };
            ("unsolicited", some_packet(random, &header, &ends))
        }
        Kind::NoPort => {
            let (src_port, dst_port) = random.pick(&[(0, 600), (600, 0), (0, 0)]);
            let ends = Ends {
                src_port,
                dst_port,
                ..usual
            };
            ("port 0", some_packet(random, &header, &ends))
        }
        Kind::Garbage => {
            let length = random.below(80) as usize;
            let mut content = random.bytes(length);
            if let (Some(first), true) = (content.first_mut(), random.percent(50)) {
                *first = if version == IpVersion::V4 { 0x45 } else { 0x60 };
            }
            ("garbage", content)
        }
    };
    Step {
        side,
        packets: [packet.clone(), packet],
        flow: None,
        from: None,
        what,
        segment: None,
        is_in_flight: None,
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Garbage,
    NoPort,
    StrangeDestination,
    StrangeMessage,
    StrangeProtocol,
    StrangeSource,
    Unsolicited,
}

fn some_packet(random: &mut Random, header: &Header, ends: &Ends) -> Vec<u8> {
    let payload = random.bytes(9);
    match random.below(4) {
        0 | 1 => header.packet(ends, 17, &udp(ends, &payload)),
        2 => {
            let segment = Segment {
                flags: random.pick(&[SYN, SYN, SYN | ACK, ACK, RST]),
                seq: random.next() as u32,
                ack: 0,
                window: 1000,
                options: Vec::new(),
                payload: Vec::new(),
            };
            header.packet(ends, 6, &tcp(ends, &segment))
        }
        _ => {
            let kind = if ends.version() == IpVersion::V4 { 8 } else { 128 };
            // A second one with that identifier would be a conversation's.
            let rest = [&ends.src_port.to_be_bytes()[..], &[0, 1], &payload].concat();
            header.packet(ends, icmp_protocol(ends.version()), &icmp(ends, kind, 0, &rest))
        }
    }
}

/// Messages that begin nothing.
fn message(random: &mut Random, header: &Header, ends: &Ends) -> Vec<u8> {
    let version = ends.version();
    let kind = match version {
        IpVersion::V4 => random.pick(&[0, 3, 4, 5, 9, 10, 11, 12, 14, 16, 18, 30, 40, 42, 255]),
        // Neighbour discovery has its rows elsewhere: here it would set the oracle's neighbours.
        IpVersion::V6 => random.pick(&[1, 2, 3, 4, 100, 127, 129, 130, 131, 139, 140, 144, 160, 200]),
    };
    let quoted = Ends {
        src: ends.dst,
        dst: ends.src,
        src_port: 17,
        dst_port: 18,
    };
    let rest = match random.percent(50) {
        true => [
            &[0; 4],
            &Header::plain(1).packet(&quoted, 17, &udp(&quoted, &[1, 2, 3, 4]))[..],
        ]
        .concat(),
        false => random.bytes(12),
    };
    header.packet(ends, icmp_protocol(version), &icmp(ends, kind, 0, &rest))
}

/// An address that is not for everybody.
fn strange(random: &mut Random, version: IpVersion) -> IpAddr {
    const V4: &[[u8; 4]] = &[
        [127, 0, 0, 1],
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [224, 0, 0, 251],
        [239, 1, 2, 3],
        [240, 0, 0, 1],
        [255, 255, 255, 255],
        [169, 254, 1, 1],
        [10, 0, 0, 255],
        [198, 51, 100, 255],
        [10, 0, 0, 1],
        [198, 51, 100, 1],
        [192, 0, 2, 9],
        [10, 0, 0, 5],
    ];
    const V6: &[[u16; 8]] = &[
        [0, 0, 0, 0, 0, 0, 0, 1],
        [0; 8],
        [0xfe80, 0, 0, 0, 0, 0, 0, 9],
        [0xff02, 0, 0, 0, 0, 0, 0, 0xfb],
        [0xff0e, 0, 0, 0, 0, 0, 0, 9],
        [0, 0, 0, 0, 0, 0xffff, 0x0a00, 5],
        [0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1],
        [0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1],
        [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 9],
        [0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 5],
    ];
    match version {
        IpVersion::V4 => Ipv4Addr::from(random.pick(V4)).into(),
        IpVersion::V6 => Ipv6Addr::from(random.pick(V6)).into(),
    }
}
