//! The forwarding database: which port a station is behind.
//!
//! # Theory of operation
//!
//! Entries live in a slab; a hash table maps (filtering id, MAC) to a slot. A dynamic entry is on two
//! lists: one of all dynamic entries and one of its port's, both ordered by last use as a *source*. A
//! refresh makes the entry the last of both, hence
//!
//! - the head of the first list is always the next to expire: ageing is exact and visits nothing else;
//! - the head of a port's list is its least recently used entry, which is what an eviction takes;
//! - [`Ranks`] knows the port that holds the most entries, from which an eviction takes it (B-LIM-3).
//!
//! Everything a frame can cause is constant time. An expired entry counts as absent from the moment it
//! expires, whether it was swept or not (B-LRN-5), and never stands in the way of a new one.
//!
//! Stations choose their MACs, so the table's hash is keyed by a secret seed (B-LIM-4). The table has
//! room for twice the entries, so that churn cleans up deleted buckets in place and never allocates.

mod entry;
mod list;
mod rank;

use std::{hash::BuildHasher, time::Duration};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use vswitch_wire::MacAddr;

use crate::{
    PortId,
    loop_guard::{FlapHistory, FlapLimits, Home, Motion},
    timeline::Tick,
};
pub(crate) use entry::{Departed, Departure, Key, Location, Sighting};
pub use entry::{EntryKind, Eviction, FdbEntryView, Limit};
use list::{Link, List, NIL};
use rank::Ranks;

/// Limits and times of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FdbLimits {
    /// Nanoseconds until an unused dynamic entry is gone; more than 0.
    pub(crate) ageing: u64,
    pub(crate) entries: usize,
    pub(crate) eviction: Eviction,
    pub(crate) flap: FlapLimits,
}

/// The forwarding database of one switch.
#[derive(Debug)]
pub(crate) struct Fdb {
    limits: FdbLimits,
    hasher: FixedState,
    table: HashTable<u32>,
    entries: Vec<Entry>,
    links: Vec<[Link; 2]>,
    flaps: Vec<FlapHistory>,
    vacant: Vec<u32>,
    by_age: List<AGE>,
    locals: List<OWNER>,
    holdings: Vec<Holdings>,
    ranks: Ranks,
    /// Entries that are not dynamic and hold in every VLAN.
    wildcards: usize,
}

impl Fdb {
    pub(crate) fn new(limits: FdbLimits, hash_seed: u64) -> Self {
        let room = limits.entries.min(PREALLOCATED_ENTRIES);
        Self {
            limits,
            hasher: FixedState::with_seed(hash_seed),
            table: HashTable::with_capacity(2 * room + 1),
            entries: Vec::with_capacity(room),
            links: Vec::with_capacity(room),
            flaps: Vec::with_capacity(room),
            vacant: Vec::with_capacity(room),
            by_age: List::EMPTY,
            locals: List::EMPTY,
            holdings: Vec::new(),
            ranks: Ranks::default(),
            wildcards: 0,
        }
    }

    /// Makes room for a port that may hold `limit` dynamic entries, or changes its limit.
    ///
    /// A lower limit does not remove entries; it refuses new ones.
    pub(crate) fn admit_port(&mut self, port: PortId, limit: usize) {
        if self.holdings.len() <= port.index() {
            self.holdings.resize(port.index() + 1, Holdings::NONE);
        }
        self.holdings[port.index()].limit = limit;
        self.ranks.admit(port.0);
    }

    /// Enters, refreshes or moves the station that a frame from `port` names as its source.
    #[inline]
    pub(crate) fn learn(&mut self, key: Key, port: PortId, now: Tick) -> Sighting {
        let Some(slot) = self.find(key) else {
            return self.insert(key, port, now);
        };
        let ageing = self.limits.ageing;
        let entry = &mut self.entries[slot as usize];
        if entry.port != port.0 || now.since(entry.seen) >= ageing {
            return self.relocate(slot, port, now);
        }
        if entry.seen < now {
            entry.seen = now;
            self.by_age.renew(&mut self.links, slot);
            self.holdings[port.index()].dynamic.renew(&mut self.links, slot);
        }
        Sighting::Known
    }

    /// What `learn` would say of a station on a port that does not learn; changes nothing.
    pub(crate) fn examine(&self, key: Key, port: PortId, now: Tick) -> Sighting {
        match self.find(key).map(|slot| (slot, self.entries[slot as usize])) {
            Some((_, entry)) if entry.port == port.0 => Sighting::Known,
            Some((
                _,
                Entry {
                    kind: EntryKind::Local,
                    ..
                },
            )) => Sighting::Own,
            Some((
                _,
                Entry {
                    kind: EntryKind::Static,
                    port,
                    ..
                },
            )) => Sighting::Pinned { owner: PortId(port) },
            Some((slot, _)) if self.flaps[slot as usize].is_frozen(now) => Sighting::Frozen,
            Some(_) | None => Sighting::Known,
        }
    }

