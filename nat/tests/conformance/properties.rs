//! What holds of any packets: there and back is where it began, checksums are right, limits hold, ends are nobody else's, and
//! nothing makes the engine panic or leave a packet untranslated (the fixture looks at every packet that leaves).

use std::{collections::HashMap, net::IpAddr};

use proptest::prelude::*;
use vswitch_nat::{Config, Egress, Filtering, Limits, Mapping, PortChoice, Verdict, Zone};
use vswitch_wire::{Offload, PartialChecksum};

use crate::{
    packets::{
        ACK, End, ICMP, ICMPV6, SYN, TCP, UDP, dst, ends, error, fragments, fragments_v6, is_v4, mended,
        ping, pong, raw, sctp, src, tcp_with, transport, ttl, udp_with, with_ttl,
    },
    site::*,
};

fn few() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// The end that packets of a site come from, by index and version.
fn inside_end() -> impl Strategy<Value = (usize, u16)> {
    (
        0usize..3,
        prop_oneof![
            1u16..1100,
            5000u16..5004,
            any::<u16>().prop_map(|port| port.max(1))
        ],
    )
}

fn of_version(is_v4: bool, index: usize, ends: [[IpAddr; 3]; 2]) -> IpAddr {
    ends[usize::from(!is_v4)][index]
}

const HOSTS: [[IpAddr; 3]; 2] = [[A, B, C], [A6, B6, B6]];
const SERVERS: [[IpAddr; 3]; 2] = [[S, S3, S4], [S6, R6, R6]];

#[derive(Clone, Copy, Debug)]
enum Flow {
    Echo,
    Tcp,
    Udp,
}

fn question(flow: Flow, from: End, to: End, payload: &[u8]) -> Vec<u8> {
    match flow {
        Flow::Echo => ping(from.0, to.0, from.1),
        Flow::Tcp => tcp_with(from, to, SYN, (1000, 0), &[2, 4, 5, 180], payload),
        Flow::Udp => udp_with(from, to, payload),
    }
}

fn answer(flow: Flow, from: End, to: End, payload: &[u8]) -> Vec<u8> {
    match flow {
        Flow::Echo => pong(from.0, to.0, to.1),
        Flow::Tcp => {
            let acknowledged = 1001 + payload.len() as u32;
            tcp_with(from, to, SYN | ACK, (5000, acknowledged), &[2, 4, 5, 180], &[])
        }
        Flow::Udp => udp_with(from, to, payload),
    }
}

