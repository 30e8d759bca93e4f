use proptest::prelude::*;
use vswitch_wire::{IpProtocol, reassembly::PIECES_MAX};

use crate::{
    datagram::FragmentIds,
    mock::{SECOND, Side, now},
    payload::Fragmentation,
};

use super::*;

#[test]
fn u4_fragments_of_6000_bytes_become_one_datagram() {
    for [container, remote] in BOTH {
        let (body, fragments) = fragments(container, remote, 6008);
        for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
            let mut reassembly = reassembly(1 << 20);
            let start = now();
            for (count, index) in order.into_iter().enumerate() {
                match reassembly.handle_packet(start, 1, &fragments[index]) {
                    Assembly::Complete(packet) => {
                        assert_eq!(count, 4);
                        assert_eq!(packet.body, body);
                        assert_eq!(packet.protocol, IpProtocol::UDP);
                        assert_eq!(packet.headers.fragmentation, Fragmentation::Allowed);
                        assert_eq!(packet.headers.hops, 64);
                    }
                    Assembly::Pending => assert!(count < 4),
                    Assembly::Dropped => panic!("{:?}", reassembly.counters()),
                }
            }
            assert_eq!(reassembly.bytes(), 0);
            assert_eq!(reassembly.counters().fragments_completed, 1);
            assert_eq!(reassembly.poll_timeout(), None);
        }
    }
}

#[test]
fn n_fr_1_fragments_are_expected_from_the_first_to_come_to_the_last() {
    for [container, remote] in BOTH {
        let (_, fragments) = fragments(container, remote, 4000);
        let mut reassembly = reassembly(1 << 20);
        assert!(!reassembly.expects(1, &fragments[0]));
        for fragment in &fragments {
            reassembly.handle_packet(now(), 1, fragment);
            let is_last = fragment == fragments.last().expect("there are some");
            for other in &fragments {
                assert_eq!(reassembly.expects(1, other), !is_last);
                assert!(!reassembly.expects(2, other), "another container's");
            }
        }
    }
}

#[test]
fn n_fr_1_the_largest_datagram_comes_through() {
    for ([container, remote], len) in [(BOTH[0], 65_515), (BOTH[1], 65_535)] {
        let (body, fragments) = fragments(container, remote, len);
        let mut reassembly = reassembly(1 << 20);
        assert_eq!(feed(&mut reassembly, now(), 1, &fragments), Some(body));
    }
}

#[test]
fn n_fr_1_a_duplicate_is_harmless() {
    let (body, mut fragments) = fragments(BOTH[0][0], BOTH[0][1], 4000);
    fragments.insert(1, fragments[0].clone());
    let mut reassembly = reassembly(1 << 20);
    assert_eq!(feed(&mut reassembly, now(), 1, &fragments), Some(body));
    assert_eq!(reassembly.counters().fragments_overlapping, 0);
}

#[test]
fn n_fr_2_an_overlap_ends_the_datagram_and_its_late_fragments() {
    let start = now();
    for [container, remote] in BOTH {
        let (_, good) = fragments(container, remote, 4000);
        let mut overlapping = good[0].clone();
        let last = overlapping.len() - 1;
        overlapping[last] ^= 1;
        let mut reassembly = reassembly(1 << 20);
        let sent = [&good[0], &overlapping, &good[1], &good[2]].map(Clone::clone);
        assert_eq!(feed(&mut reassembly, start, 1, &sent), None);
        assert_eq!(reassembly.counters().fragments_overlapping, 1);
        assert_eq!(reassembly.counters().fragments_late, 2);
        // Its time is over: the same id is another datagram.
        let later = start + 61 * SECOND;
        assert!(feed(&mut reassembly, later, 1, &good).is_some());
        assert_eq!(
            reassembly.counters().fragments_timed_out,
            0,
            "it was counted already"
        );
    }
}

#[test]
fn n_fr_2_two_ends_contradict_each_other() {
    let (_, fragments) = fragments(BOTH[0][0], BOTH[0][1], 4000);
    // The second one claims to be the last.
    let mut last = fragments[1].clone();
    last[6] &= !0x20;
    let mut reassembly = reassembly(1 << 20);
    let sent = [fragments[2].clone(), last];
    assert_eq!(feed(&mut reassembly, now(), 1, &sent), None);
    assert_eq!(reassembly.counters().fragments_overlapping, 1);
    // And the other way round: what comes lies behind the end.
    let mut last = fragments[1].clone();
    last[6] &= !0x20;
    let mut reassembly = self::reassembly(1 << 20);
    assert_eq!(
        feed(&mut reassembly, now(), 1, &[last, fragments[2].clone()]),
        None
    );
    assert_eq!(reassembly.counters().fragments_overlapping, 1);
}

