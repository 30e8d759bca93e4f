use zerocopy::IntoBytes;

use super::*;
use crate::{
    Abilities,
    tests::{
        mutilate,
        recipe::{Recipe, Vnet},
    },
};

use IpVersion::{V4, V6};

fn tcp_partial(start: u16) -> PartialChecksum {
    PartialChecksum { start, offset: 16 }
}

#[test]
fn a_plain_frame_is_not_parsed() {
    assert_eq!(VnetHeader::default().validate(&[]), Ok(Offload::NONE));
    assert_eq!(VnetHeader::default().validate(&[0xff; 60]), Ok(Offload::NONE));
}

/// The table of frames observed on a TAP.
#[test]
fn b_off_5_what_linux_sends_is_taken() {
    let ack = Recipe::tcp(V4, 0);
    let expected = Offload {
        checksum: Some(tcp_partial(34)),
        ..Offload::NONE
    };
    assert_eq!(ack.vnet().header().validate(&ack.partial()), Ok(expected));

    let bulk = Recipe::tcp(V4, 14_600);
    let gso = Gso {
        kind: GsoKind::TcpV4,
        ecn: false,
        size: 1460,
        header_len: 54,
    };
    let expected = Offload {
        checksum: Some(tcp_partial(34)),
        gso: Some(gso),
        data_valid: false,
    };
    assert_eq!(
        bulk.vnet_gso(1460).header().validate(&bulk.partial()),
        Ok(expected)
    );
    assert_eq!(expected.largest_frame(14_654), 1514);
    assert_eq!(expected.needs(V4), Abilities::CSUM | Abilities::TSO4);

    let datagram = Recipe::udp(V4, 100);
    let partial = PartialChecksum { start: 34, offset: 6 };
    let expected = Offload {
        checksum: Some(partial),
        ..Offload::NONE
    };
    assert_eq!(
        datagram.vnet().header().validate(&datagram.partial()),
        Ok(expected)
    );

    let bulk = Recipe::udp(V4, 7000);
    let gso = Gso {
        kind: GsoKind::Udp,
        ecn: false,
        size: 1400,
        header_len: 42,
    };
    let expected = Offload {
        checksum: Some(partial),
        gso: Some(gso),
        data_valid: false,
    };
    assert_eq!(
        bulk.vnet_gso(1400).header().validate(&bulk.partial()),
        Ok(expected)
    );
    assert_eq!(expected.needs(V4), Abilities::CSUM | Abilities::USO4);
    assert_eq!(expected.needs(V6), Abilities::CSUM | Abilities::USO6);
}

#[test]
fn offloads_behind_tags_and_extension_headers_are_taken() {
    for (tags, extensions, start) in [(1, false, 58), (2, false, 62), (0, true, 70), (2, true, 78)] {
        let recipe = Recipe {
            tags,
            extensions,
            ..Recipe::tcp(V6, 4000)
        };
        let gso = Gso {
            kind: GsoKind::TcpV6,
            ecn: false,
            size: 1400,
            header_len: start + 20,
        };
        let expected = Offload {
            checksum: Some(tcp_partial(start)),
            gso: Some(gso),
            data_valid: false,
        };
        assert_eq!(
            recipe.vnet_gso(1400).header().validate(&recipe.partial()),
            Ok(expected)
        );
    }
}

/// The outer packet of a tunnel around `inner`, its own checksum as for `summed`.
fn vxlan(version: IpVersion, inner: &[u8], summed: &[u8]) -> Vec<u8> {
    let around = |load: &[u8]| Recipe {
        payload: [&[8, 0, 0, 0, 0, 0, 5, 0], load].concat(),
        ..Recipe::udp(version, 0)
    };
    let sum = around(inner).l4() + 6;
    let (mut frame, right) = (around(inner).complete(), around(summed).complete());
    frame[sum..sum + 2].copy_from_slice(&right[sum..sum + 2]);
    frame
}

fn asking(start: u16, offset: u16) -> VnetHeader {
    VnetHeader {
        flags: NEEDS_CSUM,
        checksum_start: start.into(),
        checksum_offset: offset.into(),
        ..VnetHeader::default()
    }
}

