//! Who may come, and how.

use super::{FAR, GATEWAYS, HOST, INNER, LOOPBACK, OUTER, OWN, Scene, at};
use crate::support::{
    agent::{Dialogue, Role, Service, Transport},
    daemon::PATIENCE,
    outside::Place,
    within,
};

#[test]
fn clients_that_are_not_allowed_are_reset_and_counted() {
    let Some(scene) = Scene::new("-p 8080:7000,allow=203.0.113.0/24,2001:db8:2::/64") else {
        return;
    };
    let _server = scene.introduce("web", 1);
    for to in HOST {
        let word = scene.visit(Place::Outside, at(to, OUTER), Transport::Tcp);
        assert_eq!(word, "ConnectionReset", "{to}");
        let word = scene.visit(Place::Far, at(to, OUTER), Transport::Tcp);
        assert_eq!(word, format!("itself {INNER}"), "{to}");
    }
    assert_eq!(
        ["refused_allow", "accepted", "failed"].map(|name| scene.counter(name)),
        [2, 2, 0]
    );
    let table = scene.daemon.ok("port");
    assert!(
        table.contains("   allow 2   allow=203.0.113.0/24,2001:db8:2::/64"),
        "{table}"
    );
}

#[test]
fn datagrams_of_clients_that_are_not_allowed_vanish_and_are_counted() {
    let Some(scene) = Scene::new("-p 8080:7000/udp,allow=203.0.113.0/24") else {
        return;
    };
    let _server = scene.introduce("web", 1);
    let word = scene.visit(Place::Outside, at(HOST[0], OUTER), Transport::Udp);
    assert_eq!(word, "WouldBlock", "no answer");
    let word = scene.visit(Place::Far, at(HOST[0], OUTER), Transport::Udp);
    assert_eq!(word, format!("itself {INNER}"));
    assert_eq!(
        ["refused_allow", "accepted"].map(|name| scene.counter(name)),
        [1, 1]
    );
}

/// On whatever way they come.
#[test]
fn clients_on_the_host_and_in_containers_need_leave_too() {
    let Some(mut scene) = Scene::new("-p 8080:7000,allow=203.0.113.0/24,2001:db8:2::/64") else {
        return;
    };
    scene
        .daemon
        .ok("publish web -p 8080:7000/udp,allow=203.0.113.0/24,2001:db8:2::/64");
    scene.daemon.run("neighbour", "--network lan");
    let server = scene.introduce("web", 1);
    for to in [HOST, LOOPBACK].concat() {
        let word = scene.visit(Place::Host, at(to, OUTER), Transport::Tcp);
        assert_eq!(word, "ConnectionReset", "{to}");
    }
    // Silence takes its time, so that not all addresses are tried.
    for to in [HOST[0], LOOPBACK[1]] {
        let word = scene.visit(Place::Host, at(to, OUTER), Transport::Udp);
        assert_eq!(word, "WouldBlock", "{to}");
    }
    for (caller, silent) in [("web", HOST[0]), ("neighbour", GATEWAYS[1])] {
        for to in [HOST, GATEWAYS].concat() {
            let word = scene.visit_from(caller, at(to, OUTER), Transport::Tcp);
            assert!(
                ["ConnectionReset", "ConnectionRefused"].contains(&&*word),
                "{caller} {to}: {word}"
            );
        }
        let word = scene.visit_from(caller, at(silent, OUTER), Transport::Udp);
        assert_eq!(word, "WouldBlock", "{caller} {silent}");
    }
    let word = scene.visit(Place::Far, at(HOST[0], OUTER), Transport::Tcp);
    assert_eq!(word, format!("itself {INNER}"));
    assert_eq!(
        server.word(),
        format!("tcp from {}", FAR[0]),
        "the first it hears of"
    );
}

#[test]
fn udp_clients_are_limited_like_connections() {
    let Some(scene) = Scene::new("-p 8080:7000/udp,max-conns=1") else {
        return;
    };
    let _server = scene.introduce("web", 1);
    let to = at(HOST[0], OUTER);
    let word = scene.visit(Place::Far, to, Transport::Udp);
    assert_eq!(word, format!("itself {INNER}"));
    assert_eq!(scene.visit(Place::Outside, to, Transport::Udp), "WouldBlock");
    assert_eq!(
        ["accepted", "refused_connections"].map(|name| scene.counter(name)),
        [1, 1]
    );
}

