//! Published ports: what the control plane hands to a relay, and what it hears of them.
//!
//! A published port is a [`Listener`], an ordinary socket of the host. Listeners with the same rules and the same
//! container make a *mapping*: one port or a whole range. A mapping is given to the relay of the network that its
//! container is published on ([`Relay::publish`](crate::Relay::publish)) and taken back with its listeners
//! ([`Relay::unpublish`](crate::Relay::unpublish)).

mod header;
mod registry;
mod sockets;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use ipnet::IpNet;
use vswitch_wire::MacAddr;

use crate::listing::Protocol;

pub(crate) use registry::Caller;
pub use registry::PublishedPorts;
pub use sockets::{NamespaceSockets, SocketKind};

/// Names a mapping for as long as the daemon runs; the control plane numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MappingId(pub u64);

/// One mapping.
#[derive(Debug, Clone)]
pub struct MappingSpec {
    /// Its name.
    pub id: MappingId,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The container.
    pub backend: Backend,
    /// Who may come, and how.
    pub rules: Rules,
}

/// The container of a mapping.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Number of its switch port.
    pub endpoint: u32,
    /// Its MAC.
    pub station: MacAddr,
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Whether its IPv4 answers to strangers come to this network's gateway, so that it can be shown IPv4 clients'
    /// addresses.
    pub routed_v4: bool,
    /// The same for IPv6.
    pub routed_v6: bool,
    /// What it reaches without the gateway: clients with such addresses are shown as the gateway.
    pub on_link: Arc<[IpNet]>,
    /// Sockets inside its namespace; `None` where that cannot be entered.
    pub sockets: Option<Arc<NamespaceSockets>>,
}

impl Backend {
    /// The container's address for a client of that version: of the same if it has one.
    pub fn address_for(&self, client: IpAddr) -> Option<IpAddr> {
        let (v4, v6) = (self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6));
        match client {
            IpAddr::V4(_) => v4.or(v6),
            IpAddr::V6(_) => v6.or(v4),
        }
    }
}

/// How a [`Backend`] reaches strangers, which changes with the networks around it.
#[derive(Debug, Clone)]
pub struct Routing {
    /// See [`Backend::routed_v4`].
    pub routed_v4: bool,
    /// See [`Backend::routed_v6`].
    pub routed_v6: bool,
    /// See [`Backend::on_link`].
    pub on_link: Arc<[IpNet]>,
}

/// Who may come, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Clients that may come; everybody if there is none.
    pub allow: Vec<IpNet>,
    /// Most connections, or UDP clients, at a time.
    pub max_connections: Option<u32>,
    /// Most new connections, or UDP clients, a second.
    pub connections_per_second: Option<u32>,
    /// The header that tells the container of the client before its first byte. TCP only.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How clients on this host are brought to the container.
    pub local: Local,
}

impl Rules {
    /// Whether `client` may come.
    pub(crate) fn admit(&self, client: IpAddr) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|prefix| prefix.contains(&client))
    }
}

/// Versions of the PROXY protocol (haproxy.org, `doc/proxy-protocol.txt`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// How TCP clients on this host are brought to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Local {
    /// As frames from the gateway's address.
    Relay,
    /// Socket to socket, connected inside the container's namespace: the container sees its own address. As `Relay`
    /// while there is no socket.
    #[default]
    Splice,
}

/// A published port's socket.
#[derive(Debug)]
pub struct Listener {
    /// Bound; TCP: listening. The relay makes it non-blocking.
    pub socket: OwnedFd,
    /// Where it is bound.
    pub bound: Bound,
    /// The container's port.
    pub container_port: u16,
}

/// Where a listener is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bound {
    /// Address and port; `[::]` may stand for IPv4, too.
    pub address: SocketAddr,
    /// Whether `[::]` also takes IPv4 clients (`IPV6_V6ONLY` is off).
    pub dual_stack: bool,
}

impl Bound {
    /// Whether a client that addresses `to` reaches it.
    pub fn covers(&self, to: SocketAddr) -> bool {
        let (bound, to_ip) = (self.address.ip(), to.ip());
        let is_any = bound.is_unspecified() && (bound.is_ipv4() == to_ip.is_ipv4() || self.dual_stack);
        self.address.port() == to.port() && (bound == to_ip || is_any)
    }
}

/// What becomes of a mapping's connections when it is taken back. Its UDP clients go in any case: they have no
/// socket but the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// They are reset.
    End,
    /// They go on to their end.
    Keep,
}

/// What has come by a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingView {
    /// The mapping.
    pub id: MappingId,
    /// Connections, or UDP clients, that it has now.
    pub active: u32,
    /// Counters by name.
    pub counters: Vec<(&'static str, u64)>,
}
