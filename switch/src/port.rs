//! Ports: what is configured, and what forwarding has to know of them.

use std::{fmt, num::NonZeroU16};

use vswitch_wire::{MacAddr, VlanId};

use crate::{
    Counters, Guard, PortVlans, StormLimits,
    event::{STATION_EVENT_BURST, STATION_EVENT_RATE},
    guard::GuardFilter,
    storm::{Bucket, FloodClass, StormGuard},
    timeline::Tick,
};

/// A port of one switch. Ids are dense; one is used again after its port and all its entries are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u32);

impl PortId {
    /// The id as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is behind a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortKind {
    /// A container. Its VLAN may not be native on a trunk (B-VL-8).
    Container,
    /// Our own router: it takes the frames for the switch's own address, and its broadcasts and
    /// multicasts reach every port, whatever the port's [`FloodScope`] says (B-FWD-3). One per switch.
    Gateway,
    /// An observer: it gets a copy of every forwarded frame, and nothing that it sends is taken (B-FWD-9).
    Mirror,
    /// Another network, with any number of stations.
    Uplink,
}

/// Whether a port may talk to its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// Not with other isolated ports (B-FWD-8).
    Isolated,
    /// With every port.
    #[default]
    Open,
}

/// Whether frames may leave where they came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Hairpin {
    /// Never.
    #[default]
    Off,
    /// Yes: several stations behind the port reach each other through it (B-FWD-7).
    On,
}

/// What a port makes of the sources that it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Learning {
    /// It forwards without learning (B-LRN-9).
    Off,
    /// It forwards only what comes from stations that were entered for it, and learns none (B-LRN-9).
    Locked,
    /// It learns.
    #[default]
    On,
}

/// Which flooded frames a port sends; each is independent of the others (B-FWD-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FloodScope {
    /// Frames to stations that no port is known to have.
    pub unknown_unicast: bool,
    /// Frames to group addresses other than broadcast.
    pub multicast: bool,
    /// Broadcasts.
    pub broadcast: bool,
}

impl FloodScope {
    /// Everything.
    pub const ALL: Self = Self {
        unknown_unicast: true,
        multicast: true,
        broadcast: true,
    };
}

/// Whether a port is disabled when a station flaps between it and an older port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LoopGuard {
    /// The station is frozen, the port goes on.
    Off,
    /// The port is disabled for a while (B-LOOP-1).
    #[default]
    On,
}

/// Whether a port is disabled when a bridge shows up behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BpduGuard {
    /// Its BPDUs are treated as the switch's [`BpduPolicy`](crate::BpduPolicy) says.
    #[default]
    Off,
    /// The first BPDU disables the port for 300 s (B-STP-2).
    On,
}

/// Link-local protocol addresses 01:80:C2:00:00:00–0F that a port may send across the switch all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ReservedMask(u16);

impl ReservedMask {
    /// No address (B-RSV-1).
    pub const NONE: Self = Self(0);

    /// The addresses whose bit is set: bit 14 is 01:80:C2:00:00:0E, LLDP.
    ///
    /// # Errors
    ///
    /// Bits 0 (spanning tree), 1 (flow control) and 2 (link aggregation) concern one link only, and Linux
    /// refuses them too (B-RSV-3).
    pub const fn new(bits: u16) -> Result<Self, InvalidReservedMask> {
        if bits & 0b111 == 0 {
            Ok(Self(bits))
        } else {
            Err(InvalidReservedMask)
        }
    }

    pub(crate) const fn allows(self, low_nibble: u8) -> bool {
        self.0 & (1 << (low_nibble & 0xf)) != 0
    }
}

/// The mask has bit 0, 1 or 2 set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("spanning tree, flow control and link aggregation frames (bits 0, 1 and 2) are never forwarded")]
pub struct InvalidReservedMask;

