//! §7 and §10: what a container may pretend to be, which is only itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vswitch_switch::{DropReason, Guard, LinkLocal, PortConfig, StormLimits, Verdict};
use vswitch_testkit::frames::{ALL_NODES, Arp, Frame, Packet, SERVICE_VLAN, Upper, mac};

use crate::scenario::*;

const IP1: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const IP2: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SIX1: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const SIX2: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// Link-local addresses: EUI-64 of M1, one chosen at random, the gateway's.
const LL_M1: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0000, 0x00ff, 0xfe00, 0x0001);
const LL_RANDOM: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x1234, 0x5678, 0x9abc, 0xdef0);
const LL_M2: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0000, 0x00ff, 0xfe00, 0x0002);
const LL_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;

fn guard() -> Guard {
    Guard {
        forbidden: vec![LL_GATEWAY],
        ..Guard::new(M1, vec![IpAddr::V4(IP1), IpAddr::V6(SIX1)])
    }
}

/// p1 is guarded: M1, 10.0.0.1, fd00::1. The others are open.
fn guarded(guard: Guard) -> Scenario {
    let p1 = PortConfig {
        storm: StormLimits::NONE,
        ..PortConfig::container(guard)
    };
    Scenario::with_ports(
        |_| {},
        [
            p1,
            PortConfig::uplink(),
            PortConfig::uplink(),
            PortConfig::uplink(),
        ],
    )
}

fn from_m1(packet: Packet) -> Frame {
    packet.frame(M1, BC)
}

/// Each of these passes, alone and behind tags.
fn passes(cases: &[(&str, Frame)]) {
    let mut net = guarded(guard());
    for (name, frame) in cases {
        for frame in spellings(frame) {
            assert_eq!(net.out(1, &frame), [2, 3, 4], "{name}");
        }
    }
}

/// Each of these is refused for its reason, alone and behind tags, and teaches nothing.
fn refuses(cases: &[(&str, Frame, DropReason)]) {
    let mut net = guarded(guard());
    for (name, frame, reason) in cases {
        for frame in spellings(frame) {
            assert_eq!(net.put(1, &frame.bytes()), Verdict::Drop(*reason), "{name}");
            net.refused_unlearnt(1, &frame, *reason);
        }
        assert_eq!(
            Scenario::new().out(1, frame),
            [2, 3, 4],
            "{name}: passes without guard"
        );
    }
}

fn spellings(frame: &Frame) -> [Frame; 3] {
    [
        frame.clone(),
        frame.clone().tagged(7),
        frame.clone().tagged(7).tagged_raw(SERVICE_VLAN, 9),
    ]
}

#[test]
fn b_port_5_a_container_has_one_mac() {
    let mut net = guarded(guard());
    for src in [M2, SWITCH_MAC, mac(0x77)] {
        net.refused_unlearnt(1, &frame(src, BC), DropReason::SpoofedMac);
    }
    assert_eq!(net.out(1, &frame(M1, BC)), [2, 3, 4]);
    net.refused_unlearnt(2, &frame(M1, BC), DropReason::PinnedElsewhere);
}

#[test]
fn b_arp_1_arp_speaks_of_the_port_only() {
    passes(&[
        ("request", Arp::request(M1, IP1, IP2).frame()),
        ("reply", Arp::reply(M1, IP1, M2, IP2).frame().to(BC)),
        ("probe for an own address", Arp::probe(M1, IP1).frame()),
        ("announcement", Arp::announcement(M1, IP1).frame()),
    ]);
    let (good, spoofed) = (Arp::request(M1, IP1, IP2), DropReason::SpoofedArp);
    refuses(&[
        ("foreign address", Arp::request(M1, IP2, IP1).frame(), spoofed),
        (
            "probe for a foreign address",
            Arp::probe(M1, IP2).frame(),
            spoofed,
        ),
        (
            "announcement of a foreign address",
            Arp::announcement(M1, IP2).frame(),
            spoofed,
        ),
        (
            "foreign MAC",
            Arp::request(M2, IP1, IP2).frame().from(M1),
            spoofed,
        ),
        (
            "probe with a foreign MAC",
            Arp::probe(M2, IP2).frame().from(M1),
            spoofed,
        ),
        (
            "reply from 0.0.0.0",
            Arp {
                operation: 2,
                ..Arp::probe(M1, IP2)
            }
            .frame()
            .to(BC),
            spoofed,
        ),
        (
            "cut short",
            good.frame().payload(&good.frame().payload[..27]),
            DropReason::Malformed,
        ),
    ]);
}

