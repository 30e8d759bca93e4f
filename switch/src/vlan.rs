//! 802.1Q: which VLAN a frame belongs to, and how it leaves.

use std::fmt;

use vswitch_wire::{EtherType, EthernetHeader, VlanHeader, VlanId, VlanTag};

use crate::{DropReason, PortKind};

/// Whether a switch looks at VLAN tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VlanFiltering {
    /// Tags are payload: forwarded unchanged, one filtering database (B-VL-1).
    #[default]
    Off,
    /// Every frame belongs to one VLAN, learnt and flooded within it only.
    On {
        /// The tags that count: [`EtherType::VLAN`], or [`EtherType::SERVICE_VLAN`] of a provider bridge.
        /// A frame whose outer tag is another's counts as untagged (B-VL-4).
        tpid: EtherType,
    },
}

/// The VLANs of a port; without effect while the switch does not filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortVlans {
    /// One VLAN, untagged. Tagged frames are refused, save for a priority tag (VID 0).
    Access(VlanId),
    /// Several VLANs, tagged.
    Trunk {
        /// The VLANs that pass.
        allowed: VlanSet,
        /// The VLAN of untagged frames, which also passes; `None`: untagged frames are refused.
        native: Option<VlanId>,
    },
}

impl PortVlans {
    /// The VLAN of untagged frames (the PVID).
    pub const fn untagged(&self) -> Option<VlanId> {
        match self {
            Self::Access(vlan) => Some(*vlan),
            Self::Trunk { native, .. } => *native,
        }
    }

    /// How a frame leaves through a port of these VLANs; `None`: not at all (B-VL-3).
    pub(crate) fn egress(&self, frame: Classified) -> Option<TagOp> {
        let vlan = frame.vlan?;
        let leaves_tagged = match self {
            Self::Access(own) if *own == vlan => false,
            Self::Trunk {
                native: Some(native), ..
            } if *native == vlan => false,
            Self::Trunk { allowed, .. } if allowed.contains(vlan) => true,
            Self::Access(_) | Self::Trunk { .. } => return None,
        };
        Some(match (frame.arrival, leaves_tagged) {
            (Arrival::Untagged, false) | (Arrival::Tagged, true) => TagOp::Keep,
            (Arrival::Untagged, true) => TagOp::Push(VlanTag::new(vlan)),
            (Arrival::Priority(_) | Arrival::Tagged, false) => TagOp::Pop,
            (Arrival::Priority(tag), true) => TagOp::Replace(VlanTag {
                vid: vlan.value(),
                ..tag
            }),
        })
    }
}

impl Default for PortVlans {
    /// VLAN 1, as IEEE 802.1Q and Linux have it.
    fn default() -> Self {
        Self::Access(VlanId::MIN)
    }
}

/// What to do with a frame's outer tag before a port sends it.
///
/// A tag that is pushed or replaced has the TPID of [`VlanFiltering::On`]. Whoever applies it moves the
/// offsets of the offload header along (B-VL-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagOp {
    /// Send the frame as it is.
    Keep,
    /// Remove the outer tag.
    Pop,
    /// Insert this tag after the source address.
    Push(VlanTag),
    /// Overwrite the outer tag's control information.
    Replace(VlanTag),
}

/// A frame's VLAN and how its outer tag said so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Classified {
    /// `None` without filtering.
    vlan: Option<VlanId>,
    arrival: Arrival,
}

#[derive(Debug, Clone, Copy)]
enum Arrival {
    /// With a tag of VID 0: priority only.
    Priority(VlanTag),
    Tagged,
    Untagged,
}

impl Classified {
    /// A frame of a switch that does not filter.
    pub(crate) const OPAQUE: Self = Self {
        vlan: None,
        arrival: Arrival::Untagged,
    };

    /// The id of the filtering database that the frame's stations are looked up in (B-LRN-2).
    pub(crate) fn fid(&self) -> u16 {
        self.vlan.map_or(0, VlanId::value)
    }
}

