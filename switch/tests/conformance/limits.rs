//! §2, MAC flooding: limits, fairness, flapping.

use vswitch_switch::{DropReason, Event, Eviction, Limit, PinViolation};
use vswitch_testkit::frames::mac;

use crate::scenario::*;

#[test]
fn b_lim_1_at_the_limit_frames_are_forwarded_unlearnt_and_entries_still_move() {
    let mut net = Scenario::with(|config| {
        config.fdb_limit = 3;
        config.eviction = Eviction::Refuse;
    });
    for (port, src) in [(1, M1), (2, M2), (3, M3)] {
        net.out(port, &frame(src, BC));
    }
    net.events();
    assert_eq!(net.out(4, &frame(M4, M1)), [1], "forwarded");
    assert_eq!(net.whereabouts(M4), None, "not learnt");
    assert!(matches!(
        net.events()[..],
        [Event::LimitReached {
            limit: Limit::Table,
            ..
        }]
    ));
    assert_eq!(net.counters(4).limit_hits, 1);
    net.advance(secs(200));
    net.out(2, &frame(M2, BC));
    net.advance(secs(200));
    assert_eq!(net.whereabouts(M2), Some(2), "refreshed at the limit");
    net.out(4, &frame(M2, BC));
    assert_eq!(net.whereabouts(M2), Some(4), "moved at the limit");
    net.out(3, &frame(M4, BC));
    assert_eq!(
        net.whereabouts(M4),
        Some(3),
        "M1 and M3 have expired, which makes room unswept"
    );
}

#[test]
fn b_lim_1_static_entries_do_not_count() {
    let mut net = Scenario::with(|config| {
        config.fdb_limit = 1;
        config.eviction = Eviction::Refuse;
    });
    for n in 0..5 {
        net.switch
            .pin(net.id(1), None, station(n))
            .expect("a free address");
    }
    net.out(2, &frame(M2, BC));
    assert_eq!(net.whereabouts(M2), Some(2));
}

#[test]
fn b_lim_2_a_port_learns_no_more_than_its_limit() {
    let mut net = Scenario::new();
    net.configure(1, |port| port.fdb_limit = Some(2));
    for n in 0..5 {
        assert_eq!(net.out(1, &frame(station(n), BC)), [2, 3, 4]);
    }
    assert_eq!(net.table(), [(0, station(0), 1), (0, station(1), 1)]);
    assert_eq!(net.counters(1).limit_hits, 3);
    for n in 5..10 {
        net.out(2, &frame(station(n), BC));
    }
    assert_eq!(
        net.switch.learned_on(net.id(2)),
        5,
        "other ports have limits of their own"
    );
}

#[test]
fn b_lim_2_a_station_moves_to_a_full_port_in_place_of_its_least_recent() {
    let mut net = Scenario::new();
    net.configure(1, |port| port.fdb_limit = Some(2));
    net.out(2, &frame(M2, BC));
    for src in [station(0), station(1), M2] {
        net.advance(millis(1));
        net.out(1, &frame(src, BC));
    }
    assert_eq!(net.table(), [(0, M2, 1), (0, station(1), 1)]);
}

#[test]
fn b_lim_2_the_default_is_1024_a_port_and_8192_in_all() {
    let mut net = Scenario::with_ports(
        |config| config.eviction = Eviction::Refuse,
        (0..10).map(|_| vswitch_switch::PortConfig::uplink()),
    );
    for port in 1..=10 {
        for n in 0..1100 {
            net.out(port, &frame(station(port as u32 * 10_000 + n), M1));
        }
    }
    let held: Vec<_> = (1..=10).map(|port| net.switch.learned_on(net.id(port))).collect();
    assert_eq!(held, [1024, 1024, 1024, 1024, 1024, 1024, 1024, 1024, 0, 0]);
}

#[test]
fn b_lim_3_eviction_takes_from_the_port_that_holds_the_most() {
    let mut net = Scenario::with(|config| config.fdb_limit = 10);
    for (port, src) in [(2, M2), (3, M3), (4, M4)] {
        net.out(port, &frame(src, BC));
    }
    net.events();
    for n in 0..30 {
        net.advance(millis(1));
        net.out(1, &frame(station(n), BC));
    }
    let mut expected = vec![(0, M2, 2), (0, M3, 3), (0, M4, 4)];
    expected.extend((23..30).map(|n| (0, station(n), 1)));
    assert_eq!(net.table(), expected, "the seven most recent of p1 remain");
    assert_eq!(net.counters(1).limit_hits, 23);
    assert_eq!(net.out(2, &frame(M2, M3)), [3]);
}

