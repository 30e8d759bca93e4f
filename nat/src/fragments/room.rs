//! Who makes room where memory is short (N-FR-5).
//!
//! A source that is at its own limit loses its oldest datagram, whatever others do. Where a zone is full, the source that
//! wants more loses its oldest if it has more than an equal share; if not, one that has more does, which is looked for
//! among the oldest datagrams. Where all memory is taken, the zone that has most pays in the same way. So a source that
//! floods pays for itself, and a flood by many in one zone costs no other zone anything.

use std::cmp::Reverse;

use crate::{Address, DropReason, Zone};

use super::{Fragments, arrival::Key, queue::By, slot::OVERHEAD};

impl Fragments {
    /// Makes room for one more datagram.
    ///
    /// # Errors
    ///
    /// [`DropReason::FragmentsFull`].
    pub(super) fn make_place(&mut self, key: &Key) -> Result<(), DropReason> {
        let source = key.source();
        let datagrams = self.sources.get(&source).map_or(0, |share| share.datagrams);
        if datagrams >= self.limits.per_source {
            let oldest = self.oldest_of_source(&source, None);
            self.evict(oldest.ok_or(DropReason::FragmentsFull)?);
        }
        self.make_room_beside(None, key, OVERHEAD)
    }

    /// Makes room for `len` bytes more of a datagram.
    ///
    /// # Errors
    ///
    /// [`DropReason::FragmentsFull`]; the datagram is dropped, because it can never be whole.
    pub(super) fn make_room(&mut self, number: u32, len: usize) -> Result<(), DropReason> {
        let key = self.slots[number as usize].key;
        let outcome = self.make_room_beside(Some(number), &key, len);
        if outcome.is_err() {
            self.evict(number);
        }
        outcome
    }

    /// Whether `len` bytes more of that datagram are within all limits.
    pub(super) fn fits(&self, key: &Key, len: usize) -> bool {
        self.shortage(key, len).is_none()
    }

    fn make_room_beside(&mut self, kept: Option<u32>, key: &Key, len: usize) -> Result<(), DropReason> {
        while let Some(shortage) = self.shortage(key, len) {
            let victim = match shortage {
                Shortage::Source => self.oldest_of_source(&key.source(), kept),
                Shortage::Total => self.oldest_of_offender(self.largest_zone(), key, kept),
                Shortage::Zone => self.oldest_of_offender(key.zone, key, kept),
            };
            self.evict(victim.ok_or(DropReason::FragmentsFull)?);
        }
        Ok(())
    }

    fn shortage(&self, key: &Key, len: usize) -> Option<Shortage> {
        let source = self.sources.get(&key.source()).map_or(0, |share| share.bytes);
        let zone = self.zones.get(&key.zone).map_or(0, |share| share.bytes);
        if source + len > self.source_bytes() {
            return Some(Shortage::Source);
        }
        if zone + len > self.limits.zone_bytes {
            return Some(Shortage::Zone);
        }
        (self.bytes + len > self.limits.total_bytes).then_some(Shortage::Total)
    }

    /// Bytes of memory that one source may take.
    fn source_bytes(&self) -> usize {
        let zone_bytes = self.limits.zone_bytes;
        (zone_bytes / SOURCES_MIN).max(DATAGRAM_MAX).min(zone_bytes)
    }

    fn oldest_of_source(&self, source: &(Zone, Address), kept: Option<u32>) -> Option<u32> {
        let share = self.sources.get(source)?;
        share
            .ages
            .iter(&self.slots, By::Source)
            .find(|&number| Some(number) != kept)
    }

    fn oldest_of_offender(&self, zone: Zone, key: &Key, kept: Option<u32>) -> Option<u32> {
        let share = self.zones.get(&zone)?;
        let fair = share.bytes / share.sources.max(1);
        let bytes_of = |source| self.sources.get(&source).map_or(0, |source| source.bytes);
        if key.zone == zone
            && bytes_of(key.source()) > fair
            && let Some(own) = self.oldest_of_source(&key.source(), kept)
        {
            return Some(own);
        }
        let ages = share.ages.iter(&self.slots, By::Zone);
        // Of those that have most the oldest.
        ages.filter(|&number| Some(number) != kept)
            .take(SEARCH_MAX)
            .min_by_key(|&number| Reverse(bytes_of(self.slots[number as usize].key.source())))
    }

    /// Visits as many zones as have fragments under way, and only while all memory is taken.
    fn largest_zone(&self) -> Zone {
        let largest = self.zones.iter().max_by_key(|(_, share)| share.bytes);
        largest.map_or(Zone::OUTSIDE, |(&zone, _)| zone)
    }

    fn evict(&mut self, number: u32) {
        self.lost.evicted += 1;
        self.remove(number);
    }
}

/// Which limit is reached first.
enum Shortage {
    Source,
    Total,
    Zone,
}

/// Ours: so many sources it takes at least to fill the memory of a zone.
const SOURCES_MIN: usize = 4;
/// Ours: datagrams that are looked at to find an offender's.
const SEARCH_MAX: usize = 32;
/// What a datagram takes at most: the largest packet and one step of its buffer's growth.
const DATAGRAM_MAX: usize = OVERHEAD + (1 << 16) + 8192;
