//! Sockets that the service manager has bound for us (sd_listen_fds(3)).

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
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

    /// The socket that is bound exactly so.
    pub(super) fn find(&self, transport: Transport, bound: Bound) -> Option<BorrowedFd<'_>> {
        let is_it = |one: &&Inherited| one.transport == transport && one.bound == bound;
        self.0.iter().find(is_it).map(|one| one.socket.as_fd())
    }
}

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
