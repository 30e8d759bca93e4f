use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vswitch_wire::{
    Icmpv4Error, Icmpv4Message, Icmpv4Packet, Icmpv6Error, Icmpv6Message, Icmpv6Packet, Ipv4Packet,
    Ipv6Packet,
};

use crate::{
    config::Timeouts,
    datagram::Counters,
    datagram_socket::{DatagramSocket, Service},
    mock::{SECOND, Side, now, wait_ready},
    payload::{Fragmentation, Packet},
    reassembly::{Assembly, Reassembly},
    report::IcmpError,
    sys::{Origin, QueuedError},
};

use super::*;

#[test]
fn i1_r_icmp_2_r_icmp_5_a_ping_is_answered_with_its_own_identifier() {
    for version in versions() {
        let mut test = Test::new(version);
        for (sequence, data) in [(3, b"payload".as_slice()), (4, b""), (5, &[9; 1400])] {
            assert_eq!(test.ping(sequence, data), None);
            assert_eq!(test.reply(), (7, sequence, data.to_vec()));
        }
        assert_eq!(
            (test.flow.activity().sent, test.flow.activity().received),
            (1407, 1407)
        );
        assert_eq!(test.flow.activity().state(), "ASSURED");
        assert!(!test.flow.activity().is_one_way);
        assert_eq!(test.side.counters, Counters::default());
    }
}

#[test]
fn r_icmp_5_the_largest_ping_comes_back_in_fragments() {
    for version in versions() {
        let mut test = Test::new(version);
        let data: Vec<u8> = (0..65_499).map(|index| (index / 256) as u8).collect();
        let headers = Headers {
            fragmentation: Fragmentation::Allowed,
            ..Headers::DEFAULT
        };
        assert_eq!(test.ping_with(1, &data, headers), None);
        let mut reassembly = Reassembly::new(1 << 20, &Timeouts::default());
        let mut whole = None;
        while whole.is_none() {
            test.wait();
            for frame in test.side.wire_frames() {
                assert!(frame.len() <= 14 + 1500);
                if let Assembly::Complete(packet) = reassembly.handle_packet(now(), 1, &frame[14..]) {
                    whole = Some(packet.body.to_vec());
                }
            }
        }
        let whole = whole.expect("a reply");
        assert_eq!(whole[IcmpHeader::LEN..], data);
        if version == IpVersion::V4 {
            assert!(Icmpv4Packet::parse(&whole).expect("ICMP").has_valid_checksum());
        }
    }
}

#[test]
fn r_icmp_2_each_flow_gets_its_own_replies() {
    for version in versions() {
        let mut tests = [Test::new(version), Test::new(version)];
        tests[1].side.path.container.set_port(8);
        for test in &mut tests {
            test.ping(1, b"x");
        }
        assert_eq!(tests[1].reply().0, 8);
        assert_eq!(tests[0].reply().0, 7);
        for test in &mut tests {
            test.handle_ready();
            assert!(test.side.link.frames.is_empty());
        }
    }
}

#[test]
fn r_icmp_2_a_flow_ends_after_a_minute() {
    for version in versions() {
        let test = Test::new(version);
        let deadline = test.flow.deadline(&Timeouts::default());
        assert_eq!(deadline, test.flow.activity().last + 60 * SECOND);
        assert_eq!(test.flow.target.port(), 0);
        assert_eq!(test.flow.activity().state(), "UNREPLIED");
    }
}

#[test]
fn r_icmp_4_r_udp_9_hops_are_those_of_the_container() {
    for version in versions() {
        let mut test = Test::new(version);
        let headers = Headers {
            hops: 9,
            ..Headers::DEFAULT
        };
        test.ping_with(1, b"x", headers);
        let socket = test.flow.socket.socket();
        let hops = match version {
            IpVersion::V4 => socket.ttl_v4(),
            IpVersion::V6 => socket.unicast_hops_v6(),
        };
        assert_eq!(hops.expect("hops"), 8);
    }
}

