use std::net::IpAddr;

use vswitch_testkit::{
    Clock,
    frames::{Packet as Recipe, Upper},
};
use vswitch_wire::{IpProtocol, Ipv4Packet, Ipv6Packet};

use super::*;

mod cutting;
mod limits;
mod random;

#[test]
fn n_fr_1_fragments_in_any_order_become_the_packet() {
    for [src, dst] in BOTH {
        let (whole, pieces) = datagram(src, dst, 1508, &[600, 1200]);
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            let mut fragments = fragments();
            let now = Clock::new().now();
            for (count, index) in order.into_iter().enumerate() {
                match feed(&mut fragments, now, &pieces[index]) {
                    Ok(None) => assert!(count < 2),
                    Ok(Some(done)) => {
                        assert_eq!((count, done.bytes), (2, whole.clone()));
                        assert_eq!((done.cut.id, done.cut.dont_fragment), (ID.into(), false));
                        assert_eq!(done.cut.largest, pieces[0].len());
                    }
                    Err(reason) => panic!("{reason}"),
                }
            }
            assert_is_empty(&fragments);
        }
    }
}

#[test]
fn n_fr_1_the_largest_packets_come_through() {
    for ([src, dst], len) in [(BOTH[0], 65_515), (BOTH[1], 65_535)] {
        let cuts: Vec<usize> = (1..)
            .map(|index| index * 1400)
            .take_while(|&cut| cut < len)
            .collect();
        let (whole, pieces) = datagram(src, dst, len, &cuts);
        let mut fragments = fragments();
        assert_eq!(
            feed_all(&mut fragments, &pieces).map(|done| done.bytes),
            Some(whole)
        );
    }
}

#[test]
fn n_fr_1_a_packet_too_large_because_of_its_first_header_is_none() {
    // The others have no options, and each is possible by itself.
    let (_, mut pieces) = datagram(BOTH[0][0], BOTH[0][1], 65_515, &[32_000]);
    pieces[0] = with_options(&pieces[0], &[1, 1, 1, 1]);
    let mut fragments = fragments();
    let now = Clock::new().now();
    assert!(matches!(feed(&mut fragments, now, &pieces[0]), Ok(None)));
    assert_eq!(
        feed(&mut fragments, now, &pieces[1]).err(),
        Some(DropReason::Malformed)
    );
    assert_is_empty(&fragments);
}

#[test]
fn n_fr_1_options_and_extension_headers_are_the_first_fragments() {
    let (whole, mut pieces) = datagram(BOTH[0][0], BOTH[0][1], 100, &[48]);
    pieces[0] = with_options(&pieces[0], &[7, 4, 4, 0]);
    pieces.reverse();
    let done = feed_all(&mut fragments(), &pieces).expect("it is whole");
    assert_eq!(done.bytes, with_options(&whole, &[7, 4, 4, 0]));

    let recipe = recipe(BOTH[1][0], BOTH[1][1], 100).extended(0, 2).extended(43, 1);
    // The test kit's body of a routing header is of zeros: type 0, which is for `check_scope`.
    let pieces = cut_recipe(&recipe, 64, &[48]);
    let done = feed_all(&mut fragments(), &pieces).expect("it is whole");
    assert_eq!(done.bytes, recipe.bytes());
}

#[test]
fn n_fr_2_an_exact_duplicate_is_harmless() {
    for [src, dst] in BOTH {
        let (whole, pieces) = datagram(src, dst, 1508, &[600, 1200]);
        let sent = [0, 0, 2, 2, 0, 1].map(|index: usize| pieces[index].clone());
        let done = feed_all(&mut fragments(), &sent);
        assert_eq!(done.map(|done| done.bytes), Some(whole));
    }
}

