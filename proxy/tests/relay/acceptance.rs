//! Which segments count: keep-alives, resets, SYNs and acknowledgments out of place (R-RX-9, R-RX-10).

use std::time::Duration;

use vswitch_proxy::tcp::End;
use vswitch_wire::TcpFlags;

use crate::{
    scenario::{C, G, MSS, Scenario},
    segment::{Segment, pattern},
};

/// The container's bytes from offset `from`.
fn data(from: u32, len: usize) -> Segment {
    Segment::ack(C + 1 + from, G + 1).data(C + 1, len)
}

#[test]
fn r_rx_9_a_keep_alive_is_answered_and_its_window_taken() {
    let mut s = Scenario::established();
    s.sends(data(0, 100));
    s.take();
    assert!(!s.host.keeps_alive);
    for probe in [
        Segment::ack(C + 100, G + 1).window(700),
        Segment::ack(C + 100, G + 1).window(700).payload(&[0]),
    ] {
        s.sends(probe);
        assert_eq!(s.out(), ["A 5001 ack 1101"]);
    }
    assert!(s.host.keeps_alive);
    assert_eq!(s.host.outbound, pattern(0, 100));
    s.serves(5000);
    let sent = s.data();
    assert_eq!(sent, [(0, 700)], "the window of the keep-alive holds");
}

#[test]
fn r_rx_10_a_reset_must_be_exact() {
    let mut s = Scenario::established();
    s.sends(data(0, 100));
    s.take();
    for seq in [C + 100, C + 102, C + 1000, C + 60_000] {
        s.sends(Segment::reset(seq));
        assert!(s.flow.end().is_none(), "{seq}");
    }
    assert!(
        s.out().iter().all(|line| line == "A 5001 ack 1101"),
        "challenges, or silence for what is old"
    );
    // Far outside the window: nothing at all.
    s.sends(Segment::reset(C + 5_000_000));
    s.sends(Segment::reset(C - 500));
    assert_eq!((s.out(), s.flow.end()), (vec![], None));
    s.sends(Segment::reset(C + 101));
    assert_eq!(s.flow.end(), Some(End::Reset));
    assert_eq!(s.out(), [""; 0], "a reset is not answered");
}

#[test]
fn r_rx_10_a_reset_behind_a_used_up_window_is_challenged() {
    // What the host did not take the container has sent all the same; its reset comes after that.
    let mut s = Scenario::established();
    s.sends(data(0, 100));
    let out = s.take();
    let edge = out[0].segment.ack.0 + s.window_of(&out[0]);
    s.sends(Segment::reset(edge));
    assert_eq!(
        (s.out(), s.flow.end()),
        (vec!["A 5001 ack 1101".to_owned()], None)
    );
    s.sends(Segment::reset(edge + 1));
    assert_eq!((s.out(), s.flow.end()), (vec![], None));
}

#[test]
fn r_rx_10_a_syn_is_challenged() {
    let mut s = Scenario::established();
    for seq in [C, C + 1, C + 5000, C.wrapping_sub(5000), C + 10_000_000] {
        s.sends(Segment::syn(seq, MSS));
        assert_eq!(s.out(), ["A 5001 ack 1001"], "{seq}");
        s.sends(Segment::syn(seq, MSS).flags(TcpFlags::SYN | TcpFlags::ACK));
        assert_eq!(s.out(), ["A 5001 ack 1001"], "{seq}");
        assert!(s.flow.end().is_none());
    }
}

#[test]
fn r_rx_10_acknowledgments_far_off_are_challenged() {
    let mut s = Scenario::established();
    s.serves(1000);
    s.sends(Segment::ack(C + 1, G + 1001));
    s.take();
    for ack in [G + 1002, G + 1001 + (1 << 30), G.wrapping_sub(70_000)] {
        s.sends(Segment::ack(C + 1, ack).payload(b"x"));
        assert_eq!(s.out(), ["A 6001 ack 1001"], "{ack}");
    }
    assert_eq!(s.host.calls.sends, 0, "nor is their text taken");
    // Old, but not older than the largest window: text counts.
    s.sends(Segment::ack(C + 1, G + 1).data(C + 1, 10));
    assert_eq!(s.host.outbound, pattern(0, 10));
}

#[test]
fn r_rx_10_challenges_are_limited() {
    let mut s = Scenario::established();
    for _ in 0..100 {
        s.sends(Segment::syn(C, MSS));
    }
    assert_eq!(s.out().len(), 10);
    s.runs(Duration::from_secs(5));
    s.sends(Segment::syn(C, MSS));
    assert_eq!(s.out().len(), 1);
    s.host.challenges = 0;
    s.sends(Segment::syn(C, MSS));
    assert_eq!(s.out().len(), 0, "all flows together have a limit too");
}

#[test]
fn r_rx_10_a_segment_without_ack_carries_nothing() {
    let mut s = Scenario::established();
    s.sends(data(0, 10).flags(TcpFlags::PSH));
    s.sends(data(0, 10).flags(TcpFlags(0)));
    s.sends(data(0, 0).flags(TcpFlags::FIN));
    assert_eq!((s.host.calls.sends, s.host.shut), (0, false));
    assert!(s.flow.end().is_none());
}

#[test]
fn r_rx_9_a_keep_alive_that_was_overtaken_changes_no_window() {
    let mut s = Scenario::established();
    s.serves(1000);
    s.sends(Segment::ack(C + 1, G + 1001).window(2000));
    s.take();
    s.sends(Segment::ack(C, G + 501).window(60_000));
    s.take();
    s.serves(5000);
    let sent = s.data();
    assert!(
        sent.iter().all(|range| range.1 <= 3000),
        "beyond every window that was offered: {sent:?}"
    );
}
