//! Clients of published ports (R-IN): the relay connects to the container.

use std::time::Duration;

use vswitch_proxy::tcp::End;
use vswitch_wire::TcpFlags;

use crate::{
    scenario::{C, G, MSS, Scenario},
    segment::Segment,
};

/// The container's answer to our SYN.
fn syn_ack() -> Segment {
    Segment {
        ack: vswitch_proxy::seq::SeqNum(G + 1),
        ..Segment::syn(C, MSS)
    }
    .flags(TcpFlags::SYN | TcpFlags::ACK)
}

fn established() -> Scenario {
    let mut s = Scenario::inbound();
    s.sends(syn_ack());
    s.take();
    s
}

#[test]
fn r_in_1_the_syn_offers_segments_and_a_window_scale() {
    let mut s = Scenario::inbound();
    let out = s.take();
    assert_eq!(crate::scenario::render(&out), ["S 5000"]);
    let options = out[0].segment.syn_options.expect("options of SYN");
    assert_eq!((options.mss, options.window_scale), (MSS, Some(8)));
    assert!(out[0].segment.window > 0);
    assert!(s.flow.is_initiating() && !s.flow.is_connecting());
    assert_eq!(s.flow.state_name(), "SYN_SENT");
}

#[test]
fn r_in_2_the_containers_reset_is_the_clients() {
    let mut s = Scenario::inbound();
    s.take();
    s.sends(Segment::ack(0, G + 1).flags(TcpFlags::RST | TcpFlags::ACK));
    assert_eq!((s.flow.end(), s.out()), (Some(End::Reset), vec![]));
    assert!(s.flow.is_refused(), "it counts as failed");
}

#[test]
fn r_in_2_a_reset_that_is_not_for_our_syn_says_nothing() {
    for reset in [
        Segment::reset(C),
        Segment::ack(0, G + 2).flags(TcpFlags::RST | TcpFlags::ACK),
        Segment::ack(0, G).flags(TcpFlags::RST | TcpFlags::ACK),
    ] {
        let mut s = Scenario::inbound();
        s.sends(reset.clone());
        assert_eq!(s.flow.end(), None, "{reset:?}");
    }
}

#[test]
fn r_in_2_a_silent_container_is_asked_seven_times_and_then_the_client_reset() {
    let mut s = Scenario::inbound();
    let start = s.clock.now();
    s.runs(Duration::from_secs(300));
    let out = s.take();
    let times: Vec<u64> = out
        .iter()
        .filter(|emitted| emitted.segment.flags == TcpFlags::SYN)
        .map(|emitted| (emitted.at - start).as_secs())
        .collect();
    assert_eq!(times, [0, 1, 3, 7, 15, 31, 63]);
    let last = out.last().expect("a reset");
    assert_eq!((last.segment.flags, last.segment.seq.0), (TcpFlags::RST, G + 1));
    assert_eq!((last.at - start).as_secs(), 127);
    assert_eq!(s.flow.end(), Some(End::Reset));
}

#[test]
fn r_in_2_a_client_that_gives_up_takes_the_syn_back() {
    let mut s = Scenario::inbound();
    s.take();
    s.aborts();
    assert_eq!(s.out(), ["R 5001"]);
    assert!(!s.flow.is_refused());
}

#[test]
fn r_in_3_the_handshake_ends_at_once_for_a_server_that_speaks_first() {
    let mut s = Scenario::inbound();
    s.take();
    s.sends(syn_ack());
    assert_eq!(s.out(), ["A 5001 ack 1001"]);
    assert!(!s.flow.is_initiating());
    s.sends(Segment::ack(C + 1, G + 1).data(C + 1, 100));
    assert_eq!(s.out(), ["A 5001 ack 1101"]);
    assert_eq!(s.host.outbound.len(), 100);
}

#[test]
fn r_in_3_the_acknowledgment_comes_before_the_first_data() {
    let mut s = Scenario::inbound();
    s.serves(100);
    s.take();
    s.sends(syn_ack());
    assert_eq!(s.out(), ["A 5001 ack 1001", "PA 5001 ack 1001 len 100"]);
}