#[test]
fn n_fr_2_an_overlap_ends_the_datagram_and_its_late_fragments() {
    for ([src, dst], seconds) in [(BOTH[0], 30), (BOTH[1], 60)] {
        let (whole, pieces) = datagram(src, dst, 1508, &[600, 1200]);
        let (_, overlapping) = datagram(src, dst, 1508, &[592, 1200]);
        let mut changed = pieces[0].clone();
        *changed.last_mut().expect("it has bytes") ^= 1;
        for (name, bad) in [("overlapping", overlapping[1].clone()), ("changed", changed)] {
            let mut clock = Clock::new();
            let mut fragments = fragments();
            assert!(matches!(feed(&mut fragments, clock.now(), &pieces[0]), Ok(None)));
            for piece in [&bad, &pieces[1], &pieces[2], &pieces[0]] {
                assert_eq!(
                    feed(&mut fragments, clock.now(), piece).err(),
                    Some(DropReason::FragmentOverlap),
                    "{name}"
                );
            }
            // Its time is over: the same id is another datagram.
            clock.advance(Duration::from_secs(seconds));
            let mut done = None;
            for piece in &pieces {
                done = feed(&mut fragments, clock.now(), piece).expect("nothing overlaps");
            }
            assert_eq!(done.map(|done| done.bytes), Some(whole.clone()), "{name}");
            assert_eq!(fragments.lost(), Lost::default(), "it was dropped by its overlap");
        }
    }
}

#[test]
fn n_fr_3_impossible_fragments_are_refused() {
    let [src, dst] = BOTH[0];
    let fragment = |offset, more, len| {
        let upper = Upper::Raw(17, vec![0; len]);
        Recipe::new(address(src), address(dst), upper).fragment(offset, more)
    };
    let mut fragments = fragments();
    let now = Clock::new().now();
    for (name, recipe) in [
        ("65512 + 100", fragment(65_512, false, 100)),
        ("no multiple of 8", fragment(0, true, 601)),
        ("empty", fragment(600, false, 0)),
    ] {
        let bytes = recipe.bytes();
        let outcome = Packet::parse(&bytes).and_then(|packet| handle(&mut fragments, now, (&bytes, &packet)));
        assert_eq!(outcome.err(), Some(DropReason::Malformed), "{name}");
    }
    let [src, dst] = BOTH[1];
    for (name, offset, more, len) in [
        ("odd", 8, true, 15),
        ("empty", 8, true, 0),
        ("beyond", 65_528, false, 100),
    ] {
        let upper = Upper::Raw(17, vec![0; len]);
        let bytes = Recipe::new(address(src), address(dst), upper)
            .fragment(offset, more)
            .bytes();
        let outcome = Packet::parse(&bytes).and_then(|packet| handle(&mut fragments, now, (&bytes, &packet)));
        assert_eq!(outcome.err(), Some(DropReason::Malformed), "{name}");
    }
    assert_is_empty(&fragments);
}

#[test]
fn n_fr_4_tiny_fragments_of_tcp_are_put_together_before_anything_is_decided() {
    let [src, dst] = BOTH[0];
    let recipe = Recipe::tcp(address(src), address(dst));
    let pieces = cut_recipe(&recipe, 20, &[8, 16, 24]);
    assert_eq!(pieces[0].len(), 28);
    let done = feed_all(&mut fragments(), &pieces).expect("it is whole");
    assert_eq!(done.bytes, Recipe { id: ID, ..recipe }.bytes());
}

#[test]
fn n_fr_4_the_first_of_ipv6_has_all_headers() {
    let [src, dst] = BOTH[1];
    for (recipe, cut, accepted) in [
        (Recipe::tcp(address(src), address(dst)), 16, false),
        (Recipe::tcp(address(src), address(dst)), 24, true),
        (Recipe::udp(address(src), address(dst)), 8, true),
        (Recipe::ping(address(src), address(dst)), 8, true),
        // Destination options that the transport header does not follow.
        (
            Recipe::new(
                address(src),
                address(dst),
                Upper::Raw(60, [&[17, 0, 1, 4, 0, 0, 0, 0][..], &[0; 40]].concat()),
            ),
            8,
            false,
        ),
    ] {
        let pieces = cut_recipe(&recipe, 40, &[cut]);
        let outcome = feed(&mut fragments(), Clock::new().now(), &pieces[0]);
        assert_eq!(outcome.is_ok(), accepted, "{recipe:?}");
    }
}

