use super::*;

#[test]
fn n_fr_5_a_flood_of_one_source_costs_another_nothing() {
    // The reference has a million; what is 20 000 deep in a flood is a million deep, too.
    let now = Clock::new().now();
    let mut flood = Flood::new(BOTH[0][0], 1480);
    let mut fragments = fragments();
    let (whole, pieces) = datagram("10.0.0.3", BOTH[0][1], 8000, &[1480, 2960, 4440, 5920, 7400]);
    for round in 0..100 {
        for piece in &pieces[..3] {
            assert!(matches!(feed(&mut fragments, now, piece), Ok(None)));
        }
        for _ in 0..200 {
            assert!(matches!(
                feed(&mut fragments, now, flood.next_fragment()),
                Ok(None)
            ));
            assert!(fragments.bytes <= fragments.limits.zone_bytes);
        }
        let done = feed_all(&mut fragments, &pieces[3..]).map(|done| done.bytes);
        assert_eq!(done.as_ref(), Some(&whole), "round {round}");
    }
    assert!(fragments.slots.len() <= 65, "{}", fragments.slots.len());
}

#[test]
fn n_fr_5_a_source_has_at_most_64_datagrams_and_loses_its_oldest() {
    let now = Clock::new().now();
    let mut fragments = Fragments::new(
        FragmentLimits {
            zone_bytes: 16 << 20,
            total_bytes: 16 << 20,
            ..FragmentLimits::default()
        },
        7,
    );
    let mut flood = Flood::new(BOTH[0][0], 64);
    let sent: Vec<Vec<u8>> = (0..65).map(|_| flood.next_fragment().to_vec()).collect();
    for piece in &sent {
        assert!(matches!(feed(&mut fragments, now, piece), Ok(None)));
    }
    assert_eq!((fragments.index.len(), fragments.lost().evicted), (64, 1));
    let last = |of: &[u8]| {
        let mut last = of.to_vec();
        // Behind the first, and the last: offset 64, no more.
        last[6..8].copy_from_slice(&8u16.to_be_bytes());
        mend_header(&mut last);
        last
    };
    assert!(matches!(feed(&mut fragments, now, &last(&sent[1])), Ok(Some(_))));
    assert!(
        matches!(feed(&mut fragments, now, &last(&sent[0])), Ok(None)),
        "it is gone"
    );
}

#[test]
fn n_fr_5_a_datagram_has_at_most_64_pieces() {
    let now = Clock::new().now();
    for (pieces_max, sent_before) in [(64, 64), (1000, 64), (3, 3)] {
        let mut fragments = Fragments::new(
            FragmentLimits {
                pieces: pieces_max,
                ..FragmentLimits::default()
            },
            7,
        );
        let mut flood = Flood::new(BOTH[0][0], 8);
        let mut tiny = flood.next_fragment().to_vec();
        for index in 0..=sent_before {
            tiny[6..8].copy_from_slice(&(0x2000 | (2 * index as u16)).to_be_bytes());
            mend_header(&mut tiny);
            let outcome = feed(&mut fragments, now, &tiny);
            assert_eq!(
                outcome.err(),
                (index == sent_before).then_some(DropReason::FragmentsFull),
                "{index} of {pieces_max}"
            );
        }
        // Nothing more of it comes in, until its time is over.
        assert_eq!(
            feed(&mut fragments, now, &tiny).err(),
            Some(DropReason::FragmentOverlap)
        );
        assert_eq!(fragments.bytes, OVERHEAD);
    }
}

#[test]
fn n_fr_5_a_full_zone_costs_others_nothing() {
    // Sources as many as there are addresses, each with one fragment, from two zones that exceed what there is.
    let now = Clock::new().now();
    let limits = FragmentLimits {
        total_bytes: 3 << 20,
        ..FragmentLimits::default()
    };
    let mut fragments = Fragments::new(limits, 7);
    let timeouts = Timeouts::standard();
    let (whole, pieces) = datagram(BOTH[0][0], BOTH[0][1], 3000, &[1480]);
    let packets: Vec<Packet> = pieces
        .iter()
        .map(|piece| Packet::parse(piece).expect("a packet"))
        .collect();
    let outcome = fragments.handle(now, Zone(9), (&pieces[0], &packets[0]), &timeouts);
    assert!(matches!(outcome, Ok(None)));
    for number in 0..2000u16 {
        let [a, b] = number.to_be_bytes();
        let mut flood = Flood::new(&format!("10.1.{a}.{b}"), 1480);
        let bytes = flood.next_fragment();
        let packet = Packet::parse(bytes).expect("a packet");
        for zone in 1..=4 {
            let outcome = fragments.handle(now, Zone(zone), (bytes, &packet), &timeouts);
            assert!(matches!(outcome, Ok(None)), "{outcome:?}");
        }
        assert!(fragments.bytes <= limits.total_bytes);
    }
    let done = fragments.handle(now, Zone(9), (&pieces[1], &packets[1]), &timeouts);
    assert_eq!(done.ok().flatten().map(|done| done.bytes), Some(whole));
}

