//! What flows look like from outside.

use std::{fmt, net::SocketAddr, time::Duration};

/// One flow, as `vswitch flows` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowView {
    /// Number of the container's switch port.
    pub endpoint: u32,
    /// Protocol.
    pub protocol: Protocol,
    /// State of the flow in the words of `conntrack`: `SYN_SENT`, `ESTABLISHED`, `UNREPLIED`, …; `SPLICED` for a client
    /// on this host whose socket is joined to one in the container's namespace.
    pub state: &'static str,
    /// The container's end; an echo flow has its identifier as port.
    pub container: SocketAddr,
    /// The other end as the container addresses it.
    pub remote: SocketAddr,
    /// The other end as the host reaches it, where that differs: the host itself or its resolver. Of a client of a
    /// published UDP port, the host's end, which it has addressed.
    pub target: Option<SocketAddr>,
    /// Payload bytes from the container that the host has taken.
    pub sent: u64,
    /// Payload bytes that were sent to the container.
    pub received: u64,
    /// Since the flow began.
    pub age: Duration,
    /// Since anything last moved.
    pub idle: Duration,
    /// Until the flow ends by itself if nothing moves; zero for one that does not, while both ends are there.
    pub timeout: Duration,
}

/// The protocol of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Echo requests over IPv4.
    Icmp,
    /// Echo requests over IPv6.
    Icmpv6,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Name as `conntrack` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
