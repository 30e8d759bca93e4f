use proptest::prelude::*;

use super::*;

const ORIG: Direction = Direction::Original;
const REPLY: Direction = Direction::Reply;
/// What the responder puts into its packets: chosen by the initiator.
const TO_CLIENT: u32 = 0xc11e_4700;
/// What the initiator puts into its packets.
const TO_SERVER: u32 = 0x5e12_7e12;

/// A packet of chunks: kind, flags, value.
fn packet(tag: u32, chunks: &[(u8, u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0x13, 0x88, 0x0b, 0x59];
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    for (kind, flags, value) in chunks {
        bytes.extend([*kind, *flags]);
        bytes.extend((value.len() as u16 + 4).to_be_bytes());
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn plain(tag: u32, kind: u8) -> Vec<u8> {
    packet(tag, &[(kind, 0, b"12345")])
}

/// INIT or INIT ACK.
fn offers(tag: u32, kind: u8, offered: u32) -> Vec<u8> {
    let mut value = [0; INIT_LEN];
    value[..4].copy_from_slice(&offered.to_be_bytes());
    packet(tag, &[(kind, 0, &value)])
}

fn opened() -> SctpTrack {
    let (track, timer) = SctpTrack::open(&offers(0, INIT, TO_CLIENT)).expect("INIT");
    assert_eq!((track.state(), timer), ("COOKIE_WAIT", Timer::SctpCookieWait));
    track
}

/// Takes packets, each with the state and the timer after it.
fn walk(track: &mut SctpTrack, steps: &[(Direction, Vec<u8>, &str, Timer)]) {
    for (number, (direction, packet, state, timer)) in steps.iter().enumerate() {
        let tracked = track.track(*direction, packet).expect("a valid packet");
        assert_eq!(
            (track.state(), tracked.timer),
            (*state, Some(*timer)),
            "step {number}"
        );
    }
}

fn established() -> SctpTrack {
    let mut track = opened();
    walk(
        &mut track,
        &[
            (
                REPLY,
                offers(TO_CLIENT, INIT_ACK, TO_SERVER),
                "COOKIE_WAIT",
                Timer::SctpCookieWait,
            ),
            (
                ORIG,
                plain(TO_SERVER, COOKIE_ECHO),
                "COOKIE_ECHOED",
                Timer::SctpCookieEchoed,
            ),
        ],
    );
    let tracked = track.track(REPLY, &plain(TO_CLIENT, COOKIE_ACK));
    assert_eq!(tracked.map(|tracked| tracked.fate), Ok(Fate::Assure));
    assert_eq!(track.state(), "ESTABLISHED");
    track
}

fn refuses(track: &mut SctpTrack, direction: Direction, packet: &[u8]) {
    let before = *track;
    assert_eq!(track.track(direction, packet), Err(DropReason::Invalid));
    assert_eq!(*track, before);
}

#[test]
fn n_op_1_an_association_from_init_to_shutdown_complete() {
    let mut track = established();
    walk(
        &mut track,
        &[
            (
                ORIG,
                plain(TO_SERVER, DATA),
                "ESTABLISHED",
                Timer::SctpEstablished,
            ),
            (
                REPLY,
                plain(TO_CLIENT, HEARTBEAT),
                "ESTABLISHED",
                Timer::SctpEstablished,
            ),
            (
                ORIG,
                plain(TO_SERVER, SHUTDOWN),
                "SHUTDOWN_SENT",
                Timer::SctpShutdownSent,
            ),
            (
                REPLY,
                plain(TO_CLIENT, DATA),
                "SHUTDOWN_SENT",
                Timer::SctpShutdownSent,
            ),
            (
                REPLY,
                plain(TO_CLIENT, SHUTDOWN_ACK),
                "SHUTDOWN_ACK_SENT",
                Timer::SctpShutdownAckSent,
            ),
            (
                ORIG,
                plain(TO_SERVER, SHUTDOWN_COMPLETE),
                "CLOSED",
                Timer::SctpClosed,
            ),
        ],
    );
    assert_eq!(track.track(ORIG, &offers(0, INIT, 7)), Ok(Tracked::REOPEN));
    let mut track = established();
    walk(
        &mut track,
        &[(
            REPLY,
            plain(TO_CLIENT, SHUTDOWN),
            "SHUTDOWN_RECD",
            Timer::SctpShutdownReceived,
        )],
    );
}

#[test]
fn n_op_1_a_wrong_tag_changes_nothing() {
    let mut track = established();
    for kind in [
        DATA,
        HEARTBEAT,
        HEARTBEAT_ACK,
        ABORT,
        SHUTDOWN,
        SHUTDOWN_ACK,
        ERROR,
        COOKIE_ECHO,
        COOKIE_ACK,
    ] {
        for tag in [0, 1, TO_SERVER] {
            refuses(&mut track, REPLY, &plain(tag, kind));
        }
    }
    refuses(&mut track, REPLY, &packet(TO_CLIENT, &[(ABORT, T_BIT, b"")]));
    refuses(&mut track, REPLY, &offers(1, INIT, 7));
    refuses(&mut track, REPLY, &offers(7, INIT_ACK, 7));
    // Anybody can send an INIT; it is for the receiver to see what that is.
    assert_eq!(track.track(REPLY, &offers(0, INIT, 7)), Ok(Tracked::UNCHANGED));
    assert_eq!(track.track(ORIG, &offers(0, INIT, 8)), Ok(Tracked::UNCHANGED));
    walk(
        &mut track,
        &[
            (
                ORIG,
                plain(TO_SERVER, DATA),
                "ESTABLISHED",
                Timer::SctpEstablished,
            ),
            (
                REPLY,
                plain(TO_CLIENT, DATA),
                "ESTABLISHED",
                Timer::SctpEstablished,
            ),
        ],
    );
}

#[test]
fn n_op_1_an_abort_carries_either_tag() {
    let mut refused = opened();
    walk(
        &mut refused,
        &[(REPLY, plain(TO_CLIENT, ABORT), "CLOSED", Timer::SctpClosed)],
    );
    let mut aborted = established();
    walk(
        &mut aborted,
        &[(REPLY, plain(TO_CLIENT, ABORT), "CLOSED", Timer::SctpClosed)],
    );
    // Of a host that has forgotten the association.
    let mut forgotten = established();
    let reflected = packet(TO_SERVER, &[(ABORT, T_BIT, b"")]);
    walk(&mut forgotten, &[(REPLY, reflected, "CLOSED", Timer::SctpClosed)]);
    let mut early = opened();
    refuses(&mut early, REPLY, &packet(0, &[(ABORT, T_BIT, b"")]));
}

#[test]
fn n_op_1_a_host_that_begins_anew() {
    let mut track = established();
    assert_eq!(track.track(ORIG, &offers(0, INIT, 70)), Ok(Tracked::UNCHANGED));
    assert_eq!(
        track.track(REPLY, &offers(70, INIT_ACK, 80)),
        Ok(Tracked::UNCHANGED)
    );
    walk(
        &mut track,
        &[
            (
                ORIG,
                plain(80, COOKIE_ECHO),
                "ESTABLISHED",
                Timer::SctpEstablished,
            ),
            (
                REPLY,
                plain(70, COOKIE_ACK),
                "ESTABLISHED",
                Timer::SctpEstablished,
            ),
        ],
    );
    refuses(&mut track, ORIG, &plain(TO_SERVER, DATA));
}

#[test]
fn n_op_1_inits_that_cross() {
    let mut track = opened();
    assert_eq!(
        track.track(REPLY, &offers(0, INIT, TO_SERVER)),
        Ok(Tracked::UNCHANGED)
    );
    walk(
        &mut track,
        &[
            (
                ORIG,
                offers(TO_SERVER, INIT_ACK, TO_CLIENT),
                "COOKIE_WAIT",
                Timer::SctpCookieWait,
            ),
            (
                REPLY,
                plain(TO_CLIENT, COOKIE_ECHO),
                "COOKIE_ECHOED",
                Timer::SctpCookieEchoed,
            ),
            (
                ORIG,
                plain(TO_SERVER, COOKIE_ACK),
                "ESTABLISHED",
                Timer::SctpEstablished,
            ),
        ],
    );
}

#[test]
fn n_op_1_a_path_that_is_met_by_its_heartbeat() {
    let (mut track, timer) = SctpTrack::open(&plain(TO_SERVER, HEARTBEAT)).expect("HEARTBEAT");
    assert_eq!(
        (track.state(), timer),
        ("HEARTBEAT_SENT", Timer::SctpHeartbeatSent)
    );
    refuses(&mut track, ORIG, &plain(1, HEARTBEAT));
    refuses(&mut track, REPLY, &offers(0, INIT, 9));
    walk(
        &mut track,
        &[(
            ORIG,
            plain(TO_SERVER, HEARTBEAT),
            "HEARTBEAT_SENT",
            Timer::SctpHeartbeatSent,
        )],
    );
    let tracked = track.track(REPLY, &plain(TO_CLIENT, HEARTBEAT_ACK));
    assert_eq!(tracked.map(|tracked| tracked.fate), Ok(Fate::Assure));
    refuses(&mut track, REPLY, &plain(1, DATA));
}

#[test]
fn n_op_1_the_end_of_what_was_not_seen() {
    let (mut track, timer) = SctpTrack::open(&plain(5, SHUTDOWN_ACK)).expect("SHUTDOWN ACK");
    assert_eq!(
        (track.state(), timer),
        ("SHUTDOWN_ACK_SENT", Timer::SctpShutdownAckSent)
    );
    let reflected = packet(5, &[(SHUTDOWN_COMPLETE, T_BIT, b"")]);
    walk(&mut track, &[(REPLY, reflected, "CLOSED", Timer::SctpClosed)]);
}

#[test]
fn n_op_1_a_stale_cookie() {
    let mut track = opened();
    track
        .track(REPLY, &offers(TO_CLIENT, INIT_ACK, TO_SERVER))
        .expect("INIT ACK");
    track
        .track(ORIG, &plain(TO_SERVER, COOKIE_ECHO))
        .expect("COOKIE ECHO");
    walk(
        &mut track,
        &[(REPLY, plain(TO_CLIENT, ERROR), "CLOSED", Timer::SctpClosed)],
    );
}

#[test]
fn n_op_1_bundles() {
    let mut track = established();
    let several = packet(
        TO_SERVER,
        &[(3, 0, b"sack"), (DATA, 0, b"data"), (DATA, 0, b"more")],
    );
    walk(
        &mut track,
        &[(ORIG, several, "ESTABLISHED", Timer::SctpEstablished)],
    );
    for kind in [INIT, INIT_ACK, COOKIE_ECHO, COOKIE_ACK, SHUTDOWN_COMPLETE] {
        refuses(
            &mut track,
            ORIG,
            &packet(TO_SERVER, &[(3, 0, b"sack"), (kind, 0, &[1; 16])]),
        );
    }
    refuses(&mut track, ORIG, &packet(TO_SERVER, &[(3, 0, &b"sack"[..]); 65]));
    assert!(SctpTrack::open(&packet(0, &[(INIT, 0, &[1; 16]), (DATA, 0, b"")])).is_err());
}

#[test]
fn n_op_1_nothing_else_begins_an_association() {
    for kind in (0..=u8::MAX).filter(|kind| ![INIT, HEARTBEAT, SHUTDOWN_ACK].contains(kind)) {
        assert_eq!(
            SctpTrack::open(&plain(5, kind)),
            Err(DropReason::Invalid),
            "chunk {kind}"
        );
    }
    assert_eq!(SctpTrack::open(&offers(5, INIT, 5)), Err(DropReason::Invalid));
    assert_eq!(SctpTrack::open(&offers(0, INIT, 0)), Err(DropReason::Invalid));
    let init = offers(0, INIT, TO_CLIENT);
    for len in 0..init.len() {
        assert_eq!(
            SctpTrack::open(&init[..len]),
            Err(DropReason::Malformed),
            "{len} bytes"
        );
    }
}

#[test]
fn n_tbl_10_an_association_survives_as_bytes() {
    let track = established();
    let bytes = track.save();
    assert_eq!(SctpTrack::restore(&bytes), Some(track));
    let mut bytes = bytes;
    bytes[16] = 8;
    assert_eq!(SctpTrack::restore(&bytes), None);
    for (number, state) in State::ALL.into_iter().enumerate() {
        assert_eq!(state as usize, number);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn n_op_1_no_packet_breaks_an_association(
        packets in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..60), 0..16_u8), 0..20),
    ) {
        let mut track = established();
        for (is_reply, mut bytes, kind) in packets {
            if let Some(first) = bytes.get_mut(12) {
                *first = kind;
            }
            let before = track;
            let outcome = track.track(if is_reply { REPLY } else { ORIG }, &bytes);
            // Nobody guesses a tag.
            prop_assert_eq!((track.state, track.tags), (before.state, before.tags));
            prop_assert!(matches!(outcome, Err(_) | Ok(Tracked::UNCHANGED)));
        }
    }
}
