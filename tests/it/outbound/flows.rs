//! What users see of connections to the outside.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::{BOX4, BOX6, GATEWAYS, Scene, assert_denied};
use crate::support::{
    agent::{Role, Service},
    daemon::{PATIENCE, text},
    outside::{ANY, BOTH, HOST4, Place},
    within,
};

#[test]
fn live_flows_are_listed_with_both_ends_and_ended_ones_are_not() {
    let Some(scene) = Scene::new("") else { return };
    let (_server, port) = scene.serve(Place::Outside, Service::Echo);
    let (_echo, udp_port) = scene.outside.server(Place::Outside, &Role::UdpEcho { at: ANY });
    let held = BOTH.map(|address| scene.hold((address, port).into()));
    for address in BOTH {
        let to = (address, udp_port).into();
        scene.daemon.act(
            "box",
            &Role::Datagrams {
                to,
                sizes: vec![10, 20],
            },
        );
    }
    for (address, own) in BOTH.into_iter().zip([BOX4, BOX6]) {
        let own: IpAddr = own.parse().expect("an address");
        let tcp = flow(&scene, "tcp", (address, port).into()).expect("a TCP flow");
        assert_eq!(
            (&tcp["State"], &tcp["Network"]),
            (&"ESTABLISHED".into(), &"lan".into())
        );
        assert_eq!(end(&tcp, "Container").ip(), own);
        assert_eq!(
            (&tcp["SentBytes"], &tcp["ReceivedBytes"]),
            (&1.into(), &1.into()),
            "{tcp}"
        );
        let udp = flow(&scene, "udp", (address, udp_port).into()).expect("a UDP flow");
        assert_eq!(end(&udp, "Container").ip(), own);
        assert_eq!(
            (&udp["SentBytes"], &udp["ReceivedBytes"]),
            (&30.into(), &30.into()),
            "{udp}"
        );
        assert_eq!(udp["Sandbox"], "box");
    }
    let table = scene.daemon.ok("flows lan");
    assert!(table.contains(&format!("{}:{port}", BOTH[0])), "{table}");
    let ends = |list: &str| {
        let flows = scene.daemon.json(list);
        let flows = flows.as_array().expect("a list").iter();
        let ends = flows.map(|flow| ["Protocol", "Container", "Remote"].map(|key| flow[key].clone()));
        ends.collect::<Vec<_>>()
    };
    assert_eq!(ends("flows box"), ends("flows lan"));
    assert_eq!(ends("flows box").len(), 4);
    for agent in held {
        assert_eq!(agent.last_word(), "alive");
    }
    within(PATIENCE, "the TCP flows are gone", || {
        BOTH.iter().all(|&address| {
            let found = flow(&scene, "tcp", (address, port).into());
            // Who finished first may be remembered for a while (R-CL-4).
            found.is_none_or(|flow| flow["State"] == "TIME_WAIT")
        })
    });
}

#[test]
fn a_flow_to_the_host_says_where_the_host_has_turned_it() {
    let Some(scene) = Scene::new("") else { return };
    let (_server, port) = scene.serve(Place::Host, Service::Echo);
    let to = SocketAddr::new(GATEWAYS[0], port);
    let held = scene.hold(to);
    let found = flow(&scene, "tcp", to).expect("a flow");
    assert_eq!(end(&found, "Target"), SocketAddr::new(HOST4.into(), port));
    assert_eq!(held.last_word(), "alive");
}

#[test]
fn flows_can_be_listed_while_there_are_none() {
    let Some(scene) = Scene::new("") else { return };
    assert_eq!(scene.daemon.json("flows"), Value::Array(Vec::new()));
    assert_eq!(scene.daemon.ok("flows box").lines().count(), 1, "a header");
    scene.daemon.refused("flows nosuch");
}

#[test]
fn flows_and_denials_are_counted_at_the_gateways_port() {
    let Some(scene) = Scene::new("") else { return };
    assert_eq!(scene.counter("relay_flows"), 0);
    let (_server, port) = scene.serve(Place::Outside, Service::Echo);
    for address in BOTH {
        assert_eq!(scene.reach((address, port).into()), "connected");
    }
    assert_eq!(scene.counter("relay_flows"), 2);
    assert_eq!(scene.counter("relay_denied"), 0);
    let to = SocketAddr::new(HOST4.into(), port);
    assert_denied(&scene.reach(to), to);
    assert!(scene.counter("relay_denied") > 0);
    assert_eq!(scene.counter("relay_flows"), 2);
}

/// The flow of a protocol to a destination.
#[track_caller]
fn flow(scene: &Scene, protocol: &str, remote: SocketAddr) -> Option<Value> {
    let Value::Array(flows) = scene.daemon.json("flows lan") else {
        panic!("a list");
    };
    flows
        .into_iter()
        .find(|flow| flow["Protocol"] == protocol && end(flow, "Remote") == remote)
}

#[track_caller]
fn end(flow: &Value, which: &str) -> SocketAddr {
    text(&flow[which]).parse().expect("a socket address")
}
