//! TCP sequence numbers.

use std::{
    fmt,
    ops::{Add, Sub},
};

/// A sequence number: compares by wrapping order (RFC 9293 §3.4).
///
/// Comparisons mean something for numbers less than 2^31 apart only.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SeqNum(pub(crate) u32);

impl SeqNum {
    /// Whether this comes before `other`.
    #[inline]
    pub(crate) const fn lt(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether this comes before `other` or is it.
    #[inline]
    pub(crate) const fn le(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) <= 0
    }

    /// The later of both.
    #[inline]
    #[must_use]
    pub(crate) const fn max(self, other: Self) -> Self {
        if self.lt(other) { other } else { self }
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;

    #[inline]
    fn add(self, len: u32) -> Self {
        Self(self.0.wrapping_add(len))
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;

    #[inline]
    fn sub(self, len: u32) -> Self {
        Self(self.0.wrapping_sub(len))
    }
}

impl Sub for SeqNum {
    type Output = u32;

    /// Bytes from `start` to this; `start` must not come after it.
    #[inline]
    fn sub(self, start: Self) -> u32 {
        self.0.wrapping_sub(start.0)
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
