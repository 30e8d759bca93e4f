//! Networks whose packets keep their addresses, and those that get a certain one.

use std::net::IpAddr;

use super::{BOTH_TRANSPORTS, FAR, INNER, SECOND, Scene, WEB4, WEB6, at, is_ours};
use crate::support::{
    agent::Transport,
    outside::{Outside, Place},
};

const ROUTES: &str = "\
ip route add 10.90.0.0/24 via 198.51.100.10; ip route add fd90::/64 via 2001:db8:3::10";

/// `lan` with these options.
fn scene(options: &str) -> Option<Scene> {
    Scene::on(Outside::with_device()?, options, "")
}

#[test]
fn a_routed_network_is_seen_as_it_is_and_closed() {
    let Some(scene) = scene("-o com.docker.network.bridge.enable_ip_masquerade=false") else {
        return;
    };
    scene.outside.ok(Place::Outside, ROUTES);
    let server = scene.introduce_outside(Place::Far);
    for (far, own) in FAR.into_iter().zip([IpAddr::V4(WEB4), IpAddr::V6(WEB6)]) {
        for (transport, name) in BOTH_TRANSPORTS {
            let seen = scene.visit_from("web", at(far, INNER), transport);
            assert_eq!(seen, format!("itself {INNER}"), "{name}");
            assert_eq!(server.word(), format!("{name} from {own}"));
        }
    }
    let _web = scene.introduce("web");
    let closed = scene.begin_reach(Place::Far, at(IpAddr::V4(WEB4), INNER));
    // Nor is there a way in to a network that is translated (N-FLT-4).
    let app = scene.daemon.inspect("app")["NetworkSettings"]["Networks"]["other"]["IPAddress"].take();
    let app: IpAddr = app
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("an address");
    let _app = scene.introduce("app");
    scene
        .outside
        .ok(Place::Outside, "ip route add 10.91.0.0/24 via 198.51.100.10");
    let hidden = scene.begin_reach(Place::Far, at(app, INNER));
    for agent in [closed, hidden] {
        assert_ne!(agent.last_word(), "connected");
    }
    // The other network is translated as ever.
    scene.visit_from("app", at(FAR[0], INNER), Transport::Tcp);
    assert!(is_ours(&server.word(), 0, ""));
}

#[test]
fn an_open_routed_network_is_reached_from_outside() {
    let options = "-o com.docker.network.bridge.gateway_mode_ipv4=routed \
                   -o com.docker.network.bridge.gateway_mode_ipv6=routed -o vswitch.inbound=open";
    let Some(scene) = scene(options) else { return };
    scene.outside.ok(Place::Outside, ROUTES);
    let server = scene.introduce("web");
    for (to, client) in [IpAddr::V4(WEB4), IpAddr::V6(WEB6)].into_iter().zip(FAR) {
        for (transport, name) in BOTH_TRANSPORTS {
            let seen = scene.visit(Place::Far, at(to, INNER), transport);
            assert_eq!(seen, format!("itself {INNER}"), "{name}");
            assert_eq!(server.word(), format!("{name} from {client}"));
        }
    }
}

#[test]
fn a_network_gets_the_external_address_that_it_asks_for() {
    let options =
        "-o com.docker.network.host_ipv4=198.51.100.11 -o com.docker.network.host_ipv6=2001:db8:3::11";
    let Some(scene) = scene(options) else { return };
    let server = scene.introduce_outside(Place::Far);
    for (version, (far, own)) in FAR.into_iter().zip(SECOND).enumerate() {
        scene.visit_from("web", at(far, INNER), Transport::Tcp);
        assert_eq!(server.word(), format!("tcp from {own}"));
        scene.visit_from("app", at(far, INNER), Transport::Tcp);
        assert!(is_ours(&server.word(), version, ""), "any will do");
    }
    let refused = scene
        .daemon
        .refused("network create -o outbound_addr=198.51.100.12 third");
    assert!(
        refused.contains("198.51.100.12 is not an address of the device uplink"),
        "{refused}"
    );
}
