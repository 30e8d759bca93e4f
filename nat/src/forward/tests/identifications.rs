use std::collections::HashSet;

use super::*;

fn outside(host: u8) -> Address {
    Address::v4([198, 51, 100, host])
}

#[test]
fn n_fr_8_hosts_that_share_an_address_never_share_an_identification() {
    // Two hosts behind one address, in turn: to the peer they are one sender.
    let mut ids = Identifications::new(7);
    let drawn: Vec<u32> = (0..65_536)
        .map(|_| ids.next(outside(1), outside(2), 17, IpVersion::V4))
        .collect();
    let different: HashSet<u32> = drawn.iter().copied().collect();
    assert_eq!(different.len(), 65_536, "all 16 bits before the first again");
    assert!(drawn.iter().all(|&id| id <= 0xffff));
}

#[test]
fn n_fr_8_others_in_between_make_no_repetition() {
    let mut ids = Identifications::new(7);
    let mut seen = HashSet::new();
    for index in 0..20_000u32 {
        let [a, b, c, d] = index.to_be_bytes();
        let _ = ids.next(outside(1), Address::v4([9 + a, b, c, d]), 17, IpVersion::V4);
        assert!(seen.insert(ids.next(outside(1), outside(2), 17, IpVersion::V4)));
    }
}

#[test]
fn n_fr_8_the_start_depends_on_seed_addresses_and_protocol() {
    let start = |seed, dst, protocol| {
        let mut ids = Identifications::new(seed);
        ids.next(outside(1), outside(dst), protocol, IpVersion::V6)
    };
    let starts: HashSet<u32> = (0..40)
        .flat_map(|seed| [start(seed, 2, 17), start(seed, 3, 17), start(seed, 2, 6)])
        .collect();
    assert_eq!(starts.len(), 120);
    assert_eq!(start(1, 2, 17), start(1, 2, 17));
}
