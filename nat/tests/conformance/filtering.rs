//! §4: who may answer, and what keeps a mapping alive.

use vswitch_nat::{DropReason, Filtering, Unsolicited};

use crate::{
    packets::{ACK, SYN, UDP, ends, icmp_kind, ping, pong, quoted, tcp, udp},
    site::*,
};

fn filtering(filtering: Filtering) -> Site {
    Site::with_network(|network| network.filtering = Some(filtering))
}

#[test]
fn n_flt_1_by_address_and_port_only_the_called_endpoint_answers() {
    let mut site = filtering(Filtering::AddressAndPort);
    site.external((A, 5000), (S, 53));
    for stranger in [(S4, 999), (S, 999), (S4, 53)] {
        assert_eq!(
            site.refused(OUTSIDE, &udp(stranger, (X, 5000))),
            DropReason::Unsolicited
        );
    }
    assert_eq!(ends(&site.back(&udp((S, 53), (X, 5000)))), ((S, 53), (A, 5000)));
}

#[test]
fn n_flt_1_by_address_any_port_of_the_called_host_answers() {
    let mut site = filtering(Filtering::Address);
    site.external((A, 5000), (S, 53));
    assert_eq!(
        site.refused(OUTSIDE, &udp((S4, 999), (X, 5000))),
        DropReason::Unsolicited
    );
    assert_eq!(ends(&site.back(&udp((S, 999), (X, 5000)))), ((S, 999), (A, 5000)));
    // Not when the mapping to that host is over.
    site.settle(secs(200));
    assert_eq!(
        site.refused(OUTSIDE, &udp((S, 998), (X, 5000))),
        DropReason::Unsolicited
    );
}

#[test]
fn n_flt_1_endpoint_independent_lets_everybody_answer() {
    let mut site = filtering(Filtering::EndpointIndependent);
    site.external((A, 5000), (S, 53));
    assert_eq!(
        ends(&site.back(&udp((S4, 999), (X, 5000)))),
        ((S4, 999), (A, 5000))
    );
    // And is answered from the mapping's external end.
    assert_eq!(
        ends(&site.out(&udp((A, 5000), (S4, 999)))),
        ((X, 5000), (S4, 999))
    );
    assert_eq!(
        site.refused(OUTSIDE, &udp((S4, 999), (X, 5001))),
        DropReason::Unsolicited
    );
    assert_eq!(
        site.refused(OUTSIDE, &tcp((S4, 999), (X, 5000), SYN, 1, 0)),
        DropReason::Unsolicited
    );
}

#[test]
fn n_flt_1_the_engines_rule_holds_where_a_network_has_none() {
    let mut site = Site::with(|config| config.filtering = Filtering::EndpointIndependent);
    site.external((A, 5000), (S, 53));
    site.back(&udp((S4, 999), (X, 5000)));
}

#[test]
fn n_flt_2_packets_out_and_answers_refresh() {
    let mut site = Site::new();
    let external = site.external((A, 5000), (S, 9));
    site.advance(secs(100));
    site.out(&udp((A, 5000), (S, 9)));
    assert_eq!(site.remaining(), 120);
    site.advance(secs(100));
    site.back(&udp((S, 9), external));
    assert!(site.remaining() >= 120);
}

#[test]
fn n_flt_2_strangers_do_not_keep_a_hole_open() {
    for rule in [Filtering::EndpointIndependent, Filtering::Address] {
        let mut site = filtering(rule);
        site.external((A, 5000), (S, 9));
        let stranger = udp((S, 999), (X, 5000));
        site.back(&stranger);
        let mut passed = 0;
        for _ in 0..40 {
            site.settle(secs(10));
            match site.put(OUTSIDE, &stranger).verdict {
                vswitch_nat::Verdict::Forward(_) => passed += 1,
                _ => break,
            }
        }
        assert!(
            passed <= 24,
            "{rule:?}: {passed} packets kept it open for {} s",
            passed * 10
        );
    }
}

