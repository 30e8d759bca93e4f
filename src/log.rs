//! Rate limits for log lines that a packet can cause.

use std::time::{Duration, Instant};

/// Lets one log line through per interval and counts those that it holds back.
///
/// Whatever a container can trigger at will must not be able to fill the host's disk.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    next: Option<Instant>,
    suppressed: u64,
}

impl RateLimit {
    /// At most `lines` evenly spaced lines per second; zero counts as one.
    pub fn per_second(lines: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / lines.max(1),
            next: None,
            suppressed: 0,
        }
    }

    /// Calls `log` with the number of lines held back since the last one, or holds this one back.
    pub fn run(&mut self, now: Instant, log: impl FnOnce(u64)) {
        if self.next.is_some_and(|next| now < next) {
            self.suppressed += 1;
            return;
        }
        self.next = Some(now + self.interval);
        log(std::mem::take(&mut self.suppressed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut limit = RateLimit::per_second(2);
        let mut seen = Vec::new();
        for millis in [0, 100, 499, 500, 2_000] {
            limit.run(start + Duration::from_millis(millis), |suppressed| {
                seen.push((millis, suppressed))
            });
        }
        assert_eq!(seen, [(0, 0), (500, 2), (2_000, 0)]);
    }
}
