use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Duration,
};

use vswitch_wire::{
    Icmpv4Error, Icmpv4Message, Icmpv4Packet, Icmpv6Error, Icmpv6Message, Icmpv6Packet, IpVersion,
    Ipv4Packet, Ipv6Packet, Offload,
};

use crate::{
    Delivery,
    config::Timeouts,
    datagram::{Counters, HEADROOM},
    drain::ERRORS_AT_ONCE,
    mock::{SECOND, Side, now, wait_ready},
    payload::{Fragmentation, Packet},
    reassembly::{Assembly, Reassembly},
    resolvers::Resolvers,
};

use super::*;

const CONTAINER: &str = "10.0.0.2:40000";
const REMOTE: &str = "203.0.113.5:80";

#[test]
fn r_udp_1_datagrams_go_both_ways_and_only_from_the_target() {
    for family in families() {
        let mut test = Test::new(family);
        assert_eq!(test.flow.activity().state(), "UNREPLIED");
        assert!(test.flow.activity().is_one_way);
        test.send(b"hello");
        let (payload, peer) = test.receive();
        assert_eq!(payload, b"hello");
        test.server.send_to(b"answer", peer).expect("send");
        let stranger = UdpSocket::bind((family, 0)).expect("a socket");
        stranger.send_to(b"stranger", peer).expect("send");
        assert_eq!(test.received_until(1), [b"answer"]);
        assert_eq!(
            test.flow.handle_ready_now(&mut test.side, &mut test.scratch),
            Progress::Drained
        );
        assert!(test.side.link.frames.is_empty());
        assert_eq!((test.flow.activity().sent, test.flow.activity().received), (5, 6));
        assert_eq!(test.flow.activity().state(), "ASSURED");
        assert_eq!(test.side.counters, Counters::default());
    }
}

#[test]
fn r_udp_2_what_was_queued_before_connect_is_nobodys() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let mut socket = DatagramSocket::new(Service::Udp, IpVersion::V4).expect("a socket");
    socket
        .socket()
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .expect("bind");
    let address = socket.socket().local_addr().expect("an address");
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let bound = address.as_socket().expect("an IP address");
    stranger.send_to(b"early", bound).expect("send");
    wait_ready(&socket);
    let target = server.local_addr().expect("an address");
    socket.connect(target).expect("connect");
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    std::mem::swap(&mut test.flow.socket, &mut socket);
    test.flow.target = target;
    test.server = server;
    test.server.send_to(b"answer", bound).expect("send");
    assert_eq!(test.received_until(1), [b"answer"]);
    assert_eq!(test.side.counters.dropped_foreign, 1);
}

#[test]
fn r_udp_3_deadlines_follow_the_conversation() {
    let timeouts = Timeouts::default();
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    let start = now();
    test.send_at(start, b"hello");
    assert_eq!(test.flow.activity().last, start);
    assert_eq!(test.flow.deadline(&timeouts), start + timeouts.udp_unreplied);
    let (_, peer) = test.receive();
    test.server.send_to(b"", peer).expect("send");
    wait_ready(&test.flow);
    let later = start + 5 * SECOND;
    test.flow
        .handle_ready(later, &mut test.side.inbound(), &mut test.scratch);
    assert!(!test.flow.activity().is_one_way);
    assert_eq!(test.flow.deadline(&timeouts), later + timeouts.udp_stream);
    test.flow.activity.is_one_way = true;
    for port in [53, 123] {
        test.flow.target.set_port(port);
        assert_eq!(
            test.flow.deadline(&timeouts),
            later + timeouts.udp_unreplied_short
        );
    }
}