#[test]
fn n_flt_2_nor_by_coming_from_ever_other_ports() {
    for rule in [Filtering::EndpointIndependent, Filtering::Address] {
        let mut site = filtering(rule);
        site.external((A, 5000), (S, 9));
        let mut admitted = 0;
        for port in 0..40 {
            let verdict = site.put(OUTSIDE, &udp((S, 1000 + port), (X, 5000))).verdict;
            admitted += u32::from(matches!(verdict, vswitch_nat::Verdict::Forward(_)));
            site.settle(secs(10));
        }
        // In the two minutes of the inside's own session.
        assert_eq!(admitted, 12, "{rule:?}");
        assert!(site.conns().is_empty(), "and in the end the port is free");
        assert_eq!(
            site.refused(OUTSIDE, &udp((S, 9), (X, 5000))),
            DropReason::Unsolicited
        );
    }
}

#[test]
fn n_flt_2_but_one_that_was_answered_does() {
    let mut site = filtering(Filtering::Address);
    site.external((A, 5000), (S, 9));
    site.back(&udp((S, 999), (X, 5000)));
    site.settle(secs(60));
    site.out(&udp((A, 5000), (S, 999)));
    site.settle(secs(100));
    // The first session is over, that with the stranger is not.
    assert_eq!(ends(&site.back(&udp((S, 1000), (X, 5000)))).1, (A, 5000));
    // After it nothing is left.
    site.settle(secs(121));
    assert_eq!(
        site.refused(OUTSIDE, &udp((S, 1001), (X, 5000))),
        DropReason::Unsolicited
    );
    site.settle(secs(121));
    assert!(site.conns().is_empty());
}

#[test]
fn n_flt_2_a_stranger_who_is_answered_is_one_no_more() {
    let mut site = filtering(Filtering::EndpointIndependent);
    site.external((A, 5000), (S, 9));
    site.back(&udp((S4, 999), (X, 5000)));
    site.advance(secs(60));
    site.out(&udp((A, 5000), (S4, 999)));
    site.advance(secs(60));
    site.back(&udp((S4, 999), (X, 5000)));
    let conn = site.conn(OUTSIDE, UDP, (S4, 999), (X, 5000)).expect("it lives");
    assert!(seconds(conn.remaining) >= 120, "{conn:?}");
}

#[test]
fn n_flt_3_a_mapping_lives_as_long_as_its_longest_session() {
    let mut site = Site::new();
    site.external((A, 5000), (S, 9));
    let moved = site.external((B, 5000), (S, 9));
    site.external((B, 5000), (S3, 9));
    for _ in 0..3 {
        site.settle(secs(100));
        site.out(&udp((B, 5000), (S3, 9)));
    }
    assert_eq!(site.conns().len(), 1, "the other sessions are over");
    assert_eq!(site.external((B, 5000), (S4, 9)), moved);
    // With the last session the mapping is over.
    site.settle(secs(301));
    assert_eq!(site.external((B, 5000), (S4, 9)), (X, 5000));
}

#[test]
fn n_flt_4_what_nobody_asked_for_never_comes_in_silently_by_default() {
    let mut site = Site::new();
    site.external((A, 5000), (S, 53));
    assert_eq!(
        site.refused(OUTSIDE, &udp((S4, 999), (X, 5000))),
        DropReason::Unsolicited
    );
    assert_eq!(
        site.refused(OUTSIDE, &udp((S4, 999), (X, 6000))),
        DropReason::Unsolicited
    );
    assert_eq!(site.dropped(DropReason::Unsolicited), 2);
    // An inside address is no way in either.
    assert_eq!(
        site.refused(OUTSIDE, &udp((S, 53), (A, 5000))),
        DropReason::Unsolicited
    );
}

#[test]
fn n_flt_4_unless_it_is_to_be_told() {
    let mut site = Site::with(|config| config.unsolicited = Unsolicited::PortUnreachable);
    let (reason, error) = site.refused_aloud(OUTSIDE, &udp((S, 999), (X, 6000)));
    assert_eq!(reason, DropReason::Unsolicited);
    assert_eq!(icmp_kind(&error), (3, 3));
    assert_eq!((ends(&error).0.0, ends(&error).1.0), (X, S));
    assert_eq!(ends(quoted(&error)), ((S, 999), (X, 6000)));
    // TCP hears nothing, so that a simultaneous open can succeed.
    site.refused(OUTSIDE, &tcp((S, 999), (X, 6000), SYN, 1, 0));
}

