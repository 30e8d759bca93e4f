//! Which port holds the most entries, in constant time and without allocation once warm.
//!
//! Ports of equal count share a list. Counts change by one, so the highest count in use also moves by at
//! most one at a time, and finding it again never searches.

use super::list::{Link, List};

/// Ports ordered by how many entries they hold.
#[derive(Debug, Default)]
pub(crate) struct Ranks {
    by_count: Vec<List<0>>,
    links: Vec<[Link; 1]>,
    highest: usize,
}

impl Ranks {
    /// Makes room for the port with this index.
    pub(crate) fn admit(&mut self, port: u32) {
        let needed = port as usize + 1;
        if self.links.len() < needed {
            self.links.resize(needed, [Link::LOOSE]);
        }
    }

    /// Records that a port went from `count` entries to one more.
    pub(crate) fn raise(&mut self, port: u32, count: usize) {
        if self.by_count.len() <= count + 1 {
            self.by_count.resize(count + 2, List::EMPTY);
        }
        if count > 0 {
            self.by_count[count].unlink(&mut self.links, port);
        }
        self.by_count[count + 1].push_back(&mut self.links, port);
        self.highest = self.highest.max(count + 1);
    }

    /// Records that a port went from `count` entries, at least one, to one less.
    pub(crate) fn lower(&mut self, port: u32, count: usize) {
        self.by_count[count].unlink(&mut self.links, port);
        if count > 1 {
            self.by_count[count - 1].push_back(&mut self.links, port);
        }
        if self.highest == count && self.by_count[count].len() == 0 {
            self.highest = count - 1;
        }
    }

    /// A port that holds the most entries; `favourite` if it is one of them. `None` if none holds any.
    pub(crate) fn fullest(&self, favourite: u32, its_count: usize) -> Option<u32> {
        if self.highest == 0 {
            return None;
        }
        if its_count == self.highest {
            return Some(favourite);
        }
        self.by_count[self.highest].head()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fullest_follows_counts_up_and_down() {
        let mut ranks = Ranks::default();
        (0..3).for_each(|port| ranks.admit(port));
        assert_eq!(ranks.fullest(0, 0), None);
        ranks.raise(0, 0);
        ranks.raise(1, 0);
        ranks.raise(1, 1);
        assert_eq!(ranks.fullest(2, 0), Some(1));
        ranks.lower(1, 2);
        assert_eq!(ranks.fullest(1, 1), Some(1), "a tie goes to the favourite");
        assert_eq!(ranks.fullest(0, 1), Some(0), "a tie goes to the favourite");
        ranks.lower(1, 1);
        assert_eq!(ranks.fullest(2, 0), Some(0));
        ranks.lower(0, 1);
        assert_eq!(ranks.fullest(2, 0), None);
    }
}
