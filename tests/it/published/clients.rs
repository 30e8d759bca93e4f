//! Who comes, and whom the container sees.

use super::{
    BOTH_TRANSPORTS, FAR, GATEWAYS, HOST, INNER, LOOPBACK, OPEN, OUTER, OWN, Scene, UNSPECIFIED, at,
};
use crate::support::{
    agent::{Role, Transport},
    outside::{BOTH, Outside, Place, Privilege},
};

/// The server speaks first, too (R-IN-3), and is told of IPv4 clients as such although one socket listens for both
/// versions (R-IN-6).
#[test]
fn r_in_1_the_container_sees_remote_clients_as_they_are() {
    let Some(scene) = Scene::new(OPEN) else { return };
    assert_remote_clients_are_seen(&scene);
}

#[test]
fn r_in_1_it_takes_no_privilege_to_see_remote_clients_as_they_are() {
    let Some(outside) = Outside::with(Privilege::None) else {
        return;
    };
    let Some(daemon) = outside.daemon(&[]) else { return };
    assert_remote_clients_are_seen(&Scene::with(outside, daemon, OPEN));
}

#[track_caller]
fn assert_remote_clients_are_seen(scene: &Scene) {
    let server = scene.introduce("web", 1);
    for (transport, word) in BOTH_TRANSPORTS.into_iter().zip(["tcp", "udp"]) {
        for (place, addresses) in [(Place::Outside, BOTH), (Place::Far, FAR)] {
            for (to, client) in HOST.into_iter().zip(addresses) {
                let seen = scene.visit(place, at(to, OUTER), transport);
                assert_eq!(seen, format!("itself {INNER}"), "{place:?} {to} {transport:?}");
                assert_eq!(server.word(), format!("{word} from {client}"));
            }
        }
    }
}

/// As the gateway by way of frames; as the container itself by way of a socket in its namespace.
#[test]
fn r_in_1_clients_on_the_host_are_never_loopback_or_remote_to_the_container() {
    let Some(scene) = Scene::new(OPEN) else { return };
    let _server = scene.introduce("web", 1);
    for to in [LOOPBACK, HOST].concat() {
        let version = usize::from(to.is_ipv6());
        let seen = scene.visit(Place::Host, at(to, OUTER), Transport::Tcp);
        let fits = [OWN[version], GATEWAYS[version]].map(|ip| format!("{ip} {INNER}"));
        assert!(fits.contains(&seen), "{to}: {seen}");
        let seen = scene.visit(Place::Host, at(to, OUTER), Transport::Udp);
        assert_eq!(seen, format!("{} {INNER}", GATEWAYS[version]), "{to}");
    }
}

#[test]
fn clients_on_the_host_are_the_gateway_to_the_container_if_it_is_told_to_relay() {
    let Some(scene) = Scene::new("-p 8080:7000,local=relay") else {
        return;
    };
    let _server = scene.introduce("web", 1);
    for to in [LOOPBACK, HOST].concat() {
        let seen = scene.visit(Place::Host, at(to, OUTER), Transport::Tcp);
        let gateway = GATEWAYS[usize::from(to.is_ipv6())];
        assert_eq!(seen, format!("{gateway} {INNER}"), "{to}");
    }
}

#[test]
fn p7_clients_of_ipv6_reach_a_container_that_has_only_ipv4() {
    let Some(outside) = Outside::new() else { return };
    let Some(mut daemon) = outside.daemon(&[]) else {
        return;
    };
    daemon.ok("network create --subnet 10.90.0.0/24 old");
    daemon.run("web", &format!("--network old --ip 10.90.0.2 {OPEN}"));
    let scene = Scene { daemon, outside };
    let _server = scene.introduce("web", 1);
    for transport in BOTH_TRANSPORTS {
        let seen = scene.visit(Place::Far, at(HOST[1], OUTER), transport);
        assert_eq!(seen, format!("{} {INNER}", GATEWAYS[0]), "{transport:?}");
        let seen = scene.visit(Place::Far, at(HOST[0], OUTER), transport);
        assert_eq!(seen, format!("itself {INNER}"), "{transport:?}");
        let seen = scene.visit(Place::Host, at(LOOPBACK[1], OUTER), transport);
        let fits = [OWN[0], GATEWAYS[0]].map(|ip| format!("{ip} {INNER}"));
        assert!(fits.contains(&seen), "{transport:?}: {seen}");
    }
}

