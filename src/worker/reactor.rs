//! The worker's event loop.

mod commands;
mod tokens;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, TryRecvError};
use ipnet::IpNet;
use mio::{Events, Poll, Token, Waker, event::Event};
use tokio::sync::mpsc::UnboundedSender;
use vswitch_proxy::{Scratch, config::Descriptors, publish::PublishedPorts, relay::Readiness};
use vswitch_switch::PortId;
use vswitch_wire::VnetHeader;

use super::{
    Command, PollMode, Shared,
    conns::Watchers,
    network::{Around, Exit, Leaving, Network, SocketToken},
    ports::Received,
    shortcut::{Shortcut, Taken},
    uplink::Uplink,
    wait::Wait,
};
use crate::{dataplane::DataPlaneEvent, log::RateLimit};
use tokens::{Owner, Tokens};

/// One worker's whole state.
pub(super) struct Reactor {
    poll: Poll,
    commands: Receiver<Command>,
    events: UnboundedSender<DataPlaneEvent>,
    /// By slot; a slot that a network has left is used again.
    networks: Vec<Option<Network>>,
    /// By what networks leave that do not leave by host sockets.
    uplink: Option<Uplink>,
    watchers: Watchers,
    /// The way from containers to published ports of others here.
    shortcut: Shortcut,
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
            uplink: None,
            watchers: Watchers::default(),
            shortcut: Shortcut::new(Instant::now()),
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
            self.tell_watchers();
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
                Ok(command) => {
                    self.apply(now, command);
                    // Before the next one gives zones of a network that has gone to another.
                    self.tell_watchers();
                }
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// Tells what has happened to connections. Without watchers that is one comparison.
    fn tell_watchers(&mut self) {
        if self.watchers.are_there() {
            let uplink = self.uplink.as_mut().map(Uplink::table);
            self.watchers.tell([uplink, Some(self.shortcut.table())]);
        }
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
        if self.shortcut.poll_timeout().is_some_and(|at| at <= now) {
            self.shortcut.handle_timeout(now, &mut self.networks);
        }
        self.settle_shortcut(now);
        if let Some(uplink) = &mut self.uplink {
            if uplink.poll_timeout().is_some_and(|at| at <= now) {
                uplink.handle_timeout(now, &mut self.networks);
            }
            self.settle_uplink(now);
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
            let left = match self.tokens.clear_ready(token) {
                Some(Owner::Port { slot, port }) => self.serve_port(now, slot, port),
                Some(Owner::Uplink) => self.serve_uplink(now),
                None => BUDGET,
            };
            traffic |= left < BUDGET;
            if left == 0 {
                self.tokens.mark_ready(token, &mut self.ready);
            }
        }
        traffic
    }

    /// Sends a packet of the buffer, of which `len` bytes were read, by another way than its network's relay.
    fn send_away(&mut self, now: Instant, (slot, port): (usize, PortId), len: usize, leaving: Leaving) {
        let read = &mut self.buffer[..len];
        match (leaving.by, &mut self.uplink) {
            (Exit::Device, Some(uplink)) => {
                uplink.handle_leaving(now, (slot, port), read, leaving, &mut self.networks);
            }
            (Exit::Device, None) => {}
            (Exit::Inside, _) => {
                let taken = self
                    .shortcut
                    .handle(now, (slot, port), read, leaving, &mut self.networks);
                if taken == Taken::No
                    && let Some(Some(network)) = self.networks.get_mut(slot)
                {
                    let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
                    network.relay_packet(port, read, leaving, &mut around);
                }
                self.settle_shortcut(now);
            }
        }
    }

    /// What every visit to the shortcut ends with, for it and for the networks that it delivered to.
    fn settle_shortcut(&mut self, now: Instant) {
        self.deadline = earliest(self.deadline, self.shortcut.poll_timeout());
        for slot in self.shortcut.take_touched() {
            if let Some(Some(network)) = self.networks.get_mut(slot) {
                settle(now, network, &mut self.deadline, &self.events);
            }
        }
    }

    /// Reads what a port has, within its budget; what is left of that.
    fn serve_port(&mut self, now: Instant, slot: usize, port: PortId) -> u32 {
        let mut left = BUDGET;
        while left > 0 {
            let Some(Some(network)) = self.networks.get_mut(slot) else {
                return left;
            };
            match network.devices.receive(port, &mut self.buffer) {
                Received::Frame(len) => {
                    left -= 1;
                    let read = &mut self.buffer[..len];
                    let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
                    if let Some(leaving) = network.handle_frame(port, read, &self.shortcut, &mut around) {
                        self.send_away(now, (slot, port), len, leaving);
                    }
                }
                Received::Unreadable => left -= 1,
                Received::Empty | Received::Lost => break,
                Received::Failed(error) => {
                    self.read_errors.run(now, |suppressed| {
                        tracing::warn!(%error, suppressed, network = network.spec.name, port = port.index(), "cannot read from a device");
                    });
                    break;
                }
            }
        }
        if let Some(Some(network)) = self.networks.get_mut(slot) {
            let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
            network.flush(&mut around);
            self.has_turns |= network.has_turns();
            settle(now, network, &mut self.deadline, &self.events);
        }
        self.settle_uplink(now);
        left
    }

    /// Reads what the uplink's device has, within the budget of a port; what is left of that.
    fn serve_uplink(&mut self, now: Instant) -> u32 {
        let Some(uplink) = &mut self.uplink else {
            return BUDGET;
        };
        let count = uplink.serve(now, BUDGET, &mut self.buffer, &mut self.networks);
        self.settle_uplink(now);
        BUDGET - count
    }

    /// What every use of the uplink ends with.
    fn settle_uplink(&mut self, now: Instant) {
        let Some(uplink) = &mut self.uplink else { return };
        for slot in uplink.take_touched() {
            if let Some(Some(network)) = self.networks.get_mut(slot) {
                settle(now, network, &mut self.deadline, &self.events);
            }
        }
        self.deadline = earliest(self.deadline, uplink.poll_timeout());
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
