use proptest::prelude::*;

use super::*;

#[test]
fn n_fr_3_impossible_fragments_are_none() {
    let bytes = [0; 100];
    for (name, offset, more, len, possible) in [
        ("ordinary", 0, true, 96, true),
        ("last", 96, false, 5, true),
        ("odd", 0, true, 97, false),
        ("empty", 8, true, 0, false),
        ("empty last", 8, false, 0, false),
        ("to the last byte", 65_528, false, 7, true),
        ("one further", 65_528, false, 8, false),
        ("the reference's", 65_512, false, 100, false),
    ] {
        assert_eq!(
            Piece::new(offset, more, &bytes[..len]).is_some(),
            possible,
            "{name}"
        );
    }
}

#[test]
fn n_fr_2_what_overlaps_or_moves_the_end_contradicts() {
    let bytes = [7; 64];
    let piece = |offset, more, len| Piece::new(offset, more, &bytes[..len]).expect("a possible piece");
    let mut partial = Partial::new(Vec::new());
    partial.put(&piece(16, true, 16));
    for (name, next, fit) in [
        ("the same", piece(16, true, 16), Fit::Duplicate),
        ("before", piece(0, true, 16), Fit::New),
        ("behind", piece(32, true, 16), Fit::New),
        ("over its beginning", piece(8, true, 16), Fit::Contradiction),
        ("over its end", piece(24, true, 16), Fit::Contradiction),
        ("within", piece(16, true, 8), Fit::Contradiction),
        ("around", piece(8, true, 32), Fit::Contradiction),
        ("the same as the last", piece(16, false, 16), Fit::Contradiction),
        ("an end before it", piece(0, false, 9), Fit::Contradiction),
        ("an end behind it", piece(32, false, 9), Fit::New),
    ] {
        assert_eq!(partial.check(&next), fit, "{name}");
    }
    let other = [8; 16];
    let changed = Piece::new(16, true, &other).expect("a possible piece");
    assert_eq!(partial.check(&changed), Fit::Contradiction);
    partial.put(&piece(32, false, 9));
    assert_eq!(partial.check(&piece(32, false, 9)), Fit::Duplicate);
    assert_eq!(partial.check(&piece(48, false, 9)), Fit::Contradiction);
    assert_eq!(partial.check(&piece(40, true, 8)), Fit::Contradiction);
}

#[test]
fn n_fr_5_a_datagram_has_at_most_64_pieces() {
    let bytes = [1; 8];
    let mut partial = Partial::new(Vec::new());
    for index in 0..PIECES_MAX as u16 {
        let piece = Piece::new(index * 16, true, &bytes).expect("a possible piece");
        assert_eq!(partial.check(&piece), Fit::New);
        partial.put(&piece);
    }
    let piece = Piece::new(8, true, &bytes).expect("a possible piece");
    assert_eq!(partial.check(&piece), Fit::TooMany);
    partial.put(&piece);
    assert!(!partial.is_whole());
    let piece = Piece::new(16, true, &bytes).expect("a possible piece");
    assert_eq!(partial.check(&piece), Fit::Duplicate);
}

proptest! {
    #[test]
    fn any_order_gives_headers_and_bytes(
        len in 1usize..40_000,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        order in prop::collection::vec(any::<u32>(), 22),
        heads in (0usize..100, 0usize..100),
    ) {
        let body: Vec<u8> = (0..len).map(|index| (index * 31 + index / 256) as u8).collect();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(len.div_ceil(8)) * 8).collect();
        places.extend([0, len]);
        places.sort_unstable();
        places.dedup();
        let mut pieces: Vec<(u32, Piece<'_>)> = places
            .windows(2)
            .zip(order)
            .map(|(ends, key)| {
                let piece = Piece::new(ends[0] as u16, ends[1] < len, &body[ends[0]..ends[1]]);
                (key, piece.expect("a possible piece"))
            })
            .collect();
        pieces.sort_by_key(|&(key, _)| key);
        let (before, head) = (vec![1; heads.0], vec![2; heads.1]);
        // A used buffer: what is in it must not show.
        let mut partial = Partial::new(vec![9; 100]);
        partial.set_head(&before);
        for (_, piece) in &pieces {
            prop_assert!(!partial.is_whole());
            prop_assert_eq!(partial.check(piece), Fit::New);
            let head_len = if piece.is_first() { head.len() } else { partial.head_len() };
            let growth = partial.growth(head_len, piece.end());
            let capacity = partial.capacity();
            if piece.is_first() {
                partial.set_head(&head);
            }
            partial.put(piece);
            prop_assert!(partial.capacity() <= capacity + growth);
            prop_assert_eq!(partial.check(piece), Fit::Duplicate);
        }
        prop_assert!(partial.is_whole());
        prop_assert_eq!(partial.take(), [head, body].concat());
        prop_assert!(!partial.is_whole() && partial.capacity() == 0);
    }
}
