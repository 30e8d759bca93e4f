//! The tracker by requirement; [`Wire`] says what a segment did.

mod ends;
mod model;
mod read;
mod reset;
mod walk;
mod window;

use super::*;

/// The initiator's first number.
const CLIENT: u32 = 1000;
/// The responder's.
const SERVER: u32 = 5000;

const ORIG: Direction = Direction::Original;
const REPLY: Direction = Direction::Reply;

/// A connection through a tracker.
struct Wire {
    track: TcpTrack,
    policy: TcpPolicy,
}

/// What became of a segment: the state after it and the timer that it set.
type Outcome = Result<(TcpState, Option<Timer>), DropReason>;

impl Wire {
    /// After `syn`.
    fn open(syn: &Segment, policy: TcpPolicy) -> Self {
        let (track, _) = TcpTrack::open(syn, &policy).expect("a first segment");
        Self { track, policy }
    }

    /// After a handshake: windows of 64 000, not scaled, and SACK.
    fn established() -> Self {
        Self::established_with(TcpPolicy::default())
    }

    fn established_with(policy: TcpPolicy) -> Self {
        let mut wire = Self::open(&syn(), policy);
        wire.take(REPLY, &syn_ack()).expect("SYN+ACK");
        let (_, fate) = wire.fate(ORIG, &ack(CLIENT + 1, SERVER + 1));
        assert_eq!(fate, Fate::Assure);
        wire
    }

    fn take(&mut self, direction: Direction, segment: &Segment) -> Outcome {
        let tracked = self.track.track(direction, segment, &self.policy)?;
        Ok((self.track.state(), tracked.timer))
    }

    fn fate(&mut self, direction: Direction, segment: &Segment) -> (Option<Timer>, Fate) {
        let tracked = self
            .track
            .track(direction, segment, &self.policy)
            .expect("a valid segment");
        (tracked.timer, tracked.fate)
    }

    /// Takes it and sees that it passed and changed neither state nor time.
    fn passes(&mut self, direction: Direction, segment: &Segment) {
        let before = self.track.state();
        assert_eq!(self.take(direction, segment), Ok((before, None)));
    }

    /// Takes it and sees that it was refused and changed nothing.
    fn refuses(&mut self, direction: Direction, segment: &Segment) {
        let before = self.track;
        assert_eq!(self.take(direction, segment), Err(DropReason::Invalid));
        assert_eq!((self.track.state, self.track.last), (before.state, before.last));
    }

    /// Walks through `steps`, each with the state and the timer after it.
    fn walk(&mut self, steps: &[(Direction, Segment, TcpState, Timer)]) {
        for (number, (direction, segment, state, timer)) in steps.iter().enumerate() {
            let outcome = self.take(*direction, segment);
            assert_eq!(outcome, Ok((*state, Some(*timer))), "step {number}: {segment:?}");
        }
    }
}

/// A segment without payload and with a window of 64 000.
fn segment(class: Class, sequence: u32, ack: Option<u32>) -> Segment {
    let takes_one = matches!(class, Class::Syn | Class::SynAck | Class::Fin);
    Segment {
        class,
        has_ack: ack.is_some(),
        sequence: SeqNum(sequence),
        acknowledgment: SeqNum(ack.unwrap_or(0)),
        end: SeqNum(sequence) + u32::from(takes_one),
        sack_edge: None,
        window: 64_000,
        scale: Scale::NONE,
        sack_permitted: matches!(class, Class::Syn | Class::SynAck),
    }
}

fn syn() -> Segment {
    segment(Class::Syn, CLIENT, None)
}

fn syn_ack() -> Segment {
    segment(Class::SynAck, SERVER, Some(CLIENT + 1))
}

fn ack(sequence: u32, ack: u32) -> Segment {
    segment(Class::Ack, sequence, Some(ack))
}

fn data(sequence: u32, ack: u32, len: u32) -> Segment {
    let plain = segment(Class::Ack, sequence, Some(ack));
    Segment {
        end: plain.end + len,
        ..plain
    }
}

fn fin(sequence: u32, ack: u32) -> Segment {
    segment(Class::Fin, sequence, Some(ack))
}

fn rst(sequence: u32) -> Segment {
    segment(Class::Rst, sequence, None)
}

fn rst_ack(sequence: u32, ack: u32) -> Segment {
    segment(Class::Rst, sequence, Some(ack))
}
