//! §11: what a router does beside translating.

use vswitch_nat::{DropReason, Egress, Outside, Verdict};

use crate::{
    packets::{
        ACK, SYN, TCP, UDP, dont_fragment, dst, ends, error, fragments, icmp_kind, ping, quoted, src, tcp,
        tcp_with, transport, ttl, udp, udp_with, with_ip_options, with_ttl,
    },
    site::*,
};

/// A site whose outside takes packets of so many bytes.
fn narrow(mtu: u16) -> Site {
    let mut site = Site::new();
    site.nat
        .set_outside(site.clock.now(), Outside { mtu, ..outside() });
    site
}

#[test]
fn n_fwd_1_one_hop_is_taken() {
    let mut site = Site::new();
    assert_eq!(ttl(&site.out(&with_ttl(udp((A, 5000), (S, 53)), 2))), 1);
    assert_eq!(ttl(&site.out(&with_ttl(udp((A6, 5000), (S6, 53)), 2))), 1);
    assert_eq!(ttl(&site.back(&with_ttl(udp((S, 53), (X, 5000)), 255))), 254);
    site.publish(UDP, 8080, (B, 80));
    assert_eq!(ttl(&site.turn(&udp((A, 1111), (X, 8080)))), 63);
}

#[test]
fn n_fwd_1_the_last_hop_is_told_as_it_was() {
    for (from, to, gateway, kind) in [(A, S, GATEWAY, (11, 0)), (A6, S6, GATEWAY6, (3, 0))] {
        for hops in [0, 1] {
            let mut site = Site::new();
            let packet = with_ttl(udp((from, 5009), (to, 53)), hops);
            let (reason, error) = site.refused_aloud(INSIDE, &packet);
            assert_eq!(reason, DropReason::TimeExceeded);
            assert_eq!(icmp_kind(&error), kind);
            assert_eq!((src(&error), dst(&error)), (gateway, from));
            assert_eq!(quoted(&error), packet, "with its hops as received");
            assert!(site.conns().is_empty());
        }
    }
}

#[test]
fn n_fwd_2_an_error_outside_quotes_what_outside_knows() {
    let mut site = Site::new();
    site.external((A, 5009), (S, 53));
    let packet = with_ttl(udp((S, 53), (X, 5009)), 1);
    let (_, error) = site.refused_aloud(OUTSIDE, &packet);
    assert_eq!(icmp_kind(&error), (11, 0));
    assert_eq!((src(&error), dst(&error)), (X, S));
    assert_eq!(quoted(&error), packet);
}

#[test]
fn n_fwd_3_what_is_too_big_and_must_not_be_cut_is_told_the_mtu() {
    let mut site = narrow(1400);
    let packet = dont_fragment(udp_with((A, 5000), (S, 53), &[7; 1450]));
    assert_eq!(packet.len(), 1478);
    let (reason, error) = site.refused_aloud(INSIDE, &packet);
    assert_eq!(reason, DropReason::Mtu);
    assert_eq!(
        (icmp_kind(&error), &transport(&error)[4..8]),
        ((3, 4), &[0, 0, 5, 120][..])
    );
    assert_eq!((src(&error), dst(&error)), (GATEWAY, A));
    assert!(error.len() <= 576);
    assert_eq!(quoted(&error), &packet[..quoted(&error).len()]);
}

#[test]
fn n_fwd_3_the_other_way_too() {
    let mut site = Site::with_network(|network| network.mtu = 1300);
    site.external((A, 5000), (S, 53));
    let packet = dont_fragment(udp_with((S, 53), (X, 5000), &[7; 1450]));
    let (_, error) = site.refused_aloud(OUTSIDE, &packet);
    assert_eq!(transport(&error)[6..8], 1300u16.to_be_bytes());
    assert_eq!((src(&error), dst(&error)), (X, S));
    assert_eq!(ends(quoted(&error)), ((S, 53), (X, 5000)));
}

