use vswitch_testkit::frames::{Packet, Upper};
use vswitch_wire::{Icmpv4Packet, Icmpv6Packet, Ipv4Packet, Ipv6Packet};

use super::{ways::frame_len, *};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn padding_behind_a_packet_is_left_behind() {
    let packets = [
        Packet::tcp([10, 0, 0, 2], [192, 0, 2, 1]),
        Packet::udp(ip("fd00::2"), ip("2001:db8::1")),
    ];
    for packet in packets {
        let bytes = packet.frame(MacAddr::ZERO, MacAddr::ZERO).bytes();
        for padding in [0, 1, 18] {
            let padded = [&bytes[..], &vec![0xaa; padding]].concat();
            assert_eq!(frame_len(&padded), bytes.len(), "{packet:?} and {padding}");
        }
        for len in 0..bytes.len() {
            assert!(frame_len(&bytes[..len]) <= len, "cut at {len}");
        }
    }
}

#[test]
fn a_complaint_comes_from_where_the_packet_went_and_is_signed_by_the_gateway() {
    let gateways = || [ip("10.0.0.1"), ip("fd00::1")].into_iter();
    let mut frame = Vec::new();
    let lost = Packet::udp([192, 0, 2, 10], [198, 51, 100, 7]).bytes();
    complain(&lost, Refusal::HostUnreachable, &mut frame).expect("it may be told");
    let packet = &mut frame[EthernetHeader::LEN..];
    wire::set_icmp_source(packet, gateways()).expect("a gateway");
    let packet = Ipv4Packet::parse(packet).expect("a packet");
    assert!(packet.has_valid_checksum());
    assert_eq!(
        (packet.header().src(), packet.header().dst()),
        ([10, 0, 0, 1].into(), [192, 0, 2, 10].into())
    );
    let icmp = Icmpv4Packet::parse(packet.payload()).expect("ICMP");
    assert_eq!((icmp.header().kind(), icmp.header().code()), (3, 1));
    assert!(icmp.has_valid_checksum());

    let lost = Packet::udp(ip("2001:db8:1::a"), ip("2001:db8:2::7")).bytes();
    complain(&lost, Refusal::HostUnreachable, &mut frame).expect("it may be told");
    let packet = &mut frame[EthernetHeader::LEN..];
    wire::set_icmp_source(packet, gateways()).expect("a gateway");
    let packet = Ipv6Packet::parse(packet).expect("a packet");
    let (src, dst) = (packet.header().src(), packet.header().dst());
    assert_eq!(
        (IpAddr::V6(src), IpAddr::V6(dst)),
        (ip("fd00::1"), ip("2001:db8:1::a"))
    );
    let icmp = Icmpv6Packet::parse(packet.payload()).expect("ICMPv6");
    assert_eq!((icmp.header().kind(), icmp.header().code()), (1, 3));
    assert!(icmp.has_valid_checksum(src, dst));
}

#[test]
fn nobody_complains_about_complaints() {
    let error = Packet::new([192, 0, 2, 10], [198, 51, 100, 7], Upper::Icmp(3, 1, vec![0; 32]));
    assert!(complain(&error.bytes(), Refusal::HostUnreachable, &mut Vec::new()).is_none());
    assert!(complain(&[], Refusal::HostUnreachable, &mut Vec::new()).is_none());
}

#[test]
fn the_outside_has_no_place_among_the_networks() {
    assert_eq!((place_of(Zone(1)), place_of(Zone(7))), (0, 6));
    assert!([0_u8; 0].get(place_of(Zone::OUTSIDE)).is_none());
    assert_eq!(place_of(Zone::OUTSIDE), usize::MAX);
}
