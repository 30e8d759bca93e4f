//! nat-conformance §5.3: whose RSTs are believed.

use super::*;

const CLOSED: Outcome = Ok((TcpState::Close, Some(Timer::TcpClose)));

#[test]
fn n_tcp_5_a_refused_syn_leaves_nothing() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    assert_eq!(wire.fate(REPLY, &rst_ack(0, 1001)), (None, Fate::Remove));
}

#[test]
fn n_tcp_5_a_reset_that_does_not_answer_the_syn_ends_nothing() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    wire.refuses(REPLY, &rst_ack(0, 1002));
    for harmless in [
        rst_ack(0, 1000),
        rst_ack(0, 999),
        rst_ack(0, 0),
        rst(0),
        rst(1001),
    ] {
        wire.passes(REPLY, &harmless);
    }
    // The initiator's own is believed where it can be its own.
    wire.passes(ORIG, &rst(999));
    wire.passes(ORIG, &rst(4_000_000));
    assert_eq!(wire.fate(ORIG, &rst(1001)), (None, Fate::Remove));
}

#[test]
fn n_tcp_20_exactly_the_next_number_closes() {
    let mut wire = Wire::established();
    assert_eq!(wire.take(REPLY, &rst(5001)), CLOSED);
}

#[test]
fn n_tcp_20_higher_but_inside_shortens_the_time_and_a_challenge_restores_it() {
    let mut wire = Wire::established();
    let doubtful = Ok((TcpState::Established, Some(Timer::TcpClose)));
    assert_eq!(wire.take(REPLY, &rst(5101)), doubtful);
    let restored = Ok((TcpState::Established, Some(Timer::TcpUnacknowledged)));
    assert_eq!(wire.take(REPLY, &ack(5001, 1001)), restored);
    // The other side confirms it.
    let confirmed = Ok((TcpState::Established, Some(Timer::TcpEstablished)));
    assert_eq!(wire.take(ORIG, &ack(1001, 5001)), confirmed);
    wire.take(REPLY, &data(5001, 1001, 100))
        .expect("goes on as if nothing had been");
    assert_eq!(wire.take(ORIG, &ack(1001, 5101)), confirmed);
}

#[test]
fn n_tcp_20_lower_is_dropped() {
    let mut wire = Wire::established();
    wire.refuses(REPLY, &rst(4000));
    wire.refuses(REPLY, &rst(5000));
    wire.refuses(REPLY, &rst_ack(5000, 1001));
}

#[test]
fn n_tcp_20_above_the_window_is_dropped() {
    let mut wire = Wire::established();
    wire.refuses(REPLY, &rst(200_005_001));
    wire.refuses(REPLY, &rst(5001 + 64_001));
    // So is one that acknowledges what nobody has sent.
    wire.refuses(REPLY, &rst_ack(5001, 1002));
}

#[test]
fn n_tcp_20_at_the_end_of_a_train() {
    let mut wire = Wire::established();
    wire.take(REPLY, &data(5001, 1001, 100)).expect("data");
    assert_eq!(wire.take(REPLY, &rst(5101)), CLOSED);
}

#[test]
fn n_tcp_20_in_the_handshake() {
    let handshake = || {
        let mut wire = Wire::open(&syn(), TcpPolicy::default());
        wire.take(REPLY, &syn_ack()).expect("SYN+ACK");
        wire
    };
    // The client does not want it any more; the server has changed its mind.
    assert_eq!(handshake().take(ORIG, &rst(1001)), CLOSED);
    assert_eq!(handshake().take(REPLY, &rst_ack(5001, 1001)), CLOSED);
    handshake().refuses(ORIG, &rst(0x8000_0000));
    handshake().refuses(REPLY, &rst(1));
    let mut crossed = Wire::open(&syn(), TcpPolicy::default());
    crossed
        .take(REPLY, &segment(Class::Syn, SERVER, None))
        .expect("SYN");
    crossed.passes(REPLY, &rst(1));
    crossed.passes(REPLY, &rst(5001));
    assert_eq!(crossed.take(REPLY, &rst_ack(5001, 1001)), CLOSED);
}

