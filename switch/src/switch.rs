//! The switch: a frame's way from its ingress port to its egress ports, and the passing of time.

mod commands;
mod config;
mod report;

use std::time::{Duration, Instant};

use vswitch_wire::{EtherType, EthernetHeader};

use crate::{
    BlockCause, BpduGuard, Counters, DropReason, Egress, EgressOutcome, Event, FdbEntryView, Learning,
    LoopGuard, PortConfig, PortId, PortKind, TagOp, Verdict, VlanFiltering,
    event::EventQueue,
    fdb::{Fdb, FdbLimits, Key, Location, Sighting},
    flood::{is_bpdu, is_essential, is_reserved, permit},
    port::{Lane, Port},
    storm::{FloodClass, OnWire},
    timeline::{Tick, Timeline, nanos},
    vlan::{self, Classified},
};
pub use config::{BpduPolicy, FlushScope, PinViolation, SwitchConfig};
use report::station;

/// A learning Ethernet switch.
///
/// Four families of methods:
///
/// - getters: [`fdb`](Self::fdb), [`counters`](Self::counters), [`ports`](Self::ports), …
/// - the world acts: [`handle_frame`](Self::handle_frame), [`handle_timeout`](Self::handle_timeout),
///   [`count_egress`](Self::count_egress)
/// - commands: [`add_port`](Self::add_port), [`remove_port`](Self::remove_port),
///   [`set_link`](Self::set_link), [`flush`](Self::flush), …
/// - the switch speaks: [`egress`](Self::egress), [`poll_event`](Self::poll_event),
///   [`poll_timeout`](Self::poll_timeout)
///
/// After `handle_frame`, read `egress` before anything else is called. After any of the others, drain
/// `poll_event`, then ask `poll_timeout` and call `handle_timeout` at that time; calling it early, late or
/// twice is harmless.
///
/// Every call that a frame causes does a bounded amount of work: constant for a known destination, one
/// visit per port for a flooded frame. Nothing is allocated once the tables have their size.
#[derive(Debug)]
pub struct Switch {
    config: SwitchConfig,
    timeline: Timeline,
    fdb: Fdb,
    ports: Vec<Option<Port>>,
    /// One per element of `ports`.
    lanes: Vec<Lane>,
    gateway: Option<PortId>,
    mirrors: Vec<PortId>,
    egress: Vec<Egress>,
    events: EventQueue,
    /// The earliest end of a port's disablement; [`Tick::NEVER`] if none is disabled.
    next_unblock: Tick,
    stray_frames: u64,
}

