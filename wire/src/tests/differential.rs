//! Our parsers against etherparse, which validates, and pnet_packet, which does not: its fields are
//! compared only in packets that we take.

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pnet_packet::{Packet, ethernet, ipv4, ipv6, tcp, udp};
use proptest::{prelude::*, sample::Index};

use super::recipe::any_recipe;
use crate::{
    EthernetHeader, FlowKey, IpProtocol, Ipv4Packet, Ipv6Packet, NetworkLayer, TcpSegment, UdpDatagram,
    UpperLayer,
};

/// What both sides say of a frame with TCP or UDP in it.
#[derive(Debug, PartialEq)]
struct Reading {
    src: IpAddr,
    dst: IpAddr,
    ports: (u16, u16),
    tcp: Option<(u32, u32, u16, u8)>,
    checksum: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
}

/// `None` for a frame that is malformed, a fragment, or carries neither TCP nor UDP.
fn ours(frame: &[u8]) -> Option<Reading> {
    let (upper_layer, l3, end) = locate(frame)?;
    if upper_layer.fragment.is_some() {
        return None;
    }
    let key = FlowKey::from_frame(frame).ok()??;
    let ports = key.ports.map(|ports| (ports.src, ports.dst))?;
    let segment = &frame[l3 + upper_layer.offset..end];
    let (src, dst) = (key.src, key.dst);
    match key.protocol {
        IpProtocol::TCP => {
            let segment = TcpSegment::parse(segment).ok()?;
            let header = segment.header();
            Some(Reading {
                src,
                dst,
                ports,
                tcp: Some((
                    header.sequence(),
                    header.acknowledgment(),
                    header.window(),
                    header.flags().0,
                )),
                checksum: header.checksum(),
                options: segment.option_bytes().to_vec(),
                payload: segment.payload().to_vec(),
            })
        }
        IpProtocol::UDP => {
            let datagram = UdpDatagram::parse(segment).ok()?;
            Some(Reading {
                src,
                dst,
                ports,
                tcp: None,
                checksum: datagram.header().checksum(),
                options: Vec::new(),
                payload: datagram.payload().to_vec(),
            })
        }
        _ => None,
    }
}

/// The upper layer, the offset of the IP header, and the end of the packet.
fn locate(frame: &[u8]) -> Option<(UpperLayer, usize, usize)> {
    let l3 = NetworkLayer::parse(frame).ok()?.offset;
    match frame.get(l3)? >> 4 {
        4 => {
            let packet = Ipv4Packet::parse(&frame[l3..]).ok()?;
            Some((
                packet.upper_layer(),
                l3,
                l3 + usize::from(packet.header().total_len()),
            ))
        }
        _ => {
            let packet = Ipv6Packet::parse(&frame[l3..]).ok()?;
            Some((packet.upper_layer().ok()?, l3, l3 + 40 + packet.payload().len()))
        }
    }
}

fn etherparse_s(frame: &[u8]) -> Option<Reading> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (src, dst) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        NetSlice::Ipv6(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        _ => return None,
    };
    match packet.transport? {
        TransportSlice::Tcp(tcp) => Some(Reading {
            src,
            dst,
            ports: (tcp.source_port(), tcp.destination_port()),
            tcp: Some((
                tcp.sequence_number(),
                tcp.acknowledgment_number(),
                tcp.window_size(),
                tcp.slice()[13],
            )),
            checksum: tcp.checksum(),
            options: tcp.options().to_vec(),
            payload: tcp.payload().to_vec(),
        }),
        TransportSlice::Udp(udp) => Some(Reading {
            src,
            dst,
            ports: (udp.source_port(), udp.destination_port()),
            tcp: None,
            checksum: udp.checksum(),
            options: Vec::new(),
            payload: udp.payload().to_vec(),
        }),
        _ => None,
    }
}

