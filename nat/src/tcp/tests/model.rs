//! The tracker between two simple hosts whose segments are lost, repeated and overtaken, among forgeries.

use std::collections::VecDeque;

use proptest::{prelude::*, test_runner::TestCaseError};

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn n_tcp_1_what_hosts_say_is_valid_and_its_state_is_theirs(
        start in start(),
        ops in prop::collection::vec(op(), 0..80),
    ) {
        let mut lan = Lan::new(start);
        for op in ops {
            lan.take(op)?;
        }
        lan.settle()?;
        prop_assert_eq!(lan.track.state, lan.expected());
        if lan.track.state == TcpState::TimeWait {
            lan.reuse()?;
            prop_assert_eq!(lan.track.state, TcpState::Established);
        }
    }

    #[test]
    fn n_tcp_20_forgeries_change_nothing(
        start in start(),
        ops in prop::collection::vec(prop_oneof![3 => op(), 2 => forgery()], 0..80),
    ) {
        let mut lan = Lan::new(start);
        for op in ops {
            lan.take(op)?;
        }
        lan.settle()?;
        prop_assert_eq!(lan.track.state, lan.expected());
    }

    #[test]
    fn n_tcp_20_a_hosts_own_reset_ends_it(
        start in start(),
        ops in prop::collection::vec(op(), 0..80),
        side in direction(),
    ) {
        let mut lan = Lan::new(start);
        for op in ops {
            lan.take(op)?;
        }
        let host = &lan.hosts[side as usize];
        if host.stage == Stage::Up {
            let reset = rst_ack(host.next.0, host.received.0);
            let outcome = lan.track.track(side, &reset, &lan.policy);
            // Where the peer has not acknowledged all, silence ends it.
            prop_assert_eq!(outcome, Ok(Tracked::keep(Timer::TcpClose)));
            check(&lan.track)?;
        }
    }

    #[test]
    fn n_tcp_1_no_segment_breaks_a_connection(
        policy in any::<(bool, bool, u8, bool)>(),
        segments in prop::collection::vec(any_segment(), 1..60),
    ) {
        let (loose, liberal, max_retrans, watch_unacknowledged) = policy;
        let policy = TcpPolicy { loose, liberal, max_retrans, watch_unacknowledged };
        let mut track: Option<TcpTrack> = None;
        for (direction, segment) in segments {
            let Some(known) = &mut track else {
                track = TcpTrack::open(&segment, &policy).ok().map(|(track, _)| track);
                continue;
            };
            let before = *known;
            match known.track(direction, &segment, &policy) {
                Ok(Tracked { timer, fate: Fate::Remove | Fate::Reopen }) => {
                    prop_assert_eq!(timer, None);
                    track = None;
                    continue;
                }
                Ok(_) => {}
                Err(_) => prop_assert_eq!((known.state, known.last), (before.state, before.last)),
            }
            check(known)?;
        }
    }
}

/// What always holds.
fn check(track: &TcpTrack) -> Result<(), TestCaseError> {
    for side in &track.sides {
        prop_assert!(side.max_window <= Side::MAX_WINDOW && side.scale.shift() <= Scale::MAX_SHIFT);
        prop_assert!(side.marks.has(Marks::FIN_SENT) || !side.marks.has(Marks::FIN_ACKED));
    }
    prop_assert!(track.flags.has(Flags::REPLIED) || !track.flags.has(Flags::ASSURED));
    prop_assert_eq!(TcpTrack::restore(&track.save()), Some(*track));
    let open = matches!(
        track.state,
        TcpState::SynSent | TcpState::SynSent2 | TcpState::SynReceived | TcpState::Close
    );
    prop_assert!(open || track.state == track.state_by_fins());
    Ok(())
}

/// How a conversation begins.
#[derive(Clone, Copy, Debug)]
struct Start {
    first: [u32; 2],
    scale: bool,
    is_simultaneous: bool,
}

/// What happens next; `usize`s choose among the segments that wait.
#[derive(Clone, Copy, Debug)]
enum Op {
    Close(Direction),
    /// A segment that has passed the tracker arrives.
    Deliver(Direction, usize),
    Forge(Direction, Segment),
    /// A segment gets lost before it reaches the tracker, or behind it.
    Lose(Direction, usize, bool),
    /// A segment reaches the tracker, and perhaps a copy of it waits.
    Pass(Direction, usize, bool),
    Repeat(Direction),
    Send(Direction, u32),
}

