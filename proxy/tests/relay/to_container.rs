//! Data from the server to the container (R-TX).

use std::time::Duration;

use vswitch_proxy::tcp::End;
use vswitch_wire::TcpFlags;

use crate::{
    scenario::{C, G, MSS, Scenario, render},
    segment::Segment,
};

/// An acknowledgment of the first `len` bytes of the server's stream.
fn ack(len: u32) -> Segment {
    Segment::ack(C + 1, G + 1 + len)
}

#[test]
fn r_tx_1_the_window_bounds_what_is_sent() {
    let mut s = Scenario::established();
    s.sends(ack(0).window(10_000));
    s.serves(50_000);
    let first = s.data();
    let [(0, sent)] = first[..] else {
        panic!("{first:?}")
    };
    assert!(sent <= 10_000 && 10_000 - sent < MSS.into(), "{sent}");
    // Acknowledging a part of it moves the window by as much.
    s.sends(ack(2920).window(10_000));
    let second = s.data();
    let [(from, until)] = second[..] else {
        panic!("{second:?}")
    };
    assert_eq!(from, sent);
    assert!(until <= 12_920 && 12_920 - until < MSS.into(), "{until}");
    assert_eq!(s.host.discarded, 2920);
}

#[test]
fn r_tx_1_the_last_of_a_batch_pushes() {
    for len in [1, 100, 1460, 5000, 50_000] {
        let mut s = Scenario::established();
        s.serves(len);
        let out = s.take();
        let last = out.last().expect("data");
        assert!(last.segment.flags.contains(TcpFlags::PSH), "{:?}", render(&out));
    }
}

#[test]
fn r_tx_3_an_acknowledgment_removes_what_it_names() {
    let mut s = Scenario::established();
    s.serves(3000);
    s.take();
    s.sends(ack(1460));
    assert_eq!(s.host.discarded, 1460);
    s.sends(ack(1460));
    assert_eq!(s.host.discarded, 1460, "the same again removes nothing");
    s.sends(ack(3000));
    assert_eq!(s.host.discarded, 3000);
    // Nothing is in flight, so no timer but the idle ones runs.
    s.runs(Duration::from_secs(10));
    assert_eq!(s.out(), [""; 0]);
}

#[test]
fn r_tx_3_an_old_acknowledgment_moves_nothing() {
    let mut s = Scenario::established();
    s.serves(3000);
    s.sends(ack(3000));
    s.take();
    s.sends(ack(1460).window(100));
    assert_eq!(s.host.discarded, 3000);
    // Nor does its window count: what comes next is not bounded by it.
    s.serves(3000);
    assert_eq!(s.data(), [(3000, 6000)]);
}

#[test]
fn r_tx_3_a_failed_removal_is_an_acknowledgment_that_never_came() {
    let mut s = Scenario::established();
    s.serves(3000);
    s.take();
    s.host.failing_discards = 1;
    s.sends(ack(3000));
    assert_eq!(s.host.discarded, 0);
    // The stream is whole all the same: the container says it again, or answers the retransmission.
    s.sends(ack(3000));
    assert_eq!(s.host.discarded, 3000);
    s.serves(100);
    assert_eq!(s.data(), [(3000, 3100)]);
}

#[test]
fn r_tx_3_r_lim_5_an_acknowledgment_of_the_unsent_is_answered_and_ignored() {
    let mut s = Scenario::established();
    s.serves(1000);
    s.host.ended = false;
    s.take();
    s.sends(ack(1001).data(C + 1, 10));
    assert_eq!(s.out(), ["A 6001 ack 1001"]);
    assert_eq!((s.host.discarded, s.host.outbound.len()), (0, 0));
    s.sends(ack(1000));
    assert_eq!(s.host.discarded, 1000);
}

#[test]
fn r_tx_4_what_a_full_device_did_not_take_is_not_sent() {
    let mut s = Scenario::established();
    s.host.device_full_for = 5;
    s.serves(3000);
    assert_eq!(s.out(), [""; 0]);
    s.runs(Duration::from_millis(200));
    assert_eq!(s.data(), [(0, 3000)]);
    s.sends(ack(3000));
    assert_eq!(s.host.discarded, 3000);
}

