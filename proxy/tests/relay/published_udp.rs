//! UDP clients of published ports, over real sockets of the loopback device (R-UDP-4, 5, 7, 8, 10, 11, 13).
//!
//! Clients on the host are shown as the gateway; that others keep their addresses is tested beside the code, where
//! they can be made up.

mod limits;
mod site;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use etherparse::{NetSlice, SlicedPacket};
use vswitch_proxy::{config::Timeouts, publish::Rules};

use site::*;

#[test]
fn r_udp_4_answers_leave_from_the_address_that_the_client_used() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    let clients: Vec<_> = [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]]
        .map(|address| client((address, port).into()))
        .into();
    for (number, client) in clients.iter().enumerate() {
        client.send(&[number as u8]).expect("sent");
    }
    let mut arrived = site.receives(3);
    arrived.sort_by_key(|datagram| datagram.payload.clone());
    for (client, datagram) in clients.iter().zip(&arrived) {
        assert_eq!(datagram.to, SocketAddr::from((CONTAINER_V4, CONTAINER_PORT)));
        assert_eq!(datagram.from, SocketAddr::from((GATEWAY_V4, local_port(client))));
        site.answers(datagram, &datagram.payload);
    }
    for (number, client) in clients.iter().enumerate() {
        // It is connected: from another address it would take nothing.
        assert_eq!(receive(client), [number as u8]);
    }
    assert_eq!(site.counters(), counted(&[("accepted", 3)], 3));
    let flows: Vec<_> = site.relay.flows(site.clock.now()).collect();
    assert!(
        flows
            .iter()
            .all(|flow| flow.state == "ASSURED" && (flow.sent, flow.received) == (1, 1))
    );
    let targets = flows.iter().filter_map(|flow| flow.target);
    assert!(targets.eq([1, 2, 3].map(|last| SocketAddr::from(([127, 0, 0, last], port)))));
}

#[test]
fn r_udp_13_a_taken_port_is_changed_and_answers_come_back() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let asked = [[127, 0, 0, 1], [127, 0, 0, 2]].map(|address| SocketAddr::from((address, port)));
    for to in asked {
        client.send_to(to.to_string().as_bytes(), to).expect("sent");
    }
    let arrived = site.receives(2);
    // Both are the gateway to the container, which tells them by their ports.
    let ports: Vec<_> = arrived.iter().map(|datagram| datagram.from.port()).collect();
    assert_eq!(ports[0], local_port(&client));
    assert_ne!(ports[0], ports[1]);
    for datagram in arrived.iter().rev() {
        site.answers(datagram, &datagram.payload);
    }
    for to in asked.iter().rev() {
        let mut buffer = [0; 64];
        let (len, from) = client.recv_from(&mut buffer).expect("an answer");
        assert_eq!((from, &buffer[..len]), (*to, to.to_string().as_bytes()));
    }
    // It stays so.
    client.send_to(b"again", asked[1]).expect("sent");
    assert_eq!(site.receives(1)[0].from, arrived[1].from);
}

#[test]
fn r_udp_13_a_flow_of_the_container_keeps_its_datagrams() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    let client = client((Ipv4Addr::LOCALHOST, port).into());
    let server = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 1), 0)).expect("a socket");
    // From its published port the container calls a service of the host.
    let called = Arrived {
        from: (GATEWAY_V4, local_port(&server)).into(),
        to: (CONTAINER_V4, CONTAINER_PORT).into(),
        payload: Vec::new(),
    };
    site.answers(&called, b"call");
    let mut buffer = [0; 16];
    let (len, caller) = server.recv_from(&mut buffer).expect("a call");
    assert_eq!(&buffer[..len], b"call");
    // The service in turn is a client of the published port: two flows that differ in nothing but the port.
    server
        .send_to(b"as a client", (Ipv4Addr::LOCALHOST, port))
        .expect("sent");
    server.send_to(b"as a service", caller).expect("sent");
    client.send(b"another").expect("sent");
    let mut arrived = site.receives(3);
    arrived.sort_by_key(|datagram| datagram.payload.clone());
    assert_eq!(arrived[2].from, called.from);
    assert_ne!(arrived[1].from, called.from);
    site.answers(&arrived[1], b"to the client");
    let (len, from) = server.recv_from(&mut buffer).expect("an answer");
    assert_eq!((&buffer[..len], from.port()), (b"to the client".as_slice(), port));
    site.answers(&called, b"to the service");
    let (len, from) = server.recv_from(&mut buffer).expect("a call");
    assert_eq!((&buffer[..len], from), (b"to the service".as_slice(), caller));
}

