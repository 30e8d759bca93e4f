//! The vectors of the reference's section 15, with its numbers. Those about more than one connection (T15,
//! T15b, T17, T18) are the relay's.

use std::time::Duration;

use vswitch_proxy::{seq::SeqNum, tcp::End};
use vswitch_wire::{Refusal, TcpFlags, TcpSegment};

use crate::{
    scenario::{MSS, Scenario, render},
    segment::{Segment, pattern},
};

/// The container's bytes with these sequence numbers, from the first to the last.
fn bytes(first: u32, last: u32) -> Segment {
    Segment::ack(first, 5001).data(1001, (last + 1 - first) as usize)
}

#[test]
fn t1_refused() {
    let mut s = Scenario::pending();
    s.connect_fails(libc::ECONNREFUSED);
    assert_eq!(s.out(), ["RA 0 ack 1001"]);
}

#[test]
fn t2_slow_server() {
    let mut s = Scenario::pending();
    s.runs(Duration::from_secs(1));
    s.sends(Segment::syn(1000, MSS));
    s.runs(Duration::from_millis(500));
    assert_eq!(s.out(), [""; 0]);
    s.connected();
    let out = s.take();
    assert_eq!(render(&out), ["SA 5000 ack 1001"]);
    assert_eq!(out[0].at, s.clock.now());
    assert_eq!(s.clock.elapsed(), Duration::from_millis(1500));
}

#[test]
fn t3_unreachable() {
    let mut s = Scenario::pending();
    s.connect_fails(libc::EHOSTUNREACH);
    assert_eq!(s.out(), [""; 0]);
    assert_eq!(s.host.refused, [(SeqNum(1000), Refusal::HostUnreachable)]);
}

#[test]
fn t4_server_first() {
    let mut s = Scenario::pending();
    s.connected();
    assert_eq!(s.out(), ["SA 5000 ack 1001"]);
    s.serves(100);
    assert_eq!(s.out(), [""; 0], "no data before the container's ACK");
    s.sends(Segment::ack(1001, 5001));
    assert_eq!(s.out(), ["PA 5001 ack 1001 len 100"]);
}

#[test]
fn t5_partial_send() {
    let mut s = Scenario::established();
    s.host.takes = 5000;
    s.sends(bytes(1001, 21_000));
    assert_eq!(s.out(), ["A 5001 ack 6001"]);
    s.host.takes = usize::MAX;
    s.host.watched = true;
    s.server_reads(5000);
    let update = s.out();
    assert!(update.iter().all(|line| line == "A 5001 ack 6001"), "{update:?}");
    s.sends(bytes(6001, 21_000));
    assert_eq!(s.out(), ["A 5001 ack 21001"]);
    assert_eq!(s.host.outbound, pattern(0, 20_000));
}

#[test]
fn t6_out_of_order() {
    let mut s = Scenario::established();
    // The reference has a relay that keeps nothing: two duplicates, and 2461 after the hole. This one keeps what
    // came early, so the acknowledgment jumps; and a second duplicate makes Linux repair later, not sooner (see
    // `handle_payload`).
    s.sends(bytes(2461, 3920));
    assert_eq!(s.out(), ["A 5001 ack 1001"]);
    s.sends(bytes(1001, 2460));
    assert_eq!(s.out(), ["A 5001 ack 3921"]);
    assert_eq!(s.host.outbound, pattern(0, 2920));
}

#[test]
fn t7_early_fin() {
    let mut s = Scenario::established();
    s.sends(bytes(1001, 2460));
    assert_eq!(s.out(), ["A 5001 ack 2461"]);
    s.sends(Segment::ack(3921, 5001).fin());
    assert!(s.out().iter().all(|line| line == "A 5001 ack 2461"));
    assert!(!s.host.shut);
    s.sends(bytes(2461, 3920).fin());
    assert_eq!(s.out(), ["A 5001 ack 3922"]);
    assert!(s.host.shut);
}

#[test]
fn t8_zero_window() {
    let mut s = Scenario::established();
    s.serves(1000);
    s.sends(Segment::ack(1001, 6001).window(0));
    s.take();
    s.serves(2000);
    assert_eq!(s.out(), [""; 0]);
    let closed = s.clock.now();
    let mut probes = Vec::new();
    for _ in 0..80 {
        s.runs(Duration::from_millis(100));
        for emitted in s.take() {
            assert_eq!(render(std::slice::from_ref(&emitted)), ["PA 6001 ack 1001 len 1"]);
            probes.push((emitted.at - closed).as_secs_f32().round());
            s.sends(Segment::ack(1001, 6001).window(0));
        }
    }
    assert_eq!(probes, [1., 3., 7.]);
    s.sends(Segment::ack(1001, 6001).window(500));
    let before = s.clock.now();
    s.runs(Duration::from_millis(10));
    let out = s.take();
    assert_eq!(render(&out), ["PA 6001 ack 1001 len 500"]);
    assert!(out[0].at - before < Duration::from_millis(10));
}

