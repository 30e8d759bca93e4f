//! The tracker of one TCP connection: its state, its windows, whom to believe (nat-conformance §5).
//!
//! Theory of operation. Each [`Side`] has the numbers that it has sent and acknowledged; a segment is taken into account only
//! if it lies inside of what both sides have told ([`side`]). Until a handshake is complete the state says which part of it
//! is missing; after that the state follows from the marks of both sides alone, whether they have sent FIN and whether
//! that was acknowledged, so that a retransmitted FIN changes nothing. Segments that fit no step of the [`table`] are
//! invalid, or pass without an effect where it may be the tracker that is out of step: of those a SYN is remembered,
//! because its answer brings the tracker back into step.

use self::{
    segment::{Class, Scale},
    seq::SeqNum,
    side::{Marks, Position, Side, absorb, position},
    table::{Step, step},
};
use crate::{Direction, DropReason, Timer};

mod handshake;
mod reset;
mod segment;
mod seq;
mod side;
mod snapshot;
mod state;
mod table;

pub(crate) use segment::Segment;
pub use state::{TcpPolicy, TcpState};

/// One connection. At most 60 bytes.
///
/// # States
///
/// [`SynSent`](TcpState::SynSent) after [`open`](Self::open), or [`Established`](TcpState::Established) where a
/// connection was picked up. [`track`](Self::track) may be called in every state; [`Fate::Remove`] and [`Fate::Reopen`]
/// are the exits, after which it must not be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpTrack {
    /// Of the original and of the reply direction.
    sides: [Side; 2],
    /// The last segment that was taken into account, or a SYN that passed without.
    last: Last,
    /// Whose that is.
    spoke: Direction,
    state: TcpState,
    flags: Flags,
}

/// What a valid segment does to the connection's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tracked {
    /// The time that the entry has from now on; `None` leaves its deadline as it is (N-TCP-6).
    pub(crate) timer: Option<Timer>,
    pub(crate) fate: Fate,
}

/// What becomes of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays, and is assured from now on (N-TCP-7).
    Assure,
    /// It stays as it is.
    Keep,
    /// The segment is translated, and the entry is removed at once (N-TCP-5).
    Remove,
    /// The entry is removed, and the segment is one of no connection: the initiator's begins another with the same mapping
    /// (N-TCP-11), the responder's is one that nobody asked for.
    Reopen,
}

impl TcpTrack {
    /// Begins with a connection's first segment; the time that the entry has.
    ///
    /// # Errors
    ///
    /// [`DropReason::Invalid`] if no connection begins so.
    pub(crate) fn open(segment: &Segment, policy: &TcpPolicy) -> Result<(Self, Timer), DropReason> {
        match segment.class {
            Class::Syn => Ok((Self::begin(segment), Timer::TcpSynSent)),
            // N-TCP-9. Its time is short until the other side shows that it knows of the connection.
            Class::Ack if policy.loose => Ok((Self::pick_up(segment), Timer::TcpUnacknowledged)),
            _ => Err(DropReason::Invalid),
        }
    }

    /// Takes a later segment.
    ///
    /// # Errors
    ///
    /// [`DropReason::Invalid`]; nothing has changed but what [`is_out_of_step`](Self::is_out_of_step) tells.
    #[inline]
    pub(crate) fn track(
        &mut self,
        direction: Direction,
        segment: &Segment,
        policy: &TcpPolicy,
    ) -> Result<Tracked, DropReason> {
        if matches!(self.state, TcpState::Established) & matches!(segment.class, Class::Ack) {
            return self.exchange(direction, segment, policy);
        }
        self.track_turn(direction, segment, policy)
    }

    /// Its state.
    pub(crate) const fn state(&self) -> TcpState {
        self.state
    }

    /// After an error: whether both sides have sent a FIN or a RST where none was expected. Then the entry should not live
    /// longer than [`Timer::TcpUnacknowledged`] (N-TCP-25): the connection is over, and this tracker has missed it.
    pub(crate) const fn is_out_of_step(&self) -> bool {
        let [original, reply] = &self.sides;
        self.flags.has(Flags::ASSURED)
            && original.marks.has(Marks::STRAYED)
            && reply.marks.has(Marks::STRAYED)
    }

