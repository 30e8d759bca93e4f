use etherparse::{NetHeaders, TransportHeader};
use proptest::prelude::*;

use super::*;
use crate::{
    Gso,
    tests::{
        mutilate,
        recipe::{Protocol, Recipe, any_recipe, verified},
    },
};

fn offload(recipe: &Recipe, size: u16) -> Offload {
    recipe
        .vnet_gso(size)
        .header()
        .validate(&recipe.partial())
        .unwrap()
}

fn cut(recipe: &Recipe, size: u16) -> Vec<Vec<u8>> {
    let frame = recipe.partial();
    let mut segmenter = Segmenter::new(&frame, &offload(recipe, size)).unwrap();
    let expected = segmenter.remaining();
    let mut frames = Vec::new();
    while let Some(segment) = segmenter.next_segment() {
        assert_eq!(segment.frame_len(), segment.header.len() + segment.payload.len());
        frames.push([segment.header, segment.payload].concat());
    }
    assert_eq!(frames.len(), expected);
    assert_eq!(segmenter.remaining(), 0);
    assert_eq!(segmenter.next_segment(), None);
    frames
}

fn tcp(frame: &[u8]) -> etherparse::TcpHeader {
    match verified(frame).transport {
        Some(TransportHeader::Tcp(header)) => header,
        other => panic!("not TCP: {other:?}"),
    }
}

fn ipv4(frame: &[u8]) -> etherparse::Ipv4Header {
    match verified(frame).net {
        Some(NetHeaders::Ipv4(header, _)) => header,
        other => panic!("not IPv4: {other:?}"),
    }
}

#[test]
fn b_off_2_fourteen_thousand_bytes_become_ten_frames() {
    let recipe = Recipe::tcp(IpVersion::V4, 14_600);
    let frames = cut(&recipe, 1460);
    assert_eq!(frames.len(), 10);
    let mut stream = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(frame.len(), 1514);
        let (ip, header) = (ipv4(frame), tcp(frame));
        assert_eq!(ip.identification, 0x4849 + index as u16);
        assert_eq!(header.sequence_number, 0x1000 + 1460 * index as u32);
        assert!(header.ack);
        assert_eq!(header.psh, index == 9, "PSH only on the last");
        stream.extend_from_slice(verified(frame).payload.slice());
    }
    assert_eq!(stream, recipe.payload);
}

#[test]
fn b_off_2_flags_go_where_they_belong() {
    // All but SYN and RST: FIN PSH last, CWR first, ECE URG ACK on each.
    let protocol = Protocol::Tcp {
        flags: 0b1111_1001,
        sequence: u32::MAX - 5,
        options: true,
    };
    let frames = cut(
        &Recipe {
            protocol,
            ..Recipe::tcp(IpVersion::V6, 25)
        },
        10,
    );
    assert_eq!(frames.len(), 3);
    for (index, frame) in frames.iter().enumerate() {
        let header = tcp(frame);
        assert_eq!(
            (header.fin, header.psh),
            (index == 2, index == 2),
            "segment {index}"
        );
        assert_eq!(header.cwr, index == 0, "segment {index}");
        assert!(header.ece && header.urg && header.ack, "segment {index}");
        assert_eq!(header.options.as_slice(), [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9]);
        assert_eq!(
            header.sequence_number,
            (u32::MAX - 5).wrapping_add(10 * index as u32)
        );
    }
}

#[test]
fn b_off_2_ids_and_sequence_numbers_wrap() {
    let protocol = Protocol::Tcp {
        flags: 0x10,
        sequence: u32::MAX,
        options: false,
    };
    let frames = cut(
        &Recipe {
            protocol,
            id: 0xffff,
            ..Recipe::tcp(IpVersion::V4, 3)
        },
        1,
    );
    let ids: Vec<_> = frames.iter().map(|frame| ipv4(frame).identification).collect();
    let sequences: Vec<_> = frames.iter().map(|frame| tcp(frame).sequence_number).collect();
    assert_eq!((ids, sequences), (vec![0xffff, 0, 1], vec![u32::MAX, 0, 1]));
}

