//! One datagram of which fragments are missing.

use std::time::Instant;

use crate::payload::Headers;

use super::piece::Piece;

/// A datagram of which fragments are missing.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) buffer: Vec<u8>,
    /// Start and end of each fragment that came.
    pub(super) parts: Vec<(usize, usize)>,
    /// Known once the last fragment came.
    pub(super) total: Option<usize>,
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

/// How a fragment fits those before.
pub(super) enum Fit {
    Contradiction,
    /// It came before, the very same (N-FR-2).
    Duplicate,
    New,
}

impl Partial {
    pub(super) fn check(&self, piece: &Piece<'_>) -> Fit {
        let (start, end) = (piece.offset, piece.end());
        let total = (!piece.more).then_some(end);
        if self.parts.contains(&(start, end)) && (piece.more || self.total == total) {
            return match self.buffer.get(start..end) == Some(piece.bytes) {
                true => Fit::Duplicate,
                false => Fit::Contradiction,
            };
        }
        let overlaps = self.parts.iter().any(|&(from, to)| start < to && from < end);
        let leaves = match (self.total, total) {
            (Some(_), Some(_)) => true,
            (Some(total), None) => end > total,
            // The buffer ends where the furthest fragment does.
            (None, Some(total)) => self.buffer.len() > total,
            (None, None) => false,
        };
        match overlaps || leaves || self.parts.len() >= PARTS_MAX {
            true => Fit::Contradiction,
            false => Fit::New,
        }
    }

    pub(super) fn put(&mut self, piece: &Piece<'_>) {
        let end = piece.end();
        if end > self.buffer.len() {
            self.buffer
                .reserve_exact(room_for(end).saturating_sub(self.buffer.len()));
            self.buffer.resize(end, 0);
        }
        self.buffer[piece.offset..end].copy_from_slice(piece.bytes);
        self.parts.push((piece.offset, end));
        if !piece.more {
            self.total = Some(end);
        }
        if piece.offset == 0 {
            self.headers = piece.headers;
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        let len: usize = self.parts.iter().map(|(start, end)| end - start).sum();
        self.total == Some(len)
    }

    /// How much more memory this takes once it reaches to `end`.
    pub(super) fn growth(&self, end: usize) -> usize {
        room_for(end).saturating_sub(self.buffer.capacity())
    }

    pub(super) fn charge(&self) -> usize {
        OVERHEAD + self.buffer.capacity()
    }
}

/// Buffers grow by steps, not by each fragment, and not beyond the largest packet.
fn room_for(len: usize) -> usize {
    len.next_multiple_of(BUFFER_STEP)
}

/// Fragments of one datagram (N-FR-5): 65 535 bytes in fragments of 1280 make 54.
pub(super) const PARTS_MAX: usize = 64;
/// Bytes of a datagram under way beside its buffer: entry, parts and places in queues, rounded up.
pub(super) const OVERHEAD: usize = 256 + PARTS_MAX * size_of::<(usize, usize)>();
/// Ours: five fragments of 1500 bytes.
const BUFFER_STEP: usize = 8192;
