//! The state table of nat-conformance §5.1, but for RSTs, which are [judged](super::reset) by more than the state.

use super::{TcpState, segment::Class};
use crate::Direction;

/// What a segment does in a state, if its numbers fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The initiator's SYN+ACK of a simultaneous open.
    Agree,
    /// A SYN+ACK that answers the SYN.
    Answer,
    /// A SYN that crosses the initiator's.
    Cross,
    /// The connection goes on, or ends: the FINs and their acknowledgments say how far.
    Exchange,
    /// It passes and changes nothing: it may be us who are out of step.
    Ignore,
    /// It is refused.
    Invalid,
    /// The connection was over; this begins another.
    Reopen,
    /// The initiator's SYN again, or another in its place.
    Retry,
}

/// The step of a segment that is no RST.
pub(super) const fn step(direction: Direction, class: Class, state: TcpState) -> Step {
    let table = match direction {
        Direction::Original => &ORIGINAL,
        Direction::Reply => &REPLY,
    };
    let row = match class {
        Class::Syn => &table[0],
        Class::SynAck => &table[1],
        Class::Fin => &table[2],
        Class::Ack => &table[3],
        Class::Rst => return Step::Invalid,
    };
    row[state as usize]
}

/// Rows: SYN, SYN+ACK, FIN, ACK. Columns: the states in their order, SS SR ES FW CW LA TW CL S2.
const ORIGINAL: [[Step; TcpState::COUNT]; 4] = [
    [RETRY, IGN, IGN, IGN, IGN, IGN, REOPEN, REOPEN, RETRY],
    [INV, AGREE, INV, INV, INV, INV, INV, INV, AGREE],
    [INV, EXCH, EXCH, EXCH, EXCH, EXCH, EXCH, EXCH, INV],
    [INV, EXCH, EXCH, EXCH, EXCH, EXCH, EXCH, EXCH, INV],
];

/// The same for the other direction.
const REPLY: [[Step; TcpState::COUNT]; 4] = [
    [CROSS, INV, INV, INV, INV, INV, REOPEN, INV, CROSS],
    [ANSWER, IGN, IGN, IGN, IGN, IGN, IGN, IGN, ANSWER],
    [INV, EXCH, EXCH, EXCH, EXCH, EXCH, EXCH, EXCH, INV],
    [IGN, EXCH, EXCH, EXCH, EXCH, EXCH, EXCH, EXCH, IGN],
];

const AGREE: Step = Step::Agree;
const ANSWER: Step = Step::Answer;
const CROSS: Step = Step::Cross;
const EXCH: Step = Step::Exchange;
const IGN: Step = Step::Ignore;
const INV: Step = Step::Invalid;
const REOPEN: Step = Step::Reopen;
const RETRY: Step = Step::Retry;