#[test]
fn b_off_2_tags_and_extension_headers_are_repeated() {
    let recipe = Recipe {
        tags: 2,
        extensions: true,
        ..Recipe::tcp(IpVersion::V6, 3000)
    };
    let original = recipe.partial();
    for frame in cut(&recipe, 1400) {
        verified(&frame);
        assert_eq!(frame[..recipe.l3() + 4], original[..recipe.l3() + 4]);
        assert_eq!(
            frame[recipe.l3() + 6..recipe.l4()],
            original[recipe.l3() + 6..recipe.l4()]
        );
        let payload_len = u16::from_be_bytes([frame[recipe.l3() + 4], frame[recipe.l3() + 5]]);
        assert_eq!(usize::from(payload_len), frame.len() - recipe.l3() - 40);
    }
}

#[test]
fn b_off_3_seven_thousand_bytes_become_five_datagrams() {
    for version in [IpVersion::V4, IpVersion::V6] {
        let recipe = Recipe::udp(version, 7100);
        let frames = cut(&recipe, 1400);
        let mut lengths = Vec::new();
        let mut payload = Vec::new();
        for (index, frame) in frames.iter().enumerate() {
            let headers = verified(frame);
            if let Some(NetHeaders::Ipv4(ip, _)) = &headers.net {
                assert_eq!(ip.identification, 0x4849 + index as u16);
                assert!(
                    !ip.more_fragments && ip.fragment_offset.value() == 0,
                    "never fragments"
                );
            }
            let Some(TransportHeader::Udp(udp)) = headers.transport else {
                panic!("not UDP")
            };
            lengths.push(udp.length);
            payload.extend_from_slice(headers.payload.slice());
        }
        assert_eq!(lengths, [1408, 1408, 1408, 1408, 1408, 108]);
        assert_eq!(payload, recipe.payload);
    }
}

#[test]
fn a_wrong_partial_sum_stays_wrong() {
    let recipe = Recipe::tcp(IpVersion::V4, 3000);
    let mut frame = recipe.partial();
    frame[50] ^= 0x40;
    let mut segmenter = Segmenter::new(&frame, &offload(&recipe, 1460)).unwrap();
    let segment = segmenter.next_segment().unwrap();
    let frame = [segment.header, segment.payload].concat();
    let found = u16::from_be_bytes([frame[50], frame[51]]);
    let headers = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
    let (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Tcp(tcp))) = (headers.net, headers.transport)
    else {
        panic!("not TCP over IPv4")
    };
    assert_ne!(
        found,
        tcp.calc_checksum_ipv4(&ip, headers.payload.slice()).unwrap()
    );
}

#[test]
fn an_offload_of_another_frame_is_refused() {
    let recipe = Recipe::tcp(IpVersion::V4, 3000);
    let frame = recipe.partial();
    let good = offload(&recipe, 1460);
    let (gso, checksum) = (good.gso.unwrap(), good.checksum.unwrap());
    let with_gso = |gso| Offload {
        gso: Some(gso),
        ..good
    };
    for (name, offload) in [
        ("nothing to do", Offload::NONE),
        ("no segmentation", Offload { gso: None, ..good }),
        (
            "no checksum",
            Offload {
                checksum: None,
                ..good
            },
        ),
        (
            "another start",
            Offload {
                checksum: Some(PartialChecksum {
                    start: 38,
                    ..checksum
                }),
                ..good
            },
        ),
        (
            "another offset",
            Offload {
                checksum: Some(PartialChecksum {
                    offset: 6,
                    ..checksum
                }),
                ..good
            },
        ),
        ("shifted", good.shifted(4).unwrap()),
        (
            "another version",
            with_gso(Gso {
                kind: GsoKind::TcpV6,
                ..gso
            }),
        ),
        (
            "another protocol",
            with_gso(Gso {
                kind: GsoKind::Udp,
                ..gso
            }),
        ),
        (
            "other headers",
            with_gso(Gso {
                header_len: 66,
                ..gso
            }),
        ),
        ("size of zero", with_gso(Gso { size: 0, ..gso })),
    ] {
        assert_eq!(
            Segmenter::new(&frame, &offload).err(),
            Some(OffloadMismatch),
            "{name}"
        );
    }
    assert!(Segmenter::new(&frame, &good).is_ok());
}

#[test]
fn b_off_5_padding_is_not_summed() {
    for version in [IpVersion::V4, IpVersion::V6] {
        let recipe = Recipe::tcp(version, 1);
        let complete = recipe.complete();
        let mut frame = recipe.partial();
        let partial = PartialChecksum {
            start: recipe.l4() as u16,
            offset: 16,
        };
        let padding = [0xa5; 7];
        frame.extend_from_slice(&padding);
        complete_checksum(&mut frame, partial).unwrap();
        assert_eq!(frame[..complete.len()], complete);
        assert_eq!(frame[complete.len()..], padding);
    }
}

