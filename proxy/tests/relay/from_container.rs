//! Data from the container to the server (R-RX).

use std::time::Duration;

use vswitch_proxy::tcp::End;
use vswitch_wire::TcpFlags;

use crate::{
    scenario::{C, G, MSS, Scenario, render},
    segment::{Segment, pattern},
};

/// The container's bytes from offset `from`.
fn data(from: u32, len: usize) -> Segment {
    Segment::ack(C + 1 + from, G + 1).data(C + 1, len)
}

/// A container whose windows, and ours, are scaled.
fn scaled() -> Scenario {
    Scenario::established_with(Segment::syn(C, MSS).options(&[2, 4, 5, 0xb4, 1, 3, 3, 0]))
}

#[test]
fn r_rx_1_in_order_data_reaches_the_host_at_once() {
    let mut s = Scenario::established();
    s.sends(data(0, 1460));
    s.sends(data(1460, 1460));
    assert_eq!(s.host.outbound, pattern(0, 2920));
    assert_eq!(s.out().last().map(String::as_str), Some("A 5001 ack 3921"));
}

#[test]
fn r_rx_1_what_overlaps_is_trimmed() {
    let mut s = Scenario::established();
    s.sends(data(0, 1000));
    s.sends(data(500, 1000));
    assert_eq!(s.host.outbound, pattern(0, 1500));
    // Other bytes for what was taken change nothing (R-LIM-4).
    s.sends(Segment::ack(C + 1, G + 1).payload(&[0xff; 1500]));
    assert_eq!(s.host.outbound, pattern(0, 1500));
    s.sends(data(1500, 100));
    assert_eq!(s.host.outbound, pattern(0, 1600));
}

#[test]
fn r_rx_1_an_old_segment_is_acknowledged_at_once() {
    let mut s = Scenario::established();
    s.sends(data(0, 1000));
    s.take();
    s.sends(data(0, 1000));
    assert_eq!(s.out(), ["A 5001 ack 2001"]);
    s.sends(data(200, 100));
    assert_eq!(s.out(), ["A 5001 ack 2001"]);
    assert_eq!(s.host.outbound.len(), 1000);
}

#[test]
fn r_rx_3_what_a_full_host_did_not_take_comes_again() {
    let mut s = Scenario::established();
    s.host.capacity = 20_000;
    let mut sent = 0;
    // A container that sends all that it may, and again from the acknowledgment at each update.
    let mut rounds = 0;
    let total = 1_000_000;
    s.sends(data(0, 1));
    while s.host.outbound.len() < total {
        rounds += 1;
        assert!(rounds < 2000, "stuck at {}", s.host.outbound.len());
        let out = s.take();
        let edge = out.last().map(|last| {
            let window = s.window_of(last);
            (last.segment.ack.0 - C - 1, window)
        });
        if let Some((acked, window)) = edge {
            let len = (window as usize).min(total - acked as usize);
            for chunk in (0..len).step_by(MSS.into()) {
                s.sends(data(acked + chunk as u32, (len - chunk).min(MSS.into())));
                sent += 1;
            }
        }
        let queued = s.host.queued;
        s.server_reads(queued);
        s.runs(Duration::from_millis(50));
    }
    assert!(s.host.outbound == pattern(0, s.host.outbound.len()));
    assert!(s.flow.end().is_none());
    assert!(sent < 3 * total / usize::from(MSS), "{sent} segments");
}

#[test]
fn r_rx_3_a_short_send_counts_only_what_was_taken() {
    let mut s = Scenario::established();
    s.host.takes = 400;
    s.sends(data(0, 1460));
    assert_eq!(s.host.outbound.len(), 400);
    assert_eq!(s.out(), ["A 5001 ack 1401"]);
    assert!(s.host.watched, "the flow waits for room");
    s.host.takes = usize::MAX;
    s.sends(data(0, 1460));
    assert_eq!(s.host.outbound, pattern(0, 1460));
}

#[test]
fn r_rx_3_a_fin_behind_what_was_not_taken_does_not_count() {
    let mut s = Scenario::established();
    s.host.takes = 400;
    s.sends(data(0, 1460).fin());
    assert_eq!(s.out(), ["A 5001 ack 1401"]);
    assert!(!s.host.shut);
    s.host.takes = usize::MAX;
    s.sends(data(400, 1060).fin());
    assert_eq!(s.out(), ["A 5001 ack 2462"]);
    assert!(s.host.shut);
    assert_eq!(s.host.outbound, pattern(0, 1460));
}

#[test]
fn r_rx_4_a_batch_is_acknowledged_once_at_its_end() {
    let mut s = Scenario::established();
    s.sends_batch(&[data(0, 1460), data(1460, 1460)]);
    assert_eq!(s.out(), ["A 5001 ack 3921"]);
    s.sends(data(2920, 10));
    s.runs(Duration::from_millis(500));
    assert_eq!(s.out(), ["A 5001 ack 3931"], "at the latest after 500 ms");
}

