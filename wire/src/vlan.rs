//! 802.1Q and 802.1ad tags.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

use crate::{EtherType, EthernetHeader, Truncated};

/// A VLAN that frames can belong to: 1–4094.
///
/// 0 means "priority only, no VLAN" and 4095 is reserved (802.1Q table 9-2), so neither can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// The lowest identifier, by convention the default VLAN.
    pub const MIN: Self = Self(1);
    /// The highest identifier.
    pub const MAX: Self = Self(4094);

    /// The identifier, or `None` outside 1–4094.
    pub const fn new(value: u16) -> Option<Self> {
        if value >= Self::MIN.0 && value <= Self::MAX.0 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The number, 1–4094.
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number is not 1–4094.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a VLAN identifier is a number from 1 to 4094")]
pub struct InvalidVlanId;

impl TryFrom<u16> for VlanId {
    type Error = InvalidVlanId;

    fn try_from(value: u16) -> Result<Self, InvalidVlanId> {
        Self::new(value).ok_or(InvalidVlanId)
    }
}

/// The 16 bits of tag control information, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct VlanTag {
    /// Priority code point, 0–7.
    pub pcp: u8,
    /// Drop eligible indicator.
    pub dei: bool,
    /// The identifier as sent, 0–4095; [`VlanTag::id`] tells whether it names a VLAN.
    pub vid: u16,
}

impl VlanTag {
    /// A tag that names a VLAN, with priority 0.
    pub const fn new(id: VlanId) -> Self {
        Self {
            pcp: 0,
            dei: false,
            vid: id.value(),
        }
    }

    /// Takes apart the tag control information.
    pub const fn from_tci(tci: u16) -> Self {
        Self {
            pcp: (tci >> 13) as u8,
            dei: tci & 0x1000 != 0,
            vid: tci & 0x0fff,
        }
    }

    /// The tag control information; bits of `pcp` and `vid` beyond their fields are cut.
    pub const fn tci(self) -> u16 {
        ((self.pcp as u16 & 7) << 13) | ((self.dei as u16) << 12) | (self.vid & 0x0fff)
    }

    /// The VLAN, unless the tag carries only a priority (0) or the reserved identifier (4095).
    pub const fn id(self) -> Option<VlanId> {
        VlanId::new(self.vid)
    }
}

/// What follows an EtherType that [is a tag](EtherType::is_tag): the tag and the next EtherType.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct VlanHeader {
    tci: U16,
    /// What follows the tag.
    pub ethertype: EtherType,
}

impl VlanHeader {
    /// Bytes that a tag adds to a frame.
    pub const LEN: usize = 4;

    /// A header as it stands between the tag's own EtherType and the payload.
    pub fn new(tag: VlanTag, ethertype: EtherType) -> Self {
        Self {
            tci: U16::new(tag.tci()),
            ethertype,
        }
    }

    /// The header and what follows it.
    ///
    /// # Errors
    /// Fewer than 4 bytes.
    pub fn parse(bytes: &[u8]) -> Result<(&Self, &[u8]), Truncated> {
        Self::ref_from_prefix(bytes).map_err(|_| Truncated)
    }

    /// The tag.
    pub fn tag(&self) -> VlanTag {
        VlanTag::from_tci(self.tci.get())
    }

    /// Writes another tag in place.
    pub fn set_tag(&mut self, tag: VlanTag) {
        self.tci.set(tag.tci());
    }
}

/// The outermost tag of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OuterTag {
    /// [`EtherType::VLAN`] or [`EtherType::SERVICE_VLAN`].
    pub protocol: EtherType,
    /// The tag.
    pub tag: VlanTag,
    /// What follows the tag; another tag where this is one.
    pub ethertype: EtherType,
}

impl OuterTag {
    /// The outermost tag, or `None` for an untagged frame.
    ///
    /// # Errors
    /// The frame ends inside the Ethernet header or the tag.
    pub fn parse(frame: &[u8]) -> Result<Option<Self>, Truncated> {
        let (ethernet, payload) = EthernetHeader::parse(frame)?;
        if !ethernet.ethertype.is_tag() {
            return Ok(None);
        }
        let (header, _) = VlanHeader::parse(payload)?;
        Ok(Some(Self {
            protocol: ethernet.ethertype,
            tag: header.tag(),
            ethertype: header.ethertype,
        }))
    }
}

/// Where the payload of a frame begins, behind at most [`MAX_TAGS`] tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetworkLayer {
    /// The protocol of the payload; itself a tag if the frame has more than [`MAX_TAGS`].
    pub ethertype: EtherType,
    /// Offset of the payload from the start of the frame, in bytes: 14, 18 or 22.
    pub offset: usize,
}

