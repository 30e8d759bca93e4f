//! §2: how long connections live.

use vswitch_nat::{DropReason, Timeouts, Timer};

use crate::{
    packets::{ACK, ICMPV6, SYN, ends, ping, pong, raw, tcp, udp},
    site::*,
};

#[test]
fn n_tmo_1_every_time_is_configurable_by_name() {
    for &(timer, name) in Timer::ALL {
        let mut timeouts = Timeouts::standard();
        timeouts.set(timer, 4321);
        for &(other, _) in Timer::ALL {
            let expected = match other == timer {
                true => secs(4321),
                false => Timeouts::standard().of(other),
            };
            assert_eq!(timeouts.of(other), expected, "{name}");
        }
    }
}

#[test]
fn n_tmo_1_a_change_applies_to_existing_connections_at_their_next_packet() {
    let mut site = Site::new();
    let packet = udp((A, 5000), (S, 9));
    site.out(&packet);
    assert_eq!(site.remaining(), 120);
    let mut timeouts = Timeouts::standard();
    timeouts.set(Timer::Udp, 7);
    site.nat.set_timeouts(timeouts);
    assert_eq!(site.remaining(), 120, "not before a packet");
    site.out(&packet);
    assert_eq!(site.remaining(), 7);
}

#[test]
fn n_tmo_1_the_standard_times() {
    let cases: &[(&str, Vec<u8>, u64)] = &[
        ("udp", udp((A, 5000), (S, 9)), 120),
        ("dns", udp((A, 5000), (S, 53)), 30),
        ("ntp", udp((A, 5000), (S, 123)), 30),
        ("echo", ping(A, S, 77), 60),
        ("echo of IPv6", ping(A6, S6, 77), 60),
        ("syn", tcp((A, 5000), (S, 80), SYN, 1, 0), 120),
        ("gre", raw(A, S, 47, &[0; 8]), 30),
        ("esp", raw(A, S, 50, &[0; 16]), 600),
    ];
    for (name, packet, expected) in cases {
        let mut site = Site::new();
        site.out(packet);
        assert_eq!(site.remaining(), *expected, "{name}");
    }
}

#[test]
fn n_tmo_1_the_times_of_the_rfcs() {
    let cases: &[(&str, Vec<u8>, u64)] = &[
        ("udp", udp((A, 5000), (S, 9)), 300),
        ("dns", udp((A, 5000), (S, 53)), 300),
        ("echo", ping(A, S, 77), 60),
        ("syn", tcp((A, 5000), (S, 80), SYN, 1, 0), 240),
    ];
    for (name, packet, expected) in cases {
        let mut site = Site::rfc();
        site.out(packet);
        assert_eq!(site.remaining(), *expected, "{name}");
    }
    let mut site = Site::rfc();
    site.connect((A, 5000), (S, 80));
    assert_eq!(site.state(), ("ESTABLISHED", 7440));
}

#[test]
fn n_tmo_1_gre_that_is_answered_is_a_stream() {
    let mut site = Site::new();
    site.out(&raw(A, S, 47, &[0; 8]));
    site.back(&raw(S, X, 47, &[0; 8]));
    site.out(&raw(A, S, 47, &[0; 8]));
    assert_eq!(site.remaining(), 180);
    assert!(site.only().is_assured);
}

#[test]
fn n_tmo_1_established_connections_live_shorter_where_the_table_fills() {
    let mut site = Site::with(|config| config.limits.connections = 8);
    site.connect((A, 5000), (S, 80));
    assert_eq!(site.state(), ("ESTABLISHED", 432_000));
    for port in 1..=6 {
        site.out(&udp((B, 6000 + port), (S, 9)));
    }
    site.out(&tcp((A, 5000), (S, 80), ACK, 1001, 5001));
    let conn = site.conn(INSIDE, 6, (A, 5000), (S, 80)).expect("it lives");
    assert_eq!(seconds(conn.remaining), 7440);
}

#[test]
fn n_tmo_2_a_suspend_expires_what_idle_time_would() {
    let mut site = Site::new();
    let external = site.external((A, 5000), (S, 9));
    site.advance(secs(121));
    // No timer has run: as after a suspend.
    assert!(site.conns().is_empty());
    assert_eq!(
        site.refused(OUTSIDE, &udp((S, 9), external)),
        DropReason::Unsolicited
    );
}

#[test]
fn n_tmo_2_a_clock_that_steps_back_expires_nothing() {
    let mut site = Site::new();
    site.advance(secs(1000));
    site.out(&udp((A, 5000), (S, 9)));
    let later = site.clock.now();
    let earlier = later - secs(500);
    site.nat.handle_timeout(earlier);
    assert_eq!(site.nat.connections(earlier).count(), 1);
    assert_eq!(site.remaining(), 120);
}

#[test]
fn n_tmo_3_what_is_over_is_absent_before_it_was_swept() {
    let mut site = Site::with(|config| config.timeouts.set(Timer::Udp, 2));
    let external = site.external((A, 5000), (S, 9));
    site.advance(millis(1900));
    assert_eq!(ends(&site.back(&udp((S, 9), external))).1, (A, 5000));
    site.advance(millis(2100));
    assert_eq!(
        site.refused(OUTSIDE, &udp((S, 9), external)),
        DropReason::Unsolicited
    );
    assert!(site.conns().is_empty());
}

#[test]
fn n_tmo_3_the_sweeper_comes_within_a_second() {
    let mut site = Site::new();
    for port in 0..600 {
        site.out(&udp((A, 5000 + port), (S, 9)));
    }
    site.settle(millis(119_900));
    assert_eq!(site.nat.counters().expired, 0);
    site.settle(millis(1100));
    assert_eq!(site.nat.counters().expired, 600);
    assert_eq!(site.nat.poll_timeout(), None, "nothing is left to wait for");
}

#[test]
fn n_tmo_3_a_call_of_the_sweeper_is_bounded_and_may_come_early_or_twice() {
    let mut site = Site::new();
    for port in 0..600 {
        site.out(&udp((A, 5000 + port), (S, 9)));
    }
    let now = site.clock.now();
    site.nat.handle_timeout(now);
    assert_eq!(site.nat.counters().expired, 0);
    let now = site.clock.advance(secs(200));
    site.nat.handle_timeout(now);
    let first = site.nat.counters().expired;
    assert!((1..600).contains(&first), "{first} at once");
    assert!(site.nat.poll_timeout().is_some_and(|due| due <= now));
    for _ in 0..4 {
        site.nat.handle_timeout(now);
    }
    assert_eq!(site.nat.counters().expired, 600);
}

#[test]
fn n_tmo_1_echo_of_ipv6_ends_after_its_time() {
    let mut site = Site::new();
    site.out(&ping(A6, S6, 77));
    assert!(site.conn(INSIDE, ICMPV6, (A6, 77), (S6, 0)).is_some());
    site.advance(secs(59));
    site.back(&pong(S6, X6, 77));
    site.advance(secs(61));
    assert_eq!(site.refused(OUTSIDE, &pong(S6, X6, 77)), DropReason::Unsolicited);
}
