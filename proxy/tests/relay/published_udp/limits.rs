//! Who gets in, for how long, and what ends it.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use etherparse::PacketBuilder;
use vswitch_proxy::{
    Hop,
    config::Descriptors,
    publish::{MappingId, Rules},
};
use vswitch_wire::{Offload, segment::complete_checksum};

use super::site::*;

#[test]
fn r_lim_1_clients_are_refused_by_rules_and_counted() {
    let none: Vec<_> = vec!["192.0.2.0/24".parse().expect("a prefix")];
    for (rules, accepted, refused) in [
        (
            Rules {
                allow: none,
                ..Rules::default()
            },
            0,
            ("refused_allow", 5),
        ),
        (
            Rules {
                max_connections: Some(2),
                ..Rules::default()
            },
            2,
            ("refused_connections", 3),
        ),
        (
            Rules {
                connections_per_second: Some(3),
                ..Rules::default()
            },
            3,
            ("refused_rate", 2),
        ),
    ] {
        let mut site = Site::new();
        let port = site.publish(ANY_V4, rules);
        let clients = [(); 5].map(|()| client((Ipv4Addr::LOCALHOST, port).into()));
        for client in &clients {
            client.send(b"x").expect("sent");
        }
        site.runs();
        assert_eq!(site.taken().len(), accepted as usize);
        let expected = counted(&[("accepted", accepted), refused], accepted as u32);
        assert_eq!(site.counters(), expected);
        // Who is in stays in.
        if accepted > 0 {
            clients[0].send(b"more").expect("sent");
            assert_eq!(site.receives(1).len(), 1);
        }
    }
}

#[test]
fn r_lim_2_the_idlest_client_makes_room() {
    let mut site = Site::with_limits(|limits| limits.flows_per_endpoint = 4);
    let port = site.publish(ANY_V4, Rules::default());
    let clients = [(); 5].map(|()| client((Ipv4Addr::LOCALHOST, port).into()));
    let mut ports = Vec::new();
    for client in &clients {
        client.send(b"x").expect("sent");
        ports.push(site.receives(1)[0].from.port());
        site.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(site.counters(), counted(&[("accepted", 5)], 4));
    let mut left: Vec<_> = site
        .relay
        .flows(site.clock.now())
        .map(|flow| flow.remote.port())
        .collect();
    left.sort_unstable();
    ports.remove(0);
    ports.sort_unstable();
    assert_eq!(left, ports);
    assert_eq!(site.counter("relay_evicted"), 1);
}

#[test]
fn p9_a_session_ends_90_s_after_the_client_or_300_s_after_an_answer() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    let client = client((Ipv4Addr::LOCALHOST, port).into());
    client.send(b"x").expect("sent");
    let datagram = site.receives(1).remove(0);
    let seconds = Duration::from_secs;
    site.passes(seconds(80));
    client.send(b"renewed").expect("sent");
    assert_eq!(site.receives(1).len(), 1);
    site.passes(seconds(89));
    assert_eq!(site.relay.len(), 1);
    site.answers(&datagram, b"answer");
    site.passes(seconds(299));
    assert_eq!(site.relay.len(), 1);
    site.passes(seconds(1));
    assert_eq!(site.counters(), counted(&[("accepted", 1)], 0));
    client.send(b"x").expect("sent");
    assert_eq!(site.receives(1)[0].from, datagram.from);
    site.passes(seconds(89));
    assert_eq!(site.relay.len(), 1);
    site.passes(seconds(1));
    assert_eq!(site.counters(), counted(&[("accepted", 2)], 0));
    assert_eq!(site.relay.poll_timeout(), None);
}

#[test]
fn p10_unpublishing_ends_the_sessions_and_gives_the_socket_back() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    let client = client((Ipv4Addr::LOCALHOST, port).into());
    client.send(b"x").expect("sent");
    let datagram = site.receives(1).remove(0);
    let listeners = site.unpublish(MAPPING);
    assert!(site.relay.is_empty());
    assert_eq!(listeners[0].bound.address.port(), port);
    // What the container still says is a flow of its own, which leads to the gateway, not to the client.
    site.answers(&datagram, b"late");
    client.set_nonblocking(true).expect("a socket");
    let nothing = client.recv(&mut [0; 16]);
    assert!(nothing.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
    site.relay_removes_all();
    // It can be published again as it is, and the client comes anew.
    site.publish_listeners(MappingId(8), listeners, Rules::default())
        .expect("published");
    client.send(b"y").expect("sent");
    assert_eq!(site.receives(1)[0].payload, b"y");
    assert_eq!(site.relay.len(), 1);
}

#[test]
fn p10_a_container_that_goes_takes_its_clients_along() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    for _ in 0..3 {
        client((Ipv4Addr::LOCALHOST, port).into())
            .send(b"x")
            .expect("sent");
    }
    assert_eq!(site.receives(3).len(), 3);
    site.with_gate(|relay, now, scratch, gate| relay.remove_endpoint(now, ENDPOINT, scratch, gate));
    assert!(site.relay.is_empty());
}

#[test]
fn p9_an_unreachable_port_in_the_container_counts_and_ends_nothing() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    let client = client((Ipv4Addr::LOCALHOST, port).into());
    client.send(b"too early").expect("sent");
    let (frame, offload) = {
        site.runs();
        site.take_frames().remove(0)
    };
    let mut frame = frame;
    complete_checksum(&mut frame, offload.checksum.expect("left to us")).expect("it fits");
    let message = PacketBuilder::ethernet2(CONTAINER_MAC, GATEWAY_MAC)
        .ipv4(CONTAINER_V4.octets(), GATEWAY_V4.octets(), 64)
        .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::Port,
        ));
    let mut error = Vec::new();
    message.write(&mut error, &frame[14..]).expect("written");
    site.sends(&mut error, Offload::NONE, Hop::Gateway);
    assert_eq!(site.counters(), counted(&[("accepted", 1), ("failed", 1)], 1));
    assert_eq!(site.counter("relay_protocol"), 0);
    client.send(b"now").expect("sent");
    let datagram = site.receives(1).remove(0);
    site.answers(&datagram, b"listening");
    assert_eq!(receive(&client), b"listening");
}

#[test]
fn r_lim_2_thousands_of_clients_cost_one_descriptor() {
    let mut site = Site::with_limits(|limits| limits.descriptors = Arc::new(Descriptors::new(1)));
    let port = site.publish(ANY_V4, Rules::default());
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("/proc").count();
    let before = descriptors();
    let mut clients = 0;
    for round in 0..30 {
        // 127/8 has addresses enough for clients that share a port.
        for number in 0..100 {
            let client = UdpSocket::bind((Ipv4Addr::new(127, 1, round, number), 0)).expect("a socket");
            client.send_to(b"x", (Ipv4Addr::LOCALHOST, port)).expect("sent");
            clients += 1;
        }
        site.runs();
        site.take_frames();
    }
    assert_eq!(site.relay.len(), clients);
    assert_eq!(site.counters(), counted(&[("accepted", 3000)], 3000));
    // Other tests of this binary have theirs.
    assert!(descriptors() < before + 500);
}

#[test]
fn a_flood_of_one_port_is_taken_in_turns() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    site.runs();
    let client = client((Ipv4Addr::LOCALHOST, port).into());
    for number in 0..200_u8 {
        // Of growing size, so that the kernel coalesces none of them.
        client.send(&vec![number; 1 + usize::from(number)]).expect("sent");
    }
    site.is_ready();
    assert!(site.relay.has_turns());
    assert!(site.taken().len() < 200);
    site.runs();
    assert!(!site.relay.has_turns());
}
