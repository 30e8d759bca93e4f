//! Streams from socket to socket, without a copy through this process.
//!
//! A *pair* is a client's accepted socket (front) and one towards the container (back). Each of its two directions
//! moves bytes by `splice(2)` through a pipe that it borrows from a pool only while there is something in it, so that
//! an idle pair holds nothing but its sockets. What is short is received and sent again, which is quicker; so is
//! everything while no pipe is to be had.
//!
//! Both sockets are in the owner's poll set, edge-triggered. A direction therefore notes that its source has
//! something to read, or its sink room, until the kernel answers `EAGAIN`: only then will there be another edge.
//! Each of the four notes belongs to one direction alone.
//!
//! - Only a read of nothing is the end of a stream (R-CL-2): it is passed on once all before it is delivered.
//! - While the sink takes nothing, nothing is read: what a direction holds is at most one pipe, or one buffer.
//! - A failure of either socket resets the other, after what could be read has been delivered; what lies in a send
//!   queue that the peer does not take is lost, as it would be without us.
//! - Urgent data is passed on in its place in the stream, as ordinary data.
//! - Peers that vanish are found out by keep-alives (R-LIM).

mod direction;
mod pair;
mod pipes;

use std::{
    fmt, io, mem,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use socket2::{Socket, TcpKeepalive};

pub use crate::{
    link::{Side, SpliceId},
    relay::Readiness,
};

use crate::sys::IntOption;
use direction::Means;
use pair::Pair;
use pipes::Pipes;

/// Pairs of sockets, and the pipes that they share.
///
/// The owner gives it pairs ([`open`](Self::open)) and what its poll set says of them
/// ([`handle_ready`](Self::handle_ready)).
pub struct Splicer {
    pairs: Vec<Option<Box<Pair>>>,
    free: Vec<SpliceId>,
    means: Means,
}

/// The two sockets of a new pair.
#[derive(Debug)]
pub struct Ends {
    /// The client's.
    pub front: Socket,
    /// The container's.
    pub back: Socket,
    /// How far the back is.
    pub connect: Connect,
    /// What the container gets before the client's first byte.
    pub prefix: Vec<u8>,
}

/// How far the connect of a back is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// Begun; the socket's readiness tells how it ends.
    Begun,
    /// Done.
    Done,
}

/// What a call has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// The pair has ended, its sockets are closed and its number is free.
    Ended(Summary),
    /// It stopped at its budget, and says nothing of itself: call again, with any readiness.
    More,
    /// Its sockets will be ready again.
    Open,
}

/// What was moved by a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bytes from the client.
    pub to_back: u64,
    /// Bytes from the container.
    pub to_front: u64,
    /// Whether it ended by a reset or never began, rather than by the ends of both streams.
    pub reset: bool,
}

/// A pair, for listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpliceView {
    /// Its number.
    pub id: SpliceId,
    /// The client; `None` once it is gone.
    pub client: Option<SocketAddr>,
    /// The container's end; `None` while it is not connected.
    pub container: Option<SocketAddr>,
    /// Bytes from the client.
    pub to_back: u64,
    /// Bytes from the container.
    pub to_front: u64,
}

/// How many pipes there may be. Each takes two descriptors, and memory only while something is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeLimits {
    /// At the same time: directions that find none copy.
    pub most: usize,
    /// Kept for the next one while nobody needs them.
    pub kept: usize,
    /// Bytes that each is made for, where the system allows.
    pub capacity: usize,
}

impl Default for PipeLimits {
    fn default() -> Self {
        Self {
            most: 64,
            kept: 8,
            capacity: CAPACITY,
        }
    }
}

impl Default for Splicer {
    fn default() -> Self {
        Self::new(PipeLimits::default())
    }
}

impl Splicer {
    /// Without pairs.
    pub fn new(limits: PipeLimits) -> Self {
        Self {
            pairs: Vec::new(),
            free: Vec::new(),
            means: Means::new(Pipes::new(limits)),
        }
    }

