//! Time in the engine: ticks since it began, small enough to have one in each connection.

use std::time::{Duration, Instant};

/// A time, as sixteenths of a second since the engine began; enough for eight years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Ticks(pub(crate) u32);

impl Ticks {
    /// Ticks of a second.
    pub(crate) const PER_SECOND: u32 = 16;

    /// Later by a span.
    #[inline]
    pub(crate) const fn plus(self, span: u32) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// Ticks since `earlier`, which may be [before](Self::before) the engine began.
    #[inline]
    pub(crate) const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The time from which it is `span` to this one; for [`since`](Self::since) alone, because times before the engine began
    /// compare as later than any.
    pub(crate) const fn before(self, span: u32) -> Self {
        Self(self.0.wrapping_sub(span))
    }

    /// How long until `later`; zero if that has passed.
    pub(crate) fn until(self, later: Self) -> Duration {
        let ticks = u64::from(later.0.saturating_sub(self.0));
        Duration::from_nanos(ticks * u64::from(NANOS_PER_TICK))
    }
}

const NANOS_PER_TICK: u32 = 1_000_000_000 / Ticks::PER_SECOND;

/// Turns the caller's times into ticks. Never runs backwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    epoch: Instant,
    /// What the caller said last, which for a batch is the same for all.
    last: Instant,
    now: Ticks,
}

impl Clock {
    /// Begins at `epoch`.
    pub(crate) const fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            last: epoch,
            now: Ticks(0),
        }
    }

    /// The time, which a caller says it is.
    #[inline]
    pub(crate) fn advance(&mut self, now: Instant) -> Ticks {
        if now == self.last {
            return self.now;
        }
        self.last = now;
        let since = now.saturating_duration_since(self.epoch);
        let whole = since.as_secs().saturating_mul(u64::from(Ticks::PER_SECOND));
        let ticks = whole.saturating_add(u64::from(since.subsec_nanos() / NANOS_PER_TICK));
        self.now = self.now.max(Ticks(u32::try_from(ticks).unwrap_or(u32::MAX)));
        self.now
    }

    /// The latest time that was said.
    #[inline]
    pub(crate) const fn now(&self) -> Ticks {
        self.now
    }

    /// A time of the engine as the caller's.
    pub(crate) fn instant(&self, at: Ticks) -> Instant {
        self.epoch + Ticks(0).until(at)
    }
}
