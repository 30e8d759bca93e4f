//! The TCP state machine of one flow, sans-IO.
//!
//! One flow joins two connections: the container's, whose other end is [`Connection`], and the host socket's,
//! whose end is in the kernel. There is no stream buffer in between, but for what comes out of order:
//!
//! - Bytes for the container stay in the host socket's receive queue until the container has acknowledged
//!   them. The queue's first byte is always the one at `una`; sending copies from it (peek), a retransmission
//!   copies again, an acknowledgment removes.
//! - Bytes of the container go into the host socket's send queue straight from the received segment. `rcv_nxt`
//!   counts what the queue took; what it did not take was never received.
//! - Only while a segment is missing, those behind it are kept (`early`), within limits per flow and per relay.
//!   The container has no SACK from us, so without them one loss would cost the rest of its flight, a segment
//!   per round trip or timeout. They count as received once the host socket has taken them; a container whose
//!   early segments find no room sends them again.
//!
//! So sequence numbers mirror byte counts of the two queues, and a flow costs some hundred bytes whatever is
//! in flight in order.
//!
//! # States
//!
//! | state | entered by | left by |
//! | --- | --- | --- |
//! | connecting | [`Connection::new`] with the container's SYN | connected, connect error, RST or FIN or another SYN of the container, timeout |
//! | SYN+ACK sent | [`Connection::handle_connected`] | the container's ACK, its RST, retransmissions used up |
//! | SYN sent | [`Connection::inbound`] for a client of a published port | the container's SYN+ACK, its RST, retransmissions used up, the client's reset |
//! | established, with a FIN sent or received or neither | that ACK or SYN+ACK | both FINs acknowledged, a reset on either side, timeouts |
//! | over ([`Connection::end`]) | any of those | never |
//!
//! # Order of calls
//!
//! `handle_*` in any order, with what happened; [`Connection::flush`] when a batch of segments has been
//! handled; [`Connection::handle_timeout`] at [`Connection::poll_timeout`], early or twice does no harm. After
//! each call, [`Connection::end`] says whether the flow is over, [`Connection::wants_turn`] whether the call
//! stopped at its budget and wants [`Connection::handle_readable`] again.

mod accept;
mod early;
mod initiate;
mod io;
mod open;
mod options;
mod receive;
mod timers;
mod transmit;

use std::time::{Duration, Instant};

use vswitch_wire::{TcpFlags, TcpSegment};

use crate::seq::SeqNum;

use early::Early;
pub use early::EarlyBudget;
pub use io::{FlowIo, Outgoing, Room, SynOptions};
use options::Offer;

/// The relay's half of a container's TCP connection.
#[derive(Debug)]
pub struct Connection {
    settings: Settings,
    state: State,
    end: Option<End>,

    /// First byte that the container has not acknowledged; the first in the host socket's receive queue.
    una: SeqNum,
    /// Next to send. A rewind takes it back to `una`.
    nxt: SeqNum,
    /// Behind the last that was ever sent.
    high: SeqNum,
    /// The container's window in bytes, and the largest that it had.
    window: u32,
    max_window: u32,
    /// Sequence and acknowledgment number of the segment that set `window` (SND.WL1 and SND.WL2).
    window_seq: SeqNum,
    window_ack: SeqNum,
    /// Most payload of one segment to the container.
    mss: u16,
    /// The container's window scale, and ours.
    scale: u8,
    own_scale: Option<u8>,
    /// Our FIN, and where the host's stream ended once that is known.
    fin: Fin,
    fin_at: Option<SeqNum>,
    /// Whether our FIN went out before the container's came.
    closed_first: bool,
    /// The last peek found nothing, and nothing has been heard of the host socket since.
    drained: bool,
    /// While a loss is repaired: what had been sent when it was noticed.
    recovery: Option<SeqNum>,
    duplicates: u8,
    /// The retransmission timer before its doublings, and how many there were.
    first_timeout: Duration,
    backoff: u8,
    /// Retransmissions since the container was last heard.
    unanswered: u8,

