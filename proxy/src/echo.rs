//! Echo flows: a container's pings of one other end with one identifier, by a ping socket (icmp(7)).
//!
//! Only requests go out and only replies come in: the kernel lets a ping socket do nothing else (R-ICMP-3).

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

use vswitch_wire::{Echo, IcmpHeader, IpProtocol, IpVersion, Refusal, checksum};

use crate::{
    Link, Path, Scratch,
    activity::Activity,
    config::{Source, Timeouts},
    datagram::Inbound,
    datagram_socket::{DatagramSocket, Progress, Service, version_of},
    drain::{Drain, SLOTS},
    errors,
    payload::{EchoRequest, Headers},
    report::{Quote, QuotedProtocol},
    sys::{QueuedError, Received},
};

/// One echo flow: a ping socket whose identifier the kernel chose, because one chosen by a container could
/// be another program's (R-ICMP-2).
///
/// # States
/// `UNREPLIED` until the first reply, then `ASSURED`. Both end at [`EchoFlow::deadline`].
#[derive(Debug)]
pub(crate) struct EchoFlow {
    socket: DatagramSocket,
    target: SocketAddr,
    activity: Activity,
}

impl EchoFlow {
    /// Pings of `target`, whose port is ignored.
    ///
    /// # Errors
    /// `PermissionDenied` if `net.ipv4.ping_group_range` does not have our group (R-ICMP-1); else the kernel's,
    /// which [`errors::refusal`] explains.
    pub(crate) fn open(now: Instant, mut target: SocketAddr, source: &Source) -> io::Result<Self> {
        target.set_port(0);
        let socket = DatagramSocket::open(Service::Echo, target, source)?;
        Ok(Self {
            socket,
            target,
            activity: Activity::new(now),
        })
    }

    /// The container sends a request. Gives what it is to be told if that cannot go anywhere.
    pub(crate) fn handle_request<L: Link>(
        &mut self,
        now: Instant,
        request: &EchoRequest<'_>,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) -> Option<Refusal> {
        self.activity.last = now;
        self.socket.set_headers(request.headers);
        let mut result = self.push(&request.echo);
        // As for UDP: the call may only have reported an earlier error (R-UDP-5).
        if matches!(&result, Err(error) if error.kind() != io::ErrorKind::WouldBlock) {
            self.drain_all_errors(inbound, scratch);
            result = self.push(&request.echo);
        }
        let error = match result {
            Ok(_) => {
                self.activity.sent += request.echo.data.len() as u64;
                return None;
            }
            Err(error) => error,
        };
        inbound.counters.dropped_host += 1;
        if error.raw_os_error() == Some(libc::EMSGSIZE) {
            inbound.counters.too_big += 1;
            let len = IcmpHeader::LEN + request.echo.data.len();
            if let Some(error) = errors::too_big(&self.socket, len, request.headers) {
                // Only the beginning is quoted.
                let message = &mut scratch.datagrams[..len];
                message[..IcmpHeader::LEN].copy_from_slice(&self.header(&request.echo));
                message[IcmpHeader::LEN..].copy_from_slice(request.echo.data);
                restore(message, request.echo.id, REQUEST, inbound.path);
                let quote = quote(message, request.headers);
                inbound.report(error, inbound.gateway, &quote, &mut scratch.frame);
            }
            return None;
        }
        errors::refusal(&error)
    }

    /// The socket may have something: errors first, then replies. Afterwards the socket is drained, or this
    /// is to be called again without waiting for it.
    pub(crate) fn handle_ready<L: Link>(
        &mut self,
        now: Instant,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) -> Progress {
        self.drain(now, inbound, scratch)
    }

    /// When the flow ends, unless something moves before (R-ICMP-2).
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Instant {
        self.activity.last + timeouts.echo
    }

    /// What has moved so far.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Our end, which a connected socket has; else the other end is as good as any, and the container ignores the
    /// checksum that comes of it.
    fn local_ip(&self) -> IpAddr {
        let address = self.socket.socket().local_addr().ok();
        let address = address.and_then(|address| address.as_socket());
        address.unwrap_or(self.target).ip()
    }

    fn push(&self, echo: &Echo<'_>) -> io::Result<usize> {
        let header = self.header(echo);
        self.socket
            .socket()
            .send_vectored(&[IoSlice::new(&header), IoSlice::new(echo.data)])
    }

    /// The kernel fills in its identifier and the checksum.
    fn header(&self, echo: &Echo<'_>) -> [u8; IcmpHeader::LEN] {
        let kind = match self.socket.version() {
            IpVersion::V4 => REQUEST[0],
            IpVersion::V6 => REQUEST[1],
        };
        let [high, low] = echo.sequence.to_be_bytes();
        [kind, 0, 0, 0, 0, 0, high, low]
    }

