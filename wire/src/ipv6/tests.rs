use super::*;
use crate::{
    IpVersion,
    tests::{
        mutilate,
        recipe::{DST6, Recipe, SRC6},
    },
};

/// A packet with these extension headers before 8 bytes.
fn packet(next_header: u8, extensions: &[u8]) -> Vec<u8> {
    let len = extensions.len() + 8;
    let header = Ipv6Header::new(SRC6, DST6, IpProtocol(next_header), len).unwrap();
    [header.as_bytes(), extensions, &[0xa5; 8]].concat()
}

fn walk(next_header: u8, extensions: &[u8]) -> Result<UpperLayer, Malformed> {
    Ipv6Packet::parse(&packet(next_header, extensions))?.upper_layer()
}

const fn options(next_header: u8) -> [u8; 8] {
    [next_header, 0, 1, 4, 0, 0, 0, 0]
}

#[test]
fn a_new_header_has_its_fields() {
    let header = Ipv6Header::new(SRC6, DST6, IpProtocol::UDP, 65_535).unwrap();
    assert_eq!(
        (header.src(), header.dst(), header.payload_len()),
        (SRC6, DST6, 65_535)
    );
    assert_eq!(
        (header.traffic_class(), header.flow_label(), header.hop_limit()),
        (0, 0, 64)
    );
    assert!(Ipv6Header::new(SRC6, DST6, IpProtocol::UDP, 65_536).is_none());
}

#[test]
fn the_first_word_is_taken_apart() {
    let mut bytes = packet(17, &[]);
    bytes[..4].copy_from_slice(&[0x6a, 0xbc, 0xde, 0xf1]);
    let packet = Ipv6Packet::parse(&bytes).unwrap();
    assert_eq!(packet.header().traffic_class(), 0xab);
    assert_eq!(packet.header().flow_label(), 0xc_def1);
}

#[test]
fn padding_is_not_payload() {
    let mut bytes = packet(17, &[]);
    bytes.extend_from_slice(&[0; 6]);
    assert_eq!(Ipv6Packet::parse(&bytes).unwrap().payload(), [0xa5; 8]);
    assert_eq!(Ipv6Packet::parse(&bytes[..47]).err(), Some(Malformed::Length));
    assert_eq!(
        Ipv6Packet::parse_quoted(&bytes[..47]).unwrap().payload(),
        [0xa5; 7]
    );
    assert_eq!(Ipv6Packet::parse(&bytes[..39]).err(), Some(Malformed::Truncated));
    bytes[0] = 0x45;
    assert_eq!(Ipv6Packet::parse(&bytes).err(), Some(Malformed::Version));
}

#[test]
fn extension_headers_are_walked() {
    let upper = |protocol, offset| {
        Ok(UpperLayer {
            protocol,
            offset,
            fragment: None,
        })
    };
    assert_eq!(walk(17, &[]), upper(IpProtocol::UDP, 40));
    assert_eq!(walk(0, &options(6)), upper(IpProtocol::TCP, 48));
    assert_eq!(
        walk(0, &[options(60), options(43), options(6)].concat()),
        upper(IpProtocol::TCP, 64)
    );
    assert_eq!(walk(59, &[]), upper(IpProtocol::NO_NEXT_HEADER, 40));
    // ESP hides what it carries.
    assert_eq!(walk(50, &[]), upper(IpProtocol(50), 40));
    // An authentication header counts 4-byte words, less 2.
    assert_eq!(
        walk(51, &[&[17, 4][..], &[0; 22]].concat()),
        upper(IpProtocol::UDP, 64)
    );
    // A routing header of 24 bytes.
    assert_eq!(
        walk(43, &[&[17, 2][..], &[0; 22]].concat()),
        upper(IpProtocol::UDP, 64)
    );
}

#[test]
fn the_walk_is_bounded() {
    let chain = |len: usize| {
        let mut headers = vec![options(60); len];
        headers[len - 1] = options(17);
        headers.concat()
    };
    let end = Ok(UpperLayer {
        protocol: IpProtocol::UDP,
        offset: 40 + 64,
        fragment: None,
    });
    assert_eq!(walk(60, &chain(MAX_EXTENSIONS)), end);
    assert_eq!(walk(60, &chain(MAX_EXTENSIONS + 1)), Err(Malformed::Extensions));
    assert_eq!(
        walk(60, &[options(0), options(17)].concat()),
        Err(Malformed::Extensions),
        "hop-by-hop second"
    );
}

#[test]
fn headers_that_leave_the_packet_are_refused() {
    assert_eq!(walk(60, &[17, 2, 0, 0, 0, 0, 0, 0]), Err(Malformed::Truncated));
    assert_eq!(walk(51, &[17, 255, 0, 0, 0, 0, 0, 0]), Err(Malformed::Truncated));
    assert_eq!(walk(51, &[17, 0, 0, 0, 0, 0, 0, 0]), Err(Malformed::HeaderLength));
    let mut none = packet(60, &[]);
    none[5] = 1;
    assert_eq!(
        Ipv6Packet::parse(&none).unwrap().upper_layer(),
        Err(Malformed::Truncated)
    );
}

