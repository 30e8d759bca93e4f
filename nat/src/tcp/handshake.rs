//! SYNs: how a connection begins, and what those mean that come at another time.

use super::{
    Flags, Last, TcpPolicy, TcpState, TcpTrack, Tracked, absorb, pair, position,
    segment::{Class, Scale, Segment},
    seq::SeqNum,
    side::{Marks, Position, Side},
};
use crate::{Direction, DropReason, Timer};

impl TcpTrack {
    /// The initiator's SYN while it waits for an answer.
    ///
    /// Not its time: a client that uses a port again and again would otherwise hold on to a translation that was decided
    /// long ago (N-TCP-6).
    pub(super) fn retry(&mut self, syn: &Segment) -> Tracked {
        match syn.sequence == self.first_sequence() {
            true => {
                let [original, _] = &mut self.sides;
                original.end = original.end.max(syn.end);
                original.max_end = original.max_end.max(syn.end);
            }
            // Another connection by the same ports, or a forgery: an answer will tell.
            false => self.remember(Direction::Original, syn),
        }
        Tracked::UNCHANGED
    }

    /// The responder's SYN while the initiator waits for an answer (RFC 9293 §3.5, figure 8).
    pub(super) fn cross(&mut self, syn: &Segment) -> Tracked {
        let [original, _] = &self.sides;
        if self.state == TcpState::SynSent2 && syn.sequence == original.max_ack {
            return Tracked::UNCHANGED;
        }
        self.greet(Direction::Reply, syn);
        self.note(Direction::Reply, syn);
        self.flags.set(Flags::REPLIED | Flags::SIMULTANEOUS);
        match self.state {
            TcpState::SynSent2 => Tracked::UNCHANGED,
            _ => self.enter(TcpState::SynSent2, Timer::TcpSynSent2),
        }
    }

    /// The responder's SYN+ACK. One that acknowledges the SYN is believed whatever else was seen of the responder.
    pub(super) fn answer(&mut self, syn_ack: &Segment) -> Result<Tracked, DropReason> {
        let [original, _] = &self.sides;
        let ack = syn_ack.acknowledgment;
        let answers = self.first_sequence().lt(ack) && ack.le(original.end);
        if !answers {
            return match self.answers_remembered(Direction::Reply, syn_ack) {
                true => Ok(self.resync(syn_ack)),
                false if original.end.lt(ack) => Err(DropReason::Invalid),
                false => Ok(Tracked::UNCHANGED),
            };
        }
        self.greet(Direction::Reply, syn_ack);
        self.negotiate();
        let [original, reply] = &mut self.sides;
        absorb(reply, original, syn_ack);
        self.note(Direction::Reply, syn_ack);
        self.flags.set(Flags::REPLIED);
        Ok(self.enter(TcpState::SynReceived, Timer::TcpSynReceived))
    }

    /// The initiator's SYN+ACK, which acknowledges the responder's SYN: it says which that is, if several were seen.
    pub(super) fn agree(&mut self, syn_ack: &Segment) -> Result<Tracked, DropReason> {
        let is_first = self.state == TcpState::SynSent2;
        if is_first && syn_ack.sequence != self.first_sequence() {
            return Err(DropReason::Invalid);
        }
        let ack = syn_ack.acknowledgment;
        let [original, reply] = &mut self.sides;
        if original.end.le(syn_ack.sequence) {
            // A SYN comes before all that its sender has sent.
            return Err(DropReason::Invalid);
        }
        if is_first && ack != reply.end {
            original.max_ack = ack - 1;
            reply.end = ack;
            reply.max_end = ack;
            // What else that SYN said is not known.
            self.flags.set(Flags::LIBERAL);
        }
        match position(original, reply, syn_ack) {
            Position::Inside => absorb(original, reply, syn_ack),
            Position::Old => return Ok(Tracked::UNCHANGED),
            Position::Overshoot | Position::Outside => return Err(DropReason::Invalid),
        }
        self.negotiate();
        self.note(Direction::Original, syn_ack);
        Ok(self.enter(TcpState::SynReceived, Timer::TcpSynReceived))
    }

    /// A segment that the state has no use for, but which may be right where we are not.
    pub(super) fn overhear(
        &mut self,
        direction: Direction,
        segment: &Segment,
        policy: &TcpPolicy,
    ) -> Result<Tracked, DropReason> {
        match segment.class {
            Class::Syn => self.remember(direction, segment),
            Class::SynAck if self.answers_remembered(direction, segment) => return Ok(self.resync(segment)),
            Class::SynAck if self.state == TcpState::SynReceived && self.flags.has(Flags::SIMULTANEOUS) => {
                return self.exchange(direction, segment, policy);
            }
            _ => {}
        }
        Ok(Tracked::UNCHANGED)
    }

