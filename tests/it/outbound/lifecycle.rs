//! Flows when containers, networks and the daemon come and go.

use std::fs;

use super::Scene;
use crate::support::{
    agent::{Agent, Dialogue, Role, Service},
    daemon::PATIENCE,
    outside::{ANY, BOTH, OUTSIDE4, Outside, Place, Privilege},
    within,
};

#[test]
fn the_way_out_needs_no_privilege() {
    let Some(outside) = Outside::with(Privilege::None) else {
        return;
    };
    let Some(scene) = Scene::on(outside, "") else {
        return;
    };
    let status = fs::read_to_string(format!("/proc/{}/status", scene.daemon.pid())).expect("it runs");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let line = status
            .lines()
            .find(|line| line.starts_with(set))
            .expect("a line of each");
        let value = u64::from_str_radix(line[set.len() + 1..].trim(), 16).expect("a number");
        assert_eq!(value, 0, "{line}");
    }
    let (_server, port) = scene.serve(Place::Outside, Service::Echo);
    let (_echo, udp_port) = scene.outside.server(Place::Outside, &Role::UdpEcho { at: ANY });
    for address in BOTH {
        assert_eq!(
            scene.dial((address, port).into(), Dialogue::Echo { bytes: 1 << 20 }),
            "1048576"
        );
        let to = (address, udp_port).into();
        assert_eq!(
            scene.daemon.act(
                "box",
                &Role::Datagrams {
                    to,
                    sizes: vec![5000]
                }
            ),
            "1"
        );
        scene.daemon.ping("box", &address.to_string());
    }
}

#[test]
fn the_flows_of_a_container_that_leaves_its_network_end() {
    let Some(scene) = Scene::new("") else { return };
    let before = scene.descriptors();
    let flows = several_flows(&scene);
    assert!(scene.descriptors() > before);
    scene.daemon.ok("network disconnect lan box");
    have_ended(&scene, &flows, before);
    scene
        .daemon
        .ok("network connect --ip 10.90.0.2 --ip6 fd90::2 lan box");
    assert_eq!(scene.reach((OUTSIDE4, flows.port).into()), "connected");
}

#[test]
fn the_flows_of_a_container_that_is_killed_end() {
    let Some(mut scene) = Scene::new("") else { return };
    let before = scene.descriptors();
    let flows = several_flows(&scene);
    scene.daemon.kill_sandbox("box");
    have_ended(&scene, &flows, before);
}

#[test]
fn flows_of_a_daemon_that_is_killed_are_reset_and_new_ones_work() {
    let Some(mut scene) = Scene::new("") else { return };
    let (server, port) = scene.serve(Place::Outside, Service::Echo);
    let held = BOTH.map(|address| scene.hold((address, port).into()));
    scene.daemon.kill9();
    for _ in 0..held.len() * 2 {
        // The kernel closes a dead daemon's sockets.
        server.word();
    }
    scene.daemon.restart();
    for agent in held {
        assert_eq!(agent.last_word(), "ConnectionReset", "when it is used");
    }
    for address in BOTH {
        assert_eq!(
            scene.dial((address, port).into(), Dialogue::Echo { bytes: 1 }),
            "1"
        );
        scene.daemon.ping("box", &address.to_string());
    }
}

#[test]
fn flows_of_a_daemon_that_stops_end() {
    let Some(mut scene) = Scene::new("") else { return };
    let flows = several_flows(&scene);
    assert!(scene.daemon.stop(rustix::process::Signal::TERM).success());
    for _ in 0..flows.held.len() {
        flows.server.word();
    }
}

#[test]
fn descriptors_are_given_back_after_many_short_connections() {
    let Some(scene) = Scene::new("") else { return };
    let (_server, port) = scene.serve(Place::Outside, Service::Echo);
    let dial = |connections| {
        for address in BOTH {
            let role = Role::Dial {
                to: (address, port).into(),
                dialogue: Dialogue::Echo { bytes: 100 },
                connections,
            };
            assert_eq!(scene.daemon.act("box", &role), "100");
        }
    };
    // The first one makes the relay open the socket by which it asks for routes, and keep it.
    dial(1);
    within(PATIENCE, "the first ones are over", || {
        scene.daemon.json("flows").as_array().is_some_and(Vec::is_empty)
    });
    let before = scene.descriptors();
    for _ in 0..5 {
        dial(40);
    }
    within(PATIENCE, "descriptors are back", || scene.descriptors() <= before);
}

struct Flows {
    server: Agent,
    port: u16,
    held: Vec<Agent>,
}

/// Two TCP flows that are held, and others without connections.
fn several_flows(scene: &Scene) -> Flows {
    let (server, port) = scene.serve(Place::Outside, Service::Echo);
    let (_echo, udp_port) = scene.outside.server(Place::Outside, &Role::UdpEcho { at: ANY });
    let held: Vec<Agent> = BOTH
        .iter()
        .map(|&address| scene.hold((address, port).into()))
        .collect();
    for address in BOTH {
        let to = (address, udp_port).into();
        assert_eq!(
            scene.daemon.act("box", &Role::Datagrams { to, sizes: vec![1] }),
            "1"
        );
        scene.daemon.ping("box", &address.to_string());
    }
    // Where they came from.
    for _ in &held {
        server.word();
    }
    Flows { server, port, held }
}

/// The servers hear of it, and nothing is left in the daemon.
#[track_caller]
fn have_ended(scene: &Scene, flows: &Flows, descriptors_before: usize) {
    for _ in &flows.held {
        let word = flows.server.word();
        assert!(["ConnectionReset", "ended"].contains(&&*word), "{word}");
    }
    within(PATIENCE, "descriptors are back", || {
        scene.descriptors() <= descriptors_before
    });
    assert_eq!(scene.daemon.json("flows lan"), serde_json::json!([]));
}
