//! UDP conversations with servers outside.

use std::net::SocketAddr;

use super::{GATEWAYS, Scene};
use crate::support::{
    agent::Role,
    outside::{ANY, BOTH, FAR4, HOST4, HOST6, Place},
};

#[test]
fn datagrams_of_every_size_come_back() {
    let Some(scene) = Scene::new("") else { return };
    let (server, port) = scene.outside.server(Place::Outside, &Role::UdpEcho { at: ANY });
    for (address, host) in BOTH.into_iter().zip([HOST4.to_string(), HOST6.to_string()]) {
        // One, none, a full packet, one more byte than that, fragments, nearly the most there is.
        let sizes = vec![1, 0, 1452, 1453, 1473, 6000, 60_000, 1];
        let count = sizes.len().to_string();
        let to = (address, port).into();
        assert_eq!(
            scene.daemon.act("box", &Role::Datagrams { to, sizes }),
            count,
            "{address}"
        );
        assert_eq!(server.word(), format!("from {host}"));
    }
}

#[test]
fn r_udp_1_the_datagrams_of_one_conversation_are_one_flow() {
    let Some(scene) = Scene::new("") else { return };
    let (_server, port) = scene.outside.server(Place::Far, &Role::UdpEcho { at: ANY });
    let to = SocketAddr::new(FAR4.into(), port);
    let sizes = (0..500).map(|size| size * 7 % 1400).collect();
    assert_eq!(scene.daemon.act("box", &Role::Datagrams { to, sizes }), "500");
    let flows = scene.daemon.json("flows box");
    let remotes = flows
        .as_array()
        .expect("a list")
        .iter()
        .map(|flow| &flow["Remote"]);
    assert_eq!(
        remotes.filter(|&remote| *remote == to.to_string()).count(),
        1,
        "{flows}"
    );
}

#[test]
fn the_hosts_own_services_answer_datagrams_at_the_gateways_address() {
    let Some(scene) = Scene::new("") else { return };
    let (_server, port) = scene.outside.server(Place::Host, &Role::UdpEcho { at: ANY });
    for gateway in GATEWAYS {
        let role = Role::Datagrams {
            to: (gateway, port).into(),
            sizes: vec![1, 2000],
        };
        assert_eq!(scene.daemon.act("box", &role), "2", "{gateway}");
    }
}

#[test]
fn a_closed_port_refuses_datagrams() {
    let Some(scene) = Scene::new("") else { return };
    for address in BOTH {
        let to = (address, 9).into();
        let word = scene.daemon.act("box", &Role::RefusedDatagram { to });
        assert_eq!(word, "ConnectionRefused", "{address}");
    }
}
