//! nat-conformance §5.1: how connections begin.

use super::*;

#[test]
fn n_tcp_1_the_walk_seen_in_linux() {
    let (timer, mut wire) = {
        let policy = TcpPolicy::default();
        let (track, timer) = TcpTrack::open(&syn(), &policy).expect("SYN");
        (timer, Wire { track, policy })
    };
    assert_eq!(
        (wire.track.state(), timer),
        (TcpState::SynSent, Timer::TcpSynSent)
    );
    wire.walk(&[
        (REPLY, syn_ack(), TcpState::SynReceived, Timer::TcpSynReceived),
        (
            ORIG,
            ack(1001, 5001),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
        (
            ORIG,
            data(1001, 5001, 100),
            TcpState::Established,
            Timer::TcpUnacknowledged,
        ),
        (
            REPLY,
            ack(5001, 1101),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
        (ORIG, fin(1101, 5001), TcpState::FinWait, Timer::TcpFinWait),
        (REPLY, ack(5001, 1102), TcpState::CloseWait, Timer::TcpCloseWait),
        (REPLY, fin(5001, 1102), TcpState::LastAck, Timer::TcpLastAck),
        (ORIG, ack(1102, 5002), TcpState::TimeWait, Timer::TcpTimeWait),
    ]);
    let again = segment(Class::Syn, 900_000, None);
    assert_eq!(wire.fate(ORIG, &again), (None, Fate::Reopen));
}

#[test]
fn n_tcp_1_a_simultaneous_open() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    let crossing = segment(Class::Syn, SERVER, None);
    let agrees = segment(Class::SynAck, CLIENT, Some(SERVER + 1));
    wire.walk(&[
        (REPLY, crossing, TcpState::SynSent2, Timer::TcpSynSent2),
        (ORIG, agrees, TcpState::SynReceived, Timer::TcpSynReceived),
        (REPLY, syn_ack(), TcpState::SynReceived, Timer::TcpSynReceived),
    ]);
    let (timer, fate) = wire.fate(ORIG, &ack(1001, 5001));
    assert_eq!((timer, fate), (Some(Timer::TcpEstablished), Fate::Assure));
    assert_eq!(wire.track.state(), TcpState::Established);
}

#[test]
fn n_tcp_1_a_simultaneous_open_ends_with_the_responders_ack_too() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    let crossing = segment(Class::Syn, SERVER, None);
    let agrees = segment(Class::SynAck, CLIENT, Some(SERVER + 1));
    wire.walk(&[
        (REPLY, crossing, TcpState::SynSent2, Timer::TcpSynSent2),
        (REPLY, syn_ack(), TcpState::SynReceived, Timer::TcpSynReceived),
        (ORIG, agrees, TcpState::SynReceived, Timer::TcpSynReceived),
        (
            REPLY,
            data(5001, 1001, 10),
            TcpState::Established,
            Timer::TcpUnacknowledged,
        ),
    ]);
}

