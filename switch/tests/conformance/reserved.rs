//! §3, reserved addresses, and the BPDU guard of §6.

use vswitch_switch::{BlockCause, BpduGuard, BpduPolicy, DropReason, Event, ReservedMask};
use vswitch_wire::MacAddr;

use crate::scenario::*;

fn link_local(low: u8) -> MacAddr {
    MacAddr([0x01, 0x80, 0xc2, 0, 0, low])
}

const CONTROL: [MacAddr; 3] = [
    MacAddr([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc]),
    MacAddr([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd]),
    MacAddr([0x00, 0xe0, 0x2b, 0x00, 0x00, 0x00]),
];

#[test]
fn b_rsv_1_the_first_sixteen_are_dropped_and_the_rest_are_multicast() {
    let mut net = Scenario::new();
    for low in 0..=0x0f {
        assert_eq!(
            net.refused(1, &frame(M1, link_local(low))),
            DropReason::Reserved,
            "{low:#x}"
        );
    }
    for low in 0x10..=0xff {
        assert_eq!(net.out(1, &frame(M1, link_local(low))), [2, 3, 4], "{low:#x}");
    }
    assert_eq!(
        net.out(1, &frame(M1, MacAddr([0x01, 0x80, 0xc2, 0, 1, 0]))),
        [2, 3, 4]
    );
}

#[test]
fn b_rsv_2_vendors_control_protocols_are_dropped() {
    let mut net = Scenario::new();
    for dst in CONTROL {
        assert_eq!(net.refused(1, &frame(M1, dst)), DropReason::Reserved, "{dst}");
    }
    assert_eq!(
        net.out(1, &frame(M1, MacAddr([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xce]))),
        [2, 3, 4]
    );
}

#[test]
fn b_rsv_3_the_allow_mask_excludes_bits_0_1_and_2() {
    for forbidden in [0x1, 0x2, 0x4, 0xffff] {
        assert!(ReservedMask::new(forbidden).is_err(), "{forbidden:#x}");
    }
    let mut net = Scenario::new();
    let lldp = ReservedMask::new(0x4000).expect("LLDP may be allowed");
    net.configure(1, |port| port.reserved_allow = lldp);
    assert_eq!(net.out(1, &frame(M1, link_local(0x0e))), [2, 3, 4]);
    assert_eq!(net.refused(1, &frame(M1, link_local(0x0d))), DropReason::Reserved);
    assert_eq!(
        net.refused(2, &frame(M2, link_local(0x0e))),
        DropReason::Reserved,
        "p2 has no mask"
    );
    let all = ReservedMask::new(0xfff8).expect("no forbidden bit");
    net.configure(1, |port| port.reserved_allow = all);
    for low in 0..3 {
        assert_eq!(net.refused(1, &frame(M1, link_local(low))), DropReason::Reserved);
    }
}

#[test]
fn b_rsv_4_consumed_frames_teach_as_in_linux() {
    let mut net = Scenario::new();
    net.refused(1, &frame(M1, link_local(0x0e)));
    assert_eq!(net.whereabouts(M1), Some(1));
}

#[test]
fn b_stp_1_bpdus_are_forwarded_only_on_request() {
    let mut net = Scenario::with(|config| config.bpdu = BpduPolicy::Forward);
    let bpdu = frame(M1, link_local(0)).llc(&[0x42, 0x42, 0x03]);
    assert_eq!(net.out(1, &bpdu), [2, 3, 4]);
    for dst in CONTROL {
        assert_eq!(net.out(1, &frame(M1, dst)), [2, 3, 4], "{dst}");
    }
    for low in 1..=0x0f {
        assert_eq!(
            net.refused(1, &frame(M1, link_local(low))),
            DropReason::Reserved,
            "{low:#x}"
        );
    }
}

#[test]
fn b_stp_2_the_first_bpdu_disables_a_guarded_port_for_300_s() {
    let mut net = Scenario::new();
    net.configure(1, |port| port.bpdu_guard = BpduGuard::On);
    net.out(1, &frame(M1, BC));
    net.events();
    assert_eq!(
        net.refused(1, &frame(M1, link_local(0))),
        DropReason::Reserved,
        "no LLC header of STP"
    );
    let bpdu = frame(M1, link_local(0)).llc(&[0x42, 0x42, 0x03]);
    assert_eq!(net.refused(1, &bpdu), DropReason::BpduGuard);
    let until = net.clock.now() + secs(300);
    let blocked = Event::PortBlocked {
        port: net.id(1),
        cause: BlockCause::Bpdu,
        until,
    };
    assert_eq!(net.events(), [blocked]);
    net.settle(millis(299_999));
    net.refused_unlearnt(1, &frame(M1, BC), DropReason::Blocked);
    assert_eq!(net.out(2, &frame(M2, BC)), [3, 4]);
    net.settle(millis(1));
    assert_eq!(net.out(1, &frame(M1, BC)), [2, 3, 4]);
}
