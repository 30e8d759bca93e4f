//! §5 through the engine: what the tracker's own tests do not see. That a walk's segments are translated, how long entries live, what
//! is removed, what another host gets.

use vswitch_nat::{DropReason, TcpPolicy, Verdict};
use vswitch_wire::{Gso, GsoKind, Offload, PartialChecksum};

use crate::{
    packets::{ACK, FIN, RST, SYN, TCP, URG, ends, mended, tcp, tcp_with, transport},
    site::*,
};

const CLIENT: (std::net::IpAddr, u16) = (A, 7000);
const SERVER: (std::net::IpAddr, u16) = (S, 80);
const SHOWN: (std::net::IpAddr, u16) = (X, 7000);

/// Who sends the segment of a step.
#[derive(Clone, Copy)]
enum By {
    Client,
    Server,
}
use By::{Client, Server};

/// A segment and what the entry is after it.
type Step = (By, u8, u32, u32, &'static [u8], (&'static str, u64));

fn walk(site: &mut Site, steps: &[Step]) {
    for (number, &(by, flags, seq, ack, data, after)) in steps.iter().enumerate() {
        let left = match by {
            Client => site.out(&tcp_with(CLIENT, SERVER, flags, (seq, ack), &[], data)),
            Server => site.back(&tcp_with(SERVER, SHOWN, flags, (seq, ack), &[], data)),
        };
        let expected = match by {
            Client => (SHOWN, SERVER),
            Server => (SERVER, CLIENT),
        };
        assert_eq!(ends(&left), expected, "step {number}");
        assert_eq!(site.state(), after, "step {number}");
    }
}

fn established() -> Site {
    let mut site = Site::new();
    assert_eq!(site.connect(CLIENT, SERVER), SHOWN);
    assert_eq!(site.state(), ("ESTABLISHED", 432_000));
    site
}

#[test]
fn n_tcp_1_the_walk_from_open_to_open() {
    let mut site = Site::new();
    walk(
        &mut site,
        &[
            (Client, SYN, 1000, 0, b"", ("SYN_SENT", 120)),
            (Server, SYN | ACK, 5000, 1001, b"", ("SYN_RECV", 60)),
            (Client, ACK, 1001, 5001, b"", ("ESTABLISHED", 432_000)),
            (Client, ACK, 1001, 5001, b"data", ("ESTABLISHED", 300)),
            (Server, ACK, 5001, 1005, b"", ("ESTABLISHED", 432_000)),
            (Client, FIN | ACK, 1005, 5001, b"", ("FIN_WAIT", 240)),
            (Server, ACK, 5001, 1006, b"", ("CLOSE_WAIT", 7440)),
            (Server, FIN | ACK, 5001, 1006, b"", ("LAST_ACK", 30)),
            (Client, ACK, 1006, 5002, b"", ("TIME_WAIT", 120)),
            (Client, SYN, 90_000, 0, b"", ("SYN_SENT", 120)),
        ],
    );
}

#[test]
fn n_tcp_1_simultaneous_open() {
    let mut site = Site::new();
    walk(
        &mut site,
        &[
            (Client, SYN, 1000, 0, b"", ("SYN_SENT", 120)),
            (Server, SYN, 5000, 0, b"", ("SYN_SENT2", 120)),
            (Client, SYN | ACK, 1000, 5001, b"", ("SYN_RECV", 60)),
            (Server, SYN | ACK, 5000, 1001, b"", ("SYN_RECV", 60)),
            (Client, ACK, 1001, 5001, b"", ("ESTABLISHED", 432_000)),
            (Server, ACK, 5001, 1001, b"", ("ESTABLISHED", 432_000)),
        ],
    );
    assert!(site.only().is_assured);
}

#[test]
fn n_tcp_1_a_connection_that_outside_begins() {
    let mut site = Site::new();
    site.publish(TCP, 8080, (B, 80));
    let client = (S, 3333);
    assert_eq!(
        ends(&site.back(&tcp(client, (X, 8080), SYN, 1, 0))),
        (client, (B, 80))
    );
    assert_eq!(
        ends(&site.out(&tcp((B, 80), client, SYN | ACK, 9, 2))),
        ((X, 8080), client)
    );
    site.back(&tcp(client, (X, 8080), ACK, 2, 10));
    assert_eq!(site.state(), ("ESTABLISHED", 432_000));
}

