use std::io::Cursor;

use pcap_parser::{
    PcapBlockOwned, PcapError, PcapNGReader,
    pcapng::Block,
    traits::{PcapNGPacketBlock, PcapReaderIterator},
};

use super::*;

type Taken = (u64, Option<String>, u64, Vec<u8>, u32);

/// Everything in a capture, and how it ended.
fn read(bytes: &[u8]) -> (Vec<Taken>, Option<CaptureError>) {
    let mut taken = Vec::new();
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (taken, Some(error)),
    };
    loop {
        match reader.read() {
            Ok(Some(record)) => taken.push((
                record.number,
                record.interface.name.clone(),
                record.time.0,
                record.bytes.to_vec(),
                record.len,
            )),
            Ok(None) => return (taken, None),
            Err(error) => return (taken, Some(error)),
        }
    }
}

/// Three packets on two interfaces, by our own writer.
fn written() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).expect("a vector takes everything");
    let lan = writer.add_interface("lan", LinkType::ETHERNET).expect("as above");
    let outside = writer.add_interface("outside", LinkType::RAW).expect("as above");
    for (interface, time, header, packet) in [
        (
            lan,
            1_700_000_000_123_456_789,
            &b"0123456789abcd"[..],
            &b"hello"[..],
        ),
        (outside, 1_700_000_000_123_456_790, b"", b"hello!"),
        (lan, u64::MAX, b"", b""),
    ] {
        writer
            .write(interface, Timestamp(time), [header, packet])
            .expect("as above");
    }
    writer.finish().expect("as above")
}

fn classic(order: fn(u32) -> [u8; 4], magic: u32) -> Vec<u8> {
    let version = order(if is_big(order) { 0x0002_0004 } else { 0x0004_0002 });
    let mut bytes = [order(magic), version, [0; 4], [0; 4], order(262_144), order(1)].concat();
    for (seconds, part, packet) in [(5, 7, &b"abc"[..]), (6, 999, b"defgh")] {
        let len = packet.len() as u32;
        bytes.extend([order(seconds), order(part), order(len), order(len + 1)].concat());
        bytes.extend(packet);
    }
    bytes
}

/// A section in a byte order with these blocks of type and body.
fn section(order: fn(u32) -> [u8; 4], blocks: &[(u32, &[u8])]) -> Vec<u8> {
    let version = if is_big(order) { [0, 1, 0, 0] } else { [1, 0, 0, 0] };
    let head = [order(block::BYTE_ORDER), version, [0xff; 4], [0xff; 4]].concat();
    let mut bytes = Vec::new();
    for (kind, body) in [(block::SECTION, &head[..])].iter().chain(blocks) {
        let len = order(body.len() as u32 + 12);
        bytes.extend([&order(*kind)[..], &len, body, &len].concat());
    }
    bytes
}

const BIG: fn(u32) -> [u8; 4] = u32::to_be_bytes;
const LITTLE: fn(u32) -> [u8; 4] = u32::to_le_bytes;

fn is_big(order: fn(u32) -> [u8; 4]) -> bool {
    order(1) == [0, 0, 0, 1]
}

#[test]
fn what_was_written_is_read_back() {
    let (taken, error) = read(&written());
    assert!(error.is_none(), "{error:?}");
    let lan = || Some("lan".to_owned());
    assert_eq!(
        taken,
        [
            (
                1,
                lan(),
                1_700_000_000_123_456_789,
                b"0123456789abcdhello".to_vec(),
                19
            ),
            (
                2,
                Some("outside".into()),
                1_700_000_000_123_456_790,
                b"hello!".to_vec(),
                6
            ),
            (3, lan(), u64::MAX, Vec::new(), 0),
        ]
    );
}

