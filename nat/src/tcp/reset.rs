//! Whether a RST is believed (nat-conformance §5.3).

use super::{
    Flags, TcpState, TcpTrack, Tracked,
    segment::{Class, Segment},
    side::{Marks, acknowledged},
};
use crate::{Direction, DropReason, Timer};

/// What a RST is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reset {
    /// It ends the connection.
    Believed,
    /// It may do so at the receiver, or be answered with a challenge (RFC 5961 §3.2): whatever comes next tells.
    Doubtful,
    /// It passes; the receiver takes it for nothing.
    Ignored,
    /// It is refused.
    Invalid,
}

impl TcpTrack {
    /// A RST.
    pub(super) fn reset(&mut self, direction: Direction, segment: &Segment) -> Result<Tracked, DropReason> {
        match self.judge_reset(direction, segment) {
            // N-TCP-5: what was refused was never there.
            Reset::Believed if !self.flags.has(Flags::REPLIED) => return Ok(Tracked::REMOVE),
            Reset::Believed => {
                if self.state == TcpState::SynSent2 {
                    // N-TCP-22. Nothing will tell any more which of the responder's SYNs the initiator has taken.
                    self.flags.set(Flags::LIBERAL);
                }
                self.state = TcpState::Close;
                self.flags.clear(Flags::DOUBTFUL);
                self.sides[direction as usize].marks.set(Marks::RESET);
            }
            Reset::Doubtful => match self.state {
                TcpState::Close => {}
                // N-TCP-20: a challenge restores the time, silence ends the connection. How much the sender has sent is
                // not known any more.
                TcpState::Established | TcpState::SynReceived => {
                    self.sides[direction as usize].marks.set(Marks::UNACKNOWLEDGED);
                }
                _ => {
                    self.state = TcpState::Close;
                    self.flags.set(Flags::DOUBTFUL);
                }
            },
            Reset::Ignored => return Ok(Tracked::UNCHANGED),
            Reset::Invalid => return Err(self.stray(direction, segment)),
        }
        Ok(Tracked::keep(Timer::TcpClose))
    }

    /// N-TCP-22: whether a segment shows that nobody has taken the RST seriously. After one with the right number that takes
    /// new data of its sender, because the peer's may have been on their way.
    pub(super) const fn revives(&self, direction: Direction, is_new: bool) -> bool {
        let contradicts = is_new && self.side(direction).marks.has(Marks::RESET);
        self.flags.has(Flags::DOUBTFUL) || (contradicts && self.flags.has(Flags::ASSURED))
    }

    /// Judges a RST.
    fn judge_reset(&self, direction: Direction, segment: &Segment) -> Reset {
        // N-TCP-10: it refuses a SYN that passed without belonging to the connection.
        if segment.has_ack && self.answers_remembered(direction, segment) {
            return Reset::Believed;
        }
        match self.state {
            TcpState::SynSent | TcpState::SynSent2 => self.judge_early_reset(direction, segment),
            TcpState::SynReceived | TcpState::Established => self.judge_open_reset(direction, segment),
            // N-TCP-21: hosts that use the tuple again may be far from the numbers known here. Only a RST that fits is final.
            TcpState::FinWait
            | TcpState::CloseWait
            | TcpState::LastAck
            | TcpState::TimeWait
            | TcpState::Close => match self.is_next(direction, segment) {
                true => Reset::Believed,
                false => Reset::Doubtful,
            },
        }
    }

    /// While the handshake has one half: RFC 9293 §3.10.7.3, "If the RST bit is set: […] If the ACK was acceptable,
    /// then signal to the user 'error: connection reset' […] Otherwise (no ACK), drop the segment".
    fn judge_early_reset(&self, direction: Direction, segment: &Segment) -> Reset {
        // The number of a RST proves nothing here: anybody could have sent the SYN that it fits.
        let [original, reply] = &self.sides;
        let first = reply.max_ack;
        match direction {
            Direction::Original => {
                // One that answers what did not answer this SYN ends another connection than this.
                match first.le(segment.sequence) && segment.sequence.le(original.end) {
                    true => Reset::Believed,
                    false => Reset::Ignored,
                }
            }
            Direction::Reply if !segment.has_ack || segment.acknowledgment.0 == 0 => Reset::Ignored,
            Direction::Reply if original.end.lt(segment.acknowledgment) => Reset::Invalid,
            Direction::Reply => match first.lt(segment.acknowledgment) {
                true => Reset::Believed,
                false => Reset::Ignored,
            },
        }
    }

    /// While data flow: N-TCP-20.
    fn judge_open_reset(&self, direction: Direction, segment: &Segment) -> Reset {
        let (sender, receiver) = (self.side(direction), self.side(direction.inverted()));
        let next = sender.next(receiver);
        let (_, acknowledged) = acknowledged(receiver, segment);
        let sees_the_future = receiver.end.lt(acknowledged) && !self.flags.has(Flags::LIBERAL);
        // What the receiver has acknowledged or, at first, where the sender began: unless the connection was picked up.
        let is_known = receiver.marks.has(Marks::ACK_KNOWN) || !self.flags.has(Flags::LIBERAL);
        let is_below = segment
            .sequence
            .lt(if is_known { receiver.max_ack } else { next });
        let is_above = sender.max_end.max(sender.end).lt(segment.sequence);
        if sees_the_future || is_below || is_above {
            return Reset::Invalid;
        }
        // "RST at end of train": what was sent last is not acknowledged yet, and the RST follows it.
        let ends_train = self.spoke == direction
            && self.last.class == Some(Class::Ack)
            && segment.sequence == self.last.end;
        match segment.sequence == next || ends_train {
            true => Reset::Believed,
            false => Reset::Doubtful,
        }
    }

    /// Whether it has the number that its receiver waits for.
    fn is_next(&self, direction: Direction, segment: &Segment) -> bool {
        let (sender, receiver) = (self.side(direction), self.side(direction.inverted()));
        receiver.marks.has(Marks::ACK_KNOWN) && segment.sequence == sender.next(receiver)
    }
}
