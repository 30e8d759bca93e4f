//! The flows of a network, by place and by tuple, and what each container has of them.

use std::{
    hash::{BuildHasher, Hash},
    net::SocketAddr,
};

use hashbrown::{HashMap, HashTable};

use crate::{FlowId, allowance::Allowance, listing::Protocol};

/// What identifies a flow: its protocol and both ends as the container knows them. An echo flow has its
/// identifier as the container's port, and 0 as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tuple {
    /// The container: several may use the same link-local address.
    pub(super) endpoint: u32,
    pub(super) protocol: Protocol,
    pub(super) container: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// Something that has a tuple.
pub(super) trait Keyed {
    fn tuple(&self) -> &Tuple;
}

/// Flows in a slab, found by tuple through a table of places.
///
/// Containers choose the tuples, so the hash is keyed at random.
#[derive(Debug)]
pub(super) struct Table<F> {
    places: Vec<Option<F>>,
    free: Vec<u32>,
    by_tuple: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
}

impl<F: Keyed> Table<F> {
    pub(super) fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            by_tuple: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_tuple.len()
    }

    pub(super) fn find(&self, tuple: &Tuple) -> Option<FlowId> {
        let hash = self.hasher.hash_one(tuple);
        let is_it = |&place: &u32| {
            let flow = self.places.get(place as usize).and_then(Option::as_ref);
            flow.is_some_and(|flow| flow.tuple() == tuple)
        };
        self.by_tuple.find(hash, is_it).copied().map(FlowId)
    }

    pub(super) fn get(&self, id: FlowId) -> Option<&F> {
        self.places.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: FlowId) -> Option<&mut F> {
        self.places.get_mut(id.0 as usize)?.as_mut()
    }

    /// The place that the next [`insert`](Self::insert) takes.
    pub(super) fn next_id(&self) -> FlowId {
        FlowId(self.free.last().copied().unwrap_or(self.places.len() as u32))
    }

    /// Inserts a flow whose tuple is not in the table.
    pub(super) fn insert(&mut self, flow: F) -> FlowId {
        let hash = self.hasher.hash_one(flow.tuple());
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(flow);
                place
            }
            None => {
                self.places.push(Some(flow));
                self.places.len() as u32 - 1
            }
        };
        let Self {
            places,
            by_tuple,
            hasher,
            ..
        } = self;
        let rehash = |&place: &u32| match &places[place as usize] {
            Some(flow) => hasher.hash_one(flow.tuple()),
            None => 0,
        };
        by_tuple.insert_unique(hash, place, rehash);
        FlowId(place)
    }

    pub(super) fn remove(&mut self, id: FlowId) -> Option<F> {
        let flow = self.places.get_mut(id.0 as usize)?.take()?;
        let hash = self.hasher.hash_one(flow.tuple());
        if let Ok(entry) = self.by_tuple.find_entry(hash, |&place| place == id.0) {
            entry.remove();
        }
        self.free.push(id.0);
        if self.by_tuple.is_empty() && self.places.len() > KEPT {
            // The memory of a busy hour is given back once nothing is in it.
            (self.places, self.free) = (Vec::new(), Vec::new());
            self.by_tuple = HashTable::new();
        }
        Some(flow)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (FlowId, &F)> {
        let numbered = self.places.iter().enumerate();
        numbered.filter_map(|(place, flow)| Some((FlowId(place as u32), flow.as_ref()?)))
    }
}

/// What one container has of the relay.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) flows: usize,
    /// Those of them that are clients of published ports.
    pub(super) clients: usize,
    /// Descriptors that its flows hold: clients of UDP ports have none.
    pub(super) descriptors: usize,
    /// TCP connections that wait for the host's connect.
    pub(super) pending: usize,
    /// Clients' connections that wait for the container's answer.
    pub(super) initiating: usize,
    /// DNS queries that wait for an answer.
    pub(super) queries: usize,
    /// Flows that nothing has answered yet.
    pub(super) new: Allowance,
    /// Resets for segments of no connection.
    pub(super) strays: Allowance,
    /// Its flows that may be ended to make room, in no order; each knows its place.
    evictable: Vec<FlowId>,
    /// Where the search for something to evict goes on.
    cursor: usize,
}

impl Share {
    fn new(new_per_second: u32) -> Self {
        Self {
            flows: 0,
            clients: 0,
            descriptors: 0,
            pending: 0,
            initiating: 0,
            queries: 0,
            new: Allowance::per_second(new_per_second),
            strays: Allowance::per_second(STRAYS_PER_SECOND),
            evictable: Vec::new(),
            cursor: 0,
        }
    }

    /// Adds a flow to those that may be ended; its place there.
    pub(super) fn add_evictable(&mut self, id: FlowId) -> usize {
        self.evictable.push(id);
        self.evictable.len() - 1
    }

    /// Takes the flow at a place out; the flow that has the place now, if one does.
    pub(super) fn remove_evictable(&mut self, place: usize) -> Option<FlowId> {
        self.evictable.swap_remove(place);
        self.evictable.get(place).copied()
    }

    /// The next few flows that may be ended, going round from call to call.
    fn candidates(&mut self) -> impl Iterator<Item = FlowId> + use<'_> {
        let count = self.evictable.len();
        let first = self.cursor;
        self.cursor = (first + SEARCHED) % count.max(1);
        let around = (first..first + SEARCHED.min(count)).map(move |place| place % count);
        around.map(|place| self.evictable[place])
    }
}

/// Shares by the number of the container's switch port.
#[derive(Debug)]
pub(super) struct Shares {
    by_endpoint: HashMap<u32, Share, foldhash::fast::RandomState>,
    new_per_second: u32,
}

impl Shares {
    pub(super) fn new(new_per_second: u32) -> Self {
        Self {
            by_endpoint: HashMap::default(),
            new_per_second,
        }
    }

    pub(super) fn of(&mut self, endpoint: u32) -> &mut Share {
        let new_per_second = self.new_per_second;
        self.by_endpoint
            .entry(endpoint)
            .or_insert_with(|| Share::new(new_per_second))
    }

    pub(super) fn remove(&mut self, endpoint: u32) {
        self.by_endpoint.remove(&endpoint);
    }

    /// Some flows that may be ended to make room: of one container, else of the one that has most such.
    pub(super) fn candidates(&mut self, endpoint: Option<u32>) -> impl Iterator<Item = FlowId> + use<'_> {
        let share = match endpoint {
            Some(endpoint) => self.by_endpoint.get_mut(&endpoint),
            None => self
                .by_endpoint
                .values_mut()
                .max_by_key(|share| share.evictable.len()),
        };
        share.into_iter().flat_map(Share::candidates)
    }
}

/// Places that an empty table keeps.
const KEPT: usize = 1024;

/// Flows looked at for one eviction: work per packet is bounded, and of so many one is idle enough.
const SEARCHED: usize = 64;

/// As the gateway's limit of ICMP errors to one container.
const STRAYS_PER_SECOND: u32 = 100;
