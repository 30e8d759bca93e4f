use proptest::prelude::*;
use vswitch_wire::{IpProtocol, Offload};

use super::*;
use crate::{Ends, rewrite::sample::*};

fn net(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn pair(internal: &str, external: &str) -> PrefixPair {
    PrefixPair::new(net(internal), net(external)).unwrap()
}

/// The reference's example.
fn example() -> PrefixPair {
    pair("fd01:203:405::/48", "2001:db8:1::/48")
}

#[test]
fn n_v6_4_the_worked_numbers() {
    let pair = example();
    assert_eq!(checksum::sum(&pair.internal().network().octets()), 0x030a);
    assert_eq!(checksum::sum(&pair.external().network().octets()), 0x2dba);
    assert_eq!(pair.adjustment, 0xd54f);
    let (inside, outside) = (address("fd01:203:405:1::1234"), address("2001:db8:1:d550::1234"));
    assert_eq!(pair.outward(inside), Some(outside));
    assert_eq!(pair.inward(outside), Some(inside));
}

#[test]
fn n_v6_4_ffff_is_written_as_0000() {
    let pair = example();
    let (inside, outside) = (address("fd01:203:405:2ab0::1"), address("2001:db8:1:0::1"));
    assert_eq!(pair.outward(inside), Some(outside));
    assert_eq!(pair.inward(outside), Some(inside));
    // And the other way.
    let (inside, outside) = (address("fd01:203:405:0::1"), address("2001:db8:1:d54f::1"));
    assert_eq!(pair.outward(inside), Some(outside));
    assert_eq!(pair.inward(outside), Some(inside));
}

#[test]
fn n_v6_4_subnet_ffff_cannot_be_mapped() {
    let pair = example();
    assert_eq!(pair.outward(address("fd01:203:405:ffff::1")), None);
    assert_eq!(pair.inward(address("2001:db8:1:ffff::1")), None);
}

#[test]
fn n_v6_4_only_addresses_of_the_prefix_are_mapped() {
    let pair = example();
    for inside in [
        "fd01:203:406:1::1",
        "2001:db8:1:1::1",
        "::ffff:10.0.0.1",
        "10.0.0.1",
    ] {
        assert_eq!(pair.outward(address(inside)), None, "{inside}");
    }
    assert_eq!(pair.inward(address("fd01:203:405:1::1")), None);
}

#[test]
fn n_v6_4_a_long_prefix_adjusts_the_first_word_behind_it_that_is_not_ffff() {
    // The sums are 0xfd01 + 1 and 0x2001 + 0xdb8 + 1: the adjustment is 0xcf48.
    let pair = pair("fd01:0:0:1::/64", "2001:db8:0:1::/64");
    assert_eq!(pair.adjustment, 0xcf48);
    for (inside, outside) in [
        ("fd01:0:0:1:0:0:0:1", "2001:db8:0:1:cf48:0:0:1"),
        ("fd01:0:0:1:ffff:0:0:1", "2001:db8:0:1:ffff:cf48:0:1"),
        ("fd01:0:0:1:ffff:ffff:1:1", "2001:db8:0:1:ffff:ffff:cf49:1"),
        ("fd01:0:0:1:ffff:ffff:ffff:1", "2001:db8:0:1:ffff:ffff:ffff:cf49"),
        ("fd01:0:0:1:30b7:0:0:1", "2001:db8:0:1:0:0:0:1"),
    ] {
        assert_eq!(pair.outward(address(inside)), Some(address(outside)), "{inside}");
        assert_eq!(pair.inward(address(outside)), Some(address(inside)), "{outside}");
    }
    assert_eq!(pair.outward(address("fd01:0:0:1:ffff:ffff:ffff:ffff")), None);
    // A word of the prefix is not touched.
    let pair = self::pair("fd01:0:0:1:8::/80", "2001:db8:0:1:9::/80");
    let outside = pair.outward(address("fd01:0:0:1:8::1")).unwrap();
    assert!(pair.external().contains(&Ipv6Addr::from(*outside.octets())));
    assert_eq!(pair.inward(outside), Some(address("fd01:0:0:1:8::1")));
}

#[test]
fn n_v6_4_a_short_prefix_keeps_the_bits_behind_it() {
    let pair = pair("fd01:200::/24", "2001:d00::/24");
    let outside = pair.outward(address("fd01:2ab:1:5::7")).unwrap();
    assert_eq!(outside.octets()[..6], [0x20, 0x01, 0x0d, 0xab, 0, 1]);
    assert_eq!(outside.octets()[8..], [0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!(pair.inward(outside), Some(address("fd01:2ab:1:5::7")));
}

#[test]
fn n_v6_4_pairs_that_cannot_stand_for_each_other_are_refused() {
    let new = |internal: &str, external: &str| PrefixPair::new(net(internal), net(external));
    let (long, short) = (net("fd01::/48"), net("2001:db8::/32"));
    assert_eq!(
        PrefixPair::new(long, short),
        Err(PrefixPairError::Lengths(long, short))
    );
    assert_eq!(
        new("fd01::/113", "2001:db8::/113"),
        Err(PrefixPairError::TooLong(net("fd01::/113")))
    );
    assert!(new("fd01::/112", "2001:db8::/112").is_ok());
    for (internal, external, culprit) in [
        ("fd01:0:0:ffff::/64", "2001:db8:0:1::/64", "fd01:0:0:ffff::/64"),
        ("fd01:0:0:1::/64", "2001:db8:0:ffff::/64", "2001:db8:0:ffff::/64"),
        ("fd01:0:0:1::/96", "2001:db8:0:ffff::/96", "2001:db8:0:ffff::/96"),
    ] {
        assert_eq!(
            new(internal, external),
            Err(PrefixPairError::SubnetFfff(net(culprit)))
        );
    }
    assert!(new("fd01:0:0:fff0::/60", "2001:db8:0:fff0::/60").is_ok());
    // Bits behind the prefix are not part of it.
    let pair = new("fd01:203:405:77::9/48", "2001:db8:1:88::/48").unwrap();
    assert_eq!(pair, example());
}

fn inside_sample(random: &mut Random, protocol: IpProtocol) -> Sample {
    let mut sample = Sample::random(random, IpVersion::V6, protocol);
    sample.ends.src = address("fd01:203:405:1::1234");
    sample
}

#[test]
fn n_v6_4_transport_checksums_stay_right_untouched() {
    let mut random = Random(1);
    for (_, protocol) in PROTOCOLS
        .into_iter()
        .filter(|&(version, _)| version == IpVersion::V6)
    {
        let sample = inside_sample(&mut random, protocol);
        let mut bytes = sample.bytes();
        let packet = Packet::parse(&bytes).unwrap();
        example().translate_outward(&mut bytes, &packet).unwrap();
        let ends = Ends {
            src: address("2001:db8:1:d550::1234"),
            ..sample.ends
        };
        assert_eq!(bytes, sample.translated(ends, 1).bytes());
        assert_eq!(bytes[40..], sample.bytes()[40..]);
        assert_sound(&bytes);

        // The answer, inward.
        let answer = Ends {
            src: ends.dst,
            dst: ends.src,
            ..sample.ends
        };
        let answer = sample.translated(answer, 0);
        let mut bytes = answer.bytes();
        let packet = Packet::parse(&bytes).unwrap();
        example().translate_inward(&mut bytes, &packet).unwrap();
        let ends = Ends {
            dst: sample.ends.src,
            ..answer.ends
        };
        assert_eq!(bytes, answer.translated(ends, 1).bytes());
        assert_eq!(bytes[40..], answer.bytes()[40..]);
    }
}

#[test]
fn n_v6_4_a_source_without_counterpart_is_refused_and_left_as_it_was() {
    for src in ["fd01:203:405:ffff::1", "fd01:9::1"] {
        let mut sample = inside_sample(&mut Random(2), IpProtocol::UDP);
        sample.ends.src = address(src);
        let mut bytes = sample.bytes();
        let packet = Packet::parse(&bytes).unwrap();
        let seen = example().translate_outward(&mut bytes, &packet);
        assert_eq!(seen, Err(DropReason::Untranslatable));
        assert_eq!(bytes, sample.bytes());
        let seen = example().translate_inward(&mut bytes, &packet);
        assert_eq!(seen, Err(DropReason::Untranslatable));
        assert_eq!(bytes, sample.bytes());
    }
    let v4 = Sample::random(&mut Random(3), IpVersion::V4, IpProtocol::UDP);
    let mut bytes = v4.bytes();
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(
        example().translate_outward(&mut bytes, &packet),
        Err(DropReason::Untranslatable)
    );
    assert_eq!(bytes, v4.bytes());
}

/// An error that a router outside sends about a packet that left: the quoted source goes back with the outer destination. The
/// error's own checksum covers both and is neutral to both.
#[test]
fn n_v6_4_the_quoted_packet_is_translated_the_other_way_round() {
    let mut random = Random(4);
    for (_, protocol) in PROTOCOLS
        .into_iter()
        .filter(|&(version, _)| version == IpVersion::V6)
    {
        let sent = inside_sample(&mut random, protocol);
        let left = sent.translated(
            Ends {
                src: address("2001:db8:1:d550::1234"),
                ..sent.ends
            },
            0,
        );
        let router = address("2001:db8:ffff::9");
        let report = |dst, quoted: &Sample, kind| {
            error(
                IpVersion::V6,
                (router, dst),
                (kind, 0),
                [0, 0, 5, 0],
                &quoted.bytes()[..64],
            )
        };
        for kind in 1..=4 {
            let outside = report(left.ends.src, &left, kind);
            let inside = report(sent.ends.src, &sent, kind);
            let mut bytes = outside.bytes();
            let packet = Packet::parse(&bytes).unwrap();
            example().translate_inward(&mut bytes, &packet).unwrap();
            assert_eq!(bytes, inside.translated(inside.ends, 1).bytes());
            assert_sound(&bytes);
            // The message's checksum is the same number.
            assert_eq!(bytes[40..44], outside.bytes()[40..44]);

            // The mirror: a host inside reports about what it received.
            let mirrored = |sample: &Sample| {
                let Ends { src, dst, .. } = sample.ends;
                sample.translated(
                    Ends {
                        src: dst,
                        dst: src,
                        ..sample.ends
                    },
                    0,
                )
            };
            let report = |src, quoted: Sample| {
                error(
                    IpVersion::V6,
                    (src, router),
                    (kind, 0),
                    [0, 0, 5, 0],
                    &quoted.bytes()[..64],
                )
            };
            let inside = report(sent.ends.src, mirrored(&sent));
            let outside = report(left.ends.src, mirrored(&left));
            let mut bytes = inside.bytes();
            let packet = Packet::parse(&bytes).unwrap();
            example().translate_outward(&mut bytes, &packet).unwrap();
            assert_eq!(bytes, outside.translated(outside.ends, 1).bytes());
            assert_sound(&bytes);
        }
    }
}

/// What an echo carries is not a quoted packet, whatever it looks like; nor are the bytes of a later fragment.
#[test]
fn n_v6_4_only_errors_quote_packets() {
    let inner = inside_sample(&mut Random(5), IpProtocol::UDP);
    let mut echo = inside_sample(&mut Random(6), IpProtocol::ICMPV6);
    echo.kind = 128;
    echo.payload = inner
        .translated(
            Ends {
                src: inner.ends.dst,
                dst: inner.ends.src,
                ..inner.ends
            },
            0,
        )
        .bytes();
    let mut bytes = echo.bytes();
    let packet = Packet::parse(&bytes).unwrap();
    example().translate_outward(&mut bytes, &packet).unwrap();
    assert_eq!(bytes[40..], echo.bytes()[40..]);

    let report = error(
        IpVersion::V6,
        (echo.ends.src, inner.ends.dst),
        (1, 4),
        [0; 4],
        &echo.payload,
    );
    for (offset, is_read) in [(0, true), (8, false)] {
        let mut bytes = report.bytes();
        // A fragment header in front of the message.
        bytes[6] = 44;
        let len = u16::from_be_bytes([bytes[4], bytes[5]]) + 8;
        bytes[4..6].copy_from_slice(&len.to_be_bytes());
        bytes.splice(40..40, [58, 0, 0, offset, 0, 0, 0, 1]);
        let before = bytes.clone();
        let packet = Packet::parse(&bytes).unwrap();
        example().translate_outward(&mut bytes, &packet).unwrap();
        assert_eq!(bytes[40..] != before[40..], is_read, "offset {offset}");
        assert_ne!(bytes[8..24], before[8..24]);
    }
}

#[test]
fn n_v6_4_nothing_panics_on_cut_and_damaged_packets() {
    let sent = inside_sample(&mut Random(7), IpProtocol::UDP);
    let quoted = sent.translated(
        Ends {
            src: sent.ends.dst,
            dst: sent.ends.src,
            ..sent.ends
        },
        0,
    );
    let report = error(
        IpVersion::V6,
        (sent.ends.src, sent.ends.dst),
        (1, 4),
        [0; 4],
        &quoted.bytes(),
    );
    let of_whole = Packet::parse(&report.bytes()).unwrap();
    mutilate(&report.bytes(), |bytes| {
        for packet in [Ok(of_whole), Packet::parse(bytes)].into_iter().flatten() {
            let mut bytes = bytes.to_vec();
            let _ = example().translate_outward(&mut bytes, &packet);
            let _ = example().translate_inward(&mut bytes, &packet);
        }
    });
}

proptest! {
    /// Any two prefixes, any address: it comes back, and no checksum changes.
    #[test]
    fn n_v6_4_mapping_is_neutral_and_its_inverse_brings_back(
        internal: u128,
        external: u128,
        host: u128,
        ones in 0u32..128,
        len in 1u8..=112,
    ) {
        let prefix = |bits: u128| Ipv6Net::new(bits.into(), len).unwrap().trunc();
        let (internal, external) = (prefix(internal), prefix(external));
        let Ok(pair) = PrefixPair::new(internal, external) else {
            return Ok(());
        };
        // Words of ones are likely, too.
        let host = host | !(u128::MAX >> ones);
        let inside = u128::from(internal.network()) | host & !u128::from(internal.netmask());
        let inside = Address::v6(inside.to_be_bytes());
        if let Some(outside) = pair.outward(inside) {
            prop_assert!(external.contains(&Ipv6Addr::from(*outside.octets())));
            prop_assert_eq!(pair.inward(outside), Some(inside));
            let neutral = |address: Address| match textbook_sum(address.octets()) {
                0xffff => 0,
                sum => sum,
            };
            prop_assert_eq!(neutral(inside), neutral(outside));
        }
    }

    #[test]
    fn n_v6_4_packets_come_back(seed: u64) {
        let mut random = Random(seed);
        for protocol in [IpProtocol::TCP, IpProtocol::UDP, IpProtocol::ICMPV6, IpProtocol::SCTP] {
            let sample = inside_sample(&mut random, protocol);
            let mut bytes = sample.bytes();
            let packet = Packet::parse(&bytes).unwrap();
            example().translate_outward(&mut bytes, &packet).unwrap();
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert!(rewrite::verify(&bytes, &packet, &Offload::NONE).is_ok());
            // As if sent back at once, to see the inverse alone.
            let packet = Packet { dst: packet.src, src: packet.dst, ..packet };
            let (src, dst) = bytes[8..40].split_at_mut(16);
            src.swap_with_slice(dst);
            example().translate_inward(&mut bytes, &packet).unwrap();
            let (src, dst) = bytes[8..40].split_at_mut(16);
            src.swap_with_slice(dst);
            prop_assert_eq!(bytes, sample.translated(sample.ends, 2).bytes());
        }
    }
}
