//! §8: counters. A step moves those it names, and no other.

use std::collections::HashSet;

use vswitch_switch::{Counters, DropReason, EgressOutcome, PortConfig};

use crate::scenario::*;

fn all(net: &Scenario) -> Vec<Counters> {
    (1..=4).map(|port| net.counters(port).clone()).collect()
}

#[test]
fn b_stat_1_a_forwarded_frame_counts_at_its_ingress_and_where_it_was_sent() {
    let mut net = Scenario::new();
    let mut expected = all(&net);
    net.out(1, &frame(M1, BC));
    expected[0].rx_frames += 1;
    expected[0].rx_bytes += 60;
    expected[0].flooded += 1;
    expected[0].learned += 1;
    assert_eq!(all(&net), expected);
    for egress in net.switch.egress().to_vec() {
        net.switch.count_egress(egress.port, 60, EgressOutcome::Sent);
    }
    for port in &mut expected[1..] {
        port.tx_frames += 1;
        port.tx_bytes += 60;
    }
    assert_eq!(all(&net), expected);
    net.out(2, &frame(M1, BC));
    expected[1].rx_frames += 1;
    expected[1].rx_bytes += 60;
    expected[1].flooded += 1;
    expected[1].moved += 1;
    assert_eq!(all(&net), expected);
    net.refused(2, &frame(M2, M1));
    expected[1].rx_frames += 1;
    expected[1].rx_bytes += 60;
    expected[1].learned += 1;
    let drops = net
        .counters(2)
        .drops()
        .filter(|&(_, count)| count > 0)
        .collect::<Vec<_>>();
    assert_eq!(drops, [(DropReason::SamePort, 1)]);
    assert_eq!(all(&net)[0], expected[0]);
    assert_eq!(all(&net)[2..], expected[2..]);
}

#[test]
fn b_stat_1_every_received_frame_is_forwarded_or_counted_as_dropped_once() {
    let mut net = Scenario::with_ports(|_| {}, [(); 4].map(|()| PortConfig::unguarded()));
    let mut forwarded = 0;
    for n in 0..2000_u32 {
        let bytes = match n % 7 {
            0 => frame(M1, BC),
            1 => frame(M1, M2),
            2 => frame(BC, M2),
            3 => frame(M1, SWITCH_MAC),
            4 => frame(M1, GROUP).payload(vec![0; 10]),
            5 => frame(M1, M1),
            _ => frame(station(n), M3),
        }
        .bytes();
        let verdict = net.put(1, &bytes[..bytes.len().min(n as usize)]);
        forwarded += u64::from(verdict == vswitch_switch::Verdict::Forward);
    }
    assert_eq!(net.counters(1).rx_frames, 2000);
    assert_eq!(net.dropped(1) + forwarded, 2000);
}

#[test]
fn b_stat_1_the_io_layers_drops_are_counted_with_the_switchs() {
    let mut net = Scenario::new();
    net.switch
        .count_ingress_refusal(net.id(1), 70, DropReason::Offload);
    net.switch
        .count_egress(net.id(1), 70, EgressOutcome::Dropped(DropReason::Device));
    let counters = net.counters(1);
    assert_eq!(
        (counters.rx_frames, counters.rx_bytes, counters.dropped_total()),
        (1, 70, 2)
    );
    assert_eq!(
        counters.dropped(DropReason::Offload) + counters.dropped(DropReason::Device),
        2
    );
}

#[test]
fn b_stat_1_reasons_have_names_of_their_own() {
    let names: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), DropReason::ALL.len());
    assert!(
        names
            .iter()
            .all(|name| name.bytes().all(|c| c == b'_' || c.is_ascii_lowercase()))
    );
    for (index, &reason) in DropReason::ALL.iter().enumerate() {
        assert_eq!(reason as usize, index, "{reason}");
    }
}