#[test]
fn r_in_6_r_udp_4_a_dual_stack_listener_has_clients_of_both_versions() {
    let mut site = Site::new();
    let Some(port) = site.publish_if_possible(DUAL_STACK, Rules::default()) else {
        return;
    };
    for (asked, gateway, container) in [
        (
            IpAddr::from([127, 0, 0, 2]),
            GATEWAY_V4.into(),
            CONTAINER_V4.into(),
        ),
        (
            Ipv6Addr::LOCALHOST.into(),
            IpAddr::from(GATEWAY_V6),
            IpAddr::from(CONTAINER_V6),
        ),
    ] {
        let client = client((asked, port).into());
        client.send(b"question").expect("sent");
        let datagram = site.receives(1).remove(0);
        assert_eq!((datagram.from.ip(), datagram.to.ip()), (gateway, container));
        site.answers(&datagram, b"answer");
        assert_eq!(receive(&client), b"answer");
    }
    assert_eq!(site.counters(), counted(&[("accepted", 2)], 2));
}

#[test]
fn r_in_6_rules_for_ipv4_hold_on_a_dual_stack_listener() {
    let mut site = Site::new();
    let rules = Rules {
        allow: vec!["127.0.0.1/32".parse().expect("a prefix")],
        ..Rules::default()
    };
    let Some(port) = site.publish_if_possible(DUAL_STACK, rules) else {
        return;
    };
    let other: IpAddr = [127, 0, 0, 9].into();
    for (from, is_allowed) in [(other, false), (Ipv4Addr::LOCALHOST.into(), true)] {
        let client = UdpSocket::bind((from, 0)).expect("a socket");
        client.send_to(b"x", (Ipv4Addr::LOCALHOST, port)).expect("sent");
        site.runs();
        assert_eq!(site.taken().len(), usize::from(is_allowed));
    }
    assert_eq!(
        site.counters(),
        counted(&[("accepted", 1), ("refused_allow", 1)], 1)
    );
}

#[test]
fn r_udp_4_an_ipv6_client_reaches_a_container_without_ipv6() {
    let mut site = Site::new();
    site.backend.v6 = None;
    let Some(port) = site.publish_if_possible(DUAL_STACK, Rules::default()) else {
        return;
    };
    let client = client((Ipv6Addr::LOCALHOST, port).into());
    client.send(b"question").expect("sent");
    let datagram = site.receives(1).remove(0);
    assert_eq!(datagram.from, SocketAddr::from((GATEWAY_V4, local_port(&client))));
    site.answers(&datagram, b"answer");
    assert_eq!(receive(&client), b"answer");
}

#[test]
fn r_udp_5_a_vanished_client_costs_the_others_nothing() {
    let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    for (bound, asked) in [(ANY_V4, v4), (DUAL_STACK, v4), (DUAL_STACK, v6)] {
        let mut site = Site::new();
        let Some(port) = site.publish_if_possible(bound, Rules::default()) else {
            return;
        };
        let clients = [(); 2].map(|()| client(SocketAddr::new(asked, port)));
        let [vanishing, staying] = clients.map(|client| {
            client.send(b"x").expect("sent");
            (client, site.receives(1).remove(0))
        });
        drop(vanishing.0);
        site.answers(&vanishing.1, b"into the void");
        // The error waits in the queue of the socket that both share: this call reports it.
        site.answers(&staying.1, b"still there");
        assert_eq!(receive(&staying.0), b"still there");
        let told = site.errors();
        assert_eq!(told.len(), 1, "the container hears of the other");
        assert_eq!(told[0], (vanishing.1.from, b"into the void".to_vec()));
        assert_eq!(site.counter("relay_dropped_host"), 0);
    }
}

