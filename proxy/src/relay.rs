//! One network's flows.
//!
//! A [`Relay`] is asked by the packet loop: with packets of containers ([`Relay::handle_packet`]), with
//! readiness of host sockets ([`Relay::handle_ready`]) and with time ([`Relay::handle_timeout`]). At the end of
//! a batch of packets it wants [`Relay::flush`]; while [`Relay::has_turns`] it wants
//! [`Relay::take_turns`]. What it sends goes out by the [`Link`] of the call.
//!
//! Invariants: every flow is in the table once, has one host socket and one entry among the deadlines, and
//! holds one lease of a descriptor and its part of its container's share; all are given back when it is
//! removed. A flow's policy is decided when it begins and never again.

mod counters;
mod datagram;
mod deadlines;
mod host;
mod table;
mod target;
mod tcp;
mod time_wait;

use std::{
    collections::{VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Interest, unix::SourceFd};
use vswitch_wire::{EthernetHeader, IpProtocol, MacAddr, Malformed, Offload, Refusal, Stations};

use crate::{
    FlowId, Hop, Link, Outbound, Path, Scratch,
    allowance::Allowance,
    config::{Denial, Lease, RelayConfig, Timeouts},
    datagram::{Counters as DatagramCounters, FragmentIds},
    echo::EchoFlow,
    listing::FlowView,
    payload::Packet,
    reassembly::{Assembly, Reassembly},
    stream::TcpFlow,
    tcp::EarlyBudget,
    udp::UdpFlow,
};

use counters::Counters;
use deadlines::Deadlines;
use host::Host;
use table::{Keyed, Shares, Table, Tuple};
use target::Refused;
use time_wait::TimeWait;

/// The flows of one network's containers.
#[derive(Debug)]
pub struct Relay {
    config: RelayConfig,
    /// The host's resolvers in order of preference.
    resolvers: Arc<[SocketAddr]>,
    host: Host,
    flows: Table<Flow>,
    shares: Shares,
    /// TCP connections that wait for the host's connect, of all containers.
    pending: usize,
    deadlines: Deadlines,
    time_wait: TimeWait,
    /// Flows with an acknowledgment that is due at the end of the batch.
    unflushed: Vec<FlowId>,
    /// Flows that stopped at their budget.
    turns: VecDeque<FlowId>,
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

/// One flow.
#[derive(Debug)]
struct Flow {
    tuple: Tuple,
    endpoint: u32,
    station: MacAddr,
    /// Where the host socket leads if not to the tuple's other end.
    target: Option<SocketAddr>,
    began: Instant,
    /// Whether it counts as waiting for the host's connect.
    pending: bool,
    /// Waits in [`Relay::unflushed`] and [`Relay::turns`].
    unflushed: bool,
    turn: bool,
    kind: Kind,
    _descriptor: Lease,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most flows are TCP's, and a box would cost a cache miss per segment"
)]
enum Kind {
    Echo(EchoFlow),
    Tcp(TcpFlow),
    Udp(UdpFlow),
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
            resolvers: Arc::new([]),
            host: Host::new(&config.source),
            flows: Table::new(),
            shares: Shares::new(config.limits.new_per_second),
            pending: 0,
            deadlines: Deadlines::default(),
            time_wait: TimeWait::new(config.timeouts.time_wait),
            unflushed: Vec::new(),
            turns: VecDeque::new(),
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

    /// Sets the host's resolvers; flows that lead to another one go on.
    pub fn set_resolvers(&mut self, resolvers: Arc<[SocketAddr]>) {
        self.resolvers = resolvers;
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
            Ok(None) => self.handle_fragment(now, arrival, bytes, scratch, link),
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
    ) -> Option<Refusal> {
        let mut reassembly = self.reassembly.take()?;
        let refusal = match reassembly.handle_packet(now, arrival.endpoint, bytes) {
            Assembly::Complete(packet) => {
                let arrival = Arrival {
                    offload: Offload::NONE,
                    ..arrival
                };
                self.handle_whole(now, arrival, &packet, scratch, link)
            }
            Assembly::Dropped | Assembly::Pending => None,
        };
        self.reassembly = Some(reassembly);
        refusal
    }

    /// Takes readiness of a flow's socket.
    pub fn handle_ready(
        &mut self,
        now: Instant,
        id: FlowId,
        readiness: Readiness,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        // The flow may have ended since; its place may be another's, which takes this as a hint.
        let Some(flow) = self.flows.get(id) else { return };
        match flow.kind {
            Kind::Echo(_) | Kind::Udp(_) => self.handle_datagram_ready(now, id, scratch, link),
            Kind::Tcp(_) => self.handle_stream_ready(now, id, readiness, scratch, link),
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

    /// Whether a flow stopped at its budget and wants another turn.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Gives every flow that stopped at its budget another.
    pub fn take_turns(&mut self, now: Instant, scratch: &mut Scratch, link: &mut impl Link) {
        for _ in 0..self.turns.len() {
            let Some(id) = self.turns.pop_front() else { return };
            if let Some(flow) = self.flows.get_mut(id) {
                flow.turn = false;
                let readable = Readiness {
                    readable: true,
                    writable: false,
                    error: false,
                };
                self.handle_ready(now, id, readable, scratch, link);
            }
        }
    }

    /// The time by which [`handle_timeout`](Self::handle_timeout) should be called; `None` if there are no
    /// flows.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = self.deadlines.next().into_iter();
        let reassembly = self.reassembly.as_ref().and_then(Reassembly::poll_timeout);
        deadlines.chain(reassembly).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, scratch: &mut Scratch, link: &mut impl Link) {
        if let Some(reassembly) = &mut self.reassembly {
            reassembly.handle_timeout(now);
        }
        while let Some(id) = self.deadlines.take_due(now) {
            match self.flows.get(id).map(|flow| &flow.kind) {
                Some(Kind::Echo(_) | Kind::Udp(_)) => self.handle_datagram_timeout(now, id),
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
        let of_endpoint = self.flows.iter().filter(|(_, flow)| flow.endpoint == endpoint);
        let ids: Vec<FlowId> = of_endpoint.map(|(id, _)| id).collect();
        for id in ids {
            self.abort(now, id, scratch, link);
        }
        self.shares.remove(endpoint);
    }

    /// Ends all flows.
    pub fn remove_all(&mut self, now: Instant, scratch: &mut Scratch, link: &mut impl Link) {
        let ids: Vec<FlowId> = self.flows.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.abort(now, id, scratch, link);
        }
    }

    /// Every flow.
    pub fn flows(&self, now: Instant) -> impl Iterator<Item = FlowView> {
        let timeouts = &self.config.timeouts;
        self.flows.iter().map(move |(_, flow)| flow.view(now, timeouts))
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
            Some(Kind::Echo(_) | Kind::Udp(_)) => self.remove_datagram(id),
            None => {}
        }
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

    /// Whether the container may begin another flow. Makes room by ending an idle one where that helps.
    fn make_room(&mut self, now: Instant, endpoint: u32) -> Option<Lease> {
        let limits = &self.config.limits;
        if !self.shares.of(endpoint).new.take(now) {
            self.counters.limit_rate += 1;
            return None;
        }
        let own = self.shares.of(endpoint).flows >= limits.flows_per_endpoint;
        let is_full = own || self.flows.len() >= limits.flows;
        if is_full && !self.evict(now, own.then_some(endpoint)) {
            self.counters.limit_flows += 1;
            return None;
        }
        if let Some(lease) = self.config.limits.descriptors.take() {
            return Some(lease);
        }
        // R-LIM-2: existing flows keep what they have; only idle ones without an answer make room.
        if self.evict(now, None) {
            return self.config.limits.descriptors.take();
        }
        self.counters.no_descriptor += 1;
        None
    }

    /// Ends the flow that is missed least, if there is one; of one container if it is named.
    fn evict(&mut self, now: Instant, endpoint: Option<u32>) -> bool {
        let is_candidate = |flow: &Flow| endpoint.is_none_or(|endpoint| flow.endpoint == endpoint);
        let victim = self
            .flows
            .next_victim(|flow| is_candidate(flow).then(|| flow.dispensability(now)).flatten());
        let Some(id) = victim else { return false };
        self.counters.evicted += 1;
        self.remove(id).is_some()
    }

    /// Enters a flow and its socket.
    fn insert(&mut self, flow: Flow, link: &impl Link) -> Option<FlowId> {
        let id = self.flows.next_id();
        let (fd, interest) = flow.socket();
        if link
            .registry()
            .register(&mut SourceFd(&fd), link.token(id), interest)
            .is_err()
        {
            self.counters.no_descriptor += 1;
            return None;
        }
        self.counters.flows += 1;
        self.shares.of(flow.endpoint).flows += 1;
        if flow.pending {
            self.pending += 1;
            self.shares.of(flow.endpoint).pending += 1;
        }
        let deadline = flow.deadline(&self.config.timeouts);
        let id = self.flows.insert(flow);
        self.deadlines.note(id, deadline);
        Some(id)
    }

    /// Takes a flow out of everything. Its socket leaves the poll set when it is closed.
    fn remove(&mut self, id: FlowId) -> Option<Flow> {
        let mut flow = self.flows.remove(id)?;
        self.settle_pending(&mut flow);
        self.deadlines.remove(id);
        self.shares.of(flow.endpoint).flows -= 1;
        Some(flow)
    }

    /// The host's connect is no longer pending.
    fn settle_pending(&mut self, flow: &mut Flow) {
        if std::mem::take(&mut flow.pending) {
            self.pending -= 1;
            self.shares.of(flow.endpoint).pending -= 1;
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

impl Keyed for Flow {
    fn tuple(&self) -> &Tuple {
        &self.tuple
    }
}

impl Flow {
    /// The gateway's address of the flow's version.
    fn gateway(&self, config: &RelayConfig) -> IpAddr {
        let remote = self.tuple.remote.ip();
        let mut gateways = config.gateways.iter();
        let own = gateways.find(|gateway| gateway.is_ipv4() == remote.is_ipv4());
        own.copied().unwrap_or(match remote {
            IpAddr::V6(_) => IpAddr::V6(config.gateway_mac.link_local()),
            remote => remote,
        })
    }

    fn path(&self, config: &RelayConfig) -> Path {
        Path {
            container: self.tuple.container,
            remote: self.tuple.remote,
            stations: Stations {
                src: config.gateway_mac,
                dst: self.station,
            },
            mtu: config.mtu,
        }
    }

    /// Its socket, and what of it is of interest.
    fn socket(&self) -> (RawFd, Interest) {
        match &self.kind {
            // Every datagram that leaves would make a socket writable anew.
            Kind::Echo(flow) => (flow.as_fd().as_raw_fd(), Interest::READABLE),
            Kind::Udp(flow) => (flow.as_fd().as_raw_fd(), Interest::READABLE),
            Kind::Tcp(flow) => (
                flow.socket.as_fd().as_raw_fd(),
                Interest::READABLE | Interest::WRITABLE,
            ),
        }
    }

    fn deadline(&self, timeouts: &Timeouts) -> Instant {
        match &self.kind {
            Kind::Echo(flow) => flow.deadline(timeouts),
            Kind::Tcp(flow) => flow.connection.poll_timeout(),
            Kind::Udp(flow) => flow.deadline(timeouts),
        }
    }

    /// How little the flow is missed; none of TCP, whose ends would have to be told.
    fn dispensability(&self, now: Instant) -> Option<(bool, Duration)> {
        let (is_one_way, last_activity) = match &self.kind {
            Kind::Echo(flow) => (flow.is_one_way(), flow.last_activity()),
            Kind::Tcp(_) => return None,
            Kind::Udp(flow) => (flow.is_one_way(), flow.last_activity()),
        };
        Some((is_one_way, now.saturating_duration_since(last_activity)))
    }

    fn view(&self, now: Instant, timeouts: &Timeouts) -> FlowView {
        let (state, (sent, received), active, expires) = match &self.kind {
            Kind::Echo(flow) => (
                flow.state(),
                (flow.sent(), flow.received()),
                flow.last_activity(),
                flow.deadline(timeouts),
            ),
            Kind::Udp(flow) => (
                flow.state(),
                (flow.sent(), flow.received()),
                flow.last_activity(),
                flow.deadline(timeouts),
            ),
            Kind::Tcp(flow) => (
                flow.connection.state_name(),
                flow.connection.bytes(),
                flow.connection.active(),
                flow.connection.expires_at(),
            ),
        };
        FlowView {
            endpoint: self.endpoint,
            protocol: self.tuple.protocol,
            state,
            container: self.tuple.container,
            remote: self.tuple.remote,
            target: match &self.kind {
                // It may be another resolver by now.
                Kind::Udp(flow) => self.target.map(|_| flow.target()),
                Kind::Echo(_) | Kind::Tcp(_) => self.target,
            },
            sent,
            received,
            age: now.saturating_duration_since(self.began),
            idle: now.saturating_duration_since(active),
            timeout: expires.saturating_duration_since(now),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
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
