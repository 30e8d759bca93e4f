//! The worker's event loop.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, TryRecvError};
use ipnet::IpNet;
use mio::{Events, Interest, Poll, Registry, Token, Waker, event::Event, unix::SourceFd};
use std::os::fd::{AsFd, AsRawFd};
use tokio::sync::mpsc::UnboundedSender;
use vswitch_proxy::{
    Relay, Scratch,
    config::Descriptors,
    publish::{Connections, Listener, MappingId, MappingSpec, MappingView, PublishedPorts},
    relay::Readiness,
};
use vswitch_switch::PortId;
use vswitch_wire::VnetHeader;

use super::{
    Command, PollMode, Shared,
    network::{Around, Network, SocketToken},
    ports::{Attached, Received},
    wait::Wait,
};
use crate::{
    dataplane::{DataPlaneError, DataPlaneEvent, EndpointSpec, FdbRow, FlowRow, NetworkSpec, PortRow},
    io::device::Device,
    log::RateLimit,
    model::{EndpointId, NetworkId},
};

/// One worker's whole state.
pub(super) struct Reactor {
    poll: Poll,
    commands: Receiver<Command>,
    events: UnboundedSender<DataPlaneEvent>,
    /// By slot; a slot that a network has left is used again.
    networks: Vec<Option<Network>>,
    tokens: Tokens,
    /// Ports that may have frames, each once, in the order in which they get their next budget.
    ready: VecDeque<Token>,
    /// No engine needs its timers fired before this; may be early, never late.
    deadline: Option<Instant>,
    wait: Wait,
    buffer: Box<[u8]>,
    /// What relays build frames in.
    scratch: Scratch,
    /// What has become ready of host sockets since the last turn.
    socket_events: VecDeque<(SocketToken, Readiness)>,
    /// A relay has flows that stopped at their budget.
    has_turns: bool,
    neighbours: Arc<[IpNet]>,
    /// Where DNS queries to gateways go.
    resolvers: Arc<[SocketAddr]>,
    /// What the host sockets of all workers may take.
    descriptors: Arc<Descriptors>,
    /// Published ports of all workers.
    published: Arc<PublishedPorts>,
    read_errors: RateLimit,
}

impl Reactor {
    pub(super) fn new(
        mode: PollMode,
        Shared {
            descriptors,
            published,
        }: Shared,
        commands: Receiver<Command>,
        events: UnboundedSender<DataPlaneEvent>,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let reactor = Self {
            poll,
            commands,
            events,
            networks: Vec::new(),
            tokens: Tokens::default(),
            ready: VecDeque::new(),
            deadline: None,
            wait: Wait::new(mode),
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            scratch: Scratch::new(),
            socket_events: VecDeque::with_capacity(2 * EVENTS),
            has_turns: false,
            neighbours: Arc::new([]),
            resolvers: Arc::new([]),
            descriptors,
            published,
            read_errors: RateLimit::per_second(1),
        };
        Ok((reactor, waker))
    }

