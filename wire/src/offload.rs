//! What work on a frame is left to whoever receives it.

use std::{fmt, ops::BitOr};

use crate::{IpVersion, VnetHeader};

/// The work that the sender of a frame left undone: a checksum to complete, a super-frame to cut.
///
/// [`VnetHeader::validate`] gives one that fits its frame. It stays right while nothing before the
/// transport header changes in length; where that happens, [`Offload::shifted`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Offload {
    /// Set if the transport checksum holds only the pseudo-header's sum.
    pub checksum: Option<PartialChecksum>,
    /// Set if the frame is to be cut into segments; `checksum` is set then, too.
    pub gso: Option<Gso>,
    /// Whether somebody verified the transport checksum, which is complete (B-OFF-8).
    pub data_valid: bool,
}

/// A transport checksum that is not complete: the field holds the folded sum of the pseudo-header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartialChecksum {
    /// Where the checksummed bytes begin, from the start of the frame: the transport header.
    pub start: u16,
    /// Where the checksum field is, from `start`: 16 for TCP, 6 for UDP.
    pub offset: u16,
}

impl PartialChecksum {
    /// Where the checksum field is, from the start of the frame.
    pub const fn place(self) -> usize {
        self.start as usize + self.offset as usize
    }
}

/// How a super-frame is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gso {
    /// The protocol of the segments.
    pub kind: GsoKind,
    /// Whether the frame may have CWR set, which only the first segment inherits.
    pub ecn: bool,
    /// Bytes of payload in each segment but the last; not 0.
    pub size: u16,
    /// Bytes from the start of the frame to the payload; each segment repeats them.
    pub header_len: u16,
}

/// The protocol of a super-frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams of equal size, over IPv4 or IPv6.
    Udp,
}

impl Offload {
    /// Nothing was left undone.
    pub const NONE: Self = Self {
        checksum: None,
        gso: None,
        data_valid: false,
    };

    /// Whether nothing was left undone.
    pub const fn is_none(&self) -> bool {
        self.checksum.is_none() && self.gso.is_none()
    }

    /// The vnet header that tells a TAP the same.
    #[inline]
    pub fn header(&self) -> VnetHeader {
        VnetHeader::new(self)
    }

    /// The same for the frame after its headers before the transport header grew by `delta` bytes, such as
    /// 4 where a VLAN tag was pushed (B-OFF-6). `None` if the offsets leave their range.
    pub fn shifted(self, delta: i16) -> Option<Self> {
        let checksum = match self.checksum {
            Some(partial) => Some(PartialChecksum {
                start: partial.start.checked_add_signed(delta)?,
                ..partial
            }),
            None => None,
        };
        let gso = match self.gso {
            Some(gso) => Some(Gso {
                header_len: gso.header_len.checked_add_signed(delta)?,
                ..gso
            }),
            None => None,
        };
        Some(Self {
            checksum,
            gso,
            ..self
        })
    }

    /// Bytes of the largest frame on the wire that comes of this one of `frame_len` bytes; what an MTU
    /// is compared with.
    #[inline]
    pub fn largest_frame(&self, frame_len: usize) -> usize {
        match self.gso {
            Some(gso) => frame_len.min(usize::from(gso.header_len) + usize::from(gso.size)),
            None => frame_len,
        }
    }

    /// How many frames on the wire this one of `frame_len` bytes makes.
    #[inline]
    pub fn segments(&self, frame_len: usize) -> usize {
        match self.gso {
            Some(gso) => frame_len
                .saturating_sub(gso.header_len.into())
                .div_ceil(usize::from(gso.size).max(1))
                .max(1),
            None => 1,
        }
    }

    /// What a port must be able to do to take the frame as it is (B-OFF-1). The version is that of the
    /// frame's packet; it tells USO4 from USO6.
    #[inline]
    pub fn needs(&self, version: IpVersion) -> Abilities {
        let checksum = if self.checksum.is_some() {
            Abilities::CSUM
        } else {
            Abilities::EMPTY
        };
        let Some(gso) = self.gso else { return checksum };
        let segmentation = match (gso.kind, version) {
            (GsoKind::TcpV4, _) => Abilities::TSO4,
            (GsoKind::TcpV6, _) => Abilities::TSO6,
            (GsoKind::Udp, IpVersion::V4) => Abilities::USO4,
            (GsoKind::Udp, IpVersion::V6) => Abilities::USO6,
        };
        let ecn = if gso.ecn { Abilities::ECN } else { Abilities::EMPTY };
        checksum | segmentation | ecn
    }
}

/// The offloads that a port takes: a set.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Abilities(u8);

