//! A container's connect (R-OUT).

use std::time::Duration;

use vswitch_proxy::tcp::End;
use vswitch_wire::{Refusal, TcpFlags};

use crate::{
    scenario::{C, G, MSS, Scenario, settings},
    segment::Segment,
};

#[test]
fn r_out_1_the_container_is_connected_only_when_the_host_is() {
    let mut s = Scenario::pending();
    s.runs(Duration::from_millis(800));
    assert_eq!(s.out(), [""; 0]);
    assert!(s.flow.is_connecting());
    s.connected();
    assert_eq!(s.out(), ["SA 5000 ack 1001"]);
    s.sends(Segment::ack(C + 1, G + 1));
    assert_eq!(s.out(), [""; 0]);
    assert!(!s.flow.is_connecting() && s.flow.end().is_none());
}

#[test]
fn r_out_2_a_failed_connect_is_told_as_the_hosts() {
    for errno in [libc::ECONNREFUSED, libc::ECONNRESET] {
        let mut s = Scenario::pending();
        s.connect_fails(errno);
        let out = s.take();
        assert_eq!(crate::scenario::render(&out), ["RA 0 ack 1001"], "{errno}");
        assert_eq!(out[0].segment.window, 0);
        assert_eq!((s.flow.end(), s.host.refused.len()), (Some(End::Reset), 0));
    }
    let refusals = [
        (libc::ENETUNREACH, Refusal::NoRoute),
        (libc::EHOSTUNREACH, Refusal::HostUnreachable),
        (libc::EACCES, Refusal::Prohibited),
        (libc::EPERM, Refusal::Prohibited),
        (libc::ETIMEDOUT, Refusal::HostUnreachable),
    ];
    for (errno, refusal) in refusals {
        let mut s = Scenario::pending();
        s.connect_fails(errno);
        assert_eq!(
            s.host.refused,
            [(vswitch_proxy::seq::SeqNum(C), refusal)],
            "{errno}"
        );
        assert_eq!((s.flow.end(), s.out()), (Some(End::Reset), vec![]), "{errno}");
    }
    for errno in [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOMEM,
        libc::ENOBUFS,
        libc::EAGAIN,
        libc::EADDRNOTAVAIL,
    ] {
        let mut s = Scenario::pending();
        s.connect_fails(errno);
        assert_eq!((s.out().len(), s.host.refused.len()), (0, 0), "{errno}");
        assert_eq!(s.flow.end(), Some(End::Reset), "{errno}");
    }
}

#[test]
fn r_out_2_a_connect_fails_once() {
    let mut s = Scenario::pending();
    s.connect_fails(libc::ECONNREFUSED);
    s.take();
    s.connect_fails(libc::ECONNREFUSED);
    s.connected();
    s.sends(Segment::syn(C, MSS));
    assert_eq!(s.out(), [""; 0]);
}

#[test]
fn r_out_3_a_repeated_syn_only_waits() {
    let mut s = Scenario::pending();
    for _ in 0..3 {
        s.runs(Duration::from_secs(1));
        s.sends(Segment::syn(C, MSS));
    }
    assert_eq!(s.out(), [""; 0]);
    assert!(s.flow.end().is_none());
    s.connected();
    assert_eq!(s.out(), ["SA 5000 ack 1001"]);
}

#[test]
fn r_out_3_another_syn_replaces_the_pending_connect() {
    let mut s = Scenario::pending();
    s.sends(Segment::syn(C + 100_000, MSS));
    assert_eq!((s.flow.end(), s.out()), (Some(End::Replaced), vec![]));
}

#[test]
fn r_out_4_the_container_gives_up_before_the_host_has_connected() {
    let exact = [
        Segment::reset(C + 1),
        Segment::ack(C + 1, 0).flags(TcpFlags::RST | TcpFlags::ACK),
        Segment::ack(C + 1, 0).flags(TcpFlags::FIN | TcpFlags::ACK),
        Segment::ack(C + 1, 0).flags(TcpFlags::FIN),
    ];
    for segment in exact {
        let mut s = Scenario::pending();
        s.sends(segment.clone());
        assert_eq!(s.flow.end(), Some(End::Reset), "{segment:?}");
        assert_eq!((s.out().len(), s.host.refused.len()), (0, 0), "{segment:?}");
        s.connected();
        assert_eq!(s.out(), [""; 0], "the connect comes too late");
    }
}

