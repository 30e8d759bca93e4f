//! FINs, and times that are cut short (nat-conformance §5.1, §5.3).

use super::*;

#[test]
fn n_tcp_1_fins_that_cross() {
    let mut wire = Wire::established();
    wire.walk(&[
        (ORIG, fin(1001, 5001), TcpState::FinWait, Timer::TcpFinWait),
        (REPLY, fin(5001, 1001), TcpState::LastAck, Timer::TcpLastAck),
        (ORIG, ack(1002, 5002), TcpState::LastAck, Timer::TcpLastAck),
        (REPLY, ack(5002, 1002), TcpState::TimeWait, Timer::TcpTimeWait),
    ]);
}

#[test]
fn n_tcp_1_the_responder_closes_first() {
    let mut wire = Wire::established();
    wire.walk(&[
        (REPLY, fin(5001, 1001), TcpState::FinWait, Timer::TcpFinWait),
        (ORIG, fin(1001, 5002), TcpState::LastAck, Timer::TcpLastAck),
        (REPLY, ack(5002, 1002), TcpState::TimeWait, Timer::TcpTimeWait),
        // Late copies change nothing.
        (ORIG, fin(1001, 5002), TcpState::TimeWait, Timer::TcpTimeWait),
        (REPLY, ack(5002, 1002), TcpState::TimeWait, Timer::TcpTimeWait),
    ]);
}

#[test]
fn n_tcp_1_a_retransmitted_fin_does_not_advance() {
    let mut wire = Wire::established();
    wire.walk(&[
        (ORIG, fin(1001, 5001), TcpState::FinWait, Timer::TcpFinWait),
        (ORIG, fin(1001, 5001), TcpState::FinWait, Timer::TcpFinWait),
        // Nor does an acknowledgment of the same side, or one that does not reach the FIN.
        (REPLY, data(5001, 1001, 10), TcpState::FinWait, Timer::TcpFinWait),
        (ORIG, ack(1002, 5011), TcpState::FinWait, Timer::TcpFinWait),
        (REPLY, ack(5011, 1002), TcpState::CloseWait, Timer::TcpCloseWait),
        (ORIG, fin(1001, 5011), TcpState::CloseWait, Timer::TcpCloseWait),
        (REPLY, fin(5011, 1002), TcpState::LastAck, Timer::TcpLastAck),
        (REPLY, fin(5011, 1002), TcpState::LastAck, Timer::TcpLastAck),
        (ORIG, ack(1002, 5012), TcpState::TimeWait, Timer::TcpTimeWait),
    ]);
}

#[test]
fn n_tcp_1_a_fin_that_was_overtaken_or_is_beyond_the_window() {
    let mut wire = Wire::established();
    let mut seen = 5001;
    for _ in 0..70 {
        wire.take(REPLY, &data(seen, 1001, 1000)).expect("data");
        seen += 1000;
        wire.take(ORIG, &ack(1002, seen)).expect("what follows the FIN");
    }
    assert_eq!(wire.take(ORIG, &fin(1001, 5001)), Ok((TcpState::FinWait, None)));
    wire.walk(&[(REPLY, ack(seen, 1002), TcpState::CloseWait, Timer::TcpCloseWait)]);

    let mut wire = Wire::established();
    let beyond = 1001 + 64_000;
    wire.take(ORIG, &data(1001, 5001, 64_000))
        .expect("all that is allowed");
    assert_eq!(
        wire.take(ORIG, &fin(beyond + 1, 5001)),
        Ok((TcpState::FinWait, None))
    );
    wire.walk(&[(
        REPLY,
        ack(5001, beyond + 2),
        TcpState::CloseWait,
        Timer::TcpCloseWait,
    )]);
}

#[test]
fn n_tcp_1_a_fin_in_the_handshake() {
    for (side, closing) in [(ORIG, fin(1001, 5001)), (REPLY, fin(5001, 1001))] {
        let mut wire = Wire::open(&syn(), TcpPolicy::default());
        wire.take(REPLY, &syn_ack()).expect("SYN+ACK");
        wire.walk(&[(side, closing, TcpState::FinWait, Timer::TcpFinWait)]);
    }
}

#[test]
fn n_tcp_12_half_closed_goes_on_and_each_segment_refreshes_it() {
    let mut wire = Wire::established();
    wire.walk(&[
        (REPLY, fin(5001, 1001), TcpState::FinWait, Timer::TcpFinWait),
        (ORIG, ack(1001, 5002), TcpState::CloseWait, Timer::TcpCloseWait),
    ]);
    let mut sent = 1001;
    for _ in 0..100 {
        wire.walk(&[
            (
                ORIG,
                data(sent, 5002, 1400),
                TcpState::CloseWait,
                Timer::TcpUnacknowledged,
            ),
            (
                REPLY,
                ack(5002, sent + 1400),
                TcpState::CloseWait,
                Timer::TcpCloseWait,
            ),
        ]);
        sent += 1400;
    }
}

