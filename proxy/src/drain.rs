//! Taking what a datagram socket has: the errors that were queued, then the datagrams.

use std::{io, os::fd::AsFd, time::Instant};

use crate::{
    Link, Scratch,
    datagram::{HEADROOM, Inbound},
    datagram_socket::{DatagramSocket, Progress},
    errors,
    sys::{self, QueuedError, Received, Slots},
    udp::PAYLOAD_MAX,
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

/// Received datagrams that go to the container as one super-frame, or one that goes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where its payload ends.
    pub(crate) end: usize,
    /// Size of each but the last.
    pub(crate) segment: Option<u16>,
    /// The first datagram behind it.
    pub(crate) next: usize,
}

/// Puts datagrams of equal size that came one by one together, in the slot of the `first`: those right behind it
/// that belong to the same flow.
pub(crate) fn combine(
    datagrams: &mut [u8],
    received: &[Received],
    first: usize,
    belongs: impl Fn(usize) -> bool,
) -> Run {
    let start = first * SLOTS.stride + SLOTS.headroom;
    let Received {
        len: size, segment, ..
    } = received[first];
    let mut run = Run {
        end: start + size,
        segment,
        next: first + 1,
    };
    let may_combine = segment.is_none() && size > 0;
    while may_combine
        && let Some(next) = received.get(run.next)
        && next.segment.is_none()
        && (1..=size).contains(&next.len)
        && run.end - start + next.len <= PAYLOAD_MAX
        && belongs(run.next)
    {
        let place = run.next * SLOTS.stride + SLOTS.headroom;
        datagrams.copy_within(place..place + next.len, run.end);
        run.end += next.len;
        run.segment = u16::try_from(size).ok();
        run.next += 1;
        if next.len < size {
            break;
        }
    }
    run
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