    /// The number that the next pair will have.
    pub fn next_id(&self) -> SpliceId {
        self.free
            .last()
            .copied()
            .unwrap_or(SpliceId(self.pairs.len() as u32))
    }

    /// Takes a pair, whose sockets come into the poll set under the tokens that `token` makes.
    ///
    /// # Errors
    /// The poll set does not take them, or the front has gone already. Both are closed then, the front by a reset.
    pub fn open(
        &mut self,
        ends: Ends,
        registry: &Registry,
        token: impl Fn(SpliceId, Side) -> Token,
    ) -> io::Result<SpliceId> {
        let id = self.next_id();
        let pair = Pair::new(ends);
        let registered = [Side::Front, Side::Back].into_iter().try_for_each(|side| {
            let socket = pair.socket(side);
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut SourceFd(&socket.as_raw_fd()), token(id, side), interest)
        });
        if let Err(error) = registered {
            pair.reset(&mut self.means);
            return Err(error);
        }
        match self.free.pop() {
            Some(_) => self.pairs[id.0 as usize] = Some(Box::new(pair)),
            None => self.pairs.push(Some(Box::new(pair))),
        }
        Ok(id)
    }

    /// Moves what can be moved, now that a socket of a pair is said to be ready. A stale or foreign event does no
    /// harm.
    pub fn handle_ready(&mut self, id: SpliceId, side: Side, readiness: Readiness) -> Progress {
        let Some(pair) = self.pairs.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return Progress::Open;
        };
        pair.note(side, readiness);
        let progress = pair.advance(&mut self.means);
        if let Progress::Ended(summary) = progress {
            self.remove(id, summary);
        }
        progress
    }

    /// Resets both sockets of a pair; `None` if there is no such pair.
    pub fn abort(&mut self, id: SpliceId) -> Option<Summary> {
        let summary = self.pairs.get(id.0 as usize)?.as_ref()?.summary(Outcome::Reset);
        self.remove(id, summary);
        Some(summary)
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.pairs.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every pair.
    pub fn views(&self) -> impl Iterator<Item = SpliceView> {
        (0..).map(SpliceId).zip(&self.pairs).filter_map(|(id, pair)| {
            let pair = pair.as_ref()?;
            let peer = |side| pair.socket(side).peer_addr().ok()?.as_socket();
            let summary = pair.summary(Outcome::Closed);
            Some(SpliceView {
                id,
                client: peer(Side::Front),
                container: peer(Side::Back),
                to_back: summary.to_back,
                to_front: summary.to_front,
            })
        })
    }

    fn remove(&mut self, id: SpliceId, summary: Summary) {
        let Some(pair) = self.pairs.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        self.free.push(id);
        if summary.reset {
            pair.reset(&mut self.means);
        }
    }
}

impl Drop for Splicer {
    fn drop(&mut self) {
        // Nobody must take an unfinished stream for a finished one.
        for pair in mem::take(&mut self.pairs).into_iter().flatten() {
            pair.reset(&mut self.means);
        }
    }
}

impl fmt::Debug for Splicer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splicer")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// How a pair ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Closed,
    Reset,
}

/// Sets what a stream between two sockets needs. An accepted socket inherits it from its listener
/// (`inet_csk_clone_lock`, net/ipv4/inet_connection_sock.c), which saves four calls for each connection.
///
/// # Errors
/// The kernel's; it is no TCP socket.
pub fn prepare(socket: &Socket) -> io::Result<()> {
    // Whoever wrote has decided already whether to wait for more.
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    // Whatever a container has its own namespace do.
    IntOption::SYN_COUNT.set(socket.as_fd(), SYN_RETRIES)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE))
}

/// From then on a silent peer is asked whether it is still there: nine times, every 75 s, by the kernel's defaults
/// (tcp(7)).
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// R-IN-2: "1, 2, 4 … ≤ 7".
const SYN_RETRIES: i32 = 6;

/// Largest that an ordinary user may have (`fs.pipe-max-size`, pipe(7)).
const CAPACITY: usize = 1 << 20;

#[cfg(test)]
mod tests;
