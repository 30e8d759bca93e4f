//! The forwarding resolver at the gateway's address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    GATEWAYS, Scene,
    ping::{in_box, installed},
};
use crate::support::{
    agent::{Agent, PAGE, Role, Service, Transport},
    daemon::PATIENCE,
    outside::{ANY, BLACK_HOLE, BOTH, FAR4, OUTSIDE4, OUTSIDE6, Outside, Place, UNREACHABLE},
    within,
};

#[test]
fn r_dns_1_names_are_resolved_at_the_gateway_over_udp_and_tcp() {
    let Some((scene, _server)) = resolving() else {
        return;
    };
    for gateway in GATEWAYS {
        for transport in [Transport::Udp, Transport::Tcp] {
            let answer = query(&scene, gateway, "name.test", transport);
            assert_eq!(answer, "code 0 count 1 192.0.2.80", "{gateway} {transport:?}");
        }
        let answer = query(&scene, gateway, "big.test", Transport::Udp);
        assert_eq!(answer, "code 0 count 0 truncated", "{gateway}");
        let answer = query(&scene, gateway, "big.test", Transport::Tcp);
        assert_eq!(answer, "code 0 count 60 192.0.2.80", "{gateway}");
    }
}

#[test]
fn r_dns_1_dig_gets_answers_of_every_size() {
    let Some((scene, _server)) = resolving() else {
        return;
    };
    if !installed(&scene, "dig") {
        return;
    }
    for gateway in GATEWAYS {
        let dig = |words: &str| {
            let outcome = in_box(
                &scene,
                &format!("dig +short +tries=1 +time=10 @{gateway} {words}"),
            );
            assert_eq!(outcome.code, 0, "{gateway} {words}: {outcome:?}");
            outcome.stdout
        };
        assert_eq!(dig("name.test"), "192.0.2.80\n");
        assert_eq!(dig("+tcp name.test"), "192.0.2.80\n");
        assert_eq!(dig("big.test").lines().count(), 60, "EDNS");
        assert_eq!(dig("+noedns big.test").lines().count(), 60, "truncated, then TCP");
    }
}

#[test]
fn programs_resolve_names_without_being_told_where() {
    let Some(outside) = Outside::new() else { return };
    let _resolver = resolver(&outside, Place::Outside, DNS, OUTSIDE4);
    outside.resolve_by(&[OUTSIDE4.into()]);
    let Some(scene) = Scene::on(outside, "") else {
        return;
    };
    if !installed(&scene, "curl") {
        return;
    }
    let (_server, port) = scene.serve(Place::Outside, Service::Http);
    // The resolver gives IPv4 addresses whatever it is asked.
    let outcome = in_box(
        &scene,
        &format!("curl -4 -sS --max-time 30 http://name.test:{port}/"),
    );
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, PAGE), "{outcome:?}");
}

#[test]
fn r_dns_2_a_resolver_on_the_hosts_loopback_is_used_though_containers_cannot_reach_it() {
    let Some(outside) = Outside::new() else { return };
    let at = SocketAddr::from(([127, 0, 0, 53], 53));
    let _server = resolver(&outside, Place::Host, at, Ipv4Addr::new(192, 0, 2, 53));
    outside.resolve_by(&[at.ip()]);
    let Some(scene) = Scene::on(outside, "") else {
        return;
    };
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = query(&scene, GATEWAYS[0], "name.test", transport);
        assert_eq!(answer, "code 0 count 1 192.0.2.53", "{transport:?}");
    }
}

#[test]
fn r_dns_2_a_change_of_the_hosts_resolvers_is_noticed() {
    let Some((scene, _server)) = resolving() else {
        return;
    };
    let answer = query(&scene, GATEWAYS[0], "name.test", Transport::Udp);
    assert_eq!(answer, "code 0 count 1 192.0.2.80");
    let _other = resolver(&scene.outside, Place::Far, DNS, Ipv4Addr::new(203, 0, 113, 80));
    scene.outside.resolve_by(&[FAR4.into()]);
    for transport in [Transport::Udp, Transport::Tcp] {
        within(PATIENCE, "the new resolver answers", || {
            let answer = query(&scene, GATEWAYS[0], "name.test", transport);
            answer == "code 0 count 1 203.0.113.80"
        });
    }
}

