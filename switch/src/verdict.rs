//! What became of a frame, and the counters that say so afterwards.

use std::fmt;

/// The outcome of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// No port sends the frame.
    Drop(DropReason),
    /// The ports of [`Switch::egress`](crate::Switch::egress), at least one, send the frame.
    Forward,
}

/// What became of a frame that a port was told to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressOutcome {
    /// The port did not send it.
    Dropped(DropReason),
    /// The port sent it.
    Sent,
}

vswitch_wire::reasons! {
    /// Why a frame was not forwarded, or not sent.
    ///
    /// Every dropped frame is counted once, under one reason, on one port: the one that received it,
    /// or for reasons that [are the egress's](DropReason::is_egress), the one that could not send it.
    pub enum DropReason {
        /// The port that received it is disabled by the loop or BPDU guard.
        Blocked => "blocked",
        /// A bridge protocol data unit on a port that must not have bridges behind it (B-STP-2).
        BpduGuard => "bpdu_guard",
        /// Egress: the port's device failed to send it.
        Device => "device",
        /// The port of the known destination is down (B-FWD-6).
        EgressDown => "egress_down",
        /// The known destination's port is not a member of the frame's VLAN (B-VL-3).
        EgressVlan => "egress_vlan",
        /// The source is frozen on another port because it moved too often (B-LIM-4).
        Flapping => "flapping",
        /// Ethernet flow control, which concerns a single link (B-ACC-3).
        FlowControl => "flow_control",
        /// The source address is zero or a group's (B-ACC-2).
        InvalidSource => "invalid_source",
        /// Between two isolated ports (B-FWD-8).
        Isolated => "isolated",
        /// To the switch's own address, and there is no gateway to take it (B-LRN-8).
        LocalUnreachable => "local_unreachable",
        /// The port is locked and the source not authorised on it (B-LRN-9).
        Locked => "locked",
        /// Headers that the guard or the VLAN filter has to read are cut short or contradictory.
        Malformed => "malformed",
        /// Received from a mirror port, which only sends (B-FWD-9).
        MirrorIngress => "mirror_ingress",
        /// Egress: larger than the port's MTU (B-MTU-1).
        Mtu => "mtu",
        /// No other port takes frames like this.
        NoEgress => "no_egress",
        /// The vnet header that came with it is inconsistent (B-OFF-5).
        Offload => "offload",
        /// The source is an address of the switch itself: a loop or a thief (B-ACC-7).
        OwnAddress => "own_address",
        /// The source is pinned to another port (B-LRN-7).
        PinnedElsewhere => "pinned_elsewhere",
        /// The port that received it is down.
        PortDown => "port_down",
        /// Egress: the port's queue is full (B-FWD-5).
        QueueFull => "queue_full",
        /// To a link-local or control protocol address that bridges do not forward (B-RSV-1, B-RSV-2).
        Reserved => "reserved",
        /// A DHCP server's message from a guarded port (B-ARP-1).
        RogueDhcp => "rogue_dhcp",
        /// A router's advertisement or redirect from a guarded port (B-ARP-1).
        RogueRouter => "rogue_router",
        /// Shorter than an Ethernet header (B-ACC-1).
        Runt => "runt",
        /// The destination is behind the port that it came from (B-FWD-1).
        SamePort => "same_port",
        /// Between two ports of one split-horizon group (B-LOOP-2).
        SplitHorizon => "split_horizon",
        /// An ARP sender that is not the port's (B-ARP-1).
        SpoofedArp => "spoofed_arp",
        /// An IP source that is not the port's.
        SpoofedIp => "spoofed_ip",
        /// A source MAC that is not the port's (B-PORT-5).
        SpoofedMac => "spoofed_mac",
        /// A neighbour discovery message about an address that is not the port's (B-ARP-1).
        SpoofedNeighbour => "spoofed_neighbour",
        /// The port's allowance for broadcasts is used up (B-STM-1).
        StormBroadcast => "storm_broadcast",
        /// The port's allowance for multicasts is used up (B-STM-1).
        StormMulticast => "storm_multicast",
        /// The port's allowance for unknown destinations is used up (B-STM-1).
        StormUnknownUnicast => "storm_unknown_unicast",
        /// Received from a port that is not there.
        UnknownPort => "unknown_port",
        /// The port is not a member of the frame's VLAN, or must not tag (B-VL-2, B-VL-8).
        VlanNotAllowed => "vlan_not_allowed",
        /// An untagged frame on a port without a VLAN for it (B-VL-2).
        VlanUntagged => "vlan_untagged",
    }
}

impl DropReason {
    /// Whether it is the sending port that counts the drop.
    pub const fn is_egress(self) -> bool {
        matches!(self, Self::Device | Self::Mtu | Self::QueueFull)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a port did since it was added (B-STAT-1). All counters wrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Frames received, whatever became of them.
    pub rx_frames: u64,
    /// Bytes received, Ethernet header included.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent, Ethernet header included.
    pub tx_bytes: u64,
    /// Received frames that were flooded.
    pub flooded: u64,
    /// Stations learnt on this port.
    pub learned: u64,
    /// Stations that moved to this port.
    pub moved: u64,
    /// Stations that were not learnt, or displaced another, because a limit was reached.
    pub limit_hits: u64,
    /// Events that were not reported because the port caused too many.
    pub events_suppressed: u64,
    drops: [u64; DropReason::ALL.len()],
}

impl Counters {
    /// Frames dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Frames dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Every reason with its count, zero included.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.dropped(reason)))
    }

    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            rx_frames: 0,
            rx_bytes: 0,
            tx_frames: 0,
            tx_bytes: 0,
            flooded: 0,
            learned: 0,
            moved: 0,
            limit_hits: 0,
            events_suppressed: 0,
            drops: [0; DropReason::ALL.len()],
        }
    }
}
