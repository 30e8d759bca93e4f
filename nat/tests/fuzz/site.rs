//! Engines to fuzz: two networks with the same addresses, a routed one, one with a prefix translation; and what their owner does.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use vswitch_nat::{
    Config, Egress, Eviction, Filtering, HairpinSource, Limits, Mapping, MappingId, Nat, Network, Outside,
    PortChoice, PortMapping, PrefixPair, SavedConn, Timeouts, Timer, Unsolicited, Zone,
};
use vswitch_wire::IpProtocol;

use super::random::Random;

/// An engine with what its owner has told it, so that another can go on.
pub(crate) struct Site {
    pub(crate) nat: Nat,
    pub(crate) config: Config,
    outside: Outside,
    /// Ports that are the host's.
    reserved: Vec<(IpProtocol, u16)>,
}

impl Site {
    /// One of many configurations: by turns all profiles in both mapping modes, and the rest at random.
    pub(crate) fn new(random: &mut Random, now: Instant, turn: u64) -> Self {
        let config = config(random, turn);
        let mut site = Self {
            nat: Nat::new(now, config.clone()),
            config,
            outside: outside(random),
            reserved: Vec::new(),
        };
        site.nat.set_outside(now, site.outside.clone());
        for number in 1..=4 {
            let _ = site.nat.add_network(network(random, number));
        }
        for _ in 0..6 {
            site.publish(random);
        }
        site.nat.set_events(random.once_in(2));
        site
    }

    /// Something that an owner does. How many connections a restart has taken and refused, if it was one.
    pub(crate) fn command(&mut self, random: &mut Random, now: Instant) -> Option<(u64, u64)> {
        let zone = Zone(1 + random.below(5) as u16);
        match random.below(66) {
            0..=19 => self.publish(random),
            20..=31 => {
                self.nat.unpublish(now, MappingId(random.below(8)));
            }
            32..=34 => {
                self.nat.withdraw(MappingId(random.below(8)));
            }
            35..=38 => {
                let hosts = HOSTS[random.index(4)][random.index(2)];
                let host = random.pick(hosts);
                self.nat.flush_host(now, zone, host);
            }
            39 => {
                self.nat.flush(now);
                assert_eq!(self.nat.connection_count(), 0, "nothing is left after a flush");
            }
            40 | 41 => self.nat.remove_network(now, zone),
            42..=47 => {
                let _ = self
                    .nat
                    .add_network(network(random, random.clone().below(5) as u16 + 1));
            }
            48..=50 => {
                self.outside = outside(random);
                self.nat.set_outside(now, self.outside.clone());
            }
            51..=53 => {
                let mut timeouts = self.config.timeouts.clone();
                if random.once_in(2) {
                    let (timer, _) = random.pick(Timer::ALL);
                    timeouts.set(timer, random.pick(&[0, 1, 30, 600, u32::MAX]));
                }
                self.nat.set_timeouts(timeouts);
            }
            54..=56 => {
                let kept = (
                    random.pick(&[IpProtocol::TCP, IpProtocol::UDP]),
                    random.pick(PORTS),
                );
                self.reserved.push(kept);
                self.nat.reserve(kept.0, kept.1..=kept.1);
            }
            57..=59 => {
                if let Some((protocol, port)) = self.reserved.pop() {
                    self.nat.release(protocol, port..=port);
                }
            }
            60 => {
                let listed: Vec<_> = self.nat.connections(now).take(3).collect();
                for view in listed {
                    assert!(self.nat.remove(now, &view.reply), "{view:?} is there");
                }
            }
            61 => self.nat.set_events(random.once_in(2)),
            62 => self
                .nat
                .pick_up_until(now + std::time::Duration::from_millis(random.below(500))),
            _ => return Some(self.restart(now)),
        }
        None
    }

    /// Gives way to another engine that goes on with the connections.
    fn restart(&mut self, now: Instant) -> (u64, u64) {
        let saved: Vec<Vec<u8>> = self.nat.export(now).map(|conn| conn.to_bytes()).collect();
        let mut after = Nat::new(now, self.config.clone());
        after.set_outside(now, self.outside.clone());
        for network in self.nat.networks() {
            after
                .add_network(network.clone())
                .expect("it was accepted before");
        }
        for mapping in self.nat.mappings() {
            after.publish(mapping.clone()).expect("it was accepted before");
        }
        for (protocol, port) in &self.reserved {
            after.reserve(*protocol, *port..=*port);
        }
        let conns = saved
            .iter()
            .map(|bytes| SavedConn::from_bytes(bytes).expect("what was written"));
        let imported = after.import(now, conns);
        assert_eq!(imported.taken + imported.refused, saved.len());
        assert_eq!(after.connection_count(), imported.taken);
        for view in after.connections(now) {
            let before = self.nat.connection(now, &view.original);
            // Of what came by a withdrawn port, that is forgotten.
            let before = before.expect("it was there");
            assert_eq!((before.reply, before.traffic), (view.reply, view.traffic));
            assert_eq!((before.state, before.remaining), (view.state, view.remaining));
        }
        self.nat = after;
        (imported.taken as u64, imported.refused as u64)
    }