#[test]
fn b_off_5_udp_zero_is_sent_as_all_ones() {
    let mut recipe = Recipe::udp(IpVersion::V4, 2);
    recipe.payload = vec![0, 0];
    let sum_without_payload = !u16::from_be_bytes(recipe.complete()[40..42].try_into().unwrap());
    recipe.payload = (!sum_without_payload).to_be_bytes().to_vec();
    let mut frame = recipe.partial();
    complete_checksum(&mut frame, PartialChecksum { start: 34, offset: 6 }).unwrap();
    assert_eq!(frame[40..42], [0xff, 0xff]);
    verified(&frame);
}

#[test]
fn completing_at_a_wrong_place_changes_nothing() {
    let recipe = Recipe::udp(IpVersion::V4, 100);
    let original = recipe.partial();
    for (start, offset) in [
        (34, 16),
        (34, 7),
        (33, 7),
        (14, 10),
        (42, 6),
        (u16::MAX, u16::MAX),
    ] {
        let mut frame = original.clone();
        assert_eq!(
            complete_checksum(&mut frame, PartialChecksum { start, offset }),
            Err(OffloadMismatch)
        );
        assert_eq!(frame, original);
    }
}

#[test]
fn segmenting_survives_mutilation() {
    for recipe in [
        Recipe {
            tags: 1,
            extensions: true,
            ..Recipe::tcp(IpVersion::V6, 60)
        },
        Recipe::tcp(IpVersion::V4, 60),
        Recipe::udp(IpVersion::V4, 60),
    ] {
        let offload = offload(&recipe, 25);
        mutilate(&recipe.partial(), recipe.header_len(), |bytes| {
            if let Ok(mut segmenter) = Segmenter::new(bytes, &offload) {
                while segmenter.next_segment().is_some() {}
            }
            let _ = complete_checksum(&mut bytes.to_vec(), offload.checksum.unwrap());
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// B-OFF-2, B-OFF-3, B-OFF-9: joining the segments gives the super-frame back.
    #[test]
    fn joined_segments_are_the_original(recipe in any_recipe(2..6000), size in 50u16..2000) {
        prop_assume!(usize::from(size) < recipe.payload.len());
        let frames = cut(&recipe, size);
        let original = recipe.complete();
        let mut joined = Vec::new();
        for (index, frame) in frames.iter().enumerate() {
            let headers = verified(frame);
            let payload = headers.payload.slice();
            let last = index + 1 == frames.len();
            let size_or_rest = usize::from(size).min(recipe.payload.len() - joined.len());
            prop_assert_eq!(payload.len(), size_or_rest);
            if let Some(TransportHeader::Tcp(tcp)) = &headers.transport {
                let Protocol::Tcp { flags, sequence, .. } = recipe.protocol else { unreachable!() };
                let offset = index as u32 * u32::from(size);
                prop_assert_eq!(tcp.sequence_number.wrapping_sub(sequence), offset);
                prop_assert_eq!(tcp.fin, last && flags & 1 != 0);
                prop_assert_eq!(tcp.psh, last && flags & 8 != 0);
                prop_assert_eq!(tcp.cwr, index == 0 && flags & 0x80 != 0);
                prop_assert_eq!(tcp.ece, flags & 0x40 != 0);
            }
            if let Some(NetHeaders::Ipv4(ip, _)) = &headers.net {
                prop_assert_eq!(ip.identification, recipe.id.wrapping_add(index as u16));
            }
            joined.extend_from_slice(payload);
        }
        prop_assert_eq!(&joined, &recipe.payload);
        // A frame with the joined payload is the one that was cut.
        prop_assert_eq!(Recipe { payload: joined, ..recipe }.complete(), original);
    }

    /// B-OFF-5: etherparse computes the same checksum.
    #[test]
    fn completed_checksums_are_etherparse_s(recipe in any_recipe(0..300)) {
        let mut frame = recipe.partial();
        let offload = recipe.vnet().header().validate(&frame).unwrap();
        complete_checksum(&mut frame, offload.checksum.unwrap()).unwrap();
        prop_assert_eq!(frame, recipe.complete());
    }
}
