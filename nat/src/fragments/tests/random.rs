use proptest::prelude::*;

use super::{cutting::again, *};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn n_fr_1_what_is_cut_again_is_the_same_packet(
        version in 0usize..2,
        len in 9usize..12_000,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
        extensions in 0u8..3,
        mtu in 1280usize..1600,
    ) {
        let [src, dst] = BOTH[version];
        let mut recipe = recipe(src, dst, len);
        let mut head = 20;
        if version == 1 {
            head = 40;
            if extensions > 0 {
                recipe = recipe.extended(0, extensions);
                head += 8 * usize::from(extensions);
            }
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(len.div_ceil(8)) * 8).collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts.retain(|&cut| cut > 0);
        prop_assume!(!cuts.is_empty());
        let pieces = cut_recipe(&recipe, head, &cuts);
        let now = Clock::new().now();
        let mut fragments = fragments();
        let mut whole = None;
        // Some in any order, repeated; then all of them until it is whole.
        for index in order.iter().map(|index| index.index(pieces.len())).chain(0..pieces.len()) {
            if whole.is_none() {
                whole = feed(&mut fragments, now, &pieces[index]).expect("a fragment");
            }
        }
        assert_is_empty(&fragments);
        let whole = whole.expect("it is whole");
        prop_assert_eq!(&whole.bytes, &recipe.bytes());
        let largest = pieces.iter().map(Vec::len).max();
        prop_assert_eq!(Some(whole.cut.largest), largest);
        let too_large = version == 1 && whole.cut.largest > mtu;
        match again(whole, mtu, ID.into()) {
            Err(reason) => prop_assert!(too_large && reason == DropReason::Mtu),
            Ok(sent) => {
                prop_assert!(!too_large);
                prop_assert!(sent.iter().all(|piece| Some(piece.len()) <= largest && piece.len() <= mtu));
                let done = feed_all(&mut fragments, &sent).expect("it is whole again");
                prop_assert_eq!(done.bytes, recipe.bytes());
                // What is cut to one size once is cut the same way ever after.
                let done = Whole { bytes: recipe.bytes(), cut: done.cut };
                prop_assert_eq!(again(done, mtu, ID.into()), Ok(sent));
            }
        }
    }

    #[test]
    fn n_fr_2_any_overlap_drops_the_datagram(
        version in 0usize..2,
        first in (1usize..400, 2usize..100),
        shift in 1usize..100,
    ) {
        let [src, dst] = BOTH[version];
        let (start, len) = (first.0 * 8, first.1 * 8);
        prop_assume!(shift < first.1);
        let at = |start: usize, end: usize| {
            let mut all = datagram(src, dst, 8192, &[start, end]).1;
            all.swap_remove(1)
        };
        let ends = datagram(src, dst, 8192, &[8, 8184]).1;
        let mut fragments = fragments();
        let now = Clock::new().now();
        let pieces = [
            at(start, start + len),
            at(start + shift * 8, start + shift * 8 + len),
            ends[0].clone(),
            ends[2].clone(),
        ];
        for (index, piece) in pieces.iter().enumerate() {
            let outcome = feed(&mut fragments, now, piece);
            prop_assert_eq!(outcome.err(), (index > 0).then_some(DropReason::FragmentOverlap));
        }
    }

    #[test]
    fn n_fr_5_memory_never_exceeds_its_limits(
        limits in (0usize..150_000, 0usize..300_000, 1usize..70, 1usize..70),
        steps in prop::collection::vec(
            (1u16..4, 0u8..4, 0u16..20, 0usize..8000, 1usize..180, any::<bool>(), 0u64..3),
            1..300,
        ),
    ) {
        let limits = FragmentLimits {
            zone_bytes: limits.0,
            total_bytes: limits.1,
            pieces: limits.2,
            per_source: limits.3,
        };
        let mut clock = Clock::new();
        let mut fragments = Fragments::new(limits, 7);
        for (zone, host, id, offset, len, more, seconds) in steps {
            clock.advance(Duration::from_secs(seconds));
            let upper = Upper::Raw(17, vec![1; (len * 8).min(65_500 - offset * 8)]);
            let recipe = Recipe {
                id,
                ..Recipe::new([10, 0, 0, host], [198, 51, 100, 2], upper)
            };
            let bytes = recipe.fragment((offset * 8) as u16, more).bytes();
            if let Ok(packet) = Packet::parse(&bytes)
                && packet.fragment.is_some()
            {
                let outcome = fragments.handle(clock.now(), Zone(zone), (&bytes, &packet), &Timeouts::standard());
                if let Ok(Some(whole)) = outcome {
                    fragments.recycle(whole.bytes);
                }
            }
            check_sums(&fragments)?;
        }
        clock.advance(Duration::from_secs(100));
        while fragments.poll_timeout().is_some() {
            fragments.handle_timeout(clock.now());
        }
        assert_is_empty(&fragments);
    }

    #[test]
    fn any_bytes_are_survived(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..20)) {
        let mut fragments = fragments();
        for mut bytes in packets {
            for version in [0x45, 0x60] {
                if let Some(first) = bytes.first_mut() {
                    *first = version;
                }
                if bytes.len() >= 20 {
                    let len = bytes.len() as u16;
                    let place = if version == 0x45 { 2 } else { 4 };
                    let len = if version == 0x45 { len } else { len.saturating_sub(40) };
                    bytes[place..place + 2].copy_from_slice(&len.to_be_bytes());
                    mend_header(&mut bytes);
                }
                survive(&mut fragments, &bytes);
            }
        }
    }
}

