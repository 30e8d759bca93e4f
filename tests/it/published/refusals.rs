//! What cannot be published, and containers that do not take who comes.

use std::time::{Duration, Instant};

use super::{FAR, HOST, INNER, LOOPBACK, OUTER, Scene, WEB4, at};
use crate::support::{
    agent::{Role, Service, Transport},
    daemon::PATIENCE,
    outside::{Outside, Place, Privilege},
    within,
};

#[test]
fn r_in_2_a_client_that_the_container_refuses_is_reset_at_once() {
    let Some(scene) = Scene::new("-p 8080:7000") else {
        return;
    };
    for (place, to) in [
        (Place::Far, HOST[0]),
        (Place::Far, HOST[1]),
        (Place::Host, LOOPBACK[0]),
        (Place::Host, LOOPBACK[1]),
    ] {
        let begin = Instant::now();
        let word = scene.visit(place, at(to, OUTER), Transport::Tcp);
        assert_eq!(word, "ConnectionReset", "{to}");
        assert!(begin.elapsed() < AT_ONCE, "{to}");
    }
    assert_eq!(scene.counter("failed"), 4, "{}", scene.entry());
    assert_eq!(scene.entry()["Active"], 0);
    let before = descriptors(&scene);
    for _ in 0..20 {
        scene.visit(Place::Far, at(HOST[0], OUTER), Transport::Tcp);
    }
    within(PATIENCE, "nothing is left", || descriptors(&scene) <= before);
}

#[test]
fn p9_a_datagram_that_the_container_refuses_does_not_end_the_session() {
    let Some(scene) = Scene::new("-p 8080:7000/udp") else {
        return;
    };
    for (place, to) in [(Place::Far, HOST[0]), (Place::Host, LOOPBACK[1])] {
        let word = scene.visit(place, at(to, OUTER), Transport::Udp);
        assert!(["WouldBlock", "ConnectionRefused"].contains(&&*word), "{word}");
    }
    let _server = scene.introduce("web", 1);
    let word = scene.visit(Place::Far, at(HOST[0], OUTER), Transport::Udp);
    assert_eq!(word, format!("itself {INNER}"));
}

/// The container's answers to these clients go nowhere.
#[test]
fn r_in_2_a_silent_container_keeps_nobody_else_waiting() {
    let Some(scene) = Scene::new("-p 8080:7000") else {
        return;
    };
    let _server = scene.introduce("web", 1);
    scene
        .daemon
        .ok(&format!("exec web -- ip route add blackhole {}/32", FAR[0]));
    let to = at(HOST[0], OUTER);
    let waiting = scene
        .outside
        .agent(Place::Far, &Role::Loiter { to, connections: 100 });
    assert_eq!(waiting.word(), "100", "the host's kernel lets them in");
    for _ in 0..3 {
        let begin = Instant::now();
        let seen = scene.visit(Place::Outside, to, Transport::Tcp);
        assert_eq!(seen, format!("itself {INNER}"));
        assert!(begin.elapsed() < AT_ONCE);
    }
    drop(waiting);
}

#[test]
fn p4_a_port_that_another_process_has_is_refused_and_nothing_is_left() {
    let Some(mut scene) = Scene::new("") else { return };
    let role = Role::Serve {
        at: (LOOPBACK[0], OUTER).into(),
        service: Service::Echo,
    };
    let (server, _) = scene.outside.server(Place::Host, &role);
    let outcome = scene
        .daemon
        .try_run("half", "--network lan -p 9090:7000 -p 127.0.0.1:8080:7000");
    assert_eq!(outcome.code, 125, "{outcome:?}");
    let message = "failed to bind host port 127.0.0.1:8080/tcp: address already in use";
    assert!(outcome.stderr.contains(message), "{outcome:?}");
    assert!(
        outcome
            .stderr
            .contains("driver failed programming external connectivity on endpoint half ("),
        "{outcome:?}"
    );
    assert_nothing_is_left(&scene, &[9090]);
    drop(server);
    scene
        .daemon
        .run("half", "--network lan -p 9090:7000 -p 127.0.0.1:8080:7000");
}

#[test]
fn p4_a_port_that_is_published_already_is_refused_and_nothing_is_left() {
    let Some(mut scene) = Scene::new("-p 8080:7000 -p 127.0.0.1:8081:7000") else {
        return;
    };
    for (port, address) in [("8080:7000", "0.0.0.0:8080"), ("8081:7000", "0.0.0.0:8081")] {
        let outcome = scene
            .daemon
            .try_run("half", &format!("--network lan -p 9090-9091:9090-9091 -p {port}"));
        assert_eq!(outcome.code, 125, "{outcome:?}");
        let message = format!("Bind for {address} failed: port is already allocated");
        assert!(outcome.stderr.contains(&message), "{outcome:?}");
        assert_nothing_is_left(&scene, &[9090, 9091]);
        let reason = scene.daemon.refused(&format!("publish web -p 9090:1 -p {port}"));
        assert!(reason.contains(&message), "{reason}");
        assert_nothing_is_left(&scene, &[9090, 9091]);
    }
    // P5: another address is another port, and UDP is another one than TCP.
    scene
        .daemon
        .run("other", "--network lan -p 127.0.0.2:8081:7000 -p 8080:7000/udp");
}

