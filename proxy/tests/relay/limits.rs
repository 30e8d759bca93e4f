//! A container that means harm (R-LIM-4, R-LIM-5) and what a flow costs.

use std::mem::size_of;

use proptest::{collection::vec, prelude::*};
use vswitch_proxy::{seq::SeqNum, tcp::Connection};
use vswitch_wire::TcpFlags;

use crate::{
    host::EARLY_BYTES,
    scenario::{C, G, MSS, Scenario},
    segment::Segment,
};

#[test]
fn r_lim_1_a_flow_costs_some_hundred_bytes() {
    assert!(size_of::<Connection>() <= 512, "{}", size_of::<Connection>());
}

#[test]
fn r_lim_4_the_first_copy_counts() {
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 1, G + 1).payload(&[1; 100]));
    s.sends(Segment::ack(C + 1, G + 1).payload(&[2; 150]));
    s.sends(Segment::ack(C + 51, G + 1).payload(&[3; 150]));
    let mut expected = vec![1; 100];
    expected.extend([2; 50]);
    expected.extend([3; 50]);
    assert_eq!(s.host.outbound, expected);
}

#[test]
fn r_lim_4_single_bytes_arrive() {
    let mut s = Scenario::established();
    for at in 0..2000 {
        s.sends(Segment::ack(C + 1 + at, G + 1).data(C + 1, 1));
    }
    assert_eq!(s.host.outbound.len(), 2000);
    assert!(s.take().len() <= 2000, "no more answers than questions");
}

#[test]
fn r_lim_4_answers_do_not_multiply() {
    // Whatever comes in, at most a handful of segments go out for it.
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 1, G + 1).window(1));
    s.serves(1 << 20);
    s.take();
    for at in 0..1000_u32 {
        s.sends(Segment::ack(C + 1, G + 1).window((at % 2) as u16));
    }
    assert!(s.take().len() <= 1000);
}

#[test]
fn r_lim_5_acknowledgments_of_the_unsent_read_nothing_ahead() {
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 1, G + 1).window(1000));
    s.serves(50_000);
    let sent = s.host.sent_until;
    for ahead in 1..100 {
        s.sends(Segment::ack(C + 1, sent.0 + ahead * 500));
    }
    assert_eq!(s.host.discarded, 0);
    assert_eq!(s.host.sent_until, sent);
}

/// One thing that happens to a connection.
#[derive(Debug, Clone)]
enum Event {
    Segment(Hostile),
    Batch(Vec<Hostile>),
    Serves(usize),
    ServerEnds,
    ServerFails,
    ServerReads(usize),
    Room(usize, u32),
    DeviceFull(usize),
    DiscardFails,
    Passes(u64),
    Hints,
}

/// A segment around what the relay expects, or far from it.
#[derive(Debug, Clone)]
struct Hostile {
    seq: Number,
    ack: Number,
    flags: u8,
    window: u16,
    options: Vec<u8>,
    len: usize,
    fill: u8,
}

#[derive(Debug, Clone)]
enum Number {
    Near(i32),
    Any(u32),
}

impl Number {
    fn resolve(&self, expected: SeqNum) -> SeqNum {
        match *self {
            Self::Near(by) => SeqNum(expected.0.wrapping_add_signed(by)),
            Self::Any(number) => SeqNum(number),
        }
    }
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        6 => Just(Number::Near(0)),
        4 => (-3000..3000).prop_map(Number::Near),
        1 => (-200_000..200_000).prop_map(Number::Near),
        1 => any::<u32>().prop_map(Number::Any),
    ]
}

fn flags() -> impl Strategy<Value = u8> {
    prop_oneof![
        20 => Just(TcpFlags::ACK.0),
        4 => Just((TcpFlags::ACK | TcpFlags::PSH).0),
        1 => Just((TcpFlags::ACK | TcpFlags::FIN).0),
        1 => any::<u8>().prop_map(|flags| flags & !TcpFlags::RST.0),
        1 => any::<u8>(),
    ]
}

