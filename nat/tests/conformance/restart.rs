//! N-TBL-10, N-TCP-9: connections that outlive their engine.

use vswitch_nat::{
    Config, ConnView, DropReason, Filtering, Imported, MappingId, PortMapping, SavedConn, SavedConnError,
    Verdict,
};
use vswitch_wire::IpProtocol;

use crate::{
    packets::{
        ACK, End, FIN, ICMP, RST, SCTP, SYN, TCP, UDP, ends, ping, pong, raw, sctp, tcp, tcp_with, udp,
    },
    site::*,
};

/// Everything that a site has, through bytes.
fn saved(site: &Site) -> Vec<SavedConn> {
    let saved = site.nat.export(site.clock.now());
    saved.map(|conn| reread(&conn)).collect()
}

fn reread(conn: &SavedConn) -> SavedConn {
    let bytes = conn.to_bytes();
    assert!(bytes.len() <= SavedConn::MAX_LEN);
    let again = SavedConn::from_bytes(&bytes).expect("what was written");
    assert_eq!(again, *conn);
    again
}

fn import(site: &mut Site, saved: Vec<SavedConn>) -> (usize, usize) {
    let Imported { taken, refused } = site.nat.import(site.clock.now(), saved);
    (taken, refused)
}

/// Moves everything from one site into another.
fn restart(before: &Site, mut after: Site) -> Site {
    let all = saved(before);
    let count = all.len();
    assert_eq!(import(&mut after, all), (count, 0));
    assert_eq!(listing(&after), listing(before));
    after
}

fn listing(site: &Site) -> Vec<ConnView> {
    let mut conns = site.conns();
    conns.sort_by_key(|conn| format!("{:?}", conn.original));
    conns
}

/// One connection of each kind: of all protocols, both versions, published, turned back.
fn busy() -> Site {
    let mut site = with_published(Site::new());
    site.connect((A, 7000), (S, 80));
    site.out(&tcp_with((A, 7000), (S, 80), ACK, (1001, 5001), &[], &[0; 100]));
    site.out(&tcp((B, 7000), (S, 80), SYN, 9000, 0));
    let half = site.connect((C, 7001), (S, 80));
    site.out(&tcp((C, 7001), (S, 80), ACK | FIN, 1001, 5001));
    site.back(&tcp((S, 80), half, ACK, 5001, 1002));
    let external = site.external((A, 5000), (S, 53));
    site.back(&udp((S, 53), external));
    site.advance(secs(3));
    site.out(&udp((A, 5000), (S, 5353)));
    let stream = site.external((B, 5000), (S, 9));
    site.back(&udp((S, 9), stream));
    site.advance(secs(3));
    site.out(&udp((B, 5000), (S, 9)));
    site.out(&ping(A, S3, 77));
    site.out(&raw(A, S, 47, &[0; 8]));
    site.out(&raw(B, S4, 50, &[1; 24]));
    let init = [0, 0, 0, 7, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1];
    site.out(&sctp((A, 1000), (S, 1000), 0, (1, 0), &init));
    site.out(&udp((A6, 5000), (S6, 53)));
    site.back(&udp((S, 3333), (X, 5353)));
    site.turn(&tcp((A, 1111), (X, 8080), SYN, 1, 0));
    site
}

fn with_published(mut site: Site) -> Site {
    site.publish(UDP, 5353, (B, 53));
    site.publish(TCP, 8080, (B, 80));
    site
}

#[test]
fn n_tbl_10_everything_about_every_connection_goes_on() {
    let before = busy();
    assert_eq!(before.conns().len(), 13);
    let after = restart(&before, with_published(Site::new()));
    for zone in after.nat.network_views() {
        assert_eq!(zone.connections, 13);
    }
    assert_eq!(after.nat.counters().created, 0, "they had begun before");
}