#[test]
fn n_tcp_1_the_answer_counts_whatever_syn_came_before_it() {
    // A forged SYN from the responder's address does not keep the responder out.
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    wire.take(REPLY, &segment(Class::Syn, 0x9000_0000, None))
        .expect("may be a simultaneous open");
    wire.walk(&[
        (REPLY, syn_ack(), TcpState::SynReceived, Timer::TcpSynReceived),
        (
            ORIG,
            ack(1001, 5001),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
    ]);
}

#[test]
fn n_tcp_1_a_responders_data_do_not_complete_a_handshake() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    wire.walk(&[
        (REPLY, syn_ack(), TcpState::SynReceived, Timer::TcpSynReceived),
        (
            REPLY,
            data(5001, 1001, 100),
            TcpState::SynReceived,
            Timer::TcpSynReceived,
        ),
        (
            ORIG,
            ack(1001, 5101),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
    ]);
}

#[test]
fn n_tcp_1_every_other_beginning_is_refused() {
    let policy = TcpPolicy::default();
    for first in [
        syn_ack(),
        fin(1, 1),
        rst(1),
        rst_ack(0, 1),
        ack(1, 1),
        data(1, 1, 10),
    ] {
        assert_eq!(
            TcpTrack::open(&first, &policy),
            Err(DropReason::Invalid),
            "{first:?}"
        );
    }
    let mut wire = Wire::open(&syn(), policy);
    for segment in [
        segment(Class::SynAck, 1000, Some(1)),
        fin(1001, 5001),
        ack(1001, 5001),
        data(1001, 5001, 9),
    ] {
        wire.refuses(ORIG, &segment);
    }
    wire.refuses(REPLY, &fin(5001, 1001));
    // What acknowledges more than was sent (III).
    wire.refuses(REPLY, &segment(Class::SynAck, SERVER, Some(1002)));
    // An answer to what came before this SYN passes: the client refuses it.
    wire.passes(REPLY, &segment(Class::SynAck, SERVER, Some(999)));
    wire.passes(REPLY, &ack(5001, 999));
}

#[test]
fn n_tcp_1_the_initiators_syn_ack_has_the_number_of_its_syn() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    wire.take(REPLY, &syn_ack()).expect("SYN+ACK");
    for number in [CLIENT + 1, CLIENT + 300] {
        wire.refuses(ORIG, &segment(Class::SynAck, number, Some(SERVER + 1)));
    }
    // Nothing but the SYN was sent, and that is acknowledged.
    let complete = Ok((TcpState::Established, Some(Timer::TcpEstablished)));
    assert_eq!(wire.take(ORIG, &ack(CLIENT + 1, SERVER + 1)), complete);
}

#[test]
fn n_tcp_1_a_syn_from_the_responder_is_refused_but_while_the_initiator_waits() {
    let crossing = segment(Class::Syn, 77, None);
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    wire.take(REPLY, &syn_ack()).expect("SYN+ACK");
    wire.refuses(REPLY, &crossing);
    let mut wire = Wire::established();
    wire.refuses(REPLY, &crossing);
    wire.take(ORIG, &fin(1001, 5001)).expect("FIN");
    wire.refuses(REPLY, &crossing);
    wire.take(REPLY, &fin(5001, 1002)).expect("FIN");
    wire.refuses(REPLY, &crossing);
    wire.take(ORIG, &ack(1002, 5002)).expect("ACK");
    assert_eq!(wire.fate(REPLY, &crossing), (None, Fate::Reopen));
}

#[test]
fn n_tcp_6_a_retransmitted_syn_does_not_restart_the_timer() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    wire.passes(ORIG, &syn());
    // Nor does one with another number: the client uses its port again.
    let other = segment(Class::Syn, 770_000, None);
    wire.passes(ORIG, &other);
    // An answer to either is one.
    let mut first = wire.track;
    let tracked = first.track(REPLY, &syn_ack(), &wire.policy);
    assert_eq!(tracked, Ok(Tracked::keep(Timer::TcpSynReceived)));
    let second = segment(Class::SynAck, SERVER, Some(770_001));
    wire.walk(&[
        (REPLY, second, TcpState::SynReceived, Timer::TcpSynReceived),
        (
            ORIG,
            ack(770_001, 5001),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
    ]);
}

#[test]
fn n_tcp_6_nor_in_a_simultaneous_open() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    let crossing = segment(Class::Syn, SERVER, None);
    wire.take(REPLY, &crossing).expect("SYN");
    wire.passes(ORIG, &syn());
    wire.passes(REPLY, &crossing);
}

#[test]
fn n_tcp_7_assured_only_by_the_initiators_acknowledgment() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    assert_eq!(wire.fate(REPLY, &syn_ack()).1, Fate::Keep);
    assert_eq!(wire.fate(REPLY, &data(5001, 1001, 10)).1, Fate::Keep);
    // A guess does not complete it.
    wire.passes(ORIG, &ack(1001, 4000));
    wire.refuses(ORIG, &ack(1001, 900_000));
    assert_eq!(wire.fate(ORIG, &ack(1001, 5001)).1, Fate::Assure);
    assert_eq!(wire.fate(ORIG, &ack(1001, 5011)).1, Fate::Keep);
}

