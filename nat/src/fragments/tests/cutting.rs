use super::*;

#[test]
fn n_fr_1_pieces_leave_with_the_sizes_they_came_with() {
    for [src, dst] in BOTH {
        let (_, pieces) = datagram(src, dst, 1508, &[600, 1200]);
        for reverse in [false, true] {
            let mut sent = pieces.clone();
            if reverse {
                sent.reverse();
            }
            let whole = feed_all(&mut fragments(), &sent).expect("it is whole");
            // 600 + 600 + 308 with the same id, in order.
            assert_eq!(again(whole, 1500, ID.into()), Ok(pieces.clone()));
        }
    }
}

#[test]
fn n_fr_10_ipv6_leaves_as_1240_and_784() {
    let (_, pieces) = datagram(BOTH[1][0], BOTH[1][1], 2008, &[1232]);
    let lens = |pieces: &[Vec<u8>]| -> Vec<usize> { pieces.iter().map(|piece| piece.len() - 40).collect() };
    assert_eq!(lens(&pieces), [1240, 784]);
    for order in [[0, 1], [1, 0]] {
        let sent = order.map(|index: usize| pieces[index].clone());
        let whole = feed_all(&mut fragments(), &sent).expect("it is whole");
        assert_eq!(again(whole, 1280, ID.into()), Ok(pieces.clone()));
    }
    // And not smaller, nor larger.
    let whole = feed_all(&mut fragments(), &pieces).expect("it is whole");
    assert!(whole.cut.fits(IpVersion::V6, 1280) && !whole.cut.fits(IpVersion::V6, 1279));
    assert_eq!(again(whole, 1279, 7), Err(DropReason::Mtu));
    let whole = feed_all(&mut fragments(), &pieces).expect("it is whole");
    let sent = again(whole, 9000, 0xdead_beef).expect("it fits");
    assert_eq!(lens(&sent), [1240, 784]);
    let packet = Ipv6Packet::parse(&sent[1]).expect("a packet");
    let placed = packet.fragment().expect("a fragment");
    assert_eq!((placed.fragment.id, placed.fragment.offset), (0xdead_beef, 1232));
}

#[test]
fn n_fr_10_the_fragment_header_returns_to_its_place() {
    let recipe = recipe(BOTH[1][0], BOTH[1][1], 504).extended(0, 2).extended(60, 1);
    let pieces = cut_recipe(&recipe, 64, &[200]);
    let whole = feed_all(&mut fragments(), &pieces).expect("it is whole");
    assert_eq!(again(whole, 1500, ID.into()), Ok(cut_recipe(&recipe, 64, &[304])));
    // The second piece was the larger one.
    assert_eq!(pieces.iter().map(Vec::len).max(), Some(64 + 8 + 304));
}

#[test]
fn n_fr_9_df_stays_where_all_had_it_and_the_sizes_fit() {
    let (_, mut pieces) = datagram(BOTH[0][0], BOTH[0][1], 1508, &[600, 1200]);
    let set = |piece: &mut Vec<u8>| {
        piece[6] |= 0x40;
        mend_header(piece);
    };
    set(&mut pieces[0]);
    set(&mut pieces[1]);
    let has_df = |piece: &Vec<u8>| piece[6] & 0x40 != 0;
    // Not all.
    let whole = feed_all(&mut fragments(), &pieces).expect("it is whole");
    assert!(!whole.cut.dont_fragment);
    let sent = again(whole, 500, 1).expect("it may be cut");
    assert!(sent.len() > 3 && !sent.iter().any(has_df));
    // All.
    set(&mut pieces[2]);
    let whole = feed_all(&mut fragments(), &pieces).expect("it is whole");
    assert!(whole.cut.dont_fragment && has_df(&whole.bytes));
    assert_eq!(again(whole, 620, ID.into()), Ok(pieces.clone()));
    // All, and too large now: the packet is there to be quoted.
    let mut whole = feed_all(&mut fragments(), &pieces).expect("it is whole");
    let before = whole.bytes.clone();
    let outcome = whole
        .cut
        .again(&mut whole.bytes, 619, 1, |_| panic!("nothing may be sent"));
    assert_eq!((outcome, whole.bytes), (Err(DropReason::Mtu), before));
}