#[test]
fn n_tbl_10_what_went_out_before_is_answered_after() {
    let mut site = restart(&busy(), with_published(Site::new()));
    assert_eq!(ends(&site.back(&udp((S, 53), (X, 5000)))).1, (A, 5000));
    assert_eq!(ends(&site.back(&pong(S3, X, 77))).1, (A, 77));
    assert_eq!(ends(&site.back(&udp((S6, 53), (X6, 5000)))).1, (A6, 5000));
    let asked = ((B, 53), (S, 3333));
    assert_eq!(ends(&site.out(&udp(asked.0, asked.1))).0, (X, 5353));
    let turned = site.turn(&tcp((B, 80), (X, 1111), SYN | ACK, 5000, 2));
    assert_eq!(ends(&turned), ((X, 8080), (A, 1111)));
}

#[test]
fn n_tbl_10_windows_go_on() {
    let mut before = Site::new();
    before.connect((A, 7000), (S, 80));
    before.out(&tcp_with((A, 7000), (S, 80), ACK, (1001, 5001), &[], &[0; 100]));
    let mut site = restart(&before, Site::new());
    assert_eq!(site.state(), ("ESTABLISHED", 300));
    // Not acknowledged yet, so the time is short; the acknowledgment restores it (N-TCP-13).
    let stray = tcp((S, 80), (X, 7000), ACK, 100_000_000, 1101);
    assert_eq!(site.refused(OUTSIDE, &stray), DropReason::Invalid);
    let guess = tcp((S, 80), (X, 7000), ACK, 5001, 200_000);
    assert_eq!(site.refused(OUTSIDE, &guess), DropReason::Invalid);
    site.back(&tcp((S, 80), (X, 7000), ACK, 5001, 1101));
    assert_eq!(site.state(), ("ESTABLISHED", 432_000));
    let forged = tcp((S, 80), (X, 7000), RST, 4000, 0);
    assert_eq!(site.refused(OUTSIDE, &forged), DropReason::Invalid);
    site.back(&tcp((S, 80), (X, 7000), RST, 5001, 0));
    assert_eq!(site.state(), ("CLOSE", 10));
}

#[test]
fn n_tbl_10_a_connection_ends_when_it_would_have() {
    let mut before = Site::new();
    before.out(&udp((A, 5000), (S, 9)));
    before.advance(secs(20));
    let mut site = restart(&before, Site::new());
    assert_eq!(site.remaining(), 100);
    site.settle(secs(99));
    assert_eq!(site.conns().len(), 1);
    site.settle(secs(2));
    assert_eq!(site.nat.connection_count(), 0);
}

#[test]
fn n_tbl_10_what_is_over_is_not_saved() {
    let mut before = Site::new();
    before.out(&udp((A, 5000), (S, 9)));
    before.out(&ping(A, S, 7));
    before.advance(secs(61));
    let all = saved(&before);
    assert_eq!(all.len(), 1, "the query is over though nobody swept it");
}

#[test]
fn n_tbl_10_a_datagrams_age_goes_on() {
    let mut before = Site::new();
    before.out(&udp((A, 5000), (S, 9)));
    before.back(&udp((S, 9), (X, 5000)));
    before.advance(secs(5));
    // The engine that follows is younger than the connection.
    let mut site = restart(&before, Site::new());
    site.out(&udp((A, 5000), (S, 9)));
    assert_eq!(site.remaining(), 300, "a stream (N-FLT-6)");
    let mut young = Site::new();
    young.out(&udp((A, 5000), (S, 9)));
    young.back(&udp((S, 9), (X, 5000)));
    let mut site = restart(&young, Site::new());
    site.out(&udp((A, 5000), (S, 9)));
    assert_eq!(site.remaining(), 120, "no stream yet");
}

#[test]
fn n_tbl_10_an_external_port_stays_its_endpoints() {
    let mut before = Site::new();
    before.out(&udp((A, 5000), (S, 9)));
    let moved = before.external((B, 5000), (S, 9));
    assert_ne!(moved, (X, 5000));
    let mut site = restart(&before, Site::new());
    // N-MAP-1: to other destinations, too; and nobody else gets them (N-MAP-4).
    assert_eq!(site.external((B, 5000), (S3, 9)), moved);
    assert_eq!(site.external((A, 5000), (S3, 9)), (X, 5000));
    for wanted in [5000, moved.1] {
        let given = site.external((C, wanted), (S4, 9));
        assert!(![(X, 5000), moved].contains(&given), "{given:?}");
    }
}

