//! Several fields replaced under one checksum.

/// What replacing words does to a checksum that covers them (RFC 1624 §3, equation 3). Changes of several
/// fields are added with [`Change::and`] and taken into each checksum field once.
///
/// It is the sum of `~m + m'` in the byte order of the machine: "the sum can be calculated […] in any
/// byte order" (RFC 1071 §2(B)), so that nothing is swapped on the way. It never folds to 0 unless nothing
/// was replaced or every old word was 0xffff and every new one 0, so that no field is given the wrong zero
/// (RFC 1624 §3).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Change(u64);

impl Change {
    /// Nothing was replaced.
    pub const NONE: Self = Self(0);

    /// Of one aligned 16-bit word, as it stands in the packet.
    #[inline]
    pub const fn of16(old: [u8; 2], new: [u8; 2]) -> Self {
        Self(!u16::from_ne_bytes(old) as u64 + u16::from_ne_bytes(new) as u64)
    }

    /// Of two aligned 16-bit words, such as an IPv4 address or both ports.
    #[inline]
    pub const fn of32(old: [u8; 4], new: [u8; 4]) -> Self {
        Self(!u32::from_ne_bytes(old) as u64 + u32::from_ne_bytes(new) as u64)
    }

    /// Of eight aligned 16-bit words: an IPv6 address.
    #[inline]
    pub fn of128(old: &[u8; 16], new: &[u8; 16]) -> Self {
        let words = old.as_chunks::<4>().0.iter().zip(new.as_chunks::<4>().0);
        words.fold(Self::NONE, |change, (old, new)| {
            change.and(Self::of32(*old, *new))
        })
    }

    /// Both changes. A billion of them can be added.
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The checksum field afterwards, as it stands in the packet.
    #[inline]
    #[must_use]
    pub const fn apply(self, checksum: [u8; 2]) -> [u8; 2] {
        (!fold(self.0 + !u16::from_ne_bytes(checksum) as u64)).to_ne_bytes()
    }

    /// As [`Change::apply`] with the rule of UDP: 0 ("none") stays 0, and no other checksum becomes 0.
    #[inline]
    #[must_use]
    pub const fn apply_udp(self, checksum: [u8; 2]) -> [u8; 2] {
        match checksum {
            [0, 0] => [0, 0],
            _ => self.apply_nonzero(checksum),
        }
    }

    /// As [`Change::apply`] with the rule of UDP-Lite (RFC 3828 §3.1): every datagram has a checksum, and it
    /// never becomes 0.
    #[inline]
    #[must_use]
    pub const fn apply_nonzero(self, checksum: [u8; 2]) -> [u8; 2] {
        match self.apply(checksum) {
            [0, 0] => [0xff, 0xff],
            updated => updated,
        }
    }

    /// The field afterwards where it holds a partial sum, which is not complemented
    /// ([`crate::PartialChecksum`]).
    #[inline]
    #[must_use]
    pub const fn apply_partial(self, partial: [u8; 2]) -> [u8; 2] {
        fold(self.0 + u16::from_ne_bytes(partial) as u64).to_ne_bytes()
    }
}

/// Carries until 16 bits are left, of any sum.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    // At most 0x1_ffff_fffe: 18 bits, then 17, then 16.
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}
