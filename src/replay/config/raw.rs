//! A replay's configuration as it was written.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What the file says; `None` where it says nothing. Values stay text so that all that are wrong can be told at once.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawConfig {
    /// What everything else begins with: `standard`, `rfc` or `linux`.
    pub profile: Option<String>,
    /// What is chosen at random follows from it.
    pub seed: u64,
    /// Whether checksums in the capture are verified or believed.
    pub checksums: Option<String>,
    /// Who shares an external port with whom.
    pub mapping: Option<String>,
    /// Who may answer.
    pub filtering: Option<String>,
    /// Which external port a new mapping gets.
    pub port_choice: Option<String>,
    /// The external ports to give, `first-last`.
    pub ports: Option<String>,
    /// Who makes room.
    pub eviction: Option<String>,
    /// What hosts outside hear.
    pub unsolicited: Option<String>,
    /// As whom a host inside sees another.
    pub hairpin_source: Option<String>,
    /// UDP ports for which IPv6 needs no checksum.
    pub unchecked_ports: Option<Vec<u16>>,
    /// Seconds by the names of `Timer::ALL`, and `reassembly-v4` and `reassembly-v6`.
    pub timeouts: BTreeMap<String, u32>,
    /// How many connections there may be.
    pub limits: RawLimits,
    /// What reassembly may take.
    pub fragments: RawFragments,
    /// How strictly TCP is judged.
    pub tcp: RawTcp,
    /// The outside.
    pub outside: RawOutside,
    /// The networks; the first is zone 1.
    pub network: Vec<RawNetwork>,
    /// The published ports.
    pub publish: Vec<RawPublish>,
    /// Ports that are not given.
    pub reserve: Vec<RawReserve>,
}

/// `[limits]`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawLimits {
    /// Of all networks.
    pub connections: Option<usize>,
    /// Of one network.
    pub per_network: Option<usize>,
    /// Of one inside address.
    pub per_host: Option<usize>,
    /// New ones of one inside address in a second.
    pub rate_per_host: Option<u32>,
}

/// `[fragments]`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawFragments {
    /// Bytes of one network.
    pub network_bytes: Option<usize>,
    /// Bytes of all.
    pub total_bytes: Option<usize>,
    /// Fragments of one datagram.
    pub pieces: Option<usize>,
    /// Datagrams of one source.
    pub per_source: Option<usize>,
}

/// `[tcp]`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawTcp {
    /// Whether a connection may begin in its middle.
    pub loose: Option<bool>,
    /// Whether windows are looked at for RSTs only.
    pub liberal: Option<bool>,
    /// Equal segments that shorten the time.
    pub max_retrans: Option<u8>,
    /// Whether unacknowledged data do.
    pub watch_unacknowledged: Option<bool>,
}

/// `[outside]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawOutside {
    /// The interface of the capture where it is; `outside` if nothing is said.
    pub interface: Option<String>,
    /// The router's Ethernet address there.
    pub mac: Option<String>,
    /// External addresses.
    pub addresses: Vec<String>,
    /// Prefixes of the link.
    pub prefixes: Vec<String>,
    /// Largest packet.
    pub mtu: Option<u16>,
}

/// `[[network]]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawNetwork {
    /// Its name.
    pub name: String,
    /// The interface of the capture where it is; the name if nothing is said.
    pub interface: Option<String>,
    /// The router's Ethernet address there.
    pub mac: Option<String>,
    /// Its prefixes.
    pub prefixes: Vec<String>,
    /// The router's addresses.
    pub gateways: Vec<String>,
    /// Largest packet.
    pub mtu: Option<u16>,
    /// `masquerade`, `routed`, `routed-open` or `npt`.
    pub egress: Option<String>,
    /// With `masquerade`: by these external addresses only.
    pub addresses: Option<Vec<String>>,
    /// With `npt`: the prefix inside.
    pub internal: Option<String>,
    /// With `npt`: the prefix outside.
    pub external: Option<String>,
    /// Who may answer, in place of the general rule.
    pub filtering: Option<String>,
}

/// `[[publish]]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawPublish {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The external address; all if nothing is said.
    pub external: Option<String>,
    /// External ports, `port` or `first-last`.
    pub ports: String,
    /// The target's network.
    pub network: String,
    /// The target.
    pub target: String,
    /// Its port for the first; the same if nothing is said.
    pub target_port: Option<u16>,
}

/// `[[reserve]]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawReserve {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// `port` or `first-last`.
    pub ports: String,
}
