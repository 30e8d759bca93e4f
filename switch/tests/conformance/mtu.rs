//! §8: the MTU is the sender's business.

use vswitch_switch::{DropReason, OnWire, Verdict};

use crate::scenario::*;

#[test]
fn b_mtu_1_a_frame_too_large_for_a_port_is_dropped_and_counted_there() {
    let mut net = Scenario::new();
    net.configure(3, |port| port.mtu = 1000);
    let large = |len| frame(M1, BC).payload(vec![0; len]);
    assert_eq!(net.out(1, &large(1200)), [2, 4]);
    assert_eq!(net.counters(3).dropped(DropReason::Mtu), 1);
    assert_eq!(net.dropped(1), 0);
    assert_eq!(net.out(1, &large(1000)), [2, 3, 4]);
    assert_eq!(net.out(1, &large(1001)), [2, 4]);
    net.out(3, &frame(M3, BC));
    assert_eq!(
        net.refused(1, &frame(M1, M3).payload(vec![0; 1001])),
        DropReason::Mtu
    );
    assert_eq!(net.counters(3).dropped(DropReason::Mtu), 3);
    assert_eq!(
        net.out(3, &frame(M3, BC).payload(vec![0; 1400])),
        [1, 2, 4],
        "it may receive larger ones"
    );
}

#[test]
fn b_mtu_1_a_flood_that_fits_nobody_is_a_drop() {
    let mut net = Scenario::new();
    assert_eq!(
        net.refused(1, &frame(M1, BC).payload(vec![0; 1501])),
        DropReason::Mtu
    );
    let counted: u64 = (2..=4)
        .map(|port| net.counters(port).dropped(DropReason::Mtu))
        .sum();
    assert_eq!(counted, 3);
}

#[test]
fn b_mtu_2_super_frames_are_measured_by_segment() {
    let mut net = Scenario::new();
    net.configure(3, |port| port.mtu = 1400);
    let bytes = frame(M1, BC).payload(vec![0; 60_000]).bytes();
    let id = net.id(1);
    let egress_of = |net: &mut Scenario, wire_len| {
        let wire = OnWire {
            largest: wire_len,
            ..OnWire::one(bytes.len())
        };
        let verdict = net.switch.handle_frame(net.clock.now(), id, &bytes, wire);
        assert_eq!(verdict, Verdict::Forward);
        net.switch
            .egress()
            .iter()
            .map(|egress| egress.port)
            .collect::<Vec<_>>()
    };
    assert_eq!(egress_of(&mut net, 1414), [net.id(2), net.id(3), net.id(4)]);
    assert_eq!(egress_of(&mut net, 1514), [net.id(2), net.id(4)]);
    assert_eq!(
        net.refused(1, &frame(M1, BC).payload(vec![0; 60_000])),
        DropReason::Mtu
    );
}
