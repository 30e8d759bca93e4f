use etherparse::{
    ArpOperation as Op, Icmpv4Type, Icmpv6Type, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader,
    icmpv4::DestUnreachableHeader, icmpv4::TimeExceededCode, icmpv6,
};

use vswitch_wire::ndp::solicited_node;

use super::*;
use crate::engine::allowance::BURST;
use crate::model::NetworkId;

const GATEWAY: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xfe]);
const STATION: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x01]);
const GATEWAY_4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const STATION_4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OUTSIDE_4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const OTHER_NETWORK_4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 5);

fn gateway_6() -> Ipv6Addr {
    "fd00::1".parse().expect("an address")
}

fn station_6() -> Ipv6Addr {
    "fd00::2".parse().expect("an address")
}

fn spec() -> NetworkSpec {
    NetworkSpec {
        id: NetworkId::from_bytes([1; 32]),
        name: "n1".into(),
        gateway_mac: GATEWAY,
        gateways: vec![
            "10.0.0.1/24".parse().expect("a prefix"),
            "fd00::1/64".parse().expect("a prefix"),
        ],
        mtu: 1500,
        inter_container: true,
        uplink: Some(Default::default()),
    }
}

fn gateway() -> Gateway {
    let mut gateway = Gateway::new(&spec());
    gateway.set_neighbours(Arc::new([
        "10.9.0.0/16".parse().expect("a prefix"),
        "fd09::/64".parse().expect("a prefix"),
    ]));
    gateway
}

/// The answer to one frame, if there is any.
fn ask(gateway: &mut Gateway, now: Instant, frame: &[u8]) -> Option<Vec<u8>> {
    ask_from(PortId(1), gateway, now, frame)
}

/// The answer to one frame of the station behind a port.
fn ask_from(port: PortId, gateway: &mut Gateway, now: Instant, frame: &[u8]) -> Option<Vec<u8>> {
    let mut reply = vec![0xee; 3];
    let outcome = gateway.handle_frame(now, port, &mut frame.to_vec(), Offload::NONE, &mut reply);
    (outcome == Outcome::Replied).then_some(reply)
}

fn internal_gateway() -> Gateway {
    Gateway::new(&NetworkSpec {
        uplink: None,
        ..spec()
    })
}

fn built(builder: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    builder(&mut frame);
    frame
}

fn to_gateway() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2(STATION.0, GATEWAY.0)
}

fn ping_4(dst: Ipv4Addr, ttl: u8) -> Vec<u8> {
    let step = to_gateway()
        .ipv4(STATION_4.octets(), dst.octets(), ttl)
        .icmpv4_echo_request(7, 1);
    built(|frame| step.write(frame, b"payload").expect("it fits"))
}

fn ping_6(src: Ipv6Addr, dst: Ipv6Addr, hop_limit: u8) -> Vec<u8> {
    let step = to_gateway()
        .ipv6(src.octets(), dst.octets(), hop_limit)
        .icmpv6_echo_request(7, 1);
    built(|frame| step.write(frame, b"payload").expect("it fits"))
}

fn arp(operation: Op, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let packet = etherparse::ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        etherparse::EtherType::IPV4,
        operation,
        &STATION.0,
        &sender.octets(),
        &[0; 6],
        &target.octets(),
    );
    let step = PacketBuilder::ethernet2(STATION.0, [0xff; 6]).arp(packet.expect("lengths agree"));
    built(|frame| step.write(frame).expect("it fits"))
}

fn solicitation(src: Ipv6Addr, dst: Ipv6Addr, target: Ipv6Addr, hop_limit: u8, options: &[u8]) -> Vec<u8> {
    let mut payload = target.octets().to_vec();
    payload.extend(options);
    let step = PacketBuilder::ethernet2(STATION.0, multicast_mac(dst).0)
        .ipv6(src.octets(), dst.octets(), hop_limit)
        .icmpv6_raw(135, 0, [0; 4]);
    built(|frame| step.write(frame, &payload).expect("it fits"))
}

/// Parses a reply with the independent parser, which must find lengths and checksums right.
fn parsed(frame: &[u8]) -> PacketHeaders<'_> {
    let headers = PacketHeaders::from_ethernet_slice(frame).expect("the reply is well-formed");
    match (&headers.net, &headers.transport) {
        (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Icmpv4(icmp))) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(
                icmp.checksum,
                icmp.icmp_type.calc_checksum(headers.payload.slice())
            );
        }
        (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Icmpv6(icmp))) => {
            let sum = icmp
                .icmp_type
                .calc_checksum(ip.source, ip.destination, headers.payload.slice());
            assert_eq!(icmp.checksum, sum.expect("short enough"));
        }
        _ => {}
    }
    headers
}

