//! N-TBL-3: who makes room for whom.

use vswitch_nat::{DropReason, Limits};

use crate::{
    packets::{ACK, RST, SYN, TCP, UDP, ends, tcp, tcp_with, udp},
    site::*,
};

#[test]
fn n_tbl_3_a_host_over_its_quota_gives_up_its_own_oldest() {
    let mut site = Site::with(|config| config.limits.per_host = 3);
    site.external((B, 5000), (S, 9));
    for port in 0..5 {
        site.external((A, 5000 + port), (S, 9));
    }
    let left: Vec<u16> = site
        .conns()
        .iter()
        .filter(|conn| conn.original.src == A.into())
        .map(|conn| conn.original.src_port)
        .collect();
    assert_eq!(left.len(), 3);
    assert!(!left.contains(&5000) && !left.contains(&5001), "{left:?}");
    assert!(site.conn(INSIDE, UDP, (B, 5000), (S, 9)).is_some());
}

#[test]
fn n_tbl_3_and_is_refused_where_all_are_assured() {
    let mut site = Site::with(|config| config.limits.per_host = 2);
    site.connect((A, 7000), (S, 80));
    site.connect((A, 7001), (S, 80));
    assert_eq!(site.refused(INSIDE, &udp((A, 5000), (S, 9))), DropReason::Quota);
}

#[test]
fn n_tbl_3_a_host_whose_only_connection_gives_way_goes_on() {
    for limits in [
        Limits {
            per_host: 1,
            ..Limits::default()
        },
        Limits {
            per_zone: 1,
            ..Limits::default()
        },
        Limits {
            connections: 1,
            ..Limits::default()
        },
    ] {
        let mut site = Site::with(|config| config.limits = limits);
        for port in 0..5 {
            // Of its own endpoint to another host, and of another endpoint.
            assert_eq!(
                site.external((A, 5000 + port), (S, 9)),
                (X, 5000 + port),
                "{limits:?}"
            );
            assert_eq!(
                site.external((A, 5000 + port), (S3, 9)),
                (X, 5000 + port),
                "{limits:?}"
            );
        }
        assert_eq!(site.conns().len(), 1, "{limits:?}");
        assert_eq!(site.nat.flush_host(site.clock.now(), INSIDE, A), 1, "{limits:?}");
        assert_eq!(site.external((B, 5004), (S, 9)), (X, 5004), "its port is free");
    }
}

#[test]
fn n_tbl_3_a_mapping_whose_connection_gave_way_to_its_next_one_has_one_owner() {
    let mut site = Site::with(|config| config.limits.per_host = 1);
    assert_eq!(site.external((A, 5000), (S, 9)), (X, 5000));
    assert_eq!(site.external((A, 5000), (S3, 9)), (X, 5000));
    assert_ne!(site.external((B, 5000), (S, 9)), (X, 5000));
    assert_ne!(site.external((C, 5000), (S3, 9)), (X, 5000));
    assert_eq!(ends(&site.back(&udp((S3, 9), (X, 5000)))).1, (A, 5000));
}

#[test]
fn n_tbl_3_in_a_full_table_whoever_has_most_makes_room() {
    let mut site = Site::with(|config| config.limits.connections = 20);
    site.external((A, 5000), (S, 9));
    for port in 0..19 {
        site.external((B, 5000 + port), (S, 9));
    }
    // A and C are below their share, B is above it.
    for port in 1..4 {
        site.external((A, 5000 + port), (S, 9));
        site.external((C, 5000 + port), (S, 9));
    }
    let of = |site: &Site, host: std::net::IpAddr| {
        let conns = site.conns();
        conns
            .iter()
            .filter(|conn| conn.original.src == host.into())
            .count()
    };
    assert_eq!((of(&site, A), of(&site, B), of(&site, C)), (4, 13, 3));
    // B makes room for itself.
    site.external((B, 6000), (S, 9));
    assert_eq!((of(&site, A), of(&site, B), of(&site, C)), (4, 13, 3));
}

#[test]
fn n_tbl_3_nobody_below_a_fair_share_makes_room() {
    let mut site = Site::with(|config| config.limits.connections = 4);
    // B has most of the table, all of it assured; A has one that is not.
    for port in 0..3 {
        site.connect((B, 7000 + port), (S, 80));
    }
    site.external((A, 5000), (S, 9));
    assert_eq!(
        site.refused(INSIDE, &udp((C, 5000), (S, 9))),
        DropReason::TableFull
    );
    assert!(site.conn(INSIDE, UDP, (A, 5000), (S, 9)).is_some());
}

#[test]
fn n_tbl_3_a_share_of_a_network_is_one_among_its_hosts() {
    let mut site = Site::with(|config| config.limits.per_zone = 20);
    let mut beside = network(OTHER);
    beside.prefixes = vec![prefix("10.0.1.0/24")];
    site.add(beside);
    // Many hosts elsewhere make no share here smaller.
    for n in 0..15 {
        site.pass(OTHER, OUTSIDE, &udp(([10, 0, 1, 10 + n].into(), 5000), (S, 9)));
    }
    site.external((A, 5000), (S, 9));
    for port in 0..19 {
        site.external((B, 5000 + port), (S, 9));
    }
    site.external((A, 5001), (S, 9));
    assert!(
        site.conn(INSIDE, UDP, (A, 5000), (S, 9)).is_some(),
        "B makes room"
    );
    assert_eq!(site.conns().len(), 35);
}