#[test]
fn t9_shrink() {
    let mut s = Scenario::established();
    s.serves(10_000);
    assert_eq!(s.data(), [(0, 10_000)]);
    s.sends(Segment::ack(1001, 5001).window(0));
    assert_eq!(s.out(), [""; 0]);
    s.runs(Duration::from_millis(1100));
    assert_eq!(s.out(), ["PA 5001 ack 1001 len 1"]);
    s.sends(Segment::ack(1001, 5002).window(20_000));
    assert_eq!(s.data(), [(1, 10_000)]);
}

#[test]
fn t10_duplicate_acks() {
    let mut s = Scenario::established();
    s.serves(11_460);
    s.sends(Segment::ack(1001, 6461));
    s.take();
    for _ in 0..2 {
        s.sends(Segment::ack(1001, 6461));
    }
    s.sends(Segment::ack(1001, 6461));
    let data = s.data();
    assert_eq!(
        data,
        [(1460, 2920)],
        "the segment that is missing, and nothing that is not"
    );
    for _ in 0..5 {
        s.sends(Segment::ack(1001, 6461));
    }
    assert_eq!(s.data(), [], "once");
}

#[test]
fn t11_exact_reset() {
    let mut s = Scenario::established();
    s.sends(bytes(1001, 1100));
    s.take();
    s.sends(Segment::reset(1101));
    assert_eq!((s.flow.end(), s.out()), (Some(End::Reset), vec![]));
}

#[test]
fn t12_reset_in_the_window() {
    let mut s = Scenario::established();
    s.sends(Segment::reset(1011));
    assert_eq!(
        (s.flow.end(), s.out()),
        (None, vec!["A 5001 ack 1001".to_owned()])
    );
    s.sends(bytes(1001, 1010));
    assert_eq!(s.host.outbound.len(), 10, "the host's side is untouched");
}

#[test]
fn t13_the_server_resets() {
    let mut s = Scenario::established();
    s.serves(700);
    s.take();
    s.server_fails(libc::ECONNRESET);
    assert_eq!(s.out(), ["RA 5701 ack 1001"]);
    assert_eq!(s.flow.end(), Some(End::Reset));
}

#[test]
fn t14_half_close() {
    let mut s = Scenario::established();
    s.server_ends();
    assert_eq!(s.out(), ["FA 5001 ack 1001"]);
    s.sends(Segment::ack(1001, 5002));
    let mut next = 1001;
    for _ in 0..1000 {
        s.sends(Segment::ack(next, 5002).data(1001, 1000));
        next += 1000;
        let queued = s.host.queued;
        s.server_reads(queued);
        s.runs(Duration::from_millis(300));
    }
    assert!(s.clock.elapsed() >= Duration::from_secs(300));
    assert!(s.host.outbound == pattern(0, 1_000_000));
    assert_eq!(s.flow.end(), None);
    s.take();
    s.sends(Segment::ack(next, 5002).fin());
    assert_eq!(s.out(), ["A 5002 ack 1001002"]);
    assert_eq!(s.flow.end(), Some(End::Closed { time_wait: true }));
}

#[test]
fn t16_keep_alive() {
    let mut s = Scenario::established();
    s.serves(10_000);
    s.take();
    for _ in 0..5 {
        s.sends(Segment::ack(1000, 5001));
        assert_eq!(s.out(), ["A 15001 ack 1001"], "an answer, and no retransmission");
    }
    assert!(s.host.keeps_alive);
}

#[test]
fn t19_padded() {
    // Who reads the IP header gives the segment without the padding behind it.
    let mut s = Scenario::established();
    s.serves(100);
    s.take();
    let bare = Segment::ack(1001, 5101).bytes();
    let mut padded = bare.clone();
    padded.resize(46 - 20, 0xee);
    let segment = TcpSegment::parse(&padded[..bare.len()]).expect("a whole segment");
    s.host.acknowledged = SeqNum(5101);
    s.flow.handle_segment(s.clock.now(), &segment, &mut s.host);
    assert_eq!(s.host.discarded, 100);
    assert_eq!(s.host.calls.sends, 0);
}

#[test]
fn t20_full_device() {
    let mut s = Scenario::established();
    s.host.device_full_for = usize::MAX;
    s.serves(3000);
    s.runs(Duration::from_millis(100));
    assert_eq!(s.flow.sequence().0, SeqNum(5001), "nothing counts as sent");
    s.host.device_full_for = 0;
    s.runs(Duration::from_millis(100));
    assert_eq!(s.data(), [(0, 3000)]);
    s.sends(Segment::ack(1001, 8001));
    assert_eq!(s.host.discarded, 3000);
}

#[test]
fn t20_full_device_at_the_end() {
    let mut s = Scenario::established();
    s.host.device_full_for = 10;
    s.server_ends();
    s.sends(Segment::ack(1001, 5001).payload(b"x").fin());
    s.runs(Duration::from_secs(1));
    let out = s.take();
    assert!(
        out.iter()
            .any(|emitted| emitted.segment.flags.contains(TcpFlags::FIN)),
        "{:?}",
        render(&out)
    );
    assert_eq!(out.last().map(|last| last.segment.ack.0), Some(1003));
}
