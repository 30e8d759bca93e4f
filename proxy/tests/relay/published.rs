//! Published TCP ports (R-IN) with real listeners on the host's loopback. Their clients are local, so the container
//! sees the gateway; clients elsewhere need namespaces and are in the integration tests.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use vswitch_proxy::{
    config::{Descriptors, Limits},
    listing::Protocol,
    publish::{
        Backend, Bound, Connections, Listener, Local, MappingId, MappingSpec, NamespaceSockets,
        ProxyProtocol, Rules,
    },
};
use vswitch_testkit::frames::mac;
use vswitch_wire::TcpFlags;

use crate::{
    segment::Segment,
    site::{CONTAINER, ENDPOINT, GATEWAY, Site, segment_of},
};

const ID: MappingId = MappingId(7);
const ISN: u32 = 9000;

/// A site with one published port, and the address of that.
fn published(rules: Rules) -> (Site, SocketAddr) {
    published_within(rules, |_| {})
}

fn published_within(rules: Rules, change: impl FnOnce(&mut Limits)) -> (Site, SocketAddr) {
    let mut site = Site::with_limits(change);
    let (listener, address) = listener(80);
    site.publish(spec(rules), vec![listener]).expect("published");
    (site, address)
}

fn spec(rules: Rules) -> MappingSpec {
    MappingSpec {
        id: ID,
        protocol: Protocol::Tcp,
        backend: Backend {
            endpoint: ENDPOINT,
            station: mac(2),
            v4: Some(CONTAINER),
            v6: None,
            routed_v4: true,
            routed_v6: false,
            on_link: Arc::new([]),
            sockets: None,
        },
        rules,
    }
}

fn listener(container_port: u16) -> (Listener, SocketAddr) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = socket.local_addr().expect("its address");
    let listener = Listener {
        socket: socket.into(),
        bound: Bound {
            address,
            dual_stack: false,
        },
        container_port,
    };
    (listener, address)
}

fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the kernel accepts");
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).expect("a timeout");
    stream
}

/// A client with an address and port that others may use to other servers.
fn client_from(own: &socket2::SockAddr, address: SocketAddr) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    socket.bind(own).expect("free towards this server");
    socket.connect(&address.into()).expect("the kernel accepts");
    socket
}

/// The ports and numbers of the SYN that the container gets next.
fn syn(site: &mut Site) -> ((Ipv4Addr, u16), u32) {
    site.wait();
    let frames = site.frames();
    let [frame] = &frames[..] else {
        panic!("not one SYN: {}", frames.len())
    };
    let segment = segment_of(frame);
    let header = segment.header();
    assert_eq!((header.flags(), header.dst_port()), (TcpFlags::SYN, 80));
    ((GATEWAY, header.src_port()), header.sequence())
}

/// The container's port is the segment's source.
fn answer(site: &mut Site, to: (Ipv4Addr, u16), segment: Segment) {
    site.sends_from(80, to, &[segment]);
}

fn syn_ack(ours: u32) -> Segment {
    Segment {
        ack: vswitch_proxy::seq::SeqNum(ours.wrapping_add(1)),
        ..Segment::syn(ISN, 1460)
    }
    .flags(TcpFlags::SYN | TcpFlags::ACK)
}

/// A client whose connection the container has taken: where it comes from, and the number of its first byte.
fn connected(site: &mut Site, address: SocketAddr) -> (TcpStream, (Ipv4Addr, u16), u32) {
    let stream = client(address);
    let (from, ours) = syn(site);
    answer(site, from, syn_ack(ours));
    assert_eq!(
        site.out(),
        [format!("A {} ack {}", ours.wrapping_add(1), ISN + 1)]
    );
    (stream, from, ours.wrapping_add(1))
}

fn counter(site: &Site, name: &str) -> u64 {
    let view = site.relay.mappings().next().expect("a mapping");
    let found = view.counters.iter().find(|(counter, _)| *counter == name);
    found.expect("such a counter").1
}

fn active(site: &Site) -> u32 {
    site.relay.mappings().next().expect("a mapping").active
}