#[test]
fn n_fwd_4_what_may_be_cut_is() {
    let mut site = narrow(1400);
    let packet = udp_with((A, 5000), (S, 53), &[7; 1450]);
    let outcome = site.put(INSIDE, &packet);
    assert_eq!(outcome.verdict, Verdict::Consumed);
    let pieces: Vec<(usize, u16)> = outcome
        .sent
        .iter()
        .map(|(to, piece)| {
            assert_eq!((*to, src(piece), ttl(piece)), (OUTSIDE, X, 63));
            (piece.len(), u16::from_be_bytes([piece[6], piece[7]]))
        })
        .collect();
    assert_eq!(pieces, [(1396, 0x2000), (102, 1376 / 8)]);
    assert_eq!(outcome.sent[0].1[4..6], outcome.sent[1].1[4..6]);
    // Together they are the translated datagram.
    let body: Vec<u8> = outcome
        .sent
        .iter()
        .flat_map(|(_, piece)| piece[20..].to_vec())
        .collect();
    let mut whole = [&outcome.sent[0].1[..20], &body].concat();
    whole[6..8].fill(0);
    let len = whole.len() as u16;
    whole[2..4].copy_from_slice(&len.to_be_bytes());
    let expected = udp_with((X, 5000), (S, 53), &[7; 1450]);
    assert_eq!(whole[20..], expected[20..]);
    assert_eq!(site.only().traffic[0].packets, 1);
}

#[test]
fn n_fwd_5_ipv6_is_told_and_never_cut() {
    let mut site = narrow(1400);
    let packet = udp_with((A6, 5000), (S6, 53), &[7; 1450]);
    let (reason, error) = site.refused_aloud(INSIDE, &packet);
    assert_eq!(reason, DropReason::Mtu);
    assert_eq!(
        (icmp_kind(&error), &transport(&error)[4..8]),
        ((2, 0), &1400u32.to_be_bytes()[..])
    );
    assert_eq!((src(&error), dst(&error)), (GATEWAY6, A6));
    assert_eq!(error.len(), 1280);
}

#[test]
fn n_fwd_6_some_things_are_dropped_silently() {
    let mut site = narrow(1400);
    let seen = site.out(&udp((A, 5000), (S, 53)));
    site.back(&udp((S, 53), (X, 5000)));
    let about = error(A, S, (3, 3), [0; 4], &udp((S, 53), (A, 5000))[..28]);
    assert_eq!(
        site.refused(INSIDE, &with_ttl(about, 1)),
        DropReason::TimeExceeded
    );
    let about = error(S4, X, (11, 0), [0; 4], &seen[..28]);
    assert_eq!(
        site.refused(OUTSIDE, &with_ttl(about, 1)),
        DropReason::TimeExceeded
    );
    for source in [
        [0, 0, 0, 0],
        [224, 0, 0, 1],
        [255, 255, 255, 255],
        [127, 0, 0, 1],
        [10, 0, 0, 255],
    ] {
        site.refused(INSIDE, &with_ttl(udp((source.into(), 5000), (S, 53)), 1));
    }
    for target in [
        [224, 0, 0, 5],
        [255, 255, 255, 255],
        [10, 0, 0, 255],
        [198, 51, 100, 255],
    ] {
        site.refused(INSIDE, &with_ttl(udp((A, 5000), (target.into(), 53)), 1));
    }
    assert_eq!(site.nat.counters().errors_sent, 0);
}

#[test]
fn n_fwd_6_a_host_is_told_that_there_is_no_way() {
    let mut site = Site::new();
    site.nat.set_outside(
        site.clock.now(),
        Outside {
            addresses: vec![X],
            ..outside()
        },
    );
    let (reason, error) = site.refused_aloud(INSIDE, &udp((A6, 5000), (S6, 53)));
    assert_eq!(reason, DropReason::NoRoute);
    assert_eq!(icmp_kind(&error), (1, 0));
    let neighbour = [10, 0, 0, 77].into();
    let (reason, error) = site.refused_aloud(INSIDE, &udp((A, 5000), (neighbour, 53)));
    assert_eq!(reason, DropReason::NoRoute);
    assert_eq!((icmp_kind(&error), src(&error)), ((3, 1), GATEWAY));
    // Outside nobody is.
    assert_eq!(
        site.refused(OUTSIDE, &udp((S, 53), ([192, 0, 2, 1].into(), 53))),
        DropReason::NoRoute
    );
}

#[test]
fn n_fwd_7_errors_are_limited_for_each_host_and_counted() {
    let mut site = Site::new();
    let dying = |from| with_ttl(udp((from, 5000), (S, 53)), 1);
    let mut sent = 0;
    for _ in 0..100 {
        sent += site.put(INSIDE, &dying(A)).sent.len();
    }
    assert!((1..=10).contains(&sent), "{sent} at once");
    let counters = site.nat.counters();
    assert_eq!(counters.errors_sent + counters.errors_limited, 100);
    assert_eq!(site.put(INSIDE, &dying(B)).sent.len(), 1, "B hears of its own");
    site.advance(secs(1));
    assert_eq!(site.put(INSIDE, &dying(A)).sent.len(), 1, "and A again, later");
}