#[test]
fn r_tx_4_a_full_device_is_left_alone_for_a_while() {
    let mut s = Scenario::established();
    s.host.device_full_for = usize::MAX;
    s.serves(3000);
    let before = s.host.calls;
    s.runs(Duration::from_secs(1));
    let tries = s.host.calls.emits - before.emits;
    assert!((1..=2000).contains(&tries), "{tries} in a second");
}

#[test]
fn r_tx_5_unacknowledged_data_is_sent_again_ever_later() {
    let mut s = Scenario::established();
    s.serves(5000);
    assert_eq!(s.data(), [(0, 5000)]);
    let began = s.clock.now();
    s.runs(Duration::from_secs(20));
    let out = s.take();
    let times: Vec<_> = out
        .iter()
        .map(|emitted| (emitted.at - began).as_secs_f32().round())
        .collect();
    assert_eq!(times, [1., 3., 7., 15.]);
    for emitted in &out {
        assert_eq!(emitted.segment.seq.0, G + 1);
        assert_eq!(emitted.payload.len(), MSS.into(), "one segment at a time");
    }
    // New acknowledgments take the timer back to where it began, and the rest goes out at once.
    s.sends(ack(1460));
    assert_eq!(s.data(), [(1460, 5000)]);
    let acked = s.clock.now();
    s.runs(Duration::from_millis(1500));
    let again = s.take();
    assert_eq!(again.len(), 1, "{:?}", render(&again));
    assert_eq!(again[0].at - acked, Duration::from_secs(1));
    s.sends(ack(5000));
    s.take();
    s.runs(Duration::from_secs(25));
    assert_eq!(s.out(), [""; 0], "nothing is in flight");
}

#[test]
fn r_tx_5_the_wait_never_exceeds_two_minutes() {
    let mut s = Scenario::established();
    s.serves(100);
    s.take();
    s.runs(Duration::from_secs(2400));
    let out = s.take();
    let longest = out.windows(2).map(|pair| pair[1].at - pair[0].at).max();
    assert_eq!(longest, Some(Duration::from_secs(120)));
}

#[test]
fn r_tx_5_a_container_that_stays_silent_is_given_up() {
    let mut s = Scenario::established();
    s.serves(5000);
    s.take();
    s.runs(Duration::from_secs(3600));
    let mut out = s.take();
    let last = out.pop().expect("a last word");
    assert!(
        last.segment.flags.contains(TcpFlags::RST),
        "{:?}",
        render(&[last])
    );
    assert!((7..=15).contains(&out.len()), "{} retransmissions", out.len());
    assert_eq!(s.flow.end(), Some(End::Reset));
}

#[test]
fn r_tx_5_after_a_lost_syn_ack_the_timer_starts_at_three_seconds() {
    let mut s = Scenario::pending();
    s.connected();
    s.runs(Duration::from_millis(1500));
    s.sends(Segment::ack(C + 1, G + 1));
    s.serves(100);
    s.take();
    let began = s.clock.now();
    s.runs(Duration::from_secs(5));
    let out = s.take();
    assert_eq!(out.len(), 1, "{:?}", render(&out));
    assert_eq!(out[0].at - began, Duration::from_secs(3));
}

#[test]
fn r_tx_6_window_updates_fins_and_data_are_no_duplicates() {
    let mut s = Scenario::established();
    s.serves(10_000);
    s.take();
    for window in [50_000, 40_000, 50_000, 40_000, 50_000] {
        s.sends(ack(0).window(window));
    }
    assert_eq!(s.data(), [], "window updates");
    for at in 0..5 {
        let data = Segment::ack(C + 1 + at * 10, G + 1).window(50_000);
        s.sends(data.data(C + 1, 10));
    }
    assert_eq!(s.data(), [], "data");
    for _ in 0..5 {
        s.sends(Segment::ack(C + 50, G + 1).window(50_000));
    }
    assert_eq!(s.data(), [], "keep-alives");
    s.sends(Segment::ack(C + 51, G + 1).window(50_000).fin());
    for _ in 0..2 {
        s.sends(Segment::ack(C + 51, G + 1).window(50_000).fin());
    }
    assert_eq!(s.data(), [], "FINs");
    // Three real ones are a loss.
    for _ in 0..4 {
        s.sends(Segment::ack(C + 52, G + 1).window(50_000));
    }
    let data = s.data();
    assert_eq!(
        data.first().map(|range| range.0),
        Some(0),
        "also in half-closed state"
    );
    assert_eq!(data.len(), 1);
}

