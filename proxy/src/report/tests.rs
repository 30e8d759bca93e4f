use vswitch_wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, Ipv4Packet, Ipv6Packet, UdpDatagram, checksum,
};

use crate::mock::Side;

use super::*;

#[test]
fn r_udp_6_an_error_quotes_the_datagram_v4() {
    let mut side = Side::new(V4[0], V4[1]);
    let headers = Headers {
        hops: 2,
        class: 0xb8,
        fragmentation: Fragmentation::Allowed,
    };
    let payload = pattern(2000);
    let quote = Quote {
        protocol: QuotedProtocol::Udp,
        headers,
        payload: &payload,
    };
    let from: IpAddr = "198.51.100.7".parse().expect("an address");
    let error = Icmpv4Error::HOPS_EXCEEDED;
    side.inbound()
        .report(IcmpError::V4(error), from, &quote, &mut [0; 2000]);
    assert_eq!(side.counters.errors_passed, 1);
    let frames = side.wire_frames();
    let packet = Ipv4Packet::parse(&frames[0][14..]).expect("IPv4");
    assert!(packet.has_valid_checksum());
    assert_eq!(packet.header().total_len(), 576);
    assert_eq!(IpAddr::from(packet.header().src()), from);
    assert_eq!(packet.header().dst().to_string(), "10.0.0.2");
    let message = Icmpv4Packet::parse(packet.payload()).expect("ICMP");
    assert!(message.has_valid_checksum());
    let Icmpv4Message::Error { error: told, quoted } = message.message() else {
        panic!("no error");
    };
    assert_eq!(told, error);
    let quoted = Ipv4Packet::parse_quoted(quoted).expect("a quote");
    assert!(quoted.has_valid_checksum());
    assert_eq!(quoted.header().total_len(), 2028);
    assert_eq!((quoted.header().ttl(), quoted.header().tos()), (2, 0xb8));
    assert!(!quoted.header().dont_fragment());
    assert_eq!(quoted.header().src().to_string(), "10.0.0.2");
    assert_eq!(quoted.header().dst().to_string(), "203.0.113.5");
    assert_eq!(
        quoted.payload()[..4],
        [40_000u16.to_be_bytes(), 80u16.to_be_bytes()].concat()
    );
    assert_eq!(quoted.payload()[8..], payload[..quoted.payload().len() - 8]);
}

#[test]
fn r_udp_6_an_error_quotes_the_datagram_v6() {
    let mut side = Side::new(V6[0], V6[1]);
    let payload = pattern(3000);
    let quote = Quote {
        protocol: QuotedProtocol::Udp,
        headers: Headers {
            hops: 3,
            class: 0xb8,
            fragmentation: Fragmentation::Forbidden,
        },
        payload: &payload,
    };
    let gateway = side.gateway;
    let error = Icmpv6Error::PacketTooBig { mtu: 1400 };
    side.inbound()
        .report(IcmpError::V6(error), gateway, &quote, &mut [0; 2000]);
    let frames = side.wire_frames();
    assert_eq!(frames[0].len(), 14 + 1280);
    let packet = Ipv6Packet::parse(&frames[0][14..]).expect("IPv6");
    let (src, dst) = (packet.header().src(), packet.header().dst());
    assert_eq!(
        (src.to_string(), dst.to_string()),
        ("fd00::1".into(), "fd00::2".into())
    );
    let message = Icmpv6Packet::parse(packet.payload()).expect("ICMPv6");
    assert!(message.has_valid_checksum(src, dst));
    let Icmpv6Message::Error { error: told, quoted } = message.message() else {
        panic!("no error");
    };
    assert_eq!(told, error);
    let quoted = Ipv6Packet::parse_quoted(quoted).expect("a quote");
    assert_eq!(quoted.header().payload_len(), 3008);
    assert_eq!(
        (quoted.header().hop_limit(), quoted.header().traffic_class()),
        (3, 0xb8)
    );
    assert_eq!(quoted.payload()[8..], payload[..quoted.payload().len() - 8]);
}

#[test]
fn r_udp_6_a_short_quote_is_a_whole_packet() {
    let mut side = Side::new(V4[0], V4[1]);
    let quote = Quote {
        protocol: QuotedProtocol::Udp,
        headers: Headers::DEFAULT,
        payload: b"hello",
    };
    let from = side.path.remote.ip();
    side.inbound().report(
        IcmpError::V4(Icmpv4Error::PORT_UNREACHABLE),
        from,
        &quote,
        &mut [0; 2000],
    );
    let frames = side.wire_frames();
    let quoted = Ipv4Packet::parse(&frames[0][14 + 28..]).expect("a whole packet");
    let datagram = UdpDatagram::parse(quoted.payload()).expect("a datagram");
    let pseudo_header = checksum::pseudo_header_v4(
        quoted.header().src(),
        quoted.header().dst(),
        IpProtocol::UDP,
        datagram.header().len(),
    );
    assert!(datagram.has_valid_checksum(pseudo_header));
    assert_eq!(datagram.payload(), b"hello");
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + index / 251) as u8).collect()
}

const V4: [&str; 2] = ["10.0.0.2:40000", "203.0.113.5:80"];
const V6: [&str; 2] = ["[fd00::2]:40000", "[2001:db8::5]:80"];