#[test]
fn n_fwd_7_those_about_sizes_have_limits_of_their_own() {
    let mut site = narrow(1400);
    for _ in 0..100 {
        site.put(INSIDE, &with_ttl(udp((A, 5000), (S, 53)), 1));
    }
    let big = dont_fragment(udp_with((A, 5001), (S, 53), &[7; 1450]));
    assert_eq!(site.put(INSIDE, &big).sent.len(), 1);
}

#[test]
fn n_fwd_8_what_is_not_translated_stays() {
    let mut site = Site::new();
    let mut packet = udp((A, 5000), (S, 53));
    packet[1] = 0xb9;
    packet[4..6].copy_from_slice(&[0x12, 0x34]);
    let left = site.out(&crate::packets::mended(packet));
    assert_eq!((left[1], &left[4..6]), (0xb9, &[0x12, 0x34][..]));
    let mut packet = udp((A6, 5000), (S6, 53));
    packet[..4].copy_from_slice(&[0x6b, 0x91, 0x23, 0x45]);
    assert_eq!(site.out(&packet)[..4], [0x6b, 0x91, 0x23, 0x45]);
}

#[test]
fn n_fwd_8_options_pass_but_for_source_routes() {
    let mut site = Site::new();
    let with = |options: &[u8]| with_ip_options(udp((A, 5000), (S, 53)), options);
    for options in [
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[68, 8, 5, 0, 0, 0, 0, 0],
        &[148, 4, 0, 0, 1, 1, 1, 0],
    ] {
        let left = site.out(&with(options));
        assert_eq!(left[20..28], *options);
        assert_eq!(ends(&left).0, (X, 5000));
    }
    for kind in [131, 137] {
        let routed = with(&[kind, 7, 4, 198, 51, 100, 9, 0]);
        assert_eq!(site.refused(INSIDE, &routed), DropReason::SourceRoute);
    }
}

#[test]
fn n_fwd_9_a_larger_segment_size_than_fits_is_lowered_both_ways() {
    let mut site = narrow(1400);
    let mss = |size: u16| [2, 4, size.to_be_bytes()[0], size.to_be_bytes()[1], 4, 2, 1, 1];
    let syn = site.out(&tcp_with((A, 7000), (S, 80), SYN, (1000, 0), &mss(1460), &[]));
    assert_eq!(transport(&syn)[20..], mss(1360));
    let answer = tcp_with((S, 80), (X, 7000), SYN | ACK, (5000, 1001), &mss(1460), &[]);
    assert_eq!(transport(&site.back(&answer))[20..], mss(1360));
    // Never raised, never put in.
    let syn = site.out(&tcp_with((A, 7001), (S, 80), SYN, (1000, 0), &mss(536), &[]));
    assert_eq!(transport(&syn)[20..], mss(536));
    let syn = site.out(&tcp((A, 7002), (S, 80), SYN, 1000, 0));
    assert_eq!(transport(&syn).len(), 20);
    // And left alone where the links are equal.
    let syn = Site::new().out(&tcp_with((A, 7000), (S, 80), SYN, (1000, 0), &mss(9000), &[]));
    assert_eq!(transport(&syn)[20..], mss(9000));
}

const MARTIANS: [[u8; 4]; 8] = [
    [0, 0, 0, 0],
    [0, 1, 2, 3],
    [127, 0, 0, 1],
    [169, 254, 1, 1],
    [224, 0, 0, 5],
    [239, 1, 1, 1],
    [240, 0, 0, 1],
    [255, 255, 255, 255],
];

#[test]
fn n_fwd_10_martians_go_nowhere() {
    let mut site = Site::new();
    site.publish(UDP, 5353, (B, 53));
    for martian in MARTIANS {
        let martian = martian.into();
        for (zone, packet) in [
            (INSIDE, udp((martian, 5000), (S, 53))),
            (INSIDE, udp((A, 5000), (martian, 53))),
            (OUTSIDE, udp((martian, 4000), (X, 5353))),
            (OUTSIDE, udp((S, 4000), (martian, 5353))),
            (INSIDE, tcp((A, 5000), (martian, 80), SYN, 1, 0)),
            (INSIDE, ping(A, martian, 7)),
        ] {
            assert_eq!(
                site.refused(zone, &packet),
                DropReason::Martian,
                "{martian} in {zone}"
            );
        }
    }
}