#[test]
fn n_tcp_2_the_peers_syn_first() {
    let mut site = Site::new();
    let peers = tcp(SERVER, SHOWN, SYN, 5000, 0);
    assert_eq!(site.refused(OUTSIDE, &peers), DropReason::Unsolicited);
    site.out(&tcp(CLIENT, SERVER, SYN, 1000, 0));
    site.settle(secs(1));
    assert_eq!(ends(&site.back(&peers)).1, CLIENT);
    assert_eq!(site.state().0, "SYN_SENT2");
}

#[test]
fn n_tcp_3_other_sets_of_flags_begin_nothing() {
    for flags in 0..=0x3f_u8 {
        let mut site = Site::new();
        let packet = tcp(CLIENT, SERVER, flags, 1000, 0);
        let relevant = flags & !8;
        match relevant {
            SYN => drop(site.out(&packet)),
            _ if relevant == SYN | URG => drop(site.out(&packet)),
            _ => assert_eq!(site.refused(INSIDE, &packet), DropReason::Invalid, "{flags:#x}"),
        }
    }
}

#[test]
fn n_tcp_4_a_checksum_somebody_vouches_for_is_not_read() {
    let mut site = Site::new();
    let mut packet = tcp(CLIENT, SERVER, SYN, 1000, 0);
    packet[36] ^= 1;
    assert_eq!(site.refused(INSIDE, &packet), DropReason::BadChecksum);
    let vouched = Offload {
        data_valid: true,
        ..Offload::NONE
    };
    assert_eq!(
        site.put_offloaded(INSIDE, &packet, &vouched).verdict,
        Verdict::Forward(OUTSIDE)
    );
}

#[test]
fn n_tcp_5_a_refused_syn_leaves_nothing() {
    let mut site = Site::new();
    site.out(&tcp(CLIENT, SERVER, SYN, 1000, 0));
    assert_eq!(
        ends(&site.back(&tcp(SERVER, SHOWN, RST | ACK, 0, 1001))),
        (SERVER, CLIENT)
    );
    assert!(site.conns().is_empty());
    // Its port is another's at once.
    assert_eq!(ends(&site.out(&tcp((B, 7000), SERVER, SYN, 1, 0))).0, SHOWN);
}

#[test]
fn n_tcp_6_a_retransmitted_syn_does_not_restart_the_timer() {
    let mut site = Site::new();
    let syn = tcp(CLIENT, SERVER, SYN, 1000, 0);
    site.out(&syn);
    site.advance(secs(3));
    site.out(&syn);
    assert_eq!(site.state(), ("SYN_SENT", 117));
    // So that a stale decision is not pinned: after the timer another is taken.
    site.advance(secs(118));
    site.publish(TCP, 7000, (B, 80));
    assert_ne!(ends(&site.out(&syn)).0, SHOWN);
}

#[test]
fn n_tcp_7_assured_after_the_initiators_ack_only() {
    let mut site = Site::new();
    site.out(&tcp(CLIENT, SERVER, SYN, 1000, 0));
    assert!(!site.only().is_assured);
    site.back(&tcp(SERVER, SHOWN, SYN | ACK, 5000, 1001));
    assert!(site.only().is_replied && !site.only().is_assured);
    site.out(&tcp(CLIENT, SERVER, ACK, 1001, 5001));
    assert!(site.only().is_assured);
}

#[test]
fn n_tcp_8_data_and_cookie_of_a_syn_pass_as_they_are() {
    let mut site = Site::new();
    let cookie = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1];
    let left = site.out(&tcp_with(CLIENT, SERVER, SYN, (1000, 0), &cookie, b"GET /"));
    assert_eq!(transport(&left)[20..32], cookie);
    assert_eq!(&transport(&left)[32..], b"GET /");
}