    /// Runs until told to stop or until the control plane is gone.
    pub(super) fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            if !self.apply_commands(now) {
                return;
            }
            self.fire_timers(now);
            let traffic = [self.serve_flows(now), self.serve_ready(now), self.take_turns(now)];
            if traffic.contains(&true) {
                self.wait.note_traffic(now);
            }
            let is_behind = !self.ready.is_empty() || !self.socket_events.is_empty() || self.has_turns;
            let timeout = if is_behind || self.wait.should_spin(now) {
                Some(Duration::ZERO)
            } else {
                self.deadline.map(|at| at.saturating_duration_since(now))
            };
            if self.socket_events.len() >= EVENTS {
                // What is known to be ready comes first, or the same sockets would be noted again and again.
                continue;
            }
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // Cannot happen while the descriptor is ours; ending is the only honest answer.
                    tracing::error!(%error, "the packet loop cannot wait for readiness");
                    return;
                }
            }
            for event in &events {
                if event.token() == WAKER {
                    continue;
                }
                match SocketToken::decode(event.token()) {
                    Some(token) => self.socket_events.push_back((token, readiness(event))),
                    None => self.tokens.mark_ready(event.token(), &mut self.ready),
                }
            }
        }
    }

    /// Returns false when the loop must end.
    fn apply_commands(&mut self, now: Instant) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Ok(command) => self.apply(now, command),
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn apply(&mut self, now: Instant, command: Command) {
        // A reply that nobody waits for any more is no error of ours.
        match command {
            Command::AddEndpoint { spec, device, reply } => {
                let _ = reply.send(self.add_endpoint(now, spec, device));
            }
            Command::AddNetwork { spec, reply } => {
                let _ = reply.send(self.add_network(now, spec));
            }
            Command::Fdb { network, reply } => {
                let _ = reply.send(Ok(self.fdb(now, network)));
            }
            Command::Flows { network, reply } => {
                let _ = reply.send(Ok(self.flows(now, network)));
            }
            Command::Ports { network, reply } => {
                let _ = reply.send(Ok(self.ports(network)));
            }
            Command::Mappings { network, reply } => {
                let _ = reply.send(Ok(self.mappings(network)));
            }
            Command::Publish {
                at,
                spec,
                listeners,
                reply,
            } => {
                let _ = reply.send(self.publish(now, at, spec, listeners));
            }
            Command::RemoveEndpoint {
                network,
                endpoint,
                reply,
            } => {
                let _ = reply.send(self.remove_endpoint(now, network, endpoint));
            }
            Command::RemoveNetwork { id, reply } => {
                let _ = reply.send(self.remove_network(now, id));
            }
            Command::Reroute {
                network,
                mapping,
                routing,
                reply,
            } => {
                let _ = reply
                    .send(self.change_mapping(network, mapping, |relay| relay.reroute(mapping, routing)));
            }
            Command::SetNeighbours { prefixes } => {
                for network in self.networks.iter_mut().flatten() {
                    network.engine.set_neighbours(prefixes.clone());
                }
                self.neighbours = prefixes;
            }
            Command::SetResolvers { resolvers } => {
                for network in self.networks.iter_mut().flatten() {
                    network.set_resolvers(resolvers.clone());
                }
                self.resolvers = resolvers;
            }
            Command::Split {
                network,
                mapping,
                part: (ports, apart),
                reply,
            } => {
                let split = |relay: &mut Relay| relay.split(mapping, ports, apart);
                let _ = reply.send(self.change_mapping(network, mapping, split));
            }
            Command::Stop => {}
            Command::Unpublish {
                network,
                mapping,
                connections,
                reply,
            } => {
                let _ = reply.send(self.unpublish(now, network, mapping, connections));
            }
        }
    }

    fn add_network(&mut self, now: Instant, spec: NetworkSpec) -> Result<(), DataPlaneError> {
        if self.slot(spec.id).is_ok() {
            return Err(DataPlaneError::NetworkExists(spec.id));
        }
        let mut network = Network::new(now, spec, &self.descriptors, &self.published)?;
        network.engine.set_neighbours(self.neighbours.clone());
        network.set_resolvers(self.resolvers.clone());
        match self.networks.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(network),
            None => self.networks.push(Some(network)),
        }
        Ok(())
    }

    fn remove_network(&mut self, now: Instant, id: NetworkId) -> Result<Vec<Device>, DataPlaneError> {
        let slot = self.slot(id)?;
        let mut network = self.networks[slot]
            .take()
            .ok_or(DataPlaneError::UnknownNetwork(id))?;
        let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
        network.remove_all_flows(&mut around);
        let ports: Vec<PortId> = network.devices.iter().map(|(port, _)| port).collect();
        let devices = ports.into_iter().filter_map(|port| network.devices.remove(port));
        Ok(devices
            .map(|device| release(&mut self.tokens, self.poll.registry(), device))
            .collect())
    }

    fn add_endpoint(
        &mut self,
        now: Instant,
        spec: EndpointSpec,
        device: Device,
    ) -> Result<(), DataPlaneError> {
        let slot = self.slot(spec.network)?;
        let network = self.networks[slot]
            .as_mut()
            .ok_or(DataPlaneError::UnknownNetwork(spec.network))?;
        if network.ports.contains_key(&spec.id) {
            return Err(DataPlaneError::EndpointExists(spec.id));
        }
        let port = network.engine.add_endpoint(now, &spec, device.abilities())?;
        let token = self.tokens.insert(Owner { slot, port });
        let registered = self.poll.registry().register(
            &mut SourceFd(&device.as_fd().as_raw_fd()),
            token,
            Interest::READABLE,
        );
        if let Err(error) = registered {
            self.tokens.remove(token);
            network.engine.remove_port(now, port);
            return Err(error.into());
        }
        network.devices.insert(
            port,
            Attached {
                device,
                token,
                endpoint: spec.id,
                lost: false,
            },
        );
        network.ports.insert(spec.id, port);
        // Readiness is edge-triggered: frames that wait since before the registration make no edge.
        self.tokens.mark_ready(token, &mut self.ready);
        network.engine.announce(now, port, &spec, &mut network.devices);
        settle(now, network, &mut self.deadline, &self.events);
        Ok(())
    }

    fn remove_endpoint(
        &mut self,
        now: Instant,
        id: NetworkId,
        endpoint: EndpointId,
    ) -> Result<Device, DataPlaneError> {
        let slot = self.slot(id)?;
        let network = self.networks[slot]
            .as_mut()
            .ok_or(DataPlaneError::UnknownNetwork(id))?;
        let port = network
            .ports
            .remove(&endpoint)
            .ok_or(DataPlaneError::UnknownEndpoint(endpoint))?;
        let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
        network.remove_flows(port, &mut around);
        network.engine.remove_port(now, port);
        settle(now, network, &mut self.deadline, &self.events);
        let device = network
            .devices
            .remove(port)
            .ok_or(DataPlaneError::UnknownEndpoint(endpoint))?;
        Ok(release(&mut self.tokens, self.poll.registry(), device))
    }

    fn publish(
        &mut self,
        now: Instant,
        (id, endpoint): (NetworkId, EndpointId),
        spec: MappingSpec,
        listeners: Vec<Listener>,
    ) -> Result<(), DataPlaneError> {
        let slot = self.slot(id)?;
        let network = self.networks[slot]
            .as_mut()
            .ok_or(DataPlaneError::UnknownNetwork(id))?;
        let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
        let published = network.publish(endpoint, spec, listeners, &mut around);
        self.has_turns |= network.has_turns();
        settle(now, network, &mut self.deadline, &self.events);
        published
    }

    fn unpublish(
        &mut self,
        now: Instant,
        id: NetworkId,
        mapping: MappingId,
        connections: Connections,
    ) -> Result<Vec<Listener>, DataPlaneError> {
        let slot = self.slot(id)?;
        let network = self.networks[slot]
            .as_mut()
            .ok_or(DataPlaneError::UnknownNetwork(id))?;
        let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
        let listeners = network.unpublish(mapping, connections, &mut around);
        settle(now, network, &mut self.deadline, &self.events);
        listeners.ok_or(DataPlaneError::UnknownMapping(mapping))
    }

    /// Changes a mapping; `change` gives whether it is there.
    fn change_mapping(
        &mut self,
        id: NetworkId,
        mapping: MappingId,
        change: impl FnOnce(&mut Relay) -> bool,
    ) -> Result<(), DataPlaneError> {
        let slot = self.slot(id)?;
        let relay = self.networks[slot].as_mut().and_then(Network::relay_mut);
        match relay.is_some_and(change) {
            true => Ok(()),
            false => Err(DataPlaneError::UnknownMapping(mapping)),
        }
    }

    fn mappings(&self, only: Option<NetworkId>) -> Vec<MappingView> {
        self.chosen(only).flat_map(Network::mappings).collect()
    }

    fn fdb(&self, now: Instant, only: Option<NetworkId>) -> Vec<FdbRow> {
        self.chosen(only)
            .flat_map(|network| network.engine.fdb(now, network.spec.id))
            .collect()
    }

    fn flows(&self, now: Instant, only: Option<NetworkId>) -> Vec<FlowRow> {
        self.chosen(only).flat_map(|network| network.flows(now)).collect()
    }

    fn ports(&self, only: Option<NetworkId>) -> Vec<PortRow> {
        self.chosen(only).flat_map(Network::ports).collect()
    }

    fn chosen(&self, only: Option<NetworkId>) -> impl Iterator<Item = &Network> {
        self.networks
            .iter()
            .flatten()
            .filter(move |network| only.is_none_or(|id| id == network.spec.id))
    }

    fn slot(&self, id: NetworkId) -> Result<usize, DataPlaneError> {
        let is_it = |network: &Option<Network>| network.as_ref().is_some_and(|network| network.spec.id == id);
        self.networks
            .iter()
            .position(is_it)
            .ok_or(DataPlaneError::UnknownNetwork(id))
    }

    /// Fires what is due in any engine. Walks the networks only when the earliest deadline has come.
    fn fire_timers(&mut self, now: Instant) {
        if self.deadline.is_none_or(|at| now < at) {
            return;
        }
        self.deadline = None;
        for (slot, network) in self.networks.iter_mut().enumerate() {
            let Some(network) = network else { continue };
            if network.poll_timeout().is_some_and(|at| at <= now) {
                let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
                network.handle_timeout(&mut around);
            }
            self.has_turns |= network.has_turns();
            settle(now, network, &mut self.deadline, &self.events);
        }
    }

    /// Serves host sockets that have become ready; returns whether there were any.
    fn serve_flows(&mut self, now: Instant) -> bool {
        let count = self.socket_events.len().min(FLOWS_AT_ONCE);
        for _ in 0..count {
            let Some((SocketToken { slot, socket }, readiness)) = self.socket_events.pop_front() else {
                break;
            };
            // The network may have gone since.
            let Some(Some(network)) = self.networks.get_mut(slot) else {
                continue;
            };
            let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
            network.handle_ready(socket, readiness, &mut around);
            self.has_turns |= network.has_turns();
            settle(now, network, &mut self.deadline, &self.events);
        }
        count > 0
    }

    /// Gives flows that stopped at their budget another; returns whether there were any.
    fn take_turns(&mut self, now: Instant) -> bool {
        if !std::mem::take(&mut self.has_turns) {
            return false;
        }
        for (slot, network) in self.networks.iter_mut().enumerate() {
            let Some(network) = network.as_mut().filter(|network| network.has_turns()) else {
                continue;
            };
            let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
            network.take_turns(FLOWS_AT_ONCE, &mut around);
            self.has_turns |= network.has_turns();
            settle(now, network, &mut self.deadline, &self.events);
        }
        true
    }

    /// Gives each port that is ready now one budget; returns whether any frame was read.
    fn serve_ready(&mut self, now: Instant) -> bool {
        let mut traffic = false;
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else {
                break;
            };
            // The port may have been removed while it waited.
            let Some(Owner { slot, port }) = self.tokens.clear_ready(token) else {
                continue;
            };
            let Some(Some(network)) = self.networks.get_mut(slot) else {
                continue;
            };
            let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
            let mut left = BUDGET;
            while left > 0 {
                match network.devices.receive(port, &mut self.buffer) {
                    Received::Frame(len) => {
                        left -= 1;
                        network.handle_frame(port, &mut self.buffer[..len], &mut around);
                    }
                    Received::Empty | Received::Lost => break,
                    Received::Failed(error) => {
                        self.read_errors.run(now, |suppressed| {
                            tracing::warn!(%error, suppressed, network = network.spec.name, port = port.index(), "cannot read from a device");
                        });
                        break;
                    }
                }
            }
            network.flush(&mut around);
            self.has_turns |= network.has_turns();
            traffic |= left < BUDGET;
            if left == 0 {
                self.tokens.mark_ready(token, &mut self.ready);
            }
            settle(now, network, &mut self.deadline, &self.events);
        }
        traffic
    }
}