    /// A segment that no state of ours explains. N-WIN-8: if only the initiator's segments pass here, the one after its
    /// SYN is the last of the handshake.
    pub(super) fn refuse(
        &mut self,
        direction: Direction,
        segment: &Segment,
        policy: &TcpPolicy,
    ) -> Result<Tracked, DropReason> {
        if self.flags.has(Flags::SIMULTANEOUS) && matches!(segment.class, Class::Syn | Class::SynAck) {
            // N-TCP-1: in a simultaneous open both sides send both, and may repeat them.
            return Ok(Tracked::UNCHANGED);
        }
        let [original, _] = &self.sides;
        let is_next = segment.sequence == original.end;
        let goes_on =
            (direction, segment.class, self.state) == (Direction::Original, Class::Ack, TcpState::SynSent);
        if !(policy.loose && goes_on && is_next) {
            return Err(DropReason::Invalid);
        }
        *self = Self::pick_up(segment);
        Ok(Tracked::keep(Timer::TcpUnacknowledged))
    }

    /// Whether the last segment is a SYN of that side.
    pub(super) fn remembers_syn_of(&self, direction: Direction) -> bool {
        self.last.class == Some(Class::Syn) && self.spoke == direction
    }

    /// Whether a segment acknowledges the SYN of the other side that was seen last.
    pub(super) fn answers_remembered(&self, direction: Direction, segment: &Segment) -> bool {
        self.remembers_syn_of(direction.inverted()) && segment.acknowledgment == self.last.end
    }

    /// While the responder has acknowledged nothing: the number of the initiator's SYN.
    const fn first_sequence(&self) -> SeqNum {
        let [_, reply] = &self.sides;
        reply.max_ack
    }

    /// Whether a segment of the initiator's acknowledges the responder's SYN, or that was done before.
    pub(super) fn acknowledges_syn(&self, segment: &Segment) -> bool {
        let [original, _] = &self.sides;
        original.marks.has(Marks::ACK_KNOWN) || original.max_ack.lt(segment.acknowledgment)
    }

    /// N-TCP-10: keeps a SYN that passes without belonging to the connection.
    fn remember(&mut self, direction: Direction, syn: &Segment) {
        self.last = Last::of(syn);
        self.spoke = direction;
        match syn.sack_permitted {
            true => self.flags.set(Flags::LAST_SACK),
            false => self.flags.clear(Flags::LAST_SACK),
        }
    }

    /// N-TCP-10: the responder agrees to the SYN that was remembered: both are in step with each other, and we follow.
    ///
    /// Late copies of the connection's own SYN and SYN+ACK look just so. If both are behind what was seen since, nothing
    /// more is dropped for its numbers.
    fn resync(&mut self, syn_ack: &Segment) -> Tracked {
        let Last {
            sequence,
            end,
            window,
            scale,
            ..
        } = self.last;
        let [original, reply] = &mut self.sides;
        let is_same = end == original.end && syn_ack.end == reply.end;
        let may_be_copies = !is_same && end.le(original.end) && syn_ack.end.le(reply.end);
        *original = Side {
            end,
            max_end: end,
            max_window: u32::from(window).max(1),
            scale,
            marks: match self.flags.has(Flags::LAST_SACK) {
                true => Marks(Marks::SACK),
                false => Marks(0),
            },
            ..Side::SILENT
        };
        *reply = Side {
            max_ack: sequence,
            ..Side::SILENT
        };
        self.greet(Direction::Reply, syn_ack);
        self.negotiate();
        let (sender, receiver) = pair(&mut self.sides, Direction::Reply);
        absorb(sender, receiver, syn_ack);
        self.note(Direction::Reply, syn_ack);
        self.flags.set(Flags::REPLIED);
        self.flags.clear(Flags::LIBERAL | Flags::DOUBTFUL);
        match (is_same, may_be_copies) {
            (false, true) => self.flags.set(Flags::LIBERAL),
            (false, false) => self.flags.clear(Flags::SIMULTANEOUS),
            (true, _) => {}
        }
        self.enter(TcpState::SynReceived, Timer::TcpSynReceived)
    }

    /// Begins a side anew with its SYN or SYN+ACK.
    fn greet(&mut self, direction: Direction, syn: &Segment) {
        let (sender, receiver) = pair(&mut self.sides, direction);
        *sender = Side {
            max_ack: sender.max_ack,
            ..Side::begun(syn)
        };
        if !receiver.marks.has(Marks::ACK_KNOWN) {
            receiver.max_ack = syn.sequence;
        }
    }

    /// N-WIN-1: windows are scaled if both have offered it (RFC 7323 §2.2).
    fn negotiate(&mut self) {
        let both = self.sides.iter().all(|side| side.scale.is_offered());
        if !both {
            for side in &mut self.sides {
                side.scale = Scale::NONE;
            }
        }
    }

    const fn enter(&mut self, state: TcpState, timer: Timer) -> Tracked {
        self.state = state;
        Tracked::keep(timer)
    }
}