#[test]
fn n_tbl_10_ports_come_back_when_imported_connections_end() {
    let mut before = Site::new();
    before.out(&udp((A, 5000), (S, 9)));
    before.out(&udp((A, 5000), (S3, 9)));
    let mut site = restart(&before, Site::new());
    assert_eq!(site.nat.flush_host(site.clock.now(), INSIDE, A), 2);
    assert_eq!(site.external((C, 5000), (S, 9)), (X, 5000));
}

#[test]
fn n_tbl_10_a_port_that_is_somebody_elses_now_is_refused() {
    let mut before = Site::new();
    before.out(&udp((A, 5000), (S, 9)));
    let all = saved(&before);
    let refuses = |prepare: &dyn Fn(&mut Site)| {
        let mut site = Site::new();
        prepare(&mut site);
        let count = site.conns().len();
        assert_eq!(import(&mut site, all.clone()), (0, 1));
        assert_eq!(site.conns().len(), count);
    };
    refuses(&|site| {
        site.out(&udp((B, 5000), (S3, 9)));
    });
    refuses(&|site| {
        site.publish(UDP, 5000, (B, 53));
    });
    refuses(&|site| site.nat.reserve(IpProtocol::UDP, 5000..=5000));
    // Nor may it have two.
    refuses(&|site| {
        site.nat.reserve(IpProtocol::UDP, 5000..=5000);
        site.out(&udp((A, 5000), (S3, 9)));
        site.nat.release(IpProtocol::UDP, 5000..=5000);
    });
    // Its own is its own.
    let mut site = Site::new();
    site.out(&udp((A, 5000), (S3, 9)));
    assert_eq!(import(&mut site, all), (1, 0));
}

#[test]
fn n_tbl_10_nothing_is_taken_twice() {
    let before = busy();
    let mut site = restart(&before, with_published(Site::new()));
    assert_eq!(import(&mut site, saved(&before)), (0, 13));
    assert_eq!(site.conns().len(), 13);
}

#[test]
fn n_tbl_10_where_ports_are_shared_only_tuples_must_be_free() {
    let mut before = Site::linux();
    before.out(&udp((A, 5000), (S, 9)));
    before.out(&udp((B, 5000), (S3, 9)));
    assert_eq!(before.external((C, 5000), (S4, 9)), (X, 5000));
    let mut site = restart(&before, Site::linux());
    assert_ne!(site.external((C, 5000), (S, 9)), (X, 5000));
    let mut site = Site::linux();
    site.out(&udp((C, 5000), (S, 9)));
    assert_eq!(import(&mut site, saved(&before)), (2, 1));
    // What is exclusive now was not: the first has the port.
    let mut site = Site::new();
    assert_eq!(import(&mut site, saved(&before)), (1, 2));
}

#[test]
fn n_tbl_10_published_ports_are_found_by_their_names() {
    let mut before = with_published(Site::new());
    before.back(&udp((S, 3333), (X, 5353)));
    let mut site = restart(&before, with_published(Site::new()));
    assert_eq!(site.only().mapping, Some(MappingId(5353)));
    // So what ends with the published port ends (N-DN-5).
    assert!(site.nat.unpublish(site.clock.now(), MappingId(5353)));
    assert_eq!(site.conns().len(), 0);
}