#[test]
fn u1_r_udp_5_r_udp_6_refused_is_told_and_the_next_datagram_is_not_lost() {
    for family in families() {
        let mut test = Test::new(family);
        let address = test.server.local_addr().expect("an address");
        let headers = Headers {
            hops: 17,
            ..Headers::DEFAULT
        };
        drop(std::mem::replace(
            &mut test.server,
            UdpSocket::bind((family, 0)).expect("a socket"),
        ));
        test.send_with(b"first", headers);
        // Not handled as an event: the next call of the socket reports it.
        wait_ready(&test.flow);
        test.server = UdpSocket::bind(address).expect("the same port");
        test.send_with(b"second", headers);
        assert_eq!(test.receive().0, b"second");
        assert_eq!(test.side.counters.errors_passed, 1);
        assert_eq!(test.side.counters.dropped_host, 0);
        let frames = test.side.wire_frames();
        let [frame] = &frames[..] else {
            panic!("{} frames", frames.len());
        };
        check_port_unreachable(&test.side, frame, b"first");
    }
}

#[test]
fn u1_r_udp_7_an_error_event_is_told_once_and_cleared() {
    for family in families() {
        let mut test = Test::new(family);
        drop(std::mem::replace(
            &mut test.server,
            UdpSocket::bind((family, 0)).expect("a socket"),
        ));
        test.send(b"hello");
        wait_ready(&test.flow);
        let progress = test.flow.handle_ready_now(&mut test.side, &mut test.scratch);
        assert_eq!(progress, Progress::Drained);
        let frames = test.side.wire_frames();
        check_port_unreachable(&test.side, &frames[0], b"hello");
        let progress = test.flow.handle_ready_now(&mut test.side, &mut test.scratch);
        assert_eq!((progress, test.side.link.frames.len()), (Progress::Drained, 0));
        assert_eq!(test.side.counters.errors_passed, 1);
        assert!(test.flow.activity().is_one_way, "an error is no answer");
    }
}

#[test]
fn u2_r_udp_8_empty_datagrams_go_both_ways() {
    for family in families() {
        let mut test = Test::new(family);
        test.send(b"");
        let (payload, peer) = test.receive();
        assert_eq!(payload, b"");
        for payload in [b"".as_slice(), b"x", b"", b""] {
            test.server.send_to(payload, peer).expect("send");
        }
        assert_eq!(test.received_until(4), [b"".as_slice(), b"x", b"", b""]);
    }
}

#[test]
fn u3_r_udp_9_hops_and_class_are_those_of_the_container() {
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    for (hops, class, expected) in [
        (2, 0, (1, 0)),
        (64, 0xb9, (63, 0xb8)),
        (64, 0xb9, (63, 0xb8)),
        (1, 0, (1, 0)),
    ] {
        let headers = Headers {
            hops,
            class,
            fragmentation: Fragmentation::Forbidden,
        };
        test.send_with(b"probe", headers);
        let socket = test.flow.socket.socket();
        let set = (socket.ttl_v4().expect("TTL"), socket.tos_v4().expect("TOS"));
        assert_eq!(set, expected);
    }
    if families().len() < 2 {
        return;
    }
    let mut test = Test::new(families()[1]);
    test.send_with(
        b"probe",
        Headers {
            hops: 5,
            class: 0x2f,
            fragmentation: Fragmentation::Forbidden,
        },
    );
    let socket = test.flow.socket.socket();
    assert_eq!(socket.unicast_hops_v6().expect("hops"), 4);
    assert_eq!(socket.tclass_v6().expect("class"), 0x2c);
}

#[test]
fn r_udp_10_dont_fragment_is_that_of_the_container() {
    for (fragmentation, expected) in [
        (Fragmentation::Forbidden, libc::IP_PMTUDISC_DO),
        (Fragmentation::Allowed, libc::IP_PMTUDISC_DONT),
    ] {
        let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
        test.send_with(
            b"x",
            Headers {
                fragmentation,
                ..Headers::DEFAULT
            },
        );
        let value = sys::IntOption::MTU_DISCOVER_V4.value(test.flow.as_fd());
        assert_eq!(value.expect("an option"), expected);
    }
}

