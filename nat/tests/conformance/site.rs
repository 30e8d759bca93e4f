//! The reference's topology: hosts A, B, C inside, one external address X, hosts S, S3, S4 outside; and the same with IPv6. One
//! virtual clock.
//!
//! Whatever a test sends, the fixture checks what must hold of every packet: none leaves untranslated (N-INV-1), none leaves with
//! a wrong checksum, and each moves exactly one counter.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use vswitch_nat::{
    Config, ConnView, DropReason, Egress, Event, MappingId, Nat, Network, Output, Outside, PortMapping,
    Tuple, Verdict, Zone, packet_len,
};
use vswitch_testkit::Clock;
use vswitch_wire::{IpProtocol, Offload};

use crate::packets::{self, End, ICMP, ICMPV6, TCP, UDP};

/// The inside network of most tests.
pub(crate) const INSIDE: Zone = Zone(1);
/// Another inside network.
pub(crate) const OTHER: Zone = Zone(2);
pub(crate) const OUTSIDE: Zone = Zone::OUTSIDE;

pub(crate) const GATEWAY: IpAddr = ip4(10, 0, 0, 1);
pub(crate) const A: IpAddr = ip4(10, 0, 0, 2);
pub(crate) const B: IpAddr = ip4(10, 0, 0, 3);
pub(crate) const C: IpAddr = ip4(10, 0, 0, 4);
pub(crate) const X: IpAddr = ip4(198, 51, 100, 1);
/// A second external address, where a test has one.
pub(crate) const X2: IpAddr = ip4(198, 51, 100, 11);
pub(crate) const S: IpAddr = ip4(198, 51, 100, 2);
pub(crate) const S3: IpAddr = ip4(198, 51, 100, 3);
pub(crate) const S4: IpAddr = ip4(198, 51, 100, 4);

pub(crate) const GATEWAY6: IpAddr = ip6(0xa, 1);
pub(crate) const A6: IpAddr = ip6(0xa, 2);
pub(crate) const B6: IpAddr = ip6(0xa, 3);
pub(crate) const X6: IpAddr = ip6(0xb, 1);
pub(crate) const S6: IpAddr = ip6(0xb, 2);
pub(crate) const R6: IpAddr = ip6(0xb, 3);

/// An engine under test.
pub(crate) struct Site {
    pub(crate) clock: Clock,
    pub(crate) nat: Nat,
    /// Networks whose hosts may be seen outside.
    shown: Vec<Zone>,
    sent: Sent,
}

/// What came of a packet.
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// As it now is, without padding.
    pub(crate) bytes: Vec<u8>,
    /// What the engine sent by itself meanwhile.
    pub(crate) sent: Vec<(Zone, Vec<u8>)>,
}

#[derive(Default)]
struct Sent(Vec<(Zone, Vec<u8>)>);

impl Output for Sent {
    fn send(&mut self, to: Zone, packet: &mut [u8], offload: Offload) {
        assert!(offload.is_none(), "everything is complete: {offload:?}");
        self.0.push((to, packet.to_vec()));
    }
}

