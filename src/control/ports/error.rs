//! Why a port of the host is not to be had, in Docker's words where Docker has some.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
};

use vswitch_proxy::publish::Bound;

use crate::model::Transport;

/// Why a port of the host cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The service manager has bound it in another way than it is asked for.
    #[error(
        "failed to bind host port {address}/{transport}: address already in use: systemd has opened {} for this daemon: \
         publish it as {}", .bound.address, activated(.bound, *.container_port)
    )]
    Activated {
        /// Where.
        address: SocketAddr,
        /// By what.
        transport: Transport,
        /// What it was to lead to.
        container_port: u16,
        /// What is there.
        bound: Bound,
    },
    /// Another mapping has it; take that back, or choose another.
    #[error("Bind for {0} failed: port is already allocated")]
    Allocated(SocketAddr),
    /// Something else failed.
    #[error("failed to bind host port {address}/{transport}: {error}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// By what.
        transport: Transport,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The process, or the host, has no descriptor left.
    #[error(
        "failed to bind host port {address}/{transport}: {error}; every published port takes one file descriptor: \
         raise vswitchd's limit (`ulimit -Hn`, or LimitNOFILE= of its systemd unit)"
    )]
    Descriptors {
        /// Where.
        address: SocketAddr,
        /// By what.
        transport: Transport,
        /// The kernel's answer.
        error: io::Error,
    },
    /// All ports that it might be are taken.
    #[error("all ports are allocated")]
    Exhausted,
    /// Another process has it; end that, or choose another.
    #[error("failed to bind host port {address}/{transport}: address already in use")]
    InUse {
        /// Where.
        address: SocketAddr,
        /// By what.
        transport: Transport,
    },
    /// It takes more descriptors than there are; publish less, or raise the limit.
    #[error(
        "needs {needed} descriptors, {left} are left; raise the limit of open files (ulimit -Hn) or publish fewer ports"
    )]
    Limit {
        /// What all ports of the command take.
        needed: usize,
        /// What others have left.
        left: usize,
    },
    /// The host does not have the address.
    #[error(
        "failed to bind host port {address}/{transport}: cannot assign requested address: {} is not an address of \
         this host", address.ip()
    )]
    NoAddress {
        /// Where.
        address: SocketAddr,
        /// By what.
        transport: Transport,
    },
    /// The container's network leaves by another way.
    #[error(
        "{address} is an address of the device uplink, and the container's network does not leave by it: publish on \
         an address of the host, or connect the container to a network with vswitch.uplink=device"
    )]
    OtherUplink {
        /// The uplink's address.
        address: IpAddr,
    },
    /// The container has no address of that version.
    #[error(
        "{address} is an address of the device uplink, and the container has no {} address that it could lead to: publish \
         on another address, or connect the container to a network that has them", version(*.address)
    )]
    OtherVersion {
        /// The uplink's address.
        address: IpAddr,
    },
    /// Ordinary users may not bind it.
    #[error("{}", privileged(.address, *.transport, *.start))]
    Privileged {
        /// Where.
        address: SocketAddr,
        /// By what.
        transport: Transport,
        /// The first port that they may bind.
        start: u16,
    },
    /// Only host sockets keep rules.
    #[error(
        "{address} is an address of the device uplink, which keeps no rules of ports: publish there without allow, \
         max-conns, rate and proxy-protocol, or on an address of the host"
    )]
    UplinkRules {
        /// The uplink's address.
        address: IpAddr,
    },
}

impl PortError {
    /// What the kernel's answer to binding means.
    pub(super) fn bind(address: SocketAddr, transport: Transport, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::InUse { address, transport },
            Some(libc::EADDRNOTAVAIL) => Self::NoAddress { address, transport },
            Some(libc::EACCES) => Self::Privileged {
                address,
                transport,
                start: unprivileged_start(),
            },
            Some(libc::EMFILE | libc::ENFILE) => Self::Descriptors {
                address,
                transport,
                error,
            },
            _ => Self::Bind {
                address,
                transport,
                error,
            },
        }
    }
}

/// How a socket of the service manager is asked for.
fn activated(bound: &Bound, container_port: u16) -> String {
    match bound.dual_stack {
        true => format!("{}:{container_port}", bound.address.port()),
        false => format!("{}:{container_port}", bound.address),
    }
}

fn privileged(address: &SocketAddr, transport: Transport, start: u16) -> String {
    let port = address.port();
    let directive = match transport {
        Transport::Tcp => "ListenStream",
        Transport::Udp => "ListenDatagram",
    };
    format!(
        "failed to bind host port {address}/{transport}: permission denied: ports below {start} are root's \
         (net.ipv4.ip_unprivileged_port_start is {start}). Run `sysctl net.ipv4.ip_unprivileged_port_start={port}` \
         as root, or let systemd open the port and start vswitchd with it (a socket unit with \
         {directive}={address}), or publish a port from {start} on"
    )
}

fn version(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

fn unprivileged_start() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    text.trim().parse().unwrap_or(DEFAULT_START)
}

/// `PROT_SOCK` (include/net/sock.h).
const DEFAULT_START: u16 = 1024;