#[test]
fn n_tcp_8_data_in_a_syn() {
    let mut with_data = syn();
    with_data.end = with_data.end + 300;
    for taken in [1001, 1301] {
        let mut wire = Wire::open(&with_data, TcpPolicy::default());
        // The retransmission has none.
        wire.passes(ORIG, &syn());
        wire.walk(&[
            (
                REPLY,
                segment(Class::SynAck, SERVER, Some(taken)),
                TcpState::SynReceived,
                Timer::TcpSynReceived,
            ),
            (
                ORIG,
                data(taken, 5001, 1400),
                TcpState::Established,
                Timer::TcpUnacknowledged,
            ),
        ]);
    }
}

#[test]
fn n_tcp_9_pickup_lives_five_minutes_until_acknowledged_both_ways() {
    let policy = TcpPolicy {
        loose: true,
        ..TcpPolicy::default()
    };
    let (track, timer) = TcpTrack::open(&ack(70_000, 90_000), &policy).expect("loose");
    assert_eq!(
        (track.state(), timer),
        (TcpState::Established, Timer::TcpUnacknowledged)
    );
    let mut wire = Wire { track, policy };
    let (timer, fate) = wire.fate(ORIG, &ack(70_000, 90_000));
    assert_eq!((timer, fate), (Some(Timer::TcpUnacknowledged), Fate::Keep));
    let (timer, fate) = wire.fate(REPLY, &ack(90_000, 70_000));
    assert_eq!((timer, fate), (Some(Timer::TcpUnacknowledged), Fate::Keep));
    let (timer, fate) = wire.fate(ORIG, &ack(70_000, 90_000));
    assert_eq!((timer, fate), (Some(Timer::TcpEstablished), Fate::Assure));
}

#[test]
fn n_tcp_9_pickup_is_off_by_default_and_needs_an_ack() {
    let loose = TcpPolicy {
        loose: true,
        ..TcpPolicy::default()
    };
    assert!(TcpTrack::open(&ack(1, 1), &TcpPolicy::default()).is_err());
    for first in [syn_ack(), fin(1, 1), rst_ack(1, 1)] {
        assert!(TcpTrack::open(&first, &loose).is_err(), "{first:?}");
    }
}

#[test]
fn n_win_8_answers_that_pass_elsewhere() {
    let policy = TcpPolicy {
        loose: true,
        ..TcpPolicy::default()
    };
    let mut wire = Wire::open(&syn(), policy);
    wire.refuses(ORIG, &ack(7777, 5001));
    wire.walk(&[
        (
            ORIG,
            ack(1001, 5001),
            TcpState::Established,
            Timer::TcpUnacknowledged,
        ),
        (
            ORIG,
            data(1001, 5001, 100),
            TcpState::Established,
            Timer::TcpUnacknowledged,
        ),
        (
            ORIG,
            ack(1101, 9_000_000),
            TcpState::Established,
            Timer::TcpUnacknowledged,
        ),
    ]);
    let mut strict = Wire::open(&syn(), TcpPolicy::default());
    strict.refuses(ORIG, &ack(1001, 5001));
}

#[test]
fn n_tcp_10_a_syn_in_an_established_connection_and_a_challenge() {
    let mut wire = Wire::established();
    let reborn = segment(Class::Syn, 777_777, None);
    wire.passes(ORIG, &reborn);
    assert_eq!(
        wire.take(REPLY, &ack(5001, 1001)),
        Ok((TcpState::Established, Some(Timer::TcpEstablished)))
    );
    assert_eq!(
        wire.take(ORIG, &rst(1001)),
        Ok((TcpState::Close, Some(Timer::TcpClose)))
    );
}

