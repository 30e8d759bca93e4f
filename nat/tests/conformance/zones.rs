//! N-TBL-6, N-FWD-11: networks beside each other.

use vswitch_nat::{AddNetworkError, DropReason, Egress, Network, Verdict, Zone};

use crate::{
    packets::{SYN, TCP, UDP, ends, error, ping, pong, tcp, udp},
    site::*,
};

fn beside(prefix: &str) -> Network {
    Network {
        prefixes: vec![crate::site::prefix(prefix)],
        ..network(OTHER)
    }
}

#[test]
fn n_tbl_6_equal_addresses_in_two_networks_are_two_hosts() {
    let mut site = Site::new();
    site.add(network(OTHER));
    let packet = udp((A, 5000), (S, 53));
    let first = ends(&site.pass(INSIDE, OUTSIDE, &packet)).0;
    let second = ends(&site.pass(OTHER, OUTSIDE, &packet)).0;
    assert_ne!(first, second);
    assert_eq!(
        ends(&site.pass(OUTSIDE, INSIDE, &udp((S, 53), first))).1,
        (A, 5000)
    );
    assert_eq!(
        ends(&site.pass(OUTSIDE, OTHER, &udp((S, 53), second))).1,
        (A, 5000)
    );
    assert!(site.conn(INSIDE, UDP, (A, 5000), (S, 53)).is_some());
    assert!(site.conn(OTHER, UDP, (A, 5000), (S, 53)).is_some());
    // Flushing one leaves the other.
    assert_eq!(site.nat.flush_host(site.clock.now(), INSIDE, A), 1);
    assert_eq!(site.only().original.zone, OTHER);
}

#[test]
fn n_tbl_6_also_of_queries_and_tcp() {
    let mut site = Site::new();
    site.add(network(OTHER));
    let first = ends(&site.pass(INSIDE, OUTSIDE, &ping(A, S, 77))).0.1;
    let second = ends(&site.pass(OTHER, OUTSIDE, &ping(A, S, 77))).0.1;
    assert_ne!(first, second);
    assert_eq!(ends(&site.pass(OUTSIDE, OTHER, &pong(S, X, second))).1, (A, 77));
    let syn = tcp((A, 5000), (S, 80), SYN, 1, 0);
    let first = ends(&site.pass(INSIDE, OUTSIDE, &syn)).0;
    assert_ne!(ends(&site.pass(OTHER, OUTSIDE, &syn)).0, first);
}

#[test]
fn n_tbl_6_networks_do_not_reach_each_other() {
    let mut site = Site::new();
    site.add(beside("10.0.1.0/24"));
    let there = [10, 0, 1, 2].into();
    assert_eq!(
        site.refused(INSIDE, &udp((A, 5000), (there, 53))),
        DropReason::Isolated
    );
    assert_eq!(
        site.refused(OTHER, &udp((there, 5000), (A, 53))),
        DropReason::Isolated
    );
}

#[test]
fn n_tbl_6_but_by_a_published_port() {
    let mut site = Site::new();
    site.add(beside("10.0.1.0/24"));
    site.publish(TCP, 8080, (B, 80));
    let there = ([10, 0, 1, 2].into(), 1111);
    let syn = site.pass(OTHER, INSIDE, &tcp(there, (X, 8080), SYN, 1, 0));
    assert_eq!(ends(&syn).1, (B, 80));
    let shown = ends(&syn).0;
    let answer = site.pass(INSIDE, OTHER, &tcp((B, 80), shown, SYN | 16, 1, 2));
    assert_eq!(ends(&answer), ((X, 8080), there));
}

#[test]
fn n_tbl_9_what_others_have_to_a_network_goes_with_it() {
    let mut site = Site::with(|config| config.filtering = vswitch_nat::Filtering::EndpointIndependent);
    site.add(beside("10.0.1.0/24"));
    let there = ([10, 0, 1, 2].into(), 1111);
    let id = site.publish(UDP, 5353, (B, 53));
    site.pass(OTHER, INSIDE, &udp(there, (X, 5353)));
    site.nat.withdraw(id);
    let shown = ends(&site.pass(INSIDE, OUTSIDE, &udp((A, 5000), (S, 9)))).0;
    site.pass(OTHER, INSIDE, &udp(there, shown));
    site.pass(OTHER, OUTSIDE, &udp(there, (S, 9)));
    assert_eq!(site.conns().len(), 4);
    site.nat.remove_network(site.clock.now(), INSIDE);
    assert_eq!(site.only().reply.zone, OUTSIDE);
    // Nothing of it leads into the next network of that number.
    site.add(network(INSIDE));
    assert_eq!(site.put(OTHER, &udp(there, (X, 5353))).verdict, Verdict::Local);
    assert_eq!(site.put(OTHER, &udp(there, shown)).verdict, Verdict::Local);
}

#[test]
fn n_tbl_6_numbers_of_networks() {
    let mut site = Site::new();
    assert_eq!(
        site.nat.add_network(network(INSIDE)),
        Err(AddNetworkError::Exists(INSIDE))
    );
    assert_eq!(
        site.nat.add_network(network(OUTSIDE)),
        Err(AddNetworkError::Outside)
    );
    assert_eq!(
        site.refused(Zone(7), &udp((A, 5000), (S, 53))),
        DropReason::NoRoute
    );
}

#[test]
fn n_fwd_11_a_source_that_is_not_the_networks_is_spoofed() {
    let mut site = Site::new();
    site.add(beside("10.0.1.0/24"));
    let foreign = [192, 0, 2, 9].into();
    for src in [foreign, S, [10, 0, 1, 2].into()] {
        for packet in [
            udp((src, 5000), (S3, 53)),
            tcp((src, 5000), (S3, 80), SYN, 1, 0),
            ping(src, S3, 7),
        ] {
            assert_eq!(site.refused(INSIDE, &packet), DropReason::Spoofed, "{src}");
        }
    }
}

#[test]
fn n_fwd_11_nor_may_an_error_have_one() {
    let mut site = Site::with_network(|network| network.egress = Egress::Routed { open: true });
    let asked = site.back(&udp((S, 4000), (A, 53)));
    let spoofed = error([192, 0, 2, 9].into(), S, (3, 3), [0; 4], &asked[..28]);
    assert_eq!(site.refused(INSIDE, &spoofed), DropReason::Spoofed);
    let own = error(A, S, (3, 3), [0; 4], &asked[..28]);
    assert_eq!(site.out(&own)[12..16], [10, 0, 0, 2]);
    // Another host of the network may be a router.
    let neighbour = error(B, S, (3, 3), [0; 4], &asked[..28]);
    assert_eq!(site.put(INSIDE, &neighbour).verdict, Verdict::Forward(OUTSIDE));
}

#[test]
fn n_fwd_12_an_inside_source_does_not_come_from_outside() {
    let mut site = Site::new();
    site.publish(UDP, 5353, (B, 53));
    assert_eq!(
        site.refused(OUTSIDE, &udp((A, 4000), (X, 5353))),
        DropReason::Spoofed
    );
    let asked = site.out(&udp((A, 5000), (S, 53)));
    let spoofed = error(C, X, (3, 3), [0; 4], &asked[..28]);
    assert_eq!(site.refused(OUTSIDE, &spoofed), DropReason::Spoofed);
}
