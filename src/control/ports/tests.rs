//! On addresses of 127.0.0.0/8 that nobody else has, so that all ports are free there.

use std::{
    io::Read,
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
};

use socket2::SockRef;

use super::*;

fn request(text: &str) -> PortRequest {
    text.parse().expect("it is what -p takes")
}

fn publish(ports: &mut HostPorts, texts: &[&str]) -> Result<Vec<Taken>, String> {
    let requests: Vec<_> = texts.iter().map(|text| request(text)).collect();
    ports.publish(&requests).map_err(|error| error.to_string())
}

fn one(ports: &mut HostPorts, text: &str) -> Taken {
    let mut taken = publish(ports, &[text]).expect(text);
    assert_eq!(taken.len(), 1, "{text}");
    taken.remove(0)
}

/// What the mapping says, without its address.
fn numbers(taken: &Taken) -> (u16, u16, u16) {
    let mapping = &taken.mapping;
    (mapping.host_port, mapping.container_port, mapping.count)
}

fn reaches(ip: &str, port: u16) -> bool {
    TcpStream::connect((ip, port)).is_ok()
}

#[test]
fn p2_without_an_address_one_socket_serves_both_families() {
    let mut ports = HostPorts::default();
    let taken = one(&mut ports, "80");
    let port = taken.mapping.host_port;
    assert_eq!(taken.listeners.len(), 1);
    assert_eq!(taken.mapping.host_ip, None);
    let bound = taken.listeners[0].bound;
    assert_eq!(bound.address.port(), port);
    assert!(reaches("127.0.0.1", port));
    if bound.dual_stack {
        assert!(reaches("::1", port));
    } else {
        assert!(bound.address.is_ipv4(), "the host has no IPv6");
    }
    drop(taken);
    assert!(!reaches("127.0.0.1", port), "it closes with its listener");
}

#[test]
fn p2_one_family_is_one_family() {
    let mut ports = HostPorts::default();
    let v4 = one(&mut ports, "0.0.0.0::80");
    assert!(reaches("127.0.0.1", v4.mapping.host_port));
    assert!(!reaches("::1", v4.mapping.host_port));
    let Ok(v6) = ports.publish(&[request("[::]::80")]) else {
        eprintln!("skipped: the host has no IPv6");
        return;
    };
    assert!(reaches("::1", v6[0].mapping.host_port));
    assert!(!reaches("127.0.0.1", v6[0].mapping.host_port));
}

#[test]
fn p3_free_ports_follow_each_other() {
    let mut ports = HostPorts::default();
    let first = one(&mut ports, "127.77.3.1::80");
    let others = publish(&mut ports, &["127.77.3.1::90-93"]).expect("there are free ones");
    let count: u16 = others.iter().map(|taken| taken.mapping.count).sum();
    assert_eq!(count, 4);
    assert!(others[0].mapping.host_port > first.mapping.host_port || first.mapping.host_port == u16::MAX);
    let listeners: Vec<_> = others.iter().flat_map(|taken| &taken.listeners).collect();
    let containers: Vec<u16> = listeners.iter().map(|listener| listener.container_port).collect();
    assert_eq!(containers, [90, 91, 92, 93]);
}

#[test]
fn p1_ranges_pair_up_and_one_container_port_takes_the_lowest_free() {
    let mut ports = HostPorts::default();
    let range = one(&mut ports, "127.77.1.1:8000-8002:90-92");
    assert_eq!(numbers(&range), (8000, 90, 3));
    let bound: Vec<_> = range
        .listeners
        .iter()
        .map(|listener| (listener.bound.address.port(), listener.container_port))
        .collect();
    assert_eq!(bound, [(8000, 90), (8001, 91), (8002, 92)]);
    assert_eq!(
        numbers(&one(&mut ports, "127.77.1.1:8000-8005:70")),
        (8003, 70, 1),
        "ours are passed over"
    );
    let foreign = TcpListener::bind("127.77.1.1:8004").expect("nobody has it");
    assert_eq!(
        numbers(&one(&mut ports, "127.77.1.1:8000-8005:70")),
        (8005, 70, 1),
        "others' are, too"
    );
    drop(foreign);
    one(&mut ports, "127.77.1.1:8004:70");
    let none = publish(&mut ports, &["127.77.1.1:8000-8005:70"]).map(|_| ());
    assert_eq!(none, Err("all ports are allocated".into()));
}

