//! A flow's host socket and the container's device, with the test at the other ends of both.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use vswitch_proxy::{
    Delivery,
    seq::SeqNum,
    tcp::{EarlyBudget, FlowIo, Outgoing, Room},
};
use vswitch_wire::{Refusal, TcpFlags};

/// What the flow under test asks for ends here. Whatever no flow may ever do fails the test at once.
pub(crate) struct Host {
    pub(crate) now: Instant,
    /// Everything that the peer has sent so far.
    pub(crate) inbound: Vec<u8>,
    /// Bytes of `inbound` that have left the receive queue.
    pub(crate) discarded: usize,
    /// Whether the peer has ended its stream.
    pub(crate) ended: bool,
    /// Pending error of the socket; told once, as `SO_ERROR` is.
    pub(crate) error: Option<i32>,
    /// Everything that the socket took for the peer.
    pub(crate) outbound: Vec<u8>,
    /// Bytes of `outbound` that the peer has not acknowledged.
    pub(crate) queued: usize,
    /// Bytes that the send queue holds at most.
    pub(crate) capacity: usize,
    /// What the peer advertises.
    pub(crate) peer_window: u32,
    /// Round trip to the peer.
    pub(crate) round_trip: Duration,
    /// Most bytes that one send takes.
    pub(crate) takes: usize,
    /// How many of the next discards fail.
    pub(crate) failing_discards: usize,
    /// Whether `SHUT_WR` was done.
    pub(crate) shut: bool,
    /// Whether keep-alive was switched on.
    pub(crate) keeps_alive: bool,
    /// Whether a writable event is due once there is room.
    pub(crate) watched: bool,
    /// How many of the next frames the container's device does not take.
    pub(crate) device_full_for: usize,
    /// How many more challenge acknowledgments all flows together may send.
    pub(crate) challenges: usize,
    pub(crate) calls: Calls,
    /// What the container got and the test has not looked at.
    pub(crate) emitted: Vec<Emitted>,
    pub(crate) refused: Vec<(SeqNum, Refusal)>,
    /// What the container has sent that the socket did not take yet: sequence numbers of payload and the payload.
    pub(crate) handled: Vec<(SeqNum, Vec<u8>)>,
    pub(crate) early: Arc<EarlyBudget>,
    /// End of the window that the container has offered, as far as it ever reached.
    pub(crate) right_edge: SeqNum,
    /// The highest acknowledgment that the container has sent of what it was sent.
    pub(crate) acknowledged: SeqNum,
    /// First sequence numbers of both streams, the container's first.
    starts: (SeqNum, SeqNum),
    peeked: Vec<u8>,
    dead: bool,
    reset: bool,
    /// End of what the container was sent.
    pub(crate) sent_until: SeqNum,
    last_ack: SeqNum,
}

/// How often each was asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) sends: usize,
    pub(crate) peeks: usize,
    pub(crate) discards: usize,
    pub(crate) rooms: usize,
    pub(crate) emits: usize,
}

/// A segment as the container got it.
#[derive(Debug, Clone)]
pub(crate) struct Emitted {
    pub(crate) at: Instant,
    pub(crate) segment: Outgoing,
    pub(crate) payload: Vec<u8>,
}

impl Host {
    pub(crate) fn new(now: Instant, container_isn: SeqNum, our_isn: SeqNum) -> Self {
        Self {
            now,
            inbound: Vec::new(),
            discarded: 0,
            ended: false,
            error: None,
            outbound: Vec::new(),
            queued: 0,
            capacity: 128 << 10,
            peer_window: 1 << 20,
            round_trip: Duration::from_micros(50),
            takes: usize::MAX,
            failing_discards: 0,
            shut: false,
            keeps_alive: false,
            watched: false,
            device_full_for: 0,
            challenges: usize::MAX,
            calls: Calls::default(),
            emitted: Vec::new(),
            refused: Vec::new(),
            handled: Vec::new(),
            early: Arc::new(EarlyBudget::new(EARLY_BYTES)),
            right_edge: our_isn + 1,
            acknowledged: our_isn,
            starts: (container_isn + 1, our_isn + 1),
            peeked: Vec::new(),
            dead: false,
            reset: false,
            sent_until: our_isn,
            last_ack: container_isn + 1,
        }
    }

    /// Bytes that the send queue takes now.
    pub(crate) fn free(&self) -> usize {
        self.capacity.saturating_sub(self.queued)
    }

    /// Next byte that the container has to send.
    pub(crate) fn expected(&self) -> SeqNum {
        self.starts.0 + self.outbound.len() as u32
    }

    /// Whether a socket with this send queue would tell that it is writable: a third of it is free
    /// (`sk_stream_is_writeable`).
    pub(crate) fn tells_writable(&self) -> bool {
        self.watched && self.queued <= self.capacity / 3 * 2
    }

    /// An error that stands for the end of the connection, once.
    fn failure(&mut self) -> Option<io::Error> {
        let error = self.error.take()?;
        self.dead = true;
        Some(io::Error::from_raw_os_error(error))
    }