fn start() -> impl Strategy<Value = Start> {
    (any::<[u32; 2]>(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(first, scale, is_simultaneous)| Start {
            first,
            scale,
            is_simultaneous,
        },
    )
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(ORIG), Just(REPLY)]
}

fn op() -> impl Strategy<Value = Op> {
    // Mostly in order.
    let nth = || prop_oneof![4 => Just(0_usize), 1 => any::<usize>()];
    prop_oneof![
        1 => direction().prop_map(Op::Close),
        8 => (direction(), nth()).prop_map(|(side, nth)| Op::Deliver(side, nth)),
        1 => (direction(), nth(), any::<bool>()).prop_map(|(side, nth, before)| Op::Lose(side, nth, before)),
        8 => (direction(), nth(), prop::bool::weighted(0.1)).prop_map(|(side, nth, twice)| Op::Pass(side, nth, twice)),
        2 => direction().prop_map(Op::Repeat),
        4 => (direction(), prop_oneof![1..1460_u32, Just(60_000)]).prop_map(|(side, len)| Op::Send(side, len)),
    ]
}

fn forgery() -> impl Strategy<Value = Op> {
    any_segment().prop_map(|(side, segment)| Op::Forge(side, segment))
}

fn any_segment() -> impl Strategy<Value = (Direction, Segment)> {
    let class = prop::sample::select(vec![
        Class::Rst,
        Class::SynAck,
        Class::Syn,
        Class::Fin,
        Class::Ack,
    ]);
    let near = || prop_oneof![Just(0_u32), Just(1), Just(u32::MAX), 0..200_000_u32, any::<u32>()];
    let numbers = (near(), near(), prop_oneof![Just(0), 0..3000_u32, Just(0xffff)]);
    let options = (
        any::<u16>(),
        prop::option::of(any::<u8>()),
        any::<bool>(),
        prop::option::of(near()),
    );
    (direction(), class, any::<bool>(), numbers, options).prop_map(
        |(side, class, rst_ack, numbers, options)| {
            let (sequence, ack, len) = numbers;
            let (window, shift, sack_permitted, edge) = options;
            let has_ack = match class {
                Class::Syn => false,
                Class::Rst => rst_ack,
                _ => true,
            };
            let plain = segment(class, sequence, has_ack.then_some(ack));
            let forged = Segment {
                end: plain.end + len,
                window,
                scale: shift.map_or(Scale::NONE, Scale::offered),
                sack_permitted,
                sack_edge: edge.map(SeqNum).filter(|_| class == Class::Ack),
                ..plain
            };
            (side, forged)
        },
    )
}

/// A host: what it has sent and received.
struct Host {
    stage: Stage,
    first: u32,
    una: SeqNum,
    next: SeqNum,
    received: SeqNum,
    has_closed: bool,
    peer_has_closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Asking,
    Answering,
    Up,
}

/// Two hosts and the tracker between them; index 0 is the initiator, whose segments go in the original direction.
struct Lan {
    hosts: [Host; 2],
    /// Not yet at the tracker.
    before: [VecDeque<Segment>; 2],
    /// Past it.
    after: [VecDeque<Segment>; 2],
    scale: Scale,
    is_simultaneous: bool,
    track: TcpTrack,
    policy: TcpPolicy,
}

impl Lan {
    fn new(start: Start) -> Self {
        let scale = match start.scale {
            true => Scale::offered(7),
            false => Scale::NONE,
        };
        let hosts = start.first.map(Host::idle);
        let policy = TcpPolicy::default();
        let first = Segment {
            scale,
            ..hosts[0].asks()
        };
        let (track, _) = TcpTrack::open(&first, &policy).expect("SYN");
        let mut lan = Self {
            hosts,
            before: Default::default(),
            after: Default::default(),
            scale,
            is_simultaneous: start.is_simultaneous,
            track,
            policy,
        };
        lan.hosts[0].ask();
        lan.after[0].push_back(first);
        if start.is_simultaneous {
            lan.hosts[1].ask();
            lan.emit(REPLY, lan.hosts[1].asks());
        }
        lan
    }