/// What a client reads who is turned away or reset.
fn is_reset(stream: &mut TcpStream) -> bool {
    let outcome = stream.read(&mut [0; 16]);
    outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn r_in_1_a_client_on_this_host_is_the_gateway_with_the_clients_port() {
    let (mut site, address) = published(Rules::default());
    let stream = client(address);
    let (from, _) = syn(&mut site);
    let port = stream.local_addr().expect("an address").port();
    assert_eq!(from, (GATEWAY, port));
    assert_eq!((active(&site), counter(&site, "accepted")), (1, 1));
}

#[test]
fn r_in_1_clients_with_one_address_and_port_get_different_ones() {
    let mut site = Site::new();
    let (first, to_first) = listener(80);
    let (second, to_second) = listener(80);
    site.publish(spec(Rules::default()), vec![first, second])
        .expect("published");
    let one = client_from(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(), to_first);
    let own = one
        .local_addr()
        .expect("an address")
        .as_socket()
        .expect("an IP address");
    let (from_one, _) = syn(&mut site);
    // The same port again, to the other listener.
    let _two = client_from(&own.into(), to_second);
    let (from_two, _) = syn(&mut site);
    assert_eq!(from_one, (GATEWAY, own.port()));
    assert!(from_two != from_one && from_two.1 >= 1024, "{from_two:?}");
}

#[test]
fn r_in_2_the_container_refuses_and_the_client_is_reset() {
    let (mut site, address) = published(Rules::default());
    let mut stream = client(address);
    let (from, ours) = syn(&mut site);
    let refusal = Segment::ack(0, ours.wrapping_add(1)).flags(TcpFlags::RST | TcpFlags::ACK);
    answer(&mut site, from, refusal);
    assert!(is_reset(&mut stream));
    drop(stream);
    assert_eq!((active(&site), counter(&site, "failed")), (0, 1));
}

#[test]
fn r_in_2_a_silent_container_is_given_up_after_two_minutes() {
    let (mut site, address) = published(Rules::default());
    let mut stream = client(address);
    syn(&mut site);
    for _ in 0..150 {
        site.runs(Duration::from_secs(1));
    }
    assert!(is_reset(&mut stream));
    drop(stream);
    assert_eq!((site.relay.len(), counter(&site, "failed")), (0, 1));
}

#[test]
fn r_in_3_both_directions_and_both_ends_pass() {
    let (mut site, address) = published(Rules::default());
    let (mut stream, from, ours) = connected(&mut site, address);
    // The server speaks first.
    let hello = Segment::ack(ISN + 1, ours).payload(b"220 ready");
    answer(&mut site, from, hello);
    let mut line = [0; 9];
    stream.read_exact(&mut line).expect("the greeting");
    assert_eq!(&line, b"220 ready");
    stream.write_all(b"QUIT").expect("connected");
    site.out();
    assert_eq!(site.answered(), [format!("PA {ours} ack {}", ISN + 10)]);
    let last = Segment::ack(ISN + 10, ours.wrapping_add(4)).fin();
    answer(&mut site, from, last);
    assert_eq!(stream.read(&mut line).expect("the end"), 0);
    site.out();
    drop(stream);
    assert_eq!(
        site.answered(),
        [format!("FA {} ack {}", ours.wrapping_add(4), ISN + 11)]
    );
    answer(&mut site, from, Segment::ack(ISN + 11, ours.wrapping_add(5)));
    assert_eq!((site.relay.len(), active(&site)), (0, 0));
}

#[test]
fn r_in_4_what_comes_early_waits_for_the_container() {
    let (mut site, address) = published(Rules::default());
    let mut stream = client(address);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("connected");
    let (from, ours) = syn(&mut site);
    answer(&mut site, from, syn_ack(ours));
    let first = ours.wrapping_add(1);
    assert_eq!(
        site.out(),
        [
            format!("A {first} ack {}", ISN + 1),
            format!("PA {first} ack {}", ISN + 1)
        ]
    );
}

#[test]
fn r_in_5_more_clients_than_allowed_at_a_time_are_reset() {
    let rules = Rules {
        max_connections: Some(1),
        ..Rules::default()
    };
    let (mut site, address) = published(rules);
    let (first, from, ours) = connected(&mut site, address);
    let mut second = client(address);
    site.waits_until(|site| counter(site, "refused_connections") == 1);
    assert!(is_reset(&mut second));
    drop(first);
    site.waits_until(|site| !site.sent.is_empty());
    answer(&mut site, from, Segment::ack(ISN + 1, ours.wrapping_add(1)).fin());
    site.frames();
    connected(&mut site, address);
}

#[test]
fn r_in_5_more_clients_a_second_than_allowed_are_reset() {
    let rules = Rules {
        connections_per_second: Some(2),
        ..Rules::default()
    };
    let (mut site, address) = published(rules);
    let mut streams: Vec<TcpStream> = (0..5).map(|_| client(address)).collect();
    site.waits_until(|site| counter(site, "refused_rate") == 3);
    assert_eq!(counter(&site, "accepted"), 2);
    assert_eq!(
        streams
            .iter_mut()
            .skip(2)
            .filter_map(|stream| is_reset(stream).then_some(()))
            .count(),
        3
    );
    site.frames();
    site.runs(Duration::from_secs(1));
    site.frames();
    let _third = client(address);
    syn(&mut site);
}

#[test]
fn r_in_5_strangers_are_reset() {
    let rules = Rules {
        allow: vec!["192.0.2.0/24".parse().expect("a prefix")],
        ..Rules::default()
    };
    let (mut site, address) = published(rules);
    let mut stream = client(address);
    site.waits_until(|site| counter(site, "refused_allow") == 1);
    assert!(is_reset(&mut stream) && site.relay.is_empty());
}

#[test]
fn r_in_5_a_full_table_turns_clients_away_at_once() {
    let (mut site, address) = published_within(Rules::default(), |limits| limits.flows_per_endpoint = 1);
    let _first = connected(&mut site, address);
    let mut second = client(address);
    site.waits_until(|site| counter(site, "refused_limit") == 1);
    assert!(is_reset(&mut second));
}

#[test]
fn r_in_5_a_container_that_never_answers_holds_so_many_clients() {
    let (mut site, address) = published_within(Rules::default(), |limits| limits.initiating_per_endpoint = 3);
    let streams: Vec<TcpStream> = (0..5).map(|_| client(address)).collect();
    site.waits_until(|site| counter(site, "refused_limit") == 2);
    assert_eq!((site.relay.len(), active(&site)), (3, 3));
    drop(streams);
}

#[test]
fn r_in_5_clients_leave_their_container_some_flows_of_its_own() {
    let (mut site, address) = published_within(Rules::default(), |limits| limits.clients_per_endpoint = 1);
    let _first = connected(&mut site, address);
    let mut second = client(address);
    site.waits_until(|site| counter(site, "refused_limit") == 1);
    assert!(is_reset(&mut second));
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let port = server.local_addr().expect("its address").port();
    site.connects((GATEWAY, port), 1000);
}

#[test]
fn r_lim_2_without_descriptors_clients_are_turned_away_and_others_go_on() {
    let (mut site, address) = published_within(Rules::default(), |limits| {
        // One for the listener, one for a client.
        limits.descriptors = Arc::new(Descriptors::new(2));
    });
    let (mut first, from, ours) = connected(&mut site, address);
    let mut second = client(address);
    site.waits_until(|site| counter(site, "refused_limit") == 1);
    assert!(is_reset(&mut second));
    answer(
        &mut site,
        from,
        Segment::ack(ISN + 1, ours).payload(b"still here"),
    );
    let mut line = [0; 10];
    first.read_exact(&mut line).expect("it goes on");
}

#[test]
fn r_lim_2_more_listeners_than_descriptors_are_not_published_at_all() {
    let mut site = Site::with_limits(|limits| limits.descriptors = Arc::new(Descriptors::new(2)));
    let listeners: Vec<_> = (0..3).map(|_| listener(80)).collect();
    let addresses: Vec<_> = listeners.iter().map(|(_, address)| *address).collect();
    let listeners = listeners.into_iter().map(|(listener, _)| listener).collect();
    let error = site
        .publish(spec(Rules::default()), listeners)
        .expect_err("one too many");
    assert!(error.to_string().contains("ulimit"), "{error}");
    assert_eq!(site.relay.mappings().count(), 0);
    for address in addresses {
        TcpStream::connect(address).expect_err("nobody listens");
    }
}

#[test]
fn r_in_7_a_port_that_is_taken_back_is_closed_and_its_connections_go_on_if_wanted() {
    for (connections, left) in [(Connections::Keep, 1), (Connections::End, 0)] {
        let (mut site, address) = published(Rules::default());
        let (mut stream, from, ours) = connected(&mut site, address);
        let listeners = site.unpublish(ID, connections).expect("it was published");
        assert_eq!((listeners.len(), listeners[0].container_port), (1, 80));
        drop(listeners);
        TcpStream::connect(address).expect_err("nobody listens");
        assert_eq!((site.relay.len(), site.relay.mappings().count()), (left, 0));
        match connections {
            Connections::End => {
                assert_eq!(site.out(), [format!("RA {ours} ack {}", ISN + 1)]);
                assert!(is_reset(&mut stream));
            }
            Connections::Keep => {
                answer(&mut site, from, Segment::ack(ISN + 1, ours).payload(b"on"));
                stream.read_exact(&mut [0; 2]).expect("it goes on");
            }
        }
        assert!(site.unpublish(ID, connections).is_none());
    }
}

#[test]
fn r_in_7_listeners_serve_again_where_they_are_published_next() {
    let (mut site, address) = published(Rules::default());
    let (_stream, ..) = connected(&mut site, address);
    let listeners = site.unpublish(ID, Connections::Keep).expect("it was published");
    let _waiting = client(address);
    site.publish(spec(Rules::default()), listeners)
        .expect("published");
    assert_eq!(active(&site), 1, "what went on counts");
    syn(&mut site);
    assert_eq!(active(&site), 2);
}

#[test]
fn r_tm_3_a_container_that_goes_takes_its_ports_along() {
    let (mut site, address) = published(Rules::default());
    let (mut stream, ..) = connected(&mut site, address);
    site.remove_endpoint();
    assert!(is_reset(&mut stream));
    TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!((site.relay.len(), site.relay.mappings().count()), (0, 0));
}

#[test]
fn a_header_tells_the_container_who_comes() {
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let rules = Rules {
            proxy_protocol: Some(version),
            ..Rules::default()
        };
        let (mut site, address) = published(rules);
        let mut stream = client(address);
        let own = stream.local_addr().expect("an address");
        let (from, ours) = syn(&mut site);
        stream.write_all(b"hello").expect("connected");
        answer(&mut site, from, syn_ack(ours));
        let first = ours.wrapping_add(1);
        let header: Vec<u8> = match version {
            ProxyProtocol::V1 => {
                let line = format!(
                    "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
                    own.port(),
                    address.port()
                );
                line.into_bytes()
            }
            ProxyProtocol::V2 => {
                let mut header =
                    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01".to_vec();
                header.extend(own.port().to_be_bytes());
                header.extend(address.port().to_be_bytes());
                header
            }
        };
        let mut stream_bytes = received(&mut site, first);
        while stream_bytes.len() < header.len() + 5 {
            site.wait();
            stream_bytes.extend(received(&mut site, first).split_off(0));
        }
        assert_eq!(stream_bytes, [&header[..], b"hello"].concat());
        // A retransmission has both again.
        site.runs(Duration::from_secs(2));
        let again = received(&mut site, first);
        assert_eq!(again, stream_bytes[..again.len()]);
        assert!(!again.is_empty());
        // What is acknowledged of it is not sent again.
        let half = header.len() as u32 / 2;
        answer(&mut site, from, Segment::ack(ISN + 1, first.wrapping_add(half)));
        site.frames();
        site.runs(Duration::from_secs(60));
        let again = received(&mut site, first.wrapping_add(half));
        assert_eq!(again, stream_bytes[half as usize..][..again.len()]);
        answer(
            &mut site,
            from,
            Segment::ack(ISN + 1, first.wrapping_add(header.len() as u32 + 5)),
        );
        site.frames();
        stream.write_all(b"more").expect("connected");
        site.wait();
        let more = received(&mut site, first.wrapping_add(header.len() as u32 + 5));
        assert_eq!(more, b"more");
    }
}

