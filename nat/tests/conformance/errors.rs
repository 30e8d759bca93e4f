//! §8: ICMP errors.

use vswitch_nat::DropReason;

use crate::{
    packets::{
        ACK, SYN, TCP, UDP, dst, ends, error, hex, icmp_kind, mended, ping, quoted, raw, sctp, src, tcp,
        tcp_with, transport, udp, udp_with, unreachable, with_ip_options,
    },
    site::*,
};

/// A flow, and its packet as S got it.
fn flow() -> (Site, Vec<u8>) {
    let mut site = Site::new();
    let seen = site.out(&udp_with((A, 5000), (S, 9), b"some longer payload"));
    (site, seen)
}

#[test]
fn n_ice_1_a_wrong_checksum_is_dropped() {
    let (mut site, seen) = flow();
    let mut wrong = unreachable(S, X, &seen);
    wrong[22] ^= 1;
    assert_eq!(site.refused(OUTSIDE, &wrong), DropReason::BadChecksum);
    site.back(&unreachable(S, X, &seen));
}

#[test]
fn n_ice_2_options_of_the_quoted_header_are_skipped() {
    let mut site = Site::new();
    let asked = with_ip_options(udp((A, 5000), (S, 9)), &[7, 7, 4, 0, 0, 0, 0, 0]);
    let seen = site.out(&asked);
    let about = error(S, X, (3, 3), [0; 4], &seen[..36]);
    let told = site.back(&about);
    assert_eq!(ends(quoted(&told)), ((A, 5000), (S, 9)));
}

#[test]
fn n_ice_2_eight_bytes_are_enough_and_seven_are_not() {
    let (mut site, seen) = flow();
    site.back(&error(S, X, (3, 3), [0; 4], &seen[..28]));
    assert_eq!(
        site.refused(OUTSIDE, &error(S, X, (3, 3), [0; 4], &seen[..27])),
        DropReason::Malformed
    );
}

#[test]
fn n_ice_2_extensions_stay_as_they_are() {
    let (mut site, seen) = flow();
    // RFC 4884: 128 bytes of the packet, padded, and an MPLS label stack.
    let mut body = seen.clone();
    body.resize(128, 0);
    let extension = hex("2000 0000 0008 0101 0001 2345");
    body.extend(&extension);
    let told = site.back(&error(S, X, (11, 0), [0, 32, 0, 0], &body));
    assert_eq!(told[told.len() - extension.len()..], extension);
    assert_eq!(transport(&told)[5], 32);
    assert_eq!(ends(quoted(&told)).0, (A, 5000));
}

#[test]
fn n_ice_3_a_wrong_checksum_of_the_quoted_header_is_dropped_one_of_its_datagram_is_not() {
    let (mut site, seen) = flow();
    let mut wrong = seen.clone();
    wrong[10] ^= 1;
    assert_eq!(
        site.refused(OUTSIDE, &unreachable(S, X, &wrong)),
        DropReason::BadChecksum
    );
    let mut wrong = seen;
    wrong[26] ^= 1;
    site.back(&unreachable(S, X, &wrong));
}

#[test]
fn n_ice_4_it_must_come_to_where_the_quoted_packet_came_from() {
    let (mut site, seen) = flow();
    assert_eq!(
        site.refused(OUTSIDE, &unreachable(S, C, &seen)),
        DropReason::IcmpUnrelated
    );
    assert_eq!(
        site.refused(OUTSIDE, &unreachable(S, X2, &seen)),
        DropReason::IcmpUnrelated
    );
}

#[test]
fn n_ice_4_and_quote_what_went_out() {
    let (mut site, seen) = flow();
    let other = udp((X, 5001), (S, 9));
    assert_eq!(
        site.refused(OUTSIDE, &unreachable(S, X, &other)),
        DropReason::IcmpUnrelated
    );
    let never_left = udp((A, 5000), (S, 9));
    assert_eq!(
        site.refused(OUTSIDE, &unreachable(S, X, &never_left)),
        DropReason::IcmpUnrelated
    );
    // A packet of the other direction is not what S may complain of.
    let answer = udp((S, 9), (X, 5000));
    assert_eq!(
        site.refused(OUTSIDE, &unreachable(S, X, &answer)),
        DropReason::IcmpUnrelated
    );
    site.back(&unreachable(S, X, &seen));
}

#[test]
fn n_ice_5_every_type_from_any_router_is_told_to_the_inside_host() {
    for (kind, rest) in [
        ((3, 0), [0; 4]),
        ((3, 1), [0; 4]),
        ((3, 3), [0; 4]),
        ((3, 4), [0, 0, 5, 0]),
        ((3, 13), [0; 4]),
        ((4, 0), [0; 4]),
        ((11, 0), [0; 4]),
        ((11, 1), [0; 4]),
        ((12, 0), [20, 0, 0, 0]),
    ] {
        let (mut site, seen) = flow();
        let router = [203, 0, 113, 7].into();
        let told = site.back(&error(router, X, kind, rest, &seen));
        assert_eq!((src(&told), dst(&told)), (router, A), "{kind:?}");
        assert_eq!(icmp_kind(&told), kind);
        assert_eq!(transport(&told)[4..8], rest);
        assert_eq!(ends(quoted(&told)), ((A, 5000), (S, 9)));
    }
}

