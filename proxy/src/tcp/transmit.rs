//! From the host to the container (R-TX).

use std::{
    io,
    time::{Duration, Instant},
};

use vswitch_wire::TcpFlags;

use super::{AckDue, Connection, Fin, FlowIo, Outgoing, State};
use crate::{Delivery, seq::SeqNum};

impl Connection {
    /// Sends what the host socket has and the container's window allows, within a budget; at the end of the
    /// stream, our FIN.
    pub(super) fn transmit(&mut self, now: Instant, io: &mut impl FlowIo) {
        self.wants_turn = false;
        let may_send = self.state == State::Established && self.fin == Fin::Unsent && self.link_at.is_none();
        if !may_send || (self.drained && self.nxt == self.high) {
            return;
        }
        for _ in 0..BUDGET {
            let flight = self.nxt - self.una;
            let usable = self.window.saturating_sub(flight);
            if usable < u32::from(self.mss).min(self.max_window / 2) && flight > 0 {
                // RFC 9293 §3.8.6.2.1: no silly segments while an acknowledgment is on its way.
                return;
            }
            // With the window closed, one byte shows whether there is something to probe it with.
            match io.peek(flight, self.chunk(usable).max(1)) {
                Ok(0) if flight == 0 => return self.send_fin(now, io),
                // R-TX-10: the end of the stream waits until all before it has been acknowledged.
                Ok(0) => return,
                Ok(_) if usable == 0 => return self.arm(now),
                Ok(len) => match self.emit_payload(now, io, self.nxt, len) {
                    Delivery::Full => return self.retry_link(now),
                    Delivery::Sent | Delivery::Refused => {
                        self.nxt += len as u32;
                        self.high = self.high.max(self.nxt);
                        self.arm(now);
                        if io.is_drained() {
                            return self.drained = true;
                        }
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.drained = true,
                Err(_) => return self.abort(io),
            }
        }
        self.wants_turn = true;
    }

    /// Sends the first unacknowledged segment again. Not more: a full device is known before anything is lost in
    /// it, so a loss is one segment, the container has those behind it, and each that it gets twice it answers
    /// with a duplicate that looks like the next loss.
    pub(super) fn retransmit_first(&mut self, now: Instant, io: &mut impl FlowIo) {
        let data = self.fin_at.unwrap_or(self.high) - self.una;
        let len = usize::from(self.mss).min(data.min(self.window) as usize);
        if len == 0 {
            return;
        }
        if let Ok(len @ 1..) = io.peek(0, len) {
            if self.emit_payload(now, io, self.una, len) == Delivery::Full {
                // The loss is still there, to be noticed again.
                (self.recovery, self.duplicates) = (None, 0);
                return self.retry_link(now);
            }
            self.retransmit_at = Some(now + self.retransmit_after());
        }
    }

    /// Nothing was heard for a whole timeout: begins again at the first unacknowledged byte (R-TX-5).
    pub(super) fn retransmit(&mut self, now: Instant, io: &mut impl FlowIo) {
        if self.window == 0 {
            return self.probe(now, io);
        }
        self.rewind(self.una);
        self.recovery = None;
        self.duplicates = 0;
        match io.peek(0, usize::from(self.mss).min(self.window as usize)) {
            Ok(0) => self.send_fin(now, io),
            Ok(len) => {
                match self.emit_payload(now, io, self.una, len) {
                    Delivery::Full => self.retry_link(now),
                    Delivery::Sent | Delivery::Refused => {
                        self.nxt = self.una + len as u32;
                        self.high = self.high.max(self.nxt);
                    }
                }
                self.retransmit_at = Some(now + self.retransmit_after());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.abort(io),
        }
    }

    /// R-TX-8: one byte into a closed window, for ever while the container answers.
    fn probe(&mut self, now: Instant, io: &mut impl FlowIo) {
        match io.peek(0, 1) {
            Ok(0) => self.send_fin(now, io),
            Ok(_) => {
                if self.emit_payload(now, io, self.una, 1) != Delivery::Full {
                    self.high = self.high.max(self.una + 1);
                }
                self.retransmit_at = Some(now + self.retransmit_after().min(super::timers::LONGEST_PROBE));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.abort(io),
        }
    }

    /// Forgets that anything from `seq` on was sent, our FIN included.
    pub(super) fn rewind(&mut self, seq: SeqNum) {
        if seq.lt(self.nxt) {
            self.nxt = seq.max(self.una);
        }
        if self.fin == Fin::Sent {
            self.fin = Fin::Unsent;
        }
    }

    fn send_fin(&mut self, now: Instant, io: &mut impl FlowIo) {
        self.refresh_if_due(now, io);
        match self.emit(io, TcpFlags::FIN | TcpFlags::ACK, self.una) {
            Delivery::Full => self.retry_link(now),
            Delivery::Sent | Delivery::Refused => {
                if self.fin_at.is_none() {
                    self.fin_at = Some(self.una);
                    self.closed_first = !self.fin_received;
                }
                self.fin = Fin::Sent;
                self.nxt = self.una + 1;
                self.high = self.high.max(self.nxt);
                self.arm(now);
            }
        }
    }

    /// Sends the payload of the last peek.
    fn emit_payload(
        &mut self,
        now: Instant,
        io: &mut impl FlowIo,
        seq: SeqNum,
        payload_len: usize,
    ) -> Delivery {
        self.refresh_if_due(now, io);
        let delivery = io.emit(&Outgoing {
            seq,
            ack: self.acked,
            // R-TX-1: PSH on the last of a batch; a super-frame's segments but the last lose it.
            flags: TcpFlags::ACK | TcpFlags::PSH,
            window: self.window_field(),
            payload_len,
            mss: self.mss,
            syn_options: None,
        });
        if delivery == Delivery::Sent {
            self.link_wait = Duration::ZERO;
            self.ack = AckDue::No;
            self.active = now;
        }
        delivery
    }

    /// A segment that goes out anyway carries the acknowledgment that is due.
    fn refresh_if_due(&mut self, now: Instant, io: &mut impl FlowIo) {
        if self.ack != AckDue::No {
            self.renew(now, io);
        }
    }

    fn arm(&mut self, now: Instant) {
        if self.retransmit_at.is_none() {
            self.retransmit_at = Some(now + self.retransmit_after());
        }
    }

    /// Most payload of one super-frame, at most `usable`: whole segments where there is room for one.
    fn chunk(&self, usable: u32) -> usize {
        let mss = usize::from(self.mss);
        let most = usize::from(self.settings.largest_payload)
            .max(mss)
            .min(usable as usize);
        match most / mss {
            0 => most,
            segments => segments.min(vswitch_wire::MAX_TCP_SEGMENTS) * mss,
        }
    }
}

/// Super-frames that one flow sends in a row, 256 KiB, before the next flow's turn.
const BUDGET: u32 = 4;