#[test]
fn r_udp_10_too_big_for_the_hosts_path_is_told_or_fragmented() {
    for family in families() {
        let mut test = Test::new(family);
        let mtu = test.flow.socket.path_mtu().expect("connected") as usize;
        if mtu > 60_000 {
            println!(
                "skipped: the MTU of the loopback device is {mtu}; set it to 1500 in a namespace of its own"
            );
            return;
        }
        let payload = vec![3; mtu];
        test.send_with(&payload, Headers::DEFAULT);
        assert_eq!(test.side.counters.too_big, 1);
        assert_eq!(test.side.counters.errors_passed, 1);
        let frames = test.side.wire_frames();
        match family {
            IpAddr::V4(_) => {
                let packet = Ipv4Packet::parse(&frames[0][14..]).expect("IPv4");
                assert_eq!(IpAddr::from(packet.header().src()), test.side.gateway);
                let message = Icmpv4Packet::parse(packet.payload()).expect("ICMP").message();
                let told = Icmpv4Error::FragmentationNeeded { mtu: mtu as u16 };
                assert!(matches!(message, Icmpv4Message::Error { error, .. } if error == told));
            }
            IpAddr::V6(_) => {
                let packet = Ipv6Packet::parse(&frames[0][14..]).expect("IPv6");
                let message = Icmpv6Packet::parse(packet.payload()).expect("ICMPv6").message();
                let told = Icmpv6Error::PacketTooBig { mtu: mtu as u32 };
                assert!(matches!(message, Icmpv6Message::Error { error, .. } if error == told));
            }
        }
        test.send_with(
            &payload,
            Headers {
                fragmentation: Fragmentation::Allowed,
                ..Headers::DEFAULT
            },
        );
        assert_eq!(test.receive().0, payload);
        // A super-frame whose segments do not fit goes one by one.
        let datagram = Datagram {
            segment: Some(mtu as u16),
            payload: &[4; 9000],
            headers: Headers {
                fragmentation: Fragmentation::Allowed,
                ..Headers::DEFAULT
            },
            ..Test::datagram(b"")
        };
        assert_eq!(test.handle(&datagram), None);
        let mut total = 0;
        while total < 9000 {
            total += test.receive().0.len();
        }
        assert_eq!(test.side.counters.gso_fallbacks, 1);
    }
}

#[test]
fn u4_r_udp_10_fragments_of_the_container_are_one_datagram() {
    let body: Vec<u8> = (0..6000).map(|index| (index / 24) as u8).collect();
    let mut container = Side::new(REMOTE, CONTAINER);
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(&body);
    let payload = HEADROOM..buffer.len();
    container.inbound().send_udp(&mut buffer, payload, None);
    let mut reassembly = Reassembly::new(1 << 20, &Timeouts::default());
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    for frame in container.wire_frames() {
        assert!(
            Packet::from_frame(&frame).expect("a packet").is_none(),
            "a fragment"
        );
        if let Assembly::Complete(packet) = reassembly.handle_packet(now(), 1, &frame[14..]) {
            let datagram = packet.datagram(&Offload::NONE).expect("a datagram");
            assert_eq!((datagram.src_port, datagram.dst_port), (40_000, 80));
            assert_eq!(test.handle(&datagram), None);
        }
    }
    assert_eq!(test.receive().0, body);
}

#[test]
fn r_udp_11_a_super_frame_of_the_container_is_cut_by_the_host() {
    for family in families() {
        for segmentation in [Segmentation::Kernel, Segmentation::OneByOne] {
            let mut test = Test::new(family);
            test.flow.segmentation = segmentation;
            let payload: Vec<u8> = (0..100 * 100 + 7).map(|index| (index / 100) as u8).collect();
            let datagram = Datagram {
                segment: Some(100),
                payload: &payload,
                ..Test::datagram(b"")
            };
            assert_eq!(test.handle(&datagram), None);
            for expected in payload.chunks(100) {
                assert_eq!(test.receive().0, expected);
            }
            assert_eq!(test.flow.activity().sent, payload.len() as u64);
            assert_eq!(test.side.counters, Counters::default());
        }
    }
}

