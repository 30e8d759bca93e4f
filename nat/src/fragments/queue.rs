//! Queues of slots by age, whose links are in the slots: a slot leaves from anywhere, and nothing is allocated.

use super::slot::Slot;

/// Slots by age.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queue {
    oldest: Option<u32>,
    youngest: Option<u32>,
}

/// A slot's neighbours in one queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    older: Option<u32>,
    younger: Option<u32>,
}

/// Which of its queues.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    Source,
    Version,
    Zone,
}

impl By {
    /// How many there are.
    pub(super) const COUNT: usize = 3;
}

impl Queue {
    pub(super) const fn oldest(&self) -> Option<u32> {
        self.oldest
    }

    /// The slots, oldest first.
    pub(super) fn iter(self, slots: &[Slot], by: By) -> impl Iterator<Item = u32> {
        std::iter::successors(self.oldest, move |&number| links(slots, by, number).younger)
    }

    /// Adds the youngest.
    pub(super) fn push(&mut self, slots: &mut [Slot], by: By, number: u32) {
        *links_mut(slots, by, number) = Links {
            older: self.youngest,
            younger: None,
        };
        match self.youngest {
            Some(youngest) => links_mut(slots, by, youngest).younger = Some(number),
            None => self.oldest = Some(number),
        }
        self.youngest = Some(number);
    }

    /// Takes out a slot that is in it.
    pub(super) fn unlink(&mut self, slots: &mut [Slot], by: By, number: u32) {
        let Links { older, younger } = std::mem::take(links_mut(slots, by, number));
        match older {
            Some(older) => links_mut(slots, by, older).younger = younger,
            None => self.oldest = younger,
        }
        match younger {
            Some(younger) => links_mut(slots, by, younger).older = older,
            None => self.youngest = older,
        }
    }
}

fn links(slots: &[Slot], by: By, number: u32) -> &Links {
    &slots[number as usize].links[by as usize]
}

fn links_mut(slots: &mut [Slot], by: By, number: u32) -> &mut Links {
    &mut slots[number as usize].links[by as usize]
}
