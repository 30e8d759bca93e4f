//! External ports: which are given to whom, and which to give next (nat-conformance §3).
//!
//! With endpoint-independent mapping a port of an external address is one inside endpoint's; a set for each
//! address and protocol has a bit for each port. With overlapping mapping a port is free if the answers that would
//! come to it belong to no connection yet, so there is no pool, and an endpoint's mapping only says which port it had
//! last.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hash, Hasher},
    ops::RangeInclusive,
};

use hashbrown::{HashMap, HashTable};
use vswitch_wire::IpProtocol;

use crate::{Address, Mapping, PortChoice, Zone, keyed::Keyed, random::Random, time::Ticks};

/// An endpoint as a network has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) zone: Zone,
    pub(crate) address: Address,
    pub(crate) port: u16,
    pub(crate) protocol: u8,
}

/// An inside endpoint's external address and port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortLease {
    pub(crate) inside: Endpoint,
    pub(crate) external: Address,
    pub(crate) port: u16,
    pub(crate) host: u32,
    /// Connections that use it.
    pub(crate) uses: u32,
    /// Those of them that strangers began and the inside has not answered.
    pub(crate) strangers: u32,
}

/// All leases and pools.
#[derive(Debug)]
pub(crate) struct External {
    leases: Vec<PortLease>,
    free: Vec<u32>,
    by_inside: HashTable<u32>,
    by_outside: HashTable<u32>,
    hasher: Keyed,
    pools: HashMap<(Address, u8), PortSet, Keyed>,
    /// Leases of each external address.
    loads: HashMap<Address, u32, foldhash::fast::FixedState>,
    reserved: Reserved,
    /// Ports that were given back and are kept from others for a while (N-PORT-8), with who had them and until when.
    quarantine: HashMap<Endpoint, (Endpoint, Ticks), Keyed>,
    /// When to look whether that is over; a port that was had again meanwhile comes more than once.
    quarantine_ends: VecDeque<(Ticks, Endpoint)>,
    random: Random,
    mapping: Mapping,
    choice: PortChoice,
    ports: RangeInclusive<u16>,
}

impl External {
    pub(crate) fn new(mapping: Mapping, choice: PortChoice, ports: RangeInclusive<u16>, seed: u64) -> Self {
        Self {
            leases: Vec::new(),
            free: Vec::new(),
            by_inside: HashTable::new(),
            by_outside: HashTable::new(),
            hasher: Keyed::new(seed),
            pools: HashMap::with_hasher(Keyed::new(seed)),
            loads: HashMap::default(),
            reserved: Reserved::default(),
            quarantine: HashMap::with_hasher(Keyed::new(seed)),
            quarantine_ends: VecDeque::new(),
            random: Random::new(seed),
            mapping,
            choice,
            ports,
        }
    }

    pub(crate) fn lease(&self, number: u32) -> &PortLease {
        &self.leases[number as usize]
    }

    /// The lease that an inside endpoint has.
    pub(crate) fn of_inside(&self, inside: &Endpoint) -> Option<u32> {
        let is_it = |&number: &u32| self.leases[number as usize].inside == *inside;
        self.by_inside.find(self.hasher.hash_one(inside), is_it).copied()
    }

    /// The lease of an external endpoint, whose zone is the outside; with endpoint-independent mapping only.
    pub(crate) fn of_outside(&self, outside: &Endpoint) -> Option<u32> {
        let is_it = |&number: &u32| self.leases[number as usize].outside() == *outside;
        self.by_outside
            .find(self.hasher.hash_one(outside), is_it)
            .copied()
    }

    /// A port of `external` for `inside`. `is_free` tells whether the connection's answers would be nobody else's; with
    /// endpoint-independent mapping that follows from the port's being free.
    pub(crate) fn choose(
        &mut self,
        inside: &Endpoint,
        external: Address,
        now: Ticks,
        mut is_free: impl FnMut(u16) -> bool,
    ) -> Option<u16> {
        self.end_quarantine(now);
        let range = class(inside, &self.ports);
        let (low, count) = (u32::from(*range.start()), range.len() as u32);
        let reserved = self.reserved.bits(inside.protocol);
        let pool = match self.mapping {
            Mapping::EndpointIndependent => {
                Some(&*self.pools.entry((external, inside.protocol)).or_default())
            }
            Mapping::Overlapping => None,
        };
        let mut may_have = |port: u16| {
            let outside = Endpoint {
                zone: Zone::OUTSIDE,
                address: external,
                port,
                protocol: inside.protocol,
            };
            reserved.is_none_or(|set| !set.contains(port))
                && pool.is_none_or(|pool| !pool.contains(port))
                // Its own former port is not kept from an endpoint.
                && self.quarantine.get(&outside).is_none_or(|(former, _)| former == inside)
                && is_free(port)
        };
        let want = (self.choice == PortChoice::Preserve).then_some(inside.port);
        let probed = probe(&mut self.random, &range, want, &mut may_have);
        if probed.is_some() {
            return probed;
        }
        // Few are left: look through the whole pool, a thousand words.
        let pool = pool?;
        let start = self.random.below(count);
        let mut offset = 0;
        while offset < count {
            let port = (low + (start + offset) % count) as u16;
            let left_of_range = low + count - u32::from(port);
            let taken = pool.word(port) | reserved.map_or(0, |set| set.word(port));
            if taken == u64::MAX && port.is_multiple_of(64) && left_of_range >= 64 {
                offset += 64;
                continue;
            }
            if may_have(port) {
                return Some(port);
            }
            offset += 1;
        }
        None
    }