#[test]
fn r_udp_7_an_error_event_is_told_once_and_the_session_stays() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    let client = client((Ipv4Addr::LOCALHOST, port).into());
    client.send(b"x").expect("sent");
    let datagram = site.receives(1).remove(0);
    let address = client.local_addr().expect("an address");
    drop(client);
    site.answers(&datagram, b"void");
    site.runs();
    assert_eq!(site.errors(), [(datagram.from, b"void".to_vec())]);
    site.runs();
    assert_eq!(site.errors(), [], "it does not come again");
    assert!(!site.relay.has_turns());
    // Somebody with the same address is the same client.
    let client = UdpSocket::bind(address).expect("the same port");
    client.connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
    site.answers(&datagram, b"back again");
    assert_eq!(receive(&client), b"back again");
    assert_eq!(site.relay.len(), 1);
}

#[test]
fn r_udp_7_an_error_of_nobody_is_dropped() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    let client = client((Ipv4Addr::LOCALHOST, port).into());
    client.send(b"x").expect("sent");
    let datagram = site.receives(1).remove(0);
    drop(client);
    site.answers(&datagram, b"void");
    site.clock.advance(Timeouts::default().udp_stream);
    site.times_out();
    assert!(
        site.relay.is_empty(),
        "the session is gone before its error is read"
    );
    site.runs();
    assert_eq!(site.errors(), []);
    assert_eq!(site.counter("relay_errors_ignored"), 1);
    assert!(!site.relay.has_turns());
}

#[test]
fn r_udp_8_empty_datagrams_go_both_ways() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    let client = client((Ipv4Addr::LOCALHOST, port).into());
    for payload in [b"".as_slice(), b"x", b"", b""] {
        client.send(payload).expect("sent");
    }
    let arrived = site.receives(4);
    let payloads: Vec<_> = arrived.iter().map(|datagram| &datagram.payload[..]).collect();
    assert_eq!(payloads, [b"".as_slice(), b"x", b"", b""]);
    site.answers(&arrived[0], b"");
    site.answers(&arrived[0], b"y");
    assert_eq!((receive(&client), receive(&client)), (vec![], b"y".to_vec()));
}

#[test]
fn r_udp_10_large_datagrams_go_both_ways() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    let client = client((Ipv4Addr::LOCALHOST, port).into());
    let payload: Vec<u8> = (0..60_000).map(|index| (index / 24) as u8).collect();
    client.send(b"hello").expect("sent");
    let datagram = site.receives(1).remove(0);
    client.send(&payload).expect("sent");
    site.runs();
    let fragments = site.take_frames();
    let mut received = vec![0; 60_008];
    for (frame, _) in &fragments {
        assert!(frame.len() <= 14 + 1500);
        let packet = SlicedPacket::from_ethernet(frame).expect("a frame");
        let Some(NetSlice::Ipv4(ip)) = &packet.net else {
            panic!("no IPv4: {packet:?}");
        };
        let offset = usize::from(ip.header().fragments_offset().value()) * 8;
        let body = ip.payload().payload;
        received[offset..offset + body.len()].copy_from_slice(body);
    }
    assert_eq!(received[8..], payload);
    site.answers(&datagram, &payload);
    assert_eq!(receive(&client), payload);
}

#[test]
fn r_udp_11_equal_datagrams_are_super_frames_both_ways() {
    let mut site = Site::new();
    let port = site.publish(ANY_V4, Rules::default());
    let client = client((Ipv4Addr::LOCALHOST, port).into());
    let other = self::client((Ipv4Addr::LOCALHOST, port).into());
    let payload: Vec<u8> = (0..1000).map(|index| (index / 100) as u8).collect();
    for datagram in payload.chunks(100) {
        client.send(datagram).expect("sent");
    }
    other.send(&[99; 100]).expect("sent");
    site.runs();
    let frames = site.take_frames();
    let sizes: Vec<_> = frames
        .iter()
        .map(|(_, offload)| offload.gso.map(|gso| gso.size))
        .collect();
    assert_eq!(
        sizes,
        [Some(100), None],
        "a client's datagrams go together, another's apart"
    );
    let datagrams: Vec<_> = frames.iter().flat_map(datagrams_of).collect();
    let of_client: Vec<u8> = datagrams[..10]
        .iter()
        .flat_map(|datagram| datagram.payload.clone())
        .collect();
    assert_eq!(of_client, payload);
    // More than one call takes: 100 datagrams.
    let answer: Vec<u8> = (0..100 * 100 + 7).map(|index| (index / 100) as u8).collect();
    site.answers_segmented(&datagrams[0], &answer, 100);
    for expected in answer.chunks(100) {
        assert_eq!(receive(&client), expected);
    }
}