    fn take(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Close(side) => {
                let host = &mut self.hosts[side as usize];
                if host.stage == Stage::Up && !host.has_closed {
                    let fin = fin(host.next.0, host.received.0);
                    host.has_closed = true;
                    host.next = fin.end;
                    self.emit(side, fin);
                }
            }
            Op::Deliver(side, nth) => {
                if let Some(segment) = pick(&mut self.after[side as usize], nth) {
                    self.receive(side.inverted(), &segment);
                }
            }
            Op::Forge(side, segment) => self.forge(side, segment)?,
            Op::Lose(side, nth, before) => {
                let queues = if before { &mut self.before } else { &mut self.after };
                pick(&mut queues[side as usize], nth);
            }
            Op::Pass(side, nth, twice) => {
                if let Some(segment) = pick(&mut self.before[side as usize], nth) {
                    // A copy of a SYN could come when all is over, and begin another connection.
                    if twice && segment.class != Class::Syn {
                        self.before[side as usize].push_back(segment);
                    }
                    self.pass(side, segment)?;
                }
            }
            Op::Repeat(side) => self.repeat(side),
            Op::Send(side, len) => {
                let host = &mut self.hosts[side as usize];
                let is_allowed = host.next - host.una + len <= WINDOW;
                if host.stage == Stage::Up && !host.has_closed && is_allowed {
                    let segment = data(host.next.0, host.received.0, len);
                    host.next = segment.end;
                    self.emit(side, segment);
                }
            }
        }
        check(&self.track)
    }

    /// Through the tracker.
    fn pass(&mut self, side: Direction, segment: Segment) -> Result<(), TestCaseError> {
        let outcome = self.track.track(side, &segment, &self.policy);
        let is_valid = matches!(
            outcome,
            Ok(Tracked {
                fate: Fate::Keep | Fate::Assure,
                ..
            })
        );
        prop_assert!(
            is_valid,
            "{:?} {:?} in {:?}: {:?}",
            side,
            segment,
            self.track,
            outcome
        );
        self.after[side as usize].push_back(segment);
        Ok(())
    }

    /// From somebody who knows the addresses and ports, and no number.
    fn forge(&mut self, side: Direction, mut segment: Segment) -> Result<(), TestCaseError> {
        let before = self.track;
        let host = &self.hosts[side as usize];
        let distance = (segment.sequence - host.next).min(host.next - segment.sequence);
        let ends = matches!(before.state, TcpState::TimeWait | TcpState::Close);
        // Of two SYNs that cross the initiator's it takes more than this to find the right one.
        let crosses = before.state == TcpState::SynSent2 || self.is_simultaneous;
        if distance < 1 << 20 || (segment.class == Class::Syn && (ends || crosses)) {
            return Ok(());
        }
        // A guess at an acknowledgment number is none of those that would be right.
        if segment.has_ack {
            segment.acknowledgment = self.hosts[side.inverted() as usize].next + 0x4000_0000;
        }
        let outcome = self.track.track(side, &segment, &self.policy);
        match (before.state, segment.class) {
            // Anybody can ask, and nobody knows the number before that; the true answer counts all the same.
            (TcpState::SynSent, Class::Syn) => {}
            // N-TCP-21, and what it leads to lasts until the next segment.
            (TcpState::FinWait | TcpState::CloseWait | TcpState::LastAck, Class::Rst) => {}
            (TcpState::TimeWait | TcpState::Close, Class::Rst) => {}
            _ => {
                prop_assert_eq!(self.track.state, before.state, "{:?} in {:?}", segment, before);
                let timer = outcome.map_or(None, |tracked| tracked.timer);
                prop_assert_eq!(timer, None, "{:?} in {:?}", segment, before);
            }
        }
        Ok(())
    }

    /// A host emits a segment, with the window that it has.
    fn emit(&mut self, side: Direction, segment: Segment) {
        let begins = matches!(segment.class, Class::Syn | Class::SynAck);
        let segment = match begins {
            true => Segment {
                window: WINDOW as u16,
                scale: self.scale,
                ..segment
            },
            false => Segment {
                window: (WINDOW >> self.scale.shift()) as u16,
                ..segment
            },
        };
        self.before[side as usize].push_back(segment);
    }

    fn receive(&mut self, side: Direction, segment: &Segment) {
        if let Some(answer) = self.hosts[side as usize].receive(segment) {
            self.emit(side, answer);
        }
    }

    fn repeat(&mut self, side: Direction) {
        if let Some(segment) = self.hosts[side as usize].repeats() {
            self.emit(side, segment);
        }
    }

    /// Until nothing waits and all is acknowledged; nothing is lost any more.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for side in [ORIG, REPLY] {
            let host = &self.hosts[side as usize];
            if host.stage == Stage::Up {
                self.emit(side, ack(host.next.0, host.received.0));
            }
        }
        for _ in 0..100 {
            for side in [ORIG, REPLY] {
                while let Some(segment) = self.before[side as usize].pop_front() {
                    self.pass(side, segment)?;
                }
                while let Some(segment) = self.after[side as usize].pop_front() {
                    self.receive(side.inverted(), &segment);
                }
            }
            let waits = self.before.iter().any(|queue| !queue.is_empty());
            let all_done = self
                .hosts
                .iter()
                .all(|host| host.stage == Stage::Up && host.una == host.next);
            if all_done && !waits {
                return Ok(());
            }
            for side in [ORIG, REPLY] {
                self.repeat(side);
            }
        }
        Err(TestCaseError::fail(format!(
            "does not come to an end: {:?}",
            self.track
        )))
    }

    /// The state by what the hosts have done, when all is acknowledged.
    fn expected(&self) -> TcpState {
        match self.hosts.iter().filter(|host| host.has_closed).count() {
            0 => TcpState::Established,
            1 => TcpState::CloseWait,
            _ => TcpState::TimeWait,
        }
    }

    /// The client uses its port again.
    fn reuse(&mut self) -> Result<(), TestCaseError> {
        self.hosts = [0, 1].map(|side| Host::idle(self.hosts[side].next.0.wrapping_add(100_000)));
        let syn = Segment {
            scale: self.scale,
            ..self.hosts[0].asks()
        };
        let outcome = self.track.track(ORIG, &syn, &self.policy);
        prop_assert_eq!(outcome, Ok(Tracked::REOPEN));
        let (track, _) = TcpTrack::open(&syn, &self.policy).expect("SYN");
        self.track = track;
        self.hosts[0].ask();
        self.after[0].push_back(syn);
        self.settle()
    }
}