impl Switch {
    /// A switch without ports.
    pub fn new(config: SwitchConfig) -> Self {
        let limits = FdbLimits {
            // Without learning nothing is entered that could expire.
            ageing: match nanos(config.ageing) {
                0 => u64::MAX,
                ageing => ageing,
            },
            entries: config.fdb_limit,
            eviction: config.eviction,
            flap: config.flap,
        };
        let mut fdb = Fdb::new(limits, config.hash_seed);
        fdb.add_local(config.mac, None);
        Self {
            config,
            timeline: Timeline::default(),
            fdb,
            ports: Vec::new(),
            lanes: Vec::new(),
            gateway: None,
            mirrors: Vec::new(),
            egress: Vec::new(),
            events: EventQueue::new(),
            next_unblock: Tick::NEVER,
            stray_frames: 0,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &SwitchConfig {
        &self.config
    }

    /// All ports with their configurations, by ascending id.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &PortConfig)> {
        (0..)
            .map(PortId)
            .zip(&self.ports)
            .filter_map(|(id, port)| Some((id, &port.as_ref()?.config)))
    }

    /// The gateway's port.
    pub fn gateway(&self) -> Option<PortId> {
        self.gateway
    }

    /// Whether the loop or BPDU guard has disabled a port.
    pub fn is_blocked(&self, port: PortId) -> bool {
        self.port(port).is_some_and(|port| port.blocked_until.is_some())
    }

    /// The entries of the forwarding database that are valid at `now`, in no particular order.
    pub fn fdb(&self, now: Instant) -> impl Iterator<Item = FdbEntryView> {
        self.fdb.iter(self.timeline.at(now))
    }

    /// Number of stations that are learnt, on all ports together.
    pub fn learned_len(&self) -> usize {
        self.fdb.dynamic_len()
    }

    /// Number of stations that are learnt on a port.
    pub fn learned_on(&self, port: PortId) -> usize {
        self.fdb.held_by(port)
    }

    /// What a port did since it was added; `None` if there is no such port.
    pub fn counters(&self, port: PortId) -> Option<&Counters> {
        Some(&self.port(port)?.counters)
    }

    /// Frames that were said to come from ports that are not there.
    pub fn stray_frames(&self) -> u64 {
        self.stray_frames
    }

    /// Decides about a frame that port `ingress` received.
    ///
    /// `frame` begins with the Ethernet header and has no checksum at its end; it is not changed.
    /// On [`Verdict::Forward`] the ports of [`Self::egress`] send it.
    pub fn handle_frame(&mut self, now: Instant, ingress: PortId, frame: &[u8], wire: OnWire) -> Verdict {
        if let Some(Some(port)) = self.ports.get_mut(ingress.index()) {
            port.counters.rx_frames += 1;
            port.counters.rx_bytes += frame.len() as u64;
        }
        self.decide(now, ingress, frame, Flow::Received(wire))
    }

    /// Decides about a frame that is sent in the name of the station behind `port` (B-ARP-6).
    ///
    /// As [`handle_frame`](Self::handle_frame), but the station did not send it: it is not counted as
    /// received or flooded, and takes nothing of the port's storm limits.
    pub fn announce(&mut self, now: Instant, port: PortId, frame: &[u8]) -> Verdict {
        self.decide(now, port, frame, Flow::Announced)
    }

    fn decide(&mut self, now: Instant, ingress: PortId, frame: &[u8], flow: Flow) -> Verdict {
        self.egress.clear();
        let now = self.timeline.advance(now);
        if self.port(ingress).is_none() {
            self.stray_frames += 1;
            return Verdict::Drop(DropReason::UnknownPort);
        }
        match self.forward(now, ingress, frame, flow) {
            Ok(()) => Verdict::Forward,
            Err(reason) => {
                self.egress.clear();
                if !reason.is_egress() {
                    self.count_drop(ingress, reason);
                }
                Verdict::Drop(reason)
            }
        }
    }

    /// The ports that must send the frame last handled, each once.
    pub fn egress(&self) -> &[Egress] {
        &self.egress
    }

    /// Records what became of a frame that a port was told to send.
    pub fn count_egress(&mut self, port: PortId, frame_len: usize, outcome: EgressOutcome) {
        let Some(Some(port)) = self.ports.get_mut(port.index()) else {
            return;
        };
        match outcome {
            EgressOutcome::Dropped(reason) => port.counters.count_drop(reason),
            EgressOutcome::Sent => {
                port.counters.tx_frames += 1;
                port.counters.tx_bytes += frame_len as u64;
            }
        }
    }

    /// Records a received frame that was refused before the switch saw it, as for a bad vnet header.
    pub fn count_ingress_refusal(&mut self, port: PortId, frame_len: usize, reason: DropReason) {
        let Some(Some(port)) = self.ports.get_mut(port.index()) else {
            return;
        };
        port.counters.rx_frames += 1;
        port.counters.rx_bytes += frame_len as u64;
        port.counters.count_drop(reason);
    }

    /// When [`Self::handle_timeout`] has something to do; in the past if it left work over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = self
            .fdb
            .next_expiry()
            .map_or(self.next_unblock, |expiry| expiry.min(self.next_unblock));
        if next == Tick::NEVER {
            None
        } else {
            self.timeline.instant(next)
        }
    }

