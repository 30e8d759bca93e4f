use super::*;
use crate::{
    IpProtocol, IpVersion,
    tests::{
        mutilate,
        recipe::{DST4, Recipe, SRC4},
    },
};

fn sample() -> Vec<u8> {
    Recipe::udp(IpVersion::V4, 5).complete().split_off(34)
}

fn pseudo_header() -> u32 {
    checksum::pseudo_header_v4(SRC4, DST4, IpProtocol::UDP, 13)
}

#[test]
fn a_datagram_is_read() {
    let bytes = [&sample()[..], &[0xa5; 3]].concat();
    let datagram = UdpDatagram::parse(&bytes).unwrap();
    assert_eq!(
        (datagram.header().src_port(), datagram.header().dst_port()),
        (40000, 53)
    );
    assert_eq!((datagram.header().len(), datagram.payload()), (13, &bytes[8..13]));
    assert!(datagram.has_valid_checksum(pseudo_header()));
    assert!(!datagram.has_valid_checksum(pseudo_header() + 1));
}

#[test]
fn a_length_that_does_not_fit_is_refused() {
    for (len, expected) in [
        (0, false),
        (7, false),
        (8, true),
        (12, true),
        (13, true),
        (14, false),
    ] {
        let mut bytes = sample();
        bytes[5] = len;
        assert_eq!(UdpDatagram::parse(&bytes).is_ok(), expected, "length {len}");
    }
    assert_eq!(
        UdpDatagram::parse(&sample()[..7]).err(),
        Some(Malformed::Truncated)
    );
}

#[test]
fn no_checksum_is_valid() {
    let mut bytes = sample();
    bytes[6..8].fill(0);
    assert!(
        UdpDatagram::parse(&bytes)
            .unwrap()
            .has_valid_checksum(pseudo_header())
    );
}

#[test]
fn a_header_is_filled_as_etherparse_does() {
    let bytes = sample();
    let mut header = UdpHeader::new(40000, 53, 5).unwrap();
    assert!(!header.is_empty());
    header.fill_checksum(pseudo_header(), &bytes[8..]);
    assert_eq!(header.as_bytes(), &bytes[..8]);
    header.fill_checksum(pseudo_header(), &bytes[8..]);
    assert_eq!(header.as_bytes(), &bytes[..8], "twice is as once");
    assert!(UdpHeader::new(1, 2, 65_528).is_none());
    assert!(UdpHeader::new(1, 2, 0).unwrap().is_empty());
}

#[test]
fn a_rewritten_port_updates_the_checksum() {
    let mut bytes = sample();
    let (header, _) = UdpHeader::parse_mut(&mut bytes).unwrap();
    let updated = checksum::update_udp(header.checksum(), |sum| checksum::update16(sum, 40000, 7));
    header.set_src_port(7);
    header.set_checksum(updated);
    let datagram = UdpDatagram::parse(&bytes).unwrap();
    assert!(datagram.has_valid_checksum(pseudo_header()));
    assert_ne!(datagram.header().checksum(), 0);
}

#[test]
fn parsing_survives_mutilation() {
    mutilate(&sample(), UdpHeader::LEN, |bytes| {
        if let Ok(datagram) = UdpDatagram::parse(bytes) {
            assert!(datagram.payload().len() + UdpHeader::LEN <= bytes.len());
        }
    });
}