#[test]
fn n_fr_3_impossible_fragments_are_refused() {
    let (_, fragments) = fragments(BOTH[0][0], BOTH[0][1], 4000);
    let mut odd = fragments[0].clone();
    odd.pop();
    let len = odd.len() as u16;
    odd[2..4].copy_from_slice(&len.to_be_bytes());
    let mut empty = fragments[0][..20].to_vec();
    empty[2..4].copy_from_slice(&20u16.to_be_bytes());
    let mut beyond = fragments[0].clone();
    beyond[6..8].copy_from_slice(&(0x2000u16 | (65_512 >> 3)).to_be_bytes());
    let mut whole = fragments[0].clone();
    whole[6..8].fill(0);
    let mut reassembly = reassembly(1 << 20);
    for packet in [odd, empty, beyond, whole, vec![], vec![0x60; 10]] {
        assert!(matches!(
            reassembly.handle_packet(now(), 1, &packet),
            Assembly::Dropped
        ));
    }
    assert_eq!(reassembly.counters().fragments_malformed, 6);
    assert_eq!(reassembly.bytes(), 0);
}

#[test]
fn n_fr_5_a_flood_of_one_container_costs_another_nothing() {
    let start = now();
    let limit = 256 << 10;
    let mut reassembly = reassembly(limit);
    let mut flood = Flood::new(BOTH[0][0], BOTH[0][1]);
    let (body, fragments) = fragments("10.0.0.3:40000", BOTH[0][1], 8000);
    for round in 0..200 {
        for _ in 0..500 {
            reassembly.handle_packet(start, 1, flood.next_fragment());
            assert!(reassembly.bytes() <= limit);
        }
        let (before, after) = fragments.split_at(3);
        assert_eq!(feed(&mut reassembly, start, 2, before), None);
        for _ in 0..500 {
            reassembly.handle_packet(start, 1, flood.next_fragment());
        }
        assert_eq!(
            feed(&mut reassembly, start, 2, after).as_ref(),
            Some(&body),
            "round {round}"
        );
    }
    assert!(reassembly.datagrams.len() <= DATAGRAMS_PER_SOURCE);
    assert!(reassembly.deadlines[0].len() <= QUEUE_SLACK + 2 * DATAGRAMS_PER_SOURCE + 1);
    assert!(reassembly.sources[&1].oldest.len() <= QUEUE_SLACK + 2 * DATAGRAMS_PER_SOURCE + 1);
}

#[test]
fn n_fr_5_one_datagram_has_a_bounded_number_of_fragments() {
    let mut reassembly = reassembly(1 << 20);
    let (_, fragments) = fragments(BOTH[0][0], BOTH[0][1], 4000);
    for index in 0..=PIECES_MAX as u16 {
        let mut tiny = fragments[0][..28].to_vec();
        tiny[2..4].copy_from_slice(&28u16.to_be_bytes());
        tiny[6..8].copy_from_slice(&(0x2000 | (2 * index)).to_be_bytes());
        reassembly.handle_packet(now(), 1, &tiny);
    }
    assert_eq!(reassembly.counters().fragments_overlapping, 1);
}

#[test]
fn n_fr_6_containers_are_never_mixed() {
    let (_, fragments) = fragments(BOTH[0][0], BOTH[0][1], 2000);
    let mut reassembly = reassembly(1 << 20);
    assert_eq!(feed(&mut reassembly, now(), 1, &fragments[..1]), None);
    assert_eq!(feed(&mut reassembly, now(), 2, &fragments[1..]), None);
}

