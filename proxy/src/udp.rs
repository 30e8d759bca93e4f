//! UDP flows: a container's conversation with one other end, or its DNS queries to the host's resolvers.

mod asking;
mod queries;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

use vswitch_wire::{Refusal, UdpHeader};

use crate::{
    Link, Scratch,
    activity::Activity,
    config::{Source, Timeouts},
    datagram::Inbound,
    datagram_socket::{DatagramSocket, Progress, Service, version_of},
    drain::{Drain, SLOTS},
    errors,
    payload::{Datagram, Headers},
    report::{Quote, QuotedProtocol},
    sys::{self, Origin, QueuedError, Received},
};

use queries::Queries;

/// One UDP flow: a host socket that is connected to the flow's other end.
///
/// Nothing is kept but what the kernel's socket keeps, and queries that wait for an answer. A datagram for which
/// there is no room on its way is dropped and counted, in both directions; a flow never blocks, and no failure
/// ends it.
///
/// # States
/// `UNREPLIED` until the first datagram of the other end, then `ASSURED`. Both end at [`UdpFlow::deadline`].
#[derive(Debug)]
pub(crate) struct UdpFlow {
    socket: DatagramSocket,
    target: SocketAddr,
    queries: Option<Box<Queries>>,
    segmentation: Segmentation,
    activity: Activity,
}

impl UdpFlow {
    /// A conversation with `target`.
    ///
    /// # Errors
    /// The kernel's, which [`errors::refusal`] explains.
    pub(crate) fn open(now: Instant, target: SocketAddr, source: &Source) -> io::Result<Self> {
        let socket = DatagramSocket::open(Service::Udp, target, source)?;
        Ok(Self {
            socket,
            target,
            queries: None,
            segmentation: Segmentation::Kernel,
            activity: Activity::new(now),
        })
    }

    /// The container sends. Gives what it is to be told if that cannot go anywhere.
    pub(crate) fn handle_datagram<L: Link>(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) -> Option<Refusal> {
        self.activity.last = now;
        if self.queries.is_some() {
            return self.ask(now, datagram, inbound, scratch);
        }
        self.socket.set_headers(datagram.headers);
        self.send(datagram, inbound, scratch)
    }

    /// The socket may have something: errors first, then datagrams. Afterwards the socket is drained, or
    /// this is to be called again without waiting for it.
    pub(crate) fn handle_ready<L: Link>(
        &mut self,
        now: Instant,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) -> Progress {
        self.drain(now, inbound, scratch)
    }

    /// When the flow ends, unless something moves before (R-UDP-3).
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Instant {
        if let Some(queries) = &self.queries {
            return queries.deadline();
        }
        // RFC 4787 REQ-5a: DNS and NTP are one question and one answer.
        let timeout = match (self.activity.is_one_way, self.target.port()) {
            (false, _) => timeouts.udp_stream,
            (true, 53 | 123) => timeouts.udp_unreplied_short,
            (true, _) => timeouts.udp_unreplied,
        };
        self.activity.last + timeout
    }

    /// What has moved so far.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// DNS queries that wait for an answer; 0 for a conversation.
    pub(crate) fn outstanding_queries(&self) -> usize {
        self.queries.as_ref().map_or(0, |queries| queries.outstanding())
    }

    /// The other end as the host reaches it.
    pub(crate) fn target(&self) -> SocketAddr {
        self.target
    }

    fn send<L: Link>(
        &mut self,
        datagram: &Datagram<'_>,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) -> Option<Refusal> {
        let size = datagram
            .segment
            .map_or(usize::MAX, |size| usize::from(size).max(1));
        let mut rest = datagram.payload;
        let mut retry = Retry::Once;
        loop {
            let chunk = &rest[..rest
                .len()
                .min(size.saturating_mul(self.segmentation.at_once(size)))];
            let error = match self.push(chunk, size) {
                Ok(taken) => {
                    self.activity.sent += taken as u64;
                    rest = &rest[taken..];
                    if rest.is_empty() {
                        return None;
                    }
                    retry = Retry::Once;
                    continue;
                }
                Err(error) => error,
            };
            let is_super_frame = chunk.len() > size;
            match error.raw_os_error() {
                Some(libc::EAGAIN | libc::ENOBUFS) => break,
                // The call may only have reported an earlier datagram's error, and sent nothing (R-UDP-5).
                _ if retry == Retry::Once => {
                    retry = Retry::Never;
                    self.drain_all_errors(inbound, scratch);
                }
                // R-UDP-11. A segment beyond the path's MTU is refused so, too: one by one they get what
                // their headers ask for.
                Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE)
                    if is_super_frame && self.segmentation == Segmentation::Kernel =>
                {
                    self.segmentation = Segmentation::OneByOne;
                    inbound.counters.gso_fallbacks += 1;
                }
                Some(libc::EMSGSIZE) => {
                    let quoted = &chunk[..chunk.len().min(size)];
                    self.report_too_big(quoted, datagram.headers, inbound, scratch);
                    break;
                }
                _ => {
                    inbound.counters.dropped_host += rest.len().div_ceil(size).max(1) as u64;
                    return errors::refusal(&error);
                }
            }
        }
        inbound.counters.dropped_host += rest.len().div_ceil(size).max(1) as u64;
        None
    }

    /// Sends the datagrams of `size` in `chunk`, or the first of them; gives how many bytes went out.
    fn push(&self, chunk: &[u8], size: usize) -> io::Result<usize> {
        match self.segmentation {
            _ if chunk.len() <= size => self.socket.socket().send(chunk),
            // The size is 16 bits wide where a chunk can exceed it.
            Segmentation::Kernel => sys::send_segments(self.socket.as_fd(), chunk, size as u16),
            Segmentation::OneByOne => sys::send_many(self.socket.as_fd(), chunk, size),
        }
    }

    /// The container asked for no fragments and the host's path is narrower: what a router would say.
    fn report_too_big<L: Link>(
        &self,
        payload: &[u8],
        headers: Headers,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) {
        inbound.counters.too_big += 1;
        if let Some(error) = errors::too_big(&self.socket, payload.len() + UdpHeader::LEN, headers) {
            let quote = Quote {
                protocol: QuotedProtocol::Udp,
                headers,
                payload,
            };
            inbound.report(error, inbound.gateway, &quote, &mut scratch.frame);
        }
    }

    /// Also what was queued before the socket was connected is held against this (R-UDP-2).
    fn is_from_target(&self, received: &Received) -> bool {
        received.source.is_some_and(|source| is_same(source, self.target))
    }
}