impl Abilities {
    /// None: every frame is complete and at most of MTU size.
    pub const EMPTY: Self = Self(0);
    /// Partial checksums (`TUN_F_CSUM`), which all others build on.
    pub const CSUM: Self = Self(0x01);
    /// TCP super-frames over IPv4 (`TUN_F_TSO4`).
    pub const TSO4: Self = Self(0x02);
    /// TCP super-frames over IPv6 (`TUN_F_TSO6`).
    pub const TSO6: Self = Self(0x04);
    /// TCP super-frames with CWR (`TUN_F_TSO_ECN`).
    pub const ECN: Self = Self(0x08);
    /// UDP super-frames over IPv4 (`TUN_F_USO4`).
    pub const USO4: Self = Self(0x20);
    /// UDP super-frames over IPv6 (`TUN_F_USO6`).
    pub const USO6: Self = Self(0x40);
    /// All of them.
    pub const ALL: Self = Self(0x6f);

    /// The bits of `TUNSETOFFLOAD` (linux/if_tun.h), which are those of this set.
    pub const fn tun_flags(self) -> u32 {
        self.0 as u32
    }

    /// Whether all of `other` are in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this set and not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Abilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl fmt::Display for Abilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (ability, name) in [
            (Self::CSUM, "csum"),
            (Self::TSO4, "tso4"),
            (Self::TSO6, "tso6"),
            (Self::ECN, "ecn"),
            (Self::USO4, "uso4"),
            (Self::USO6, "uso6"),
        ] {
            if self.contains(ability) {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        if self.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Abilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Abilities({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `TUN_F_CSUM` … `TUN_F_USO6` of linux/if_tun.h; 0x6f is what Linux 6.18 was seen to take.
    #[test]
    fn abilities_are_the_flags_of_a_tun_device() {
        let all = [
            Abilities::CSUM,
            Abilities::TSO4,
            Abilities::TSO6,
            Abilities::ECN,
            Abilities::USO4,
            Abilities::USO6,
        ];
        assert_eq!(
            all.map(Abilities::tun_flags),
            [0x01, 0x02, 0x04, 0x08, 0x20, 0x40]
        );
        let union = all.into_iter().fold(Abilities::EMPTY, Abilities::union);
        assert_eq!(union, Abilities::ALL);
        assert_eq!(Abilities::ALL.tun_flags(), 0x6f);
    }

    #[test]
    fn abilities_are_a_set() {
        let set = Abilities::CSUM | Abilities::TSO4;
        assert!(set.contains(Abilities::CSUM) && set.contains(Abilities::EMPTY) && set.contains(set));
        assert!(!set.contains(Abilities::CSUM | Abilities::TSO6));
        assert_eq!(set.without(Abilities::CSUM), Abilities::TSO4);
        assert_eq!(
            set.intersection(Abilities::TSO4 | Abilities::TSO6),
            Abilities::TSO4
        );
        assert!(set.without(Abilities::ALL).is_empty());
        assert_eq!(
            (set.to_string(), Abilities::EMPTY.to_string()),
            ("csum,tso4".to_owned(), "none".to_owned())
        );
    }

    #[test]
    fn b_off_1_a_frame_needs_what_it_asks_for() {
        let partial = PartialChecksum {
            start: 34,
            offset: 16,
        };
        let ordinary = Offload {
            checksum: Some(partial),
            ..Offload::NONE
        };
        assert_eq!(Offload::NONE.needs(IpVersion::V4), Abilities::EMPTY);
        assert_eq!(
            Offload {
                data_valid: true,
                ..Offload::NONE
            }
            .needs(IpVersion::V4),
            Abilities::EMPTY
        );
        assert_eq!(ordinary.needs(IpVersion::V6), Abilities::CSUM);
        let gso = |kind, ecn| Offload {
            gso: Some(Gso {
                kind,
                ecn,
                size: 1400,
                header_len: 54,
            }),
            ..ordinary
        };
        for (offload, version, needs) in [
            (gso(GsoKind::TcpV4, false), IpVersion::V4, Abilities::TSO4),
            (gso(GsoKind::TcpV6, false), IpVersion::V6, Abilities::TSO6),
            (
                gso(GsoKind::TcpV6, true),
                IpVersion::V6,
                Abilities::TSO6 | Abilities::ECN,
            ),
            (gso(GsoKind::Udp, false), IpVersion::V4, Abilities::USO4),
            (gso(GsoKind::Udp, false), IpVersion::V6, Abilities::USO6),
        ] {
            assert_eq!(offload.needs(version), needs | Abilities::CSUM);
        }
    }

    #[test]
    fn the_largest_frame_is_what_goes_on_the_wire() {
        let gso = Gso {
            kind: GsoKind::TcpV4,
            ecn: false,
            size: 1460,
            header_len: 54,
        };
        let offload = Offload {
            gso: Some(gso),
            ..Offload::NONE
        };
        assert_eq!(offload.largest_frame(14_654), 1514);
        assert_eq!(offload.largest_frame(1000), 1000);
        assert_eq!(Offload::NONE.largest_frame(9000), 9000);
        assert_eq!((offload.segments(14_654), offload.segments(14_655)), (10, 11));
        assert_eq!((offload.segments(54), Offload::NONE.segments(9000)), (1, 1));
    }
}
