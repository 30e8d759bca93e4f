//! Fragments of containers' packets, until they are whole (R-UDP-10, nat-conformance §10).
//!
//! How one datagram is put together is [`vswitch_wire::reassembly`]'s. A fragment that overlaps another ends its datagram,
//! and until its time is over its late fragments, too (RFC 5722 §4).
//!
//! Memory is counted as what the buffers have room for, and is bounded. Where there is no more, the source with
//! most of it loses its oldest datagram, so that a source cannot push out another's by sending more.

mod partial;
mod piece;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use vswitch_wire::reassembly::{self, Fit};

use crate::counters::counters;
use crate::{config::Timeouts, payload::Packet};

use partial::{OVERHEAD, Partial, State};
use piece::{Arrival, Key};

/// The fragments of one network, sans-IO.
///
/// World to core: [`handle_packet`](Self::handle_packet), [`handle_timeout`](Self::handle_timeout). Core to world:
/// [`poll_timeout`](Self::poll_timeout) is when to call the latter.
#[derive(Debug)]
pub(crate) struct Reassembly {
    limit: usize,
    /// Time out: IPv4, IPv6.
    timeouts: [Duration; 2],
    /// Keys are chosen by containers; the hash is keyed at random (foldhash).
    datagrams: HashMap<Key, Partial, foldhash::fast::RandomState>,
    /// By container.
    sources: HashMap<u32, SourceShare, foldhash::fast::RandomState>,
    /// By version and then by age, which is the order of their deadlines; may name some that are gone.
    deadlines: [VecDeque<(Instant, Key)>; 2],
    bytes: usize,
    /// Buffers that are used again.
    spare: Vec<Vec<u8>>,
    /// The last datagram that was whole.
    whole: Vec<u8>,
    counters: Counters,
}

/// What became of a fragment.
#[derive(Debug)]
pub(crate) enum Assembly<'a> {
    /// It was the last one that was missing.
    Complete(Packet<'a>),
    /// It is of no use, which was counted.
    Dropped,
    /// Others are missing.
    Pending,
}

counters! {
    /// What reassembly counts.
    Counters {
        /// Datagrams that became whole; what they carried may still be refused.
        fragments_completed,
        /// Datagrams that were dropped for want of room.
        fragments_evicted,
        /// Fragments of datagrams that were given up before.
        fragments_late,
        /// Fragments that cannot be part of anything.
        fragments_malformed,
        /// Datagrams whose fragments overlap or contradict each other.
        fragments_overlapping,
        /// Datagrams whose fragments did not all come in time.
        fragments_timed_out,
    }
}

impl Reassembly {
    /// At most `limit` bytes of memory; of `timeouts` those for reassembly.
    pub(crate) fn new(limit: usize, timeouts: &Timeouts) -> Self {
        Self {
            limit,
            timeouts: [timeouts.reassembly_v4, timeouts.reassembly_v6],
            datagrams: HashMap::default(),
            sources: HashMap::default(),
            deadlines: [VecDeque::new(), VecDeque::new()],
            bytes: 0,
            spare: Vec::new(),
            whole: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// A fragment by `endpoint`, from its IP header on.
    pub(crate) fn handle_packet(&mut self, now: Instant, endpoint: u32, packet: &[u8]) -> Assembly<'_> {
        self.handle_timeout(now);
        match Arrival::parse(endpoint, packet) {
            Ok(arrival) => self.handle_arrival(now, &arrival),
            Err(_) => {
                self.counters.fragments_malformed += 1;
                Assembly::Dropped
            }
        }
    }

    /// Whether a packet is a fragment by `endpoint` of a datagram that others are here of.
    pub(crate) fn expects(&self, endpoint: u32, packet: &[u8]) -> bool {
        !self.datagrams.is_empty()
            && Arrival::parse(endpoint, packet).is_ok_and(|arrival| self.datagrams.contains_key(&arrival.key))
    }

    /// When the next datagram is given up; `None` while nothing is under way.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.deadlines.iter().filter_map(VecDeque::front);
        oldest.map(|&(deadline, _)| deadline).min()
    }