    /// Forgets stations that were not heard for the ageing time, at most [`SWEEP_BUDGET`] of them, and
    /// enables ports whose disablement is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.timeline.advance(now);
        for _ in 0..SWEEP_BUDGET {
            match self.fdb.expire(now) {
                Some(departed) => self.report_departure(departed, now),
                None => break,
            }
        }
        if self.next_unblock <= now {
            self.unblock_ports(now);
        }
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    fn forward(&mut self, now: Tick, ingress: PortId, frame: &[u8], flow: Flow) -> Result<(), DropReason> {
        let (&header, _) = EthernetHeader::parse(frame).map_err(|_| DropReason::Runt)?;
        let class = self.accept(now, ingress, &header, frame)?;
        self.learn(now, ingress, Key::new(class.fid(), header.src))?;
        let Self {
            config, ports, lanes, ..
        } = self;
        let Some(port) = &ports[ingress.index()] else {
            return Err(DropReason::UnknownPort);
        };
        let is_group = header.dst.is_multicast();
        if is_reserved(header.dst, port.config.reserved_allow, config.bpdu) {
            return Err(DropReason::Reserved);
        }
        let transit = Transit {
            ingress,
            from: lanes[ingress.index()],
            class,
            layer_3_len: vlan::layer_3_len(header.ethertype, frame, flow.largest(frame)),
        };
        if is_group {
            let flood = if header.dst.is_broadcast() {
                FloodClass::Broadcast
            } else {
                FloodClass::Multicast
            };
            self.flood(now, &transit, flood, frame, flow)?;
        } else {
            match self.fdb.lookup(Key::new(class.fid(), header.dst), now) {
                Some(Location { port, .. }) => {
                    self.deliver(&transit, port.ok_or(DropReason::LocalUnreachable)?)?;
                }
                None => self.flood(now, &transit, FloodClass::UnknownUnicast, frame, flow)?,
            }
        }
        if !self.mirrors.is_empty() {
            self.copy_to_mirrors(&transit);
        }
        Ok(())
    }

    /// The rules of the ingress port: a frame that breaks one is neither learnt from nor forwarded.
    #[inline]
    fn accept(
        &mut self,
        now: Tick,
        ingress: PortId,
        header: &EthernetHeader,
        frame: &[u8],
    ) -> Result<Classified, DropReason> {
        let Some(port) = &self.ports[ingress.index()] else {
            return Err(DropReason::UnknownPort);
        };
        if !self.lanes[ingress.index()].is_up {
            let is_blocked = port.blocked_until.is_some();
            return Err(if is_blocked {
                DropReason::Blocked
            } else {
                DropReason::PortDown
            });
        }
        if port.config.kind == PortKind::Mirror {
            return Err(DropReason::MirrorIngress);
        }
        if header.src.is_multicast() || header.src.is_zero() {
            return Err(DropReason::InvalidSource);
        }
        if header.ethertype == EtherType::FLOW_CONTROL {
            return Err(DropReason::FlowControl);
        }
        if let Some(guard) = &port.guard {
            guard.check(header.src, frame)?;
        }
        if port.config.bpdu_guard == BpduGuard::On && is_bpdu(header.dst, header.ethertype, frame) {
            self.block(now, ingress, BPDU_BLOCK, BlockCause::Bpdu);
            return Err(DropReason::BpduGuard);
        }
        vlan::classify(
            self.config.vlan_filtering,
            &port.config.vlans,
            port.config.kind,
            frame,
        )
    }

    #[inline]
    fn learn(&mut self, now: Tick, ingress: PortId, key: Key) -> Result<(), DropReason> {
        let Some(port) = &self.ports[ingress.index()] else {
            return Err(DropReason::UnknownPort);
        };
        let learning = match port.config.learning {
            Learning::On if !self.config.ageing.is_zero() => self.fdb.learn(key, ingress, now),
            Learning::On | Learning::Off => self.fdb.examine(key, ingress, now),
            Learning::Locked => match self.fdb.lookup(key, now) {
                Some(Location {
                    port: Some(owner), ..
                }) if owner == ingress => Sighting::Known,
                _ => return Err(DropReason::Locked),
            },
        };
        match learning {
            Sighting::Known => Ok(()),
            news => self.heed(now, ingress, key, news),
        }
    }

