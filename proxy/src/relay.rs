//! One network's flows.
//!
//! A [`Relay`] is asked by the packet loop: with packets of containers ([`Relay::handle_packet`]), with
//! readiness of host sockets ([`Relay::handle_ready`]) and with time ([`Relay::handle_timeout`]). At the end of
//! a batch of packets it wants [`Relay::flush`]; while [`Relay::has_turns`] it wants
//! [`Relay::take_turns`]. What it sends goes out by the [`Link`] of the call.
//!
//! Invariants: every flow is in the table once, has one host socket and one entry among the deadlines, and
//! holds one lease of a descriptor and its part of its container's share; all are given back when it is
//! removed. A client of a published UDP port has no socket and no lease: its listener has both. A flow's policy is decided when it begins and never again.

mod admission;
mod beside;
mod counters;
mod datagram;
mod deadlines;
mod flow;
mod host;
mod inbound;
mod known;
mod published;
mod resolve;
mod sessions;
mod splices;
mod table;
mod target;
mod tcp;
mod time_wait;

use std::{
    collections::{VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use vswitch_wire::{EthernetHeader, IpProtocol, MacAddr, Malformed, Offload, Refusal};

use crate::{
    FlowId, Hop, Link, Outbound, Scratch, SocketId,
    allowance::Allowance,
    config::{Denial, RelayConfig},
    datagram::{Counters as DatagramCounters, FragmentIds},
    link::SocketRole,
    listing::FlowView,
    payload::Packet,
    reassembly::{Assembly, Reassembly},
    resolvers::Resolvers,
    tcp::EarlyBudget,
};

use counters::Counters;
use deadlines::Deadlines;
use flow::{Flow, Kind, Pending};
use host::Host;
use published::Published;
use sessions::Sessions;
use splices::Splices;
use table::{Shares, Table, Tuple};
use target::{Refused, Target, Wish};
use tcp::Owed;
use time_wait::TimeWait;

/// The flows of one network's containers.
#[derive(Debug)]
pub struct Relay {
    config: RelayConfig,
    resolvers: Resolvers,
    host: Host,
    flows: Table<Flow>,
    shares: Shares,
    /// TCP connections that wait for the host's connect, of all containers.
    pending: usize,
    deadlines: Deadlines,
    time_wait: TimeWait,
    /// Resets for which there was no room, and when to try again.
    owed: VecDeque<Owed>,
    owed_at: Option<Instant>,
    /// Flows with an acknowledgment that is due at the end of the batch.
    unflushed: Vec<FlowId>,
    /// Sockets that stopped at their budget.
    turns: VecDeque<SocketId>,
    /// The way in.
    published: Published,
    sessions: Sessions,
    splices: Splices,
    /// Taken out while a packet of it is handled.
    reassembly: Option<Reassembly>,
    fragment_ids: FragmentIds,
    counters: Counters,
    datagram_counters: DatagramCounters,
    challenges: Allowance,
    early: Arc<EarlyBudget>,
    /// Key and start of the clock of initial sequence numbers.
    secret: RandomState,
    epoch: Instant,
}

/// How a packet came, beside what it is.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    endpoint: u32,
    hop: Hop,
    station: MacAddr,
    offload: Offload,
}

/// What has happened to a host socket. Each is a hint that may be stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// It has something to read, or its stream has ended.
    pub readable: bool,
    /// It has room to write, or is connected.
    pub writable: bool,
    /// It has failed.
    pub error: bool,
}

impl Relay {
    /// A relay without flows.
    pub fn new(now: Instant, config: RelayConfig, secret: RandomState) -> Self {
        Self {
            resolvers: Resolvers::new(Arc::new([])),
            host: Host::new(&config.source),
            flows: Table::new(),
            shares: Shares::new(config.limits.new_per_second),
            pending: 0,
            deadlines: Deadlines::default(),
            time_wait: TimeWait::new(config.timeouts.time_wait),
            owed: VecDeque::new(),
            owed_at: None,
            unflushed: Vec::new(),
            turns: VecDeque::new(),
            published: Published::default(),
            sessions: Sessions::default(),
            splices: Splices::default(),
            reassembly: Some(Reassembly::new(config.limits.reassembly_bytes, &config.timeouts)),
            fragment_ids: FragmentIds::new(secret.hash_one(FRAGMENT_IDS) as u32),
            counters: Counters::default(),
            datagram_counters: DatagramCounters::default(),
            challenges: Allowance::per_second(CHALLENGES_PER_SECOND),
            early: Arc::new(EarlyBudget::new(config.limits.early_bytes)),
            secret,
            epoch: now,
            config,
        }
    }

    /// Sets the host's resolvers. Flows to one that is gone go on to another when they ask again; connections
    /// stay.
    pub fn set_resolvers(&mut self, resolvers: Arc<[SocketAddr]>) {
        self.resolvers = Resolvers::new(resolvers);
    }

