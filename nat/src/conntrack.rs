//! The table of connections.
//!
//! A connection is one entry with two tuples, and the index leads from either to it. What every packet touches is in [`Conn`],
//! three cache lines; what only beginnings and ends touch is in [`Cold`]. Entries are found by number as well, and
//! numbers are used again.
//!
//! Entries hang in lists: of the timing wheel, of the inside host that they count for, of the published port that
//! they came by. So whatever ends several connections visits those only (N-TBL-9).

mod links;
mod wheel;

use std::hash::BuildHasher;

use hashbrown::HashTable;

pub(crate) use links::{Chain, List};

use crate::{
    Direction, TcpState, Timer, Traffic, Tuple, keyed::Keyed, sctp::SctpTrack, tcp::TcpTrack, time::Ticks,
};
use links::Links;
use wheel::Wheel;

/// Names an entry for as long as it is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnId(u32);

/// The part of an entry that every packet touches.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct Conn {
    /// By [`Direction`].
    pub(crate) tuples: [Tuple; 2],
    /// When it ends if nothing comes.
    pub(crate) deadline: Ticks,
    /// The second at which the wheel looks at it; never later than the deadline's.
    scheduled: u32,
    pub(crate) status: Status,
    pub(crate) traffic: [Traffic; 2],
    pub(crate) tracker: Tracker,
}

/// The part of an entry that its beginning and its end touch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cold {
    /// Whom it counts for.
    pub(crate) host: u32,
    /// The lease of the external port that it uses, or [`NONE`].
    pub(crate) lease: u32,
    /// The published port that it came by, or [`NONE`].
    pub(crate) publication: u32,
}

/// No entry.
pub(crate) const NONE: u32 = u32::MAX;

/// What is known of a connection besides its protocol's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status(u8);

impl Status {
    /// Nothing.
    pub(crate) const NONE: Self = Self(0);
    /// An answer was seen.
    pub(crate) const REPLIED: Self = Self(1);
    /// It is spared when room is needed.
    pub(crate) const ASSURED: Self = Self(2);
    /// Only a filter that lets strangers in admitted it: until the inside answers, it does not live longer for
    /// what comes (N-FLT-2).
    pub(crate) const ADMITTED: Self = Self(4);
    /// To a port where one datagram is asked and answered.
    pub(crate) const SHORT: Self = Self(8);
    /// It is among those of its host that are not given up: assured, and not closing.
    pub(crate) const SPARED: Self = Self(16);
    const ALL: u8 = 15;

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// `None` if bits have no meaning.
    pub(crate) const fn from_bits(bits: u8) -> Option<Self> {
        match bits & !Self::ALL {
            0 => Some(Self(bits)),
            _ => None,
        }
    }

    #[inline]
    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[inline]
    pub(crate) const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    #[inline]
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[inline]
    pub(crate) const fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

/// The state of a connection's protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tracker {
    Sctp(SctpTrack),
    /// Nothing to track but whether there are answers.
    Stateless(Timer),
    Tcp(TcpTrack),
    /// When it began.
    Udp(Ticks),
}

impl Tracker {
    /// The state of TCP.
    #[inline]
    pub(crate) const fn state(&self) -> Option<TcpState> {
        match self {
            Self::Tcp(track) => Some(track.state()),
            _ => None,
        }
    }

    /// Whether the connection is over but for late segments: such ones are given up before others (nf_conntrack_proto_tcp.c,
    /// `tcp_can_early_drop`, but for those that are half-closed, which may live on).
    #[inline]
    pub(crate) const fn is_closing(&self) -> bool {
        matches!(
            self.state(),
            Some(TcpState::LastAck | TcpState::TimeWait | TcpState::Close)
        )
    }

