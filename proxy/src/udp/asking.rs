//! How a flow of queries asks: whom, and whom else when that one fails (R-DNS-3).
//!
//! A resolver is left together with the socket to it: a connected socket keeps the source address that was right
//! for its first peer, and the next resolver may be of the other family, or on the other side of the loopback
//! device. What then still waits is asked again.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    time::Instant,
};

use mio::{Interest, unix::SourceFd};
use vswitch_wire::Refusal;

use super::{Queries, Segmentation, UdpFlow, sending::Retry};
use crate::{
    Link, Scratch,
    activity::Activity,
    config::Source,
    datagram::Inbound,
    datagram_socket::{DatagramSocket, Service},
    drain::Drain,
    errors,
    payload::Datagram,
    resolvers::{PATIENCE, Resolvers},
};

impl UdpFlow {
    /// Queries to the first of `resolvers` in their turn that has a route.
    ///
    /// # Errors
    /// The kernel's about the last of them; `AddrNotAvailable` if there is none.
    pub(crate) fn open_query(now: Instant, resolvers: &mut Resolvers, source: &Source) -> io::Result<Self> {
        let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
        for resolver in resolvers.clone().in_turn() {
            result = DatagramSocket::open(Service::Queries, resolver, source);
            if let Ok(socket) = result {
                return Ok(Self {
                    socket,
                    target: resolver,
                    queries: Some(Box::new(Queries::new(now))),
                    segmentation: Segmentation::Kernel,
                    activity: Activity::new(now),
                });
            }
            resolvers.replace(resolver);
        }
        result.and(Err(io::ErrorKind::AddrNotAvailable.into()))
    }

    /// Gives up queries that nobody waits for any longer, and gives how many that were.
    pub(crate) fn expire_queries(&mut self, now: Instant) -> usize {
        let before = self.outstanding_queries();
        if let Some(queries) = &mut self.queries {
            queries.expire(now);
        }
        before - self.outstanding_queries()
    }

    /// The container asks, perhaps several questions in a super-frame.
    pub(super) fn ask<L: Link>(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) -> Option<Refusal> {
        if let Err(refusal) = self.leave_removed_resolver(inbound) {
            return refusal;
        }
        let size = datagram
            .segment
            .map_or(usize::MAX, |size| usize::from(size).max(1));
        let (mut query, mut rest) = datagram.payload.split_at(datagram.payload.len().min(size));
        let mut refusal = self.ask_one(now, query, inbound, scratch);
        while !rest.is_empty() {
            (query, rest) = rest.split_at(rest.len().min(size));
            refusal = self.ask_one(now, query, inbound, scratch).or(refusal);
        }
        refusal
    }

    fn ask_one<L: Link>(
        &mut self,
        now: Instant,
        query: &[u8],
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) -> Option<Refusal> {
        let mut asked = self.queries.as_mut()?.ask(now, query).unwrap_or(now);
        if now.saturating_duration_since(asked) >= PATIENCE {
            asked = now;
            // Where there is no other resolver, the same is asked again.
            self.ask_next_resolver(inbound);
        }
        let mut retry = Retry::Once;
        loop {
            let error = match self.socket.socket().send(query) {
                Ok(sent) => {
                    self.activity.sent += sent as u64;
                    self.queries.as_mut()?.wait(asked, query);
                    return None;
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EAGAIN | libc::ENOBUFS) => break,
                // The call may only have reported an earlier query's error, and sent nothing (R-UDP-5).
                _ if retry == Retry::Once => {
                    retry = Retry::Never;
                    self.drain_all_errors(inbound, scratch);
                }
                Some(libc::EMSGSIZE) => break,
                _ if self.ask_next_resolver(inbound) => retry = Retry::Once,
                _ => {
                    inbound.counters.dropped_host += 1;
                    return errors::refusal(&error);
                }
            }
        }
        inbound.counters.dropped_host += 1;
        None
    }

    /// Goes on with another resolver; false if this is no flow of queries, or if no other is left.
    pub(super) fn ask_next_resolver<L: Link>(&mut self, inbound: &mut Inbound<'_, L>) -> bool {
        let mut failed = self.target;
        while let Some(queries) = &mut self.queries
            && let Some(next) = inbound.resolvers.replace(failed)
            && queries.fail() < inbound.resolvers.len()
        {
            if self.lead_to(next, inbound).is_ok() {
                inbound.counters.resolvers_changed += 1;
                return true;
            }
            failed = next;
        }
        false
    }

    /// The host may not have this flow's resolver any more (R-DNS-2). The error is what the container is to be
    /// told if there is no other.
    fn leave_removed_resolver<L: Link>(
        &mut self,
        inbound: &mut Inbound<'_, L>,
    ) -> Result<(), Option<Refusal>> {
        if inbound.resolvers.contains(self.target) {
            return Ok(());
        }
        let mut refusal = Err(Some(Refusal::PortUnreachable));
        for resolver in inbound.resolvers.clone().in_turn() {
            match self.lead_to(resolver, inbound) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = Err(errors::refusal(&error)),
            }
        }
        inbound.counters.dropped_host += 1;
        refusal
    }

    /// Asks this resolver from now on, by a socket of its own; also what waits already. The flow stays as it was
    /// if that cannot be.
    fn lead_to<L: Link>(&mut self, resolver: SocketAddr, inbound: &mut Inbound<'_, L>) -> io::Result<()> {
        let socket = DatagramSocket::open(Service::Queries, resolver, inbound.source)?;
        let fd = socket.as_fd().as_raw_fd();
        let registry = inbound.link.registry();
        registry.register(&mut SourceFd(&fd), inbound.token, Interest::READABLE)?;
        // The old one leaves the poll set when it is closed.
        self.socket = socket;
        self.target = resolver;
        for message in self.queries.iter().flat_map(|queries| queries.messages()) {
            // If this fails as well, the container asks again.
            let _ = self.socket.socket().send(message);
        }
        Ok(())
    }
}
