//! §14: IPv6, and prefix translation.

use vswitch_nat::{DropReason, Egress, Network, PrefixPair, PrefixPairError, Verdict};

use crate::{
    packets::{
        ACK, ICMPV6, SYN, TCP, UDP, dst, ends, error, fragments_v6, ping, pong, quoted, raw, src, tcp,
        transport, ttl, udp, udp_with, with_ttl,
    },
    site::*,
};

/// With an extension header of `units` times 8 bytes in front of what is there.
fn extended(packet: &[u8], kind: u8, body: &[u8]) -> Vec<u8> {
    let next = packet[6];
    let header = [&[next, (body.len() / 8) as u8], body].concat();
    let mut packet = [&packet[..40], &header, &packet[40..]].concat();
    packet[6] = kind;
    let len = packet.len() as u16 - 40;
    packet[4..6].copy_from_slice(&len.to_be_bytes());
    packet
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
const PAD6: [u8; 6] = [1, 4, 0, 0, 0, 0];

#[test]
fn n_v6_1_extension_headers_are_walked_and_kept() {
    let mut site = Site::new();
    let plain = udp((A6, 5000), (S6, 53));
    let expected = site.out(&plain);
    let long = [&[1, 12][..], &[0; 12]].concat();
    for (kind, body) in [
        (HOP_BY_HOP, &PAD6[..]),
        (DESTINATION_OPTIONS, &PAD6),
        (DESTINATION_OPTIONS, &long),
        (ROUTING, &[2, 0, 0, 0, 0, 0]),
    ] {
        let left = site.out(&extended(&plain, kind, body));
        assert_eq!((src(&left), left[6]), (X6, kind));
        assert_eq!(left[42..40 + 2 + body.len()], *body);
        assert_eq!(left[42 + body.len()..], expected[40..]);
    }
    assert_eq!(site.conns().len(), 1, "they are one flow");
}

#[test]
fn n_v6_1_a_routing_header_of_type_0_is_dropped() {
    let mut site = Site::new();
    let routed = extended(&udp((A6, 5000), (S6, 53)), ROUTING, &[0, 0, 0, 0, 0, 0]);
    assert_eq!(site.refused(INSIDE, &routed), DropReason::SourceRoute);
}

#[test]
fn n_v6_1_esp_is_a_session_without_ports() {
    let mut site = Site::new();
    assert_eq!(src(&site.out(&raw(A6, S6, 50, &[7; 16]))), X6);
    assert_eq!(dst(&site.back(&raw(S6, X6, 50, &[8; 16]))), A6);
    assert_eq!(
        site.refused(INSIDE, &raw(B6, S6, 50, &[7; 16])),
        DropReason::Untranslatable
    );
}

#[test]
fn n_v6_1_ports_hairpin_and_published_ports_as_with_ipv4() {
    let mut site = Site::new();
    assert_eq!(site.external((A6, 5000), (S6, 53)), (X6, 5000));
    assert_ne!(site.external((B6, 5000), (S6, 53)), (X6, 5000));
    site.publish(TCP, 8080, (B6, 80));
    assert_eq!(
        ends(&site.back(&tcp((S6, 3333), (X6, 8080), SYN, 1, 0))).1,
        (B6, 80)
    );
    let syn = site.turn(&tcp((A6, 1111), (X6, 8080), SYN, 1, 0));
    assert_eq!(ends(&syn), ((X6, 1111), (B6, 80)));
    let answer = site.turn(&tcp((B6, 80), (X6, 1111), SYN | ACK, 1, 2));
    assert_eq!(ends(&answer), ((X6, 8080), (A6, 1111)));
}

#[test]
fn n_v6_1_a_datagram_without_checksum_goes_to_tunnels_only() {
    let mut site = Site::new();
    let unchecked = |port| {
        let mut packet = udp((A6, 5000), (S6, port));
        packet[46..48].fill(0);
        packet
    };
    assert_eq!(site.refused(INSIDE, &unchecked(53)), DropReason::BadChecksum);
    for port in [4789, 6081, 8472] {
        assert_eq!(site.out(&unchecked(port))[46..48], [0, 0]);
    }
}

#[test]
fn n_v6_2_neighbour_discovery_is_never_routed() {
    let mut site = Site::new();
    for kind in 133..=137 {
        let packet = raw(A6, S6, ICMPV6, &[kind, 0, 0, 0, 0, 0, 0, 0]);
        let packet = crate::packets::mended(with_ttl(packet, 255));
        assert_eq!(site.refused(INSIDE, &packet), DropReason::Martian, "{kind}");
    }
}

#[test]
fn n_v6_2_hops_are_taken() {
    let mut site = Site::new();
    assert_eq!(ttl(&site.out(&with_ttl(ping(A6, S6, 7), 9))), 8);
    assert_eq!(ttl(&site.back(&with_ttl(pong(S6, X6, 7), 9))), 8);
}

#[test]
fn n_v6_3_what_has_no_global_scope_does_not_cross() {
    let mut site = Site::new();
    site.publish(UDP, 5353, (B6, 53));
    for special in [
        "fe80::1",
        "febf::1",
        "ff02::1",
        "ff0e::1",
        "::",
        "::1",
        "::ffff:10.0.0.2",
    ] {
        let special = special.parse().expect("an address");
        for (zone, packet) in [
            (INSIDE, udp((special, 5000), (S6, 53))),
            (INSIDE, udp((A6, 5000), (special, 53))),
            (OUTSIDE, udp((special, 4000), (X6, 5353))),
        ] {
            assert_eq!(
                site.refused(zone, &packet),
                DropReason::Martian,
                "{special} in {zone}"
            );
        }
    }
}

const INTERNAL: &str = "fd01:203:405::/48";
const EXTERNAL: &str = "2001:db8:1::/48";

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().expect("an address")
}