proptest! {
    #![proptest_config(few())]

    /// What comes back for what went out is what the inside would have got without translation; and what went out is what it would
    /// have sent had it been the external end.
    #[test]
    fn p_there_and_back_is_where_it_began(
        flows in prop::collection::vec(
            (prop_oneof![Just(Flow::Echo), Just(Flow::Tcp), Just(Flow::Udp)], any::<bool>(), inside_end(), 0usize..3, 1u16..=u16::MAX),
            1..12,
        ),
        payload in prop::collection::vec(any::<u8>(), 0..40),
        overlapping in any::<bool>(),
    ) {
        let mut site = if overlapping { Site::linux() } else { Site::new() };
        for (flow, is_v4, (host, port), server, server_port) in flows {
            let from = (of_version(is_v4, host, HOSTS), port);
            let to = (of_version(is_v4, server, SERVERS), server_port);
            let asked = question(flow, from, to, &payload);
            let left = site.out(&asked);
            let shown = ends(&left).0;
            prop_assert_eq!(&left, &with_ttl(question(flow, shown, to, &payload), ttl(&asked) - 1));
            let back = site.back(&answer(flow, to, shown, &payload));
            prop_assert_eq!(back, with_ttl(answer(flow, to, from, &payload), 63));
        }
    }

    /// A partial checksum stays the sum of the pseudo-header: completed after translation it is that of the translated packet.
    #[test]
    fn p_n_ck_7_partial_checksums_stay_partial(
        is_v4 in any::<bool>(),
        (host, port) in inside_end(),
        payload in prop::collection::vec(any::<u8>(), 0..60),
        is_tcp in any::<bool>(),
    ) {
        let mut site = Site::new();
        let from = (of_version(is_v4, host, HOSTS), port);
        let to = (of_version(is_v4, 0, SERVERS), 80);
        let (flow, field) = if is_tcp { (Flow::Tcp, 16) } else { (Flow::Udp, 6) };
        let start = if is_v4 { 20 } else { 40 };
        let partial = |mut packet: Vec<u8>| {
            let mut sum = pseudo_header(&packet, start);
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            packet[start + field..start + field + 2].copy_from_slice(&(sum as u16).to_be_bytes());
            packet
        };
        let offload = Offload {
            checksum: Some(PartialChecksum { start: start as u16, offset: field as u16 }),
            ..Offload::NONE
        };
        let outcome = site.put_offloaded(INSIDE, &partial(question(flow, from, to, &payload)), &offload);
        prop_assert_eq!(outcome.verdict, Verdict::Forward(OUTSIDE));
        let shown = ends(&outcome.bytes).0;
        let expected = partial(with_ttl(question(flow, shown, to, &payload), 63));
        let at = start + field;
        let given = u16::from_be_bytes([outcome.bytes[at], outcome.bytes[at + 1]]);
        let right = u16::from_be_bytes([expected[at], expected[at + 1]]);
        // Both zeros of one's complement are the same sum.
        prop_assert!(given == right || (given == 0xffff && right == 0) || (given == 0 && right == 0xffff));
        prop_assert_eq!(&outcome.bytes[..at], &expected[..at]);
        prop_assert_eq!(&outcome.bytes[at + 2..], &expected[at + 2..]);
    }

    /// However a datagram is cut and in whatever order its pieces come, some of them twice, it leaves once, whole and translated,
    /// with the last piece that was missing.
    #[test]
    fn p_n_fr_1_any_cut_in_any_order(
        len in 64usize..3000,
        cuts in prop::collection::btree_set(1usize..374, 1..6),
        order in prop::collection::vec(any::<prop::sample::Index>(), 12),
        twice in any::<prop::sample::Index>(),
        is_v4 in any::<bool>(),
    ) {
        let mut site = Site::new();
        let from = (of_version(is_v4, 0, HOSTS), 5000);
        let to = (of_version(is_v4, 0, SERVERS), 53);
        let payload: Vec<u8> = (0..len).map(|n| (n * 7) as u8).collect();
        let packet = udp_with(from, to, &payload);
        let cuts: Vec<usize> = cuts.into_iter().map(|cut| cut * 8).filter(|&cut| cut < len + 8).collect();
        prop_assume!(!cuts.is_empty());
        let (mut pieces, head) = match is_v4 {
            true => (fragments(&packet, &cuts), 20),
            false => (fragments_v6(&packet, &cuts), 48),
        };
        prop_assume!(pieces.iter().all(|piece| piece.len() <= 1500));
        for (at, other) in order.iter().enumerate().take(pieces.len()) {
            let other = other.index(pieces.len());
            pieces.swap(at, other);
        }
        let again = pieces[twice.index(pieces.len())].clone();
        let (last, before) = pieces.split_last().expect("pieces");
        for piece in before.iter().chain([&again].into_iter().filter(|again| *again != last)) {
            let outcome = site.put(INSIDE, piece);
            prop_assert_eq!(outcome.verdict, Verdict::Consumed);
            prop_assert!(outcome.sent.is_empty());
        }
        let outcome = site.put(INSIDE, last);
        let came = pieces.iter().map(Vec::len).max();
        let left = outcome.sent.iter().map(|(_, piece)| piece.len()).max();
        prop_assert!(left.is_some() && left <= came, "no piece is larger than what came");
        let body: Vec<u8> = outcome.sent.iter().flat_map(|(_, piece)| piece[head..].to_vec()).collect();
        let shown = of_version(is_v4, 0, [[X, X, X], [X6, X6, X6]]);
        let expected = udp_with((shown, 5000), to, &payload);
        prop_assert_eq!(&body[..], transport(&expected));
    }

    /// Of any number of flows of a few hosts, no two show the same outside, in either mapping and with every choice of ports.
    #[test]
    fn p_n_map_4_no_two_inside_flows_share_an_outside_tuple(
        flows in prop::collection::vec((inside_end(), 0usize..3, 1u16..4), 1..60),
        overlapping in any::<bool>(),
        choice in prop_oneof![Just(PortChoice::Preserve), Just(PortChoice::Random)],
        ports in prop_oneof![Just(1..=u16::MAX), Just(50_000..=50_015)],
    ) {
        let mut site = Site::with(|config| {
            config.port_choice = choice;
            config.ports = ports;
            config.mapping = match overlapping {
                true => Mapping::Overlapping,
                false => Mapping::EndpointIndependent,
            };
        });
        let mut owners: HashMap<(End, End), End> = HashMap::new();
        let mut mappings: HashMap<End, End> = HashMap::new();
        for ((host, port), server, server_port) in flows {
            let from = (of_version(true, host, HOSTS), port);
            let to = (of_version(true, server, SERVERS), server_port);
            let outcome = site.put(INSIDE, &udp_with(from, to, b"x"));
            if outcome.verdict != Verdict::Forward(OUTSIDE) {
                continue;
            }
            let shown = ends(&outcome.bytes).0;
            prop_assert_eq!(*owners.entry((shown, to)).or_insert(from), from, "{:?} to {:?}", shown, to);
            if !overlapping {
                prop_assert_eq!(*mappings.entry(shown).or_insert(from), from, "{:?}", shown);
            }
        }
    }
}

