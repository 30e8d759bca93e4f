//! One published port of a process of its own: what the `docker-proxy` program does.
//!
//! A [`Forwarder`] has one listening socket and one container. TCP connections are spliced ([`crate::splice`]); each
//! UDP client has a session, a socket of its own towards the container. One thread does all.
//!
//! dockerd starts the program with a pipe as descriptor 3, on which it waits for the outcome ([`Status`]), and from
//! release 28 on with the listening socket as descriptor 4.

mod datagrams;
mod listen;
mod recency;
mod status;
mod streams;

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Registry, Token, event::Event, unix::SourceFd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{relay::Readiness, sys};

pub use listen::ListenError;
pub use status::Status;

use datagrams::Datagrams;
use streams::Streams;

/// The descriptors that dockerd gives to the program.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Where the outcome of the start is told.
    pub status: Option<OwnedFd>,
    /// The listening socket.
    pub listener: Option<OwnedFd>,
}

impl Inherited {
    /// Takes them, once. To be called before the process opens anything.
    pub fn take() -> Self {
        let [status, listener] = sys::inherited::take([STATUS, LISTENER]);
        Self { status, listener }
    }
}

/// What to forward where.
#[derive(Debug)]
pub struct Order {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where clients come to.
    pub host: SocketAddr,
    /// Where they are brought to.
    pub container: SocketAddr,
    /// A socket that is bound already; else one is made.
    pub listener: Option<OwnedFd>,
}

/// What can be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// One published port in service.
#[derive(Debug)]
pub struct Forwarder {
    poll: Poll,
    service: Service,
    _stops: OwnedFd,
}

impl Forwarder {
    /// Listens. Clients can come from then on.
    ///
    /// # Errors
    /// The port cannot be had, or the system lacks descriptors.
    pub fn new(order: Order) -> Result<Self, StartError> {
        raise_limit();
        let listener = listen::listen(order.protocol, order.host, order.listener)?;
        let listener_fd = listener.as_raw_fd();
        let poll = Poll::new()?;
        let stops = sys::signals::stops()?;
        let registry = poll.registry();
        registry.register(&mut SourceFd(&stops.as_raw_fd()), STOPS, Interest::READABLE)?;
        let service = match order.protocol {
            Protocol::Tcp => Service::Tcp(Box::new(Streams::new(listener, order.container))),
            Protocol::Udp => Service::Udp(Box::new(Datagrams::new(listener, order.container)?)),
        };
        registry.register(&mut SourceFd(&listener_fd), DOOR, Interest::READABLE)?;
        Ok(Self {
            poll,
            service,
            _stops: stops,
        })
    }

    /// Serves until `SIGINT` or `SIGTERM`.
    ///
    /// # Errors
    /// The poll set fails, which it does not.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = self.service.timeout(now());
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let now = now();
            let registry = self.poll.registry();
            self.service.handle_timeout(now, registry);
            for event in &events {
                match event.token() {
                    STOPS => return Ok(()),
                    DOOR => self.service.handle_door(now, registry),
                    Token(token) => self.service.handle_ready(token, readiness(event)),
                }
            }
        }
    }
}

/// Why nothing is forwarded.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system does not let us.
    #[error("prepare the poll set: {}", Lower(.0))]
    System(#[from] io::Error),
}

#[derive(Debug)]
enum Service {
    Tcp(Box<Streams>),
    Udp(Box<Datagrams>),
}

impl Service {
    /// How long nothing is to be done unless something happens; `None` is for ever.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Tcp(streams) => streams.timeout(now),
            Self::Udp(datagrams) => datagrams.timeout(now),
        }
    }

    fn handle_timeout(&mut self, now: Instant, registry: &Registry) {
        match self {
            Self::Tcp(streams) => streams.handle_timeout(now, registry),
            Self::Udp(datagrams) => datagrams.handle_timeout(now, registry),
        }
    }

    fn handle_door(&mut self, now: Instant, registry: &Registry) {
        match self {
            Self::Tcp(streams) => streams.accept(now, registry),
            Self::Udp(datagrams) => datagrams.receive(now, registry),
        }
    }

    fn handle_ready(&mut self, token: usize, readiness: Readiness) {
        match self {
            Self::Tcp(streams) => streams.handle_ready(token, readiness),
            Self::Udp(datagrams) => datagrams.answer(token),
        }
    }
}

/// An error as Go's programs have it, among whose messages it stands: in lower case, without its number.
struct Lower<'a>(&'a io::Error);

impl fmt::Display for Lower<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut rest = text.chars();
        match rest.next() {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), rest.as_str()),
            None => Ok(()),
        }
    }
}

/// As many descriptors as we may have: a connection takes two.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // With fewer it works as well.
    let _ = setrlimit(Resource::Nofile, raised);
}

fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable() || event.is_read_closed(),
        writable: event.is_writable(),
        error: event.is_error(),
    }
}

#[expect(clippy::disallowed_methods, reason = "here is the loop that time comes from")]
fn now() -> Instant {
    Instant::now()
}

/// Descriptors that dockerd gives to the program (moby, `portmapper/proxy.go`).
const STATUS: i32 = 3;
const LISTENER: i32 = 4;

/// Events taken per poll.
const EVENTS: usize = 256;

const DOOR: Token = Token(usize::MAX);
const STOPS: Token = Token(usize::MAX - 1);