fn hostile() -> impl Strategy<Value = Hostile> {
    let len = prop_oneof![Just(0_usize), Just(1), 0..3000_usize, 0..65_000_usize];
    let window = prop_oneof![Just(0_u16), Just(1), Just(60_000), any::<u16>()];
    let options = prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<u8>(), 0..=40)];
    (number(), number(), flags(), window, options, len, any::<u8>()).prop_map(
        |(seq, ack, flags, window, options, len, fill)| Hostile {
            seq,
            ack,
            flags,
            window,
            options,
            len,
            fill,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => hostile().prop_map(Event::Segment),
        4 => vec(hostile(), 1..8).prop_map(Event::Batch),
        6 => (0..30_000_usize).prop_map(Event::Serves),
        1 => Just(Event::ServerEnds),
        1 => Just(Event::ServerFails),
        6 => (0..60_000_usize).prop_map(Event::ServerReads),
        2 => (0..300_000_usize, any::<u32>()).prop_map(|(room, window)| Event::Room(room, window)),
        2 => (0..5_usize).prop_map(Event::DeviceFull),
        1 => Just(Event::DiscardFails),
        4 => (0..3000_u64).prop_map(Event::Passes),
        1 => (0..400_000_u64).prop_map(Event::Passes),
        2 => Just(Event::Hints),
    ]
}

impl Hostile {
    fn segment(&self, s: &Scenario) -> Segment {
        let expected = s.host.expected() + u32::from(s.host.shut);
        Segment {
            seq: self.seq.resolve(expected),
            ack: self.ack.resolve(s.host.sent_until),
            flags: TcpFlags(self.flags),
            window: self.window,
            options: self.options.clone(),
            payload: vec![self.fill; self.len],
        }
    }
}

fn apply(s: &mut Scenario, event: &Event) {
    match event {
        Event::Segment(hostile) => s.sends(hostile.segment(s)),
        Event::Batch(batch) => {
            let segments: Vec<_> = batch.iter().map(|hostile| hostile.segment(s)).collect();
            s.sends_batch(&segments);
        }
        Event::Serves(len) if !s.host.ended => s.serves(*len),
        Event::Serves(_) => s.readable(),
        Event::ServerEnds => s.server_ends(),
        Event::ServerFails => s.server_fails(libc::ECONNRESET),
        Event::ServerReads(len) => s.server_reads((*len).min(s.host.queued)),
        Event::Room(capacity, window) => (s.host.capacity, s.host.peer_window) = (*capacity, *window),
        Event::DeviceFull(frames) => s.host.device_full_for = *frames,
        Event::DiscardFails => s.host.failing_discards = 1,
        Event::Passes(millis) => s.runs(std::time::Duration::from_millis(*millis)),
        Event::Hints => {
            s.readable();
            s.writable();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// The mock around the flow judges each call: payload that is not the next of the stream, discards of what
    /// the container has not acknowledged, acknowledgments of what the host did not take, data beyond the
    /// window, anything after a reset.
    #[test]
    fn r_lim_4_nothing_a_container_sends_breaks_a_flow(
        scale in proptest::option::of(any::<u8>()),
        isn in any::<u32>(),
        events in vec(event(), 1..120),
    ) {
        let mut settings = crate::scenario::settings();
        settings.isn = SeqNum(isn);
        let options = scale.map_or(vec![], |scale| vec![2, 4, 5, 0xb4, 3, 3, scale]);
        let syn = Segment::syn(isn.rotate_left(9), MSS).options(&options);
        let shift = scale.unwrap_or(0).min(14);
        let mut s = Scenario::with_settings(syn, settings).scaled(shift).shake();
        for event in &events {
            let before = s.host.calls.emits;
            let timeouts = s.timeouts;
            apply(&mut s, event);
            let emits = s.host.calls.emits - before;
            let work = 200 + 8 * (s.timeouts - timeouts);
            prop_assert!(emits <= work, "{emits} segments for {event:?}");
            prop_assert!(s.host.early.used() <= EARLY_BYTES);
            s.take();
        }
        drop(s.flow);
        prop_assert_eq!(s.host.early.used(), 0, "memory comes back");
    }

    /// The same before the handshake has ended.
    #[test]
    fn r_lim_4_nothing_breaks_a_handshake(events in vec(event(), 1..30), connects_at in 0..30_usize) {
        let mut s = Scenario::pending();
        for (at, event) in events.iter().enumerate() {
            if at == connects_at {
                s.connected();
            }
            apply(&mut s, event);
        }
    }
}
