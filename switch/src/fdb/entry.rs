//! What the forwarding database holds and says.

use std::time::Duration;

use vswitch_wire::{MacAddr, VlanId};

use crate::PortId;

/// What the table does with a new station when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Eviction {
    /// The least recently used entry of the port that holds the most makes room (B-LIM-3).
    #[default]
    Evict,
    /// The new station is not learnt; its frames are forwarded all the same (B-LIM-1).
    Refuse,
}

/// How an entry came to be, which decides what may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// Learnt from traffic; ages and moves.
    Dynamic,
    /// An address of the switch itself or of a port's device; frames to it go to the gateway only.
    Local,
    /// Configured; neither ages nor moves.
    Static,
}

/// One entry of the forwarding database, as shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbEntryView {
    /// The station's address.
    pub mac: MacAddr,
    /// The VLAN; `None` without VLAN filtering, and for entries that hold in every VLAN.
    pub vlan: Option<VlanId>,
    /// Where frames to the station go; `None` for a local entry of a switch without gateway.
    pub port: Option<PortId>,
    /// Time since the station was last heard; zero for entries that do not age.
    pub age: Duration,
    /// How the entry came to be.
    pub kind: EntryKind,
}

/// (Filtering id, MAC): what an entry is found by.
///
/// Filtering id 0 is the only one without VLAN filtering; with it, entries of id 0 hold in every VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    #[inline]
    pub(crate) const fn new(fid: u16, mac: MacAddr) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        let [hi, lo] = fid.to_be_bytes();
        Self(u64::from_be_bytes([hi, lo, a, b, c, d, e, f]))
    }

    /// Both in one number, for hashing.
    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn mac(self) -> MacAddr {
        let [_, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        MacAddr([a, b, c, d, e, f])
    }

    pub(crate) const fn vlan(self) -> Option<VlanId> {
        VlanId::new((self.0 >> 48) as u16)
    }

    #[inline]
    pub(crate) const fn in_every_vlan(self) -> Self {
        Self(self.0 & 0x0000_ffff_ffff_ffff)
    }
}

/// What a source address did to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sighting {
    /// It flapped too fast: pinned to `older` for a while; `younger` is where it was also seen.
    Flapping { older: PortId, younger: PortId },
    /// It is pinned to another port because it flapped a moment ago.
    Frozen,
    /// It is where it was known to be.
    Known,
    /// It is new here.
    Learned { displaced: Option<Departed> },
    /// It came from another port.
    Moved {
        from: PortId,
        displaced: Option<Departed>,
    },
    /// It is an address of the switch itself.
    Own,
    /// A static entry says that it is behind another port.
    Pinned { owner: PortId },
    /// There is no room to learn it.
    Refused(Limit),
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The port holds as many dynamic entries as it may (B-LIM-2).
    Port,
    /// The table holds as many dynamic entries as it may (B-LIM-1).
    Table,
}

/// A dynamic entry that left the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Departed {
    pub(crate) key: Key,
    pub(crate) port: PortId,
    pub(crate) cause: Departure,
}

/// Why a dynamic entry left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    Aged,
    Evicted,
}

/// Where frames to a known station go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// `None`: a local address of a switch without gateway.
    pub(crate) port: Option<PortId>,
    pub(crate) kind: EntryKind,
}
