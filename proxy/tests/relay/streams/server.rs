//! The host socket and the server behind it. Streams are known by their offsets, so nothing is stored.

use std::{io, time::Duration};

use vswitch_proxy::tcp::Room;

use super::{
    random::Random,
    script::{Closing, Pace},
};
use crate::segment::pattern;

pub(super) struct Server {
    pace: Pace,
    closing: Closing,
    total: usize,
    /// Bytes that the server has sent, those that left the receive queue, and the queue's length.
    written: usize,
    discarded: usize,
    receive_queue: usize,
    /// Whether the server has ended its stream.
    ended: bool,
    /// Bytes that the socket took, those that the server's kernel has acknowledged, those that it has read.
    pub(super) taken: usize,
    acknowledged: usize,
    read: usize,
    send_queue: usize,
    /// The receive queue of the server's own kernel.
    window: usize,
    round_trip: Duration,
    pub(super) shut: bool,
    watched: bool,
    pub(super) failed: bool,
    /// When the kernel or the server has its next turn, and when the server has.
    pub(super) wakes: Duration,
    acts: Duration,
    pub(super) calls: usize,
}

/// What the socket's owner is told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Events {
    pub(super) readable: bool,
    pub(super) writable: bool,
}

impl Server {
    pub(super) fn new(random: &mut Random, total: usize, closing: Closing) -> Self {
        Self {
            pace: Pace::new(random),
            closing,
            total,
            written: 0,
            discarded: 0,
            receive_queue: random.pick(&[3000, 65_536, 1 << 20]),
            ended: false,
            taken: 0,
            acknowledged: 0,
            read: 0,
            send_queue: random.pick(&[4608, 46_080, 300_000]),
            window: random.pick(&[2000, 65_536, 1 << 20]),
            round_trip: Duration::from_micros(random.pick(&[50, 1500, 30_000])),
            shut: false,
            watched: false,
            failed: false,
            wakes: Duration::ZERO,
            acts: Duration::ZERO,
            calls: 0,
        }
    }

    /// The turn of the server's kernel, which acknowledges a round trip later, and of the server at its pace.
    pub(super) fn act(&mut self, now: Duration, random: &mut Random) -> Events {
        let mut events = Events::default();
        if self.acts <= now {
            let before = (self.written, self.read);
            self.serve(random, &mut events);
            self.acts = now + self.pace.pause(random, before != (self.written, self.read));
        }
        let window = self.window - (self.acknowledged - self.read);
        self.acknowledged += (self.taken - self.acknowledged).min(window);
        if self.watched && (self.taken - self.acknowledged) <= self.send_queue / 3 * 2 {
            self.watched = false;
            events.writable = true;
        }
        // Edge-triggered sockets tell more than was asked for.
        if random.happens(20) {
            events = Events {
                readable: true,
                writable: true,
            };
        }
        self.wakes = self.acts.min(now + self.round_trip.max(Duration::from_millis(1)));
        events
    }

    fn serve(&mut self, random: &mut Random, events: &mut Events) {
        if self.written < self.total {
            let room = self.receive_queue - (self.written - self.discarded);
            let amount = self.pace.amount(random);
            let len = amount.min(self.total - self.written).min(room);
            self.written += len;
            events.readable |= len > 0;
        }
        self.read += self.pace.amount(random).min(self.acknowledged - self.read);
        let peer_ended = self.shut && self.read == self.taken;
        let may_end = self.closing == Closing::Early || peer_ended;
        if self.written == self.total && may_end && !self.ended {
            self.ended = true;
            events.readable = true;
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.shut && self.read == self.taken && self.ended && self.discarded == self.total
    }

    pub(super) fn send(&mut self, payload: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.failed {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        assert!(!self.shut && !payload.is_empty());
        let len = payload.len().min(self.free());
        if len < payload.len() {
            self.watched = true;
        }
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        assert!(
            payload[..len] == pattern(self.taken, len),
            "other bytes than the container's, from {}",
            self.taken
        );
        self.taken += len;
        Ok(len)
    }

    pub(super) fn room(&mut self) -> Room {
        self.calls += 1;
        Room {
            free: self.free() as u32,
            queued: (self.taken - self.acknowledged) as u32,
            peer_window: (self.window - (self.acknowledged - self.read)) as u32,
            peer_acked: self.acknowledged as u64 + 1,
            round_trip: self.round_trip,
        }
    }

    pub(super) fn watch(&mut self) {
        self.watched = true;
    }

    pub(super) fn peek(&mut self, offset: usize, into: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        let from = self.discarded + offset;
        if from < self.written {
            let len = into.len().min(self.written - from);
            into[..len].copy_from_slice(&pattern(from, len));
            return Ok(len);
        }
        match (self.failed, self.ended) {
            (true, _) => Err(io::ErrorKind::ConnectionReset.into()),
            (_, true) => Ok(0),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn discard(&mut self, len: usize) {
        self.discarded += len;
        assert!(self.discarded <= self.written);
    }

    fn free(&self) -> usize {
        self.send_queue.saturating_sub(self.taken - self.acknowledged)
    }
}