fn icmp_v4(frame: &[u8]) -> Icmpv4Type {
    match parsed(frame).transport {
        Some(TransportHeader::Icmpv4(icmp)) => icmp.icmp_type,
        other => panic!("no ICMP but {other:?}"),
    }
}

fn icmp_v6(frame: &[u8]) -> Icmpv6Type {
    match parsed(frame).transport {
        Some(TransportHeader::Icmpv6(icmp)) => icmp.icmp_type,
        other => panic!("no ICMPv6 but {other:?}"),
    }
}

#[test]
fn arp_requests_for_the_gateway_are_answered() {
    for (name, sender) in [("ordinary", STATION_4), ("probe", Ipv4Addr::UNSPECIFIED)] {
        let reply = ask(
            &mut gateway(),
            Instant::now(),
            &arp(Op::REQUEST, sender, GATEWAY_4),
        )
        .expect(name);
        assert_eq!(reply[..6], STATION.0, "{name}");
        let Some(NetHeaders::Arp(packet)) = parsed(&reply).net else {
            panic!("{name}: no ARP")
        };
        assert_eq!(packet.operation, Op::REPLY, "{name}");
        assert_eq!(packet.sender_hw_addr(), GATEWAY.0, "{name}");
        assert_eq!(packet.sender_protocol_addr(), GATEWAY_4.octets(), "{name}");
        assert_eq!(packet.target_hw_addr(), STATION.0, "{name}");
        assert_eq!(packet.target_protocol_addr(), sender.octets(), "{name}");
    }
}

#[test]
fn arp_for_others_and_replies_are_left_alone() {
    let now = Instant::now();
    assert_eq!(
        ask(&mut gateway(), now, &arp(Op::REQUEST, STATION_4, OTHER_NETWORK_4)),
        None
    );
    assert_eq!(
        ask(&mut gateway(), now, &arp(Op::REPLY, STATION_4, GATEWAY_4)),
        None
    );
}

#[test]
fn the_gateway_defends_its_address_but_not_in_a_fight() {
    let (mut gateway, now) = (gateway(), Instant::now());
    let claim = arp(Op::REQUEST, GATEWAY_4, GATEWAY_4);
    let defence = ask(&mut gateway, now, &claim).expect("a defence");
    assert_eq!(defence[..6], [0xff; 6]);
    let Some(NetHeaders::Arp(packet)) = parsed(&defence).net else {
        panic!("no ARP")
    };
    assert_eq!(
        (packet.sender_hw_addr(), packet.sender_protocol_addr()),
        (&GATEWAY.0[..], &GATEWAY_4.octets()[..])
    );
    assert_eq!(ask(&mut gateway, now + Duration::from_secs(9), &claim), None);
    assert!(ask(&mut gateway, now + Duration::from_secs(10), &claim).is_some());
}

#[test]
fn solicitations_for_the_gateway_are_answered() {
    let link_local = GATEWAY.link_local();
    for target in [gateway_6(), link_local] {
        let frame = solicitation(
            station_6(),
            solicited_node(target),
            target,
            255,
            &[1, 1, 2, 0, 0, 0, 0, 1],
        );
        let reply = ask(&mut gateway(), Instant::now(), &frame).expect("an advertisement");
        assert_eq!(reply[..6], STATION.0);
        let headers = parsed(&reply);
        let Some(NetHeaders::Ipv6(ip, _)) = &headers.net else {
            panic!("no IPv6")
        };
        assert_eq!(
            (ip.hop_limit, ip.source_addr(), ip.destination_addr()),
            (255, target, station_6())
        );
        let message = &reply[54..];
        assert_eq!(message[0], 136);
        assert_eq!(message[4], 0xe0, "router, solicited, override");
        assert_eq!(message[8..24], target.octets());
        assert_eq!(message[24..], [&[2, 1][..], &GATEWAY.0].concat());
    }
}

#[test]
fn a_duplicate_address_probe_is_told_to_all_nodes() {
    let probe = solicitation(
        Ipv6Addr::UNSPECIFIED,
        solicited_node(gateway_6()),
        gateway_6(),
        255,
        &[],
    );
    let reply = ask(&mut gateway(), Instant::now(), &probe).expect("an advertisement");
    assert_eq!(reply[..6], [0x33, 0x33, 0, 0, 0, 1]);
    let Some(NetHeaders::Ipv6(ip, _)) = parsed(&reply).net else {
        panic!("no IPv6")
    };
    assert_eq!(ip.destination_addr(), icmp::ALL_NODES);
    assert_eq!(reply[54 + 4], 0xa0, "router, override, not solicited");
}