/// The bytes that the container gets from `first` on.
fn received(site: &mut Site, first: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in site.frames() {
        let segment = segment_of(&frame);
        let at = segment.header().sequence().wrapping_sub(first) as usize;
        if !segment.payload().is_empty() && at >= bytes.len() {
            bytes.extend_from_slice(segment.payload());
        }
    }
    bytes
}

/// A port that is published as if at all addresses, and the number of it.
fn published_everywhere(rules: Rules, sockets: Option<NamespaceSockets>) -> (Site, u16) {
    let (mut listener, published) = listener(80);
    listener.bound.address.set_ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut spec = spec(rules);
    spec.backend.sockets = sockets.map(Arc::new);
    let mut site = Site::new();
    site.publish(spec, vec![listener]).expect("published");
    (site, published.port())
}

#[test]
fn r_in_7_a_container_that_calls_a_published_port_is_never_a_process_of_the_host() {
    // There is a socket, but not for it (CVE-2021-20199).
    let socket = socket2::Socket::new(
        socket2::Domain::IPV4,
        socket2::Type::STREAM.nonblocking().cloexec(),
        None,
    );
    let sockets = NamespaceSockets::new(plenty(), || {});
    let kind = vswitch_proxy::publish::SocketKind::TcpV4;
    sockets.put(kind, vec![socket.expect("a socket").into()]);
    let (mut site, port) = published_everywhere(Rules::default(), Some(sockets));
    site.sends((GATEWAY, port), &[Segment::syn(1000, 1460)]);
    // The caller's SYN+ACK, and the SYN to itself, from its gateway.
    site.waits_until(|site| site.sent.len() == 2);
    assert_eq!((counter(&site, "accepted"), active(&site)), (1, 1));
    let states: Vec<_> = site
        .relay
        .flows(site.clock.now())
        .map(|flow| flow.state)
        .collect();
    assert!(!states.contains(&"SPLICED"), "{states:?}");
}

