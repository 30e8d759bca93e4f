//! Which connection a segment belongs to: the reference's vectors about more than one (T15, T15b, T17, T18), and
//! what limits new ones (R-OUT-6, R-LIM-2). The relay's host sockets are real and lead to a listener on the
//! loopback; waiting for them is waiting for the kernel, never a sleep.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener},
    sync::Arc,
    time::Duration,
};

use vswitch_proxy::config::Descriptors;
use vswitch_wire::TcpFlags;

use crate::{
    segment::Segment,
    site::{GATEWAY, OUTSIDE, Site, accept},
};

/// A listener on the host's loopback, and how a container names it.
fn listener() -> (TcpListener, (Ipv4Addr, u16)) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    (listener, (GATEWAY, port))
}

/// Both ends have ended their streams, the server first; the container's last segment.
fn closed(site: &mut Site, listener: &TcpListener, to: (Ipv4Addr, u16), isn: u32) -> Segment {
    let ack = site.connects(to, isn);
    drop(accept(listener));
    let out = site.answered();
    assert_eq!(out, [format!("FA {} ack {}", ack.ack.0, isn + 1)]);
    let last = Segment::ack(isn + 1, ack.ack.0.wrapping_add(1)).fin();
    site.sends(to, std::slice::from_ref(&last));
    assert_eq!(site.out(), [format!("A {} ack {}", last.ack.0, isn + 2)]);
    assert!(site.relay.is_empty());
    last
}

#[test]
fn t15_stale() {
    let mut site = Site::new();
    site.sends((OUTSIDE, 80), &[Segment::ack(77, 88)]);
    assert_eq!(site.out(), ["R 88"]);
    site.sends((OUTSIDE, 80), &[Segment::ack(77, 88).payload(b"data").fin()]);
    assert_eq!(site.out(), ["R 88"]);
    site.sends((OUTSIDE, 80), &[Segment::reset(77)]);
    assert_eq!(site.out(), [""; 0], "a reset is never answered");
}

#[test]
fn t15b_stale_without_ack() {
    let mut site = Site::new();
    let fin = Segment::ack(77, 0).flags(TcpFlags::FIN);
    site.sends((OUTSIDE, 80), std::slice::from_ref(&fin));
    assert_eq!(site.out(), ["RA 0 ack 78"]);
    site.sends((OUTSIDE, 80), &[fin.payload(b"four")]);
    assert_eq!(site.out(), ["RA 0 ack 82"]);
}

#[test]
fn r_cl_5_resets_of_strays_are_limited() {
    let mut site = Site::new();
    for _ in 0..10_000 {
        site.sends((OUTSIDE, 80), &[Segment::ack(77, 88)]);
    }
    let answers = site.out().len();
    assert!((1..5000).contains(&answers), "{answers}");
}

#[test]
fn r_cl_4_a_repeated_fin_is_answered_for_a_minute() {
    let (listener, to) = listener();
    let mut site = Site::new();
    let fin = closed(&mut site, &listener, to, 1000);
    let answer = format!("A {} ack 1002", fin.ack.0);
    site.clock.advance(Duration::from_secs(59));
    site.sends(to, std::slice::from_ref(&fin));
    assert_eq!(site.out(), [answer]);
    site.clock.advance(Duration::from_secs(2));
    site.sends(to, std::slice::from_ref(&fin));
    assert_eq!(site.out(), [format!("R {}", fin.ack.0)], "forgotten");
}

#[test]
fn t17_reuse() {
    let (listener, to) = listener();
    let mut site = Site::new();
    closed(&mut site, &listener, to, 1000);
    site.clock.advance(Duration::from_millis(900));
    site.connects(to, 101_000);
    assert_eq!(site.relay.len(), 1);
    accept(&listener).write_all(b"new").expect("connected");
    assert_eq!(site.answered().len(), 1);
}

#[test]
fn t18_a_reset_and_a_new_syn_in_one_batch() {
    let (listener, to) = listener();
    let mut site = Site::new();
    site.connects(to, 1000);
    let mut old = accept(&listener);
    site.sends(to, &[Segment::reset(1001), Segment::syn(500_000, 1460)]);
    let error = old.read(&mut [0]).expect_err("the server sees a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let out = site.answered();
    assert!(out.len() == 1 && out[0].ends_with("ack 500001"), "{out:?}");
    accept(&listener);
    assert_eq!(site.relay.len(), 1);
}

#[test]
fn t18_a_syn_of_another_connection_replaces_a_pending_one() {
    let (listener, to) = listener();
    let mut site = Site::new();
    site.sends(to, &[Segment::syn(1000, 1460), Segment::syn(500_000, 1460)]);
    let out = site.answered();
    let last = out.last().expect("an answer");
    assert!(last.starts_with("SA") && last.ends_with("ack 500001"), "{out:?}");
    assert_eq!(site.relay.len(), 1);
    drop(listener);
}

#[test]
fn r_out_2_a_closed_port_of_the_host_refuses() {
    let (listener, to) = listener();
    drop(listener);
    let mut site = Site::new();
    site.sends(to, &[Segment::syn(1000, 1460)]);
    assert_eq!(site.answered(), ["RA 0 ack 1001"]);
    assert!(site.relay.is_empty());
}

#[test]
fn r_out_6_only_stations_have_connections() {
    let mut site = Site::new();
    let nobody = [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::new(240, 0, 0, 1),
    ];
    for address in nobody {
        site.sends((address, 80), &[Segment::syn(1000, 1460)]);
        assert_eq!((site.out(), site.refused.len()), (vec![], 0), "{address}");
    }
    site.sends((OUTSIDE, 0), &[Segment::syn(1000, 1460)]);
    assert_eq!((site.out(), site.relay.len()), (vec![], 0), "port 0");
}

#[test]
fn r_lim_6_what_policy_denies_is_told() {
    let mut site = Site::new();
    for denied in [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(169, 254, 7, 7)] {
        site.sends((denied, 80), &[Segment::syn(1000, 1460)]);
        assert_eq!(site.out(), ["RA 0 ack 1001"], "{denied}");
    }
    assert!(site.relay.is_empty());
}

#[test]
fn r_lim_2_without_descriptors_a_syn_is_a_lost_one() {
    let (first, to_first) = listener();
    let (_second, to_second) = listener();
    let mut site = Site::with_limits(|limits| limits.descriptors = Arc::new(Descriptors::new(1)));
    site.connects(to_first, 1000);
    site.sends(to_second, &[Segment::syn(2000, 1460)]);
    assert_eq!((site.out(), site.refused.len()), (vec![], 0));
    // What exists goes on, and gives its descriptor back at its end.
    accept(&first).write_all(b"still here").expect("connected");
    assert_eq!(site.answered().len(), 1);
    site.sends(to_first, &[Segment::reset(1001)]);
    assert!(site.relay.is_empty());
    site.connects(to_second, 3000);
}
