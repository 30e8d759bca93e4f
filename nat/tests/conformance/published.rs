//! §12: published ports and hairpin.

use vswitch_nat::{DropReason, Filtering, HairpinSource, MappingId, PortMapping, PublishError, Verdict};
use vswitch_wire::IpProtocol;

use crate::{
    packets::{ACK, ICMP, SYN, TCP, UDP, dst, ends, src, tcp, udp, with_ttl},
    site::*,
};

#[test]
fn n_dn_1_a_published_port_leads_inside_and_its_answers_out() {
    let mut site = Site::new();
    let id = site.publish(TCP, 8080, (B, 80));
    let client = (S, 3333);
    assert_eq!(
        ends(&site.back(&tcp(client, (X, 8080), SYN, 1, 0))),
        (client, (B, 80))
    );
    assert_eq!(
        ends(&site.out(&tcp((B, 80), client, SYN | ACK, 1, 2))),
        ((X, 8080), client)
    );
    assert_eq!(site.only().mapping, Some(id));
    // Not other ports, nor other protocols.
    assert_eq!(
        site.refused(OUTSIDE, &tcp(client, (X, 8081), SYN, 1, 0)),
        DropReason::Unsolicited
    );
    assert_eq!(
        site.refused(OUTSIDE, &udp(client, (X, 8080))),
        DropReason::Unsolicited
    );
}

#[test]
fn n_dn_1_of_one_external_address_only() {
    let mut site = Site::new();
    let both = vswitch_nat::Outside {
        addresses: vec![X, X2, X6],
        ..outside()
    };
    site.nat.set_outside(site.clock.now(), both);
    let one = PortMapping {
        external: Some(X2),
        ..mapping(MappingId(1), TCP, 8080, (B, 80))
    };
    site.nat.publish(one).expect("a mapping");
    assert_eq!(
        site.refused(OUTSIDE, &tcp((S, 1), (X, 8080), SYN, 1, 0)),
        DropReason::Unsolicited
    );
    assert_eq!(ends(&site.back(&tcp((S, 1), (X2, 8080), SYN, 1, 0))).1, (B, 80));
    // The same port of the other address leads elsewhere.
    let other = PortMapping {
        external: Some(X),
        ..mapping(MappingId(2), TCP, 8080, (C, 80))
    };
    site.nat.publish(other).expect("another");
    assert_eq!(ends(&site.back(&tcp((S, 2), (X, 8080), SYN, 1, 0))).1, (C, 80));
}

#[test]
fn n_dn_2_hairpin_shows_the_callers_external_end() {
    let mut site = Site::new();
    site.publish(TCP, 8080, (B, 80));
    let syn = site.turn(&tcp((A, 1111), (X, 8080), SYN, 1, 0));
    assert_eq!(ends(&syn), ((X, 1111), (B, 80)));
    let answer = site.turn(&tcp((B, 80), (X, 1111), SYN | ACK, 9, 2));
    assert_eq!(ends(&answer), ((X, 8080), (A, 1111)), "A never sees B");
    // It is the mapping that the outside sees.
    assert_eq!(ends(&site.out(&tcp((A, 1111), (S, 80), SYN, 1, 0))).0, (X, 1111));
}

#[test]
fn n_dn_2_or_the_gateways_address() {
    let mut site = Site::with(|config| config.hairpin = HairpinSource::Gateway);
    site.publish(TCP, 8080, (B, 80));
    let syn = site.turn(&tcp((A, 1111), (X, 8080), SYN, 1, 0));
    assert_eq!(ends(&syn), ((GATEWAY, 1111), (B, 80)));
    let other = site.turn(&tcp((C, 1111), (X, 8080), SYN, 1, 0));
    let shown = ends(&other).0;
    assert!(shown.0 == GATEWAY && shown.1 != 1111, "{shown:?}");
    for (shown, caller) in [((GATEWAY, 1111), A), (shown, C)] {
        let answer = site.turn(&tcp((B, 80), shown, SYN | ACK, 9, 2));
        assert_eq!(ends(&answer), ((X, 8080), (caller, 1111)));
    }
}

#[test]
fn n_dn_3_a_host_calls_its_own_published_port() {
    for source in [HairpinSource::External, HairpinSource::Gateway] {
        let mut site = Site::with(|config| config.hairpin = source);
        site.publish(TCP, 8080, (B, 80));
        let syn = site.turn(&tcp((B, 1111), (X, 8080), SYN, 1, 0));
        assert_eq!(dst(&syn), B);
        assert_ne!(src(&syn), B);
        let answer = site.turn(&tcp((B, 80), ends(&syn).0, SYN | ACK, 9, 2));
        assert_eq!(ends(&answer), ((X, 8080), (B, 1111)));
    }
}