    /// Whether a port is nobody's but perhaps `inside`'s own, as far as leases, reservations and quarantine say.
    pub(crate) fn may_have(&self, inside: &Endpoint, external: Address, port: u16, now: Ticks) -> bool {
        let outside = Endpoint {
            zone: Zone::OUTSIDE,
            address: external,
            port,
            protocol: inside.protocol,
        };
        let reserved = self.reserved.bits(inside.protocol);
        let kept = self.quarantine.get(&outside);
        reserved.is_none_or(|set| !set.contains(port))
            && kept.is_none_or(|(former, until)| former == inside || *until <= now)
            && self
                .of_outside(&outside)
                .is_none_or(|number| self.lease(number).inside == *inside)
    }

    /// Gives a port to an inside endpoint, which has none.
    pub(crate) fn grant(&mut self, inside: Endpoint, external: Address, port: u16, host: u32) -> u32 {
        let lease = PortLease {
            inside,
            external,
            port,
            host,
            uses: 0,
            strangers: 0,
        };
        *self.loads.entry(external).or_default() += 1;
        let number = match self.free.pop() {
            Some(number) => {
                self.leases[number as usize] = lease;
                number
            }
            None => {
                self.leases.push(lease);
                (self.leases.len() - 1) as u32
            }
        };
        let (leases, hasher) = (&self.leases, &self.hasher);
        let hash = |&number: &u32| hasher.hash_one(leases[number as usize].inside);
        self.by_inside.insert_unique(hash(&number), number, hash);
        if self.mapping == Mapping::EndpointIndependent {
            let hash = |&number: &u32| hasher.hash_one(leases[number as usize].outside());
            self.by_outside.insert_unique(hash(&number), number, hash);
            let pool = self.pools.entry((external, inside.protocol)).or_default();
            pool.insert(port);
            self.quarantine.remove(&self.leases[number as usize].outside());
        }
        number
    }

    /// Counts a connection that uses a lease.
    pub(crate) fn hold(&mut self, number: u32) {
        self.leases[number as usize].uses += 1;
    }

    /// Counts one of its connections as a stranger's.
    pub(crate) fn admit_stranger(&mut self, number: u32) {
        self.leases[number as usize].strangers += 1;
    }

    /// Counts a stranger's less: it was answered, or is over.
    pub(crate) fn end_stranger(&mut self, number: u32) {
        self.leases[number as usize].strangers -= 1;
    }

    /// Counts one less; takes the lease back with the last, when it gives it. `quarantine` is how long the port is then kept
    /// from others, if at all.
    pub(crate) fn drop_use(&mut self, number: u32, quarantine: Option<Ticks>) -> Option<PortLease> {
        let lease = &mut self.leases[number as usize];
        lease.uses -= 1;
        if lease.uses > 0 {
            return None;
        }
        let lease = *lease;
        if let Some(load) = self.loads.get_mut(&lease.external) {
            *load -= 1;
        }
        if let Ok(entry) = self
            .by_inside
            .find_entry(self.hasher.hash_one(lease.inside), |&other| other == number)
        {
            entry.remove();
        }
        if let Ok(entry) = self
            .by_outside
            .find_entry(self.hasher.hash_one(lease.outside()), |&other| other == number)
        {
            entry.remove();
        }
        self.free.push(number);
        if self.mapping == Mapping::EndpointIndependent {
            if let Some(pool) = self.pools.get_mut(&(lease.external, lease.inside.protocol)) {
                pool.remove(lease.port);
            }
            if let Some(until) = quarantine {
                self.quarantine.insert(lease.outside(), (lease.inside, until));
                self.quarantine_ends.push_back((until, lease.outside()));
            }
        }
        Some(lease)
    }

    /// Keeps ports for others.
    pub(crate) fn reserve(&mut self, protocol: IpProtocol, ports: RangeInclusive<u16>) {
        for port in ports {
            self.reserved.add(protocol.0, port);
        }
    }

    /// Whether a port was given to an endpoint before it was kept for others.
    pub(crate) fn is_reserved(&self, lease: &PortLease) -> bool {
        let reserved = self.reserved.bits(lease.inside.protocol);
        reserved.is_some_and(|set| set.contains(lease.port))
    }

    /// Gives them back.
    pub(crate) fn release(&mut self, protocol: IpProtocol, ports: RangeInclusive<u16>) {
        for port in ports {
            self.reserved.remove(protocol.0, port);
        }
    }

    /// How many leases an address has.
    pub(crate) fn load(&self, external: Address) -> u32 {
        self.loads.get(&external).copied().unwrap_or(0)
    }