#[test]
fn n_ice_5_of_queries_the_identifier_goes_back() {
    let mut site = Site::new();
    site.out(&ping(B, S, 77));
    let seen = site.out(&ping(A, S, 77));
    assert_ne!(ends(&seen).0.1, 77);
    let told = site.back(&error(S4, X, (11, 0), [0; 4], &seen));
    assert_eq!(ends(quoted(&told)), ((A, 77), (S, 77)));
    assert_eq!(
        quoted(&told)[20..],
        transport(&ping(A, S, 77))[..],
        "with the checksum that it had"
    );
}

#[test]
fn n_ice_5_of_sessions_without_ports() {
    let mut site = Site::new();
    let seen = site.out(&raw(A, S, 50, &[7; 32]));
    let told = site.back(&error(S4, X, (3, 2), [0; 4], &seen[..28]));
    assert_eq!((dst(&told), src(quoted(&told)), dst(quoted(&told))), (A, A, S));
}

#[test]
fn n_ice_6_the_checksum_of_sctp_stays_as_it_is_quoted() {
    let mut site = Site::new();
    let offer = [[0, 0, 0, 7], [0, 1, 0, 0], [0, 10, 0, 10], [0, 0, 0, 1]].concat();
    site.out(&sctp((B, 5000), (S, 80), 0, (1, 0), &offer));
    let seen = site.out(&sctp((A, 5000), (S, 80), 0, (1, 0), &offer));
    let told = site.back(&error(S4, X, (3, 1), [0; 4], &seen));
    assert_eq!(ends(quoted(&told)), ((A, 5000), (S, 80)));
    assert_eq!(quoted(&told)[24..], seen[24..], "all but the ports");
}

#[test]
fn n_ice_6_udp_is_quoted_as_it_was_sent() {
    let mut site = Site::new();
    site.external((B, 5000), (S, 9));
    let asked = udp_with((A, 5000), (S, 9), b"some longer payload");
    let seen = site.out(&asked);
    assert_ne!(ends(&seen).0, (X, 5000), "so that the port is part of it");
    let told = site.back(&error(S, X, (3, 3), [0; 4], &seen));
    let mut expected = asked;
    expected[8] -= 1;
    assert_eq!(quoted(&told)[20..], expected[20..]);
}

#[test]
fn n_ice_6_a_checksum_of_tcp_only_where_it_is_quoted() {
    for len in [28, 38, 40, 48] {
        let mut site = Site::new();
        site.external((B, 7000), (S, 80));
        let asked = tcp_with((A, 7000), (S, 80), SYN, (1000, 0), &[2, 4, 5, 180], b"data");
        let seen = site.out(&asked);
        let told = site.back(&error(S4, X, (11, 0), [0; 4], &seen[..len]));
        assert_eq!(quoted(&told)[20..], asked[20..len], "{len} bytes");
    }
}

#[test]
fn n_ice_7_checksums_of_quoted_header_and_message_are_right() {
    let (mut site, seen) = flow();
    // The fixture looks at the outer ones.
    let told = site.back(&error(S, X, (3, 3), [0; 4], &seen));
    let inner = quoted(&told);
    assert_eq!(inner[..20], mended(inner.to_vec())[..20]);
}

#[test]
fn n_ice_8_an_error_from_behind_a_published_port_comes_from_the_external_address() {
    for from in [B, C] {
        let mut site = Site::new();
        site.publish(UDP, 5353, (B, 53));
        let seen = site.back(&udp((S, 4000), (X, 5353)));
        let told = site.out(&unreachable(from, S, &seen));
        assert_eq!((src(&told), dst(&told)), (X, S));
        assert_eq!(ends(quoted(&told)), ((S, 4000), (X, 5353)));
    }
}

#[test]
fn n_ice_8_an_error_of_the_initiator_about_an_answer() {
    let (mut site, _) = flow();
    let answer = site.back(&udp((S, 9), (X, 5000)));
    let told = site.out(&unreachable(A, S, &answer));
    assert_eq!((src(&told), dst(&told)), (X, S));
    assert_eq!(ends(quoted(&told)), ((S, 9), (X, 5000)));
}

#[test]
fn n_ice_9_an_error_changes_nothing() {
    let (mut site, seen) = flow();
    site.advance(secs(20));
    let before = site.only();
    site.back(&unreachable(S, X, &seen));
    assert_eq!(site.only(), before);
    // Nor one about TCP.
    let mut site = Site::new();
    let seen = site.out(&tcp((A, 7000), (S, 80), SYN, 1000, 0));
    let before = site.only();
    site.back(&error(S4, X, (3, 1), [0; 4], &seen[..28]));
    assert_eq!(site.only(), before);
}

