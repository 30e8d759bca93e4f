//! Uplinks that cannot be, and what is said of them.

use crate::support::{
    daemon::Outcome,
    outside::{Outside, Place, Privilege},
    program,
};

/// Starts a daemon in the host that must end by itself.
fn refused(outside: &Outside, uplink: &str) -> Outcome {
    let script = format!(
        "d=$(mktemp -d); exec timeout 20 {} --host unix://$d/s --state-dir $d/state --uplink {uplink}",
        program().display()
    );
    outside.sh(Place::Host, &script)
}

#[test]
fn what_cannot_be_an_uplink_is_refused_with_what_to_do() {
    let Some(outside) = Outside::with_device() else {
        return;
    };
    let cases = [
        (
            "device=nic9,address=192.0.2.9/24",
            1,
            "there is no such interface",
        ),
        ("device=lo,address=192.0.2.9/24", 1, "no Ethernet address"),
        (
            "device=up0,address=192.0.2.9/24,mtu=9000",
            1,
            "ip link set up0 mtu 9000",
        ),
        ("device=up0", 2, "give at least one as address=CIDR"),
        (
            "device=up0,address=192.0.2.9/24,gateway=10.0.0.1",
            2,
            "none of the prefixes",
        ),
        ("up0", 2, "is none of device=IFACE"),
        (
            "device=up0,address=198.51.100.77/24",
            1,
            "ip address del 198.51.100.77 dev up0",
        ),
        (
            "device=up0,address=192.0.2.9/24,mac=02:00:00:00:77:01",
            1,
            "leave mac= out",
        ),
    ];
    let script = "ip address add 198.51.100.77/24 dev up0; ip link set up0 address 02:00:00:00:77:01";
    let changed = outside.sh(Place::Host, script);
    assert_eq!(changed.code, 0, "{changed:?}");
    for (uplink, code, expected) in cases {
        let outcome = refused(&outside, uplink);
        assert_eq!(outcome.code, code, "{uplink}: {outcome:?}");
        assert!(outcome.stderr.contains(expected), "{uplink}: {outcome:?}");
    }
}

#[test]
fn without_the_right_to_packet_sockets_the_daemon_says_which_one_it_takes() {
    let Some(outside) = Outside::with(Privilege::None) else {
        return;
    };
    let outcome = outside.unprivileged_daemon("device=out0,address=192.0.2.9/24");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("needs CAP_NET_RAW"), "{outcome:?}");
}

#[test]
fn a_network_cannot_have_the_addresses_of_the_link() {
    let Some(outside) = Outside::with_device() else {
        return;
    };
    let Some(daemon) = outside.daemon(&["--uplink", "device=up0,address=198.51.100.10/24"]) else {
        return;
    };
    let refused = daemon.refused("network create --subnet 198.51.100.128/25 lan");
    assert!(
        refused.contains("link of the device uplink have addresses of 198.51.100.0/24"),
        "{refused}"
    );
    daemon.ok("network create --subnet 198.51.100.128/25 -o vswitch.uplink=sockets lan");
}

#[test]
fn a_network_cannot_leave_by_a_device_that_is_not_there() {
    let Some(outside) = Outside::new() else { return };
    let Some(daemon) = outside.daemon(&[]) else { return };
    let refused = daemon.refused("network create -o vswitch.uplink=device lan");
    assert!(
        refused.contains("start vswitchd with --uplink device="),
        "{refused}"
    );
    let refused = daemon.refused("network create -o vswitch.uplink=wire lan");
    assert!(refused.contains("must be device or sockets"), "{refused}");
}
