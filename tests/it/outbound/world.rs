//! What the other tests assume of the outside, seen from the host itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::support::{
    agent::{Dialogue, Role, Service, Transport},
    outside::{ANY, BOTH, FAR4, FAR6, HOST4, HOST6, OUTSIDE4, Outside, Place, UNREACHABLE},
};

#[test]
fn the_host_reaches_machines_and_not_what_is_unreachable() {
    let Some(outside) = Outside::new() else { return };
    for address in BOTH.into_iter().chain([FAR4.into(), FAR6.into()]) {
        outside.ok(Place::Host, &format!("ping -n -c 1 -W 5 {address}"));
        assert_eq!(
            connect(&outside, (address, 9).into()),
            "ConnectionRefused",
            "{address}"
        );
    }
    for address in UNREACHABLE {
        let word = connect(&outside, (address, 9).into());
        assert!(
            ["HostUnreachable", "NetworkUnreachable"].contains(&&*word),
            "{address}: {word}"
        );
    }
}

#[test]
fn servers_serve_the_host() {
    let Some(outside) = Outside::new() else { return };
    let bytes = 10 << 20;
    let dialogues = [
        (Service::CloseFirst, Dialogue::Hear, "", "thanks"),
        (Service::Echo, Dialogue::Echo { bytes: 70_000 }, "70000", "ended"),
        (Service::Echo, Dialogue::Reset, "reset", "ConnectionReset"),
        (
            Service::Exchange { send: bytes },
            Dialogue::Exchange {
                send: bytes,
                receive: bytes,
            },
            "complete",
            "10485760",
        ),
        (Service::Greet, Dialogue::Hear, "welcome", "thanks"),
        (Service::Reset, Dialogue::AwaitReset, "ConnectionReset", "reset"),
        (
            Service::SlowSink,
            Dialogue::Exchange {
                send: bytes,
                receive: 0,
            },
            "complete",
            "10485760",
        ),
    ];
    for (service, dialogue, here, there) in dialogues {
        let what = format!("{service:?} {dialogue:?}");
        let (server, port) = outside.server(Place::Outside, &Role::Serve { at: ANY, service });
        let role = Role::Dial {
            to: (BOTH[1], port).into(),
            dialogue,
            connections: 1,
        };
        assert_eq!(outside.agent(Place::Host, &role).last_word(), here, "{what}");
        assert_eq!(server.word(), format!("from {HOST6}"), "{what}");
        assert_eq!(server.word(), there, "{what}");
    }
}

#[test]
fn datagrams_and_names_are_answered() {
    let Some(outside) = Outside::new() else { return };
    let (server, port) = outside.server(Place::Outside, &Role::UdpEcho { at: ANY });
    for (address, host) in BOTH.into_iter().zip([IpAddr::V4(HOST4), HOST6.into()]) {
        let to = SocketAddr::new(address, port);
        let sizes = vec![0, 1, 6000, 60_000];
        let role = Role::Datagrams { to, sizes };
        assert_eq!(outside.agent(Place::Host, &role).last_word(), "4", "{address}");
        assert_eq!(server.word(), format!("from {host}"));
        let role = Role::RefusedDatagram {
            to: (address, 9).into(),
        };
        assert_eq!(outside.agent(Place::Host, &role).last_word(), "ConnectionRefused");
    }
    let resolver = Role::Resolve {
        at: (ANY.ip(), 53).into(),
        answer: Ipv4Addr::new(192, 0, 2, 80),
    };
    let (_resolver, port) = outside.server(Place::Outside, &resolver);
    for (name, transport, answer) in [
        ("name.test", Transport::Udp, "code 0 count 1 192.0.2.80"),
        ("name.test", Transport::Tcp, "code 0 count 1 192.0.2.80"),
        ("big.test", Transport::Udp, "code 0 count 0 truncated"),
        ("big.test", Transport::Tcp, "code 0 count 60 192.0.2.80"),
    ] {
        let role = Role::Query {
            server: (OUTSIDE4, port).into(),
            name: name.to_owned(),
            transport,
        };
        assert_eq!(outside.agent(Place::Host, &role).last_word(), answer, "{name}");
    }
    outside.resolve_by(&[OUTSIDE4.into()]);
    assert_eq!(
        outside.ok(Place::Host, "cat /etc/resolv.conf"),
        "nameserver 192.0.2.2\n"
    );
}

/// How a connection of the host fails.
#[track_caller]
fn connect(outside: &Outside, to: SocketAddr) -> String {
    outside.agent(Place::Host, &Role::Connect { to }).last_word()
}