#[test]
fn b_arp_1_ipv4_sources_are_the_ports() {
    passes(&[
        ("TCP", from_m1(Packet::tcp(IP1, IP2))),
        ("UDP", from_m1(Packet::udp(IP1, IP2))),
        ("ping", from_m1(Packet::ping(IP1, IP2))),
        (
            "later fragment",
            from_m1(Packet::new(IP1, IP2, Upper::Raw(17, vec![0; 8])).fragment(1480, false)),
        ),
        ("DHCP client without address", from_m1(Packet::dhcp_discover())),
        (
            "DHCP client renewing",
            from_m1(Packet::udp_ports(IP1, IP2, 68, 67)),
        ),
        (
            "unknown protocol",
            from_m1(Packet::new(IP1, IP2, Upper::Raw(253, vec![]))),
        ),
    ]);
    let zero = Ipv4Addr::UNSPECIFIED;
    let spoofed = DropReason::SpoofedIp;
    refuses(&[
        ("TCP", from_m1(Packet::tcp(IP2, IP1)), spoofed),
        ("UDP", from_m1(Packet::udp(IP2, IP1)), spoofed),
        ("ping", from_m1(Packet::ping(IP2, IP1)), spoofed),
        (
            "later fragment",
            from_m1(Packet::new(IP2, IP1, Upper::Raw(6, vec![0; 8])).fragment(8, false)),
            spoofed,
        ),
        ("0.0.0.0 over TCP", from_m1(Packet::tcp(zero, IP2)), spoofed),
        (
            "0.0.0.0 over other UDP",
            from_m1(Packet::udp_ports(zero, IP2, 68, 69)),
            spoofed,
        ),
        (
            "0.0.0.0 in fragments",
            from_m1(Packet::dhcp_discover().fragment(0, true)),
            spoofed,
        ),
        (
            "no header",
            from_m1(Packet::tcp(IP1, IP2)).payload([0x45; 19]),
            DropReason::Malformed,
        ),
        (
            "not version 4",
            from_m1(Packet::tcp(SIX1, SIX2)).ethertype(0x0800),
            DropReason::Malformed,
        ),
    ]);
}

#[test]
fn b_arp_1_ipv6_sources_are_the_ports() {
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let mld = Upper::Icmp(143, 0, vec![0, 0, 0, 0]);
    passes(&[
        ("TCP", from_m1(Packet::tcp(SIX1, SIX2))),
        ("UDP", from_m1(Packet::udp(SIX1, SIX2))),
        ("ping", from_m1(Packet::ping(SIX1, SIX2))),
        ("link-local by EUI-64", from_m1(Packet::udp(LL_M1, ALL_NODES))),
        ("link-local at random", from_m1(Packet::tcp(LL_RANDOM, SIX2))),
        ("DAD", from_m1(Packet::duplicate_address_detection(SIX1))),
        (
            "DAD of a link-local",
            from_m1(Packet::duplicate_address_detection(LL_RANDOM)),
        ),
        (
            "MLD report from ::",
            from_m1(Packet::new(unspecified, ALL_NODES, mld.clone()).extended(HOP_BY_HOP, 1)),
        ),
        (
            "router solicitation from ::",
            from_m1(Packet::new(
                unspecified,
                ALL_NODES,
                Upper::Icmp(133, 0, vec![0; 4]),
            )),
        ),
        (
            "DHCPv6 client",
            from_m1(Packet::udp_ports(LL_M1, ALL_NODES, 546, 547)),
        ),
        (
            "behind extension headers",
            from_m1(Packet::tcp(SIX1, SIX2).extended(DESTINATION_OPTIONS, 2)),
        ),
        (
            "first fragment of UDP",
            from_m1(Packet::udp(SIX1, SIX2).fragment(0, true).extended(ROUTING, 1)),
        ),
        (
            "later fragment",
            from_m1(Packet::new(SIX1, SIX2, Upper::Raw(58, vec![134; 8])).fragment(8, false)),
        ),
    ]);
    let spoofed = DropReason::SpoofedIp;
    refuses(&[
        ("TCP", from_m1(Packet::tcp(SIX2, SIX1)), spoofed),
        ("UDP", from_m1(Packet::udp(SIX2, SIX1)), spoofed),
        (
            "the gateway's link-local",
            from_m1(Packet::udp(LL_GATEWAY, SIX2)),
            spoofed,
        ),
        (
            "a neighbour's link-local by EUI-64",
            from_m1(Packet::tcp(LL_M2, SIX2)),
            spoofed,
        ),
        ("TCP from ::", from_m1(Packet::tcp(unspecified, SIX2)), spoofed),
        ("ping from ::", from_m1(Packet::ping(unspecified, SIX2)), spoofed),
        (
            "outside fe80::/64",
            from_m1(Packet::udp(Ipv6Addr::new(0xfe80, 0, 0, 1, 0, 0, 0, 1), SIX2)),
            spoofed,
        ),
        (
            "later fragment",
            from_m1(Packet::new(SIX2, SIX1, Upper::Raw(6, vec![0; 8])).fragment(8, true)),
            spoofed,
        ),
        (
            "behind extension headers",
            from_m1(Packet::tcp(SIX2, SIX1).extended(HOP_BY_HOP, 1)),
            spoofed,
        ),
        (
            "no header",
            from_m1(Packet::tcp(SIX1, SIX2)).payload([0x60; 39]),
            DropReason::Malformed,
        ),
    ]);
}

