//! Fragments on their way through the engine: put together before anything is decided, cut again as they came
//! (nat-conformance §10).
//!
//! Datagrams under way are in slots that are used again, with their buffers, so that in steady state nothing is allocated.
//! Each slot is in three queues, oldest first: of its IP version, which is the order of deadlines, of its source, and
//! of its zone. Memory is counted as what slots and buffers take; the counts of a source, of a zone and of all are sums
//! over their slots at all times. Where a count is at its limit, datagrams are dropped until what comes has room
//! (`room`): a source that has much pays first.

mod arrival;
mod cut;
mod queue;
mod room;
mod slot;

use std::{
    hash::BuildHasher,
    time::{Duration, Instant},
};

use hashbrown::{HashMap, HashTable};
use vswitch_wire::{IpVersion, reassembly::Fit};

use crate::{Address, DropReason, Timeouts, Zone, keyed::Keyed, packet::Packet};

use arrival::{Arrival, Key};
use queue::{By, Queue};
use slot::{OVERHEAD, Slot, State};

pub(crate) use cut::{Cut, cut};

/// What reassembly may take (N-FR-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Bytes of memory of one zone. A source may take a quarter, or what one datagram takes at most.
    pub zone_bytes: usize,
    /// Bytes of memory of all.
    pub total_bytes: usize,
    /// Fragments of one datagram; more than 64 are 64.
    pub pieces: usize,
    /// Datagrams of one source that are not complete.
    pub per_source: usize,
}

impl Default for FragmentLimits {
    fn default() -> Self {
        Self {
            zone_bytes: 1 << 20,
            // net.ipv4.ipfrag_high_thresh.
            total_bytes: 4 << 20,
            pieces: vswitch_wire::reassembly::PIECES_MAX,
            per_source: 64,
        }
    }
}

/// Datagrams that are not complete.
///
/// World to core: [`handle`](Self::handle), [`handle_timeout`](Self::handle_timeout), [`recycle`](Self::recycle). Core to
/// world: [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub(crate) struct Fragments {
    limits: FragmentLimits,
    slots: Vec<Slot>,
    /// Numbers of slots without a datagram.
    free: Vec<u32>,
    /// The slot of each datagram. Keys are chosen by strangers; the hash is keyed (foldhash).
    index: HashTable<u32>,
    hasher: Keyed,
    sources: HashMap<(Zone, Address), Share, Keyed>,
    zones: HashMap<Zone, Share, Keyed>,
    /// Of IPv4 and of IPv6.
    ages: [Queue; 2],
    bytes: usize,
    /// Buffers that are used again.
    spare: Vec<Vec<u8>>,
    lost: Lost,
}

/// A datagram that is.
#[derive(Debug)]
pub(crate) struct Whole {
    /// The packet as if it had never been cut: the IP header with its fragment fields clear but the identification as it
    /// was, or without the fragment header; given back by [`Fragments::recycle`].
    pub(crate) bytes: Vec<u8>,
    /// How it was cut, for [`Cut::again`].
    pub(crate) cut: Cut,
}

/// Datagrams that never became whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Dropped to make room.
    pub(crate) evicted: u64,
    /// Not whole in time.
    pub(crate) expired: u64,
}