    fn publish(&mut self, random: &mut Random) {
        let version = random.index(2);
        let zone = random.index(4);
        let first = random.pick(PORTS);
        let target = match random.once_in(12) {
            true => EXTERNAL[version][0],
            false => random.pick(HOSTS[zone][version]),
        };
        let _ = self.nat.publish(PortMapping {
            id: MappingId(random.below(8)),
            protocol: random.pick(&[IpProtocol::TCP, IpProtocol::UDP, IpProtocol::SCTP]),
            external: random.once_in(3).then_some(EXTERNAL[version][0]),
            ports: first..=first.saturating_add(random.below(3) as u16),
            zone: Zone(zone as u16 + 1),
            target,
            target_port: random.pick(PORTS),
        });
    }
}

fn config(random: &mut Random, turn: u64) -> Config {
    let seed = random.number();
    let mut config = match turn % 3 {
        0 => Config::standard(seed),
        1 => Config::rfc(seed),
        _ => Config::linux(seed),
    };
    config.mapping = match turn / 3 % 2 {
        0 => Mapping::EndpointIndependent,
        _ => Mapping::Overlapping,
    };
    config.filtering = random.pick(&[
        Filtering::Address,
        Filtering::AddressAndPort,
        Filtering::EndpointIndependent,
    ]);
    config.port_choice = match config.mapping {
        Mapping::EndpointIndependent => random.pick(&[PortChoice::Preserve, PortChoice::Random]),
        Mapping::Overlapping => random.pick(&[
            PortChoice::FullyRandom,
            PortChoice::Preserve,
            PortChoice::Preserve,
            PortChoice::Random,
        ]),
    };
    if random.once_in(3) {
        config.ports = 50_000..=50_000 + random.pick(&[1, 15, 63, 700]);
    }
    config.hairpin = random.pick(&[HairpinSource::External, HairpinSource::Gateway]);
    config.unsolicited = random.pick(&[Unsolicited::PortUnreachable, Unsolicited::Silent]);
    config.eviction = random.pick(&[Eviction::Never, Eviction::Offender, config.eviction]);
    config.tcp.loose = random.once_in(4);
    config.tcp.liberal = random.once_in(8);
    let (connections, per_zone, per_host) =
        random.pick(&[(60, 30, 12), (200, 150, 60), (1000, 800, 300), (1000, 1000, 1000)]);
    config.limits = Limits {
        connections,
        per_zone,
        per_host,
        rate_per_host: random.pick(&[20, 200, 10_000]),
    };
    if random.once_in(2) {
        config.fragments.zone_bytes = 20_000;
        config.fragments.total_bytes = 50_000;
        config.fragments.pieces = 8;
        config.fragments.per_source = 4;
    }
    config.timeouts = Timeouts::clone(&config.timeouts);
    config
}

fn outside(random: &mut Random) -> Outside {
    let [v4, v6] = EXTERNAL;
    let addresses = match random.below(8) {
        0 => vec![v4[0]],
        1 => vec![v6[0]],
        2 => vec![v4[1], v6[0]],
        3..=5 => vec![v4[0], v4[1], v6[0]],
        _ => vec![v4[0], v6[0]],
    };
    Outside {
        addresses,
        prefixes: ["198.51.100.0/24", "2001:db8:b::/64"]
            .map(|prefix| prefix.parse().expect("a prefix"))
            .into(),
        mtu: random.pick(&[0, 1500, 1400, 1280, 9000]),
    }
}