    /// Whether the sender in `direction` may have sent this sequence number and not had it acknowledged yet: what an
    /// ICMP error that is no forgery quotes (N-ICE-13, RFC 5927 §4.1).
    pub(crate) fn is_in_flight(&self, direction: Direction, sequence: u32) -> bool {
        let sequence = SeqNum(sequence);
        let (sender, receiver) = (self.side(direction), self.side(direction.inverted()));
        if self.remembers_syn_of(direction) && sequence == self.last.sequence {
            return true;
        }
        // Nothing says where a connection began that was picked up.
        let is_acknowledged = receiver.marks.has(Marks::ACK_KNOWN) || !self.flags.has(Flags::LIBERAL);
        let is_old = is_acknowledged && sequence.lt(receiver.max_ack);
        sender.has_spoken() && !is_old && sequence.le(sender.end)
    }

    fn begin(syn: &Segment) -> Self {
        let mut track = Self {
            sides: [Side::begun(syn), Side::SILENT],
            last: Last::of(syn),
            spoke: Direction::Original,
            state: TcpState::SynSent,
            flags: Flags(0),
        };
        track.sides[Direction::Reply as usize].max_ack = syn.sequence;
        track
    }

    /// N-WIN-4.
    fn pick_up(segment: &Segment) -> Self {
        let acknowledged = segment.sack_edge.unwrap_or(segment.acknowledgment);
        let reply = Side {
            end: acknowledged,
            max_end: acknowledged,
            marks: Marks(Marks::SACK),
            ..Side::SILENT
        };
        Self {
            sides: [Side::met(segment), reply],
            last: Last::of(segment),
            spoke: Direction::Original,
            state: TcpState::Established,
            flags: Flags(Flags::LIBERAL),
        }
    }

    /// What is not the steady state: beginnings and ends.
    fn track_turn(
        &mut self,
        direction: Direction,
        segment: &Segment,
        policy: &TcpPolicy,
    ) -> Result<Tracked, DropReason> {
        if segment.class == Class::Rst {
            return self.reset(direction, segment);
        }
        match step(direction, segment.class, self.state) {
            Step::Agree => self.agree(segment),
            Step::Answer => self.answer(segment),
            Step::Cross => Ok(self.cross(segment)),
            Step::Exchange => self.exchange(direction, segment, policy),
            Step::Ignore => self.overhear(direction, segment, policy),
            Step::Invalid => self.refuse(direction, segment, policy),
            Step::Reopen => Ok(Tracked::REOPEN),
            Step::Retry => Ok(self.retry(segment)),
        }
    }

    /// A segment of a connection that has begun: data, acknowledgments, FINs.
    #[inline]
    fn exchange(
        &mut self,
        direction: Direction,
        segment: &Segment,
        policy: &TcpPolicy,
    ) -> Result<Tracked, DropReason> {
        let old = self.state;
        if matches!(old, TcpState::SynReceived)
            && direction == Direction::Original
            && !self.acknowledges_syn(segment)
        {
            // A guess, which does not complete the handshake.
            let [original, reply] = &self.sides;
            return match position(original, reply, segment) {
                Position::Outside => Err(self.stray(direction, segment)),
                Position::Inside | Position::Old | Position::Overshoot => Ok(Tracked::UNCHANGED),
            };
        }
        let (sender, receiver) = pair(&mut self.sides, direction);
        if !sender.has_spoken() {
            // The answer to a connection that was picked up.
            *sender = Side::met(segment);
        }
        let is_liberal = policy.liberal | self.flags.has(Flags::LIBERAL);
        match position(sender, receiver, segment) {
            Position::Inside => {}
            _ if is_liberal => {}
            // A FIN that what came after it has overtaken is none the less sent.
            Position::Old if segment.class != Class::Fin || segment.end != sender.end => {
                return Ok(Tracked::UNCHANGED);
            }
            Position::Old | Position::Overshoot => {
                sender.extend(segment);
                if segment.class == Class::Fin {
                    self.turn(direction, segment, false);
                }
                return Ok(Tracked::UNCHANGED);
            }
            Position::Outside => return Err(self.stray(direction, segment)),
        }
        let is_new = sender.end.lt(segment.end);
        absorb(sender, receiver, segment);
        self.note(direction, segment);
        if !matches!((old, segment.class), (TcpState::Established, Class::Ack)) {
            self.turn(direction, segment, is_new);
        }
        Ok(self.settle(direction, old, policy))
    }

