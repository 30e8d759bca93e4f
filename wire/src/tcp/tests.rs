use super::*;
use crate::{
    IpProtocol, IpVersion,
    tests::{
        mutilate,
        recipe::{DST4, Protocol, Recipe, SRC4},
    },
};

fn sample() -> Vec<u8> {
    let protocol = Protocol::Tcp {
        flags: 0x19,
        sequence: 7,
        options: true,
    };
    Recipe {
        protocol,
        ..Recipe::tcp(IpVersion::V4, 5)
    }
    .complete()
    .split_off(34)
}

fn options(bytes: &[u8]) -> Vec<Result<TcpOption<'_>, Malformed>> {
    TcpOptions::new(bytes).collect()
}

#[test]
fn a_segment_is_read() {
    let bytes = sample();
    let segment = TcpSegment::parse(&bytes).unwrap();
    let header = segment.header();
    assert_eq!((header.src_port(), header.dst_port()), (40000, 80));
    assert_eq!(
        (header.sequence(), header.acknowledgment(), header.window()),
        (7, 0x0102_0304, 0xffff)
    );
    assert_eq!(header.flags(), TcpFlags::FIN | TcpFlags::PSH | TcpFlags::ACK);
    assert_eq!(header.flags().to_string(), "FPA");
    assert_eq!(
        (
            header.header_len(),
            segment.payload().len(),
            segment.sequence_len()
        ),
        (32, 5, 6)
    );
    let timestamps = TcpOption::Timestamps { value: 7, echo: 9 };
    assert_eq!(options(segment.option_bytes()), [Ok(timestamps)]);
    let pseudo_header = checksum::pseudo_header_v4(SRC4, DST4, IpProtocol::TCP, bytes.len() as u16);
    assert!(segment.has_valid_checksum(pseudo_header));
    assert!(!segment.has_valid_checksum(pseudo_header + 1));
}

#[test]
fn malformed_segments_are_refused() {
    let mut bytes = sample();
    bytes[12] = 0x40;
    assert_eq!(TcpSegment::parse(&bytes).err(), Some(Malformed::HeaderLength));
    bytes[12] = 0xf0;
    assert_eq!(TcpSegment::parse(&bytes).err(), Some(Malformed::Length));
    assert_eq!(TcpSegment::parse(&bytes[..19]).err(), Some(Malformed::Truncated));
}

#[test]
fn the_options_of_a_syn_are_read() {
    // As Linux sends them: MSS, SACK permitted, timestamps, NOP, window scale.
    let syn = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    assert_eq!(
        options(&syn),
        [
            Ok(TcpOption::MaximumSegmentSize(1460)),
            Ok(TcpOption::SackPermitted),
            Ok(TcpOption::Timestamps { value: 1, echo: 0 }),
            Ok(TcpOption::WindowScale(7)),
        ]
    );
    let block = [0, 0, 0, 1, 0, 0, 0, 2];
    assert_eq!(
        options(&[&[1, 1, 5, 10][..], &block].concat()),
        [Ok(TcpOption::Sack(&[block]))]
    );
}

#[test]
fn odd_options_end_or_are_unknown() {
    assert_eq!(options(&[1, 0, 2, 4, 5, 0xb4]), [], "nothing behind the end");
    assert_eq!(
        options(&[2, 0, 1, 1]),
        [Err(Malformed::OptionLength)],
        "length zero"
    );
    assert_eq!(
        options(&[2, 1, 1, 1]),
        [Err(Malformed::OptionLength)],
        "length one"
    );
    assert_eq!(
        options(&[1, 2, 4, 5]),
        [Err(Malformed::OptionLength)],
        "beyond the header"
    );
    assert_eq!(options(&[2]), [Err(Malformed::OptionLength)], "no length");
    let short_mss = TcpOption::Other { kind: 2, data: &[9] };
    assert_eq!(
        options(&[2, 3, 9, 254, 2]),
        [Ok(short_mss), Ok(TcpOption::Other { kind: 254, data: &[] })]
    );
}

#[test]
fn a_new_header_has_room_for_options() {
    let mut header = TcpHeader::new(1, 2, 12).unwrap();
    header.set_sequence(3);
    header.set_acknowledgment(4);
    header.set_flags(TcpFlags::SYN | TcpFlags::ECE | TcpFlags::CWR);
    header.set_window(5);
    header.set_checksum(6);
    header.set_src_port(7);
    header.set_dst_port(8);
    assert_eq!(
        header.as_bytes(),
        [0, 7, 0, 8, 0, 0, 0, 3, 0, 0, 0, 4, 0x80, 0xc2, 0, 5, 0, 6, 0, 0]
    );
    assert!(TcpHeader::new(1, 2, 40).is_some());
    assert!(TcpHeader::new(1, 2, 44).is_none());
    assert!(TcpHeader::new(1, 2, 3).is_none());
}

#[test]
fn parsing_survives_mutilation() {
    mutilate(&sample(), 32, |bytes| {
        if let Ok(segment) = TcpSegment::parse(bytes) {
            assert!(segment.options().count() <= 40);
        }
    });
}
