use proptest::prelude::*;
use vswitch_wire::{IpProtocol, IpVersion, Offload, PartialChecksum, checksum};

use super::{sample::*, *};
use crate::DropReason;

mod damage;
mod foreign;
mod golden;

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

/// RFC 3828 §3.1, as RFC 768. Here the word is a port: nothing else of a datagram needs to be covered.
#[test]
fn n_op_3_a_checksum_of_udp_lite_never_becomes_zero() {
    let mut random = Random(0x6e61_7438);
    for version in [IpVersion::V4, IpVersion::V6] {
        let before = Sample::random(&mut random, version, UDP_LITE);
        let mut after = before.translated(random.ends(version), 1);
        after.ends.dst_port = 0;
        let field = after.transport() + UDP_CHECKSUM;
        let bytes = after.bytes();
        after.ends.dst_port = u16::from_be_bytes([bytes[field], bytes[field + 1]]);
        let out = translated(&before.bytes(), &after.ends);
        assert_eq!(out[field..field + 2], [0xff, 0xff]);
        assert_eq!(out, after.bytes());
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
        let bytes = translated(&sample.bytes(), &sample.ends);
        assert_eq!(bytes, sample.translated(sample.ends, 1).bytes());
    }
}

#[test]
fn n_ck_6_the_last_hop_does_not_become_255() {
    let mut sample = Sample::random(&mut Random(2), IpVersion::V4, IpProtocol::TCP);
    sample.hops = 0;
    assert_eq!(translated(&sample.bytes(), &sample.ends), sample.bytes());
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
