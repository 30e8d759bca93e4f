//! One datagram of which fragments are missing.

use std::time::Instant;

use vswitch_wire::reassembly;

use crate::payload::Headers;

/// A datagram of which fragments are missing.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) datagram: reassembly::Partial,
    /// Of the first fragment, or of the first to come.
    pub(super) headers: Headers,
    pub(super) deadline: Instant,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    GivenUp,
    Open,
}

impl Partial {
    pub(super) fn charge(&self) -> usize {
        OVERHEAD + self.datagram.capacity()
    }
}

/// Bytes of a datagram under way beside its buffer: entry and places in queues, rounded up.
pub(super) const OVERHEAD: usize = 256 + size_of::<Partial>();