#[test]
fn r_out_4_anothers_reset_does_not_end_a_pending_connect() {
    let mut s = Scenario::pending();
    s.sends(Segment::reset(C + 77_777));
    assert_eq!(s.flow.end(), None);
}

#[test]
fn r_out_5_a_connect_ends_at_its_timeout() {
    let mut s = Scenario::pending();
    s.runs(Duration::from_secs(129));
    assert_eq!(s.flow.end(), None);
    s.runs(Duration::from_secs(2));
    assert_eq!(s.flow.end(), Some(End::Reset));
    assert_eq!(
        s.host.refused,
        [(vswitch_proxy::seq::SeqNum(C), Refusal::HostUnreachable)]
    );

    let mut short = settings();
    short.connect_timeout = Duration::from_secs(30);
    let mut s = Scenario::with_settings(Segment::syn(C, MSS), short);
    s.runs(Duration::from_secs(30));
    assert_eq!(s.flow.end(), Some(End::Reset));
}

#[test]
fn r_out_7_an_unanswered_syn_ack_is_repeated_then_the_host_is_reset() {
    let mut s = Scenario::pending();
    s.connected();
    s.runs(Duration::from_secs(600));
    let mut out = s.take();
    let last = out.pop().expect("a last word");
    assert!(last.segment.flags.contains(TcpFlags::RST));
    assert_eq!(
        last.segment.seq.0,
        G + 1,
        "the container ignores any other (RFC 5961)"
    );
    assert!(
        (6..=8).contains(&out.len()),
        "once and 5 to 7 retries: {}",
        out.len()
    );
    assert!(
        crate::scenario::render(&out)
            .iter()
            .all(|line| line == "SA 5000 ack 1001")
    );
    let waits: Vec<_> = out.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert_eq!(waits[0], Duration::from_secs(1));
    assert!(waits.windows(2).all(|pair| pair[1] == 2 * pair[0]), "{waits:?}");
    assert_eq!(s.flow.end(), Some(End::Reset));
}

#[test]
fn r_out_7_a_syn_that_comes_again_gets_its_answer_again() {
    let mut s = Scenario::pending();
    s.connected();
    s.take();
    s.sends(Segment::syn(C, MSS));
    assert_eq!(s.out(), ["SA 5000 ack 1001"]);
    s.sends(Segment::ack(C + 1, G + 1));
    s.runs(Duration::from_secs(10));
    assert_eq!(s.out(), [""; 0], "no SYN+ACK after the handshake");
}

#[test]
fn r_out_7_an_acknowledgment_of_something_else_does_not_open() {
    let mut s = Scenario::pending();
    s.connected();
    s.take();
    s.sends(Segment::ack(C + 1, G + 500).data(C + 1, 10));
    assert_eq!(s.host.outbound.len(), 0);
    let out = s.take();
    assert!(
        out.iter()
            .all(|emitted| emitted.segment.flags.contains(TcpFlags::RST)),
        "RFC 9293 §3.10.7.4: a reset, or silence"
    );
}

#[test]
fn r_out_7_a_full_device_loses_no_syn_ack() {
    let mut s = Scenario::pending();
    s.host.device_full_for = 3;
    s.connected();
    assert_eq!(s.out(), [""; 0]);
    s.runs(Duration::from_millis(200));
    assert_eq!(s.out(), ["SA 5000 ack 1001"]);
}

#[test]
fn r_out_10_data_in_a_syn_is_not_accepted() {
    let syn = Segment::syn(C, MSS).payload(b"early");
    let mut s = Scenario::pending_with(syn);
    s.connected();
    assert_eq!(s.out(), ["SA 5000 ack 1001"]);
    assert_eq!(s.host.calls.sends, 0);
    s.sends(Segment::ack(C + 1, G + 1).payload(b"early"));
    assert_eq!(s.host.outbound, b"early");
    assert_eq!(s.out(), ["A 5001 ack 1006"]);
}
