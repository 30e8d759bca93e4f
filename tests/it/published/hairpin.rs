//! Containers that call published ports at the host's addresses (P8, R-IN-7).

use std::net::IpAddr;

use super::{BOTH_TRANSPORTS, GATEWAYS, HOST, INNER, OPEN, OUTER, Scene, at};
use crate::support::{agent::Transport, outside::Place};

#[test]
fn r_in_7_containers_reach_published_ports_at_the_hosts_addresses() {
    let Some(mut scene) = Scene::new(OPEN) else { return };
    scene
        .daemon
        .ok("network create --subnet 10.91.0.0/24 --ipv6 --subnet fd91::/64 other");
    scene.daemon.run("stranger", "--network other");
    visit_all(&mut scene, &["web", "neighbour", "stranger"], HOST);
}

#[test]
fn r_in_7_containers_reach_published_ports_at_their_gateways_addresses() {
    let Some(mut scene) = Scene::new(OPEN) else { return };
    visit_all(&mut scene, &["web", "neighbour"], GATEWAYS);
}

/// Has each caller visit `web` at each address. `web` must see its gateway, never itself (CVE-2021-20199).
#[track_caller]
fn visit_all(scene: &mut Scene, callers: &[&str], addresses: [IpAddr; 2]) {
    scene.daemon.run("neighbour", "--network lan");
    let server = scene.introduce("web", 1);
    for caller in callers {
        for (to, gateway) in addresses.into_iter().zip(GATEWAYS) {
            for (transport, name) in BOTH_TRANSPORTS.into_iter().zip(["tcp", "udp"]) {
                let what = format!("{caller} {to} {name}");
                let seen = scene.visit_from(caller, at(to, OUTER), transport);
                assert!(seen.ends_with(&format!(" {INNER}")), "{what}: {seen}");
                assert_eq!(server.word(), format!("{name} from {gateway}"), "{what}");
            }
        }
    }
}

/// R-IN-6: a listener on all addresses takes nothing that is not for the host.
#[test]
fn r_in_6_the_same_port_of_others_is_not_ours() {
    let Some(mut scene) = Scene::new(OPEN) else { return };
    scene.daemon.run("neighbour", "--network lan");
    let _server = scene.introduce("web", 1);
    let outside = crate::support::outside::OUTSIDE4;
    let word = scene.visit_from("neighbour", at(outside.into(), OUTER), Transport::Tcp);
    assert_eq!(word, "ConnectionRefused");
    // On loopback only, it is not there for containers.
    scene.daemon.ok("unpublish web 8080:7000");
    scene.daemon.ok("publish web -p 127.0.0.1:8080:7000");
    let word = scene.visit_from("neighbour", at(GATEWAYS[0], OUTER), Transport::Tcp);
    assert_eq!(word, "ConnectionRefused");
    assert_eq!(
        scene.reach(Place::Host, at([127, 0, 0, 1].into(), OUTER)),
        "connected"
    );
}
