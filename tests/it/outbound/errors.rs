//! Connections that cannot be made: the application hears the right error, soon.

use std::{net::SocketAddr, time::Duration};

use super::{GATEWAYS, Scene};
use crate::support::{
    agent::Role,
    outside::{BOTH, FAR4, FAR6, Place, UNREACHABLE},
};

#[test]
fn r_out_2_a_refused_connection_is_refused() {
    let Some(scene) = Scene::new("") else { return };
    for address in BOTH.into_iter().chain([FAR4.into(), FAR6.into()]) {
        assert_eq!(
            fails_soon(&scene, (address, CLOSED).into()),
            "ConnectionRefused",
            "{address}"
        );
    }
    // The host's own ports are no different.
    for gateway in GATEWAYS {
        assert_eq!(
            fails_soon(&scene, (gateway, CLOSED).into()),
            "ConnectionRefused",
            "{gateway}"
        );
    }
}

#[test]
fn r_out_2_an_unreachable_destination_is_unreachable() {
    let Some(scene) = Scene::new("") else { return };
    assert_eq!(
        fails_soon(&scene, (BOTH[0], CLOSED).into()),
        "ConnectionRefused",
        "not everything"
    );
    for address in UNREACHABLE {
        let word = fails_soon(&scene, (address, 80).into());
        assert!(
            ["HostUnreachable", "NetworkUnreachable"].contains(&&*word),
            "{address}: {word}"
        );
    }
}

#[test]
fn r_out_2_a_router_that_knows_no_way_is_heard() {
    let Some(scene) = Scene::new("") else { return };
    scene
        .outside
        .ok(Place::Outside, "ip route add unreachable 198.51.100.0/24");
    scene
        .outside
        .ok(Place::Outside, "ip route add unreachable 2001:db8:dead::/48");
    scene
        .outside
        .ok(Place::Host, "ip route del unreachable 198.51.100.0/24");
    scene
        .outside
        .ok(Place::Host, "ip route del unreachable 2001:db8:dead::/48");
    assert_eq!(
        fails_soon(&scene, (BOTH[0], CLOSED).into()),
        "ConnectionRefused",
        "not everything"
    );
    for address in UNREACHABLE {
        let word = fails_soon(&scene, (address, 80).into());
        assert!(
            ["HostUnreachable", "NetworkUnreachable"].contains(&&*word),
            "{address}: {word}"
        );
    }
}

/// How a connection attempt failed. It must not take as long as a retransmission of a SYN (1 s, RFC 6298)
/// and what a busy machine adds.
#[track_caller]
fn fails_soon(scene: &Scene, to: SocketAddr) -> String {
    let agent = scene.daemon.agent("box", &Role::Connect { to });
    let took = Duration::from_millis(agent.word().parse().expect("milliseconds"));
    let word = agent.last_word();
    println!("{to}: {word} after {took:?}");
    assert!(took < Duration::from_secs(2), "{to}: {word} after {took:?}");
    word
}

/// Nobody listens there.
const CLOSED: u16 = 9;