#[test]
fn n_fr_5_many_who_flood_pay_before_one_who_does_not() {
    let now = Clock::new().now();
    let mut fragments = fragments();
    let mut floods: Vec<Flood> = (10..20)
        .map(|host| Flood::new(&format!("10.0.0.{host}"), 1480))
        .collect();
    let (whole, pieces) = datagram("10.0.0.3", BOTH[0][1], 3000, &[1480]);
    for _ in 0..50 {
        assert!(matches!(feed(&mut fragments, now, &pieces[0]), Ok(None)));
        for flood in &mut floods {
            for _ in 0..40 {
                assert!(matches!(
                    feed(&mut fragments, now, flood.next_fragment()),
                    Ok(None)
                ));
            }
        }
        let done = feed(&mut fragments, now, &pieces[1]);
        assert_eq!(done.ok().flatten().map(|done| done.bytes).as_ref(), Some(&whole));
    }
}

#[test]
fn n_fr_5_what_can_never_fit_is_refused() {
    let now = Clock::new().now();
    for limits in [
        FragmentLimits {
            total_bytes: 0,
            ..FragmentLimits::default()
        },
        FragmentLimits {
            zone_bytes: 100,
            ..FragmentLimits::default()
        },
        FragmentLimits {
            per_source: 0,
            ..FragmentLimits::default()
        },
        FragmentLimits {
            zone_bytes: OVERHEAD + 8192,
            ..FragmentLimits::default()
        },
    ] {
        let mut fragments = Fragments::new(limits, 7);
        let (_, pieces) = datagram(BOTH[0][0], BOTH[0][1], 20_000, &[16_000]);
        assert_eq!(
            feed(&mut fragments, now, &pieces[0]).err(),
            Some(DropReason::FragmentsFull)
        );
        assert_is_empty(&fragments);
    }
}

#[test]
fn buffers_and_slots_are_used_again() {
    let now = Clock::new().now();
    let mut fragments = fragments();
    let mut memory = None;
    for round in 0..1000 {
        let (_, pieces) = datagram(
            BOTH[round % 2][0],
            BOTH[round % 2][1],
            4300 + round,
            &[1400, 2800, 4200],
        );
        let now = now + Duration::from_secs(round as u64);
        let mut done = None;
        for piece in &pieces {
            done = feed(&mut fragments, now, piece).expect("nothing is wrong with it");
        }
        let mut done = done.expect("it is whole");
        let cut = done.cut;
        assert_eq!(cut.again(&mut done.bytes, 1500, 1, |_| {}), Ok(()));
        let address = done.bytes.as_ptr();
        fragments.recycle(done.bytes);
        assert_eq!(*memory.get_or_insert(address), address, "round {round}");
        assert_eq!((fragments.slots.len(), fragments.spare.len()), (1, 1));
    }
    assert_is_empty(&fragments);
}

/// First fragments of `len` bytes, each with an id of its own.
pub(super) struct Flood {
    fragment: Vec<u8>,
    id: u16,
}

impl Flood {
    pub(super) fn new(src: &str, len: usize) -> Self {
        let upper = Upper::Raw(17, vec![0x5a; len]);
        let recipe = Recipe::new(address(src), address(BOTH[0][1]), upper);
        Self {
            fragment: recipe.fragment(0, true).bytes(),
            id: 0,
        }
    }

    pub(super) fn next_fragment(&mut self) -> &[u8] {
        // Odd, so that all come; far apart, as if at random.
        self.id = self.id.wrapping_add(0x9e37);
        self.fragment[4..6].copy_from_slice(&self.id.to_be_bytes());
        mend_header(&mut self.fragment);
        &self.fragment
    }
}