#[test]
fn r_tx_6_duplicates_count_across_batches_and_repair_once() {
    let mut s = Scenario::established();
    s.serves(30_000);
    s.take();
    let repeat = ack(1460);
    s.sends(repeat.clone());
    s.take();
    s.sends_batch(&[repeat.clone(), repeat.clone()]);
    s.sends(repeat.clone());
    let data = s.data();
    assert_eq!(data.first().map(|range| range.0), Some(1460), "{data:?}");
    let repaired = data[0].1;
    s.sends_batch(&vec![repeat; 10]);
    assert_eq!(s.data(), [], "one rewind for a loss");
    // All of it arrives, and the flow goes on.
    s.sends(ack(30_000.max(repaired)));
    s.serves(100);
    assert_eq!(s.data(), [(30_000, 30_100)]);
}

#[test]
fn r_tx_6_no_duplicates_where_nothing_is_in_flight() {
    let mut s = Scenario::established();
    for _ in 0..10 {
        s.sends(ack(0));
    }
    assert_eq!(s.out(), [""; 0]);
    s.serves(1000);
    assert_eq!(s.data(), [(0, 1000)]);
}

#[test]
fn r_tx_7_a_window_that_shrinks_to_zero_stops_everything() {
    let mut s = Scenario::established();
    s.serves(10_000);
    s.take();
    s.sends(ack(0).window(0));
    assert_eq!(s.out(), [""; 0]);
    s.runs(Duration::from_millis(900));
    assert_eq!(s.out(), [""; 0], "nothing before the timer");
    s.runs(Duration::from_millis(300));
    assert_eq!(s.data(), [(0, 1)], "one byte asks");
    // What was dropped is sent again once there is a window.
    s.sends(ack(0).window(20_000));
    let data = s.data();
    assert_eq!(data, [(0, 10_000)]);
}

#[test]
fn r_tx_7_a_fin_is_unsent_by_a_rewind() {
    let mut s = Scenario::established();
    s.serves(100);
    s.sends(ack(100));
    s.server_ends();
    assert_eq!(s.out(), ["PA 5001 ack 1001 len 100", "FA 5101 ack 1001"]);
    s.sends(ack(100).window(0));
    s.runs(Duration::from_secs(3));
    let out = s.take();
    assert!(
        out.iter()
            .any(|emitted| emitted.segment.flags.contains(TcpFlags::FIN)),
        "a FIN takes no window (RFC 9293 §3.8.6): {:?}",
        render(&out)
    );
    s.sends(ack(101).window(1000));
    s.take();
    s.runs(Duration::from_secs(10));
    assert_eq!(s.out(), [""; 0]);
}

#[test]
fn r_tx_8_a_closed_window_is_probed_for_ever_while_the_container_answers() {
    let mut s = Scenario::established();
    s.serves(1000);
    s.sends(ack(1000).window(0));
    s.take();
    s.serves(50_000);
    assert_eq!(s.data(), [], "the window is closed");
    let began = s.clock.now();
    let mut probes = Vec::new();
    while s.clock.now() - began < Duration::from_secs(600) {
        s.runs(Duration::from_millis(500));
        for emitted in s.take() {
            assert_eq!(
                (emitted.segment.seq.0, emitted.payload.len()),
                (G + 1001, 1),
                "{:?}",
                render(&[emitted])
            );
            probes.push(emitted.at - began);
            s.sends(ack(1000).window(0));
            assert_eq!(s.out(), [""; 0], "an answer is not answered");
        }
    }
    assert!(
        (10..=30).contains(&probes.len()),
        "{} probes: {probes:?}",
        probes.len()
    );
    assert!(probes[0] <= Duration::from_millis(1500));
    let longest = probes.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest <= Some(Duration::from_secs(61)), "{longest:?}");
    // The update is lost: the next probe's answer brings it.
    s.runs(Duration::from_secs(61));
    assert_eq!(s.data().first(), Some(&(1000, 1001)));
    s.sends(ack(1001).window(60_000));
    let data = s.data();
    assert_eq!(data, [(1001, 51_000)]);
}

