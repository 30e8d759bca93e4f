use proptest::prelude::*;
use vswitch_wire::{IpProtocol, IpVersion, Offload, PartialChecksum, checksum};

use super::{sample::*, *};
use crate::DropReason;

mod foreign;

const A: &str = "10.0.0.2";
const B: &str = "10.0.0.3";
const X: &str = "198.51.100.1";
const S: &str = "198.51.100.2";
const S3: &str = "198.51.100.3";

/// Translates a packet that is complete, as the pipeline does.
fn translated(bytes: &[u8], ends: &Ends) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let packet = Packet::parse(&bytes).unwrap();
    translate(&mut bytes, &packet, ends, &Offload::NONE);
    bytes
}

fn verdict(bytes: &[u8], offload: &Offload) -> Result<Integrity, DropReason> {
    let packet = Packet::parse(bytes)?;
    verify(bytes, &packet, offload)
}

#[track_caller]
fn golden(input: &str, to: Ends, output: &str) {
    let input = hex(input);
    assert_sound(&input);
    assert_eq!(translated(&input, &to), hex(output));
}

#[test]
fn n_ck_2_g1_udp_and_its_reply() {
    golden(
        "4500001d00010000401146980a000002c63364021388003500093fe778",
        ends(X, 5000, S, 53),
        "4500001d000100003f112765c6336401c63364021388003500091fb478",
    );
    golden(
        "4500001d0002000040112664c6336402c63364010035138800091eb479",
        ends(S, 53, A, 5000),
        "4500001d000200003f114797c63364020a0000020035138800093ee779",
    );
}

#[test]
fn n_ck_3_g2_no_checksum_stays_none() {
    golden(
        "4500001d00030000401146960a000002c6336402138900350009000078",
        ends(X, 5001, S, 53),
        "4500001d000300003f112763c6336401c6336402138900350009000078",
    );
}

#[test]
fn n_ck_4_g3_a_checksum_of_udp_that_comes_out_as_zero_is_sent_as_ones() {
    golden(
        "4500001e00040000401146940a000002c6336402138a0035000a203397b0",
        ends(X, 5002, S, 53),
        "4500001e000400003f112761c6336401c6336402138a0035000affff97b0",
    );
}

#[test]
fn n_ck_2_g4_tcp_with_options_and_its_reply() {
    golden(
        "4500003c00054000400606800a000002c63364021b580050000003e800000000a002faf0f9460000020405b40402080a000000010000000001030307",
        ends(X, 7000, S, 80),
        "4500003c000540003f06e74cc6336401c63364021b580050000003e800000000a002faf0d9130000020405b40402080a000000010000000001030307",
    );
    golden(
        "4500003c000040004006e651c6336402c633640100501b5800001388000003e9a012fe88c1d90000020405b40402080a000000090000000101030307",
        ends(S, 80, A, 7000),
        "4500003c000040003f060785c63364020a00000200501b5800001388000003e9a012fe88e20c0000020405b40402080a000000090000000101030307",
    );
}

#[test]
fn n_icq_4_g5_echo_request_and_reply() {
    golden(
        "45000024000600004001469b0a000002c63364030800661c004d00016162636465666768",
        ends(X, 77, S3, 0),
        "45000024000600003f012768c6336401c63364030800661c004d00016162636465666768",
    );
    golden(
        "450000240007000040012667c6336403c633640100006e1c004d00016162636465666768",
        ends(S3, 0, A, 77),
        "45000024000700003f01479ac63364030a00000200006e1c004d00016162636465666768",
    );
}

#[test]
fn n_ck_2_g8_a_destination_and_its_port() {
    golden(
        "4500001d000a00004011265cc6336402c63364010fa014e9000915e871",
        ends(S, 4000, B, 53),
        "4500001d000a00003f11478ec63364020a0000030fa0003500094ace71",
    );
}

#[test]
fn n_ck_2_g9_both_ends() {
    golden(
        "45000028000c00004006468e0a000002c633640104571f9000000001000000005002200037c40000",
        ends("10.0.0.1", 1111, B, 80),
        "45000028000c00003f0667c10a0000010a0000030457005000000001000000005002200077370000",
    );
}