#[test]
fn n_tcp_9_pickup_is_off_and_on_on_request() {
    let data = tcp_with(CLIENT, SERVER, ACK, (777, 888), &[], b"data");
    assert_eq!(Site::new().refused(INSIDE, &data), DropReason::Invalid);
    let mut site = Site::with(|config| config.tcp.loose = true);
    site.out(&data);
    assert_eq!(site.state(), ("ESTABLISHED", 300));
    assert!(!site.only().is_assured);
    site.back(&tcp(SERVER, SHOWN, ACK, 888, 781));
    site.out(&tcp_with(CLIENT, SERVER, ACK, (781, 888), &[], b""));
    assert!(site.only().is_assured);
}

#[test]
fn n_tcp_10_a_client_that_came_back_with_its_port() {
    let mut site = established();
    let life = 432_000;
    walk(
        &mut site,
        &[
            (Client, SYN, 777_777, 0, b"", ("ESTABLISHED", life)),
            (Server, ACK, 5001, 1001, b"", ("ESTABLISHED", life)),
            (Client, RST, 1001, 0, b"", ("CLOSE", 10)),
        ],
    );
}

#[test]
fn n_tcp_10_whose_syn_is_answered() {
    let mut site = established();
    walk(
        &mut site,
        &[
            (Client, SYN, 777_777, 0, b"", ("ESTABLISHED", 432_000)),
            (Server, SYN | ACK, 60_000, 777_778, b"", ("SYN_RECV", 60)),
            (Client, ACK, 777_778, 60_001, b"", ("ESTABLISHED", 432_000)),
        ],
    );
}

/// Both sides have closed.
fn over() -> Site {
    let mut site = established();
    walk(
        &mut site,
        &[
            (Client, FIN | ACK, 1001, 5001, b"", ("FIN_WAIT", 240)),
            (Server, FIN | ACK, 5001, 1002, b"", ("LAST_ACK", 30)),
            (Client, ACK, 1002, 5002, b"", ("TIME_WAIT", 120)),
        ],
    );
    site
}

#[test]
fn n_tcp_11_a_syn_after_the_end_begins_anew_with_the_same_mapping() {
    let mut site = over();
    assert_eq!(ends(&site.out(&tcp(CLIENT, SERVER, SYN, 90_000, 0))).0, SHOWN);
    assert_eq!(site.state(), ("SYN_SENT", 120));
    assert_eq!(site.nat.counters().created, 2);
    assert_eq!(site.only().traffic[0].packets, 1, "its counters begin, too");
}

#[test]
fn n_tcp_11_and_its_decision_is_taken_anew() {
    let mut site = Site::new();
    let first = site.publish(TCP, 8080, (B, 80));
    let client = (S, 3333);
    site.back(&tcp(client, (X, 8080), SYN, 1, 0));
    site.out(&tcp((B, 80), client, SYN | ACK, 9, 2));
    site.back(&tcp(client, (X, 8080), ACK, 2, 10));
    site.back(&tcp(client, (X, 8080), RST, 2, 10));
    assert_eq!(site.state().0, "CLOSE");
    site.nat.unpublish(site.clock.now(), first);
    site.publish(TCP, 8080, (C, 80));
    assert_eq!(ends(&site.back(&tcp(client, (X, 8080), SYN, 100, 0))).1, (C, 80));
}

#[test]
fn n_tcp_11_another_host_gets_another_port_meanwhile() {
    let mut site = over();
    assert_ne!(ends(&site.out(&tcp((B, 7000), SERVER, SYN, 1, 0))).0, SHOWN);
    // In overlapping mode as well, where the tuple is not free.
    let mut site = Site::linux();
    site.connect(CLIENT, SERVER);
    site.out(&tcp(CLIENT, SERVER, RST, 1001, 0));
    assert_ne!(ends(&site.out(&tcp((B, 7000), SERVER, SYN, 1, 0))).0, SHOWN);
}

#[test]
fn n_tcp_11_a_responders_syn_after_the_end_is_nobodys() {
    let mut site = over();
    let syn = tcp(SERVER, SHOWN, SYN, 900_000, 0);
    assert_eq!(site.refused(OUTSIDE, &syn), DropReason::Unsolicited);
}

#[test]
fn n_tcp_12_a_half_closed_connection_goes_on() {
    let mut site = established();
    site.back(&tcp(SERVER, SHOWN, FIN | ACK, 5001, 1001));
    site.out(&tcp(CLIENT, SERVER, ACK, 1001, 5002));
    let mut sequence = 1001;
    for _ in 0..3 {
        site.settle(secs(90));
        site.out(&tcp_with(CLIENT, SERVER, ACK, (sequence, 5002), &[], b"more"));
        sequence += 4;
        site.back(&tcp(SERVER, SHOWN, ACK, 5002, sequence));
    }
    assert_eq!(site.state(), ("CLOSE_WAIT", 7440));
}

