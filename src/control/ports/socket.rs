//! Binding one port of the host.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::model::Transport;

/// Which versions of IP a socket bound to `[::]` serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    Both,
    One,
}

/// Binds a port; TCP listens. Nobody else can bind it then.
pub(super) fn open(transport: Transport, address: SocketAddr, versions: Versions) -> io::Result<OwnedFd> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(versions == Versions::One)?;
    }
    if transport == Transport::Tcp {
        // Connections of before that wait in TIME_WAIT must not keep the port (P11). Among UDP sockets the option
        // would let others share the port.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    if transport == Transport::Tcp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Clients that wait to be accepted; the kernel has a limit of its own (`net.core.somaxconn`, 4096 by default).
pub(super) const BACKLOG: i32 = 4096;
