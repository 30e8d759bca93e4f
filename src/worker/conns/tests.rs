//! A table visited in parts, and events beside it.

use std::net::{IpAddr, Ipv4Addr};

use tokio::sync::mpsc;
use vswitch_nat::{Config, Egress, MappingId, Network, Output, Outside, PortMapping, Verdict};
use vswitch_testkit::{Clock, frames::Packet};
use vswitch_wire::{IpProtocol, Offload};

use super::*;
use crate::{
    control::fixtures,
    dataplane::{ConnEvent, EndsFilter},
};

#[test]
fn a_table_is_visited_in_parts_and_what_fits_is_removed() {
    let mut site = Site::new();
    let count = 2 * AT_ONCE as usize + 3;
    (0..count).for_each(|index| site.datagram(1024 + index as u16));
    let mut visit = |what, filter: &ConnFilter| {
        let (mut rows, mut place) = (Vec::new(), Some(TablePlace::START));
        while let Some(from) = place {
            let now = site.now;
            let (part, next) = visit([None, Some(site.table())], now, (what, filter), from);
            assert!(part.len() <= AT_ONCE as usize);
            rows.extend(part);
            place = next;
        }
        rows
    };
    let all = ConnFilter::default();
    let listed = visit(Visit::List, &all);
    assert_eq!(listed.len(), count);
    assert!(
        listed
            .iter()
            .all(|row| row.networks == [Some(fixtures::id(1)), None])
    );
    let one = ConnFilter {
        original: EndsFilter {
            src_port: Some(2000),
            ..EndsFilter::default()
        },
        ..ConnFilter::default()
    };
    let removed = visit(Visit::Remove, &one);
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].view.original.src_port, 2000);
    assert_eq!(visit(Visit::List, &all).len(), count - 1, "and no other");
    assert_eq!(visit(Visit::Remove, &all).len(), count - 1);
    assert_eq!(visit(Visit::List, &all), []);
}

#[test]
fn n_tbl_7_a_watcher_hears_what_happens_while_it_listens() {
    let mut site = Site::new();
    let mut watchers = Watchers::default();
    site.datagram(5000);
    watchers.tell(site.tables());
    let (watcher, mut events) = Watcher::new(ConnFilter::default().into());
    watchers.add(watcher, site.tables());
    watchers.tell(site.tables());
    site.datagram(5001);
    site.nat.remove_network(site.now, Zone(1));
    watchers.tell(site.tables());
    let heard: Vec<(&str, u16, Option<NetworkId>)> = (0..3)
        .map(|_| match events.try_recv() {
            Ok(Some(ConnEvent::New(row))) => ("new", row.view.original.src_port, row.networks[0]),
            Ok(Some(ConnEvent::Destroyed(row))) => ("destroyed", row.view.original.src_port, row.networks[0]),
            other => panic!("{other:?}"),
        })
        .collect();
    let network = Some(fixtures::id(1));
    assert_eq!(heard[0], ("new", 5001, network));
    let mut ends = [heard[1], heard[2]];
    ends.sort();
    assert_eq!(
        ends,
        [("destroyed", 5000, network), ("destroyed", 5001, network)],
        "of a network that has gone"
    );
    assert_eq!(events.try_recv(), Err(mpsc::error::TryRecvError::Empty));
}

#[test]
fn n_tbl_7_events_cost_nothing_without_a_watcher_and_are_lost_rather_than_waited_for() {
    let mut site = Site::new();
    let mut watchers = Watchers::default();
    let (watcher, events) = Watcher::new(ConnFilter::default().into());
    watchers.add(watcher, site.tables());
    watchers.tell(site.tables());
    // More than the translation keeps, and in turn more than the watcher's channel takes.
    (0..5000).for_each(|index| site.datagram(1024 + index));
    watchers.tell(site.tables());
    let lost = site.nat.counters().events_lost;
    assert!(lost > 0);
    watchers.tell(site.tables());
    assert_eq!(watchers.lost, [lost, 0], "told once");
    drop(events);
    watchers.tell(site.tables());
    assert!(!watchers.are_there());
    site.datagram(9000);
    assert_eq!(site.nat.poll_event(), None, "nobody wants them any more");
}

