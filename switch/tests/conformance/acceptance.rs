//! §1: which frames are taken at all.

use vswitch_switch::{DropReason, PortConfig, ReservedMask, Verdict};
use vswitch_testkit::frames::Frame;
use vswitch_wire::MacAddr;

use crate::scenario::*;

#[test]
fn b_acc_1_frames_below_14_bytes_are_dropped_and_14_are_enough() {
    let mut net = Scenario::new();
    let bytes = frame(M1, BC).payload([]).bytes();
    for len in 0..14 {
        assert_eq!(
            net.put(1, &bytes[..len]),
            Verdict::Drop(DropReason::Runt),
            "{len} bytes"
        );
    }
    assert_eq!(net.table(), [], "a runt must not teach");
    for len in [0, 1, 20, 45, 46] {
        assert_eq!(
            net.out(1, &frame(M1, BC).payload(vec![0; len])),
            [2, 3, 4],
            "{len} bytes of payload"
        );
    }
}

#[test]
fn b_acc_2_group_and_zero_sources_are_dropped_before_learning() {
    let mut net = Scenario::new();
    for src in [GROUP, BC, MacAddr::ZERO] {
        net.refused_unlearnt(1, &frame(src, M2), DropReason::InvalidSource);
    }
}

#[test]
fn b_acc_3_flow_control_is_not_forwarded_to_any_address() {
    let mut net = Scenario::new();
    net.configure(1, |port| {
        port.reserved_allow = ReservedMask::new(0xfff8).expect("no forbidden bit")
    });
    net.out(2, &frame(M2, BC));
    for dst in [MacAddr([0x01, 0x80, 0xc2, 0, 0, 1]), BC, M2] {
        net.refused_unlearnt(1, &frame(M1, dst).ethertype(0x8808), DropReason::FlowControl);
    }
    let pause_address = frame(M1, MacAddr([0x01, 0x80, 0xc2, 0, 0, 1]));
    assert_eq!(net.refused(1, &pause_address), DropReason::Reserved);
}

#[test]
fn b_acc_4_llc_frames_are_bridged() {
    let mut net = Scenario::new();
    assert_eq!(net.out(1, &frame(M1, BC).llc(&[0xf0, 0xf0, 0x03])), [2, 3, 4]);
    assert_eq!(
        net.out(2, &frame(M2, M1).llc(&[0xaa, 0xaa, 0x03, 0, 0, 0x0c, 0x20, 0])),
        [1]
    );
}

#[test]
fn b_acc_5_and_6_a_frame_leaves_as_it_came() {
    // The switch only reads frames; without VLAN filtering nobody is told to change one.
    let mut net = Scenario::new();
    for frame in [
        frame(M1, BC),
        frame(M1, BC).tagged(7),
        Frame::new(M1, BC).payload([]),
    ] {
        let out = net.out_tagged(1, &frame);
        assert!(
            out.iter().all(|&(_, tag)| tag == vswitch_switch::TagOp::Keep),
            "{out:?}"
        );
    }
}

#[test]
fn b_acc_7_the_switchs_own_address_as_source_is_dropped() {
    let mut net = Scenario::new();
    let device = MacAddr([0x02, 0xee, 0, 0, 0, 1]);
    let gateway = net.add(PortConfig::gateway());
    net.configure(2, |port| port.device_mac = Some(device));
    for src in [SWITCH_MAC, device] {
        net.refused_unlearnt(1, &frame(src, BC), DropReason::OwnAddress);
    }
    assert_eq!(net.out(gateway, &frame(SWITCH_MAC, BC)), [1, 2, 3, 4]);
}
