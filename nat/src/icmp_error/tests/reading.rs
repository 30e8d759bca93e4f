//! Which errors are believed, and what is read of them.

use vswitch_wire::{IpProtocol, IpVersion};

use super::{A, R, S, X, about, read};
use crate::{DropReason, rewrite::sample::*};

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

/// Where a length says that extensions begin, no transport header is read of them; a length that is too long or from before
/// RFC 4884 says nothing.
#[test]
fn n_ice_2_a_transport_header_does_not_reach_into_extensions() {
    let mut quoted = Sample::random(&mut Random(24), IpVersion::V6, IpProtocol::UDP);
    quoted.extension = 10;
    quoted.payload = vec![0; 100];
    assert_eq!(quoted.transport(), 120);
    let report = |quote: &[u8], words| {
        let addresses = (quoted.ends.dst, quoted.ends.src);
        let rest = [words, 0, 0, 0];
        read(&error(IpVersion::V6, addresses, (1, 4), rest, quote).bytes())
    };
    let quote = quoted.bytes();
    assert_eq!(report(&quote[..128], 16).unwrap().unwrap().quoted, quoted.ends);
    quoted.extension = 11;
    let quote = quoted.bytes();
    assert_eq!(report(&quote[..160], 16), Err(DropReason::Malformed));
    for words in [0, 1, 15, 17, 20, 21, 255] {
        assert_eq!(
            report(&quote[..160], words).unwrap().unwrap().quoted,
            quoted.ends,
            "{words}"
        );
    }
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