#[test]
fn n_v6_1_g10_addresses_of_ipv6() {
    golden(
        "6b8123450009114020010db8000a0000000000000000000220010db8000b00000000000000000002138800350009189478",
        ends("2001:db8:b::1", 5000, "2001:db8:b::2", 53),
        "6b8123450009113f20010db8000b0000000000000000000120010db8000b00000000000000000002138800350009189478",
    );
}

/// And N-CK-6, N-FWD-8: nothing else changes. Exact but for nothing: what is computed anew has the same zero.
#[test]
fn n_ck_2_every_change_is_a_full_recomputation() {
    const SEED: u64 = 0x6e61_7431;
    let mut random = Random(SEED);
    for round in 0..1800 {
        for (version, protocol) in PROTOCOLS {
            let sample = Sample::random(&mut random, version, protocol);
            let mut ends = random.ends(version);
            // Each field alone, and all of them.
            match round % 6 {
                0 => {
                    ends = Ends {
                        src: ends.src,
                        ..sample.ends
                    }
                }
                1 => {
                    ends = Ends {
                        dst: ends.dst,
                        ..sample.ends
                    }
                }
                2 => {
                    ends = Ends {
                        src_port: ends.src_port,
                        ..sample.ends
                    }
                }
                3 => {
                    ends = Ends {
                        dst_port: ends.dst_port,
                        ..sample.ends
                    }
                }
                4 => ends = sample.ends,
                _ => {}
            }
            let bytes = sample.bytes();
            let out = translated(&bytes, &ends);
            assert_eq!(
                out,
                sample.translated(ends, 1).bytes(),
                "seed {SEED:#x}: {sample:?} to {ends:?}"
            );
        }
    }
}

/// The same where the checksums come out as 0 or come in as 0: a word of the payload is chosen for it.
#[test]
fn n_ck_4_zero_is_written_as_the_protocol_has_it() {
    let mut random = Random(0x6e61_7432);
    for (version, protocol) in PROTOCOLS {
        let field = match protocol {
            IpProtocol::TCP => TCP_CHECKSUM,
            IpProtocol::UDP => UDP_CHECKSUM,
            IpProtocol::ICMP | IpProtocol::ICMPV6 => 2,
            _ => continue,
        };
        for _ in 0..50 {
            let mut before = Sample::random(&mut random, version, protocol);
            before.payload = vec![0, 0];
            let mut after = before.translated(random.ends(version), 1);
            let read = |sample: &Sample| {
                let at = sample.transport() + field;
                let bytes = sample.bytes();
                u16::from_be_bytes([bytes[at], bytes[at + 1]])
            };
            // The word that is missing to 0xffff is the checksum without it.
            let word = read(&after).to_be_bytes().to_vec();
            (before.payload, after.payload) = (word.clone(), word);
            let zero = if protocol == IpProtocol::UDP { 0xffff } else { 0 };
            assert_eq!(read(&after), zero);
            assert_eq!(
                translated(&before.bytes(), &after.ends),
                after.bytes(),
                "{before:?}"
            );
            // And back.
            let back = after.translated(before.ends, 1);
            assert_eq!(
                translated(&after.bytes(), &before.ends),
                back.bytes(),
                "{after:?}"
            );
        }
    }
}

#[test]
fn n_ck_6_the_header_s_checksum_may_become_zero() {
    let mut random = Random(0x6e61_7433);
    let mut before = Sample::random(&mut random, IpVersion::V4, IpProtocol::UDP);
    let mut after = before.translated(random.ends(IpVersion::V4), 1);
    after.id = 0;
    let bytes = after.bytes();
    before.id = u16::from_be_bytes([bytes[10], bytes[11]]);
    after.id = before.id;
    assert_eq!(after.bytes()[10..12], [0, 0]);
    assert_eq!(translated(&before.bytes(), &after.ends), after.bytes());
}

#[test]
fn n_ck_6_a_hop_is_taken_off() {
    for (version, protocol) in PROTOCOLS {
        let sample = Sample::random(&mut Random(1), version, protocol);
        let mut bytes = sample.bytes();
        let packet = Packet::parse(&bytes).unwrap();
        decrement_hops(&mut bytes, &packet);
        assert_eq!(bytes, sample.translated(sample.ends, 1).bytes());
    }
}

