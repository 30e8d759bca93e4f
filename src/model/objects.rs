//! Networks, sandboxes and endpoints.
//!
//! An endpoint belongs to exactly one network and exactly one sandbox; a sandbox has at most one endpoint
//! on a network.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use vswitch_proxy::config::Denial;
use vswitch_wire::MacAddr;

use super::{EndpointId, NetworkId, PortMapping, SandboxId, Timestamp};

/// One broadcast domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its name; no two networks have the same.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// What carries it.
    pub driver: Driver,
    /// Address management options as given; `None` when the creator sent none.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Its IPv4 subnet.
    pub ipv4: Option<Subnet>,
    /// Its IPv6 subnet.
    pub ipv6: Option<Subnet>,
    /// No way out of it.
    pub internal: bool,
    /// Recorded for Docker's clients.
    pub attachable: bool,
    /// Driver options as given.
    pub options: BTreeMap<String, String>,
    /// Labels as given.
    pub labels: BTreeMap<String, String>,
    /// What the driver options say.
    pub settings: NetworkSettings,
    /// The gateway's own Ethernet address.
    #[serde(with = "text")]
    pub gateway_mac: MacAddr,
}

impl Network {
    /// Whether the daemon made it: `bridge`, `host` or `none`.
    pub fn is_predefined(&self) -> bool {
        Self::PREDEFINED.contains(&self.name.as_str())
    }

    /// Its subnets, IPv4 first.
    pub fn subnets(&self) -> impl Iterator<Item = &Subnet> {
        self.ipv4.iter().chain(&self.ipv6)
    }

    /// The gateway's addresses with prefix lengths, IPv4 first.
    pub fn gateways(&self) -> Vec<IpNet> {
        let gateways = self.subnets().filter_map(|subnet| {
            subnet
                .gateway
                .and_then(|gateway| IpNet::new(gateway, subnet.prefix.prefix_len()).ok())
        });
        gateways.collect()
    }

    /// Names of the networks that the daemon makes by itself.
    pub const PREDEFINED: [&'static str; 3] = ["bridge", "host", "none"];
}

/// What carries a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A switch of ours.
    Bridge,
    /// The host's own network; only shown, nothing can be connected to it.
    Host,
    /// Nothing.
    Null,
}

impl Driver {
    /// Docker's name of the driver.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// Addresses of one family on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The prefix; no host bits are set.
    pub prefix: IpNet,
    /// Where addresses are given from by themselves; the whole prefix when missing.
    pub range: Option<IpNet>,
    /// The gateway's address; `None` where the prefix has no room for one.
    pub gateway: Option<IpAddr>,
    /// Addresses that no endpoint gets, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Who chose the prefix.
    pub origin: Origin,
    /// Who chose the gateway's address.
    pub gateway_origin: Origin,
}

/// Who chose a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The daemon.
    Automatic,
    /// The user.
    Requested,
}

/// What the bridge driver's options say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSettings {
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Whether containers of the network may talk to each other.
    pub inter_container: bool,
    /// Start of the interfaces' names in containers, `eth` by default.
    pub interface_prefix: String,
    /// What containers get for an interface when nothing is said. A TAP in documents of earlier versions.
    #[serde(default)]
    pub link_kind: LinkKind,
    /// What containers may reach outside, and how. The default in documents of earlier versions.
    #[serde(default)]
    pub outbound: OutboundSettings,
}

/// What an interface of a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// A TAP: it outlives the daemon, whose successor takes it over.
    #[default]
    Tap,
    /// One end of a veth pair: it goes with the daemon, whose successor makes it anew.
    Veth,
}

impl LinkKind {
    /// How it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Veth => "veth",
        }
    }

    /// The option of endpoints and of networks that chooses one.
    pub const OPTION: &'static str = "endpoint";
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LinkKind {
    type Err = InvalidLinkKind;

    fn from_str(text: &str) -> Result<Self, InvalidLinkKind> {
        match text {
            "tap" => Ok(Self::Tap),
            "veth" => Ok(Self::Veth),
            _ => Err(InvalidLinkKind),
        }
    }
}

/// The text names no kind of interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be tap or veth")]
pub struct InvalidLinkKind;