#[test]
fn invalid_solicitations_are_silent() {
    let group = solicited_node(gateway_6());
    let source_option = [1, 1, 2, 0, 0, 0, 0, 1];
    let nobody = Ipv6Addr::UNSPECIFIED;
    let cases = [
        (
            "hop limit",
            solicitation(station_6(), group, gateway_6(), 254, &[]),
        ),
        (
            "option of length 0",
            solicitation(station_6(), group, gateway_6(), 255, &[1, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "option beyond the end",
            solicitation(station_6(), group, gateway_6(), 255, &[1, 2, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "another's address",
            solicitation(station_6(), group, station_6(), 255, &[]),
        ),
        (
            "probe with a source option",
            solicitation(nobody, group, gateway_6(), 255, &source_option),
        ),
        (
            "probe to all nodes",
            solicitation(nobody, icmp::ALL_NODES, gateway_6(), 255, &[]),
        ),
        (
            "multicast target",
            solicitation(station_6(), group, group, 255, &[]),
        ),
    ];
    for (name, frame) in cases {
        assert_eq!(ask(&mut gateway(), Instant::now(), &frame), None, "{name}");
    }
    let mut wrong_checksum = solicitation(station_6(), group, gateway_6(), 255, &[]);
    wrong_checksum[56] ^= 1;
    assert_eq!(ask(&mut gateway(), Instant::now(), &wrong_checksum), None);
}

#[test]
fn echo_requests_are_answered_in_kind() {
    // TTL 1 is enough for the gateway itself: nothing is forwarded.
    let reply = ask(&mut gateway(), Instant::now(), &ping_4(GATEWAY_4, 1)).expect("an echo reply");
    let headers = parsed(&reply);
    let Some(NetHeaders::Ipv4(ip, _)) = &headers.net else {
        panic!("no IPv4")
    };
    assert_eq!(
        (ip.source, ip.destination, ip.time_to_live),
        (GATEWAY_4.octets(), STATION_4.octets(), 64)
    );
    assert!(matches!(icmp_v4(&reply), Icmpv4Type::EchoReply(echo) if (echo.id, echo.seq) == (7, 1)));
    assert_eq!(headers.payload.slice(), b"payload");

    for (src, dst) in [
        (station_6(), gateway_6()),
        (STATION.link_local(), GATEWAY.link_local()),
    ] {
        let reply = ask(&mut gateway(), Instant::now(), &ping_6(src, dst, 1)).expect("an echo reply");
        assert!(matches!(icmp_v6(&reply), Icmpv6Type::EchoReply(echo) if (echo.id, echo.seq) == (7, 1)));
        let headers = parsed(&reply);
        let Some(NetHeaders::Ipv6(ip, _)) = &headers.net else {
            panic!("no IPv6")
        };
        assert_eq!((ip.source_addr(), ip.destination_addr()), (dst, src));
    }
}

#[test]
fn a_damaged_echo_request_is_silent() {
    for at in [24, 36, 44] {
        let mut frame = ping_4(GATEWAY_4, 64);
        frame[at] ^= 0x10;
        assert_eq!(ask(&mut gateway(), Instant::now(), &frame), None, "byte {at}");
    }
}

#[test]
fn what_cannot_be_routed_is_refused_with_the_reason() {
    let unreachable = |code| Icmpv4Type::DestinationUnreachable(code);
    let cases = [
        (
            "another network of ours",
            ping_4(OTHER_NETWORK_4, 64),
            unreachable(DestUnreachableHeader::FilterProhibited),
        ),
        (
            "on the link",
            ping_4(Ipv4Addr::new(10, 0, 0, 77), 64),
            unreachable(DestUnreachableHeader::Host),
        ),
        (
            "too far",
            ping_4(OUTSIDE_4, 1),
            Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit),
        ),
    ];
    for (name, frame, expected) in cases {
        let reply = ask(&mut gateway(), Instant::now(), &frame).expect(name);
        assert_eq!(icmp_v4(&reply), expected, "{name}");
        assert_eq!(
            parsed(&reply).payload.slice(),
            &frame[14..],
            "{name}: the original is quoted"
        );
    }
    let other: Ipv6Addr = "fd09::5".parse().expect("an address");
    let outside: Ipv6Addr = "2001:db8::9".parse().expect("an address");
    let unreachable = |code| Icmpv6Type::DestinationUnreachable(code);
    let cases = [
        (
            "another network",
            ping_6(station_6(), other, 64),
            unreachable(icmpv6::DestUnreachableCode::Prohibited),
        ),
        (
            "link-local source",
            ping_6(STATION.link_local(), outside, 64),
            unreachable(icmpv6::DestUnreachableCode::BeyondScope),
        ),
        (
            "too far",
            ping_6(station_6(), outside, 1),
            Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded),
        ),
    ];
    for (name, frame, expected) in cases {
        let reply = ask(&mut gateway(), Instant::now(), &frame).expect(name);
        assert_eq!(icmp_v6(&reply), expected, "{name}");
    }
}

#[test]
fn what_leads_outside_is_the_relays() {
    let outside: Ipv6Addr = "2001:db8::9".parse().expect("an address");
    let to_port = |dst: Ipv4Addr| {
        to_gateway()
            .ipv4(STATION_4.octets(), dst.octets(), 1)
            .udp(1000, 53)
    };
    let cases = [
        ("outside", ping_4(OUTSIDE_4, 2), Outcome::Relay(Hop::Beyond)),
        (
            "IPv6",
            ping_6(station_6(), outside, 2),
            Outcome::Relay(Hop::Beyond),
        ),
        (
            "the gateway's port, whatever the TTL",
            built(|out| to_port(GATEWAY_4).write(out, b"?").expect("it fits")),
            Outcome::Relay(Hop::Gateway),
        ),
        ("the gateway's echo", ping_4(GATEWAY_4, 64), Outcome::Replied),
    ];
    for (name, mut frame, expected) in cases {
        let mut reply = Vec::new();
        let outcome =
            gateway().handle_frame(Instant::now(), PortId(1), &mut frame, Offload::NONE, &mut reply);
        assert_eq!(outcome, expected, "{name}");
    }
}

#[test]
fn an_internal_network_prohibits_everything() {
    let mut gateway = internal_gateway();
    let reply = ask(&mut gateway, Instant::now(), &ping_4(OUTSIDE_4, 64)).expect("an error");
    assert_eq!(
        icmp_v4(&reply),
        Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FilterProhibited)
    );
}

#[test]
fn closed_transports_are_refused() {
    let frame = to_gateway()
        .ipv4(STATION_4.octets(), GATEWAY_4.octets(), 64)
        .udp(1000, 53);
    let frame = built(|out| frame.write(out, b"?").expect("it fits"));
    let reply = ask(&mut internal_gateway(), Instant::now(), &frame).expect("an error");
    assert_eq!(
        icmp_v4(&reply),
        Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port)
    );

    let frame = to_gateway()
        .ipv6(station_6().octets(), gateway_6().octets(), 64)
        .tcp(1000, 80, 1, 1000)
        .syn();
    let frame = built(|out| frame.write(out, &[]).expect("it fits"));
    let reply = ask(&mut internal_gateway(), Instant::now(), &frame).expect("an error");
    assert_eq!(
        icmp_v6(&reply),
        Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port)
    );
}

