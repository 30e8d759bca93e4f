//! The listening socket.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};

use super::{Lower, Protocol};
use crate::splice;

/// Why a port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The system does not give it to us.
    #[error("listen {network} {address}: {operation}: {}{}", Lower(.source), advice(.address, .source))]
    Bind {
        /// As Go names it.
        network: &'static str,
        /// What was asked for.
        address: SocketAddr,
        /// The system call.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The socket that was given to us is of no use.
    #[error("use the listening socket that was given as descriptor 4: {}", Lower(.0))]
    Inherited(#[source] io::Error),
}

/// A socket to which clients can come; non-blocking.
pub(super) fn listen(
    protocol: Protocol,
    address: SocketAddr,
    given: Option<OwnedFd>,
) -> Result<Socket, ListenError> {
    if let Some(given) = given {
        return adopt(protocol, given.into()).map_err(ListenError::Inherited);
    }
    let failed = |operation| {
        move |source| ListenError::Bind {
            network: network(protocol, address.ip()),
            address,
            operation,
            source,
        }
    };
    let socket = Socket::new(
        Domain::for_address(address),
        kind(protocol).nonblocking().cloexec(),
        Some(match protocol {
            Protocol::Tcp => SocketProtocol::TCP,
            Protocol::Udp => SocketProtocol::UDP,
        }),
    )
    .map_err(failed("socket"))?;
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(failed("setsockopt"))?;
    }
    if protocol == Protocol::Tcp {
        // A port whose last connections are in TIME_WAIT can be published again (P11).
        socket.set_reuse_address(true).map_err(failed("setsockopt"))?;
    }
    socket.bind(&address.into()).map_err(failed("bind"))?;
    if protocol == Protocol::Tcp {
        splice::prepare(&socket).map_err(failed("setsockopt"))?;
        socket.listen(BACKLOG).map_err(failed("listen"))?;
    }
    Ok(socket)
}

/// Takes a bound socket into service.
fn adopt(protocol: Protocol, socket: Socket) -> io::Result<Socket> {
    if socket.r#type()? != kind(protocol) {
        return Err(io::Error::other(
            "it is not of the protocol that is to be forwarded",
        ));
    }
    socket.set_nonblocking(true)?;
    if protocol == Protocol::Tcp {
        splice::prepare(&socket)?;
    }
    if protocol == Protocol::Tcp && !socket.is_listener()? {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

fn kind(protocol: Protocol) -> Type {
    match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    }
}

fn network(protocol: Protocol, address: IpAddr) -> &'static str {
    match (protocol, address) {
        (Protocol::Tcp, IpAddr::V4(_)) => "tcp4",
        (Protocol::Tcp, IpAddr::V6(_)) => "tcp6",
        (Protocol::Udp, IpAddr::V4(_)) => "udp4",
        (Protocol::Udp, IpAddr::V6(_)) => "udp6",
    }
}

/// What can be done about it, where it is not plain.
fn advice(address: &SocketAddr, error: &io::Error) -> String {
    let first: Option<u16> = fs::read_to_string(UNPRIVILEGED_PORTS)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    match first {
        Some(first) if error.kind() == io::ErrorKind::PermissionDenied && address.port() < first => format!(
            " (ports below {first} need CAP_NET_BIND_SERVICE, or net.ipv4.ip_unprivileged_port_start at most {})",
            address.port()
        ),
        _ => String::new(),
    }
}

const UNPRIVILEGED_PORTS: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Connections that wait to be accepted: `SOMAXCONN` (R-IN-5).
const BACKLOG: i32 = 4096;
