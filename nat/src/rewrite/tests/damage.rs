//! What arrives damaged, or vouched for by others.

use vswitch_wire::{IpProtocol, IpVersion, Offload};

use super::{
    super::{sample::*, *},
    translated, verdict,
};
use crate::DropReason;

#[test]
fn n_ck_5_a_datagram_over_ipv6_without_checksum_is_told_apart_and_keeps_none() {
    let sample = Sample::random(&mut Random(3), IpVersion::V6, IpProtocol::UDP);
    let field = sample.transport() + UDP_CHECKSUM;
    let mut bytes = sample.bytes();
    bytes[field..field + 2].fill(0);
    assert_eq!(verdict(&bytes, &Offload::NONE), Ok(Integrity::Unchecked));
    let out = translated(&bytes, &Random(4).ends(IpVersion::V6));
    assert_eq!(out[field..field + 2], [0, 0]);
    // Over IPv4 it is as good as any (N-CK-3).
    let sample = Sample::random(&mut Random(3), IpVersion::V4, IpProtocol::UDP);
    let field = sample.transport() + UDP_CHECKSUM;
    let mut bytes = sample.bytes();
    bytes[field..field + 2].fill(0);
    assert_eq!(verdict(&bytes, &Offload::NONE), Ok(Integrity::Sound));
}

#[test]
fn n_ck_9_damage_is_seen_and_never_repaired() {
    let mut random = Random(0x6e61_7435);
    for (version, protocol) in PROTOCOLS.into_iter().filter(|&(_, protocol)| protocol.0 != 47) {
        let sample = Sample::random(&mut random, version, protocol);
        let bytes = sample.bytes();
        assert_eq!(verdict(&bytes, &Offload::NONE), Ok(Integrity::Sound));
        let covered = match protocol {
            UDP_LITE => 8,
            _ => bytes.len() - sample.transport(),
        };
        for bit in 0..covered * 8 {
            let mut damaged = bytes.clone();
            damaged[sample.transport() + bit / 8] ^= 1 << (bit % 8);
            let seen = verdict(&damaged, &Offload::NONE);
            // A length that does not fit is the other way to say it.
            assert!(
                matches!(seen, Err(DropReason::BadChecksum | DropReason::Malformed)),
                "{sample:?} bit {bit}"
            );
            // Ports of SCTP are the exception: its checksum is made anew, so it must have been verified.
            let mut ends = random.ends(version);
            if protocol == IpProtocol::SCTP {
                let at = sample.transport();
                ends.src_port = u16::from_be_bytes([damaged[at], damaged[at + 1]]);
                ends.dst_port = u16::from_be_bytes([damaged[at + 2], damaged[at + 3]]);
            }
            // An ICMP message that became one of another type has no identifier to replace.
            let out = translated(&damaged, &ends);
            assert_eq!(verdict(&out, &Offload::NONE), seen, "{sample:?} bit {bit}");
        }
    }
}

#[test]
fn n_ck_9_somebody_else_s_word_is_taken_for_the_checksum_and_not_for_lengths() {
    let vouched = Offload {
        data_valid: true,
        ..Offload::NONE
    };
    for (version, protocol) in PROTOCOLS {
        let sample = Sample::random(&mut Random(5), version, protocol);
        let mut bytes = sample.bytes();
        let at = sample.transport();
        if protocol.0 != 47 {
            bytes[at] ^= 0xff;
        }
        assert_eq!(verdict(&bytes, &vouched), Ok(Integrity::Sound));
        let packet = Packet::parse(&bytes).unwrap();
        let short = Packet {
            len: at + 7,
            ..packet
        };
        let seen = verify(&bytes, &short, &vouched);
        match protocol.0 {
            47 => assert_eq!(seen, Ok(Integrity::Sound)),
            _ => assert_eq!(seen, Err(DropReason::Malformed)),
        }
    }
}

#[test]
fn n_inv_2_a_length_of_udp_beyond_the_packet_is_malformed() {
    for len in [0u16, 7, 10, 100, 0xffff] {
        let mut sample = Sample::random(&mut Random(6), IpVersion::V4, IpProtocol::UDP);
        sample.payload = vec![b'x'];
        let mut bytes = sample.bytes();
        let at = sample.transport() + 4;
        bytes[at..at + 2].copy_from_slice(&len.to_be_bytes());
        assert_eq!(
            verdict(&bytes, &Offload::NONE),
            Err(DropReason::Malformed),
            "{len}"
        );
        bytes[at + 2..at + 4].fill(0);
        assert_eq!(
            verdict(&bytes, &Offload::NONE),
            Err(DropReason::Malformed),
            "{len}"
        );
    }
}

#[test]
fn n_ck_10_the_checksum_of_icmp_has_no_pseudo_header_and_others_have() {
    for (version, protocol) in PROTOCOLS {
        let sample = Sample::random(&mut Random(9), version, protocol);
        let mut bytes = sample.bytes();
        let address = match version {
            IpVersion::V4 => 19,
            IpVersion::V6 => 39,
        };
        bytes[address] ^= 1;
        if version == IpVersion::V4 {
            bytes[10..12].fill(0);
            let sum = !textbook_sum(&bytes[..sample.transport()]);
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let seen = verdict(&bytes, &Offload::NONE);
        match protocol {
            IpProtocol::TCP | IpProtocol::UDP | UDP_LITE | IpProtocol::ICMPV6 => {
                assert_eq!(seen, Err(DropReason::BadChecksum), "{version:?} {protocol}");
            }
            _ => assert_eq!(seen, Ok(Integrity::Sound), "{version:?} {protocol}"),
        }
    }
}

#[test]
fn n_op_3_udp_lite_must_have_a_checksum_and_a_coverage_that_fits() {
    let mut sample = Sample::random(&mut Random(10), IpVersion::V4, UDP_LITE);
    sample.payload = vec![1, 2, 3, 4];
    let at = sample.transport();
    for (coverage, checksum, seen) in [
        (8, 0, Err(DropReason::BadChecksum)),
        (1, 1, Err(DropReason::Malformed)),
        (7, 1, Err(DropReason::Malformed)),
        (13, 1, Err(DropReason::Malformed)),
        (12, 1, Err(DropReason::BadChecksum)),
        (0, 1, Err(DropReason::BadChecksum)),
    ] {
        let mut bytes = sample.bytes();
        bytes[at + 4..at + 6].copy_from_slice(&u16::to_be_bytes(coverage));
        bytes[at + 6..at + 8].copy_from_slice(&u16::to_be_bytes(checksum));
        assert_eq!(verdict(&bytes, &Offload::NONE), seen, "{coverage}");
        if checksum == 0 || seen == Err(DropReason::Malformed) {
            continue;
        }
        // With the right one it passes: a coverage of 0 is all.
        bytes[at + 6..at + 8].fill(0);
        let covered = if coverage == 0 { 12 } else { usize::from(coverage) };
        let pseudo_header = sample.pseudo_header(12);
        let sum = !textbook_sum(&[&pseudo_header, &bytes[at..at + covered]].concat());
        bytes[at + 6..at + 8].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(verdict(&bytes, &Offload::NONE), Ok(Integrity::Sound));
        assert_sound(&translated(&bytes, &Random(11).ends(IpVersion::V4)));
    }
    // What is not covered may be damaged.
    let mut bytes = sample.bytes();
    bytes[at + 8] ^= 0xff;
    assert_eq!(verdict(&bytes, &Offload::NONE), Ok(Integrity::Sound));
}