#[test]
fn r_in_7_a_mappings_rules_know_the_container_that_calls() {
    let allowed = |prefix: &str| Rules {
        allow: vec![prefix.parse().expect("a prefix")],
        ..Rules::default()
    };
    for (rules, accepted) in [(allowed("10.0.0.2/32"), 1), (allowed("127.0.0.0/8"), 0)] {
        let (mut site, port) = published_everywhere(rules, None);
        site.sends((GATEWAY, port), &[Segment::syn(1000, 1460)]);
        site.waits_until(|site| counter(site, "accepted") + counter(site, "refused_allow") == 1);
        assert_eq!(counter(&site, "accepted"), accepted);
    }
    let rules = Rules {
        proxy_protocol: Some(ProxyProtocol::V1),
        ..Rules::default()
    };
    let (mut site, port) = published_everywhere(rules, None);
    site.sends((GATEWAY, port), &[Segment::syn(1000, 1460)]);
    site.waits_until(|site| site.sent.len() == 2);
    let frames = site.frames();
    let syn = frames
        .iter()
        .map(|frame| segment_of(frame))
        .find(|segment| segment.header().flags() == TcpFlags::SYN)
        .expect("a SYN to the server");
    let (from, ours) = (syn.header().src_port(), syn.header().sequence());
    answer(&mut site, (GATEWAY, from), syn_ack(ours));
    let header = received(&mut site, ours.wrapping_add(1));
    assert!(header.starts_with(b"PROXY TCP4 10.0.0.2 "), "{header:?}");
}

