//! The host socket of a UDP or echo flow.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use vswitch_wire::IpVersion;

use crate::{
    config::Source,
    payload::{Fragmentation, Headers},
    sys::IntOption,
};

/// A socket that is connected to the flow's other end and keeps ICMP errors. Nothing waits on it.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    socket: Socket,
    version: IpVersion,
    /// What its next packet will have, once anything was set.
    headers: Option<Headers>,
}

impl DatagramSocket {
    /// Opens a socket to `target`.
    ///
    /// # Errors
    /// The kernel's, which [`refusal`](crate::errors::refusal) explains.
    pub(crate) fn open(service: Service, target: SocketAddr, source: &Source) -> io::Result<Self> {
        let socket = Self::new(service, version_of(target))?;
        source.apply(&socket.socket, target)?;
        socket.connect(target)?;
        Ok(socket)
    }

    /// Connects to `target`, which has the version of the socket.
    ///
    /// Between `bind` and this, datagrams of strangers may have been queued; receivers hold each datagram's source
    /// against the target (R-UDP-2).
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn connect(&self, target: SocketAddr) -> io::Result<()> {
        self.socket.connect(&SockAddr::from(target))
    }

    /// Lets the next packet have the container's headers, as a router would send it on (R-UDP-9). Costs nothing
    /// while they stay the same.
    ///
    /// A field that the kernel refuses stays as it was, and is not tried again until the container changes it: the
    /// packet is worth more than its headers. The last hop is taken here, but at least one is left.
    pub(crate) fn set_headers(&mut self, headers: Headers) {
        let old = self.headers.replace(headers);
        if old == Some(headers) {
            return;
        }
        if old.map(|old| old.hops) != Some(headers.hops) {
            // The relay gets no packet whose last hop is here; 1 is the least that can be sent.
            let hops = u32::from(headers.hops.saturating_sub(1).max(1));
            let _ = match self.version {
                IpVersion::V4 => self.socket.set_ttl_v4(hops),
                IpVersion::V6 => self.socket.set_unicast_hops_v6(hops),
            };
        }
        if old.map(|old| old.class & DSCP) != Some(headers.class & DSCP) {
            // R-ECN-1: the DSCP, not the ECN bits, which only the ends of a connection may set.
            let class = u32::from(headers.class & DSCP);
            let _ = match self.version {
                IpVersion::V4 => self.socket.set_tos_v4(class),
                IpVersion::V6 => self.socket.set_tclass_v6(class),
            };
        }
        if old.map(|old| old.fragmentation) != Some(headers.fragmentation) {
            let (option, value) = match (self.version, headers.fragmentation) {
                (IpVersion::V4, Fragmentation::Allowed) => {
                    (IntOption::MTU_DISCOVER_V4, libc::IP_PMTUDISC_DONT)
                }
                (IpVersion::V4, Fragmentation::Forbidden) => {
                    (IntOption::MTU_DISCOVER_V4, libc::IP_PMTUDISC_DO)
                }
                // Over IPv6 the path's MTU is always heeded; the kernel fragments as the source that it is.
                (IpVersion::V6, Fragmentation::Allowed) => {
                    (IntOption::MTU_DISCOVER_V6, libc::IPV6_PMTUDISC_WANT)
                }
                (IpVersion::V6, Fragmentation::Forbidden) => {
                    (IntOption::MTU_DISCOVER_V6, libc::IPV6_PMTUDISC_DO)
                }
            };
            let _ = option.set(self.as_fd(), value);
        }
    }

    /// What the container's last packet had; `None` before the first.
    pub(crate) fn headers(&self) -> Option<Headers> {
        self.headers
    }

    /// Largest IP packet on the path to the target, in bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn path_mtu(&self) -> io::Result<u32> {
        let option = match self.version {
            IpVersion::V4 => IntOption::PATH_MTU_V4,
            IpVersion::V6 => IntOption::PATH_MTU_V6,
        };
        option.value(self.as_fd()).map(|mtu| mtu.unsigned_abs())
    }

    pub(crate) fn version(&self) -> IpVersion {
        self.version
    }

    /// For calls that socket2 has.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn new(service: Service, version: IpVersion) -> io::Result<Self> {
        let (domain, protocol) = match (service, version) {
            (Service::Echo, IpVersion::V4) => (Domain::IPV4, Protocol::ICMPV4),
            (Service::Echo, IpVersion::V6) => (Domain::IPV6, Protocol::ICMPV6),
            (Service::Queries | Service::Udp, IpVersion::V4) => (Domain::IPV4, Protocol::UDP),
            (Service::Queries | Service::Udp, IpVersion::V6) => (Domain::IPV6, Protocol::UDP),
        };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(protocol))?;
        let errors = match version {
            IpVersion::V4 => IntOption::QUEUE_ERRORS_V4,
            IpVersion::V6 => IntOption::QUEUE_ERRORS_V6,
        };
        errors.set(socket.as_fd(), 1)?;
        if service == Service::Udp {
            // Linux 5.0; without it datagrams come one by one.
            let _ = IntOption::UDP_GRO.set(socket.as_fd(), 1);
        }
        Ok(Self {
            socket,
            version,
            headers: None,
        })
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// A ping socket (icmp(7)): `EACCES` if `net.ipv4.ping_group_range` does not have our group.
    Echo,
    /// Datagrams to a resolver, received one by one: each answers a question of its own.
    Queries,
    /// Datagrams.
    Udp,
}

/// Whether a socket has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It will be ready again.
    Drained,
    /// It may have more now, and says nothing of it.
    More,
}

pub(crate) fn version_of(address: SocketAddr) -> IpVersion {
    match address {
        SocketAddr::V4(_) => IpVersion::V4,
        SocketAddr::V6(_) => IpVersion::V6,
    }
}

/// The upper six bits of the traffic class (RFC 2474 §3).
const DSCP: u8 = 0xfc;
