//! nat-conformance §5.2.

use super::*;

/// A handshake in which both sides offer to shift windows.
fn scaled(shift: u8) -> Wire {
    let offer = |plain: Segment| Segment {
        scale: Scale::offered(shift),
        ..plain
    };
    let mut wire = Wire::open(&offer(syn()), TcpPolicy::default());
    wire.take(REPLY, &offer(syn_ack())).expect("SYN+ACK");
    wire.take(ORIG, &ack(1001, 5001)).expect("ACK");
    wire
}

#[test]
fn n_win_1_windows_are_scaled_if_both_offer_it() {
    // The SYN+ACK's window of 64 000 counts as it stands, the next one shifted.
    let mut wire = scaled(7);
    wire.refuses(ORIG, &data(1001 + 2 * 64_000, 5001, 1));
    wire.take(REPLY, &ack(5001, 1001)).expect("window update");
    wire.take(ORIG, &data(1001 + (64_000 << 7) - 1, 5001, 1))
        .expect("inside");
    wire.refuses(ORIG, &data(1001 + ((2 * 64_000) << 7), 5001, 1));

    for (syn_offer, answer_offer) in [(Scale::offered(7), Scale::NONE), (Scale::NONE, Scale::offered(7))] {
        let mut wire = Wire::open(
            &Segment {
                scale: syn_offer,
                ..syn()
            },
            TcpPolicy::default(),
        );
        wire.take(
            REPLY,
            &Segment {
                scale: answer_offer,
                ..syn_ack()
            },
        )
        .expect("SYN+ACK");
        wire.take(ORIG, &ack(1001, 5001)).expect("ACK");
        wire.take(REPLY, &ack(5001, 1001)).expect("window update");
        wire.refuses(ORIG, &data(1001 + 2 * 64_000, 5001, 1));
    }
}

#[test]
fn n_win_1_a_shift_is_cut_to_fourteen() {
    assert_eq!(Scale::offered(15).shift(), 14);
    assert_eq!(Scale::offered(255).shift(), 14);
    assert_eq!(Scale::offered(0).shift(), 0);
    assert!(Scale::offered(0).is_offered() && !Scale::NONE.is_offered());
}

#[test]
fn n_win_3_far_ahead_is_invalid() {
    let mut wire = Wire::established();
    wire.refuses(ORIG, &data(1001 + 100_000_000, 5001, 1));
    wire.refuses(REPLY, &data(5001 + 100_000_000, 1001, 1));
}

#[test]
fn n_win_3_an_acknowledgment_of_the_unseen_is_invalid() {
    let mut wire = Wire::established();
    wire.refuses(ORIG, &ack(1001, 5001 + 100_000));
    wire.refuses(ORIG, &ack(1001, 5002));
    wire.take(REPLY, &data(5001, 1001, 1)).expect("data");
    wire.take(ORIG, &ack(1001, 5002)).expect("seen now");
}

#[test]
fn n_win_3_old_duplicates_pass_without_effect() {
    let mut wire = Wire::established();
    let mut sent = 1001;
    while sent < 101_001 {
        wire.take(ORIG, &data(sent, 5001, 1000)).expect("data");
        sent += 1000;
        wire.take(REPLY, &ack(5001, sent)).expect("ACK");
    }
    let before = wire.track;
    wire.passes(ORIG, &data(sent - 70_000, 5001, 100));
    wire.passes(REPLY, &ack(5001, sent - 70_000));
    assert_eq!(wire.track, before);
}

#[test]
fn n_win_3_a_small_overshoot_passes_and_its_acknowledgment_is_known() {
    let mut wire = Wire::established();
    let allowed = 1001 + 64_000;
    wire.take(ORIG, &data(1001, 5001, 64_000))
        .expect("all that is allowed");
    wire.passes(ORIG, &data(allowed + 1, 5001, 500));
    wire.refuses(ORIG, &data(allowed + 64_000, 5001, 1));
    wire.take(REPLY, &ack(5001, allowed + 501)).expect("was seen");
}

#[test]
fn n_win_3_what_acknowledges_the_unseen_is_invalid_even_if_it_is_old() {
    let mut wire = Wire::established();
    wire.passes(REPLY, &data(SERVER.wrapping_sub(100_000), CLIENT + 1, 60));
    wire.refuses(REPLY, &data(SERVER.wrapping_sub(100_000), CLIENT + 2, 60));
}

#[test]
fn n_win_3_an_old_acknowledgment_in_the_handshake_permits_nothing() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    wire.take(REPLY, &syn_ack()).expect("SYN+ACK");
    wire.refuses(
        ORIG,
        &data(CLIENT + 1 + 65_000, SERVER.wrapping_sub(500_000_000), 45),
    );
    wire.refuses(ORIG, &data(CLIENT + 100_000_000, SERVER, 45));
    // A guess near the numbers passes, and completes nothing.
    wire.passes(ORIG, &data(CLIENT + 1, SERVER, 45));
}

#[test]
fn n_win_4_nothing_is_outside_of_a_connection_that_was_picked_up() {
    let policy = TcpPolicy {
        loose: true,
        ..TcpPolicy::default()
    };
    let mut wire = Wire::open(&ack(70_000, 90_000), policy);
    wire.take(REPLY, &data(90_000, 70_000, 1400)).expect("answer");
    // A scaled window of the responder allows this.
    wire.take(ORIG, &data(70_000, 91_400, 1400)).expect("data");
    wire.take(ORIG, &data(70_000 + 900_000, 91_400, 1400))
        .expect("data");
    wire.take(REPLY, &ack(91_400, 70_000 + 950_000))
        .expect("acknowledges what passed elsewhere");
}

