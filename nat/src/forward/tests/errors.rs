use std::time::{Duration, Instant};

use vswitch_testkit::Clock;
use vswitch_wire::{
    Gso, GsoKind, Icmpv4Error, Icmpv4Message, Icmpv4Packet, Icmpv6Error, Icmpv6Message, Icmpv6Packet,
    Ipv4Packet, Ipv6Packet, segment::Segmenter,
};

use super::*;

#[test]
fn n_fwd_1_g12_time_exceeded_is_what_linux_sends() {
    let expected = bytes(concat!(
        "45c0003d22300000400143ce0a0000010a0000020b00295600000000",
        "45000021000d0000011185880a000002c633640213910035000d740468656c6c6f",
    ));
    let mut original = expected[28..].to_vec();
    // Padding is not quoted.
    original.extend([0; 13]);
    let mut reply = made(Complaint::TimeExceeded, &mut original, Offload::NONE);
    assert!(Ipv4Packet::parse(&reply).is_ok_and(|packet| packet.has_valid_checksum()));
    reply[4..6].copy_from_slice(&expected[4..6]);
    mend_header(&mut reply);
    assert_eq!(reply, expected);
}

#[test]
fn n_fwd_3_too_big_quotes_548_bytes_with_the_mtu() {
    let mut original = sized(0, 1478);
    original[6] |= 0x40;
    mend_header(&mut original);
    let reply = made(Complaint::PacketTooBig(1400), &mut original, Offload::NONE);
    assert_eq!(reply.len(), 576);
    let message = read_v4(&reply);
    let error = Icmpv4Error::FragmentationNeeded { mtu: 1400 };
    assert_eq!(
        message,
        Icmpv4Message::Error {
            error,
            quoted: &original[..548]
        }
    );
}

#[test]
fn n_fwd_5_packet_too_big_is_1280_bytes() {
    for (mtu, told) in [(1400, 1400), (1000, 1280)] {
        let mut original = sized(1, 1480);
        let reply = made(Complaint::PacketTooBig(mtu), &mut original, Offload::NONE);
        assert_eq!(reply.len(), 1280);
        let error = Icmpv6Error::PacketTooBig { mtu: told };
        assert_eq!(
            read_v6(&reply),
            Icmpv6Message::Error {
                error,
                quoted: &original[..1232]
            }
        );
    }
}

#[test]
fn n_fwd_1_each_complaint_has_its_type() {
    for (complaint, v4, v6) in [
        (
            Complaint::NoRoute,
            Icmpv4Error::HOST_UNREACHABLE,
            Icmpv6Error::NO_ROUTE,
        ),
        (
            Complaint::PortUnreachable,
            Icmpv4Error::PORT_UNREACHABLE,
            Icmpv6Error::PORT_UNREACHABLE,
        ),
        (
            Complaint::Prohibited,
            Icmpv4Error::PROHIBITED,
            Icmpv6Error::PROHIBITED,
        ),
        (
            Complaint::TimeExceeded,
            Icmpv4Error::HOPS_EXCEEDED,
            Icmpv6Error::HOPS_EXCEEDED,
        ),
    ] {
        let mut original = sized(0, 100);
        let reply = made(complaint, &mut original, Offload::NONE);
        assert_eq!(
            read_v4(&reply),
            Icmpv4Message::Error {
                error: v4,
                quoted: &original
            }
        );
        let mut original = sized(1, 100);
        let reply = made(complaint, &mut original, Offload::NONE);
        assert_eq!(
            read_v6(&reply),
            Icmpv6Message::Error {
                error: v6,
                quoted: &original
            }
        );
    }
}

#[test]
fn n_fwd_2_the_quote_is_complete_where_the_sender_left_work() {
    for version in [0, 1] {
        let [src, dst] = BOTH[version].map(address);
        for recipe in [Recipe::tcp(src, dst), Recipe::udp(src, dst)] {
            let complete = recipe.bytes();
            let mut original = complete.clone();
            let offload = make_partial(&mut original);
            let reply = made(Complaint::TimeExceeded, &mut original, offload);
            assert!(reply.ends_with(&complete), "{recipe:?}");
        }
    }
}

