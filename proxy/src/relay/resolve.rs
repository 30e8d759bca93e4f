//! Connections to the host's resolvers: whom to ask when one fails or keeps silent (R-DNS-3).

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    time::Instant,
};

use mio::{Interest, unix::SourceFd};

use super::{Kind, Relay};
use crate::{
    FlowId, Link,
    link::SocketRole,
    resolvers::PATIENCE,
    stream::{Attempt, HostSocket, TcpFlow},
};

impl Relay {
    /// Begins to connect to another resolver, after the flow's connect has failed. `None` if this is no connect
    /// to a resolver, or if no other is left.
    pub(super) fn connect_next_resolver(
        &mut self,
        now: Instant,
        id: FlowId,
        link: &impl Link,
    ) -> Option<io::Result<bool>> {
        let flow = self.flows.get_mut(id).filter(|flow| flow.is_query)?;
        let mut failed = flow.target?;
        let Kind::Tcp(TcpFlow {
            connection,
            socket,
            attempt,
        }) = &mut flow.kind
        else {
            return None;
        };
        if !connection.is_connecting() {
            return None;
        }
        loop {
            let next = self.resolvers.replace(failed)?;
            *attempt = Attempt {
                began: now,
                failures: attempt.failures + 1,
            };
            if attempt.failures >= self.resolvers.len() {
                return None;
            }
            // A socket of its own, because the next may be of the other family. Its class is the default: no
            // packet of the container is at hand to take it from.
            if let Ok(other) = HostSocket::open(next, &self.config.source, 0) {
                let fd = other.as_fd().as_raw_fd();
                let interest = Interest::READABLE | Interest::WRITABLE;
                // R-OUT-9: in the poll set before the connect, so that no completion is missed.
                let registered = link.registry().register(
                    &mut SourceFd(&fd),
                    link.token(SocketRole::Flow(id).id()),
                    interest,
                );
                if registered.is_ok() {
                    *socket = other;
                    flow.target = Some(next);
                    self.datagram_counters.resolvers_changed += 1;
                    return Some(socket.connect(next));
                }
            }
            failed = next;
        }
    }

    /// The flow is connected; other flows to a resolver begin with the same one.
    pub(super) fn note_connected(&mut self, id: FlowId) {
        let flow = self.flows.get(id).filter(|flow| flow.is_query);
        if let Some(resolver) = flow.and_then(|flow| flow.target) {
            self.resolvers.note_answer(resolver);
        }
    }

    /// As [`connect_next_resolver`](Self::connect_next_resolver) after the container has repeated its SYN to a resolver that had its time. Where no other is
    /// left, the connect goes on.
    pub(super) fn leave_silent_resolver(
        &mut self,
        now: Instant,
        id: FlowId,
        link: &impl Link,
    ) -> Option<io::Result<bool>> {
        match &self.flows.get(id)?.kind {
            Kind::Tcp(flow) if now.saturating_duration_since(flow.attempt.began) >= PATIENCE => {
                self.connect_next_resolver(now, id, link)
            }
            _ => None,
        }
    }
}
