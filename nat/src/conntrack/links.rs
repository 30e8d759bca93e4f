//! Lists of entries, by number, through links that are kept beside the entries.

use super::NONE;

/// Which list of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Chain {
    /// Of its inside host.
    Host = 0,
    /// Of its published port.
    Publication = 1,
    /// Of the wheel, or of free entries.
    Wheel = 2,
}

/// A list's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(crate) const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
    };

    pub(crate) fn first(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

/// The links of all entries.
#[derive(Debug)]
pub(super) struct Links(Vec<[Link; 3]>);

impl Links {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Makes links for one more entry; its number.
    pub(super) fn add(&mut self) -> u32 {
        let unlinked = Link {
            previous: NONE,
            next: NONE,
        };
        self.0.push([unlinked; 3]);
        (self.0.len() - 1) as u32
    }

    pub(super) fn push_back(&mut self, list: &mut List, chain: Chain, node: u32) {
        *self.link(node, chain) = Link {
            previous: list.tail,
            next: NONE,
        };
        match list.tail {
            NONE => list.head = node,
            tail => self.link(tail, chain).next = node,
        }
        list.tail = node;
    }

    pub(super) fn unlink(&mut self, list: &mut List, chain: Chain, node: u32) {
        let Link { previous, next } = *self.link(node, chain);
        match previous {
            NONE => list.head = next,
            previous => self.link(previous, chain).next = next,
        }
        match next {
            NONE => list.tail = previous,
            next => self.link(next, chain).previous = previous,
        }
    }

    pub(super) fn pop_front(&mut self, list: &mut List, chain: Chain) -> Option<u32> {
        let first = list.first()?;
        self.unlink(list, chain, first);
        Some(first)
    }

    fn link(&mut self, node: u32, chain: Chain) -> &mut Link {
        &mut self.0[node as usize][chain as usize]
    }
}