#[test]
fn n_fwd_3_a_super_frame_is_quoted_as_its_first_segment() {
    for (version, udp) in [(0, false), (1, false), (0, true), (1, true)] {
        let [src, dst] = BOTH[version].map(address);
        let payload = (0..4321u32).map(|index| (index * 7) as u8).collect();
        let (upper, header, kind) = match (udp, version) {
            (true, _) => (Upper::Udp(5000, 53, payload), 8, GsoKind::Udp),
            (false, 0) => (Upper::Tcp(7000, 80, 0x19, payload), 20, GsoKind::TcpV4),
            (false, _) => (Upper::Tcp(7000, 80, 0x19, payload), 20, GsoKind::TcpV6),
        };
        let mut original = Recipe::new(src, dst, upper).bytes();
        let mut offload = make_partial(&mut original);
        let transport = parse(&original).transport;
        offload.gso = Some(Gso {
            kind,
            ecn: false,
            size: 201,
            header_len: (transport + header) as u16,
        });
        // The same by the segmenter, which reads frames.
        let ethertype = if version == 0 { [8, 0] } else { [0x86, 0xdd] };
        let frame = [&[0; 12][..], &ethertype, &original].concat();
        let shifted = offload.shifted(14).expect("small offsets");
        let mut segments = Segmenter::new(&frame, &shifted).expect("a super-frame");
        let first = segments.next_segment().expect("the first");
        let expected = [&first.header[14..], first.payload].concat();
        let reply = made(Complaint::PacketTooBig(1400), &mut original, offload);
        assert!(reply.ends_with(&expected), "{version} {udp}");
    }
}

#[test]
fn n_fwd_6_some_packets_are_never_reported() {
    let [src, dst] = BOTH[0];
    let [src6, dst6] = BOTH[1];
    let icmp = |kind| Upper::Icmp(kind, 0, vec![0; 40]);
    let v4 = |from: &str, to: &str| Recipe::udp(address(from), address(to));
    for (name, recipe) in [
        ("an error", Recipe::new(address(src), address(dst), icmp(3))),
        ("a redirect", Recipe::new(address(src), address(dst), icmp(5))),
        ("to a group", v4(src, "224.0.0.5")),
        ("to all", v4(src, "255.255.255.255")),
        ("from nobody", v4("0.0.0.0", dst)),
        ("from a group", v4("224.0.0.5", dst)),
        ("from all", v4("255.255.255.255", dst)),
        ("from itself", v4("127.0.0.1", dst)),
        (
            "a later fragment",
            Recipe::new(address(src), address(dst), Upper::Raw(17, vec![0; 40])).fragment(80, false),
        ),
        ("an error", Recipe::new(address(src6), address(dst6), icmp(1))),
        ("a redirect", Recipe::new(address(src6), address(dst6), icmp(137))),
        ("to a group", v4(src6, "ff0e::5")),
        ("from nobody", v4("::", dst6)),
        ("from itself", v4("::1", dst6)),
        (
            "a later fragment",
            Recipe::new(address(src6), address(dst6), Upper::Raw(17, vec![0; 40])).fragment(80, false),
        ),
    ] {
        let now = Clock::new().now();
        let mut limits = ErrorLimits::new(7);
        let mut original = recipe.bytes();
        let from = if recipe.src.is_ipv4() {
            "10.0.0.1"
        } else {
            "2001:db8:a::1"
        };
        let outcome = report(
            &mut limits,
            now,
            Complaint::TimeExceeded,
            (&mut original, from, 1),
        );
        assert_eq!(outcome.0, Report::Forbidden, "{name}");
        // And that costs no token.
        for _ in 0..6 {
            let outcome = report(
                &mut limits,
                now,
                Complaint::TimeExceeded,
                (&mut sized(0, 100), "10.0.0.1", 1),
            );
            assert_eq!(outcome.0, Report::Made, "{name}");
        }
    }
    let mut limits = ErrorLimits::new(7);
    let now = Clock::new().now();
    let outcome = report(
        &mut limits,
        now,
        Complaint::TimeExceeded,
        (&mut sized(0, 100), "2001:db8::1", 1),
    );
    assert_eq!(
        outcome.0,
        Report::Forbidden,
        "from an address of the other version"
    );
}

