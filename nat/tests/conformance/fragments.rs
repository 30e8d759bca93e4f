//! §10 through the engine: fragments.

use vswitch_nat::{DropReason, Verdict, Zone};

use crate::{
    packets::{
        SYN, dont_fragment, fragment, fragments, fragments_v6, icmp_kind, src, tcp_with, udp, udp_with,
    },
    site::*,
};

/// Puts pieces in one after the other; what leaves, which is with the last.
fn put_all(site: &mut Site, zone: Zone, pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (last, before) = pieces.split_last().expect("pieces");
    for piece in before {
        let outcome = site.put(zone, piece);
        assert_eq!(outcome.verdict, Verdict::Consumed);
        assert!(outcome.sent.is_empty(), "nothing leaves before the last");
    }
    let outcome = site.put(zone, last);
    assert_eq!(outcome.verdict, Verdict::Consumed);
    outcome.sent.into_iter().map(|(_, piece)| piece).collect()
}

/// Offset in bytes and length of payload of each.
fn shape(pieces: &[Vec<u8>]) -> Vec<(usize, usize)> {
    let place = |piece: &Vec<u8>| usize::from(u16::from_be_bytes([piece[6], piece[7]]) & 0x1fff) * 8;
    pieces
        .iter()
        .map(|piece| (place(piece), piece.len() - 20))
        .collect()
}

fn payloads(pieces: &[Vec<u8>]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| piece[20..].to_vec()).collect()
}

fn datagram() -> Vec<u8> {
    let payload: Vec<u8> = (0..1500).map(|n| n as u8).collect();
    udp_with((A, 5000), (S, 53), &payload)
}

#[test]
fn n_fr_1_fragments_in_any_order_leave_translated_as_they_came() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut site = Site::new();
        let pieces = fragments(&datagram(), &[600, 1200]);
        let pieces = order.map(|index| pieces[index].clone());
        let left = put_all(&mut site, INSIDE, &pieces);
        assert_eq!(shape(&left), [(0, 600), (600, 600), (1200, 308)], "{order:?}");
        assert!(left.iter().all(|piece| src(piece) == X));
        let mut expected = datagram();
        expected[12..16].copy_from_slice(&[198, 51, 100, 1]);
        assert_eq!(payloads(&left), crate::packets::mended(expected)[20..]);
        assert_eq!(site.only().original.dst_port, 53);
    }
}

#[test]
fn n_fr_1_a_duplicate_is_harmless() {
    let mut site = Site::new();
    let pieces = fragments(&datagram(), &[600, 1200]);
    let pieces = [0, 0, 1, 0, 2].map(|index| pieces[index].clone());
    assert_eq!(put_all(&mut site, INSIDE, &pieces).len(), 3);
}

#[test]
fn n_fr_1_answers_too() {
    let mut site = Site::new();
    site.external((A, 5000), (S, 53));
    let answer = udp_with((S, 53), (X, 5000), &[7; 1492]);
    let left = put_all(&mut site, OUTSIDE, &fragments(&answer, &[600, 1200]));
    assert_eq!(left.len(), 3);
    assert!(left.iter().all(|piece| piece[16..20] == [10, 0, 0, 2]));
}

#[test]
fn n_fr_2_an_overlap_ends_the_datagram() {
    let mut site = Site::new();
    let packet = datagram();
    let overlapping = fragment(&packet, 592, &[0; 608], true);
    let pieces = fragments(&packet, &[600, 1200]);
    assert_eq!(site.put(INSIDE, &pieces[0]).verdict, Verdict::Consumed);
    assert_eq!(site.refused(INSIDE, &overlapping), DropReason::FragmentOverlap);
    for piece in &pieces[1..] {
        assert_eq!(site.refused(INSIDE, piece), DropReason::FragmentOverlap);
    }
    assert!(site.conns().is_empty());
}

#[test]
fn n_fr_3_fragments_that_cannot_be() {
    let mut site = Site::new();
    let packet = datagram();
    for (name, piece) in [
        ("beyond 65535", fragment(&packet, 65_512, &[0; 100], false)),
        ("not a multiple of 8", fragment(&packet, 0, &[0; 601], true)),
        ("empty", fragment(&packet, 8, &[], true)),
    ] {
        assert_eq!(site.refused(INSIDE, &piece), DropReason::Malformed, "{name}");
    }
}

#[test]
fn n_fr_3_of_ipv6_its_sender_is_told() {
    let mut site = Site::new();
    let packet = udp_with((A6, 5000), (S6, 53), &[7; 1000]);
    let mut piece = fragments_v6(&packet, &[600]).remove(0);
    piece.pop();
    let len = piece.len() as u16 - 40;
    piece[4..6].copy_from_slice(&len.to_be_bytes());
    let (reason, error) = site.refused_aloud(INSIDE, &piece);
    assert_eq!(reason, DropReason::Malformed);
    assert_eq!(icmp_kind(&error), (4, 0));
}

#[test]
fn n_fr_4_tiny_pieces_are_put_together_before_anything_is_decided() {
    let mut site = Site::new();
    let syn = tcp_with((A, 7000), (S, 80), SYN, (1000, 0), &[2, 4, 5, 180], &[]);
    let left = put_all(&mut site, INSIDE, &fragments(&syn, &[8, 16]));
    assert!(left.iter().all(|piece| src(piece) == X));
    assert_eq!(site.state(), ("SYN_SENT", 120));
    // And refused if what they make is not right.
    let mut site = Site::new();
    let wrong = tcp_with((A, 7000), (S, 80), 3, (1000, 0), &[], &[]);
    let pieces = fragments(&wrong, &[8, 16]);
    site.put(INSIDE, &pieces[0]);
    site.put(INSIDE, &pieces[1]);
    assert_eq!(site.refused(INSIDE, &pieces[2]), DropReason::Invalid);
}

