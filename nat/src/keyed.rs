//! The hash of tables whose keys strangers choose (N-TBL-4).

use std::{fmt, hash::BuildHasher};

use foldhash::{
    SharedSeed,
    fast::{FoldHasher, SeedableRandomState},
};

/// A hash whose every factor is secret. foldhash multiplies words of the key with each other, each first mixed with a
/// constant: with constants that everybody knows, a key could make a factor zero, and with it the hash the same whatever the
/// seed.
#[derive(Clone)]
pub(crate) struct Keyed(SeedableRandomState);

impl Keyed {
    /// Hashes by a secret. Some words of it live as long as the process: there are few engines.
    pub(crate) fn new(seed: u64) -> Self {
        let shared = Box::leak(Box::new(SharedSeed::from_u64(seed)));
        Self(SeedableRandomState::with_seed(seed.rotate_left(32) ^ KEY, shared))
    }
}

impl BuildHasher for Keyed {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

impl fmt::Debug for Keyed {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed")
    }
}

/// Any number: the seed's two uses differ.
const KEY: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{Address, Tuple, Zone};

    /// foldhash's own constants (`ARBITRARY…` of its lib.rs), which make a factor zero where they are not replaced.
    const KNOWN: [u64; 12] = [
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
        0x082e_fa98_ec4e_6c89,
        0x4528_21e6_38d0_1377,
        0xbe54_66cf_34e9_0c6c,
        0xc0ac_29b7_c97c_50dd,
        0x3f84_d5b5_b547_0917,
        0x9216_d5d9_8979_fb1b,
        0xd131_0ba6_98df_b5ac,
        0x2ffd_72db_d01a_dfb7,
        0xb8e1_afed_6a26_7e96,
    ];

    #[test]
    fn n_tbl_4_no_address_takes_the_secret_out_of_the_hash() {
        for known in KNOWN {
            let mut hashes = HashSet::new();
            for seed in [1, 2, 3] {
                let keyed = Keyed::new(seed);
                for network in 0..100u64 {
                    let mut octets = [0; 16];
                    octets[..8].copy_from_slice(&(0x2001_0db8_0000_0000 + network).to_be_bytes());
                    octets[8..].copy_from_slice(&known.to_ne_bytes());
                    let tuple = Tuple {
                        src: Address::v6(octets),
                        dst: Address::v6(octets),
                        src_port: 1,
                        dst_port: 2,
                        zone: Zone(1),
                        protocol: 17,
                        query: 0,
                    };
                    hashes.insert(keyed.hash_one(tuple));
                }
            }
            assert_eq!(hashes.len(), 300, "{known:x}");
        }
    }
}
