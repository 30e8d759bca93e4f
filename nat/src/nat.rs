//! The engine as a whole.

mod commands;
mod decide;
mod deliver;
mod path;
mod prefix;
mod restart;
mod room;

pub use restart::Imported;

use std::{collections::VecDeque, net::IpAddr, time::Instant};

use ipnet::IpNet;
use vswitch_wire::{IpProtocol, Offload};

use crate::{
    Address, Config, ConnView, Counters, Event, MappingId, Network, Output, Outside, Tuple, Verdict, Zone,
    conntrack::{Conn, ConnId, Table, Tracker},
    external::External,
    forward::{ErrorLimits, Identifications},
    fragments::Fragments,
    hosts::Hosts,
    publications::Publications,
    random::Random,
    time::{Clock, Ticks},
};

/// A NAT engine for any number of networks and one outside.
///
/// World to core: [`handle_packet`](Self::handle_packet), [`handle_timeout`](Self::handle_timeout). Commands:
/// [`add_network`](Self::add_network), [`publish`](Self::publish), the flushes. Core to world: [`poll_event`](Self::poll_event) until
/// it is empty, [`poll_timeout`](Self::poll_timeout) for the time by which `handle_timeout` wants to be called; early or twice does
/// no harm.
#[derive(Debug)]
pub struct Nat {
    clock: Clock,
    config: Config,
    table: Table,
    hosts: Hosts,
    external: External,
    publications: Publications,
    /// By number; the outside has none.
    networks: Vec<Option<Inside>>,
    /// Largest packet of each zone, by number; 0 where there is none.
    mtus: Vec<u16>,
    outside: Exterior,
    fragments: Fragments,
    errors: ErrorLimits,
    identifications: Identifications,
    random: Random,
    /// Connections of a lease to a remote address, where a filter asks for that.
    contacts: hashbrown::HashMap<(u32, Address), u32, foldhash::quality::FixedState>,
    /// Until when connections of TCP may begin in their middle (N-TCP-9).
    pick_up_until: Option<Instant>,
    /// Where the search for connections to give up goes on.
    sweep: u32,
    /// What an ICMP error is made in.
    reply: Vec<u8>,
    events: Events,
    counters: Counters,
}

/// A network with what belongs to it.
#[derive(Debug)]
struct Inside {
    network: Network,
    /// Connections of its hosts.
    count: usize,
    /// Connections of other networks' hosts to hosts of it.
    guests: usize,
    gateway_v4: Option<Address>,
    gateway_v6: Option<Address>,
}

/// The outside, as packets are compared with it.
#[derive(Debug, Default)]
struct Exterior {
    addresses: Vec<Address>,
    prefixes: Vec<IpNet>,
}

/// What happened and was not told yet.
#[derive(Debug, Default)]
struct Events {
    wanted: bool,
    queue: VecDeque<Event>,
}

impl Nat {
    /// An engine without networks.
    pub fn new(now: Instant, config: Config) -> Self {
        let mut random = Random::new(config.seed);
        let mut key = || u64::from(random.below(u32::MAX)) << 32 | u64::from(random.below(u32::MAX));
        Self {
            clock: Clock::new(now),
            table: Table::new(config.limits.connections, key()),
            hosts: Hosts::new(key()),
            external: External::new(config.mapping, config.port_choice, config.ports.clone(), key()),
            publications: Publications::default(),
            networks: Vec::new(),
            mtus: vec![DEFAULT_MTU],
            outside: Exterior::default(),
            fragments: Fragments::new(config.fragments, key()),
            errors: ErrorLimits::new(key()),
            identifications: Identifications::new(key()),
            contacts: hashbrown::HashMap::with_hasher(foldhash::quality::FixedState::with_seed(key())),
            random: Random::new(key()),
            pick_up_until: None,
            sweep: 0,
            reply: Vec::with_capacity(REPLY_CAPACITY),
            events: Events::default(),
            counters: Counters::default(),
            config,
        }
    }

