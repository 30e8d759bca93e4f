//! Where containers may go (R-LIM-6), and as whom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{GATEWAYS, Scene, assert_denied};
use crate::support::{
    agent::{Agent, Role, Service},
    daemon::PATIENCE,
    outside::{ANY, BOTH, HOST4, HOST6, OUTSIDE4, OUTSIDE6, Outside, Place},
    within,
};

#[test]
fn r_lim_6_the_hosts_loopback_is_closed_by_default() {
    let Some(scene) = Scene::new("") else { return };
    assert_leads_out(&scene);
    for (loopback, gateway) in LOOPBACK.into_iter().zip(GATEWAYS) {
        let (_server, port) = on(&scene.outside, loopback);
        assert_eq!(
            scene.reach((gateway, port).into()),
            "ConnectionRefused",
            "{gateway}"
        );
    }
}

#[test]
fn r_lim_6_the_hosts_loopback_opens_at_the_gateways_address() {
    let Some(scene) = Scene::new("-o allow_host_loopback=true") else {
        return;
    };
    for (loopback, gateway) in LOOPBACK.into_iter().zip(GATEWAYS) {
        let (server, port) = on(&scene.outside, loopback);
        assert_eq!(scene.reach((gateway, port).into()), "connected", "{gateway}");
        assert_eq!(server.word(), format!("from {loopback}"));
    }
}

#[test]
fn r_lim_6_the_host_is_at_the_gateways_address_only() {
    let Some(scene) = Scene::new("") else { return };
    let (_server, port) = scene.serve(Place::Host, Service::Echo);
    for (host, gateway) in [IpAddr::V4(HOST4), HOST6.into()].into_iter().zip(GATEWAYS) {
        assert_eq!(scene.reach((gateway, port).into()), "connected", "{gateway}");
        let to = SocketAddr::new(host, port);
        assert_denied(&scene.reach(to), to);
        let (_server, port) = on(&scene.outside, host);
        assert_eq!(
            scene.reach((gateway, port).into()),
            "connected",
            "{host} at {gateway}"
        );
    }
}

#[test]
fn r_lim_6_an_address_that_the_host_gets_later_is_the_hosts_too() {
    let Some(scene) = Scene::new("") else { return };
    let (_server, port) = scene.serve(Place::Host, Service::Echo);
    scene
        .outside
        .ok(Place::Host, "ip address add 192.0.2.77/32 dev lo");
    let to = SocketAddr::from(([192, 0, 2, 77], port));
    // Nobody asks the kernel for every connection.
    within(PATIENCE, "it is known", || scene.reach(to) != "connected");
    assert_denied(&scene.reach(to), to);
}

#[test]
fn r_lim_6_metadata_addresses_are_closed_unless_allowed() {
    for (option, open) in [("", false), ("-o allow_metadata=true", true)] {
        let Some(scene) = Scene::new(option) else { return };
        let metadata: [IpAddr; 2] = [
            Ipv4Addr::new(169, 254, 169, 254).into(),
            Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254).into(),
        ];
        let (_server, port) = scene.serve(Place::Outside, Service::Echo);
        for address in metadata {
            scene
                .outside
                .ok(Place::Outside, &format!("ip address add {address} dev lo"));
            let to = SocketAddr::new(address, port);
            let word = scene.reach(to);
            if open {
                assert_eq!(word, "connected", "{to}");
            } else {
                assert_denied(&word, to);
            }
        }
    }
}

#[test]
fn a_denied_destination_is_answered_as_the_network_says() {
    for (option, kind) in [("reset", "ConnectionRefused"), ("prohibited", "HostUnreachable")] {
        let Some(scene) = Scene::new(&format!("-o outbound_denied={option}")) else {
            return;
        };
        assert_eq!(scene.reach((HOST4, 9).into()), kind, "{option}");
    }
}

#[test]
fn r_lim_6_an_internal_network_has_no_way_out() {
    let Some(scene) = Scene::new("--internal") else {
        return;
    };
    let (server, port) = scene.serve(Place::Outside, Service::Echo);
    // Containers of internal networks have no default route; this one makes its own.
    for gateway in GATEWAYS {
        scene
            .daemon
            .ok(&format!("exec box -- ip route add default via {gateway}"));
    }
    for address in BOTH {
        assert_ne!(scene.reach((address, port).into()), "connected", "{address}");
        scene.daemon.no_ping("box", &address.to_string());
    }
    let (_host, host_port) = scene.serve(Place::Host, Service::Echo);
    assert_ne!(
        scene.reach((GATEWAYS[0], host_port).into()),
        "connected",
        "the host"
    );
    // The first that the server hears of is the host itself.
    let to = (OUTSIDE4, port).into();
    scene
        .outside
        .agent(Place::Host, &Role::Connect { to })
        .last_word();
    assert_eq!(server.word(), format!("from {HOST4}"));
    assert_eq!(server.word(), "ended");
}

