//! Inside hosts: whom a connection counts for, and by which external address they go out.

use std::{collections::VecDeque, hash::BuildHasher};

use hashbrown::HashTable;

use crate::{Address, Zone, conntrack::List, keyed::Keyed, time::Ticks};

/// An inside host that has connections.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) zone: Zone,
    pub(crate) address: Address,
    /// Connections.
    pub(crate) count: u32,
    /// Those of them that are not assured, oldest first.
    pub(crate) unassured: List,
    pub(crate) unassured_count: u32,
    pub(crate) assured: List,
    /// The external address that it goes out by while it has any connection or mapping (N-PORT-10).
    pub(crate) external: Option<Address>,
    /// External ports that are its own.
    pub(crate) mappings: u32,
    /// The second in which `opened` connections began.
    second: u32,
    /// By [`Opener`].
    opened: [u32; 2],
    /// It is kept until the second is over.
    lingers: bool,
}

/// All of them, by number. Numbers are used again.
#[derive(Debug)]
pub(crate) struct Hosts {
    hosts: Vec<Host>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: Keyed,
    /// How many each zone has, by its number.
    of_zones: Vec<u32>,
    /// The latest second in which a connection began.
    second: u32,
    /// Hosts that are kept for their rate only, by the second.
    lingering: VecDeque<(u32, u32)>,
    /// Where [`Hosts::most_unassured`] goes on.
    cursor: usize,
    /// One that had more to give up than any other when it last began a connection.
    busiest: u32,
}

impl Hosts {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hosts: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: Keyed::new(seed),
            of_zones: Vec::new(),
            second: 0,
            lingering: VecDeque::new(),
            cursor: 0,
            busiest: 0,
        }
    }

    /// How many there are, of one zone or of all.
    pub(crate) fn count(&self, zone: Option<Zone>) -> usize {
        match zone {
            None => self.index.len(),
            Some(zone) => self
                .of_zones
                .get(usize::from(zone.0))
                .map_or(0, |&count| count as usize),
        }
    }

    /// The host's number, if it is there.
    pub(crate) fn find(&self, zone: Zone, address: Address) -> Option<u32> {
        let hash = self.hasher.hash_one((zone, address));
        let is_it = |&number: &u32| {
            let host = &self.hosts[number as usize];
            host.zone == zone && host.address == address
        };
        self.index.find(hash, is_it).copied()
    }

    /// The host's number; a new one has no connections and must get one or be [`released`](Self::release).
    pub(crate) fn find_or_add(&mut self, zone: Zone, address: Address) -> u32 {
        self.forget_lingering();
        if let Some(number) = self.find(zone, address) {
            return number;
        }
        let host = Host {
            zone,
            address,
            count: 0,
            unassured: List::EMPTY,
            unassured_count: 0,
            assured: List::EMPTY,
            external: None,
            mappings: 0,
            second: 0,
            opened: [0; 2],
            lingers: false,
        };
        let place = usize::from(zone.0);
        if self.of_zones.len() <= place {
            self.of_zones.resize(place + 1, 0);
        }
        self.of_zones[place] += 1;
        let number = match self.free.pop() {
            Some(number) => {
                self.hosts[number as usize] = host;
                number
            }
            None => {
                self.hosts.push(host);
                (self.hosts.len() - 1) as u32
            }
        };
        let (hosts, hasher) = (&self.hosts, &self.hasher);
        let hash = |number: &u32| {
            let host = &hosts[*number as usize];
            hasher.hash_one((host.zone, host.address))
        };
        self.index.insert_unique(hash(&number), number, hash);
        number
    }

    pub(crate) fn host(&self, number: u32) -> &Host {
        &self.hosts[number as usize]
    }

    pub(crate) fn host_mut(&mut self, number: u32) -> &mut Host {
        &mut self.hosts[number as usize]
    }

    /// Whether a host may have one connection more begin now, by the rate; counts it then (N-TBL-1).
    pub(crate) fn may_open(&mut self, number: u32, now: Ticks, opener: Opener, rate: u32) -> bool {
        self.second = now.0 / Ticks::PER_SECOND;
        self.hosts[number as usize].may_open(self.second, opener, rate)
    }

    /// Forgets a host that has nothing left; one that has begun something in this second only after
    /// that, so that its rate is remembered.
    pub(crate) fn release(&mut self, number: u32) {
        let host = &mut self.hosts[number as usize];
        if host.count > 0 || host.mappings > 0 {
            return;
        }
        if host.second == self.second && host.opened != [0; 2] {
            if !std::mem::replace(&mut host.lingers, true) {
                self.lingering.push_back((self.second, number));
            }
            return;
        }
        let zone = host.zone;
        let hash = self.hasher.hash_one((zone, host.address));
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == number) {
            entry.remove();
            self.free.push(number);
            self.of_zones[usize::from(zone.0)] -= 1;
        }
    }

    /// Releases some of those that were only kept for their rate.
    fn forget_lingering(&mut self) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            match self.lingering.front() {
                Some(&(second, number)) if second < self.second => {
                    self.lingering.pop_front();
                    self.hosts[number as usize].lingers = false;
                    self.release(number);
                }
                _ => return,
            }
        }
    }

    /// Notes that a host has one connection more that can be given up.
    pub(crate) fn note_busy(&mut self, number: u32) {
        let count_of = |number: u32| self.hosts[number as usize].unassured_count;
        if count_of(number) > count_of(self.busiest) {
            self.busiest = number;
        }
    }

    /// Of the busiest host and some others, other ones each time, the one that has most connections to give up; of those of one
    /// zone or of all that have more than `share` connections. Looking at all would take too long for a packet.
    pub(crate) fn most_unassured(&mut self, zone: Option<Zone>, share: usize) -> Option<u32> {
        let count = self.hosts.len();
        let looked_at = (0..count.min(SAMPLE)).map(|offset| (self.cursor + offset) % count.max(1));
        let looked_at = looked_at.chain([self.busiest as usize]);
        let eligible = looked_at.filter(|&index| {
            self.hosts.get(index).is_some_and(|host| {
                host.unassured_count > 0
                    && host.count as usize > share
                    && zone.is_none_or(|zone| zone == host.zone)
            })
        });
        let most = eligible.max_by_key(|&index| self.hosts[index].unassured_count);
        self.cursor = self.cursor.wrapping_add(SAMPLE) % count.max(1);
        most.map(|index| index as u32)
    }

    /// The hosts of a zone.
    pub(crate) fn of_zone(&self, zone: Zone) -> Vec<u32> {
        let of_zone = self.index.iter().copied();
        of_zone
            .filter(|&number| self.hosts[number as usize].zone == zone)
            .collect()
    }

    /// Every host's number.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.index.iter().copied().collect()
    }
}

impl Host {
    /// Notes that a connection begins; whether it may, by the rate.
    fn may_open(&mut self, second: u32, opener: Opener, rate: u32) -> bool {
        if second != self.second {
            (self.second, self.opened) = (second, [0; 2]);
        }
        let opened = &mut self.opened[opener as usize];
        let may = *opened < rate;
        *opened += u32::from(may);
        may
    }
}

/// Who begins a connection that counts for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opener {
    /// The host itself.
    Host = 0,
    /// Somebody outside, who must not use up what the host may open.
    Stranger = 1,
}

/// Hosts released per call.
const FORGOTTEN_AT_ONCE: usize = 4;
/// Hosts looked at when room is needed.
const SAMPLE: usize = 64;