    /// Takes an IP packet that comes from `zone`, from its IP header on, and rewrites it in place. `offload` counts from the packet's
    /// first byte; a forwarded packet keeps it. Bytes beyond the packet's length are padding: send [`packet_len`] bytes.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        zone: Zone,
        packet: &mut [u8],
        offload: &Offload,
        out: &mut impl Output,
    ) -> Verdict {
        let verdict = self
            .take(now, zone, (packet, offload), out)
            .unwrap_or_else(Verdict::Drop);
        match verdict {
            Verdict::Consumed => {}
            Verdict::Drop(reason) => self.counters.count(reason),
            Verdict::Forward(_) => self.counters.forwarded += 1,
            Verdict::Local => self.counters.local += 1,
        }
        verdict
    }

    /// Whether a packet from `zone` belongs to a connection, or to a datagram of which other fragments wait here. For callers
    /// that have other ways for packets than this engine; nothing is checked but what it takes to tell.
    pub fn knows(&self, now: Instant, zone: Zone, bytes: &[u8]) -> bool {
        if self.table.len() == 0 {
            return false;
        }
        let mut clock = self.clock;
        let now = clock.advance(now);
        self.recognises(now, zone, bytes).unwrap_or(false)
    }

    /// Where a published port leads: its mapping.
    pub fn published(&self, external: IpAddr, protocol: IpProtocol, port: u16) -> Option<MappingId> {
        let (number, _) = self.publications.find(external.into(), protocol.0, port)?;
        Some(self.publications.get(number)?.mapping.id)
    }

    /// Reads what [`handle_packet`](Self::handle_packet) will read of its tables for these packets of one zone, so that they
    /// wait for memory together rather than one after another. For batches of up to 64; changes nothing.
    pub fn look_ahead<'p>(&self, zone: Zone, packets: impl Iterator<Item = &'p [u8]>) {
        self.touch(zone, packets);
    }

    /// The time by which [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sweep = self.is_crowded().then(|| self.clock.now().plus(1));
        let ticks = self.table.next_look().into_iter().chain(sweep).min();
        let look = ticks.map(|ticks| self.clock.instant(ticks));
        look.into_iter().chain(self.fragments.poll_timeout()).min()
    }

    /// Removes what is over at `now`; bounded work, so it may want to be called again at once.
    pub fn handle_timeout(&mut self, now: Instant) {
        let ticks = self.clock.advance(now);
        self.fragments.handle_timeout(now);
        self.count_lost();
        self.expire(ticks);
        self.thin_out();
    }

    /// The next event, if they are wanted.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.queue.pop_front()
    }

    /// Begins or ends to note events (N-TBL-7).
    pub fn set_events(&mut self, wanted: bool) {
        self.events.wanted = wanted;
        if !wanted {
            self.events.queue = VecDeque::new();
        }
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Every connection that is not over.
    pub fn connections(&self, now: Instant) -> impl Iterator<Item = ConnView> + '_ {
        let mut clock = self.clock;
        let now = clock.advance(now);
        let live = self.table.iter().filter(move |(_, conn)| conn.deadline > now);
        live.map(move |(id, conn)| self.view(id, conn, now))
    }

    /// The same in parts, so that a large table does not hold up packets: the connections among `most` entries of the table from
    /// number `from` on, and where to go on if there are more. What is there all the while comes once.
    pub fn connections_from(
        &self,
        now: Instant,
        from: u32,
        most: u32,
    ) -> (impl Iterator<Item = ConnView> + '_, Option<u32>) {
        let mut clock = self.clock;
        let now = clock.advance(now);
        let (live, next) = self.table.part(from, most);
        let live = live.filter(move |(_, conn)| conn.deadline > now);
        (live.map(move |(id, conn)| self.view(id, conn, now)), next)
    }

    /// How many connections there are, with those that are over and not yet removed.
    pub const fn connection_count(&self) -> usize {
        self.table.len()
    }

    /// The connection that has this tuple in one of its directions.
    pub fn connection(&self, now: Instant, tuple: &Tuple) -> Option<ConnView> {
        let mut clock = self.clock;
        let now = clock.advance(now);
        let (id, _) = self.table.find(tuple)?;
        let conn = self.table.conn(id);
        (conn.deadline > now).then(|| self.view(id, conn, now))
    }

    fn view(&self, id: ConnId, conn: &Conn, now: Ticks) -> ConnView {
        let publication = self.publications.get(self.table.cold(id).publication);
        ConnView {
            original: conn.tuples[0],
            reply: conn.tuples[1],
            state: match &conn.tracker {
                Tracker::Tcp(track) => Some(track.state().name()),
                Tracker::Sctp(track) => Some(track.state()),
                Tracker::Stateless(_) | Tracker::Udp(_) => None,
            },
            is_replied: conn.status.contains(crate::conntrack::Status::REPLIED),
            is_assured: conn.status.contains(crate::conntrack::Status::ASSURED),
            remaining: now.until(conn.deadline),
            traffic: conn.traffic,
            mapping: publication.map(|publication| publication.mapping.id),
        }
    }

    /// Removes connections that are over; bounded work.
    fn expire(&mut self, now: Ticks) {
        let mut budget = EXPIRY_BUDGET;
        while let Some(id) = self.table.poll_expired(now, &mut budget) {
            self.counters.expired += 1;
            self.remove_conn(id);
        }
    }

    fn count_lost(&mut self) {
        let lost = self.fragments.lost();
        self.counters.datagrams_evicted = lost.evicted;
        self.counters.datagrams_expired = lost.expired;
    }

    fn note(&mut self, event: impl FnOnce(ConnView) -> Event, id: ConnId) {
        if !self.events.wanted {
            return;
        }
        if self.events.queue.len() >= EVENT_QUEUE {
            self.counters.events_lost += 1;
            return;
        }
        let view = self.view(id, self.table.conn(id), self.clock.now());
        self.events.queue.push_back(event(view));
    }

    fn network(&self, zone: Zone) -> Option<&Inside> {
        self.networks.get(usize::from(zone.0))?.as_ref()
    }

    fn network_mut(&mut self, zone: Zone) -> Option<&mut Inside> {
        self.networks.get_mut(usize::from(zone.0))?.as_mut()
    }

    /// Largest packet that goes into a zone; `None` if there is no such zone.
    #[inline]
    fn mtu(&self, zone: Zone) -> Option<u16> {
        let mtu = self.mtus.get(usize::from(zone.0)).copied();
        mtu.filter(|&mtu| mtu != 0)
    }

    /// Whether it is an address of the engine's own outside.
    fn is_external(&self, address: &Address) -> bool {
        self.outside.addresses.contains(address)
    }
}