#[test]
fn n_tcp_13_data_that_nobody_acknowledges_end_the_entry() {
    let mut site = established();
    site.out(&tcp_with(CLIENT, SERVER, ACK, (1001, 5001), &[], b"data"));
    site.settle(secs(301));
    assert!(site.conns().is_empty());
    let mut site = Site::rfc();
    site.connect(CLIENT, SERVER);
    site.out(&tcp_with(CLIENT, SERVER, ACK, (1001, 5001), &[], b"data"));
    assert_eq!(site.state(), ("ESTABLISHED", 7440), "off by the RFCs");
}

#[test]
fn n_tcp_14_a_closed_window_ends_it_sooner() {
    let mut site = established();
    let mut closed = tcp(SERVER, SHOWN, ACK, 5001, 1001);
    closed[34..36].fill(0);
    site.back(&mended(closed));
    assert_eq!(site.state(), ("ESTABLISHED", 300));
}

#[test]
fn n_tcp_15_repetitions_end_it_sooner() {
    let mut site = established();
    for _ in 0..4 {
        site.back(&tcp(SERVER, SHOWN, ACK, 5001, 1001));
    }
    assert_eq!(site.state(), ("ESTABLISHED", 300));
}

#[test]
fn n_tcp_20_whose_reset_is_believed() {
    let reset = |sequence| tcp(SERVER, SHOWN, RST, sequence, 0);
    let mut site = established();
    site.back(&reset(5001));
    assert_eq!(site.state(), ("CLOSE", 10));

    let mut site = established();
    site.back(&reset(5101));
    assert_eq!(site.state(), ("ESTABLISHED", 10));
    site.back(&tcp(SERVER, SHOWN, ACK, 5001, 1001));
    assert_eq!(site.state().0, "ESTABLISHED");
    assert!(site.remaining() >= 300);

    let mut site = established();
    for sequence in [4000, 200_005_001] {
        assert_eq!(site.refused(OUTSIDE, &reset(sequence)), DropReason::Invalid);
        assert_eq!(site.state(), ("ESTABLISHED", 432_000), "{sequence}");
    }
}

#[test]
fn n_tcp_21_a_closing_connection_takes_any_reset() {
    let mut site = over();
    site.back(&tcp(SERVER, SHOWN, RST, 4_000_000, 0));
    assert_eq!(site.state(), ("CLOSE", 10));
}

#[test]
fn n_tcp_22_after_a_reset_the_mapping_is_still_translated() {
    let mut site = established();
    site.back(&tcp(SERVER, SHOWN, RST, 5001, 0));
    site.advance(secs(5));
    assert_eq!(ends(&site.back(&tcp(SERVER, SHOWN, RST, 5001, 0))).1, CLIENT);
    site.out(&tcp_with(CLIENT, SERVER, ACK, (1001, 5001), &[], b"late"));
    site.settle(secs(11));
    assert!(site.conns().is_empty());
    let mut site = Site::rfc();
    site.connect(CLIENT, SERVER);
    site.back(&tcp(SERVER, SHOWN, RST, 5001, 0));
    assert_eq!(site.state(), ("CLOSE", 240));
}

#[test]
fn n_tcp_23_a_challenge_in_last_ack_changes_nothing() {
    let mut site = established();
    walk(
        &mut site,
        &[
            (Client, FIN | ACK, 1001, 5001, b"", ("FIN_WAIT", 240)),
            (Server, FIN | ACK, 5001, 1002, b"", ("LAST_ACK", 30)),
            (Client, SYN, 900_000, 0, b"", ("LAST_ACK", 30)),
            (Server, ACK, 5002, 1002, b"", ("LAST_ACK", 30)),
        ],
    );
}