#[test]
fn b_off_5_a_checksum_inside_a_tunnel_is_completed_and_not_passed_on() {
    for (version, outer) in [(V4, 14 + 20 + 8), (V6, 14 + 40 + 8)] {
        for inner in [
            Recipe::tcp(V4, 33),
            Recipe::udp(V4, 34),
            Recipe::tcp(V6, 0),
            Recipe::udp(V6, 5),
        ] {
            let (partial, complete) = (inner.partial(), inner.complete());
            let vnet = inner.vnet();
            let start = (outer + 8 + inner.l4()) as u16;
            let header = asking(start, vnet.offset);
            let mut frame = vxlan(version, &partial, &complete);
            assert_eq!(header.validate(&frame), Err(VnetError::ChecksumPlace));
            header.complete_inner(&mut frame).expect("Linux sends such");
            assert_eq!(frame, vxlan(version, &complete, &complete));
        }
    }
}

#[test]
fn b_off_5_only_the_load_of_a_tunnel_is_completed() {
    let inner = Recipe::tcp(V4, 33);
    let frame = vxlan(V4, &inner.partial(), &inner.complete());
    let end = frame.len() as u16;
    let gso = VnetHeader {
        gso_type: GSO_TCPV4,
        gso_size: 10.into(),
        ..asking(84, 16)
    };
    let unfinished = Recipe::tcp(V4, 60).partial();
    let mut fragment = frame.clone();
    fragment[20] = 0x20;
    let mut padded = frame.clone();
    padded.extend([0; 6]);
    let cases = [
        ("in the outer IP header", asking(14, 10), &frame),
        ("in the outer transport header", asking(34, 6), &frame),
        ("at its end", asking(41, 6), &frame),
        ("beyond the frame", asking(end - 1, 0), &frame),
        ("in the padding", asking(end, 2), &padded),
        ("no checksum wanted", VnetHeader::default(), &frame),
        ("a super-frame", gso, &frame),
        ("a fragment", asking(84, 16), &fragment),
        ("no tunnel", asking(54, 16), &unfinished),
    ];
    for (name, header, frame) in cases {
        let mut got = frame.clone();
        assert!(header.complete_inner(&mut got).is_err(), "{name}");
        assert_eq!(got, *frame, "{name}: the frame is as it was");
    }
}

#[test]
fn completing_an_inner_checksum_survives_mutilation() {
    let inner = Recipe::tcp(V4, 33);
    let frame = vxlan(V4, &inner.partial(), &inner.complete());
    mutilate(&frame, frame.len(), |frame: &[u8]| {
        for (start, offset) in [(84, 16), (42, 0), (60, 40), (u16::MAX, u16::MAX)] {
            let mut copy = frame.to_vec();
            if asking(start, offset).complete_inner(&mut copy).is_err() {
                assert_eq!(copy, frame);
            }
        }
    });
}

#[test]
fn b_off_5_hdr_len_is_computed_and_not_trusted() {
    let recipe = Recipe::tcp(V4, 4000);
    for claimed in [0, 1, 54, 300, 4054] {
        let vnet = Vnet {
            header_len: claimed,
            ..recipe.vnet_gso(1000)
        };
        let offload = vnet.header().validate(&recipe.partial()).unwrap();
        assert_eq!(offload.gso.unwrap().header_len, 54, "claimed {claimed}");
    }
}