fn pair(internal: &str, external: &str) -> Result<PrefixPair, PrefixPairError> {
    PrefixPair::new(
        internal.parse().expect("a prefix"),
        external.parse().expect("a prefix"),
    )
}

/// A site whose network has its prefix translated.
fn prefixed() -> Site {
    Site::with_network(|network| {
        *network = Network {
            prefixes: vec![prefix("10.0.0.0/24"), prefix(INTERNAL)],
            gateways: vec![GATEWAY, ip("fd01:203:405:1::1")],
            egress: Egress::Prefix(pair(INTERNAL, EXTERNAL).expect("a pair")),
            ..network.clone()
        };
    })
}

#[test]
fn n_v6_4_a_prefix_is_replaced_without_state_and_checksums_stay() {
    let mut site = prefixed();
    let (inside, shown) = (ip("fd01:203:405:1::1234"), ip("2001:db8:1:d550::1234"));
    for packet in [
        udp((inside, 5000), (S6, 53)),
        tcp((inside, 5000), (S6, 80), ACK, 7, 7),
        ping(inside, S6, 7),
    ] {
        let left = site.out(&packet);
        assert_eq!((src(&left), dst(&left)), (shown, S6));
        assert_eq!(
            transport(&left),
            transport(&packet),
            "not a bit of it, the checksum neither"
        );
        assert_eq!(ttl(&left), 63);
    }
    let answer = udp((S6, 53), (shown, 5000));
    let back = site.back(&answer);
    assert_eq!((src(&back), dst(&back)), (S6, inside));
    assert_eq!(transport(&back), transport(&answer));
    // Nobody needs to have asked.
    site.back(&tcp((S6, 9), (shown, 80), SYN, 1, 0));
    assert!(site.conns().is_empty());
    assert_eq!(site.nat.counters().created, 0);
}

#[test]
fn n_v6_4_ffff_becomes_0() {
    let mut site = prefixed();
    let left = site.out(&udp((ip("fd01:203:405:2ab0::1"), 5000), (S6, 53)));
    assert_eq!(src(&left), ip("2001:db8:1::1"));
}

#[test]
fn n_v6_4_errors_have_their_quoted_packet_translated_too() {
    let mut site = prefixed();
    let (inside, shown) = (ip("fd01:203:405:1::1234"), ip("2001:db8:1:d550::1234"));
    let seen = site.out(&udp((inside, 5000), (S6, 53)));
    let told = site.back(&error(R6, shown, (2, 0), 1280u32.to_be_bytes(), &seen));
    assert_eq!((src(&told), dst(&told)), (R6, inside));
    assert_eq!(ends(quoted(&told)), ((inside, 5000), (S6, 53)));
    let got = site.back(&udp((S6, 53), (shown, 5000)));
    let told = site.out(&error(inside, S6, (1, 4), [0; 4], &got));
    assert_eq!((src(&told), dst(&told)), (shown, S6));
    assert_eq!(ends(quoted(&told)), ((S6, 53), (shown, 5000)));
}