/// The configuration of a port. Start from one of the constructors and change what differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// What is behind the port. Cannot be changed later.
    pub kind: PortKind,
    /// Largest layer 3 packet that the port sends, in bytes. Default 1500.
    pub mtu: u16,
    /// Whether the port may talk to isolated ports.
    pub isolation: Isolation,
    /// Whether frames may leave where they came in.
    pub hairpin: Hairpin,
    /// What becomes of the sources that the port hears.
    pub learning: Learning,
    /// Which flooded frames the port sends.
    pub flood: FloodScope,
    /// How many stations may be learnt on the port. Default 1024 (B-LIM-2); `None`: as the switch says.
    pub fdb_limit: Option<usize>,
    /// The port's VLANs, if the switch filters.
    pub vlans: PortVlans,
    /// Who the port is allowed to be; `None`: anybody.
    pub guard: Option<Guard>,
    /// How much the port may have flooded.
    pub storm: StormLimits,
    /// Link-local protocols that the port may send across the switch.
    pub reserved_allow: ReservedMask,
    /// Whether the port is disabled for a flapping station.
    pub loop_guard: LoopGuard,
    /// Whether the port is disabled for a bridge behind it.
    pub bpdu_guard: BpduGuard,
    /// Frames never pass between two ports of the same group: overlay ports of one network, and both ends
    /// of a bridge – NAT – bridge arrangement (B-LOOP-2).
    pub split_horizon: Option<NonZeroU16>,
    /// The address of the port's own device on the host, if it is not the container's: frames to it go to
    /// the gateway only, and nobody may use it as source (B-LRN-8, B-ACC-7).
    pub device_mac: Option<MacAddr>,
}

impl PortConfig {
    /// A container's port, guarded: one MAC, the given addresses, storm limits, loop guard.
    pub fn container(guard: Guard) -> Self {
        Self {
            guard: Some(guard),
            ..Self::unguarded()
        }
    }

    /// A container's port that may use any address; storm limits and loop guard stay on.
    pub fn unguarded() -> Self {
        Self {
            kind: PortKind::Container,
            mtu: DEFAULT_MTU,
            isolation: Isolation::Open,
            hairpin: Hairpin::Off,
            learning: Learning::On,
            flood: FloodScope::ALL,
            fdb_limit: None,
            vlans: PortVlans::default(),
            guard: None,
            storm: StormLimits::CONTAINER,
            reserved_allow: ReservedMask::NONE,
            loop_guard: LoopGuard::On,
            bpdu_guard: BpduGuard::Off,
            split_horizon: None,
            device_mac: None,
        }
    }

    /// The gateway's port: no limits, and no frames for stations unknown.
    pub fn gateway() -> Self {
        Self {
            kind: PortKind::Gateway,
            flood: FloodScope {
                unknown_unicast: false,
                ..FloodScope::ALL
            },
            ..Self::uplink()
        }
    }

    /// A port to another network: many stations, no limits on what it floods, never disabled.
    pub fn uplink() -> Self {
        Self {
            kind: PortKind::Uplink,
            storm: StormLimits::NONE,
            loop_guard: LoopGuard::Off,
            ..Self::unguarded()
        }
    }

    /// An observer's port, which sends frames of any size.
    pub fn mirror() -> Self {
        Self {
            kind: PortKind::Mirror,
            mtu: u16::MAX,
            learning: Learning::Off,
            ..Self::uplink()
        }
    }
}

/// Whether a port's device can carry frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LinkState {
    /// Nothing is taken from it or sent to it; its learnt stations are forgotten.
    Down,
    /// It carries frames.
    #[default]
    Up,
}

/// Why a port cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddPortError {
    /// The switch has its one gateway; remove that first.
    #[error("the switch has a gateway already, on port {0}")]
    GatewayExists(PortId),
    /// A station's address has neither the group bit set nor all bits clear; choose another.
    #[error("{0} cannot be a station's address")]
    InvalidMac(MacAddr),
    /// The address belongs to the switch or to another port; choose another.
    #[error("{0} is in use on this switch already")]
    MacInUse(MacAddr),
    /// Containers could reach other VLANs by double tagging; take another native VLAN (B-VL-8).
    #[error("VLAN {0} cannot both be native on a trunk and have containers")]
    NativeVlanOfContainers(VlanId),
    /// The switch has [`MAX_PORTS`](crate::MAX_PORTS) ports.
    #[error("the switch has as many ports as it can")]
    TooManyPorts,
}