impl Site {
    /// With the standard configuration.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With a changed configuration.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::of(changed(Config::standard(SEED), change))
    }

    /// As close to Linux as rule 1 allows.
    pub(crate) fn linux() -> Self {
        Self::linux_with(|_| {})
    }

    pub(crate) fn linux_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::of(changed(Config::linux(SEED), change))
    }

    pub(crate) fn rfc() -> Self {
        Self::rfc_with(|_| {})
    }

    pub(crate) fn rfc_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::of(changed(Config::rfc(SEED), change))
    }

    fn of(config: Config) -> Self {
        let mut site = Self::bare(config);
        site.add(network(INSIDE));
        site
    }

    /// Without networks.
    pub(crate) fn bare(config: Config) -> Self {
        let clock = Clock::new();
        let mut nat = Nat::new(clock.now(), config);
        nat.set_outside(clock.now(), outside());
        Self {
            clock,
            nat,
            shown: Vec::new(),
            sent: Sent::default(),
        }
    }

    /// Adds a network.
    pub(crate) fn add(&mut self, network: Network) {
        if matches!(network.egress, Egress::Routed { .. }) {
            self.shown.push(network.zone);
        }
        self.nat.add_network(network).expect("a new network");
    }

    /// With the only network changed.
    pub(crate) fn with_network(change: impl FnOnce(&mut Network)) -> Self {
        Self::with_both(|_| {}, change)
    }

    pub(crate) fn with_both(config: impl FnOnce(&mut Config), network: impl FnOnce(&mut Network)) -> Self {
        let mut site = Self::bare(changed(Config::standard(SEED), config));
        let mut own = self::network(INSIDE);
        network(&mut own);
        site.add(own);
        site
    }

    /// Publishes ports of all external addresses; the mapping's name is its first port.
    pub(crate) fn publish(&mut self, protocol: u8, port: u16, target: End) -> MappingId {
        let id = MappingId(port.into());
        self.nat
            .publish(mapping(id, protocol, port, target))
            .expect("a valid mapping");
        id
    }

    /// Puts a packet in, as it comes from a zone.
    pub(crate) fn put(&mut self, zone: Zone, packet: &[u8]) -> Outcome {
        self.put_offloaded(zone, packet, &Offload::NONE)
    }

    pub(crate) fn put_offloaded(&mut self, zone: Zone, packet: &[u8], offload: &Offload) -> Outcome {
        let mut bytes = packet.to_vec();
        let before = self.counted();
        let verdict = self
            .nat
            .handle_packet(self.clock.now(), zone, &mut bytes, offload, &mut self.sent);
        let moved = self.counted() - before;
        match verdict {
            Verdict::Consumed => assert!(moved <= 1, "{verdict:?} counted {moved} times"),
            _ => assert_eq!(moved, 1, "{verdict:?} is counted once"),
        }
        bytes.truncate(packet_len(&bytes));
        let sent = std::mem::take(&mut self.sent.0);
        for (to, packet) in &sent {
            self.check_leaving(*to, packet);
            packets::assert_sound(packet);
        }
        match verdict {
            Verdict::Forward(to) => {
                self.check_leaving(to, &bytes);
                if offload.is_none() && !offload.data_valid {
                    packets::assert_sound(&bytes);
                }
            }
            Verdict::Local => assert_eq!(bytes, packet[..bytes.len()], "it is as it was"),
            Verdict::Consumed | Verdict::Drop(_) => {}
        }
        Outcome { verdict, bytes, sent }
    }

    /// Puts a packet in whose transport checksum somebody vouches for, without a look at what comes of it: one of very many.
    pub(crate) fn put_vouched(&mut self, zone: Zone, packet: &mut [u8]) {
        let vouched = Offload {
            data_valid: true,
            ..Offload::NONE
        };
        let now = self.clock.now();
        let _ = self
            .nat
            .handle_packet(now, zone, packet, &vouched, &mut self.sent);
        self.sent.0.clear();
    }

    /// N-INV-1: nothing outside ever has an inside source.
    fn check_leaving(&self, to: Zone, packet: &[u8]) {
        if !to.is_outside() {
            return;
        }
        let src = packets::src(packet);
        let mut networks = self.nat.networks();
        let leak = networks.find(|network| {
            network.prefixes.iter().any(|prefix| prefix.contains(&src)) && !self.shown.contains(&network.zone)
        });
        assert!(leak.is_none(), "left with an inside source: {}", brief(packet));
    }

    fn counted(&self) -> u64 {
        let counters = self.nat.counters();
        let drops: u64 = DropReason::ALL
            .iter()
            .map(|&reason| counters.dropped(reason))
            .sum();
        drops + counters.forwarded + counters.local
    }

    /// Sends from a zone; the packet that leaves into `to`, and nothing else.
    pub(crate) fn pass(&mut self, zone: Zone, to: Zone, packet: &[u8]) -> Vec<u8> {
        let Outcome { verdict, bytes, sent } = self.put(zone, packet);
        assert_eq!(verdict, Verdict::Forward(to), "{}", brief(packet));
        assert!(sent.is_empty(), "also sent {sent:02x?}");
        bytes
    }

    /// From inside to outside.
    pub(crate) fn out(&mut self, packet: &[u8]) -> Vec<u8> {
        self.pass(INSIDE, OUTSIDE, packet)
    }

    /// From outside to inside.
    pub(crate) fn back(&mut self, packet: &[u8]) -> Vec<u8> {
        self.pass(OUTSIDE, INSIDE, packet)
    }

    /// From inside to inside.
    pub(crate) fn turn(&mut self, packet: &[u8]) -> Vec<u8> {
        self.pass(INSIDE, INSIDE, packet)
    }

    /// What is dropped, with nothing said about it and no connection begun, and why.
    pub(crate) fn refused(&mut self, zone: Zone, packet: &[u8]) -> DropReason {
        let created = self.nat.counters().created;
        let Outcome { verdict, sent, .. } = self.put(zone, packet);
        assert!(sent.is_empty(), "said {sent:02x?}");
        assert_eq!(
            self.nat.counters().created,
            created,
            "a refused packet begins nothing"
        );
        match verdict {
            Verdict::Drop(reason) => reason,
            other => panic!("{other:?} of {}", brief(packet)),
        }
    }

    /// What is dropped with an error to its sender: why, and the error.
    pub(crate) fn refused_aloud(&mut self, zone: Zone, packet: &[u8]) -> (DropReason, Vec<u8>) {
        let Outcome {
            verdict, mut sent, ..
        } = self.put(zone, packet);
        let Verdict::Drop(reason) = verdict else {
            panic!("{verdict:?} of {}", brief(packet));
        };
        assert_eq!(sent.len(), 1, "one error: {sent:02x?}");
        let (to, error) = sent.remove(0);
        assert_eq!(to, zone, "an error goes where the packet came from");
        (reason, error)
    }

    /// Sends UDP from inside and gives the external end.
    pub(crate) fn external(&mut self, from: End, to: End) -> End {
        packets::ends(&self.out(&packets::udp(from, to))).0
    }

    /// Lets time pass without calling the engine.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    /// Lets time pass, with the engine's timers.
    pub(crate) fn settle(&mut self, by: Duration) {
        let end = self.clock.now() + by;
        while let Some(due) = self.nat.poll_timeout().filter(|&due| due <= end) {
            let wait = due.saturating_duration_since(self.clock.now());
            let now = self.clock.advance(wait);
            self.nat.handle_timeout(now);
        }
        let rest = end.saturating_duration_since(self.clock.now());
        self.clock.advance(rest);
    }

    /// Every living connection.
    pub(crate) fn conns(&self) -> Vec<ConnView> {
        self.nat.connections(self.clock.now()).collect()
    }

    /// The only one.
    pub(crate) fn only(&self) -> ConnView {
        let mut conns = self.conns();
        assert_eq!(conns.len(), 1, "{conns:?}");
        conns.remove(0)
    }

    /// The connection that a host began.
    pub(crate) fn conn(&self, zone: Zone, protocol: u8, from: End, to: End) -> Option<ConnView> {
        let tuple = tuple(zone, protocol, from, to);
        let found = self.nat.connection(self.clock.now(), &tuple)?;
        Some(found)
    }

    /// State and seconds that remain of the only connection, rounded up.
    pub(crate) fn state(&self) -> (&'static str, u64) {
        let conn = self.only();
        (conn.state.unwrap_or("-"), seconds(conn.remaining))
    }

    /// Seconds that remain of the only connection.
    pub(crate) fn remaining(&self) -> u64 {
        self.state().1
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.nat.counters().dropped(reason)
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.nat.poll_event()).collect()
    }

    /// `from` opens a connection of TCP to `to`, both outside of translation's way: sequence numbers 1000 and 5000 as in the
    /// reference. Gives the external end.
    pub(crate) fn connect(&mut self, from: End, to: End) -> End {
        let syn = self.out(&packets::tcp(from, to, packets::SYN, 1000, 0));
        let external = packets::ends(&syn).0;
        self.back(&packets::tcp(
            to,
            external,
            packets::SYN | packets::ACK,
            5000,
            1001,
        ));
        self.out(&packets::tcp(from, to, packets::ACK, 1001, 5001));
        external
    }
}

