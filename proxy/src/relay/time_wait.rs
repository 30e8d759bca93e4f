//! Connections that we closed first, for as long as the container may repeat its FIN (R-CL-4).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hashbrown::HashMap;

use super::table::Tuple;
use crate::seq::SeqNum;

/// Closed connections by tuple. Holds at most [`MOST`]; the oldest goes first.
#[derive(Debug)]
pub(super) struct TimeWait {
    entries: HashMap<Tuple, Closed, foldhash::fast::RandomState>,
    order: VecDeque<(Instant, Tuple)>,
    period: Duration,
}

/// Where a closed connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed {
    /// What we would send next.
    pub(super) seq: SeqNum,
    /// What we would expect next.
    pub(super) ack: SeqNum,
    /// When it is forgotten.
    until: Instant,
}

impl TimeWait {
    pub(super) fn new(period: Duration) -> Self {
        Self {
            entries: HashMap::default(),
            order: VecDeque::new(),
            period,
        }
    }

    /// Remembers a connection that ended at these numbers.
    pub(super) fn insert(&mut self, now: Instant, tuple: Tuple, (seq, ack): (SeqNum, SeqNum)) {
        self.expire(now);
        if self.order.len() >= MOST
            && let Some((until, oldest)) = self.order.pop_front()
        {
            self.forget(&oldest, until);
        }
        let until = now + self.period;
        self.entries.insert(tuple, Closed { seq, ack, until });
        self.order.push_back((until, tuple));
    }

    /// The connection of this tuple, unless it is forgotten.
    pub(super) fn find(&self, now: Instant, tuple: &Tuple) -> Option<Closed> {
        self.entries
            .get(tuple)
            .filter(|closed| now < closed.until)
            .copied()
    }

    /// Forgets a connection because another has its tuple now.
    pub(super) fn remove(&mut self, tuple: &Tuple) {
        self.entries.remove(tuple);
    }

    /// Frees what is forgotten; a bounded number at a time.
    pub(super) fn expire(&mut self, now: Instant) {
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(&(until, tuple)) = self.order.front() else {
                return;
            };
            if now < until {
                return;
            }
            self.order.pop_front();
            self.forget(&tuple, until);
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        // Many at once rather than each by itself.
        self.order.front().map(|&(until, _)| until + GRACE)
    }

    /// Forgets the connections of a container.
    pub(super) fn remove_endpoint(&mut self, endpoint: u32) {
        self.entries.retain(|tuple, _| tuple.endpoint != endpoint);
    }

    /// Forgets one connection; the tuple may have been used and closed again since.
    fn forget(&mut self, tuple: &Tuple, until: Instant) {
        if self
            .entries
            .get(tuple)
            .is_some_and(|closed| closed.until == until)
        {
            self.entries.remove(tuple);
        }
    }
}

/// Linux keeps `tcp_max_tw_buckets` of them, by default as many as its hash table of connections has places;
/// this many are 2 MiB.
const MOST: usize = 16_384;

const EXPIRED_AT_ONCE: usize = 256;

/// How late a connection may be forgotten.
const GRACE: Duration = Duration::from_secs(1);
