//! TCP connections to servers outside.

use std::net::SocketAddr;

use super::Scene;
use crate::support::{
    agent::{Dialogue, Role, Service},
    outside::{BOTH, FAR4, FAR6, HOST4, HOST6, Place},
};

#[test]
fn what_a_container_sends_comes_back_and_comes_from_the_host() {
    let Some(scene) = Scene::new("") else { return };
    let (server, port) = scene.serve(Place::Outside, Service::Echo);
    for (address, host) in BOTH.into_iter().zip([HOST4.to_string(), HOST6.to_string()]) {
        let dialogue = Dialogue::Echo { bytes: 100_000 };
        assert_eq!(
            scene.dial((address, port).into(), dialogue),
            "100000",
            "{address}"
        );
        assert_eq!(server.word(), format!("from {host}"));
        assert_eq!(server.word(), "ended");
    }
    let (_server, port) = scene.serve(Place::Far, Service::Echo);
    for address in [FAR4.into(), FAR6.into()] {
        let to = SocketAddr::new(address, port);
        assert_eq!(
            scene.dial(to, Dialogue::Echo { bytes: 1 }),
            "1",
            "behind a router"
        );
    }
}

#[test]
fn bulk_streams_both_ways_at_once_are_complete() {
    let Some(scene) = Scene::new("") else { return };
    exchange(&scene, 64 << 20);
}

#[test]
#[ignore = "a measurement"]
fn a_gibibyte_both_ways_at_once_is_complete() {
    let Some(scene) = Scene::new("") else { return };
    exchange(&scene, 1 << 30);
}

#[track_caller]
fn exchange(scene: &Scene, bytes: u64) {
    let (server, port) = scene.serve(Place::Outside, Service::Exchange { send: bytes });
    for address in BOTH {
        let dialogue = Dialogue::Exchange {
            send: bytes,
            receive: bytes,
        };
        assert_eq!(
            scene.dial((address, port).into(), dialogue),
            "complete",
            "{address}"
        );
        // Where it came from, then what came.
        server.word();
        assert_eq!(server.word(), bytes.to_string(), "{address}");
    }
}

#[test]
fn a_server_may_speak_first() {
    let Some(scene) = Scene::new("") else { return };
    let (server, port) = scene.serve(Place::Outside, Service::Greet);
    for address in BOTH {
        assert_eq!(scene.dial((address, port).into(), Dialogue::Hear), "welcome");
        server.word();
        assert_eq!(server.word(), "thanks", "{address}");
    }
}

#[test]
fn a_slow_reader_outside_gets_every_byte() {
    let Some(scene) = Scene::new("") else { return };
    let (server, port) = scene.serve(Place::Outside, Service::SlowSink);
    for address in BOTH {
        let dialogue = Dialogue::Exchange {
            send: 8 << 20,
            receive: 0,
        };
        assert_eq!(scene.dial((address, port).into(), dialogue), "complete");
        server.word();
        assert_eq!(server.word(), (8 << 20).to_string(), "{address}");
    }
}

#[test]
fn two_hundred_connections_at_once_do_not_mix() {
    let Some(scene) = Scene::new("") else { return };
    let (_server, port) = scene.serve(Place::Outside, Service::Echo);
    for address in BOTH {
        let role = Role::Dial {
            to: (address, port).into(),
            dialogue: Dialogue::Echo { bytes: 200_000 },
            connections: 200,
        };
        assert_eq!(scene.daemon.act("box", &role), "200000", "all of them, {address}");
    }
}
