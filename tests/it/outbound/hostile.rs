//! A container that misuses the way out: the others notice nothing.

use std::net::SocketAddr;

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

/// R-LIM-1: pending connects of one container.
const PENDING: usize = 256;
