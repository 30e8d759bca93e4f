//! What the engine as a whole makes of it.

use std::time::Instant;

use vswitch_testkit::Clock;
use vswitch_wire::{Ipv4Packet, UdpDatagram, checksum};

use super::*;
use crate::{Config, Egress, Filtering, Nat, Network, Output, Outside, Verdict};

#[test]
fn n_fwd_4_a_packet_with_a_partial_checksum_is_completed_before_it_is_cut() {
    let mut engine = Engine::new();
    let [src, dst] = BOTH[0].map(address);
    let mut packet = Recipe::new(src, dst, Upper::Udp(5000, 53, vec![0x5a; 1450])).bytes();
    assert_eq!(packet.len(), 1478);
    let offload = make_partial(&mut packet);
    assert_eq!(engine.send(Zone(1), &mut packet, &offload), Verdict::Consumed);
    let sent = std::mem::take(&mut engine.out.sent);
    let lens: Vec<usize> = sent.iter().map(|(_, piece)| piece.len()).collect();
    assert_eq!(lens, [1396, 102]);
    let mut body = Vec::new();
    let mut ids = Vec::new();
    for (zone, piece) in &sent {
        let packet = Ipv4Packet::parse(piece).expect("a packet");
        assert!(packet.has_valid_checksum());
        assert_eq!((*zone, packet.header().ttl()), (Zone::OUTSIDE, 63));
        assert_eq!(IpAddr::V4(packet.header().src()), address(EXTERNAL[0]));
        ids.push(packet.header().id());
        body.extend_from_slice(packet.payload());
    }
    assert_eq!(ids[0], ids[1]);
    let header = *Ipv4Packet::parse(&sent[0].1).expect("a packet").header();
    let pseudo = checksum::pseudo_header_v4(header.src(), header.dst(), header.protocol(), body.len() as u16);
    let datagram = UdpDatagram::parse(&body).expect("a datagram");
    assert!(datagram.has_valid_checksum(pseudo));
}

#[test]
fn n_fr_1_fragments_leave_translated_with_their_sizes() {
    for (version, cuts) in [(0, [600, 1200]), (1, [600, 1200])] {
        for order in [[0, 1, 2], [2, 1, 0]] {
            let mut engine = Engine::new();
            let [src, dst] = BOTH[version].map(address);
            let whole = Recipe::new(src, dst, Upper::Udp(5000, 53, vec![7; 1500]));
            let head = [20, 40][version];
            let body = whole.bytes()[head..].to_vec();
            let places = [0, cuts[0], cuts[1], body.len()];
            let mut pieces: Vec<Vec<u8>> = places
                .windows(2)
                .map(|ends| {
                    let upper = Upper::Raw(17, body[ends[0]..ends[1]].to_vec());
                    let recipe = Recipe::new(src, dst, upper);
                    recipe.fragment(ends[0] as u16, ends[1] < body.len()).bytes()
                })
                .collect();
            let lens: Vec<usize> = pieces.iter().map(Vec::len).collect();
            for (count, index) in order.into_iter().enumerate() {
                assert!(
                    engine.out.sent.is_empty(),
                    "nothing leaves before the last of {count}"
                );
                let verdict = engine.send(Zone(1), &mut pieces[index], &Offload::NONE);
                assert_eq!(verdict, Verdict::Consumed);
            }
            let sent: Vec<usize> = engine.out.sent.iter().map(|(_, piece)| piece.len()).collect();
            assert_eq!(sent, lens);
            assert!(
                engine
                    .out
                    .sent
                    .iter()
                    .all(|(_, piece)| { parse(piece).src.ip() == address(EXTERNAL[version]) })
            );
        }
    }
}

#[test]
fn n_fr_3_an_impossible_fragment_of_ipv6_is_answered() {
    let mut engine = Engine::new();
    let [src, dst] = BOTH[1].map(address);
    let upper = Upper::Raw(17, vec![1; 13]);
    let mut bad = Recipe::new(src, dst, upper.clone()).fragment(0, true).bytes();
    let verdict = engine.send(Zone(1), &mut bad, &Offload::NONE);
    assert_eq!(verdict, Verdict::Drop(DropReason::Malformed));
    let sent = std::mem::take(&mut engine.out.sent);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].0, &sent[0].1[40..42]), (Zone(1), &[4, 0][..]));
    assert_eq!(engine.nat.counters().errors_sent, 1);
    // IPv4 hears nothing.
    let [src, dst] = BOTH[0].map(address);
    let mut bad = Recipe::new(src, dst, upper).fragment(0, true).bytes();
    let verdict = engine.send(Zone(1), &mut bad, &Offload::NONE);
    assert_eq!(verdict, Verdict::Drop(DropReason::Malformed));
    assert!(engine.out.sent.is_empty());
}

#[test]
fn n_fr_7_what_is_never_whole_is_counted() {
    let mut engine = Engine::new();
    let [src, dst] = BOTH[0].map(address);
    let mut first = Recipe::new(src, dst, Upper::Raw(17, vec![1; 16]))
        .fragment(0, true)
        .bytes();
    assert_eq!(
        engine.send(Zone(1), &mut first, &Offload::NONE),
        Verdict::Consumed
    );
    let later = engine.now + std::time::Duration::from_secs(31);
    engine.nat.handle_timeout(later);
    assert_eq!(engine.nat.counters().datagrams_expired, 1);
    assert!(engine.out.sent.is_empty());
}

/// One network and the outside, with a link of 1400 bytes there.
struct Engine {
    nat: Nat,
    out: Sent,
    now: Instant,
}

impl Engine {
    fn new() -> Self {
        let now = Clock::new().now();
        let mut nat = Nat::new(now, Config::standard(7));
        let prefixes = ["10.0.0.0/24", "2001:db8:a::/64"];
        let network = Network {
            zone: Zone(1),
            prefixes: prefixes.map(|prefix| prefix.parse().expect("a prefix")).to_vec(),
            gateways: vec![address("10.0.0.1"), address("2001:db8:a::1")],
            mtu: 1500,
            egress: Egress::Masquerade(Vec::new()),
            filtering: Some(Filtering::AddressAndPort),
        };
        assert_eq!(nat.add_network(network), Ok(()));
        let outside = Outside {
            addresses: EXTERNAL.map(address).to_vec(),
            prefixes: Vec::new(),
            mtu: 1400,
        };
        nat.set_outside(now, outside);
        Self {
            nat,
            out: Sent::default(),
            now,
        }
    }

    fn send(&mut self, zone: Zone, packet: &mut [u8], offload: &Offload) -> Verdict {
        self.nat
            .handle_packet(self.now, zone, packet, offload, &mut self.out)
    }
}

/// What the engine has sent.
#[derive(Default)]
struct Sent {
    sent: Vec<(Zone, Vec<u8>)>,
}

impl Output for Sent {
    fn send(&mut self, to: Zone, packet: &mut [u8], _: Offload) {
        self.sent.push((to, packet.to_vec()));
    }
}

const EXTERNAL: [&str; 2] = ["198.51.100.1", "2001:db8:b::1"];