/// The VLAN of a frame from a port (B-VL-2).
pub(crate) fn classify(
    filtering: VlanFiltering,
    vlans: &PortVlans,
    kind: PortKind,
    frame: &[u8],
) -> Result<Classified, DropReason> {
    let VlanFiltering::On { tpid } = filtering else {
        return Ok(Classified::OPAQUE);
    };
    let (ethernet, payload) = EthernetHeader::parse(frame).map_err(|_| DropReason::Runt)?;
    if ethernet.ethertype != tpid {
        let vlan = vlans.untagged().ok_or(DropReason::VlanUntagged)?;
        return Ok(Classified {
            vlan: Some(vlan),
            arrival: Arrival::Untagged,
        });
    }
    let (header, _) = VlanHeader::parse(payload).map_err(|_| DropReason::Malformed)?;
    let tag = header.tag();
    if tag.vid == 0 {
        // With its priority tag replaced, a second tag could name another VLAN behind a trunk (B-VL-8).
        if kind == PortKind::Container && header.ethertype.is_tag() {
            return Err(DropReason::VlanNotAllowed);
        }
        let vlan = vlans.untagged().ok_or(DropReason::VlanUntagged)?;
        return Ok(Classified {
            vlan: Some(vlan),
            arrival: Arrival::Priority(tag),
        });
    }
    let vlan = tag.id().ok_or(DropReason::VlanNotAllowed)?;
    let is_member = match vlans {
        PortVlans::Access(_) => false,
        PortVlans::Trunk { allowed, native } => allowed.contains(vlan) || *native == Some(vlan),
    };
    if !is_member {
        return Err(DropReason::VlanNotAllowed);
    }
    Ok(Classified {
        vlan: Some(vlan),
        arrival: Arrival::Tagged,
    })
}

/// Bytes of a frame that belong neither to the Ethernet header nor to its first two tags: what an MTU
/// limits (B-MTU-1, B-VL-6).
#[inline]
pub(crate) fn layer_3_len(ethertype: EtherType, frame: &[u8], wire_len: usize) -> usize {
    let tags = if ethertype.is_tag() { count_tags(frame) } else { 0 };
    wire_len.saturating_sub(EthernetHeader::LEN + tags * VlanHeader::LEN)
}

#[cold]
fn count_tags(frame: &[u8]) -> usize {
    let inner = frame
        .get(EthernetHeader::LEN..)
        .and_then(|payload| VlanHeader::parse(payload).ok());
    match inner {
        Some((header, _)) if header.ethertype.is_tag() => 2,
        _ => 1,
    }
}

/// A set of VLANs.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet(Box<[u64; 64]>);

impl VlanSet {
    /// No VLAN.
    pub fn new() -> Self {
        Self(Box::new([0; 64]))
    }

    /// All VLANs, 1 to 4094.
    pub fn all() -> Self {
        (VlanId::MIN.value()..=VlanId::MAX.value())
            .filter_map(VlanId::new)
            .collect()
    }

    /// Whether `vlan` is in the set.
    pub fn contains(&self, vlan: VlanId) -> bool {
        let (word, bit) = position(vlan);
        self.0[word] & bit != 0
    }

    /// Adds `vlan`.
    pub fn insert(&mut self, vlan: VlanId) {
        let (word, bit) = position(vlan);
        self.0[word] |= bit;
    }

    /// Takes `vlan` out.
    pub fn remove(&mut self, vlan: VlanId) {
        let (word, bit) = position(vlan);
        self.0[word] &= !bit;
    }

    /// The VLANs of the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = VlanId> {
        (VlanId::MIN.value()..=VlanId::MAX.value())
            .filter_map(VlanId::new)
            .filter(|&vlan| self.contains(vlan))
    }
}

impl Default for VlanSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<VlanId> for VlanSet {
    fn from_iter<I: IntoIterator<Item = VlanId>>(vlans: I) -> Self {
        let mut set = Self::new();
        vlans.into_iter().for_each(|vlan| set.insert(vlan));
        set
    }
}

impl fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

fn position(vlan: VlanId) -> (usize, u64) {
    (usize::from(vlan.value() / 64), 1 << (vlan.value() % 64))
}
