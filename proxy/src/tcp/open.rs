//! From the container's SYN to an established connection (R-OUT).

use std::{io, time::Instant};

use vswitch_wire::{Refusal, TcpFlags, TcpSegment};

use super::{Connection, End, FlowIo, Outgoing, State, SynOptions};
use crate::{Delivery, seq::SeqNum};

impl Connection {
    /// The host's connect has succeeded: now the container learns that it is connected (R-OUT-1).
    pub fn handle_connected(&mut self, now: Instant, io: &mut impl FlowIo) {
        if self.end.is_some() || self.state != State::Connecting {
            return;
        }
        self.active = now;
        self.state = State::SynAckSent;
        let room = io.room();
        self.remote = room.is_remote();
        self.edge = self.rcv_nxt + room.free.min(u32::from(u16::MAX));
        self.nxt = self.una + 1;
        self.high = self.nxt;
        self.send_syn_ack(now, io);
    }

    /// The host's connect has failed; the container gets the error that its own connect would have had
    /// (R-OUT-2).
    pub fn handle_connect_error(&mut self, error: &io::Error, io: &mut impl FlowIo) {
        if self.end.is_some() || self.state != State::Connecting {
            return;
        }
        self.end = Some(End::Reset);
        match error.kind() {
            io::ErrorKind::NetworkUnreachable => io.refuse(self.irs, Refusal::NoRoute),
            io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut => {
                io.refuse(self.irs, Refusal::HostUnreachable);
            }
            io::ErrorKind::PermissionDenied => io.refuse(self.irs, Refusal::Prohibited),
            // No free port towards that peer, no memory: the container tries again by itself.
            _ if error
                .raw_os_error()
                .is_some_and(|errno| SHORTAGES.contains(&errno)) => {}
            _ => {
                // R-OUT-2: without ACK the container would ignore it (RFC 9293 §3.10.7.3).
                io.emit(&Outgoing {
                    seq: SeqNum(0),
                    ack: self.rcv_nxt,
                    flags: TcpFlags::RST | TcpFlags::ACK,
                    window: 0,
                    payload_len: 0,
                    mss: self.mss,
                    syn_options: None,
                });
            }
        }
    }

    pub(super) fn handle_while_connecting(&mut self, segment: &TcpSegment<'_>) {
        let header = segment.header();
        let (seq, flags) = (SeqNum(header.sequence()), header.flags());
        let is_ours = seq == self.irs || seq == self.rcv_nxt;
        if flags.contains(TcpFlags::RST) || flags.contains(TcpFlags::FIN) {
            // R-OUT-4: the container has given up.
            if is_ours {
                self.end = Some(End::Reset);
            }
        } else if flags.contains(TcpFlags::SYN) && seq != self.irs {
            // R-OUT-3; the same SYN again only says that the container waits.
            self.end = Some(End::Replaced);
        }
    }

    pub(super) fn handle_while_opening(
        &mut self,
        now: Instant,
        segment: &TcpSegment<'_>,
        io: &mut impl FlowIo,
    ) {
        let header = segment.header();
        let (seq, flags) = (SeqNum(header.sequence()), header.flags());
        if flags.contains(TcpFlags::RST) {
            self.handle_reset(now, seq, io);
        } else if flags.contains(TcpFlags::SYN) {
            if seq == self.irs {
                self.emit_syn_ack(io);
            } else {
                self.end = Some(End::Replaced);
            }
        } else if flags.contains(TcpFlags::ACK) {
            let ack = SeqNum(header.acknowledgment());
            if ack != self.nxt {
                // RFC 9293 §3.10.7.4, SYN-RECEIVED: "form a reset segment <SEQ=SEG.ACK><CTL=RST> and send it".
                self.emit(io, TcpFlags::RST, ack);
                return;
            }
            self.establish(ack);
            self.handle_while_established(now, segment, io);
            if self.end.is_none() {
                self.transmit(now, io);
            }
        }
    }

    /// The container has acknowledged our SYN.
    pub(super) fn establish(&mut self, ack: SeqNum) {
        self.state = State::Established;
        self.una = ack;
        self.retransmit_at = None;
        if self.backoff > 1 {
            self.first_timeout = super::timers::FIRST_TIMEOUT_AFTER_SYN_RETRY;
        }
        self.backoff = 0;
    }

    /// Sends the SYN+ACK for the first time or again, and sets the timer for the next.
    pub(super) fn send_syn_ack(&mut self, now: Instant, io: &mut impl FlowIo) {
        self.retransmit_at = Some(match self.emit_syn_ack(io) {
            Delivery::Full => now + super::timers::FIRST_LINK_WAIT,
            Delivery::Sent | Delivery::Refused => {
                let after = self.retransmit_after();
                self.backoff += 1;
                now + after
            }
        });
    }

    fn emit_syn_ack(&mut self, io: &mut impl FlowIo) -> Delivery {
        // Its window is never scaled (RFC 7323 §2.2).
        let window = self.edge - self.rcv_nxt;
        // R-ECN-1: an offer of ECN is answered without ECE, since we do not pass marks on.
        io.emit(&Outgoing {
            seq: self.settings.isn,
            ack: self.rcv_nxt,
            flags: TcpFlags::SYN | TcpFlags::ACK,
            window: u16::try_from(window).unwrap_or(u16::MAX),
            payload_len: 0,
            mss: self.mss,
            syn_options: Some(SynOptions {
                mss: self.settings.mss,
                window_scale: self.own_scale,
            }),
        })
    }
}

/// What the host is short of, and may have again at the container's next try: ports (`EADDRNOTAVAIL`),
/// descriptors, memory.
const SHORTAGES: [i32; 6] = [
    libc::EADDRNOTAVAIL,
    libc::EAGAIN,
    libc::EMFILE,
    libc::ENFILE,
    libc::ENOBUFS,
    libc::ENOMEM,
];