#[test]
fn r_in_3_an_acknowledgment_that_is_lost_is_sent_again() {
    let mut s = Scenario::inbound();
    s.take();
    s.host.device_full_for = 1;
    s.sends(syn_ack());
    assert_eq!(s.out(), [""; 0]);
    s.runs(Duration::from_millis(10));
    assert_eq!(s.out(), ["A 5001 ack 1001"]);
    // The container has not got it and repeats itself.
    s.sends(syn_ack());
    assert_eq!(s.out(), ["A 5001 ack 1001"]);
}

#[test]
fn r_in_4_what_the_client_sends_early_stays_in_the_socket() {
    let mut s = Scenario::inbound();
    s.take();
    s.serves(5000);
    s.serves(5000);
    assert_eq!(s.out(), [""; 0]);
    assert_eq!(
        s.host.calls.peeks, 0,
        "nobody looks before there is somebody to tell"
    );
    s.sends(syn_ack());
    assert_eq!(s.data(), [(0, 10_000)]);
}

#[test]
fn r_in_4_a_client_that_ends_its_stream_early_is_heard_to_the_end() {
    let mut s = Scenario::inbound();
    s.serves(100);
    s.server_ends();
    s.take();
    s.sends(syn_ack());
    s.take();
    s.sends(Segment::ack(C + 1, G + 101));
    assert_eq!(s.out(), ["FA 5101 ack 1001"]);
    s.sends(Segment::ack(C + 1, G + 102).data(C + 1, 1000));
    s.sends(Segment::ack(C + 1001, G + 102).fin());
    assert!(s.host.shut && s.host.outbound.len() == 1000);
    assert_eq!(s.flow.end(), Some(End::Closed { time_wait: true }));
}

#[test]
fn r_opt_4_windows_are_scaled_only_if_both_sides_offer_it() {
    // The container's own shift says how to read its windows, not ours.
    let scaled = |shift| syn_ack().options(&[2, 4, 5, 180, 1, 3, 3, shift]).window(100);
    for (answer, ours) in [
        (scaled(0), 8),
        (scaled(7), 8),
        (scaled(10), 8),
        (syn_ack().window(100), 0),
    ] {
        let mut s = Scenario::inbound();
        s.take();
        s.sends(answer);
        let out = s.take();
        let window = u32::from(out[0].segment.window) << ours;
        let room = (s.host.capacity as u32).min(u32::from(u16::MAX) << ours);
        assert!(
            window <= room.next_multiple_of(1 << ours) && window > room / 4 * 3,
            "{window}"
        );
        // The window of a SYN is never scaled (RFC 7323 §2.2).
        s.serves(1000);
        assert_eq!(s.data(), [(0, 100)]);
    }
}

#[test]
fn r_opt_1_an_answer_without_mss_gets_small_segments() {
    let mut s = Scenario::inbound();
    s.take();
    s.sends(syn_ack().options(&[]));
    s.serves(1000);
    assert_eq!(s.take()[1].segment.mss, 536);
}

#[test]
fn r_cl_5_a_connection_that_only_the_container_remembers_makes_way() {
    let mut s = Scenario::inbound();
    s.take();
    // RFC 5961: an established connection answers a SYN with an acknowledgment of its own numbers.
    s.sends(Segment::ack(77_000, 88_000));
    assert_eq!(s.out(), ["R 88000"]);
    s.runs(Duration::from_secs(1));
    assert_eq!(s.out(), ["S 5000"]);
    s.sends(syn_ack());
    assert_eq!(s.out(), ["A 5001 ack 1001"]);
}

#[test]
fn r_in_2_the_clients_reset_is_the_containers() {
    let mut s = established();
    s.server_fails(libc::ECONNRESET);
    assert_eq!(s.out(), ["RA 5001 ack 1001"]);
    assert_eq!(s.flow.end(), Some(End::Reset));
}