#[test]
fn r_icmp_1_without_the_right_to_ping_the_error_says_so() {
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    match EchoFlow::open(now(), target, &Source::default()) {
        Ok(_) => println!("skipped: this host lets us ping"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
    }
}

#[test]
fn r_icmp_3_only_echo_messages_of_the_right_kind_are_carried() {
    let side = Side::new("10.0.0.2:7", "203.0.113.5:7");
    let message = |kind| [kind, 0, 0, 0, 0, 9, 0, 3, 1, 2];
    for (kinds, kind, expected) in [
        (REPLY, 0, true),
        (REPLY, 8, false),
        (REQUEST, 8, true),
        (REQUEST, 3, false),
    ] {
        assert_eq!(restore(&mut message(kind), 7, kinds, &side.path), expected);
    }
    assert!(!restore(&mut [0; 7], 7, REPLY, &side.path), "cut");
    let mut reply = message(0);
    restore(&mut reply, 7, REPLY, &side.path);
    let packet = Icmpv4Packet::parse(&reply).expect("ICMP");
    assert!(packet.has_valid_checksum());
    let Icmpv4Message::EchoReply(echo) = packet.message() else {
        panic!("no reply");
    };
    assert_eq!((echo.id, echo.sequence, echo.data), (7, 3, [1, 2].as_slice()));
}

#[test]
fn r_icmp_4_an_error_quotes_the_containers_identifier() {
    let mut side = Side::new("10.0.0.2:7", "203.0.113.5:7");
    // As the error queue of a ping socket has it: from the ICMP header on, with the kernel's identifier.
    let mut message = [8, 0, 0xaa, 0xaa, 0x12, 0x67, 0, 3, b'h', b'i'];
    let error = QueuedError {
        errno: libc::EHOSTUNREACH,
        origin: Origin::Icmp,
        kind: 11,
        code: 0,
        info: 0,
        destination: None,
        offender: Some(Ipv4Addr::new(198, 51, 100, 1).into()),
        len: message.len(),
    };
    let explained = errors::explain(&error, IpVersion::V4).expect("an error");
    assert_eq!(explained, IcmpError::V4(Icmpv4Error::HOPS_EXCEEDED));
    seal(&mut message, 0);
    let ends = ["192.0.2.9", "203.0.113.5"].map(|address| address.parse().expect("an address"));
    assert!(take_back(&mut message, ends.into(), &side.path));
    let from = errors::reporter(
        &error,
        "203.0.113.5:0".parse().expect("an address"),
        &side.path,
        side.gateway,
    );
    side.inbound().report(
        explained,
        from,
        &quote(&message, Headers::DEFAULT),
        &mut [0; 2000],
    );
    let frames = side.wire_frames();
    let packet = Ipv4Packet::parse(&frames[0][14..]).expect("IPv4");
    assert_eq!(packet.header().src().to_string(), "198.51.100.1");
    let Icmpv4Message::Error { quoted, .. } = Icmpv4Packet::parse(packet.payload()).expect("ICMP").message()
    else {
        panic!("no error");
    };
    let quoted = Packet::parse(quoted).expect("a packet").expect("whole");
    let request = quoted.echo_request().expect("valid").expect("a request");
    assert_eq!((request.echo.id, request.echo.sequence), (7, 3));
    assert_eq!(request.echo.data, b"hi");
}

#[test]
fn r_icmp_4_a_quote_of_eight_bytes_has_the_containers_checksum() {
    for (container, remote, ends) in [
        ("10.0.0.2:7", "203.0.113.5:7", ["192.0.2.9", "203.0.113.5"]),
        ("[fd00::2]:7", "[fd00::1]:7", ["2001:db8::9", "2001:db8::5"]),
    ] {
        let side = Side::new(container, remote);
        let [local, target] = ends.map(|address| address.parse::<IpAddr>().expect("an address"));
        let request = |id: u8, src, dst| {
            let (kind, pseudo_header) = match (src, dst) {
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    (128, checksum::pseudo_header_v6(src, dst, IpProtocol::ICMPV6, 13))
                }
                _ => (8, 0),
            };
            let mut message = [kind, 0, 0, 0, 0, id, 0, 3, b'h', b'e', b'l', b'l', b'o'];
            seal(&mut message, pseudo_header);
            message
        };
        let sent = request(7, side.path.container.ip(), side.path.remote.ip());
        let mut quoted = request(200, local, target);
        assert!(take_back(&mut quoted[..8], (local, target), &side.path));
        assert_eq!(quoted, sent);
        quoted[0] = 0;
        assert!(!take_back(&mut quoted, (local, target), &side.path), "no request");
        assert!(!take_back(&mut quoted[..7], (local, target), &side.path), "cut");
    }
}

#[test]
fn r_icmp_5_too_big_for_the_hosts_path_is_told() {
    for version in versions() {
        let mut test = Test::new(version);
        let mtu = test.flow.socket.path_mtu().expect("connected") as usize;
        if mtu > 60_000 {
            println!(
                "skipped: the MTU of the loopback device is {mtu}; set it to 1500 in a namespace of its own"
            );
            return;
        }
        assert_eq!(test.ping(1, &vec![1; mtu]), None);
        assert_eq!(test.side.counters.too_big, 1);
        let frames = test.side.wire_frames();
        match version {
            IpVersion::V4 => {
                let packet = Ipv4Packet::parse(&frames[0][14..]).expect("IPv4");
                let message = Icmpv4Packet::parse(packet.payload()).expect("ICMP").message();
                let told = Icmpv4Error::FragmentationNeeded { mtu: mtu as u16 };
                assert!(matches!(message, Icmpv4Message::Error { error, .. } if error == told));
            }
            IpVersion::V6 => {
                let packet = Ipv6Packet::parse(&frames[0][14..]).expect("IPv6");
                let message = Icmpv6Packet::parse(packet.payload()).expect("ICMPv6").message();
                let told = Icmpv6Error::PacketTooBig { mtu: mtu as u32 };
                assert!(matches!(message, Icmpv6Message::Error { error, .. } if error == told));
            }
        }
        assert_eq!(test.ping(2, b"small"), None);
        assert_eq!(test.reply().1, 2);
    }
}

