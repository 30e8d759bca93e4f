//! UDP clients of published ports (R-UDP-4, 5, 7, 13).
//!
//! A published port has one socket for all its clients. A *session* is one client: its address, and the address of
//! the host that it used. A session is a flow of the relay's table without a socket of its own: the client's
//! datagrams find it by both ends, the container's by its tuple, and an error by the ends that it names.
//!
//! Invariant: [`Sessions`] has exactly the flows whose kind is a session; [`Relay::insert`] and [`Relay::remove`] see
//! to it.

mod answers;
mod session;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    time::Instant,
};

use hashbrown::HashMap;
use socket2::Socket;
use vswitch_wire::IpVersion;

use super::{
    Flow, Kind, Pending, Relay,
    published::{Counters, Published},
};
use crate::{
    FlowId, Link, Scratch,
    datagram_socket::Progress,
    drain::{self, SLOTS},
    link::{ListenerId, SocketRole},
    listing::Protocol,
    pktinfo::{Ends, SharedSocket},
    publish::{Bound, MappingId},
    sys::{RECEIVE_MAX, Received},
};

pub(super) use session::UdpSession;

/// The clients of all listeners of a relay.
///
/// Clients choose their ends, so the hash is keyed at random. There are no more of them than flows.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_client: HashMap<Client, FlowId, foldhash::fast::RandomState>,
}

/// What tells sessions apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Client {
    /// By which it comes.
    listener: ListenerId,
    /// The client's, and the host's that it used.
    ends: Ends,
}

impl Relay {
    /// The socket of a published UDP port may have something: errors first, then datagrams.
    pub(super) fn handle_udp_listener(
        &mut self,
        now: Instant,
        id: ListenerId,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        if self.drain_listener(now, id, scratch, link) == Progress::More
            && let Some(door) = self.published.door_mut(id)
            && !std::mem::replace(&mut door.turn, true)
        {
            self.turns.push_back(SocketRole::Listener(id).id());
        }
    }

