//! §8: what one port may have copied to all others.

use vswitch_switch::{DropReason, PortConfig, Rate, StormLimits};
use vswitch_testkit::frames::{Arp, Frame, Packet};

use crate::scenario::*;

fn containers() -> Scenario {
    Scenario::with_ports(|_| {}, [(); 4].map(|()| PortConfig::unguarded()))
}

/// Sends `per_milli` copies each millisecond for a second, and counts those that reach the other ports.
fn passed_in_a_second(net: &mut Scenario, port: usize, frame: &Frame, per_milli: u32) -> u32 {
    let bytes = frame.bytes();
    let mut passed = 0;
    for _ in 0..1000 {
        for _ in 0..per_milli {
            passed += u32::from(net.put(port, &bytes) == vswitch_switch::Verdict::Forward);
        }
        net.advance(millis(1));
    }
    passed
}

#[test]
fn b_stm_1_a_broadcast_storm_is_cut_to_1100_and_others_lose_nothing() {
    let mut net = containers();
    net.out(1, &frame(M1, BC));
    net.out(3, &frame(M3, BC));
    let (storm, talk) = (frame(M2, BC).bytes(), frame(M1, M3));
    let mut broadcasts = 0;
    for _ in 0..1000 {
        for _ in 0..100 {
            broadcasts += u32::from(net.put(2, &storm) == vswitch_switch::Verdict::Forward);
        }
        assert_eq!(net.out(1, &talk), [3]);
        net.advance(millis(1));
    }
    assert!((1000..=1100).contains(&broadcasts), "{broadcasts}");
    assert_eq!(
        net.counters(2).dropped(DropReason::StormBroadcast),
        100_000 - u64::from(broadcasts)
    );
}

#[test]
fn b_stm_1_each_class_has_its_own_allowance() {
    let mut net = containers();
    let multicasts = passed_in_a_second(&mut net, 1, &frame(M1, GROUP), 20);
    assert!((5000..=5500).contains(&multicasts), "{multicasts}");
    let unknown = passed_in_a_second(&mut net, 1, &frame(M1, M4), 20);
    assert!((2000..=2200).contains(&unknown), "{unknown}");
    assert!(net.counters(1).dropped(DropReason::StormMulticast) > 0);
    assert!(net.counters(1).dropped(DropReason::StormUnknownUnicast) > 0);
    assert_eq!(
        net.out(1, &frame(M1, BC)),
        [2, 3, 4],
        "broadcasts are not touched by those"
    );
    assert_eq!(net.out(2, &frame(M2, GROUP)), [1, 3, 4], "nor are other ports");
}

#[test]
fn b_stm_1_known_unicast_is_not_limited() {
    let mut net = containers();
    net.out(2, &frame(M2, BC));
    assert_eq!(passed_in_a_second(&mut net, 1, &frame(M1, M2), 50), 50_000);
}

#[test]
fn b_stm_1_address_resolution_has_a_reserve() {
    let (ip1, ip2) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let six: std::net::Ipv6Addr = [0xfd00, 0, 0, 0, 0, 0, 0, 1].into();
    let limits = StormLimits {
        multicast: Some(Rate::frames(10)),
        ..StormLimits::CONTAINER
    };
    let essential = [
        Arp::request(M1, ip1, ip2).frame(),
        Packet::dhcp_discover().frame(M1, BC),
        Packet::neighbour_solicitation(six, six, M1).frame(M1, GROUP),
        Packet::udp_ports(six, six, 546, 547).frame(M1, GROUP),
    ];
    for frame_of_need in essential {
        let mut net = containers();
        net.configure(1, |port| port.storm = limits);
        for dst in [BC, GROUP] {
            for _ in 0..200 {
                let _ = net.put(1, &frame(M1, dst).bytes());
            }
            let other = Packet::udp(ip1, ip2).frame(M1, dst);
            assert_eq!(
                net.put(1, &other.bytes()),
                net.put(1, &frame(M1, dst).bytes()),
                "all used up"
            );
        }
        assert_eq!(net.out(1, &frame_of_need), [2, 3, 4]);
        let more = passed_in_a_second(&mut net, 1, &frame_of_need, 20);
        assert!(more <= 1000 + 100 + 10, "the reserve is limited too: {more}");
    }
}

#[test]
fn b_stm_1_storms_teach_no_more_than_the_limit_allows() {
    let mut net = containers();
    for n in 0..5000 {
        let _ = net.put(1, &frame(station(n), BC).bytes());
    }
    assert_eq!(net.switch.learned_on(net.id(1)), 1024);
}

#[test]
fn b_lim_5_unknown_unicast_is_limited_per_ingress_port() {
    let mut net = containers();
    for n in 0..1000 {
        let _ = net.put(1, &frame(M1, station(n)).bytes());
    }
    assert_eq!(net.counters(1).flooded, 200, "the burst");
    assert_eq!(net.out(2, &frame(M2, station(0))), [1, 3, 4]);
}