#[test]
fn r_icmp_4_an_unreachable_host_is_told() {
    for version in versions() {
        let target: IpAddr = match version {
            IpVersion::V4 => Ipv4Addr::new(203, 0, 113, 77).into(),
            IpVersion::V6 => "2001:db8::77".parse().expect("an address"),
        };
        match EchoFlow::open(now(), SocketAddr::new(target, 9), &Source::default()) {
            Ok(_) => println!("skipped: this host has a route to {target}"),
            Err(error) => assert_eq!(errors::refusal(&error), Some(Refusal::NoRoute)),
        }
    }
}

#[test]
fn a_flow_is_a_few_hundred_bytes() {
    assert!(size_of::<EchoFlow>() <= 400, "{}", size_of::<EchoFlow>());
}

/// A flow to the loopback address, whose container knows it as another and has identifier 7.
struct Test {
    flow: EchoFlow,
    side: Side,
    scratch: Scratch,
}

impl Test {
    fn new(version: IpVersion) -> Self {
        let (target, container, remote): (IpAddr, _, _) = match version {
            IpVersion::V4 => (Ipv4Addr::LOCALHOST.into(), "10.0.0.2:7", "203.0.113.5:7"),
            IpVersion::V6 => (Ipv6Addr::LOCALHOST.into(), "[fd00::2]:7", "[2001:db8::5]:7"),
        };
        let flow = EchoFlow::open(now(), SocketAddr::new(target, 7), &Source::default());
        Self {
            flow: flow.expect("a ping socket"),
            side: Side::new(container, remote),
            scratch: Scratch::new(),
        }
    }

    fn ping(&mut self, sequence: u16, data: &[u8]) -> Option<Refusal> {
        self.ping_with(sequence, data, Headers::DEFAULT)
    }

    fn ping_with(&mut self, sequence: u16, data: &[u8], headers: Headers) -> Option<Refusal> {
        let request = EchoRequest {
            echo: Echo {
                id: 7,
                sequence,
                data,
            },
            headers,
        };
        let mut inbound = self.side.inbound();
        self.flow
            .handle_request(now(), &request, &mut inbound, &mut self.scratch)
    }

    fn wait(&mut self) {
        wait_ready(&self.flow);
        self.handle_ready();
    }

    fn handle_ready(&mut self) {
        let mut inbound = self.side.inbound();
        let progress = self.flow.handle_ready(now(), &mut inbound, &mut self.scratch);
        assert_eq!(progress, Progress::Drained);
    }

    /// The next reply that reaches the container: identifier, sequence number and data.
    fn reply(&mut self) -> (u16, u16, Vec<u8>) {
        while self.side.link.frames.is_empty() {
            self.wait();
        }
        let frames = self.side.wire_frames();
        let [frame] = &frames[..] else {
            panic!("{} frames", frames.len());
        };
        let echo = match self.side.path.remote.ip() {
            IpAddr::V4(remote) => {
                let packet = Ipv4Packet::parse(&frame[14..]).expect("IPv4");
                assert_eq!(packet.header().src(), remote);
                let message = Icmpv4Packet::parse(packet.payload()).expect("ICMP");
                assert!(message.has_valid_checksum());
                match message.message() {
                    Icmpv4Message::EchoReply(echo) => echo,
                    other => panic!("no reply: {other:?}"),
                }
            }
            IpAddr::V6(remote) => {
                let packet = Ipv6Packet::parse(&frame[14..]).expect("IPv6");
                assert_eq!(packet.header().src(), remote);
                let message = Icmpv6Packet::parse(packet.payload()).expect("ICMPv6");
                assert!(message.has_valid_checksum(remote, packet.header().dst()));
                match message.message() {
                    Icmpv6Message::EchoReply(echo) => echo,
                    other => panic!("no reply: {other:?}"),
                }
            }
        };
        (echo.id, echo.sequence, echo.data.to_vec())
    }
}

/// Fills in the checksum.
fn seal(message: &mut [u8], pseudo_header: u32) {
    message[2..4].fill(0);
    let checksum = checksum::finish(pseudo_header + checksum::sum(message));
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
}

/// The versions over which this host lets us ping.
fn versions() -> Vec<IpVersion> {
    let both = [
        (IpVersion::V4, IpAddr::from(Ipv4Addr::LOCALHOST)),
        (IpVersion::V6, Ipv6Addr::LOCALHOST.into()),
    ];
    let may_ping = |&(version, address): &(IpVersion, IpAddr)| {
        let bound = std::net::UdpSocket::bind((address, 0)).map(drop);
        match bound.and_then(|()| DatagramSocket::new(Service::Echo, version)) {
            Ok(_) => true,
            Err(error) => {
                println!("skipped: no ping over {version:?} (net.ipv4.ping_group_range): {error}");
                false
            }
        }
    };
    both.into_iter()
        .filter(may_ping)
        .map(|(version, _)| version)
        .collect()
}