    /// Next expected of the container: everything before it is in the host socket's send queue.
    rcv_nxt: SeqNum,
    /// The last acknowledgment that was sent.
    acked: SeqNum,
    /// Behind the last byte that the container may send.
    edge: SeqNum,
    /// The window when the host socket was last asked how much it can take.
    offered: u32,
    /// How often the window may be renewed until it is asked again.
    renewals: u8,
    /// The container's first sequence number.
    irs: SeqNum,
    /// Whether the container's FIN has been accepted.
    fin_received: bool,
    /// What came before something that is missing (R-RX-2).
    early: Option<Box<Early>>,
    ack: AckDue,
    /// The container was told a window of 0 and waits for an update (R-RX-7).
    update_due: bool,
    /// The host socket has not taken data that the container was allowed to send (R-RX-3).
    refused: bool,
    /// The host's peer is far enough away that its own acknowledgments are worth waiting for (R-RX-4).
    remote: bool,
    wants_turn: bool,
    owes_reset: bool,
    /// The container has refused a client, or kept silent for too long.
    is_refused: bool,

    began: Instant,
    /// When a segment of the container was last heard, and when anything last happened.
    heard: Instant,
    active: Instant,
    probed: Instant,
    retransmit_at: Option<Instant>,
    /// Acknowledgment or window to look at again.
    ack_at: Option<Instant>,
    ack_wait: Duration,
    /// How long to wait for the peer's acknowledgment before the next look.
    peer_wait: Duration,
    /// The container's device was full.
    link_at: Option<Instant>,
    link_wait: Duration,
    challenges: Challenges,

    sent: u64,
    received: u64,
}

/// What a connection is set up with.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Our first sequence number, unpredictable (R-OPT-7).
    pub isn: SeqNum,
    /// Largest segment on the container's link: its MTU less 40 (IPv4) or 60 bytes (IPv6).
    pub mss: u16,
    /// What a container that announces no MSS is taken to have: 536 or 1220 (R-OPT-1).
    pub default_mss: u16,
    /// Most payload in one super-frame, in bytes.
    pub largest_payload: u16,
    /// How long the host's connect may take (R-OUT-5).
    pub connect_timeout: Duration,
    /// How long nothing may happen (R-TM-1).
    pub idle_timeout: Duration,
}

/// How a flow ended; says what becomes of its host socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both streams ended; close the host socket.
    Closed {
        /// Whether we closed first, and the container may repeat its FIN (R-CL-4).
        time_wait: bool,
    },
    /// The container has begun another connection from the same port; reset the host socket, then handle
    /// that SYN as a new flow's.
    Replaced,
    /// Reset the host socket.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    SynAckSent,
    SynSent,
    Established,
}

/// Our FIN to the container. A rewind takes it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fin {
    Unsent,
    Sent,
    Acked,
}

/// An acknowledgment that the container is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AckDue {
    No,
    /// With the next segment, at the latest at the end of the batch.
    Batch,
}

impl Connection {
    /// Begins with the container's SYN. The caller begins the host's connect; nothing is sent until
    /// [`handle_connected`](Self::handle_connected) or [`handle_connect_error`](Self::handle_connect_error)
    /// (R-OUT-1).
    pub fn new(now: Instant, syn: &TcpSegment<'_>, settings: Settings) -> Self {
        let offer = Offer::read(syn, &settings);
        let mut connection = Self::unopened(now, settings, State::Connecting);
        connection.irs = SeqNum(syn.header().sequence());
        // Data in a SYN is not accepted (R-OUT-10).
        connection.expect(connection.irs + 1);
        connection.take_first_window(syn);
        connection.mss = offer.mss;
        connection.scale = offer.window_scale.unwrap_or(0);
        connection.own_scale = offer.window_scale.map(|_| WINDOW_SCALE);
        connection
    }

