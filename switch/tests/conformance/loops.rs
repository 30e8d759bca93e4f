//! §6: loops without spanning tree.

use std::{collections::VecDeque, num::NonZeroU16};

use vswitch_switch::{BlockCause, DropReason, Event, LoopGuard, PortConfig, Verdict};

use crate::scenario::*;

/// Lets a broadcast run round a patch cable between p3 and p4 until it dies out; counts the copies that
/// are sent. Gives up at `limit`.
fn copies_of_one_broadcast(net: &mut Scenario, limit: usize) -> usize {
    let bytes = frame(M1, BC).bytes();
    let mut copies = 0;
    let mut arrivals = VecDeque::from([1]);
    while let Some(port) = arrivals.pop_front().filter(|_| copies <= limit) {
        if net.put(port, &bytes) == Verdict::Forward {
            copies += net.switch.egress().len();
            for egress in net.switch.egress() {
                if egress.port == net.id(3) {
                    arrivals.push_back(4);
                }
                if egress.port == net.id(4) {
                    arrivals.push_back(3);
                }
            }
        }
    }
    copies
}

#[test]
fn b_loop_1_a_patch_between_two_ports_is_cut() {
    let mut net = Scenario::with_ports(|_| {}, [(); 4].map(|()| PortConfig::unguarded()));
    let copies = copies_of_one_broadcast(&mut net, 1000);
    assert!(copies < 50, "{copies} copies");
    let blocked: Vec<_> = net
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::PortBlocked {
                port,
                cause: BlockCause::Loop,
                ..
            } => Some(port),
            _ => None,
        })
        .collect();
    assert_eq!(blocked.len(), 1);
    assert!(
        blocked[0] == net.id(3) || blocked[0] == net.id(4),
        "an end of the patch, not the sender"
    );
    assert_eq!(net.whereabouts(M1), Some(1));
}

#[test]
fn b_loop_1_a_guarded_containers_frames_do_not_even_begin_to_loop() {
    let mut net = Scenario::with_ports(
        |_| {},
        std::iter::once(PortConfig::container(vswitch_switch::Guard::new(M1, vec![])))
            .chain([(); 3].map(|()| PortConfig::unguarded())),
    );
    assert_eq!(copies_of_one_broadcast(&mut net, 1000), 3);
    assert_eq!(net.counters(3).dropped(DropReason::PinnedElsewhere), 1);
    assert!(!(1..=4).any(|port| net.switch.is_blocked(net.id(port))));
}

#[test]
fn b_loop_1_without_the_guard_the_broadcast_budget_ends_it() {
    let unguarded = PortConfig {
        loop_guard: LoopGuard::Off,
        ..PortConfig::unguarded()
    };
    let mut net = Scenario::with_ports(
        |config| config.pin_violation = vswitch_switch::PinViolation::Forward,
        [(); 4].map(|()| unguarded.clone()),
    );
    net.switch.pin(net.id(1), None, M1).expect("a free address");
    let copies = copies_of_one_broadcast(&mut net, 10_000);
    assert!((100..=1000).contains(&copies), "{copies} copies");
}

#[test]
fn b_loop_1_the_younger_port_is_disabled_for_60_s() {
    let mut net = Scenario::with_ports(|_| {}, [(); 3].map(|()| PortConfig::unguarded()));
    let flap = |net: &mut Scenario| {
        for _ in 0..4 {
            let _ = net.put(1, &frame(M1, BC).bytes());
            let _ = net.put(2, &frame(M1, BC).bytes());
        }
    };
    flap(&mut net);
    assert!(net.switch.is_blocked(net.id(2)) && !net.switch.is_blocked(net.id(1)));
    assert_eq!(net.whereabouts(M1), Some(1));
    assert_eq!(net.out(3, &frame(M3, BC)), [1]);
    net.refused_unlearnt(2, &frame(M2, BC), DropReason::Blocked);
    net.settle(millis(59_999));
    assert!(net.switch.is_blocked(net.id(2)));
    net.events();
    net.settle(millis(1));
    assert_eq!(net.events(), [Event::PortUnblocked { port: net.id(2) }]);
    assert_eq!(net.out(2, &frame(M2, BC)), [1, 3]);
}

#[test]
fn b_loop_1_an_uplink_is_never_disabled() {
    let mut net = Scenario::with_ports(|_| {}, [PortConfig::unguarded(), PortConfig::uplink()]);
    for _ in 0..20 {
        let _ = net.put(1, &frame(M4, BC).bytes());
        let _ = net.put(2, &frame(M4, BC).bytes());
    }
    assert!(
        net.events()
            .iter()
            .any(|event| matches!(event, Event::Flapping { .. }))
    );
    assert!(!net.switch.is_blocked(net.id(2)));
    assert_eq!(net.out(2, &frame(M2, BC)), [1]);
}

#[test]
fn b_loop_1_a_home_that_was_removed_meanwhile_does_not_get_the_station_back() {
    let mut net = Scenario::with_ports(|_| {}, [(); 4].map(|()| PortConfig::unguarded()));
    net.out(1, &frame(M1, BC));
    net.out(2, &frame(M1, BC));
    net.switch
        .remove_port(net.clock.now(), net.id(1))
        .expect("it is there");
    let stranger = net.switch.add_port(net.clock.now(), PortConfig::unguarded());
    assert_eq!(stranger, Ok(net.id(1)), "the id is used again");
    for port in [3, 2, 3, 2, 3] {
        let _ = net.put(port, &frame(M1, BC).bytes());
    }
    assert_eq!(net.whereabouts(M1), Some(2));
    assert!(net.switch.is_blocked(net.id(3)));
}

#[test]
fn b_loop_2_ports_of_a_split_horizon_group_do_not_reach_each_other() {
    let overlay = PortConfig {
        split_horizon: NonZeroU16::new(1),
        ..PortConfig::uplink()
    };
    let other = PortConfig {
        split_horizon: NonZeroU16::new(2),
        ..PortConfig::uplink()
    };
    let mut net = Scenario::with_ports(|_| {}, [overlay.clone(), overlay, other, PortConfig::unguarded()]);
    assert_eq!(net.out(1, &frame(M1, BC)), [3, 4]);
    assert_eq!(net.out(4, &frame(M4, BC)), [1, 2, 3]);
    net.out(2, &frame(M2, BC));
    assert_eq!(net.refused(1, &frame(M1, M2)), DropReason::SplitHorizon);
    assert_eq!(net.out(4, &frame(M4, M2)), [2]);
}
