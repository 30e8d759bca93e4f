//! What the state machine asks of the world.

use std::{io, sync::Arc, time::Duration};

use vswitch_wire::{Refusal, TcpFlags};

use super::EarlyBudget;
use crate::{Delivery, seq::SeqNum};

/// A flow's host socket and the way to its container, as the state machine uses them. No call waits.
pub trait FlowIo {
    /// Hands payload of the container to the host socket (`sendmsg` with `MSG_DONTWAIT | MSG_NOSIGNAL`); returns
    /// how many bytes it took.
    ///
    /// # Errors
    /// `WouldBlock` when it takes none now; any other error means that the connection is gone.
    fn send(&mut self, payload: &[u8]) -> io::Result<usize>;

    /// What the host socket can take now.
    fn room(&mut self) -> Room;

    /// Asks for a writable event once the host socket has room again.
    fn watch_room(&mut self);

    /// Copies at most `max` bytes of the host socket's receive queue, from `offset` bytes behind its start,
    /// to where [`emit`](Self::emit) expects the payload of the next segment, and leaves them in the queue. 0 at
    /// offset 0 means that the stream has ended; behind it, that it may have.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived there yet; any other error means that the connection is gone.
    fn peek(&mut self, offset: u32, max: usize) -> io::Result<usize>;

    /// Whether the last [`peek`](Self::peek) copied all that had arrived, and the stream goes on: then what comes next
    /// makes an event.
    fn is_drained(&self) -> bool;

    /// Removes `len` bytes, which were peeked before, from the start of the receive queue.
    ///
    /// # Errors
    /// Nothing was removed.
    fn discard(&mut self, len: u32) -> io::Result<()>;

    /// Ends the stream to the host's peer (`SHUT_WR`).
    ///
    /// # Errors
    /// The connection is gone.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Switches the host kernel's keep-alive on (R-RX-9).
    fn keep_alive(&mut self);

    /// Sends a segment to the container. Its payload is what the last [`peek`](Self::peek) copied.
    fn emit(&mut self, segment: &Outgoing) -> Delivery;

    /// Whether one more challenge acknowledgment may be sent, for all flows together (R-RX-10).
    fn allow_challenge(&mut self) -> bool;

    /// Memory for what comes out of order, of all flows together.
    fn early_budget(&self) -> &Arc<EarlyBudget>;

    /// Sends the container an ICMP error about its SYN, whose sequence number is `syn`.
    fn refuse(&mut self, syn: SeqNum, refusal: Refusal);
}

/// What a host socket can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of payload that the send queue has room for.
    pub free: u32,
    /// Bytes in the send queue that the peer has not acknowledged.
    pub queued: u32,
    /// The window that the peer advertises, in bytes.
    pub peer_window: u32,
    /// Bytes of the whole stream that the peer has acknowledged, with the SYN.
    pub peer_acked: u64,
    /// Smoothed round trip to the peer.
    pub round_trip: Duration,
}

impl Room {
    /// Whether the peer is so far away that its acknowledgments tell more than the host's own.
    pub fn is_remote(&self) -> bool {
        self.round_trip >= REMOTE
    }
}

/// From this round trip on a peer is not on the same host or the same switch.
const REMOTE: Duration = Duration::from_millis(1);

/// A segment to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// Sequence number of the first byte, or of SYN or FIN.
    pub seq: SeqNum,
    /// Acknowledgment number; sent if `flags` has ACK.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: TcpFlags,
    /// The window field as it is sent: scaled, but for SYN.
    pub window: u16,
    /// Bytes of payload, from the last peek. More than `mss` makes a super-frame.
    pub payload_len: usize,
    /// Most payload in one segment on the container's side.
    pub mss: u16,
    /// Options, on SYN only.
    pub syn_options: Option<SynOptions>,
}

/// Options of our SYN+ACK. No SACK-permitted and no timestamps: there is no scoreboard (R-OPT-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynOptions {
    /// Largest segment that we take, in bytes.
    pub mss: u16,
    /// Our window scale, if the container offered its own (R-OPT-4).
    pub window_scale: Option<u8>,
}
