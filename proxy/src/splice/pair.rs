//! Two sockets and both directions between them.

use std::{mem, time::Duration};

use socket2::Socket;

use super::{
    Connect, Ends, Outcome, Progress, Readiness, Side, Summary,
    direction::{Direction, Halt, Means},
};

/// A pair.
#[derive(Debug)]
pub(super) struct Pair {
    front: Socket,
    back: Socket,
    connect: Connect,
    to_back: Direction,
    to_front: Direction,
    /// Said to have failed; the kernel may be asked.
    front_suspect: bool,
    back_suspect: bool,
}

impl Pair {
    pub(super) fn new(ends: Ends) -> Self {
        Self {
            front: ends.front,
            back: ends.back,
            connect: ends.connect,
            to_back: Direction::new(ends.prefix),
            to_front: Direction::new(Vec::new()),
            front_suspect: false,
            back_suspect: false,
        }
    }

    pub(super) fn socket(&self, side: Side) -> &Socket {
        match side {
            Side::Back => &self.back,
            Side::Front => &self.front,
        }
    }

    /// Notes what is said of a socket.
    pub(super) fn note(&mut self, side: Side, readiness: Readiness) {
        let (reading, writing, suspect) = match side {
            Side::Back => (&mut self.to_front, &mut self.to_back, &mut self.back_suspect),
            Side::Front => (&mut self.to_back, &mut self.to_front, &mut self.front_suspect),
        };
        // A failed socket answers at once, whatever it is asked.
        reading.readable |= readiness.readable || readiness.error;
        writing.writable |= readiness.writable || readiness.error;
        *suspect |= readiness.error;
    }

    /// Moves what can be moved.
    pub(super) fn advance(&mut self, means: &mut Means) -> Progress {
        if self.connect == Connect::Begun {
            match self.connected() {
                Connected::Failed => return Progress::Ended(self.summary(Outcome::Reset)),
                Connected::No => return Progress::Open,
                Connected::Yes => self.connect = Connect::Done,
            }
        }
        let mut halts = self.move_both(means);
        let (back_failed, front_failed) = (halts[0] == Halt::SinkFailed, halts[1] == Halt::SinkFailed);
        if back_failed {
            self.to_back.clear(means);
            self.to_front.fail_source();
        }
        if front_failed {
            self.to_front.clear(means);
            self.to_back.fail_source();
        }
        if back_failed || front_failed {
            // What a socket had received before it failed is still delivered.
            halts = self.move_both(means);
        }
        if halts.contains(&Halt::SourceFailed) || self.has_failed_unseen() {
            return Progress::Ended(self.summary(Outcome::Reset));
        }
        if halts.contains(&Halt::Budget) {
            return Progress::More;
        }
        if self.to_back.source_failed || self.to_front.source_failed {
            // The rest is not wanted now, and a reset waits for nobody.
            return Progress::Ended(self.summary(Outcome::Reset));
        }
        match halts {
            [Halt::Ended, Halt::Ended] => Progress::Ended(self.summary(Outcome::Closed)),
            _ => Progress::Open,
        }
    }

    pub(super) fn summary(&self, outcome: Outcome) -> Summary {
        Summary {
            to_back: self.to_back.moved,
            to_front: self.to_front.moved,
            reset: outcome == Outcome::Reset,
        }
    }

    /// Closes both sockets by resets.
    pub(super) fn reset(mut self, means: &mut Means) {
        self.to_back.clear(means);
        self.to_front.clear(means);
        for socket in [self.front, self.back] {
            // They are closed either way.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }

    fn move_both(&mut self, means: &mut Means) -> [Halt; 2] {
        [
            self.to_back.advance(&self.front, &self.back, means),
            self.to_front.advance(&self.back, &self.front, means),
        ]
    }

    fn connected(&mut self) -> Connected {
        // Before the container is there nothing is read of the client, so its reset has to be asked for.
        if mem::take(&mut self.front_suspect) && has_failed(&self.front) {
            return Connected::Failed;
        }
        match self.back.take_error() {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Connected::Failed,
        }
        match self.back.peer_addr() {
            Ok(_) => Connected::Yes,
            // The event was stale.
            Err(_) => Connected::No,
        }
    }

    /// Whether a socket has failed that is not read, so that nothing else tells.
    fn has_failed_unseen(&mut self) -> bool {
        let front = self.to_back.is_deaf() && mem::take(&mut self.front_suspect) && has_failed(&self.front);
        let back = self.to_front.is_deaf() && mem::take(&mut self.back_suspect) && has_failed(&self.back);
        front || back
    }
}

fn has_failed(socket: &Socket) -> bool {
    !matches!(socket.take_error(), Ok(None))
}

/// How the connect stands.
enum Connected {
    Failed,
    No,
    Yes,
}
