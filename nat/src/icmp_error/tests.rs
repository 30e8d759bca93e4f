use proptest::prelude::*;
use vswitch_wire::Offload;

use super::*;
use crate::rewrite::sample::*;

const A: &str = "10.0.0.2";
const B: &str = "10.0.0.3";
const X: &str = "198.51.100.1";
const S: &str = "198.51.100.2";
const R: &str = "198.51.100.4";

fn read(bytes: &[u8]) -> Result<Option<IcmpError>, DropReason> {
    IcmpError::read(bytes, &Packet::parse(bytes).unwrap())
}

fn translated(bytes: &[u8], quoted: &Ends, addresses: (Address, Address)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let packet = Packet::parse(&bytes).unwrap();
    let error = IcmpError::read(&bytes, &packet).unwrap().unwrap();
    error.translate(&mut bytes, &packet, quoted, addresses);
    bytes
}

/// The quoted ends as read, and what becomes of the packet with others.
#[track_caller]
fn golden(input: &str, from: Ends, to: Ends, addresses: (&str, &str), output: &str) -> IcmpError {
    let input = hex(input);
    let error = read(&input).unwrap().unwrap();
    assert_eq!(error.quoted, from);
    let addresses = (address(addresses.0), address(addresses.1));
    assert_eq!(translated(&input, &to, addresses), hex(output));
    error
}

#[test]
fn n_ice_5_g6_an_error_from_outside() {
    let error = golden(
        "450000390008000040012652c6336402c633640103035182000000004500001d000100003f112765c6336401c63364021388003500091fb478",
        ends(X, 5000, S, 53),
        ends(A, 5000, S, 53),
        (S, A),
        "45000039000800003f014785c63364020a0000020303314f000000004500001d000100003f1147980a000002c63364021388003500093fe778",
    );
    assert_eq!((error.protocol, error.query), (IpProtocol::UDP, 0));
    assert_eq!((error.sequence, error.is_redirect), (None, false));
}

#[test]
fn n_ice_6_g7_eight_bytes_of_tcp_have_no_checksum() {
    let error = golden(
        "450000380009000040012650c6336404c63364010304d85600000514450005a0000540003c06e4e8c6336401c63364021b580050000003e9",
        ends(X, 7000, S, 80),
        ends(A, 7000, S, 80),
        (R, A),
        "45000038000900003f014783c63364040a0000020304d85600000514450005a0000540003c06051c0a000002c63364021b580050000003e9",
    );
    assert_eq!((error.protocol, error.sequence), (IpProtocol::TCP, Some(1001)));
}

#[test]
fn n_ice_8_g8e_an_error_from_inside() {
    golden(
        "45000038000b0000400146820a000003c63364020303a250000000004500001d000a00003f11478ec63364020a0000030fa0003500094ace",
        ends(S, 4000, B, 53),
        ends(S, 4000, X, 5353),
        (X, S),
        "45000038000b00003f012750c6336401c63364020303c282000000004500001d000a00003f11275cc6336402c63364010fa014e9000915e8",
    );
}

#[test]
fn n_ice_14_g11_packet_too_big() {
    let (a6, x6, s6) = ("2001:db8:a::2", "2001:db8:b::1", "2001:db8:b::2");
    golden(
        "6000000000393a4020010db8000b0000000000000000000320010db8000b0000000000000000000102002bd500000500600000000009113c20010db8000b0000000000000000000120010db8000b00000000000000000002138800350009189478",
        ends(x6, 5000, s6, 53),
        ends(a6, 5000, s6, 53),
        ("2001:db8:b::3", a6),
        "6000000000393a3f20010db8000b0000000000000000000320010db8000a0000000000000000000202002bd500000500600000000009113c20010db8000a0000000000000000000220010db8000b00000000000000000002138800350009189478",
    );
}

/// Any error about `quoted`, which is cut to `len` bytes.
fn about(random: &mut Random, quoted: &Sample, len: usize) -> Sample {
    let (types, rest): (&[(u8, u8)], _) = match quoted.version {
        IpVersion::V4 => (&[(3, 3), (3, 13), (4, 0), (5, 1), (11, 0), (12, 0)], [0; 4]),
        IpVersion::V6 => (&[(1, 4), (2, 0), (3, 0), (4, 1)], [0, 0, 5, 0]),
    };
    let addresses = (random.address(quoted.version), random.address(quoted.version));
    let types = types[random.below(types.len())];
    let quote = quoted.bytes();
    error(quoted.version, addresses, types, rest, &quote[..len])
}

