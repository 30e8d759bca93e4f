//! Published ports when sandboxes, networks, ports and the daemon come and go.

use super::{FAR, HOST, INNER, LOOPBACK, OPEN, OUTER, Scene, UNSPECIFIED, at};
use crate::support::{
    agent::{Role, Service, Transport},
    daemon::PATIENCE,
    outside::{Outside, Place, Privilege},
    within,
};

#[test]
fn ports_of_a_running_sandbox_come_and_go() {
    let Some(scene) = Scene::new("") else { return };
    let _server = scene.introduce("web", 2);
    let to = at(HOST[0], OUTER);
    assert_eq!(scene.reach(Place::Far, to), "ConnectionRefused");
    assert_eq!(
        scene
            .daemon
            .ok("publish web -p 8080-8081:7000-7001 -p 8080:7000/udp"),
        "7000/tcp -> 0.0.0.0:8080\n7000/tcp -> [::]:8080\n7000/udp -> 0.0.0.0:8080\n7000/udp -> [::]:8080\n\
         7001/tcp -> 0.0.0.0:8081\n7001/tcp -> [::]:8081\n"
    );
    for transport in [Transport::Tcp, Transport::Udp] {
        assert_eq!(scene.visit(Place::Far, to, transport), format!("itself {INNER}"));
    }
    // A part of a range, by the container's port.
    assert_eq!(scene.daemon.ok("unpublish web 7000"), "");
    assert_eq!(scene.reach(Place::Far, to), "ConnectionRefused");
    let seen = scene.visit(Place::Far, to, Transport::Udp);
    assert_eq!(seen, format!("itself {INNER}"));
    let next = at(HOST[1], OUTER + 1);
    assert_eq!(scene.visit(Place::Far, next, Transport::Tcp), "itself 7001");
    assert_eq!(
        scene.daemon.ok("port web"),
        "7000/udp -> 0.0.0.0:8080\n7000/udp -> [::]:8080\n7001/tcp -> 0.0.0.0:8081\n7001/tcp -> [::]:8081\n"
    );
    // What has been taken back can be given again.
    scene.daemon.ok("publish web -p 8080:7001");
    assert_eq!(scene.visit(Place::Far, to, Transport::Tcp), "itself 7001");
    scene.daemon.ok("unpublish web 8080:7001 8081:7001 8080:7000/udp");
    assert_eq!(scene.daemon.ok("port web"), "");
    assert_eq!(scene.reach(Place::Far, next), "ConnectionRefused");
}

#[test]
fn connections_outlive_their_port_unless_they_are_to_be_closed() {
    for (close, last) in [
        ("", &["alive"][..]),
        ("--close", &["ConnectionReset", "BrokenPipe"]),
    ] {
        let Some(scene) = Scene::new("-p 8080:7000") else {
            return;
        };
        let _server = scene.serve(Service::Echo);
        let held = [
            scene.hold(Place::Far, at(HOST[0], OUTER)),
            scene.hold(Place::Far, at(HOST[1], OUTER)),
            scene.hold(Place::Host, at(LOOPBACK[0], OUTER)),
        ];
        scene.daemon.ok(&format!("unpublish web {close} 7000"));
        assert_eq!(scene.reach(Place::Far, at(HOST[0], OUTER)), "ConnectionRefused");
        for agent in held {
            let word = agent.last_word();
            assert!(last.contains(&&*word), "{close}: {word}");
        }
    }
}

