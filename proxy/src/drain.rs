//! Taking what a datagram socket has: the errors that were queued, then the datagrams.

use std::{io, os::fd::AsFd, time::Instant};

use crate::{
    Link, Scratch,
    datagram::{HEADROOM, Inbound},
    datagram_socket::{DatagramSocket, Progress},
    errors,
    sys::{self, QueuedError, Received, Slots},
};

/// A flow whose socket is drained.
pub(crate) trait Drain {
    /// Batches of datagrams that the flow may take before the others' turn.
    const BATCHES: usize;

    /// The socket; another one may take its place while an error is handled.
    fn socket(&self) -> &DatagramSocket;

    /// Takes datagrams, whose payloads are in the [`SLOTS`] of `scratch`.
    fn handle_received<L: Link>(
        &mut self,
        now: Instant,
        received: &[Received],
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    );

    /// Takes an entry of the error queue, whose payload is at the start of the datagrams of `scratch`.
    fn handle_error<L: Link>(
        &mut self,
        error: &QueuedError,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    );

    /// Takes what the socket has, as far as the flow may. Afterwards the socket is drained, or this is to be
    /// called again without waiting for it.
    fn drain<L: Link>(
        &mut self,
        now: Instant,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) -> Progress {
        let mut progress = self.drain_errors(inbound, scratch).1;
        let mut failures = 0;
        for _ in 0..Self::BATCHES {
            let mut received = [Received::default(); sys::RECEIVE_MAX];
            let socket = self.socket().as_fd();
            match sys::receive_many(socket, &mut scratch.datagrams, SLOTS, &mut received) {
                Ok(count) => {
                    self.handle_received(now, &received[..count], inbound, scratch);
                    if count < scratch.datagrams.len() / SLOTS.stride {
                        return progress;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return progress,
                Err(_) => {
                    // An ICMP error's number is reported once, by whichever call comes first (R-UDP-5). What is
                    // reported twice and not queued will be again: the host is short of memory. The next
                    // datagram makes the socket ready anew.
                    let (count, more) = self.drain_errors(inbound, scratch);
                    progress = more;
                    failures += usize::from(count == 0);
                    if failures > 1 {
                        return Progress::Drained;
                    }
                }
            }
        }
        Progress::More
    }

    /// Takes a batch of the error queue; gives how many entries that were.
    fn drain_errors<L: Link>(
        &mut self,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) -> (usize, Progress) {
        for count in 0..ERRORS_AT_ONCE {
            let Some(error) = errors::next(self.socket().as_fd(), &mut scratch.datagrams) else {
                return (count, Progress::Drained);
            };
            self.handle_error(&error, inbound, scratch);
        }
        (ERRORS_AT_ONCE, Progress::More)
    }

    /// Takes the whole error queue, which holds no more than the socket's receive buffer, so that the next call
    /// does not report an earlier packet's error (R-UDP-5).
    fn drain_all_errors<L: Link>(&mut self, inbound: &mut Inbound<'_, L>, scratch: &mut Scratch) {
        for _ in 0..ERROR_BATCHES {
            if self.drain_errors(inbound, scratch).1 == Progress::Drained {
                return;
            }
        }
    }
}

/// Payloads are received where frames can be built around them.
pub(crate) const SLOTS: Slots = Slots {
    stride: HEADROOM + Scratch::SLOT_LEN,
    headroom: HEADROOM,
};

/// Entries that are taken off an error queue at once.
pub(crate) const ERRORS_AT_ONCE: usize = 16;
/// Together with [`ERRORS_AT_ONCE`] more entries than the default receive buffer (`rmem_default`, 212 992 bytes)
/// has room for, at the least 768 bytes that each takes of it.
const ERROR_BATCHES: usize = 20;