#[test]
fn what_somebody_else_takes_is_heard_only_while_there_are_watchers() {
    let mut site = Site::new();
    site.nat.set_events(true);
    let mut heard = Heard::default();
    let mut watchers = Watchers::default();
    let (watcher, mut events) = Watcher::new(ConnFilter::default().into());
    let hear = |site: &mut Site, heard: &mut Heard, port: u16| {
        site.datagram(port);
        while let Some(event) = site.nat.poll_event() {
            heard.push(&event);
        }
    };
    hear(&mut site, &mut heard, 5000);
    let Site { nat, networks, .. } = &mut site;
    let table = Table {
        kind: TableKind::Inside,
        nat,
        networks,
        heard: Some(&mut heard),
    };
    watchers.add(watcher, [None, Some(table)]);
    hear(&mut site, &mut heard, 5001);
    let Site { nat, networks, .. } = &mut site;
    let table = Table {
        kind: TableKind::Inside,
        nat,
        networks,
        heard: Some(&mut heard),
    };
    watchers.tell([None, Some(table)]);
    assert!(matches!(events.try_recv(), Ok(Some(ConnEvent::New(row))) if row.view.original.src_port == 5001));
    assert!(events.try_recv().is_err());
    // Too many in a turn are lost, and counted.
    let event = Event::New(site.nat.connections(site.now).next().expect("there are two"));
    (0..=MOST_HEARD).for_each(|_| heard.push(&event));
    assert_eq!((heard.events.len(), heard.lost), (MOST_HEARD, 1));
    drop(events);
    let Site { nat, networks, .. } = &mut site;
    let table = Table {
        kind: TableKind::Inside,
        nat,
        networks,
        heard: Some(&mut heard),
    };
    watchers.tell([None, Some(table)]);
    hear(&mut site, &mut heard, 5002);
    assert!(heard.events.is_empty(), "nobody wants them any more");
}

#[test]
fn rules_have_networks_ports_and_counters_above_zero() {
    let mut site = Site::new();
    site.datagram(5000);
    let mapping = PortMapping {
        id: MappingId(1),
        protocol: IpProtocol::TCP,
        external: None,
        ports: 80..=80,
        zone: Zone(1),
        target: IpAddr::V4(INSIDE),
        target_port: 8080,
    };
    assert_eq!(site.nat.publish(mapping.clone()), Ok(()));
    let mut stray = Packet::udp_ports(OUTSIDE, EXTERNAL, 9, 9).bytes();
    assert!(matches!(site.take(Zone::OUTSIDE, &mut stray), Verdict::Drop(_)));
    let view = site.table().view();
    assert_eq!(view.addresses, [IpAddr::V4(EXTERNAL)]);
    assert_eq!((view.connections, view.networks[0].connections), (1, 1));
    assert_eq!(view.networks[0].network, Some(fixtures::id(1)));
    assert_eq!((&view.ports[0].mapping, view.ports[0].hits), (&mapping, 0));
    assert_eq!(view.drops, [("unsolicited", 1)]);
    assert_eq!(view.other, [("forwarded", 1), ("created", 1)]);
}

/// One network behind one address.
struct Site {
    nat: Nat,
    networks: Vec<NetworkId>,
    now: Instant,
}

impl Site {
    fn new() -> Self {
        let now = Clock::new().now();
        let mut nat = Nat::new(now, Config::standard(7));
        let network = Network {
            zone: Zone(1),
            prefixes: vec!["10.0.0.0/24".parse().expect("a prefix")],
            gateways: vec![[10, 0, 0, 1].into()],
            mtu: 1500,
            egress: Egress::Masquerade(Vec::new()),
            filtering: None,
        };
        assert_eq!(nat.add_network(network), Ok(()));
        let outside = Outside {
            addresses: vec![IpAddr::V4(EXTERNAL)],
            prefixes: Vec::new(),
            mtu: 1500,
        };
        nat.set_outside(now, outside);
        Self {
            nat,
            networks: vec![fixtures::id(1)],
            now,
        }
    }

    fn table(&mut self) -> Table<'_> {
        Table {
            kind: TableKind::Uplink,
            nat: &mut self.nat,
            networks: &self.networks,
            heard: None,
        }
    }

    fn tables(&mut self) -> [Option<Table<'_>>; TABLES] {
        [Some(self.table()), None]
    }

    /// Has the host inside send a datagram.
    fn datagram(&mut self, port: u16) {
        let mut packet = Packet::udp_ports(INSIDE, OUTSIDE, port, 53).bytes();
        assert_eq!(self.take(Zone(1), &mut packet), Verdict::Forward(Zone::OUTSIDE));
    }

    fn take(&mut self, from: Zone, packet: &mut [u8]) -> Verdict {
        self.nat
            .handle_packet(self.now, from, packet, &Offload::NONE, &mut Nowhere)
    }
}

struct Nowhere;

impl Output for Nowhere {
    fn send(&mut self, _: Zone, _: &mut [u8], _: Offload) {}
}

const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