/// The sum of the pseudo-header, not complemented.
fn pseudo_header(packet: &[u8], start: usize) -> u32 {
    let addresses = if is_v4(packet) {
        &packet[12..20]
    } else {
        &packet[8..40]
    };
    let words = addresses
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    words.sum::<u32>() + u32::from(crate::packets::protocol(packet)) + (packet.len() - start) as u32
}

/// One thing that happens to an engine.
#[derive(Clone, Debug)]
enum Happening {
    Packet {
        zone: u16,
        kind: u8,
        from: (usize, u16),
        to: (usize, u16),
        flags: u8,
        numbers: (u8, u8),
        hops: u8,
    },
    /// A packet that was seen to leave is answered, complained of, cut or damaged.
    React(prop::sample::Index, u8, prop::sample::Index, bool),
    Wait(u16),
    Publish(u8),
    Unpublish(u8),
    Flush(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let packet = (
        0u16..3,
        0u8..8,
        (0usize..9, 4999u16..5004),
        (0usize..9, 4999u16..5004),
        any::<u8>(),
        (0u8..4, 0u8..4),
        prop_oneof![9 => Just(64u8), 1 => 0u8..3],
    );
    prop_oneof![
        8 => packet.prop_map(|(zone, kind, from, to, flags, numbers, hops)| Happening::Packet {
            zone, kind, from, to, flags, numbers, hops,
        }),
        8 => (any::<prop::sample::Index>(), 0u8..6, any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(which, how, place, mend)| Happening::React(which, how, place, mend)),
        1 => (0u16..400).prop_map(Happening::Wait),
        1 => (0u8..4).prop_map(Happening::Publish),
        1 => (0u8..4).prop_map(Happening::Unpublish),
        1 => (0usize..3).prop_map(Happening::Flush),
    ]
}

const ADDRESSES: [[IpAddr; 9]; 2] = [
    [A, B, C, S, S3, S4, X, GATEWAY, X2],
    [A6, B6, S6, R6, X6, GATEWAY6, A6, S6, X6],
];

fn build(kind: u8, from: End, to: End, flags: u8, numbers: (u8, u8)) -> Vec<u8> {
    let number = |n: u8| 1000 + u32::from(n);
    match kind {
        0 => udp_with(from, to, b"some payload"),
        1 => tcp_with(
            from,
            to,
            flags & 0x3f,
            (number(numbers.0), number(numbers.1)),
            &[],
            b"data",
        ),
        2 => tcp_with(
            from,
            to,
            [SYN, SYN | ACK, ACK, ACK | 1][usize::from(flags) % 4],
            (number(numbers.0), number(numbers.1)),
            &[],
            &[],
        ),
        3 => ping(from.0, to.0, from.1),
        4 => pong(from.0, to.0, to.1),
        5 => raw(
            from.0,
            to.0,
            [50, 47, 4, 136][usize::from(flags) % 4],
            &[flags; 24],
        ),
        6 => sctp(from, to, u32::from(numbers.0), (flags % 16, 0), &[numbers.1; 16]),
        _ => {
            let quoted = udp_with(to, from, b"quoted");
            error(
                from.0,
                to.0,
                (if from.0.is_ipv4() { 3 } else { 1 }, 3),
                [0; 4],
                &quoted,
            )
        }
    }
}

/// Something a stranger or a host may make of a packet that it has seen.
fn react(packet: &[u8], how: u8, place: prop::sample::Index, mend: bool) -> Vec<u8> {
    let (from, to) = ends(packet);
    match how {
        // An answer.
        0 => match crate::packets::protocol(packet) {
            UDP => udp_with(to, from, b"answer"),
            TCP => {
                let header = transport(packet);
                let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                tcp_with(to, from, SYN | ACK, (5000, sequence.wrapping_add(1)), &[], &[])
            }
            ICMP | ICMPV6 => pong(to.0, from.0, from.1),
            protocol => raw(to.0, from.0, protocol, transport(packet)),
        },
        // A complaint.
        1 => error(
            to.0,
            from.0,
            (if is_v4(packet) { 3 } else { 1 }, 1),
            [0; 4],
            packet,
        ),
        // Damage.
        2 => {
            let mut packet = packet.to_vec();
            let bit = place.index(packet.len() * 8);
            packet[bit / 8] ^= 1 << (bit % 8);
            match mend
                && packet.len() >= 40
                && matches!(packet[0] >> 4, 4 | 6)
                && (packet[0] == 0x45 || packet[0] >> 4 == 6)
            {
                true => mended(packet),
                false => packet,
            }
        }
        // An end.
        3 => packet[..place.index(packet.len())].to_vec(),
        // A piece.
        4 if is_v4(packet) && packet[0] == 0x45 && packet.len() > 36 => {
            let mut pieces = fragments(packet, &[8]);
            pieces.swap_remove(place.index(2))
        }
        // The same again.
        _ => packet.to_vec(),
    }
}

proptest! {
    #![proptest_config(few())]

    /// Whatever comes in whatever order, and whatever is published and flushed meanwhile.
    #[test]
    fn p_n_inv_1_random_streams_never_panic_never_leak_and_keep_the_limits(
        happenings in prop::collection::vec(happening(), 1..150),
        overlapping in any::<bool>(),
        filtering in prop_oneof![
            Just(Filtering::AddressAndPort), Just(Filtering::Address), Just(Filtering::EndpointIndependent)
        ],
        loose in any::<bool>(),
        tight in any::<bool>(),
    ) {
        let limits = Limits {
            connections: if tight { 6 } else { 24 },
            per_zone: if tight { 5 } else { 20 },
            per_host: if tight { 2 } else { 10 },
            rate_per_host: 50,
        };
        let mut config = if overlapping { Config::linux(7) } else { Config::standard(7) };
        config.limits = limits;
        config.filtering = filtering;
        config.tcp.loose = loose;
        let mut site = Site::bare(config);
        site.add(network(INSIDE));
        let mut other = network(OTHER);
        other.prefixes = vec![prefix("10.0.0.0/24"), prefix("2001:db8:a::/64")];
        other.egress = Egress::Masquerade(vec![X, X6]);
        site.add(other);
        let mut seen: Vec<(Zone, Vec<u8>)> = Vec::new();
        for happening in happenings {
            match happening {
                Happening::Packet { zone, kind, from, to, flags, numbers, hops } => {
                    let version = usize::from(flags & 0x40 != 0);
                    let address = |index: usize| ADDRESSES[version][index];
                    let packet = build(kind, (address(from.0), from.1), (address(to.0), to.1), flags, numbers);
                    put(&mut site, Zone(zone), &with_ttl(packet, hops), &mut seen);
                }
                Happening::React(which, how, place, mend) => {
                    if seen.is_empty() {
                        continue;
                    }
                    let (zone, packet) = &seen[which.index(seen.len())];
                    let (zone, packet) = (*zone, react(packet, how, place, mend));
                    put(&mut site, zone, &packet, &mut seen);
                }
                Happening::Wait(seconds) => site.settle(secs(seconds.into())),
                Happening::Publish(number) => {
                    let target = (if number % 2 == 0 { B } else { B6 }, 5000);
                    let protocol = if number < 2 { UDP } else { TCP };
                    let id = vswitch_nat::MappingId(number.into());
                    let _ = site.nat.publish(mapping(id, protocol, 5001, target));
                }
                Happening::Unpublish(number) => {
                    site.nat.unpublish(site.clock.now(), vswitch_nat::MappingId(number.into()));
                }
                Happening::Flush(host) => {
                    site.nat.flush_host(site.clock.now(), INSIDE, HOSTS[0][host]);
                }
            }
            check(&site, limits)?;
        }
        // In the end everything can go, and then nothing is left.
        let now = site.clock.now();
        site.nat.flush(now);
        prop_assert_eq!(site.conns().len(), 0);
        // Ports too: what a host asks for it gets.
        if !overlapping && filtering == Filtering::AddressAndPort {
            site.advance(secs(2));
            prop_assert_eq!(site.external((C, 6000), (S, 9)), (X, 6000));
            prop_assert_eq!(site.external((C, 4999), (S, 9)), (X, 4999));
        }
    }
}

fn put(site: &mut Site, zone: Zone, packet: &[u8], seen: &mut Vec<(Zone, Vec<u8>)>) {
    let outcome = site.put(zone, packet);
    if let Verdict::Forward(to) = outcome.verdict {
        assert_ne!(
            (src(&outcome.bytes), dst(&outcome.bytes)),
            (src(packet), dst(packet)),
            "untranslated"
        );
        seen.push((to, outcome.bytes));
    }
    seen.extend(outcome.sent);
    // Recent ones matter.
    if seen.len() > 12 {
        seen.drain(..seen.len() - 12);
    }
}

fn check(site: &Site, limits: Limits) -> Result<(), TestCaseError> {
    let conns = site.conns();
    prop_assert!(conns.len() <= limits.connections);
    for zone in [INSIDE, OTHER] {
        let mut of_host: HashMap<IpAddr, usize> = HashMap::new();
        for conn in &conns {
            let is_begun_inside = !conn.original.zone.is_outside();
            let (owner_zone, owner) = match is_begun_inside {
                true => (conn.original.zone, conn.original.src),
                false => (conn.reply.zone, conn.reply.src),
            };
            if owner_zone == zone {
                *of_host.entry(owner.ip()).or_default() += 1;
            }
        }
        prop_assert!(of_host.values().sum::<usize>() <= limits.per_zone);
        prop_assert!(
            of_host.values().all(|&count| count <= limits.per_host),
            "{:?}",
            of_host
        );
    }
    let mut tuples: Vec<String> = conns
        .iter()
        .flat_map(|conn| [format!("{:?}", conn.original), format!("{:?}", conn.reply)])
        .collect();
    tuples.sort();
    let doubles: Vec<_> = tuples.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    // A host that calls its own mapping has the same tuple both ways; nobody else may.
    let own = conns.iter().filter(|conn| conn.original == conn.reply).count();
    prop_assert_eq!(doubles.len(), own, "{:?}", doubles);
    Ok(())
}