impl Host {
    fn idle(first: u32) -> Self {
        Self {
            stage: Stage::Idle,
            first,
            una: SeqNum(first),
            next: SeqNum(first),
            received: SeqNum(0),
            has_closed: false,
            peer_has_closed: false,
        }
    }

    fn ask(&mut self) {
        self.stage = Stage::Asking;
        self.next = SeqNum(self.first) + 1;
    }

    fn asks(&self) -> Segment {
        segment(Class::Syn, self.first, None)
    }

    fn answers(&self) -> Segment {
        segment(Class::SynAck, self.first, Some(self.received.0))
    }

    /// What it says to a segment.
    fn receive(&mut self, heard: &Segment) -> Option<Segment> {
        let begins = matches!(heard.class, Class::Syn | Class::SynAck);
        match self.stage {
            Stage::Idle | Stage::Asking if heard.class == Class::Syn => {
                self.next = SeqNum(self.first) + 1;
                self.received = heard.end;
                self.stage = Stage::Answering;
                return Some(self.answers());
            }
            Stage::Asking if heard.class == Class::SynAck && heard.acknowledgment == self.next => {
                self.received = heard.end;
            }
            Stage::Answering if heard.has_ack && heard.acknowledgment == self.next => {}
            Stage::Answering if heard.class == Class::Syn => return Some(self.answers()),
            Stage::Up => {}
            Stage::Idle | Stage::Asking | Stage::Answering => return None,
        }
        self.stage = Stage::Up;
        if heard.has_ack && self.una.lt(heard.acknowledgment) && heard.acknowledgment.le(self.next) {
            self.una = heard.acknowledgment;
        }
        if !begins && heard.sequence.le(self.received) && self.received.lt(heard.end) {
            self.received = heard.end;
            self.peer_has_closed |= heard.class == Class::Fin;
        }
        // Whatever takes a number is acknowledged.
        (heard.end != heard.sequence).then(|| ack(self.next.0, self.received.0))
    }

    /// The first that is not acknowledged, again.
    fn repeats(&self) -> Option<Segment> {
        match self.stage {
            Stage::Idle => None,
            Stage::Asking => Some(self.asks()),
            Stage::Answering => Some(self.answers()),
            Stage::Up if self.una == self.next => None,
            Stage::Up => {
                let left = self.next - self.una;
                let whole = left <= 1460;
                let plain = match whole && self.has_closed {
                    true => fin(self.una.0, self.received.0),
                    false => ack(self.una.0, self.received.0),
                };
                Some(Segment {
                    end: self.una + left.min(1460),
                    ..plain
                })
            }
        }
    }
}

/// Takes one out of a queue; nothing overtakes a SYN.
fn pick(queue: &mut VecDeque<Segment>, nth: usize) -> Option<Segment> {
    let begins = queue.front().is_some_and(|first| first.class == Class::Syn);
    let nth = if begins { 0 } else { nth.checked_rem(queue.len())? };
    queue.remove(nth)
}

/// Every host's, always.
const WINDOW: u32 = 64_000;
