//! What happens to each frame of one direction.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Carried, Odds};
use crate::random::Random;

/// Decides about frames, and holds those that are late.
#[derive(Debug)]
pub(super) struct Impairment {
    odds: Odds,
    random: Random,
    /// Late frames, the oldest first.
    held: VecDeque<Held>,
}

#[derive(Debug)]
struct Held {
    frame: Box<[u8]>,
    overtaken: u32,
    until: Instant,
}

impl Impairment {
    pub(super) fn new(odds: Odds, random: Random) -> Self {
        Self {
            odds,
            random,
            held: VecDeque::new(),
        }
    }

    /// Takes a frame, and sends what is to go out now.
    pub(super) fn pass(
        &mut self,
        now: Instant,
        frame: &[u8],
        carried: &mut Carried,
        send: &mut impl FnMut(&[u8], &mut Carried),
    ) {
        if self.random.happens(self.odds.loss) {
            carried.lost += 1;
            return;
        }
        if self.random.happens(self.odds.reorder) {
            carried.reordered += 1;
            self.held.push_back(Held {
                frame: frame.into(),
                overtaken: 0,
                until: now + LONGEST_WAIT,
            });
            return;
        }
        send(frame, carried);
        if self.random.happens(self.odds.duplicate) {
            carried.duplicated += 1;
            send(frame, carried);
        }
        for held in &mut self.held {
            held.overtaken += 1;
        }
        self.release(now, carried, send);
    }

    /// Sends the late frames that are late enough.
    pub(super) fn release(
        &mut self,
        now: Instant,
        carried: &mut Carried,
        send: &mut impl FnMut(&[u8], &mut Carried),
    ) {
        while let Some(held) = self.held.front()
            && (held.overtaken >= OVERTAKEN || held.until <= now)
        {
            send(&held.frame, carried);
            self.held.pop_front();
        }
    }

    /// When [`release`](Self::release) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.front().map(|held| held.until)
    }
}

/// As many as make three duplicate acknowledgments, which look like a loss.
const OVERTAKEN: u32 = 3;
const LONGEST_WAIT: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(odds: Odds, frames: u8) -> Vec<u8> {
        let mut impairment = Impairment::new(odds, Random::new(1));
        let (mut carried, mut out) = (Carried::default(), Vec::new());
        let now = Instant::now();
        for frame in 0..frames {
            impairment.pass(now, &[frame], &mut carried, &mut |frame, _| out.push(frame[0]));
        }
        let late = now + LONGEST_WAIT;
        impairment.release(late, &mut carried, &mut |frame, _| out.push(frame[0]));
        assert_eq!(impairment.deadline(), None);
        out
    }

    #[test]
    fn late_frames_are_lost_no_more_than_others() {
        let odds = Odds {
            loss: 0.0,
            reorder: 0.1,
            duplicate: 0.0,
        };
        let out = passed(odds, 255);
        assert!(!out.is_sorted());
        let mut sorted = out.clone();
        sorted.sort();
        assert!(sorted.into_iter().eq(0..255));
    }

    #[test]
    fn lost_and_doubled_frames_are_as_many_as_the_odds_say() {
        let odds = Odds {
            loss: 0.5,
            reorder: 0.0,
            duplicate: 0.5,
        };
        let out = passed(odds, 255);
        assert!((120..260).contains(&out.len()), "{}", out.len());
    }
}