#[test]
fn a_part_of_a_range_goes_with_its_own_connections_only() {
    let Some(scene) = Scene::new("-p 8080-8082:7000-7002") else {
        return;
    };
    let servers = [0, 1, 2].map(|offset| {
        let (at, service) = (at(UNSPECIFIED, INNER + offset), Service::Echo);
        let agent = scene.daemon.agent("web", &Role::Serve { at, service });
        assert_eq!(agent.word(), (INNER + offset).to_string());
        agent
    });
    let held = |offset| {
        [
            (Place::Far, HOST[0]),
            (Place::Far, HOST[1]),
            (Place::Host, LOOPBACK[0]),
        ]
        .map(|(place, to)| scene.hold(place, at(to, OUTER + offset)))
    };
    let [first, middle, last] = [held(0), held(1), held(2)];
    scene.daemon.ok("unpublish --close web 7001");
    let rows = scene.daemon.json("port --counters web");
    let active: u64 = rows
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|row| row["Active"].as_u64())
        .sum();
    assert_eq!(active, 6, "{rows}");
    for agent in middle {
        let word = agent.last_word();
        assert!(["ConnectionReset", "BrokenPipe"].contains(&&*word), "{word}");
    }
    let at_middle = scene.reach(Place::Far, at(HOST[0], OUTER + 1));
    assert_eq!(at_middle, "ConnectionRefused");
    // What is left of the range still ends its own.
    scene.daemon.ok("unpublish --close web 8082:7002");
    for agent in last {
        let word = agent.last_word();
        assert!(["ConnectionReset", "BrokenPipe"].contains(&&*word), "{word}");
    }
    for agent in first {
        assert_eq!(agent.last_word(), "alive");
    }
    drop(servers);
}

#[test]
fn a_port_that_is_taken_while_there_is_no_daemon_keeps_nothing_else_from_coming_back() {
    let Some(mut scene) = Scene::new("-p 8080:7000 -p 8081:7000") else {
        return;
    };
    let _server = scene.introduce("web", 1);
    scene.daemon.kill9();
    let role = Role::Serve {
        at: at(UNSPECIFIED, OUTER),
        service: Service::Echo,
    };
    let (thief, _) = scene.outside.server(Place::Host, &role);
    scene.daemon.restart();
    assert_eq!(scene.daemon.ps(), ["web"]);
    let seen = scene.visit(Place::Far, at(HOST[0], OUTER + 1), Transport::Tcp);
    assert_eq!(seen, format!("itself {INNER}"));
    let log = scene.daemon.log();
    for words in [
        "is not published now; when the port is free, run `vswitch publish web -p 8080:7000/tcp`",
        "failed to bind host port 0.0.0.0:8080/tcp: address already in use",
    ] {
        assert!(log.contains(words), "it says what is missing: {words}: {log}");
    }
    // It is stored, and can be had when the port is free.
    let refused = scene.daemon.refused("publish web -p 8080:7000");
    assert!(refused.contains("address already in use"), "{refused}");
    drop(thief);
    scene.daemon.ok("publish web -p 8080:7000");
    let seen = scene.visit(Place::Far, at(HOST[0], OUTER), Transport::Tcp);
    assert_eq!(seen, format!("itself {INNER}"));
    let rows = scene.daemon.json("port --counters web");
    assert_eq!(
        rows.as_array().map(Vec::len),
        Some(2),
        "there are no twins: {rows}"
    );
}

#[test]
fn ports_of_a_sandbox_that_ended_without_a_daemon_are_free() {
    let Some(mut scene) = Scene::new("-p 8080:7000") else {
        return;
    };
    scene.daemon.kill9();
    scene.daemon.kill_sandbox("web");
    scene.daemon.restart();
    within(PATIENCE, "it is forgotten", || scene.daemon.ps().is_empty());
    assert_eq!(scene.reach(Place::Far, at(HOST[0], OUTER)), "ConnectionRefused");
    scene.daemon.run("heir", "--network lan -p 8080:7000");
    let _server = scene.introduce("heir", 1);
    let seen = scene.visit(Place::Far, at(HOST[0], OUTER), Transport::Tcp);
    assert_eq!(seen, format!("itself {INNER}"));
}