#[test]
fn local_clients_of_a_mapping_may_be_relayed() {
    let rules = Rules {
        local: Local::Relay,
        ..Rules::default()
    };
    let (mut site, address) = published(rules);
    connected(&mut site, address);
}

fn plenty() -> Arc<Descriptors> {
    Arc::new(Descriptors::new(100))
}

/// A server in "the container's namespace", which is the test's own, and a port published for it with sockets at
/// hand.
fn spliced(count: usize) -> (Site, SocketAddr, TcpListener) {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a server");
    let port = server.local_addr().expect("its address").port();
    let sockets = NamespaceSockets::new(plenty(), || {});
    let made = (0..count).map(|_| {
        let kind = socket2::Type::STREAM.nonblocking().cloexec();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None);
        socket.expect("a socket").into()
    });
    sockets.put(vswitch_proxy::publish::SocketKind::TcpV4, made.collect());
    let mut spec = spec(Rules::default());
    spec.backend.v4 = Some(Ipv4Addr::LOCALHOST);
    spec.backend.sockets = Some(Arc::new(sockets));
    let (listener, address) = listener(port);
    let mut site = Site::new();
    site.publish(spec, vec![listener]).expect("published");
    (site, address, server)
}

fn accept(server: &TcpListener) -> TcpStream {
    crate::site::accept(server)
}