/// Starts from a header that is taken and changes one thing a case.
#[test]
fn b_off_5_inconsistent_headers_are_refused() {
    let tcp4 = Recipe::tcp(V4, 4000);
    let tcp6 = Recipe::tcp(V6, 4000);
    let udp4 = Recipe::udp(V4, 4000);
    let good4 = tcp4.vnet_gso(1000);
    let good6 = tcp6.vnet_gso(1000);
    let good_udp = udp4.vnet_gso(1000);
    let len = tcp4.partial().len() as u16;
    use VnetError::*;
    for (name, recipe, vnet, error) in [
        (
            "checksum beyond the frame",
            &tcp4,
            Vnet {
                start: len - 17,
                ..good4
            },
            ChecksumBeyondFrame,
        ),
        (
            "largest offsets",
            &tcp4,
            Vnet {
                start: u16::MAX,
                offset: u16::MAX,
                ..good4
            },
            ChecksumBeyondFrame,
        ),
        ("no checksum", &tcp4, Vnet { flags: 0, ..good4 }, ChecksumMissing),
        (
            "only verified",
            &tcp4,
            Vnet { flags: 2, ..good4 },
            ChecksumMissing,
        ),
        (
            "checksum in the payload",
            &tcp4,
            Vnet { start: 60, ..good4 },
            ChecksumPlace,
        ),
        (
            "checksum in the IP header",
            &tcp4,
            Vnet {
                start: 14,
                offset: 10,
                ..good4
            },
            ChecksumPlace,
        ),
        (
            "same place, other start",
            &tcp4,
            Vnet {
                start: 44,
                offset: 6,
                ..good4
            },
            ChecksumPlace,
        ),
        (
            "TCP summed as UDP",
            &tcp4,
            Vnet { offset: 6, ..good4 },
            ChecksumPlace,
        ),
        (
            "UDP summed as TCP",
            &udp4,
            Vnet {
                offset: 16,
                ..good_udp
            },
            ChecksumPlace,
        ),
        (
            "segments of zero",
            &tcp4,
            Vnet { gso_size: 0, ..good4 },
            GsoSizeZero,
        ),
        (
            "hdr_len beyond the frame",
            &tcp4,
            Vnet {
                header_len: len + 1,
                ..good4
            },
            HeaderLength,
        ),
        (
            "129 datagrams",
            &udp4,
            Vnet {
                gso_size: 31,
                ..good_udp
            },
            TooManySegments,
        ),
        (
            "segments of one byte",
            &tcp4,
            Vnet { gso_size: 1, ..good4 },
            TooManySegments,
        ),
        (
            "TCPv4 on TCPv6",
            &tcp6,
            Vnet { gso_type: 1, ..good6 },
            TypeMismatch,
        ),
        (
            "TCPv6 on TCPv4",
            &tcp4,
            Vnet { gso_type: 4, ..good4 },
            TypeMismatch,
        ),
        (
            "TCPv4 on UDP",
            &udp4,
            Vnet {
                gso_type: 1,
                ..good_udp
            },
            TypeMismatch,
        ),
        ("UDP on TCP", &tcp4, Vnet { gso_type: 5, ..good4 }, TypeMismatch),
        (
            "UFO",
            &udp4,
            Vnet {
                gso_type: 3,
                ..good_udp
            },
            Ufo,
        ),
        (
            "UFO with ECN",
            &udp4,
            Vnet {
                gso_type: 0x83,
                ..good_udp
            },
            Ufo,
        ),
        ("type 2", &tcp4, Vnet { gso_type: 2, ..good4 }, UnknownGsoType),
        ("type 7", &tcp4, Vnet { gso_type: 7, ..good4 }, UnknownGsoType),
        (
            "ECN alone",
            &tcp4,
            Vnet {
                gso_type: 0x80,
                ..good4
            },
            UnknownGsoType,
        ),
        (
            "ECN on UDP",
            &udp4,
            Vnet {
                gso_type: 0x85,
                ..good_udp
            },
            UnknownGsoType,
        ),
        (
            "tunnel over IPv4",
            &tcp4,
            Vnet {
                gso_type: 0x21,
                ..good4
            },
            Tunnel,
        ),
        (
            "tunnel over IPv6",
            &tcp4,
            Vnet {
                gso_type: 0x41,
                ..good4
            },
            Tunnel,
        ),
        ("RSC", &tcp4, Vnet { flags: 5, ..good4 }, UnknownFlags),
        ("tunnel checksum", &tcp4, Vnet { flags: 9, ..good4 }, UnknownFlags),
        ("flag 0x80", &tcp4, Vnet { flags: 0x81, ..good4 }, UnknownFlags),
    ] {
        assert_eq!(vnet.header().validate(&recipe.partial()), Err(error), "{name}");
    }
    for (recipe, good) in [(&tcp4, good4), (&tcp6, good6), (&udp4, good_udp)] {
        assert!(good.header().validate(&recipe.partial()).is_ok());
    }
}

