//! §2: who is known where, and for how long.

use vswitch_switch::{
    DropReason, EntryKind, Event, FlushScope, Learning, LinkState, PinError, PinViolation, PortConfig,
    PortVlans, Station, VlanFiltering, VlanSet,
};
use vswitch_testkit::frames::mac;
use vswitch_wire::{EtherType, MacAddr, VlanId};

use crate::scenario::*;

const M30: MacAddr = mac(0x30);

#[test]
fn b_lrn_1_accepted_frames_teach_even_if_they_go_nowhere() {
    let mut net = Scenario::new();
    net.out(2, &frame(M2, BC));
    assert_eq!(net.refused(2, &frame(M3, M2)), DropReason::SamePort);
    assert_eq!(net.whereabouts(M3), Some(2));
    let lldp = MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x0e]);
    assert_eq!(net.refused(1, &frame(M1, lldp)), DropReason::Reserved);
    assert_eq!(net.whereabouts(M1), Some(1));
}

#[test]
fn b_lrn_2_vlans_learn_independently() {
    let vlan = |id| VlanId::new(id).expect("a valid id");
    let access = |id| PortConfig {
        vlans: PortVlans::Access(vlan(id)),
        ..PortConfig::uplink()
    };
    let trunk = PortVlans::Trunk {
        allowed: VlanSet::all(),
        native: None,
    };
    let mut net = Scenario::with_ports(
        |config| {
            config.vlan_filtering = VlanFiltering::On {
                tpid: EtherType::VLAN,
            }
        },
        [
            PortConfig {
                vlans: trunk,
                ..PortConfig::uplink()
            },
            access(10),
            access(20),
        ],
    );
    let m9 = mac(9);
    net.out(2, &frame(m9, BC));
    net.out(3, &frame(m9, BC));
    assert_eq!(net.table(), [(10, m9, 2), (20, m9, 3)]);
    assert_eq!(net.out(1, &frame(M1, m9).tagged(10)), [2]);
    assert_eq!(net.out(1, &frame(M1, m9).tagged(20)), [3]);
    net.switch.flush(FlushScope::Vlan(vlan(10)));
    assert_eq!(net.table(), [(20, M1, 1), (20, m9, 3)]);
}

#[test]
fn b_lrn_3_station_move_newer_port_wins() {
    let mut net = Scenario::new();
    net.out(1, &frame(M1, M2));
    net.events();
    net.advance(secs(299));
    net.out(3, &frame(M1, M2));
    let moved = Event::Moved {
        station: Station { mac: M1, vlan: None },
        from: net.id(1),
        to: net.id(3),
    };
    assert_eq!(net.events(), [moved]);
    assert_eq!(net.out(2, &frame(M2, M1)), [3]);
    net.advance(secs(299));
    assert_eq!(net.out(4, &frame(M4, M1)), [3], "the move restarted the ageing");
}

#[test]
fn b_lrn_4_ageing_is_refreshed_by_source_use_only() {
    let mut net = Scenario::with(|config| config.ageing = secs(3));
    net.out(1, &frame(M30, M2));
    net.advance(millis(1200));
    assert_eq!(net.out(2, &frame(M2, M30)), [1]);
    net.advance(millis(1200));
    assert_eq!(net.out(2, &frame(M2, M30)), [1]);
    net.advance(millis(1200));
    assert_eq!(net.out(2, &frame(M2, M30)), [1, 3, 4]);
}

#[test]
fn b_lrn_5_expired_entries_are_absent_before_the_sweep() {
    let mut net = Scenario::with(|config| config.ageing = secs(3));
    net.out(1, &frame(M30, M2));
    net.advance(millis(2999));
    assert_eq!(net.whereabouts(M30), Some(1));
    net.advance(millis(1));
    assert_eq!(net.switch.learned_len(), 1, "nobody has swept");
    assert_eq!(net.whereabouts(M30), None);
    assert_eq!(net.out(2, &frame(M2, M30)), [1, 3, 4]);
    net.events();
    net.out(3, &frame(M30, M2));
    let learned = Event::Learned {
        station: Station { mac: M30, vlan: None },
        port: net.id(3),
    };
    assert_eq!(net.events(), [learned], "new, not moved");
}