#[test]
fn r_tx_8_a_container_that_answers_no_probe_is_given_up() {
    let mut s = Scenario::established();
    s.serves(1000);
    s.sends(ack(1000).window(0));
    s.serves(1000);
    s.runs(Duration::from_secs(3600));
    assert_eq!(s.flow.end(), Some(End::Reset));
}

#[test]
fn r_tx_9_a_server_that_goes_on_wakes_nobody() {
    let mut s = Scenario::established();
    s.sends(ack(0).window(5000));
    s.serves(100_000);
    s.take();
    let before = (s.host.calls, s.timeouts);
    // Edge-triggered: each arrival is one event, and costs at most one look.
    for _ in 0..1000 {
        s.serves(10);
    }
    assert_eq!(s.out(), [""; 0]);
    let peeks = s.host.calls.peeks - before.0.peeks;
    assert!(peeks <= 1000, "{peeks} looks at 1000 events");
    s.runs(Duration::from_millis(900));
    assert_eq!(s.timeouts, before.1, "no timer but the retransmission's");
}

#[test]
fn r_tx_10_the_end_comes_after_all_data_is_acknowledged() {
    let mut s = Scenario::established();
    s.serves(3000);
    s.server_ends();
    assert_eq!(s.data(), [(0, 3000)]);
    s.sends(Segment::ack(C + 1, G + 1).data(C + 1, 10));
    s.sends(Segment::ack(C + 11, G + 1461));
    let early = s.out();
    assert!(!early.iter().any(|line| line.starts_with('F')), "{early:?}");
    s.sends(Segment::ack(C + 11, G + 3001));
    assert_eq!(s.out(), ["FA 8001 ack 1011"]);
}

#[test]
fn r_tx_10_a_hint_without_a_zero_read_is_no_end() {
    let mut s = Scenario::established();
    s.readable();
    s.readable();
    assert_eq!(s.out(), [""; 0]);
    s.serves(10);
    assert_eq!(s.out(), ["PA 5001 ack 1001 len 10"]);
}

#[test]
fn r_tx_11_a_reset_of_the_server_has_the_exact_number() {
    let mut s = Scenario::established();
    s.serves(3000);
    s.sends(ack(1460));
    s.take();
    s.server_fails(libc::ECONNRESET);
    assert_eq!(s.out(), ["RA 8001 ack 1001"]);
    assert_eq!(s.flow.end(), Some(End::Reset));
    s.serves(10);
    s.sends(ack(3000));
    s.runs(Duration::from_secs(600));
    assert_eq!(s.out(), [""; 0], "it is over");
}

#[test]
fn r_tx_11_a_reset_while_the_window_is_closed_is_told_too() {
    let mut s = Scenario::established();
    s.sends(ack(0).window(1000));
    s.serves(5000);
    s.take();
    s.host.error = Some(libc::ECONNRESET);
    s.flow.handle_host_error(&mut s.host);
    let out = s.take();
    assert_eq!(render(&out), [format!("RA {} ack 1001", s.host.sent_until.0)]);
    assert_eq!(s.flow.end(), Some(End::Reset));
}

#[test]
fn r_tx_12_data_carries_the_acknowledgment_and_window_of_now() {
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 1, G + 1).data(C + 1, 500));
    s.serves(10);
    s.sends(Segment::ack(C + 501, G + 11).data(C + 1, 500));
    s.serves(10);
    let out = s.take();
    let data: Vec<_> = out.iter().filter(|emitted| !emitted.payload.is_empty()).collect();
    assert_eq!(data.len(), 2);
    assert_eq!((data[0].segment.ack.0, data[1].segment.ack.0), (1501, 2001));
    assert!(data.iter().all(|emitted| emitted.segment.window > 0));
}