    /// A connection of which nothing is known but our own first sequence number.
    fn unopened(now: Instant, settings: Settings, state: State) -> Self {
        let (isn, irs) = (settings.isn, SeqNum(0));
        Self {
            settings,
            state,
            end: None,
            una: isn,
            nxt: isn,
            high: isn,
            window: 0,
            max_window: 0,
            window_seq: irs,
            window_ack: isn,
            mss: settings.default_mss.min(settings.mss),
            scale: 0,
            own_scale: None,
            fin: Fin::Unsent,
            fin_at: None,
            closed_first: false,
            drained: false,
            recovery: None,
            duplicates: 0,
            first_timeout: timers::FIRST_TIMEOUT,
            backoff: 0,
            unanswered: 0,
            rcv_nxt: irs,
            acked: irs,
            edge: irs,
            offered: 0,
            renewals: 0,
            irs,
            fin_received: false,
            early: None,
            ack: AckDue::No,
            update_due: false,
            refused: false,
            remote: false,
            wants_turn: false,
            owes_reset: false,
            is_refused: false,
            began: now,
            heard: now,
            active: now,
            probed: now,
            retransmit_at: None,
            ack_at: None,
            ack_wait: Duration::ZERO,
            peer_wait: Duration::ZERO,
            link_at: None,
            link_wait: Duration::ZERO,
            challenges: Challenges::default(),
            sent: 0,
            received: 0,
        }
    }

    /// The container's stream begins at `rcv_nxt`; what it may send stays as much as it was.
    fn expect(&mut self, rcv_nxt: SeqNum) {
        self.edge = rcv_nxt + (self.edge - self.rcv_nxt);
        (self.rcv_nxt, self.acked) = (rcv_nxt, rcv_nxt);
    }

    /// The window of a SYN, which is never scaled (RFC 7323 §2.2).
    fn take_first_window(&mut self, syn: &TcpSegment<'_>) {
        let header = syn.header();
        self.window = u32::from(header.window());
        self.max_window = self.window;
        self.window_seq = SeqNum(header.sequence());
    }

    /// Takes a segment of the container, whose checksum is right.
    pub fn handle_segment(&mut self, now: Instant, segment: &TcpSegment<'_>, io: &mut impl FlowIo) {
        if self.end.is_some() {
            return;
        }
        self.heard = now;
        self.unanswered = 0;
        let before = (self.state, self.una, self.rcv_nxt);
        match self.state {
            State::Connecting => self.handle_while_connecting(segment),
            State::SynAckSent => self.handle_while_opening(now, segment, io),
            State::SynSent => self.handle_while_initiating(now, segment, io),
            State::Established => self.handle_while_established(now, segment, io),
        }
        // R-TM-1: an answer to our own keep-alive is none of the flow's doing.
        if before != (self.state, self.una, self.rcv_nxt) {
            self.active = now;
        }
    }

    /// The host socket may have something to read: data, the end of the stream, or an error.
    pub fn handle_readable(&mut self, now: Instant, io: &mut impl FlowIo) {
        self.drained = false;
        if self.end.is_none() && self.state == State::Established {
            self.transmit(now, io);
        }
    }

    /// The host socket may have room to write.
    pub fn handle_writable(&mut self, now: Instant, io: &mut impl FlowIo) {
        if self.end.is_none() && self.state == State::Established {
            self.update_window(now, io);
        }
    }

    /// The host socket has failed (`SO_ERROR`): its peer has reset the connection or is gone (R-TX-11).
    pub fn handle_host_error(&mut self, io: &mut impl FlowIo) {
        if self.end.is_none() {
            self.abort(io);
        }
    }

    /// Ends the flow for whatever reason: resets the container's connection; the caller resets the host socket.
    pub fn abort(&mut self, io: &mut impl FlowIo) {
        if self.end.replace(End::Reset).is_some() || self.state == State::Connecting {
            return;
        }
        let flags = match self.state {
            // Nothing of the container's has come that could be acknowledged.
            State::SynSent => TcpFlags::RST,
            _ => TcpFlags::RST | TcpFlags::ACK,
        };
        // The exact next number, since the container ignores any other (RFC 5961 §3.2).
        self.owes_reset = self.emit(io, flags, self.high) == crate::Delivery::Full;
    }

