//! §3: which external port is given.

use vswitch_nat::{
    Config, DropReason, Mapping, MappingId, Network, Outside, PortChoice, PublishError, Timer,
};
use vswitch_wire::IpProtocol;

use crate::{
    packets::{ACK, RST, SYN, TCP, UDP, ends, icmp_kind, ping, pong, quoted, raw, tcp, udp},
    site::*,
};

#[test]
fn n_port_1_the_inside_port_is_kept_where_it_is_free() {
    let mut site = Site::new();
    assert_eq!(site.external((A, 5000), (S, 53)), (X, 5000));
}

#[test]
fn n_port_2_the_class_of_the_port_is_kept() {
    for (port, class) in [
        (300, 1..=511),
        (700, 600..=1023),
        (5000, 1024..=u16::MAX),
        (550, 600..=1023),
    ] {
        let mut site = Site::new();
        for n in 0..100 {
            let (_, given) = site.external((host(n), port), (S, 9));
            assert!(class.contains(&given), "{port} became {given}");
            let is_kept = n == 0 && class.contains(&port);
            assert_eq!(given == port, is_kept, "{port} of host {n} became {given}");
        }
    }
}

#[test]
fn n_port_3_parity_and_contiguity_are_not_kept() {
    let mut site = Site::new();
    site.external((A, 5000), (S, 9));
    site.external((A, 5001), (S, 9));
    let moved: Vec<(u16, u16)> = (0..40)
        .map(|n| {
            let even = site.external((host(n), 5000), (S, 9)).1;
            (even, site.external((host(n), 5001), (S, 9)).1)
        })
        .collect();
    assert!(moved.iter().any(|(even, _)| even % 2 == 1), "{moved:?}");
    assert!(
        moved.iter().any(|(even, odd)| *odd != even.wrapping_add(1)),
        "{moved:?}"
    );
}

/// 10 000 clashes in 64 bins: χ² with 63 degrees of freedom is below 103.4 with p = 0.999.
#[test]
fn n_port_4_what_cannot_be_kept_is_chosen_uniformly() {
    let mut site = Site::bare(Config {
        mapping: Mapping::Overlapping,
        ..Config::standard(0x5eed)
    });
    site.add(Network {
        prefixes: vec![prefix("10.0.0.0/16")],
        ..network(INSIDE)
    });
    site.external((A, 5000), (S, 53));
    let clash = |n: u16| {
        let [high, low] = n.to_be_bytes();
        (std::net::IpAddr::from([10, 0, high + 1, low]), 5000)
    };
    let ports: Vec<u16> = (0..10_000).map(|n| site.external(clash(n), (S, 53)).1).collect();
    assert!(ports.iter().all(|&port| port >= 1024));
    let mut bins = [0u32; 64];
    for port in &ports {
        bins[usize::from(port - 1024) * 64 / 64_512] += 1;
    }
    let expected = ports.len() as f64 / 64.0;
    let chi: f64 = bins
        .iter()
        .map(|&count| (f64::from(count) - expected).powi(2) / expected)
        .sum();
    assert!(chi < 103.4, "χ² is {chi}: {bins:?}");
    // By chance about one pair in 32 256; of 10 000 more than four are p < 0.0001.
    let neighbours = ports
        .windows(2)
        .filter(|pair| pair[0].abs_diff(pair[1]) == 1)
        .count();
    assert!(neighbours <= 4, "{neighbours} successive ports are neighbours");
}

#[test]
fn n_port_5_random_never_keeps_and_is_stable_while_it_lives() {
    let mut site = Site::with(|config| config.port_choice = PortChoice::Random);
    let mut kept = 0;
    for n in 0..40 {
        let given = site.external((host(n), 5000), (S, 53));
        kept += u32::from(given.1 == 5000);
        assert_eq!(site.external((host(n), 5000), (S3, 9)), given);
    }
    assert!(kept <= 1, "{kept} of 40 were kept");
}