    fn deliver<L: Link>(
        &mut self,
        now: Instant,
        received: &Received,
        inbound: &mut Inbound<'_, L>,
        slot: &mut [u8],
    ) {
        // The kernel looks for the identifier only, so that another host could answer.
        if received.source.map(|source| source.ip()) != Some(self.target.ip()) {
            inbound.counters.dropped_foreign += 1;
            return;
        }
        let end = SLOTS.headroom + received.len;
        if !restore(
            &mut slot[SLOTS.headroom..end],
            inbound.path.container.port(),
            REPLY,
            inbound.path,
        ) {
            inbound.counters.dropped_foreign += 1;
            return;
        }
        self.activity.note_answer(now);
        let delivered = inbound.send_icmp(&mut slot[..end], SLOTS.headroom..end);
        self.activity.received += delivered.saturating_sub(IcmpHeader::LEN) as u64;
    }
}

impl Drain for EchoFlow {
    const BATCHES: usize = 2;

    fn socket(&self) -> &DatagramSocket {
        &self.socket
    }

    fn handle_received<L: Link>(
        &mut self,
        now: Instant,
        received: &[Received],
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) {
        let slots = scratch.datagrams.chunks_exact_mut(SLOTS.stride);
        for (received, slot) in received.iter().zip(slots) {
            self.deliver(now, received, inbound, slot);
        }
    }

    fn handle_error<L: Link>(
        &mut self,
        error: &QueuedError,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) {
        // Of a ping socket the payload begins with the ICMP header.
        let message = &mut scratch.datagrams[..error.len];
        let explained = errors::explain(error, version_of(inbound.path.remote));
        let ends = (self.local_ip(), self.target.ip());
        let Some(explained) = explained.filter(|_| take_back(message, ends, inbound.path)) else {
            inbound.counters.errors_ignored += 1;
            return;
        };
        let from = errors::reporter(error, self.target, inbound.path, inbound.gateway);
        let headers = self.socket.headers().unwrap_or(Headers::DEFAULT);
        inbound.report(explained, from, &quote(message, headers), &mut scratch.frame);
    }
}

impl AsFd for EchoFlow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn quote(message: &[u8], headers: Headers) -> Quote<'_> {
    Quote {
        protocol: QuotedProtocol::Echo,
        headers,
        payload: message,
    }
}

/// Makes the message the container's: its identifier, and the checksum anew. False if it is no echo message
/// of that kind.
fn restore(message: &mut [u8], id: u16, kinds: [u8; 2], path: &Path) -> bool {
    let (kind, pseudo_header) = match (path.remote, path.container) {
        (SocketAddr::V4(_), _) => (kinds[0], 0),
        (SocketAddr::V6(remote), SocketAddr::V6(container)) => (
            kinds[1],
            checksum::pseudo_header_v6(
                *remote.ip(),
                *container.ip(),
                IpProtocol::ICMPV6,
                message.len() as u32,
            ),
        ),
        // Both ends are of one version.
        _ => return false,
    };
    let Ok((header, _)) = IcmpHeader::parse_mut(message) else {
        return false;
    };
    if header.kind() != kind {
        return false;
    }
    header.set_echo_id(id);
    header.set_checksum(0);
    let checksum = checksum::finish(pseudo_header + checksum::sum(message));
    if let Ok((header, _)) = IcmpHeader::parse_mut(message) {
        header.set_checksum(checksum);
    }
    true
}

/// Makes a request that went out between the two `ends` the container's again. What comes back with an error may be
/// its first eight bytes only (RFC 792), so the checksum is updated and not computed anew. False if it is no
/// request.
fn take_back(message: &mut [u8], ends: (IpAddr, IpAddr), path: &Path) -> bool {
    let Ok((header, _)) = IcmpHeader::parse_mut(message) else {
        return false;
    };
    let id = path.container.port();
    let mut checksum = checksum::update16(header.checksum(), header.echo_id(), id);
    let kind = match (ends, path.container.ip(), path.remote.ip()) {
        ((IpAddr::V4(_), _), IpAddr::V4(_), _) => REQUEST[0],
        // The pseudo-header has the addresses (RFC 4443 §2.3).
        ((IpAddr::V6(local), IpAddr::V6(target)), IpAddr::V6(container), IpAddr::V6(remote)) => {
            checksum = checksum::update(checksum, &local.octets(), &container.octets());
            checksum = checksum::update(checksum, &target.octets(), &remote.octets());
            REQUEST[1]
        }
        _ => return false,
    };
    if header.kind() != kind {
        return false;
    }
    header.set_echo_id(id);
    header.set_checksum(checksum);
    true
}

/// Types of an echo request over IPv4 (RFC 792) and IPv6 (RFC 4443 §4.1).
const REQUEST: [u8; 2] = [8, 128];
/// Types of an echo reply.
const REPLY: [u8; 2] = [0, 129];

#[cfg(test)]
mod tests;
