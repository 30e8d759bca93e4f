//! What lives under `/vswitch/v1/`.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{null_as_default, yes};
use crate::model::{LinkKind, PortMapping, PortRequest};

/// `GET /vswitch/v1/info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DaemonInfo {
    /// Version of the daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// RFC 3339 with nanoseconds.
    pub started_at: String,
    /// Number of packet loops.
    pub workers: usize,
    /// Whether the daemon runs as an ordinary user.
    pub rootless: bool,
    /// Where it listens, `unix://…`.
    pub api_socket: String,
    /// Directory that holds its state.
    pub state_dir: String,
    /// What the host lacks, and what to do about it; absent in answers of earlier versions.
    #[serde(default)]
    pub hints: Vec<String>,
    /// The device by which networks leave; absent if it is by host sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<UplinkInfo>,
}

/// The device uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UplinkInfo {
    /// The device.
    pub interface: String,
    /// Our Ethernet address on it.
    pub mac_address: String,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Routers on the link.
    pub gateways: Vec<IpAddr>,
    /// Our addresses with their prefixes, and `in use`, `testing` or `taken by …`.
    pub addresses: Vec<(String, String)>,
    /// Neighbours that are known or asked for.
    pub neighbours: usize,
    /// What was counted, by name.
    pub counters: BTreeMap<String, u64>,
}

/// `POST /vswitch/v1/sandboxes`: exactly one of `pid` and `netns`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SandboxCreate {
    /// Name by Docker's rule `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
    pub name: String,
    /// A process in the container's network namespace, as the daemon's `/proc` numbers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Absolute path of a network namespace (a bind mount, or `/proc/…/ns/net`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// The container's own name of itself; the short id when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Networks in the order of their interfaces: `bridge` when empty; `none` alone for no network.
    #[serde(default, deserialize_with = "null_as_default")]
    pub networks: Vec<SandboxNetwork>,
    /// Ports to publish.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ports: Vec<PortRequest>,
    /// Forget the sandbox when its process ends (the default); else it stays, `exited`, until deleted.
    #[serde(default = "yes")]
    pub auto_remove: bool,
}

/// One network that a new sandbox is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SandboxNetwork {
    /// Name or id of the network.
    pub network: String,
    /// Wanted IPv4 address.
    #[serde(rename = "IPv4Address", default, skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<String>,
    /// Wanted IPv6 address.
    #[serde(rename = "IPv6Address", default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    /// Wanted MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Wanted name of the device in the container; the next free `eth<N>` when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Wanted kind of the device, `tap` or `veth`; the network's when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Further names of the container on this network.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub aliases: Vec<String>,
}

/// `POST /vswitch/v1/sandboxes/{id}/ports` publishes ports of a running sandbox, all or none; the answer is
/// [`PortsPublished`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortsPublish {
    /// What to publish.
    pub ports: Vec<PortRequest>,
}

/// Answer to [`PortsPublish`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortsPublished {
    /// What is in service now, with the host's ports and addresses that are bound.
    pub ports: Vec<PortMapping>,
    /// What was done differently from what was asked.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `DELETE /vswitch/v1/sandboxes/{id}/ports` takes ports back, all or none. Parts of a published range may be taken
/// back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortsUnpublish {
    /// What to take back: every published port that fits one of these. A request without host address or ports fits
    /// all of them.
    pub ports: Vec<PortRequest>,
    /// Whether connections that are open are reset; else they go on. UDP clients go in any case.
    #[serde(default)]
    pub close_connections: bool,
}

/// One row of `GET /vswitch/v1/ports[?name=SANDBOX]`: a mapping with what has come by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortEntry {
    /// Name of the sandbox.
    pub sandbox: String,
    /// Name of the network that the sandbox is reached by; empty while there is none.
    pub network: String,
    /// What is published.
    #[serde(flatten)]
    pub mapping: PortMapping,
    /// Connections, or UDP clients, that it has now.
    pub active: u32,
    /// Counters by name: `accepted`, `failed`, `refused_allow`, `refused_connections`, `refused_limit`,
    /// `refused_rate`.
    pub counters: BTreeMap<String, u64>,
}