#[test]
fn n_dn_4_what_would_be_turned_back_twice_is_dropped() {
    let mut site = Site::new();
    site.publish(UDP, 8080, (X, 8081));
    site.publish(UDP, 8081, (X, 8080));
    assert_eq!(site.refused(INSIDE, &udp((A, 1111), (X, 8080))), DropReason::Loop);
    // Hops are taken, too, so that no loop beyond the engine lives.
    site.publish(UDP, 9090, (B, 90));
    let verdict = site.put(INSIDE, &with_ttl(udp((A, 1111), (X, 9090)), 1)).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::TimeExceeded));
}

#[test]
fn n_dn_4_nor_does_it_come_in_to_an_external_address() {
    let mut site = Site::new();
    site.publish(UDP, 8080, (X, 8081));
    assert_eq!(
        site.refused(OUTSIDE, &udp((S, 1111), (X, 8080))),
        DropReason::Loop
    );
}

#[test]
fn n_dn_5_the_decision_sticks_and_a_publication_that_goes_ends_its_sessions() {
    let mut site = Site::new();
    let first = site.publish(UDP, 5353, (B, 53));
    let asked = udp((S, 4000), (X, 5353));
    for _ in 0..3 {
        assert_eq!(ends(&site.back(&asked)).1, (B, 53));
        site.settle(secs(1));
    }
    site.nat.unpublish(site.clock.now(), first);
    assert_eq!(site.refused(OUTSIDE, &asked), DropReason::Unsolicited);
    assert_eq!(site.refused_answer(), DropReason::Invalid);
    site.publish(UDP, 5353, (C, 53));
    site.settle(secs(1));
    assert_eq!(ends(&site.back(&asked)).1, (C, 53));
}

#[test]
fn n_dn_5_a_publication_may_be_withdrawn_without_its_sessions() {
    let mut site = Site::new();
    let id = site.publish(UDP, 5353, (B, 53));
    let asked = udp((S, 4000), (X, 5353));
    site.back(&asked);
    assert!(site.nat.withdraw(id));
    assert!(!site.nat.withdraw(id));
    assert_eq!(site.nat.mappings().count(), 0);
    assert_eq!(
        site.refused(OUTSIDE, &udp((S, 4001), (X, 5353))),
        DropReason::Unsolicited
    );
    assert_eq!(ends(&site.back(&asked)).1, (B, 53));
    assert_eq!(ends(&site.out(&udp((B, 53), (S, 4000)))).0, (X, 5353));
    // Name and port are free, and who has them next has sessions of its own.
    site.publish(UDP, 5353, (C, 53));
    assert_eq!(ends(&site.back(&asked)).1, (B, 53));
    assert_eq!(ends(&site.back(&udp((S, 4001), (X, 5353)))).1, (C, 53));
    site.nat.unpublish(site.clock.now(), id);
    assert_eq!(site.only().reply.src, B.into());
}

#[test]
fn n_dn_5_a_new_publication_does_not_move_a_session() {
    let mut site = Site::new();
    site.external((A, 5353), (S, 4000));
    site.publish(UDP, 5353, (B, 53));
    assert_eq!(ends(&site.back(&udp((S, 4000), (X, 5353)))).1, (A, 5353));
    assert_eq!(ends(&site.back(&udp((S, 4001), (X, 5353)))).1, (B, 53));
}

#[test]
fn n_dn_6_two_ports_that_lead_to_one_place_do_not_meet() {
    let mut site = Site::new();
    site.publish(UDP, 8080, (B, 80));
    site.publish(UDP, 8081, (B, 80));
    let client = (S, 4000);
    let first = site.back(&udp(client, (X, 8080)));
    let second = site.back(&udp(client, (X, 8081)));
    assert_eq!(ends(&first), (client, (B, 80)));
    let moved = ends(&second).0;
    assert!(moved.0 == S && moved.1 != 4000, "{moved:?}");
    assert_eq!(ends(&site.out(&udp((B, 80), client))), ((X, 8080), client));
    assert_eq!(ends(&site.out(&udp((B, 80), moved))), ((X, 8081), client));
}

#[test]
fn n_dn_6_nor_with_what_the_target_began_itself() {
    let mut site = Site::new();
    site.publish(UDP, 8080, (B, 80));
    site.external((B, 80), (S, 4000));
    let moved = ends(&site.back(&udp((S, 4000), (X, 8080)))).0;
    assert_ne!(moved, (S, 4000));
    assert_eq!(ends(&site.out(&udp((B, 80), moved))), ((X, 8080), (S, 4000)));
    assert_eq!(ends(&site.out(&udp((B, 80), (S, 4000)))).0, (X, 80));
}