#[test]
fn the_sweeper_ages_exactly_and_in_bounded_steps() {
    let mut net = Scenario::with(|config| config.ageing = secs(3));
    for n in 0..1000 {
        net.out(1, &frame(station(n), BC));
    }
    let deadline = net.switch.poll_timeout().expect("entries will expire");
    assert_eq!(deadline, net.clock.now() + secs(3));
    net.advance(secs(3));
    net.switch.handle_timeout(net.clock.now());
    assert_eq!(net.switch.learned_len(), 1000 - vswitch_switch::SWEEP_BUDGET);
    assert_eq!(net.switch.poll_timeout(), Some(deadline), "work is left over");
    net.settle(secs(0));
    assert_eq!(net.switch.learned_len(), 0);
    assert_eq!(net.switch.poll_timeout(), None);
    net.switch.handle_timeout(net.clock.now());
}

#[test]
fn b_lrn_6_ageing_zero_never_learns() {
    let mut net = Scenario::with(|config| config.ageing = secs(0));
    net.out(1, &frame(M1, M2));
    assert_eq!(net.table(), []);
    assert_eq!(net.out(2, &frame(M2, M1)), [1, 3, 4]);
    net.switch.pin(net.id(1), None, M1).expect("a free address");
    net.advance(secs(1_000_000));
    assert_eq!(net.out(2, &frame(M2, M1)), [1], "static entries hold");
}

#[test]
fn b_lrn_7_static_entries_neither_age_nor_move() {
    let mut net = Scenario::new();
    let m20 = mac(20);
    net.out(1, &frame(m20, M2));
    net.switch
        .pin(net.id(4), None, m20)
        .expect("a learnt entry gives way");
    net.settle(secs(3600));
    net.events();
    net.refused_unlearnt(1, &frame(m20, M2), DropReason::PinnedElsewhere);
    let violated = Event::PinViolated {
        station: Station { mac: m20, vlan: None },
        owner: net.id(4),
        offender: net.id(1),
    };
    assert_eq!(net.events(), [violated]);
    assert_eq!(net.out(2, &frame(M2, m20)), [4]);
    assert!(net.switch.unpin(net.id(4), None, m20));
    assert!(!net.switch.unpin(net.id(4), None, m20));
    assert_eq!(net.out(1, &frame(m20, M2)), [2]);
}

#[test]
fn b_lrn_7_violations_may_be_forwarded_without_learning() {
    let mut net = Scenario::with(|config| config.pin_violation = PinViolation::Forward);
    net.switch.pin(net.id(4), None, M4).expect("a free address");
    assert_eq!(net.out(1, &frame(M4, M2)), [2, 3, 4]);
    assert_eq!(net.whereabouts(M4), Some(4));
}

#[test]
fn b_lrn_8_local_addresses_are_the_gateways_alone() {
    let mut net = Scenario::new();
    let device = MacAddr([0x02, 0xee, 0, 0, 0, 2]);
    net.configure(2, |port| port.device_mac = Some(device));
    for local in [SWITCH_MAC, device] {
        assert_eq!(net.refused(1, &frame(M1, local)), DropReason::LocalUnreachable);
    }
    let gateway = net.add(PortConfig::gateway());
    for local in [SWITCH_MAC, device] {
        assert_eq!(net.out(1, &frame(M1, local)), [gateway]);
    }
    let entry = net
        .switch
        .fdb(net.clock.now())
        .find(|entry| entry.mac == SWITCH_MAC);
    let entry = entry.expect("the own address is listed");
    assert_eq!(
        (entry.kind, entry.port),
        (EntryKind::Local, Some(net.id(gateway)))
    );
    net.switch
        .remove_port(net.clock.now(), net.id(gateway))
        .expect("it is there");
    assert_eq!(
        net.refused(1, &frame(M1, SWITCH_MAC)),
        DropReason::LocalUnreachable
    );
    net.configure(2, |port| port.device_mac = None);
    assert_eq!(net.out(1, &frame(M1, device)), [2, 3, 4], "no longer local");
}

