//! The translation under `/vswitch/v1/`: connections, and what is translated to what.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

/// A connection of the translation, in `GET /vswitch/v1/conntrack` and, as it was, in the answer to `DELETE` of the same.
///
/// Both take filters in the query, of which all must fit: `family`, `protocol`, `orig_src`, `orig_dst`, `orig_sport`,
/// `orig_dport`, the same with `reply_`, `state`, `status`, `network`, `sandbox`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConnectionEntry {
    /// Name of the transport protocol as `conntrack` has it, `unknown` for one that it does not know.
    pub protocol: String,
    /// Its number.
    pub protocol_number: u8,
    /// State of TCP or SCTP; null for other protocols.
    pub state: Option<String>,
    /// Seconds until it ends if nothing comes.
    pub timeout_seconds: f64,
    /// Whether an answer was seen.
    pub replied: bool,
    /// Whether it is spared when room is needed.
    pub assured: bool,
    /// As its initiator sends.
    pub original: ConnectionSide,
    /// As the responder answers, before that is translated.
    pub reply: ConnectionSide,
}

/// One direction of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConnectionSide {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port, of protocols that have ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Destination port, of protocols that have ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// What is asked or answered, of ICMP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<IcmpQuery>,
    /// The routing domain that the sender is in; 0 is the outside. The uplink and each packet loop number theirs on their own.
    pub zone: u16,
    /// Name of the sender's network; empty if it is outside.
    pub network: String,
    /// Its id; empty if it is outside.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Name of the sender's sandbox; empty if it is outside or has just left the network.
    pub sandbox: String,
    /// Packets that have gone this way.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
}

/// What tells one query of ICMP from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IcmpQuery {
    /// Type of the message.
    #[serde(rename = "Type")]
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// Its identifier.
    #[serde(rename = "ID")]
    pub id: u16,
}

/// `GET /vswitch/v1/conntrack/count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConnectionCount {
    /// Connections in the table.
    pub count: u64,
}

/// A line of `GET /vswitch/v1/conntrack/events`, which takes the same filters, and `types`: some of `new`, `update` and
/// `destroy` with commas between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "Type", rename_all = "lowercase")]
pub enum ConnectionEvent {
    /// A connection has ended.
    Destroy(ConnectionEntry),
    /// Events were lost because the client reads too slowly; some may not have been asked for.
    Lost(ConnectionCount),
    /// A connection has begun.
    New(ConnectionEntry),
    /// Its state has changed, or the first answer came, or it became assured.
    Update(ConnectionEntry),
}

/// `GET /vswitch/v1/nat`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NatInfo {
    /// External addresses in use, in order of preference.
    pub external_addresses: Vec<IpAddr>,
    /// Networks that leave by the uplink, by name.
    pub networks: Vec<NatNetwork>,
    /// Published ports that are translated; others are in `GET /vswitch/v1/ports`.
    pub ports: Vec<NatPort>,
    /// Connections in the table.
    pub connections: u64,
    /// What was counted, by name, and dropped, by reason; only what is above zero.
    pub counters: BTreeMap<String, u64>,
}

/// What becomes of a network's packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NatNetwork {
    /// Name of the network.
    pub network: String,
    /// Its id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Number of its routing domain; IPv4 and IPv6 have one each if they are translated differently.
    pub zone: u16,
    /// Its prefixes there.
    pub prefixes: Vec<String>,
    /// What becomes of them.
    pub egress: NatEgress,
    /// Connections that count for it now.
    pub connections: u64,
}

/// How packets of a network leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Mode", rename_all = "lowercase", rename_all_fields = "PascalCase")]
pub enum NatEgress {
    /// Their source becomes one of these addresses; any external address if there are none.
    Masquerade {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// IPv6 gets another prefix, without state; IPv4 is masqueraded.
    Prefix {
        /// The prefix inside.
        internal: String,
        /// The prefix outside.
        external: String,
    },
    /// They stay as they are.
    Routed {
        /// Whether what begins outside comes in.
        open: bool,
    },
}

/// A published port that is translated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NatPort {
    /// `outside` for who comes by the uplink, `inside` for containers of this daemon, for which the addresses are the host's and
    /// their gateway's.
    pub from: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The address that is called; null for all of the target's version.
    pub external: Option<IpAddr>,
    /// First port there.
    pub port: u16,
    /// How many there are.
    pub count: u16,
    /// The host inside.
    pub target: IpAddr,
    /// Its port for the first of them; the others follow.
    pub target_port: u16,
    /// Name of the target's network.
    pub network: String,
    /// Its id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Name of the target's sandbox.
    pub sandbox: String,
    /// Connections that have come by it since it was published.
    pub hits: u64,
}
