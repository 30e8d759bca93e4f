//! UDP: every client has a socket of its own towards the container (P9).

use std::{
    collections::{HashMap, VecDeque, hash_map::RandomState},
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::{Duration, Instant},
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::net::SendFlags;
use socket2::{Domain, Protocol, Socket, Type};
use vswitch_wire::IpVersion;

use super::recency::Recency;
use crate::{
    Scratch,
    pktinfo::{Ends, Local, SharedSocket},
    sys::{self, RECEIVE_MAX, Received, Slots},
};

/// A listening socket and its clients' sessions.
///
/// Every session is in all four: `sessions`, `by_ends`, `recency` and, by its socket, the poll set.
#[derive(Debug)]
pub(super) struct Datagrams {
    listener: Socket,
    version: IpVersion,
    /// Its address.
    bound: IpAddr,
    container: SocketAddr,
    sessions: Vec<Option<Session>>,
    free: Vec<u32>,
    /// Strangers choose the keys, so the hash has a secret.
    by_ends: HashMap<Ends, u32, RandomState>,
    recency: Recency,
    /// Sessions at a time.
    most: usize,
    buffer: Box<[u8]>,
    /// The listener stopped at its budget.
    has_more: bool,
    /// Sessions that did.
    turns: VecDeque<u32>,
}

/// A client, and the address of ours that it uses.
#[derive(Debug)]
struct Session {
    ends: Ends,
    socket: Socket,
    /// The client's last datagram.
    renewed: Instant,
    /// Waits in [`Datagrams::turns`].
    turn: bool,
}

impl Datagrams {
    pub(super) fn new(listener: Socket, container: SocketAddr) -> io::Result<Self> {
        let version = match listener.domain()? {
            Domain::IPV6 => IpVersion::V6,
            _ => IpVersion::V4,
        };
        SharedSocket::new(listener.as_fd(), version).prepare()?;
        let bound = listener.local_addr()?.as_socket().map(|bound| bound.ip());
        Ok(Self {
            listener,
            version,
            bound: bound.unwrap_or(Ipv4Addr::UNSPECIFIED.into()).to_canonical(),
            container,
            sessions: Vec::new(),
            free: Vec::new(),
            by_ends: HashMap::default(),
            recency: Recency::new(),
            most: MOST_SESSIONS,
            buffer: vec![0; SLOTS.stride * RECEIVE_MAX].into_boxed_slice(),
            has_more: false,
            turns: VecDeque::new(),
        })
    }

    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        if self.has_more || !self.turns.is_empty() {
            return Some(Duration::ZERO);
        }
        Some(self.expires_at()?.saturating_duration_since(now))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, registry: &Registry) {
        while self.expires_at().is_some_and(|at| at <= now) {
            self.forget_oldest();
        }
        for _ in 0..self.turns.len() {
            let Some(id) = self.turns.pop_front() else { break };
            if let Some(session) = self.session(id) {
                session.turn = false;
            }
            self.answer(id as usize);
        }
        if mem::take(&mut self.has_more) {
            self.receive(now, registry);
        }
    }

    /// Takes what clients have sent to the container.
    pub(super) fn receive(&mut self, now: Instant, registry: &Registry) {
        self.has_more = false;
        let mut buffer = mem::take(&mut self.buffer);
        for batch in 1..=BATCHES {
            let mut received = [Received::default(); RECEIVE_MAX];
            let mut locals = [None; RECEIVE_MAX];
            let listener = self.listener.as_fd();
            let result = sys::pktinfo::receive_many(listener, &mut buffer, SLOTS, &mut received, &mut locals);
            let Ok(count) = result else {
                // There is nothing, or no memory; the next datagram makes an event.
                break;
            };
            let slots = buffer.chunks_exact(SLOTS.stride);
            for ((datagram, local), slot) in received.iter().zip(locals).zip(slots).take(count) {
                let Some(source) = datagram.source else { continue };
                // A broadcast, or it came before the socket was asked to tell.
                let local = local.unwrap_or_else(|| any_local(self.bound, source));
                if let Some(ends) = Ends::between(source, local)
                    && let Some(session) = self.renew(now, ends, registry)
                {
                    session.forward(&slot[..datagram.len]);
                }
            }
            if count < RECEIVE_MAX {
                break;
            }
            self.has_more = batch == BATCHES;
        }
        self.buffer = buffer;
    }

    /// Takes what the container has sent to a client. An event of a session that is gone does no harm.
    pub(super) fn answer(&mut self, id: usize) {
        let Some(session) = self.sessions.get_mut(id).and_then(Option::as_mut) else {
            return;
        };
        let shared = SharedSocket::new(self.listener.as_fd(), self.version);
        let mut failures = 0;
        for _ in 0..BATCHES {
            let mut received = [Received::default(); RECEIVE_MAX];
            match sys::receive_many(session.socket.as_fd(), &mut self.buffer, SLOTS, &mut received) {
                Ok(count) => {
                    let slots = self.buffer.chunks_exact(SLOTS.stride);
                    for (datagram, slot) in received.iter().zip(slots).take(count) {
                        // What the network does not take is lost, as anywhere.
                        let _ = shared.send(&slot[..datagram.len], &session.ends);
                    }
                    if count < RECEIVE_MAX {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The container does not listen yet, or no more (P9). Told once per ICMP message.
                Err(_) => {
                    failures += 1;
                    if failures > FAILURES {
                        return;
                    }
                }
            }
        }
        if !mem::replace(&mut session.turn, true) {
            self.turns.push_back(id as u32);
        }
    }

    /// The session of a client, which has just sent something; a new one if it has none. `None` if the system has no
    /// socket for it.
    fn renew(&mut self, now: Instant, ends: Ends, registry: &Registry) -> Option<&Session> {
        let id = match self.by_ends.get(&ends) {
            Some(&id) => id,
            None => self.begin(now, ends, registry)?,
        };
        self.recency.touch(id);
        let session = self.session(id)?;
        session.renewed = now;
        Some(session)
    }

    fn begin(&mut self, now: Instant, ends: Ends, registry: &Registry) -> Option<u32> {
        if self.by_ends.len() >= self.most {
            self.forget_oldest();
        }
        let id = self.free.last().copied().unwrap_or(self.sessions.len() as u32);
        let socket = match self.connect(id, registry) {
            Ok(socket) => socket,
            Err(_) => {
                // Most likely the descriptors are used up.
                self.forget_oldest();
                return None;
            }
        };
        let session = Session {
            ends,
            socket,
            renewed: now,
            turn: false,
        };
        match self.free.pop() {
            Some(id) => self.sessions[id as usize] = Some(session),
            None => self.sessions.push(Some(session)),
        }
        self.by_ends.insert(ends, id);
        Some(id)
    }

    fn connect(&self, id: u32, registry: &Registry) -> io::Result<Socket> {
        let domain = Domain::for_address(self.container);
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = Socket::new(domain, kind, Some(Protocol::UDP))?;
        socket.connect(&self.container.into())?;
        let token = Token(id as usize);
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        Ok(socket)
    }

    fn forget_oldest(&mut self) {
        let Some(id) = self.recency.oldest() else { return };
        self.recency.remove(id);
        if let Some(session) = self.sessions.get_mut(id as usize).and_then(Option::take) {
            self.by_ends.remove(&session.ends);
            self.free.push(id);
        }
    }

    fn expires_at(&self) -> Option<Instant> {
        let oldest = self.recency.oldest()?;
        let session = self.sessions.get(oldest as usize)?.as_ref()?;
        Some(session.renewed + IDLE)
    }

    fn session(&mut self, id: u32) -> Option<&mut Session> {
        self.sessions.get_mut(id as usize)?.as_mut()
    }
}

impl Session {
    fn forward(&self, payload: &[u8]) {
        let socket: BorrowedFd<'_> = self.socket.as_fd();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        for _ in 0..=FAILURES {
            match rustix::net::send(socket, payload, flags) {
                // The answer to an earlier datagram; this one was not sent (R-UDP-5).
                Err(rustix::io::Errno::CONNREFUSED) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// The address that answers leave from where none was told: the listener's, or the one that the route chooses.
fn any_local(bound: IpAddr, peer: SocketAddr) -> Local {
    let address = match peer.ip().to_canonical() {
        peer if peer.is_ipv4() == bound.is_ipv4() => bound,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Local {
        address,
        interface: 0,
    }
}

const SLOTS: Slots = Slots {
    stride: Scratch::SLOT_LEN,
    headroom: 0,
};

/// How long a client may be silent (P9).
const IDLE: Duration = Duration::from_secs(90);

/// Clients at a time; who has been silent longest makes room.
const MOST_SESSIONS: usize = 16_384;

/// Batches of datagrams taken from a socket before others have their turn.
const BATCHES: usize = 4;

/// Errors in a row after which the next datagram is waited for.
const FAILURES: usize = 4;

#[cfg(test)]
mod tests;
