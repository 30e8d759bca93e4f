//! Ends of streams and connections (section 7, R-CL).

use std::time::Duration;

use vswitch_proxy::tcp::End;
use vswitch_wire::TcpFlags;

use crate::{
    scenario::{C, G, MSS, Scenario, render},
    segment::{Segment, pattern},
};

const PASSIVE: Option<End> = Some(End::Closed { time_wait: false });
const ACTIVE: Option<End> = Some(End::Closed { time_wait: true });

#[test]
fn r_cl_1_the_server_may_end_first() {
    let mut s = Scenario::established();
    s.serves(5000);
    s.server_ends();
    s.sends(Segment::ack(C + 1, G + 5001));
    let out = s.out();
    assert_eq!(out.last().map(String::as_str), Some("FA 10001 ack 1001"));
    s.sends(Segment::ack(C + 1, G + 5002));
    // For as long as the container likes.
    for hour in 0..3 {
        s.runs(Duration::from_secs(3500));
        s.sends(Segment::ack(C + 1 + hour * 16, G + 5002).data(C + 1, 16));
    }
    s.take();
    s.sends(Segment::ack(C + 49, G + 5002).fin());
    assert_eq!(s.out(), ["A 10002 ack 1050"]);
    assert_eq!(s.host.outbound, pattern(0, 48));
    assert!(s.host.shut);
    assert_eq!(
        s.flow.end(),
        ACTIVE,
        "we were first: the container may repeat its FIN"
    );
    assert_eq!((s.flow.sequence().0.0, s.flow.sequence().1.0), (G + 5002, C + 50));
}

#[test]
fn r_cl_1_the_container_may_end_first() {
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 1, G + 1).data(C + 1, 100).fin());
    assert_eq!(s.out(), ["A 5001 ack 1102"]);
    assert!(s.host.shut && s.flow.end().is_none());
    for _ in 0..3 {
        s.runs(Duration::from_secs(3500));
        s.serves(1000);
        s.acks_all();
    }
    assert_eq!(s.host.discarded, 3000);
    s.take();
    s.server_ends();
    assert_eq!(s.out(), ["FA 8001 ack 1102"]);
    assert_eq!(s.flow.end(), None, "R-CL-3: not before the FIN is acknowledged");
    s.sends(Segment::ack(C + 102, G + 3002));
    assert_eq!(s.flow.end(), PASSIVE);
}

#[test]
fn r_cl_1_both_at_once() {
    let mut s = Scenario::established();
    s.server_ends();
    assert_eq!(s.out(), ["FA 5001 ack 1001"]);
    s.sends(Segment::ack(C + 1, G + 1).fin());
    assert_eq!(s.out(), ["A 5002 ack 1002"]);
    assert_eq!(s.flow.end(), None);
    s.sends(Segment::ack(C + 2, G + 2));
    assert_eq!(s.flow.end(), ACTIVE);
    assert_eq!(s.out(), [""; 0]);
}

#[test]
fn r_cl_1_data_and_both_ends_in_one_batch() {
    let mut s = Scenario::established();
    s.server_ends();
    s.take();
    s.sends_batch(&[
        Segment::ack(C + 1, G + 2).data(C + 1, 1000),
        Segment::ack(C + 1001, G + 2).data(C + 1, 500).fin(),
    ]);
    assert_eq!(s.host.outbound, pattern(0, 1500));
    assert_eq!(s.out().last().map(String::as_str), Some("A 5002 ack 2502"));
    assert_eq!(s.flow.end(), ACTIVE);
}

#[test]
fn r_cl_1_data_and_the_end_of_the_server_race_the_containers_fin() {
    let mut s = Scenario::established();
    s.serves(1000);
    s.sends(Segment::ack(C + 1, G + 1001).fin());
    s.serves(1000);
    s.server_ends();
    s.take();
    assert_eq!(s.flow.end(), None);
    s.sends(Segment::ack(C + 2, G + 2001));
    assert_eq!(s.out(), ["FA 7001 ack 1002"]);
    s.sends(Segment::ack(C + 2, G + 2002));
    assert_eq!(s.flow.end(), PASSIVE);
}

#[test]
fn r_cl_2_hints_after_our_shutdown_are_no_errors() {
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 1, G + 1).fin());
    s.take();
    // EPOLLHUP and EPOLLRDHUP come as readable and writable.
    s.writable();
    s.readable();
    assert_eq!((s.out(), s.flow.end()), (vec![], None));
    s.server_ends();
    s.writable();
    assert_eq!(s.out(), ["FA 5001 ack 1002"]);
    assert_eq!(s.flow.end(), None);
}

#[test]
fn r_cl_3_a_fin_is_repeated_until_it_is_acknowledged() {
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 1, G + 1).fin());
    s.server_ends();
    s.take();
    s.runs(Duration::from_secs(8));
    assert_eq!(s.out(), ["FA 5001 ack 1002"; 3]);
    s.sends(Segment::ack(C + 2, G + 2));
    assert_eq!(s.flow.end(), PASSIVE);
}

#[test]
fn r_cl_3_a_fin_that_nobody_acknowledges_ends_too() {
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 1, G + 1).fin());
    s.server_ends();
    s.take();
    s.runs(Duration::from_secs(3600));
    let out = s.take();
    assert!(
        out.last()
            .is_some_and(|last| last.segment.flags.contains(TcpFlags::RST))
    );
    assert_eq!(s.flow.end(), Some(End::Reset));
}