/// Starts from a frame that is taken and changes one byte or its length.
#[test]
fn b_off_5_frames_that_do_not_fit_the_header_are_refused() {
    let tcp4 = Recipe::tcp(V4, 4000);
    let udp4 = Recipe::udp(V4, 4000);
    let set = |recipe: &Recipe, place: usize, value: u8| {
        let mut frame = recipe.partial();
        frame[place] = value;
        frame
    };
    let padded = [tcp4.partial(), vec![0]].concat();
    use VnetError::*;
    for (name, recipe, frame, error) in [
        ("ARP", &tcp4, set(&tcp4, 13, 0x06), NotIp),
        (
            "IPv6 EtherType",
            &tcp4,
            [&set(&tcp4, 12, 0x86)[..13], &[0xdd], &tcp4.partial()[14..]].concat(),
            Malformed,
        ),
        ("ICMP", &tcp4, set(&tcp4, 23, 1), Transport),
        ("SCTP", &tcp4, set(&tcp4, 23, 132), Transport),
        ("first fragment", &tcp4, set(&tcp4, 20, 0x20), Fragment),
        ("later fragment", &tcp4, set(&tcp4, 21, 1), Fragment),
        ("IHL of 4", &tcp4, set(&tcp4, 14, 0x44), Malformed),
        ("data offset of 4", &tcp4, set(&tcp4, 46, 0x40), Malformed),
        (
            "total length beyond the frame",
            &tcp4,
            set(&tcp4, 16, 0xff),
            Malformed,
        ),
        (
            "total length below the frame",
            &tcp4,
            set(&tcp4, 16, 0x08),
            LengthMismatch,
        ),
        ("padding behind a super-frame", &tcp4, padded, LengthMismatch),
        ("UDP length", &udp4, set(&udp4, 39, 0), LengthMismatch),
    ] {
        assert_eq!(
            recipe.vnet_gso(1000).header().validate(&frame),
            Err(error),
            "{name}"
        );
    }
}

#[test]
fn long_headers_of_a_super_frame_are_refused_and_of_a_frame_are_not() {
    let recipe = Recipe {
        extensions: true,
        ..Recipe::tcp(V6, 4000)
    };
    let short = recipe.partial();
    // The destination options grow from 8 to 208 bytes: 14 + 40 + 8 + 208 + 20 > 256.
    let mut long = short.clone();
    long.splice(70..70, [0; 200]);
    long[63] = 25;
    let payload_len = (long.len() - 54) as u16;
    long[18..20].copy_from_slice(&payload_len.to_be_bytes());
    let vnet = Vnet {
        start: 270,
        ..recipe.vnet_gso(1000)
    };
    assert_eq!(vnet.header().validate(&long), Err(VnetError::HeadersTooLong));
    let expected = Offload {
        checksum: Some(tcp_partial(270)),
        ..Offload::NONE
    };
    assert_eq!(
        Vnet { gso_type: 0, ..vnet }.header().validate(&long),
        Ok(expected)
    );
}

#[test]
fn a_super_frame_of_one_segment_is_an_ordinary_frame() {
    let recipe = Recipe::tcp(V4, 1000);
    let ordinary = Offload {
        checksum: Some(tcp_partial(34)),
        ..Offload::NONE
    };
    assert_eq!(
        recipe.vnet_gso(1000).header().validate(&recipe.partial()),
        Ok(ordinary)
    );
    let gso = recipe
        .vnet_gso(999)
        .header()
        .validate(&recipe.partial())
        .unwrap()
        .gso;
    assert_eq!(gso.map(|gso| gso.size), Some(999));
}

#[test]
fn as_many_datagrams_as_linux_sends_are_taken() {
    let recipe = Recipe::udp(V4, 128 * 10);
    assert!(recipe.vnet_gso(10).header().validate(&recipe.partial()).is_ok());
    let recipe = Recipe::udp(V4, 128 * 10 + 1);
    let refused = recipe.vnet_gso(10).header().validate(&recipe.partial());
    assert_eq!(refused, Err(VnetError::TooManySegments));
}