    /// The state after a segment that is no RST; `is_new` if its sender has sent what it had not before.
    fn turn(&mut self, direction: Direction, segment: &Segment, is_new: bool) {
        let by_fins = self.state_by_fins();
        self.state = match (self.state, by_fins) {
            (TcpState::SynReceived, TcpState::Established) => {
                let completes = direction == Direction::Original || self.flags.has(Flags::SIMULTANEOUS);
                match segment.class == Class::Ack && completes {
                    true => TcpState::Established,
                    false => TcpState::SynReceived,
                }
            }
            (TcpState::Close, _) if !self.revives(direction, is_new) => TcpState::Close,
            (TcpState::Close, by_fins) => {
                self.flags.clear(Flags::DOUBTFUL);
                for side in &mut self.sides {
                    side.marks.clear(Marks::RESET);
                }
                by_fins
            }
            (_, by_fins) => by_fins,
        };
    }

    /// The state of a connection whose handshake is complete.
    const fn state_by_fins(&self) -> TcpState {
        let [original, reply] = [self.sides[0].marks, self.sides[1].marks];
        match (original.has(Marks::FIN_SENT), reply.has(Marks::FIN_SENT)) {
            (false, false) => TcpState::Established,
            (true, true) if original.has(Marks::FIN_ACKED) && reply.has(Marks::FIN_ACKED) => {
                TcpState::TimeWait
            }
            (true, true) => TcpState::LastAck,
            _ if original.has(Marks::FIN_ACKED) || reply.has(Marks::FIN_ACKED) => TcpState::CloseWait,
            _ => TcpState::FinWait,
        }
    }

    /// Remembers a segment that was taken into account.
    #[inline]
    fn note(&mut self, direction: Direction, segment: &Segment) {
        let last = Last::of(segment);
        let is_repeated = matches!(segment.class, Class::Ack) && self.spoke == direction && self.last == last;
        let repeats = &mut self.sides[direction as usize].repeats;
        *repeats = if is_repeated { repeats.saturating_add(1) } else { 0 };
        self.last = last;
        self.spoke = direction;
    }

    /// What a segment that was taken into account does to the entry; `old` is the state before.
    #[inline]
    fn settle(&mut self, direction: Direction, old: TcpState, policy: &TcpPolicy) -> Tracked {
        let mut tracked = Tracked::keep(self.timer(policy));
        // N-TCP-7. An answer counts after it: it takes one more segment to see that it was one.
        if self.flags.0 & (Flags::REPLIED | Flags::ASSURED) == Flags::REPLIED
            && matches!(old, TcpState::SynReceived | TcpState::Established)
            && self.state == TcpState::Established
        {
            self.flags.set(Flags::ASSURED);
            tracked.fate = Fate::Assure;
        }
        if direction == Direction::Reply {
            self.flags.set(Flags::REPLIED);
        }
        tracked
    }