#[test]
fn r_dns_3_resolvers_that_refuse_or_have_no_route_are_passed_over_whatever_their_family() {
    // Nobody listens on the host's loopback device.
    let local = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
    for servers in [
        [local, UNREACHABLE[1], OUTSIDE4.into()],
        [UNREACHABLE[0], local, OUTSIDE6.into()],
    ] {
        // What one has found out helps the next, so each begins anew.
        for transport in [Transport::Udp, Transport::Tcp] {
            let Some((scene, _server)) = resolving_by(&servers) else {
                return;
            };
            for gateway in GATEWAYS {
                let answer = query(&scene, gateway, "name.test", transport);
                assert_eq!(
                    answer, "code 0 count 1 192.0.2.80",
                    "{transport:?} by {servers:?}"
                );
            }
        }
    }
}

#[test]
fn r_dns_3_a_resolver_that_keeps_silent_costs_one_connection_its_time() {
    let Some((scene, _server)) = resolving_by(&[BLACK_HOLE.into(), OUTSIDE4.into()]) else {
        return;
    };
    // The first repeats its SYN; nobody has to repeat anything any more then.
    for transport in [Transport::Tcp, Transport::Udp, Transport::Tcp] {
        let answer = query(&scene, GATEWAYS[0], "name.test", transport);
        assert_eq!(answer, "code 0 count 1 192.0.2.80", "{transport:?}");
    }
}

#[test]
fn a_resolver_that_is_gone_is_an_error_and_not_a_silence() {
    let Some(outside) = Outside::new() else { return };
    outside.resolve_by(&[OUTSIDE4.into()]);
    let Some(scene) = Scene::on(outside, "") else {
        return;
    };
    let fails = |what: &str| {
        for transport in [Transport::Udp, Transport::Tcp] {
            let answer = query(&scene, GATEWAYS[0], "name.test", transport);
            let silence = ["WouldBlock", "TimedOut"].contains(&&*answer);
            assert!(
                !silence && !answer.starts_with("code 0"),
                "{what}, {transport:?}: {answer}"
            );
        }
    };
    fails("nobody listens");
    scene.outside.resolve_by(&[UNREACHABLE[0]]);
    // A moment to notice; either is an error.
    fails("unreachable");
    scene.outside.resolve_by(&[]);
    fails("none is known");
    let _server = resolver(&scene.outside, Place::Outside, DNS, Ipv4Addr::new(192, 0, 2, 80));
    scene.outside.resolve_by(&BOTH);
    within(PATIENCE, "the resolver answers again", || {
        query(&scene, GATEWAYS[0], "name.test", Transport::Udp) == "code 0 count 1 192.0.2.80"
    });
}

/// A scene whose host's resolver is outside and answers by 192.0.2.80.
fn resolving() -> Option<(Scene, Agent)> {
    resolving_by(&[OUTSIDE4.into()])
}

/// The same where the host knows these resolvers, of which those outside answer.
fn resolving_by(servers: &[IpAddr]) -> Option<(Scene, Agent)> {
    let outside = Outside::new()?;
    let server = resolver(&outside, Place::Outside, DNS, Ipv4Addr::new(192, 0, 2, 80));
    outside.resolve_by(servers);
    Some((Scene::on(outside, "")?, server))
}

#[track_caller]
fn resolver(outside: &Outside, place: Place, at: SocketAddr, answer: Ipv4Addr) -> Agent {
    outside.server(place, &Role::Resolve { at, answer }).0
}

#[track_caller]
fn query(scene: &Scene, server: IpAddr, name: &str, transport: Transport) -> String {
    let role = Role::Query {
        server: (server, 53).into(),
        name: name.to_owned(),
        transport,
    };
    scene.daemon.act("box", &role)
}

const DNS: SocketAddr = SocketAddr::new(ANY.ip(), 53);
