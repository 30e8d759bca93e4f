//! Listings and events.

use std::{net::IpAddr, time::Instant};

use vswitch_testkit::Clock;
use vswitch_wire::{IpProtocol, IpVersion, Offload};

use super::*;
use crate::{
    DropReason, Egress, MappingId, PortMapping, Traffic,
    rewrite::sample::{self, Sample},
};

#[test]
fn n_tbl_7_a_connection_is_told_when_it_begins_is_answered_and_ends() {
    let mut engine = Engine::new();
    engine.udp(5000);
    assert_eq!(engine.nat.poll_event(), None, "nobody wants them");
    engine.nat.set_events(true);
    let mut answer = udp(("198.51.100.2", 53), ("198.51.100.1", 5000), 8);
    assert_eq!(engine.send(Zone::OUTSIDE, &mut answer), Verdict::Forward(Zone(1)));
    let Some(Event::Updated(view)) = engine.nat.poll_event() else {
        panic!("the first answer is news");
    };
    let traffic = Traffic {
        packets: 1,
        bytes: 36,
    };
    assert_eq!((view.is_replied, view.traffic), (true, [traffic; 2]));
    engine.udp(5001);
    assert!(matches!(engine.nat.poll_event(), Some(Event::New(view)) if view.original.src_port == 5001));
    assert!(engine.nat.remove(engine.now, &view.reply));
    let Some(Event::Destroyed(ended)) = engine.nat.poll_event() else {
        panic!("its end is news");
    };
    assert_eq!(ended, view);
    assert_eq!(engine.nat.poll_event(), None);
    // N-TBL-5: what was not sent has not begun and does not end.
    let mut large = udp(("10.0.0.2", 9), ("198.51.100.2", 53), 1471);
    assert!(matches!(engine.send(Zone(1), &mut large), Verdict::Drop(_)));
    assert_eq!(engine.nat.poll_event(), None);
}

#[test]
fn n_tbl_9_the_table_is_listed_in_parts() {
    let mut engine = Engine::new();
    (5000..5010).for_each(|port| engine.udp(port));
    let gone = engine.nat.connections(engine.now).nth(4).expect("there are ten");
    assert!(engine.nat.remove(engine.now, &gone.original));
    let mut found = Vec::new();
    let mut place = Some(0);
    while let Some(from) = place {
        let (part, next) = engine.nat.connections_from(engine.now, from, 3);
        let part: Vec<ConnView> = part.collect();
        assert!(part.len() <= 3);
        found.extend(part);
        place = next;
    }
    let all: Vec<ConnView> = engine.nat.connections(engine.now).collect();
    assert_eq!((found.len(), engine.nat.connection_count()), (9, 9));
    assert_eq!(found, all);
    let (mut none, next) = engine.nat.connections_from(engine.now, u32::MAX, 3);
    assert_eq!((none.next(), next), (None, None));
}

#[test]
fn n_dn_1_a_published_port_counts_what_comes_by_it() {
    let mut engine = Engine::new();
    let mapping = PortMapping {
        id: MappingId(1),
        protocol: IpProtocol::UDP,
        external: None,
        ports: 8000..=8001,
        zone: Zone(1),
        target: ip("10.0.0.2"),
        target_port: 80,
    };
    assert_eq!(engine.nat.publish(mapping.clone()), Ok(()));
    for (port, hits) in [(1, 1), (1, 1), (2, 2)] {
        let mut packet = udp(("198.51.100.2", port), ("198.51.100.1", 8001), 8);
        assert_eq!(engine.send(Zone::OUTSIDE, &mut packet), Verdict::Forward(Zone(1)));
        let view = engine.nat.publications().next().expect("it is published");
        assert_eq!((view.mapping, view.hits), (&mapping, hits), "from port {port}");
    }
    let network = engine.nat.network_views().next().expect("it was added");
    assert_eq!((network.network.zone, network.connections), (Zone(1), 2));
    let external: Vec<IpAddr> = engine.nat.external_addresses().collect();
    assert_eq!(external, [ip("198.51.100.1")]);
}