#[test]
fn n_fr_6_datagrams_that_differ_in_anything_are_never_mixed() {
    let now = Clock::new().now();
    let other = [["10.0.0.9", BOTH[0][1]], [BOTH[0][0], "198.51.100.9"]];
    let (_, pieces) = datagram(BOTH[0][0], BOTH[0][1], 1000, &[504]);
    let mut seconds: Vec<Vec<u8>> = other
        .iter()
        .map(|[src, dst]| datagram(src, dst, 1000, &[504]).1.swap_remove(1))
        .collect();
    for (place, bits) in [(5, 1), (9, 17 ^ 6)] {
        let mut piece = pieces[1].clone();
        piece[place] ^= bits;
        mend_header(&mut piece);
        seconds.push(piece);
    }
    let mut fragments = fragments();
    assert!(matches!(feed(&mut fragments, now, &pieces[0]), Ok(None)));
    for second in &seconds {
        assert!(matches!(feed(&mut fragments, now, second), Ok(None)));
    }
    let packet = Packet::parse(&pieces[1]).expect("a packet");
    let elsewhere = fragments.handle(now, Zone(2), (&pieces[1], &packet), &Timeouts::standard());
    assert!(matches!(elsewhere, Ok(None)), "another zone");
    assert!(matches!(feed(&mut fragments, now, &pieces[1]), Ok(Some(_))));
}

#[test]
fn n_fr_6_a_zone_that_goes_takes_its_fragments_along() {
    let now = Clock::new().now();
    let (_, pieces) = datagram(BOTH[0][0], BOTH[0][1], 1000, &[504]);
    let packet = Packet::parse(&pieces[0]).expect("a packet");
    let mut fragments = fragments();
    let timeouts = Timeouts::standard();
    for zone in [ZONE, Zone(2)] {
        let outcome = fragments.handle(now, zone, (&pieces[0], &packet), &timeouts);
        assert!(matches!(outcome, Ok(None)));
    }
    fragments.remove_zone(Zone(2));
    fragments.remove_zone(Zone(3));
    let packet = Packet::parse(&pieces[1]).expect("a packet");
    let outcome = fragments.handle(now, Zone(2), (&pieces[1], &packet), &timeouts);
    assert!(matches!(outcome, Ok(None)), "its first is gone");
    fragments.remove_zone(Zone(2));
    assert!(matches!(feed(&mut fragments, now, &pieces[1]), Ok(Some(_))));
    assert_is_empty(&fragments);
}

#[test]
fn n_fr_7_what_is_incomplete_ends_in_silence() {
    for ([src, dst], seconds) in [(BOTH[0], 30), (BOTH[1], 60)] {
        let (_, pieces) = datagram(src, dst, 1000, &[504]);
        let mut clock = Clock::new();
        let mut fragments = fragments();
        let deadline = clock.now() + Duration::from_secs(seconds);
        assert!(matches!(feed(&mut fragments, clock.now(), &pieces[0]), Ok(None)));
        assert_eq!(fragments.poll_timeout(), Some(deadline));
        fragments.handle_timeout(deadline - Duration::from_millis(1));
        assert_eq!(fragments.lost().expired, 0);
        fragments.handle_timeout(deadline);
        fragments.handle_timeout(deadline);
        assert_eq!(
            fragments.lost(),
            Lost {
                expired: 1,
                evicted: 0
            }
        );
        assert_is_empty(&fragments);
        // And if nobody called it: what is too old is gone nevertheless.
        assert!(matches!(feed(&mut fragments, clock.now(), &pieces[0]), Ok(None)));
        clock.advance(Duration::from_secs(seconds));
        assert!(matches!(feed(&mut fragments, clock.now(), &pieces[1]), Ok(None)));
    }
}

#[test]
fn n_fr_10_an_atomic_fragment_is_not_queued() {
    let [src, dst] = BOTH[1];
    let bytes = Recipe::udp(address(src), address(dst)).fragment(0, false).bytes();
    let mut fragments = fragments();
    let outcome = feed(&mut fragments, Clock::new().now(), &bytes);
    assert_eq!(outcome.err(), Some(DropReason::Malformed));
    assert_is_empty(&fragments);
}

#[test]
fn n_fwd_8_congestion_is_not_lost_and_the_class_stays() {
    for (name, classes, outcome) in [
        ("none", [0xb8, 0xb8], Some(0xb8)),
        ("one", [0xb9, 0xbb], Some(0xbb)),
        ("the first", [0xbb, 0xb9], Some(0xbb)),
        ("mixed", [0xb8, 0xbb], None),
    ] {
        for [src, dst] in BOTH {
            let (_, mut pieces) = datagram(src, dst, 1000, &[504]);
            for (piece, class) in pieces.iter_mut().zip(classes) {
                match piece[0] >> 4 {
                    4 => piece[1] = class,
                    _ => {
                        piece[0] |= class >> 4;
                        piece[1] |= class << 4;
                    }
                }
                mend_header(piece);
            }
            let mut fragments = fragments();
            let done = feed_all(&mut fragments, &pieces);
            let class = done.map(|done| match done.bytes[0] >> 4 {
                4 => Ipv4Packet::parse(&done.bytes).expect("a packet").header().tos(),
                _ => Ipv6Packet::parse(&done.bytes)
                    .expect("a packet")
                    .header()
                    .traffic_class(),
            });
            assert_eq!(class, outcome, "{name}");
            assert_is_empty(&fragments);
        }
    }
}