#[test]
fn r_cl_a_fin_counts_only_behind_all_data() {
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 101, G + 1).fin());
    assert!(!s.host.shut);
    assert!(s.out().iter().all(|line| line == "A 5001 ack 1001"));
    s.sends(Segment::ack(C + 1, G + 1).data(C + 1, 100).fin());
    assert!(s.host.shut);
    assert_eq!(s.out(), ["A 5001 ack 1102"]);
}

#[test]
fn r_cl_a_repeated_fin_is_acknowledged_again() {
    let mut s = Scenario::established();
    for _ in 0..3 {
        s.sends(Segment::ack(C + 1, G + 1).data(C + 1, 100).fin());
        assert_eq!(s.out(), ["A 5001 ack 1102"]);
        s.sends(Segment::ack(C + 101, G + 1).fin());
        assert_eq!(s.out(), ["A 5001 ack 1102"]);
    }
}

#[test]
fn r_cl_text_after_the_fin_is_ignored() {
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 1, G + 1).fin());
    s.take();
    s.sends(Segment::ack(C + 2, G + 1).payload(b"more"));
    s.sends(Segment::ack(C + 2, G + 1).payload(b"more").fin());
    s.sends(Segment::ack(C + 1, G + 1).payload(b"more"));
    assert_eq!(s.host.calls.sends, 0);
    assert!(s.out().iter().all(|line| line == "A 5001 ack 1002"));
    assert!(s.flow.end().is_none());
}

#[test]
fn r_cl_a_reset_of_the_container_is_not_answered() {
    let mut s = Scenario::established();
    s.serves(5000);
    s.take();
    s.sends(Segment::reset(C + 1));
    assert_eq!((s.out(), s.flow.end()), (vec![], Some(End::Reset)));
    // In half-closed states, too.
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 1, G + 1).fin());
    s.take();
    s.sends(Segment::reset(C + 2));
    assert_eq!((s.out(), s.flow.end()), (vec![], Some(End::Reset)));
}

#[test]
fn r_cl_an_abort_has_the_exact_number() {
    let mut s = Scenario::established();
    s.serves(3000);
    s.sends(Segment::ack(C + 1, G + 1001).data(C + 1, 10));
    s.take();
    s.aborts();
    assert_eq!(s.out(), ["RA 8001 ack 1011"]);
    assert_eq!(s.flow.end(), Some(End::Reset));
    s.aborts();
    assert_eq!(s.out(), [""; 0], "once");
}

#[test]
fn r_cl_an_abort_of_a_pending_connect_is_silent() {
    let mut s = Scenario::pending();
    s.aborts();
    assert_eq!((s.out(), s.flow.end()), (vec![], Some(End::Reset)));
}

#[test]
fn r_cl_6_no_reset_answers_a_fin_after_our_shutdown() {
    // libslirp issue 12.
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 1, G + 1).data(C + 1, 10).fin());
    s.serves(10);
    s.server_ends();
    s.sends(Segment::ack(C + 12, G + 11));
    s.sends(Segment::ack(C + 12, G + 12));
    let out = s.out();
    assert!(!out.iter().any(|line| line.starts_with('R')), "{out:?}");
    assert_eq!(s.flow.end(), PASSIVE);
}

#[test]
fn r_cl_6_a_dead_container_holds_no_host_socket() {
    // slirp4netns issue 350: the container is gone after the server's FIN.
    let mut s = Scenario::established();
    s.server_ends();
    s.sends(Segment::ack(C + 1, G + 2));
    s.take();
    s.runs(Duration::from_secs(60));
    // Keep-alives ask (R-TM-2); a kernel that does not know the connection answers with RST.
    let out = s.take();
    assert!(
        out.iter().any(|emitted| emitted.segment.seq.0 == G + 1),
        "{:?}",
        render(&out)
    );
    s.sends(Segment::reset(C + 1));
    assert_eq!(s.flow.end(), Some(End::Reset));
}

#[test]
fn r_cl_6_a_fin_after_a_long_transfer_arrives() {
    // 86Box issue 3199: more than 2^32 bytes are too many for a test, the wrap of the numbers is not.
    let mut settings = crate::scenario::settings();
    settings.isn = vswitch_proxy::seq::SeqNum(u32::MAX - 5000);
    let start = u32::MAX - 3000;
    let mut s = Scenario::with_settings(Segment::syn(start, MSS), settings).shake();
    for _ in 0..10 {
        s.serves(1000);
        let (seq, ack) = (s.host.expected(), s.host.sent_until);
        s.sends(Segment::ack(seq.0, ack.0).data(start.wrapping_add(1), 1000));
    }
    s.take();
    s.server_ends();
    assert_eq!(s.out(), ["FA 5000 ack 7000"]);
    s.sends(Segment::ack(7000, 5001).fin());
    assert_eq!(s.out(), ["A 5001 ack 7001"]);
    assert_eq!(s.host.outbound, pattern(0, 10_000));
    assert_eq!(s.flow.end(), ACTIVE);
}

#[test]
fn r_cl_6_an_early_end_behind_unacknowledged_data() {
    let mut s = Scenario::established();
    s.serves(20_000);
    s.server_ends();
    s.sends(Segment::ack(C + 1, G + 1).fin());
    s.take();
    // The last segment is lost, and with it all hints.
    s.sends(Segment::ack(C + 2, G + 1 + 18_540));
    s.runs(Duration::from_millis(1100));
    assert_eq!(s.data(), [(18_540, 20_000)]);
    s.sends(Segment::ack(C + 2, G + 20_001));
    assert_eq!(s.out(), ["FA 25001 ack 1002"]);
}
