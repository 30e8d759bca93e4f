use std::net::Ipv6Addr;

use zerocopy::IntoBytes;

use crate::{
    IcmpHeader, Icmpv4Error, Icmpv4Message, Icmpv4Packet, Icmpv6Error, Icmpv6Message, Icmpv6Packet,
    IpProtocol, IpVersion, Ipv4Header, Ipv4Packet, Ipv6Header, Ipv6Packet, Malformed, NoRoom, answer_echo_v4,
    answer_echo_v6, may_report_v4, may_report_v6,
    tests::{
        mutilate,
        recipe::{DST4, DST6, Recipe, SRC4, SRC6},
    },
};

fn ipv4_echo() -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv4(SRC4.octets(), DST4.octets(), 64);
    let mut packet = Vec::new();
    builder
        .icmpv4_echo_request(0x1234, 7)
        .write(&mut packet, b"data")
        .unwrap();
    packet
}

fn ipv6_echo() -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv6(SRC6.octets(), DST6.octets(), 64);
    let mut packet = Vec::new();
    builder
        .icmpv6_echo_request(0x1234, 7)
        .write(&mut packet, b"data")
        .unwrap();
    packet
}

#[test]
fn an_echo_request_becomes_its_reply() {
    let mut message = ipv4_echo()[20..].to_vec();
    assert!(Icmpv4Packet::parse(&message).unwrap().has_valid_checksum());
    answer_echo_v4(&mut message).unwrap();
    let reply = Icmpv4Packet::parse(&message).unwrap();
    assert!(reply.has_valid_checksum());
    let Icmpv4Message::EchoReply(echo) = reply.message() else {
        panic!("{reply:?}")
    };
    assert_eq!((echo.id, echo.sequence, echo.data), (0x1234, 7, &b"data"[..]));
    assert_eq!(answer_echo_v4(&mut message), Err(Malformed::Type));
    assert_eq!(answer_echo_v4(&mut message[..7]), Err(Malformed::Truncated));

    let mut message = ipv6_echo()[40..].to_vec();
    answer_echo_v6(&mut message).unwrap();
    let reply = Icmpv6Packet::parse(&message).unwrap();
    assert!(reply.has_valid_checksum(DST6, SRC6));
    let Icmpv6Message::EchoReply(echo) = reply.message() else {
        panic!("{reply:?}")
    };
    assert_eq!((echo.id, echo.sequence, echo.data), (0x1234, 7, &b"data"[..]));
    assert_eq!(answer_echo_v6(&mut message), Err(Malformed::Type));
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let mut message = ipv4_echo()[20..].to_vec();
    message[9] ^= 1;
    answer_echo_v4(&mut message).unwrap();
    assert!(!Icmpv4Packet::parse(&message).unwrap().has_valid_checksum());
}

#[test]
fn another_identifier_keeps_the_checksum_right() {
    let mut message = ipv4_echo()[20..].to_vec();
    let (header, _) = IcmpHeader::parse_mut(&mut message).unwrap();
    header.set_echo_id(0xfffe);
    let message = Icmpv4Packet::parse(&message).unwrap();
    assert!(message.has_valid_checksum());
    assert_eq!(message.header().echo_id(), 0xfffe);
}

#[test]
fn errors_are_read_as_they_were_written() {
    let packet = ipv4_echo();
    let mut out = [0; 600];
    for error in [
        Icmpv4Error::PORT_UNREACHABLE,
        Icmpv4Error::PROHIBITED,
        Icmpv4Error::FragmentationNeeded { mtu: 1400 },
        Icmpv4Error::ParameterProblem { code: 0, pointer: 20 },
        Icmpv4Error::Redirect {
            code: 1,
            gateway: [10, 0, 0, 254],
        },
        Icmpv4Error::SourceQuench,
        Icmpv4Error::HOPS_EXCEEDED,
    ] {
        let len = error.emit(&packet, &mut out).unwrap();
        let message = Icmpv4Packet::parse(&out[..len]).unwrap();
        assert!(message.has_valid_checksum());
        assert_eq!(
            message.message(),
            Icmpv4Message::Error {
                error,
                quoted: &packet
            }
        );
        assert!(etherparse::Icmpv4Slice::from_slice(&out[..len]).is_ok());
    }

    let packet = ipv6_echo();
    for error in [
        Icmpv6Error::NO_ROUTE,
        Icmpv6Error::PacketTooBig { mtu: 1400 },
        Icmpv6Error::ParameterProblem { code: 1, pointer: 40 },
        Icmpv6Error::HOPS_EXCEEDED,
    ] {
        let len = error.emit(DST6, SRC6, &packet, &mut out).unwrap();
        let message = Icmpv6Packet::parse(&out[..len]).unwrap();
        assert!(message.has_valid_checksum(DST6, SRC6));
        assert!(!message.has_valid_checksum(DST6, DST6));
        assert_eq!(
            message.message(),
            Icmpv6Message::Error {
                error,
                quoted: &packet
            }
        );
        let oracle = etherparse::Icmpv6Slice::from_slice(&out[..len]).unwrap();
        assert!(oracle.is_checksum_valid(DST6.octets(), SRC6.octets()));
    }
}