impl Fragments {
    /// `seed` must be secret.
    pub(crate) fn new(limits: FragmentLimits, seed: u64) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: Keyed::new(seed),
            sources: HashMap::with_hasher(Keyed::new(seed)),
            zones: HashMap::with_hasher(Keyed::new(seed)),
            ages: [Queue::default(); 2],
            bytes: 0,
            spare: Vec::with_capacity(SPARE_MAX),
            lost: Lost::default(),
        }
    }

    /// Takes a fragment; the datagram if it was the last that was missing. An IPv6 fragment that is a whole packet does not
    /// come here (N-FR-10): it is malformed.
    ///
    /// # Errors
    ///
    /// It was dropped, and possibly its datagram: [`DropReason::Malformed`] (N-FR-3, N-FR-4), [`DropReason::FragmentOverlap`]
    /// (N-FR-2), [`DropReason::FragmentsFull`] (N-FR-5).
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        zone: Zone,
        (bytes, packet): (&[u8], &Packet),
        timeouts: &Timeouts,
    ) -> Result<Option<Whole>, DropReason> {
        self.handle_timeout(now);
        let arrival = Arrival::parse(zone, bytes, packet)?;
        let timeout = match packet.version {
            IpVersion::V4 => timeouts.reassembly_v4,
            IpVersion::V6 => timeouts.reassembly_v6,
        };
        let number = match self.find(now, &arrival.key) {
            Some(number) => number,
            None => self.begin(now, timeout, &arrival)?,
        };
        let slot = &mut self.slots[number as usize];
        if slot.state == State::GivenUp {
            return Err(DropReason::FragmentOverlap);
        }
        match slot.datagram.check(&arrival.piece) {
            Fit::Duplicate => return Ok(None),
            Fit::Contradiction => {
                self.give_up(number);
                return Err(DropReason::FragmentOverlap);
            }
            Fit::New if slot.pieces < self.limits.pieces => {}
            Fit::New | Fit::TooMany => {
                self.give_up(number);
                return Err(DropReason::FragmentsFull);
            }
        }
        let growth = slot.growth(&arrival);
        self.make_room(number, growth)?;
        let slot = &mut self.slots[number as usize];
        let before = slot.charge();
        slot.put(&arrival);
        let grown = slot.charge() - before;
        let is_whole = slot.datagram.is_whole();
        self.charge(&arrival.key, grown);
        match is_whole {
            true => self.complete(number).map(Some),
            false => Ok(None),
        }
    }

    /// Whether other fragments of the same datagram wait here.
    pub(crate) fn expects(&self, zone: Zone, bytes: &[u8], packet: &Packet) -> bool {
        let Ok(arrival) = Arrival::parse(zone, bytes, packet) else {
            return false;
        };
        let is_it = |&number: &u32| self.slots[number as usize].key == arrival.key;
        self.index
            .find(self.hasher.hash_one(arrival.key), is_it)
            .is_some()
    }

    /// Takes a buffer back to use it again.
    pub(crate) fn recycle(&mut self, bytes: Vec<u8>) {
        if bytes.capacity() > 0 && self.spare.len() < SPARE_MAX {
            self.spare.push(bytes);
        }
    }

    /// When [`Fragments::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.ages.iter().filter_map(|ages| ages.oldest());
        oldest.map(|number| self.slots[number as usize].deadline).min()
    }

    /// Gives up what is too old, silently (N-FR-7). Bounded work, so it may want to be called again at once; what is
    /// too old is as good as gone before.
    ///
    /// After the timeouts were shortened, a datagram may have to wait for those that began before it.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for version in [IpVersion::V4, IpVersion::V6] {
            for _ in 0..EXPIRE_MAX {
                match self.ages[version as usize].oldest() {
                    Some(number) if self.slots[number as usize].deadline <= now => self.expire(number),
                    _ => break,
                }
            }
        }
    }

    /// Drops what came from a zone that goes.
    pub(crate) fn remove_zone(&mut self, zone: Zone) {
        while let Some(number) = self.zones.get(&zone).and_then(|share| share.ages.oldest()) {
            self.remove(number);
        }
    }

    /// Datagrams that were lost so far.
    pub(crate) const fn lost(&self) -> Lost {
        self.lost
    }

    /// The slot of a datagram whose time is not over.
    fn find(&mut self, now: Instant, key: &Key) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        let slots = &self.slots;
        let number = *self
            .index
            .find(hash, |&number| slots[number as usize].key == *key)?;
        if self.slots[number as usize].deadline > now {
            return Some(number);
        }
        self.expire(number);
        None
    }

    fn begin(&mut self, now: Instant, timeout: Duration, arrival: &Arrival<'_>) -> Result<u32, DropReason> {
        let key = arrival.key;
        self.make_place(&key)?;
        let mut slot = Slot::new(now + timeout.min(TIMEOUT_MAX), arrival);
        // A buffer that is used again counts with all of its room.
        if let Some(buffer) = self.spare.pop() {
            match self.fits(&key, OVERHEAD + buffer.capacity()) {
                true => slot.reuse(buffer),
                false => self.spare.push(buffer),
            }
        }
        let charge = slot.charge();
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                // As many as memory allows at `OVERHEAD` each, which is far less than 32 bits count.
                let number = self.slots.len() as u32;
                self.slots.push(slot);
                number
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hasher.hash_one(key), number, |&number| {
            hasher.hash_one(slots[number as usize].key)
        });
        self.ages[key.version as usize].push(&mut self.slots, By::Version, number);
        let source = self.sources.entry(key.source()).or_default();
        source.ages.push(&mut self.slots, By::Source, number);
        let is_new = source.datagrams == 0;
        source.datagrams += 1;
        let zone = self.zones.entry(key.zone).or_default();
        zone.ages.push(&mut self.slots, By::Zone, number);
        zone.datagrams += 1;
        zone.sources += usize::from(is_new);
        self.charge(&key, charge);
        Ok(number)
    }

    fn complete(&mut self, number: u32) -> Result<Whole, DropReason> {
        let slot = &mut self.slots[number as usize];
        let before = slot.charge();
        let whole = slot.finish();
        let (key, freed) = (slot.key, before - slot.charge());
        self.discharge(&key, freed);
        self.remove(number);
        whole
    }

    /// Frees the datagram's memory and remembers that it is not to be.
    fn give_up(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        let before = slot.charge();
        slot.state = State::GivenUp;
        let buffer = slot.datagram.take();
        let (key, freed) = (slot.key, before - slot.charge());
        self.discharge(&key, freed);
        self.recycle(buffer);
    }

    fn expire(&mut self, number: u32) {
        if self.slots[number as usize].state == State::Open {
            self.lost.expired += 1;
        }
        self.remove(number);
    }

    fn remove(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        let charge = slot.charge();
        let buffer = slot.datagram.take();
        let key = slot.key;
        self.recycle(buffer);
        if let Ok(entry) = self
            .index
            .find_entry(self.hasher.hash_one(key), |&other| other == number)
        {
            entry.remove();
        }
        self.discharge(&key, charge);
        self.ages[key.version as usize].unlink(&mut self.slots, By::Version, number);
        let mut source_is_gone = false;
        if let Some(source) = self.sources.get_mut(&key.source()) {
            source.ages.unlink(&mut self.slots, By::Source, number);
            source.datagrams -= 1;
            source_is_gone = source.datagrams == 0;
        }
        if source_is_gone {
            self.sources.remove(&key.source());
        }
        if let Some(zone) = self.zones.get_mut(&key.zone) {
            zone.ages.unlink(&mut self.slots, By::Zone, number);
            zone.datagrams -= 1;
            zone.sources -= usize::from(source_is_gone);
            if zone.datagrams == 0 {
                self.zones.remove(&key.zone);
            }
        }
        self.free.push(number);
    }

    fn charge(&mut self, key: &Key, len: usize) {
        self.bytes += len;
        self.sources.entry(key.source()).or_default().bytes += len;
        self.zones.entry(key.zone).or_default().bytes += len;
    }

    fn discharge(&mut self, key: &Key, len: usize) {
        self.bytes -= len;
        if let Some(source) = self.sources.get_mut(&key.source()) {
            source.bytes -= len;
        }
        if let Some(zone) = self.zones.get_mut(&key.zone) {
            zone.bytes -= len;
        }
    }
}

/// What a source, or a zone, has under way.
#[derive(Debug, Default)]
struct Share {
    ages: Queue,
    bytes: usize,
    datagrams: usize,
    /// Of a zone: how many have something under way.
    sources: usize,
}

/// Ours: what is set longer holds memory for nothing.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Buffers kept for the next datagrams; ours, as many as a few senders have under way at once. While nothing is in them they
/// are in no count: at most 72 KiB each beside the limits.
const SPARE_MAX: usize = 8;
/// Datagrams of a version that are given up in one call.
const EXPIRE_MAX: usize = 64;

#[cfg(test)]
mod tests;
