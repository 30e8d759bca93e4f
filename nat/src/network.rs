//! What an engine is told of networks, external addresses and published ports.

use std::{net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use vswitch_wire::IpProtocol;

use crate::{Filtering, PrefixPair, Zone};

/// One inside network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its number; not [`Zone::OUTSIDE`].
    pub zone: Zone,
    /// Its prefixes: sources outside them are spoofed.
    pub prefixes: Vec<IpNet>,
    /// The gateway's addresses: ICMP errors to inside come from the first of the version.
    pub gateways: Vec<IpAddr>,
    /// Largest packet inside, in bytes.
    pub mtu: u16,
    /// How its packets leave.
    pub egress: Egress,
    /// Who may answer; `None` for the engine's own rule.
    pub filtering: Option<Filtering>,
}

/// How packets of a network leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// Translated to external addresses: to one of these, or to any if there are none.
    Masquerade(Vec<IpAddr>),
    /// IPv6 with its prefix replaced, without state; IPv4 as by `Masquerade` with any address.
    Prefix(PrefixPair),
    /// As they are; what begins outside comes in only where `open`, or by a published port.
    Routed {
        /// Whether anything may come in.
        open: bool,
    },
}

/// The outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// The external addresses, in order of preference.
    pub addresses: Vec<IpAddr>,
    /// The prefixes of the link, whose broadcast addresses are not routed to.
    pub prefixes: Vec<IpNet>,
    /// Largest packet outside, in bytes; 0 stands for 1500.
    pub mtu: u16,
}

/// Names a published port or range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MappingId(pub u64);

/// Ports of external addresses that lead to a host inside (DNAT).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// Its name.
    pub id: MappingId,
    /// TCP, UDP or SCTP.
    pub protocol: IpProtocol,
    /// The external address; `None` for all of the target's version.
    pub external: Option<IpAddr>,
    /// External ports.
    pub ports: RangeInclusive<u16>,
    /// The network of the target.
    pub zone: Zone,
    /// The host inside.
    pub target: IpAddr,
    /// Its port for the first of `ports`; the others follow (N-DN-7).
    pub target_port: u16,
}

/// Why a network cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddNetworkError {
    /// There is one of that number.
    #[error("zone {0} is in use")]
    Exists(Zone),
    /// No packet fits.
    #[error("an MTU of 0 lets nothing through; 1500 is usual")]
    Mtu,
    /// Zone 0 is the outside.
    #[error("zone 0 is the outside; number networks from 1")]
    Outside,
}

/// Why a port cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is one of that name.
    #[error("mapping {0:?} is there already")]
    Exists(MappingId),
    /// The last port is below the first (N-PORT-6), one is 0, or the target's would exceed 65535.
    #[error("ports {first}-{last} cannot lead to {target_port} and those after it: count from 1 up to 65535")]
    Ports {
        /// First external port.
        first: u16,
        /// Last external port.
        last: u16,
        /// First port inside.
        target_port: u16,
    },
    /// That protocol has no ports.
    #[error("{0} has no ports: publish TCP, UDP or SCTP")]
    Protocol(IpProtocol),
    /// Another mapping has the port on that address.
    #[error("port {port} leads to {holder:?} already")]
    Taken {
        /// The port.
        port: u16,
        /// Who has it.
        holder: MappingId,
    },
    /// The target's network is not there.
    #[error("zone {0} is not there")]
    UnknownZone(Zone),
    /// External and target address are of different versions.
    #[error("{external} cannot lead to {target}: both must be IPv4 or both IPv6")]
    Versions {
        /// The external address.
        external: IpAddr,
        /// The target.
        target: IpAddr,
    },
}
