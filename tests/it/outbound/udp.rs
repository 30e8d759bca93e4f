//! UDP conversations with servers outside.

use super::Scene;
use crate::support::{
    agent::Role,
    outside::{ANY, BOTH, HOST4, HOST6, Place},
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
fn many_datagrams_of_one_conversation_stay_in_one_flow() {
    let Some(scene) = Scene::new("") else { return };
    let (server, port) = scene.outside.server(Place::Far, &Role::UdpEcho { at: ANY });
    let to = (crate::support::outside::FAR4, port).into();
    let sizes = (0..500).map(|size| size * 7 % 1400).collect();
    assert_eq!(scene.daemon.act("box", &Role::Datagrams { to, sizes }), "500");
    server.word();
    let (_server, port) = scene.outside.server(Place::Host, &Role::UdpEcho { at: ANY });
    let to = (super::GATEWAYS[0], port).into();
    assert_eq!(
        scene.daemon.act(
            "box",
            &Role::Datagrams {
                to,
                sizes: vec![1, 2]
            }
        ),
        "2",
        "the host's"
    );
    drop(server);
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
