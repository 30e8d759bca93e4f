//! Payload that came before what precedes it (R-RX-2).
//!
//! While a segment of the container is missing, what comes behind it is kept here, so that one loss costs one
//! segment and not the rest of the flight. Nothing of it counts as received: acknowledged is what the host
//! socket took, and it takes these bytes once the missing ones are there.
//!
//! Invariants: pieces are not empty, in order, and do not overlap; none reaches beyond the FIN, if that is
//! known. A byte that is kept never changes: of two segments that differ, the first counts (R-LIM-4). What
//! pieces cost is charged to the relay's budget before they are kept, and given back with them.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::seq::SeqNum;

/// Early payload of one flow.
#[derive(Debug)]
pub(super) struct Early {
    pieces: VecDeque<Piece>,
    /// Where the container's stream ends.
    fin: Option<SeqNum>,
    charged: usize,
    budget: Arc<EarlyBudget>,
}

/// Bytes that follow each other.
#[derive(Debug)]
struct Piece {
    seq: SeqNum,
    bytes: Vec<u8>,
    /// What it was charged for.
    cost: usize,
}

/// Memory for the early payload of a relay's flows together. Touched only where segments are missing.
#[derive(Debug)]
pub struct EarlyBudget {
    limit: usize,
    used: AtomicUsize,
    refused: AtomicU64,
}

impl Early {
    pub(super) fn new(budget: &Arc<EarlyBudget>) -> Self {
        Self {
            pieces: VecDeque::new(),
            fin: None,
            charged: 0,
            budget: Arc::clone(budget),
        }
    }

