//! What containers send to their UDP clients, and what becomes of it.

use std::{net::SocketAddr, time::Instant};

use vswitch_wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet, Refusal,
    UdpHeader,
};
use zerocopy::FromBytes;

use super::Client;
use crate::{
    FlowId, Link, Scratch,
    datagram_socket::Progress,
    drain::ERRORS_AT_ONCE,
    errors,
    link::ListenerId,
    listing::Protocol,
    payload::{Datagram, Packet},
    pktinfo::Ends,
    relay::{Flow, Kind, Relay, table::Tuple},
    udp::{Sending, Step},
};

impl Relay {
    /// Takes a container's datagram to its client. Returns what the container is to be told.
    pub(in crate::relay) fn answer_client(
        &mut self,
        now: Instant,
        id: FlowId,
        datagram: &Datagram<'_>,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) -> Option<Refusal> {
        let mut sending = Sending::new(datagram);
        let session = self.flows.get_mut(id).and_then(Flow::session_mut)?;
        // Its deadline only moves away, which is found out when the old one comes.
        session.note_answer(now, datagram.headers);
        loop {
            let session = self.flows.get_mut(id).and_then(Flow::session_mut)?;
            let listener = session.client().listener;
            let socket = self.published.shared_socket(listener)?;
            match session.send(&mut sending, socket, &mut self.datagram_counters) {
                Step::Done => return None,
                // Only ICMP says that nobody listens. It came in between for another client, and waits in the queue.
                Step::Failed(error) => {
                    return errors::refusal(&error).filter(|&refusal| refusal != Refusal::PortUnreachable);
                }
                // Most likely another client's (R-UDP-5).
                Step::Interrupted => self.drain_all_client_errors(now, listener, scratch, link),
                // It is fragmented on its way. What is larger than any packet can be goes nowhere.
                Step::TooBig(_) => {
                    self.datagram_counters.too_big += 1;
                    return None;
                }
            }
        }
    }

    /// Takes a batch of the error queue of a listener; gives how many entries that were. Each is told to the
    /// container whose client it is about (R-UDP-7).
    pub(super) fn drain_client_errors(
        &mut self,
        now: Instant,
        listener: ListenerId,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) -> (usize, Progress) {
        for count in 0..ERRORS_AT_ONCE {
            let Some(socket) = self.published.shared_socket(listener) else {
                return (count, Progress::Drained);
            };
            let Ok((error, local)) = socket.receive_error(&mut scratch.datagrams) else {
                return (count, Progress::Drained);
            };
            let ends = error
                .destination
                .zip(local)
                .and_then(|(peer, local)| Ends::between(peer, local));
            let session = ends.and_then(|ends| self.sessions.find(&Client { listener, ends }));
            let Some(id) = session else {
                self.datagram_counters.errors_ignored += 1;
                continue;
            };
            self.with_datagrams(now, id, scratch, link, |kind, inbound, scratch| {
                if let Kind::Session(session) = kind {
                    session.handle_error(&error, inbound, scratch);
                }
            });
        }
        (ERRORS_AT_ONCE, Progress::More)
    }

    /// Takes the whole error queue, so that the next call does not report an earlier packet's error.
    fn drain_all_client_errors(
        &mut self,
        now: Instant,
        listener: ListenerId,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        for _ in 0..ERROR_BATCHES {
            if self.drain_client_errors(now, listener, scratch, link).1 == Progress::Drained {
                return;
            }
        }
    }

    /// Whether the packet is a container's ICMP error about a client's datagram, which counts as a failure of the
    /// mapping. The client cannot be told: no socket sends such a message for us. The session stays; the container
    /// may listen later.
    pub(in crate::relay) fn note_unreachable(&mut self, endpoint: u32, packet: &Packet<'_>) -> bool {
        let Some(tuple) = quoted_tuple(endpoint, packet) else {
            return false;
        };
        let flow = self.flows.find(&tuple).and_then(|id| self.flows.get_mut(id));
        let Some(flow) = flow.filter(|flow| matches!(flow.kind, Kind::Session(_))) else {
            return false;
        };
        if let Some(mapping) = flow.mapping.and_then(|id| self.published.mapping_mut(id)) {
            mapping.counters.failed += 1;
        }
        true
    }

    /// Whether an ICMP error of a container is about a client of a published port.
    pub(in crate::relay) fn has_session_of(&self, endpoint: u32, packet: &Packet<'_>) -> bool {
        let id = quoted_tuple(endpoint, packet).and_then(|tuple| self.flows.find(&tuple));
        let flow = id.and_then(|id| self.flows.get(id));
        flow.is_some_and(|flow| matches!(flow.kind, Kind::Session(_)))
    }
}

/// Whose datagram an ICMP error of a container quotes.
fn quoted_tuple(endpoint: u32, packet: &Packet<'_>) -> Option<Tuple> {
    let (remote, container) = quoted_ends(packet)?;
    Some(Tuple {
        endpoint,
        protocol: Protocol::Udp,
        container,
        remote,
    })
}

/// Source and destination of the datagram that an ICMP error quotes.
fn quoted_ends(packet: &Packet<'_>) -> Option<(SocketAddr, SocketAddr)> {
    let (src, dst, datagram) = match packet.protocol {
        IpProtocol::ICMP => {
            let Icmpv4Message::Error { quoted, .. } = Icmpv4Packet::parse(packet.body).ok()?.message() else {
                return None;
            };
            let quoted = Ipv4Packet::parse_quoted(quoted).ok()?;
            let header = quoted.header();
            let is_udp = header.protocol() == IpProtocol::UDP;
            is_udp.then_some((header.src().into(), header.dst().into(), quoted.payload()))?
        }
        IpProtocol::ICMPV6 => {
            let Icmpv6Message::Error { quoted, .. } = Icmpv6Packet::parse(packet.body).ok()?.message() else {
                return None;
            };
            let quoted = Ipv6Packet::parse_quoted(quoted).ok()?;
            let header = quoted.header();
            let is_udp = header.next_header() == IpProtocol::UDP;
            is_udp.then_some((header.src().into(), header.dst().into(), quoted.payload()))?
        }
        _ => return None,
    };
    let (header, _) = UdpHeader::ref_from_prefix(datagram).ok()?;
    Some((
        SocketAddr::new(src, header.src_port()),
        SocketAddr::new(dst, header.dst_port()),
    ))
}

/// Together with [`ERRORS_AT_ONCE`] more entries than a listener's receive buffer has room for, at the least 768 bytes
/// that each takes of it.
const ERROR_BATCHES: usize = 2 * super::BUFFER / 768 / ERRORS_AT_ONCE + 1;