#[test]
fn p3_a_free_port_is_the_same_on_all_addresses() {
    let Some(mut scene) = Scene::new("-p 7000 -p 7000/udp") else {
        return;
    };
    let _server = scene.introduce("web", 1);
    for (protocol, transport) in [("tcp", Transport::Tcp), ("udp", Transport::Udp)] {
        let text = scene.daemon.ok(&format!("port web 7000/{protocol}"));
        let lines: Vec<&str> = text.lines().collect();
        let port: u16 = lines[0]
            .strip_prefix("0.0.0.0:")
            .and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("{text}"));
        assert_eq!(lines[1..], [format!("[::]:{port}")]);
        for to in HOST {
            let seen = scene.visit(Place::Far, at(to, port), transport);
            assert_eq!(seen, format!("itself {INNER}"));
        }
    }
    // The first of a range that is free.
    scene.daemon.run("one", "--network lan -p 9000-9001:7000");
    scene.daemon.run("two", "--network lan -p 9000-9001:7000");
    assert_eq!(
        scene.daemon.ok("port two"),
        "7000/tcp -> 0.0.0.0:9001\n7000/tcp -> [::]:9001\n"
    );
    let outcome = scene.daemon.try_run("three", "--network lan -p 9000-9001:7000");
    assert!(outcome.stderr.contains("all ports are allocated"), "{outcome:?}");
}

#[test]
fn p12_ports_outlive_the_daemon() {
    let Some(mut scene) = Scene::new(&format!("{OPEN} -p 7000 -p 127.0.0.1:8081:7000,max-conns=7")) else {
        return;
    };
    let _server = scene.introduce("web", 1);
    let before = scene.daemon.ok("port web");
    assert_eq!(before.lines().count(), 7, "{before}");
    let rules = |scene: &Scene| {
        let table = scene.daemon.ok("port --counters web");
        table.matches("max-conns=7").count()
    };
    assert_eq!(rules(&scene), 1);
    scene.daemon.kill9();
    assert_eq!(scene.reach(Place::Far, at(HOST[0], OUTER)), "ConnectionRefused");
    scene.daemon.restart();
    assert_eq!(scene.daemon.ok("port web"), before);
    assert_eq!(rules(&scene), 1);
    for transport in [Transport::Tcp, Transport::Udp] {
        let seen = scene.visit(Place::Far, at(HOST[0], OUTER), transport);
        assert_eq!(seen, format!("itself {INNER}"));
    }
    let seen = scene.visit(Place::Host, at(LOOPBACK[0], OUTER + 1), Transport::Tcp);
    assert!(seen.ends_with(&format!(" {INNER}")), "{seen}");
}

#[test]
fn p11_ports_of_a_sandbox_that_ends_can_be_published_again_at_once() {
    let Some(mut scene) = Scene::new(OPEN) else { return };
    let _server = scene.serve(Service::CloseFirst);
    let held = scene.reach(Place::Far, at(HOST[0], OUTER));
    assert_eq!(held, "connected");
    scene.daemon.kill_sandbox("web");
    within(PATIENCE, "it is forgotten", || scene.daemon.ps().is_empty());
    assert_eq!(scene.reach(Place::Far, at(HOST[0], OUTER)), "ConnectionRefused");
    scene.daemon.run(
        "web",
        &format!("--network lan --ip 10.90.0.2 --ip6 fd90::2 {OPEN}"),
    );
    let _server = scene.introduce("web", 1);
    let seen = scene.visit(Place::Far, at(HOST[0], OUTER), Transport::Tcp);
    assert_eq!(seen, format!("itself {INNER}"));
}

