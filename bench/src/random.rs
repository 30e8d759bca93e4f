//! Numbers that look random and depend on a seed only.

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `end`; 0 if that is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(end)) >> 64) as u64
    }

    /// Whether something of this probability happens.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        (self.number() >> 11) as f64 / ((1_u64 << 53) as f64) < probability
    }
}

/// Fills `out` with the part of an endless stream of bytes that begins at `at`.
pub(crate) fn stream(key: u64, at: u64, out: &mut [u8]) {
    let word = |index: u64| mix(key.wrapping_add(index.wrapping_mul(GOLDEN))).to_le_bytes();
    let (mut index, skipped) = (at / 8, (at % 8) as usize);
    let (first, rest) = out.split_at_mut(((8 - skipped) % 8).min(out.len()));
    if !first.is_empty() {
        first.copy_from_slice(&word(index)[skipped..skipped + first.len()]);
        index += 1;
    }
    for chunk in rest.chunks_mut(8) {
        chunk.copy_from_slice(&word(index)[..chunk.len()]);
        index += 1;
    }
}

fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_stream_is_the_same_bytes() {
        let mut whole = [0; 64];
        stream(5, 0, &mut whole);
        for at in 0..whole.len() {
            for end in at..whole.len() {
                let mut part = vec![0; end - at];
                stream(5, at as u64, &mut part);
                assert_eq!(part, whole[at..end], "{at}..{end}");
            }
        }
    }

    #[test]
    fn numbers_stay_below_their_end() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|end| random.below(end) < end.max(1)));
    }
}
