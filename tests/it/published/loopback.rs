//! Ports that are published on loopback only (P6).

use super::{HOST, INNER, LOOPBACK, OUTER, Scene, UNSPECIFIED, at, host_station};
use crate::support::{
    agent::{Agent, Role, Transport},
    outside::{BOTH, OUTSIDE4, Outside, Place},
};

const FLAGS: &str =
    "-p 127.0.0.1:8080:7000 -p 127.0.0.1:8080:7000/udp -p [::1]:8080:7000 -p [::1]:8080:7000/udp";

#[test]
fn r_in_7_a_port_of_loopback_serves_the_host_only() {
    let Some(scene) = Scene::new(FLAGS) else { return };
    let server = scene.introduce("web", 1);
    for address in HOST {
        for place in [Place::Far, Place::Host] {
            assert_eq!(
                scene.reach(place, at(address, OUTER)),
                "ConnectionRefused",
                "{place:?} {address}"
            );
            let word = scene.visit(place, at(address, OUTER), Transport::Udp);
            assert_eq!(word, "ConnectionRefused", "{place:?} {address}");
        }
    }
    assert_first_visitor_is_local(&scene, &server);
}

#[test]
fn p6_a_port_of_loopback_is_closed_to_crafted_packets() {
    let Some(scene) = Scene::new(FLAGS) else { return };
    let server = scene.introduce("web", 1);
    smuggle(&scene.outside);
    assert_eq!(begun(&scene.outside), "");
    assert_first_visitor_is_local(&scene, &server);
}

/// A host that its administrator has told to take them gets the very packets that the test above sends.
#[test]
fn crafted_packets_arrive_where_the_host_takes_them() {
    let Some(outside) = Outside::new() else { return };
    let at = at(UNSPECIFIED, OUTER);
    let server = outside.agent(Place::Host, &Role::Introduce { at, ports: 1 });
    assert_eq!(server.word(), "ready");
    outside.ok(Place::Host, "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet");
    smuggle(&outside);
    assert_eq!(server.word(), format!("udp from {OUTSIDE4}"));
    let syns = begun(&outside);
    assert!(syns.contains("127.0.0.1"), "{syns}");
}

/// Sends packets for the host's loopback addresses to its device, from without and as if from within.
#[track_caller]
fn smuggle(outside: &Outside) {
    let station = host_station(outside);
    for (from, to) in BOTH.into_iter().zip(LOOPBACK) {
        for from in [from, to] {
            let role = Role::Smuggle {
                interface: "host0".into(),
                station,
                from,
                to: at(to, OUTER),
            };
            assert_eq!(outside.agent(Place::Outside, &role).last_word(), "sent");
        }
    }
}

/// Connections of the host that have begun by a SYN.
#[track_caller]
fn begun(outside: &Outside) -> String {
    outside.ok(Place::Host, "ss -Htn state syn-recv")
}

/// Whatever came before, the container has heard of nobody.
#[track_caller]
fn assert_first_visitor_is_local(scene: &Scene, server: &Agent) {
    for to in LOOPBACK {
        for (transport, word) in [(Transport::Tcp, "tcp"), (Transport::Udp, "udp")] {
            let seen = scene.visit(Place::Host, at(to, OUTER), transport);
            assert!(seen.ends_with(&format!(" {INNER}")), "{to}: {seen}");
            let address = seen.split(' ').next().unwrap_or_default();
            assert_eq!(server.word(), format!("{word} from {address}"), "{to}");
        }
    }
}
