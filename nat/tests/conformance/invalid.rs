//! §6: invalid packets. The fixture asserts of every packet that nothing leaves with an inside source.

use vswitch_nat::{DropReason, Verdict};

use crate::{
    packets::{
        ACK, FIN, ICMP, PSH, RST, SYN, TCP, UDP, URG, ends, mended, ping, query, raw, tcp, tcp_with, udp,
    },
    site::*,
};

fn damaged(mut packet: Vec<u8>, at: usize) -> Vec<u8> {
    packet[at] ^= 0x55;
    packet
}

#[test]
fn n_inv_1_what_cannot_be_right_never_leaves() {
    let mut site = Site::new();
    site.connect((A, 7000), (S, 80));
    let from = (A, 7000);
    let cases: &[(&str, Vec<u8>, DropReason)] = &[
        (
            "checksum of UDP",
            damaged(udp((A, 5000), (S, 53)), 26),
            DropReason::BadChecksum,
        ),
        (
            "checksum of TCP",
            damaged(tcp(from, (S, 80), ACK, 1001, 5001), 36),
            DropReason::BadChecksum,
        ),
        (
            "checksum of ICMP",
            damaged(ping(A, S, 77), 22),
            DropReason::BadChecksum,
        ),
        ("no flags", tcp(from, (S, 80), 0, 1001, 5001), DropReason::Invalid),
        (
            "FIN alone",
            tcp(from, (S, 80), FIN, 1001, 5001),
            DropReason::Invalid,
        ),
        (
            "SYN and FIN",
            tcp(from, (S, 80), SYN | FIN, 1001, 5001),
            DropReason::Invalid,
        ),
        (
            "SYN and RST",
            tcp(from, (S, 80), SYN | RST, 1001, 5001),
            DropReason::Invalid,
        ),
        (
            "all flags",
            tcp(from, (S, 80), 0xff, 1001, 5001),
            DropReason::Invalid,
        ),
        (
            "a Christmas tree",
            tcp(from, (S, 80), FIN | PSH | URG, 1001, 5001),
            DropReason::Invalid,
        ),
        (
            "far ahead",
            tcp_with(from, (S, 80), ACK, (100_001_001, 5001), &[], b"data"),
            DropReason::Invalid,
        ),
        (
            "an ACK of the unseen",
            tcp(from, (S, 80), ACK, 1001, 105_001),
            DropReason::Invalid,
        ),
        ("an echo reply", query(A, S, 0, 77), DropReason::Invalid),
        ("a source quench", query(A, S, 4, 77), DropReason::Malformed),
        ("a router solicitation", query(A, S, 10, 77), DropReason::Invalid),
        (
            "an ACK of no connection",
            tcp((A, 7001), (S, 80), ACK, 1, 1),
            DropReason::Invalid,
        ),
        (
            "a RST of no connection",
            tcp((A, 7001), (S, 80), RST, 1, 0),
            DropReason::Invalid,
        ),
        (
            "a SYN+ACK of no connection",
            tcp((A, 7001), (S, 80), SYN | ACK, 1, 1),
            DropReason::Invalid,
        ),
    ];
    for (name, packet, reason) in cases {
        let before = site.dropped(*reason);
        assert_eq!(site.refused(INSIDE, packet), *reason, "{name}");
        assert_eq!(site.dropped(*reason), before + 1, "{name}");
    }
    assert_eq!(site.conns().len(), 1);
}

#[test]
fn n_inv_1_nor_comes_in() {
    let mut site = Site::new();
    let external = site.connect((A, 7000), (S, 80));
    let cases: &[(&str, Vec<u8>)] = &[
        ("checksum", damaged(tcp((S, 80), external, ACK, 5001, 1001), 36)),
        ("flags", tcp((S, 80), external, SYN | FIN, 5001, 1001)),
        ("RST", tcp((S, 80), external, RST, 4000, 0)),
        (
            "far ahead",
            tcp_with((S, 80), external, ACK, (100_005_001, 1001), &[], b"data"),
        ),
    ];
    for (name, packet) in cases {
        let Verdict::Drop(reason) = site.put(OUTSIDE, packet).verdict else {
            panic!("{name} came in");
        };
        assert!(
            matches!(reason, DropReason::BadChecksum | DropReason::Invalid),
            "{name}: {reason}"
        );
    }
}