#[track_caller]
fn assert_nothing_is_left(scene: &Scene, ports: &[u16]) {
    assert_eq!(scene.daemon.ps(), ["web"]);
    for &port in ports {
        assert_eq!(
            scene.reach(Place::Host, at(LOOPBACK[0], port)),
            "ConnectionRefused",
            "{port}"
        );
    }
    let members = scene.daemon.inspect("lan")["Containers"].take();
    assert_eq!(
        members.as_object().map(serde_json::Map::len),
        Some(1),
        "{members}"
    );
}

#[test]
fn p5_specific_addresses_of_loopback_coexist() {
    let Some(mut scene) = Scene::new("-p 127.0.0.1:8080:7000") else {
        return;
    };
    scene.daemon.run("other", "--network lan -p 127.0.0.2:8080:7000");
    let reason = scene.daemon.refused("publish other -p 8080:7000");
    assert!(
        reason.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"),
        "{reason}"
    );
}

#[test]
fn p18_an_ordinary_user_learns_how_to_publish_low_ports() {
    let Some(outside) = Outside::with(Privilege::None) else {
        return;
    };
    let Some(daemon) = outside.daemon(&[]) else { return };
    let mut scene = Scene::with(outside, daemon, "");
    let outcome = scene.daemon.try_run("low", "--network lan -p 80:7000");
    assert_eq!(outcome.code, 125, "{outcome:?}");
    for word in ["0.0.0.0:80/tcp", "net.ipv4.ip_unprivileged_port_start"] {
        assert!(outcome.stderr.contains(word), "{word}: {outcome:?}");
    }
    assert_nothing_is_left(&scene, &[80]);
    // Root's ports are passed over where there is a choice.
    assert_eq!(
        scene.daemon.ok("publish web -p 0.0.0.0:1020-1030:7000"),
        "7000/tcp -> 0.0.0.0:1024\n"
    );
    let reason = scene.daemon.refused("publish web -p 1020-1023:7000");
    assert!(reason.contains("permission denied"), "{reason}");
    scene.outside.ok(
        Place::Host,
        "echo 80 >/proc/sys/net/ipv4/ip_unprivileged_port_start",
    );
    scene.daemon.run("low", "--network lan -p 80:7000");
}

#[test]
fn an_address_that_the_host_does_not_have_is_refused() {
    let Some(scene) = Scene::new("") else { return };
    let reason = scene.daemon.refused("publish web -p 198.51.100.7:8080:7000");
    assert!(reason.contains("198.51.100.7:8080"), "{reason}");
}

#[test]
fn p13_ports_of_a_sandbox_without_network_are_a_warning() {
    let Some(mut scene) = Scene::new("") else { return };
    let outcome = scene.daemon.try_run("alone", "--network none -p 8080:7000");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("warning: "), "{outcome:?}");
    assert_eq!(
        scene.reach(Place::Host, at(LOOPBACK[0], OUTER)),
        "ConnectionRefused"
    );
}

#[test]
fn what_is_not_published_cannot_be_taken_back() {
    let Some(scene) = Scene::new("-p 8080:7000") else {
        return;
    };
    for words in [
        "unpublish web 7001",
        "unpublish web 7000/udp",
        "unpublish web 8081:7000",
        "unpublish nosuch 7000",
        "publish nosuch -p 80",
        "port nosuch",
        "port --counters nosuch",
    ] {
        scene.daemon.refused(words);
    }
    assert_eq!(
        scene.daemon.refused("port web 7001"),
        "No public port '7001' published for web"
    );
    // All or none.
    scene.daemon.refused("unpublish web 8080:7000 7001");
    let _server = scene.introduce("web", 1);
    let seen = scene.visit(Place::Far, at(HOST[0], OUTER), Transport::Tcp);
    assert_eq!(seen, format!("itself {INNER}"), "{WEB4}");
}

/// With the start of an agent on a busy machine; the next longer time would be that of a connection attempt (R-OUT-5).
const AT_ONCE: Duration = Duration::from_secs(10);

fn descriptors(scene: &Scene) -> usize {
    let directory = format!("/proc/{}/fd", scene.daemon.pid());
    std::fs::read_dir(directory).expect("it runs").count()
}
