//! Segments of the container that come before what precedes them (R-RX-2).

use std::{sync::Arc, time::Duration};

use vswitch_proxy::tcp::{Connection, EarlyBudget, End};
use vswitch_wire::TcpFlags;

use crate::{
    scenario::{C, G, MSS, Scenario},
    segment::{Segment, pattern},
};

/// The container's bytes from offset `from`.
fn data(from: u32, len: usize) -> Segment {
    Segment::ack(C + 1 + from, G + 1).data(C + 1, len)
}

/// The same, all of one value.
fn filled(from: u32, fill: u8, len: usize) -> Segment {
    Segment::ack(C + 1 + from, G + 1).payload(&vec![fill; len])
}

/// A container whose windows, and ours, are scaled, before a socket with much room.
fn roomy() -> Scenario {
    let mut s = Scenario::established_with(Segment::syn(C, MSS).options(&[2, 4, 5, 0xb4, 1, 3, 3, 0]));
    s.host.capacity = 4 << 20;
    s.host.peer_window = 4 << 20;
    // The next acknowledgment offers it.
    s.sends(data(0, 1));
    s.take();
    s
}

#[test]
fn r_rx_2_each_early_segment_is_answered_once_and_the_hole_with_all() {
    let mut s = Scenario::established();
    for at in 1..4 {
        s.sends(data(at * 1460, 1460));
        assert_eq!(s.out(), ["A 5001 ack 1001"], "segment {at}");
    }
    assert_eq!(s.host.calls.sends, 0);
    s.sends(data(0, 1460));
    assert_eq!(s.out(), ["A 5001 ack 6841"]);
    assert_eq!(s.host.outbound, pattern(0, 5840));
    assert_eq!(s.host.calls.sends, 2, "what came in a row goes in one piece");
    assert_eq!(s.host.early.used(), 0);
}

#[test]
fn r_rx_2_in_order_data_costs_no_memory() {
    let mut s = Scenario::established();
    for at in 0..20 {
        s.sends(data(at * 1460, 1460));
        assert_eq!(s.host.early.used(), 0);
    }
}

#[test]
fn r_rx_2_several_holes_are_filled_one_by_one() {
    let mut s = Scenario::established();
    for at in [1, 3, 5] {
        s.sends(data(at * 1000, 1000));
    }
    s.take();
    s.sends(data(0, 1000));
    assert_eq!(s.out(), ["A 5001 ack 3001"]);
    s.sends(data(4000, 1000));
    assert_eq!(s.out(), ["A 5001 ack 3001"]);
    s.sends(data(2000, 1000));
    assert_eq!(s.out(), ["A 5001 ack 7001"]);
    assert_eq!(s.host.outbound, pattern(0, 6000));
}

#[test]
fn r_rx_2_the_first_copy_that_was_kept_counts() {
    let mut s = Scenario::established();
    s.sends(filled(100, 1, 100));
    s.sends(filled(300, 2, 100));
    s.sends(filled(50, 3, 300));
    s.sends(filled(0, 4, 500));
    let expected = [&[4; 50][..], &[3; 50], &[1; 100], &[3; 100], &[2; 100], &[4; 100]].concat();
    assert_eq!(s.host.outbound, expected);
    assert_eq!(s.out().last().map(String::as_str), Some("A 5001 ack 1501"));
}

#[test]
fn r_rx_2_an_early_fin_counts_once_it_is_reached() {
    let mut s = Scenario::established();
    s.sends(data(1000, 1000).fin());
    assert_eq!(s.out(), ["A 5001 ack 1001"]);
    assert!(!s.host.shut);
    s.sends(data(0, 1000));
    assert_eq!(s.out(), ["A 5001 ack 3002"]);
    assert!(s.host.shut);
    assert_eq!(s.host.outbound, pattern(0, 2000));
    // Bare, and with something behind it, which nobody may send.
    let mut s = Scenario::established();
    s.sends(data(1000, 0).fin());
    s.sends(data(500, 1000));
    assert!(!s.host.shut);
    s.sends(data(0, 3000));
    assert_eq!(s.out().last().map(String::as_str), Some("A 5001 ack 2002"));
    assert!(s.host.shut);
    assert_eq!(s.host.outbound, pattern(0, 1000));
    assert_eq!(s.host.early.used(), 0);
}