/// Answer to [`SandboxCreate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SandboxCreated {
    /// The new sandbox's id.
    pub id: String,
    /// What was done differently from what was asked.
    pub warnings: Vec<String>,
    /// Its endpoints in the order of the request.
    pub endpoints: Vec<SandboxEndpoint>,
    /// Addresses of the resolvers that its networks offer; empty when none leads outside. Absent in answers
    /// of earlier versions.
    #[serde(default)]
    pub name_servers: Vec<IpAddr>,
}

/// One endpoint of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SandboxEndpoint {
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Name of the network.
    pub network: String,
    /// Name of the device in the container.
    pub interface: String,
    /// What the device is; a TAP in answers of earlier versions.
    #[serde(default)]
    pub kind: LinkKind,
    /// MAC address of the device.
    pub mac_address: String,
    /// Address with prefix length, or empty.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// Address with prefix length, or empty.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// One network's switch, in `GET /vswitch/v1/bridges`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Bridge {
    /// Name of the network.
    pub network: String,
    /// Its id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// MAC address of its gateway, which is also the bridge's own.
    pub gateway_mac: String,
    /// The gateway's addresses with prefix length.
    pub gateways: Vec<String>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// No way out of the network.
    pub internal: bool,
    /// Whether its containers may talk to each other.
    pub inter_container: bool,
    /// The switch's ports by number.
    pub ports: Vec<BridgePort>,
}

/// One port of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BridgePort {
    /// Number of the port.
    pub port: u32,
    /// `gateway`, or the sandbox's name with the interface where it has several.
    pub label: String,
    /// `forwarding`, `down` or `disabled (…)`.
    pub state: String,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// The endpoint behind the port; absent for the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SandboxEndpoint>,
    /// Name of the endpoint's sandbox; empty for the gateway.
    pub sandbox: String,
}

/// One row of `GET /vswitch/v1/fdb`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FdbEntry {
    /// Name of the network.
    pub network: String,
    /// Its id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// The station.
    pub mac_address: String,
    /// Its VLAN where the network filters VLANs.
    pub vlan: Option<u16>,
    /// Number of the port behind which it is.
    pub port: u32,
    /// The port's label.
    pub label: String,
    /// Seconds since it last sent; 0 for entries that do not age.
    pub age_seconds: f64,
    /// `dynamic`, `local` or `static`.
    pub kind: String,
}

/// One port with its counters, in `GET /vswitch/v1/stats`. Where packets were translated a last one that is on no
/// network, `nat`, has the translation's drops and counters, if all are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortStats {
    /// Name of the network.
    pub network: String,
    /// Its id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Number of the port.
    pub port: u32,
    /// The port's label.
    pub label: String,
    /// Name of the sandbox; empty for the gateway.
    pub sandbox: String,
    /// Name of the device in the container; empty for the gateway.
    pub interface: String,
    /// Frames that entered the switch here: the container sent them.
    pub rx_frames: u64,
    /// Bytes of those frames.
    pub rx_bytes: u64,
    /// Frames that left the switch here.
    pub tx_frames: u64,
    /// Bytes of those frames.
    pub tx_bytes: u64,
    /// Other counters above zero, by name.
    pub other: BTreeMap<String, u64>,
    /// Dropped frames by reason, those above zero.
    pub drops: BTreeMap<String, u64>,
}

/// One flow of a container that ends in a host socket, in `GET /vswitch/v1/flows`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FlowEntry {
    /// Name of the network.
    pub network: String,
    /// Its id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Name of the sandbox; empty when it has just left the network.
    pub sandbox: String,
    /// Name of the device in the container; empty as `sandbox`.
    pub interface: String,
    /// `icmp`, `icmpv6`, `tcp` or `udp`.
    pub protocol: String,
    /// State in the words of `conntrack`, such as `ESTABLISHED`.
    pub state: String,
    /// The container's end, `address:port`; an echo flow has its identifier as port.
    pub container: String,
    /// The other end as the container addresses it.
    pub remote: String,
    /// The other end as the host reaches it; null where that is `remote`.
    pub target: Option<String>,
    /// Payload bytes from the container that the host has taken.
    pub sent_bytes: u64,
    /// Payload bytes that were sent to the container.
    pub received_bytes: u64,
    /// Seconds since the flow began.
    pub age_seconds: f64,
    /// Seconds since anything last moved.
    pub idle_seconds: f64,
    /// Seconds until the flow ends by itself if nothing moves.
    pub timeout_seconds: f64,
}