#[test]
fn n_port_5_fully_random_is_fresh_for_each_connection() {
    let mut site = Site::linux_with(|config| config.port_choice = PortChoice::FullyRandom);
    let ports: std::collections::HashSet<u16> = (0..40)
        .map(|n| site.external((A, 5000), (S, 9000 + n)).1)
        .collect();
    assert!(ports.len() > 38, "{ports:?}");
    // And the same for the packets of one.
    let first = site.external((A, 5001), (S, 53));
    assert_eq!(site.external((A, 5001), (S, 53)), first);
}

#[test]
fn n_port_6_a_range_is_honoured() {
    let mut site = Site::with(|config| config.ports = 50_000..=50_001);
    let mut given: Vec<_> = [A, B]
        .map(|inside| site.external((inside, 9100), (S, 53)).1)
        .into();
    given.sort_unstable();
    assert_eq!(given, [50_000, 50_001]);
    let (reason, _) = site.refused_aloud(INSIDE, &udp((C, 9100), (S, 53)));
    assert_eq!(reason, DropReason::PortsExhausted);
    let (reason, _) = site.refused_aloud(INSIDE, &udp((C, 9100), (S3, 53)));
    assert_eq!(
        reason,
        DropReason::PortsExhausted,
        "another destination does not help"
    );
}

#[test]
fn n_port_6_a_third_host_finds_another_destination_where_ports_overlap() {
    let mut site = Site::linux_with(|config| config.ports = 50_000..=50_001);
    for inside in [A, B] {
        site.external((inside, 9100), (S, 53));
    }
    let (reason, _) = site.refused_aloud(INSIDE, &udp((C, 9100), (S, 53)));
    assert_eq!(reason, DropReason::PortsExhausted);
    let (_, port) = site.external((C, 9100), (S3, 53));
    assert!((50_000..=50_001).contains(&port));
}