    /// Takes a packet that a container has sent to the gateway.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        outbound: Outbound<'_>,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        let Outbound {
            endpoint,
            frame,
            offload,
            hop,
        } = outbound;
        let Ok((ethernet, bytes)) = EthernetHeader::parse(frame) else {
            return;
        };
        let arrival = Arrival {
            endpoint,
            hop,
            station: ethernet.src,
            offload,
        };
        let refusal = match Packet::parse(bytes) {
            Ok(Some(packet)) => self.handle_whole(now, arrival, &packet, scratch, link),
            Ok(None) => {
                self.handle_fragment(now, arrival, bytes, scratch, link);
                None
            }
            Err(error) => self.count_bad(error),
        };
        if let Some(refusal) = refusal {
            link.refuse(endpoint, frame, offload, refusal);
        }
    }

    /// Returns what the container is to be told.
    fn handle_whole(
        &mut self,
        now: Instant,
        arrival: Arrival,
        packet: &Packet<'_>,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) -> Option<Refusal> {
        match packet.protocol {
            IpProtocol::ICMP | IpProtocol::ICMPV6 => self.handle_echo(now, arrival, packet, scratch, link),
            IpProtocol::TCP => self.handle_segment(now, arrival, packet, scratch, link),
            IpProtocol::UDP => self.handle_datagram(now, arrival, packet, scratch, link),
            _ => {
                self.counters.protocol += 1;
                Some(Refusal::ProtocolUnreachable)
            }
        }
    }

    fn handle_fragment(
        &mut self,
        now: Instant,
        arrival: Arrival,
        bytes: &[u8],
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        let Some(mut reassembly) = self.reassembly.take() else {
            return;
        };
        if let Assembly::Complete(packet) = reassembly.handle_packet(now, arrival.endpoint, bytes) {
            let arrival = Arrival {
                offload: Offload::NONE,
                ..arrival
            };
            let refusal = self.handle_whole(now, arrival, &packet, scratch, link);
            // The frame at hand has one fragment of it.
            if let Some(refusal) = refusal
                && let Some(len) = packet.emit(arrival.station, self.config.gateway_mac, &mut scratch.frame)
            {
                let whole = &mut scratch.frame[..len];
                link.refuse(arrival.endpoint, whole, Offload::NONE, refusal);
            }
        }
        self.reassembly = Some(reassembly);
    }

    /// Takes readiness of a host socket. It may have been closed since; its number may be another's, which takes
    /// this as a hint.
    pub fn handle_ready(
        &mut self,
        now: Instant,
        id: SocketId,
        readiness: Readiness,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        match SocketRole::of(id) {
            SocketRole::Flow(id) => self.handle_flow_ready(now, id, readiness, scratch, link),
            SocketRole::Listener(id) => self.handle_listener_ready(now, id, scratch, link),
            SocketRole::Splice(id, side) => self.advance_splice(now, id, side, readiness),
        }
    }

    fn handle_flow_ready(
        &mut self,
        now: Instant,
        id: FlowId,
        readiness: Readiness,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        let Some(flow) = self.flows.get(id) else { return };
        match flow.kind {
            Kind::Echo(_) | Kind::Udp(_) => self.handle_datagram_ready(now, id, scratch, link),
            Kind::Tcp(_) => self.handle_stream_ready(now, id, readiness, scratch, link),
            // Its listener is ready instead.
            Kind::Session(_) => {}
        }
    }

    /// Sends what acknowledgments are due at the end of a batch of packets.
    pub fn flush(&mut self, now: Instant, scratch: &mut Scratch, link: &mut impl Link) {
        while let Some(id) = self.unflushed.pop() {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.unflushed = false;
                self.flush_stream(now, id, scratch, link);
            }
        }
    }

    /// Whether a socket stopped at its budget and wants another turn.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Gives at most `most` of the sockets that stopped at their budget another, in their order.
    pub fn take_turns(&mut self, now: Instant, most: usize, scratch: &mut Scratch, link: &mut impl Link) {
        for _ in 0..self.turns.len().min(most) {
            let Some(id) = self.turns.pop_front() else { return };
            match SocketRole::of(id) {
                SocketRole::Flow(id) => {
                    if let Some(flow) = self.flows.get_mut(id) {
                        flow.turn = false;
                    }
                }
                SocketRole::Splice(id, _) => self.clear_splice_turn(id),
                SocketRole::Listener(id) => self.clear_listener_turn(id),
            }
            let readable = Readiness {
                readable: true,
                writable: false,
                error: false,
            };
            self.handle_ready(now, id, readable, scratch, link);
        }
    }

    /// The time by which [`handle_timeout`](Self::handle_timeout) should be called; `None` if there are no
    /// flows.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = self.deadlines.next().into_iter();
        let reassembly = self.reassembly.as_ref().and_then(Reassembly::poll_timeout);
        deadlines
            .chain(reassembly)
            .chain(self.time_wait.poll_timeout())
            .chain(self.owed_at)
            .chain(self.published.resume_at())
            .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, scratch: &mut Scratch, link: &mut impl Link) {
        if let Some(reassembly) = &mut self.reassembly {
            reassembly.handle_timeout(now);
        }
        self.time_wait.expire(now);
        self.send_owed(now, scratch, link);
        self.resume_listeners(now);
        while let Some(id) = self.deadlines.take_due(now) {
            match self.flows.get(id).map(|flow| &flow.kind) {
                Some(Kind::Echo(_) | Kind::Session(_) | Kind::Udp(_)) => {
                    self.handle_datagram_timeout(now, id)
                }
                Some(Kind::Tcp(_)) => self.handle_stream_timeout(now, id, scratch, link),
                None => {}
            }
        }
    }

    /// Ends all flows of a container, whose port is about to go: both sides get resets (R-TM-3).
    pub fn remove_endpoint(
        &mut self,
        now: Instant,
        endpoint: u32,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        self.close_mappings_of(endpoint, link);
        self.abort_splices_to(endpoint);
        let of_endpoint = self
            .flows
            .iter()
            .filter(|(_, flow)| flow.tuple.endpoint == endpoint);
        let ids: Vec<FlowId> = of_endpoint.map(|(id, _)| id).collect();
        for id in ids {
            self.abort(now, id, scratch, link);
        }
        if let Some(reassembly) = &mut self.reassembly {
            reassembly.remove_endpoint(endpoint);
        }
        self.shares.remove(endpoint);
        self.time_wait.remove_endpoint(endpoint);
    }

    /// Ends all flows.
    pub fn remove_all(&mut self, now: Instant, scratch: &mut Scratch, link: &mut impl Link) {
        self.close_all_mappings(link);
        self.abort_all_splices();
        let ids: Vec<FlowId> = self.flows.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.abort(now, id, scratch, link);
        }
    }

    /// Every flow.
    pub fn flows(&self, now: Instant) -> impl Iterator<Item = FlowView> {
        let timeouts = &self.config.timeouts;
        let flows = self.flows.iter().map(move |(_, flow)| flow.view(now, timeouts));
        flows.chain(self.splice_views(now))
    }

    /// How often a limit was hit or the host was short of something, since the relay began.
    pub fn shortages(&self) -> u64 {
        let Counters {
            limit_flows,
            limit_pending,
            limit_queries,
            limit_rate,
            no_descriptor,
            no_port,
            ..
        } = self.counters;
        limit_flows + limit_pending + limit_queries + limit_rate + no_descriptor + no_port
    }

    /// Number of flows.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there are no flows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was counted since the relay began, by name.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let flows = self.counters.iter().chain(self.datagram_counters.iter());
        let fragments = self
            .reassembly
            .iter()
            .flat_map(|reassembly| reassembly.counters().iter());
        let early = [("limit_early", self.early.refused())];
        flows.chain(fragments).chain(early)
    }

    fn abort(&mut self, now: Instant, id: FlowId, scratch: &mut Scratch, link: &mut impl Link) {
        match self.flows.get(id).map(|flow| &flow.kind) {
            Some(Kind::Tcp(_)) => self.abort_stream(now, id, scratch, link),
            Some(Kind::Echo(_) | Kind::Session(_) | Kind::Udp(_)) => drop(self.remove(id)),
            None => {}
        }
    }

    /// Where a new flow of a container leads.
    fn target(&mut self, now: Instant, hop: Hop, tuple: &Tuple) -> Result<Target, Refused> {
        let wish = Wish {
            protocol: tuple.protocol,
            hop,
            remote: tuple.remote,
        };
        wish.target(&mut target::Around {
            now,
            policy: &self.config.policy,
            host: &mut self.host,
            resolver: self.resolvers.first(),
            published: &self.config.published,
        })
    }

    fn count_bad(&mut self, error: Malformed) -> Option<Refusal> {
        match error {
            Malformed::Checksum => self.counters.bad_checksum += 1,
            _ => self.counters.bad_packet += 1,
        }
        None
    }

    /// What a container is told of a flow that is not begun.
    fn answer_to(&mut self, refused: Refused) -> Answer {
        match refused {
            Refused::Impossible => {
                self.counters.bad_packet += 1;
                Answer::None
            }
            Refused::Nobody => Answer::Refusal(Refusal::PortUnreachable),
            Refused::Host(refusal) => Answer::Refusal(refusal),
            Refused::Denied => {
                self.counters.denied += 1;
                match self.config.policy.denied {
                    Denial::Drop => Answer::None,
                    Denial::Prohibited => Answer::Refusal(Refusal::Prohibited),
                    Denial::Reset => Answer::Reset,
                }
            }
        }
    }
}

/// What a container is told of a refused flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    None,
    Refusal(Refusal),
    Reset,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.forget_ports();
        // A worker that ends has no way to the containers any more, but the hosts' peers must not take an
        // unfinished stream for a finished one.
        let ids: Vec<FlowId> = self.flows.iter().map(|(id, _)| id).collect();
        for id in ids {
            if let Some(Flow {
                kind: Kind::Tcp(flow),
                ..
            }) = self.flows.remove(id)
            {
                flow.socket.reset();
            }
        }
    }
}

/// Tells the secret of fragments' identifications from that of sequence numbers.
const FRAGMENT_IDS: &str = "fragments";

/// Challenge acknowledgments of all flows together (R-RX-10): `tcp_challenge_ack_limit` had 1000 a second before
/// it became unlimited.
const CHALLENGES_PER_SECOND: u32 = 1000;