#[test]
fn n_fr_3_the_source_of_an_impossible_fragment_is_told() {
    let [src, dst] = BOTH[1];
    let fragment = |protocol, len, offset, more| {
        let upper = Upper::Raw(protocol, vec![1; len]);
        Recipe::new(address(src), address(dst), upper)
            .extended(60, 1)
            .fragment(offset, more)
    };
    for (name, recipe, pointer) in [
        ("no multiple of 8", fragment(17, 13, 0, true), Some(4)),
        ("no multiple of 8, later", fragment(17, 13, 80, true), Some(4)),
        (
            "beyond the end",
            fragment(17, 100, 65_512, false),
            Some(40 + 8 + 2),
        ),
        ("possible", fragment(17, 16, 80, true), None),
        ("the last", fragment(17, 13, 80, false), None),
        ("perhaps an error", fragment(58, 13, 0, true), None),
        (
            "to a group",
            Recipe {
                dst: address("ff0e::1"),
                ..fragment(17, 13, 0, true)
            },
            None,
        ),
        (
            "from nobody",
            Recipe {
                src: address("::"),
                ..fragment(17, 13, 0, true)
            },
            None,
        ),
        (
            "IPv4",
            Recipe::udp(address(BOTH[0][0]), address(BOTH[0][1])).fragment(80, true),
            None,
        ),
    ] {
        let original = recipe.bytes();
        let from = (Zone(1), address("2001:db8:a::1").into());
        let (now, mut reply, mut limits) = (Clock::new().now(), Vec::new(), ErrorLimits::new(7));
        let outcome = limits.report_fragment(now, &original, from, &mut reply);
        let Some(pointer) = pointer else {
            assert_eq!(outcome, Report::Forbidden, "{name}");
            continue;
        };
        assert_eq!(outcome, Report::Made, "{name}");
        assert!(Packet::parse(&original).is_err(), "{name}");
        let error = Icmpv6Error::ParameterProblem { code: 0, pointer };
        assert_eq!(
            read_v6(&reply),
            Icmpv6Message::Error {
                error,
                quoted: &original
            },
            "{name}"
        );
        let again = (0..9)
            .map(|_| limits.report_fragment(now, &original, from, &mut reply))
            .last();
        assert_eq!(again, Some(Report::Limited));
    }
}

#[test]
fn n_fwd_7_a_host_hears_one_a_second() {
    let mut clock = Clock::new();
    let mut limits = ErrorLimits::new(7);
    let mut made = |now: Instant, version, complaint, zone| {
        let from = ["10.0.0.1", "2001:db8:a::1"][version];
        let sent = (0..1000).take_while(|_| {
            report(
                &mut limits,
                now,
                complaint,
                (&mut sized(version, 100), from, zone),
            )
            .0 == Report::Made
        });
        sent.count()
    };
    assert_eq!(made(clock.now(), 0, Complaint::TimeExceeded, 1), 6);
    assert_eq!(
        made(clock.now(), 0, Complaint::Prohibited, 1),
        0,
        "all but too big are one"
    );
    assert_eq!(
        made(clock.now(), 0, Complaint::PacketTooBig(1400), 1),
        100,
        "which has its own"
    );
    assert_eq!(
        made(clock.now(), 0, Complaint::TimeExceeded, 2),
        6,
        "another network's host"
    );
    assert_eq!(made(clock.now(), 1, Complaint::TimeExceeded, 1), 6);
    assert_eq!(
        made(
            clock.advance(Duration::from_millis(999)),
            0,
            Complaint::TimeExceeded,
            1
        ),
        0
    );
    assert_eq!(
        made(
            clock.advance(Duration::from_millis(1)),
            0,
            Complaint::TimeExceeded,
            1
        ),
        1
    );
    assert_eq!(
        made(clock.now(), 1, Complaint::TimeExceeded, 1),
        6,
        "10 in a second"
    );
    assert_eq!(
        made(
            clock.advance(Duration::from_secs(3)),
            0,
            Complaint::TimeExceeded,
            1
        ),
        3
    );
    assert_eq!(
        made(
            clock.advance(Duration::from_secs(99)),
            0,
            Complaint::TimeExceeded,
            1
        ),
        6
    );
}

#[test]
fn n_fwd_7_all_hosts_hear_50_at_once_and_a_thousand_in_a_second() {
    let mut clock = Clock::new();
    let mut limits = ErrorLimits::new(7);
    let mut hosts = (0..).map(|number: u32| {
        let [_, b, c, d] = number.to_be_bytes();
        Recipe::udp([10, b, c, d], [198, 51, 100, 2]).bytes()
    });
    let mut made = |now: Instant, complaint| {
        let sent = (0..3000).take_while(|_| {
            let mut original = hosts.next().expect("there are enough");
            report(&mut limits, now, complaint, (&mut original, "10.0.0.1", 1)).0 == Report::Made
        });
        sent.count()
    };
    assert_eq!(made(clock.now(), Complaint::TimeExceeded), 50);
    assert_eq!(
        made(clock.now(), Complaint::PacketTooBig(1300)),
        1000,
        "PMTUD does not starve"
    );
    let mut in_a_second = 0;
    for _ in 0..100 {
        in_a_second += made(clock.advance(Duration::from_millis(10)), Complaint::TimeExceeded);
    }
    assert_eq!(in_a_second, 1000);
}

