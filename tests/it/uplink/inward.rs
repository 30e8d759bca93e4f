//! Published ports.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    BOTH_TRANSPORTS, FAR, GATEWAYS, INNER, OPEN, OUTER, SECOND, Scene, UNSPECIFIED, UPLINK, at, is_ours,
};
use crate::support::{
    agent::{Role, Transport},
    daemon::PATIENCE,
    outside::{HOST4, HOST6, Place},
    within,
};

#[test]
fn n_dn_1_a_container_sees_who_comes_to_its_published_ports() {
    let Some(scene) = Scene::new(OPEN) else { return };
    let server = scene.introduce("web");
    for to in UPLINK.into_iter().chain(SECOND) {
        let client = FAR[usize::from(to.is_ipv6())];
        for (transport, name) in BOTH_TRANSPORTS {
            let seen = scene.visit(Place::Far, at(to, OUTER), transport);
            assert_eq!(seen, format!("itself {INNER}"), "{to} {name}");
            assert_eq!(server.word(), format!("{name} from {client}"), "{to}");
        }
    }
    // Host sockets are there as well: for the host itself, and for whoever comes by its addresses.
    for to in [HOST4.into(), HOST6.into()] {
        let client = FAR[usize::from(to == std::net::IpAddr::from(HOST6))];
        for (transport, name) in BOTH_TRANSPORTS {
            let seen = scene.visit(Place::Far, at(to, OUTER), transport);
            assert_eq!(seen, format!("itself {INNER}"), "{to} {name}");
            assert_eq!(server.word(), format!("{name} from {client}"), "{to}");
        }
    }
    let loopback = at([127, 0, 0, 1].into(), OUTER);
    assert_eq!(scene.reach(Place::Host, loopback), "connected");
    assert!(server.word().starts_with("tcp from "));
    // What is not published any more is gone at once (N-DN-5); others stay.
    scene.daemon.ok("unpublish web 8080:7000/udp");
    assert_eq!(
        scene.visit(Place::Far, at(UPLINK[0], OUTER), Transport::Udp),
        "WouldBlock"
    );
    assert_eq!(
        scene.visit(Place::Far, at(UPLINK[0], OUTER), Transport::Tcp),
        format!("itself {INNER}")
    );
}

#[test]
fn n_dn_2_n_dn_3_containers_reach_published_ports_by_the_uplinks_addresses() {
    let Some(mut scene) = Scene::new(OPEN) else { return };
    scene.daemon.run("neighbour", "--network lan");
    let server = scene.introduce("web");
    for caller in ["neighbour", "app", "web"] {
        for (version, (to, gateway)) in UPLINK.into_iter().zip(GATEWAYS).enumerate() {
            for (transport, name) in BOTH_TRANSPORTS {
                let what = format!("{caller} {to} {name}");
                let seen = scene.visit_from(caller, at(to, OUTER), transport);
                assert!(seen.ends_with(&format!(" {INNER}")), "{what}: {seen}");
                // As the caller's external address, or as the gateway; never itself or a neighbour.
                let who = server.word();
                let is_gateway = who == format!("{name} from {gateway}");
                assert!(is_gateway || is_ours(&who, version, ""), "{what}: {who}");
            }
        }
    }
}

#[test]
fn ports_are_published_on_one_of_the_uplinks_addresses() {
    let Some(scene) = Scene::new("-p 198.51.100.11:8080:7000") else {
        return;
    };
    let server = scene.introduce("web");
    let seen = scene.visit(Place::Far, at(SECOND[0], OUTER), Transport::Tcp);
    assert_eq!(seen, format!("itself {INNER}"));
    assert_eq!(server.word(), format!("tcp from {}", FAR[0]));
    assert_ne!(scene.reach(Place::Far, at(UPLINK[0], OUTER)), "connected");
    let loopback = at([127, 0, 0, 1].into(), OUTER);
    assert_eq!(
        scene.reach(Place::Host, loopback),
        "ConnectionRefused",
        "no socket"
    );
    assert_eq!(scene.daemon.ok("port web"), "7000/tcp -> 198.51.100.11:8080\n");
    let clash = scene.daemon.refused("publish app -p 198.51.100.11:8080:80");
    assert!(clash.contains("already allocated"), "{clash}");
}

#[test]
fn mappings_move_with_their_container() {
    let Some(scene) = Scene::new(OPEN) else { return };
    let server = scene.introduce("web");
    let visit = || scene.visit(Place::Far, at(UPLINK[0], OUTER), Transport::Tcp);
    assert_eq!(visit(), format!("itself {INNER}"));
    scene.daemon.ok("network disconnect lan web");
    assert_ne!(scene.reach(Place::Far, at(UPLINK[0], OUTER)), "connected");
    scene.daemon.ok("network connect other web");
    assert_eq!(visit(), format!("itself {INNER}"));
    let from = format!("tcp from {}", FAR[0]);
    assert_eq!([server.word(), server.word()], [from.clone(), from]);
    // Of a range one port can go.
    scene.daemon.ok("publish app -p 9000-9002:7000-7002");
    let _app = scene.introduce("app");
    scene.daemon.ok("unpublish app 9002:7002");
    assert_eq!(
        scene.visit(Place::Far, at(UPLINK[0], 9000), Transport::Tcp),
        format!("itself {INNER}")
    );
    scene.daemon.ok("unpublish app 9000:7000");
    assert_ne!(scene.reach(Place::Far, at(UPLINK[0], 9000)), "connected");
}

#[test]
fn ports_outlive_the_daemon_and_not_their_container() {
    let Some(mut scene) = Scene::new(OPEN) else { return };
    let server = scene.introduce("web");
    scene.daemon.kill9();
    scene.daemon.restart();
    let visit = |scene: &Scene| scene.visit(Place::Far, at(UPLINK[0], OUTER), Transport::Tcp);
    // It answers once it is ready.
    scene.daemon.ok("ps");
    assert_eq!(visit(&scene), format!("itself {INNER}"));
    drop(server);
    scene.daemon.kill_sandbox("web");
    within(PATIENCE, "the end is noticed", || scene.daemon.ps() == ["app"]);
    scene.daemon.run("heir", &format!("--network other {OPEN}"));
    let server = scene.introduce("heir");
    assert_eq!(visit(&scene), format!("itself {INNER}"));
    assert_eq!(server.word(), format!("tcp from {}", FAR[0]));
}

#[test]
fn answers_in_fragments_find_clients_who_came_by_the_hosts_sockets() {
    let Some(scene) = Scene::new(OPEN) else { return };
    let echo = Role::UdpEcho {
        at: at(UNSPECIFIED, INNER),
    };
    let echo = scene.daemon.agent("web", &echo);
    assert_eq!(echo.word(), INNER.to_string());
    for loopback in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let sizes = vec![100, 4000, 100, 9000];
        let role = Role::Datagrams {
            to: at(loopback, OUTER),
            sizes,
        };
        let came_back = scene.outside.agent(Place::Host, &role).last_word();
        assert_eq!(came_back, "4", "{loopback}");
    }
}
