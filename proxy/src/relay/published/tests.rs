use std::{
    collections::hash_map::RandomState,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
    sync::Arc,
};

use vswitch_wire::MacAddr;

use super::*;
use crate::{
    config::{Descriptors, Limits, Policy, RelayConfig, Source, Timeouts},
    mock::{Side, now},
    publish::{Backend, Bound, Routing, Rules},
};

/// A relay with one listener for the container that `change` makes of one with both versions.
fn relay(gateways: &[&str], change: impl FnOnce(&mut Backend)) -> Relay {
    let parse = |text: &&str| text.parse().expect("an address");
    let config = RelayConfig {
        gateway_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        gateways: gateways.iter().map(parse).collect(),
        mtu: 1500,
        policy: Policy::default(),
        source: Source::default(),
        limits: Limits::new(Arc::new(Descriptors::new(10))),
        timeouts: Timeouts::default(),
        published: Arc::default(),
    };
    let mut relay = Relay::new(now(), config, RandomState::new());
    let mut backend = Backend {
        endpoint: 1,
        station: MacAddr([2, 0, 0, 0, 0, 2]),
        v4: Some(Ipv4Addr::new(10, 0, 0, 2)),
        v6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
        routed_v4: true,
        routed_v6: true,
        on_link: Arc::new(
            ["10.0.0.0/24", "203.0.113.128/25", "fd00::/64"].map(|net| net.parse().expect("a prefix")),
        ),
        sockets: None,
    };
    change(&mut backend);
    let spec = MappingSpec {
        id: MappingId(1),
        protocol: Protocol::Tcp,
        backend,
        rules: Rules::default(),
    };
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let listener = Listener {
        bound: Bound {
            address: socket.local_addr().expect("its address"),
            dual_stack: false,
        },
        socket: socket.into(),
        container_port: 80,
    };
    let side = Side::new("10.0.0.2:80", "10.0.0.1:1");
    relay
        .publish(now(), spec, vec![listener], &side.link)
        .expect("published");
    relay
}

fn shown(relay: &mut Relay, client: &str) -> Option<(String, String)> {
    let client = client.parse().expect("an address");
    let Shown {
        container, remote, ..
    } = relay.shown(now(), ListenerId(0), client)?;
    Some((container.to_string(), remote.to_string()))
}

const BOTH: &[&str] = &["10.0.0.1", "fd00::1"];

#[test]
fn r_in_1_strangers_are_shown_as_they_are() {
    let mut relay = relay(BOTH, |_| {});
    for (client, container) in [("203.0.113.9", "10.0.0.2:80"), ("2001:db8::9", "[fd00::2]:80")] {
        let (to, from) = shown(&mut relay, client).expect("there is a way");
        assert_eq!((to.as_str(), from.as_str()), (container, client));
    }
}

#[test]
fn r_in_1_who_the_container_would_not_answer_by_us_is_shown_as_the_gateway() {
    let mut relay = relay(BOTH, |_| {});
    for (client, gateway) in [
        // The host itself.
        ("127.0.0.1", "10.0.0.1"),
        ("::1", "fd00::1"),
        // On the container's own link, its own address included, and on another of its links.
        ("10.0.0.77", "10.0.0.1"),
        ("10.0.0.2", "10.0.0.1"),
        ("203.0.113.200", "10.0.0.1"),
        ("fd00::77", "fd00::1"),
        // Of one link of the host's, and of nobody's.
        ("169.254.7.7", "10.0.0.1"),
        ("fe80::7", "fd00::1"),
        ("0.0.0.0", "10.0.0.1"),
    ] {
        let (_, from) = shown(&mut relay, client).expect("there is a way");
        assert_eq!(from, gateway, "{client}");
    }
}

#[test]
fn r_in_1_a_container_whose_default_route_leads_elsewhere_sees_the_gateway() {
    let mut relay = relay(BOTH, |backend| backend.routed_v4 = false);
    let (_, from) = shown(&mut relay, "203.0.113.9").expect("there is a way");
    assert_eq!(from, "10.0.0.1");
    let (_, from) = shown(&mut relay, "2001:db8::9").expect("there is a way");
    assert_eq!(from, "2001:db8::9");
}

#[test]
fn r_in_1_a_container_never_hears_from_its_own_address() {
    let mut relay = relay(BOTH, |backend| backend.on_link = Arc::new([]));
    for (own, gateway) in [("10.0.0.2", "10.0.0.1"), ("fd00::2", "fd00::1")] {
        let (_, from) = shown(&mut relay, own).expect("there is a way");
        assert_eq!(from, gateway);
    }
}

#[test]
fn r_in_1_clients_of_the_other_version_come_from_the_gateway() {
    let mut of_v4 = relay(&["10.0.0.1"], |backend| backend.v6 = None);
    let way = shown(&mut of_v4, "2001:db8::9").expect("there is a way");
    assert_eq!(way, ("10.0.0.2:80".to_owned(), "10.0.0.1".to_owned()));
    let mut of_v6 = relay(&["fd00::1"], |backend| backend.v4 = None);
    let way = shown(&mut of_v6, "203.0.113.9").expect("there is a way");
    assert_eq!(way, ("[fd00::2]:80".to_owned(), "fd00::1".to_owned()));
}

