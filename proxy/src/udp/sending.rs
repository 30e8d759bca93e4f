//! Sending a container's datagrams on by a host socket (R-UDP-5, R-UDP-11).

use std::io;

use crate::{activity::Activity, datagram::Counters, payload::Datagram};

/// A host socket as one flow sends by it.
pub(crate) trait Outlet {
    /// Sends one datagram.
    fn send(&self, payload: &[u8]) -> io::Result<usize>;

    /// Sends datagrams of `size` but the last, cut by the kernel, all or none.
    fn send_segments(&self, payload: &[u8], size: u16) -> io::Result<usize>;

    /// Sends the first datagrams of `size` but the last; gives how many bytes went out.
    fn send_many(&self, payload: &[u8], size: usize) -> io::Result<usize>;
}

/// What is left of datagrams that a container has sent at once.
#[derive(Debug)]
pub(crate) struct Sending<'a> {
    rest: &'a [u8],
    size: usize,
    retry: Retry,
}

/// Where sending has come to.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// Everything went out, or there was no room for the rest.
    Done,
    /// The host's kernel refused the rest.
    Failed(io::Error),
    /// The call may only have reported an earlier datagram's error, and sent nothing (R-UDP-5): to be called again
    /// once the error queue is empty.
    Interrupted,
    /// This datagram is too big for the host's path.
    TooBig(&'a [u8]),
}

impl<'a> Sending<'a> {
    /// Nothing has gone out yet.
    pub(crate) fn new(datagram: &Datagram<'a>) -> Self {
        Self {
            rest: datagram.payload,
            size: datagram
                .segment
                .map_or(usize::MAX, |size| usize::from(size).max(1)),
            retry: Retry::Once,
        }
    }

    /// Sends as much as goes. What does not go is counted.
    pub(crate) fn advance(
        &mut self,
        outlet: &impl Outlet,
        segmentation: &mut Segmentation,
        activity: &mut Activity,
        counters: &mut Counters,
    ) -> Step<'a> {
        let size = self.size;
        loop {
            let most = size.saturating_mul(segmentation.at_once(size));
            let chunk = &self.rest[..self.rest.len().min(most)];
            let error = match segmentation.push(outlet, chunk, size) {
                Ok(taken) => {
                    activity.sent += taken as u64;
                    self.rest = &self.rest[taken..];
                    if self.rest.is_empty() {
                        return Step::Done;
                    }
                    self.retry = Retry::Once;
                    continue;
                }
                Err(error) => error,
            };
            let is_super_frame = chunk.len() > size;
            let step = match error.raw_os_error() {
                Some(libc::EAGAIN | libc::ENOBUFS) => Step::Done,
                _ if self.retry == Retry::Once => {
                    self.retry = Retry::Never;
                    return Step::Interrupted;
                }
                // R-UDP-11. A segment beyond the path's MTU is refused so, too: one by one they get what
                // their headers ask for.
                Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE)
                    if is_super_frame && *segmentation == Segmentation::Kernel =>
                {
                    *segmentation = Segmentation::OneByOne;
                    counters.gso_fallbacks += 1;
                    continue;
                }
                Some(libc::EMSGSIZE) => Step::TooBig(&chunk[..chunk.len().min(size)]),
                _ => Step::Failed(error),
            };
            counters.dropped_host += self.rest.len().div_ceil(size).max(1) as u64;
            return step;
        }
    }
}

/// How several datagrams of one frame are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segmentation {
    /// The host's kernel cuts them.
    Kernel,
    /// It could not, or the path is too narrow (R-UDP-11).
    OneByOne,
}

impl Segmentation {
    /// Sends the datagrams of `size` in `chunk`, or the first of them; gives how many bytes went out.
    fn push(self, outlet: &impl Outlet, chunk: &[u8], size: usize) -> io::Result<usize> {
        match self {
            _ if chunk.len() <= size => outlet.send(chunk),
            // The size is 16 bits wide where a chunk can exceed it.
            Self::Kernel => outlet.send_segments(chunk, size as u16),
            Self::OneByOne => outlet.send_many(chunk, size),
        }
    }

    /// How many datagrams of `size` one call may have.
    fn at_once(self, size: usize) -> usize {
        match self {
            Self::Kernel => (PAYLOAD_MAX / size).clamp(1, SEGMENTS_MAX),
            Self::OneByOne => SEGMENTS_MAX,
        }
    }
}

/// Whether an error may be an earlier datagram's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    Never,
    Once,
}

/// Largest payload over IPv4 (R-UDP-11).
pub(crate) const PAYLOAD_MAX: usize = 65_507;
/// Datagrams in one `UDP_SEGMENT` call: `UDP_MAX_SEGMENTS` of Linux before 6.9 (linux/udp.h).
const SEGMENTS_MAX: usize = 64;
