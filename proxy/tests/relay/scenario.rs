//! One connection of a container on a virtual clock; tests speak for the container and for the server.

use std::{io, time::Duration};

use vswitch_proxy::{
    seq::SeqNum,
    tcp::{Connection, Settings},
};
use vswitch_testkit::Clock;
use vswitch_wire::TcpFlags;

use crate::{
    host::{Emitted, Host},
    segment::{Segment, parse, pattern},
};

/// The container's initial sequence number.
pub(crate) const C: u32 = 1000;
/// Ours.
pub(crate) const G: u32 = 5000;
/// Segment size that both sides announce unless a test says otherwise: MTU 1500.
pub(crate) const MSS: u16 = 1460;

/// The flow under test between both ends.
pub(crate) struct Scenario {
    pub(crate) clock: Clock,
    pub(crate) host: Host,
    pub(crate) flow: Connection,
    /// Shift of the container's windows.
    container_scale: u8,
    /// Shift of ours, as the SYN+ACK told it.
    pub(crate) our_scale: u8,
    /// Calls of the flow that no event of the test caused.
    pub(crate) timeouts: usize,
}

impl Scenario {
    /// A SYN has arrived, the host's connect has not ended.
    pub(crate) fn pending() -> Self {
        Self::pending_with(Segment::syn(C, MSS))
    }

    /// As [`Self::pending`], for a SYN of the test.
    pub(crate) fn pending_with(syn: Segment) -> Self {
        Self::with_settings(syn, settings())
    }

    pub(crate) fn with_settings(syn: Segment, settings: Settings) -> Self {
        let clock = Clock::new();
        let host = Host::new(clock.now(), syn.seq, settings.isn);
        let bytes = syn.bytes();
        let flow = Connection::new(clock.now(), &parse(&bytes), settings);
        let mut scenario = Self {
            clock,
            host,
            flow,
            container_scale: 0,
            our_scale: 0,
            timeouts: 0,
        };
        scenario.host.right_edge = scenario.host.sent_until + 1 + u32::from(syn.window);
        scenario
    }

    /// A client of a published port has been accepted, the SYN is in the container's device.
    pub(crate) fn inbound() -> Self {
        let clock = Clock::new();
        let host = Host::new(clock.now(), SeqNum(C), SeqNum(G));
        let flow = Connection::inbound(clock.now(), settings());
        let mut scenario = Self {
            clock,
            host,
            flow,
            container_scale: 0,
            our_scale: 0,
            timeouts: 0,
        };
        scenario.tick();
        scenario.flow.initiate(scenario.clock.now(), &mut scenario.host);
        scenario
    }

    /// The handshake is over, nothing was sent.
    pub(crate) fn established() -> Self {
        Self::established_with(Segment::syn(C, MSS))
    }

    /// As [`Self::established`], for a SYN of the test.
    pub(crate) fn established_with(syn: Segment) -> Self {
        Self::pending_with(syn).shake()
    }

    /// Ends the handshake.
    pub(crate) fn shake(mut self) -> Self {
        let start = self.host.expected();
        self.connected();
        let out = self.take();
        let [synack] = &out[..] else {
            panic!("not one SYN+ACK: {:?}", render(&out))
        };
        let options = synack.segment.syn_options.expect("options of SYN");
        self.our_scale = options.window_scale.unwrap_or(0);
        let ours = synack.segment.seq.0.wrapping_add(1);
        self.sends(Segment::ack(start.0, ours));
        assert_eq!(self.out(), [""; 0], "nothing to say after the handshake");
        self
    }

    /// The same, whose windows are scaled by `shift`.
    pub(crate) fn scaled(mut self, shift: u8) -> Self {
        self.container_scale = shift;
        self
    }

    /// The host's connect has succeeded.
    pub(crate) fn connected(&mut self) {
        self.tick();
        self.flow.handle_connected(self.clock.now(), &mut self.host);
        self.flush();
    }

    /// The host's connect has failed.
    pub(crate) fn connect_fails(&mut self, errno: i32) {
        self.tick();
        let error = io::Error::from_raw_os_error(errno);
        self.flow.handle_connect_error(&error, &mut self.host);
        self.flush();
    }

    /// The container sends one segment, alone in its batch.
    pub(crate) fn sends(&mut self, segment: Segment) {
        self.sends_batch(&[segment]);
    }

    /// The container sends segments that are read at once.
    pub(crate) fn sends_batch(&mut self, segments: &[Segment]) {
        self.tick();
        for segment in segments {
            self.deliver(segment);
        }
        self.takes_turns();
        self.flush();
    }

    fn deliver(&mut self, segment: &Segment) {
        let host = &mut self.host;
        // Any other acknowledgment says nothing (R-RX-10).
        let says_something = segment.ack.le(host.sent_until) && host.acknowledged.le(segment.ack + (1 << 30));
        if segment.flags.contains(TcpFlags::ACK) && says_something {
            host.acknowledged = host.acknowledged.max(segment.ack);
            let window = u32::from(segment.window) << self.container_scale;
            host.right_edge = host.right_edge.max(segment.ack + window);
        }
        let data_at = segment.seq + u32::from(segment.flags.contains(TcpFlags::SYN));
        if !segment.payload.is_empty() {
            host.handled.push((data_at, segment.payload.clone()));
        }
        let bytes = segment.bytes();
        self.flow
            .handle_segment(self.clock.now(), &parse(&bytes), &mut self.host);
    }