#[test]
fn r_in_1_without_an_address_of_the_gateway_there_is_no_way_for_some() {
    let mut relay = relay(&[], |_| {});
    assert_eq!(shown(&mut relay, "10.0.0.77"), None);
    assert!(shown(&mut relay, "203.0.113.9").is_some());
}

#[test]
fn r_in_6_what_is_bound_covers_what_it_says() {
    let bound = |address: &str, dual_stack| Bound {
        address: address.parse().expect("an address"),
        dual_stack,
    };
    for (bound, to, covered) in [
        (bound("0.0.0.0:80", false), "192.0.2.1:80", true),
        (bound("0.0.0.0:80", false), "192.0.2.1:81", false),
        (bound("0.0.0.0:80", false), "[2001:db8::1]:80", false),
        (bound("[::]:80", false), "192.0.2.1:80", false),
        (bound("[::]:80", true), "192.0.2.1:80", true),
        (bound("[::]:80", true), "[2001:db8::1]:80", true),
        (bound("127.0.0.1:80", false), "127.0.0.1:80", true),
        (bound("127.0.0.1:80", false), "192.0.2.1:80", false),
    ] {
        assert_eq!(
            bound.covers(to.parse().expect("an address")),
            covered,
            "{bound:?} {to}"
        );
    }
}

#[test]
fn clients_are_shown_by_the_routing_that_holds_when_they_come() {
    let mut relay = relay(BOTH, |_| {});
    let routing = Routing {
        routed_v4: true,
        routed_v6: false,
        on_link: Arc::new(["198.51.100.0/24".parse().expect("a prefix")]),
    };
    assert!(relay.reroute(MappingId(1), routing.clone()));
    for (client, from) in [
        ("203.0.113.200", "203.0.113.200"),
        ("198.51.100.7", "10.0.0.1"),
        ("2001:db8::9", "fd00::1"),
    ] {
        let (_, shown) = shown(&mut relay, client).expect("there is a way");
        assert_eq!(shown, from, "{client}");
    }
    assert!(!relay.reroute(MappingId(2), routing), "there is none such");
}

#[test]
fn a_part_of_a_mapping_becomes_one_of_its_own() {
    let mut relay = relay(BOTH, |_| {});
    let mut side = Side::new("10.0.0.2:80", "10.0.0.1:1");
    let mut scratch = Scratch::default();
    let mut spec = relay
        .published
        .mapping(MappingId(1))
        .expect("published")
        .spec
        .clone();
    spec.id = MappingId(2);
    let sockets = [81, 82, 83].map(|container_port| {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let address = socket.local_addr().expect("its address");
        let listener = Listener {
            bound: Bound {
                address,
                dual_stack: false,
            },
            socket: socket.into(),
            container_port,
        };
        (address, listener)
    });
    let addresses: Vec<SocketAddr> = sockets.iter().map(|(address, _)| *address).collect();
    let listeners = sockets.into_iter().map(|(_, listener)| listener).collect();
    relay
        .publish(now(), spec, listeners, &side.link)
        .expect("published");
    assert!(relay.split(MappingId(2), 82..=82, MappingId(3)));
    assert!(
        !relay.split(MappingId(9), 82..=82, MappingId(4)),
        "there is none such"
    );

    let mut ports_of = |relay: &mut Relay, id| {
        let listeners = relay.unpublish(
            now(),
            MappingId(id),
            Connections::Keep,
            &mut scratch,
            &mut side.link,
        );
        let ports = listeners
            .into_iter()
            .flatten()
            .map(|listener| listener.container_port);
        ports.collect::<Vec<_>>()
    };
    let is_known = |relay: &Relay, address| relay.config.published.has(Protocol::Tcp, address);
    assert!(addresses.iter().all(|&address| is_known(&relay, address)));
    assert_eq!(ports_of(&mut relay, 3), [82]);
    assert_eq!(
        addresses
            .iter()
            .map(|&address| is_known(&relay, address))
            .collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(ports_of(&mut relay, 2), [81, 83]);
    assert_eq!(relay.mappings().count(), 1);
}

#[test]
fn a_socket_that_lives_on_has_left_the_poll_set() {
    let mut relay = relay(BOTH, |_| {});
    let side = Side::new("10.0.0.2:80", "10.0.0.1:1");
    let mut spec = relay
        .published
        .mapping(MappingId(1))
        .expect("published")
        .spec
        .clone();
    let kept = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let bound = Bound {
        address: kept.local_addr().expect("its address"),
        dual_stack: false,
    };
    // As often as the descriptor gets the same number again.
    for id in 2..5 {
        spec.id = MappingId(id);
        let listener = Listener {
            socket: kept.try_clone().expect("a descriptor").into(),
            bound,
            container_port: 81,
        };
        relay
            .publish(now(), spec.clone(), vec![listener], &side.link)
            .expect("published");
        relay.close_mappings_of(1, &side.link);
    }
}