#[test]
fn every_sample_cut_at_every_length_is_survived() {
    let v4 = with_options(
        &datagram(BOTH[0][0], BOTH[0][1], 100, &[48]).1[0],
        &[148, 4, 0, 0],
    );
    let v6 = cut_recipe(&recipe(BOTH[1][0], BOTH[1][1], 100).extended(0, 1), 48, &[48]);
    for sample in [&v4, &v6[0], &v6[1]] {
        for len in 0..=sample.len() {
            let mut fragments = fragments();
            survive(&mut fragments, &sample[..len]);
            // And with a length that fits.
            let mut short = sample[..len].to_vec();
            match short.first().map(|byte| byte >> 4) {
                Some(4) if len >= 20 => short[2..4].copy_from_slice(&(len as u16).to_be_bytes()),
                Some(6) if len >= 40 => short[4..6].copy_from_slice(&(len as u16 - 40).to_be_bytes()),
                _ => continue,
            }
            if len >= 24 {
                mend_header(&mut short);
            }
            survive(&mut fragments, &short);
        }
        for bit in 0..sample.len().min(64) * 8 {
            let mut flipped = sample.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if flipped[0] & 0x0f >= 5 && usize::from(flipped[0] & 0x0f) * 4 <= flipped.len() {
                mend_header(&mut flipped);
            }
            survive(&mut fragments(), &flipped);
        }
    }
}

/// Takes a packet, whatever it is, also as one that is to be cut.
fn survive(fragments: &mut Fragments, bytes: &[u8]) {
    let now = Clock::new().now();
    if let Ok(Some(whole)) = feed(fragments, now, bytes) {
        assert!(Packet::parse(&whole.bytes).is_ok());
        let _ = again(whole, 100, 1);
    }
    let mut bytes = bytes.to_vec();
    let _ = cut(&mut bytes, 100, 1, |_| {});
}

/// What is counted is what there is, and within the limits.
fn check_sums(fragments: &Fragments) -> Result<(), TestCaseError> {
    let charge = |number: u32| fragments.slots[number as usize].charge();
    let all: Vec<u32> = fragments.index.iter().copied().collect();
    prop_assert_eq!(
        all.iter().map(|&number| charge(number)).sum::<usize>(),
        fragments.bytes
    );
    prop_assert!(fragments.bytes <= fragments.limits.total_bytes);
    prop_assert_eq!(all.len() + fragments.free.len(), fragments.slots.len());
    for share in fragments.zones.values() {
        let numbers: Vec<u32> = share.ages.iter(&fragments.slots, By::Zone).collect();
        prop_assert_eq!(
            numbers.iter().map(|&number| charge(number)).sum::<usize>(),
            share.bytes
        );
        prop_assert_eq!(numbers.len(), share.datagrams);
        prop_assert!(share.bytes <= fragments.limits.zone_bytes);
    }
    for share in fragments.sources.values() {
        let numbers: Vec<u32> = share.ages.iter(&fragments.slots, By::Source).collect();
        prop_assert_eq!(
            numbers.iter().map(|&number| charge(number)).sum::<usize>(),
            share.bytes
        );
        prop_assert_eq!(numbers.len(), share.datagrams);
        prop_assert!(numbers.len() <= fragments.limits.per_source);
    }
    let sources: usize = fragments.zones.values().map(|share| share.sources).sum();
    prop_assert_eq!(sources, fragments.sources.len());
    let by_version: usize = fragments
        .ages
        .iter()
        .map(|ages| ages.iter(&fragments.slots, By::Version).count())
        .sum();
    prop_assert_eq!(by_version, all.len());
    Ok(())
}