fn fragments() -> Fragments {
    Fragments::new(FragmentLimits::default(), 7)
}

fn handle(
    fragments: &mut Fragments,
    now: Instant,
    fragment: (&[u8], &Packet),
) -> Result<Option<Whole>, DropReason> {
    fragments.handle(now, ZONE, fragment, &Timeouts::standard())
}

fn feed(fragments: &mut Fragments, now: Instant, bytes: &[u8]) -> Result<Option<Whole>, DropReason> {
    let packet = Packet::parse(bytes)?;
    handle(fragments, now, (bytes, &packet))
}

/// What they make, all at one time.
fn feed_all(fragments: &mut Fragments, pieces: &[Vec<u8>]) -> Option<Whole> {
    let now = Clock::new().now();
    let outcomes = pieces.iter().map(|piece| feed(fragments, now, piece));
    outcomes.filter_map(|outcome| outcome.ok().flatten()).last()
}

#[track_caller]
fn assert_is_empty(fragments: &Fragments) {
    assert_eq!((fragments.bytes, fragments.poll_timeout()), (0, None));
    assert!(fragments.sources.is_empty() && fragments.zones.is_empty() && fragments.index.is_empty());
    assert_eq!(fragments.free.len(), fragments.slots.len());
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A UDP datagram of `len` bytes with its header.
fn recipe(src: &str, dst: &str, len: usize) -> Recipe {
    let payload = (8..len).map(|index| (index * 13 + index / 300) as u8).collect();
    Recipe {
        id: ID,
        ..Recipe::new(address(src), address(dst), Upper::Udp(5000, 53, payload))
    }
}

/// The packet of a UDP datagram, and its fragments.
fn datagram(src: &str, dst: &str, len: usize, cuts: &[usize]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let recipe = recipe(src, dst, len);
    let head = if recipe.src.is_ipv4() { 20 } else { 40 };
    (recipe.bytes(), cut_recipe(&recipe, head, cuts))
}

/// Cuts what follows `head` bytes, by other means than the engine's.
fn cut_recipe(recipe: &Recipe, head: usize, cuts: &[usize]) -> Vec<Vec<u8>> {
    let bytes = recipe.bytes();
    let body = &bytes[head..];
    let protocol = match recipe.upper {
        Upper::Raw(protocol, _) => protocol,
        Upper::Icmp(..) if recipe.src.is_ipv4() => IpProtocol::ICMP.0,
        Upper::Icmp(..) => IpProtocol::ICMPV6.0,
        Upper::Tcp(..) => IpProtocol::TCP.0,
        Upper::Udp(..) => IpProtocol::UDP.0,
    };
    let places = [&[0], cuts, &[body.len()]].concat();
    let pieces = places.windows(2).map(|ends| {
        let upper = Upper::Raw(protocol, body[ends[0]..ends[1]].to_vec());
        let recipe = Recipe {
            id: ID,
            upper,
            ..recipe.clone()
        };
        recipe.fragment(ends[0] as u16, ends[1] < body.len()).bytes()
    });
    pieces.collect()
}

/// An IPv4 packet with options in its header.
fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut packet = [&packet[..20], options, &packet[20..]].concat();
    packet[0] += (options.len() / 4) as u8;
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    mend_header(&mut packet);
    packet
}

/// Mends the checksum of an IPv4 header.
fn mend_header(packet: &mut [u8]) {
    if packet[0] >> 4 == 4 {
        let header = usize::from(packet[0] & 0x0f) * 4;
        packet[10..12].fill(0);
        let checksum = vswitch_wire::checksum::finish(vswitch_wire::checksum::sum(&packet[..header]));
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

const BOTH: [[&str; 2]; 2] = [["10.0.0.2", "198.51.100.2"], ["2001:db8:a::2", "2001:db8:b::2"]];
const ZONE: Zone = Zone(1);
const ID: u16 = 0x1234;
