//! Docker's networks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EndpointSettings, StringMap, null_as_default, yes};

/// One network, in `GET /networks` and `GET /networks/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// The network's name.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// `local`.
    pub scope: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// Whether endpoints get IPv4 addresses.
    #[serde(rename = "EnableIPv4", default = "yes")]
    pub enable_ipv4: bool,
    /// Whether endpoints get IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Addresses as asked for or as given.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// No way out of the network.
    pub internal: bool,
    /// Recorded; it matters to swarms only.
    pub attachable: bool,
    /// Always false.
    pub ingress: bool,
    /// Names no network.
    pub config_from: ConfigReference,
    /// Always false.
    pub config_only: bool,
    /// Endpoints by container id; empty in lists.
    #[serde(default, deserialize_with = "null_as_default")]
    pub containers: BTreeMap<String, NetworkContainer>,
    /// Driver options as given.
    #[serde(default, deserialize_with = "null_as_default")]
    pub options: StringMap,
    /// Labels as given.
    #[serde(default, deserialize_with = "null_as_default")]
    pub labels: StringMap,
}

/// A network that another takes its configuration from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigReference {
    /// Its name; empty for none.
    #[serde(default)]
    pub network: String,
}

/// Address management of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipam {
    /// `default`.
    #[serde(default)]
    pub driver: String,
    /// Null when the creator sent none.
    #[serde(default)]
    pub options: Option<StringMap>,
    /// One element for each subnet, IPv4 first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: Vec<IpamConfig>,
}

/// One subnet. Empty members are absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpamConfig {
    /// Prefix in CIDR notation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    /// Part of the subnet that addresses are given from by themselves, in CIDR notation.
    #[serde(rename = "IPRange", default, skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    /// The gateway's address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses that no endpoint gets, by name.
    #[serde(
        rename = "AuxiliaryAddresses",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub auxiliary_addresses: StringMap,
}

/// One element of [`Network::containers`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkContainer {
    /// The sandbox's name.
    pub name: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The endpoint's MAC address.
    pub mac_address: String,
    /// Address with prefix length, or empty.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// Address with prefix length, or empty.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// `POST /networks/create`. Everything but the name may be missing or null.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreate {
    /// The new network's name.
    pub name: String,
    /// `bridge` when empty.
    #[serde(deserialize_with = "null_as_default")]
    pub driver: String,
    /// Empty or `local`.
    #[serde(deserialize_with = "null_as_default")]
    pub scope: String,
    /// True when missing.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// False when missing.
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Subnets; missing ones are taken from the pools.
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    /// No way out of the network.
    #[serde(deserialize_with = "null_as_default")]
    pub internal: bool,
    /// Recorded only.
    #[serde(deserialize_with = "null_as_default")]
    pub attachable: bool,
    /// Refused: there are no swarms here.
    #[serde(deserialize_with = "null_as_default")]
    pub ingress: bool,
    /// Refused: networks do not share configuration.
    #[serde(deserialize_with = "null_as_default")]
    pub config_only: bool,
    /// Refused when it names a network.
    pub config_from: Option<ConfigReference>,
    /// Driver options.
    #[serde(deserialize_with = "null_as_default")]
    pub options: StringMap,
    /// Labels.
    #[serde(deserialize_with = "null_as_default")]
    pub labels: StringMap,
}

/// Answer to [`NetworkCreate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkCreated {
    /// The new network's id.
    pub id: String,
    /// What was ignored; empty for nothing.
    #[serde(default)]
    pub warning: String,
}

/// `POST /networks/{id}/connect`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkConnect {
    /// Name or id of the sandbox.
    pub container: String,
    /// What the endpoint shall have.
    #[serde(default)]
    pub endpoint_config: Option<EndpointSettings>,
}

/// `POST /networks/{id}/disconnect`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkDisconnect {
    /// Name or id of the sandbox.
    pub container: String,
    /// Go on when the device cannot be reached.
    #[serde(default)]
    pub force: bool,
}

/// `POST /networks/prune`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworksPruned {
    /// Names, not ids; null for none.
    pub networks_deleted: Option<Vec<String>>,
}
