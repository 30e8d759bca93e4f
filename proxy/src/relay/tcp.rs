//! TCP flows of a relay: which segment belongs to which, and what begins or ends one.

use std::{
    hash::BuildHasher,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use vswitch_wire::{
    Ipv4Header, Ipv6Header, MacAddr, Malformed, Offload, Refusal, Stations, TcpFlags, TcpHeader, TcpSegment,
};

use super::{
    Answer, Arrival, Flow, Kind, Pending, Readiness, Relay,
    table::Tuple,
    target::{self, Refused, Target},
};
use crate::{
    Delivery, FlowId, Link, Path, Scratch,
    config::Source,
    errors,
    link::SocketRole,
    listing::Protocol,
    payload::Packet,
    seq::SeqNum,
    stream::{self, Attempt, HostSocket, StreamIo, TcpFlow},
    tcp::{Connection, End, Outgoing, Settings},
};

impl Relay {
    pub(super) fn handle_segment(
        &mut self,
        now: Instant,
        arrival: Arrival,
        packet: &Packet<'_>,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) -> Option<Refusal> {
        let segment = match read_segment(packet, &arrival.offload) {
            Ok(segment) => segment,
            Err(error) => return self.count_bad(error),
        };
        let tuple = Tuple {
            endpoint: arrival.endpoint,
            protocol: Protocol::Tcp,
            container: SocketAddr::new(packet.src, segment.header().src_port()),
            remote: SocketAddr::new(packet.dst, segment.header().dst_port()),
        };
        if let Some(id) = self.flows.find(&tuple) {
            if let Some(connected) = self.leave_silent_resolver(now, id, link) {
                self.settle_connect(now, id, connected, scratch, link);
            }
            let end = self.with_stream(now, id, scratch, link, |connection, io| {
                connection.handle_segment(now, &segment, io);
            });
            if end != Some(End::Replaced) {
                return None;
            }
        }
        let (flags, seq) = (segment.header().flags(), SeqNum(segment.header().sequence()));
        let is_syn = flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK);
        let closed = self.time_wait.find(now, &tuple);
        if flags.contains(TcpFlags::RST) {
            // RFC 1337 warns of ending TIME_WAIT by a reset where old segments roam a network; there is but
            // one link here, and a container that has forgotten the connection could not begin another.
            self.time_wait.remove(&tuple);
            return None;
        }
        match closed {
            // RFC 1122 §4.2.2.13: a new connection may begin at once if its numbers are larger.
            Some(closed) if is_syn && closed.ack.lt(seq) => self.time_wait.remove(&tuple),
            Some(closed) => {
                let ack = Answered {
                    seq: closed.seq,
                    ack: closed.ack,
                    flags: TcpFlags::ACK,
                };
                self.answer(arrival.station, &tuple, ack, scratch, link);
                return None;
            }
            None => {}
        }
        if !is_syn {
            self.handle_stray(now, arrival, (&tuple, &segment), scratch, link);
            return None;
        }
        match self.open_stream(now, arrival, packet, (tuple, &segment), link) {
            Ok(None) => None,
            Ok(Some((id, connected))) => {
                self.settle_connect(now, id, connected, scratch, link);
                None
            }
            Err(refused) => match self.answer_to(refused) {
                Answer::None => None,
                Answer::Refusal(refusal) => Some(refusal),
                Answer::Reset => {
                    let reset = Answered::refusal(&segment);
                    self.answer(arrival.station, &tuple, reset, scratch, link);
                    None
                }
            },
        }
    }

    /// Begins a connection. `None` if a limit forbids it, which the container takes for a lost SYN.
    fn open_stream(
        &mut self,
        now: Instant,
        arrival: Arrival,
        packet: &Packet<'_>,
        (tuple, syn): (Tuple, &TcpSegment<'_>),
        link: &mut impl Link,
    ) -> Result<Option<(FlowId, io::Result<bool>)>, Refused> {
        let endpoint = arrival.endpoint;
        if !self.admit(now, endpoint) {
            return Ok(None);
        }
        let target = self.target(now, arrival.hop, &tuple)?;
        let is_query = target.is_query(&tuple);
        let (target, is_hairpin) = match target {
            Target::Itself => (None, false),
            Target::Host(address) | Target::Resolver(address) => (Some(address), false),
            Target::Published(address) => (Some(address), true),
        };
        let limits = &self.config.limits;
        if self.pending >= limits.pending || self.shares.of(endpoint).pending >= limits.pending_per_endpoint {
            self.counters.limit_pending += 1;
            return Ok(None);
        }
        let Some(descriptor) = self.lease(now, endpoint) else {
            return Ok(None);
        };
        let to = target.unwrap_or(tuple.remote);
        // The host itself is reached without any device or address of the outside.
        let inside = Source::default();
        let source = match is_hairpin {
            true => &inside,
            false => &self.config.source,
        };
        let opened = HostSocket::open(to, source, packet.headers.class & DSCP).and_then(|socket| {
            let caller = match is_hairpin {
                true => Some(self.announce(&tuple, socket.bind_to(to.ip())?)),
                false => None,
            };
            Ok((socket, caller))
        });
        let (socket, caller) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.settle_admission(endpoint);
                // The configured source is not there (any more): the container need not wait for that.
                return match errors::refusal(&error) {
                    Some(refusal) => Err(Refused::Host(refusal)),
                    None => {
                        self.counters.no_descriptor += 1;
                        Ok(None)
                    }
                };
            }
        };
        if !self.make_place(now, endpoint) {
            return Ok(None);
        }
        let settings = self.settings(now, &tuple);
        let flow = Flow {
            tuple,
            station: arrival.station,
            target,
            is_query,
            began: now,
            pending: Pending::Host,
            unflushed: false,
            turn: false,
            evictable_place: None,
            mapping: None,
            _caller: caller,
            kind: Kind::Tcp(TcpFlow {
                connection: Connection::new(now, syn, settings),
                socket,
                attempt: Attempt::new(now),
            }),
            descriptor: Some(descriptor),
        };
        // R-OUT-9: in the poll set before the connect, so that no completion is missed.
        let Some(id) = self.insert(flow, link) else {
            return Ok(None);
        };
        let connected = match self.flows.get(id).map(|flow| &flow.kind) {
            Some(Kind::Tcp(flow)) => flow.socket.connect(to),
            _ => Ok(false),
        };
        Ok(Some((id, connected)))
    }

    pub(super) fn settings(&self, now: Instant, tuple: &Tuple) -> Settings {
        let (ip, default_mss) = match tuple.remote {
            // RFC 9293 §3.7.1: 536 and 1220 where no MSS option came.
            SocketAddr::V4(_) => (Ipv4Header::LEN, 536),
            SocketAddr::V6(_) => (Ipv6Header::LEN, 1220),
        };
        let headers = (ip + TcpHeader::LEN) as u16;
        // RFC 6528 §3: ISN = M + F(localip, localport, remoteip, remoteport, secretkey), M a clock.
        let ticks = now.saturating_duration_since(self.epoch).as_nanos() / ISN_TICK_NANOS;
        let isn = (self.secret.hash_one(tuple) as u32).wrapping_add(ticks as u32);
        Settings {
            isn: SeqNum(isn),
            mss: self.config.mtu.saturating_sub(headers),
            default_mss,
            largest_payload: u16::MAX - headers,
            connect_timeout: self.config.timeouts.connect,
            idle_timeout: self.config.timeouts.tcp_idle,
        }
    }

    pub(super) fn handle_stream_ready(
        &mut self,
        now: Instant,
        id: FlowId,
        readiness: Readiness,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        let Some(Flow {
            kind: Kind::Tcp(flow),
            ..
        }) = self.flows.get(id)
        else {
            return;
        };
        if flow.connection.is_connecting() {
            let connected = flow.socket.connected();
            return self.settle_connect(now, id, connected, scratch, link);
        }
        if readiness.error {
            // What the peer had sent before it went away is the container's first.
            self.with_stream(now, id, scratch, link, |connection, io| {
                connection.handle_readable(now, io);
                if io.socket.take_error().is_some() {
                    connection.handle_host_error(io);
                }
            });
            return;
        }
        self.with_stream(now, id, scratch, link, |connection, io| {
            if readiness.writable {
                connection.handle_writable(now, io);
            }
            if readiness.readable {
                connection.handle_readable(now, io);
            }
        });
    }

    /// Tells the flow how its connect went, once that is known.
    fn settle_connect(
        &mut self,
        now: Instant,
        id: FlowId,
        mut connected: io::Result<bool>,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        while connected.is_err()
            && let Some(next) = self.connect_next_resolver(now, id, link)
        {
            connected = next;
        }
        match connected {
            Ok(false) => return,
            Ok(true) => self.note_connected(id),
            Err(_) => {}
        }
        if let Some(endpoint) = self.flows.get(id).map(|flow| flow.tuple.endpoint) {
            self.settle_admission(endpoint);
        }
        match connected {
            Ok(_) => self.with_stream(now, id, scratch, link, |connection, io| {
                connection.handle_connected(now, io);
            }),
            Err(error) => {
                if error.kind() == io::ErrorKind::AddrNotAvailable {
                    self.counters.no_port += 1;
                }
                self.with_stream(now, id, scratch, link, |connection, io| {
                    connection.handle_connect_error(&error, io);
                })
            }
        };
    }

    pub(super) fn handle_stream_timeout(
        &mut self,
        now: Instant,
        id: FlowId,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        self.with_stream(now, id, scratch, link, |connection, io| {
            connection.handle_timeout(now, io);
        });
    }

    pub(super) fn flush_stream(
        &mut self,
        now: Instant,
        id: FlowId,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        self.with_stream(now, id, scratch, link, |connection, io| connection.flush(now, io));
    }

    pub(super) fn abort_stream(
        &mut self,
        now: Instant,
        id: FlowId,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        self.with_stream(now, id, scratch, link, |connection, io| connection.abort(io));
    }

    /// Lets a flow's state machine act, and does what follows from its new state. Returns how the flow ended,
    /// if it did.
    pub(super) fn with_stream<L: Link>(
        &mut self,
        now: Instant,
        id: FlowId,
        scratch: &mut Scratch,
        link: &mut L,
        act: impl FnOnce(&mut Connection, &mut StreamIo<'_, L>),
    ) -> Option<End> {
        let flow = self.flows.get_mut(id)?;
        let path = flow.path(&self.config);
        let Kind::Tcp(TcpFlow {
            connection, socket, ..
        }) = &mut flow.kind
        else {
            return None;
        };
        let token = link.token(SocketRole::Flow(id).id());
        let mut io = StreamIo {
            socket,
            path: &path,
            endpoint: flow.tuple.endpoint,
            challenges: &mut self.challenges,
            early: &self.early,
            token,
            scratch,
            link,
            now,
        };
        act(connection, &mut io);
        let deadline = connection.poll_timeout();
        let end = connection.end();
        let is_pending = connection.is_connecting() || connection.is_initiating();
        if let Some(end) = end {
            self.finish_stream(now, id, end);
            return Some(end);
        }
        if connection.wants_flush() && !std::mem::replace(&mut flow.unflushed, true) {
            self.unflushed.push(id);
        }
        if connection.wants_turn() && !std::mem::replace(&mut flow.turn, true) {
            self.turns.push_back(SocketRole::Flow(id).id());
        }
        if !is_pending && flow.pending != Pending::No {
            let pending = std::mem::replace(&mut flow.pending, Pending::No);
            let endpoint = flow.tuple.endpoint;
            self.count_answered(endpoint, pending);
        }
        self.deadlines.note(id, deadline);
        None
    }

    fn finish_stream(&mut self, now: Instant, id: FlowId, end: End) {
        let Some(flow) = self.remove(id) else { return };
        let tuple = flow.tuple;
        let Kind::Tcp(TcpFlow {
            connection, socket, ..
        }) = flow.kind
        else {
            return;
        };
        if let Some(mapping) = flow.mapping
            && connection.is_refused()
        {
            self.count_failed(mapping);
        }
        if connection.owes_reset() && self.owed.len() < MOST_OWED {
            let (seq, ack) = connection.sequence();
            let flags = match connection.is_initiating() {
                // Nothing of the container's has come that could be acknowledged.
                true => TcpFlags::RST,
                false => TcpFlags::RST | TcpFlags::ACK,
            };
            self.owed.push_back(Owed {
                station: flow.station,
                tuple,
                reset: Answered { seq, ack, flags },
            });
            self.owed_at = Some(now + OWED_RETRY);
        }
        match end {
            End::Closed { time_wait: true } => self.time_wait.insert(now, tuple, connection.sequence()),
            End::Closed { time_wait: false } => {}
            // R-CL: dropping it would send a FIN.
            End::Replaced | End::Reset => socket.reset(),
        }
    }

    /// Sends resets for which there was no room when their flows ended.
    pub(super) fn send_owed(&mut self, now: Instant, scratch: &mut Scratch, link: &mut impl Link) {
        if self.owed_at.is_none_or(|at| now < at) {
            return;
        }
        self.owed_at = None;
        while let Some(owed) = self.owed.pop_front() {
            let delivery = self.answer(owed.station, &owed.tuple, owed.reset, scratch, link);
            if delivery == Delivery::Full {
                self.owed.push_front(owed);
                self.owed_at = Some(now + OWED_RETRY);
                return;
            }
        }
    }

    /// A segment of no connection: tells the container so (R-CL-5), which also clears what it remembers of
    /// a daemon before this one.
    fn handle_stray(
        &mut self,
        now: Instant,
        arrival: Arrival,
        (tuple, segment): (&Tuple, &TcpSegment<'_>),
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        let is_allowed = self.shares.of(arrival.endpoint).strays.take(now);
        if !target::is_possible(tuple.remote.ip()) || !is_allowed {
            return;
        }
        self.counters.stray += 1;
        let reset = Answered::refusal(segment);
        self.answer(arrival.station, tuple, reset, scratch, link);
    }

    /// Sends a segment without a flow.
    fn answer(
        &mut self,
        station: MacAddr,
        tuple: &Tuple,
        answered: Answered,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) -> Delivery {
        let path = Path {
            container: tuple.container,
            remote: tuple.remote,
            stations: Stations {
                src: self.config.gateway_mac,
                dst: station,
            },
            mtu: self.config.mtu,
        };
        let segment = Outgoing {
            seq: answered.seq,
            ack: answered.ack,
            flags: answered.flags,
            window: 0,
            payload_len: 0,
            mss: u16::MAX,
            syn_options: None,
        };
        match stream::build(&path, &segment, &mut scratch.frame) {
            Some((len, offload)) => link.send(&mut scratch.frame[..len], offload),
            None => Delivery::Refused,
        }
    }
}

/// A reset that a container has still to get.
#[derive(Debug)]
pub(super) struct Owed {
    station: MacAddr,
    tuple: Tuple,
    reset: Answered,
}

/// Reads a segment between ports that can have a connection. We are where the container's checksum ends, so
/// a complete one is verified.
fn read_segment<'a>(packet: &Packet<'a>, offload: &Offload) -> Result<TcpSegment<'a>, Malformed> {
    let segment = TcpSegment::parse(packet.body)?;
    if segment.header().src_port() == 0 || segment.header().dst_port() == 0 {
        return Err(Malformed::Length);
    }
    let is_complete = offload.checksum.is_none() && !offload.data_valid;
    if is_complete && !segment.has_valid_checksum(packet.pseudo_header(packet.body.len() as u32)) {
        return Err(Malformed::Checksum);
    }
    Ok(segment)
}

