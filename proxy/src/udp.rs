//! UDP flows: a container's conversation with one other end, or its DNS queries to the host's resolvers.

mod asking;
mod queries;
mod sending;

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
    drain::{self, Drain, SLOTS},
    errors,
    payload::{Datagram, Headers},
    report::{Quote, QuotedProtocol},
    sys::{self, Origin, QueuedError, Received},
};

pub(crate) use sending::{Outlet, PAYLOAD_MAX, Segmentation, Sending, Step};

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
        Ok(Self::new(now, socket, target))
    }

    /// The socket's own address.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.socket.socket().local_addr()?.as_socket();
        address.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    fn new(now: Instant, socket: DatagramSocket, target: SocketAddr) -> Self {
        Self {
            socket,
            target,
            queries: None,
            segmentation: Segmentation::Kernel,
            activity: Activity::new(now),
        }
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
        let mut sending = Sending::new(datagram);
        loop {
            let (segmentation, activity) = (&mut self.segmentation, &mut self.activity);
            match sending.advance(&self.socket, segmentation, activity, inbound.counters) {
                Step::Done => return None,
                Step::Interrupted => self.drain_all_errors(inbound, scratch),
                Step::Failed(error) => return errors::refusal(&error),
                Step::TooBig(payload) => {
                    self.report_too_big(payload, datagram.headers, inbound, scratch);
                    return None;
                }
            }
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
            if !self.is_from_target(&first) {
                inbound.counters.dropped_foreign += 1;
                index += 1;
                continue;
            }
            self.activity.note_answer(now);
            if let Some(queries) = &mut self.queries
                && queries.answer(now, &datagrams[start..start + first.len])
            {
                inbound.resolvers.note_answer(self.target);
            }
            let is_conversation = self.queries.is_none();
            let run = drain::combine(datagrams, received, index, |next| {
                is_conversation && self.is_from_target(&received[next])
            });
            index = run.next;
            let slot = &mut datagrams[start - SLOTS.headroom..run.end];
            let payload = SLOTS.headroom..slot.len();
            self.activity.received += inbound.send_udp(slot, payload, run.segment) as u64;
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

impl Outlet for DatagramSocket {
    fn send(&self, payload: &[u8]) -> io::Result<usize> {
        self.socket().send(payload)
    }

    fn send_segments(&self, payload: &[u8], size: u16) -> io::Result<usize> {
        sys::send_segments(self.as_fd(), payload, size)
    }

    fn send_many(&self, payload: &[u8], size: usize) -> io::Result<usize> {
        sys::send_many(self.as_fd(), payload, size)
    }
}

impl AsFd for UdpFlow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whatever the scope and the flow label.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip() == other.ip() && one.port() == other.port()
}

#[cfg(test)]
mod tests;
