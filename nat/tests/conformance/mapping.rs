//! §3: who has which external end.

use vswitch_nat::DropReason;

use crate::{
    packets::{SYN, ends, ping, tcp, udp},
    site::*,
};

#[test]
fn n_map_1_one_mapping_towards_all_destinations() {
    let mut site = Site::new();
    let first = site.external((A, 5000), (S, 53));
    assert_eq!(site.external((A, 5000), (S3, 53)), first);
    assert_eq!(site.external((A, 5000), (S, 54)), first);
}

#[test]
fn n_map_1_also_of_a_port_that_could_not_be_kept() {
    let mut site = Site::new();
    site.external((A, 5000), (S, 53));
    let moved = site.external((B, 5000), (S, 53));
    assert_ne!(moved, (X, 5000));
    assert_eq!(site.external((B, 5000), (S3, 9)), moved);
}

#[test]
fn n_map_1_of_tcp_and_of_queries() {
    let mut site = Site::new();
    site.out(&tcp((A, 5000), (S, 80), SYN, 1, 0));
    site.out(&ping(A, S, 77));
    let moved = ends(&site.out(&tcp((B, 5000), (S, 80), SYN, 1, 0))).0;
    assert_eq!(ends(&site.out(&tcp((B, 5000), (S3, 81), SYN, 1, 0))).0, moved);
    let moved = ends(&site.out(&ping(B, S, 77))).0;
    assert_eq!(ends(&site.out(&ping(B, S3, 77))).0, moved);
}

#[test]
fn n_map_2_overlapping_shares_a_port_towards_different_destinations() {
    let mut site = Site::linux();
    assert_eq!(site.external((A, 5000), (S, 53)), (X, 5000));
    assert_eq!(site.external((B, 5000), (S3, 53)), (X, 5000));
    let moved = site.external((C, 5000), (S, 53));
    assert_ne!(moved, (X, 5000), "that tuple is A's");
    assert_eq!(site.external((C, 5000), (S4, 53)), moved, "its own mapping first");
}

#[test]
fn n_map_2_answers_to_a_shared_port_find_their_hosts() {
    let mut site = Site::linux();
    site.external((A, 5000), (S, 53));
    site.external((B, 5000), (S3, 53));
    assert_eq!(ends(&site.back(&udp((S, 53), (X, 5000)))).1, (A, 5000));
    assert_eq!(ends(&site.back(&udp((S3, 53), (X, 5000)))).1, (B, 5000));
}

#[test]
fn n_map_3_endpoint_independent_ports_have_one_owner() {
    let mut site = Site::with(|config| config.ports = 50_000..=50_003);
    let mut owned: Vec<u16> = (0..4)
        .map(|n| site.external((host(n), 9100), (S, 53)).1)
        .collect();
    owned.sort_unstable();
    assert_eq!(owned, [50_000, 50_001, 50_002, 50_003]);
    // Another destination makes no room: there is no overlap even where ports run out.
    let (reason, _) = site.refused_aloud(INSIDE, &udp((host(4), 9100), (S3, 53)));
    assert_eq!(reason, DropReason::PortsExhausted);
}

#[test]
fn n_map_3_overlapping_goes_beyond_the_ports() {
    let mut site = Site::linux_with(|config| config.ports = 50_000..=50_001);
    for n in 0..2 {
        site.external((host(n), 9100), (S, 53));
        site.external((host(n), 9100), (S3, 53));
        site.external((host(n + 2), 9100), (S4, 53));
    }
    assert_eq!(site.conns().len(), 6);
}

#[test]
fn n_map_4_no_two_hosts_have_one_external_end() {
    let mut site = Site::new();
    let mut seen = std::collections::HashMap::new();
    for n in 0..40 {
        for port in [5000, 5001, 700, 300] {
            let inside = (host(n), port);
            let external = site.external(inside, (S, 53));
            assert_eq!(seen.insert(external, inside), None, "{external:?} twice");
        }
    }
}

#[test]
fn n_map_4_nor_one_reply_tuple_where_they_overlap() {
    let mut site = Site::linux();
    let mut seen = std::collections::HashSet::new();
    for n in 0..40 {
        for to in [(S, 53), (S3, 53), (S, 54)] {
            let external = site.external((host(n), 5000), to);
            assert!(seen.insert((external, to)), "{external:?} to {to:?} twice");
        }
    }
}
