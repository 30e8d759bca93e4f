//! What is read of bytes.

use vswitch_wire::{TcpFlags, TcpSegment};

use super::*;

/// A segment of these flags, options and payload, from 1000, acknowledging 2000.
fn bytes(flags: u8, options: &[u8], payload: usize) -> Vec<u8> {
    let offset = (20 + options.len()) / 4;
    let mut bytes = vec![
        0,
        80,
        0,
        81,
        0,
        0,
        0x03,
        0xe8,
        0,
        0,
        0x07,
        0xd0,
        (offset << 4) as u8,
        flags,
        0x12,
        0x34,
    ];
    bytes.extend([0; 4]);
    bytes.extend(options);
    bytes.resize(bytes.len() + payload, b'x');
    bytes
}

fn read(bytes: &[u8]) -> Result<Segment, DropReason> {
    Segment::read(&TcpSegment::parse(bytes)?)
}

#[test]
fn n_tcp_3_valid_flags_are_few() {
    let [fin, syn, rst, ack, urg] = [
        TcpFlags::FIN,
        TcpFlags::SYN,
        TcpFlags::RST,
        TcpFlags::ACK,
        TcpFlags::URG,
    ]
    .map(|flags| flags.0);
    let valid = [
        (syn, Class::Syn),
        (syn | urg, Class::Syn),
        (syn | ack, Class::SynAck),
        (rst, Class::Rst),
        (rst | ack, Class::Rst),
        (fin | ack, Class::Fin),
        (fin | ack | urg, Class::Fin),
        (ack, Class::Ack),
        (ack | urg, Class::Ack),
    ];
    let of_no_account = TcpFlags::PSH | TcpFlags::ECE | TcpFlags::CWR;
    for flags in 0..=u8::MAX {
        let relevant = TcpFlags(flags).without(of_no_account).0;
        let expected = valid
            .iter()
            .find(|(set, _)| *set == relevant)
            .map(|&(_, class)| class);
        let found = read(&bytes(flags, &[], 0)).map(|segment| segment.class);
        assert_eq!(found, expected.ok_or(DropReason::Invalid), "{}", TcpFlags(flags));
    }
}

#[test]
fn n_tcp_4_a_header_that_does_not_fit_is_malformed() {
    let mut whole = bytes(TcpFlags::ACK.0, &[], 0);
    for len in 0..whole.len() {
        assert_eq!(read(&whole[..len]), Err(DropReason::Malformed));
    }
    whole[12] = 0x40;
    assert_eq!(read(&whole), Err(DropReason::Malformed));
    whole[12] = 0xf0;
    assert_eq!(read(&whole), Err(DropReason::Malformed));
}

#[test]
fn n_tcp_26_syn_and_fin_take_a_number() {
    for (flags, end) in [
        (0x10, 1010),
        (0x11, 1011),
        (0x02, 1011),
        (0x12, 1011),
        (0x04, 1010),
    ] {
        assert_eq!(
            read(&bytes(flags, &[], 10)).map(|segment| segment.end),
            Ok(SeqNum(end)),
            "{flags:#x}"
        );
    }
}

#[test]
fn n_win_2_options_of_a_syn() {
    // MSS, SACK permitted, timestamps, NOP, window scale 7.
    let usual = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    let segment = read(&bytes(0x02, &usual, 0)).expect("SYN");
    assert_eq!((segment.scale, segment.sack_permitted), (Scale::offered(7), true));
    assert_eq!((segment.window, segment.has_ack), (0x1234, false));
    // They mean nothing elsewhere.
    let segment = read(&bytes(0x10, &usual, 0)).expect("ACK");
    assert_eq!((segment.scale, segment.sack_permitted), (Scale::NONE, false));
}

#[test]
fn n_win_2_an_option_that_makes_no_sense_ends_the_reading() {
    for bad in [[3, 0, 1, 1], [3, 1, 1, 1], [3, 200, 7, 7], [0, 3, 3, 7]] {
        let options = [&bad[..], &[3, 3, 7, 0]].concat();
        let segment = read(&bytes(0x02, &options, 0)).expect("SYN");
        assert_eq!(segment.scale, Scale::NONE, "{bad:?}");
    }
    let segment = read(&bytes(0x02, &[3, 3, 200, 1], 0)).expect("SYN");
    assert_eq!(segment.scale.shift(), Scale::MAX_SHIFT);
}

#[test]
fn n_win_2_the_highest_edge_beyond_the_acknowledgment() {
    let blocks = |edges: &[u32]| {
        let mut options = vec![1, 1, 5, (2 + 8 * edges.len()) as u8];
        for edge in edges {
            options.extend((edge - 10).to_be_bytes());
            options.extend(edge.to_be_bytes());
        }
        read(&bytes(0x10, &options, 0)).expect("ACK").sack_edge
    };
    assert_eq!(blocks(&[3000, 5000, 4000]), Some(SeqNum(5000)));
    assert_eq!(blocks(&[1500]), None, "of what was acknowledged: RFC 2883");
    assert_eq!(blocks(&[1500, 2001]), Some(SeqNum(2001)));
    // With a timestamp before them, and on a segment without ACK.
    let mut options = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 10];
    options.extend([0, 0, 0x10, 0, 0, 0, 0x20, 0]);
    assert_eq!(
        read(&bytes(0x10, &options, 0)).map(|segment| segment.sack_edge),
        Ok(Some(SeqNum(0x2000)))
    );
    assert_eq!(
        read(&bytes(0x04, &options, 0)).map(|segment| segment.sack_edge),
        Ok(None)
    );
}
