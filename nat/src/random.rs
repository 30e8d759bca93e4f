//! Numbers that strangers cannot guess (N-PORT-4).

use std::hash::{DefaultHasher, Hasher};

/// A sequence keyed by a secret seed: SipHash of a counter.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    seed: u64,
    counter: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }

    /// A number below `bound`, which is not 0. Of bounds up to 2^16 each is equally likely but for one in 2^48.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.counter = self.counter.wrapping_add(1);
        // `DefaultHasher` has fixed keys, so the secret goes in first, twice the size of a block.
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write_u64(!self.seed);
        hasher.write_u64(self.counter);
        let wide = u128::from(hasher.finish()) * u128::from(bound);
        (wide >> 64) as u32
    }
}