#[test]
fn r_udp_11_a_refusal_to_segment_is_for_good() {
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    // Linux does not segment what has no checksum: EIO (udp_send_skb, net/ipv4/udp.c).
    let no_checksum = sys::IntOption::NO_CHECKSUM;
    no_checksum.set(test.flow.as_fd(), 1).expect("SO_NO_CHECK");
    let datagram = Datagram {
        segment: Some(10),
        payload: &[7; 35],
        ..Test::datagram(b"")
    };
    assert_eq!(test.handle(&datagram), None);
    for len in [10, 10, 10, 5] {
        assert_eq!(test.receive().0, vec![7; len]);
    }
    assert_eq!(test.flow.segmentation, Segmentation::OneByOne);
    assert_eq!(test.side.counters.dropped_host, 0);
    assert_eq!(test.side.counters.gso_fallbacks, 1);
    assert_eq!(test.handle(&datagram), None);
    assert_eq!(test.side.counters.gso_fallbacks, 1);
}

#[test]
fn r_udp_11_equal_datagrams_of_the_host_become_one_super_frame() {
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    test.send(b"hello");
    let (_, peer) = test.receive();
    let sizes = [100, 100, 100, 40, 100, 200, 200, 0, 50];
    for (index, size) in sizes.into_iter().enumerate() {
        test.server.send_to(&vec![index as u8; size], peer).expect("send");
    }
    let expected: Vec<_> = sizes
        .into_iter()
        .enumerate()
        .map(|(index, size)| vec![index as u8; size])
        .collect();
    wait_ready(&test.flow);
    test.flow.handle_ready_now(&mut test.side, &mut test.scratch);
    let segments: Vec<_> = test
        .side
        .link
        .frames
        .iter()
        .map(|(frame, offload)| offload.segments(frame.len()))
        .collect();
    assert_eq!(segments, [4, 1, 2, 1, 1]);
    assert_eq!(test.side.datagrams(), expected);
    assert_eq!(test.flow.activity().received, 890);
}

#[test]
fn r_udp_11_coalesced_datagrams_of_the_host_become_one_super_frame() {
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    test.send(b"hello");
    let (_, peer) = test.receive();
    test.server.connect(peer).expect("connect");
    let payload: Vec<u8> = (0..40 * 1200 + 5).map(|index| (index / 1200) as u8).collect();
    sys::send_segments(test.server.as_fd(), &payload, 1200).expect("UDP_SEGMENT");
    wait_ready(&test.flow);
    test.flow.handle_ready_now(&mut test.side, &mut test.scratch);
    assert_eq!(test.side.link.frames.len(), 1);
    let expected: Vec<_> = payload.chunks(1200).map(<[u8]>::to_vec).collect();
    assert_eq!(test.side.datagrams(), expected);
}

#[test]
fn r_udp_10_large_datagrams_of_the_host_arrive_in_fragments() {
    for family in families() {
        let mut test = Test::new(family);
        test.send(b"hello");
        let (_, peer) = test.receive();
        let payload: Vec<u8> = (0..65_507).map(|index| (index / 300) as u8).collect();
        test.server.send_to(&payload, peer).expect("send");
        wait_ready(&test.flow);
        test.flow.handle_ready_now(&mut test.side, &mut test.scratch);
        let mut reassembly = Reassembly::new(1 << 20, &Timeouts::default());
        let mut whole = None;
        for frame in test.side.wire_frames() {
            assert!(frame.len() <= 14 + 1500);
            if let Assembly::Complete(packet) = reassembly.handle_packet(now(), 1, &frame[14..]) {
                whole = Some(packet.datagram(&Offload::NONE).expect("valid").payload.to_vec());
            }
        }
        assert_eq!(whole.as_ref(), Some(&payload));
        assert_eq!(test.side.counters.fragmented, 1);
    }
}