    /// Whether the container's device was too full for the reset at the flow's end, which it still has to get
    /// with the numbers of [`sequence`](Self::sequence).
    pub fn owes_reset(&self) -> bool {
        self.owes_reset
    }

    /// Whether the flow is over, and how.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Whether the last call stopped at its budget while the host socket has more to read.
    pub fn wants_turn(&self) -> bool {
        self.wants_turn && self.end.is_none()
    }

    /// Whether an acknowledgment waits for [`flush`](Self::flush).
    pub fn wants_flush(&self) -> bool {
        self.ack != AckDue::No && self.link_at.is_none() && self.end.is_none()
    }

    /// Whether the host's connect is pending.
    pub fn is_connecting(&self) -> bool {
        self.state == State::Connecting
    }

    /// Whether a client's connection is over because the container has refused it, or kept silent for too long.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Whether a client's connection waits for the container's answer.
    pub fn is_initiating(&self) -> bool {
        self.state == State::SynSent
    }

    /// What the container's connection is at, for [`TIME_WAIT`](End::Closed): the sequence numbers that we
    /// would send and expect next.
    pub fn sequence(&self) -> (SeqNum, SeqNum) {
        (self.high, self.rcv_nxt)
    }

    /// The container's first sequence number.
    pub fn initial_sequence(&self) -> SeqNum {
        self.irs
    }

    /// State in the words of `conntrack`.
    pub fn state_name(&self) -> &'static str {
        match (self.state, self.fin, self.fin_received) {
            (State::Connecting | State::SynSent, ..) => "SYN_SENT",
            (State::SynAckSent, ..) => "SYN_RECV",
            (State::Established, Fin::Unsent, false) => "ESTABLISHED",
            (State::Established, Fin::Unsent, true) => "CLOSE_WAIT",
            (State::Established, _, false) => "FIN_WAIT",
            (State::Established, _, true) => "LAST_ACK",
        }
    }

    /// Payload bytes that the host socket has taken, and that the container has acknowledged.
    pub fn bytes(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// When anything last happened.
    pub fn active(&self) -> Instant {
        self.active
    }

    /// Sends a segment without payload.
    fn emit(&mut self, io: &mut impl FlowIo, flags: TcpFlags, seq: SeqNum) -> crate::Delivery {
        let window = if flags.contains(TcpFlags::RST) {
            0
        } else {
            self.window_field()
        };
        let delivery = io.emit(&Outgoing {
            seq,
            ack: self.acked,
            flags,
            window,
            payload_len: 0,
            mss: self.mss,
            syn_options: None,
        });
        self.ack = AckDue::No;
        delivery
    }

    /// Ends the flow once both streams have ended and the container knows.
    fn finish_if_done(&mut self) {
        if self.end.is_none() && self.fin == Fin::Acked && self.fin_received {
            self.end = Some(End::Closed {
                time_wait: self.closed_first,
            });
        }
    }
}

/// Our window scale: 65 535 · 2^8 is 16 MiB, the most that a peek has to skip (R-OPT-4).
const WINDOW_SCALE: u8 = 8;

/// Limits challenge acknowledgments: 10 in 5 s (R-RX-10).
#[derive(Debug, Clone, Copy, Default)]
struct Challenges {
    since: Option<Instant>,
    count: u8,
}

impl Challenges {
    fn allow(&mut self, now: Instant) -> bool {
        let fresh = self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= CHALLENGE_PERIOD);
        if fresh {
            *self = Self {
                since: Some(now),
                count: 0,
            };
        }
        self.count = self.count.saturating_add(1);
        self.count <= CHALLENGES
    }
}

const CHALLENGES: u8 = 10;
const CHALLENGE_PERIOD: Duration = Duration::from_secs(5);
