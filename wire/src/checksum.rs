//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! A *sum* is the one's complement sum of big-endian 16-bit words in a `u32`: each function here gives
//! one of at most 20 bits, so that 4096 of them can be added with `+` before they are folded.
//! Zero has two representations. [`sum`] gives 0 only for bytes that are all zero, so that a sum over a
//! header that is not all zero never folds to +0 (RFC 1624 §3).

mod change;

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::IpProtocol;

pub use change::Change;

/// The sum of `bytes`, at most 0xffff. An odd last byte counts as if a zero byte followed (RFC 1071 §1).
#[inline]
pub fn sum(bytes: &[u8]) -> u32 {
    if bytes.len() < SHORT {
        return in_network_order(sum_words(bytes));
    }
    sum_lanes(bytes)
}

/// Whether a header that contains its own checksum adds up (RFC 1071 §1 (3)), given in parts of which all but the last have an
/// even length.
#[inline]
pub fn holds(parts: [&[u8]; 2]) -> bool {
    // All ones are the same in every byte order, so nothing is swapped.
    let total = sum_words(parts[0]) + sum_words(parts[1]);
    let total = (total >> 32) + (total & 0xffff_ffff);
    let total = (total >> 16) + (total & 0xffff);
    let total = (total >> 16) + (total & 0xffff);
    (total >> 16) + (total & 0xffff) == 0xffff
}

/// Headers and small packets: the lanes of longer ones would cost more than they add.
#[inline]
fn sum_words(bytes: &[u8]) -> u64 {
    // RFC 1071 §2(B): the sum does not depend on byte order, so native words are added and the result
    // is swapped once.
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)))
        .sum();
    total += match *rest {
        [a] => u64::from(u16::from_ne_bytes([a, 0])),
        [a, b] => u64::from(u16::from_ne_bytes([a, b])),
        [a, b, c] => u64::from(u32::from_ne_bytes([a, b, c, 0])),
        _ => 0,
    };
    total
}

#[inline(never)]
fn sum_lanes(bytes: &[u8]) -> u32 {
    // RFC 1071 §2(C): wide words, deferred carries.
    let mut lanes = [0u64; LANES];
    let (blocks, rest) = bytes.as_chunks::<{ LANES * 4 }>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    in_network_order(lanes.iter().sum::<u64>() + sum_words(rest))
}

#[inline]
fn in_network_order(total: u64) -> u32 {
    let total = (total >> 32) + (total & 0xffff_ffff);
    let total = (total >> 32) + (total & 0xffff_ffff);
    let total = total as u32;
    let native = fold((total >> 16) + (total & 0xffff));
    u32::from(u16::from_be_bytes(native.to_ne_bytes()))
}

/// Carries until 16 bits are left.
#[inline]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The checksum field for `sum`: folded and complemented.
#[inline]
pub const fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// The checksum field of UDP for `sum`: as [`finish`], but never 0, which would mean "none".
///
/// RFC 768: "If the computed checksum is zero, it is transmitted as all ones".
#[inline]
pub const fn finish_udp(sum: u32) -> u16 {
    match finish(sum) {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// The sum of bytes that follow an odd number of other bytes, given their own sum (RFC 1071 §2(B)).
#[inline]
pub const fn shifted(sum: u32) -> u32 {
    fold(sum).swap_bytes() as u32
}

/// The sum of the pseudo-header of TCP and UDP over IPv4 (RFC 9293 §3.1); `len` is header and payload.
#[inline]
pub const fn pseudo_header_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: IpProtocol, len: u16) -> u32 {
    words32(src.to_bits()) + words32(dst.to_bits()) + protocol.0 as u32 + len as u32
}

/// The sum of the pseudo-header of all upper layers over IPv6 (RFC 8200 §8.1); `len` is header and
/// payload of the upper layer. With a routing header `dst` is the final destination.
#[inline]
pub fn pseudo_header_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: IpProtocol, len: u32) -> u32 {
    sum(&src.octets()) + sum(&dst.octets()) + words32(len) + u32::from(protocol.0)
}

/// The checksum field after one 16-bit word it covers changed.
///
/// RFC 1624 §3, equation 3: `HC' = ~(~HC + ~m + m')`. (Equation 4 of RFC 1141 gives −0 for +0.)
/// A UDP checksum of 0 means "none" and must not be passed here; see [`update_udp`].
#[inline]
pub const fn update16(checksum: u16, old: u16, new: u16) -> u16 {
    finish(!checksum as u32 + !old as u32 + new as u32)
}

/// The checksum field after an aligned 32-bit word it covers changed, such as an IPv4 address.
#[inline]
pub const fn update32(checksum: u16, old: u32, new: u32) -> u16 {
    finish(!checksum as u32 + words32(!old) + words32(new))
}

/// The checksum field after aligned bytes it covers were replaced by others, such as an IPv6 address.
/// `old` and `new` may differ in length, as when an address family changes.
#[inline]
pub fn update(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let removed = !(sum(old) as u16);
    finish(u32::from(!checksum) + u32::from(removed) + sum(new))
}

/// A partial sum, as a frame with a [`crate::PartialChecksum`] holds in its checksum field, after
/// aligned bytes it covers were replaced: the same as [`update`], for a field that is not complemented.
#[inline]
pub fn update_partial(partial: u16, old: &[u8], new: &[u8]) -> u16 {
    !update(!partial, old, new)
}

/// Keeps the rule of UDP over an incremental update: 0 ("none") stays 0, and no other checksum becomes 0.
#[inline]
pub fn update_udp(checksum: u16, update: impl FnOnce(u16) -> u16) -> u16 {
    match checksum {
        0 => 0,
        _ => match update(checksum) {
            0 => 0xffff,
            updated => updated,
        },
    }
}

#[inline]
const fn words32(value: u32) -> u32 {
    (value >> 16) + (value & 0xffff)
}

/// Independent accumulators, enough to keep vector units busy.
const LANES: usize = 16;
/// Bytes from which on lanes are faster: two blocks of them.
const SHORT: usize = 128;

#[cfg(test)]
mod tests;
