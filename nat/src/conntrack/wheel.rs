//! When to look at which connection.
//!
//! One slot a second, 512 of them. A connection hangs in the slot of its deadline, or in the farthest one if that is
//! farther. Traffic moves deadlines away without touching the wheel: when a slot's time comes, what is not over is hung
//! up again. So an entry is looked at once in its life time or every 511 s, and a packet costs nothing here.

use super::links::{Chain, Links, List};
use crate::time::Ticks;

#[derive(Debug)]
pub(super) struct Wheel {
    slots: Box<[List; SLOTS]>,
    /// Which slots are not empty.
    used: [u64; SLOTS / 64],
    /// The first second that was not looked at whole.
    cursor: u32,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self {
            slots: Box::new([List::EMPTY; SLOTS]),
            used: [0; SLOTS / 64],
            cursor: 0,
        }
    }

    /// Hangs an entry up and gives the second at which it will be looked at.
    pub(super) fn insert(&mut self, links: &mut Links, node: u32, deadline: Ticks) -> u32 {
        let at = second(deadline).clamp(self.cursor, self.cursor.saturating_add(SLOTS as u32 - 1));
        let slot = at as usize % SLOTS;
        links.push_back(&mut self.slots[slot], Chain::Wheel, node);
        self.used[slot / 64] |= 1 << (slot % 64);
        at
    }

    /// Takes an entry down; `at` is what it was hung up for.
    pub(super) fn remove(&mut self, links: &mut Links, node: u32, at: u32) {
        let slot = at as usize % SLOTS;
        links.unlink(&mut self.slots[slot], Chain::Wheel, node);
        if self.slots[slot].first().is_none() {
            self.used[slot / 64] &= !(1 << (slot % 64));
        }
    }

    /// The first entry to look at; it must be removed, or removed and inserted.
    pub(super) fn due(&mut self, now: Ticks) -> Option<u32> {
        let now = now.0 / Ticks::PER_SECOND;
        let next = self.next_second().filter(|&at| at <= now);
        // A slot that is being worked on may get no more entries, so the cursor stands at it until it is empty.
        self.cursor = next.unwrap_or(self.cursor.max(now.saturating_add(1)));
        self.slots[next? as usize % SLOTS].first()
    }

    /// When [`due`](Self::due) has something.
    pub(super) fn next(&self) -> Option<Ticks> {
        self.next_second()
            .map(|second| Ticks(second.saturating_mul(Ticks::PER_SECOND)))
    }

    fn next_second(&self) -> Option<u32> {
        let start = self.cursor as usize % SLOTS;
        let word_of = |offset: usize| {
            let index = (start / 64 + offset) % self.used.len();
            let word = self.used[index];
            // The first word counts from the cursor's bit, and once more, the last time round, up to it.
            match offset {
                0 => word & (u64::MAX << (start % 64)),
                _ if offset == self.used.len() => word & !(u64::MAX << (start % 64)),
                _ => word,
            }
        };
        let (offset, word) = (0..=self.used.len())
            .map(|offset| (offset, word_of(offset)))
            .find(|&(_, word)| word != 0)?;
        let slot = (start / 64 + offset) * 64 + word.trailing_zeros() as usize;
        Some(self.cursor.saturating_add((slot - start) as u32))
    }
}

/// The second at whose beginning a deadline has passed.
pub(super) const fn second(deadline: Ticks) -> u32 {
    deadline.0.div_ceil(Ticks::PER_SECOND)
}

const SLOTS: usize = 512;