#[test]
fn fragments() {
    let fragment = |offset: u16, more| {
        Some(Fragment {
            id: 0x0102_0304,
            offset,
            more,
        })
    };
    let header = |next, bits: u16| {
        let [high, low] = bits.to_be_bytes();
        [next, 0, high, low, 1, 2, 3, 4]
    };
    let first = walk(44, &header(17, 1)).unwrap();
    assert_eq!(
        first,
        UpperLayer {
            protocol: IpProtocol::UDP,
            offset: 48,
            fragment: fragment(0, true)
        }
    );
    assert!(first.has_transport_header());

    // The walk goes on behind a first fragment and ends at a later one, whatever that claims to carry.
    let first = walk(44, &[header(60, 1), options(17)].concat()).unwrap();
    assert_eq!(
        first,
        UpperLayer {
            protocol: IpProtocol::UDP,
            offset: 56,
            fragment: fragment(0, true)
        }
    );
    let later = walk(44, &[header(60, 0x0100), options(17)].concat()).unwrap();
    assert_eq!(
        later,
        UpperLayer {
            protocol: IpProtocol::DESTINATION_OPTIONS,
            offset: 48,
            fragment: fragment(0x100, false)
        }
    );
    assert!(!later.has_transport_header());

    let atomic = walk(44, &header(17, 0)).unwrap();
    assert!(atomic.has_transport_header() && atomic.fragment.is_some_and(Fragment::is_whole));

    assert_eq!(
        walk(44, &[header(44, 0), header(17, 0)].concat()),
        Err(Malformed::Extensions),
        "two"
    );
    assert_eq!(
        walk(44, &header(17, 0xfff8)),
        Err(Malformed::Fragment),
        "65 528 + 8 bytes"
    );
    assert!(walk(44, &header(17, 0xfff0)).is_ok(), "65 520 + 8 bytes");

    let mut odd = packet(44, &header(17, 1));
    odd[5] -= 1;
    assert_eq!(
        Ipv6Packet::parse(&odd).unwrap().upper_layer(),
        Err(Malformed::Fragment)
    );
    odd[43] = 0;
    assert!(
        Ipv6Packet::parse(&odd).unwrap().upper_layer().is_ok(),
        "only the last may be odd"
    );
}

#[test]
fn addresses_are_rewritten_in_place() {
    let mut bytes = packet(17, &[]);
    let (header, _) = Ipv6Header::parse_mut(&mut bytes).unwrap();
    header.set_src(DST6);
    header.set_dst(SRC6);
    header.set_hop_limit(9);
    let header = Ipv6Packet::parse(&bytes).unwrap().header();
    assert_eq!((header.src(), header.dst(), header.hop_limit()), (DST6, SRC6, 9));
}

#[test]
fn parsing_survives_mutilation() {
    let extended = Recipe {
        extensions: true,
        ..Recipe::tcp(IpVersion::V6, 10)
    }
    .complete()
    .split_off(14);
    let fragment = packet(44, &[60, 0, 0, 1, 1, 2, 3, 4, 17, 0, 1, 4, 0, 0, 0, 0]);
    let authenticated = packet(51, &[&[17, 4][..], &[0; 22]].concat());
    for sample in [extended, fragment, authenticated] {
        mutilate(&sample, 64, |bytes| {
            for packet in [Ipv6Packet::parse(bytes), Ipv6Packet::parse_quoted(bytes)]
                .into_iter()
                .flatten()
            {
                if let Ok(upper_layer) = packet.upper_layer() {
                    assert!(upper_layer.offset <= bytes.len());
                }
            }
        });
    }
}

#[test]
fn a_fragment_header_is_found_where_the_walk_finds_it() {
    let fragment = [17, 0, 0, 9, 0, 0, 0x12, 0x34];
    let chain = [&options(44)[..], &fragment].concat();
    for (name, next_header, extensions, header_at, link) in [
        ("first", 44, fragment.to_vec(), 40, 6),
        ("behind options", 0, chain.clone(), 48, 40),
        ("behind a routing header", 43, chain, 48, 40),
    ] {
        let bytes = packet(next_header, &extensions);
        let packet = Ipv6Packet::parse(&bytes).unwrap();
        let placed = packet.fragment().expect(name);
        assert_eq!((placed.header_at, placed.link), (header_at, link), "{name}");
        assert_eq!(bytes[link], 44);
        assert_eq!(
            placed.fragment,
            Fragment {
                id: 0x1234,
                offset: 8,
                more: true
            }
        );
        assert_eq!(
            (placed.next_header, placed.payload),
            (IpProtocol::UDP, &[0xa5; 8][..])
        );
        assert_eq!(packet.upper_layer().unwrap().fragment, Some(placed.fragment));
    }
    for (next_header, extensions) in [(17, vec![]), (0, options(17).to_vec()), (44, vec![])] {
        let bytes = packet(next_header, &extensions);
        let packet = Ipv6Packet::parse(&bytes).unwrap();
        // The last is no whole header chain: its bytes are read as a header, and nothing is out of bounds.
        assert_eq!(packet.fragment().is_some(), next_header == 44);
    }
    let bytes = packet(44, &fragment);
    for len in 0..bytes.len() {
        if let Ok(packet) = Ipv6Packet::parse_quoted(&bytes[..len]) {
            assert_eq!(packet.fragment().is_some(), len >= 48);
        }
    }
}