#[test]
fn r_udp_a_full_device_loses_datagrams_and_nothing_else() {
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    test.send(b"hello");
    let (_, peer) = test.receive();
    test.side.link.delivery = Delivery::Full;
    for _ in 0..3 {
        test.server.send_to(b"lost", peer).expect("send");
    }
    wait_ready(&test.flow);
    test.flow.handle_ready_now(&mut test.side, &mut test.scratch);
    assert_eq!(test.side.counters.dropped_full, 3);
    test.side.link.delivery = Delivery::Sent;
    test.server.send_to(b"kept", peer).expect("send");
    assert_eq!(test.received_until(1), [b"kept"]);
    assert_eq!(test.flow.activity().received, 4);
}

#[test]
fn a_flood_is_taken_in_turns() {
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    test.send(b"hello");
    let (_, peer) = test.receive();
    for index in 0..100u8 {
        test.server.send_to(&[index], peer).expect("send");
    }
    wait_ready(&test.flow);
    let progress = test.flow.handle_ready_now(&mut test.side, &mut test.scratch);
    assert_eq!(progress, Progress::More);
    assert!(test.side.datagrams().len() < 100);
    let progress = test.flow.handle_ready_now(&mut test.side, &mut test.scratch);
    assert_eq!(progress, Progress::Drained);
    assert_eq!(test.flow.activity().received, 100);
}

#[test]
fn r_out_2_a_source_that_the_host_does_not_have_is_an_error() {
    let source = Source {
        v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
        ..Source::default()
    };
    let target = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 9));
    let error = UdpFlow::open(now(), target, &source).expect_err("no such address");
    assert_eq!(errors::refusal(&error), Some(Refusal::NoRoute));
    // The host itself, its resolver for example, is not reached from an address of the outside.
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    UdpFlow::open(now(), target, &source).expect("it is not bound");
}

#[test]
fn r_dns_1_answers_come_from_the_gateway() {
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    let server = address_of(&test.server);
    test.resolve_by(&[server]);
    test.side.path.remote = "10.0.0.1:53".parse().expect("an address");
    test.send(&query(7));
    assert_eq!(test.flow.outstanding_queries(), 1);
    let (_, peer) = test.receive();
    let answer = [query(7).as_slice(), &[1; 600]].concat();
    test.server.send_to(&answer, peer).expect("send");
    assert_eq!(test.received_until(1), [answer]);
    assert_eq!(test.flow.outstanding_queries(), 0);
    assert!(test.flow.deadline(&Timeouts::default()) < now() + Duration::from_secs(2));
}

#[test]
fn r_dns_3_a_resolver_that_refuses_is_replaced_at_once() {
    for (refusing, family) in pairs_of_families() {
        let mut test = Test::new(family);
        let server = address_of(&test.server);
        test.resolve_by(&[closed(refusing), server]);
        test.send(&query(7));
        wait_ready(&test.flow);
        test.flow.handle_ready_now(&mut test.side, &mut test.scratch);
        assert_eq!(test.receive().0, query(7), "asked without the container");
        assert_eq!(test.side.counters.resolvers_changed, 1);
        assert_eq!(test.side.counters.errors_passed, 0);
        assert_eq!(test.flow.target(), server);
        assert_eq!(test.side.resolvers.first(), Some(server), "for the next flows");
    }
}

#[test]
fn r_dns_3_all_queries_that_wait_are_asked_again() {
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let server = address_of(&test.server);
    test.resolve_by(&[address_of(&silent), server]);
    let start = now();
    for id in 1..=3 {
        test.send_at(start, &query(id));
    }
    assert_eq!(test.flow.target(), address_of(&silent));
    test.send_at(start + 3 * SECOND, &query(2));
    let mut asked = [(); 3].map(|()| test.receive().0);
    asked.sort();
    assert_eq!(asked, [1, 2, 3].map(query));
    assert_eq!(test.flow.outstanding_queries(), 3);
}

