//! One datagram, put together from fragments that come in any order. Which datagrams there are, for how long, and how
//! much memory they may take is for whoever keeps them.
//!
//! The datagram has one flat buffer, which grows to the end of the furthest fragment that came, and the list of the
//! places that are filled. Fragments never overlap ([`Fit::Contradiction`]), so it is whole when the filled bytes add
//! up to its length. Before the bytes that were cut the buffer has room for the headers that go in front of them.

/// A fragment: its place in its datagram, and what it brings.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    start: u16,
    end: u16,
    more: bool,
    bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// `None` for a fragment that cannot be: one that is empty, one that ends beyond 65 535 bytes, and one that others
    /// follow and whose length is no multiple of 8 (RFC 791 §3.2, RFC 8200 §4.5).
    pub fn new(offset: u16, more: bool, bytes: &'a [u8]) -> Option<Self> {
        let end = u16::try_from(usize::from(offset) + bytes.len()).ok()?;
        let is_possible = !bytes.is_empty() && (!more || bytes.len().is_multiple_of(8));
        is_possible.then_some(Self {
            start: offset,
            end,
            more,
            bytes,
        })
    }

    /// Whether it is the beginning of its datagram.
    pub const fn is_first(&self) -> bool {
        self.start == 0
    }

    /// Where it ends in its datagram.
    pub const fn end(&self) -> usize {
        self.end as usize
    }
}

/// How a fragment fits those that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It overlaps another, or they disagree on where the datagram ends (RFC 5722 §4).
    Contradiction,
    /// It came before, the very same.
    Duplicate,
    /// It brings something.
    New,
    /// It brings something, but the datagram has [`PIECES_MAX`] already.
    TooMany,
}

/// A datagram of which fragments are missing.
#[derive(Debug)]
pub struct Partial {
    /// Room for headers, and what came of the datagram; ends where the furthest fragment does.
    buffer: Vec<u8>,
    room: usize,
    /// Start and end of each fragment that came; the first `count` are meant.
    places: [(u16, u16); PIECES_MAX],
    count: usize,
    /// Bytes in all of `places`.
    filled: usize,
    /// Known once the last fragment came.
    total: Option<u16>,
}

impl Partial {
    /// A datagram of which nothing came yet, in a buffer whose memory is used again.
    pub fn new(buffer: Vec<u8>) -> Self {
        let mut partial = Self {
            buffer,
            room: 0,
            places: [(0, 0); PIECES_MAX],
            count: 0,
            filled: 0,
            total: None,
        };
        partial.buffer.clear();
        partial
    }

    /// How `piece` fits what is here.
    pub fn check(&self, piece: &Piece<'_>) -> Fit {
        let &Piece { start, end, more, .. } = piece;
        let places = self.places();
        let total = (!more).then_some(end);
        if places.contains(&(start, end)) && (more || self.total == total) {
            return match self.bytes(start, end) == Some(piece.bytes) {
                true => Fit::Duplicate,
                false => Fit::Contradiction,
            };
        }
        let overlaps = places.iter().any(|&(from, to)| start < to && from < end);
        let leaves = match (self.total, total) {
            (Some(_), Some(_)) => true,
            (Some(total), None) => end > total,
            (None, Some(total)) => self.reach() > total.into(),
            (None, None) => false,
        };
        match (overlaps || leaves, self.count < PIECES_MAX) {
            (true, _) => Fit::Contradiction,
            (false, true) => Fit::New,
            (false, false) => Fit::TooMany,
        }
    }

    /// Takes a fragment that is [`Fit::New`]; any other is left alone.
    pub fn put(&mut self, piece: &Piece<'_>) {
        let Some(place) = self.places.get_mut(self.count) else {
            return;
        };
        *place = (piece.start, piece.end);
        self.count += 1;
        self.filled += piece.bytes.len();
        let (start, end) = (self.room + usize::from(piece.start), self.room + piece.end());
        if end > self.buffer.len() {
            self.reserve(end);
            self.buffer.resize(end, 0);
        }
        self.buffer[start..end].copy_from_slice(piece.bytes);
        if !piece.more {
            self.total = Some(piece.end);
        }
    }

    /// Puts headers before the datagram, instead of those that were there.
    pub fn set_head(&mut self, head: &[u8]) {
        if head.len() != self.room {
            self.reserve(head.len() + self.reach());
            self.buffer.splice(..self.room, head.iter().copied());
            self.room = head.len();
        } else {
            self.buffer[..self.room].copy_from_slice(head);
        }
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.total.map(usize::from) == Some(self.filled)
    }

    /// Bytes of headers before the datagram.
    pub const fn head_len(&self) -> usize {
        self.room
    }

    /// How much more memory this takes once it has headers of `head_len` bytes and reaches to `end`.
    pub fn growth(&self, head_len: usize, end: usize) -> usize {
        let len = head_len + self.reach().max(end);
        room_for(len).saturating_sub(self.buffer.capacity())
    }

    /// Bytes of memory that the buffer takes.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Gives the buffer away: the headers, and the datagram as far as it came. Nothing of it is left here.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::replace(self, Self::new(Vec::new())).buffer
    }

    fn places(&self) -> &[(u16, u16)] {
        &self.places[..self.count]
    }

    fn bytes(&self, start: u16, end: u16) -> Option<&[u8]> {
        self.buffer
            .get(self.room + usize::from(start)..self.room + usize::from(end))
    }

    /// Where the furthest fragment ends.
    fn reach(&self) -> usize {
        self.buffer.len() - self.room
    }

    fn reserve(&mut self, len: usize) {
        if len > self.buffer.capacity() {
            self.buffer.reserve_exact(room_for(len) - self.buffer.len());
        }
    }
}

/// Buffers grow by steps, not by each fragment, and not beyond the largest packet.
fn room_for(len: usize) -> usize {
    len.next_multiple_of(BUFFER_STEP)
}

/// Fragments of one datagram (N-FR-5): 65 535 bytes in fragments of 1280 make 54.
pub const PIECES_MAX: usize = 64;
/// Ours: five fragments of 1500 bytes.
const BUFFER_STEP: usize = 8192;

#[cfg(test)]
mod tests;