#[test]
fn r_in_5_more_than_max_conns_are_reset_and_counted() {
    let Some(scene) = Scene::new("-p 8080:7000,max-conns=2") else {
        return;
    };
    let _server = scene.serve(Service::Echo);
    let (to, echo) = (at(HOST[0], OUTER), Dialogue::Echo { bytes: 1 });
    let role = Role::Dial {
        to,
        dialogue: echo,
        connections: 1,
    };
    let first = scene.hold(Place::Far, to);
    let second = scene.hold(Place::Host, at(LOOPBACK[0], OUTER));
    assert_eq!(scene.entry()["Active"], 2);
    let word = scene.outside.agent(Place::Outside, &role).last_word();
    assert!(["ConnectionReset", "BrokenPipe"].contains(&&*word), "{word}");
    assert_eq!(scene.counter("refused_connections"), 1);
    assert_eq!(first.last_word(), "alive");
    assert_eq!(second.last_word(), "alive");
    within(PATIENCE, "there is room again", || {
        scene.outside.agent(Place::Outside, &role).last_word() == "1"
    });
}

#[test]
fn more_than_the_rate_are_reset_and_counted() {
    let Some(scene) = Scene::new("-p 8080:7000,rate=2") else {
        return;
    };
    let _server = scene.introduce("web", 1);
    let to = at(HOST[0], OUTER);
    let loiterer = scene
        .outside
        .agent(Place::Far, &Role::Loiter { to, connections: 100 });
    loiterer.word();
    within(PATIENCE, "all have been decided on", || {
        scene.counter("accepted") + scene.counter("refused_rate") == 100
    });
    assert!(scene.counter("refused_rate") > 50, "{}", scene.entry());
    within(PATIENCE, "later ones may come", || {
        scene.visit(Place::Outside, to, Transport::Tcp) == format!("itself {INNER}")
    });
}

#[test]
fn the_proxy_protocol_tells_the_container_who_comes() {
    for version in ["v1", "v2"] {
        let Some(scene) = Scene::new(&format!("-p 8080:7000,proxy-protocol={version}")) else {
            return;
        };
        let server = scene.serve(Service::Recite);
        let visitors = [
            (Place::Far, HOST[0], FAR[0]),
            (Place::Far, HOST[1], FAR[1]),
            (Place::Host, LOOPBACK[0], LOOPBACK[0]),
            (Place::Host, LOOPBACK[1], LOOPBACK[1]),
        ];
        for (place, to, client) in visitors {
            let role = Role::Dial {
                to: at(to, OUTER),
                dialogue: Dialogue::AskAndFinish,
                connections: 1,
            };
            assert_eq!(scene.outside.agent(place, &role).last_word(), "heard", "{to}");
            let from = server.word();
            let is_local = matches!(place, Place::Host);
            let fits = if is_local {
                [OWN, GATEWAYS].concat()
            } else {
                vec![client]
            };
            assert!(fits.iter().any(|ip| from == format!("from {ip}")), "{from}");
            let heard = server.word();
            match version {
                "v1" => {
                    let family = if to.is_ipv4() { "TCP4" } else { "TCP6" };
                    let begin = format!("PROXY {family} {client} {to} ");
                    assert!(heard.starts_with(&begin), "{heard}");
                    assert!(heard.ends_with(&format!(" {OUTER}\\r\\nquestion")), "{heard}");
                }
                _ => {
                    let header = expected_v2(client, to);
                    assert!(heard.starts_with(&header), "{heard} {header}");
                    let port = OUTER.to_be_bytes().escape_ascii().to_string();
                    assert!(heard.ends_with(&format!("{port}question")), "{heard}");
                }
            }
        }
    }
}

#[test]
fn the_proxy_protocol_tells_of_containers_too() {
    let Some(mut scene) = Scene::new("-p 8080:7000,proxy-protocol=v1") else {
        return;
    };
    scene
        .daemon
        .run("neighbour", "--network lan --ip 10.90.0.9 --ip6 fd90::9");
    let server = scene.serve(Service::Recite);
    let role = Role::Dial {
        to: at(HOST[0], OUTER),
        dialogue: Dialogue::AskAndFinish,
        connections: 1,
    };
    assert_eq!(scene.daemon.act("neighbour", &role), "heard");
    server.word();
    let heard = server.word();
    assert!(heard.starts_with("PROXY TCP4 "), "{heard}");
    assert!(heard.ends_with(" 8080\\r\\nquestion"), "{heard}");
}

/// Section 2.2 of the PROXY protocol's text, up to the ports.
fn expected_v2(client: std::net::IpAddr, to: std::net::IpAddr) -> String {
    let octets = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (family, len) = if to.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x21, family, 0, len]);
    header.extend(octets(client));
    header.extend(octets(to));
    header.escape_ascii().to_string()
}