/// The reference's inside network, with a number.
pub(crate) fn network(zone: Zone) -> Network {
    Network {
        zone,
        prefixes: ["10.0.0.0/24", "2001:db8:a::/64"].map(prefix).into(),
        gateways: vec![GATEWAY, GATEWAY6],
        mtu: 1500,
        egress: Egress::Masquerade(Vec::new()),
        filtering: None,
    }
}

/// The reference's outside.
pub(crate) fn outside() -> Outside {
    Outside {
        addresses: vec![X, X6],
        prefixes: ["198.51.100.0/24", "2001:db8:b::/64"].map(prefix).into(),
        mtu: 1500,
    }
}

/// One published port of all external addresses.
pub(crate) fn mapping(id: MappingId, protocol: u8, port: u16, target: End) -> PortMapping {
    PortMapping {
        id,
        protocol: IpProtocol(protocol),
        external: None,
        ports: port..=port,
        zone: INSIDE,
        target: target.0,
        target_port: target.1,
    }
}

/// As the table has it: a query's identifier is the port of who asks.
pub(crate) fn tuple(zone: Zone, protocol: u8, from: End, to: End) -> Tuple {
    Tuple {
        src: from.0.into(),
        dst: to.0.into(),
        src_port: from.1,
        dst_port: to.1,
        zone,
        protocol,
        query: match protocol {
            ICMP => 8,
            ICMPV6 => 128,
            TCP | UDP => 0,
            _ => 0,
        },
    }
}

pub(crate) fn prefix(text: &str) -> ipnet::IpNet {
    text.parse().expect("a prefix")
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The headers, for a message.
fn brief(packet: &[u8]) -> String {
    format!("{:02x?}", &packet[..packet.len().min(64)])
}

/// Rounded up.
pub(crate) fn seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000) as u64
}

/// Host number `n` of many inside: 10.0.0.5 and on, up to 250.
pub(crate) fn host(n: u8) -> IpAddr {
    ip4(10, 0, 0, 5 + n)
}

fn changed(mut config: Config, change: impl FnOnce(&mut Config)) -> Config {
    // Small tables are made faster; what is about limits sets its own.
    config.limits.connections = 16_384;
    change(&mut config);
    config
}

const fn ip4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// `2001:db8:net::host`.
const fn ip6(net: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host))
}

const SEED: u64 = 0x5eed;
