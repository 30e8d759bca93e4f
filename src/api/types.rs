//! What goes over the socket: requests and answers as JSON.
//!
//! Most are Docker's shapes (Engine API 1.47), member names and emptiness rules included; `vswitch` has
//! those of `/vswitch/v1/`. Addresses and the like are strings here because that is
//! what clients send; the control plane parses them before anything else happens. Members that we do
//! not know are ignored, as Docker does: its clients send many.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

pub use self::{container::*, nat::*, network::*, vswitch::*};

mod container;
mod nat;
mod network;
mod vswitch;

/// String to string, in a stable order.
pub type StringMap = BTreeMap<String, String>;

/// Body of every answer with an error status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One line that says what is wrong, with the object's name.
    pub message: String,
}

/// `GET /version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    /// Who answers.
    pub platform: Platform,
    /// One element, `Engine`.
    pub components: Vec<Component>,
    /// Version of the daemon.
    pub version: String,
    /// Newest API version that is spoken, `1.47`.
    pub api_version: String,
    /// Oldest API version that is spoken.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    /// Empty; the version says it all.
    pub git_commit: String,
    /// Empty; Docker's clients print the line regardless.
    pub go_version: String,
    /// `linux`.
    pub os: String,
    /// Go's name of the processor, such as `amd64`.
    pub arch: String,
    /// Release of the running kernel.
    pub kernel_version: String,
}

/// See [`Version::platform`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Platform {
    /// `vswitchd`.
    pub name: String,
}

/// See [`Version::components`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Component {
    /// `Engine`, the name that Docker's client looks for.
    pub name: String,
    /// Version of the daemon.
    pub version: String,
    /// The flat members of [`Version`] again, all as strings.
    pub details: StringMap,
}

/// `GET /info`: what concerns networks; everything else is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// Identity of this daemon's state, stable over restarts.
    #[serde(rename = "ID")]
    pub id: String,
    /// Number of sandboxes.
    pub containers: usize,
    /// Number of sandboxes whose process lives.
    pub containers_running: usize,
    /// Number of sandboxes whose process has ended.
    pub containers_stopped: usize,
    /// The host's name.
    pub name: String,
    /// Version of the daemon.
    pub server_version: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// The processor as the kernel calls it, such as `x86_64`.
    pub architecture: String,
    /// Release of the running kernel.
    pub kernel_version: String,
    /// Drivers by kind.
    pub plugins: Plugins,
    /// Pools that subnets are cut from; absent when they are Docker's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub default_address_pools: Vec<AddressPool>,
    /// Swarm membership: there is none.
    pub swarm: Swarm,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// See [`Info::plugins`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Plugins {
    /// Network drivers that `POST /networks/create` knows.
    pub network: Vec<String>,
}

/// One element of [`Info::default_address_pools`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddressPool {
    /// The prefix that subnets are cut from.
    pub base: String,
    /// Prefix length of each subnet.
    pub size: u8,
}

/// See [`Info::swarm`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Swarm {
    /// `inactive`.
    pub local_node_state: String,
}

/// One line of `GET /events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Event {
    /// `network` or `container`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `destroy`, `connect`, `disconnect`, `prune`; for containers `start`, `die`, `destroy`.
    pub action: String,
    /// What it happened to.
    pub actor: Actor,
    /// `local`.
    #[serde(rename = "scope")]
    pub scope: String,
    /// Seconds since 1970.
    #[serde(rename = "time")]
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// See [`Event::actor`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Actor {
    /// The object's id.
    #[serde(rename = "ID")]
    pub id: String,
    /// `name`, `type`, `container`.
    pub attributes: StringMap,
}

fn yes() -> bool {
    true
}

/// Go's clients write `null` for empty maps and lists.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
