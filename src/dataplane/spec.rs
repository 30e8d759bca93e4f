//! What the data plane must know of networks, endpoints and published ports.

use std::{net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use vswitch_nat::Egress;
use vswitch_proxy::config::{Policy, Source};
use vswitch_wire::MacAddr;

use crate::model::{EndpointId, NetworkId};

/// What the data plane must know of a network.
#[derive(Debug, Clone)]
pub struct NetworkSpec {
    /// The network's id.
    pub id: NetworkId,
    /// The network's name, for listings.
    pub name: String,
    /// The gateway's own Ethernet address.
    pub gateway_mac: MacAddr,
    /// The gateway's addresses with their prefix lengths, IPv4 and IPv6.
    pub gateways: Vec<IpNet>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Whether containers of this network may talk to each other (`icc`).
    pub inter_container: bool,
    /// How the network reaches outside; `None` for an internal one, where everything beyond the network is
    /// administratively prohibited.
    pub uplink: Option<Uplink>,
}

/// How a network reaches outside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uplink {
    /// Where containers may go.
    pub policy: Policy,
    /// How host sockets are bound.
    pub source: Source,
    /// By what packets leave.
    pub way: Way,
}

/// By what packets leave a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Way {
    /// By the device of the worker's uplink. Host sockets remain for the gateway's own services and for clients of
    /// published ports who come by the host.
    Device {
        /// How IPv4 packets are translated.
        v4: Egress,
        /// How IPv6 packets are translated.
        v6: Egress,
    },
    /// By host sockets.
    #[default]
    Sockets,
}

/// Ports of the uplink's addresses that lead to a published container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// On which of the uplink's addresses: all of both versions, all of one, or one.
    pub external: External,
    /// The ports there.
    pub ports: RangeInclusive<u16>,
    /// The container's for the first of them; the others follow.
    pub container_port: u16,
}

/// Addresses of an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum External {
    /// All of both versions.
    All,
    /// All of IPv4.
    AllV4,
    /// All of IPv6.
    AllV6,
    /// This one.
    One(IpAddr),
}

impl External {
    /// Whether any of them is of that version; which of them, if not all.
    pub(crate) fn of_version(self, target: IpAddr) -> Option<Option<IpAddr>> {
        match self {
            Self::All => Some(None),
            Self::AllV4 => target.is_ipv4().then_some(None),
            Self::AllV6 => target.is_ipv6().then_some(None),
            Self::One(address) => (address.is_ipv4() == target.is_ipv4()).then_some(Some(address)),
        }
    }
}

/// What the data plane must know of an endpoint.
#[derive(Debug, Clone)]
pub struct EndpointSpec {
    /// The endpoint's id.
    pub id: EndpointId,
    /// The network that it belongs to.
    pub network: NetworkId,
    /// How listings call the port, for example `web` or `web/eth1`.
    pub label: String,
    /// The one source MAC that the container may use.
    pub mac: MacAddr,
    /// The addresses that the container may use as source.
    pub addresses: Vec<IpAddr>,
}