#[test]
fn b_arp_1_neighbour_discovery_speaks_of_the_port_only() {
    passes(&[
        (
            "solicitation",
            from_m1(Packet::neighbour_solicitation(SIX1, SIX2, M1)),
        ),
        (
            "advertisement",
            from_m1(Packet::neighbour_advertisement(SIX1, SIX1, M1)),
        ),
        (
            "advertisement of a link-local",
            from_m1(Packet::neighbour_advertisement(LL_M1, LL_RANDOM, M1)),
        ),
    ]);
    let spoofed = DropReason::SpoofedNeighbour;
    let endless = Upper::Icmp(
        136,
        0,
        [&[0x20, 0, 0, 0], &SIX1.octets()[..], &[14, 0, 0, 0]].concat(),
    );
    let short = Upper::Icmp(136, 0, vec![0; 8]);
    refuses(&[
        (
            "foreign target",
            from_m1(Packet::neighbour_advertisement(SIX1, SIX2, M1)),
            spoofed,
        ),
        (
            "the gateway's link-local",
            from_m1(Packet::neighbour_advertisement(SIX1, LL_GATEWAY, M1)),
            spoofed,
        ),
        (
            "a neighbour's link-local by EUI-64",
            from_m1(Packet::neighbour_advertisement(SIX1, LL_M2, M1)),
            spoofed,
        ),
        (
            "defence of a neighbour's link-local",
            from_m1(Packet::duplicate_address_detection(LL_M2)),
            spoofed,
        ),
        (
            "foreign MAC",
            from_m1(Packet::neighbour_advertisement(SIX1, SIX1, M2)),
            spoofed,
        ),
        (
            "solicitation with a foreign MAC",
            from_m1(Packet::neighbour_solicitation(SIX1, SIX2, M2)),
            spoofed,
        ),
        (
            "DAD of a foreign address",
            from_m1(Packet::duplicate_address_detection(SIX2)),
            spoofed,
        ),
        (
            "behind extension headers",
            from_m1(Packet::neighbour_advertisement(SIX1, SIX2, M1).extended(DESTINATION_OPTIONS, 1)),
            spoofed,
        ),
        (
            "RFC 6980: in fragments, even one of the port's own",
            from_m1(Packet::neighbour_advertisement(SIX1, SIX1, M1).fragment(0, true)),
            spoofed,
        ),
        (
            "option of length 0",
            from_m1(Packet::new(SIX1, ALL_NODES, endless)),
            DropReason::Malformed,
        ),
        (
            "cut short",
            from_m1(Packet::new(SIX1, ALL_NODES, short)),
            DropReason::Malformed,
        ),
        (
            "foreign source",
            from_m1(Packet::neighbour_advertisement(SIX2, SIX1, M1)),
            DropReason::SpoofedIp,
        ),
    ]);
}

