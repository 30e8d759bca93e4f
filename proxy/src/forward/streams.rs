//! TCP: connections are accepted and spliced to connections to the container.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Registry, Token};
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    errors,
    splice::{self, Connect, Ends, PipeLimits, Progress, Readiness, Side, SpliceId, Splicer},
};

/// A listening socket and its connections.
#[derive(Debug)]
pub(super) struct Streams {
    listener: Socket,
    container: SocketAddr,
    splicer: Splicer,
    door: Door,
    /// A client for whose connection to the container there was no descriptor yet.
    waiting: Option<Socket>,
    /// Pairs that stopped at their budget, each once.
    turns: VecDeque<SpliceId>,
    /// By number, whether a pair is among them.
    has_turn: Vec<bool>,
}

/// What is known of the listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// Nobody waits; the next one makes an event.
    Empty,
    /// Somebody may wait.
    Knocking,
    /// Somebody waits, but nobody can be let in before that time.
    ShutUntil(Instant),
}

impl Streams {
    pub(super) fn new(listener: Socket, container: SocketAddr) -> Self {
        Self {
            listener,
            container,
            splicer: Splicer::new(PipeLimits::default()),
            door: Door::Empty,
            waiting: None,
            turns: VecDeque::new(),
            has_turn: Vec::new(),
        }
    }

    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        match self.door {
            _ if !self.turns.is_empty() => Some(Duration::ZERO),
            Door::Empty => None,
            Door::Knocking => Some(Duration::ZERO),
            Door::ShutUntil(at) => Some(at.saturating_duration_since(now)),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, registry: &Registry) {
        for _ in 0..self.turns.len() {
            let Some(id) = self.turns.pop_front() else { break };
            self.has_turn[id.0 as usize] = false;
            self.serve(id, Side::Front, NOTHING_NEW);
        }
        match self.door {
            Door::Knocking => self.accept(now, registry),
            Door::ShutUntil(at) if at <= now => self.accept(now, registry),
            Door::Empty | Door::ShutUntil(_) => {}
        }
    }

    pub(super) fn handle_ready(&mut self, token: usize, readiness: Readiness) {
        let side = if token & 1 == 0 { Side::Back } else { Side::Front };
        self.serve(SpliceId((token >> 1) as u32), side, readiness);
    }

    /// Lets clients in, as many as may come at once.
    pub(super) fn accept(&mut self, now: Instant, registry: &Registry) {
        if matches!(self.door, Door::ShutUntil(at) if at > now) {
            return;
        }
        self.door = Door::Knocking;
        for _ in 0..CLIENTS_AT_ONCE {
            let client = match self.waiting.take() {
                Some(client) => Ok(client),
                None => {
                    rustix::net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
                        .map(Socket::from)
                        .map_err(io::Error::from)
                }
            };
            match client {
                Ok(client) => {
                    if let Err(client) = self.bring_in(client, registry) {
                        self.waiting = Some(client);
                        self.door = Door::ShutUntil(now + PAUSE);
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.door = Door::Empty;
                    return;
                }
                // It has gone again, or a packet of it was odd (accept(2), "Error handling").
                Err(error) if errors::is_of_client(&error) => {}
                Err(_) => {
                    self.door = Door::ShutUntil(now + PAUSE);
                    return;
                }
            }
        }
    }

    /// Connects a client with the container; gives it back if a descriptor is missing.
    fn bring_in(&mut self, client: Socket, registry: &Registry) -> Result<(), Socket> {
        let domain = Domain::for_address(self.container);
        let kind = Type::STREAM.nonblocking().cloexec();
        let Ok(back) = Socket::new(domain, kind, Some(Protocol::TCP)) else {
            return Err(client);
        };
        // Without, it is slower only.
        let _ = splice::prepare(&back);
        let connect = match back.connect(&self.container.into()) {
            Ok(()) => Connect::Done,
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Connect::Begun,
            Err(_) => {
                // As if it had been refused later (R-IN-2); closed either way.
                let _ = client.set_linger(Some(Duration::ZERO));
                return Ok(());
            }
        };
        let ends = Ends {
            front: client,
            back,
            connect,
            prefix: Vec::new(),
        };
        // If it fails, the client has been reset.
        let _ = self.splicer.open(ends, registry, |id, side| {
            Token((id.0 as usize) << 1 | usize::from(side == Side::Front))
        });
        Ok(())
    }

    fn serve(&mut self, id: SpliceId, side: Side, readiness: Readiness) {
        match self.splicer.handle_ready(id, side, readiness) {
            Progress::More => {
                let place = id.0 as usize;
                if self.has_turn.len() <= place {
                    self.has_turn.resize(place + 1, false);
                }
                if !std::mem::replace(&mut self.has_turn[place], true) {
                    self.turns.push_back(id);
                }
            }
            Progress::Ended(_) => {
                // Its descriptors are free for whoever waits.
                if let Door::ShutUntil(_) = self.door {
                    self.door = Door::Knocking;
                }
            }
            Progress::Open => {}
        }
    }
}

const NOTHING_NEW: Readiness = Readiness {
    readable: false,
    writable: false,
    error: false,
};

/// Clients let in before the connections have their turn.
const CLIENTS_AT_ONCE: usize = 64;

/// How long nobody is let in once the system has no descriptor or no memory left.
const PAUSE: Duration = Duration::from_millis(50);