#[test]
fn n_tbl_10_a_published_port_that_is_gone_or_leads_elsewhere_takes_its_connections_along() {
    let mut before = with_published(Site::new());
    before.back(&udp((S, 3333), (X, 5353)));
    let all = saved(&before);
    assert_eq!(import(&mut Site::new(), all.clone()), (0, 1));
    for changed in [(C, 53), (B, 54)] {
        let mut site = Site::new();
        site.publish(UDP, 5353, changed);
        assert_eq!(import(&mut site, all.clone()), (0, 1), "{changed:?}");
    }
    let mut site = Site::new();
    site.nat
        .publish(PortMapping {
            ports: 5354..=5354,
            ..mapping(MappingId(5353), UDP, 5353, (B, 53))
        })
        .expect("a valid mapping");
    assert_eq!(import(&mut site, all), (0, 1), "the name alone is not enough");
}

#[test]
fn n_tbl_10_connections_of_a_withdrawn_port_go_on() {
    let mut before = with_published(Site::new());
    before.back(&udp((S, 3333), (X, 5353)));
    before.nat.withdraw(MappingId(5353));
    let mut site = Site::new();
    assert_eq!(import(&mut site, saved(&before)), (1, 0));
    assert_eq!(ends(&site.out(&udp((B, 53), (S, 3333)))).0, (X, 5353));
    let stranger = udp((S4, 3333), (X, 5353));
    assert_eq!(site.refused(OUTSIDE, &stranger), DropReason::Unsolicited);
}

#[test]
fn n_tbl_10_what_a_filter_admitted_is_admitted_again() {
    let open = || Site::with(|config| config.filtering = Filtering::EndpointIndependent);
    let mut before = open();
    before.out(&udp((A, 5000), (S, 9)));
    before.back(&udp((S4, 999), (X, 5000)));
    let all = saved(&before);
    // In whichever order.
    for all in [all.clone(), all.into_iter().rev().collect()] {
        let mut site = open();
        assert_eq!(import(&mut site, all), (2, 0));
        assert_eq!(ends(&site.out(&udp((A, 5000), (S4, 999)))).0, (X, 5000));
        assert_eq!(site.external((A, 5000), (S3, 9)), (X, 5000));
        // A stranger does not keep it alive (N-FLT-2), after the restart either.
        let stranger = site.conn(OUTSIDE, UDP, (S4, 999), (X, 5000));
        assert!(stranger.is_some_and(|conn| conn.is_replied));
    }
}

#[test]
fn n_tbl_10_a_filter_by_address_knows_whom_a_host_had_called() {
    let by_address = || Site::with(|config| config.filtering = Filtering::Address);
    let mut before = by_address();
    before.out(&udp((A, 5000), (S, 9)));
    let mut site = restart(&before, by_address());
    assert_eq!(ends(&site.back(&udp((S, 999), (X, 5000)))).1, (A, 5000));
    let stranger = udp((S4, 9), (X, 5000));
    assert_eq!(site.refused(OUTSIDE, &stranger), DropReason::Unsolicited);
}

#[test]
fn n_tbl_10_what_would_be_translated_otherwise_now_is_refused() {
    let before = busy();
    let count = before.conns().len();
    let all = saved(&before);
    let takes_none = |mut site: Site| assert_eq!(import(&mut site, all.clone()), (0, count));
    takes_none(Site::bare(Config::standard(1)));
    let mut elsewhere = network(INSIDE);
    elsewhere.prefixes = ["10.9.0.0/24", "2001:db8:9::/64"].map(prefix).into();
    let mut site = Site::bare(Config::standard(1));
    site.add(elsewhere);
    takes_none(site);
    let mut site = with_published(Site::new());
    let mut outside = outside();
    outside.addresses = vec![X2];
    site.nat.set_outside(site.clock.now(), outside);
    takes_none(site);
}