#[test]
fn n_port_6_a_range_that_runs_backwards_is_an_error() {
    let mut site = Site::new();
    let mut wrong = mapping(MappingId(1), UDP, 5000, (B, 53));
    #[allow(clippy::reversed_empty_ranges)] // It is what the test is about.
    let ports = 5001..=5000;
    wrong.ports = ports;
    let refused = site.nat.publish(wrong);
    assert!(
        matches!(
            refused,
            Err(PublishError::Ports {
                first: 5001,
                last: 5000,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn n_port_7_published_and_reserved_ports_are_not_given() {
    let mut site = Site::new();
    site.publish(UDP, 5000, (B, 53));
    site.nat.reserve(IpProtocol::UDP, 5001..=5002);
    for port in [5000, 5001, 5002] {
        let (_, given) = site.external((A, port), (S, 53));
        assert!(!(5000..=5002).contains(&given), "{port} became {given}");
    }
    // Of that protocol only.
    assert_eq!(ends(&site.out(&tcp((A, 5000), (S, 80), SYN, 1, 0))).0, (X, 5000));
    // And only for so long.
    site.nat.release(IpProtocol::UDP, 5001..=5002);
    assert_eq!(site.external((B, 5001), (S, 53)), (X, 5001));
    site.nat.unpublish(site.clock.now(), MappingId(5000));
    assert_eq!(site.external((C, 5000), (S, 53)), (X, 5000));
}

#[test]
fn n_port_7_a_port_reserved_twice_is_given_after_both_are_released() {
    let mut site = Site::new();
    site.nat.reserve(IpProtocol::UDP, 5000..=5000);
    site.nat.reserve(IpProtocol::UDP, 5000..=5000);
    site.nat.release(IpProtocol::UDP, 5000..=5000);
    assert_ne!(site.external((A, 5000), (S, 53)), (X, 5000));
    site.nat.release(IpProtocol::UDP, 5000..=5000);
    assert_eq!(site.external((B, 5000), (S, 53)), (X, 5000));
}

#[test]
fn n_port_8_a_freed_port_is_kept_from_others_for_two_minutes() {
    let mut site = Site::with(|config| config.filtering = vswitch_nat::Filtering::EndpointIndependent);
    assert_eq!(site.external((A, 5000), (S, 9)), (X, 5000));
    site.settle(secs(121));
    assert!(site.conns().is_empty());
    assert_ne!(site.external((B, 5000), (S, 9)), (X, 5000));
    // Its owner gets it back at once.
    assert_eq!(site.external((A, 5000), (S, 9)), (X, 5000));
    site.settle(secs(121));
    site.settle(secs(121));
    assert_eq!(site.external((C, 5000), (S, 9)), (X, 5000));
}

#[test]
fn n_port_8_two_minutes_after_it_was_freed_last() {
    let mut site = Site::with(|config| {
        config.filtering = vswitch_nat::Filtering::EndpointIndependent;
        config.timeouts.set(Timer::Udp, 60);
    });
    site.external((A, 5000), (S, 9));
    site.settle(secs(61));
    // Had again and freed again, a minute later.
    assert_eq!(site.external((A, 5000), (S, 9)), (X, 5000));
    site.settle(secs(61));
    site.settle(secs(66));
    // 128 s after the first time, 67 s after the second.
    assert_ne!(site.external((B, 5000), (S, 9)), (X, 5000));
}

#[test]
fn n_port_8_not_where_only_answers_come_in_and_not_of_tcp() {
    let mut site = Site::new();
    site.external((A, 5000), (S, 9));
    site.settle(secs(121));
    assert_eq!(site.external((B, 5000), (S, 9)), (X, 5000));

    let mut site = Site::with(|config| config.filtering = vswitch_nat::Filtering::EndpointIndependent);
    site.out(&tcp((A, 5000), (S, 80), SYN, 1000, 0));
    site.back(&tcp((S, 80), (X, 5000), RST | ACK, 0, 1001));
    assert!(site.conns().is_empty());
    assert_eq!(ends(&site.out(&tcp((B, 5000), (S, 80), SYN, 1, 0))).0, (X, 5000));
}

#[test]
fn n_port_9_exhaustion_is_told_and_leaves_what_is_there() {
    let mut site = Site::with(|config| config.ports = 50_000..=50_001);
    for inside in [A, B] {
        site.external((inside, 9100), (S, 53));
    }
    let (reason, error) = site.refused_aloud(INSIDE, &udp((C, 9100), (S, 53)));
    assert_eq!(reason, DropReason::PortsExhausted);
    assert_eq!(icmp_kind(&error), (3, 13));
    assert_eq!((ends(&error).0.0, ends(&error).1.0), (GATEWAY, C));
    assert_eq!(
        ends(quoted(&error)),
        ((C, 9100), (S, 53)),
        "as its sender knows it"
    );
    assert_eq!(site.dropped(DropReason::PortsExhausted), 1);
    assert_eq!(site.conns().len(), 2);
    for inside in [A, B] {
        let external = site.external((inside, 9100), (S, 53));
        assert_eq!(ends(&site.back(&udp((S, 53), external))).1, (inside, 9100));
    }
}

#[test]
fn n_port_9_a_port_that_is_given_back_is_had_again() {
    let mut site = Site::with(|config| config.ports = 50_000..=50_000);
    site.external((A, 9100), (S, 53));
    site.refused_aloud(INSIDE, &udp((B, 9100), (S, 53)));
    site.settle(secs(31));
    assert_eq!(site.external((B, 9100), (S, 53)), (X, 50_000));
}

#[test]
fn n_port_9_every_port_can_be_had() {
    let mut site = Site::with(|config| config.ports = 40_000..=40_999);
    for port in 0..1000 {
        site.external((A, 2000 + port), (S, 53));
    }
    let (reason, _) = site.refused_aloud(INSIDE, &udp((A, 3000), (S, 53)));
    assert_eq!(reason, DropReason::PortsExhausted);
}

fn with_two_addresses(change: impl FnOnce(&mut Config)) -> Site {
    let mut site = Site::with(change);
    let both = Outside {
        addresses: vec![X, X2],
        ..outside()
    };
    site.nat.set_outside(site.clock.now(), both);
    site
}

#[test]
fn n_port_10_a_host_has_one_external_address() {
    let mut site = with_two_addresses(|_| {});
    let mut used = std::collections::HashSet::new();
    for n in 0..6 {
        let (address, _) = site.external((host(n), 5000), (S, 53));
        used.insert(address);
        assert_eq!(site.external((host(n), 5001), (S3, 9)).0, address);
        assert_eq!(
            ends(&site.out(&tcp((host(n), 80), (S, 80), SYN, 1, 0))).0.0,
            address
        );
        assert_eq!(ends(&site.out(&ping(host(n), S, 3))).0.0, address);
    }
    assert_eq!(used.len(), 2, "both addresses are used");
}

#[test]
fn n_port_10_also_of_sessions_without_ports() {
    let mut site = with_two_addresses(|_| {});
    assert_eq!(site.out(&raw(A, S, 50, &[0; 16]))[12..16], [198, 51, 100, 1]);
    // Now the other address has fewer mappings.
    site.external((B, 5000), (S, 53));
    assert_eq!(site.external((A, 5000), (S, 53)).0, X);
}

#[test]
fn n_port_10_a_full_address_is_not_left() {
    let mut site = with_two_addresses(|config| config.ports = 50_000..=50_000);
    let (address, _) = site.external((A, 1), (S, 53));
    let (reason, _) = site.refused_aloud(INSIDE, &udp((A, 2), (S, 53)));
    assert_eq!(reason, DropReason::PortsExhausted);
    assert_ne!(site.external((B, 1), (S, 53)).0, address);
}

#[test]
fn n_port_11_identifiers_of_queries_are_ports_without_classes() {
    let mut site = Site::new();
    assert_eq!(ends(&site.out(&ping(A, S, 77))).0, (X, 77));
    let moved = ends(&site.out(&ping(B, S, 77))).0.1;
    assert_ne!(moved, 77);
    assert_eq!(ends(&site.back(&pong(S, X, 77))).1, (A, 77));
    assert_eq!(ends(&site.back(&pong(S, X, moved))).1, (B, 77));
    // 0 is one as good as any other.
    assert_eq!(ends(&site.out(&ping(C, S, 0))).0, (X, 0));
    let given: Vec<u16> = (0..40)
        .map(|n| ends(&site.out(&ping(host(n), S, 77))).0.1)
        .collect();
    assert!(given.iter().any(|&id| id > 1024), "{given:?}");
}

#[test]
fn n_port_12_protocols_have_ports_of_their_own() {
    let mut site = Site::new();
    assert_eq!(site.external((A, 5000), (S, 53)), (X, 5000));
    assert_eq!(ends(&site.out(&tcp((B, 5000), (S, 80), SYN, 1, 0))).0, (X, 5000));
    assert_eq!(ends(&site.out(&ping(C, S, 5000))).0, (X, 5000));
}

#[test]
fn n_port_13_port_0_is_dropped() {
    let mut site = Site::new();
    site.publish(UDP, 5353, (B, 53));
    site.publish(TCP, 8080, (B, 80));
    for packet in [
        udp((A, 0), (S, 53)),
        udp((A, 5000), (S, 0)),
        tcp((A, 0), (S, 80), SYN, 1, 0),
        tcp((A, 5000), (S, 0), SYN, 1, 0),
    ] {
        assert_eq!(site.refused(INSIDE, &packet), DropReason::ZeroPort);
    }
    for packet in [udp((S, 0), (X, 5353)), tcp((S, 0), (X, 8080), SYN, 1, 0)] {
        assert_eq!(site.refused(OUTSIDE, &packet), DropReason::ZeroPort);
    }
}