#[test]
fn n_tcp_24_the_engine_never_speaks_for_an_endpoint() {
    // `Site::out`, `back` and `refused` see that nothing is sent beside; here what is most tempting.
    let mut site = established();
    site.refused(OUTSIDE, &tcp((S4, 80), SHOWN, SYN, 1, 0));
    site.refused(OUTSIDE, &tcp(SERVER, SHOWN, RST, 1, 0));
    site.refused(INSIDE, &tcp((A, 9), SERVER, ACK, 1, 1));
    let now = site.clock.now();
    assert_eq!(site.nat.flush(now), 1);
    site.refused(OUTSIDE, &tcp(SERVER, SHOWN, ACK, 5001, 1001));
}

#[test]
fn n_tcp_25_what_both_have_ended_out_of_step_ends_soon() {
    let mut site = established();
    site.refused(INSIDE, &tcp(CLIENT, SERVER, FIN | ACK, 90_000_000, 5001));
    assert_eq!(site.remaining(), 432_000);
    site.refused(OUTSIDE, &tcp(SERVER, SHOWN, RST, 1, 0));
    assert_eq!(site.state(), ("ESTABLISHED", 300));
}

#[test]
fn n_tcp_26_data_before_a_fin() {
    let mut site = established();
    walk(
        &mut site,
        &[
            (Client, FIN | ACK, 1001, 5001, b"last", ("FIN_WAIT", 240)),
            (Server, ACK, 5001, 1005, b"", ("FIN_WAIT", 240)),
            (Server, ACK, 5001, 1006, b"", ("CLOSE_WAIT", 7440)),
        ],
    );
}

#[test]
fn n_win_3_what_is_far_behind_passes_and_changes_nothing() {
    let mut site = established();
    let before = site.only().remaining;
    site.advance(secs(1));
    site.out(&tcp_with(
        CLIENT,
        SERVER,
        ACK,
        (1001u32.wrapping_sub(70_000), 5001),
        &[],
        b"old",
    ));
    let after = site.only();
    assert_eq!(after.state, Some("ESTABLISHED"));
    assert_eq!(after.remaining, before - secs(1), "nor its time");
}

#[test]
fn n_win_5_liberal_lets_data_far_ahead_pass() {
    let liberal = TcpPolicy {
        liberal: true,
        ..TcpPolicy::default()
    };
    let mut site = Site::with(|config| config.tcp = liberal);
    site.connect(CLIENT, SERVER);
    site.out(&tcp_with(CLIENT, SERVER, ACK, (100_000_000, 5001), &[], b"data"));
    assert_eq!(
        site.refused(OUTSIDE, &tcp(SERVER, SHOWN, RST, 1, 0)),
        DropReason::Invalid
    );
}

#[test]
fn n_win_7_a_super_frame_counts_whole_and_padding_does_not() {
    let mut site = established();
    let frame = tcp_with(CLIENT, SERVER, ACK, (1001, 5001), &[], &[0; 4200]);
    let offload = Offload {
        checksum: Some(PartialChecksum {
            start: 20,
            offset: 16,
        }),
        gso: Some(Gso {
            kind: GsoKind::TcpV4,
            ecn: false,
            size: 1400,
            header_len: 40,
        }),
        data_valid: false,
    };
    assert_eq!(
        site.put_offloaded(INSIDE, &frame, &offload).verdict,
        Verdict::Forward(OUTSIDE)
    );
    site.back(&tcp(SERVER, SHOWN, ACK, 5001, 5201));

    let mut site = established();
    let mut padded = tcp(CLIENT, SERVER, ACK, 1001, 5001);
    padded.resize(46, 0);
    site.out(&padded);
    let beyond = tcp(SERVER, SHOWN, ACK, 5001, 1007);
    assert_eq!(site.refused(OUTSIDE, &beyond), DropReason::Invalid);
}

#[test]
fn n_win_8_one_way_only_where_it_is_asked_for() {
    let mut site = Site::with(|config| config.tcp.loose = true);
    site.out(&tcp(CLIENT, SERVER, SYN, 1000, 0));
    // The answers pass elsewhere.
    site.out(&tcp(CLIENT, SERVER, ACK, 1001, 5001));
    let mut sequence = 1001;
    for _ in 0..50 {
        site.out(&tcp_with(CLIENT, SERVER, ACK, (sequence, 5001), &[], &[0; 1400]));
        sequence += 1400;
    }
}