    /// Keeps what of `bytes` is not there yet, as far as the limits allow.
    pub(super) fn keep(&mut self, seq: SeqNum, bytes: &[u8]) {
        let end = seq + bytes.len() as u32;
        let end = self.fin.map_or(end, |fin| fin.min(end));
        let mut index = self.pieces.partition_point(|piece| piece.end().le(seq));
        let mut at = seq;
        while at.lt(end) {
            let next = self.pieces.get(index).map(|piece| (piece.seq, piece.end()));
            let until = next.map_or(end, |(seq, _)| seq.min(end));
            if at.lt(until) {
                let missing = &bytes[(at - seq) as usize..(until - seq) as usize];
                if !self.append(index, at, missing) {
                    if !self.insert(index, at, missing) {
                        self.budget.refused.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    index += 1;
                }
            }
            let Some((_, piece_end)) = next else { return };
            at = piece_end;
            index += 1;
        }
    }

    /// Notes that the stream ends at `seq`, unless there is something behind that.
    pub(super) fn keep_fin(&mut self, seq: SeqNum) {
        let is_end = self.pieces.back().is_none_or(|piece| piece.end().le(seq));
        if is_end && self.fin.is_none() {
            self.fin = Some(seq);
        }
    }

    /// What is kept from `next` on without a gap, or the first part of that. Forgets what is before it.
    pub(super) fn ready(&mut self, next: SeqNum) -> &[u8] {
        while let Some(piece) = self.pieces.front().filter(|piece| piece.end().le(next)) {
            self.give_back(piece.cost);
            self.pieces.pop_front();
        }
        match self.pieces.front() {
            Some(piece) if piece.seq.le(next) => &piece.bytes[(next - piece.seq) as usize..],
            _ => &[],
        }
    }

    /// Whether the byte at `next` is here.
    pub(super) fn has(&self, next: SeqNum) -> bool {
        let front = self.pieces.front();
        front.is_some_and(|piece| piece.seq.le(next) && next.lt(piece.end()))
    }

    /// Bytes that are missing from `next` to the first thing that is here, none if that is at `next`.
    pub(super) fn gap(&self, next: SeqNum) -> u32 {
        let first = self.pieces.front().map(|piece| piece.seq).or(self.fin);
        first.map_or(u32::MAX, |first| first.max(next) - next)
    }

    /// Where the container's stream ends, if that is known.
    pub(super) fn fin(&self) -> Option<SeqNum> {
        self.fin
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.fin.is_none()
    }

    /// Lengthens the piece before `index` if it ends at `seq`. Segments that follow a missing one in order make
    /// one piece that way, and each byte is moved a bounded number of times. Pieces are not joined otherwise,
    /// since a container could have them copied over and over.
    fn append(&mut self, index: usize, seq: SeqNum, bytes: &[u8]) -> bool {
        let before = index.checked_sub(1).and_then(|before| self.pieces.get(before));
        let Some(piece) = before.filter(|piece| piece.end() == seq) else {
            return false;
        };
        let (len, capacity) = (piece.bytes.len() + bytes.len(), piece.bytes.capacity());
        if len > LONGEST_PIECE {
            return false;
        }
        let more = match len <= capacity {
            true => 0,
            false => len.max((2 * capacity).min(LONGEST_PIECE)) - capacity,
        };
        if !self.charge(more) {
            return false;
        }
        if let Some(piece) = self.pieces.get_mut(index - 1) {
            piece.cost += more;
            let room = capacity + more - piece.bytes.len();
            piece.bytes.reserve_exact(room);
            piece.bytes.extend_from_slice(bytes);
        }
        true
    }

    fn insert(&mut self, index: usize, seq: SeqNum, bytes: &[u8]) -> bool {
        let cost = PIECE_COST + bytes.len();
        if self.pieces.len() >= PIECES || !self.charge(cost) {
            return false;
        }
        let piece = Piece {
            seq,
            bytes: bytes.to_vec(),
            cost,
        };
        self.pieces.insert(index, piece);
        true
    }

    fn charge(&mut self, cost: usize) -> bool {
        let is_within = self.charged + cost <= FLOW_BYTES && self.budget.take(cost);
        if is_within {
            self.charged += cost;
        }
        is_within
    }

    fn give_back(&mut self, cost: usize) {
        self.charged -= cost;
        self.budget.used.fetch_sub(cost, Ordering::Relaxed);
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.give_back(self.charged);
    }
}

impl Piece {
    fn end(&self) -> SeqNum {
        self.seq + self.bytes.len() as u32
    }
}

impl EarlyBudget {
    /// At most `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Bytes that are in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Segments that were not kept for want of memory, of the relay's or of their flow's.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn take(&self, cost: usize) -> bool {
        let more = |used: usize| used.checked_add(cost).filter(|used| *used <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }
}

/// Most memory of one flow: more than the flight of a container that loses one segment in a hundred.
const FLOW_BYTES: usize = 256 << 10;

/// As many pieces as `FLOW_BYTES` has segments of 1 KiB. More means bytes sent singly, or harm.
const PIECES: usize = 256;

/// Until a piece is that long, segments that follow are appended: what one send takes well.
const LONGEST_PIECE: usize = 64 << 10;

/// The piece itself, its place in a queue of twice the length, and what the allocator needs.
const PIECE_COST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn early() -> (Early, Arc<EarlyBudget>) {
        let budget = Arc::new(EarlyBudget::new(1 << 20));
        (Early::new(&budget), budget)
    }