    /// Where frames to a station go; `None` if unknown or expired.
    #[inline]
    pub(crate) fn lookup(&self, key: Key, now: Tick) -> Option<Location> {
        let entry = self.entries[self.find(key)? as usize];
        if now.since(entry.seen) >= self.limits.ageing {
            return None;
        }
        Some(entry.location())
    }

    /// Enters a static entry; one that was learnt gives way to it.
    ///
    /// # Errors
    ///
    /// The location of the entry that is in the way, if it is not dynamic.
    pub(crate) fn pin(&mut self, key: Key, port: PortId) -> Result<(), Location> {
        if let Some(obstacle) = self.obstacle(key) {
            return Err(obstacle);
        }
        let slot = self.insert_fixed(key, port.0, EntryKind::Static);
        self.holdings[port.index()].fixed.push_back(&mut self.links, slot);
        Ok(())
    }

    /// The static or local entry that stands in the way of pinning `key`.
    pub(crate) fn obstacle(&self, key: Key) -> Option<Location> {
        let entry = self.entries[self.find(key)? as usize];
        (entry.kind != EntryKind::Dynamic).then(|| entry.location())
    }

    /// Removes a static entry of `port`; whether there was one.
    pub(crate) fn unpin(&mut self, key: Key, port: PortId) -> bool {
        match self.find_exactly(key) {
            Some(slot) if self.entries[slot as usize].is_static_on(port) => {
                self.remove(slot);
                true
            }
            _ => false,
        }
    }

    /// Enters an address of the switch itself or of a port's device, reached through `gateway`.
    pub(crate) fn add_local(&mut self, mac: MacAddr, gateway: Option<PortId>) {
        let key = Key::new(0, mac);
        if self.obstacle(key).is_none() {
            let slot = self.insert_fixed(key, gateway.map_or(NIL, |port| port.0), EntryKind::Local);
            self.locals.push_back(&mut self.links, slot);
        }
    }

    /// Removes a local address.
    pub(crate) fn remove_local(&mut self, mac: MacAddr) {
        if let Some(slot) = self.find_exactly(Key::new(0, mac))
            && self.entries[slot as usize].kind == EntryKind::Local
        {
            self.remove(slot);
        }
    }

    /// Binds all local addresses to the gateway's port, or to none.
    pub(crate) fn bind_locals(&mut self, gateway: Option<PortId>) {
        let mut next = self.locals.head();
        while let Some(slot) = next {
            self.entries[slot as usize].port = gateway.map_or(NIL, |port| port.0);
            next = List::<OWNER>::next(&self.links, slot);
        }
    }

    /// Removes a port's dynamic entries; its static ones stay.
    pub(crate) fn flush_port(&mut self, port: PortId) {
        self.holdings[port.index()].epoch = self.holdings[port.index()].epoch.wrapping_add(1);
        while let Some(head) = self.holdings[port.index()].dynamic.head() {
            self.remove(head);
        }
    }

    /// Removes all of a port's entries, so that its id may be used again.
    pub(crate) fn retire_port(&mut self, port: PortId) {
        self.flush_port(port);
        while let Some(head) = self.holdings[port.index()].fixed.head() {
            self.remove(head);
        }
    }

    /// Removes the dynamic entries that `doomed` selects.
    pub(crate) fn flush(&mut self, doomed: impl Fn(Key) -> bool) {
        let mut next = self.by_age.head();
        while let Some(slot) = next {
            next = List::<AGE>::next(&self.links, slot);
            if doomed(self.entries[slot as usize].key) {
                self.remove(slot);
            }
        }
    }

    /// Removes the entry that expired longest ago, if one has.
    pub(crate) fn expire(&mut self, now: Tick) -> Option<Departed> {
        let oldest = self
            .by_age
            .head()
            .filter(|&oldest| self.is_expired(oldest, now))?;
        Some(self.depart(oldest, Departure::Aged))
    }

    /// When the next entry expires.
    pub(crate) fn next_expiry(&self) -> Option<Tick> {
        let oldest = self.by_age.head()?;
        Some(self.entries[oldest as usize].seen.plus(self.limits.ageing))
    }

    /// Number of dynamic entries, expired ones included until they are swept.
    pub(crate) fn dynamic_len(&self) -> usize {
        self.by_age.len()
    }

    /// Number of dynamic entries of one port.
    pub(crate) fn held_by(&self, port: PortId) -> usize {
        self.holdings
            .get(port.index())
            .map_or(0, |holdings| holdings.dynamic.len())
    }

