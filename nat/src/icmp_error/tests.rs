use proptest::prelude::*;
use vswitch_wire::Offload;

use super::*;
use crate::rewrite::sample::*;

mod golden;
mod reading;

const A: &str = "10.0.0.2";
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
        IpVersion::V6 => rewrite::pseudo_header(&packet, packet.len - packet.transport),
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