#[test]
fn n_fwd_4_a_packet_without_df_is_cut_in_order() {
    let whole = recipe(BOTH[0][0], BOTH[0][1], 1458).bytes();
    assert_eq!(whole.len(), 1478);
    let mut sent = Vec::new();
    // Padding is none of it.
    let mut bytes = [&whole[..], &[0; 6]].concat();
    assert_eq!(
        cut(&mut bytes, 1400, 0x77, |piece| sent.push(piece.to_vec())),
        Ok(())
    );
    let places: Vec<(usize, u16, bool)> = sent
        .iter()
        .map(|piece| {
            let packet = Ipv4Packet::parse(piece).expect("a packet");
            assert!(packet.has_valid_checksum());
            let header = packet.header();
            assert_eq!((header.id(), header.dont_fragment()), (0x77, false));
            (piece.len(), header.fragment_offset(), header.more_fragments())
        })
        .collect();
    assert_eq!(places, [(1396, 0, true), (102, 1376, false)]);
    let done = feed_all(&mut fragments(), &sent).expect("it is whole");
    let same_id = again(done, 1500, 0).map(|_| ());
    assert_eq!(same_id, Ok(()));
}

#[test]
fn n_fwd_4_df_and_ipv6_are_not_cut() {
    let mut bytes = recipe(BOTH[0][0], BOTH[0][1], 1458).bytes();
    bytes[6] |= 0x40;
    mend_header(&mut bytes);
    let v6 = recipe(BOTH[1][0], BOTH[1][1], 1458).bytes();
    for bytes in [bytes, v6] {
        let mut after = bytes.clone();
        let outcome = cut(&mut after, 1400, 1, |_| panic!("nothing may be sent"));
        assert_eq!((outcome, after), (Err(DropReason::Mtu), bytes));
    }
}

#[test]
fn n_fwd_4_only_copied_options_are_in_later_fragments() {
    // Record route, router alert (copied), a stream id (copied) and the end.
    let options = [7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0, 136, 4, 0, 9];
    let mut bytes = with_options(&recipe(BOTH[0][0], BOTH[0][1], 1000).bytes(), &options);
    let whole = bytes.clone();
    let mut sent = Vec::new();
    assert_eq!(
        cut(&mut bytes, 500, ID.into(), |piece| sent.push(piece.to_vec())),
        Ok(())
    );
    let heads: Vec<&[u8]> = sent
        .iter()
        .map(|piece| Ipv4Packet::parse(piece).expect("a packet").options())
        .collect();
    let copied = [148, 4, 0, 0, 136, 4, 0, 9];
    assert_eq!(heads, [&options[..], &copied, &copied]);
    assert!(sent.iter().all(|piece| piece.len() <= 500));
    sent.reverse();
    let done = feed_all(&mut fragments(), &sent).expect("it is whole");
    assert_eq!(done.bytes, whole);
}

#[test]
fn n_fwd_4_options_that_cannot_be_read_are_not_copied() {
    for options in [[0x94, 1, 0, 0], [0x94, 9, 0, 0], [1, 1, 1, 0x94], [0, 0x94, 4, 0]] {
        let mut bytes = with_options(&recipe(BOTH[0][0], BOTH[0][1], 1000).bytes(), &options);
        let mut lens = Vec::new();
        let send = |piece: &mut [u8]| lens.push(Ipv4Packet::parse(piece).expect("a packet").options().len());
        assert_eq!(cut(&mut bytes, 500, 1, send), Ok(()));
        assert_eq!(lens, [4, 0, 0]);
    }
}

#[test]
fn n_fwd_4_a_link_without_room_for_a_piece_gets_none() {
    let mut bytes = with_options(&recipe(BOTH[0][0], BOTH[0][1], 1000).bytes(), &[1; 40]);
    assert_eq!(
        cut(&mut bytes, 67, 1, |_| panic!("nothing may be sent")),
        Err(DropReason::Mtu)
    );
    assert_eq!(cut(&mut bytes, 68, 1, |piece| assert!(piece.len() <= 68)), Ok(()));
    assert_eq!(
        cut(&mut [], 1500, 1, |_| panic!("there is nothing")),
        Err(DropReason::Mtu)
    );
}

/// The pieces of a datagram that is cut again.
pub(super) fn again(mut whole: Whole, mtu: usize, id: u32) -> Result<Vec<Vec<u8>>, DropReason> {
    let mut sent = Vec::new();
    let cut = whole.cut;
    cut.again(&mut whole.bytes, mtu, id, |piece| sent.push(piece.to_vec()))?;
    Ok(sent)
}
