//! From a client of a published port to an established connection with the container (R-IN).

use std::time::Instant;

use vswitch_wire::{TcpFlags, TcpSegment};

use super::{Connection, End, FlowIo, Outgoing, Settings, State, SynOptions, WINDOW_SCALE, options::Offer};
use crate::{Delivery, seq::SeqNum};

impl Connection {
    /// A connection to the container for a client that the host has accepted. [`initiate`](Self::initiate) begins it.
    pub fn inbound(now: Instant, settings: Settings) -> Self {
        Self {
            own_scale: Some(WINDOW_SCALE),
            ..Self::unopened(now, settings, State::SynSent)
        }
    }

    /// Sends the first SYN of an [`inbound`](Self::inbound) connection. What the client sends until the container has
    /// answered stays in the host socket (R-IN-4).
    pub fn initiate(&mut self, now: Instant, io: &mut impl FlowIo) {
        if self.state != State::SynSent || self.nxt != self.una {
            return;
        }
        let room = io.room();
        self.remote = room.is_remote();
        self.edge = self.rcv_nxt + room.free.min(u32::from(u16::MAX));
        self.nxt = self.una + 1;
        self.high = self.nxt;
        self.send_syn(now, io);
    }

    pub(super) fn handle_while_initiating(
        &mut self,
        now: Instant,
        segment: &TcpSegment<'_>,
        io: &mut impl FlowIo,
    ) {
        let header = segment.header();
        let (flags, ack) = (header.flags(), SeqNum(header.acknowledgment()));
        let is_ours = flags.contains(TcpFlags::ACK) && ack == self.nxt;
        if flags.contains(TcpFlags::RST) {
            // RFC 9293 §3.10.7.3: "If the RST bit is set […] If the ACK was acceptable, then signal to the user
            // 'error: connection reset'". The client gets a reset, too (R-IN-2).
            if is_ours {
                self.end = Some(End::Reset);
                self.is_refused = true;
            }
        } else if flags.contains(TcpFlags::ACK) && !is_ours {
            // The container still has a connection of these addresses and ports. RFC 9293 §3.10.7.3: "If SEG.ACK
            // =< ISS or SEG.ACK > SND.NXT, send a reset […] <SEQ=SEG.ACK><CTL=RST>"; the next SYN finds none.
            self.emit(io, TcpFlags::RST, ack);
        } else if flags.contains(TcpFlags::SYN) && is_ours {
            let offer = Offer::read(segment, &self.settings);
            self.irs = SeqNum(header.sequence());
            self.expect(self.irs + 1);
            self.take_first_window(segment);
            self.window_ack = ack;
            self.mss = offer.mss;
            // RFC 7323 §2.2: scaling is on only if both SYNs had it.
            self.scale = offer.window_scale.unwrap_or(0);
            self.own_scale = offer.window_scale.map(|_| WINDOW_SCALE);
            self.establish(ack);
            // R-IN-3: at once, before data and without any: a server that speaks first waits for it.
            self.acknowledge(now, io);
            self.transmit(now, io);
        }
        // A SYN without ACK is the container's own connect to the client; its stack answers our SYN all the same
        // (RFC 9293 §3.5, figure 8).
    }

    /// Sends the SYN for the first time or again, and sets the timer for the next.
    pub(super) fn send_syn(&mut self, now: Instant, io: &mut impl FlowIo) {
        let window = self.edge - self.rcv_nxt;
        let delivery = io.emit(&Outgoing {
            seq: self.settings.isn,
            ack: SeqNum(0),
            flags: TcpFlags::SYN,
            window: u16::try_from(window).unwrap_or(u16::MAX),
            payload_len: 0,
            mss: self.mss,
            syn_options: Some(SynOptions {
                mss: self.settings.mss,
                window_scale: self.own_scale,
            }),
        });
        self.retransmit_at = Some(match delivery {
            Delivery::Full => {
                self.retry_link(now);
                self.link_at
                    .take()
                    .unwrap_or(now + super::timers::FIRST_LINK_WAIT)
            }
            Delivery::Sent | Delivery::Refused => {
                let after = self.retransmit_after();
                self.backoff += 1;
                now + after
            }
        });
    }
}
