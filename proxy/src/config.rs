//! What a network allows its containers outside.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use vswitch_wire::MacAddr;

use crate::publish::PublishedPorts;

/// Configuration of one network's relay.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// The gateway's own MAC: source of frames to containers.
    pub gateway_mac: MacAddr,
    /// The gateway's addresses: sources of errors that nobody else made.
    pub gateways: Vec<IpAddr>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Where containers may go.
    pub policy: Policy,
    /// How host sockets are bound.
    pub source: Source,
    /// Most of everything.
    pub limits: Limits,
    /// When idle flows end.
    pub timeouts: Timeouts,
    /// Published ports of all relays.
    pub published: Arc<PublishedPorts>,
}

/// Where containers may go (R-LIM-6). It is asked once per flow, when the flow begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Whether the gateway's address leads to services that listen on the host's loopback only
    /// (`allow_host_loopback`); otherwise it leads to a host address that is not loopback.
    pub host_loopback: bool,
    /// Whether the cloud metadata addresses 169.254.169.254 and fd00:ec2::254 are reachable (`allow_metadata`).
    pub metadata: bool,
    /// What a container hears of a destination that it must not reach.
    pub denied: Denial,
}

/// What a container hears of a destination that it must not reach (R-OUT-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Denial {
    /// Nothing.
    Drop,
    /// ICMP: communication administratively prohibited.
    #[default]
    Prohibited,
    /// TCP reset; other protocols: as `Prohibited`.
    Reset,
}

/// How host sockets are bound.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// Source address of IPv4 flows (`outbound_addr`).
    pub v4: Option<Ipv4Addr>,
    /// Source address of IPv6 flows (`outbound_addr6`).
    pub v6: Option<Ipv6Addr>,
    /// Device that flows leave by (`outbound_interface`).
    pub interface: Option<String>,
}

/// Most of everything. Each is counted when it is hit.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Flows of the network (DESIGN §9).
    pub flows: usize,
    /// Flows of one container (DESIGN §9).
    pub flows_per_endpoint: usize,
    /// Flows of one container that are clients of its published ports: the rest is for what it begins itself.
    pub clients_per_endpoint: usize,
    /// TCP connections of the network that wait for the host's connect (R-LIM-1).
    pub pending: usize,
    /// The same of one container (R-LIM-1).
    pub pending_per_endpoint: usize,
    /// Connections of clients of published ports that wait for one container's answer (R-IN-5).
    pub initiating_per_endpoint: usize,
    /// New flows of one container per second, and at once (R-LIM-1).
    pub new_per_second: u32,
    /// DNS queries of one container that wait for an answer (R-DNS-3).
    pub queries_per_endpoint: usize,
    /// Bytes of datagrams of which fragments are missing (R-UDP-10).
    pub reassembly_bytes: usize,
    /// Bytes of TCP segments before which others are missing (R-RX-2).
    pub early_bytes: usize,
    /// Descriptors for host sockets, of all relays of the daemon together (R-LIM-2).
    pub descriptors: Arc<Descriptors>,
}

impl Limits {
    /// The defaults, with this share of the daemon's descriptors.
    pub fn new(descriptors: Arc<Descriptors>) -> Self {
        Self {
            flows: 65_536,
            flows_per_endpoint: 16_384,
            clients_per_endpoint: 12_288,
            pending: 1024,
            pending_per_endpoint: 256,
            initiating_per_endpoint: 1024,
            new_per_second: 500,
            queries_per_endpoint: 256,
            reassembly_bytes: 4 << 20,
            early_bytes: 16 << 20,
            descriptors,
        }
    }
}

/// The descriptors that host sockets may take, shared by all workers. Touched once per flow, never per
/// packet.
#[derive(Debug)]
pub struct Descriptors {
    used: AtomicUsize,
    limit: usize,
}

impl Descriptors {
    /// At most `limit` descriptors.
    pub const fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Takes one, which comes back when the lease is dropped; `None` if all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Lease> {
        let more = |used| (used < self.limit).then_some(used + 1);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Lease(Arc::clone(self)))
    }
}

/// One descriptor of [`Descriptors`].
#[derive(Debug)]
pub(crate) struct Lease(Arc<Descriptors>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When idle flows end: nat-conformance §2, column "default", where it has a value for a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The host's connect (R-OUT-5), 30 to 130 s.
    pub connect: Duration,
    /// A TCP flow without any event (R-TM-1).
    pub tcp_idle: Duration,
    /// Closed by us first (R-CL-4).
    pub time_wait: Duration,
    /// UDP without an answer.
    pub udp_unreplied: Duration,
    /// UDP without an answer to ports 53 and 123 (RFC 4787 REQ-5a).
    pub udp_unreplied_short: Duration,
    /// UDP with traffic both ways.
    pub udp_stream: Duration,
    /// Echo requests (R-ICMP-2).
    pub echo: Duration,
    /// Fragments over IPv4 (`ipfrag_time`).
    pub reassembly_v4: Duration,
    /// Fragments over IPv6 (`ip6frag_time`).
    pub reassembly_v6: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(130),
            tcp_idle: seconds(7200),
            time_wait: seconds(60),
            udp_unreplied: seconds(120),
            udp_unreplied_short: seconds(30),
            udp_stream: seconds(300),
            echo: seconds(60),
            reassembly_v4: seconds(30),
            reassembly_v6: seconds(60),
        }
    }
}
