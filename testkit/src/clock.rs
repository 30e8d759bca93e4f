//! A clock that only tests move.

use std::time::{Duration, Instant};

/// Virtual time: it stands still until it is advanced.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    now: Instant,
}

impl Clock {
    /// A clock at an arbitrary start.
    pub fn new() -> Self {
        let start = Instant::now();
        Self { start, now: start }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How long the clock has been running.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Lets time pass and returns the new time.
    pub fn advance(&mut self, by: Duration) -> Instant {
        self.now += by;
        self.now
    }

    /// Sets the time to `since_start` after the start.
    ///
    /// # Panics
    ///
    /// That moment has passed.
    pub fn at(&mut self, since_start: Duration) -> Instant {
        let moment = self.start + since_start;
        assert!(moment >= self.now, "a clock does not run backwards");
        self.now = moment;
        moment
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
