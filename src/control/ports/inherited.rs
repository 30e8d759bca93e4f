//! Sockets that the service manager has bound for us (sd_listen_fds(3)).
//!
//! The service manager keeps them open, so the kernel lets clients in while nothing is published on them: it completes
//! their connections and queues them, and their datagrams. They mean whatever was published then, or nothing; whoever
//! is handed such a socket must not get them. So a socket is [drained](InheritedSockets::hand_over) when it is given to
//! a mapping: those clients are reset then, not earlier.

use std::{
    io,
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use socket2::{SockRef, Type};
use vswitch_proxy::publish::Bound;

use super::socket::BACKLOG;
use crate::model::Transport;

/// Sockets that were bound before the daemon started, for ports that it may not bind itself. They stay with the daemon
/// when nothing is published on them.
#[derive(Debug, Default)]
pub struct InheritedSockets(Vec<Inherited>);

#[derive(Debug)]
struct Inherited {
    transport: Transport,
    bound: Bound,
    socket: OwnedFd,
}

impl InheritedSockets {
    /// Those of the descriptors that are bound TCP or UDP sockets; others are closed, and logged.
    pub fn new(descriptors: Vec<OwnedFd>) -> Self {
        let mut sockets = Vec::with_capacity(descriptors.len());
        for (index, descriptor) in descriptors.into_iter().enumerate() {
            match describe(descriptor.as_fd()) {
                Ok((transport, bound)) => {
                    tracing::info!(address = %bound.address, %transport, "inherited a socket");
                    sockets.push(Inherited {
                        transport,
                        bound,
                        socket: descriptor,
                    });
                }
                Err(error) => tracing::warn!(index, %error, "an inherited descriptor is of no use"),
            }
        }
        Self(sockets)
    }

    /// Whether there is a socket for exactly this address and port, whatever else it serves.
    pub(super) fn has(&self, transport: Transport, address: SocketAddr) -> bool {
        let is_it = |one: &Inherited| one.transport == transport && one.bound.address == address;
        self.0.iter().any(is_it)
    }

    /// Whether there is a socket for exactly this address and port, and for nothing of IPv4.
    pub(super) fn has_v6_only(&self, transport: Transport, address: SocketAddr) -> bool {
        let bound = Bound {
            address,
            dual_stack: false,
        };
        self.find(transport, bound).is_some()
    }

    /// Where there is a socket that keeps us from binding this address and port.
    pub(super) fn in_the_way(&self, transport: Transport, address: SocketAddr) -> Option<Bound> {
        let is_in_the_way = |one: &&Inherited| {
            let bound = one.bound.address;
            let shares_family = bound.is_ipv4() == address.is_ipv4()
                || one.bound.dual_stack
                || address.ip() == Ipv4Addr::UNSPECIFIED;
            let shares_ip =
                bound.ip() == address.ip() || bound.ip().is_unspecified() || address.ip().is_unspecified();
            one.transport == transport && bound.port() == address.port() && shares_family && shares_ip
        };
        self.0.iter().find(is_in_the_way).map(|one| one.bound)
    }

    /// The socket that is bound exactly so, for a mapping that gets it now; nobody is queued on it.
    pub(super) fn hand_over(&self, transport: Transport, bound: Bound) -> Option<io::Result<OwnedFd>> {
        let socket = self.find(transport, bound)?;
        Some(drain(transport, socket).and_then(|()| socket.try_clone_to_owned()))
    }

    fn find(&self, transport: Transport, bound: Bound) -> Option<BorrowedFd<'_>> {
        let is_it = |one: &&Inherited| one.transport == transport && one.bound == bound;
        self.0.iter().find(is_it).map(|one| one.socket.as_fd())
    }
}

/// Resets all clients that wait to be accepted, or drops all datagrams that wait to be read.
fn drain(transport: Transport, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let socket = SockRef::from(&descriptor);
    socket.set_nonblocking(true)?;
    for _ in 0..DRAINED_MAX {
        let next = match transport {
            // Without lingering, closing resets.
            Transport::Tcp => socket
                .accept()
                .and_then(|(client, _)| client.set_linger(Some(Duration::ZERO))),
            Transport::Udp => socket.recv(&mut [MaybeUninit::uninit(); 1]).map(drop::<usize>),
        };
        match next {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                return Err(error);
            }
            // A client's own end, such as ECONNABORTED (accept(2)).
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Whoever floods a socket must not keep us here: more than a queue of 4096 (`net.core.somaxconn`) or a receive
/// buffer of the default size holds.
const DRAINED_MAX: usize = 65_536;

fn describe(descriptor: BorrowedFd<'_>) -> io::Result<(Transport, Bound)> {
    let unfit = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text.to_owned());
    let socket = SockRef::from(&descriptor);
    let transport = match socket.r#type()? {
        Type::STREAM => Transport::Tcp,
        Type::DGRAM => Transport::Udp,
        _ => return Err(unfit("it is neither a TCP nor a UDP socket")),
    };
    let address = socket.local_addr()?.as_socket();
    let address = address.ok_or_else(|| unfit("it is not a socket of IPv4 or IPv6"))?;
    if address.port() == 0 {
        return Err(unfit("it is not bound to a port"));
    }
    if transport == Transport::Tcp && !socket.is_listener()? {
        socket.listen(BACKLOG)?;
    }
    let dual_stack = address.is_ipv6() && address.ip().is_unspecified() && !socket.only_v6()?;
    Ok((transport, Bound { address, dual_stack }))
}