    /// Acts on a source address that is not simply where it was.
    #[cold]
    fn heed(&mut self, now: Tick, ingress: PortId, key: Key, news: Sighting) -> Result<(), DropReason> {
        let station = station(key);
        let tolerate = |reason| match self.config.pin_violation {
            PinViolation::Drop => Err(reason),
            PinViolation::Forward => Ok(()),
        };
        match news {
            Sighting::Known => Ok(()),
            Sighting::Own => Err(DropReason::OwnAddress),
            Sighting::Frozen => tolerate(DropReason::Flapping),
            Sighting::Pinned { owner } => {
                let outcome = tolerate(DropReason::PinnedElsewhere);
                self.report(
                    now,
                    ingress,
                    Event::PinViolated {
                        station,
                        owner,
                        offender: ingress,
                    },
                );
                outcome
            }
            Sighting::Learned { displaced } => {
                self.count(ingress, |counters| counters.learned += 1);
                self.report(
                    now,
                    ingress,
                    Event::Learned {
                        station,
                        port: ingress,
                    },
                );
                self.report_displacement(now, ingress, displaced);
                Ok(())
            }
            Sighting::Moved { from, displaced } => {
                self.count(ingress, |counters| counters.moved += 1);
                self.report(
                    now,
                    ingress,
                    Event::Moved {
                        station,
                        from,
                        to: ingress,
                    },
                );
                self.report_displacement(now, ingress, displaced);
                Ok(())
            }
            Sighting::Refused(limit) => {
                self.count(ingress, |counters| counters.limit_hits += 1);
                self.report(
                    now,
                    ingress,
                    Event::LimitReached {
                        station,
                        port: ingress,
                        limit,
                    },
                );
                Ok(())
            }
            Sighting::Flapping { older, younger } => {
                let outcome = if younger == ingress {
                    tolerate(DropReason::Flapping)
                } else {
                    Ok(())
                };
                self.report(
                    now,
                    ingress,
                    Event::Flapping {
                        station,
                        older,
                        younger,
                    },
                );
                if self
                    .port(younger)
                    .is_some_and(|port| port.config.loop_guard == LoopGuard::On)
                {
                    self.block(now, younger, self.config.loop_block, BlockCause::Loop);
                }
                outcome
            }
        }
    }

    /// Sends a frame to the one port that has its destination (B-FWD-1).
    #[inline]
    fn deliver(&mut self, transit: &Transit, to: PortId) -> Result<(), DropReason> {
        let lane = self.lanes[to.index()];
        permit(&transit.from, &lane, to == transit.ingress)?;
        let tag = self.egress_tag(transit, to).ok_or(DropReason::EgressVlan)?;
        if transit.layer_3_len > lane.mtu as usize {
            self.count_drop(to, DropReason::Mtu);
            return Err(DropReason::Mtu);
        }
        self.egress.push(Egress { port: to, tag });
        Ok(())
    }

    /// Sends a frame to every port that takes its class (B-FWD-2).
    fn flood(
        &mut self,
        now: Tick,
        transit: &Transit,
        class: FloodClass,
        frame: &[u8],
        flow: Flow,
    ) -> Result<(), DropReason> {
        let Some(port) = &mut self.ports[transit.ingress.index()] else {
            return Err(DropReason::UnknownPort);
        };
        if let Flow::Received(wire) = flow {
            if !port.storm.admits(class, wire, now, || is_essential(frame)) {
                return Err(match class {
                    FloodClass::Broadcast => DropReason::StormBroadcast,
                    FloodClass::Multicast => DropReason::StormMulticast,
                    FloodClass::UnknownUnicast => DropReason::StormUnknownUnicast,
                });
            }
            port.counters.flooded += 1;
        }
        let mut outcome = Err(DropReason::NoEgress);
        for to in (0..self.lanes.len() as u32).map(PortId) {
            let lane = &self.lanes[to.index()];
            if !lane.takes(class, &transit.from)
                || permit(&transit.from, lane, to == transit.ingress).is_err()
            {
                continue;
            }
            let mtu = lane.mtu as usize;
            let Some(tag) = self.egress_tag(transit, to) else {
                continue;
            };
            if transit.layer_3_len > mtu {
                self.count_drop(to, DropReason::Mtu);
                outcome = outcome.or(Err(DropReason::Mtu));
                continue;
            }
            self.egress.push(Egress { port: to, tag });
            outcome = Ok(());
        }
        outcome
    }