/// RFC 1812 §4.3.2.3 and RFC 4443 §2.4 (c).
#[test]
fn errors_quote_as_much_as_fits() {
    let long = Recipe::udp(IpVersion::V4, 1400).complete();
    let mut out = [0; 1500];
    assert_eq!(Icmpv4Error::PORT_UNREACHABLE.emit(&long[14..], &mut out), Ok(556));
    assert_eq!(out[8..556], long[14..14 + 548]);
    assert_eq!(
        Icmpv4Error::PORT_UNREACHABLE.emit(&long[14..], &mut out[..555]),
        Err(NoRoom)
    );
    let quoted = Ipv4Packet::parse_quoted(&out[8..556]).unwrap();
    assert_eq!(quoted.payload().len(), 528);

    let long = Recipe::udp(IpVersion::V6, 1400).complete();
    assert_eq!(
        Icmpv6Error::PORT_UNREACHABLE.emit(DST6, SRC6, &long[14..], &mut out),
        Ok(1240)
    );
    assert_eq!(out[8..1240], long[14..14 + 1232]);
    let quoted = Ipv6Packet::parse_quoted(&out[8..1240]).unwrap();
    assert_eq!(quoted.payload().len(), 1192);
}

/// RFC 1122 §3.2.2, one forbidden thing a case.
#[test]
fn some_packets_get_no_error_v4() {
    let report = |src, dst, protocol, payload: &[u8], fragment: [u8; 2]| {
        let header = Ipv4Header::new(src, dst, protocol, payload.len()).unwrap();
        let mut packet = [header.as_bytes(), payload].concat();
        packet[6..8].copy_from_slice(&fragment);
        may_report_v4(&Ipv4Packet::parse(&packet).unwrap())
    };
    let echo = [8, 0, 0, 0, 0, 0, 0, 0];
    let unreachable = [3, 3, 0, 0, 0, 0, 0, 0];
    let udp = |src: [u8; 4], dst: [u8; 4]| report(src.into(), dst.into(), IpProtocol::UDP, &echo, [0, 0]);
    let (here, there) = ([10, 0, 0, 2], [10, 0, 0, 1]);
    assert!(udp(here, there));
    assert!(!udp([0, 0, 0, 0], there));
    assert!(!udp([127, 0, 0, 1], there));
    assert!(!udp([224, 0, 0, 1], there));
    assert!(!udp([255; 4], there));
    assert!(!udp([240, 0, 0, 1], there));
    assert!(!udp(here, [224, 0, 0, 1]));
    assert!(!udp(here, [255; 4]));
    assert!(
        report(SRC4, DST4, IpProtocol::UDP, &echo, [0x20, 0]),
        "first fragment"
    );
    assert!(
        !report(SRC4, DST4, IpProtocol::UDP, &echo, [0, 1]),
        "later fragment"
    );
    assert!(report(SRC4, DST4, IpProtocol::ICMP, &echo, [0, 0]));
    assert!(
        !report(SRC4, DST4, IpProtocol::ICMP, &unreachable, [0, 0]),
        "about an error"
    );
    assert!(
        !report(SRC4, DST4, IpProtocol::ICMP, &unreachable[..4], [0, 0]),
        "about who knows what"
    );
}

/// RFC 4443 §2.4 (e).
#[test]
fn some_packets_get_no_error_v6() {
    let report = |src: Ipv6Addr, dst: Ipv6Addr, protocol, payload: &[u8]| {
        let header = Ipv6Header::new(src, dst, protocol, payload.len()).unwrap();
        may_report_v6(&Ipv6Packet::parse(&[header.as_bytes(), payload].concat()).unwrap())
    };
    let message = |kind| [kind, 0, 0, 0, 0, 0, 0, 0];
    let group: Ipv6Addr = "ff02::1".parse().unwrap();
    let udp = |src, dst| report(src, dst, IpProtocol::UDP, &[0; 8]);
    assert!(udp(SRC6, DST6));
    assert!(!udp(Ipv6Addr::UNSPECIFIED, DST6));
    assert!(!udp(Ipv6Addr::LOCALHOST, DST6));
    assert!(!udp(group, DST6));
    assert!(!udp(SRC6, group));
    assert!(report(SRC6, DST6, IpProtocol::ICMPV6, &message(128)));
    assert!(
        !report(SRC6, DST6, IpProtocol::ICMPV6, &message(1)),
        "about an error"
    );
    assert!(
        !report(SRC6, DST6, IpProtocol::ICMPV6, &message(137)),
        "about a redirect"
    );
    assert!(
        !report(SRC6, DST6, IpProtocol::FRAGMENT, &[17, 0, 0, 8, 0, 0, 0, 1]),
        "later fragment"
    );
    assert!(!report(SRC6, DST6, IpProtocol::ROUTING, &[17]), "malformed");
}

#[test]
fn parsing_survives_mutilation() {
    mutilate(&ipv4_echo(), 28, |bytes| {
        if let Ok(packet) = Ipv4Packet::parse(bytes) {
            let _ = may_report_v4(&packet);
            let _ = Icmpv4Packet::parse(packet.payload()).map(|message| message.message());
        }
        let _ = answer_echo_v4(&mut bytes.to_vec());
    });
    mutilate(&ipv6_echo(), 48, |bytes| {
        if let Ok(packet) = Ipv6Packet::parse(bytes) {
            let _ = may_report_v6(&packet);
            let _ = Icmpv6Packet::parse(packet.payload()).map(|message| message.message());
        }
        let _ = answer_echo_v6(&mut bytes.to_vec());
    });
}