#[test]
fn n_tcp_20_of_a_connection_that_was_picked_up() {
    let policy = TcpPolicy {
        loose: true,
        ..TcpPolicy::default()
    };
    let mut wire = Wire::open(&ack(70_000, 90_000), policy);
    wire.refuses(REPLY, &rst(89_999));
    wire.refuses(REPLY, &rst(90_001));
    assert_eq!(wire.fate(REPLY, &rst(90_000)), (None, Fate::Remove));
    let mut wire = Wire::open(&ack(70_000, 90_000), policy);
    wire.refuses(ORIG, &rst(69_999));
    assert_eq!(wire.fate(ORIG, &rst(70_000)), (None, Fate::Remove));
}

#[test]
fn n_tcp_21_in_a_closing_state_without_a_look_at_its_number() {
    let mut wire = Wire::established();
    let steps = [
        (ORIG, fin(1001, 5001)),
        (REPLY, ack(5001, 1002)),
        (REPLY, fin(5001, 1002)),
        (ORIG, ack(1002, 5002)),
    ];
    for (side, closing) in steps {
        wire.take(side, &closing).expect("closing");
        let mut reset = Wire {
            track: wire.track,
            ..wire
        };
        assert_eq!(reset.take(REPLY, &rst(0xdead_beef)), CLOSED);
    }
}

#[test]
fn n_tcp_22_after_a_reset_the_rest_is_translated() {
    let mut wire = Wire::established();
    wire.take(REPLY, &data(5001, 1001, 100)).expect("data");
    assert_eq!(wire.take(REPLY, &rst(5101)), CLOSED);
    // On its way when the RST was sent; the RST again; its sender's last data, overtaken.
    assert_eq!(wire.take(ORIG, &data(1001, 5001, 50)), CLOSED);
    assert_eq!(wire.take(REPLY, &rst(5101)), CLOSED);
    assert_eq!(wire.take(REPLY, &data(5001, 1001, 100)), CLOSED);
}

#[test]
fn n_tcp_22_who_goes_on_after_his_reset_did_not_send_it() {
    let mut wire = Wire::established();
    assert_eq!(wire.take(REPLY, &rst(5001)), CLOSED);
    let back = Ok((TcpState::Established, Some(Timer::TcpUnacknowledged)));
    assert_eq!(wire.take(REPLY, &data(5001, 1001, 10)), back);

    // A RST whose number nobody could check does not outlive the next segment.
    let mut wire = Wire::established();
    wire.take(ORIG, &fin(1001, 5001)).expect("FIN");
    wire.take(REPLY, &ack(5001, 1002)).expect("ACK");
    assert_eq!(wire.take(REPLY, &rst(0xdead_beef)), CLOSED);
    let back = Ok((TcpState::CloseWait, Some(Timer::TcpCloseWait)));
    assert_eq!(wire.take(REPLY, &ack(5001, 1002)), back);
}

#[test]
fn n_tcp_22_nor_does_it_matter_which_of_two_crossing_syns_was_taken() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    for number in [SERVER, SERVER - 1000] {
        wire.take(REPLY, &segment(Class::Syn, number, None)).expect("SYN");
    }
    assert_eq!(wire.take(ORIG, &rst(CLIENT + 1)), CLOSED);
    assert_eq!(wire.take(ORIG, &ack(CLIENT + 1, SERVER + 1)), CLOSED);
    assert_eq!(
        wire.take(REPLY, &data(SERVER + 1, (CLIENT + 1).wrapping_sub(70_000), 50)),
        CLOSED
    );
    // A SYN begins anew, and anew is judged.
    assert_eq!(wire.fate(ORIG, &syn()), (None, Fate::Reopen));
}

#[test]
fn n_tcp_25_both_end_it_where_we_do_not_see_it() {
    let mut wire = Wire::established();
    wire.refuses(ORIG, &fin(900_000_000, 5001));
    assert!(!wire.track.is_out_of_step());
    wire.refuses(ORIG, &fin(900_000_000, 5001));
    assert!(!wire.track.is_out_of_step());
    wire.refuses(REPLY, &rst(900_000_000));
    assert!(wire.track.is_out_of_step());
    // One valid segment, and all is well.
    wire.take(ORIG, &ack(1001, 5001)).expect("ACK");
    assert!(!wire.track.is_out_of_step());
    wire.refuses(REPLY, &rst(900_000_000));
    assert!(!wire.track.is_out_of_step());
}