#[test]
fn n_fwd_7_a_flood_of_hosts_does_not_give_one_more_than_all_get() {
    // A table full of others forgets one early at worst; the limit of all holds.
    let now = Clock::new().now();
    let mut limits = ErrorLimits::new(7);
    let mut count = 0;
    for number in 0..20_000u32 {
        let [_, b, c, d] = number.to_be_bytes();
        let mut original = Recipe::udp([10, b, c, d], [198, 51, 100, 2]).bytes();
        let outcome = report(
            &mut limits,
            now,
            Complaint::PacketTooBig(1400),
            (&mut original, "10.0.0.1", 1),
        );
        count += usize::from(outcome.0 == Report::Made);
    }
    assert_eq!(count, 1000);
}

#[test]
fn every_sample_cut_at_every_length_is_survived() {
    let now = Clock::new().now();
    for version in [0, 1] {
        let sample = sized(version, 120);
        let packet = parse(&sample);
        for len in 0..=sample.len() {
            for start in [0, 20, 40, 119, 200] {
                let offload = Offload {
                    checksum: Some(PartialChecksum { start, offset: 16 }),
                    gso: Some(Gso {
                        kind: GsoKind::TcpV4,
                        ecn: false,
                        size: 9,
                        header_len: start,
                    }),
                    data_valid: false,
                };
                let from = (
                    Zone(1),
                    Address::from(address(["10.0.0.1", "2001:db8:a::1"][version])),
                );
                let mut reply = Vec::new();
                let mut bytes = sample[..len].to_vec();
                let original = (&mut bytes[..], &packet, &offload);
                let _ = ErrorLimits::new(7).report(now, Complaint::TimeExceeded, original, from, &mut reply);
            }
        }
    }
}

/// A UDP packet of `len` bytes.
fn sized(version: usize, len: usize) -> Vec<u8> {
    let [src, dst] = BOTH[version].map(address);
    let headers = [28, 48][version];
    Recipe::new(src, dst, Upper::Udp(5009, 53, vec![0x5a; len - headers])).bytes()
}

fn report(
    limits: &mut ErrorLimits,
    now: Instant,
    complaint: Complaint,
    (original, from, zone): (&mut [u8], &str, u16),
) -> (Report, Vec<u8>) {
    let packet = parse(original);
    let mut reply = vec![1, 2, 3];
    let from = (Zone(zone), address(from).into());
    let original = (original, &packet, &Offload::NONE);
    let outcome = limits.report(now, complaint, original, from, &mut reply);
    (outcome, reply)
}

/// The error about a packet, which must be.
fn made(complaint: Complaint, original: &mut [u8], offload: Offload) -> Vec<u8> {
    let packet = parse(original);
    let from = match packet.version {
        IpVersion::V4 => address("10.0.0.1"),
        IpVersion::V6 => address("2001:db8:a::1"),
    };
    let mut reply = Vec::new();
    let original = (original, &packet, &offload);
    let from = (Zone(1), from.into());
    let outcome = ErrorLimits::new(7).report(Clock::new().now(), complaint, original, from, &mut reply);
    assert_eq!(outcome, Report::Made);
    reply
}

fn read_v4(reply: &[u8]) -> Icmpv4Message<'_> {
    let packet = Ipv4Packet::parse(reply).expect("a packet");
    let header = packet.header();
    assert!(packet.has_valid_checksum());
    assert_eq!((header.tos(), header.ttl()), (0xc0, 64));
    assert_eq!(
        (IpAddr::V4(header.src()), IpAddr::V4(header.dst())),
        (address("10.0.0.1"), address("10.0.0.2"))
    );
    let message = Icmpv4Packet::parse(packet.payload()).expect("a message");
    assert!(message.has_valid_checksum());
    message.message()
}

fn read_v6(reply: &[u8]) -> Icmpv6Message<'_> {
    let packet = Ipv6Packet::parse(reply).expect("a packet");
    let header = packet.header();
    assert_eq!(header.hop_limit(), 64);
    let ends = (IpAddr::V6(header.src()), IpAddr::V6(header.dst()));
    assert_eq!(ends, (address("2001:db8:a::1"), address("2001:db8:a::2")));
    let message = Icmpv6Packet::parse(packet.payload()).expect("a message");
    assert!(message.has_valid_checksum(header.src(), header.dst()));
    message.message()
}