#[test]
fn n_fr_5_a_flood_of_first_fragments_costs_others_nothing() {
    let mut site = Site::new();
    let external = site.external((A, 5000), (S, 53));
    let mut flood = udp_with((B, 5000), (S, 53), &[0; 592]);
    let mut fragmented = fragments(&datagram(), &[600, 1200]);
    for round in 0u16..200 {
        for n in 0..20 {
            flood[4..6].copy_from_slice(&(round * 20 + n).to_be_bytes());
            let piece = fragment(&flood, 0, &flood[20..], true);
            site.put(INSIDE, &piece);
        }
        site.out(&udp((A, 5000), (S, 53)));
        site.back(&udp((S, 53), external));
        // A's own fragments as well.
        for piece in &mut fragmented {
            piece[4..6].copy_from_slice(&round.to_be_bytes());
            let payload = piece[20..].to_vec();
            let place = u16::from_be_bytes([piece[6], piece[7]]);
            *piece = fragment(
                piece,
                usize::from(place & 0x1fff) * 8,
                &payload,
                place & 0x2000 != 0,
            );
        }
        assert_eq!(put_all(&mut site, INSIDE, &fragmented).len(), 3, "round {round}");
    }
}

#[test]
fn n_fr_6_zones_are_not_mixed() {
    let mut site = Site::new();
    site.add(network(OTHER));
    let pieces = fragments(&datagram(), &[600, 1200]);
    for (zone, index) in [(INSIDE, 0), (OTHER, 1), (INSIDE, 2)] {
        let outcome = site.put(zone, &pieces[index]);
        assert!(outcome.sent.is_empty(), "piece {index} completes nothing");
    }
    assert_eq!(site.put(INSIDE, &pieces[1]).sent.len(), 3);
}

#[test]
fn n_fr_7_what_stays_incomplete_is_dropped_silently_after_its_time() {
    let mut site = Site::new();
    let pieces = fragments(&datagram(), &[600, 1200]);
    site.put(INSIDE, &pieces[0]);
    site.put(INSIDE, &pieces[1]);
    site.settle(secs(31));
    assert_eq!(site.nat.poll_timeout(), None);
    let outcome = site.put(INSIDE, &pieces[2]);
    assert!(outcome.sent.is_empty());
    assert_eq!(site.nat.counters().errors_sent, 0);
}

#[test]
fn n_fr_8_identifications_of_two_hosts_do_not_meet_outside() {
    let mut site = Site::new();
    let ids: Vec<[u8; 2]> = [A, B]
        .map(|host| {
            let packet = udp_with((host, 5000), (S, 53), &[7; 1492]);
            let left = put_all(&mut site, INSIDE, &fragments(&packet, &[600]));
            assert_eq!(left[0][4..6], left[1][4..6]);
            [left[0][4], left[0][5]]
        })
        .into();
    assert_ne!(ids[0], ids[1]);
    // What is not cut keeps its own.
    assert_eq!(site.out(&udp((A, 5000), (S, 53)))[4..6], [0x48, 0x49]);
}

#[test]
fn n_fr_9_df_is_kept_where_all_pieces_had_it() {
    let mut site = Site::new();
    let left = put_all(
        &mut site,
        INSIDE,
        &fragments(&dont_fragment(datagram()), &[600, 1200]),
    );
    assert!(left.iter().all(|piece| piece[6] & 0x40 != 0));
    let mut pieces = fragments(&dont_fragment(datagram()), &[600, 1200]);
    pieces[1] = fragments(&datagram(), &[600, 1200]).remove(1);
    let left = put_all(&mut site, INSIDE, &pieces);
    assert!(left.iter().all(|piece| piece[6] & 0x40 == 0));
}

#[test]
fn n_fr_10_ipv6_leaves_as_it_came_in_both_orders() {
    for order in [[0, 1], [1, 0]] {
        let mut site = Site::new();
        let packet = udp_with((A6, 5000), (S6, 53), &[7; 2000]);
        let pieces = fragments_v6(&packet, &[1232]);
        let left = put_all(&mut site, INSIDE, &order.map(|index| pieces[index].clone()));
        let lens: Vec<usize> = left.iter().map(|piece| piece.len() - 40).collect();
        assert_eq!(lens, [1240, 784]);
        assert!(left.iter().all(|piece| src(piece) == X6));
    }
}

#[test]
fn n_fr_10_an_atomic_fragment_is_a_packet_by_itself() {
    let mut site = Site::new();
    let packet = udp((A6, 5000), (S6, 53));
    let atomic = fragments_v6(&packet, &[]).remove(0);
    assert_eq!(atomic.len(), packet.len() + 8);
    assert_eq!(src(&site.out(&atomic)), X6);
    assert_eq!(site.nat.poll_timeout().is_some(), site.conns().len() == 1);
}

#[test]
fn n_fr_11_without_its_first_piece_nothing_leaves() {
    let mut site = Site::new();
    site.external((A, 5000), (S, 53));
    let pieces = fragments(&datagram(), &[600, 1200]);
    for piece in &pieces[1..] {
        let outcome = site.put(INSIDE, piece);
        assert_eq!(outcome.verdict, Verdict::Consumed);
        assert!(outcome.sent.is_empty());
    }
    site.settle(secs(60));
    assert_eq!(site.nat.counters().forwarded, 1);
}