#[test]
fn r_lim_6_another_networks_containers_are_not_reached_by_the_way_out() {
    let Some(mut scene) = Scene::new("") else { return };
    scene
        .daemon
        .ok("network create --subnet 10.91.0.0/24 --ipv6 --subnet fd91::/64 other");
    scene
        .daemon
        .run("neighbour", "--network other --ip 10.91.0.2 --ip6 fd91::2");
    assert_leads_out(&scene);
    // Somebody outside has the same addresses.
    let (_server, port) = scene.serve(Place::Outside, Service::Echo);
    for address in ["10.91.0.2", "fd91::2"] {
        scene
            .outside
            .ok(Place::Outside, &format!("ip address add {address} dev lo"));
        let to = SocketAddr::new(address.parse().expect("an address"), port);
        assert_denied(&scene.reach(to), to);
    }
}

#[test]
fn flows_leave_by_the_address_that_the_network_names() {
    let own = "-o outbound_addr=192.0.2.3 -o outbound_addr6=2001:db8:1::3";
    let dockers = "-o com.docker.network.host_ipv4=192.0.2.3 -o com.docker.network.host_ipv6=2001:db8:1::3";
    for options in [own, dockers] {
        let Some(outside) = Outside::new() else { return };
        outside.ok(Place::Host, "ip address add 192.0.2.3/24 dev out0");
        outside.ok(Place::Host, "ip address add 2001:db8:1::3/64 dev out0 nodad");
        let Some(scene) = Scene::on(outside, options) else {
            return;
        };
        let (server, port) = scene.serve(Place::Outside, Service::Echo);
        let (datagrams, udp_port) = scene.outside.server(Place::Outside, &Role::UdpEcho { at: ANY });
        for (to, from) in [
            (IpAddr::V4(OUTSIDE4), "192.0.2.3"),
            (OUTSIDE6.into(), "2001:db8:1::3"),
        ] {
            assert_eq!(scene.reach((to, port).into()), "connected", "{options}");
            assert_eq!(server.word(), format!("from {from}"));
            assert_eq!(server.word(), "ended");
            let role = Role::Datagrams {
                to: (to, udp_port).into(),
                sizes: vec![1],
            };
            assert_eq!(scene.daemon.act("box", &role), "1", "{options}");
            assert_eq!(datagrams.word(), format!("from {from}"));
        }
    }
}

#[test]
fn flows_leave_by_the_interface_that_the_network_names() {
    for (interface, expected) in [("out0", "connected"), ("dead0", "NetworkUnreachable")] {
        let Some(outside) = Outside::new() else { return };
        // A cable to nobody.
        outside.ok(
            Place::Host,
            "ip link add dead0 type veth peer name dead1; ip link set dead0 up; ip link set dead1 up",
        );
        let Some(scene) = Scene::on(outside, &format!("-o outbound_interface={interface}")) else {
            return;
        };
        let (_server, port) = scene.serve(Place::Outside, Service::Echo);
        // IPv4 takes every address for a neighbour on an interface without routes, and waits for its answer.
        assert_eq!(scene.reach((OUTSIDE6, port).into()), expected, "{interface}");
        if expected == "connected" {
            assert_eq!(scene.reach((OUTSIDE4, port).into()), expected, "{interface}");
        }
    }
}

/// What is closed shall not be so because everything is.
#[track_caller]
fn assert_leads_out(scene: &Scene) {
    let (_server, port) = scene.serve(Place::Outside, Service::Echo);
    assert_eq!(scene.reach((OUTSIDE4, port).into()), "connected", "outside");
}

/// A server on one address.
#[track_caller]
fn on(outside: &Outside, address: IpAddr) -> (Agent, u16) {
    let role = Role::Serve {
        at: (address, 0).into(),
        service: Service::Echo,
    };
    outside.server(Place::Host, &role)
}

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