/// A connected socket takes no answer from elsewhere.
#[test]
fn r_udp_4_answers_come_from_the_address_that_the_client_used() {
    let Some(scene) = Scene::new("-p 8080:7000/udp") else {
        return;
    };
    scene.outside.ok(
        Place::Host,
        "ip address add 192.0.2.77/24 dev out0; ip address add 2001:db8:1::77/64 dev out0 nodad",
    );
    let _server = scene.introduce("web", 1);
    for to in ["192.0.2.77", "2001:db8:1::77", "192.0.2.1", "2001:db8:1::1"] {
        let to = at(to.parse().expect("an address"), OUTER);
        let seen = scene.visit(Place::Far, to, Transport::Udp);
        assert_eq!(seen, format!("itself {INNER}"), "{to}");
    }
}

#[test]
fn datagrams_of_every_size_pass_both_ways() {
    let Some(scene) = Scene::new("-p 8080:7000/udp") else {
        return;
    };
    let role = Role::UdpEcho {
        at: at(UNSPECIFIED, INNER),
    };
    let _server = scene.daemon.agent("web", &role);
    for (place, to) in [
        (Place::Far, HOST[0]),
        (Place::Far, HOST[1]),
        (Place::Host, LOOPBACK[0]),
        (Place::Host, LOOPBACK[1]),
    ] {
        let sizes = vec![1, 0, 1452, 1453, 1473, 6000, 60_000, 1];
        let role = Role::Datagrams {
            to: at(to, OUTER),
            sizes,
        };
        assert_eq!(scene.outside.agent(place, &role).last_word(), "8", "{to}");
    }
}

#[test]
fn a_port_can_be_published_on_one_address_only() {
    let Some(scene) = Scene::new("-p 192.0.2.1:8080:7000 -p [2001:db8:1::1]:8081:7000") else {
        return;
    };
    let _server = scene.introduce("web", 1);
    for (index, (open, closed)) in [(OUTER, OUTER + 1), (OUTER + 1, OUTER)].into_iter().enumerate() {
        let seen = scene.visit(Place::Far, at(HOST[index], open), Transport::Tcp);
        assert_eq!(seen, format!("itself {INNER}"));
        for (place, address) in [(Place::Far, HOST[index]), (Place::Host, LOOPBACK[index])] {
            let word = scene.reach(place, at(address, closed));
            assert_eq!(word, "ConnectionRefused", "{address}");
        }
        assert_eq!(
            scene.reach(Place::Host, at(LOOPBACK[index], open)),
            "ConnectionRefused"
        );
    }
}

#[test]
fn a_range_of_a_hundred_ports_leads_to_a_hundred() {
    let Some(scene) = Scene::new("-p 9000-9099:7000-7099 -p 9000-9099:7000-7099/udp") else {
        return;
    };
    let _server = scene.introduce("web", 100);
    for (offset, transport) in [(0, Transport::Tcp), (99, Transport::Tcp), (57, Transport::Udp)] {
        let seen = scene.visit(Place::Far, at(HOST[0], 9000 + offset), transport);
        assert_eq!(seen, format!("itself {}", INNER + offset));
    }
    for offset in 0..100 {
        let seen = scene.visit(Place::Host, at(LOOPBACK[1], 9000 + offset), Transport::Tcp);
        assert!(
            seen.ends_with(&format!(" {}", INNER + offset)),
            "{offset}: {seen}"
        );
    }
    assert_eq!(scene.reach(Place::Far, at(HOST[0], 9100)), "ConnectionRefused");
    assert_eq!(scene.daemon.ok("port web").lines().count(), 400);
    assert_eq!(scene.daemon.ok("port web 7099/udp"), "0.0.0.0:9099\n[::]:9099\n");
}
