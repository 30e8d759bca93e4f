//! From the container to the host (R-RX), and what its acknowledgments mean (R-TX-3, 6, 7).

use std::time::{Duration, Instant};

use vswitch_wire::{TcpFlags, TcpSegment};

use super::{AckDue, Connection, End, Fin, FlowIo};
use crate::{Delivery, seq::SeqNum};

impl Connection {
    /// Sends what acknowledgment is due at the end of a batch.
    pub fn flush(&mut self, now: Instant, io: &mut impl FlowIo) {
        // What a full device did not take goes out at `link_at`, whether it says something new or not.
        if self.end.is_some() || self.ack == AckDue::No || self.link_at.is_some() {
            return;
        }
        let before = (self.acked, self.edge);
        self.renew(now, io);
        // While the peer's acknowledgment is awaited there may be nothing new to say, and saying it again would
        // look like a loss.
        match before == (self.acked, self.edge) {
            true => self.ack = AckDue::No,
            false => self.repeat_ack(now, io),
        }
    }

    pub(super) fn handle_while_established(
        &mut self,
        now: Instant,
        segment: &TcpSegment<'_>,
        io: &mut impl FlowIo,
    ) {
        let header = segment.header();
        let (seq, flags) = (SeqNum(header.sequence()), header.flags());
        if flags.contains(TcpFlags::RST) {
            return self.handle_reset(now, seq, io);
        }
        if flags.contains(TcpFlags::SYN) {
            // RFC 5961 §4.2: "TCP MUST send an ACK (also referred to as challenge ACK) to the remote peer".
            return self.challenge(now, io);
        }
        if !flags.contains(TcpFlags::ACK) {
            return;
        }
        let ack = SeqNum(header.acknowledgment());
        if ack.lt(self.una - self.max_window) || self.high.lt(ack) {
            // RFC 5961 §5.2: outside ((SND.UNA - MAX.SND.WND) =< SEG.ACK =< SND.NXT).
            return self.challenge(now, io);
        }
        let (len, fin) = (segment.payload().len() as u32, flags.contains(TcpFlags::FIN));
        let end = seq + len + u32::from(fin);
        let word = Word {
            seq,
            ack,
            window: u32::from(header.window()) << self.scale,
        };
        if seq + 1 == self.rcv_nxt && len <= 1 && !fin {
            // R-RX-9: a keep-alive or the probe of a closed window. Its number is old, its window is not, unless
            // it was overtaken.
            if self.una.le(ack) {
                self.set_window(word);
            }
            self.handle_ack(now, ack, io);
            io.keep_alive();
            self.acknowledge(now, io);
        } else if end.lt(self.acked) || (seq != end && end.le(self.rcv_nxt)) || self.edge.lt(seq) {
            // RFC 9293 §3.10.7.4: "If an incoming segment is not acceptable, an acknowledgment should be sent
            // in reply […] After sending the acknowledgment, drop the unacceptable segment and return."
            return self.acknowledge(now, io);
        } else {
            let is_duplicate = self.is_duplicate(&word, seq == end);
            self.take_window(now, word);
            self.handle_ack(now, ack, io);
            if is_duplicate {
                self.handle_duplicate(now, io);
            }
            if seq != end && self.end.is_none() {
                self.handle_payload(now, segment, io);
            }
        }
        if self.end.is_none() {
            self.transmit(now, io);
        }
        self.finish_if_done();
    }

    /// R-RX-10, RFC 5961 §3.2: only the exact sequence number resets; any other in the window is challenged.
    pub(super) fn handle_reset(&mut self, now: Instant, seq: SeqNum, io: &mut impl FlowIo) {
        // What the container knows of us is what we have acknowledged.
        if seq == self.rcv_nxt || seq == self.acked {
            self.end = Some(End::Reset);
        } else if self.rcv_nxt.lt(seq) && seq.le(self.edge) {
            // A container that has used up its window resets at the very edge.
            self.challenge(now, io);
        }
    }

    fn challenge(&mut self, now: Instant, io: &mut impl FlowIo) {
        if self.challenges.allow(now) && io.allow_challenge() {
            self.acknowledge(now, io);
        }
    }

    /// Whether the segment, if it carries nothing, only repeats what was said before (RFC 5681 §2).
    fn is_duplicate(&self, word: &Word, is_empty: bool) -> bool {
        is_empty
            && word.ack == self.una
            && word.window.min(LARGEST_WINDOW) == self.window
            && self.una.lt(self.high)
    }

