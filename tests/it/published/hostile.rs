//! Clients that misuse published ports: the others notice nothing.

use super::{HOST, INNER, LOOPBACK, OUTER, Scene, UNSPECIFIED, at, host_station};
use crate::support::{
    agent::{Dialogue, Role, Service, Transport},
    daemon::PATIENCE,
    outside::{Outside, Place},
    within,
};

#[test]
fn r_in_5_clients_that_do_nothing_stop_nobody() {
    let Some(mut scene) = Scene::new("-p 8080:7000") else {
        return;
    };
    scene.daemon.run("neighbour", "--network lan -p 8081:7000");
    let _server = scene.serve(Service::Echo);
    let _neighbour = scene.introduce("neighbour", 1);
    let idle = [(Place::Far, HOST[0]), (Place::Host, LOOPBACK[0])].map(|(place, to)| {
        let to = at(to, OUTER);
        let connections = 300;
        let agent = scene.outside.agent(place, &Role::Loiter { to, connections });
        assert_eq!(agent.word(), "300");
        agent
    });
    within(PATIENCE, "all are there", || scene.entry()["Active"] == 600);
    let role = Role::Dial {
        to: at(HOST[0], OUTER),
        dialogue: Dialogue::Echo { bytes: 100_000 },
        connections: 10,
    };
    assert_eq!(scene.outside.agent(Place::Outside, &role).last_word(), "100000");
    let seen = scene.visit(Place::Outside, at(HOST[0], OUTER + 1), Transport::Tcp);
    assert_eq!(seen, format!("itself {INNER}"));
    for agent in idle {
        assert_eq!(agent.last_word(), "300", "they are none the worse for it");
    }
    within(PATIENCE, "all have gone", || scene.entry()["Active"] == 0);
}

#[test]
fn r_lim_2_without_descriptors_accepting_pauses_and_goes_on_later() {
    let Some(outside) = Outside::new() else { return };
    let Some(daemon) = outside.frugal_daemon(256) else {
        return;
    };
    let scene = Scene::with(outside, daemon, "-p 8080:7000 -p 8080:7000/udp");
    let _server = scene.introduce("web", 1);
    let echo = scene.daemon.agent(
        "web",
        &Role::Serve {
            at: at(UNSPECIFIED, INNER + 1),
            service: Service::Echo,
        },
    );
    assert_eq!(echo.word(), (INNER + 1).to_string());
    scene.daemon.ok("publish web -p 8081:7001");
    let held = scene.hold(Place::Outside, at(HOST[1], OUTER + 1));
    for (place, to) in [(Place::Far, HOST[0]), (Place::Host, LOOPBACK[0])] {
        let role = Role::Loiter {
            to: at(to, OUTER + 1),
            connections: 400,
        };
        let crowd = scene.outside.agent(place, &role);
        crowd.word();
        // The daemon answers its clients all the while.
        assert_eq!(scene.daemon.ps(), ["web"]);
        drop(crowd);
        within(PATIENCE, "clients are served again", || {
            scene.visit(Place::Outside, at(HOST[0], OUTER), Transport::Tcp) == format!("itself {INNER}")
        });
        let seen = scene.visit(Place::Outside, at(HOST[0], OUTER), Transport::Udp);
        assert_eq!(seen, format!("itself {INNER}"));
    }
    assert_eq!(held.last_word(), "alive");
    assert!(!scene.daemon.log().contains("panicked"), "{}", scene.daemon.log());
}

#[test]
fn a_flood_of_datagrams_from_many_clients_stops_nobody() {
    let Some(scene) = Scene::new("-p 8080:7000/udp") else {
        return;
    };
    let _server = scene.introduce("web", 1);
    let to = at(HOST[0], OUTER);
    let station = host_station(&scene.outside);
    for last in 10..60 {
        let role = Role::Smuggle {
            interface: "host0".into(),
            station,
            from: [192, 0, 2, last].into(),
            to,
        };
        assert_eq!(scene.outside.agent(Place::Outside, &role).last_word(), "sent");
    }
    let seen = scene.visit(Place::Far, to, Transport::Udp);
    assert_eq!(seen, format!("itself {INNER}"));
}