#[test]
fn p4_clashes_are_worded_as_docker_words_them() {
    let mut ports = HostPorts::default();
    let kept = one(&mut ports, "127.77.4.1:8081:80");
    let ours = publish(&mut ports, &["127.77.4.1:8081:81"]).map(|_| ());
    assert_eq!(
        ours,
        Err("Bind for 127.77.4.1:8081 failed: port is already allocated".into())
    );
    let foreign = TcpListener::bind("127.77.4.1:8082").expect("nobody has it");
    let theirs = publish(&mut ports, &["127.77.4.1:8080:80", "127.77.4.1:8082:81"]).map(|_| ());
    assert_eq!(
        theirs,
        Err("failed to bind host port 127.77.4.1:8082/tcp: address already in use".into())
    );
    assert!(!reaches("127.77.4.1", 8080), "nothing is half published");
    drop(foreign);
    let all = publish(&mut ports, &["127.77.4.1:8080:80", "127.77.4.1:8082:81"]).expect("all are free");
    assert_eq!(all.len(), 2);
    let twice = publish(&mut ports, &["127.77.4.1:9000:80", "127.77.4.1:9000:81"]).map(|_| ());
    assert!(twice.is_err(), "also within one command");
    ports.release(&kept.mapping);
    drop(kept);
    one(&mut ports, "127.77.4.1:8081:80");
}

#[test]
fn p4_a_port_of_another_process_is_named_for_udp_too() {
    let mut ports = HostPorts::default();
    let foreign = UdpSocket::bind("127.77.4.2:5353").expect("nobody has it");
    SockRef::from(&foreign)
        .set_reuse_address(true)
        .expect("it may be set");
    let refused = publish(&mut ports, &["127.77.4.2:5353:53/udp"]).map(|_| ());
    assert_eq!(
        refused,
        Err("failed to bind host port 127.77.4.2:5353/udp: address already in use".into())
    );
    one(&mut ports, "127.77.4.2:5353:53/tcp");
}

#[test]
fn p5_all_addresses_clash_with_one_but_two_ones_do_not() {
    let mut ports = HostPorts::default();
    let all = one(&mut ports, "80");
    let port = all.mapping.host_port;
    for (place, shown) in [
        ("127.77.5.1:", "127.77.5.1"),
        ("0.0.0.0:", "0.0.0.0"),
        ("[::1]:", "[::1]"),
        ("", "0.0.0.0"),
    ] {
        let clash = publish(&mut ports, &[&format!("{place}{port}:80")]).map(|_| ());
        let expected = format!("Bind for {shown}:{port} failed: port is already allocated");
        assert_eq!(clash, Err(expected), "{place}");
    }
    ports.release(&all.mapping);
    drop(all);
    let texts = ["127.77.5.1", "127.77.5.2"].map(|ip| format!("{ip}:{port}:80"));
    let two = publish(&mut ports, &[&texts[0], &texts[1]]).expect("they are different addresses");
    let clash = publish(&mut ports, &[&format!("{port}:80")]).map(|_| ());
    assert!(
        clash.is_err_and(|text| text.contains("already allocated")),
        "with either"
    );
    ports.release(&two[0].mapping);
    let clash = publish(&mut ports, &[&format!("{port}:80")]).map(|_| ());
    assert!(
        clash.is_err_and(|text| text.contains("already allocated")),
        "with the other"
    );
}

