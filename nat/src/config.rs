//! How an engine behaves, fixed when it is made.

use std::ops::RangeInclusive;

use crate::{TcpPolicy, Timeouts, fragments::FragmentLimits};

/// Everything about an engine that is not a network or a published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who shares an external port with whom.
    pub mapping: Mapping,
    /// Who may answer.
    pub filtering: Filtering,
    /// Which external port a new mapping gets.
    pub port_choice: PortChoice,
    /// The external ports to give; the class of the inside port further limits them (N-PORT-2).
    pub ports: RangeInclusive<u16>,
    /// How long connections live without traffic.
    pub timeouts: Timeouts,
    /// How many there may be.
    pub limits: Limits,
    /// Who makes room when there are too many.
    pub eviction: Eviction,
    /// How strictly TCP is judged.
    pub tcp: TcpPolicy,
    /// What hosts outside hear about packets that nobody asked for.
    pub unsolicited: Unsolicited,
    /// As whom a host inside sees another that calls it by an external address.
    pub hairpin: HairpinSource,
    /// UDP destination ports to which IPv6 datagrams without a checksum may go: tunnels (RFC 6935, N-CK-5).
    pub unchecked_ports: Vec<u16>,
    /// What reassembly may take.
    pub fragments: FragmentLimits,
    /// Key of the tables' hashes and of what is chosen at random (N-TBL-4, N-PORT-4). Must be secret.
    pub seed: u64,
}

impl Config {
    /// What suits containers: endpoint-independent mapping, the strictest filtering, Linux's timers but for known
    /// faults. `seed` must be secret.
    pub fn standard(seed: u64) -> Self {
        Self {
            mapping: Mapping::EndpointIndependent,
            filtering: Filtering::AddressAndPort,
            port_choice: PortChoice::Preserve,
            ports: 1..=u16::MAX,
            timeouts: Timeouts::standard(),
            limits: Limits::default(),
            eviction: Eviction::Offender,
            tcp: TcpPolicy::default(),
            unsolicited: Unsolicited::Silent,
            hairpin: HairpinSource::External,
            // VXLAN, Geneve, and the reference's third (N-CK-5).
            unchecked_ports: vec![4789, 6081, 8472],
            fragments: FragmentLimits::default(),
            seed,
        }
    }

    /// The floors and MUSTs of RFC 4787, 5382, 5508 and 6888 where they differ.
    pub fn rfc(seed: u64) -> Self {
        Self {
            timeouts: Timeouts::rfc(),
            eviction: Eviction::Never,
            tcp: TcpPolicy {
                watch_unacknowledged: false,
                max_retrans: 0,
                ..TcpPolicy::default()
            },
            ..Self::standard(seed)
        }
    }

    /// As close to nftables' masquerade as rule 1 allows: external ports are shared between destinations, and unsolicited
    /// packets are answered.
    pub fn linux(seed: u64) -> Self {
        Self {
            mapping: Mapping::Overlapping,
            hairpin: HairpinSource::Gateway,
            ..Self::standard(seed)
        }
    }
}

/// Who shares an external port with whom (N-MAP-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// An external port is one inside endpoint's, to all destinations (RFC 4787 REQ-1): at most 64 k for each protocol
    /// and external address.
    EndpointIndependent,
    /// Inside endpoints share an external port towards different destinations, as Linux has it.
    Overlapping,
}

/// Whose packets to a mapping's external port are let in (RFC 4787 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filtering {
    /// Of hosts that the inside endpoint has sent to.
    Address,
    /// Of endpoints that it has sent to.
    #[default]
    AddressAndPort,
    /// Of everybody.
    EndpointIndependent,
}

/// Which external port a new mapping gets (N-PORT-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortChoice {
    /// Any, anew for each connection; not with endpoint-independent mapping.
    FullyRandom,
    /// The inside port if it is free, else any.
    Preserve,
    /// Any.
    Random,
}

/// Who makes room in a full table (N-TBL-2, N-TBL-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// Nobody; what is new is refused (RFC 6888 REQ-11).
    Never,
    /// Whoever has more than a fair share, by its oldest connection that is not assured.
    Offender,
}

/// What hosts outside hear about packets that nobody asked for (N-FLT-4, N-FLT-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsolicited {
    /// Port unreachable, for UDP; TCP hears nothing, so that a simultaneous open can succeed.
    PortUnreachable,
    /// Nothing.
    Silent,
}

/// As whom a host inside sees another that calls it by an external address (N-DN-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HairpinSource {
    /// As the caller's external address and port (RFC 4787 REQ-9a).
    External,
    /// As the gateway of its own network.
    Gateway,
}

/// How many connections there may be (N-TBL-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of all networks.
    pub connections: usize,
    /// Of one network.
    pub per_zone: usize,
    /// Of one inside address.
    pub per_host: usize,
    /// New ones of one inside address in a second.
    pub rate_per_host: u32,
}

impl Default for Limits {
    /// nat-conformance N-TBL-1; the first is Linux's `nf_conntrack_max` on a host of this size.
    fn default() -> Self {
        Self {
            connections: 262_144,
            per_zone: 65_536,
            per_host: 16_384,
            rate_per_host: 10_000,
        }
    }
}
