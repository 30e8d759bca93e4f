//! Rates that may not be exceeded.

use std::time::{Duration, Instant};

/// A token bucket, kept as the time when all that was taken is paid for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// What one token costs.
    cost: Duration,
    /// Tokens that may be owed at once.
    burst: u32,
    paid_at: Option<Instant>,
}

impl Allowance {
    /// So many a second, and as many at once.
    pub(crate) fn per_second(count: u32) -> Self {
        Self {
            cost: Duration::from_secs(1) / count.max(1),
            burst: count.max(1),
            paid_at: None,
        }
    }

    /// Takes one; `false` if none is left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let paid_at = self.paid_at.map_or(now, |at| at.max(now)) + self.cost;
        let is_left = paid_at <= now + self.cost * self.burst;
        if is_left {
            self.paid_at = Some(paid_at);
        }
        is_left
    }

    /// Gives one back.
    pub(crate) fn give_back(&mut self) {
        self.paid_at = self.paid_at.and_then(|at| at.checked_sub(self.cost));
    }
}

#[cfg(test)]
mod tests {
    use vswitch_testkit::Clock;

    use super::*;

    #[test]
    fn tokens_come_back_with_time_or_by_hand() {
        let now = Clock::new().now();
        let mut allowance = Allowance::per_second(2);
        assert!(allowance.take(now) && allowance.take(now) && !allowance.take(now));
        assert!(allowance.take(now + Duration::from_millis(500)));
        assert!(!allowance.take(now + Duration::from_millis(500)));
        allowance.give_back();
        assert!(allowance.take(now + Duration::from_millis(500)));
    }
}