#[test]
fn n_ck_6_the_last_hop_does_not_become_255() {
    let mut sample = Sample::random(&mut Random(2), IpVersion::V4, IpProtocol::TCP);
    sample.hops = 0;
    assert_eq!(translated(&sample.bytes(), &sample.ends), sample.bytes());
}

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

fn partial(sample: &Sample) -> (Vec<u8>, usize, Offload) {
    let offset = match sample.protocol {
        IpProtocol::TCP => TCP_CHECKSUM,
        _ => UDP_CHECKSUM,
    };
    let start = sample.transport();
    let mut bytes = sample.bytes();
    let sum = textbook_sum(&sample.pseudo_header(bytes.len() - start));
    bytes[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
    let checksum = PartialChecksum {
        start: start as u16,
        offset: offset as u16,
    };
    let offload = Offload {
        checksum: Some(checksum),
        ..Offload::NONE
    };
    (bytes, start + offset, offload)
}

#[test]
fn n_ck_7_a_partial_checksum_follows_addresses_and_not_ports() {
    let mut random = Random(0x6e61_7434);
    for _ in 0..500 {
        for version in [IpVersion::V4, IpVersion::V6] {
            for protocol in [IpProtocol::TCP, IpProtocol::UDP] {
                let sample = Sample::random(&mut random, version, protocol);
                let after = sample.translated(random.ends(version), 1);
                let (mut bytes, field, offload) = partial(&sample);
                let packet = Packet::parse(&bytes).unwrap();
                assert_eq!(verify(&bytes, &packet, &offload), Ok(Integrity::Sound));

                let mut ports_only = bytes.clone();
                let ports = Ends {
                    src_port: after.ends.src_port,
                    dst_port: after.ends.dst_port,
                    ..sample.ends
                };
                translate(&mut ports_only, &packet, &ports, &offload);
                assert_eq!(ports_only[field..field + 2], bytes[field..field + 2]);

                translate(&mut bytes, &packet, &after.ends, &offload);
                assert_eq!(bytes, partial(&after).0, "{sample:?}");
                // What completes it gets what the sender would have computed.
                let sum = checksum::sum(&bytes[sample.transport()..]);
                let complete = match protocol {
                    IpProtocol::UDP => checksum::finish_udp(sum),
                    _ => checksum::finish(sum),
                };
                bytes[field..field + 2].copy_from_slice(&complete.to_be_bytes());
                assert_eq!(bytes, after.bytes());
            }
        }
    }
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
fn n_inv_3_padding_is_neither_counted_nor_touched() {
    for (version, protocol) in PROTOCOLS {
        let sample = Sample::random(&mut Random(7), version, protocol);
        let mut bytes = sample.bytes();
        bytes.extend([0xee; 17]);
        assert_eq!(verdict(&bytes, &Offload::NONE), Ok(Integrity::Sound));
        let to = Random(8).ends(version);
        let mut wanted = sample.translated(to, 1).bytes();
        wanted.extend([0xee; 17]);
        assert_eq!(translated(&bytes, &to), wanted);
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

#[test]
fn n_op_1_the_crc_of_sctp_follows_ports_and_not_addresses() {
    for version in [IpVersion::V4, IpVersion::V6] {
        let sample = Sample::random(&mut Random(12), version, IpProtocol::SCTP);
        let field = sample.transport() + 8..sample.transport() + 12;
        let addresses_only = Ends {
            src_port: sample.ends.src_port,
            dst_port: sample.ends.dst_port,
            ..Random(13).ends(version)
        };
        let mut bytes = sample.bytes();
        assert_eq!(
            translated(&bytes, &addresses_only)[field.clone()],
            bytes[field.clone()]
        );
        // Not even to mend it.
        bytes[field.start] ^= 1;
        assert_eq!(
            translated(&bytes, &addresses_only)[field.clone()],
            bytes[field.clone()]
        );
        let out = translated(&sample.bytes(), &Random(14).ends(version));
        assert_ne!(out[field.clone()], sample.bytes()[field]);
        assert_sound(&out);
    }
}

#[test]
fn n_icq_4_only_the_asking_side_s_port_is_an_identifier() {
    for (version, request, reply) in [
        (IpVersion::V4, 8, 0),
        (IpVersion::V4, 13, 14),
        (IpVersion::V6, 128, 129),
    ] {
        let protocol = match version {
            IpVersion::V4 => IpProtocol::ICMP,
            IpVersion::V6 => IpProtocol::ICMPV6,
        };
        let mut sample = Sample::random(&mut Random(15), version, protocol);
        let to = Random(16).ends(version);
        for (kind, id) in [(request, to.src_port), (reply, to.dst_port)] {
            sample.kind = kind;
            let at = sample.transport() + 4;
            assert_eq!(translated(&sample.bytes(), &to)[at..at + 2], id.to_be_bytes());
        }
    }
}

#[test]
fn n_icq_1_other_messages_of_icmp_have_no_identifier() {
    for (version, protocol, kind) in [
        (IpVersion::V4, IpProtocol::ICMP, 9),
        (IpVersion::V4, IpProtocol::ICMP, 3),
        (IpVersion::V6, IpProtocol::ICMPV6, 139),
        (IpVersion::V6, IpProtocol::ICMPV6, 135),
    ] {
        let mut sample = Sample::random(&mut Random(17), version, protocol);
        (sample.kind, sample.payload) = (kind, vec![1, 2, 3, 4, 5, 6, 7, 8]);
        let to = Random(18).ends(version);
        let out = translated(&sample.bytes(), &to);
        assert_eq!(out, sample.translated(to, 1).bytes());
    }
}

/// ICMP of the other version is a protocol without ports.
#[test]
fn n_ck_10_icmp_of_the_other_version_is_left_alone() {
    for (version, protocol) in [
        (IpVersion::V4, IpProtocol::ICMPV6),
        (IpVersion::V6, IpProtocol::ICMP),
    ] {
        let mut sample = Sample::random(&mut Random(19), version, IpProtocol(47));
        sample.payload = vec![128, 0, 1, 2, 3, 4, 5, 6];
        let mut bytes = sample.bytes();
        match version {
            IpVersion::V4 => {
                bytes[9] = protocol.0;
                bytes[10..12].fill(0);
                let sum = !textbook_sum(&bytes[..sample.transport()]);
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            IpVersion::V6 if sample.extension == 0 => bytes[6] = protocol.0,
            IpVersion::V6 => bytes[40] = protocol.0,
        }
        assert_eq!(verdict(&bytes, &Offload::NONE), Ok(Integrity::Sound));
        let out = translated(&bytes, &Random(20).ends(version));
        assert_eq!(out[sample.transport()..], bytes[sample.transport()..]);
    }
}

#[test]
fn n_inv_2_nothing_panics_on_cut_and_damaged_packets() {
    for (version, protocol) in PROTOCOLS {
        let sample = Sample::random(&mut Random(21), version, protocol);
        let whole = sample.bytes();
        let of_whole = Packet::parse(&whole).unwrap();
        let to = Random(22).ends(version);
        mutilate(&whole, |bytes| {
            // Also a packet that is not the bytes': it is ignored where it is too short.
            for packet in [Ok(of_whole), Packet::parse(bytes)].into_iter().flatten() {
                let mut bytes = bytes.to_vec();
                let _ = verify(&bytes, &packet, &Offload::NONE);
                translate(&mut bytes, &packet, &to, &Offload::NONE);
                decrement_hops(&mut bytes, &packet);
            }
        });
    }
}

proptest! {
    #[test]
    fn n_ck_2_translating_back_gives_what_was(seed: u64) {
        let mut random = Random(seed);
        for (version, protocol) in PROTOCOLS {
            let sample = Sample::random(&mut random, version, protocol);
            let out = translated(&sample.bytes(), &random.ends(version));
            assert_sound(&out);
            let back = translated(&out, &sample.ends);
            prop_assert_eq!(back, sample.translated(sample.ends, 2).bytes());
        }
    }
}