    #[cold]
    fn copy_to_mirrors(&mut self, transit: &Transit) {
        for index in 0..self.mirrors.len() {
            let mirror = self.mirrors[index];
            let lane = self.lanes[mirror.index()];
            if !lane.is_up {
                continue;
            }
            if transit.layer_3_len > lane.mtu as usize {
                self.count_drop(mirror, DropReason::Mtu);
            } else {
                self.egress.push(Egress {
                    port: mirror,
                    tag: TagOp::Keep,
                });
            }
        }
    }

    #[inline]
    fn egress_tag(&self, transit: &Transit, to: PortId) -> Option<TagOp> {
        match self.config.vlan_filtering {
            VlanFiltering::Off => Some(TagOp::Keep),
            VlanFiltering::On { .. } => self.port(to)?.config.vlans.egress(transit.class),
        }
    }

    /// Disables a port for a while and forgets the stations behind it.
    fn block(&mut self, now: Tick, id: PortId, time: Duration, cause: BlockCause) {
        let until = now.plus(nanos(time));
        let Some(Some(port)) = self.ports.get_mut(id.index()) else {
            return;
        };
        port.blocked_until = Some(until);
        self.lanes[id.index()] = port.lane();
        self.fdb.flush_port(id);
        self.next_unblock = self.next_unblock.min(until);
        if let Some(until) = self.timeline.instant(until) {
            self.push_event(
                id,
                Event::PortBlocked {
                    port: id,
                    cause,
                    until,
                },
            );
        }
    }

    fn unblock_ports(&mut self, now: Tick) {
        self.next_unblock = Tick::NEVER;
        for index in 0..self.ports.len() {
            let id = PortId(index as u32);
            let Some(port) = &mut self.ports[index] else {
                continue;
            };
            match port.blocked_until {
                Some(until) if until <= now => {
                    port.blocked_until = None;
                    self.lanes[index] = port.lane();
                    self.push_event(id, Event::PortUnblocked { port: id });
                }
                Some(until) => self.next_unblock = self.next_unblock.min(until),
                None => {}
            }
        }
    }

    fn count_drop(&mut self, port: PortId, reason: DropReason) {
        self.count(port, |counters| counters.count_drop(reason));
    }

    fn count(&mut self, port: PortId, movement: impl FnOnce(&mut Counters)) {
        if let Some(Some(port)) = self.ports.get_mut(port.index()) {
            movement(&mut port.counters);
        }
    }

    fn port(&self, port: PortId) -> Option<&Port> {
        self.ports.get(port.index())?.as_ref()
    }
}

/// Where a frame comes from.
#[derive(Debug, Clone, Copy)]
enum Flow {
    /// The port's device.
    Received(OnWire),
    /// Ourselves, in the name of the station behind the port.
    Announced,
}

impl Flow {
    fn largest(self, frame: &[u8]) -> usize {
        match self {
            Self::Received(wire) => wire.largest,
            Self::Announced => frame.len(),
        }
    }
}

/// What the egress rules have to know of a frame.
struct Transit {
    ingress: PortId,
    from: Lane,
    class: Classified,
    /// Length of its largest piece without Ethernet header and tags.
    layer_3_len: usize,
}

/// Most ports of one switch, four times Linux's `BR_MAX_PORTS` (net/bridge/br_private.h): a flood visits
/// each of them.
pub const MAX_PORTS: usize = 4096;

/// How many stations [`Switch::handle_timeout`] forgets at most: some ten microseconds of work.
pub const SWEEP_BUDGET: usize = 256;

/// How long a BPDU disables a guarded port (B-STP-2).
const BPDU_BLOCK: Duration = Duration::from_secs(300);