/// The entry that makes place is its host's only one, with which the host is forgotten.
#[test]
fn n_tmo_3_what_is_over_makes_place_for_the_same_answers_of_its_host() {
    let mut engine = Engine::new();
    for port in [8000, 8001] {
        let mapping = PortMapping {
            id: MappingId(port.into()),
            protocol: IpProtocol::UDP,
            external: None,
            ports: port..=port,
            zone: Zone(1),
            target: ip("10.0.0.2"),
            target_port: 80,
        };
        assert_eq!(engine.nat.publish(mapping), Ok(()));
    }
    let mut first = udp(("198.51.100.2", 9), ("198.51.100.1", 8000), 8);
    assert_eq!(engine.send(Zone::OUTSIDE, &mut first), Verdict::Forward(Zone(1)));
    engine.now += std::time::Duration::from_secs(200);
    // To the same host's same port, before anybody swept: the answers are the same as those of what is over.
    let mut second = udp(("198.51.100.2", 9), ("198.51.100.1", 8001), 8);
    assert_eq!(engine.send(Zone::OUTSIDE, &mut second), Verdict::Forward(Zone(1)));
    engine.udp(5000);
    // Another host's connections are counted for it alone.
    let mut other = udp(("10.0.0.3", 5000), ("198.51.100.2", 53), 8);
    assert_eq!(engine.send(Zone(1), &mut other), Verdict::Forward(Zone::OUTSIDE));
    assert_eq!(engine.nat.flush_host(engine.now, Zone(1), ip("10.0.0.2")), 2);
    assert_eq!(engine.nat.flush_host(engine.now, Zone(1), ip("10.0.0.3")), 1);
    assert_eq!(engine.nat.connection_count(), 0);
}

/// Nor does it keep the port, when that was published meanwhile.
#[test]
fn n_tmo_3_what_is_over_keeps_no_port_that_is_somebody_elses_now() {
    let mut engine = Engine::new();
    engine.udp(5000);
    let mapping = PortMapping {
        id: MappingId(1),
        protocol: IpProtocol::UDP,
        external: None,
        ports: 5000..=5000,
        zone: Zone(1),
        target: ip("10.0.0.3"),
        target_port: 53,
    };
    assert_eq!(engine.nat.publish(mapping), Ok(()));
    // While the connection lives, its endpoint has one port towards all (N-MAP-1).
    let there = udp(("10.0.0.2", 5000), ("198.51.100.3", 53), 8);
    let mut packet = there.clone();
    assert_eq!(engine.send(Zone(1), &mut packet), Verdict::Forward(Zone::OUTSIDE));
    assert_eq!(packet[20..22], 5000u16.to_be_bytes());
    engine.now += std::time::Duration::from_secs(200);
    let mut packet = there;
    packet[19] = 4;
    packet[10..12].fill(0);
    let sum = !sample::textbook_sum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[26..28].fill(0);
    assert_eq!(engine.send(Zone(1), &mut packet), Verdict::Forward(Zone::OUTSIDE));
    assert_ne!(packet[20..22], 5000u16.to_be_bytes());
}

/// Found by fuzzing: the victim was looked for in the whole table, and the network had one connection too many.
#[test]
fn n_tbl_1_a_full_network_makes_room_in_itself_in_a_full_table_too() {
    let mut engine = Engine::with(|config| {
        config.limits.connections = 6;
        config.limits.per_zone = 4;
    });
    engine.add(Zone(2), "10.0.1");
    (5000..5002).for_each(|port| engine.udp(port));
    for port in 5000..5004 {
        let mut packet = udp(("10.0.1.2", port), ("198.51.100.2", 53), 8);
        assert_eq!(engine.send(Zone(2), &mut packet), Verdict::Forward(Zone::OUTSIDE));
    }
    let mut one_more = udp(("10.0.1.2", 6000), ("198.51.100.2", 53), 8);
    assert_eq!(
        engine.send(Zone(2), &mut one_more),
        Verdict::Forward(Zone::OUTSIDE)
    );
    let counts: Vec<usize> = engine.nat.network_views().map(|view| view.connections).collect();
    assert_eq!(counts, [2, 4]);
}

/// Found by fuzzing: a connection with a host outside went on when its address had become one of a network's.
#[test]
fn n_fwd_12_who_has_an_address_of_a_new_network_is_outside_no_more() {
    let mut engine = Engine::new();
    let mut there = udp(("10.0.0.2", 5000), ("10.0.1.2", 53), 8);
    let back = udp(("10.0.1.2", 53), ("198.51.100.1", 5000), 8);
    assert_eq!(
        engine.send(Zone(1), &mut there.clone()),
        Verdict::Forward(Zone::OUTSIDE)
    );
    assert_eq!(
        engine.send(Zone::OUTSIDE, &mut back.clone()),
        Verdict::Forward(Zone(1))
    );
    engine.udp(5001);
    engine.add(Zone(2), "10.0.1");
    assert_eq!(engine.nat.connection_count(), 1, "others go on");
    assert_eq!(
        engine.send(Zone::OUTSIDE, &mut back.clone()),
        Verdict::Drop(DropReason::Spoofed)
    );
    assert_eq!(
        engine.send(Zone(1), &mut there),
        Verdict::Drop(DropReason::Isolated)
    );
}