    fn check(&mut self, segment: &Outgoing, payload: &[u8]) {
        assert!(!self.reset, "a reset connection sends {segment:?}");
        let flags = segment.flags;
        let is_syn = flags.contains(TcpFlags::SYN);
        let is_reset = flags.contains(TcpFlags::RST);
        // A client's connection begins with one.
        let is_first = is_syn && !flags.contains(TcpFlags::ACK);
        assert!(
            flags.contains(TcpFlags::ACK) || is_reset || is_first,
            "R-TX-12: no ACK in {segment:?}"
        );
        assert_eq!(
            is_syn,
            segment.syn_options.is_some(),
            "options belong to SYN: {segment:?}"
        );
        assert!(
            segment.mss > 0 || payload.is_empty(),
            "no segment size: {segment:?}"
        );
        let end = segment.seq + payload.len() as u32;
        if !payload.is_empty() {
            let from = (segment.seq - self.starts.1) as usize;
            let sent = self.inbound.get(from..from + payload.len());
            assert_eq!(
                sent,
                Some(payload),
                "other bytes than the peer's, at {}",
                segment.seq.0
            );
            // One byte more is a probe of a window of zero.
            assert!(
                end.le(self.right_edge + 1),
                "R-TX-1: {} is beyond the window's end {}",
                end.0,
                self.right_edge.0
            );
        }
        if flags.contains(TcpFlags::FIN) {
            assert!(self.ended, "a FIN before the end of the peer's stream");
            assert_eq!(
                end,
                self.starts.1 + self.inbound.len() as u32,
                "a FIN amid the stream"
            );
        }
        if is_reset {
            // One without ACK refuses a segment that is not of this connection.
            self.reset |= flags.contains(TcpFlags::ACK);
            return;
        }
        if is_first {
            self.sent_until = self.sent_until.max(segment.seq + 1);
            return;
        }
        let accepted = self.expected() + u32::from(self.shut);
        assert!(
            segment.ack.le(accepted),
            "R-RX-1: {} acknowledged, {} accepted",
            segment.ack.0,
            accepted.0
        );
        assert!(
            self.last_ack.le(segment.ack),
            "R-RX-4: the acknowledgment goes back to {}",
            segment.ack.0
        );
        self.last_ack = segment.ack;
        let taken = end + u32::from(is_syn) + u32::from(flags.contains(TcpFlags::FIN));
        self.sent_until = self.sent_until.max(taken);
    }
}

impl FlowIo for Host {
    fn send(&mut self, payload: &[u8]) -> io::Result<usize> {
        self.calls.sends += 1;
        let expected = self.expected();
        // Which of several copies of a byte counts is for the tests of those that differ.
        self.handled
            .retain(|(seq, sent)| expected.lt(*seq + sent.len() as u32));
        for (at, byte) in payload.iter().enumerate() {
            let place = expected + at as u32;
            let is_sent = self
                .handled
                .iter()
                .any(|(seq, sent)| seq.le(place) && sent.get((place - *seq) as usize) == Some(byte));
            assert!(is_sent, "R-RX-1: nobody has sent {byte} at {}", place.0);
        }
        assert!(!self.shut, "payload after SHUT_WR");
        if let Some(error) = self.failure() {
            return Err(error);
        }
        if self.dead {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = payload.len().min(self.free()).min(self.takes);
        if taken < payload.len() {
            self.watched = true;
        }
        if taken == 0 && !payload.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.outbound.extend_from_slice(&payload[..taken]);
        self.queued += taken;
        Ok(taken)
    }

    fn room(&mut self) -> Room {
        self.calls.rooms += 1;
        Room {
            free: self.free() as u32,
            queued: self.queued as u32,
            peer_window: self.peer_window,
            // The kernel counts the SYN.
            peer_acked: (self.outbound.len() - self.queued) as u64 + 1,
            round_trip: self.round_trip,
        }
    }

    fn watch_room(&mut self) {
        self.watched = true;
    }

    fn peek(&mut self, offset: u32, max: usize) -> io::Result<usize> {
        self.calls.peeks += 1;
        self.peeked.clear();
        let queue = &self.inbound[self.discarded..];
        if let Some(rest) = queue.get(offset as usize..).filter(|rest| !rest.is_empty()) {
            self.peeked.extend_from_slice(&rest[..rest.len().min(max)]);
            return Ok(self.peeked.len());
        }
        if let Some(error) = self.failure() {
            return Err(error);
        }
        if self.ended || self.dead {
            return Ok(0);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn is_drained(&self) -> bool {
        // As on kernels that do not tell.
        false
    }

    fn discard(&mut self, len: u32) -> io::Result<()> {
        self.calls.discards += 1;
        if self.failing_discards > 0 {
            self.failing_discards -= 1;
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.discarded += len as usize;
        assert!(
            self.discarded <= self.inbound.len(),
            "discarded more than has arrived"
        );
        let until = self.starts.1 + self.discarded as u32;
        assert!(
            until.le(self.acknowledged),
            "R-LIM-5: discarded until {}, acknowledged until {}",
            until.0,
            self.acknowledged.0
        );
        Ok(())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        assert!(!self.shut, "SHUT_WR twice");
        if let Some(error) = self.failure() {
            return Err(error);
        }
        self.shut = true;
        Ok(())
    }

    fn keep_alive(&mut self) {
        self.keeps_alive = true;
    }

    fn emit(&mut self, segment: &Outgoing) -> Delivery {
        self.calls.emits += 1;
        if self.device_full_for > 0 {
            self.device_full_for -= 1;
            return Delivery::Full;
        }
        let payload = self.peeked[..segment.payload_len].to_vec();
        self.check(segment, &payload);
        self.emitted.push(Emitted {
            at: self.now,
            segment: *segment,
            payload,
        });
        Delivery::Sent
    }

    fn allow_challenge(&mut self) -> bool {
        let allowed = self.challenges > 0;
        self.challenges = self.challenges.saturating_sub(1);
        allowed
    }

    fn early_budget(&self) -> &Arc<EarlyBudget> {
        &self.early
    }

    fn refuse(&mut self, syn: SeqNum, refusal: Refusal) {
        self.refused.push((syn, refusal));
    }
}

/// What all flows together may keep, small enough that hostile ones meet it.
pub(crate) const EARLY_BYTES: usize = 200 << 10;
