//! What a switch is told when it is made.

use std::time::Duration;

use vswitch_wire::{MacAddr, VlanId};

use crate::{Eviction, FlapLimits, PortId, VlanFiltering};

/// What becomes of spanning tree BPDUs, and of the proprietary protocols that Open vSwitch treats like
/// them: PVST+, CDP, VTP, EDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BpduPolicy {
    /// A container must not influence the physical network (B-STP-1, as Open vSwitch).
    #[default]
    Drop,
    /// They are ordinary multicasts (as Linux with spanning tree off).
    Forward,
}

/// What becomes of a frame whose source is pinned to another port, or frozen there (B-LRN-7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PinViolation {
    /// It is dropped.
    #[default]
    Drop,
    /// It is forwarded without learning.
    Forward,
}

/// The configuration of a switch, fixed for its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchConfig {
    /// The switch's own address, which is its gateway's (B-PORT-4).
    pub mac: MacAddr,
    /// Secret of the forwarding database's hash: random, and different for every switch (B-LIM-4).
    pub hash_seed: u64,
    /// Time after which a station that is not heard is forgotten; zero: no station is ever learnt (B-LRN-6).
    pub ageing: Duration,
    /// Most dynamic entries of all ports together (B-LIM-1).
    pub fdb_limit: usize,
    /// Most dynamic entries of a port that does not say otherwise (B-LIM-2).
    pub port_limit: usize,
    /// What happens to a new station when the table is full.
    pub eviction: Eviction,
    /// When a moving station counts as flapping.
    pub flap: FlapLimits,
    /// How long the loop guard disables a port.
    pub loop_block: Duration,
    /// What becomes of frames from an address that is pinned elsewhere.
    pub pin_violation: PinViolation,
    /// What becomes of spanning tree frames.
    pub bpdu: BpduPolicy,
    /// Whether VLAN tags count.
    pub vlan_filtering: VlanFiltering,
}

impl SwitchConfig {
    /// The defaults of the bridge conformance reference (§0): ageing 300 s (IEEE 802.1Q, Linux, OVS), 8192
    /// entries (OVS) and 1024 per port, no VLAN filtering, BPDUs dropped, loop guard for 60 s (B-LOOP-1).
    pub fn new(mac: MacAddr, hash_seed: u64) -> Self {
        Self {
            mac,
            hash_seed,
            ageing: Duration::from_secs(300),
            fdb_limit: 8192,
            port_limit: 1024,
            eviction: Eviction::Evict,
            flap: FlapLimits::default(),
            loop_block: Duration::from_secs(60),
            pin_violation: PinViolation::Drop,
            bpdu: BpduPolicy::Drop,
            vlan_filtering: VlanFiltering::Off,
        }
    }
}

/// Which dynamic entries to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushScope {
    /// All.
    All,
    /// Those of a port.
    Port(PortId),
    /// Those of a VLAN.
    Vlan(VlanId),
}