#[test]
fn r_cl_1_clients_on_this_host_are_brought_socket_to_socket() {
    let (mut site, address, server) = spliced(1);
    let mut stream = client(address);
    stream.write_all(b"question").expect("connected");
    stream.shutdown(std::net::Shutdown::Write).expect("connected");
    site.waits_until(|site| active(site) == 1);
    let mut served = accept(&server);
    let mut question = String::new();
    site.waits_until(|site| site.relay.flows(site.clock.now()).any(|flow| flow.received == 8));
    served
        .read_to_string(&mut question)
        .expect("the end of the question");
    assert_eq!(question, "question");
    let views: Vec<_> = site.relay.flows(site.clock.now()).collect();
    assert_eq!((views.len(), views[0].state), (1, "SPLICED"));
    assert_eq!(Some(views[0].remote), stream.local_addr().ok());
    served.write_all(b"answer").expect("half closed only");
    drop(served);
    site.waits_until(|site| active(site) == 0);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the end of the answer");
    assert_eq!(answer, "answer");
    assert_eq!((counter(&site, "accepted"), counter(&site, "failed")), (1, 0));
    assert!(site.frames().is_empty(), "no frame was needed");
}

#[test]
fn r_in_2_what_nobody_in_the_namespace_listens_on_resets_the_client() {
    let (mut site, address, server) = spliced(1);
    drop(server);
    let mut stream = client(address);
    site.waits_until(|site| counter(site, "failed") == 1);
    assert!(is_reset(&mut stream));
}

#[test]
fn r_in_7_spliced_connections_end_with_their_mapping_if_wanted() {
    for connections in [Connections::Keep, Connections::End] {
        let (mut site, address, server) = spliced(1);
        let mut stream = client(address);
        site.waits_until(|site| active(site) == 1);
        let mut served = accept(&server);
        drop(site.unpublish(ID, connections));
        match connections {
            Connections::End => assert!(is_reset(&mut stream) && is_reset(&mut served)),
            Connections::Keep => {
                served.write_all(b"on").expect("it goes on");
                site.waits_until(|site| site.relay.flows(site.clock.now()).any(|flow| flow.sent == 2));
                stream.read_exact(&mut [0; 2]).expect("it goes on");
                site.remove_endpoint();
                assert!(is_reset(&mut stream));
            }
        }
    }
}

#[test]
fn without_sockets_clients_on_this_host_are_relayed() {
    let (mut site, address, _server) = spliced(0);
    let _stream = client(address);
    site.waits_until(|site| !site.sent.is_empty());
    let frames = site.frames();
    assert_eq!(frames.len(), 1, "a SYN from the gateway");
}