#[test]
fn b_lrn_9_a_port_may_forward_without_learning() {
    let mut net = Scenario::new();
    let m61 = mac(0x61);
    net.out(2, &frame(M2, BC));
    net.configure(1, |port| port.learning = Learning::Off);
    assert_eq!(net.out(1, &frame(m61, M2)), [2]);
    assert_eq!(net.whereabouts(m61), None);
    net.switch.pin(net.id(3), None, M3).expect("a free address");
    net.refused_unlearnt(1, &frame(M3, M2), DropReason::PinnedElsewhere);
    net.refused_unlearnt(1, &frame(SWITCH_MAC, M2), DropReason::OwnAddress);
}

#[test]
fn b_lrn_9_a_locked_port_takes_authorised_sources_only() {
    let mut net = Scenario::new();
    net.out(2, &frame(M2, BC));
    net.configure(1, |port| port.learning = Learning::Locked);
    for src in [mac(0x61), M2, SWITCH_MAC] {
        net.refused_unlearnt(1, &frame(src, BC), DropReason::Locked);
    }
    net.switch.pin(net.id(1), None, M1).expect("a free address");
    assert_eq!(net.out(1, &frame(M1, M2)), [2]);
}

#[test]
fn b_lrn_10_link_down_forgets_what_was_learnt_and_keeps_what_was_entered() {
    let mut net = Scenario::new();
    net.out(1, &frame(M1, BC));
    net.switch
        .pin(net.id(1), None, mac(0x11))
        .expect("a free address");
    net.switch
        .set_link(net.clock.now(), net.id(1), LinkState::Down)
        .expect("it is there");
    assert_eq!(net.table(), [(0, mac(0x11), 1)]);
    net.refused_unlearnt(1, &frame(M1, BC), DropReason::PortDown);
    net.switch
        .set_link(net.clock.now(), net.id(1), LinkState::Up)
        .expect("it is there");
    assert_eq!(net.out(2, &frame(M2, mac(0x11))), [1]);
}

#[test]
fn b_lrn_10_a_removed_ports_entries_are_gone_before_its_id_is_used_again() {
    let mut net = Scenario::new();
    net.out(2, &frame(M2, BC));
    net.switch
        .pin(net.id(2), None, mac(0x22))
        .expect("a free address");
    let old = net.id(2);
    net.switch.remove_port(net.clock.now(), old).expect("it is there");
    assert!(net.switch.remove_port(net.clock.now(), old).is_err());
    let new = net
        .switch
        .add_port(net.clock.now(), PortConfig::uplink())
        .expect("a valid port");
    assert_eq!(new, old);
    assert_eq!(net.table(), []);
    assert_eq!(net.out(1, &frame(M1, M2)), [2, 3, 4], "unknown again");
    assert_eq!(
        net.switch.counters(new).map(|counters| counters.rx_frames),
        Some(0)
    );
}

#[test]
fn b_lrn_10_flush_by_port_and_all_spares_static_entries() {
    let mut net = Scenario::new();
    net.switch
        .pin(net.id(1), None, mac(0x11))
        .expect("a free address");
    net.out(1, &frame(M1, BC));
    net.out(2, &frame(M2, BC));
    net.switch.flush(FlushScope::Port(net.id(1)));
    assert_eq!(net.table(), [(0, M2, 2), (0, mac(0x11), 1)]);
    net.switch.flush(FlushScope::All);
    assert_eq!(net.table(), [(0, mac(0x11), 1)]);
}

#[test]
fn b_lrn_11_a_guarded_container_is_known_before_it_speaks() {
    let mut net = Scenario::new();
    let container = net.add(PortConfig::container(vswitch_switch::Guard::new(
        mac(0x99),
        vec![],
    )));
    assert_eq!(net.out(1, &frame(M1, mac(0x99))), [container]);
    net.settle(secs(86_400));
    assert_eq!(net.out(1, &frame(M1, mac(0x99))), [container]);
}

#[test]
fn addresses_that_are_taken_or_impossible_cannot_be_entered() {
    let mut net = Scenario::new();
    net.switch.pin(net.id(1), None, M1).expect("a free address");
    assert_eq!(net.switch.pin(net.id(2), None, M1), Err(PinError::MacInUse(M1)));
    assert_eq!(
        net.switch.pin(net.id(2), None, SWITCH_MAC),
        Err(PinError::MacInUse(SWITCH_MAC))
    );
    assert_eq!(
        net.switch.pin(net.id(2), None, GROUP),
        Err(PinError::InvalidMac(GROUP))
    );
    assert_eq!(net.table(), [(0, M1, 1)]);
}
