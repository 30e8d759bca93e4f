//! What the tests of several modules share, and tests over all parsers.

pub(crate) mod recipe;

mod differential;

/// RFC 1071 §4.1, word by word, to hold the fast sum against.
pub(crate) fn textbook_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | word.get(1).map_or(0, |&low| low.into());
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Calls `parse` with `sample` cut at every length and with every bit of its first `header_len` bytes
/// flipped. It fails by panicking.
pub(crate) fn mutilate(sample: &[u8], header_len: usize, parse: impl Fn(&[u8])) {
    for len in 0..=sample.len() {
        parse(&sample[..len]);
    }
    let mut flipped = sample.to_vec();
    for bit in 0..header_len * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        parse(&flipped);
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}
