//! How often something may be said.

use std::time::{Duration, Instant};

/// How many ICMP errors may be sent: RFC 1812 §4.3.2.8 and RFC 4443 §2.4 (f) ask for a limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowance {
    /// When all errors sent so far are paid for; in the future while a burst is.
    paid_at: Option<Instant>,
}

impl Allowance {
    /// What is left after one more error that costs `cost`; `None` if so many are owed already.
    pub(crate) fn after(self, now: Instant, cost: Duration) -> Option<Self> {
        let paid_at = self.paid_at.map_or(now, |at| at.max(now)) + cost;
        (paid_at <= now + cost * BURST).then_some(Self {
            paid_at: Some(paid_at),
        })
    }
}

/// What an error costs of an allowance for everybody. 1000 a second and 50 at once are Linux's numbers
/// (`icmp_msgs_per_sec`, `icmp_msgs_burst`; Documentation/networking/ip-sysctl.rst).
pub(crate) const COST: Duration = Duration::from_millis(1);
/// What an error costs of a port's own: 100 a second and 50 at once, so that one container cannot silence the
/// gateway for the others. Linux has a limit per peer as well (`icmp_ratelimit`), of one a second.
pub(crate) const PORT_COST: Duration = Duration::from_millis(10);
pub(crate) const BURST: u32 = 50;