/// What must come out, put together from its fields: the quoted packet as if it had been sent with these ends, the error as if it had
/// been made about it. Of what is not mended the bytes are kept.
fn wanted(report: &Sample, quoted: &Sample, ends: Ends, addresses: (Address, Address)) -> Vec<u8> {
    let before = quoted.bytes();
    let len = report.payload.len() - 4;
    let mut after = quoted.translated(ends, 0).bytes();
    let transport = quoted.transport();
    let kept = match quoted.protocol {
        IpProtocol::SCTP => transport + 8..transport + 12,
        IpProtocol::TCP if len < transport + 18 => transport + 16..transport + 18,
        _ => 0..0,
    };
    after[kept.clone()].copy_from_slice(&before[kept]);
    let mut outer = report.translated(report.ends, 1);
    (outer.ends.src, outer.ends.dst) = addresses;
    outer.payload.truncate(4);
    outer.payload.extend(&after[..len]);
    outer.bytes()
}

/// And N-ICE-2, N-ICE-7: behind options and extension headers; every checksum as if computed anew.
#[test]
fn n_ice_6_every_length_of_quote_is_rewritten_as_far_as_it_goes() {
    let mut random = Random(0x6e61_7437);
    for _ in 0..6 {
        for (version, protocol) in PROTOCOLS {
            let quoted = Sample::random(&mut random, version, protocol);
            let (to, addresses) = (
                random.ends(version),
                (random.address(version), random.address(version)),
            );
            let has_transport = protocol.0 != 47;
            let shortest = quoted.transport() + if has_transport { 8 } else { 0 };
            for len in shortest..=quoted.bytes().len() {
                let report = about(&mut random, &quoted, len);
                let bytes = report.bytes();
                let error = read(&bytes).unwrap().unwrap();
                assert_eq!(
                    (error.quoted.src, error.quoted.dst),
                    (quoted.ends.src, quoted.ends.dst)
                );
                assert_eq!(error.protocol, protocol);
                let out = translated(&bytes, &to, addresses);
                assert_eq!(
                    out,
                    wanted(&report, &quoted, to, addresses),
                    "{len} bytes of {quoted:?}"
                );
                assert_sound(&out);
            }
            if has_transport {
                for len in quoted.transport()..shortest {
                    let bytes = about(&mut random, &quoted, len).bytes();
                    assert_eq!(
                        read(&bytes),
                        Err(DropReason::Malformed),
                        "{len} bytes of {quoted:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn n_ice_6_528_bytes_of_tcp_have_their_checksum_back() {
    let mut quoted = Sample::random(&mut Random(1), IpVersion::V4, IpProtocol::TCP);
    quoted.payload = (0..1400u16).map(|n| (n * 7) as u8).collect();
    let sent = quoted.translated(Random(2).ends(IpVersion::V4), 0);
    let len = sent.transport() + 528;
    let report = error(
        IpVersion::V4,
        (address(R), address(X)),
        (3, 4),
        [0, 0, 5, 20],
        &sent.bytes()[..len],
    );
    let out = translated(&report.bytes(), &quoted.ends, (address(R), address(A)));
    assert_eq!(out[28..], quoted.bytes()[..len]);
    assert_sound(&out);
}

#[test]
fn n_ice_6_a_quoted_datagram_without_checksum_gets_none() {
    let quoted = Sample::random(&mut Random(3), IpVersion::V4, IpProtocol::UDP);
    let mut quote = quoted.bytes();
    let field = quoted.transport() + 6;
    quote[field..field + 2].fill(0);
    let report = error(IpVersion::V4, (address(S), address(X)), (3, 3), [0; 4], &quote);
    let out = translated(
        &report.bytes(),
        &Random(4).ends(IpVersion::V4),
        (address(S), address(A)),
    );
    assert_eq!(out[28 + field..28 + field + 2], [0, 0]);
    assert_sound(&out);
}

#[test]
fn n_ice_1_a_wrong_checksum_is_dropped() {
    let mut random = Random(5);
    for (version, protocol) in [(IpVersion::V4, IpProtocol::UDP), (IpVersion::V6, IpProtocol::TCP)] {
        let quoted = Sample::random(&mut random, version, protocol);
        let report = about(&mut random, &quoted, quoted.bytes().len());
        let bytes = report.bytes();
        for bit in report.transport() * 8..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A type that is no error's is not judged here.
            match read(&damaged) {
                Ok(None) => assert_eq!(bit / 8, report.transport()),
                seen => assert_eq!(seen, Err(DropReason::BadChecksum), "bit {bit}"),
            }
        }
    }
}

#[test]
fn n_ck_9_a_wrong_checksum_is_not_repaired() {
    let quoted = Sample::random(&mut Random(6), IpVersion::V4, IpProtocol::UDP);
    let report = error(
        IpVersion::V4,
        (address(S), address(X)),
        (3, 3),
        [0; 4],
        &quoted.bytes(),
    );
    let mut bytes = report.bytes();
    let packet = Packet::parse(&bytes).unwrap();
    let error = read(&bytes).unwrap().unwrap();
    bytes[24] ^= 1;
    error.translate(
        &mut bytes,
        &packet,
        &Random(7).ends(IpVersion::V4),
        (address(S), address(A)),
    );
    let seen = rewrite::verify(&bytes, &Packet::parse(&bytes).unwrap(), &Offload::NONE);
    assert_eq!(seen, Err(DropReason::BadChecksum));
}

#[test]
fn n_ice_3_a_wrong_checksum_of_the_quoted_header_is_dropped_and_a_transport_s_is_not_looked_at() {
    let quoted = Sample::random(&mut Random(8), IpVersion::V4, IpProtocol::UDP);
    let report = |quote: &[u8]| error(IpVersion::V4, (address(S), address(X)), (3, 3), [0; 4], quote).bytes();
    let mut quote = quoted.bytes();
    quote[10] ^= 1;
    assert_eq!(read(&report(&quote)), Err(DropReason::BadChecksum));
    let mut quote = quoted.bytes();
    quote[quoted.transport() + 6] ^= 1;
    assert!(read(&report(&quote)).unwrap().is_some());
}

/// RFC 4884: the datagram is filled up to 128 bytes with zeros, and objects follow.
#[test]
fn n_ice_2_extensions_are_kept_byte_for_byte() {
    const EXTENSIONS: [u8; 12] = [0x20, 0, 0xaa, 0xbb, 0, 8, 1, 1, 0x12, 0x34, 0x56, 0x78];
    let mut random = Random(9);
    for (version, protocol) in PROTOCOLS {
        let (unit, kinds): (_, &[u8]) = match version {
            IpVersion::V4 => (4, &[3, 11, 12]),
            IpVersion::V6 => (8, &[1, 3]),
        };
        for &kind in kinds {
            let mut quoted = Sample::random(&mut random, version, protocol);
            // Longer than what is kept of it: that a length is said is what keeps the extensions out.
            quoted.payload = vec![0x77; 600];
            for len in [quoted.transport() + 8, 128] {
                let mut quote = quoted.bytes();
                quote.truncate(len);
                quote.resize(128, 0);
                let padding = quote[len..].to_vec();
                quote.extend(EXTENSIONS);
                let mut rest = [0; 4];
                rest[if version == IpVersion::V4 { 1 } else { 0 }] = 128 / unit;
                let report = error(
                    version,
                    (quoted.ends.dst, quoted.ends.src),
                    (kind, 0),
                    rest,
                    &quote,
                );
                let to = random.ends(version);
                let out = translated(&report.bytes(), &to, (to.dst, to.src));
                let body = &out[report.transport() + 8..];
                assert_eq!(body[128..], EXTENSIONS);
                assert_eq!(body[len..128], padding, "{len} bytes of {quoted:?}");
                assert_ne!(body[..len], quote[..len]);
                assert_sound(&out);
            }
        }
    }
}

/// A quote that says to be longer than it is must not reach into what follows, and one that is shorter ends where it says.
#[test]
fn n_ice_2_what_follows_a_short_quoted_packet_is_not_its_transport() {
    let mut quoted = Sample::random(&mut Random(10), IpVersion::V4, IpProtocol::TCP);
    quoted.payload = Vec::new();
    let mut quote = quoted.bytes();
    // A packet of 12 bytes of TCP, by its header.
    let total = (quoted.transport() + 12) as u16;
    quote[2..4].copy_from_slice(&total.to_be_bytes());
    quote[10..12].fill(0);
    let sum = !textbook_sum(&quote[..quoted.transport()]);
    quote[10..12].copy_from_slice(&sum.to_be_bytes());
    let report = error(IpVersion::V4, (address(S), address(X)), (3, 3), [0; 4], &quote);
    let out = translated(
        &report.bytes(),
        &Random(11).ends(IpVersion::V4),
        (address(S), address(A)),
    );
    let rest = 28 + quoted.transport() + 12;
    assert_eq!(out[rest..], report.bytes()[rest..]);
    assert_sound(&out);
}

#[test]
fn n_ice_2_a_later_fragment_is_nobody_s() {
    let quoted = Sample::random(&mut Random(12), IpVersion::V4, IpProtocol::UDP);
    for (fragment, seen) in [([0x20, 0], Ok(())), ([0, 1], Err(DropReason::IcmpUnrelated))] {
        let mut quote = quoted.bytes();
        quote[6..8].copy_from_slice(&fragment);
        quote[10..12].fill(0);
        let sum = !textbook_sum(&quote[..quoted.transport()]);
        quote[10..12].copy_from_slice(&sum.to_be_bytes());
        let report = error(IpVersion::V4, (address(S), address(X)), (3, 3), [0; 4], &quote);
        assert_eq!(read(&report.bytes()).map(|_| ()), seen);
    }
}

#[test]
fn n_ice_2_a_quote_that_cannot_be_read_is_malformed() {
    let quoted = Sample::random(&mut Random(13), IpVersion::V4, IpProtocol::UDP).bytes();
    for len in 0..20 {
        let report = error(
            IpVersion::V4,
            (address(S), address(X)),
            (3, 3),
            [0; 4],
            &quoted[..len],
        );
        assert_eq!(read(&report.bytes()), Err(DropReason::Malformed), "{len}");
    }
    // The other version's.
    let v6 = Sample::random(&mut Random(14), IpVersion::V6, IpProtocol::UDP).bytes();
    let report = error(IpVersion::V4, (address(S), address(X)), (3, 3), [0; 4], &v6);
    assert_eq!(read(&report.bytes()), Err(DropReason::Malformed));
}

#[test]
fn n_ice_10_an_error_about_an_error_is_nobody_s() {
    let inner = error(IpVersion::V4, (address(A), address(S)), (3, 3), [0; 4], &[0; 28]);
    let report = error(
        IpVersion::V4,
        (address(S), address(X)),
        (3, 3),
        [0; 4],
        &inner.bytes(),
    );
    assert_eq!(read(&report.bytes()), Err(DropReason::IcmpUnrelated));
}

#[test]
fn n_ice_5_a_quoted_query_has_its_identifier_on_the_asking_side() {
    for (version, kind, request, is_request) in [
        (IpVersion::V4, 8, 8, true),
        (IpVersion::V4, 0, 8, false),
        (IpVersion::V4, 14, 13, false),
        (IpVersion::V6, 128, 128, true),
        (IpVersion::V6, 129, 128, false),
    ] {
        let protocol = match version {
            IpVersion::V4 => IpProtocol::ICMP,
            IpVersion::V6 => IpProtocol::ICMPV6,
        };
        let mut quoted = Sample::random(&mut Random(15), version, protocol);
        quoted.kind = kind;
        (quoted.ends.src_port, quoted.ends.dst_port) = if is_request { (77, 0) } else { (0, 77) };
        let report = about(&mut Random(16), &quoted, quoted.bytes().len());
        let error = read(&report.bytes()).unwrap().unwrap();
        assert_eq!((error.quoted, error.query), (quoted.ends, request));
    }
}

#[test]
fn n_ice_11_a_redirect_is_told_apart() {
    let quoted = Sample::random(&mut Random(17), IpVersion::V4, IpProtocol::TCP);
    for (kind, is_redirect) in [(3, false), (4, false), (5, true), (11, false), (12, false)] {
        let report = error(
            IpVersion::V4,
            (address(R), address(X)),
            (kind, 0),
            [0; 4],
            &quoted.bytes(),
        );
        assert_eq!(read(&report.bytes()).unwrap().unwrap().is_redirect, is_redirect);
    }
}

#[test]
fn n_ice_13_an_mtu_that_no_link_has_is_not_believed() {
    let v4 = Sample::random(&mut Random(18), IpVersion::V4, IpProtocol::TCP);
    let v6 = Sample::random(&mut Random(18), IpVersion::V6, IpProtocol::TCP);
    for (quoted, kind, mtu, is_believed) in [
        (&v4, (3, 4), 0u32, false),
        (&v4, (3, 4), 551, false),
        (&v4, (3, 4), 552, true),
        (&v4, (3, 4), 1500, true),
        // Not an MTU.
        (&v4, (3, 3), 68, true),
        (&v6, (2, 0), 1279, false),
        (&v6, (2, 0), 1280, true),
        (&v6, (2, 0), 0x1_0000, true),
        (&v6, (1, 0), 0, true),
    ] {
        let addresses = (quoted.ends.dst, quoted.ends.src);
        let report = error(
            quoted.version,
            addresses,
            kind,
            mtu.to_be_bytes(),
            &quoted.bytes(),
        );
        let seen = read(&report.bytes());
        match is_believed {
            true => assert!(seen.unwrap().is_some(), "{kind:?} {mtu}"),
            false => assert_eq!(seen, Err(DropReason::Invalid), "{kind:?} {mtu}"),
        }
    }
}

#[test]
fn n_icq_1_what_is_no_error_is_left_to_others() {
    for (version, protocol) in PROTOCOLS {
        let sample = Sample::random(&mut Random(19), version, protocol);
        assert_eq!(read(&sample.bytes()), Ok(None));
    }
    // Even if its checksum is wrong: whoever looks at it will see.
    let mut bytes = Sample::random(&mut Random(20), IpVersion::V4, IpProtocol::ICMP).bytes();
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(read(&bytes), Ok(None));
}

/// The sender's Ethernet may have filled up a short error (N-INV-3).
#[test]
fn n_ice_7_padding_is_neither_counted_nor_touched() {
    let quoted = Sample::random(&mut Random(21), IpVersion::V4, IpProtocol::UDP);
    let report = error(
        IpVersion::V4,
        (address(S), address(X)),
        (3, 3),
        [0; 4],
        &quoted.bytes()[..28 + quoted.transport() - 20],
    );
    let (to, addresses) = (Random(22).ends(IpVersion::V4), (address(S), address(A)));
    let mut bytes = report.bytes();
    bytes.extend([0xee; 9]);
    let mut wanted = translated(&report.bytes(), &to, addresses);
    wanted.extend([0xee; 9]);
    assert_eq!(translated(&bytes, &to, addresses), wanted);
}

/// Mends the checksum of a message, so that what is behind it is read in spite of its damage.
fn with_checksum(bytes: &mut [u8]) {
    let Ok(packet) = Packet::parse(bytes) else {
        return;
    };
    let pseudo_header = match packet.version {
        IpVersion::V4 => 0,
        IpVersion::V6 => rewrite::pseudo_header(bytes, &packet, packet.transport_len()),
    };
    if let Some(message) = bytes.get_mut(packet.transport..packet.len)
        && message.len() >= 4
    {
        message[2..4].fill(0);
        let sum = checksum::finish(pseudo_header + checksum::sum(message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}

#[test]
fn n_inv_2_nothing_panics_on_cut_and_damaged_errors() {
    let mut random = Random(23);
    for (version, protocol) in PROTOCOLS {
        let mut quoted = Sample::random(&mut random, version, protocol);
        quoted.payload.truncate(4);
        let len = quoted.bytes().len();
        let report = about(&mut random, &quoted, len);
        let whole = report.bytes();
        let of_whole = Packet::parse(&whole).unwrap();
        let error_of_whole = read(&whole).unwrap().unwrap();
        let (to, addresses) = (random.ends(version), (quoted.ends.src, quoted.ends.dst));
        mutilate(&whole, |bytes| {
            error_of_whole.translate(&mut bytes.to_vec(), &of_whole, &to, addresses);
            with_checksum(bytes);
            if let Ok(packet) = Packet::parse(bytes)
                && let Ok(Some(error)) = IcmpError::read(bytes, &packet)
            {
                error.translate(bytes, &packet, &to, addresses);
            }
        });
        // Quotes cut at every length, in an error that is right.
        for len in 0..len {
            let bytes = about(&mut random, &quoted, len).bytes();
            if let Ok(Some(_)) = read(&bytes) {
                assert_sound(&translated(&bytes, &to, addresses));
            }
        }
    }
}

proptest! {
    #[test]
    fn n_ice_7_translating_back_gives_what_was(seed: u64) {
        let mut random = Random(seed);
        for (version, protocol) in PROTOCOLS {
            let quoted = Sample::random(&mut random, version, protocol);
            let len = quoted.bytes().len();
            let shortest = (quoted.transport() + 8).min(len);
            let len = shortest + random.below(len - shortest + 1);
            let report = about(&mut random, &quoted, len);
            let addresses = (random.address(version), random.address(version));
            let out = translated(&report.bytes(), &random.ends(version), addresses);
            assert_sound(&out);
            let back = translated(&out, &quoted.ends, (report.ends.src, report.ends.dst));
            prop_assert_eq!(back, report.translated(report.ends, 2).bytes());
        }
    }
}