#[test]
fn n_tbl_10_limits_hold_and_nothing_is_given_up_for_what_is_imported() {
    let mut before = Site::new();
    for port in 6000..6010 {
        before.out(&udp((A, port), (S, 9)));
    }
    before.out(&udp((B, 5000), (S, 9)));
    let all = saved(&before);
    let mut site = Site::with(|config| config.limits.per_host = 4);
    assert_eq!(import(&mut site, all.clone()), (5, 6));
    let mut site = Site::with(|config| config.limits.per_zone = 4);
    assert_eq!(import(&mut site, all.clone()), (4, 7));
    let mut site = Site::with(|config| config.limits.connections = 4);
    site.out(&udp((C, 5000), (S, 9)));
    assert_eq!(import(&mut site, all.clone()), (3, 8));
    assert!(site.conn(INSIDE, UDP, (C, 5000), (S, 9)).is_some());
    assert_eq!(site.nat.counters().evicted, 0);
    // A rate is of what begins.
    let mut site = Site::with(|config| config.limits.rate_per_host = 1);
    assert_eq!(import(&mut site, all), (11, 0));
}

#[test]
fn n_tbl_10_who_is_spared_is_spared_again() {
    let mut before = Site::new();
    before.connect((A, 7000), (S, 80));
    before.out(&udp((A, 5000), (S, 9)));
    let mut site = Site::with(|config| config.limits.per_host = 2);
    assert_eq!(import(&mut site, saved(&before)), (2, 0));
    site.out(&udp((A, 5001), (S, 9)));
    assert!(site.conn(INSIDE, TCP, (A, 7000), (S, 80)).is_some());
    assert!(site.conn(INSIDE, UDP, (A, 5000), (S, 9)).is_none());
    assert_eq!(site.nat.flush(site.clock.now()), 2);
}

#[test]
fn n_tbl_10_a_host_keeps_its_external_address() {
    let two = || {
        let mut site = Site::new();
        let mut outside = outside();
        outside.addresses = vec![X, X2];
        site.nat.set_outside(site.clock.now(), outside);
        site
    };
    let mut before = two();
    before.out(&udp((A, 5000), (S, 9)));
    let second = before.external((B, 5001), (S, 9)).0;
    assert_eq!(second, X2);
    let mut site = restart(&before, two());
    assert_eq!(site.external((B, 5002), (S, 9)).0, X2);
    assert_eq!(site.external((A, 5002), (S, 9)).0, X);
}

#[test]
fn n_tbl_10_bytes_that_were_cut_or_damaged_are_refused() {
    let all = saved(&busy());
    for conn in &all {
        let bytes = conn.to_bytes();
        for len in 0..bytes.len() {
            assert!(SavedConn::from_bytes(&bytes[..len]).is_err(), "{len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(SavedConn::from_bytes(&longer), Err(SavedConnError::Damaged));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(SavedConn::from_bytes(&flipped).is_err(), "{bit}");
        }
        let mut newer = bytes;
        newer[0] = 2;
        assert_eq!(SavedConn::from_bytes(&newer), Err(SavedConnError::Version(2)));
    }
}

/// The sum says that nothing was damaged, not that it makes sense.
#[test]
fn n_tbl_10_bytes_that_make_no_sense_harm_nothing() {
    for conn in saved(&busy()) {
        let bytes = conn.to_bytes();
        let mut site = with_published(Site::new());
        for bit in 8..(bytes.len() - 4) * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            seal(&mut forged);
            let Ok(forged) = SavedConn::from_bytes(&forged) else {
                continue;
            };
            import(&mut site, vec![forged]);
        }
        // The site looks at what leaves: nothing with an inside source.
        for end in [(A, 5000), (A, 7000), (B, 7000)] {
            for packet in [
                udp(end, (S, 53)),
                udp(end, (S, 9)),
                tcp(end, (S, 80), ACK, 1101, 5001),
            ] {
                let _ = site.put(INSIDE, &packet).verdict;
            }
        }
        site.settle(secs(500_000));
        site.nat.flush(site.clock.now());
        assert_eq!(site.nat.connection_count(), 0);
        for view in site.nat.network_views() {
            assert_eq!(view.connections, 0);
        }
    }
}

/// Makes the sum right.
fn seal(bytes: &mut [u8]) {
    let (content, check) = bytes.split_at_mut(bytes.len() - 4);
    check.copy_from_slice(&crate::packets::crc32c(content).to_be_bytes());
}

