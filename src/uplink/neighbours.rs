//! The neighbours of a station: who has which Ethernet address, and what waits for the answer.
//!
//! States are those of RFC 4861 §7.3.2, for IPv4 as well. An entry is made only when a packet is to be sent to the
//! neighbour, so that nobody on the link can fill the table; what neighbours say of themselves changes entries that are
//! there. [`State::Reachable`] turns stale without a timer, when it is looked at: only questions have deadlines.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use vswitch_wire::{MacAddr, Offload};

/// The table. The hash is keyed: containers choose the addresses that they send to.
#[derive(Debug)]
pub(super) struct Neighbours {
    places: Vec<Option<Neighbour>>,
    free: Vec<u32>,
    by_address: HashMap<IpAddr, u32, foldhash::fast::RandomState>,
    /// When the neighbour at a place is to be asked, or given up.
    deadlines: BTreeSet<(Instant, u32)>,
    /// Entries that are never removed to make room: the gateways'.
    pinned: Vec<IpAddr>,
    /// Where the search for something to remove goes on.
    hand: usize,
    /// What waits for all of them.
    waiting: Room,
    /// What each sender has of that, and of the questions; nothing for one that has nothing.
    shares: HashMap<Sender, Share, foldhash::fast::RandomState>,
    /// Packets that waited in vain, because somebody else needed the place.
    pub(super) displaced: u64,
}

/// Whose packets share a part of the room, such as a container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sender(pub u64);

impl Sender {
    /// Nobody inside; nor what is needed for everybody, such as a gateway's address.
    pub const OUTSIDE: Self = Self(u64::MAX);
}

/// What one sender has caused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Share {
    /// Entries that are asked for.
    incomplete: usize,
    waiting: Room,
}

/// Packets that wait, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Room {
    packets: usize,
    bytes: usize,
}

impl Room {
    /// With another packet of that length; `None` if that exceeds the limit.
    fn with(self, len: usize, limit: Self) -> Option<Self> {
        let more = Self {
            packets: self.packets + 1,
            bytes: self.bytes + len,
        };
        (more.packets <= limit.packets && more.bytes <= limit.bytes).then_some(more)
    }

    fn release(&mut self, len: usize) {
        self.packets -= 1;
        self.bytes -= len;
    }
}

#[derive(Debug)]
struct Neighbour {
    address: IpAddr,
    /// Meaningless while incomplete.
    mac: MacAddr,
    state: State,
    /// Its entry in [`Neighbours::deadlines`].
    at: Option<Instant>,
    /// Who wanted it first.
    asker: Sender,
    /// When it was sent to last.
    used: Instant,
    /// When its Ethernet address changed last.
    changed: Instant,
    waiting: VecDeque<Waiting>,
}

/// What is known of a neighbour's Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is used, and asked about soon.
    Delay,
    /// Nothing; so often we have asked.
    Incomplete(u8),
    /// It is used, and asked about; so often.
    Probe(u8),
    /// It was confirmed, and is believed until then.
    Reachable(Instant),
    /// It is used, and asked about once somebody sends to it.
    Stale,
}

/// A packet that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Room for the Ethernet header, and the packet.
    pub(super) frame: Vec<u8>,
    pub(super) offload: Offload,
    pub(super) sender: Sender,
}

/// What becomes of a packet to a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolution {
    /// There is no room for another neighbour.
    Full,
    /// It can be sent.
    Known(MacAddr),
    /// It has to wait; [`Neighbours::wait`].
    Unknown,
}

/// What a neighbour has said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// An answer to us that is to replace what we knew, or not (an advertisement without its override flag).
    Answer { overrides: bool },
    /// Something that nobody asked for.
    Claim { overrides: bool },
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Due {
    /// Ask the neighbour: all stations, or the one that had the address.
    Ask(IpAddr, Option<MacAddr>),
    /// It does not answer; these packets go nowhere.
    Failed(VecDeque<Waiting>),
}

impl Neighbours {
    pub(super) fn new(pinned: Vec<IpAddr>) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            by_address: HashMap::default(),
            deadlines: BTreeSet::new(),
            pinned,
            hand: 0,
            waiting: Room::default(),
            shares: HashMap::default(),
            displaced: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Where a packet to the neighbour goes.
    #[inline]
    pub(super) fn resolve(&mut self, now: Instant, sender: Sender, address: IpAddr) -> Resolution {
        let Some(&place) = self.by_address.get(&address) else {
            return self.begin(now, sender, address);
        };
        let Some(Some(neighbour)) = self.places.get_mut(place as usize) else {
            return Resolution::Full;
        };
        neighbour.used = now;
        match neighbour.state {
            State::Reachable(until) if now < until => {}
            State::Reachable(_) | State::Stale => {
                neighbour.state = State::Delay;
                self.schedule(place, Some(now + DELAY_FIRST_PROBE_TIME));
            }
            State::Delay | State::Probe(_) => {}
            State::Incomplete(_) => return Resolution::Unknown,
        }
        match self.places.get(place as usize) {
            Some(Some(neighbour)) => Resolution::Known(neighbour.mac),
            _ => Resolution::Full,
        }
    }