    /// All entries that have not expired, in no particular order.
    pub(crate) fn iter(&self, now: Tick) -> impl Iterator<Item = FdbEntryView> {
        self.table
            .iter()
            .filter(move |&&slot| !self.is_expired(slot, now))
            .map(move |&slot| {
                let entry = self.entries[slot as usize];
                FdbEntryView {
                    mac: entry.key.mac(),
                    vlan: entry.key.vlan(),
                    port: entry.location().port,
                    age: Duration::from_nanos(now.since(entry.seen)),
                    kind: entry.kind,
                }
            })
    }

    /// The slot of an entry of this very key, or of one that holds in every VLAN.
    #[inline]
    fn find(&self, key: Key) -> Option<u32> {
        match self.find_exactly(key) {
            None if self.wildcards != 0 && key != key.in_every_vlan() => {
                self.find_exactly(key.in_every_vlan())
            }
            found => found,
        }
    }

    #[inline]
    fn find_exactly(&self, key: Key) -> Option<u32> {
        let hash = self.hasher.hash_one(key.bits());
        self.table
            .find(hash, |&slot| self.entries[slot as usize].key == key)
            .copied()
    }

    #[inline]
    fn is_expired(&self, slot: u32, now: Tick) -> bool {
        now.since(self.entries[slot as usize].seen) >= self.limits.ageing
    }

    #[cold]
    fn insert(&mut self, key: Key, port: PortId, now: Tick) -> Sighting {
        let Holdings { dynamic, limit, .. } = self.holdings[port.index()];
        let mut displaced = None;
        if dynamic.len() >= limit {
            match dynamic.head() {
                Some(oldest) if self.is_expired(oldest, now) => {
                    displaced = Some(self.depart(oldest, Departure::Aged));
                }
                _ => return Sighting::Refused(Limit::Port),
            }
        }
        if self.by_age.len() >= self.limits.entries {
            displaced = match (self.expire(now), self.limits.eviction) {
                (Some(aged), _) => Some(aged),
                (None, Eviction::Refuse) => None,
                (None, Eviction::Evict) => self.evict_from_fullest(port),
            };
            if displaced.is_none() {
                return Sighting::Refused(Limit::Table);
            }
        }
        let slot = self.occupy(Entry {
            key,
            seen: now,
            port: port.0,
            kind: EntryKind::Dynamic,
        });
        self.by_age.push_back(&mut self.links, slot);
        self.grant(slot, port);
        Sighting::Learned { displaced }
    }

    fn evict_from_fullest(&mut self, newcomer: PortId) -> Option<Departed> {
        let fullest = self.ranks.fullest(newcomer.0, self.held_by(newcomer))?;
        let victim = self.holdings[fullest as usize].dynamic.head()?;
        Some(self.depart(victim, Departure::Evicted))
    }

    /// A known station is heard on another port, or again after it had expired.
    #[cold]
    fn relocate(&mut self, slot: u32, port: PortId, now: Tick) -> Sighting {
        let Entry {
            key,
            port: owner,
            kind,
            ..
        } = self.entries[slot as usize];
        match kind {
            EntryKind::Local => return Sighting::Own,
            EntryKind::Static => return Sighting::Pinned { owner: PortId(owner) },
            EntryKind::Dynamic => {}
        }
        if self.is_expired(slot, now) {
            self.remove(slot);
            return self.insert(key, port, now);
        }
        let from = Home {
            port: PortId(owner),
            epoch: self.holdings[owner as usize].epoch,
        };
        match self.flaps[slot as usize].record_move(from, now, self.limits.flap) {
            Motion::Frozen => Sighting::Frozen,
            Motion::Flapping(home) => {
                let is_home_there = self
                    .holdings
                    .get(home.port.index())
                    .is_some_and(|port| port.epoch == home.epoch);
                let older = if is_home_there { home.port } else { from.port };
                let younger = if older == port { from.port } else { port };
                // `older` holds the entry already, or held it a moment ago; if its limit has become 0
                // since, the entry stays where it is.
                let _ = self.transfer(slot, older, now);
                Sighting::Flapping { older, younger }
            }
            Motion::Steady => match self.transfer(slot, port, now) {
                Ok(displaced) => Sighting::Moved {
                    from: PortId(owner),
                    displaced,
                },
                Err(limit) => Sighting::Refused(limit),
            },
        }
    }