/// Frames that one port may bring per turn before the next port is served: an elephant flow cannot
/// starve the others, and a port's part of a turn stays below about 64 × 10 µs even with super-frames.
const BUDGET: u32 = 64;

/// Host sockets served per turn, and sockets that stopped at their budget, each with 256 KiB at most (a splice: 1 MiB each
/// way): so many take a few milliseconds, in which no container's device overflows.
const FLOWS_AT_ONCE: usize = 16;

/// Events taken per poll; the rest stays with the kernel for the next one.
const EVENTS: usize = 256;

/// Longest read from a TAP: vnet header, Ethernet header, two VLAN tags, and an IP packet of 65 535
/// bytes (B-OFF-11, B-PORT-3); one byte more shows a truncated read.
const BUFFER_LEN: usize = VnetHeader::LEN + 14 + 8 + 65_535 + 1;

const WAKER: Token = Token(usize::MAX);

fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable() || event.is_read_closed(),
        writable: event.is_writable(),
        error: event.is_error(),
    }
}

/// Takes a device out of the poll set.
fn release(tokens: &mut Tokens, registry: &Registry, attached: Attached) -> Device {
    tokens.remove(attached.token);
    // A lost device may have left the poll set by itself.
    let _ = registry.deregister(&mut SourceFd(&attached.device.as_fd().as_raw_fd()));
    attached.device
}