    /// RFC 9293 §3.10.7.4: "If (SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK)), set SND.WND".
    fn take_window(&mut self, now: Instant, word: Word) {
        // A new acknowledgment is news whatever its sequence number (as in Linux's `tcp_may_update_window`):
        // the window before it would reach beyond what was ever offered.
        let is_news = self.una.lt(word.ack)
            || (self.una == word.ack
                && (self.window_seq.lt(word.seq)
                    || (self.window_seq == word.seq && self.window_ack.le(word.ack))));
        if !is_news {
            return;
        }
        let was_open = self.window > 0;
        self.set_window(word);
        if word.window > 0 && !was_open {
            // What was put off while the window was closed is not to wait for the next probe.
            self.backoff = 0;
            self.retransmit_at = None;
        }
        if word.window == 0 && was_open && word.ack.lt(self.high) {
            // R-TX-7: what is in flight may have been dropped; from here on only probes go out.
            self.rewind(word.ack);
            self.retransmit_at = Some(now + self.retransmit_after());
        }
    }

    fn set_window(&mut self, word: Word) {
        self.window_seq = word.seq;
        self.window_ack = word.ack;
        // A flow has no more in flight than a peek may have to skip (R-OPT-4).
        self.window = word.window.min(LARGEST_WINDOW);
        self.max_window = self.max_window.max(self.window);
    }

    /// R-TX-3: an acknowledgment removes bytes from the host's queue before it counts.
    fn handle_ack(&mut self, now: Instant, ack: SeqNum, io: &mut impl FlowIo) {
        if !self.una.lt(ack) {
            return;
        }
        let fin_acked = self.fin_at.is_some_and(|at| at.lt(ack));
        let len = (ack - self.una) - u32::from(fin_acked);
        if len > 0 && io.discard(len).is_err() {
            return;
        }
        self.received += u64::from(len);
        self.una = ack;
        self.nxt = self.nxt.max(ack);
        self.duplicates = 0;
        self.backoff = 0;
        self.first_timeout = super::timers::FIRST_TIMEOUT;
        if fin_acked {
            self.fin = Fin::Acked;
        }
        let in_flight = self.una.lt(self.high);
        self.retransmit_at = in_flight.then(|| now + self.retransmit_after());
        match self.recovery {
            // RFC 6582 §3.2: a partial acknowledgment names the next hole.
            Some(recover) if self.una.lt(recover) => self.retransmit_first(now, io),
            _ => self.recovery = None,
        }
    }

    fn handle_duplicate(&mut self, now: Instant, io: &mut impl FlowIo) {
        self.duplicates = self.duplicates.saturating_add(1);
        // R-TX-6: at the third by RFC 5681 §3.2, once per loss.
        if self.duplicates == DUPLICATES && self.recovery.is_none() {
            self.recovery = Some(self.high);
            self.retransmit_first(now, io);
        }
    }

    /// Sends an acknowledgment with a window of now.
    pub(super) fn acknowledge(&mut self, now: Instant, io: &mut impl FlowIo) {
        self.refresh(now, io);
        self.repeat_ack(now, io);
    }

    /// Sends the same acknowledgment as last time.
    fn repeat_ack(&mut self, now: Instant, io: &mut impl FlowIo) {
        // Where the container would accept it: not beyond its window, not before what it may have.
        let seq = self.high.min(self.una + self.window);
        match self.emit(io, TcpFlags::ACK, seq) {
            Delivery::Full => {
                self.ack = AckDue::Batch;
                self.retry_link(now);
            }
            Delivery::Sent | Delivery::Refused => self.link_wait = Duration::ZERO,
        }
    }

    /// The host socket has room again, or it is time to look (R-RX-7).
    pub(super) fn update_window(&mut self, now: Instant, io: &mut impl FlowIo) {
        if !self.update_due && !self.refused && self.acked == self.rcv_nxt {
            return;
        }
        let before = (self.acked, self.edge);
        if self.early_waits() && self.accept_early(io).is_err() {
            // R-RX-12
            self.acked = self.rcv_nxt;
            return self.abort(io);
        }
        let opened = self.refresh(now, io) == Opening::Open;
        if opened && std::mem::take(&mut self.refused) {
            // The container has sent data that nobody took. Nothing but duplicates makes it send that again
            // before its timer does: one acknowledgment with the window, and three that repeat it.
            for _ in 0..DUPLICATES {
                self.repeat_ack(now, io);
            }
            self.repeat_ack(now, io);
        } else if before != (self.acked, self.edge) {
            self.repeat_ack(now, io);
        }
        // What was kept may have ended with a FIN.
        self.finish_if_done();
    }

    /// As [`refresh`](Self::refresh), but asks the host socket only now and then while the container uses little of what
    /// it was offered: small messages need no new window each, and asking takes two system calls.
    pub(super) fn renew(&mut self, now: Instant, io: &mut impl FlowIo) {
        let left = self.edge - self.rcv_nxt;
        let is_settled = !self.remote && !self.update_due && !self.refused && self.early.is_none();
        if !is_settled || self.renewals == 0 || left <= self.offered / 4 * 3 {
            self.refresh(now, io);
            return;
        }
        self.renewals -= 1;
        self.acked = self.rcv_nxt;
        let scale = self.own_scale.unwrap_or(0);
        // The edge as the container sees it never moves back, so rounding moves it forth.
        self.edge = self.acked + (scaled(left, scale) << scale);
    }