#[test]
fn n_inv_2_lengths_that_contradict_each_other() {
    let set = |mut packet: Vec<u8>, at: usize, value: &[u8]| {
        packet[at..at + value.len()].copy_from_slice(value);
        // Only what is not about checksums is wrong.
        let is_header = at < 20;
        match is_header {
            true => mended_header(packet),
            false => mended(packet),
        }
    };
    let datagram = || udp((A, 5000), (S, 53));
    let cases: &[(&str, Vec<u8>)] = &[
        ("IHL 4", set(datagram(), 0, &[0x44])),
        ("IHL beyond the packet", set(datagram(), 0, &[0x4f])),
        ("total length below IHL", set(datagram(), 2, &[0, 19])),
        ("total length beyond the frame", set(datagram(), 2, &[0, 30])),
        ("version 5", set(datagram(), 0, &[0x55])),
        ("UDP length 100", set(datagram(), 24, &[0, 100])),
        ("UDP length 7", set(datagram(), 24, &[0, 7])),
        ("UDP of 4 bytes", raw(A, S, UDP, &[0x13, 0x88, 0, 53])),
        ("TCP of 8 bytes", raw(A, S, TCP, &[0x13, 0x88, 0, 80, 0, 0, 0, 1])),
        (
            "TCP with 15 words in 20 bytes",
            set(tcp((A, 5000), (S, 80), SYN, 1, 0), 32, &[0xf0]),
        ),
        (
            "TCP with 4 words",
            set(tcp((A, 5000), (S, 80), SYN, 1, 0), 32, &[0x40]),
        ),
        ("ICMP of 4 bytes", raw(A, S, ICMP, &[8, 0, 0xf7, 0xff])),
        ("nothing", vec![]),
        ("one byte", vec![0x45]),
    ];
    for (name, packet) in cases {
        let mut site = Site::new();
        assert_eq!(site.refused(INSIDE, packet), DropReason::Malformed, "{name}");
    }
}

#[test]
fn n_inv_2_a_header_checksum_that_is_wrong() {
    let mut site = Site::new();
    assert_eq!(
        site.refused(INSIDE, &damaged(udp((A, 5000), (S, 53)), 10)),
        DropReason::BadChecksum
    );
}

#[test]
fn n_inv_2_headers_cut_at_every_length_and_with_every_bit_flipped_never_leave_untranslated() {
    let mut site = Site::new();
    site.connect((A, 7000), (S, 80));
    for packet in [
        udp((A, 5000), (S, 53)),
        tcp((A, 7000), (S, 80), ACK, 1001, 5001),
        ping(A, S, 7),
        ping(A6, S6, 7),
    ] {
        for bit in 0..packet.len() * 8 {
            let mut flipped = packet.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            site.put(INSIDE, &flipped);
            // What is left of it if its checksums were right.
            if flipped[0] == 0x45 || flipped[0] >> 4 == 6 {
                site.put(INSIDE, &mended(flipped));
            }
        }
        for len in 0..packet.len() {
            site.put(INSIDE, &packet[..len]);
        }
    }
}

#[test]
fn n_inv_3_padding_is_no_part_of_a_packet() {
    let mut site = Site::new();
    let packet = udp((A, 5000), (S, 53));
    assert_eq!(packet.len(), 29);
    let mut padded = packet;
    padded.resize(46, 0xaa);
    let left = site.out(&padded);
    assert_eq!(left.len(), 29);
    assert_eq!(ends(&left).0, (X, 5000));
}

fn mended_header(mut packet: Vec<u8>) -> Vec<u8> {
    let len = (usize::from(packet[0] & 15) * 4).min(packet.len());
    packet[10..12].fill(0);
    let words = packet[..len].chunks(2);
    let mut sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet
}
