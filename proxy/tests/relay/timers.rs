//! Life time (R-TM).

use std::time::Duration;

use vswitch_proxy::{seq::SeqNum, tcp::End};
use vswitch_wire::TcpFlags;

use crate::{
    scenario::{C, G, MSS, Scenario, render, settings},
    segment::{Segment, pattern},
};

#[test]
fn r_tm_1_a_flow_without_events_is_reset() {
    let mut s = Scenario::established();
    let mut settings = settings();
    settings.idle_timeout = Duration::from_secs(20);
    let mut short = Scenario::with_settings(Segment::syn(C, MSS), settings).shake();
    short.runs(Duration::from_secs(19));
    assert_eq!(short.flow.end(), None);
    short.runs(Duration::from_secs(1));
    assert_eq!(short.flow.end(), Some(End::Reset));
    assert_eq!(short.out(), ["RA 5001 ack 1001"]);

    // Somebody who answers is not idle for ever either: the probes are ours, no event.
    s.runs(Duration::from_secs(4 * 3600));
    assert_eq!(s.flow.end(), Some(End::Reset));
}

#[test]
fn r_tm_1_half_closed_flows_idle_too() {
    let mut settings = settings();
    settings.idle_timeout = Duration::from_secs(20);
    let mut s = Scenario::with_settings(Segment::syn(C, MSS), settings).shake();
    s.sends(Segment::ack(C + 1, G + 1).fin());
    s.take();
    s.runs(Duration::from_secs(20));
    assert_eq!(s.flow.end(), Some(End::Reset));
    assert_eq!(s.out(), ["RA 5001 ack 1002"]);
}

#[test]
fn r_tm_1_either_sides_data_is_an_event() {
    let mut settings = settings();
    settings.idle_timeout = Duration::from_secs(100);
    let mut s = Scenario::with_settings(Segment::syn(C, MSS), settings).shake();
    for _ in 0..10 {
        s.runs(Duration::from_secs(90));
        s.serves(10);
        s.acks_all();
        s.runs(Duration::from_secs(90));
        let next = s.host.expected();
        s.sends(Segment::ack(next.0, s.host.sent_until.0).data(C + 1, 10));
    }
    assert_eq!(s.flow.end(), None);
}

#[test]
fn r_tm_2_a_silent_container_is_asked_whether_it_is_there() {
    let mut s = Scenario::established();
    s.runs(Duration::from_secs(31));
    let out = s.take();
    assert_eq!(
        render(&out),
        ["A 5000 ack 1001"],
        "a number that it has acknowledged"
    );
    // It is.
    s.sends(Segment::ack(C + 1, G + 1));
    s.runs(Duration::from_secs(29));
    assert_eq!(s.out(), [""; 0]);
    s.runs(Duration::from_secs(2));
    assert_eq!(s.out(), ["A 5000 ack 1001"]);
    // It is not: it was started again.
    s.sends(Segment::reset(C + 1));
    assert_eq!(s.flow.end(), Some(End::Reset));
}

#[test]
fn r_tm_2_questions_have_a_pace() {
    let mut s = Scenario::established();
    s.runs(Duration::from_secs(300));
    let asked = s.take().len();
    assert!((5..=11).contains(&asked), "{asked} in 300 s");
    assert!(s.timeouts <= 2 * asked + 2, "{} timeouts", s.timeouts);
}

#[test]
fn r_tm_5_late_timers_do_what_is_due_once() {
    // A machine that was suspended for 100 days comes back in the middle of a transfer.
    let mut s = Scenario::established();
    s.serves(5000);
    s.take();
    s.clock.advance(Duration::from_secs(100 * 86_400));
    s.flow.handle_timeout(s.clock.now(), &mut s.host);
    s.flow.handle_timeout(s.clock.now(), &mut s.host);
    assert!(s.take().len() <= 1);
}

#[test]
fn r_tm_5_early_timers_do_nothing() {
    let mut s = Scenario::established();
    s.serves(5000);
    s.take();
    for _ in 0..100 {
        s.flow.handle_timeout(s.clock.now(), &mut s.host);
    }
    assert_eq!(s.out(), [""; 0]);
    s.runs(Duration::from_millis(1000));
    assert_eq!(s.take().len(), 1);
}

#[test]
fn r_tm_5_sequence_numbers_wrap_in_both_directions() {
    for (isn, start) in [(u32::MAX, u32::MAX), (u32::MAX - 700, 0), (0, u32::MAX - 1)] {
        let mut settings = settings();
        settings.isn = SeqNum(isn);
        let mut s = Scenario::with_settings(Segment::syn(start, MSS), settings).shake();
        for round in 0..20 {
            s.serves(300);
            let (seq, ack) = (s.host.expected(), s.host.sent_until);
            s.sends(Segment::ack(seq.0, ack.0).data(start.wrapping_add(1), 100));
            // And one segment again, from before the wrap.
            s.sends(Segment::ack(seq.0, ack.0).data(start.wrapping_add(1), 100));
            assert_eq!(s.host.outbound.len(), (round + 1) * 100);
        }
        assert_eq!(s.host.outbound, pattern(0, 2000));
        assert_eq!(s.host.discarded, 6000);
        s.take();
        s.serves(100);
        s.runs(Duration::from_millis(1100));
        let out = s.take();
        assert_eq!(out.len(), 2, "{:?}", render(&out));
        assert_eq!(out[0].segment.seq, out[1].segment.seq);
        s.aborts();
        let out = s.take();
        assert_eq!(out[0].segment.seq.0, isn.wrapping_add(6101));
        assert!(out[0].segment.flags.contains(TcpFlags::RST));
    }
}
