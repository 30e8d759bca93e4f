//! A container that misuses the way out: the others notice nothing.

use std::net::{IpAddr, SocketAddr};

use vswitch_wire::MacAddr;

use super::Scene;
use crate::support::{
    agent::{Dialogue, Role, Service},
    daemon::PATIENCE,
    outside::{BLACK_HOLE, BOTH, Place},
    within,
};

#[test]
fn r_lim_1_a_flood_of_connections_to_nowhere_harms_nobody_else() {
    let Some(mut scene) = Scene::new("") else { return };
    scene.daemon.run("bad", "--network lan");
    let (_server, port) = scene.serve(Place::Outside, Service::Echo);
    let before = scene.descriptors();
    let flood = scene.daemon.agent("bad", &Role::SynFlood { network: BLACK_HOLE });
    // More than may wait.
    flood.word();
    for address in BOTH {
        let to = SocketAddr::new(address, port);
        for _ in 0..5 {
            assert_eq!(
                scene.dial(to, Dialogue::Echo { bytes: 100_000 }),
                "100000",
                "{address}"
            );
        }
        scene.daemon.ping("box", &address.to_string());
    }
    let pending = scene.descriptors();
    assert!(
        pending <= before + PENDING + 64,
        "{pending} descriptors, {before} before"
    );
    let begun: u64 = flood.last_word().parse().expect("a number");
    assert!(begun >= 2000);
    let limits = ["relay_limit_pending", "relay_limit_rate"].map(|limit| scene.counter(limit));
    assert!(
        limits.iter().sum::<u64>() > 0,
        "limits were hit, and nothing says so"
    );
    scene.daemon.ok("network disconnect lan bad");
    within(PATIENCE, "descriptors are back", || {
        scene.descriptors() <= before + 8
    });
}

#[test]
fn r_lim_4_packets_that_no_sane_host_sends_harm_nobody_else() {
    let Some(mut scene) = Scene::new("") else { return };
    // Their addresses are those of the agent's packets.
    scene
        .daemon
        .run("bad", "--network lan --ip 10.90.0.66 --ip6 fd90::66");
    let (_server, port) = scene.serve(Place::Outside, Service::Echo);
    let mut to: Vec<SocketAddr> = Vec::new();
    for text in [
        "192.0.2.2",
        "2001:db8:1::2",
        "10.90.0.1",
        "fd90::1",
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "10.90.0.255",
        "192.0.2.1",
        "198.51.100.1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "10.90.0.66",
    ] {
        let address: IpAddr = text.parse().expect("an address");
        to.extend([0, 9, 53, port].map(|port| SocketAddr::new(address, port)));
    }
    let station = gateway_station(&scene);
    let interface = "eth0".to_owned();
    let bad = scene.daemon.agent(
        "bad",
        &Role::Nonsense {
            interface,
            station,
            to,
        },
    );
    for address in BOTH {
        let to = SocketAddr::new(address, port);
        for _ in 0..5 {
            assert_eq!(
                scene.dial(to, Dialogue::Echo { bytes: 100_000 }),
                "100000",
                "{address}"
            );
        }
    }
    let sent: u64 = bad.last_word().parse().expect("a number");
    assert!(sent > 10_000, "{sent}");
    for address in BOTH {
        let to = SocketAddr::new(address, port);
        assert_eq!(
            scene.dial(to, Dialogue::Echo { bytes: 100_000 }),
            "100000",
            "{address}"
        );
        scene.daemon.ping("box", &address.to_string());
    }
    assert!(!scene.daemon.log().contains("panicked"), "{}", scene.daemon.log());
}

/// The gateway's MAC address.
#[track_caller]
fn gateway_station(scene: &Scene) -> [u8; 6] {
    let stations = scene.daemon.fdb("lan");
    let (station, _) = stations
        .iter()
        .find(|(_, kind)| kind == "local")
        .expect("the gateway's");
    let station: MacAddr = station.parse().expect("a MAC address");
    station.0
}

/// R-LIM-1: pending connects of one container.
const PENDING: usize = 256;