#[test]
fn n_fr_6_a_container_that_goes_takes_its_fragments_along() {
    let (body, fragments) = fragments(BOTH[0][0], BOTH[0][1], 4000);
    let mut reassembly = reassembly(1 << 20);
    let start = now();
    for endpoint in [1, 2] {
        assert_eq!(feed(&mut reassembly, start, endpoint, &fragments[..1]), None);
    }
    reassembly.remove_endpoint(1);
    reassembly.remove_endpoint(9);
    assert_eq!(
        feed(&mut reassembly, start, 1, &fragments[1..]),
        None,
        "the port is another's now"
    );
    assert_eq!(feed(&mut reassembly, start, 2, &fragments[1..]), Some(body));
    reassembly.remove_endpoint(1);
    assert_eq!((reassembly.bytes(), reassembly.poll_timeout()), (0, None));
}

#[test]
fn n_fr_7_what_is_incomplete_ends_in_silence() {
    let start = now();
    for ([container, remote], seconds) in [(BOTH[0], 30), (BOTH[1], 60)] {
        let (_, fragments) = fragments(container, remote, 4000);
        let mut reassembly = reassembly(1 << 20);
        assert_eq!(feed(&mut reassembly, start, 1, &fragments[1..]), None);
        let deadline = start + seconds * SECOND;
        assert_eq!(reassembly.poll_timeout(), Some(deadline));
        reassembly.handle_timeout(deadline - SECOND);
        assert!(reassembly.bytes() > 0);
        reassembly.handle_timeout(deadline);
        reassembly.handle_timeout(deadline);
        assert_eq!(
            (reassembly.bytes(), reassembly.counters().fragments_timed_out),
            (0, 1)
        );
        assert_eq!(reassembly.poll_timeout(), None);
        assert_eq!(feed(&mut reassembly, deadline, 1, &fragments[..1]), None);
    }
}

#[test]
fn memory_returns_to_its_baseline() {
    let start = now();
    let mut reassembly = reassembly(1 << 20);
    for round in 0..1000 {
        let (body, fragments) = fragments(BOTH[0][0], BOTH[0][1], 5000 + round);
        assert_eq!(feed(&mut reassembly, start, 1, &fragments), Some(body));
    }
    assert_eq!(reassembly.bytes(), 0);
    assert!(reassembly.datagrams.is_empty() && reassembly.sources.is_empty());
    assert!(reassembly.deadlines.iter().all(VecDeque::is_empty));
    assert!(reassembly.spare.len() <= SPARE_MAX);
}

proptest! {
    #[test]
    fn r_udp_10_any_cut_order_and_repetition_gives_the_same_bytes(
        len in 9usize..20_000,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let body: Vec<u8> = (0..len).map(|index| (index * 31 + index / 256) as u8).collect();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(len.div_ceil(8)) * 8).collect();
        places.extend([0, len]);
        places.sort_unstable();
        places.dedup();
        let pieces: Vec<Vec<u8>> = places
            .windows(2)
            .map(|ends| cut(&body, ends[0], ends[1]))
            .collect();
        prop_assume!(pieces.len() > 1);
        let start = now();
        let mut reassembly = reassembly(1 << 20);
        let mut whole = None;
        // Some in any order, repeated; then all of them until it is whole.
        let indices = order.iter().map(|index| index.index(pieces.len())).chain(0..pieces.len());
        for index in indices {
            if whole.is_some() {
                break;
            }
            if let Assembly::Complete(packet) = reassembly.handle_packet(start, 1, &pieces[index]) {
                whole = Some(packet.body.to_vec());
            }
        }
        prop_assert_eq!(whole, Some(body));
        prop_assert_eq!(reassembly.bytes(), 0);
    }

    #[test]
    fn n_fr_2_any_overlap_drops_the_datagram(
        first in (0usize..400, 1usize..100),
        shift in 1usize..100,
    ) {
        let body = vec![7; 8192];
        let (start, len) = (first.0 * 8, first.1 * 8);
        prop_assume!(shift < first.1);
        let pieces = [
            cut(&body, start, start + len),
            cut(&body, start + shift * 8, start + shift * 8 + len),
        ];
        let mut reassembly = reassembly(1 << 20);
        let rest = [cut(&body, 0, start.max(8)), cut(&body, 8184, 8192)];
        for piece in pieces.iter().chain(&rest) {
            prop_assert!(!matches!(
                reassembly.handle_packet(now(), 1, piece),
                Assembly::Complete(_)
            ));
        }
        prop_assert_eq!(reassembly.counters().fragments_overlapping, 1);
    }

    #[test]
    fn n_fr_5_memory_never_exceeds_its_limit(
        limit in 0usize..200_000,
        steps in prop::collection::vec(
            (0u32..4, 0u16..40, 0usize..8000, 1usize..180, any::<bool>(), 0u64..3),
            1..400,
        ),
    ) {
        let body = vec![1; 65_515];
        let mut time = now();
        let mut reassembly = reassembly(limit);
        for (endpoint, id, offset, len, more, seconds) in steps {
            time += SECOND * seconds as u32;
            let end = (offset * 8 + len * 8).min(body.len() & !7);
            let mut piece = cut(&body, offset * 8, end.max(offset * 8 + 8));
            piece[4..6].copy_from_slice(&id.to_be_bytes());
            if !more {
                piece[6] &= !0x20;
            }
            reassembly.handle_packet(time, endpoint, &piece);
            prop_assert!(reassembly.bytes() <= limit);
            let held: usize = reassembly.datagrams.values().map(Partial::charge).sum();
            prop_assert_eq!(held, reassembly.bytes());
            let shares: usize = reassembly.sources.values().map(|share| share.bytes).sum();
            prop_assert_eq!(shares, reassembly.bytes());
        }
        reassembly.handle_timeout(time + 100 * SECOND);
        prop_assert_eq!(reassembly.bytes(), 0);
        prop_assert!(reassembly.sources.is_empty());
    }

    #[test]
    fn any_bytes_are_survived(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..20)) {
        let mut reassembly = reassembly(100_000);
        for mut packet in packets {
            for version in [0x45, 0x60] {
                if let Some(first) = packet.first_mut() {
                    *first = version;
                }
                reassembly.handle_packet(now(), 1, &packet);
            }
        }
    }
}