#[test]
fn no_error_answers_an_error_a_group_or_nobody() {
    let error = to_gateway()
        .ipv4(STATION_4.octets(), OUTSIDE_4.octets(), 64)
        .icmpv4_raw(3, 1, [0; 4]);
    let group = to_gateway()
        .ipv4(STATION_4.octets(), [224, 0, 0, 251], 64)
        .udp(5353, 5353);
    let broadcast = to_gateway()
        .ipv4(STATION_4.octets(), [10, 0, 0, 255], 64)
        .udp(1, 2);
    let nobody = to_gateway().ipv4([0; 4], OUTSIDE_4.octets(), 64).udp(1, 2);
    let cases = [
        ("error", built(|out| error.write(out, &[0; 28]).expect("it fits"))),
        ("group", built(|out| group.write(out, b"?").expect("it fits"))),
        (
            "broadcast",
            built(|out| broadcast.write(out, b"?").expect("it fits")),
        ),
        ("nobody", built(|out| nobody.write(out, b"?").expect("it fits"))),
    ];
    for (name, frame) in cases {
        assert_eq!(ask(&mut gateway(), Instant::now(), &frame), None, "{name}");
    }
    let mut later_fragment = ping_4(OUTSIDE_4, 64);
    later_fragment[20..22].copy_from_slice(&[0, 5]);
    etherparse_checksum(&mut later_fragment);
    assert_eq!(
        ask(&mut gateway(), Instant::now(), &later_fragment),
        None,
        "later fragment"
    );
}

/// Brings the IPv4 header checksum up to date after an edit.
fn etherparse_checksum(frame: &mut [u8]) {
    let (header, _) = etherparse::Ipv4Header::from_slice(&frame[14..]).expect("an IPv4 header");
    frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
}

