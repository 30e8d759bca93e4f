//! A container that does its worst cannot disturb two others that talk.

use vswitch_switch::{Guard, PortConfig, Verdict};

use crate::scenario::*;

/// p1 and p2 talk; p3 attacks with one frame per call. Every frame of the talk must reach the other side
/// and nobody else, and what p3 has sent to everybody stays within a container's allowance.
fn talk_under_attack(mut net: Scenario, attack: impl Fn(u32) -> Vec<u8>) {
    net.out(1, &frame(M1, BC));
    net.out(2, &frame(M2, M1));
    let mut flooded = 0;
    for millisecond in 0..2000 {
        for n in 0..50 {
            let verdict = net.put(3, &attack(millisecond * 50 + n));
            flooded += u32::from(verdict == Verdict::Forward);
        }
        assert_eq!(net.out(1, &frame(M1, M2)), [2], "after {millisecond} ms");
        assert_eq!(net.out(2, &frame(M2, M1)), [1], "after {millisecond} ms");
        if millisecond % 100 == 0 {
            assert_eq!(net.out(1, &frame(M1, BC)), [2, 3, 4]);
        }
        net.advance(millis(1));
        net.switch.handle_timeout(net.clock.now());
        net.events();
    }
    assert!(
        flooded <= 2 * 2000 + 200,
        "{flooded} frames of the attacker reached others"
    );
}

/// Small enough that the attacker alone can fill it.
fn open_network() -> Scenario {
    Scenario::with_ports(
        |config| config.fdb_limit = 512,
        [(); 4].map(|()| PortConfig::unguarded()),
    )
}

fn guarded_network() -> Scenario {
    let guards = [M1, M2, M3, M4].map(|mac| PortConfig::container(Guard::new(mac, vec![])));
    Scenario::with_ports(|config| config.fdb_limit = 512, guards)
}

#[test]
fn a_container_that_floods_macs_cannot_disturb_two_others() {
    let flood = |n| frame(station(n), BC).bytes();
    talk_under_attack(open_network(), flood);
    talk_under_attack(guarded_network(), flood);
    talk_under_attack(open_network(), |n| frame(station(n), station(n + 1)).bytes());
}

#[test]
fn a_container_that_broadcasts_cannot_disturb_two_others() {
    let storm = |_| frame(M3, BC).bytes();
    talk_under_attack(open_network(), storm);
    talk_under_attack(guarded_network(), storm);
}

#[test]
fn a_container_that_borrows_a_neighbours_address_cannot_disturb_two_others() {
    let theft = |n: u32| frame(if n.is_multiple_of(2) { M1 } else { M2 }, BC).bytes();
    talk_under_attack(guarded_network(), theft);
    let open_but_known = {
        let mut net = open_network();
        net.switch.pin(net.id(1), None, M1).expect("a free address");
        net.switch.pin(net.id(2), None, M2).expect("a free address");
        net
    };
    talk_under_attack(open_but_known, theft);
}

#[test]
fn without_guard_a_thief_is_cut_off_and_the_owner_is_not() {
    let mut net = open_network();
    net.out(1, &frame(M1, BC));
    for _ in 0..10 {
        let _ = net.put(3, &frame(M1, BC).bytes());
        let _ = net.put(1, &frame(M1, BC).bytes());
    }
    assert!(net.switch.is_blocked(net.id(3)) && !net.switch.is_blocked(net.id(1)));
    assert_eq!(net.out(2, &frame(M2, M1)), [1]);
}