#[test]
fn b_arp_1_routers_are_not_behind_containers() {
    let rogue = DropReason::RogueRouter;
    let redirect_v4 = |kind| Packet::new(IP1, IP2, Upper::Icmp(kind, 1, vec![0; 32]));
    let ra = || Packet::router_advertisement(LL_M1);
    refuses(&[
        ("RA", from_m1(ra()), rogue),
        (
            "RA, forged source",
            from_m1(Packet::router_advertisement(LL_GATEWAY)),
            rogue,
        ),
        (
            "RA behind hop-by-hop",
            from_m1(ra().extended(HOP_BY_HOP, 1)),
            rogue,
        ),
        (
            "RA behind three headers",
            from_m1(
                ra().extended(HOP_BY_HOP, 1)
                    .extended(ROUTING, 2)
                    .extended(DESTINATION_OPTIONS, 3),
            ),
            rogue,
        ),
        (
            "RA, first fragment",
            from_m1(ra().fragment(0, true)),
            DropReason::SpoofedNeighbour,
        ),
        (
            "RA, atomic fragment behind options",
            from_m1(ra().fragment(0, false).extended(DESTINATION_OPTIONS, 1)),
            DropReason::SpoofedNeighbour,
        ),
        (
            "first fragment without the upper header (RFC 7112)",
            from_m1(Packet::new(SIX1, SIX2, Upper::Raw(60, vec![58, 9, 0, 0, 0, 0, 0, 0])).fragment(0, true)),
            DropReason::Malformed,
        ),
        (
            "v6 redirect",
            from_m1(Packet::redirect_v6(LL_M1, SIX2, LL_M1, SIX1)),
            rogue,
        ),
        ("v4 redirect", from_m1(redirect_v4(5)), rogue),
        (
            "v4 redirect, first fragment",
            from_m1(redirect_v4(5).fragment(0, true)),
            rogue,
        ),
        ("v4 router advertisement", from_m1(redirect_v4(9)), rogue),
    ]);
}

#[test]
fn b_arp_1_dhcp_servers_are_not_behind_containers() {
    let rogue = DropReason::RogueDhcp;
    refuses(&[
        (
            "DHCPv4",
            from_m1(Packet::udp_ports(IP1, Ipv4Addr::BROADCAST, 67, 68)),
            rogue,
        ),
        (
            "DHCPv4, forged source",
            from_m1(Packet::udp_ports(IP2, IP1, 67, 68)),
            rogue,
        ),
        (
            "DHCPv4 from another port",
            from_m1(Packet::udp_ports(IP1, Ipv4Addr::BROADCAST, 1067, 68)),
            rogue,
        ),
        (
            "DHCPv4, first fragment",
            from_m1(Packet::udp_ports(IP1, IP2, 67, 68).fragment(0, true)),
            rogue,
        ),
        (
            "DHCPv6",
            from_m1(Packet::udp_ports(LL_M1, ALL_NODES, 547, 546)),
            rogue,
        ),
        (
            "DHCPv6 from another port",
            from_m1(Packet::udp_ports(LL_M1, ALL_NODES, 1547, 546)),
            rogue,
        ),
        (
            "DHCPv6 behind options",
            from_m1(Packet::udp_ports(SIX1, SIX2, 547, 546).extended(DESTINATION_OPTIONS, 1)),
            rogue,
        ),
        (
            "DHCPv6, first fragment",
            from_m1(Packet::udp_ports(SIX1, SIX2, 547, 546).fragment(0, true)),
            rogue,
        ),
        (
            "ports cut off",
            from_m1(Packet::new(IP1, IP2, Upper::Raw(17, vec![0, 67])).fragment(0, true)),
            DropReason::Malformed,
        ),
    ]);
}

