//! Networks whose containers may not talk to each other, or not to the outside.

use std::net::{IpAddr, SocketAddr};

use vswitch::io::attach::DefaultRoute;

use crate::support::{
    agent::Role,
    attacher,
    daemon::{Daemon, PATIENCE},
    ip, within,
};

#[test]
fn without_inter_container_communication_only_the_gateway_is_reached() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok(
        "network create -o com.docker.network.bridge.enable_icc=false --subnet 10.86.0.0/24 \
         --subnet fd86::/64 --ipv6 lan",
    );
    daemon.run("one", "--network lan --ip 10.86.0.2 --ip6 fd86::2");
    daemon.run("two", "--network lan --ip 10.86.0.3 --ip6 fd86::3");
    for address in ["10.86.0.1", "fd86::1"] {
        daemon.ping("one", address);
        daemon.ping("two", address);
    }
    daemon.no_ping("one", "10.86.0.3");
    daemon.no_ping("two", "fd86::2");
    // Not for want of an address: a frame to the other's is dropped, and counted.
    let isolated = || daemon.port("one")["Drops"]["isolated"].as_u64().unwrap_or(0);
    let received = daemon.port("two")["TxFrames"].take();
    let before = isolated();
    let interface = "eth0".to_owned();
    let station = [0x02, 0x42, 10, 86, 0, 3];
    daemon.act("one", &Role::Knock { interface, station });
    within(PATIENCE, "the frame is counted", || isolated() > before);
    assert_eq!(daemon.port("two")["TxFrames"], received);
    let shown = daemon.ok("show lan");
    assert!(shown.contains(" icc=false "), "{shown}");
}

#[test]
fn an_internal_network_has_no_way_out_and_says_so() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --internal --subnet 10.86.0.0/24 --subnet fd86::/64 --ipv6 inside");
    daemon.run("one", "--network inside --ip 10.86.0.2 --ip6 fd86::2");
    daemon.run("two", "--network inside --ip 10.86.0.3 --ip6 fd86::3");
    for address in ["10.86.0.3", "10.86.0.1", "fd86::3", "fd86::1"] {
        daemon.ping("one", address);
    }
    let eth0 = daemon.probe("one", "eth0").expect("it is attached");
    assert_eq!(eth0.default_gateways, [] as [IpAddr; 0]);
    assert_eq!(
        connect(&daemon, OUTSIDE_V4),
        "NetworkUnreachable",
        "by its own kernel"
    );

    // A container that helps itself to a route is told that it is prohibited: ICMP code 13 is EHOSTUNREACH
    // (net/ipv4/icmp.c, `icmp_err_convert`), ICMPv6 code 1 EACCES (net/ipv6/icmp.c, `tab_unreach`).
    route_out(&daemon, &["10.86.0.1", "fd86::1"]);
    assert_eq!(connect(&daemon, OUTSIDE_V4), "HostUnreachable");
    assert_eq!(connect(&daemon, OUTSIDE_V6), "PermissionDenied");
    let shown = daemon.ok("show inside");
    assert!(shown.contains(" internal "), "{shown}");
}

#[test]
fn what_must_not_be_reached_is_told_at_once() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.86.0.0/24 --subnet fd86::/64 --ipv6 lan");
    daemon.ok("network create --subnet 10.86.1.0/24 --subnet fd86:1::/64 --ipv6 other");
    daemon.run("one", "--network lan");
    daemon.run("elsewhere", "--network other --ip 10.86.1.2 --ip6 fd86:1::2");
    // What is outside is told in `outbound`, where there is an outside.
    // The networks are isolated from each other on purpose.
    assert_eq!(connect(&daemon, "10.86.1.2:80"), "HostUnreachable");
    assert_eq!(connect(&daemon, "[fd86:1::2]:80"), "PermissionDenied");
    // Nobody listens at the gateway.
    for closed in ["10.86.0.1:80", "[fd86::1]:80"] {
        assert_eq!(connect(&daemon, closed), "ConnectionRefused", "{closed}");
    }
}

/// What comes of a TCP connection attempt from sandbox `one`.
#[track_caller]
fn connect(daemon: &Daemon, to: &str) -> String {
    let to: SocketAddr = to.parse().expect("an address");
    daemon.act("one", &Role::Connect { to })
}

/// Gives sandbox `one` default routes that the daemon did not give it.
fn route_out(daemon: &Daemon, gateways: &[&str]) {
    let routes: Vec<DefaultRoute> = gateways
        .iter()
        .map(|gateway| DefaultRoute {
            interface: "eth0".into(),
            gateway: ip(gateway),
        })
        .collect();
    attacher()
        .set_default_routes(&daemon.target("one"), &routes)
        .expect("our sandbox");
}

/// Documentation addresses (RFC 5737, RFC 3849): no host has them.
const OUTSIDE_V4: &str = "203.0.113.1:80";
const OUTSIDE_V6: &str = "[2001:db8::1]:80";