fn network(random: &mut Random, number: u16) -> Network {
    let (prefixes, egress) = match number {
        1 => (["10.0.0.0/24", "2001:db8:a::/64"], Egress::Masquerade(Vec::new())),
        2 => (
            ["10.0.0.0/24", "2001:db8:a::/64"],
            Egress::Masquerade(EXTERNAL.map(|addresses| addresses[0]).into()),
        ),
        3 => (
            ["203.0.113.0/24", "2001:db8:c::/64"],
            Egress::Routed {
                open: random.once_in(2),
            },
        ),
        _ => (["10.4.0.0/24", "fd01:203:405::/48"], Egress::Prefix(pair())),
    };
    let version = |index: usize| HOSTS[usize::from(number.min(4)) - 1][index][0];
    let gateways = [0, 1].map(|index| match version(index) {
        IpAddr::V4(host) => IpAddr::from(Ipv4Addr::from_bits(host.to_bits() & !0xff | 1)),
        IpAddr::V6(host) => IpAddr::from(Ipv6Addr::from_bits(host.to_bits() & !0xffff | 1)),
    });
    Network {
        zone: Zone(number),
        prefixes: prefixes.map(|prefix| prefix.parse().expect("a prefix")).into(),
        gateways: gateways.into(),
        mtu: random.pick(&[1500, 1500, 1400, 9000]),
        egress,
        filtering: random.pick(&[None, None, Some(Filtering::EndpointIndependent)]),
    }
}

/// RFC 6296's example.
fn pair() -> PrefixPair {
    let [inside, outside] = ["fd01:203:405::/48", PREFIX].map(|prefix| prefix.parse().expect("a prefix"));
    PrefixPair::new(inside, outside).expect("equally long")
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16, c: u16, d: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, last))
}

/// What the prefix of the fourth network becomes.
const PREFIX: &str = "2001:db8:1::/48";

/// Of each network, by version.
pub(crate) static HOSTS: [[&[IpAddr]; 2]; 4] = [
    [
        &[v4(10, 0, 0, 2), v4(10, 0, 0, 3), v4(10, 0, 0, 4), v4(10, 0, 0, 5)],
        &[v6(0x2001, 0xdb8, 0xa, 0, 2), v6(0x2001, 0xdb8, 0xa, 0, 3)],
    ],
    [
        &[v4(10, 0, 0, 2), v4(10, 0, 0, 3)],
        &[v6(0x2001, 0xdb8, 0xa, 0, 2), v6(0x2001, 0xdb8, 0xa, 0, 3)],
    ],
    [
        &[v4(203, 0, 113, 2), v4(203, 0, 113, 3)],
        &[v6(0x2001, 0xdb8, 0xc, 0, 2)],
    ],
    [
        &[v4(10, 4, 0, 2)],
        &[
            v6(0xfd01, 0x203, 0x405, 1, 0x1234),
            v6(0xfd01, 0x203, 0x405, 2, 5),
        ],
    ],
];

/// Outside, by version.
pub(crate) static SERVERS: [&[IpAddr]; 2] = [
    &[
        v4(198, 51, 100, 2),
        v4(198, 51, 100, 3),
        v4(198, 51, 100, 4),
        v4(192, 0, 2, 77),
    ],
    &[v6(0x2001, 0xdb8, 0xb, 0, 2), v6(0x2001, 0xdb8, 0xb, 0, 3)],
];

/// The engine's own outside, by version.
pub(crate) static EXTERNAL: [&[IpAddr]; 2] = [
    &[v4(198, 51, 100, 1), v4(198, 51, 100, 11)],
    &[v6(0x2001, 0xdb8, 0xb, 0, 1)],
];

/// Gateways, and addresses that should go nowhere.
pub(crate) static SPECIAL: [&[IpAddr]; 2] = [
    &[
        v4(10, 0, 0, 1),
        v4(10, 4, 0, 1),
        v4(203, 0, 113, 1),
        v4(10, 0, 0, 255),
        v4(198, 51, 100, 255),
        v4(127, 0, 0, 1),
        v4(0, 0, 0, 0),
        v4(224, 0, 0, 1),
        v4(255, 255, 255, 255),
        v4(169, 254, 1, 1),
        v4(240, 0, 0, 1),
    ],
    &[
        v6(0x2001, 0xdb8, 0xa, 0, 1),
        v6(0x2001, 0xdb8, 0xc, 0, 1),
        v6(0xfe80, 0, 0, 0, 1),
        v6(0xff02, 0, 0, 0, 1),
        v6(0, 0, 0, 0, 0),
        v6(0, 0, 0, 0, 1),
        v6(0x2001, 0xdb8, 1, 0xd550, 0x1234),
    ],
];

/// Few enough that flows meet; some that are published, some of each class.
pub(crate) static PORTS: &[u16] = &[
    53, 80, 123, 300, 700, 4789, 5000, 5001, 5002, 5003, 8080, 8081, 50_000, 50_001, 65_535,
];