#[test]
fn p11_a_port_is_free_at_once_although_connections_linger() {
    let mut ports = HostPorts::default();
    let taken = one(&mut ports, "127.77.11.1:8080:80");
    let mut client = TcpStream::connect("127.77.11.1:8080").expect("it listens");
    let listener = TcpListener::from(taken.listeners[0].socket.try_clone().expect("a descriptor"));
    // Our side closes first, so TIME_WAIT is ours.
    drop(listener.accept().expect("it has come"));
    assert_eq!(client.read(&mut [0; 1]).expect("it ends properly"), 0);
    drop((client, listener));
    ports.release(&taken.mapping);
    let mapping = taken.mapping.clone();
    drop(taken);
    let again = ports.restore(&mapping).expect("nobody has it");
    assert_eq!(again.len(), 1);
}

#[test]
fn p18_what_the_kernel_refuses_says_what_to_do() {
    let address = "0.0.0.0:80".parse().expect("an address");
    let text = |errno| {
        let error = io::Error::from_raw_os_error(errno);
        PortError::bind(address, Transport::Tcp, error).to_string()
    };
    let privileged = text(libc::EACCES);
    for part in [
        "failed to bind host port 0.0.0.0:80/tcp: permission denied",
        "net.ipv4.ip_unprivileged_port_start is ",
        "sysctl net.ipv4.ip_unprivileged_port_start=80",
        "ListenStream=0.0.0.0:80",
    ] {
        assert!(privileged.contains(part), "{privileged}");
    }
    assert!(text(libc::EMFILE).contains("ulimit -Hn"));
    let mut ports = HostPorts::default();
    // TEST-NET-1 (RFC 5737).
    let elsewhere = publish(&mut ports, &["192.0.2.1:8080:80"])
        .map(|_| ())
        .expect_err("not ours");
    assert!(
        elsewhere.contains("cannot assign requested address: 192.0.2.1 is not"),
        "{elsewhere}"
    );
}