/// Why a port cannot be configured so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurePortError {
    /// The new configuration could not be added either.
    #[error(transparent)]
    Invalid(#[from] AddPortError),
    /// What is behind a port does not change; remove it and add another.
    #[error("the kind of a port cannot be changed")]
    KindChanged,
    /// There is no such port.
    #[error(transparent)]
    UnknownPort(#[from] UnknownPort),
}

/// There is no port of this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no port {0}")]
pub struct UnknownPort(pub PortId);

/// Why a station cannot be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// A station's address has neither the group bit set nor all bits clear.
    #[error("{0} cannot be a station's address")]
    InvalidMac(MacAddr),
    /// The address belongs to the switch or is entered for a port already.
    #[error("{0} is in use on this switch already")]
    MacInUse(MacAddr),
    /// There is no such port.
    #[error(transparent)]
    UnknownPort(#[from] UnknownPort),
}

/// A port as the switch keeps it.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) config: PortConfig,
    pub(crate) guard: Option<GuardFilter>,
    pub(crate) link: LinkState,
    /// Until when a guard keeps the port disabled.
    pub(crate) blocked_until: Option<Tick>,
    pub(crate) storm: StormGuard,
    pub(crate) station_events: Bucket,
    pub(crate) counters: Counters,
}

impl Port {
    pub(crate) fn new(config: PortConfig) -> Self {
        Self {
            guard: config.guard.as_ref().map(GuardFilter::new),
            storm: StormGuard::new(&config.storm),
            config,
            link: LinkState::Up,
            blocked_until: None,
            station_events: Bucket::new(STATION_EVENT_RATE, STATION_EVENT_BURST),
            counters: Counters::default(),
        }
    }

    /// Takes a new configuration of the same kind; counters and state stay.
    pub(crate) fn configure(&mut self, config: PortConfig) {
        self.guard = config.guard.as_ref().map(GuardFilter::new);
        if config.storm != self.config.storm {
            self.storm = StormGuard::new(&config.storm);
        }
        self.config = config;
    }

    /// What forwarding has to know: the one place where it is derived from configuration and state.
    pub(crate) fn lane(&self) -> Lane {
        let PortConfig {
            kind,
            mtu,
            isolation,
            hairpin,
            flood,
            split_horizon,
            ..
        } = self.config;
        let is_up = self.link == LinkState::Up && self.blocked_until.is_none();
        let is_flooded = is_up && kind != PortKind::Mirror;
        Lane {
            mtu: u32::from(mtu),
            split_horizon: split_horizon.map_or(0, NonZeroU16::get),
            is_up,
            is_gateway: kind == PortKind::Gateway,
            is_isolated: isolation == Isolation::Isolated,
            is_hairpin: hairpin == Hairpin::On,
            is_flooded,
            flood: FloodScope {
                unknown_unicast: is_flooded && flood.unknown_unicast,
                multicast: is_flooded && flood.multicast,
                broadcast: is_flooded && flood.broadcast,
            },
        }
    }
}

/// The part of a port that forwarding reads for every frame, kept dense: a flood visits all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    pub(crate) mtu: u32,
    /// 0: in no group.
    pub(crate) split_horizon: u16,
    pub(crate) is_up: bool,
    pub(crate) is_gateway: bool,
    pub(crate) is_isolated: bool,
    pub(crate) is_hairpin: bool,
    /// Up, and not a mirror.
    is_flooded: bool,
    flood: FloodScope,
}

impl Lane {
    /// A port that is not there.
    pub(crate) const ABSENT: Self = Self {
        mtu: 0,
        split_horizon: 0,
        is_up: false,
        is_gateway: false,
        is_isolated: false,
        is_hairpin: false,
        is_flooded: false,
        flood: FloodScope {
            unknown_unicast: false,
            multicast: false,
            broadcast: false,
        },
    };

    /// Whether the port sends a flooded frame of this class that came in through `ingress`.
    #[inline]
    pub(crate) fn takes(&self, class: FloodClass, ingress: &Lane) -> bool {
        match class {
            FloodClass::UnknownUnicast => self.flood.unknown_unicast,
            FloodClass::Multicast | FloodClass::Broadcast if ingress.is_gateway => self.is_flooded,
            FloodClass::Multicast => self.flood.multicast,
            FloodClass::Broadcast => self.flood.broadcast,
        }
    }
}

/// What Ethernet carries, and what containers are given by default.
pub const DEFAULT_MTU: u16 = 1500;