    /// Keeps a copy of a packet until the neighbour has answered; false if there is no room. Of one neighbour's the oldest
    /// goes for the newest (RFC 4861 §7.2.2).
    pub(super) fn wait(
        &mut self,
        sender: Sender,
        address: IpAddr,
        (frame, offload): (&[u8], Offload),
    ) -> bool {
        let place = self.by_address.get(&address).map(|&place| place as usize);
        let Some(Some(neighbour)) = place.and_then(|place| self.places.get_mut(place)) else {
            return false;
        };
        if neighbour.waiting.len() >= WAITING_FOR_ONE
            && let Some(oldest) = neighbour.waiting.pop_front()
        {
            self.waiting.release(oldest.frame.len());
            released(&mut self.shares, oldest.sender, |share| {
                share.waiting.release(oldest.frame.len());
            });
        }
        let share = self.shares.get(&sender).copied().unwrap_or_default();
        let (Some(all), Some(own)) = (
            self.waiting.with(frame.len(), WAITING),
            share.waiting.with(frame.len(), WAITING_OF_ONE),
        ) else {
            return false;
        };
        self.waiting = all;
        self.shares.entry(sender).or_default().waiting = own;
        neighbour.waiting.push_back(Waiting {
            frame: frame.to_vec(),
            offload,
            sender,
        });
        true
    }

    /// Takes what a neighbour says of itself; gives what waited for it.
    pub(super) fn note(
        &mut self,
        now: Instant,
        address: IpAddr,
        mac: MacAddr,
        evidence: Evidence,
    ) -> VecDeque<Waiting> {
        let Some(&place) = self.by_address.get(&address) else {
            return VecDeque::new();
        };
        let Some(Some(neighbour)) = self.places.get_mut(place as usize) else {
            return VecDeque::new();
        };
        let is_same = neighbour.mac == mac;
        let reachable = State::Reachable(now + REACHABLE_TIME);
        let state = match (neighbour.state, evidence) {
            (State::Incomplete(_), Evidence::Answer { .. }) => reachable,
            (State::Incomplete(_), Evidence::Claim { .. }) => State::Stale,
            // RFC 4861 §7.2.5: an address that is confirmed is doubted, but not replaced.
            (
                State::Reachable(_),
                Evidence::Answer { overrides: false } | Evidence::Claim { overrides: false },
            ) if !is_same => {
                neighbour.state = State::Stale;
                self.schedule(place, None);
                return VecDeque::new();
            }
            (_, Evidence::Answer { overrides }) if overrides || is_same => reachable,
            // Two stations that both claim it would make it change with every packet.
            (_, Evidence::Claim { overrides: true })
                if !is_same && now.saturating_duration_since(neighbour.changed) >= LOCK_TIME =>
            {
                State::Stale
            }
            _ => return VecDeque::new(),
        };
        if !is_same {
            neighbour.changed = now;
        }
        let asker = matches!(neighbour.state, State::Incomplete(_)).then_some(neighbour.asker);
        (neighbour.mac, neighbour.state) = (mac, state);
        let waiting = std::mem::take(&mut neighbour.waiting);
        self.release(&waiting);
        if let Some(asker) = asker {
            released(&mut self.shares, asker, |share| share.incomplete -= 1);
        }
        self.schedule(place, None);
        waiting
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// The next thing that is due.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<Due> {
        let &(_, place) = self.deadlines.first().filter(|&&(at, _)| at <= now)?;
        let Some(Some(neighbour)) = self.places.get_mut(place as usize) else {
            self.deadlines.pop_first();
            return None;
        };
        let address = neighbour.address;
        let (asked, mac) = match neighbour.state {
            State::Incomplete(asked) => (asked, None),
            State::Probe(asked) => (asked, Some(neighbour.mac)),
            State::Delay | State::Reachable(_) | State::Stale => (0, Some(neighbour.mac)),
        };
        if asked >= QUESTIONS {
            // RFC 4861 §7.3.3: the entry goes; the next packet asks all stations anew.
            let waiting = std::mem::take(&mut neighbour.waiting);
            self.release(&waiting);
            self.remove(place);
            return Some(Due::Failed(waiting));
        }
        neighbour.state = match mac {
            None => State::Incomplete(asked + 1),
            Some(_) => State::Probe(asked + 1),
        };
        self.schedule(place, Some(now + RETRANS_TIMER));
        Some(Due::Ask(address, mac))
    }

