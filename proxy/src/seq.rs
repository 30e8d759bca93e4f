//! TCP sequence numbers.

use std::{
    fmt,
    ops::{Add, AddAssign, Sub},
};

/// A sequence number: compares by wrapping order (RFC 9293 §3.4), never against 0 (R-TM-5).
///
/// Comparisons mean something for numbers less than 2^31 apart only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Whether this comes before `other`.
    pub const fn lt(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether this comes before `other` or is it.
    pub const fn le(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) <= 0
    }

    /// The later of both.
    pub const fn max(self, other: Self) -> Self {
        if self.lt(other) { other } else { self }
    }

    /// The earlier of both.
    pub const fn min(self, other: Self) -> Self {
        if other.lt(self) { other } else { self }
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;

    fn add(self, len: u32) -> Self {
        Self(self.0.wrapping_add(len))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, len: u32) {
        *self = *self + len;
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;

    fn sub(self, len: u32) -> Self {
        Self(self.0.wrapping_sub(len))
    }
}

impl Sub for SeqNum {
    type Output = u32;

    /// Bytes from `start` to this; `start` must not come after it.
    fn sub(self, start: Self) -> u32 {
        self.0.wrapping_sub(start.0)
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_tm_5_order_wraps() {
        let last = SeqNum(u32::MAX);
        let next = last + 2;
        assert_eq!(next, SeqNum(1));
        assert!(last.lt(next) && last.le(next) && !next.lt(last) && !next.le(last));
        assert!(last.le(last) && !last.lt(last));
        assert_eq!((next - last, next - 2), (2, last));
        assert_eq!((last.max(next), last.min(next)), (next, last));
    }
}