impl NetworkLayer {
    /// Skips the Ethernet header and the tags.
    ///
    /// # Errors
    /// The frame ends inside the Ethernet header or a tag.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, Truncated> {
        let (ethernet, mut rest) = EthernetHeader::parse(frame)?;
        let mut layer = Self {
            ethertype: ethernet.ethertype,
            offset: EthernetHeader::LEN,
        };
        for _ in 0..MAX_TAGS {
            if !layer.ethertype.is_tag() {
                break;
            }
            let (header, payload) = VlanHeader::parse(rest)?;
            layer = Self {
                ethertype: header.ethertype,
                offset: layer.offset + VlanHeader::LEN,
            };
            rest = payload;
        }
        Ok(layer)
    }
}

/// Tags that are read in one frame: a service tag and a customer tag (802.1ad). Deeper stacks are opaque.
pub const MAX_TAGS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IpVersion, tests::mutilate, tests::recipe::Recipe};

    #[test]
    fn identifiers_are_1_to_4094() {
        assert_eq!(VlanId::new(0), None);
        assert_eq!(VlanId::new(1), Some(VlanId::MIN));
        assert_eq!(VlanId::new(4094), Some(VlanId::MAX));
        assert_eq!(VlanId::new(4095), None);
        assert_eq!(VlanId::new(u16::MAX), None);
        assert_eq!(VlanId::try_from(4095), Err(InvalidVlanId));
        assert_eq!(VlanId::try_from(7).map(|id| id.to_string()), Ok("7".to_owned()));
    }

    #[test]
    fn tag_control_information_goes_both_ways() {
        for tci in 0..=u16::MAX {
            assert_eq!(VlanTag::from_tci(tci).tci(), tci);
        }
        assert_eq!(
            VlanTag::from_tci(0xb123),
            VlanTag {
                pcp: 5,
                dei: true,
                vid: 0x123
            }
        );
        assert_eq!(VlanTag::from_tci(0xe000).id(), None);
        assert_eq!(
            VlanTag {
                pcp: 8,
                dei: false,
                vid: 0x1001
            }
            .tci(),
            1
        );
        assert_eq!(VlanTag::new(VlanId::MAX).id(), Some(VlanId::MAX));
    }

    #[test]
    fn the_outer_tag_is_read() {
        let frame = |tags| {
            Recipe {
                tags,
                ..Recipe::tcp(IpVersion::V4, 4)
            }
            .complete()
        };
        assert_eq!(OuterTag::parse(&frame(0)), Ok(None));
        let tag = VlanTag {
            pcp: 1,
            dei: false,
            vid: 100,
        };
        let single = OuterTag {
            protocol: EtherType::VLAN,
            tag,
            ethertype: EtherType::IPV4,
        };
        assert_eq!(OuterTag::parse(&frame(1)), Ok(Some(single)));
        let double = OuterTag {
            protocol: EtherType::SERVICE_VLAN,
            tag,
            ethertype: EtherType::VLAN,
        };
        assert_eq!(OuterTag::parse(&frame(2)), Ok(Some(double)));
        assert_eq!(OuterTag::parse(&frame(1)[..17]), Err(Truncated));
    }

    #[test]
    fn the_network_layer_is_found_behind_two_tags_and_not_three() {
        for (tags, ethertype, offset) in [
            (0, EtherType::IPV4, 14),
            (1, EtherType::IPV4, 18),
            (2, EtherType::IPV4, 22),
            (3, EtherType::VLAN, 22),
        ] {
            let frame = Recipe {
                tags,
                ..Recipe::tcp(IpVersion::V4, 4)
            }
            .complete();
            assert_eq!(
                NetworkLayer::parse(&frame),
                Ok(NetworkLayer { ethertype, offset })
            );
        }
    }

    #[test]
    fn a_tag_is_rewritten_in_place() {
        let mut header = VlanHeader::new(VlanTag::new(VlanId::MIN), EtherType::IPV6);
        header.set_tag(VlanTag {
            pcp: 7,
            dei: true,
            vid: 9,
        });
        assert_eq!(header.as_bytes(), [0xf0, 9, 0x86, 0xdd]);
        assert_eq!(VlanHeader::parse(header.as_bytes()), Ok((&header, &[][..])));
    }

    #[test]
    fn parsing_survives_mutilation() {
        let frame = Recipe {
            tags: 2,
            ..Recipe::tcp(IpVersion::V4, 4)
        }
        .complete();
        mutilate(&frame, 22, |bytes| {
            let _ = OuterTag::parse(bytes);
            if let Ok(layer) = NetworkLayer::parse(bytes) {
                assert!(layer.offset <= bytes.len());
            }
        });
    }
}