#[test]
fn r_rx_4_a_remote_peers_own_acknowledgment_is_passed_on() {
    let mut s = Scenario::pending();
    s.host.round_trip = Duration::from_millis(40);
    let mut s = s.shake();
    s.sends(data(0, 100));
    let before = s.take();
    assert!(
        before.iter().all(|emitted| emitted.segment.ack.0 == C + 1),
        "the peer has not acknowledged: {:?}",
        render(&before)
    );
    s.server_reads(100);
    s.runs(Duration::from_millis(20));
    assert_eq!(s.out(), ["A 5001 ack 1101"], "seen half a round trip later");
    // Bulk data and what comes with a FIN is acknowledged when the host has it.
    s.sends(data(100, 100).fin());
    assert_eq!(s.out(), ["A 5001 ack 1202"]);
}

#[test]
fn r_rx_4_a_remote_peer_that_never_answers_costs_few_looks() {
    let mut s = Scenario::pending();
    s.host.round_trip = Duration::from_millis(1);
    let mut s = s.shake();
    s.sends(data(0, 100));
    s.take();
    let before = s.timeouts;
    s.runs(Duration::from_secs(10));
    let looks = s.timeouts - before;
    assert!(looks <= 30, "{looks} looks in 10 s");
    assert_eq!(s.out(), [""; 0]);
    // It answers at last; what follows is looked at as closely as before.
    s.server_reads(100);
    s.runs(Duration::from_secs(4));
    assert_eq!(s.out(), ["A 5001 ack 1101"]);
    s.sends(data(100, 100));
    s.server_reads(100);
    s.runs(Duration::from_millis(1));
    assert_eq!(s.out(), ["A 5001 ack 1201"]);
}

#[test]
fn r_rx_5_the_window_is_what_peer_and_queue_take() {
    let mut s = scaled();
    s.host.peer_window = 30_000;
    s.host.capacity = 1 << 20;
    let mut at = 0;
    // The edge of the handshake's window has to be used up first (R-RX-8).
    for _ in 0..200 {
        s.sends(data(at, 1460));
        at += 1460;
        let queued = s.host.queued;
        s.server_reads(queued);
    }
    let out = s.take();
    let last = out.last().expect("an acknowledgment");
    let window = s.window_of(last);
    assert!((28_000..=30_720).contains(&window), "{window}");

    s.host.peer_window = 1 << 24;
    s.host.capacity = 50_000;
    for _ in 0..200 {
        s.sends(data(at, 1460));
        at += 1460;
        let queued = s.host.queued;
        s.server_reads(queued);
    }
    let out = s.take();
    let last = out.last().expect("an acknowledgment");
    let window = s.window_of(last);
    assert!((30_000..=75_000).contains(&window), "{window}");
}

#[test]
fn r_rx_6_no_silly_windows_but_never_a_dead_start() {
    // Less than a segment's room while something is queued: closed.
    let mut s = Scenario::established();
    s.host.capacity = 30_000;
    let mut at = 0;
    loop {
        let out = s.take();
        let edge = out
            .last()
            .map(|last| last.segment.ack.0 - C - 1 + s.window_of(last));
        if edge.is_some_and(|edge| edge == at) {
            break;
        }
        assert!(at < 200_000, "no end of the window");
        let before = s.host.outbound.len();
        s.sends(data(at, 1000));
        at += (s.host.outbound.len() - before) as u32;
        if s.host.outbound.len() == before {
            break;
        }
    }
    // A little room does not open it.
    s.host.takes = usize::MAX;
    s.take();
    s.server_reads(500);
    s.runs(Duration::from_millis(300));
    let out = s.take();
    assert!(
        out.iter().all(|emitted| s.window_of(emitted) == 0),
        "{:?}",
        render(&out)
    );

    // An empty queue smaller than a segment: open all the same.
    let mut settings = crate::scenario::settings();
    settings.mss = 65_480;
    let mut s = Scenario::with_settings(Segment::syn(C, MSS), settings);
    s.host.capacity = 46_080;
    s.connected();
    let synack = &s.take()[0];
    assert!(synack.segment.window >= 46_000, "{}", synack.segment.window);
}

#[test]
fn r_rx_7_an_update_follows_within_200_ms_of_room() {
    let mut s = Scenario::established();
    s.host.capacity = 20_000;
    s.sends(data(0, 20_000));
    // Whatever the edge was, the queue is full now.
    s.sends(data(20_000, 1000));
    let out = s.take();
    assert_eq!(s.host.outbound.len(), 20_000);
    assert!(!out.is_empty());
    s.server_reads(20_000);
    s.runs(Duration::from_millis(200));
    let out = s.take();
    let last = out.last().expect("an update");
    assert!(s.window_of(last) >= 10_000, "{:?}", render(&out));
    assert_eq!(last.segment.ack.0, C + 1 + 20_000);
}