    /// Reads something of it.
    #[inline]
    fn touch(&self) -> u32 {
        self.state().map_or(0, |state| state as u32)
    }
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Table {
    conns: Vec<Conn>,
    cold: Vec<Cold>,
    links: Links,
    wheel: Wheel,
    /// Twice the entry's number, plus the direction.
    index: HashTable<u32>,
    hasher: Keyed,
    free: List,
    len: usize,
}

impl Table {
    /// Room for so many without another allocation. `seed` keys the hash: strangers choose tuples (N-TBL-4).
    pub(crate) fn new(capacity: usize, seed: u64) -> Self {
        Self {
            conns: Vec::with_capacity(capacity),
            cold: Vec::with_capacity(capacity),
            links: Links::with_capacity(capacity),
            wheel: Wheel::new(),
            index: HashTable::with_capacity(2 * capacity),
            hasher: Keyed::new(seed),
            free: List::EMPTY,
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The entry that has this tuple, and for which direction.
    #[inline]
    pub(crate) fn find(&self, tuple: &Tuple) -> Option<(ConnId, Direction)> {
        let found = self
            .index
            .find(self.hash(tuple), |&key| self.tuple(key) == tuple)?;
        Some((ConnId(found >> 1), direction(*found)))
    }

    /// What a lookup by this hash will probably find, for [`touch`](Self::touch), without waiting for the entry.
    #[inline]
    pub(crate) fn guess(&self, hash: u64) -> u32 {
        let first = self.index.find(hash, |_| true);
        first.copied().unwrap_or(u32::MAX)
    }

    /// Reads a word of each of an entry's cache lines. The value means nothing.
    #[inline]
    pub(crate) fn touch(&self, guess: u32) -> u32 {
        match self.conns.get((guess >> 1) as usize) {
            Some(conn) => {
                let last = conn.traffic[1].packets as u32;
                last.wrapping_add(conn.tuples[0].src_port.into())
                    .wrapping_add(conn.tracker.touch())
            }
            None => 0,
        }
    }

    #[inline]
    pub(crate) fn conn(&self, id: ConnId) -> &Conn {
        &self.conns[id.index()]
    }

    #[inline]
    pub(crate) fn conn_mut(&mut self, id: ConnId) -> &mut Conn {
        &mut self.conns[id.index()]
    }

    pub(crate) fn cold(&self, id: ConnId) -> Cold {
        self.cold[id.index()]
    }

    /// Enters a connection whose tuples are both free; the caller hangs it into lists.
    pub(crate) fn insert(&mut self, new: NewConn, cold: Cold) -> ConnId {
        let conn = Conn {
            tuples: new.tuples,
            deadline: new.deadline,
            scheduled: 0,
            status: new.status,
            traffic: [Traffic::default(); 2],
            tracker: new.tracker,
        };
        let hashes = [self.hash(&conn.tuples[0]), self.hash(&conn.tuples[1])];
        let id = match self.links.pop_front(&mut self.free, Chain::Wheel) {
            Some(free) => {
                self.conns[free as usize] = conn;
                self.cold[free as usize] = cold;
                ConnId(free)
            }
            None => {
                self.conns.push(conn);
                self.cold.push(cold);
                ConnId(self.links.add())
            }
        };
        for (key, hash) in [id.0 << 1, id.0 << 1 | 1].into_iter().zip(hashes) {
            let (conns, hasher) = (&self.conns, &self.hasher);
            self.index.insert_unique(hash, key, |&key| {
                hasher.hash_one(conns[(key >> 1) as usize].tuples[(key & 1) as usize])
            });
        }
        self.conns[id.index()].scheduled = self.wheel.insert(&mut self.links, id.0, new.deadline);
        self.len += 1;
        id
    }

    /// Takes an entry out, of the wheel too; the caller has taken it out of the other lists.
    pub(crate) fn remove(&mut self, id: ConnId) {
        for key in [id.0 << 1, id.0 << 1 | 1] {
            let hash = self.hash(self.tuple(key));
            if let Ok(entry) = self.index.find_entry(hash, |&other| other == key) {
                entry.remove();
            }
        }
        let scheduled = self.conns[id.index()].scheduled;
        self.wheel.remove(&mut self.links, id.0, scheduled);
        self.links.push_back(&mut self.free, Chain::Wheel, id.0);
        self.len -= 1;
    }

    /// Gives an entry a deadline. A later one costs nothing: the wheel finds out when it looks.
    #[inline]
    pub(crate) fn set_deadline(&mut self, id: ConnId, deadline: Ticks) {
        let conn = &mut self.conns[id.index()];
        conn.deadline = deadline;
        if wheel::second(deadline) < conn.scheduled {
            self.wheel.remove(&mut self.links, id.0, conn.scheduled);
            conn.scheduled = self.wheel.insert(&mut self.links, id.0, deadline);
        }
    }

    /// The next entry whose deadline has passed. Looks at no more than `budget` entries, which it counts down.
    pub(crate) fn poll_expired(&mut self, now: Ticks, budget: &mut usize) -> Option<ConnId> {
        while *budget > 0 {
            let id = self.wheel.due(now)?;
            *budget -= 1;
            let conn = &mut self.conns[id as usize];
            if conn.deadline <= now {
                return Some(ConnId(id));
            }
            self.wheel.remove(&mut self.links, id, conn.scheduled);
            conn.scheduled = self.wheel.insert(&mut self.links, id, conn.deadline);
        }
        None
    }

    /// When [`poll_expired`](Self::poll_expired) has something to look at.
    pub(crate) fn next_look(&self) -> Option<Ticks> {
        self.wheel.next()
    }

    pub(crate) fn push(&mut self, list: &mut List, chain: Chain, id: ConnId) {
        self.links.push_back(list, chain, id.0);
    }

    pub(crate) fn unlink(&mut self, list: &mut List, chain: Chain, id: ConnId) {
        self.links.unlink(list, chain, id.0);
    }

    /// The first of a list.
    pub(crate) fn first(&self, list: &List) -> Option<ConnId> {
        list.first().map(ConnId)
    }

    /// Every entry. The index knows which places are free.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        let all = self.conns.iter().enumerate();
        all.map(|(index, conn)| (ConnId(index as u32), conn))
            .filter(|(id, _)| self.is_live(*id))
    }

    /// The live ones of the `most` entries from number `from` on, and where to go on if there are more.
    pub(crate) fn part(&self, from: u32, most: u32) -> (impl Iterator<Item = (ConnId, &Conn)>, Option<u32>) {
        let all = self.conns.len() as u32;
        let end = from.saturating_add(most).min(all);
        let live = (from..end).map(ConnId).filter(|&id| self.is_live(id));
        let live = live.map(|id| (id, self.conn(id)));
        (live, (end < all).then_some(end))
    }

    /// The live entry of the smallest number from `from` on, looking at one only; and where to go on.
    pub(crate) fn step(&self, from: u32) -> (Option<ConnId>, u32) {
        let id = ConnId(if (from as usize) < self.conns.len() {
            from
        } else {
            0
        });
        let live = (!self.conns.is_empty() && self.is_live(id)).then_some(id);
        (live, id.0 + 1)
    }

    fn is_live(&self, id: ConnId) -> bool {
        let tuple = &self.conns[id.index()].tuples[0];
        self.find(tuple).is_some_and(|(found, _)| found == id)
    }

    #[inline]
    fn tuple(&self, key: u32) -> &Tuple {
        &self.conns[(key >> 1) as usize].tuples[(key & 1) as usize]
    }

    #[inline]
    pub(crate) fn hash(&self, tuple: &Tuple) -> u64 {
        self.hasher.hash_one(tuple)
    }
}

/// A connection that is to be entered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewConn {
    pub(crate) tuples: [Tuple; 2],
    pub(crate) deadline: Ticks,
    pub(crate) status: Status,
    pub(crate) tracker: Tracker,
}

impl ConnId {
    #[inline]
    const fn index(self) -> usize {
        self.0 as usize
    }
}

const fn direction(key: u32) -> Direction {
    match key & 1 {
        0 => Direction::Original,
        _ => Direction::Reply,
    }
}

#[cfg(test)]
mod tests;
