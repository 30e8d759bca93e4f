//! Rows of what the data plane lists.

use std::time::Duration;

use ipnet::IpNet;
use vswitch_proxy::listing::FlowView;
use vswitch_wire::MacAddr;

use crate::{
    model::{EndpointId, NetworkId},
    uplink::Standing,
};

/// One row of a forwarding database.
#[derive(Debug, Clone)]
pub struct FdbRow {
    /// The network whose switch holds the entry.
    pub network: NetworkId,
    /// The station's address.
    pub mac: MacAddr,
    /// Its VLAN, when the network filters VLANs.
    pub vlan: Option<u16>,
    /// Number of the switch port.
    pub port: u32,
    /// The port's label.
    pub label: String,
    /// Time since the station last sent; zero for entries that do not age.
    pub age: Duration,
    /// How the entry came to be.
    pub kind: FdbKind,
}

/// How a forwarding entry came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FdbKind {
    /// Learnt from a source address; ages.
    Dynamic,
    /// The switch's own address; frames to it go to the gateway.
    Local,
    /// Installed at attach; neither ages nor moves.
    Static,
}

/// One switch port with its counters.
#[derive(Debug, Clone)]
pub struct PortRow {
    /// The network whose switch has the port.
    pub network: NetworkId,
    /// The port's number.
    pub port: u32,
    /// The port's label; `gateway` for the gateway port.
    pub label: String,
    /// The endpoint behind the port; `None` for the gateway.
    pub endpoint: Option<EndpointId>,
    /// `forwarding`, `down` or `disabled (…)`.
    pub state: String,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Frames and bytes that entered the switch here (the container sent them).
    pub rx_frames: u64,
    /// See `rx_frames`.
    pub rx_bytes: u64,
    /// Frames and bytes that left the switch here.
    pub tx_frames: u64,
    /// See `tx_frames`.
    pub tx_bytes: u64,
    /// Other named counters (flooded, learnt, moved, limit hits), only those above zero.
    pub other: Vec<(&'static str, u64)>,
    /// Drops by reason, only those above zero.
    pub drops: Vec<(&'static str, u64)>,
}

/// One flow of a container that ends in a host socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRow {
    /// The network that the container is on.
    pub network: NetworkId,
    /// The container's endpoint; `None` when it has just been removed.
    pub endpoint: Option<EndpointId>,
    /// What the flow looks like.
    pub view: FlowView,
}

/// The device uplink as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct UplinkView {
    /// Our Ethernet address on it.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Our addresses with the prefixes of the link, the link-local one included, and how far we are with each.
    pub addresses: Vec<(IpNet, Standing)>,
    /// Neighbours that are known or asked for.
    pub neighbours: usize,
    /// What was counted, by name; only what is above zero.
    pub counters: Vec<(&'static str, u64)>,
}
