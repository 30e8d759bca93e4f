//! §7: ICMP queries.

use vswitch_nat::{DropReason, Verdict};

use crate::{
    packets::{ends, ping, pong, query},
    site::*,
};

#[test]
fn n_icq_1_sessions_begin_with_requests_only() {
    for kind in 0..=255 {
        let mut site = Site::new();
        let packet = query(A, S, kind, 77);
        match kind {
            8 | 13 | 15 | 17 => assert_eq!(ends(&site.out(&packet)).0, (X, 77), "type {kind}"),
            _ => {
                let Verdict::Drop(_) = site.put(INSIDE, &packet).verdict else {
                    panic!("type {kind} left");
                };
                assert!(site.conns().is_empty(), "type {kind}");
            }
        }
    }
}

#[test]
fn n_icq_1_of_icmpv6_too() {
    for kind in 0..=255 {
        let mut site = Site::new();
        let packet = query(A6, S6, kind, 77);
        match kind {
            128 => assert_eq!(ends(&site.out(&packet)).0, (X6, 77), "type {kind}"),
            _ => assert!(
                matches!(site.put(INSIDE, &packet).verdict, Verdict::Drop(_)),
                "type {kind}"
            ),
        }
    }
}

#[test]
fn n_icq_1_only_the_inverse_type_with_the_identifier_answers() {
    for (ask, answer) in [(8, 0), (13, 14), (15, 16), (17, 18)] {
        let mut site = Site::new();
        site.out(&query(A, S, ask, 77));
        for other in [0, 14, 16, 18] {
            let packet = query(S, X, other, 77);
            match other == answer {
                true => assert_eq!(ends(&site.back(&packet)).1, (A, 77)),
                false => assert_eq!(
                    site.refused(OUTSIDE, &packet),
                    DropReason::Unsolicited,
                    "{ask} {other}"
                ),
            }
        }
        assert_eq!(
            site.refused(OUTSIDE, &query(S, X, answer, 78)),
            DropReason::Unsolicited
        );
        assert_eq!(
            site.refused(OUTSIDE, &query(S3, X, answer, 77)),
            DropReason::Unsolicited
        );
    }
}

#[test]
fn n_icq_2_sequence_numbers_are_not_tracked_and_duplicates_pass() {
    let mut site = Site::new();
    site.out(&ping(A, S, 77));
    for sequence in [1u16, 1, 9, 0, u16::MAX] {
        let mut answer = pong(S, X, 77);
        answer[26..28].copy_from_slice(&sequence.to_be_bytes());
        site.back(&crate::packets::mended(answer));
    }
    assert_eq!(site.only().traffic[1].packets, 5);
    site.advance(secs(61));
    assert_eq!(site.refused(OUTSIDE, &pong(S, X, 77)), DropReason::Unsolicited);
}

#[test]
fn n_icq_3_requests_from_inside_are_let_out() {
    let mut site = Site::new();
    assert_eq!(ends(&site.out(&ping(A, S, 77))), ((X, 77), (S, 77)));
    assert_eq!(ends(&site.back(&pong(S, X, 77))), ((S, 77), (A, 77)));
}

#[test]
fn n_icq_4_the_checksum_follows_the_identifier() {
    // The fixture looks at every checksum; here identifiers change, both ways and in both versions.
    let mut site = Site::new();
    for (first, second, there, external) in [(A, B, S, X), (A6, B6, S6, X6)] {
        site.out(&ping(first, there, 77));
        let moved = ends(&site.out(&ping(second, there, 77))).0;
        assert_eq!(moved.0, external);
        assert_ne!(moved.1, 77);
        assert_eq!(ends(&site.back(&pong(there, external, moved.1))).1, (second, 77));
    }
}

#[test]
fn n_icq_5_echo_from_outside_is_never_forwarded_inside() {
    let mut site = Site::new();
    site.out(&ping(A, S, 77));
    assert_eq!(site.put(OUTSIDE, &ping(S, X, 77)).verdict, Verdict::Local);
    assert_eq!(site.put(OUTSIDE, &ping(S6, X6, 77)).verdict, Verdict::Local);
    assert_eq!(site.refused(OUTSIDE, &ping(S, A, 77)), DropReason::Unsolicited);
}

#[test]
fn n_icq_5_echo_to_an_external_address_from_inside_is_the_owners_to_answer() {
    let mut site = Site::new();
    assert_eq!(site.put(INSIDE, &ping(A, X, 77)).verdict, Verdict::Local);
    assert_eq!(site.put(INSIDE, &ping(A, GATEWAY, 77)).verdict, Verdict::Local);
}