/// What every visit to a network ends with: its next deadline is noted, its news are told.
fn settle(
    now: Instant,
    network: &mut Network,
    deadline: &mut Option<Instant>,
    events: &UnboundedSender<DataPlaneEvent>,
) {
    *deadline = earliest(*deadline, network.poll_timeout());
    network.engine.report_events(&network.spec.name);
    network.report_shortages(now);
    report_lost(network, events);
}

/// Tells the control plane of devices that the kernel took away.
fn report_lost(network: &mut Network, events: &UnboundedSender<DataPlaneEvent>) {
    for endpoint in network.devices.newly_lost.drain(..) {
        // Without a receiver the daemon is on its way out.
        let _ = events.send(DataPlaneEvent::DeviceLost(endpoint));
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// The port that a token stands for.
#[derive(Debug, Clone, Copy)]
struct Owner {
    slot: usize,
    port: PortId,
}

/// Tokens of the poll set, dense, with a mark for those that are in the ready queue.
#[derive(Debug, Default)]
struct Tokens {
    slots: Vec<Option<(Owner, bool)>>,
    free: Vec<usize>,
}

impl Tokens {
    fn insert(&mut self, owner: Owner) -> Token {
        let slot = Some((owner, false));
        Token(match self.free.pop() {
            Some(index) => {
                self.slots[index] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        })
    }

    fn remove(&mut self, token: Token) {
        if self.slots.get_mut(token.0).and_then(Option::take).is_some() {
            self.free.push(token.0);
        }
    }

    /// Puts the token into `ready` unless it is there or unknown.
    fn mark_ready(&mut self, token: Token, ready: &mut VecDeque<Token>) {
        if let Some(Some((_, queued))) = self.slots.get_mut(token.0)
            && !std::mem::replace(queued, true)
        {
            ready.push_back(token);
        }
    }

    fn clear_ready(&mut self, token: Token) -> Option<Owner> {
        let (owner, queued) = self.slots.get_mut(token.0)?.as_mut()?;
        *queued = false;
        Some(*owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(port: u32) -> Owner {
        Owner {
            slot: 0,
            port: PortId(port),
        }
    }

    #[test]
    fn a_token_is_queued_once() {
        let (mut tokens, mut ready) = (Tokens::default(), VecDeque::new());
        let token = tokens.insert(owner(1));
        tokens.mark_ready(token, &mut ready);
        tokens.mark_ready(token, &mut ready);
        assert_eq!(ready, [token]);
        assert!(tokens.clear_ready(token).is_some());
        tokens.mark_ready(token, &mut ready);
        assert_eq!(ready.len(), 2);
    }

    #[test]
    fn a_removed_token_is_ignored_until_reused() {
        let (mut tokens, mut ready) = (Tokens::default(), VecDeque::new());
        let token = tokens.insert(owner(1));
        tokens.remove(token);
        tokens.remove(token);
        tokens.mark_ready(token, &mut ready);
        assert!(ready.is_empty());
        assert!(tokens.clear_ready(token).is_none());
        assert_eq!(tokens.insert(owner(2)), token);
        assert_ne!(tokens.insert(owner(3)), token);
    }
}
