//! Random sequences of operations against a model that is too simple to be wrong: a map of stations.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;
use vswitch_switch::{Eviction, FlapLimits, FlushScope, LinkState, PortConfig};
use vswitch_wire::MacAddr;

use crate::scenario::*;

const PORTS: usize = 4;
const AGEING: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
enum Operation {
    Advance(u64),
    Flush(Option<usize>),
    Frame { port: usize, src: u32, dst: u32 },
    LinkFlap(usize),
    Pin { port: usize, mac: u32 },
    Sweep,
    Unpin { port: usize, mac: u32 },
}

fn operation(stations: u32) -> impl Strategy<Value = Operation> {
    let port = 1..=PORTS;
    prop_oneof![
        20 => (port.clone(), 0..stations, 0..stations)
            .prop_map(|(port, src, dst)| Operation::Frame { port, src, dst }),
        5 => (1..4000_u64).prop_map(Operation::Advance),
        1 => proptest::option::of(port.clone()).prop_map(Operation::Flush),
        1 => port.clone().prop_map(Operation::LinkFlap),
        1 => (port.clone(), 0..stations).prop_map(|(port, mac)| Operation::Pin { port, mac }),
        1 => (port, 0..stations).prop_map(|(port, mac)| Operation::Unpin { port, mac }),
        2 => Just(Operation::Sweep),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    port: usize,
    /// Time of last use as a source, and the number of that use; `None` if static.
    used: Option<(Duration, u64)>,
}

struct Model {
    stations: HashMap<MacAddr, Known>,
    table_limit: usize,
    port_limit: usize,
    eviction: Eviction,
    uses: u64,
}

impl Model {
    fn forget_expired(&mut self, now: Duration) {
        self.stations
            .retain(|_, known| known.used.is_none_or(|(at, _)| now - at < AGEING));
    }

    fn held_by(&self, port: usize) -> usize {
        self.stations
            .values()
            .filter(|known| known.used.is_some() && known.port == port)
            .count()
    }

    fn least_recent(&self, port: usize) -> Option<MacAddr> {
        let used = |known: &Known| {
            known
                .used
                .filter(|_| known.port == port)
                .map(|(_, number)| number)
        };
        self.stations
            .iter()
            .filter_map(|(&mac, known)| Some((used(known)?, mac)))
            .min()
            .map(|(_, mac)| mac)
    }

    /// Learns; `gone` is the station that the switch evicted meanwhile, which must be a fair choice.
    fn learn(&mut self, mac: MacAddr, port: usize, now: Duration, gone: Option<MacAddr>) {
        self.uses += 1;
        let used = Some((now, self.uses));
        let mut victims: Vec<Option<MacAddr>> = vec![None];
        match self.stations.get(&mac).copied() {
            Some(Known { used: None, .. }) => {}
            Some(known) => {
                if known.port != port && self.held_by(port) >= self.port_limit {
                    victims = vec![self.least_recent(port)];
                }
                self.stations.insert(mac, Known { port, used });
            }
            None => {
                let dynamic = self
                    .stations
                    .values()
                    .filter(|known| known.used.is_some())
                    .count();
                if self.held_by(port) >= self.port_limit {
                    // Refused.
                } else if dynamic < self.table_limit {
                    self.stations.insert(mac, Known { port, used });
                } else if self.eviction == Eviction::Evict {
                    let most = (1..=PORTS).map(|port| self.held_by(port)).max().unwrap_or(0);
                    let fullest = (1..=PORTS).filter(|&port| self.held_by(port) == most);
                    victims = if self.held_by(port) == most {
                        vec![self.least_recent(port)]
                    } else {
                        fullest.map(|port| self.least_recent(port)).collect()
                    };
                    self.stations.insert(mac, Known { port, used });
                }
            }
        }
        assert!(victims.contains(&gone), "evicted {gone:?}, fair were {victims:?}");
        if let Some(gone) = gone {
            self.stations.remove(&gone);
        }
    }

    fn table(&self) -> Vec<(u16, MacAddr, usize)> {
        let mut table: Vec<_> = self
            .stations
            .iter()
            .map(|(&mac, known)| (0, mac, known.port))
            .collect();
        table.sort();
        table
    }
}

fn run(operations: Vec<Operation>, table_limit: usize, port_limit: usize, eviction: Eviction) {
    let port = PortConfig {
        fdb_limit: Some(port_limit),
        ..PortConfig::uplink()
    };
    let mut net = Scenario::with_ports(
        |config| {
            config.ageing = AGEING;
            config.fdb_limit = table_limit;
            config.eviction = eviction;
            config.flap = FlapLimits {
                moves: u16::MAX - 1,
                ..FlapLimits::default()
            };
        },
        vec![port; PORTS],
    );
    let mut model = Model {
        stations: HashMap::new(),
        table_limit,
        port_limit,
        eviction,
        uses: 0,
    };
    for operation in operations {
        let now = net.clock.elapsed();
        model.forget_expired(now);
        match operation {
            Operation::Advance(by) => {
                net.advance(millis(by));
                model.forget_expired(net.clock.elapsed());
            }
            Operation::Flush(None) => {
                net.switch.flush(FlushScope::All);
                model.stations.retain(|_, known| known.used.is_none());
            }
            Operation::Flush(Some(port)) => {
                net.switch.flush(FlushScope::Port(net.id(port)));
                model
                    .stations
                    .retain(|_, known| known.used.is_none() || known.port != port);
            }
            Operation::LinkFlap(port) => {
                for link in [LinkState::Down, LinkState::Up] {
                    net.switch
                        .set_link(net.clock.now(), net.id(port), link)
                        .expect("it is there");
                }
                model
                    .stations
                    .retain(|_, known| known.used.is_none() || known.port != port);
            }
            Operation::Pin { port, mac } => {
                let is_free = model
                    .stations
                    .get(&station(mac))
                    .is_none_or(|known| known.used.is_some());
                assert_eq!(net.switch.pin(net.id(port), None, station(mac)).is_ok(), is_free);
                if is_free {
                    model.stations.insert(station(mac), Known { port, used: None });
                }
            }
            Operation::Unpin { port, mac } => {
                let is_there = model.stations.get(&station(mac)) == Some(&Known { port, used: None });
                assert_eq!(net.switch.unpin(net.id(port), None, station(mac)), is_there);
                if is_there {
                    model.stations.remove(&station(mac));
                }
            }
            Operation::Sweep => net.switch.handle_timeout(net.clock.now()),
            Operation::Frame { port, src, dst } => {
                // Uses within one instant have no order.
                net.advance(Duration::from_nanos(1));
                let now = net.clock.elapsed();
                model.forget_expired(now);
                let (src, dst) = (station(src), station(dst));
                let before = model.table();
                let is_pinned_elsewhere = model
                    .stations
                    .get(&src)
                    .is_some_and(|known| known.used.is_none() && known.port != port);
                let verdict = net.put(port, &frame(src, dst).bytes());
                let out: Vec<_> = net.switch.egress().iter().map(|egress| egress.port).collect();
                let after = net.table();
                let gone = before
                    .iter()
                    .map(|&(_, mac, _)| mac)
                    .find(|mac| !after.iter().any(|(_, other, _)| other == mac));
                model.learn(src, port, now, gone);
                let all_others = || (1..=PORTS).filter(|&other| other != port).collect();
                let expected = match model.stations.get(&dst) {
                    _ if is_pinned_elsewhere => vec![],
                    Some(known) if known.port == port => vec![],
                    Some(known) => vec![known.port],
                    None => all_others(),
                };
                let expected: Vec<_> = expected.into_iter().map(|port| net.id(port)).collect();
                assert_eq!(out, expected, "{src} to {dst} from p{port}: {verdict:?}");
            }
        }
        assert_eq!(net.table(), model.table());
        let dynamic: usize = (1..=PORTS).map(|port| net.switch.learned_on(net.id(port))).sum();
        assert_eq!(net.switch.learned_len(), dynamic);
        assert!(dynamic <= table_limit);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_switch_knows_what_the_model_knows(
        operations in prop::collection::vec(operation(16), 1..200),
        table_limit in 1..20_usize,
        port_limit in 1..10_usize,
        evict in any::<bool>(),
    ) {
        let eviction = if evict { Eviction::Evict } else { Eviction::Refuse };
        run(operations, table_limit, port_limit, eviction);
    }
}
