use std::{
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::AsFd,
};

use socket2::{Domain, Socket, Type};

use super::*;
use crate::mock::wait_ready;

#[test]
fn r_udp_4_answers_leave_from_the_address_that_was_asked() {
    for (bound, asked) in [
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from([127, 0, 0, 2])),
        ([127, 0, 0, 3].into(), [127, 0, 0, 3].into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
        (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
    ] {
        let Some(server) = server(bound) else { continue };
        exchange(&server, asked);
    }
}

#[test]
fn r_in_6_ipv4_peers_of_a_dual_stack_socket_are_ipv4() {
    let Some(server) = server(Ipv6Addr::UNSPECIFIED.into()) else {
        return;
    };
    exchange(&server, [127, 0, 0, 2].into());
}

/// What the kernel promises of the control messages themselves: the mapped address comes as IPv6's, too.
#[test]
fn r_udp_4_without_ipv4s_option_the_mapped_address_is_enough() {
    let Some(server) = server(Ipv6Addr::UNSPECIFIED.into()) else {
        return;
    };
    IntOption::PACKET_INFO_V4
        .set(server.as_fd(), 0)
        .expect("IP_PKTINFO");
    exchange(&server, [127, 0, 0, 2].into());
}

#[test]
fn r_udp_12_what_is_sent_to_many_has_no_local_end() {
    let server = server(Ipv4Addr::UNSPECIFIED.into()).expect("a socket");
    let port = server.local_addr().expect("an address").port();
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    client.set_broadcast(true).expect("SO_BROADCAST");
    // The broadcast address of the loopback device's 127.0.0.0/8.
    if client.send_to(b"all", ("127.255.255.255", port)).is_err() {
        println!("skipped: no broadcast on the loopback device");
        return;
    }
    wait_ready(&server);
    let received = shared(&server).receive(&mut [0; 16]).expect("a datagram");
    assert_eq!(received, (3, None));
}

#[test]
fn r_udp_7_an_error_names_both_ends() {
    for (bound, asked) in [
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from([127, 0, 0, 2])),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
        (Ipv6Addr::UNSPECIFIED.into(), [127, 0, 0, 2].into()),
    ] {
        let Some(server) = server(bound) else { continue };
        let client = client(&server, asked);
        let peer = client.local_addr().expect("an address");
        drop(client);
        let local = Local {
            address: asked,
            interface: 0,
        };
        let ends = Ends { peer, local };
        shared(&server).send(b"hello", &ends).expect("sent");
        wait_ready(&server);
        let mut payload = [0; 64];
        let (error, local) = sys::pktinfo::receive_error(server.as_fd(), &mut payload).expect("an error");
        let destination = error.destination.expect("the peer");
        let found = Ends::between(destination, local.expect("ours"));
        assert_eq!(found, Some(ends), "{bound} {asked}");
        assert_eq!(&payload[..error.len], b"hello");
        let again = sys::pktinfo::receive_error(server.as_fd(), &mut payload);
        assert_eq!(
            again.err().map(|error| error.kind()),
            Some(io::ErrorKind::WouldBlock)
        );
    }
}

#[test]
fn r_udp_4_a_link_local_address_has_its_interface() {
    let (Some((address, interface)), Some(server)) = (link_local(), server(Ipv6Addr::UNSPECIFIED.into()))
    else {
        println!("skipped: no interface has a link-local address");
        return;
    };
    let port = server.local_addr().expect("an address").port();
    let client = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a socket");
    let asked = SocketAddrV6::new(address, port, 0, interface);
    client.connect(asked).expect("connected");
    let ends = exchange_with(&server, &client);
    assert_eq!(
        (ends.local.address, ends.local.interface),
        (address.into(), interface)
    );
    assert!(matches!(ends.peer, SocketAddr::V6(peer) if peer.scope_id() == interface));
}

/// A link-local address that is ready, and the index of its interface (proc(5), `/proc/net/if_inet6`).
fn link_local() -> Option<(Ipv6Addr, u32)> {
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    table.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let address = Ipv6Addr::from_bits(u128::from_str_radix(words.first()?, 16).ok()?);
        let interface = u32::from_str_radix(words.get(1)?, 16).ok()?;
        address.is_unicast_link_local().then_some((address, interface))
    })
}

fn exchange(server: &UdpSocket, asked: IpAddr) {
    let client = client(server, asked);
    let ends = exchange_with(server, &client);
    assert_eq!(ends.peer, client.local_addr().expect("an address"));
    assert_eq!(ends.local.address, asked);
}

/// A question and answers to it; its ends.
fn exchange_with(server: &UdpSocket, client: &UdpSocket) -> Ends {
    client.send(b"question").expect("sent");
    wait_ready(server);
    let mut buffer = [0; 16];
    let (len, ends) = shared(server).receive(&mut buffer).expect("a datagram");
    let ends = ends.expect("its ends");
    assert_eq!(&buffer[..len], b"question");
    // Each way of sending; the client is connected and takes nothing from elsewhere.
    let shared = shared(server);
    assert_eq!(shared.send(b"answer", &ends).expect("sent"), 6);
    assert_eq!(shared.send(b"", &ends).expect("sent"), 0);
    assert_eq!(shared.send_segments(b"aabbc", 2, &ends).expect("sent"), 5);
    assert_eq!(shared.send_many(b"ddeef", 2, &ends).expect("sent"), 5);
    for expected in ["answer", "", "aa", "bb", "c", "dd", "ee", "f"] {
        wait_ready(client);
        let len = client.recv(&mut buffer).expect("an answer");
        assert_eq!(&buffer[..len], expected.as_bytes());
    }
    assert!(
        shared
            .receive(&mut buffer)
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    );
    ends
}

fn shared(socket: &UdpSocket) -> SharedSocket<'_> {
    let version = match socket.local_addr().expect("an address") {
        SocketAddr::V4(_) => IpVersion::V4,
        SocketAddr::V6(_) => IpVersion::V6,
    };
    SharedSocket::new(socket.as_fd(), version)
}

/// A prepared socket, which takes both versions if it is bound to `[::]`; `None` where the host has no IPv6.
fn server(bound: IpAddr) -> Option<UdpSocket> {
    let address = SocketAddr::new(bound, 0);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), None).ok()?;
    if bound.is_ipv6() {
        socket.set_only_v6(!bound.is_unspecified()).expect("IPV6_V6ONLY");
    }
    if socket.bind(&address.into()).is_err() {
        println!("skipped: {bound} is not here");
        return None;
    }
    let socket = UdpSocket::from(socket);
    shared(&socket).prepare_batches().expect("options");
    Some(socket)
}

fn client(server: &UdpSocket, asked: IpAddr) -> UdpSocket {
    let to = SocketAddr::new(asked, server.local_addr().expect("an address").port());
    let any: IpAddr = match asked {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let client = UdpSocket::bind((any, 0)).expect("a socket");
    client.connect(to).expect("connected");
    client
}