/// pnet's fields at the offsets that we found.
fn assert_pnet_agrees(frame: &[u8], reading: &Reading) {
    let ethernet = ethernet::EthernetPacket::new(frame).unwrap();
    let (header, _) = EthernetHeader::parse(frame).unwrap();
    assert_eq!(ethernet.get_source().octets(), header.src.0);
    assert_eq!(ethernet.get_destination().octets(), header.dst.0);
    assert_eq!(ethernet.get_ethertype().0, header.ethertype.value());

    let (upper_layer, l3, _) = locate(frame).unwrap();
    match reading.src {
        IpAddr::V4(_) => {
            let theirs = ipv4::Ipv4Packet::new(&frame[l3..]).unwrap();
            let packet = Ipv4Packet::parse(&frame[l3..]).unwrap();
            let ours = packet.header();
            assert_eq!(
                (theirs.get_source(), theirs.get_destination()),
                (ours.src(), ours.dst())
            );
            assert_eq!(theirs.get_identification(), ours.id());
            assert_eq!(theirs.get_ttl(), ours.ttl());
            assert_eq!(theirs.get_checksum(), ours.checksum());
            assert_eq!(theirs.get_dscp() << 2 | theirs.get_ecn(), ours.tos());
            assert_eq!(theirs.get_flags() & 2 != 0, ours.dont_fragment());
            assert_eq!(
                ipv4::checksum(&theirs) == ours.checksum(),
                packet.has_valid_checksum()
            );
        }
        IpAddr::V6(_) => {
            let theirs = ipv6::Ipv6Packet::new(&frame[l3..]).unwrap();
            let ours = Ipv6Packet::parse(&frame[l3..]).unwrap().header();
            assert_eq!(
                (theirs.get_source(), theirs.get_destination()),
                (ours.src(), ours.dst())
            );
            assert_eq!(theirs.get_traffic_class(), ours.traffic_class());
            assert_eq!(theirs.get_flow_label(), ours.flow_label());
            assert_eq!(theirs.get_hop_limit(), ours.hop_limit());
        }
    }
    let segment = &frame[l3 + upper_layer.offset..];
    match reading.tcp {
        Some(fields) => {
            let theirs = tcp::TcpPacket::new(segment).unwrap();
            assert_eq!((theirs.get_source(), theirs.get_destination()), reading.ports);
            let found = (
                theirs.get_sequence(),
                theirs.get_acknowledgement(),
                theirs.get_window(),
                theirs.get_flags(),
            );
            assert_eq!(found, fields);
            assert_eq!(theirs.get_checksum(), reading.checksum);
        }
        None => {
            let theirs = udp::UdpPacket::new(segment).unwrap();
            assert_eq!((theirs.get_source(), theirs.get_destination()), reading.ports);
            assert_eq!(theirs.get_checksum(), reading.checksum);
            assert!(theirs.packet().len() >= reading.payload.len());
        }
    }
}

/// What we refuse, or do not read as ports, although etherparse reads it.
fn is_known_difference(frame: &[u8]) -> bool {
    let Ok(layer) = NetworkLayer::parse(frame) else {
        return false;
    };
    let packet = &frame[layer.offset..];
    let atomic_fragment = locate(frame).is_some_and(|(upper_layer, ..)| upper_layer.fragment.is_some());
    // An IP version that is not the EtherType's, a third tag, or another tag protocol.
    let not_ip = !matches!(layer.ethertype.value(), 0x0800 | 0x86dd);
    // An IPv6 payload length of 0 is "the rest of the slice" there, for jumbograms.
    let jumbogram = packet.first().is_some_and(|byte| byte >> 4 == 6) && packet[4..6] == [0, 0];
    // A UDP length of 0 likewise.
    let udp_jumbogram = locate(frame).is_some_and(|(upper_layer, l3, end)| {
        upper_layer.protocol == IpProtocol::UDP
            && frame[l3 + upper_layer.offset..end].get(4..6) == Some(&[0, 0])
    });
    // In IPv4 an authentication header is the upper layer for us.
    let authentication = packet
        .get(9)
        .is_some_and(|&protocol| packet[0] >> 4 == 4 && protocol == 51);
    atomic_fragment || authentication || not_ip || jumbogram || udp_jumbogram
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whole_frames_are_read_alike(recipe in any_recipe(0..60), padding in 0usize..20) {
        let mut frame = recipe.complete();
        frame.resize(frame.len() + padding, 0xa5);
        let reading = ours(&frame).unwrap();
        prop_assert_eq!(&reading.payload, &recipe.payload);
        let theirs = etherparse_s(&frame);
        prop_assert_eq!(Some(&reading), theirs.as_ref());
        assert_pnet_agrees(&frame, &reading);
    }

    /// Some header bytes are replaced: what we still take, etherparse takes and reads alike, and what it
    /// takes we take, but for known differences.
    #[test]
    fn damaged_frames_are_read_alike(
        recipe in any_recipe(0..60),
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut frame = recipe.complete();
        for (place, value) in damage {
            // The Ethernet addresses are left alone.
            frame[12 + place.index(recipe.header_len() - 12)] = value;
        }
        match (ours(&frame), etherparse_s(&frame)) {
            (Some(ours), Some(theirs)) => {
                prop_assert_eq!(&ours, &theirs);
                assert_pnet_agrees(&frame, &ours);
            }
            (Some(ours), None) => prop_assert!(false, "only we read {:?}", ours),
            (None, Some(theirs)) => {
                prop_assert!(is_known_difference(&frame), "only etherparse reads {:?}", theirs)
            }
            (None, None) => {}
        }
    }
}