    /// Decides what to acknowledge and what window to offer.
    pub(super) fn refresh(&mut self, now: Instant, io: &mut impl FlowIo) -> Opening {
        let room = io.room();
        let acked = self.acked.max(self.acknowledgeable(room.peer_acked));
        if acked != self.acked || acked == self.rcv_nxt {
            self.peer_wait = Duration::ZERO;
        }
        self.acked = acked;
        self.ack_at = None;
        if self.acked != self.rcv_nxt {
            let half = (room.round_trip / 2).clamp(SHORTEST_ACK_WAIT, LONGEST_ACK_WAIT);
            self.peer_wait = self.peer_wait.max(half);
            self.ack_at = Some(now + self.peer_wait);
        }
        // R-RX-5: what the peer will take and what the queue has room for.
        let free = room.free.min(room.peer_window).min(LARGEST_WINDOW);
        let enough = u32::from(self.settings.mss).min((room.free + room.queued) / 2);
        // R-RX-6: no silly windows, but while nothing is queued there is no event to wait for.
        let limit = if free < enough && room.queued > 0 { 0 } else { free };
        // R-RX-8: the right edge never moves back.
        let scale = self.own_scale.unwrap_or(0);
        let wanted = self
            .edge
            .max(self.rcv_nxt + limit.min(u32::from(u16::MAX) << scale));
        self.edge = self.acked + (scaled(wanted - self.acked, scale) << scale);
        self.offered = self.edge - self.rcv_nxt;
        self.renewals = RENEWALS;
        if room.free < room.queued / 2 {
            // The kernel enlarges a send queue only when somebody waits for room in it.
            io.watch_room();
        }
        let waits = self.early_waits();
        if limit >= enough.max(1) {
            self.update_due = waits;
            self.ack_wait = Duration::ZERO;
            return Opening::Open;
        }
        if (self.edge - self.rcv_nxt) < enough.max(1) || self.refused || waits {
            // A timer, since the peer's window gives no event when it opens. To ask for one of the queue would give it
            // at once where that has room, and again in answer to each.
            self.update_due = true;
            self.ack_wait = (self.ack_wait * 2).clamp(FIRST_WINDOW_WAIT, LONGEST_WINDOW_WAIT);
            let at = now + self.ack_wait;
            self.ack_at = Some(self.ack_at.map_or(at, |ack_at| ack_at.min(at)));
        }
        Opening::Closed
    }

    /// R-RX-4: everything that the host took, but for an interactive stream to a remote peer only what that
    /// peer has acknowledged itself.
    fn acknowledgeable(&self, peer_acked: u64) -> SeqNum {
        if !self.remote || self.fin_received {
            return self.rcv_nxt;
        }
        let by_peer = (self.irs + peer_acked as u32).min(self.rcv_nxt);
        match self.rcv_nxt - by_peer {
            ..BULK => by_peer,
            _ => self.rcv_nxt,
        }
    }

    /// The window field of the next segment, which acknowledges `acked`.
    pub(super) fn window_field(&self) -> u16 {
        let scaled = scaled(self.edge - self.acked, self.own_scale.unwrap_or(0));
        u16::try_from(scaled).unwrap_or(u16::MAX)
    }
}

/// What a segment says of the container's window.
#[derive(Debug, Clone, Copy)]
struct Word {
    seq: SeqNum,
    ack: SeqNum,
    window: u32,
}

/// Whether the host socket has room worth telling of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    Closed,
    Open,
}

/// A window in units of its scale. Rounded up, so that it never becomes 0 by rounding (R-RX-6), nor its edge
/// moves back.
fn scaled(window: u32, scale: u8) -> u32 {
    let unit = 1 << scale;
    window.div_ceil(unit).min(u16::MAX.into())
}

/// RFC 5681 §3.2: "the arrival of 3 duplicate ACKs".
const DUPLICATES: u8 = 3;

/// How often a window is renewed without asking: rounding adds 255 bytes at most each time, which is well within what
/// the host socket takes beyond its room.
const RENEWALS: u8 = 15;

/// Largest window (R-OPT-4): what a peek may have to skip.
const LARGEST_WINDOW: u32 = 16 << 20;

/// With so much unacknowledged a stream is bulk, and its container needs to go on (R-RX-4).
const BULK: u32 = 64 << 10;

/// R-RX-4: re-check every half round trip, between 100 µs and 3.3 s.
const SHORTEST_ACK_WAIT: Duration = Duration::from_micros(100);
pub(super) const LONGEST_ACK_WAIT: Duration = Duration::from_millis(3300);

/// How often a closed window is looked at, so that an update comes within 200 ms (R-RX-7).
const FIRST_WINDOW_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WINDOW_WAIT: Duration = Duration::from_millis(100);