#[test]
fn r_rx_7_a_lost_event_does_not_keep_the_window_closed() {
    let mut s = scaled();
    s.host.peer_window = 0;
    let mut at = 0;
    for _ in 0..200 {
        let before = s.host.outbound.len();
        s.sends(data(at, 1460));
        at += (s.host.outbound.len() - before) as u32;
        let queued = s.host.queued;
        s.server_reads(queued);
    }
    let out = s.take();
    assert_eq!(out.last().map(|last| s.window_of(last)), Some(0));
    // Nor is one asked for: a queue with room would give it at once, over and over.
    assert!(!s.host.watched);
    // The peer opens its window. There is no event for that.
    s.host.peer_window = 1 << 20;
    s.runs(Duration::from_millis(200));
    let out = s.take();
    assert!(
        out.last().is_some_and(|last| s.window_of(last) > 0),
        "{:?}",
        render(&out)
    );
}

#[test]
fn r_rx_7_an_update_that_a_full_device_did_not_take_is_still_due() {
    let mut s = Scenario::established();
    s.host.capacity = 20_000;
    s.sends(data(0, 20_000));
    s.sends(data(20_000, 1000));
    s.take();
    s.host.device_full_for = 4;
    s.server_reads(20_000);
    s.runs(Duration::from_millis(300));
    let out = s.take();
    assert!(
        out.last().is_some_and(|last| s.window_of(last) > 0),
        "{:?}",
        render(&out)
    );
}

#[test]
fn r_rx_8_the_right_edge_never_moves_back() {
    for scale in [None, Some(7)] {
        let options = scale.map_or(vec![2, 4, 5, 0xb4], |scale| vec![2, 4, 5, 0xb4, 1, 3, 3, scale]);
        let mut s = Scenario::established_with(Segment::syn(C, MSS).options(&options));
        let mut edge = 0;
        let mut at = 0;
        for round in 0..400_usize {
            s.host.capacity = [100_000, 20_000, 46_080, 3000][round / 7 % 4];
            s.host.peer_window = [1 << 20, 500, 0, 70_000][round / 5 % 4];
            let before = s.host.outbound.len();
            s.sends(data(at, 1 + round * 37 % 3000));
            at += (s.host.outbound.len() - before) as u32;
            let queued = s.host.queued;
            s.server_reads(queued / 2);
            for emitted in s.take() {
                let offered = emitted.segment.ack.0 + s.window_of(&emitted);
                assert!(offered >= edge, "round {round}: {edge} becomes {offered}");
                edge = offered;
            }
        }
        assert!(at > 10_000, "only {at} bytes got through");
    }
}

#[test]
fn r_rx_8_data_beyond_the_edge_is_dropped_with_an_acknowledgment() {
    let mut s = Scenario::established();
    s.sends(data(0, 1000));
    let out = s.take();
    let edge = out[0].segment.ack.0 - C - 1 + s.window_of(&out[0]);
    s.host.capacity = 1 << 22;
    s.host.peer_window = 1 << 22;
    s.sends(data(edge, 1000));
    assert!(s.out().iter().all(|line| line == "A 5001 ack 2001"));
    assert_eq!(s.host.outbound.len(), 1000);
    s.sends(data(edge + 1, 1000));
    assert!(s.out().iter().all(|line| line == "A 5001 ack 2001"));
    assert_eq!(s.host.outbound.len(), 1000);
}

#[test]
fn r_rx_11_urgent_data_goes_in_line() {
    let mut s = Scenario::established();
    let urgent = TcpFlags::ACK | TcpFlags::PSH | TcpFlags::URG;
    s.sends(data(0, 100).flags(urgent));
    s.sends(data(100, 1).flags(urgent));
    s.sends(data(101, 99));
    assert_eq!(s.host.outbound, pattern(0, 200));
    assert_eq!(s.out().last().map(String::as_str), Some("A 5001 ack 1201"));
}

#[test]
fn r_rx_12_a_server_that_is_gone_resets_the_container() {
    for errno in [libc::ECONNRESET, libc::EPIPE] {
        let mut s = Scenario::established();
        s.sends(data(0, 100));
        s.take();
        s.host.error = Some(errno);
        s.sends(data(100, 100));
        assert_eq!(s.out(), ["RA 5001 ack 1101"]);
        assert_eq!(s.flow.end(), Some(End::Reset));
    }
}

#[test]
fn r_rx_13_a_super_segment_is_taken_whole() {
    let mut s = scaled();
    s.host.capacity = 1 << 20;
    s.sends(data(0, 100));
    s.sends(data(100, 65_000));
    assert_eq!(s.host.outbound, pattern(0, 65_100));
    assert_eq!(s.host.calls.sends, 2);
    assert_eq!(s.out().last().map(String::as_str), Some("A 5001 ack 66101"));
}