#[test]
fn n_flt_5_an_unsolicited_syn_hears_nothing() {
    let mut site = Site::new();
    let syn = tcp((S, 80), (X, 7000), SYN, 5000, 0);
    for _ in 0..8 {
        assert_eq!(site.refused(OUTSIDE, &syn), DropReason::Unsolicited);
        site.settle(secs(1));
    }
}

#[test]
fn n_flt_5_and_is_a_simultaneous_open_once_the_inside_has_called() {
    let mut site = Site::new();
    let syn = tcp((S, 80), (X, 7000), SYN, 5000, 0);
    site.refused(OUTSIDE, &syn);
    site.out(&tcp((A, 7000), (S, 80), SYN, 1000, 0));
    assert_eq!(ends(&site.back(&syn)).1, (A, 7000));
}

#[test]
fn n_flt_6_only_what_goes_on_for_a_while_is_a_stream() {
    let mut site = Site::new();
    let (out, back) = (udp((A, 5000), (S, 53)), udp((S, 53), (X, 5000)));
    site.out(&out);
    site.back(&back);
    site.out(&out);
    assert_eq!(site.remaining(), 30);
    assert!(!site.only().is_assured);
    site.advance(millis(2500));
    site.out(&out);
    assert_eq!(site.remaining(), 300);
    assert!(site.only().is_assured);
}

#[test]
fn n_flt_6_a_late_answer_alone_makes_no_stream() {
    let mut site = Site::new();
    site.out(&udp((A, 5000), (S, 53)));
    site.advance(secs(3));
    site.back(&udp((S, 53), (X, 5000)));
    assert_eq!(site.remaining(), 30);
    assert!(!site.only().is_assured);
    site.back(&udp((S, 53), (X, 5000)));
    assert_eq!(site.remaining(), 300);
}

#[test]
fn n_flt_6_without_an_answer_there_is_none() {
    let mut site = Site::new();
    for _ in 0..5 {
        site.out(&udp((A, 5000), (S, 53)));
        site.advance(secs(3));
    }
    site.out(&udp((A, 5000), (S, 53)));
    assert_eq!(site.remaining(), 30);
}

#[test]
fn n_flt_7_filtering_does_not_depend_on_load_or_history() {
    let mut site = filtering(Filtering::AddressAndPort);
    for port in 0..500 {
        site.external((A, 10_000 + port), (S, 53));
    }
    assert_eq!(
        site.refused(OUTSIDE, &udp((S4, 53), (X, 10_000))),
        DropReason::Unsolicited
    );
    // Nor on what a stranger has tried before.
    site.out(&udp((A, 10_000), (S4, 53)));
    site.back(&udp((S4, 53), (X, 10_000)));
    assert_eq!(
        site.refused(OUTSIDE, &udp((S4, 54), (X, 10_000))),
        DropReason::Unsolicited
    );
    assert_eq!(
        site.refused(OUTSIDE, &tcp((S4, 53), (X, 10_000), ACK, 1, 1)),
        DropReason::Unsolicited
    );
}

#[test]
fn n_flt_1_an_echo_is_no_answer() {
    let mut site = filtering(Filtering::EndpointIndependent);
    site.out(&ping(A, S, 77));
    assert_eq!(
        site.put(OUTSIDE, &ping(S, X, 77)).verdict,
        vswitch_nat::Verdict::Local
    );
}

#[test]
fn n_icq_5_identifier_0_makes_a_question_no_answer() {
    let mut site = Site::linux();
    site.out(&ping(A, S, 0));
    site.back(&pong(S, X, 0));
    assert_eq!(site.refused(OUTSIDE, &ping(S, X, 0)), DropReason::Invalid);
    assert_eq!(site.refused(INSIDE, &pong(A, S, 0)), DropReason::Invalid);
}
