//! §3: which ports send a frame.

use vswitch_switch::{
    DropReason, EgressOutcome, FloodScope, Hairpin, Isolation, LinkState, OnWire, PortConfig, TagOp,
};
use vswitch_testkit::frames::mac;

use crate::scenario::*;

fn with_all_known() -> Scenario {
    let mut net = Scenario::new();
    for (port, src) in [(1, M1), (2, M2), (3, M3), (4, M4)] {
        net.out(port, &frame(src, BC));
    }
    net
}

#[test]
fn b_fwd_1_known_unicast_goes_to_one_port_and_never_back() {
    let mut net = with_all_known();
    assert_eq!(net.out(1, &frame(M1, M2)), [2]);
    assert_eq!(net.refused(1, &frame(mac(7), M1)), DropReason::SamePort);
}

#[test]
fn b_fwd_2_unknown_broadcast_and_multicast_flood_all_but_the_ingress() {
    let mut net = Scenario::new();
    for dst in [M2, BC, GROUP] {
        assert_eq!(net.out(1, &frame(M1, dst)), [2, 3, 4]);
    }
    assert_eq!(net.counters(1).flooded, 3);
}

#[test]
fn b_fwd_3_flood_controls_are_independent() {
    let without = |change: fn(&mut FloodScope)| {
        let mut net = Scenario::new();
        let gateway = net.add(PortConfig {
            flood: FloodScope::ALL,
            ..PortConfig::gateway()
        });
        net.configure(2, |port| change(&mut port.flood));
        let from_p1 = [M4, GROUP, BC].map(|dst| net.out(1, &frame(M1, dst)).contains(&2));
        let from_gateway = [M4, GROUP, BC].map(|dst| net.out(gateway, &frame(SWITCH_MAC, dst)).contains(&2));
        (from_p1, from_gateway)
    };
    assert_eq!(
        without(|flood| flood.unknown_unicast = false),
        ([false, true, true], [false, true, true])
    );
    assert_eq!(
        without(|flood| flood.multicast = false),
        ([true, false, true], [true; 3])
    );
    assert_eq!(
        without(|flood| flood.broadcast = false),
        ([true, true, false], [true; 3])
    );
}

#[test]
fn b_fwd_4_a_frame_is_done_with_before_the_next() {
    // No queue is inside: a flow that turns from flooded to known has its frames in order on every port.
    let mut net = Scenario::new();
    assert_eq!(net.out(1, &frame(M1, M2)), [2, 3, 4]);
    assert_eq!(net.out(2, &frame(M2, M1)), [1]);
    assert_eq!(
        net.switch.egress().len(),
        1,
        "nothing of the flooded frame is left"
    );
    assert_eq!(net.out(1, &frame(M1, M2)), [2]);
}

#[test]
fn b_fwd_5_a_full_port_costs_only_itself() {
    let mut net = Scenario::new();
    assert_eq!(net.out(1, &frame(M1, BC)), [2, 3, 4]);
    net.switch
        .count_egress(net.id(2), 60, EgressOutcome::Dropped(DropReason::QueueFull));
    net.switch.count_egress(net.id(3), 60, EgressOutcome::Sent);
    assert_eq!(net.counters(2).dropped(DropReason::QueueFull), 1);
    assert_eq!((net.counters(2).tx_frames, net.counters(3).tx_frames), (0, 1));
    assert_eq!(net.dropped(1) + net.dropped(3) + net.dropped(4), 0);
    assert_eq!(net.out(1, &frame(M1, BC)), [2, 3, 4]);
}

#[test]
fn b_fwd_6_unicast_toward_a_port_that_is_down_is_dropped() {
    let mut net = Scenario::new();
    net.switch.pin(net.id(2), None, M2).expect("a free address");
    net.switch
        .set_link(net.clock.now(), net.id(2), LinkState::Down)
        .expect("it is there");
    assert_eq!(net.refused(1, &frame(M1, M2)), DropReason::EgressDown);
    assert_eq!(net.out(1, &frame(M1, BC)), [3, 4]);
}

#[test]
fn b_fwd_7_hairpin_returns_frames_to_their_port() {
    let mut net = with_all_known();
    net.configure(1, |port| port.hairpin = Hairpin::On);
    assert_eq!(net.out(1, &frame(M1, BC)), [1, 2, 3, 4]);
    net.out(1, &frame(mac(7), BC));
    assert_eq!(net.out(1, &frame(M1, mac(7))), [1]);
    assert_eq!(
        net.refused(2, &frame(mac(8), M2)),
        DropReason::SamePort,
        "the others stay as they are"
    );
}

#[test]
fn b_fwd_8_isolated_ports_reach_only_the_others() {
    let mut net = with_all_known();
    for port in [1, 2] {
        net.configure(port, |port| port.isolation = Isolation::Isolated);
    }
    assert_eq!(net.out(1, &frame(M1, BC)), [3, 4]);
    assert_eq!(net.out(3, &frame(M3, BC)), [1, 2, 4]);
    assert_eq!(net.refused(1, &frame(M1, M2)), DropReason::Isolated);
    assert_eq!(net.out(1, &frame(M1, M3)), [3]);
    assert_eq!(net.out(3, &frame(M3, M1)), [1]);
}

#[test]
fn b_fwd_9_mirrors_get_a_copy_of_every_forwarded_frame_and_give_none() {
    let mut net = with_all_known();
    let mirror = net.add(PortConfig::mirror());
    assert_eq!(
        net.out_tagged(1, &frame(M1, M2)),
        [(2, TagOp::Keep), (mirror, TagOp::Keep)]
    );
    assert_eq!(net.out(1, &frame(M1, BC)), [2, 3, 4, mirror]);
    assert_eq!(net.refused(1, &frame(mac(7), M1)), DropReason::SamePort);
    net.refused_unlearnt(mirror, &frame(M1, BC), DropReason::MirrorIngress);
    assert_eq!(net.whereabouts(M1), Some(1));
    net.switch
        .remove_port(net.clock.now(), net.id(mirror))
        .expect("it is there");
    assert_eq!(net.out(1, &frame(M1, M2)), [2]);
}

#[test]
fn frames_that_nobody_takes_are_counted() {
    let mut net = Scenario::with_ports(|_| {}, [PortConfig::uplink()]);
    assert_eq!(net.refused(1, &frame(M1, BC)), DropReason::NoEgress);
}

#[test]
fn frames_of_ports_that_are_not_there_are_counted_apart() {
    let mut net = Scenario::new();
    let bytes = frame(M1, BC).bytes();
    let verdict = net.switch.handle_frame(
        net.clock.now(),
        vswitch_switch::PortId(77),
        &bytes,
        OnWire::one(bytes.len()),
    );
    assert_eq!(verdict, vswitch_switch::Verdict::Drop(DropReason::UnknownPort));
    assert_eq!(net.switch.stray_frames(), 1);
    assert_eq!(net.table(), []);
}