    /// Gives up what is too old. May be called early or twice. Silent, as Linux is (N-FR-7).
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for version in [0, 1] {
            while let Some(&(deadline, key)) = self.deadlines[version].front() {
                if deadline > now {
                    break;
                }
                self.deadlines[version].pop_front();
                // A later datagram may have the same key.
                if self
                    .datagrams
                    .get(&key)
                    .is_some_and(|partial| partial.deadline <= now)
                    && let Some(partial) = self.remove(&key)
                    && partial.state == State::Open
                {
                    self.counters.fragments_timed_out += 1;
                }
            }
        }
    }

    /// Drops what a container has under way: its port is about to go, and the number may be another's.
    pub(crate) fn remove_endpoint(&mut self, endpoint: u32) {
        let Some(share) = self.sources.get_mut(&endpoint) else {
            return;
        };
        for (deadline, key) in std::mem::take(&mut share.oldest) {
            let partial = self.datagrams.get(&key);
            if partial.is_some_and(|partial| partial.deadline == deadline) {
                self.remove(&key);
            }
        }
    }

    /// Bytes of memory that fragments take.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was counted so far.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    fn handle_arrival(&mut self, now: Instant, arrival: &Arrival<'_>) -> Assembly<'_> {
        let &Arrival {
            key,
            headers,
            ref piece,
        } = arrival;
        if !self.datagrams.contains_key(&key) {
            self.begin(now, arrival);
        }
        let Some(partial) = self.datagrams.get_mut(&key) else {
            return Assembly::Dropped;
        };
        if partial.state == State::GivenUp {
            self.counters.fragments_late += 1;
            return Assembly::Dropped;
        }
        match partial.datagram.check(piece) {
            Fit::Contradiction | Fit::TooMany => {
                self.counters.fragments_overlapping += 1;
                self.give_up(&key);
                return Assembly::Dropped;
            }
            Fit::Duplicate => return Assembly::Pending,
            Fit::New => {}
        }
        let growth = partial.datagram.growth(0, piece.end());
        if !self.make_room(growth, &key) {
            return Assembly::Dropped;
        }
        let Some(partial) = self.datagrams.get_mut(&key) else {
            return Assembly::Dropped;
        };
        let before = partial.charge();
        partial.datagram.put(piece);
        if piece.is_first() {
            partial.headers = headers;
        }
        let grown = partial.charge() - before;
        self.charge(key.endpoint, grown);
        let is_whole = self
            .datagrams
            .get(&key)
            .is_some_and(|partial| partial.datagram.is_whole());
        match is_whole.then(|| self.remove(&key)).flatten() {
            Some(partial) => self.complete(&key, partial),
            None => Assembly::Pending,
        }
    }

    fn begin(&mut self, now: Instant, arrival: &Arrival<'_>) {
        let key = arrival.key;
        if self
            .sources
            .get(&key.endpoint)
            .is_some_and(|share| share.datagrams >= DATAGRAMS_PER_SOURCE)
        {
            self.evict_oldest(key.endpoint);
        }
        if !self.make_room(OVERHEAD, &key) {
            return;
        }
        let deadline = now + self.timeouts[key.version()];
        self.datagrams.insert(
            key,
            Partial {
                datagram: reassembly::Partial::new(Vec::new()),
                headers: arrival.headers,
                deadline,
                state: State::Open,
            },
        );
        // A buffer that is used again counts with all of its room.
        if let Some(buffer) = self.spare.pop()
            && self.bytes + OVERHEAD + buffer.capacity() <= self.limit
            && let Some(partial) = self.datagrams.get_mut(&key)
        {
            partial.datagram = reassembly::Partial::new(buffer);
        }
        let charge = self.datagrams.get(&key).map_or(0, Partial::charge);
        self.charge(key.endpoint, charge);
        let share = self.sources.entry(key.endpoint).or_default();
        share.datagrams += 1;
        share.oldest.push_back((deadline, key));
        self.deadlines[key.version()].push_back((deadline, key));
    }

    /// Gives the packet away; its buffer stays here until the next is whole.
    fn complete(&mut self, key: &Key, mut partial: Partial) -> Assembly<'_> {
        self.counters.fragments_completed += 1;
        let last = std::mem::replace(&mut self.whole, partial.datagram.take());
        self.recycle(last);
        Assembly::Complete(Packet {
            src: key.src,
            dst: key.dst,
            protocol: key.protocol,
            headers: partial.headers,
            body: &self.whole,
        })
    }

    /// Frees the datagram's memory and remembers that it is not to be.
    fn give_up(&mut self, key: &Key) {
        let Some(partial) = self.datagrams.get_mut(key) else {
            return;
        };
        let before = partial.charge();
        partial.state = State::GivenUp;
        let buffer = partial.datagram.take();
        let freed = before - partial.charge();
        self.discharge(key.endpoint, freed);
        self.recycle(buffer);
    }

    /// Drops oldest datagrams of those who have most until `len` more bytes fit; false if they cannot, or
    /// if that took the datagram of `key` itself.
    fn make_room(&mut self, len: usize, key: &Key) -> bool {
        let existed = self.datagrams.contains_key(key);
        while self.bytes + len > self.limit {
            // As many as containers with fragments under way, and only when memory is full.
            let most = self.sources.iter().max_by_key(|(_, share)| share.bytes);
            let Some((&endpoint, _)) = most else { return false };
            if !self.evict_oldest(endpoint) {
                return false;
            }
        }
        self.datagrams.contains_key(key) == existed
    }

    fn evict_oldest(&mut self, endpoint: u32) -> bool {
        while let Some(share) = self.sources.get_mut(&endpoint) {
            let Some((deadline, key)) = share.oldest.pop_front() else {
                return false;
            };
            if self
                .datagrams
                .get(&key)
                .is_some_and(|partial| partial.deadline == deadline)
            {
                self.remove(&key);
                self.counters.fragments_evicted += 1;
                return true;
            }
        }
        false
    }

    fn remove(&mut self, key: &Key) -> Option<Partial> {
        let mut partial = self.datagrams.remove(key)?;
        self.discharge(key.endpoint, partial.charge());
        if let Some(share) = self.sources.get_mut(&key.endpoint) {
            share.datagrams -= 1;
            if share.datagrams == 0 {
                self.sources.remove(&key.endpoint);
            }
        }
        if !partial.datagram.is_whole() {
            self.recycle(partial.datagram.take());
        }
        self.tidy_queues(key.endpoint);
        Some(partial)
    }

    /// Queues name datagrams that are gone, at most about as many as are under way: a queue is gone through
    /// only after as many removals as it has places.
    fn tidy_queues(&mut self, endpoint: u32) {
        let is_there = |&(deadline, key): &(Instant, Key)| {
            let partial = self.datagrams.get(&key);
            partial.is_some_and(|partial| partial.deadline == deadline)
        };
        let [v4, v6] = &mut self.deadlines;
        let share = self.sources.get_mut(&endpoint).map(|share| &mut share.oldest);
        for (queue, most) in [(v4, self.datagrams.len()), (v6, self.datagrams.len())]
            .into_iter()
            .chain(share.map(|queue| (queue, DATAGRAMS_PER_SOURCE)))
        {
            while queue.front().is_some_and(|entry| !is_there(entry)) {
                queue.pop_front();
            }
            if queue.len() > QUEUE_SLACK + 2 * most {
                queue.retain(is_there);
            }
        }
    }

    fn charge(&mut self, endpoint: u32, len: usize) {
        self.bytes += len;
        self.sources.entry(endpoint).or_default().bytes += len;
    }

    fn discharge(&mut self, endpoint: u32, len: usize) {
        self.bytes -= len;
        if let Some(share) = self.sources.get_mut(&endpoint) {
            share.bytes -= len;
        }
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// One container's.
#[derive(Debug, Default)]
struct SourceShare {
    bytes: usize,
    datagrams: usize,
    /// By age; may name some that are gone.
    oldest: VecDeque<(Instant, Key)>,
}

/// Datagrams of one container under way (N-FR-5).
const DATAGRAMS_PER_SOURCE: usize = 64;
/// Buffers kept for the next datagrams; ours, as many as a sender has under way at once.
const SPARE_MAX: usize = 4;
/// Places of datagrams that are gone, below which queues are left alone.
const QUEUE_SLACK: usize = 64;

#[cfg(test)]
mod tests;