#[test]
fn r_dns_3_the_container_hears_when_all_resolvers_refuse() {
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    let loopback = Ipv4Addr::LOCALHOST.into();
    test.resolve_by(&[closed(loopback), closed(loopback)]);
    test.side.path.remote = "10.0.0.1:53".parse().expect("an address");
    test.send(&query(7));
    while test.side.link.frames.is_empty() {
        wait_ready(&test.flow);
        test.flow.handle_ready_now(&mut test.side, &mut test.scratch);
    }
    let frames = test.side.wire_frames();
    check_port_unreachable(&test.side, &frames[0], &query(7));
}

#[test]
fn r_dns_3_an_overdue_query_goes_to_the_next_resolver() {
    for (keeping_silent, family) in pairs_of_families() {
        let mut test = Test::new(family);
        let silent = UdpSocket::bind((keeping_silent, 0)).expect("a socket");
        let addresses = [&silent, &test.server].map(address_of);
        let start = now();
        test.resolve_by(&addresses);
        test.send_at(start, &query(7));
        test.send_at(start + SECOND, &query(7));
        assert_eq!(test.flow.target(), addresses[0]);
        test.send_at(start + 5 * SECOND, &query(7));
        assert_eq!(test.flow.target(), addresses[1]);
        let (_, peer) = test.receive();
        test.server.send_to(&query(7), peer).expect("send");
        assert_eq!(test.received_until(1), [query(7)]);
        assert_eq!(test.side.resolvers.first(), Some(addresses[1]));
    }
}

#[test]
fn r_dns_3_the_only_resolver_is_asked_again() {
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    let server = address_of(&test.server);
    test.resolve_by(&[server]);
    let start = now();
    for seconds in [0, 5, 10] {
        test.send_at(start + seconds * SECOND, &query(7));
        assert_eq!(test.receive().0, query(7));
    }
    assert_eq!(test.side.counters, Counters::default());
}

#[test]
fn r_dns_2_new_resolvers_are_asked_by_flows_that_exist() {
    for (family, other) in pairs_of_families() {
        let mut test = Test::new(other);
        let gone = UdpSocket::bind((family, 0)).expect("a socket");
        test.resolve_by(&[address_of(&gone)]);
        test.send(&query(8));
        test.side.resolvers = Resolvers::new([closed(family), address_of(&test.server)].into());
        test.side
            .resolvers
            .replace(test.side.resolvers.first().expect("one"));
        test.send(&query(9));
        let mut asked = [(); 2].map(|()| test.receive().0);
        asked.sort();
        assert_eq!(asked, [query(8), query(9)]);
        test.side.resolvers = Resolvers::new([].into());
        let refused = test.handle(&Test::datagram(&query(10)));
        assert_eq!(refused, Some(Refusal::PortUnreachable));
    }
}

#[test]
fn r_dns_3_every_query_of_a_super_frame_and_every_answer_is_seen() {
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    let server = address_of(&test.server);
    test.resolve_by(&[server]);
    let payload: Vec<u8> = (1..=5).flat_map(query).collect();
    let size = query(1).len();
    let datagram = Datagram {
        segment: Some(size as u16),
        payload: &payload,
        ..Test::datagram(b"")
    };
    assert_eq!(test.handle(&datagram), None);
    assert_eq!(test.flow.outstanding_queries(), 5);
    let mut peer = server;
    for id in 1..=5 {
        let (asked, from) = test.receive();
        assert_eq!(asked, query(id));
        peer = from;
    }
    test.server.connect(peer).expect("connect");
    sys::send_segments(test.server.as_fd(), &payload, size as u16).expect("UDP_SEGMENT");
    let expected: Vec<_> = (1..=5).map(query).collect();
    assert_eq!(test.received_until(5), expected);
    assert_eq!(test.flow.outstanding_queries(), 0);
}

