//! Streams by published ports are complete, and end as they should, whoever comes.

use super::{HOST, LOOPBACK, OUTER, Scene, at};
use crate::support::{
    agent::{Dialogue, Role, Service},
    outside::{Outside, Place},
};

#[test]
fn streams_of_remote_clients_are_as_without_us() {
    dialogues("-p 8080:7000", SLOW, |scene, role| {
        scene.outside.agent(Place::Far, role).last_word()
    });
}

#[test]
fn streams_of_clients_on_the_host_are_as_without_us() {
    dialogues("-p 8080:7000", SLOW_ON_LOOPBACK, |scene, role| {
        scene.outside.agent(Place::Host, role).last_word()
    });
}

#[test]
fn relayed_streams_of_clients_on_the_host_are_as_without_us() {
    dialogues("-p 8080:7000,local=relay", SLOW_ON_LOOPBACK, |scene, role| {
        scene.outside.agent(Place::Host, role).last_word()
    });
}

#[test]
fn r_in_7_streams_of_containers_are_as_without_us() {
    dialogues("-p 8080:7000", SLOW_ON_LOOPBACK, |scene, role| {
        scene.daemon.act("neighbour", role)
    });
}

/// Has each service of `web` used; the same sequence for both versions of IP.
#[track_caller]
fn dialogues(flags: &str, slow: u64, dial: impl Fn(&Scene, &Role) -> String) {
    let Some(outside) = Outside::new() else { return };
    let Some(daemon) = outside.daemon(&[]) else { return };
    let mut scene = Scene::with(outside, daemon, flags);
    scene.daemon.run("neighbour", "--network lan");
    for host in HOST {
        for (service, dialogue, here, there) in table(slow) {
            let what = format!("{service:?} {dialogue:?} {host}");
            let server = scene.serve(service);
            let role = Role::Dial {
                to: at(host, OUTER),
                dialogue,
                connections: 1,
            };
            assert_eq!(dial(&scene, &role), here, "{what}");
            server.word();
            assert_eq!(server.word(), there, "{what}");
        }
    }
}

fn table(slow: u64) -> Vec<(Service, Dialogue, &'static str, &'static str)> {
    let bytes = 10 << 20;
    let pause = std::time::Duration::from_millis(300);
    vec![
        (Service::Greet, Dialogue::Hear, "welcome", "thanks"),
        (Service::Echo, Dialogue::Echo { bytes: 70_000 }, "70000", "ended"),
        (
            Service::AnswerLate { pause },
            Dialogue::AskAndFinish,
            "answer to question",
            "question",
        ),
        (
            Service::CloseFirst,
            Dialogue::FinishLate { pause },
            "",
            "afterthought",
        ),
        (Service::Echo, Dialogue::Reset, "reset", "ConnectionReset"),
        (Service::Reset, Dialogue::AwaitReset, "ConnectionReset", "reset"),
        (
            Service::Exchange { send: bytes },
            Dialogue::Exchange {
                send: bytes,
                receive: bytes,
            },
            "complete",
            "10485760",
        ),
        (
            Service::SlowSink,
            Dialogue::Exchange {
                send: slow,
                receive: 0,
            },
            "complete",
            if slow == SLOW { "4194304" } else { "524288" },
        ),
    ]
}

#[test]
fn two_hundred_connections_at_once_do_not_mix() {
    let Some(scene) = Scene::new("-p 8080:7000") else {
        return;
    };
    let _server = scene.serve(Service::Echo);
    for (place, to) in [
        (Place::Far, HOST[0]),
        (Place::Far, HOST[1]),
        (Place::Host, LOOPBACK[0]),
    ] {
        let role = Role::Dial {
            to: at(to, OUTER),
            dialogue: Dialogue::Echo { bytes: 100_000 },
            connections: 200,
        };
        assert_eq!(scene.outside.agent(place, &role).last_word(), "100000", "{to}");
    }
}

/// What a slow reader is sent.
const SLOW: u64 = 4 << 20;

/// The same where both ends are on one loopback device: its segments are larger than the reader's buffer, so that the
/// kernel sends by its persist timer only, with us or without.
const SLOW_ON_LOOPBACK: u64 = 512 << 10;