#[test]
fn n_tcp_10_a_syn_in_an_established_connection_that_is_answered() {
    let mut wire = Wire::established();
    let reborn = Segment {
        scale: Scale::offered(7),
        ..segment(Class::Syn, 777_777, None)
    };
    wire.passes(ORIG, &reborn);
    let answer = segment(Class::SynAck, 600_000, Some(777_778));
    // One for another SYN does not count.
    wire.passes(REPLY, &segment(Class::SynAck, 600_000, Some(777_779)));
    wire.passes(ORIG, &reborn);
    wire.walk(&[
        (REPLY, answer, TcpState::SynReceived, Timer::TcpSynReceived),
        (
            ORIG,
            ack(777_778, 600_001),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
        (
            ORIG,
            data(777_778, 600_001, 10),
            TcpState::Established,
            Timer::TcpUnacknowledged,
        ),
    ]);
    // What belongs to the connection before says nothing.
    wire.passes(ORIG, &data(1001, 5001, 10));
}

#[test]
fn n_tcp_10_a_syn_in_an_established_connection_that_is_refused() {
    let mut wire = Wire::established();
    wire.passes(ORIG, &segment(Class::Syn, 777_777, None));
    wire.refuses(REPLY, &rst_ack(0, 777_779));
    assert_eq!(
        wire.take(REPLY, &rst_ack(0, 777_778)),
        Ok((TcpState::Close, Some(Timer::TcpClose)))
    );
}

#[test]
fn n_tcp_10_a_retransmitted_syn_ack_changes_nothing() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    wire.take(REPLY, &syn_ack()).expect("SYN+ACK");
    wire.passes(REPLY, &syn_ack());
    wire.passes(ORIG, &syn());
    // It answers the SYN that passed just before: the same handshake.
    assert_eq!(
        wire.take(REPLY, &syn_ack()),
        Ok((TcpState::SynReceived, Some(Timer::TcpSynReceived)))
    );
    wire.take(ORIG, &ack(1001, 5001)).expect("ACK");
    wire.passes(REPLY, &syn_ack());
    assert_eq!(wire.track.state(), TcpState::Established);
}

#[test]
fn n_tcp_10_late_copies_of_a_handshake_lose_nothing() {
    let mut wire = Wire::established();
    wire.take(REPLY, &data(5001, 1001, 1400)).expect("data");
    wire.passes(ORIG, &syn());
    wire.take(REPLY, &syn_ack()).expect("looks like an answer to it");
    assert_eq!(wire.track.state(), TcpState::SynReceived);
    // Acknowledges what was seen before.
    wire.take(ORIG, &ack(1001, 6401)).expect("ACK");
    assert_eq!(wire.track.state(), TcpState::Established);
}

#[test]
fn n_tcp_11_a_syn_reopens_what_is_over() {
    let reborn = segment(Class::Syn, 10, None);
    for side in [ORIG, REPLY] {
        let mut wire = Wire::established();
        let sequence = if side == ORIG { 1001 } else { 5001 };
        wire.take(side, &rst(sequence)).expect("RST");
        assert_eq!(wire.track.state(), TcpState::Close);
        assert_eq!(
            wire.fate(ORIG, &reborn),
            (None, Fate::Reopen),
            "after a RST of {side:?}"
        );
    }
    // Not while it is closing: the other side must agree first.
    let mut wire = Wire::established();
    wire.take(ORIG, &fin(1001, 5001)).expect("FIN");
    wire.passes(ORIG, &reborn);
    wire.take(REPLY, &fin(5001, 1002)).expect("FIN");
    wire.passes(ORIG, &reborn);
}

#[test]
fn n_tcp_1_words_of_conntrack() {
    let words = [
        "SYN_SENT",
        "SYN_RECV",
        "ESTABLISHED",
        "FIN_WAIT",
        "CLOSE_WAIT",
        "LAST_ACK",
        "TIME_WAIT",
        "CLOSE",
        "SYN_SENT2",
    ];
    assert_eq!(TcpState::ALL.map(TcpState::name), words);
    for (number, state) in TcpState::ALL.into_iter().enumerate() {
        assert_eq!(state as usize, number);
    }
}
