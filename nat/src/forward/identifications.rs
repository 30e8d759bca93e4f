//! Identifications of packets that are cut.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use vswitch_wire::IpVersion;

use crate::Address;

/// Identifications of fragments that leave from an external address (N-FR-8).
///
/// Many hosts share that address, so their own would collide. These are an offset of the addresses' and the protocol's own
/// plus a counter that such triples share (RFC 7739 §5.3): for one triple they only ever go up, so that each is used again
/// as late as possible; nobody can tell those of one triple from those of another; and memory is bounded.
pub(crate) struct Identifications {
    seed: u64,
    counters: Box<[u32]>,
}

impl Identifications {
    /// `seed` must be secret.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            counters: vec![0; COUNTERS].into_boxed_slice(),
        }
    }

    /// The next one for datagrams from `src` to `dst`; for IPv4 of 16 bits.
    pub(crate) fn next(&mut self, src: Address, dst: Address, protocol: u8, version: IpVersion) -> u32 {
        // SipHash begins with the seed: what follows from other inputs says nothing about these.
        let mut hasher = DefaultHasher::new();
        (self.seed, src, dst, protocol).hash(&mut hasher);
        let hash = hasher.finish();
        let offset = hash as u32;
        let counter = &mut self.counters[(hash >> 32) as usize % COUNTERS];
        *counter = counter.wrapping_add(1);
        let id = offset.wrapping_add(*counter);
        match version {
            IpVersion::V4 => id & 0xffff,
            IpVersion::V6 => id,
        }
    }
}

impl fmt::Debug for Identifications {
    /// Without the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identifications").finish_non_exhaustive()
    }
}

/// As many as Linux has at least (`ip_idents`, net/ipv4/route.c).
const COUNTERS: usize = 2048;