    /// Everything from `next` on without a gap.
    fn drained(early: &mut Early, mut next: SeqNum) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let ready = early.ready(next);
            if ready.is_empty() {
                return all;
            }
            next += ready.len() as u32;
            all.extend_from_slice(ready);
        }
    }

    #[test]
    fn r_rx_2_segments_in_a_row_become_one_piece() {
        let (mut early, budget) = early();
        let start = SeqNum(u32::MAX - 5000);
        for at in 0..20 {
            early.keep(start + at * 1000, &[at as u8; 1000]);
        }
        assert_eq!(early.pieces.len(), 1);
        assert!((20_000..45_000).contains(&budget.used()), "{}", budget.used());
        assert_eq!(early.gap(start - 7), 7);
        assert!(!early.has(start - 1) && early.has(start));
        assert_eq!(drained(&mut early, start).len(), 20_000);
        assert!(early.is_empty());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn r_rx_2_the_first_copy_of_a_byte_counts() {
        let (mut early, _) = early();
        early.keep(SeqNum(10), &[1; 10]);
        early.keep(SeqNum(30), &[2; 10]);
        early.keep(SeqNum(5), &[3; 50]);
        early.keep(SeqNum(5), &[4; 50]);
        let expected = [&[3; 5][..], &[1; 10], &[3; 10], &[2; 10], &[3; 15]].concat();
        assert_eq!(drained(&mut early, SeqNum(5)), expected);
    }

    #[test]
    fn r_rx_2_nothing_is_kept_behind_the_end() {
        let (mut early, _) = early();
        early.keep(SeqNum(10), &[1; 10]);
        early.keep_fin(SeqNum(15));
        assert_eq!(early.fin(), None, "there are bytes behind that");
        early.keep_fin(SeqNum(25));
        early.keep_fin(SeqNum(40));
        assert_eq!(early.fin(), Some(SeqNum(25)), "the first counts");
        early.keep(SeqNum(15), &[2; 100]);
        assert_eq!(drained(&mut early, SeqNum(10)).len(), 15);
        assert_eq!((early.gap(SeqNum(20)), early.gap(SeqNum(25))), (5, 0));
    }

    #[test]
    fn r_lim_4_early_bytes_are_limited_per_flow_and_together() {
        let budget = Arc::new(EarlyBudget::new(FLOW_BYTES * 3 / 2));
        let mut flows = [Early::new(&budget), Early::new(&budget)];
        for early in &mut flows {
            for at in 0..1000 {
                early.keep(SeqNum(at * 1460), &[0; 1460]);
            }
            assert!(early.charged <= FLOW_BYTES);
        }
        assert!(flows[0].charged > FLOW_BYTES * 3 / 4, "{}", flows[0].charged);
        assert!(flows[1].charged > FLOW_BYTES / 4 && budget.used() <= FLOW_BYTES * 3 / 2);
        assert!(budget.refused() > 0);
        // What was taken is contiguous, so that it is of use.
        let [mut first, second] = flows;
        drop(second);
        assert!(drained(&mut first, SeqNum(0)).len() > FLOW_BYTES / 2);
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn r_lim_4_single_bytes_far_apart_are_few() {
        let (mut early, budget) = early();
        for at in (0..100_000).rev() {
            early.keep(SeqNum(at * 2), &[0]);
        }
        assert_eq!(early.pieces.len(), PIECES);
        assert!(budget.used() <= PIECES * (PIECE_COST + 1));
        // One segment over all of them fills the gaps as far as pieces go.
        early.keep(SeqNum(0), &[1; 65_000]);
        assert!(early.pieces.len() <= PIECES);
    }

    /// Against a map of bytes, whatever comes in whatever order.
    #[test]
    fn r_lim_4_pieces_are_what_a_map_of_bytes_would_be() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % limit
        };
        for round in 0..200 {
            let (mut early, budget) = early();
            let start = SeqNum(u32::MAX - 1000);
            let mut model = vec![None; 3000];
            for fill in 0..60 {
                let (from, len) = (below(2500) as usize, below(400) as usize);
                early.keep(start + from as u32, &vec![fill; len]);
                for byte in &mut model[from..from + len] {
                    byte.get_or_insert(fill);
                }
            }
            let mut at = 0;
            while at < model.len() {
                let run: Vec<u8> = model[at..].iter().map_while(|byte| *byte).collect();
                let next = start + at as u32;
                assert_eq!(drained(&mut early, next), run, "round {round}, byte {at}");
                at += run.len() + 1;
            }
            assert!(early.is_empty());
            assert_eq!(budget.used(), 0);
        }
    }
}