    /// Makes an entry for a neighbour that is asked at once. One sender may have us ask for some at a time only, so that it
    /// neither fills the table nor has the whole link listen to more than as many questions a second.
    fn begin(&mut self, now: Instant, sender: Sender, address: IpAddr) -> Resolution {
        let is_pinned = self.pinned.contains(&address);
        let asker = if is_pinned { Sender::OUTSIDE } else { sender };
        let asked = self.shares.get(&asker).map_or(0, |share| share.incomplete);
        if asked >= ASKED_FOR_ONE && !is_pinned {
            return Resolution::Full;
        }
        if self.by_address.len() >= MOST && !self.make_room() && !is_pinned {
            return Resolution::Full;
        }
        self.shares.entry(asker).or_default().incomplete += 1;
        let neighbour = Neighbour {
            address,
            mac: MacAddr::ZERO,
            state: State::Incomplete(0),
            at: None,
            asker,
            used: now,
            changed: now,
            waiting: VecDeque::new(),
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(neighbour);
                place
            }
            None => {
                self.places.push(Some(neighbour));
                self.places.len() as u32 - 1
            }
        };
        self.by_address.insert(address, place);
        self.schedule(place, Some(now));
        Resolution::Unknown
    }

    /// Removes the entry that was not used for longest, of some; one that is asked for only if all of them are.
    fn make_room(&mut self) -> bool {
        let count = self.places.len();
        let first = self.hand;
        self.hand = (first + SEARCHED) % count.max(1);
        let looked_at = (first..first + SEARCHED.min(count)).map(|index| index % count);
        let candidates = looked_at.filter_map(|index| Some((index, self.places[index].as_ref()?)));
        let removable = candidates.filter(|(_, neighbour)| !self.pinned.contains(&neighbour.address));
        let victim = removable.min_by_key(|(_, neighbour)| {
            let is_asked_for = matches!(neighbour.state, State::Incomplete(_));
            (is_asked_for, neighbour.used)
        });
        let Some((index, _)) = victim else {
            return false;
        };
        self.remove(index as u32);
        true
    }

    fn remove(&mut self, place: u32) {
        self.schedule(place, None);
        if let Some(neighbour) = self.places.get_mut(place as usize).and_then(Option::take) {
            self.by_address.remove(&neighbour.address);
            self.free.push(place);
            self.displaced += neighbour.waiting.len() as u64;
            self.release(&neighbour.waiting);
            if let State::Incomplete(_) = neighbour.state {
                released(&mut self.shares, neighbour.asker, |share| share.incomplete -= 1);
            }
        }
    }

    fn schedule(&mut self, place: u32, at: Option<Instant>) {
        let Some(Some(neighbour)) = self.places.get_mut(place as usize) else {
            return;
        };
        if let Some(old) = std::mem::replace(&mut neighbour.at, at) {
            self.deadlines.remove(&(old, place));
        }
        if let Some(at) = at {
            self.deadlines.insert((at, place));
        }
    }

    fn release(&mut self, waiting: &VecDeque<Waiting>) {
        for packet in waiting {
            let len = packet.frame.len();
            self.waiting.release(len);
            released(&mut self.shares, packet.sender, |share| {
                share.waiting.release(len)
            });
        }
    }
}

/// Takes something off a sender's share, which goes with the last of it.
fn released(
    shares: &mut HashMap<Sender, Share, foldhash::fast::RandomState>,
    sender: Sender,
    take: impl FnOnce(&mut Share),
) {
    if let Some(share) = shares.get_mut(&sender) {
        take(share);
        if *share == Share::default() {
            shares.remove(&sender);
        }
    }
}

/// Linux keeps as many before all others go (`net.ipv4.neigh.default.gc_thresh3`).
const MOST: usize = 1024;
/// Entries looked at for one removal.
const SEARCHED: usize = 16;
/// Packets that wait for one neighbour; RFC 4861 §7.2.2 asks for at least one.
const WAITING_FOR_ONE: usize = 16;
/// Entries that are asked for because of one sender. Each is asked for once a second: who scans a link of hosts that are
/// not there has so many questions a second sent, and 16 senders fill the table.
const ASKED_FOR_ONE: usize = 64;
/// What waits for all of them.
const WAITING: Room = Room {
    packets: 256,
    bytes: 1 << 20,
};
/// What of that is one sender's: a quarter.
const WAITING_OF_ONE: Room = Room {
    packets: 64,
    bytes: 1 << 18,
};
/// RFC 4861 §10: `MAX_MULTICAST_SOLICIT` and `MAX_UNICAST_SOLICIT`.
const QUESTIONS: u8 = 3;
/// RFC 4861 §10.
const RETRANS_TIMER: Duration = Duration::from_secs(1);
const REACHABLE_TIME: Duration = Duration::from_secs(30);
const DELAY_FIRST_PROBE_TIME: Duration = Duration::from_secs(5);
/// `net.ipv4.neigh.default.locktime`.
const LOCK_TIME: Duration = Duration::from_secs(1);
