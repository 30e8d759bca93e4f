//! The switch's own time: nanoseconds since the first instant that it was told.
//!
//! An `Instant` costs 16 bytes and two compares; entries are stamped and compared for every frame, so
//! they hold a [`Tick`] instead. A timeline never runs backwards: an earlier `now` counts as the latest.

use std::time::{Duration, Instant};

/// A moment on the switch's timeline, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Tick(u64);

impl Tick {
    /// The first moment of every timeline.
    pub(crate) const ZERO: Self = Self(0);
    /// Later than every moment that can happen (584 years).
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// This moment and `nanos` more, at most [`Tick::NEVER`].
    pub(crate) const fn plus(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Nanoseconds from `earlier` to this moment; 0 if it is not earlier.
    pub(crate) const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The switch's clock hand: the latest moment it was told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timeline {
    latest: Option<(Instant, Tick)>,
}

impl Timeline {
    /// Moves the hand to `now` and returns it.
    #[inline]
    pub(crate) fn advance(&mut self, now: Instant) -> Tick {
        match self.latest {
            Some((instant, tick)) if instant >= now => tick,
            latest => {
                let tick = project(latest, now);
                self.latest = Some((now, tick));
                tick
            }
        }
    }

    /// The moment of `now`, without moving the hand.
    pub(crate) fn at(&self, now: Instant) -> Tick {
        project(self.latest, now)
    }

    /// The instant of a moment, which lies in the past of the hand or in its future.
    pub(crate) fn instant(&self, tick: Tick) -> Option<Instant> {
        let (instant, latest) = self.latest?;
        if tick >= latest {
            instant.checked_add(Duration::from_nanos(tick.since(latest)))
        } else {
            instant.checked_sub(Duration::from_nanos(latest.since(tick)))
        }
    }
}

/// A length of time in nanoseconds, at most 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn project(latest: Option<(Instant, Tick)>, now: Instant) -> Tick {
    match latest {
        None => Tick::ZERO,
        Some((instant, tick)) => tick.plus(nanos(now.saturating_duration_since(instant))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_never_runs_backwards() {
        let mut timeline = Timeline::default();
        let base = testkit_base();
        assert_eq!(timeline.advance(base), Tick::ZERO);
        let later = timeline.advance(base + Duration::from_secs(3));
        assert_eq!(later.since(Tick::ZERO), 3_000_000_000);
        assert_eq!(timeline.advance(base), later);
        assert_eq!(timeline.at(base), later);
        assert_eq!(timeline.instant(Tick::ZERO), Some(base));
        assert_eq!(timeline.instant(later.plus(5)), Some(base + Duration::new(3, 5)));
    }

    fn testkit_base() -> Instant {
        vswitch_testkit::Clock::new().now()
    }
}
