//! When something is to happen by itself (R-TM).

use std::time::{Duration, Instant};

use vswitch_wire::{Refusal, TcpFlags};

use super::{AckDue, Connection, End, FlowIo, State};

impl Connection {
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Instant {
        let idle = self.active + self.settings.idle_timeout;
        if self.state == State::Connecting {
            return self.connect_deadline();
        }
        [
            self.retransmit_at,
            self.ack_at,
            self.link_at,
            self.keep_alive_at(),
        ]
        .into_iter()
        .flatten()
        .fold(idle, Instant::min)
    }

    /// When the flow ends by itself if nothing happens, for listings.
    pub fn expires_at(&self) -> Instant {
        match self.state {
            State::Connecting => self.connect_deadline(),
            _ => self.active + self.settings.idle_timeout,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, io: &mut impl FlowIo) {
        if self.end.is_some() {
            return;
        }
        if self.state == State::Connecting {
            if self.connect_deadline() <= now {
                self.end = Some(End::Reset);
                io.refuse(self.irs, Refusal::HostUnreachable);
            }
            return;
        }
        if self.active + self.settings.idle_timeout <= now {
            return self.abort(io);
        }
        let is_due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if is_due(&mut self.link_at) {
            if self.ack != AckDue::No {
                self.acknowledge(now, io);
            }
            self.transmit(now, io);
        }
        if self.end.is_none() && is_due(&mut self.ack_at) {
            // A peer that acknowledges nothing is looked at ever less often.
            self.peer_wait = (self.peer_wait * 2).min(super::receive::LONGEST_ACK_WAIT);
            self.update_window(now, io);
        }
        if self.end.is_none() && is_due(&mut self.retransmit_at) {
            self.handle_silence(now, io);
        }
        if self.end.is_none() && self.keep_alive_at().is_some_and(|at| at <= now) {
            // R-TM-2: a number that the container has acknowledged makes it say where it is, or that it is
            // not there any more.
            self.probed = now;
            self.emit(io, TcpFlags::ACK, self.una - 1);
        }
    }

    /// The retransmission timer has expired.
    fn handle_silence(&mut self, now: Instant, io: &mut impl FlowIo) {
        match self.state {
            // R-OUT-7, R-IN-2
            State::SynAckSent | State::SynSent
                if self.backoff > SYN_RETRIES || self.began + OPENING <= now =>
            {
                self.is_refused = self.state == State::SynSent;
                return self.abort(io);
            }
            State::SynAckSent => return self.send_syn_ack(now, io),
            State::SynSent => return self.send_syn(now, io),
            State::Connecting | State::Established => {}
        }
        self.unanswered += 1;
        if self.unanswered > RETRIES {
            return self.abort(io);
        }
        self.backoff = self.backoff.saturating_add(1);
        self.retransmit(now, io);
    }

    /// The present length of the retransmission timer.
    pub(super) fn retransmit_after(&self) -> Duration {
        let doubled = self.first_timeout.saturating_mul(1 << self.backoff.min(16));
        doubled.min(LONGEST_TIMEOUT)
    }

    /// The container's device was full: sending goes on after a while.
    pub(super) fn retry_link(&mut self, now: Instant) {
        self.link_wait = (self.link_wait * 2).clamp(FIRST_LINK_WAIT, LONGEST_LINK_WAIT);
        self.link_at = Some(now + self.link_wait);
    }

    fn connect_deadline(&self) -> Instant {
        self.began + self.settings.connect_timeout
    }

    /// None while the retransmission timer runs, which asks the same.
    fn keep_alive_at(&self) -> Option<Instant> {
        (self.state == State::Established && self.retransmit_at.is_none())
            .then(|| self.heard.max(self.probed) + KEEP_ALIVE)
    }
}

/// R-TX-5, RFC 6298 §2.1: "the sender SHOULD set RTO <- 1 second".
pub(super) const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// RFC 6298 §5.7: after a SYN's timeout, "the RTO MUST be re-initialized to 3 seconds when data transmission
/// begins".
pub(super) const FIRST_TIMEOUT_AFTER_SYN_RETRY: Duration = Duration::from_secs(3);
/// `tcp_rto_max_ms` (Documentation/networking/ip-sysctl.rst).
const LONGEST_TIMEOUT: Duration = Duration::from_secs(120);
/// R-TX-8: backoff to 60 s.
pub(super) const LONGEST_PROBE: Duration = Duration::from_secs(60);
/// `tcp_retries2` (Documentation/networking/ip-sysctl.rst).
const RETRIES: u8 = 15;
/// R-OUT-7: 5 to 7 times; R-IN-2: "1, 2, 4 … ≤ 7".
const SYN_RETRIES: u8 = 6;
/// The sum of all intervals between them and the one behind: however long the container's device is full, no
/// handshake takes longer.
const OPENING: Duration = Duration::from_secs(130 + 127);
/// R-TM-2: passt's present interval.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long to leave a full device alone, and at most while it stays full.
pub(super) const FIRST_LINK_WAIT: Duration = Duration::from_millis(1);
const LONGEST_LINK_WAIT: Duration = Duration::from_millis(64);