#[test]
fn r_dns_3_queries_without_an_answer_are_forgotten() {
    let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
    let server = address_of(&test.server);
    test.resolve_by(&[server]);
    let start = now();
    test.send_at(start, &query(1));
    test.send_at(start + 9 * SECOND, &query(2));
    assert_eq!(test.flow.expire_queries(start + 10 * SECOND), 1);
    assert_eq!(test.flow.outstanding_queries(), 1);
}

#[test]
fn r_udp_5_many_earlier_errors_do_not_cost_the_next_datagram() {
    for count in [2, ERRORS_AT_ONCE * 3 + 1] {
        let mut test = Test::new(Ipv4Addr::LOCALHOST.into());
        let address = address_of(&test.server);
        drop(std::mem::replace(
            &mut test.server,
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket"),
        ));
        // One call for all, since each would report the error of the one before.
        let payload = vec![1; count * 10];
        let mut sent = 0;
        while sent < payload.len() {
            // An error here is an earlier datagram's.
            sent += sys::send_many(test.flow.as_fd(), &payload[sent..], 10).unwrap_or(0);
        }
        test.server = UdpSocket::bind(address).expect("the same port");
        test.send(b"next");
        assert_eq!(test.receive().0, b"next", "{count}");
        assert_eq!(test.side.counters.dropped_host, 0);
        assert_eq!(test.side.counters.errors_passed, count as u64);
    }
}

#[test]
fn a_flow_is_a_few_hundred_bytes() {
    assert!(size_of::<UdpFlow>() <= 400, "{}", size_of::<UdpFlow>());
}

/// A flow to a server on the loopback device, whose container knows it as [`REMOTE`].
struct Test {
    flow: UdpFlow,
    server: UdpSocket,
    side: Side,
    scratch: Scratch,
}

impl Test {
    fn new(family: IpAddr) -> Self {
        let server = UdpSocket::bind((family, 0)).expect("a socket");
        let target = server.local_addr().expect("an address");
        let (container, remote) = match family {
            IpAddr::V4(_) => (CONTAINER, REMOTE),
            IpAddr::V6(_) => ("[fd00::2]:40000", "[2001:db8::5]:80"),
        };
        Self {
            flow: UdpFlow::open(now(), target, &Source::default()).expect("a flow"),
            server,
            side: Side::new(container, remote),
            scratch: Scratch::new(),
        }
    }

    /// Makes it a flow of queries.
    fn resolve_by(&mut self, resolvers: &[SocketAddr]) {
        self.side.resolvers = Resolvers::new(resolvers.into());
        let flow = UdpFlow::open_query(now(), &mut self.side.resolvers, &Source::default());
        self.flow = flow.expect("a flow");
    }

    fn datagram(payload: &[u8]) -> Datagram<'_> {
        Datagram {
            src_port: 40_000,
            dst_port: 80,
            payload,
            segment: None,
            headers: Headers::DEFAULT,
        }
    }

    fn handle(&mut self, datagram: &Datagram<'_>) -> Option<Refusal> {
        self.flow
            .handle_datagram(now(), datagram, &mut self.side.inbound(), &mut self.scratch)
    }

    fn send(&mut self, payload: &[u8]) {
        assert_eq!(self.handle(&Self::datagram(payload)), None);
    }

    fn send_at(&mut self, now: Instant, payload: &[u8]) {
        let datagram = Self::datagram(payload);
        let mut inbound = self.side.inbound();
        let refusal = self
            .flow
            .handle_datagram(now, &datagram, &mut inbound, &mut self.scratch);
        assert_eq!(refusal, None);
    }

    fn send_with(&mut self, payload: &[u8], headers: Headers) {
        let datagram = Datagram {
            headers,
            ..Self::datagram(payload)
        };
        assert_eq!(self.handle(&datagram), None);
    }

    /// The next datagram that reaches the server.
    fn receive(&mut self) -> (Vec<u8>, SocketAddr) {
        let deadline = Some(Duration::from_secs(10));
        self.server.set_read_timeout(deadline).expect("a timeout");
        let mut buffer = vec![0; 65_536];
        let (len, peer) = self.server.recv_from(&mut buffer).expect("a datagram in time");
        buffer.truncate(len);
        (buffer, peer)
    }

    /// The first `count` datagrams that reach the container.
    fn received_until(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        while datagrams.len() < count {
            wait_ready(&self.flow);
            self.flow.handle_ready_now(&mut self.side, &mut self.scratch);
            datagrams.extend(self.side.datagrams());
        }
        datagrams
    }
}

