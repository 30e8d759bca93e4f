//! Which of many was used last.

/// Numbers in the order of their last use. Whatever is asked or told takes a few steps, however many there are.
///
/// They are a doubly linked list in a vector, whose first place is the list's head: its `newer` is the oldest.
#[derive(Debug)]
pub(super) struct Recency {
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
}

impl Recency {
    pub(super) fn new() -> Self {
        Self {
            links: vec![Link { older: 0, newer: 0 }],
        }
    }

    /// The one whose last use is longest ago.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.links[0].newer.checked_sub(1)
    }

    /// A number is used now. It may be new.
    pub(super) fn touch(&mut self, number: u32) {
        let place = number + 1;
        if self.links.len() <= place as usize {
            let unlinked = (self.links.len() as u32..=place).map(|own| Link {
                older: own,
                newer: own,
            });
            self.links.extend(unlinked);
        }
        self.unlink(place);
        let newest = self.links[0].older;
        self.links[place as usize] = Link {
            older: newest,
            newer: 0,
        };
        self.links[newest as usize].newer = place;
        self.links[0].older = place;
    }

    /// A number is in use no more.
    pub(super) fn remove(&mut self, number: u32) {
        self.unlink(number + 1);
    }

    /// What is not in the list is linked to itself.
    fn unlink(&mut self, place: u32) {
        let Link { older, newer } = self.links[place as usize];
        self.links[older as usize].newer = newer;
        self.links[newer as usize].older = older;
        self.links[place as usize] = Link {
            older: place,
            newer: place,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_in_the_order_of_their_last_use() {
        let mut recency = Recency::new();
        assert_eq!(recency.oldest(), None);
        for number in [3, 0, 2, 1, 0, 3] {
            recency.touch(number);
        }
        recency.remove(1);
        let mut order = Vec::new();
        while let Some(oldest) = recency.oldest() {
            order.push(oldest);
            recency.remove(oldest);
        }
        assert_eq!(order, [2, 0, 3]);
        recency.touch(1);
        assert_eq!(recency.oldest(), Some(1));
    }
}
