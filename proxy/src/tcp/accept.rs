//! What of the container's payload the host socket takes (R-RX-1, 2, 3).

use std::{io, time::Instant};

use vswitch_wire::{TcpFlags, TcpSegment};

use super::{AckDue, Connection, FlowIo, early::Early};
use crate::seq::SeqNum;

impl Connection {
    pub(super) fn handle_payload(&mut self, now: Instant, segment: &TcpSegment<'_>, io: &mut impl FlowIo) {
        if self.fin_received {
            // R-CL: text after the container's FIN is nothing that it may send.
            return self.acknowledge(now, io);
        }
        let all = segment.payload();
        let seq = SeqNum(segment.header().sequence());
        let end = seq + all.len() as u32;
        let is_last = segment.header().flags().contains(TcpFlags::FIN);
        if self.rcv_nxt.lt(seq) {
            // R-RX-2 asks for two duplicates. Not more than one: Linux without SACK takes duplicates beyond the
            // segments in flight for reordering (`tcp_check_reno_reordering`) and raises the number of them
            // that it repairs a loss at, up to 300. With two `ss` showed 145 to 154, with one 6 to 65, over a
            // link that lost 1 % and reordered 1 % (`bench soak`, 2000 flows).
            self.keep_early(segment, io);
            return self.acknowledge(now, io);
        }
        let old = (self.rcv_nxt - seq) as usize;
        // R-RX-1: what is left of `rcv_nxt` was taken before; the first copy counts (R-LIM-4). R-RX-8: what is
        // right of the edge was not asked for.
        let new = all.get(old..).unwrap_or_default();
        let allowed = &new[..new.len().min((self.edge - self.rcv_nxt) as usize)];
        let allowed_end = self.rcv_nxt + allowed.len() as u32;
        let fills_gap = self.early.is_some();
        let mut accepted = self.accept(allowed, io);
        if accepted.is_ok() && is_last && self.rcv_nxt == end && !self.fin_received {
            // All before it has been accepted, so it counts.
            accepted = self.end_stream(io);
        }
        if accepted.is_err() {
            // R-RX-12: the host's peer is gone; what was taken stays acknowledged.
            self.acked = self.rcv_nxt;
            return self.abort(io);
        }
        let is_refused = !self.fin_received && self.rcv_nxt.lt(allowed_end);
        if is_refused || self.early_waits() {
            // What was kept goes on by itself once there is room; the rest has to come again.
            self.refused |= is_refused;
            self.update_due = true;
            io.watch_room();
            return self.acknowledge(now, io);
        }
        // RFC 5681 §3.2: "A TCP receiver SHOULD send an immediate ACK when the incoming segment fills in all or
        // part of a gap in the sequence space."
        if fills_gap || self.fin_received || self.rcv_nxt.lt(end) {
            return self.acknowledge(now, io);
        }
        self.ack = AckDue::Batch;
        if self.rcv_nxt - self.acked >= ACK_EVERY {
            self.acknowledge(now, io);
        }
    }

    /// Gives the host socket what has been kept and follows `rcv_nxt`, and ends its stream where the container's
    /// does.
    pub(super) fn accept_early(&mut self, io: &mut impl FlowIo) -> io::Result<()> {
        let Some(mut early) = self.early.take() else {
            return Ok(());
        };
        loop {
            let ready = early.ready(self.rcv_nxt);
            if ready.is_empty() {
                break;
            }
            if self.hand_over(ready, io)? < ready.len() {
                self.early = Some(early);
                return Ok(());
            }
        }
        if early.fin() == Some(self.rcv_nxt) {
            return self.end_stream(io);
        }
        self.early = (!early.is_empty()).then_some(early);
        Ok(())
    }

    /// Whether bytes that have been kept wait for room in the host socket.
    pub(super) fn early_waits(&self) -> bool {
        self.early.as_ref().is_some_and(|early| early.has(self.rcv_nxt))
    }

    /// Gives the host socket payload that begins at `rcv_nxt`, and what has been kept that it leads to. Where both
    /// have a byte, the one that was kept came first.
    fn accept(&mut self, payload: &[u8], io: &mut impl FlowIo) -> io::Result<()> {
        let start = self.rcv_nxt;
        loop {
            let rest = payload.get((self.rcv_nxt - start) as usize..).unwrap_or_default();
            let missing = match &self.early {
                None => rest,
                Some(early) => &rest[..rest.len().min(early.gap(self.rcv_nxt) as usize)],
            };
            if self.hand_over(missing, io)? < missing.len() {
                return Ok(());
            }
            let before = self.rcv_nxt;
            self.accept_early(io)?;
            if self.rcv_nxt == before || self.early_waits() || self.fin_received {
                return Ok(());
            }
        }
    }

    /// Gives payload to the host socket and counts what it took.
    fn hand_over(&mut self, payload: &[u8], io: &mut impl FlowIo) -> io::Result<usize> {
        let taken = match payload.is_empty() {
            true => 0,
            false => match io.send(payload) {
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            },
        };
        self.rcv_nxt += taken as u32;
        self.sent += taken as u64;
        Ok(taken)
    }

    /// The container's stream ends at `rcv_nxt`.
    fn end_stream(&mut self, io: &mut impl FlowIo) -> io::Result<()> {
        self.rcv_nxt += 1;
        self.edge = self.edge.max(self.rcv_nxt);
        self.fin_received = true;
        self.early = None;
        io.shutdown_write()
    }

    /// Keeps a segment that lies behind a gap, as far as it was asked for.
    fn keep_early(&mut self, segment: &TcpSegment<'_>, io: &mut impl FlowIo) {
        let (seq, payload) = (SeqNum(segment.header().sequence()), segment.payload());
        let allowed = &payload[..payload.len().min((self.edge - seq) as usize)];
        let early = self
            .early
            .get_or_insert_with(|| Box::new(Early::new(io.early_budget())));
        early.keep(seq, allowed);
        if segment.header().flags().contains(TcpFlags::FIN) && allowed.len() == payload.len() {
            early.keep_fin(seq + payload.len() as u32);
        }
        if early.is_empty() {
            self.early = None;
        }
    }
}

/// Within a batch, an acknowledgment for so many bytes is not put off: two super-frames.
const ACK_EVERY: u32 = 128 << 10;
