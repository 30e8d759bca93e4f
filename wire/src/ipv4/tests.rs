use super::*;
use crate::{
    IpVersion,
    tests::{
        mutilate,
        recipe::{DST4, Recipe, SRC4},
    },
};

fn sample() -> Vec<u8> {
    Recipe::udp(IpVersion::V4, 20).complete().split_off(14)
}

/// The sample with 8 bytes of options (router alert and padding).
fn with_options() -> Vec<u8> {
    let mut packet = sample();
    packet.splice(20..20, [0x94, 4, 0, 0, 1, 1, 1, 0]);
    packet[0] = 0x47;
    packet[3] += 8;
    packet[10..12].fill(0);
    let checksum = checksum::finish(checksum::sum(&packet[..28]));
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet
}

#[test]
fn padding_is_not_payload() {
    let mut bytes = sample();
    bytes.extend_from_slice(&[0xa5; 10]);
    let packet = Ipv4Packet::parse(&bytes).unwrap();
    assert_eq!(packet.payload().len(), 28);
    assert_eq!(packet.header().total_len(), 48);
    assert!(packet.has_valid_checksum());
}

#[test]
fn options_are_not_payload() {
    let bytes = with_options();
    let packet = Ipv4Packet::parse(&bytes).unwrap();
    assert_eq!(packet.options(), [0x94, 4, 0, 0, 1, 1, 1, 0]);
    assert_eq!(packet.payload(), &bytes[28..]);
    assert_eq!(packet.upper_layer().offset, 28);
    assert!(packet.has_valid_checksum());
    let mut changed = bytes;
    changed[21] ^= 1;
    assert!(!Ipv4Packet::parse(&changed).unwrap().has_valid_checksum());
}

/// Starts from a good packet and changes one byte a case.
#[test]
fn malformed_packets_are_refused() {
    for (name, place, value, error) in [
        ("version 6", 0, 0x65, Malformed::Version),
        ("version 0", 0, 0x05, Malformed::Version),
        ("header of 16 bytes", 0, 0x44, Malformed::HeaderLength),
        ("header of 0 bytes", 0, 0x40, Malformed::HeaderLength),
        ("header beyond the packet", 0, 0x4f, Malformed::Length),
        ("total length below the header", 3, 19, Malformed::Length),
        ("total length beyond the buffer", 3, 49, Malformed::Length),
    ] {
        let mut bytes = sample();
        bytes[place] = value;
        assert_eq!(Ipv4Packet::parse(&bytes).err(), Some(error), "{name}");
    }
    assert_eq!(
        Ipv4Packet::parse(&sample()[..19]).err(),
        Some(Malformed::Truncated)
    );
}

#[test]
fn fragments() {
    let fragment = |bits: u16| {
        let mut bytes = sample();
        bytes[6..8].copy_from_slice(&bits.to_be_bytes());
        Ipv4Packet::parse(&bytes).map(|packet| packet.header().fragment())
    };
    let id = 0x4849;
    assert_eq!(fragment(0x4000), Ok(None));
    assert_eq!(fragment(0x8000), Ok(None), "the reserved bit says nothing");
    assert_eq!(
        fragment(0x2000),
        Ok(Some(Fragment {
            id,
            offset: 0,
            more: true
        }))
    );
    assert_eq!(
        fragment(0x2001),
        Ok(Some(Fragment {
            id,
            offset: 8,
            more: true
        }))
    );
    // 48 bytes at most up to 65 535: the last offset is 65 487 rounded down to 8.
    assert_eq!(
        fragment(0x1ff9),
        Ok(Some(Fragment {
            id,
            offset: 65_480,
            more: false
        }))
    );
    assert_eq!(fragment(0x1ffa), Err(Malformed::Fragment));
}

#[test]
fn a_quoted_packet_may_be_cut() {
    let bytes = sample();
    assert_eq!(Ipv4Packet::parse(&bytes[..28]).err(), Some(Malformed::Length));
    assert_eq!(
        Ipv4Packet::parse_quoted(&bytes[..28]).unwrap().payload(),
        &bytes[20..28]
    );
    assert_eq!(
        Ipv4Packet::parse_quoted(&with_options()[..27]).err(),
        Some(Malformed::Truncated)
    );
}

#[test]
fn a_new_header_is_complete() {
    let header = Ipv4Header::new(SRC4, DST4, IpProtocol::UDP, 28).unwrap();
    let bytes = [header.as_bytes(), &[0; 28]].concat();
    let packet = Ipv4Packet::parse(&bytes).unwrap();
    assert!(packet.has_valid_checksum());
    assert!(header.dont_fragment() && !header.more_fragments());
    assert_eq!(
        (header.src(), header.dst(), header.ttl(), header.total_len()),
        (SRC4, DST4, 64, 48)
    );
    assert!(Ipv4Header::new(SRC4, DST4, IpProtocol::UDP, 65_515).is_some());
    assert!(Ipv4Header::new(SRC4, DST4, IpProtocol::UDP, 65_516).is_none());
    assert!(Ipv4Header::new(SRC4, DST4, IpProtocol::UDP, usize::MAX).is_none());
}

#[test]
fn rewriting_keeps_the_checksum_right() {
    let mut bytes = with_options();
    let (header, _) = Ipv4Header::parse_mut(&mut bytes).unwrap();
    let (src, dst) = (Ipv4Addr::new(203, 0, 113, 9), Ipv4Addr::new(255, 255, 0, 1));
    header.set_src(src);
    header.set_dst(dst);
    header.set_ttl(1);
    header.set_id(0xffff);
    let packet = Ipv4Packet::parse(&bytes).unwrap();
    assert!(packet.has_valid_checksum());
    let header = packet.header();
    assert_eq!(
        (header.src(), header.dst(), header.ttl(), header.id()),
        (src, dst, 1, 0xffff)
    );
    assert_eq!(header.protocol(), IpProtocol::UDP);
}

#[test]
fn parsing_survives_mutilation() {
    mutilate(&with_options(), 28, |bytes| {
        if let Ok(packet) = Ipv4Packet::parse(bytes) {
            assert!(packet.upper_layer().offset <= bytes.len());
            let _ = packet.has_valid_checksum();
        }
        let _ = Ipv4Packet::parse_quoted(bytes);
    });
}