#[test]
fn n_fwd_10_nor_broadcasts_of_subnets_and_the_engines_own_addresses_as_sources() {
    let mut site = Site::new();
    site.publish(UDP, 5353, (B, 53));
    let inside_broadcast = [10, 0, 0, 255].into();
    let outside_broadcast = [198, 51, 100, 255].into();
    for (zone, packet) in [
        (INSIDE, udp((inside_broadcast, 5000), (S, 53))),
        (INSIDE, udp((A, 5000), (inside_broadcast, 53))),
        (INSIDE, udp((A, 5000), (outside_broadcast, 53))),
        (INSIDE, udp((GATEWAY, 5000), (S, 53))),
        (OUTSIDE, udp((outside_broadcast, 4000), (X, 5353))),
        (OUTSIDE, udp((S, 4000), (outside_broadcast, 5353))),
        (OUTSIDE, udp((X, 4000), (X, 5353))),
    ] {
        assert_eq!(site.refused(zone, &packet), DropReason::Martian);
    }
    assert_eq!(
        site.refused(INSIDE, &udp((X, 5000), (S, 53))),
        DropReason::Spoofed
    );
}

#[test]
fn n_fwd_13_groups_and_link_scope_are_not_routed() {
    let mut site = Site::new();
    for target in [[224, 0, 0, 251], [239, 255, 255, 250], [169, 254, 169, 254]] {
        assert_eq!(
            site.refused(INSIDE, &udp((A, 5353), (target.into(), 5353))),
            DropReason::Martian
        );
    }
    for target in ["ff02::fb", "ff0e::1", "fe80::1"] {
        let target = target.parse().expect("an address");
        assert_eq!(
            site.refused(INSIDE, &udp((A6, 5353), (target, 5353))),
            DropReason::Martian
        );
    }
}

#[test]
fn n_fwd_1_what_is_for_the_gateway_is_the_owners_whatever_its_hops() {
    let mut site = Site::new();
    assert_eq!(
        site.put(INSIDE, &with_ttl(ping(A, GATEWAY, 7), 1)).verdict,
        Verdict::Local
    );
    assert_eq!(
        site.put(INSIDE, &udp((A, 5000), (GATEWAY, 53))).verdict,
        Verdict::Local
    );
    assert_eq!(site.put(INSIDE, &ping(A6, GATEWAY6, 7)).verdict, Verdict::Local);
}

#[test]
fn n_fwd_12_a_routed_network_is_seen_as_it_is_and_closed_unless_opened() {
    let routed = |open| Site::with_network(move |network| network.egress = Egress::Routed { open });
    let mut site = routed(false);
    let left = site.out(&udp((A, 5000), (S, 53)));
    assert_eq!(ends(&left), ((A, 5000), (S, 53)));
    assert_eq!(ends(&site.back(&udp((S, 53), (A, 5000)))).1, (A, 5000));
    assert_eq!(
        site.refused(OUTSIDE, &tcp((S, 3333), (B, 80), SYN, 1, 0)),
        DropReason::Unsolicited
    );
    site.publish(TCP, 8080, (B, 80));
    site.back(&tcp((S, 3333), (B, 80), SYN, 1, 0));
    assert_eq!(
        site.refused(OUTSIDE, &tcp((S, 3333), (B, 81), SYN, 1, 0)),
        DropReason::Unsolicited
    );
    let mut site = routed(true);
    assert_eq!(ends(&site.back(&tcp((S, 3333), (B, 80), SYN, 1, 0))).1, (B, 80));
    assert_eq!(
        site.refused(OUTSIDE, &udp((A, 3333), (B, 80))),
        DropReason::Spoofed
    );
    assert_eq!(
        site.refused(OUTSIDE, &udp((S, 3333), ([10, 0, 0, 255].into(), 80))),
        DropReason::Martian
    );
    assert_eq!(site.put(OUTSIDE, &ping(S, GATEWAY, 7)).verdict, Verdict::Local);
}

#[test]
fn n_fwd_6_nor_about_fragments_that_are_not_the_first() {
    let mut site = narrow(1400);
    let packet = with_ttl(udp_with((A, 5000), (S, 53), &[7; 2000]), 1);
    let pieces = fragments(&packet, &[1000]);
    let outcome = site.put(INSIDE, &pieces[1]);
    assert!(outcome.sent.is_empty());
}