#[test]
fn n_dn_1_of_a_routed_network_too() {
    let mut site = Site::with_network(|network| {
        network.egress = vswitch_nat::Egress::Routed { open: false };
    });
    site.publish(TCP, 8080, (B, 80));
    let client = (S, 3333);
    assert_eq!(
        ends(&site.back(&tcp(client, (X, 8080), SYN, 1, 0))),
        (client, (B, 80))
    );
    assert_eq!(
        ends(&site.out(&tcp((B, 80), client, SYN | ACK, 1, 2))),
        ((X, 8080), client)
    );
    // A neighbour is shown as the gateway, having no external end.
    let syn = site.turn(&tcp((A, 1111), (X, 8080), SYN, 1, 0));
    assert_eq!(ends(&syn), ((GATEWAY, 1111), (B, 80)));
}

#[test]
fn n_dn_7_ranges_lead_port_by_port() {
    let mut site = Site::new();
    let range = PortMapping {
        ports: 7000..=7009,
        target_port: 9000,
        ..mapping(MappingId(1), UDP, 7000, (B, 9000))
    };
    site.nat.publish(range).expect("a range");
    for offset in 0..10 {
        let left = site.back(&udp((S, 4000), (X, 7000 + offset)));
        assert_eq!(ends(&left).1, (B, 9000 + offset));
        let answer = site.out(&udp((B, 9000 + offset), ends(&left).0));
        assert_eq!(ends(&answer).0, (X, 7000 + offset));
    }
    for port in [6999, 7010] {
        assert_eq!(
            site.refused(OUTSIDE, &udp((S, 4000), (X, port))),
            DropReason::Unsolicited
        );
    }
}

#[test]
fn n_dn_7_what_cannot_be_published() {
    let mut site = Site::new();
    let happy = || mapping(MappingId(1), UDP, 7000, (B, 53));
    let range = |ports, target_port| PortMapping {
        ports,
        target_port,
        ..happy()
    };
    let versions = PortMapping {
        external: Some(X6),
        ..happy()
    };
    let ping = PortMapping {
        protocol: IpProtocol(ICMP),
        ..happy()
    };
    let elsewhere = PortMapping {
        zone: OTHER,
        ..happy()
    };
    assert!(matches!(
        site.nat.publish(range(0..=9, 53)),
        Err(PublishError::Ports { .. })
    ));
    assert!(matches!(
        site.nat.publish(range(7000..=7009, 65_530)),
        Err(PublishError::Ports { .. })
    ));
    assert!(matches!(
        site.nat.publish(range(7000..=7000, 0)),
        Err(PublishError::Ports { .. })
    ));
    assert!(matches!(
        site.nat.publish(versions),
        Err(PublishError::Versions { .. })
    ));
    assert!(matches!(site.nat.publish(ping), Err(PublishError::Protocol(_))));
    assert!(matches!(
        site.nat.publish(elsewhere),
        Err(PublishError::UnknownZone(_))
    ));
    assert_eq!(site.nat.mappings().count(), 0);
    site.nat.publish(happy()).expect("what was happy");
    let taken = PortMapping {
        id: MappingId(2),
        ..range(6990..=7005, 53)
    };
    let refused = site.nat.publish(taken);
    assert!(
        matches!(
            refused,
            Err(PublishError::Taken {
                port: 7000,
                holder: MappingId(1)
            })
        ),
        "{refused:?}"
    );
    // What was refused has reserved nothing.
    assert_eq!(site.external((A, 6990), (S, 53)), (X, 6990));
}

#[test]
fn n_dn_2_a_mapping_that_lets_everybody_in_lets_neighbours_in() {
    let mut site = Site::with(|config| config.filtering = Filtering::EndpointIndependent);
    site.external((B, 5000), (S, 53));
    let seen = site.turn(&udp((A, 1111), (X, 5000)));
    assert_eq!(ends(&seen), ((X, 1111), (B, 5000)));
    assert_eq!(
        ends(&site.turn(&udp((B, 5000), (X, 1111)))),
        ((X, 5000), (A, 1111))
    );
    // And where it does not, the packet is the owner's.
    let mut site = Site::new();
    site.external((B, 5000), (S, 53));
    assert_eq!(
        site.put(INSIDE, &udp((A, 1111), (X, 5000))).verdict,
        Verdict::Local
    );
}

impl Site {
    /// B answers a question that the engine has forgotten.
    fn refused_answer(&mut self) -> DropReason {
        match self.put(INSIDE, &tcp((B, 53), (S, 4000), ACK, 1, 1)).verdict {
            Verdict::Drop(reason) => reason,
            other => panic!("{other:?}"),
        }
    }
}