#[test]
fn other_spellings_do_not_pass_the_guard() {
    let mut net = guarded(guard());
    let snap = |frame: Frame| {
        let [hi, lo] = frame.ethertype.to_be_bytes();
        frame.llc(&[0xaa, 0xaa, 0x03, 0, 0, 0, hi, lo])
    };
    net.refused_unlearnt(1, &snap(from_m1(Packet::tcp(IP2, IP1))), DropReason::SpoofedIp);
    net.refused_unlearnt(
        1,
        &snap(Arp::announcement(M1, IP2).frame()),
        DropReason::SpoofedArp,
    );
    net.refused_unlearnt(
        1,
        &snap(from_m1(Packet::router_advertisement(SIX1))),
        DropReason::RogueRouter,
    );
    assert_eq!(net.out(1, &snap(from_m1(Packet::tcp(IP1, IP2)))), [2, 3, 4]);
    let buried = from_m1(Packet::tcp(IP2, IP1)).tagged(1).tagged(2).tagged(3);
    net.refused_unlearnt(1, &buried, DropReason::Malformed);
    assert_eq!(
        net.out(1, &frame(M1, BC)),
        [2, 3, 4],
        "other protocols are bridged"
    );
}

#[test]
fn link_local_addresses_may_be_held_to_the_mac() {
    let mut net = guarded(Guard {
        link_local: LinkLocal::Eui64,
        ..guard()
    });
    assert_eq!(net.out(1, &from_m1(Packet::udp(LL_M1, ALL_NODES))), [2, 3, 4]);
    net.refused_unlearnt(
        1,
        &from_m1(Packet::udp(LL_RANDOM, ALL_NODES)),
        DropReason::SpoofedIp,
    );
}

#[test]
fn a_new_guard_takes_effect_at_once() {
    let mut net = guarded(guard());
    let address = IpAddr::V4(IP2);
    net.configure(1, |port| port.guard = Some(Guard::new(mac(9), vec![address])));
    net.refused_unlearnt(1, &frame(M1, BC), DropReason::SpoofedMac);
    assert_eq!(net.out(1, &Packet::tcp(IP2, IP1).frame(mac(9), BC)), [2, 3, 4]);
    assert_eq!(net.out(2, &frame(M2, mac(9))), [1]);
    assert_eq!(
        net.out(2, &frame(M2, M1)),
        [1, 3, 4],
        "the old address is unknown"
    );
    net.configure(1, |port| port.guard = None);
    assert_eq!(net.out(1, &frame(mac(3), BC)), [2, 3, 4]);
}

/// Every sample, cut at every length and with every bit of its first 100 bytes flipped, is judged without
/// a panic; what is cut within the headers that the guard must read never passes as something else.
#[test]
fn no_damage_to_a_frame_is_a_panic() {
    let samples = [
        Arp::request(M1, IP1, IP2).frame(),
        from_m1(Packet::tcp(IP1, IP2)),
        from_m1(Packet::dhcp_discover()),
        from_m1(Packet::ping(IP1, IP2).fragment(0, true)),
        from_m1(
            Packet::udp(SIX1, SIX2)
                .extended(HOP_BY_HOP, 1)
                .extended(DESTINATION_OPTIONS, 2),
        ),
        from_m1(Packet::neighbour_advertisement(SIX1, SIX1, M1)),
        from_m1(Packet::neighbour_solicitation(SIX1, SIX2, M1).extended(ROUTING, 1)),
        from_m1(Packet::router_advertisement(LL_M1).fragment(0, true)),
        from_m1(Packet::udp(SIX1, SIX2)).llc(&[0xaa, 0xaa, 0x03, 0, 0, 0, 0x86, 0xdd]),
    ];
    let mut net = guarded(guard());
    let filtering = vswitch_switch::VlanFiltering::On {
        tpid: vswitch_wire::EtherType::VLAN,
    };
    let mut tagging = Scenario::with_ports(
        |config| config.vlan_filtering = filtering,
        [PortConfig::container(guard()), PortConfig::uplink()],
    );
    for frame in samples.iter().flat_map(spellings) {
        let bytes = frame.bytes();
        for len in 0..=bytes.len() {
            let _ = net.put(1, &bytes[..len]);
            let _ = tagging.put(1, &bytes[..len]);
        }
        for bit in 0..bytes.len().min(100) * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let _ = net.put(1, &damaged);
            let _ = net.put(2, &damaged);
            let _ = tagging.put(1, &damaged);
            let _ = tagging.put(2, &damaged);
        }
    }
    assert_eq!(net.whereabouts(M1), Some(1));
    let strangers = net
        .table()
        .iter()
        .filter(|&&(_, mac, port)| port == 1 && mac != M1)
        .count();
    assert_eq!(strangers, 0, "nothing but the guard's MAC is ever known on p1");
}