impl Drain for UdpFlow {
    const BATCHES: usize = 4;

    fn socket(&self) -> &DatagramSocket {
        &self.socket
    }

    /// Sends on what the slots have. Datagrams of equal size that came one by one are put together in the
    /// first one's slot and go as one super-frame.
    fn handle_received<L: Link>(
        &mut self,
        now: Instant,
        received: &[Received],
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) {
        let datagrams = &mut *scratch.datagrams;
        let mut index = 0;
        while index < received.len() {
            let first = received[index];
            let start = index * SLOTS.stride + SLOTS.headroom;
            index += 1;
            if !self.is_from_target(&first) {
                inbound.counters.dropped_foreign += 1;
                continue;
            }
            self.activity.note_answer(now);
            if let Some(queries) = &mut self.queries
                && queries.answer(now, &datagrams[start..start + first.len])
            {
                inbound.resolvers.note_answer(self.target);
            }
            let mut end = start + first.len;
            let mut segment = first.segment;
            let may_combine = self.queries.is_none() && segment.is_none() && first.len > 0;
            while may_combine
                && index < received.len()
                && continues(&received[index], first.len, end - start)
                && self.is_from_target(&received[index])
            {
                let next = index * SLOTS.stride + SLOTS.headroom;
                let len = received[index].len;
                datagrams.copy_within(next..next + len, end);
                end += len;
                segment = u16::try_from(first.len).ok();
                index += 1;
                if len < first.len {
                    break;
                }
            }
            let slot = &mut datagrams[start - SLOTS.headroom..end];
            let payload = SLOTS.headroom..slot.len();
            self.activity.received += inbound.send_udp(slot, payload, segment) as u64;
        }
    }

    fn handle_error<L: Link>(
        &mut self,
        error: &QueuedError,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) {
        // A query that is too big will not be smaller for another resolver.
        let is_failure = error.origin != Origin::Other && error.errno != libc::EMSGSIZE;
        if is_failure && self.ask_next_resolver(inbound) {
            return;
        }
        let Some(explained) = errors::explain(error, version_of(inbound.path.remote)) else {
            inbound.counters.errors_ignored += 1;
            return;
        };
        let from = errors::reporter(error, self.target, inbound.path, inbound.gateway);
        let quote = Quote {
            protocol: QuotedProtocol::Udp,
            headers: self.socket.headers().unwrap_or(Headers::DEFAULT),
            payload: &scratch.datagrams[..error.len],
        };
        inbound.report(explained, from, &quote, &mut scratch.frame);
    }
}

impl AsFd for UdpFlow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How several datagrams of one frame are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segmentation {
    /// The host's kernel cuts them.
    Kernel,
    /// It could not, or the path is too narrow (R-UDP-11).
    OneByOne,
}

impl Segmentation {
    /// How many datagrams of `size` one call may have.
    fn at_once(self, size: usize) -> usize {
        match self {
            Self::Kernel => (PAYLOAD_MAX / size).clamp(1, SEGMENTS_MAX),
            Self::OneByOne => SEGMENTS_MAX,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    Never,
    Once,
}

/// Whatever the scope and the flow label.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip() == other.ip() && one.port() == other.port()
}

/// Whether the datagram may follow `len` bytes of datagrams of `size` in a super-frame.
fn continues(next: &Received, size: usize, len: usize) -> bool {
    next.segment.is_none() && (1..=size).contains(&next.len) && len + next.len <= PAYLOAD_MAX
}

/// Datagrams in one `UDP_SEGMENT` call: `UDP_MAX_SEGMENTS` of Linux before 6.9 (linux/udp.h).
const SEGMENTS_MAX: usize = 64;
/// Largest payload over IPv4 (R-UDP-11).
const PAYLOAD_MAX: usize = 65_507;

#[cfg(test)]
mod tests;
