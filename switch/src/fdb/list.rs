//! Doubly linked lists threaded through a slab, so that an element moves in constant time.
//!
//! The links live apart from the entries: a refresh touches four neighbours in each of two lists, and
//! sixteen bytes per entry keep a thousand stations within the first-level cache.

/// Index that names no element.
pub(crate) const NIL: u32 = u32::MAX;

/// An element's neighbours in one list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    previous: u32,
    next: u32,
}

impl Link {
    /// An element that is on no list.
    pub(crate) const LOOSE: Self = Self {
        previous: NIL,
        next: NIL,
    };
}

/// Head, tail and length; the links are in a slab that several lists share.
///
/// `CHAIN` says which of an element's `N` links a list uses. An element is on at most one list per chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List<const CHAIN: usize> {
    head: u32,
    tail: u32,
    len: u32,
}

impl<const CHAIN: usize> List<CHAIN> {
    /// A list without elements.
    pub(crate) const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
        len: 0,
    };

    /// The element that was pushed or renewed longest ago.
    pub(crate) const fn head(&self) -> Option<u32> {
        named(self.head)
    }

    /// Number of elements.
    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    /// The element after `slot`.
    pub(crate) fn next<const N: usize>(links: &[[Link; N]], slot: u32) -> Option<u32> {
        named(links[slot as usize][CHAIN].next)
    }

    /// Appends a loose element.
    #[inline]
    pub(crate) fn push_back<const N: usize>(&mut self, links: &mut [[Link; N]], slot: u32) {
        links[slot as usize][CHAIN] = Link {
            previous: self.tail,
            next: NIL,
        };
        match self.tail {
            NIL => self.head = slot,
            tail => links[tail as usize][CHAIN].next = slot,
        }
        self.tail = slot;
        self.len += 1;
    }

    /// Takes out an element that is on this list.
    #[inline]
    pub(crate) fn unlink<const N: usize>(&mut self, links: &mut [[Link; N]], slot: u32) {
        let Link { previous, next } = links[slot as usize][CHAIN];
        match previous {
            NIL => self.head = next,
            previous => links[previous as usize][CHAIN].next = next,
        }
        match next {
            NIL => self.tail = previous,
            next => links[next as usize][CHAIN].previous = previous,
        }
        links[slot as usize][CHAIN] = Link::LOOSE;
        self.len -= 1;
    }

    /// Makes an element of this list its last.
    #[inline]
    pub(crate) fn renew<const N: usize>(&mut self, links: &mut [[Link; N]], slot: u32) {
        if self.tail != slot {
            self.unlink(links, slot);
            self.push_back(links, slot);
        }
    }
}

const fn named(index: u32) -> Option<u32> {
    if index == NIL { None } else { Some(index) }
}