#[test]
fn n_tbl_3_whoever_has_most_is_found_among_many() {
    let mut site = Site::with(|config| config.limits.connections = 600);
    for n in 0..240 {
        site.external((host(n), 5000), (S, 9));
    }
    for port in 0..360 {
        site.external((C, 5000 + port), (S, 9));
    }
    assert_eq!(site.conns().len(), 600);
    // Each has less than two of 600.
    for n in 0..40 {
        site.external((host(n), 5001), (S, 9));
    }
    let of_c = site
        .conns()
        .iter()
        .filter(|conn| conn.original.src == C.into())
        .count();
    assert_eq!(of_c, 320, "C made room each time");
}

#[test]
fn n_tbl_3_by_the_rfcs_nobody_makes_room() {
    let mut site = Site::rfc_with(|config| config.limits.per_host = 2);
    site.external((A, 5000), (S, 9));
    site.external((A, 5001), (S, 9));
    assert_eq!(site.refused(INSIDE, &udp((A, 5002), (S, 9))), DropReason::Quota);
    assert_eq!(site.nat.counters().evicted, 0);
    assert_eq!(site.conns().len(), 2);
}

#[test]
fn n_tbl_3_thinning_out_spares_who_is_below_a_fair_share() {
    let mut site = Site::with(|config| config.limits.connections = 100);
    site.external((A, 5000), (S, 9));
    for port in 0..99 {
        site.external((B, 5000 + port), (S, 9));
    }
    site.settle(secs(2));
    assert!(site.conns().len() <= 95);
    assert!(site.conn(INSIDE, UDP, (A, 5000), (S, 9)).is_some());
}

/// 10^5 half-open connections: the reference's 10^6, scaled to what a test may take; the table is as much smaller.
#[test]
fn n_tbl_3_a_flood_of_half_open_connections_hurts_its_host_only() {
    let mut site = Site::with(|config| {
        config.limits = Limits {
            connections: 4096,
            per_zone: 4096,
            per_host: 4096,
            rate_per_host: u32::MAX,
        };
    });
    let external = site.connect((A, 7000), (S, 80));
    let servers = (0..100).map(|n| ([198, 51, 100, 100 + n].into(), 80));
    let half_open: Vec<Vec<u8>> = servers.map(|to| tcp((B, 1), to, SYN, 1, 0)).collect();
    for round in 0u32..25 {
        for n in 0..3800 {
            let flow = round * 3800 + n;
            let mut syn = half_open[flow as usize % 100].clone();
            syn[20..22].copy_from_slice(&(1024 + (flow / 100) as u16).to_be_bytes());
            site.put_vouched(INSIDE, &mut syn);
        }
        let sequence = 1001 + round * 4;
        site.out(&tcp_with((A, 7000), (S, 80), ACK, (sequence, 5001), &[], b"data"));
        site.back(&tcp((S, 80), external, ACK, 5001, sequence + 4));
        // A opens another, whose handshake takes 100 ms, in which the sweeper runs.
        let port = 8000 + round as u16;
        let syn = site.out(&tcp((A, port), (S, 80), SYN, 1000, 0));
        site.settle(millis(50));
        for n in 0u32..200 {
            let from = (B, 30_000 + n as u16);
            site.put(INSIDE, &tcp(from, (S4, 1 + round as u16), SYN, n, 0));
        }
        site.settle(millis(50));
        let answer = tcp((S, 80), ends(&syn).0, SYN | ACK, 5000, 1001);
        assert_eq!(ends(&site.back(&answer)).1, (A, port), "round {round}");
        site.out(&tcp((A, port), (S, 80), ACK, 1001, 5001));
    }
    assert!(site.nat.counters().evicted > 0);
    let assured = site.conns().iter().filter(|conn| conn.is_assured).count();
    assert_eq!(assured, 26);
    let first = site.conn(INSIDE, TCP, (A, 7000), (S, 80)).expect("it lives");
    assert_eq!(first.state, Some("ESTABLISHED"));
}

#[test]
fn n_tbl_3_what_is_over_makes_room_and_what_goes_on_does_not() {
    let mut site = Site::with(|config| config.limits.per_host = 4);
    let server = (S, 80);
    for port in 5000..5004 {
        site.connect((A, port), server);
    }
    // All four go on, so there is no room.
    let syn = tcp((A, 6000), server, SYN, 1, 0);
    assert_eq!(site.refused(INSIDE, &syn), DropReason::Quota);
    site.out(&tcp((A, 5002), server, RST, 1001, 0));
    site.connect((A, 6000), server);
    assert!(site.conn(INSIDE, TCP, (A, 5002), server).is_none(), "it was over");
    assert_eq!(site.conns().len(), 4);
}

#[test]
fn n_tbl_1_who_is_called_too_often_may_call_all_the_same() {
    let mut site = Site::with(|config| config.limits.rate_per_host = 20);
    site.publish(TCP, 8080, (B, 80));
    for port in 0..20 {
        site.put(OUTSIDE, &tcp((S, 2000 + port), (X, 8080), SYN, 1, 0));
    }
    let one_more = tcp((S, 3000), (X, 8080), SYN, 1, 0);
    assert_eq!(site.refused(OUTSIDE, &one_more), DropReason::CreationRate);
    site.out(&udp((B, 5000), (S, 53)));
}

#[test]
fn n_tbl_1_a_host_that_ends_each_connection_at_once_is_limited_all_the_same() {
    let mut site = Site::with(|config| config.limits.rate_per_host = 20);
    for port in 0..20 {
        site.out(&tcp((A, 2000 + port), (S, 80), SYN, 1, 0));
        assert!(
            site.nat
                .remove(site.clock.now(), &tuple(INSIDE, TCP, (A, 2000 + port), (S, 80)))
        );
    }
    let one_more = tcp((A, 3000), (S, 80), SYN, 1, 0);
    assert_eq!(site.refused(INSIDE, &one_more), DropReason::CreationRate);
    site.advance(std::time::Duration::from_secs(1));
    site.out(&one_more);
}
