//! Docker's containers; ours are sandboxes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{StringMap, null_as_default};

/// An endpoint as a container sees it: wishes in requests, facts in answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Addresses that were asked for.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpam>,
    /// Recorded nowhere: links belong to Docker's default bridge.
    pub links: Option<Vec<String>>,
    /// Further names of the container on this network.
    pub aliases: Option<Vec<String>>,
    /// MAC address, asked for or in use.
    #[serde(deserialize_with = "null_as_default")]
    pub mac_address: String,
    /// Endpoint options, such as `com.docker.network.endpoint.ifname`.
    pub driver_opts: Option<StringMap>,
    /// The network's id.
    #[serde(rename = "NetworkID", deserialize_with = "null_as_default")]
    pub network_id: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID", deserialize_with = "null_as_default")]
    pub endpoint_id: String,
    /// IPv4 gateway of the network.
    #[serde(deserialize_with = "null_as_default")]
    pub gateway: String,
    /// IPv4 address without prefix length.
    #[serde(rename = "IPAddress", deserialize_with = "null_as_default")]
    pub ip_address: String,
    /// Its prefix length.
    #[serde(rename = "IPPrefixLen", deserialize_with = "null_as_default")]
    pub ip_prefix_len: u8,
    /// IPv6 gateway of the network.
    #[serde(rename = "IPv6Gateway", deserialize_with = "null_as_default")]
    pub ipv6_gateway: String,
    /// IPv6 address without prefix length.
    #[serde(rename = "GlobalIPv6Address", deserialize_with = "null_as_default")]
    pub global_ipv6_address: String,
    /// Its prefix length.
    #[serde(rename = "GlobalIPv6PrefixLen", deserialize_with = "null_as_default")]
    pub global_ipv6_prefix_len: u8,
    /// All names of the container on this network.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

/// Addresses that were asked for; absent members were not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointIpam {
    /// IPv4 address.
    #[serde(
        rename = "IPv4Address",
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ipv4_address: String,
    /// IPv6 address.
    #[serde(
        rename = "IPv6Address",
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ipv6_address: String,
    /// Link-local addresses; refused when present.
    #[serde(
        rename = "LinkLocalIPs",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub link_local_ips: Vec<String>,
}

/// One sandbox, in `GET /containers/json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSummary {
    /// The sandbox's id.
    pub id: String,
    /// One name with a leading `/`.
    pub names: Vec<String>,
    /// Empty: we know no images.
    pub image: String,
    /// Empty.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// The process's command line, or the namespace's path.
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Empty.
    pub labels: StringMap,
    /// `running` or `exited`.
    pub state: String,
    /// The state in words, such as `Up 5 minutes`.
    pub status: String,
    /// Where the first network is named.
    pub host_config: HostConfig,
    /// Endpoints by network name.
    pub network_settings: SummaryNetworks,
    /// Empty.
    pub mounts: Vec<serde_json::Value>,
    /// As [`ContainerState::pid`]. Docker's lists do not have it; its clients ignore it.
    #[serde(default)]
    pub pid: u32,
}

/// One published port of [`ContainerSummary::ports`], on one address of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    /// The host's address; absent for a port that is not published.
    #[serde(rename = "IP", default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The container's port.
    pub private_port: u16,
    /// The host's port; absent for a port that is not published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    /// `tcp` or `udp`.
    #[serde(rename = "Type")]
    pub transport: String,
}

/// Where the container's ports are published, by port such as `80/tcp`; null for a port that is not.
pub type PortBindings = BTreeMap<String, Option<Vec<PortBinding>>>;

/// One address and port of the host that leads to a container's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortBinding {
    /// The address; empty for all of both families, in what was asked for.
    pub host_ip: String,
    /// The port.
    pub host_port: String,
}

/// See [`ContainerSummary::network_settings`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SummaryNetworks {
    /// Endpoints by network name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// What of Docker's `HostConfig` concerns networks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfig {
    /// Name of the first network, or `none`.
    pub network_mode: String,
    /// Whether the sandbox is forgotten when its process ends.
    #[serde(default)]
    pub auto_remove: bool,
    /// Published ports as they were asked for; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_bindings: Option<PortBindings>,
}

/// `GET /containers/{id}/json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// The sandbox's id.
    pub id: String,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// The name with a leading `/`.
    pub name: String,
    /// Program of the process; empty when unknown.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The process.
    pub state: ContainerState,
    /// Empty: we know no images.
    pub image: String,
    /// What of it concerns networks.
    pub host_config: HostConfig,
    /// What of it concerns networks.
    pub config: ContainerConfig,
    /// Addresses and networks.
    pub network_settings: NetworkSettings,
}

/// See [`Container::state`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerState {
    /// `running` or `exited`.
    pub status: String,
    /// Whether the sandbox lives.
    pub running: bool,
    /// The process as the daemon sees it; 0 for a sandbox given by path, and when it has ended.
    pub pid: u32,
    /// When that process started, in clock ticks since boot (proc_pid_stat(5), field 22); absent without
    /// one. Tells the process from a later one with its id; Docker does not have this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ticks: Option<u64>,
    /// When the sandbox was handed to the daemon; RFC 3339.
    pub started_at: String,
    /// When its end was noticed; RFC 3339, `0001-01-01T00:00:00Z` while it runs.
    pub finished_at: String,
}

/// See [`Container::config`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// The container's own name of itself.
    pub hostname: String,
    /// The container's published ports, such as `80/tcp`.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: BTreeMap<String, Nothing>,
    /// Empty.
    pub image: String,
    /// Empty.
    pub labels: StringMap,
}

/// `{}`: a member whose name says it all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Nothing {}

/// Docker's `NetworkSettings`; the flat members mirror the network `bridge`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSettings {
    /// Empty.
    pub bridge: String,
    /// The sandbox's id.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of its network namespace.
    pub sandbox_key: String,
    /// Published ports, by the container's port such as `80/tcp`.
    #[serde(deserialize_with = "null_as_default")]
    pub ports: PortBindings,
    /// Always false.
    pub hairpin_mode: bool,
    /// Always empty.
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    /// Always 0.
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: u8,
    /// Always null.
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: Option<Vec<String>>,
    /// Always null.
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: Option<Vec<String>>,
    /// As in [`EndpointSettings`], for the network `bridge`.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// As in [`EndpointSettings`], for the network `bridge`.
    pub gateway: String,
    /// As in [`EndpointSettings`], for the network `bridge`.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// As in [`EndpointSettings`], for the network `bridge`.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// As in [`EndpointSettings`], for the network `bridge`.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// As in [`EndpointSettings`], for the network `bridge`.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// As in [`EndpointSettings`], for the network `bridge`.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// As in [`EndpointSettings`], for the network `bridge`.
    pub mac_address: String,
    /// Endpoints by network name.
    pub networks: BTreeMap<String, EndpointSettings>,
}
