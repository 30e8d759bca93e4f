//! When flows want to be looked at: one structure for all (R-TM-6).

use std::time::Instant;

use crate::FlowId;

/// A binary heap with one place for each flow, so that it holds no more entries than there are flows.
///
/// A flow's entry may be earlier than what it waits for, never later: a deadline that moves away is found out
/// when the entry comes up. So most changes cost one comparison.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: Vec<(Instant, FlowId)>,
    /// Place in `heap` by flow, plus one; 0 for none.
    places: Vec<u32>,
}

impl Deadlines {
    /// The earliest entry.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|&(at, _)| at)
    }

    /// Makes sure that the flow comes up at `at` or before.
    pub(super) fn note(&mut self, flow: FlowId, at: Instant) {
        match self.place(flow) {
            Some(place) if self.heap[place].0 <= at => {}
            Some(place) => {
                self.heap[place].0 = at;
                self.rise(place);
            }
            None => {
                let index = flow.0 as usize;
                if self.places.len() <= index {
                    self.places.resize(index + 1, 0);
                }
                self.heap.push((at, flow));
                let place = self.heap.len() - 1;
                self.places[index] = place as u32 + 1;
                self.rise(place);
            }
        }
    }

    /// Takes out a flow whose entry is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<FlowId> {
        let &(at, flow) = self.heap.first()?;
        if now < at {
            return None;
        }
        self.remove(flow);
        Some(flow)
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, flow: FlowId) {
        let Some(place) = self.place(flow) else { return };
        self.places[flow.0 as usize] = 0;
        self.heap.swap_remove(place);
        if let Some(&(_, moved)) = self.heap.get(place) {
            self.places[moved.0 as usize] = place as u32 + 1;
            self.sink(place);
            self.rise(place);
        }
    }

    fn place(&self, flow: FlowId) -> Option<usize> {
        let place = *self.places.get(flow.0 as usize)?;
        (place as usize).checked_sub(1)
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].0 <= self.heap[place].0 {
                return;
            }
            self.swap(parent, place);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let Some(&(at, _)) = self.heap.get(left) else {
                return;
            };
            let child = match self.heap.get(right) {
                Some(&(other, _)) if other < at => right,
                _ => left,
            };
            if self.heap[place].0 <= self.heap[child].0 {
                return;
            }
            self.swap(place, child);
            place = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for place in [a, b] {
            self.places[self.heap[place].1.0 as usize] = place as u32 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use vswitch_testkit::Clock;

    use std::{collections::HashMap, time::Duration};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn r_tm_6_one_entry_a_flow_and_the_earliest_first(
            steps in prop::collection::vec((0u32..20, 0u64..50, 0u8..4), 1..300)
        ) {
            let start = Clock::new().now();
            let mut deadlines = Deadlines::default();
            let mut model: HashMap<u32, Instant> = HashMap::new();
            for (flow, at, step) in steps {
                let at = start + Duration::from_millis(at);
                match step {
                    0 => {
                        deadlines.remove(FlowId(flow));
                        model.remove(&flow);
                    }
                    1 => {
                        let due = deadlines.take_due(at);
                        let earliest = model.values().min().copied();
                        match due {
                            Some(flow) => prop_assert_eq!(model.remove(&flow.0), earliest),
                            None => prop_assert!(earliest.is_none_or(|earliest| at < earliest)),
                        }
                    }
                    _ => {
                        deadlines.note(FlowId(flow), at);
                        let entry = model.entry(flow).or_insert(at);
                        *entry = at.min(*entry);
                    }
                }
                prop_assert_eq!(deadlines.next(), model.values().min().copied());
                prop_assert_eq!(deadlines.heap.len(), model.len());
            }
        }
    }
}