#[test]
fn requests_that_contradict_themselves_are_refused() {
    let happy = || request("8080:80/udp");
    check(vec![happy()]).expect("it is fine");
    let span = |first, last| PortRange { first, last };
    let refusal = |change: &dyn Fn(&mut PortRequest)| {
        let mut wrong = happy();
        change(&mut wrong);
        check(vec![happy(), wrong]).expect_err("it is wrong").to_string()
    };
    type Change<'a> = &'a dyn Fn(&mut PortRequest);
    let cases: [(Change<'_>, &str); 13] = [
        (
            &|wrong| wrong.container_ports = span(0, 0),
            "invalid containerPort: 0",
        ),
        (
            &|wrong| wrong.container_ports = span(9, 8),
            "invalid containerPort: 9-8",
        ),
        (
            &|wrong| wrong.host_ports = Some(span(0, 0)),
            "invalid hostPort: 0",
        ),
        (
            &|wrong| wrong.host_ports = Some(span(0, 7)),
            "invalid hostPort: 0-7",
        ),
        (
            &|wrong| wrong.host_ports = Some(span(9, 8)),
            "invalid hostPort: 9-8",
        ),
        (
            &|wrong| {
                wrong.container_ports = span(9000, 9001);
                wrong.host_ports = Some(span(8000, 8002));
            },
            "invalid ranges specified for container and host Ports: 9000-9001 and 8000-8002",
        ),
        (
            &|wrong| wrong.rules.proxy_protocol = Some(crate::model::ProxyProtocol::V2),
            "proxy-protocol is for tcp",
        ),
        (&|wrong| wrong.rules.max_connections = Some(0), "max-conns"),
        (
            &|wrong| wrong.host_ip = Some([224, 0, 0, 1].into()),
            "cannot publish on 224.0.0.1: it is a multicast address",
        ),
        (
            &|wrong| wrong.host_ip = Some("::ffff:255.255.255.255".parse().expect("an address")),
            "cannot publish on 255.255.255.255: it is the broadcast address",
        ),
        (
            &|wrong| wrong.host_ip = Some("ff02::1".parse().expect("an address")),
            "cannot publish on ff02::1: it is a multicast address",
        ),
        (
            &|wrong| wrong.host_ip = Some("fe80::1".parse().expect("an address")),
            "cannot publish on fe80::1: a link-local address needs its interface",
        ),
        (&|wrong| wrong.rules.connections_per_second = Some(0), "rate"),
    ];
    for (change, expected) in cases {
        let text = refusal(change);
        assert!(text.starts_with(expected), "{text}");
    }
}

#[test]
fn inherited_sockets_are_used_and_stay() {
    let tcp = TcpListener::bind("127.77.9.1:0").expect("a port");
    let udp = UdpSocket::bind("127.77.9.1:0").expect("a port");
    let (tcp_port, udp_port) = [tcp.local_addr(), udp.local_addr()]
        .map(|address| address.expect("it is bound").port())
        .into();
    let (other, _end) = std::os::unix::net::UnixDatagram::pair().expect("a pair");
    let inherited = InheritedSockets::new(vec![tcp.into(), other.into(), udp.into()]);
    let mut ports = HostPorts::new(inherited, Vec::new());
    let text = format!("127.77.9.1:{tcp_port}:80");
    let taken = one(&mut ports, &text);
    assert!(reaches("127.77.9.1", tcp_port));
    let clash = publish(&mut ports, &[&text]).map(|_| ());
    assert!(clash.is_err_and(|text| text.ends_with("port is already allocated")));
    ports.release(&taken.mapping);
    drop(taken);
    assert!(reaches("127.77.9.1", tcp_port), "it stays with the daemon");
    one(&mut ports, &text);
    one(&mut ports, &format!("127.77.9.1:{udp_port}:53/udp"));
    let not_inherited = publish(&mut ports, &[&format!("127.77.9.1:{udp_port}:53/tcp")]);
    assert!(not_inherited.is_ok(), "TCP and UDP are apart");
}

#[test]
fn an_inherited_half_gets_its_other_half() {
    let v4 = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = v4.local_addr().expect("it is bound").port();
    let mut ports = HostPorts::new(InheritedSockets::new(vec![v4.into()]), Vec::new());
    let taken = one(&mut ports, &format!("{port}:80"));
    let bound: Vec<_> = taken.listeners.iter().map(|listener| listener.bound).collect();
    assert!(bound[0].address.is_ipv4() && !bound[0].dual_stack, "{bound:?}");
    assert!(
        bound.len() == 1 || bound[1].address.is_ipv6() && !bound[1].dual_stack,
        "{bound:?}"
    );
    assert!(reaches("127.0.0.1", port));
}

#[test]
fn an_inherited_socket_of_both_families_is_enough() {
    let Ok(dual) = open(
        Transport::Tcp,
        "[::]:0".parse().expect("an address"),
        Versions::Both,
    ) else {
        eprintln!("skipped: the host has no IPv6");
        return;
    };
    let address = SockRef::from(&dual.as_fd()).local_addr().expect("it is bound");
    let port = address.as_socket().expect("it is of IP").port();
    let mut ports = HostPorts::new(InheritedSockets::new(vec![dual]), Vec::new());
    let taken = one(&mut ports, &format!("{port}:80"));
    assert_eq!(taken.listeners.len(), 1);
    assert!(taken.listeners[0].bound.dual_stack);
}

#[test]
fn whoever_was_queued_before_a_mapping_got_an_inherited_socket_does_not_reach_it() {
    let tcp = TcpListener::bind("127.77.9.3:0").expect("a port");
    let udp = UdpSocket::bind("127.77.9.3:0").expect("a port");
    let [to_tcp, to_udp] = [tcp.local_addr(), udp.local_addr()].map(|address| address.expect("it is bound"));
    let mut ports = HostPorts::new(InheritedSockets::new(vec![tcp.into(), udp.into()]), Vec::new());
    let mut queued = TcpStream::connect(to_tcp).expect("the kernel lets it in");
    let sender = UdpSocket::bind("127.77.9.4:0").expect("a port");
    sender.send_to(b"early", to_udp).expect("it is queued");
    let stream = one(&mut ports, &format!("{to_tcp}:80"));
    let datagrams = one(&mut ports, &format!("{to_udp}:53/udp"));
    let patience = std::time::Duration::from_secs(5);
    queued.set_read_timeout(Some(patience)).expect("it may be set");
    let reset = queued.read(&mut [0; 1]).expect_err("it is reset");
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    let _client = TcpStream::connect(to_tcp).expect("it listens");
    sender.send_to(b"late", to_udp).expect("it is queued");
    let listener = TcpListener::from(stream.listeners[0].socket.try_clone().expect("a descriptor"));
    listener.accept().expect("the later one is there");
    let again = listener.accept().expect_err("and nobody else");
    assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
    let socket = UdpSocket::from(datagrams.listeners[0].socket.try_clone().expect("a descriptor"));
    let mut bytes = [0; 16];
    assert_eq!(socket.recv(&mut bytes).expect("it is there"), 4);
}

#[test]
fn p18_a_socket_of_the_service_manager_in_the_way_is_named() {
    let one_address = TcpListener::bind("127.77.9.5:0").expect("a port");
    let port = one_address.local_addr().expect("it is bound").port();
    let mut ports = HostPorts::new(InheritedSockets::new(vec![one_address.into()]), Vec::new());
    let refused = publish(&mut ports, &[&format!("0.0.0.0:{port}:80")]).map(|_| ());
    assert_eq!(
        refused,
        Err(format!(
            "failed to bind host port 0.0.0.0:{port}/tcp: address already in use: systemd has opened 127.77.9.5:{port} \
             for this daemon: publish it as 127.77.9.5:{port}:80"
        ))
    );
    let any = "[::]:0".parse().expect("an address");
    let Ok(dual) = open(Transport::Tcp, any, Versions::Both) else {
        eprintln!("skipped: the host has no IPv6");
        return;
    };
    let address = SockRef::from(&dual.as_fd()).local_addr().expect("it is bound");
    let port = address.as_socket().expect("it is of IP").port();
    let mut ports = HostPorts::new(InheritedSockets::new(vec![dual]), Vec::new());
    for place in ["127.77.9.5", "[::1]", "[::]"] {
        let refused = publish(&mut ports, &[&format!("{place}:{port}:80")])
            .map(|_| ())
            .expect_err("it is taken");
        let advice = format!("systemd has opened [::]:{port} for this daemon: publish it as {port}:80");
        assert!(refused.ends_with(&advice), "{refused}");
    }
    one(&mut ports, &format!("{port}:80"));
}

#[test]
fn ports_that_are_roots_are_passed_over() {
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let start = start.map_or(0, |text| text.trim().parse().unwrap_or(0));
    let mut ports = HostPorts::default();
    if start < 2 || rustix::process::geteuid().is_root() {
        eprintln!("skipped: all ports are ours");
        return;
    }
    let (low, high) = (start - 1, start + 8);
    let taken = one(&mut ports, &format!("127.77.9.6:{low}-{high}:80"));
    assert_eq!(taken.mapping.host_port, start);
    let refused = publish(&mut ports, &[&format!("127.77.9.6:{}-{low}:80", low - 1)])
        .map(|_| ())
        .expect_err("they are root's");
    assert!(refused.contains("permission denied"), "{refused}");
}

#[test]
fn ipv4_is_written_as_ipv4() {
    let mut mapped =
        request("8080:80,allow=::ffff:10.1.2.0/120,allow=::ffff:0:0/96,allow=::/0,allow=2001:db8::/96");
    mapped.host_ip = Some("::ffff:127.0.0.1".parse().expect("an address"));
    let checked = check(vec![mapped]).expect("it is fine");
    assert_eq!(
        checked[0].to_string(),
        "127.0.0.1:8080:80/tcp,allow=10.1.2.0/24,0.0.0.0/0,::/0,2001:db8::/96"
    );
}
