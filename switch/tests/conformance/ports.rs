//! Commands: what is refused changes nothing.

use vswitch_switch::{
    AddPortError, ConfigurePortError, Guard, LinkState, MAX_PORTS, PortConfig, PortId, PortKind, UnknownPort,
};
use vswitch_wire::MacAddr;

use crate::scenario::*;

fn container(mac: MacAddr) -> PortConfig {
    PortConfig::container(Guard::new(mac, vec![]))
}

#[test]
fn impossible_ports_are_not_added() {
    let mut net = Scenario::with_ports(|_| {}, [PortConfig::gateway(), container(M1)]);
    let device = |mac| PortConfig {
        device_mac: Some(mac),
        ..PortConfig::uplink()
    };
    let cases = [
        (
            "second gateway",
            PortConfig::gateway(),
            AddPortError::GatewayExists(net.id(1)),
        ),
        ("another's address", container(M1), AddPortError::MacInUse(M1)),
        (
            "the switch's address",
            container(SWITCH_MAC),
            AddPortError::MacInUse(SWITCH_MAC),
        ),
        ("group address", container(GROUP), AddPortError::InvalidMac(GROUP)),
        (
            "zero address",
            container(MacAddr::ZERO),
            AddPortError::InvalidMac(MacAddr::ZERO),
        ),
        (
            "B-PORT-4: device with a container's address",
            device(M1),
            AddPortError::MacInUse(M1),
        ),
        (
            "B-PORT-4: device with its own container's address",
            PortConfig {
                device_mac: Some(M2),
                ..container(M2)
            },
            AddPortError::MacInUse(M2),
        ),
    ];
    for (name, config, error) in cases {
        assert_eq!(net.switch.add_port(net.clock.now(), config), Err(error), "{name}");
    }
    assert_eq!(net.switch.ports().count(), 2);
    assert_eq!(net.table(), [(0, M1, 2)]);
}

#[test]
fn a_port_becomes_only_what_it_could_have_been() {
    let mut net = Scenario::with_ports(|_| {}, [container(M1), container(M2)]);
    let now = net.clock.now();
    let taken = net.switch.configure_port(now, net.id(2), container(M1));
    assert_eq!(
        taken,
        Err(ConfigurePortError::Invalid(AddPortError::MacInUse(M1)))
    );
    let changed = PortConfig {
        kind: PortKind::Uplink,
        ..container(M2)
    };
    assert_eq!(
        net.switch.configure_port(now, net.id(2), changed),
        Err(ConfigurePortError::KindChanged)
    );
    assert_eq!(net.table(), [(0, M1, 1), (0, M2, 2)]);
    let ghost = PortId(9);
    assert_eq!(
        net.switch.configure_port(now, ghost, container(M3)),
        Err(ConfigurePortError::UnknownPort(UnknownPort(ghost)))
    );
    assert_eq!(
        net.switch.set_link(now, ghost, LinkState::Up),
        Err(UnknownPort(ghost))
    );
}

#[test]
fn configuring_keeps_what_it_does_not_touch() {
    let mut net = Scenario::new();
    net.out(1, &frame(M1, BC));
    net.switch
        .set_link(net.clock.now(), net.id(2), LinkState::Down)
        .expect("it is there");
    for port in [1, 2] {
        net.configure(port, |config| config.mtu = 9000);
    }
    assert_eq!(net.whereabouts(M1), Some(1));
    assert_eq!(net.counters(1).rx_frames, 1);
    assert_eq!(net.switch.link(net.id(2)), Some(LinkState::Down));
    assert_eq!(net.out(1, &frame(M1, BC)), [3, 4]);
}

#[test]
fn a_container_that_leaves_frees_its_address() {
    let mut net = Scenario::with_ports(|_| {}, [container(M1), PortConfig::uplink()]);
    net.switch
        .remove_port(net.clock.now(), net.id(1))
        .expect("it is there");
    let again = net.add(container(M1));
    assert_eq!(net.id(again), net.id(1), "the id is used again");
    assert_eq!(net.out(2, &frame(M2, M1)), [1]);
}

#[test]
fn b_port_1_a_removed_port_is_no_egress_of_the_frame_last_handled() {
    let mut net = Scenario::new();
    net.out(1, &frame(M1, BC));
    let gone = net.id(2);
    net.switch
        .remove_port(net.clock.now(), gone)
        .expect("it is there");
    assert!(net.switch.egress().iter().all(|egress| egress.port != gone));
    assert_eq!(net.switch.egress().len(), 2, "the others are not affected");
}

#[test]
fn the_number_of_ports_is_limited() {
    let mut net = Scenario::with_ports(|_| {}, []);
    for _ in 0..MAX_PORTS {
        net.add(PortConfig::uplink());
    }
    let one_more = net.switch.add_port(net.clock.now(), PortConfig::uplink());
    assert_eq!(one_more, Err(AddPortError::TooManyPorts));
}

#[test]
fn a_guard_may_take_over_a_station_that_was_entered_for_its_port() {
    let mut net = Scenario::with_ports(|_| {}, [PortConfig::unguarded(), PortConfig::uplink()]);
    net.switch.pin(net.id(1), None, M1).expect("a free address");
    net.configure(1, |port| port.guard = Some(Guard::new(M1, vec![])));
    assert_eq!(net.table(), [(0, M1, 1)]);
    net.configure(1, |port| port.guard = None);
    assert_eq!(net.table(), []);
}