#[test]
fn b_lim_3_ports_of_equal_share_evict_their_own() {
    let mut net = Scenario::with(|config| config.fdb_limit = 4);
    for (port, src) in [(1, M1), (2, M2), (3, M3), (4, M4)] {
        net.out(port, &frame(src, BC));
    }
    net.out(3, &frame(mac(0x33), BC));
    assert_eq!(
        net.table(),
        [(0, M1, 1), (0, M2, 2), (0, M4, 4), (0, mac(0x33), 3)]
    );
}

#[test]
fn b_lim_3_least_recently_used_is_by_use_not_by_age() {
    let mut net = Scenario::with(|config| config.fdb_limit = 3);
    for step in [0, 1, 2, 0, 3] {
        net.advance(millis(1));
        net.out(1, &frame(station(step), BC));
    }
    assert_eq!(
        net.table(),
        [(0, station(0), 1), (0, station(2), 1), (0, station(3), 1)]
    );
}

#[test]
fn b_lim_4_events_are_at_most_100_a_second_per_port() {
    let mut net = Scenario::new();
    let mut per_window = Vec::new();
    for n in 0..5000 {
        net.advance(millis(1));
        net.out(1, &frame(station(n), BC));
        per_window.push(net.events().len());
    }
    let busiest = per_window
        .windows(1000)
        .map(|window| window.iter().sum::<usize>())
        .max();
    assert!(
        busiest.is_some_and(|events| (50..=100).contains(&events)),
        "{busiest:?}"
    );
    let reported: usize = per_window.iter().sum();
    assert_eq!(net.counters(1).events_suppressed as usize, 5000 - reported);
    net.out(2, &frame(M2, BC));
    assert_eq!(net.events().len(), 1, "other ports report as ever");
}

#[test]
fn b_lim_4_a_flapping_station_is_frozen_on_the_older_port() {
    let mut net = Scenario::new();
    net.out(1, &frame(M1, BC));
    for step in 0..5 {
        net.advance(millis(100));
        let port = if step % 2 == 0 { 2 } else { 1 };
        net.out(port, &frame(M1, BC));
    }
    assert_eq!(net.whereabouts(M1), Some(2), "five moves are tolerated");
    net.events();
    net.advance(millis(100));
    net.out(1, &frame(M1, BC));
    let station = vswitch_switch::Station { mac: M1, vlan: None };
    assert_eq!(
        net.events(),
        [Event::Flapping {
            station,
            older: net.id(1),
            younger: net.id(2)
        }]
    );
    net.refused_unlearnt(2, &frame(M1, BC), DropReason::Flapping);
    assert_eq!(net.whereabouts(M1), Some(1));
    net.advance(millis(9_999));
    assert_eq!(net.refused(2, &frame(M1, BC)), DropReason::Flapping);
    net.advance(millis(1));
    assert_eq!(net.out(2, &frame(M1, BC)), [1, 3, 4]);
    assert_eq!(net.whereabouts(M1), Some(2));
}

#[test]
fn b_lim_4_slow_moves_are_no_flapping() {
    let mut net = Scenario::new();
    net.out(1, &frame(M1, BC));
    for step in 0..50 {
        net.advance(millis(201));
        let port = if step % 2 == 0 { 2 } else { 1 };
        net.out(port, &frame(M1, BC));
        assert_eq!(net.whereabouts(M1), Some(port));
    }
}

#[test]
fn b_lim_4_static_stations_never_flap() {
    let mut net = Scenario::with(|config| config.pin_violation = PinViolation::Forward);
    net.switch.pin(net.id(1), None, M1).expect("a free address");
    for _ in 0..20 {
        net.out(2, &frame(M1, BC));
        net.out(1, &frame(M1, BC));
    }
    let flapped = net
        .events()
        .iter()
        .any(|event| matches!(event, Event::Flapping { .. }));
    assert!(!flapped && net.whereabouts(M1) == Some(1));
}