    /// The time of the state, or the shorter one of a connection that seems to be stuck: only of states whose own time is long.
    #[inline]
    fn timer(&self, policy: &TcpPolicy) -> Timer {
        let long = match self.state {
            TcpState::Established => Timer::TcpEstablished,
            TcpState::CloseWait => Timer::TcpCloseWait,
            TcpState::SynSent => return Timer::TcpSynSent,
            TcpState::SynReceived => return Timer::TcpSynReceived,
            TcpState::FinWait => return Timer::TcpFinWait,
            TcpState::LastAck => return Timer::TcpLastAck,
            TcpState::TimeWait => return Timer::TcpTimeWait,
            TcpState::Close => return Timer::TcpClose,
            TcpState::SynSent2 => return Timer::TcpSynSent2,
        };
        let [original, reply] = &self.sides;
        let marks = Marks(original.marks.0 | reply.marks.0);
        let repeats = self.side(self.spoke).repeats;
        if policy.max_retrans != 0 && repeats >= policy.max_retrans {
            Timer::TcpMaxRetrans
        } else if policy.watch_unacknowledged && marks.has(Marks::UNACKNOWLEDGED) {
            Timer::TcpUnacknowledged
        } else if self.last.window == 0 {
            // N-TCP-14.
            Timer::TcpMaxRetrans
        } else if !self.flags.has(Flags::REPLIED) {
            // N-TCP-9.
            Timer::TcpUnacknowledged
        } else {
            long
        }
    }

    /// A segment that is nowhere near: a FIN or a RST is remembered (N-TCP-25).
    #[cold]
    const fn stray(&mut self, direction: Direction, segment: &Segment) -> DropReason {
        if matches!(segment.class, Class::Fin | Class::Rst) {
            self.sides[direction as usize].marks.set(Marks::STRAYED);
        }
        DropReason::Invalid
    }

    #[inline]
    const fn side(&self, direction: Direction) -> &Side {
        &self.sides[direction as usize]
    }
}

/// A segment as far as later ones are compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    sequence: SeqNum,
    acknowledgment: SeqNum,
    end: SeqNum,
    window: u16,
    scale: Scale,
    /// `None` after it has served.
    class: Option<Class>,
}

/// Facts about a connection, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flags(u8);

impl Last {
    #[inline]
    const fn of(segment: &Segment) -> Self {
        Self {
            sequence: segment.sequence,
            acknowledgment: segment.acknowledgment,
            end: segment.end,
            window: segment.window,
            scale: segment.scale,
            class: Some(segment.class),
        }
    }
}

impl Flags {
    /// The responder has taken part.
    const REPLIED: u8 = 1;
    /// N-TCP-7.
    const ASSURED: u8 = 1 << 1;
    /// It was met in the middle: windows do not count, because their scale is not known (N-WIN-4).
    const LIBERAL: u8 = 1 << 2;
    /// Both sides have sent SYN.
    const SIMULTANEOUS: u8 = 1 << 3;
    /// The RST that closed it may not have been taken seriously.
    const DOUBTFUL: u8 = 1 << 4;
    /// The SYN in [`TcpTrack::last`] offers SACK.
    const LAST_SACK: u8 = 1 << 5;
    /// All that have a meaning.
    const ALL: u8 = (1 << 6) - 1;

    #[inline]
    const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    const fn set(&mut self, flag: u8) {
        self.0 |= flag;
    }

    const fn clear(&mut self, flag: u8) {
        self.0 &= !flag;
    }
}

impl Tracked {
    /// The segment passes, and that is all.
    pub(crate) const UNCHANGED: Self = Self::new(None, Fate::Keep);
    const REMOVE: Self = Self::new(None, Fate::Remove);
    /// The segment begins another.
    pub(crate) const REOPEN: Self = Self::new(None, Fate::Reopen);

    /// The entry stays, for so long.
    #[inline]
    pub(crate) const fn keep(timer: Timer) -> Self {
        Self::new(Some(timer), Fate::Keep)
    }

    const fn new(timer: Option<Timer>, fate: Fate) -> Self {
        Self { timer, fate }
    }
}

/// Sender and receiver of a segment.
#[inline]
const fn pair(sides: &mut [Side; 2], direction: Direction) -> (&mut Side, &mut Side) {
    let [original, reply] = sides;
    match direction {
        Direction::Original => (original, reply),
        Direction::Reply => (reply, original),
    }
}

const _: () = assert!(size_of::<TcpTrack>() <= 60, "a connection has room for 60 bytes");

#[cfg(test)]
mod tests;