/// What containers of a network may reach outside, and how they get there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OutboundSettings {
    /// Whether the gateway's address leads to what listens on the host's loopback only.
    pub host_loopback: bool,
    /// Whether the cloud's metadata address may be reached.
    pub metadata: bool,
    /// What a container hears of a destination that it must not reach.
    #[serde(with = "StoredDenial")]
    pub denied: Denial,
    /// The host's address that IPv4 connections come from; the routing table's choice when missing.
    pub ipv4: Option<Ipv4Addr>,
    /// The host's address that IPv6 connections come from; the routing table's choice when missing.
    pub ipv6: Option<Ipv6Addr>,
    /// The host's device that connections leave by; the routing table's choice when missing.
    pub interface: Option<String>,
    /// By what packets leave; the daemon's choice when missing.
    pub uplink: Option<UplinkKind>,
    /// What becomes of IPv4 packets that leave by the device uplink.
    pub gateway_mode_v4: GatewayMode,
    /// What becomes of IPv6 packets that leave by the device uplink.
    pub gateway_mode_v6: GatewayMode,
    /// Whether what begins outside may reach containers whose packets are routed.
    pub inbound: Inbound,
}

/// By what packets leave a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UplinkKind {
    /// The device uplink.
    Device,
    /// Sockets of the host.
    Sockets,
}

/// What becomes of packets that leave by the device uplink; the words are Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayMode {
    /// They get an address of the uplink.
    #[default]
    Nat,
    /// They keep their own.
    Routed,
}

/// Whether what begins outside may reach containers whose packets are routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Inbound {
    /// Only answers, and clients of published ports.
    #[default]
    Closed,
    /// Everybody.
    Open,
}

/// How [`Denial`] is stored.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Denial", rename_all = "lowercase")]
enum StoredDenial {
    Drop,
    Prohibited,
    Reset,
}

/// One network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// Its name, without a leading `/`; no two sandboxes have the same.
    pub name: String,
    /// Where it is.
    pub namespace: Namespace,
    /// The boot of the host that `namespace` belongs to ([`boot_id`](crate::io::netns::boot_id)): process
    /// ids, start times and inode numbers begin anew with each. Empty in documents of earlier versions,
    /// which equals no boot.
    #[serde(default)]
    pub boot: String,
    /// The container's own name of itself.
    pub hostname: String,
    /// When it was handed to us.
    pub created: Timestamp,
    /// Whether it is forgotten when it ends.
    pub auto_remove: bool,
    /// When its end was noticed; `None` while it lives.
    pub finished: Option<Timestamp>,
    /// Its published ports. None in documents of earlier versions.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
}

/// How a network namespace is found, with what tells it from a later one at the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// The namespace of a path.
    Path {
        /// Absolute path of an nsfs file.
        path: PathBuf,
        /// Device number of the file.
        device: u64,
        /// Inode number of the file.
        inode: u64,
    },
    /// The namespace of a process.
    Process {
        /// Its id in the daemon's PID namespace.
        pid: u32,
        /// Its start time in clock ticks since boot (proc_pid_stat(5), field 22).
        start_time: u64,
    },
}

/// One sandbox's attachment to one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The network.
    pub network: NetworkId,
    /// The sandbox.
    pub sandbox: SandboxId,
    /// Name of the device in the container.
    pub interface: String,
    /// What the device is. A TAP in documents of earlier versions.
    #[serde(default)]
    pub kind: LinkKind,
    /// The device's address.
    #[serde(with = "text")]
    pub mac: MacAddr,
    /// The IPv4 address and the subnet's prefix length.
    pub ipv4: Option<Ipv4Net>,
    /// The IPv6 address and the subnet's prefix length.
    pub ipv6: Option<Ipv6Net>,
    /// What was asked for.
    pub request: EndpointRequest,
}

impl Endpoint {
    /// Its addresses with prefix lengths, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpNet> {
        self.ipv4
            .map(IpNet::V4)
            .into_iter()
            .chain(self.ipv6.map(IpNet::V6))
    }
}

/// What was asked for of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EndpointRequest {
    /// Wanted IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Wanted IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Wanted Ethernet address.
    #[serde(with = "optional_text")]
    pub mac: Option<MacAddr>,
    /// Wanted name of the device.
    pub interface: Option<String>,
    /// Wanted kind of the device; the network's when missing.
    #[serde(default)]
    pub kind: Option<LinkKind>,
    /// Further names of the container on the network.
    pub aliases: Vec<String>,
    /// Driver options as given.
    pub options: BTreeMap<String, String>,
}

/// Ethernet addresses are stored as text.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use vswitch_wire::MacAddr;

    pub(super) fn serialize<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// As [`text`], for addresses that may be missing.
mod optional_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use vswitch_wire::MacAddr;

    pub(super) fn serialize<S: Serializer>(mac: &Option<MacAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        mac.map(|mac| mac.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<MacAddr>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| text.parse().map_err(de::Error::custom))
            .transpose()
    }
}