    fn end_quarantine(&mut self, now: Ticks) {
        while let Some(&(until, outside)) = self.quarantine_ends.front() {
            if until > now {
                return;
            }
            self.quarantine_ends.pop_front();
            if self
                .quarantine
                .get(&outside)
                .is_some_and(|&(_, last)| last <= now)
            {
                self.quarantine.remove(&outside);
            }
        }
    }
}

impl Hash for Endpoint {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address.hash(state);
        state.write_u64(u64::from(self.port) | u64::from(self.zone.0) << 16 | u64::from(self.protocol) << 32);
    }
}

impl PortLease {
    /// Whether any of its connections is more than a stranger's: these alone do not keep it open (N-FLT-2).
    pub(crate) const fn is_open(&self) -> bool {
        self.uses > self.strangers
    }

    /// The endpoint that it is outside.
    pub(crate) const fn outside(&self) -> Endpoint {
        Endpoint {
            zone: Zone::OUTSIDE,
            address: self.external,
            port: self.port,
            protocol: self.inside.protocol,
        }
    }
}

/// A port of the range for which `may_have` holds: the wanted one, else one that nobody can guess (N-PORT-4).
pub(crate) fn probe(
    random: &mut Random,
    range: &RangeInclusive<u16>,
    want: Option<u16>,
    mut may_have: impl FnMut(u16) -> bool,
) -> Option<u16> {
    if let Some(want) = want.filter(|want| range.contains(want))
        && may_have(want)
    {
        return Some(want);
    }
    let (low, count) = (u32::from(*range.start()), range.len() as u32);
    // nf_nat_core.c, `nf_nat_l4proto_unique_tuple`: a random start, and again with half as many probes from another.
    let stride = match count % STRIDE {
        // It would come back to the same port again and again.
        0 => 1,
        _ => STRIDE,
    };
    let mut probes = PROBES;
    while probes >= LEAST_PROBES {
        let start = random.below(count);
        let offsets = (0..probes.min(count)).map(|step| (start + step * stride) % count);
        let mut ports = offsets.map(|offset| (low + offset) as u16);
        let found = ports.find(|&port| may_have(port));
        if found.is_some() {
            return found;
        }
        probes /= 2;
    }
    None
}

/// The external ports that an inside port may become (N-PORT-2): those of its class that are in the range that was asked for; all
/// of the range if there are none. Identifiers of ICMP have one class (N-PORT-11).
pub(crate) fn class(inside: &Endpoint, ports: &RangeInclusive<u16>) -> RangeInclusive<u16> {
    if matches!(IpProtocol(inside.protocol), IpProtocol::ICMP | IpProtocol::ICMPV6) {
        return 0..=u16::MAX;
    }
    // nf_nat_l4proto_unique_tuple.
    let (first, last) = match inside.port {
        0..=511 => (1, 511),
        512..=1023 => (600, 1023),
        _ => (1024, u16::MAX),
    };
    let (first, last) = (first.max(*ports.start()), last.min(*ports.end()));
    match first <= last {
        true => first..=last,
        false => ports.clone(),
    }
}

/// A set of ports.
#[derive(Debug)]
struct PortSet {
    words: Box<[u64; 1024]>,
}

impl Default for PortSet {
    fn default() -> Self {
        Self {
            words: Box::new([0; 1024]),
        }
    }
}

impl PortSet {
    fn contains(&self, port: u16) -> bool {
        self.words[usize::from(port) / 64] & (1 << (port % 64)) != 0
    }

    /// The 64 ports that it is one of.
    fn word(&self, port: u16) -> u64 {
        self.words[usize::from(port) / 64]
    }

    fn insert(&mut self, port: u16) {
        self.words[usize::from(port) / 64] |= 1 << (port % 64);
    }

    fn remove(&mut self, port: u16) {
        self.words[usize::from(port) / 64] &= !(1 << (port % 64));
    }
}

/// Ports that are others', each as often as it was reserved.
#[derive(Debug, Default)]
struct Reserved {
    counts: HashMap<(u8, u16), u32, foldhash::fast::FixedState>,
    sets: HashMap<u8, PortSet, foldhash::fast::FixedState>,
}

impl Reserved {
    fn bits(&self, protocol: u8) -> Option<&PortSet> {
        self.sets.get(&protocol)
    }

    fn add(&mut self, protocol: u8, port: u16) {
        *self.counts.entry((protocol, port)).or_default() += 1;
        self.sets.entry(protocol).or_default().insert(port);
    }

    fn remove(&mut self, protocol: u8, port: u16) {
        let Some(count) = self.counts.get_mut(&(protocol, port)) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&(protocol, port));
            if let Some(set) = self.sets.get_mut(&protocol) {
                set.remove(port);
            }
        }
    }
}

/// Linux's `NF_NAT_MAX_ATTEMPTS`.
const PROBES: u32 = 128;
const LEAST_PROBES: u32 = 16;
/// Between probes: a prime, so that ports that were given one after another are not neighbours.
const STRIDE: u32 = 12_289;

#[cfg(test)]
mod tests;