impl UdpFlow {
    fn handle_ready_now(&mut self, side: &mut Side, scratch: &mut Scratch) -> Progress {
        self.handle_ready(now(), &mut side.inbound(), scratch)
    }
}

/// ICMP port unreachable from the other end, with the datagram in it, as the container can match it.
fn check_port_unreachable(side: &Side, frame: &[u8], payload: &[u8]) {
    let ports = [
        side.path.container.port().to_be_bytes(),
        side.path.remote.port().to_be_bytes(),
    ]
    .concat();
    match side.path.remote.ip() {
        IpAddr::V4(remote) => {
            let packet = Ipv4Packet::parse(&frame[14..]).expect("IPv4");
            assert_eq!(packet.header().src(), remote);
            let message = Icmpv4Packet::parse(packet.payload()).expect("ICMP");
            assert!(message.has_valid_checksum());
            let Icmpv4Message::Error { error, quoted } = message.message() else {
                panic!("no error");
            };
            assert_eq!(error, Icmpv4Error::PORT_UNREACHABLE);
            let quoted = Ipv4Packet::parse(quoted).expect("a packet");
            assert_eq!(quoted.header().dst(), remote);
            assert_eq!(IpAddr::from(quoted.header().src()), side.path.container.ip());
            assert_eq!(quoted.payload()[..4], ports);
            assert_eq!(&quoted.payload()[8..], payload);
        }
        IpAddr::V6(remote) => {
            let packet = Ipv6Packet::parse(&frame[14..]).expect("IPv6");
            let (src, dst) = (packet.header().src(), packet.header().dst());
            assert_eq!(src, remote);
            let message = Icmpv6Packet::parse(packet.payload()).expect("ICMPv6");
            assert!(message.has_valid_checksum(src, dst));
            let Icmpv6Message::Error { error, quoted } = message.message() else {
                panic!("no error");
            };
            assert_eq!(error, Icmpv6Error::PORT_UNREACHABLE);
            let quoted = Ipv6Packet::parse(quoted).expect("a packet");
            assert_eq!(quoted.header().dst(), remote);
            assert_eq!(quoted.payload()[..4], ports);
            assert_eq!(&quoted.payload()[8..], payload);
        }
    }
}

/// An address at which nobody listens.
fn closed(family: IpAddr) -> SocketAddr {
    address_of(&UdpSocket::bind((family, 0)).expect("a socket"))
}

fn address_of(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("an address")
}

/// Every two of the families, also twice the same.
fn pairs_of_families() -> Vec<(IpAddr, IpAddr)> {
    let families = families();
    let pairs = families
        .iter()
        .flat_map(|&one| families.iter().map(move |&other| (one, other)));
    pairs.collect()
}

fn query(id: u16) -> Vec<u8> {
    let mut message = vec![0; 29];
    message[..2].copy_from_slice(&id.to_be_bytes());
    message
}

/// The loopback addresses that the host has.
fn families() -> Vec<IpAddr> {
    let mut families = vec![Ipv4Addr::LOCALHOST.into()];
    let v6 = IpAddr::from(std::net::Ipv6Addr::LOCALHOST);
    match UdpSocket::bind((v6, 0)) {
        Ok(_) => families.push(v6),
        Err(error) => println!("skipped: IPv6, because the loopback device has none: {error}"),
    }
    families
}