/// First fragments, each with an id of its own.
struct Flood {
    fragment: Vec<u8>,
    id: u16,
}

impl Flood {
    fn new(container: &str, remote: &str) -> Self {
        let fragment = fragments(container, remote, 4000).1.swap_remove(0);
        Self { fragment, id: 0 }
    }

    fn next_fragment(&mut self) -> &[u8] {
        self.id = self.id.wrapping_add(1);
        self.fragment[4..6].copy_from_slice(&self.id.to_be_bytes());
        &self.fragment
    }
}

fn feed(reassembly: &mut Reassembly, now: Instant, endpoint: u32, packets: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut whole = None;
    for packet in packets {
        if let Assembly::Complete(packet) = reassembly.handle_packet(now, endpoint, packet) {
            whole = Some(packet.body.to_vec());
        }
    }
    whole
}

fn reassembly(limit: usize) -> Reassembly {
    Reassembly::new(limit, &Timeouts::default())
}

/// A datagram of a container of `len` bytes with its header, and the packets it is sent in.
fn fragments(container: &str, remote: &str, len: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    use crate::datagram::HEADROOM;
    // As the container would send it, so its end is where frames come from.
    let mut side = Side::new(remote, container);
    side.ids = FragmentIds::new(41);
    let mut buffer: Vec<u8> = vec![0; HEADROOM];
    buffer.extend((8..len).map(|index| (index * 13 + index / 300) as u8));
    let payload = HEADROOM..buffer.len();
    assert_eq!(side.inbound().send_udp(&mut buffer, payload, None), len - 8);
    let head = if container.starts_with('[') { 48 } else { 20 };
    let frames = side.wire_frames();
    let packets: Vec<_> = frames.iter().map(|frame| frame[14..].to_vec()).collect();
    let body = packets
        .iter()
        .flat_map(|packet| packet[head..].to_vec())
        .collect();
    (body, packets)
}

/// A fragment of `body` over IPv4; the last one if it reaches to the end.
fn cut(body: &[u8], start: usize, end: usize) -> Vec<u8> {
    let piece = &body[start.min(body.len())..end.min(body.len())];
    let mut packet = vec![
        0x45, 0, 0, 0, 0, 9, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 203, 0, 113, 5,
    ];
    packet.extend_from_slice(piece);
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    let more = if end < body.len() { 0x2000 } else { 0 };
    packet[6..8].copy_from_slice(&(more | (start >> 3) as u16).to_be_bytes());
    packet
}

const BOTH: [[&str; 2]; 2] = [
    ["10.0.0.2:40000", "203.0.113.5:80"],
    ["[fd00::2]:40000", "[2001:db8::5]:80"],
];