/// The same of an address that becomes the engine's own.
#[test]
fn n_fwd_10_who_has_a_new_external_address_is_outside_no_more() {
    let mut engine = Engine::new();
    engine.udp(5000);
    let mut there = udp(("10.0.0.2", 5001), ("198.51.100.9", 53), 8);
    assert_eq!(engine.send(Zone(1), &mut there), Verdict::Forward(Zone::OUTSIDE));
    let outside = Outside {
        addresses: ["198.51.100.1", "198.51.100.9"].map(ip).into(),
        ..Outside::default()
    };
    engine.nat.set_outside(engine.now, outside);
    let left: Vec<u16> = engine
        .nat
        .connections(engine.now)
        .map(|view| view.original.src_port)
        .collect();
    assert_eq!(left, [5000]);
}

/// Found by fuzzing: the inside address in what it quotes would have left as it is.
#[test]
fn n_ice_4_an_error_by_prefix_translation_quotes_what_came_in() {
    let mut engine = Engine::new();
    let pair = crate::PrefixPair::new(
        "fd01:203:405::/48".parse().expect("a prefix"),
        "2001:db8:1::/48".parse().expect("a prefix"),
    );
    let network = Network {
        zone: Zone(2),
        prefixes: vec!["fd01:203:405::/48".parse().expect("a prefix")],
        gateways: Vec::new(),
        mtu: 1500,
        egress: Egress::Prefix(pair.expect("equally long")),
        filtering: None,
    };
    assert_eq!(engine.nat.add_network(network), Ok(()));
    let (inside, peer) = ("fd01:203:405:1::1234", "2001:db8:b::2");
    let (came, left) = (udp_v6((peer, 53), (inside, 9)), udp_v6((inside, 9), (peer, 53)));
    let complain = |quoted: &[u8]| {
        let ends = (sample::address(inside), sample::address(peer));
        sample::error(IpVersion::V6, ends, (1, 4), [0; 4], quoted).bytes()
    };
    assert_eq!(
        engine.send(Zone(2), &mut complain(&came)),
        Verdict::Forward(Zone::OUTSIDE)
    );
    let elsewhere = udp_v6(("2001:db8:b::3", 53), (inside, 9));
    for quoted in [left, elsewhere] {
        assert_eq!(
            engine.send(Zone(2), &mut complain(&quoted)),
            Verdict::Drop(DropReason::IcmpUnrelated)
        );
    }
}

/// A network behind one address.
struct Engine {
    nat: Nat,
    now: Instant,
}

impl Engine {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let now = Clock::new().now();
        let mut config = Config::standard(7);
        change(&mut config);
        let mut engine = Self {
            nat: Nat::new(now, config),
            now,
        };
        engine.add(Zone(1), "10.0.0");
        let outside = Outside {
            addresses: vec![ip("198.51.100.1")],
            prefixes: Vec::new(),
            mtu: 1400,
        };
        engine.nat.set_outside(now, outside);
        engine
    }

    /// Adds a network of 256 addresses.
    fn add(&mut self, zone: Zone, prefix: &str) {
        let network = Network {
            zone,
            prefixes: vec![format!("{prefix}.0/24").parse().expect("a prefix")],
            gateways: vec![ip(&format!("{prefix}.1"))],
            mtu: 1500,
            egress: Egress::Masquerade(Vec::new()),
            filtering: None,
        };
        assert_eq!(self.nat.add_network(network), Ok(()));
    }

    /// Has a host inside send a datagram from a port.
    fn udp(&mut self, port: u16) {
        let mut packet = udp(("10.0.0.2", port), ("198.51.100.2", 53), 8);
        assert_eq!(self.send(Zone(1), &mut packet), Verdict::Forward(Zone::OUTSIDE));
    }

    fn send(&mut self, zone: Zone, packet: &mut [u8]) -> Verdict {
        self.nat
            .handle_packet(self.now, zone, packet, &Offload::NONE, &mut Nowhere)
    }
}

struct Nowhere;

impl Output for Nowhere {
    fn send(&mut self, _: Zone, _: &mut [u8], _: Offload) {}
}

fn udp((src, src_port): (&str, u16), (dst, dst_port): (&str, u16), len: usize) -> Vec<u8> {
    let sample = Sample {
        version: IpVersion::V4,
        protocol: IpProtocol::UDP,
        ends: sample::ends(src, src_port, dst, dst_port),
        kind: 0,
        code: 0,
        hops: 64,
        class: 0,
        id: 1,
        extension: 0,
        payload: vec![7; len],
    };
    sample.bytes()
}

fn udp_v6((src, src_port): (&str, u16), (dst, dst_port): (&str, u16)) -> Vec<u8> {
    let sample = Sample {
        version: IpVersion::V6,
        protocol: IpProtocol::UDP,
        ends: sample::ends(src, src_port, dst, dst_port),
        kind: 0,
        code: 0,
        hops: 64,
        class: 0,
        id: 1,
        extension: 0,
        payload: vec![7; 8],
    };
    sample.bytes()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