    /// Gives an entry to `port`, whose least recently used one makes room if it holds all it may:
    /// a move always wins (B-LRN-3), and limits hold.
    fn transfer(&mut self, slot: u32, port: PortId, now: Tick) -> Result<Option<Departed>, Limit> {
        let owner = PortId(self.entries[slot as usize].port);
        let mut displaced = None;
        if owner != port {
            let Holdings { dynamic, limit, .. } = self.holdings[port.index()];
            if dynamic.len() >= limit {
                let oldest = dynamic.head().ok_or(Limit::Port)?;
                displaced = Some(self.depart(oldest, Departure::Evicted));
            }
            self.revoke(slot, owner);
            self.entries[slot as usize].port = port.0;
            self.grant(slot, port);
        }
        self.entries[slot as usize].seen = now;
        self.by_age.renew(&mut self.links, slot);
        Ok(displaced)
    }

    fn grant(&mut self, slot: u32, port: PortId) {
        let list = &mut self.holdings[port.index()].dynamic;
        self.ranks.raise(port.0, list.len());
        list.push_back(&mut self.links, slot);
    }

    fn revoke(&mut self, slot: u32, port: PortId) {
        let list = &mut self.holdings[port.index()].dynamic;
        self.ranks.lower(port.0, list.len());
        list.unlink(&mut self.links, slot);
    }

    fn insert_fixed(&mut self, key: Key, port: u32, kind: EntryKind) -> u32 {
        if key == key.in_every_vlan() {
            let mac = key.mac();
            self.flush(|other| other.mac() == mac);
            self.wildcards += 1;
        } else if let Some(learnt) = self.find_exactly(key) {
            self.remove(learnt);
        }
        self.occupy(Entry {
            key,
            seen: Tick::NEVER,
            port,
            kind,
        })
    }

    fn occupy(&mut self, entry: Entry) -> u32 {
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                self.flaps[slot as usize] = FlapHistory::CALM;
                slot
            }
            None => {
                self.entries.push(entry);
                self.links.push([Link::LOOSE; 2]);
                self.flaps.push(FlapHistory::CALM);
                // Limits are far below 2^32, so an index fits.
                self.entries.len() as u32 - 1
            }
        };
        let (hasher, entries) = (&self.hasher, &self.entries);
        self.table
            .insert_unique(hasher.hash_one(entry.key.bits()), slot, |&slot| {
                hasher.hash_one(entries[slot as usize].key.bits())
            });
        slot
    }

    fn depart(&mut self, slot: u32, cause: Departure) -> Departed {
        let Entry { key, port, .. } = self.entries[slot as usize];
        self.remove(slot);
        Departed {
            key,
            port: PortId(port),
            cause,
        }
    }

    fn remove(&mut self, slot: u32) {
        let Entry { key, port, kind, .. } = self.entries[slot as usize];
        match kind {
            EntryKind::Dynamic => {
                self.by_age.unlink(&mut self.links, slot);
                self.revoke(slot, PortId(port));
            }
            EntryKind::Local => self.locals.unlink(&mut self.links, slot),
            EntryKind::Static => self.holdings[port as usize].fixed.unlink(&mut self.links, slot),
        }
        if kind != EntryKind::Dynamic && key == key.in_every_vlan() {
            self.wildcards -= 1;
        }
        let hash = self.hasher.hash_one(key.bits());
        if let Ok(occupied) = self.table.find_entry(hash, |&other| other == slot) {
            occupied.remove();
        }
        self.vacant.push(slot);
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    /// When a frame last named the station as source; [`Tick::NEVER`] for entries that do not age.
    seen: Tick,
    /// Index of the port; [`NIL`] for a local entry of a switch without gateway.
    port: u32,
    kind: EntryKind,
}

impl Entry {
    #[inline]
    fn location(&self) -> Location {
        let port = if self.port == NIL {
            None
        } else {
            Some(PortId(self.port))
        };
        Location {
            port,
            kind: self.kind,
        }
    }

    fn is_static_on(&self, port: PortId) -> bool {
        self.kind == EntryKind::Static && self.port == port.0
    }
}

/// What one port has in the table.
#[derive(Debug, Clone, Copy)]
struct Holdings {
    dynamic: List<OWNER>,
    fixed: List<OWNER>,
    limit: usize,
    /// Changes whenever the port loses its dynamic entries as a whole.
    epoch: u32,
}

impl Holdings {
    const NONE: Self = Self {
        dynamic: List::EMPTY,
        fixed: List::EMPTY,
        limit: 0,
        epoch: 0,
    };
}

/// Chain of the list that is ordered by age.
const AGE: usize = 0;
/// Chain of the lists per port, and of the list of local entries.
const OWNER: usize = 1;

/// Room that is set aside at once (about 80 bytes each, touched only when used); a table with a higher
/// limit grows as it learns.
const PREALLOCATED_ENTRIES: usize = 65_536;