impl Inside {
    fn gateway(&self, is_v4: bool) -> Option<Address> {
        match is_v4 {
            true => self.gateway_v4,
            false => self.gateway_v6,
        }
    }

    fn owns(&self, address: &Address) -> bool {
        let address = address.ip();
        self.network.gateways.contains(&address)
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.network
            .prefixes
            .iter()
            .any(|prefix| prefix.contains(&address))
    }
}

impl From<Network> for Inside {
    fn from(network: Network) -> Self {
        let first = |is_v4: bool| {
            let mut own = network.gateways.iter();
            own.find(|address| address.is_ipv4() == is_v4)
                .map(|&address| Address::from(address))
        };
        Self {
            count: 0,
            guests: 0,
            gateway_v4: first(true),
            gateway_v6: first(false),
            network,
        }
    }
}

impl From<Outside> for Exterior {
    fn from(outside: Outside) -> Self {
        Self {
            addresses: outside.addresses.into_iter().map(Address::from).collect(),
            prefixes: outside.prefixes,
        }
    }
}

/// Bytes of the IP packet at the start of `bytes`, without padding, by the header; all of them if it is none.
pub fn packet_len(bytes: &[u8]) -> usize {
    let len = match *bytes {
        [first, _, a, b, ..] if first >> 4 == 4 => usize::from(u16::from_be_bytes([a, b])),
        [first, _, _, _, a, b, ..] if first >> 4 == 6 => 40 + usize::from(u16::from_be_bytes([a, b])),
        _ => bytes.len(),
    };
    len.min(bytes.len())
}

const DEFAULT_MTU: u16 = 1500;
/// Connections looked at per call of [`Nat::handle_timeout`].
const EXPIRY_BUDGET: usize = 256;
/// Events that wait; more are counted and lost (N-TBL-7).
const EVENT_QUEUE: usize = 4096;
/// The longest error that is made (RFC 4443 §2.4).
const REPLY_CAPACITY: usize = 1280;

#[cfg(test)]
mod tests;
