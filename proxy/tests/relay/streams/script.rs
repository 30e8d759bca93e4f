//! What both applications do.

use std::time::Duration;

use super::random::Random;

/// When an application ends its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// Once it has read the end of the other.
    AfterPeer,
    /// Once all is written.
    Early,
}

/// How fast an application reads and writes.
pub(super) struct Pace {
    /// Most bytes at a time.
    most: u64,
    /// Longest usual pause in microseconds.
    pause: u64,
    /// How many pauses in a thousand are stalls of seconds.
    stalls: u64,
}

impl Pace {
    pub(super) fn new(random: &mut Random) -> Self {
        Self {
            most: random.pick(&[700, 5000, 20_000, 100_000]),
            pause: random.pick(&[10, 1000, 20_000]),
            stalls: random.pick(&[0, 5, 20]),
        }
    }

    pub(super) fn amount(&self, random: &mut Random) -> usize {
        random.between(1, self.most) as usize
    }

    /// How long until the next turn, after one that changed something or not.
    pub(super) fn pause(&self, random: &mut Random, busy: bool) -> Duration {
        if random.happens(self.stalls) {
            return Duration::from_millis(random.between(500, 10_000));
        }
        let usual = Duration::from_micros(random.between(1, self.pause));
        if busy {
            usual
        } else {
            usual + Duration::from_millis(random.between(1, 10))
        }
    }
}