#[test]
fn ports_move_to_the_network_that_is_left() {
    let Some(scene) = Scene::new(OPEN) else { return };
    scene
        .daemon
        .ok("network create --subnet 10.91.0.0/24 --ipv6 --subnet fd91::/64 other");
    scene.daemon.ok("network connect other web");
    let server = scene.introduce("web", 1);
    scene.daemon.ok("network disconnect lan web");
    assert!(
        scene.daemon.ok("port").contains("web       other "),
        "{}",
        scene.daemon.ok("port")
    );
    for (to, client) in HOST.into_iter().zip(FAR) {
        for (transport, word) in [(Transport::Tcp, "tcp"), (Transport::Udp, "udp")] {
            let seen = scene.visit(Place::Far, at(to, OUTER), transport);
            assert!(seen.ends_with(&format!(" {INNER}")), "{to} {transport:?}: {seen}");
            // Its default route leads to the other network's gateway now.
            assert_eq!(server.word(), format!("{word} from {client}"), "{to}");
        }
    }
    // Off its last network the host's ports are closed, and somebody else can have them meanwhile.
    scene.daemon.ok("network disconnect other web");
    for to in HOST {
        assert_eq!(scene.reach(Place::Far, at(to, OUTER)), "ConnectionRefused");
    }
    let role = Role::Serve {
        at: at(UNSPECIFIED, OUTER),
        service: Service::Echo,
    };
    let (other, _) = scene.outside.server(Place::Host, &role);
    drop(other);
    scene
        .daemon
        .ok("network connect --ip 10.90.0.2 --ip6 fd90::2 lan web");
    let seen = scene.visit(Place::Far, at(HOST[0], OUTER), Transport::Tcp);
    assert!(seen.ends_with(&format!(" {INNER}")), "{seen}");
    assert_eq!(server.word(), format!("tcp from {}", FAR[0]));
}

#[test]
fn p13_ports_of_an_internal_network_are_a_warning_and_wait() {
    let Some(mut scene) = Scene::new("") else { return };
    scene
        .daemon
        .ok("network create --internal --subnet 10.92.0.0/24 inner");
    let outcome = scene.daemon.try_run("hidden", "--network inner -p 8080:7000");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let warning = "warning: Published ports of container hidden are not open yet";
    assert!(outcome.stderr.contains(warning), "{outcome:?}");
    let _server = scene.introduce("hidden", 1);
    for (place, to) in [(Place::Far, HOST[0]), (Place::Host, LOOPBACK[0])] {
        assert_eq!(scene.reach(place, at(to, OUTER)), "ConnectionRefused");
    }
    scene.daemon.ok("network connect lan hidden");
    let seen = scene.visit(Place::Far, at(HOST[0], OUTER), Transport::Tcp);
    assert!(seen.ends_with(&format!(" {INNER}")), "{seen}");
}

#[test]
fn p18_a_socket_that_the_service_manager_has_bound_is_published() {
    let Some(outside) = Outside::with(Privilege::None) else {
        return;
    };
    let low = at([0, 0, 0, 0].into(), 80);
    let Some(daemon) = outside.activated_daemon(low) else {
        return;
    };
    let mut scene = Scene::with(outside, daemon, "-p 0.0.0.0:80:7000");
    let _server = scene.introduce("web", 1);
    let seen = scene.visit(Place::Far, at(HOST[0], 80), Transport::Tcp);
    assert_eq!(seen, format!("itself {INNER}"));
    // It is the daemon's when nothing is published on it, and can be published again.
    scene.daemon.ok("unpublish web 7000");
    let (to, connections) = (at(HOST[0], 80), 1);
    let queued = scene.outside.agent(Place::Far, &Role::Loiter { to, connections });
    assert_eq!(queued.word(), "1", "the kernel lets it in");
    scene.daemon.ok("publish web -p 0.0.0.0:80:7000");
    assert_eq!(queued.last_word(), "0", "it came while nothing was published");
    let seen = scene.visit(Place::Far, at(HOST[0], 80), Transport::Tcp);
    assert_eq!(seen, format!("itself {INNER}"));
    let outcome = scene.daemon.try_run("other", "--network lan -p 0.0.0.0:80:7000");
    assert!(
        outcome.stderr.contains("port is already allocated"),
        "{outcome:?}"
    );
    scene.daemon.ok("unpublish web 7000");
    let refused = scene.daemon.refused("publish web -p 127.0.0.1:80:7000");
    let advice = "systemd has opened 0.0.0.0:80 for this daemon: publish it as 0.0.0.0:80:7000";
    // An ordinary user is refused for the port's sake first.
    assert!(
        refused.contains(advice) || refused.contains("permission denied"),
        "{refused}"
    );
}