#[test]
fn errors_come_from_the_address_that_was_asked() {
    // RFC 4443 §2.2 (a).
    let link_local = GATEWAY.link_local();
    let station_link_local: Ipv6Addr = "fe80::2".parse().expect("an address");
    for (src, dst) in [
        (station_link_local, gateway_6()),
        (station_6(), link_local),
        (station_6(), gateway_6()),
    ] {
        let frame = to_gateway().ipv6(src.octets(), dst.octets(), 64).udp(1000, 53);
        let frame = built(|out| frame.write(out, b"?").expect("it fits"));
        let reply = ask(&mut internal_gateway(), Instant::now(), &frame).expect("an error");
        let Some(NetHeaders::Ipv6(ip, _)) = parsed(&reply).net else {
            panic!("no IPv6")
        };
        assert_eq!((ip.source_addr(), ip.destination_addr()), (dst, src));
    }
}

#[test]
fn a_flood_of_hopeless_packets_gets_few_errors() {
    let (mut gateway, now) = (gateway(), Instant::now());
    let frame = ping_4(OTHER_NETWORK_4, 64);
    let errors = (0..1000)
        .filter(|_| ask(&mut gateway, now, &frame).is_some())
        .count();
    assert_eq!(errors, BURST as usize);
    assert!(ask(&mut gateway, now + COST, &frame).is_none());
    assert!(
        ask(&mut gateway, now + PORT_COST, &frame).is_some(),
        "one more ten milliseconds later"
    );
    assert!(ask(&mut gateway, now + PORT_COST, &frame).is_none());
    assert!(
        ask(&mut gateway, now, &ping_4(GATEWAY_4, 64)).is_some(),
        "echo is no error"
    );
}

#[test]
fn one_station_does_not_silence_the_gateway_for_others() {
    let (mut gateway, start) = (gateway(), Instant::now());
    let frame = ping_4(OTHER_NETWORK_4, 64);
    for step in 0..1000 {
        ask_from(PortId(1), &mut gateway, start + COST * step, &frame);
    }
    let now = start + COST * 1000;
    let more = std::iter::repeat_with(|| ask_from(PortId(1), &mut gateway, now, &frame));
    assert!(more.take_while(Option::is_some).count() <= 1);
    assert!(ask_from(PortId(2), &mut gateway, now, &frame).is_some());
    gateway.forget(PortId(1));
    assert!(
        ask_from(PortId(1), &mut gateway, now, &frame).is_some(),
        "the port is another's now"
    );
}

#[test]
fn what_gets_no_error_costs_none() {
    let (mut gateway, now) = (gateway(), Instant::now());
    let mut later_fragment = ping_4(OTHER_NETWORK_4, 64);
    later_fragment[20..22].copy_from_slice(&[0, 5]);
    etherparse_checksum(&mut later_fragment);
    for _ in 0..1000 {
        assert_eq!(ask(&mut gateway, now, &later_fragment), None);
    }
    ask(&mut gateway, now, &ping_4(OTHER_NETWORK_4, 64)).expect("nothing was sent so far");
}

#[test]
fn errors_stay_within_their_size() {
    let step = to_gateway()
        .ipv4(STATION_4.octets(), OTHER_NETWORK_4.octets(), 64)
        .udp(1, 2);
    let frame = built(|out| step.write(out, &[0; 1400]).expect("it fits"));
    assert_eq!(
        ask(&mut gateway(), Instant::now(), &frame)
            .expect("an error")
            .len(),
        14 + 576
    );
    let step = to_gateway()
        .ipv6(
            station_6().octets(),
            [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5],
            64,
        )
        .udp(1, 2);
    let frame = built(|out| step.write(out, &[0; 1400]).expect("it fits"));
    assert_eq!(
        ask(&mut gateway(), Instant::now(), &frame)
            .expect("an error")
            .len(),
        14 + 1280
    );
}

#[test]
fn frames_cut_or_flipped_anywhere_never_panic() {
    let group = solicited_node(gateway_6());
    let samples = [
        arp(Op::REQUEST, STATION_4, GATEWAY_4),
        ping_4(GATEWAY_4, 64),
        ping_4(OTHER_NETWORK_4, 64),
        ping_6(station_6(), gateway_6(), 64),
        solicitation(station_6(), group, gateway_6(), 255, &[1, 1, 2, 0, 0, 0, 0, 1]),
    ];
    for sample in samples {
        for len in 0..sample.len() {
            ask(&mut gateway(), Instant::now(), &sample[..len]);
        }
        for bit in 0..sample.len() * 8 {
            let mut flipped = sample.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            ask(&mut gateway(), Instant::now(), &flipped);
        }
    }
}