#[test]
fn n_tbl_10_an_associations_tags_go_on() {
    let mut before = Site::new();
    let init = |tag: u32| [&tag.to_be_bytes()[..], &[0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1]].concat();
    before.out(&sctp((A, 1000), (S, 1000), 0, (1, 0), &init(7)));
    let mut site = restart(&before, Site::new());
    assert!(site.conn(INSIDE, SCTP, (A, 1000), (S, 1000)).is_some());
    let wrong = sctp((S, 1000), (X, 1000), 8, (2, 0), &init(9));
    assert_eq!(site.refused(OUTSIDE, &wrong), DropReason::Invalid);
    site.back(&sctp((S, 1000), (X, 1000), 7, (2, 0), &init(9)));
}

#[test]
fn n_tbl_10_queries_are_answered_and_not_asked_back() {
    let mut before = Site::new();
    before.out(&ping(A, S, 77));
    let mut site = restart(&before, Site::new());
    assert!(site.conn(INSIDE, ICMP, (A, 77), (S, 0)).is_some());
    assert_eq!(site.put(OUTSIDE, &ping(S, X, 77)).verdict, Verdict::Local);
    site.back(&pong(S, X, 77));
}

const CLIENT: End = (A, 7000);
const SERVER: End = (S, 80);

#[test]
fn n_tcp_9_after_a_restart_unknown_connections_are_picked_up_for_a_while() {
    let mut site = Site::new();
    let until = site.clock.now() + secs(60);
    site.nat.pick_up_until(until);
    let segment = |seq| tcp_with(CLIENT, SERVER, ACK, (seq, 5001), &[], b"data");
    site.out(&segment(1001));
    assert_eq!(site.state(), ("ESTABLISHED", 300));
    assert!(!site.only().is_assured);
    site.back(&tcp(SERVER, (X, 7000), ACK, 5001, 1005));
    // It stays when the time is over; what comes then does not begin so any more.
    site.settle(secs(60));
    site.out(&segment(1005));
    site.back(&tcp(SERVER, (X, 7000), ACK, 5001, 1009));
    assert!(site.only().is_assured);
    let late = tcp((B, 7001), SERVER, ACK, 1, 1);
    assert_eq!(site.refused(INSIDE, &late), DropReason::Invalid);
}

#[test]
fn n_tcp_9_also_by_published_ports_but_nothing_that_nobody_admits() {
    let mut site = with_published(Site::new());
    let until = site.clock.now() + secs(60);
    site.nat.pick_up_until(until);
    let data = site.back(&tcp(SERVER, (X, 8080), ACK, 5001, 1001));
    assert_eq!(ends(&data).1, (B, 80));
    let stray = tcp(SERVER, (X, 7000), ACK, 5001, 1001);
    assert_eq!(site.refused(OUTSIDE, &stray), DropReason::Unsolicited);
    // Only a lone ACK is the middle of a connection.
    for flags in [SYN | ACK, FIN | ACK, RST] {
        let segment = tcp(CLIENT, SERVER, flags, 1, 1);
        assert_eq!(site.refused(INSIDE, &segment), DropReason::Invalid);
    }
}

#[test]
fn n_tcp_9_what_was_imported_is_no_stranger_meanwhile() {
    let mut before = Site::new();
    before.connect(CLIENT, SERVER);
    let mut site = restart(&before, Site::new());
    let until = site.clock.now() + secs(60);
    site.nat.pick_up_until(until);
    let stray = tcp(CLIENT, SERVER, ACK, 100_000_000, 5001);
    assert_eq!(site.refused(INSIDE, &stray), DropReason::Invalid);
}

#[test]
fn n_tcp_9_without_being_told_nothing_is_picked_up() {
    let mut before = Site::new();
    before.out(&udp((A, 5000), (S, 9)));
    let mut site = restart(&before, Site::new());
    let segment = tcp(CLIENT, SERVER, ACK, 1001, 5001);
    assert_eq!(site.refused(INSIDE, &segment), DropReason::Invalid);
}