    fn drain_listener(
        &mut self,
        now: Instant,
        id: ListenerId,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) -> Progress {
        let mut progress = self.drain_client_errors(now, id, scratch, link).1;
        let mut failures = 0;
        for _ in 0..BATCHES {
            let Some(socket) = self.published.shared_socket(id) else {
                return Progress::Drained;
            };
            let (mut received, mut ends) = ([Received::default(); RECEIVE_MAX], [None; RECEIVE_MAX]);
            match socket.receive_many(&mut scratch.datagrams, SLOTS, &mut received, &mut ends) {
                Ok(count) => {
                    let (received, ends) = (&received[..count], &ends[..count]);
                    self.handle_clients(now, id, (received, ends), scratch, link);
                    if count < scratch.datagrams.len() / SLOTS.stride {
                        return progress;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return progress,
                Err(_) => {
                    // An error without an entry, twice: with its buffer full the socket keeps none, and with what is in
                    // it, it says nothing when more comes. So it is asked again.
                    let (count, more) = self.drain_client_errors(now, id, scratch, link);
                    progress = more;
                    failures += usize::from(count == 0);
                    if failures > 1 {
                        return Progress::More;
                    }
                }
            }
        }
        Progress::More
    }

    /// Takes datagrams, whose payloads are in the [`SLOTS`] of `scratch`, to the container.
    fn handle_clients(
        &mut self,
        now: Instant,
        listener: ListenerId,
        (received, ends): (&[Received], &[Option<Ends>]),
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        let mut index = 0;
        while let Some(&place) = ends.get(index) {
            let Some(ends_of_first) = place else {
                // R-UDP-12: what was sent to many is never brought to one.
                self.datagram_counters.dropped_foreign += 1;
                index += 1;
                continue;
            };
            let client = Client {
                listener,
                ends: ends_of_first,
            };
            let run = drain::combine(&mut scratch.datagrams, received, index, |next| {
                ends[next] == place
            });
            let start = index * SLOTS.stride;
            index = run.next;
            let known = self.sessions.find(&client);
            let Some(id) = known.or_else(|| self.open_session(now, client, link)) else {
                continue;
            };
            self.with_datagrams(now, id, scratch, link, |kind, inbound, scratch| {
                if let Kind::Session(session) = kind {
                    let slot = &mut scratch.datagrams[start..run.end];
                    session.handle_client(now, slot, run.segment, inbound);
                }
            });
        }
    }

    /// Lets a new client in; `None` if it is refused, which it does not hear of.
    fn open_session(&mut self, now: Instant, client: Client, link: &mut impl Link) -> Option<FlowId> {
        let ends = client.ends;
        // RFC 768: a source port of 0 expects no reply. R-UDP-12: 0.0.0.0 is nobody yet.
        if ends.peer.port() == 0 || ends.peer.ip().is_unspecified() {
            self.counters.bad_packet += 1;
            return None;
        }
        let door = self.published.door(client.listener)?;
        let (id, port) = (door.mapping, door.bound.address.port());
        let origin = self.identify(now, Protocol::Udp, ends.peer);
        if origin.is_stray(ends.local.address) {
            return self.refuse_client(id, |counters| &mut counters.refused_allow);
        }
        let peer = origin.address();
        let mapping = self.published.mapping_mut(id)?;
        if !mapping.admit(now, peer.ip()) {
            return None;
        }
        let (endpoint, station) = (mapping.spec.backend.endpoint, mapping.spec.backend.station);
        let Some(shown) = self.shown(now, client.listener, peer.ip()) else {
            return self.refuse_client(id, |counters| &mut counters.failed);
        };
        let Some(tuple) = self.free_tuple(endpoint, shown, peer) else {
            return self.refuse_client(id, |counters| &mut counters.refused_limit);
        };
        if !self.make_place_for_client(now, Protocol::Udp, endpoint) {
            return self.refuse_client(id, |counters| &mut counters.refused_limit);
        }
        let flow = Flow {
            tuple,
            station,
            target: Some(SocketAddr::new(ends.local.address, port)),
            is_query: false,
            began: now,
            pending: Pending::No,
            unflushed: false,
            turn: false,
            evictable_place: None,
            mapping: Some(id),
            _caller: None,
            kind: Kind::Session(UdpSession::new(now, client)),
            descriptor: None,
        };
        self.insert(flow, link)
    }

    fn refuse_client<T>(
        &mut self,
        mapping: MappingId,
        counter: impl FnOnce(&mut Counters) -> &mut u64,
    ) -> Option<T> {
        let mapping = self.published.mapping_mut(mapping)?;
        *counter(&mut mapping.counters) += 1;
        None
    }
}

impl Sessions {
    fn find(&self, client: &Client) -> Option<FlowId> {
        self.by_client.get(client).copied()
    }

    /// A flow is in the table now.
    pub(super) fn insert(&mut self, kind: &Kind, id: FlowId) {
        if let Kind::Session(session) = kind {
            self.by_client.insert(*session.client(), id);
        }
    }

    /// A flow was taken out of the table.
    pub(super) fn remove(&mut self, kind: &Kind) {
        if let Kind::Session(session) = kind {
            self.by_client.remove(session.client());
            if self.by_client.is_empty() && self.by_client.capacity() > KEPT {
                // The memory of a busy hour is given back once nothing is in it.
                self.by_client = HashMap::default();
            }
        }
    }
}

impl Published {
    /// The socket of a published UDP port.
    fn shared_socket(&self, id: ListenerId) -> Option<SharedSocket<'_>> {
        let door = self.door(id)?;
        Some(shared_socket(&door.socket, &door.bound))
    }
}

/// Sets what the socket of a published UDP port needs.
///
/// # Errors
/// The kernel's.
pub(super) fn prepare(socket: &Socket, bound: &Bound) -> io::Result<()> {
    shared_socket(socket, bound).prepare_batches()?;
    // All clients share what one flow's socket has; the kernel gives as much of it as the host allows.
    if socket.recv_buffer_size()? < BUFFER {
        let _ = socket.set_recv_buffer_size(BUFFER);
    }
    if socket.send_buffer_size()? < BUFFER {
        let _ = socket.set_send_buffer_size(BUFFER);
    }
    Ok(())
}

fn shared_socket<'a>(socket: &'a impl AsFd, bound: &Bound) -> SharedSocket<'a> {
    let version = match bound.address.ip() {
        IpAddr::V4(_) => IpVersion::V4,
        IpAddr::V6(_) => IpVersion::V6,
    };
    SharedSocket::new(socket.as_fd(), version)
}

/// Bytes of a listener's socket buffers, of which the kernel takes `rmem_max` (212 992 by default) and counts them
/// twice (socket(7)).
const BUFFER: usize = 512 << 10;

/// Batches of datagrams that a listener may take before the others' turn, as a flow may.
const BATCHES: usize = 4;

/// Places that an empty table keeps.
const KEPT: usize = 1024;

#[cfg(test)]
mod tests;
