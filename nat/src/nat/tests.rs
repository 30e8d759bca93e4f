//! Listings and events.

use std::{net::IpAddr, time::Instant};

use vswitch_testkit::Clock;
use vswitch_wire::{IpProtocol, IpVersion, Offload};

use super::*;
use crate::{
    Egress, MappingId, PortMapping, Traffic,
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

/// A network behind one address.
struct Engine {
    nat: Nat,
    now: Instant,
}

impl Engine {
    fn new() -> Self {
        let now = Clock::new().now();
        let mut nat = Nat::new(now, Config::standard(7));
        let network = Network {
            zone: Zone(1),
            prefixes: vec!["10.0.0.0/24".parse().expect("a prefix")],
            gateways: vec![ip("10.0.0.1")],
            mtu: 1500,
            egress: Egress::Masquerade(Vec::new()),
            filtering: None,
        };
        assert_eq!(nat.add_network(network), Ok(()));
        let outside = Outside {
            addresses: vec![ip("198.51.100.1")],
            prefixes: Vec::new(),
            mtu: 1400,
        };
        nat.set_outside(now, outside);
        Self { nat, now }
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

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