#[test]
fn b_off_8_the_mark_of_a_verified_checksum_is_kept() {
    let recipe = Recipe::tcp(V4, 100);
    let frame = recipe.complete();
    let offload = Vnet {
        flags: 2,
        start: 0,
        offset: 0,
        ..recipe.vnet()
    }
    .header()
    .validate(&frame)
    .unwrap();
    assert_eq!(
        offload,
        Offload {
            data_valid: true,
            ..Offload::NONE
        }
    );
    assert!(offload.is_none());
    assert_eq!(offload.header().as_bytes(), [2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // Beside a partial checksum it says nothing.
    let both = Vnet {
        flags: 3,
        ..recipe.vnet()
    }
    .header()
    .validate(&recipe.partial())
    .unwrap();
    assert!(both.checksum.is_some() && !both.data_valid);
}

#[test]
fn b_off_11_longer_frames_are_refused() {
    let mut frame = vec![0; MAX_FRAME];
    assert_eq!(VnetHeader::default().validate(&frame), Ok(Offload::NONE));
    frame.push(0);
    assert_eq!(
        VnetHeader::default().validate(&frame),
        Err(VnetError::FrameTooLong)
    );
    let largest = Recipe {
        tags: 2,
        ..Recipe::tcp(V4, 65_535 - 40)
    };
    assert_eq!(largest.partial().len(), MAX_FRAME);
    assert!(
        largest
            .vnet_gso(1460)
            .header()
            .validate(&largest.partial())
            .is_ok()
    );
}

#[test]
fn headers_survive_the_way_through_an_offload() {
    for (recipe, ecn) in [
        (Recipe::tcp(V4, 4000), 0x80),
        (Recipe::tcp(V6, 4000), 0),
        (Recipe::udp(V6, 4000), 0),
    ] {
        let mut vnet = recipe.vnet_gso(1000);
        vnet.gso_type |= ecn;
        let offload = vnet.header().validate(&recipe.partial()).unwrap();
        assert_eq!(offload.gso.unwrap().ecn, ecn != 0);
        assert_eq!(offload.needs(V4).contains(Abilities::ECN), ecn != 0);
        assert_eq!(offload.header(), vnet.header());
    }
    assert_eq!(Offload::NONE.header(), VnetHeader::default());
}

#[test]
fn b_off_6_a_pushed_tag_moves_both_offsets() {
    let recipe = Recipe::tcp(V4, 4000);
    let tagged = Recipe {
        tags: 1,
        ..recipe.clone()
    };
    let offload = recipe
        .vnet_gso(1000)
        .header()
        .validate(&recipe.partial())
        .unwrap();
    let moved = offload.shifted(4).unwrap();
    assert_eq!(
        tagged.vnet_gso(1000).header().validate(&tagged.partial()),
        Ok(moved)
    );
    assert_eq!(moved.shifted(-4), Some(offload));
    assert_eq!(Offload::NONE.shifted(-4), Some(Offload::NONE));
    assert_eq!(offload.shifted(-35), None);
    assert_eq!(
        offload
            .shifted(i16::MAX)
            .and_then(|moved| moved.shifted(i16::MAX)),
        None
    );
}

#[test]
fn every_reason_has_a_counter() {
    for (index, error) in VnetError::ALL.into_iter().enumerate() {
        assert_eq!(error.index(), index);
    }
}

#[test]
fn validation_survives_mutilation() {
    for recipe in [
        Recipe {
            tags: 2,
            extensions: true,
            ..Recipe::tcp(V6, 60)
        },
        Recipe {
            tags: 1,
            ..Recipe::udp(V6, 60)
        },
        Recipe::tcp(V4, 60),
    ] {
        let good = recipe.vnet_gso(25).header();
        let frame = recipe.partial();
        mutilate(&frame, recipe.header_len(), |bytes| {
            let _ = good.validate(bytes);
        });
        mutilate(good.as_bytes(), VnetHeader::LEN, |bytes| {
            if let Ok(header) = VnetHeader::read_from_bytes(bytes) {
                let _ = header.validate(&frame);
            }
        });
    }
}