#[test]
fn others_read_what_was_written() {
    let mut reader = PcapNGReader::new(65_536, Cursor::new(written())).expect("it is pcapng");
    let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
    loop {
        match reader.next() {
            Ok((offset, PcapBlockOwned::NG(block))) => {
                match block {
                    Block::InterfaceDescription(interface) => {
                        assert_eq!(interface.if_tsresol, 9);
                        let name = interface.if_name().and_then(Result::ok).map(str::to_owned);
                        interfaces.push((name, interface.linktype.0));
                    }
                    Block::EnhancedPacket(packet) => {
                        let time = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                        packets.push((packet.if_id, time, packet.packet_data().to_vec(), packet.origlen));
                    }
                    Block::SectionHeader(_) => {}
                    other => panic!("{other:?}"),
                }
                reader.consume(offset);
            }
            Ok((_, _)) => panic!("it is pcapng"),
            Err(PcapError::Eof) => break,
            Err(PcapError::Incomplete(_)) => reader.refill().expect("a slice can be read"),
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(
        interfaces,
        [(Some("lan".to_owned()), 1), (Some("outside".to_owned()), 101)]
    );
    assert_eq!(packets.len(), 3);
    assert_eq!(
        packets[0],
        (0, 1_700_000_000_123_456_789, b"0123456789abcdhello".to_vec(), 19)
    );
    assert_eq!(packets[1], (1, 1_700_000_000_123_456_790, b"hello!".to_vec(), 6));
}

#[test]
fn classic_captures_are_read_in_both_orders_and_resolutions() {
    for (order, magic, nanos) in [
        (BIG, 0xa1b2_c3d4, 1000),
        (LITTLE, 0xa1b2_c3d4, 1000),
        (BIG, 0xa1b2_3c4d, 1),
        (LITTLE, 0xa1b2_3c4d, 1),
    ] {
        let (taken, error) = read(&classic(order, magic));
        assert!(error.is_none(), "{error:?}");
        assert_eq!(
            taken,
            [
                (1, None, 5_000_000_000 + 7 * nanos, b"abc".to_vec(), 4),
                (2, None, 6_000_000_000 + 999 * nanos, b"defgh".to_vec(), 6),
            ]
        );
    }
}

#[test]
fn every_block_with_a_packet_is_read_in_both_orders_and_others_are_skipped() {
    for order in [BIG, LITTLE] {
        let half = |value: u16| {
            let [a, b, c, d] = order(value.into());
            if is_big(order) { [c, d] } else { [a, b] }
        };
        // Snap length 4; timestamps in 2^-1 s, which begin at 10 s.
        let offset = if is_big(order) {
            [order(0), order(10)]
        } else {
            [order(10), order(0)]
        };
        let interface = [
            &half(1)[..],
            &half(0),
            &order(4),
            &half(9),
            &half(1),
            &[0x81, 0, 0, 0],
            &half(14),
            &half(8),
            &offset.concat(),
            &half(0),
            &half(0),
        ]
        .concat();
        let enhanced = [
            &order(0)[..],
            &order(0),
            &order(3),
            &order(2),
            &order(9),
            b"ab\0\0",
        ]
        .concat();
        let obsolete = [
            &half(0)[..],
            &half(7),
            &order(0),
            &order(4),
            &order(2),
            &order(9),
            b"cd\0\0",
        ]
        .concat();
        let simple = [&order(9)[..], b"efgh"].concat();
        let bytes = section(
            order,
            &[
                (block::INTERFACE, &interface),
                (0x0bad, b"whatever"),
                (block::ENHANCED_PACKET, &enhanced),
                (block::PACKET, &obsolete),
                (block::SIMPLE_PACKET, &simple),
            ],
        );
        let (taken, error) = read(&bytes);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(
            taken,
            [
                (1, None, 11_500_000_000, b"ab".to_vec(), 9),
                (2, None, 12_000_000_000, b"cd".to_vec(), 9),
                (3, None, 12_000_000_000, b"efgh".to_vec(), 9),
            ]
        );
    }
}

#[test]
fn a_second_section_has_interfaces_and_an_order_of_its_own() {
    let interface = |order: fn(u32) -> [u8; 4]| {
        if is_big(order) {
            [0, 1, 0, 0, 0, 0, 0, 0]
        } else {
            [1, 0, 0, 0, 0, 0, 0, 0]
        }
    };
    let packet = |order: fn(u32) -> [u8; 4], id| {
        [
            &order(id)[..],
            &order(0),
            &order(0),
            &order(1),
            &order(1),
            b"x\0\0\0",
        ]
        .concat()
    };
    let of = |order, id| {
        section(
            order,
            &[
                (block::INTERFACE, &interface(order)),
                (block::ENHANCED_PACKET, &packet(order, id)),
            ],
        )
    };
    let (taken, error) = read(&[of(BIG, 0), of(LITTLE, 0), of(BIG, 1)].concat());
    assert_eq!(taken.len(), 2);
    let error = error.expect("the third section describes one interface only");
    assert_eq!(
        error.to_string(),
        "packet 3: it was captured on interface 1, which the file does not describe"
    );
}

#[test]
fn a_capture_cut_at_any_length_gives_its_whole_packets_and_names_the_next() {
    for bytes in [written(), classic(LITTLE, 0xa1b2_c3d4), classic(BIG, 0xa1b2_3c4d)] {
        let (all, _) = read(&bytes);
        let mut clean = 0;
        for end in 0..bytes.len() {
            let (taken, error) = read(&bytes[..end]);
            assert_eq!(taken, all[..taken.len()], "cut at {end}");
            match error {
                Some(CaptureError { packet: 0, .. }) => assert!(taken.is_empty()),
                Some(CaptureError {
                    packet,
                    fault: Fault::Cut,
                }) => assert_eq!(packet, taken.len() as u64 + 1, "cut at {end}"),
                Some(error) => panic!("cut at {end}: {error}"),
                // Between two packets or blocks.
                None => clean += 1,
            }
        }
        assert!((2..=5).contains(&clean), "{clean} places to cut without a trace");
    }
}

#[test]
fn no_flipped_bit_makes_a_reader_panic_or_take_memory() {
    for bytes in [written(), classic(LITTLE, 0xa1b2_c3d4)] {
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut reader = match Reader::new(&bytes[..]) {
                Ok(reader) => reader,
                Err(_) => continue,
            };
            while let Ok(Some(record)) = reader.read() {
                assert!(record.bytes.len() <= MAX_CAPTURED as usize);
            }
        }
    }
}

#[test]
fn damaged_captures_are_refused_with_what_is_wrong() {
    let interface = (block::INTERFACE, &[1, 0, 0, 0, 0, 0, 0, 0][..]);
    let packet = |id: u32, captured: u32| {
        [
            &LITTLE(id)[..],
            &[0; 8],
            &LITTLE(captured),
            &LITTLE(captured),
            b"abcd",
        ]
        .concat()
    };
    let mut one_too_many = vec![interface; MAX_INTERFACES + 1];
    one_too_many.push((block::ENHANCED_PACKET, b""));
    let long = vec![0; 70_000];
    let mut other_end = written();
    *other_end.last_mut().expect("it is not empty") ^= 1;
    let mut huge = classic(LITTLE, 0xa1b2_c3d4);
    huge[32..36].copy_from_slice(&LITTLE(u32::MAX));
    let mut version = classic(LITTLE, 0xa1b2_c3d4);
    version[4] = 3;
    for (bytes, complaint) in [
        (Vec::new(), "its beginning: this is no capture"),
        (b"\x7fELF".to_vec(), "its beginning: this is no capture"),
        (
            b"hello, this is a text".to_vec(),
            "its beginning: this is no capture",
        ),
        (version, "its beginning: it is version 3.4 of its format"),
        (huge, "packet 1: it claims 4294967295 bytes"),
        (other_end, "packet 3: the lengths in its block contradict"),
        (
            section(LITTLE, &[interface, (block::ENHANCED_PACKET, &packet(0, 5))]),
            "packet 1: the lengths in its block contradict",
        ),
        (
            section(LITTLE, &[interface, (block::ENHANCED_PACKET, &packet(1, 4))]),
            "packet 1: it was captured on interface 1,",
        ),
        (
            section(LITTLE, &[(block::SIMPLE_PACKET, &[0; 4])]),
            "packet 1: it was captured on interface 0,",
        ),
        (
            section(LITTLE, &[(block::INTERFACE, &long)]),
            "packet 1: a block before it describes an interface in 70000 bytes",
        ),
        (
            section(LITTLE, &one_too_many),
            "packet 1: there are more than 4096 interfaces",
        ),
    ] {
        let (_, error) = read(&bytes);
        let error = error.unwrap_or_else(|| panic!("{complaint}: nothing was wrong"));
        assert!(error.to_string().starts_with(complaint), "{error}\n{complaint}");
    }
}

#[test]
fn timestamps_beyond_what_can_be_said_become_the_nearest() {
    let stamped = |resolution: u8, offset: i64, units: u64| {
        let interface = [
            &[
                1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, resolution, 0, 0, 0, 14, 0, 8, 0,
            ][..],
            &offset.to_le_bytes(),
        ]
        .concat();
        let [high, low] = [units >> 32, units & 0xffff_ffff].map(|half| LITTLE(half as u32));
        let packet = [&LITTLE(0)[..], &high, &low, &LITTLE(0), &LITTLE(0)].concat();
        let (taken, error) = read(&section(
            LITTLE,
            &[(block::INTERFACE, &interface), (block::ENHANCED_PACKET, &packet)],
        ));
        assert!(error.is_none(), "{error:?}");
        taken[0].2
    };
    assert_eq!(stamped(0, 0, u64::MAX), u64::MAX);
    assert_eq!(stamped(9, i64::MAX, u64::MAX), u64::MAX);
    assert_eq!(stamped(9, i64::MIN, 5), 0);
    assert_eq!(stamped(12, 0, 5000), 5);
    assert_eq!(stamped(127, 0, u64::MAX), 0);
    assert_eq!(stamped(0xff, 0, u64::MAX), 0);
    assert_eq!(stamped(0x80 | 30, 1, 1 << 30), 2_000_000_000);
}