#[test]
fn n_win_5_liberal_looks_at_resets_only() {
    let policy = TcpPolicy {
        liberal: true,
        ..TcpPolicy::default()
    };
    let mut wire = Wire::established_with(policy);
    wire.refuses(REPLY, &rst(5001 + 100_000_000));
    wire.refuses(REPLY, &rst(4000));
    wire.take(ORIG, &data(1001 + 100_000_000, 5001, 1))
        .expect("liberal");
    wire.take(ORIG, &ack(1001, 5001 + 100_000)).expect("liberal");
}

#[test]
fn n_win_6_a_reset_without_an_acknowledgment_number() {
    let mut wire = Wire::established();
    assert_eq!(
        wire.take(REPLY, &rst_ack(5001, 0)),
        Ok((TcpState::Close, Some(Timer::TcpClose)))
    );
}

#[test]
fn n_win_6_keepalives_are_inside() {
    let mut wire = Wire::established();
    wire.take(ORIG, &data(1001, 5001, 10)).expect("data");
    wire.take(REPLY, &ack(5001, 1011)).expect("ACK");
    wire.walk(&[
        (
            ORIG,
            data(1010, 5001, 0),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
        (
            REPLY,
            ack(5001, 1011),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
        (
            ORIG,
            data(1010, 5001, 1),
            TcpState::Established,
            Timer::TcpEstablished,
        ),
    ]);
}

#[test]
fn n_win_6_a_closed_window_is_probed_with_one_byte() {
    let mut wire = Wire::established();
    wire.take(ORIG, &data(1001, 5001, 64_000))
        .expect("all that is allowed");
    wire.take(
        REPLY,
        &Segment {
            window: 0,
            ..ack(5001, 65_001)
        },
    )
    .expect("full");
    wire.take(ORIG, &data(65_001, 5001, 1)).expect("probe");
    wire.take(
        REPLY,
        &Segment {
            window: 0,
            ..ack(5001, 65_001)
        },
    )
    .expect("still full");
}

#[test]
fn n_win_7_a_super_frame_counts_whole() {
    let mut wire = Wire::established();
    wire.take(ORIG, &data(1001, 5001, 64_000)).expect("super-frame");
    wire.take(REPLY, &ack(5001, 65_001)).expect("acknowledges all");
    wire.refuses(REPLY, &ack(5001, 65_002));
}

#[test]
fn n_win_3_selective_acknowledgments_count_as_seen() {
    let mut wire = Wire::established();
    wire.take(REPLY, &data(5001, 1001, 3000)).expect("data");
    let edge = |edge| Segment {
        sack_edge: Some(SeqNum(edge)),
        ..ack(1001, 5001)
    };
    wire.take(ORIG, &edge(8001)).expect("seen");
    wire.refuses(ORIG, &edge(8002));
    // Of a side that has not offered it, they are no acknowledgments.
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    wire.take(
        REPLY,
        &Segment {
            sack_permitted: false,
            ..syn_ack()
        },
    )
    .expect("SYN+ACK");
    wire.take(ORIG, &edge(900_000)).expect("no SACK");
}

#[test]
fn n_ice_13_only_what_is_in_flight() {
    let mut wire = Wire::open(&syn(), TcpPolicy::default());
    assert!(wire.track.is_in_flight(ORIG, 1000) && wire.track.is_in_flight(ORIG, 1001));
    assert!(!wire.track.is_in_flight(ORIG, 999) && !wire.track.is_in_flight(ORIG, 1002));
    assert!(!wire.track.is_in_flight(REPLY, 5000));
    wire.take(REPLY, &syn_ack()).expect("SYN+ACK");
    assert!(wire.track.is_in_flight(REPLY, 5000));
    wire.take(ORIG, &ack(1001, 5001)).expect("ACK");
    wire.take(ORIG, &data(1001, 5001, 1000)).expect("data");
    wire.take(REPLY, &ack(5001, 1501)).expect("ACK");
    for (sequence, is_in_flight) in [
        (1500, false),
        (1501, true),
        (2001, true),
        (2002, false),
        (77, false),
    ] {
        assert_eq!(
            wire.track.is_in_flight(ORIG, sequence),
            is_in_flight,
            "{sequence}"
        );
    }
    // A SYN that is not of this connection, but passed.
    wire.passes(ORIG, &segment(Class::Syn, 777_777, None));
    assert!(wire.track.is_in_flight(ORIG, 777_777) && !wire.track.is_in_flight(REPLY, 777_777));
}

#[test]
fn n_ice_13_nothing_is_old_where_nothing_was_acknowledged() {
    let policy = TcpPolicy {
        loose: true,
        ..TcpPolicy::default()
    };
    let mut wire = Wire::open(&data(70_000, 90_000, 100), policy);
    assert!(wire.track.is_in_flight(ORIG, 60_000) && !wire.track.is_in_flight(ORIG, 70_101));
    wire.take(REPLY, &ack(90_000, 70_100)).expect("ACK");
    assert!(!wire.track.is_in_flight(ORIG, 60_000) && wire.track.is_in_flight(ORIG, 70_100));
}