#[test]
fn n_tcp_13_unacknowledged_data_lower_the_timer() {
    let mut wire = Wire::established();
    wire.walk(&[
        (
            ORIG,
            data(1001, 5001, 100),
            TcpState::Established,
            Timer::TcpUnacknowledged,
        ),
        (
            REPLY,
            ack(5001, 1050),
            TcpState::Established,
            Timer::TcpUnacknowledged,
        ),
        (
            REPLY,
            ack(5001, 1101),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
        (
            REPLY,
            data(5001, 1101, 100),
            TcpState::Established,
            Timer::TcpUnacknowledged,
        ),
        (
            ORIG,
            data(1101, 5101, 100),
            TcpState::Established,
            Timer::TcpUnacknowledged,
        ),
        (
            REPLY,
            ack(5101, 1201),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
    ]);
    let policy = TcpPolicy {
        watch_unacknowledged: false,
        ..TcpPolicy::default()
    };
    let mut wire = Wire::established_with(policy);
    wire.walk(&[(
        ORIG,
        data(1001, 5001, 100),
        TcpState::Established,
        Timer::TcpEstablished,
    )]);
}

#[test]
fn n_tcp_14_a_zero_window_lowers_the_timer() {
    let mut wire = Wire::established();
    let full = Segment {
        window: 0,
        ..ack(5001, 1001)
    };
    wire.walk(&[
        (REPLY, full, TcpState::Established, Timer::TcpMaxRetrans),
        (
            REPLY,
            ack(5001, 1001),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
    ]);
}

#[test]
fn n_tcp_15_repetitions_lower_the_timer() {
    let mut wire = Wire::established();
    let again = ack(5001, 1001);
    let long = (REPLY, again, TcpState::Established, Timer::TcpEstablished);
    let short = (REPLY, again, TcpState::Established, Timer::TcpMaxRetrans);
    wire.walk(&[long, long, long, short, short]);
    wire.walk(&[
        (
            ORIG,
            ack(1001, 5001),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
        long,
    ]);
    // What differs in its window is no repetition.
    for window in 1..10 {
        let other = Segment { window, ..again };
        wire.walk(&[(REPLY, other, TcpState::Established, Timer::TcpEstablished)]);
    }
    let policy = TcpPolicy {
        max_retrans: 0,
        ..TcpPolicy::default()
    };
    Wire::established_with(policy).walk(&[long; 300]);
}

#[test]
fn n_tcp_23_an_ack_that_answers_a_syn_in_last_ack() {
    let mut wire = Wire::established();
    wire.walk(&[
        (ORIG, fin(1001, 5001), TcpState::FinWait, Timer::TcpFinWait),
        (REPLY, fin(5001, 1002), TcpState::LastAck, Timer::TcpLastAck),
    ]);
    wire.passes(ORIG, &segment(Class::Syn, 777, None));
    wire.walk(&[
        // It acknowledges the initiator's FIN again, not the responder's.
        (REPLY, ack(5002, 1002), TcpState::LastAck, Timer::TcpLastAck),
        (ORIG, ack(1002, 5002), TcpState::TimeWait, Timer::TcpTimeWait),
    ]);
}

#[test]
fn n_tcp_26_a_fin_takes_the_number_after_its_data() {
    let mut wire = Wire::established();
    let last = Segment {
        end: SeqNum(1102),
        ..fin(1001, 5001)
    };
    wire.walk(&[
        (ORIG, last, TcpState::FinWait, Timer::TcpFinWait),
        (REPLY, ack(5001, 1101), TcpState::FinWait, Timer::TcpFinWait),
        (REPLY, ack(5001, 1102), TcpState::CloseWait, Timer::TcpCloseWait),
    ]);
    wire.refuses(REPLY, &ack(5001, 1103));
}

#[test]
fn n_tbl_10_a_connection_survives_as_bytes() {
    let mut wire = Wire::established();
    wire.take(ORIG, &data(1001, 5001, 100)).expect("data");
    wire.take(REPLY, &fin(5001, 1101)).expect("FIN");
    let bytes = wire.track.save();
    assert_eq!(TcpTrack::restore(&bytes), Some(wire.track));
    for (at, wrong) in [
        (16, 0x8f),
        (16, 0x0e),
        (17, 0x80),
        (52, 0),
        (53, 5),
        (54, 2),
        (55, 9),
        (56, 0x40),
    ] {
        let mut bytes = bytes;
        bytes[at] = wrong;
        let is_refused = TcpTrack::restore(&bytes).is_none();
        assert_eq!(is_refused, at != 52, "byte {at}");
    }
    let mut bytes = bytes;
    bytes[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(TcpTrack::restore(&bytes), None, "a window that is too large");
}