    /// The server sends the next `len` bytes of its stream.
    pub(crate) fn serves(&mut self, len: usize) {
        let from = self.host.inbound.len();
        self.host.inbound.extend(pattern(from, len));
        self.readable();
    }

    /// The server ends its stream.
    pub(crate) fn server_ends(&mut self) {
        self.host.ended = true;
        self.readable();
    }

    /// The socket gets an error of its own.
    pub(crate) fn server_fails(&mut self, errno: i32) {
        self.host.error = Some(errno);
        self.readable();
    }

    /// The server acknowledges `len` bytes; tells the flow as the kernel would.
    pub(crate) fn server_reads(&mut self, len: usize) {
        self.host.queued -= len;
        if self.host.tells_writable() {
            self.host.watched = false;
            self.writable();
        }
    }

    pub(crate) fn readable(&mut self) {
        self.tick();
        self.flow.handle_readable(self.clock.now(), &mut self.host);
        self.takes_turns();
        self.flush();
    }

    /// Goes on where the flow has stopped at its budget.
    fn takes_turns(&mut self) {
        for _ in 0..1000 {
            if !self.flow.wants_turn() {
                return;
            }
            self.flow.handle_readable(self.clock.now(), &mut self.host);
        }
        panic!("turns without end");
    }

    pub(crate) fn writable(&mut self) {
        self.tick();
        self.flow.handle_writable(self.clock.now(), &mut self.host);
        self.flush();
    }

    /// Lets time pass, with every timer at its moment.
    pub(crate) fn runs(&mut self, by: Duration) {
        let end = self.clock.now() + by;
        let mut last = None;
        while self.flow.end().is_none() && self.flow.poll_timeout() <= end {
            let at = self.flow.poll_timeout().max(self.clock.now());
            assert_ne!(last, Some(at), "the timer does not move on");
            last = Some(at);
            self.clock.advance(at - self.clock.now());
            self.tick();
            self.timeouts += 1;
            self.flow.handle_timeout(at, &mut self.host);
            self.flush();
            self.takes_turns();
        }
        self.clock.advance(end - self.clock.now());
        self.tick();
    }

    /// The connection is given up from outside.
    pub(crate) fn aborts(&mut self) {
        self.tick();
        self.flow.abort(&mut self.host);
    }

    /// What the container got since the last look, e.g. `PA 5001 ack 1001 len 100`.
    pub(crate) fn out(&mut self) -> Vec<String> {
        render(&self.take())
    }

    /// As [`Self::out`], as records.
    pub(crate) fn take(&mut self) -> Vec<Emitted> {
        std::mem::take(&mut self.host.emitted)
    }

    /// The data that the container got since the last look: offsets of the server's stream, joined where one
    /// follows the other.
    pub(crate) fn data(&mut self) -> Vec<(u32, u32)> {
        let start = self.start();
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for Emitted { segment, payload, .. } in self.take() {
            let from = segment.seq.0.wrapping_sub(start.0);
            let to = from + payload.len() as u32;
            match ranges.last_mut() {
                _ if payload.is_empty() => {}
                Some(last) if last.1 == from => last.1 = to,
                _ => ranges.push((from, to)),
            }
        }
        ranges
    }

    /// The window that `emitted` offers, in bytes.
    pub(crate) fn window_of(&self, emitted: &Emitted) -> u32 {
        u32::from(emitted.segment.window) << self.our_scale
    }

    /// The container acknowledges all that it got, with its next sequence number.
    pub(crate) fn acks_all(&mut self) {
        let (seq, ack) = (self.host.expected(), self.host.sent_until);
        self.sends(Segment::ack(seq.0 + u32::from(self.host.shut), ack.0));
    }

    fn start(&self) -> SeqNum {
        SeqNum(G + 1)
    }

    fn flush(&mut self) {
        self.flow.flush(self.clock.now(), &mut self.host);
        assert!(!self.flow.wants_flush(), "a batch without end");
    }

    fn tick(&mut self) {
        self.host.now = self.clock.now();
    }
}

/// What a relay tells a connection of a container with MTU 1500.
pub(crate) fn settings() -> Settings {
    Settings {
        isn: SeqNum(G),
        mss: MSS,
        default_mss: 536,
        largest_payload: 65_000,
        connect_timeout: Duration::from_secs(130),
        idle_timeout: Duration::from_secs(2 * 3600),
    }
}

/// One line for each segment.
pub(crate) fn render(emitted: &[Emitted]) -> Vec<String> {
    emitted.iter().map(line).collect()
}

fn line(Emitted { segment, payload, .. }: &Emitted) -> String {
    let mut line = format!("{} {}", segment.flags, segment.seq.0);
    if segment.flags.contains(TcpFlags::ACK) {
        line += &format!(" ack {}", segment.ack.0);
    }
    if !payload.is_empty() {
        line += &format!(" len {}", payload.len());
    }
    line
}