#[test]
fn n_v6_4_spoofed_sources_and_last_hops_are_refused() {
    let mut site = prefixed();
    assert_eq!(
        site.refused(INSIDE, &udp((A6, 5000), (S6, 53))),
        DropReason::Spoofed
    );
    let inside = ip("fd01:203:405:1::1234");
    let shown = ip("2001:db8:1:d550::1234");
    assert_eq!(
        site.refused(OUTSIDE, &udp((inside, 5000), (shown, 53))),
        DropReason::Spoofed
    );
    let (reason, _) = site.refused_aloud(INSIDE, &with_ttl(udp((inside, 5000), (S6, 53)), 1));
    assert_eq!(reason, DropReason::TimeExceeded);
    // The subnet that has no counterpart.
    assert_eq!(
        site.refused(INSIDE, &udp((ip("fd01:203:405:ffff::1"), 5000), (S6, 53))),
        DropReason::Untranslatable
    );
}

#[test]
fn n_v6_4_ipv4_of_that_network_is_masqueraded() {
    let mut site = prefixed();
    assert_eq!(site.external((A, 5000), (S, 53)), (X, 5000));
}

#[test]
fn n_v6_4_an_external_address_within_the_prefix_stays_the_engines() {
    let mut site = prefixed();
    let within = ip("2001:db8:1::77");
    let both = vswitch_nat::Outside {
        addresses: vec![X, within],
        ..outside()
    };
    site.nat.set_outside(site.clock.now(), both);
    site.publish(TCP, 8080, (ip("fd01:203:405:1::5"), 80));
    let left = site.back(&tcp((S6, 3333), (within, 8080), SYN, 1, 0));
    assert_eq!(ends(&left).1, (ip("fd01:203:405:1::5"), 80));
    assert_eq!(
        site.refused(OUTSIDE, &udp((S6, 3333), (within, 9))),
        DropReason::Unsolicited
    );
    assert_eq!(site.put(OUTSIDE, &ping(S6, within, 7)).verdict, Verdict::Local);
}

#[test]
fn n_v6_4_fragments_are_translated_too() {
    let mut site = prefixed();
    let packet = udp_with((ip("fd01:203:405:1::1234"), 5000), (S6, 53), &[7; 2000]);
    let pieces = fragments_v6(&packet, &[1232]);
    let mut left: Vec<Vec<u8>> = Vec::new();
    for piece in &pieces {
        let outcome = site.put(INSIDE, piece);
        if outcome.verdict == Verdict::Forward(OUTSIDE) {
            left.push(outcome.bytes);
        }
        left.extend(outcome.sent.into_iter().map(|(_, piece)| piece));
    }
    assert_eq!(left.len(), 2);
    for (piece, before) in left.iter().zip(&pieces) {
        assert_eq!(src(piece), ip("2001:db8:1:d550::1234"));
        assert_eq!(piece[48..], before[48..]);
    }
}

#[test]
fn n_v6_4_pairs_that_cannot_be() {
    assert!(matches!(
        pair(INTERNAL, "2001:db8:1::/56"),
        Err(PrefixPairError::Lengths(..))
    ));
    assert!(matches!(
        pair("fd01:203:405:ffff::/64", "2001:db8:1:1::/64"),
        Err(PrefixPairError::SubnetFfff(_))
    ));
    assert!(matches!(
        pair("fd01::/120", "2001:db8::/120"),
        Err(PrefixPairError::TooLong(_))
    ));
}

#[test]
fn n_v6_6_errors_of_every_type_pass_about_what_was_sent() {
    for (kind, rest) in [((1, 0), 0), ((1, 4), 0), ((2, 0), 1280), ((3, 0), 0), ((4, 1), 6)] {
        let mut site = Site::new();
        let seen = site.out(&udp((A6, 5000), (S6, 53)));
        let told = site.back(&error(R6, X6, kind, u32::to_be_bytes(rest), &seen));
        assert_eq!(dst(&told), A6, "{kind:?}");
        assert_eq!(ends(quoted(&told)).0, (A6, 5000));
    }
}

#[test]
fn n_v6_1_chains_that_do_not_end_are_malformed() {
    let mut site = Site::new();
    let mut packet = udp((A6, 5000), (S6, 53));
    for _ in 0..40 {
        packet = extended(&packet, DESTINATION_OPTIONS, &PAD6);
    }
    assert!(matches!(site.put(INSIDE, &packet).verdict, Verdict::Drop(_)));
    let beyond = extended(&udp((A6, 5000), (S6, 53)), HOP_BY_HOP, &PAD6);
    let mut beyond = beyond;
    beyond[41] = 200;
    assert!(matches!(site.put(INSIDE, &beyond).verdict, Verdict::Drop(_)));
}