/// What a segment of no flow is answered with.
#[derive(Debug, Clone, Copy)]
struct Answered {
    seq: SeqNum,
    ack: SeqNum,
    flags: TcpFlags,
}

impl Answered {
    /// The reset of RFC 9293 §3.10.7.1: "If the ACK bit is off, sequence number zero is used,
    /// <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>. If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>."
    fn refusal(segment: &TcpSegment<'_>) -> Self {
        let header = segment.header();
        match header.flags().contains(TcpFlags::ACK) {
            true => Self {
                seq: SeqNum(header.acknowledgment()),
                ack: SeqNum(0),
                flags: TcpFlags::RST,
            },
            false => Self {
                seq: SeqNum(0),
                ack: SeqNum(header.sequence()) + segment.sequence_len() as u32,
                flags: TcpFlags::RST | TcpFlags::ACK,
            },
        }
    }
}

/// Resets that wait for room, and how long they do at a time. Beyond, containers find out when they send.
const MOST_OWED: usize = 1024;
const OWED_RETRY: Duration = Duration::from_millis(10);

/// The DSCP in a TOS or traffic class; the other two bits are ECN's (RFC 3168 §5).
const DSCP: u8 = 0xfc;

/// RFC 6528 §3 has a clock of 4 µs; passt's ticks are 32 ns, so that a port is used again after 2 GB of numbers
/// at the earliest in 69 s.
const ISN_TICK_NANOS: u128 = 32;