#[test]
fn n_ice_10_without_a_session_it_is_dropped_silently_both_ways() {
    let mut site = Site::new();
    let never = udp((X, 5000), (S, 9));
    assert_eq!(
        site.refused(OUTSIDE, &unreachable(S, X, &never)),
        DropReason::IcmpUnrelated
    );
    let never = udp((S, 9), (A, 5000));
    assert_eq!(
        site.refused(INSIDE, &unreachable(A, S, &never)),
        DropReason::IcmpUnrelated
    );
    // With TTL 1 too: no error about an error.
    let dying = crate::packets::with_ttl(unreachable(S, X, &udp((X, 5000), (S, 9))), 1);
    site.refused(OUTSIDE, &dying);
}

#[test]
fn n_ice_10_nor_about_one_that_dies_here() {
    let (mut site, seen) = flow();
    let dying = crate::packets::with_ttl(unreachable(S, X, &seen), 1);
    assert_eq!(site.refused(OUTSIDE, &dying), DropReason::TimeExceeded);
}

#[test]
fn n_ice_10_nor_after_its_session() {
    let (mut site, seen) = flow();
    site.advance(secs(121));
    assert_eq!(
        site.refused(OUTSIDE, &unreachable(S, X, &seen)),
        DropReason::IcmpUnrelated
    );
}

#[test]
fn n_ice_11_redirects_of_translated_sessions_are_dropped() {
    let (mut site, seen) = flow();
    let redirect = error(S4, X, (5, 1), [198, 51, 100, 9], &seen[..28]);
    assert_eq!(site.refused(OUTSIDE, &redirect), DropReason::Redirect);
}

#[test]
fn n_ice_12_hairpinned_errors_translate_both_ways() {
    let mut site = Site::new();
    site.publish(UDP, 8080, (B, 80));
    let seen = site.turn(&udp((A, 1111), (X, 8080)));
    let told = site.turn(&unreachable(B, src(&seen), &seen));
    assert_eq!((src(&told), dst(&told)), (X, A));
    assert_eq!(ends(quoted(&told)), ((A, 1111), (X, 8080)));
    // And A's about B's answer.
    let answer = site.turn(&udp((B, 80), ends(&seen).0));
    let told = site.turn(&unreachable(A, X, &answer));
    assert_eq!(dst(&told), B);
    assert_eq!(src(&told), src(&seen), "B knows A by that");
    assert_eq!(ends(quoted(&told)), ((B, 80), ends(&seen).0));
}

#[test]
fn n_ice_13_of_tcp_only_what_is_in_flight_may_be_quoted() {
    let mut site = Site::new();
    let external = site.connect((A, 7000), (S, 80));
    site.out(&tcp_with((A, 7000), (S, 80), ACK, (1001, 5001), &[], &[0; 100]));
    for (sequence, is_believed) in [
        (1001, true),
        (1050, true),
        (900, false),
        (2000, false),
        (0x8000_0000, false),
    ] {
        let quote = tcp(external, (S, 80), ACK, sequence, 5001);
        let packet = error(S4, X, (3, 4), [0, 0, 5, 0], &quote[..28]);
        match is_believed {
            true => drop(site.back(&packet)),
            false => assert_eq!(
                site.refused(OUTSIDE, &packet),
                DropReason::IcmpUnrelated,
                "{sequence}"
            ),
        }
    }
    // What was acknowledged is in flight no more.
    site.back(&tcp((S, 80), external, ACK, 5001, 1101));
    let quote = tcp(external, (S, 80), ACK, 1001, 5001);
    assert_eq!(
        site.refused(OUTSIDE, &error(S4, X, (3, 4), [0, 0, 5, 0], &quote[..28])),
        DropReason::IcmpUnrelated
    );
    assert_eq!(
        site.conn(INSIDE, TCP, (A, 7000), (S, 80))
            .and_then(|conn| conn.state),
        Some("ESTABLISHED")
    );
}

#[test]
fn n_ice_13_an_mtu_that_no_link_has_is_ignored() {
    let (mut site, seen) = flow();
    let about = |mtu: u16| {
        let [high, low] = mtu.to_be_bytes();
        error(S4, X, (3, 4), [0, 0, high, low], &seen[..28])
    };
    for mtu in [0, 68, 551] {
        assert_eq!(site.refused(OUTSIDE, &about(mtu)), DropReason::Invalid, "{mtu}");
    }
    site.back(&about(552));
}

#[test]
fn n_ice_14_packet_too_big_follows_the_same_rules() {
    let mut site = Site::new();
    let seen = site.out(&udp((A6, 5000), (S6, 53)));
    let about = |to, mtu: u32| error(R6, to, (2, 0), mtu.to_be_bytes(), &seen);
    let told = site.back(&about(X6, 1280));
    assert_eq!((src(&told), dst(&told)), (R6, A6));
    assert_eq!(ends(quoted(&told)), ((A6, 5000), (S6, 53)));
    assert_eq!(site.refused(OUTSIDE, &about(X6, 1279)), DropReason::Invalid);
    let elsewhere = "2001:db8:b::77".parse().expect("an address");
    assert_eq!(
        site.refused(OUTSIDE, &about(elsewhere, 1280)),
        DropReason::IcmpUnrelated
    );
    let mut wrong = about(X6, 1280);
    wrong[43] ^= 1;
    assert_eq!(site.refused(OUTSIDE, &wrong), DropReason::BadChecksum);
}