#[test]
fn r_rx_2_an_early_fin_ends_a_flow_whose_other_stream_has_ended() {
    let mut s = Scenario::established();
    s.server_ends();
    s.sends(data(1000, 1000).flags(TcpFlags::ACK | TcpFlags::FIN));
    s.take();
    s.sends(Segment::ack(C + 1, G + 2).data(C + 1, 1000));
    assert_eq!(s.out(), ["A 5002 ack 3002"]);
    assert_eq!(s.flow.end(), Some(End::Closed { time_wait: true }));
}

#[test]
fn r_rx_2_what_a_full_host_does_not_take_is_not_acknowledged_and_not_lost() {
    let mut s = Scenario::established();
    s.sends(data(1000, 1000).fin());
    s.take();
    s.host.capacity = 1200;
    s.sends(data(0, 1000));
    assert_eq!(s.out(), ["A 5001 ack 2201"]);
    assert!(s.host.watched, "the flow waits for room");
    s.server_reads(1200);
    s.runs(Duration::from_millis(200));
    assert_eq!(s.host.outbound, pattern(0, 2000));
    assert!(s.host.shut);
    assert_eq!(s.out().last().map(String::as_str), Some("A 5001 ack 3002"));
}

#[test]
fn r_rx_2_a_server_that_is_gone_while_kept_bytes_wait_resets() {
    let mut s = Scenario::established();
    s.host.capacity = 1200;
    s.sends(data(1000, 1000));
    s.sends(data(0, 1000));
    s.take();
    s.host.error = Some(libc::ECONNRESET);
    s.server_reads(1200);
    assert_eq!(s.out(), ["RA 5001 ack 2201"]);
    assert_eq!(s.flow.end(), Some(End::Reset));
}

#[test]
fn r_rx_2_nothing_beyond_the_window_is_kept() {
    let mut s = Scenario::established();
    s.sends(data(0, 1000));
    let out = s.take();
    let edge = out[0].segment.ack.0 - C - 1 + s.window_of(&out[0]);
    let room = (edge - 1000) as usize;
    s.host.capacity = 4 << 20;
    s.sends(data(2000, room).fin());
    s.sends(data(1000, 1000));
    assert_eq!(s.host.outbound.len() as u32, edge);
    assert!(!s.host.shut);
}

#[test]
fn r_rx_2_what_finds_no_room_comes_again() {
    let mut s = roomy();
    s.host.early = Arc::new(EarlyBudget::new(10_000));
    for at in 1..20 {
        s.sends(data(1 + at * 1460, 1460));
        assert_eq!(s.out(), ["A 5001 ack 1002"], "one duplicate all the same");
    }
    assert!(s.host.early.used() <= 10_000 && s.host.early.refused() > 0);
    s.sends(data(1, 1460));
    let got = s.host.outbound.len();
    assert!((4381..20 * 1460).contains(&got), "{got}");
    assert_eq!(s.out(), [format!("A 5001 ack {}", 1001 + got)]);
    s.sends(data(got as u32, 29_201 - got));
    assert_eq!(s.host.outbound, pattern(0, 29_201));
}

#[test]
fn r_rx_2_memory_is_limited_and_comes_back_with_the_flow() {
    let mut s = roomy();
    s.host.early = Arc::new(EarlyBudget::new(16 << 20));
    for _ in 0..3 {
        // The edge moves with what is taken.
        s.sends(data(s.host.outbound.len() as u32, 1460));
    }
    let from = s.host.outbound.len() as u32;
    for at in 1..1000 {
        s.sends(data(from + at * 1460, 1460));
    }
    let used = s.host.early.used();
    assert!((128 << 10..=256 << 10).contains(&used), "{used}");
    let budget = Arc::clone(&s.host.early);
    drop::<Connection>(s.flow);
    assert_eq!(budget.used(), 0);
}
