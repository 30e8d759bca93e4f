//! Prefix translation of IPv6 without state (RFC 6296, N-V6-4).
//!
//! An address that gets another prefix gets another value in one more of its 16-bit words, so that its one's complement sum
//! stays what it was. No checksum that covers it changes then, neither of its transport nor of an ICMPv6 message that quotes it.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use vswitch_wire::{IpVersion, checksum};

use crate::{Address, DropReason, icmp_error::is_error, packet::Packet, rewrite};

/// A pair of prefixes of equal length, which stand for each other so that transport checksums stay right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixPair {
    internal: Ipv6Net,
    external: Ipv6Net,
    /// What going outward adds to one word, in one's complement (RFC 6296 §3.1); going inward adds its complement.
    adjustment: u16,
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
    #[error("{0} is in subnet ffff of its /48, which RFC 6296 leaves out; choose another subnet")]
    SubnetFfff(Ipv6Net),
}

impl PrefixPair {
    /// Pairs them. Bits behind the prefixes are ignored.
    ///
    /// # Errors
    ///
    /// See [`PrefixPairError`].
    pub fn new(internal: Ipv6Net, external: Ipv6Net) -> Result<Self, PrefixPairError> {
        if internal.prefix_len() != external.prefix_len() {
            return Err(PrefixPairError::Lengths(internal, external));
        }
        for prefix in [internal, external] {
            if prefix.prefix_len() > LONGEST {
                return Err(PrefixPairError::TooLong(prefix));
            }
            if prefix.prefix_len() >= 64 && prefix.network().segments()[SUBNET] == 0xffff {
                return Err(PrefixPairError::SubnetFfff(prefix));
            }
        }
        let (internal, external) = (internal.trunc(), external.trunc());
        let sum = |prefix: Ipv6Net| checksum::sum(&prefix.network().octets());
        Ok(Self {
            internal,
            external,
            adjustment: checksum::fold(sum(internal) + u32::from(checksum::finish(sum(external)))),
        })
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
        map(address, self.internal, self.external, self.adjustment)
    }

    /// The inside address that stands for one outside.
    pub(crate) fn inward(&self, address: Address) -> Option<Address> {
        map(address, self.external, self.internal, !self.adjustment)
    }

    /// Translates a packet's source outward in place, and the packet quoted in an ICMPv6 error the other way round; takes one
    /// hop off. Fragments were put together before.
    ///
    /// # Errors
    ///
    /// [`DropReason::Untranslatable`] if the source is not in the prefix inside or has no counterpart. The packet is as it was.
    pub(crate) fn translate_outward(&self, bytes: &mut [u8], packet: &Packet) -> Result<(), DropReason> {
        let src = self.outward(packet.src).ok_or(DropReason::Untranslatable)?;
        replace(bytes, packet, (src, packet.dst), |quoted_src, quoted_dst| {
            (quoted_src, self.outward(quoted_dst).unwrap_or(quoted_dst))
        })
    }

    /// The same for a packet's destination, inward.
    ///
    /// # Errors
    ///
    /// [`DropReason::Untranslatable`], as for [`Self::translate_outward`].
    pub(crate) fn translate_inward(&self, bytes: &mut [u8], packet: &Packet) -> Result<(), DropReason> {
        let dst = self.inward(packet.dst).ok_or(DropReason::Untranslatable)?;
        replace(bytes, packet, (packet.src, dst), |quoted_src, quoted_dst| {
            (self.inward(quoted_src).unwrap_or(quoted_src), quoted_dst)
        })
    }
}

/// Writes the addresses into the packet, and into one that it quotes those that `quoted` makes of its own.
fn replace(
    bytes: &mut [u8],
    packet: &Packet,
    addresses: (Address, Address),
    quoted: impl FnOnce(Address, Address) -> (Address, Address),
) -> Result<(), DropReason> {
    if packet.version != IpVersion::V6 {
        return Err(DropReason::Untranslatable);
    }
    // What checksums make of it is nothing: see the module.
    let _ = rewrite::translate_header(bytes, IpVersion::V6, addresses, 1).ok_or(DropReason::Malformed)?;
    let begins_message = packet.fragment.is_none_or(|fragment| fragment.is_first());
    if !begins_message || !rewrite::is_icmp(packet.version, packet.protocol) {
        return Ok(());
    }
    let message = bytes.get_mut(packet.transport..packet.len);
    let Some(([kind, ..], body)) = message.and_then(|message| message.split_first_chunk_mut::<8>()) else {
        return Ok(());
    };
    if !is_error(IpVersion::V6, *kind) {
        return Ok(());
    }
    let Some(header) = body.first_chunk::<40>() else {
        return Ok(());
    };
    if let [src, dst] = *header[8..].as_chunks::<16>().0 {
        let addresses = quoted(Address::v6(src), Address::v6(dst));
        let _ = rewrite::translate_header(body, IpVersion::V6, addresses, 0);
    }
    Ok(())
}

/// RFC 6296 §3: the prefix is replaced, and one word takes up what that does to the sum.
fn map(address: Address, from: Ipv6Net, to: Ipv6Net, adjustment: u16) -> Option<Address> {
    if address.is_v4() || !from.contains(&Ipv6Addr::from(*address.octets())) {
        return None;
    }
    let bits = u128::from_be_bytes(*address.octets());
    let mut octets = (bits & !u128::from(from.netmask()) | u128::from(to.network())).to_be_bytes();
    let words = octets.as_chunks_mut::<2>().0;
    let word = adjusted(words, from.prefix_len())?;
    let balanced = checksum::fold(u32::from(u16::from_be_bytes(*word)) + u32::from(adjustment));
    // §3.4: 0xFFFF is the other zero and written as 0x0000, so that the way back finds one value only.
    *word = match balanced {
        0xffff => [0, 0],
        balanced => balanced.to_be_bytes(),
    };
    Some(Address::v6(octets))
}

/// The word that takes up the difference; `None` if it cannot, having a value that no sum gives back.
fn adjusted(words: &mut [[u8; 2]], prefix_len: u8) -> Option<&mut [u8; 2]> {
    let is_usable = |word: &&mut [u8; 2]| **word != [0xff, 0xff];
    if prefix_len <= 48 {
        // §3.4: the subnet.
        return words.get_mut(SUBNET).filter(is_usable);
    }
    // §3.5: the first word of the interface identifier that is not 0xFFFF; of those behind the prefix, if it reaches into them.
    let first = usize::from(prefix_len).div_ceil(16);
    words.get_mut(first..)?.iter_mut().find(is_usable)
}

/// The word of bits 48 to 63.
const SUBNET: usize = 3;
/// One word must be left.
const LONGEST: u8 = 112;

#[cfg(test)]
mod tests;
