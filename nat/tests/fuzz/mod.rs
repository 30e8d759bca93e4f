//! A run of the engine on packets that nobody should send, with what must hold whatever comes: no panic, nothing that leaves
//! untranslated or with a wrong checksum, tables within their limits, external ports that are one endpoint's. The test beside this
//! makes a short run; `bench fuzz` makes a long one.
//!
//! A packet is a valid one, an answer to one that has left the engine, or the wreck of either. Time goes on, the engine's owner
//! interferes, and each turn has another configuration. Everything follows from the seed.

mod corpus;
mod mutation;
mod random;
mod site;
mod sums;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use vswitch_nat::{Counters, DropReason, Egress, Mapping, Nat, Output, Verdict, Zone, packet_len};
use vswitch_wire::{Offload, PartialChecksum};

use self::{
    corpus::Input,
    random::Random,
    site::{EXTERNAL, Site},
};

/// What a run has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Packets that were put in.
    pub(crate) packets: u64,
    /// How often each counter of the engine moved, by name.
    pub(crate) counters: Vec<(&'static str, u64)>,
    /// Packets that were taken: they waited, or left in pieces.
    pub(crate) consumed: u64,
    /// Engines that gave way to others, and connections that these took and refused.
    pub(crate) restarts: (u64, u64, u64),
    /// Engines, each with a configuration of its own.
    pub(crate) turns: u64,
}

impl Tally {
    /// Reasons to drop a packet that never occurred.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let reasons = DropReason::ALL.iter().map(|reason| reason.name());
        reasons
            .filter(|name| {
                !self
                    .counters
                    .iter()
                    .any(|(other, count)| other == name && *count > 0)
            })
            .collect()
    }

    fn add(&mut self, counters: &Counters) {
        for (index, (name, count)) in counters.iter().enumerate() {
            match self.counters.get_mut(index) {
                Some((_, sum)) => *sum += count,
                None => self.counters.push((name, count)),
            }
        }
    }
}

/// Puts so many packets into engines of many configurations.
///
/// # Panics
///
/// Something did not hold; which packet of which seed it was goes to standard error.
pub(crate) fn run(seed: u64, packets: u64, start: Instant) -> Tally {
    let mut tally = Tally::default();
    let per_turn = (packets / TURNS).clamp(LEAST_PER_TURN, MOST_PER_TURN);
    while tally.packets < packets {
        let mut turn = Turn::new(seed, tally.turns, start);
        for index in 0..per_turn.min(packets - tally.packets) {
            turn.witness.index = index;
            turn.step(&mut tally);
            tally.packets += 1;
        }
        turn.finish(&mut tally);
    }
    tally
}

/// A run with one configuration.
struct Turn {
    random: Random,
    site: Site,
    now: Instant,
    /// Packets as they left the engine, with where.
    seen: Vec<(Zone, Vec<u8>)>,
    pending: VecDeque<Input>,
    sent: Sent,
    witness: Witness,
}

/// What the engine sent by itself.
#[derive(Default)]
struct Sent(Vec<(Zone, Vec<u8>)>);

impl Output for Sent {
    fn send(&mut self, to: Zone, packet: &mut [u8], offload: Offload) {
        assert!(offload.is_none(), "what is sent is complete: {offload:?}");
        self.0.push((to, packet.to_vec()));
    }
}

/// Tells where a run was when it panicked.
struct Witness {
    seed: u64,
    turn: u64,
    index: u64,
    input: Option<Input>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self {
                seed,
                turn,
                index,
                input,
            } = self;
            eprintln!("seed {seed:#x}, turn {turn}, packet {index}: {input:02x?}");
        }
    }
}

impl Turn {
    fn new(seed: u64, turn: u64, start: Instant) -> Self {
        let mut random = Random::new(seed ^ turn.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self {
            site: Site::new(&mut random, start, turn),
            random,
            now: start,
            seen: Vec::new(),
            pending: VecDeque::new(),
            sent: Sent::default(),
            witness: Witness {
                seed,
                turn,
                index: 0,
                input: None,
            },
        }
    }

    fn step(&mut self, tally: &mut Tally) {
        let Self { random, site, .. } = self;
        if random.once_in(COMMAND_EVERY) {
            let before = site.nat.counters().clone();
            if let Some((taken, refused)) = site.command(random, self.now) {
                // Another engine counts from 0.
                tally.add(&before);
                tally.restarts.0 += 1;
                tally.restarts.1 += taken;
                tally.restarts.2 += refused;
            }
        }
        self.pass_time();
        let input = self.next_input();
        self.put(input, tally);
        if self.witness.index.is_multiple_of(SCAN_EVERY) {
            self.scan();
        }
    }

    fn pass_time(&mut self) {
        let random = &mut self.random;
        let micros = match random.below(100_000) {
            0 => random.below(10 * 86_400 * 1_000_000),
            1..=5 => random.below(600 * 1_000_000),
            6..=500 => random.below(1_000_000),
            501..=10_000 => random.below(3000),
            _ => random.below(20),
        };
        self.now += Duration::from_micros(micros);
        let mut calls = 0;
        while self.site.nat.poll_timeout().is_some_and(|due| due <= self.now) {
            self.site.nat.handle_timeout(self.now);
            calls += 1;
            // A crowded table is looked at again each time; what is over must go in few.
            if calls == CALLS_MAX {
                break;
            }
        }
        if self.site.nat.poll_event().is_some() && self.random.once_in(2) {
            while self.site.nat.poll_event().is_some() {}
        }
    }

    fn next_input(&mut self) -> Input {
        if let Some(input) = self.pending.pop_front() {
            return input;
        }
        let random = &mut self.random;
        let seen = |random: &mut Random, seen: &[(Zone, Vec<u8>)]| {
            (!seen.is_empty()).then(|| seen[random.index(seen.len())].clone())
        };
        let mut input = match random.below(16) {
            0..=6 => corpus::fresh(random),
            15 => match &self.witness.input {
                // The same again.
                Some(last) => last.clone(),
                None => corpus::fresh(random),
            },
            _ => seen(random, &self.seen)
                .and_then(|(zone, bytes)| Some(Input::plain(zone, corpus::react(random, &bytes)?)))
                .unwrap_or_else(|| corpus::fresh(random)),
        };
        match random.below(32) {
            0..=11 => {
                let other = seen(random, &self.seen).map_or_else(Vec::new, |(_, bytes)| bytes);
                mutation::mutate(random, &mut input.bytes, &other);
                input.offload = Offload::NONE;
            }
            12 if input.offload.is_none() => input = corpus::offloaded(random, input),
            13 => {
                let pieces = corpus::cut(random, &input.bytes);
                let zone = input.zone;
                let inputs = pieces.into_iter().map(|bytes| Input::plain(zone, bytes));
                self.pending.extend(inputs);
                if let Some(first) = self.pending.pop_front() {
                    input = first;
                }
            }
            14 => {
                // Padding (N-INV-3).
                let len = random.index(20);
                input.bytes.resize(input.bytes.len() + len, 0xee);
            }
            15 if random.once_in(8) => {
                // What no device should say.
                input.offload = Offload {
                    checksum: Some(PartialChecksum {
                        start: random.word(),
                        offset: random.pick(&[6, 16, 40_000]),
                    }),
                    gso: None,
                    data_valid: false,
                };
            }
            _ => {}
        }
        input
    }

    fn put(&mut self, input: Input, tally: &mut Tally) {
        let Input { zone, offload, .. } = input;
        let mut bytes = input.bytes.clone();
        let is_wild = offload.checksum.is_some_and(|partial| {
            let place = sums::locate(&bytes).filter(|place| place.fragment.is_none());
            place.is_none_or(|place| {
                let field = match place.protocol {
                    sums::TCP => 16,
                    sums::UDP => 6,
                    _ => 0,
                };
                (place.start, field) != (partial.start.into(), partial.offset)
            })
        });
        self.witness.input = Some(input);
        if self.random.once_in(16) {
            let _ = self.site.nat.knows(self.now, zone, &bytes);
            self.site.nat.look_ahead(zone, [&bytes[..]].into_iter());
        }
        let before = counted(self.site.nat.counters());
        let nat = &mut self.site.nat;
        let verdict = nat.handle_packet(self.now, zone, &mut bytes, &offload, &mut self.sent);
        let moved = counted(nat.counters()) - before;
        match verdict {
            Verdict::Consumed => {
                tally.consumed += 1;
                assert!(moved <= 1, "{verdict:?} was counted {moved} times");
            }
            _ => assert_eq!(moved, 1, "{verdict:?} is counted once"),
        }
        bytes.truncate(packet_len(&bytes));
        let sent = std::mem::take(&mut self.sent.0);
        for (to, packet) in &sent {
            check_leaving(&self.site.nat, *to, packet);
            if !is_wild {
                assert_eq!(sums::fault(packet), None, "{packet:02x?}");
            }
        }
        if !offload.data_valid && !is_wild {
            check_pieces(&sent);
        }
        match verdict {
            Verdict::Forward(to) => {
                check_leaving(&self.site.nat, to, &bytes);
                check_quoted(&self.site.nat, to, &bytes);
                if let (Some(_), false) = (offload.checksum, is_wild) {
                    check_partial(&bytes);
                } else if !offload.data_valid && !is_wild {
                    assert_eq!(sums::fault(&bytes), None, "{bytes:02x?}");
                }
                self.remember(to, bytes);
            }
            Verdict::Local => {
                let input = self.witness.input.as_ref().expect("it was put there");
                assert!(bytes == input.bytes[..bytes.len()], "it is as it was");
            }
            Verdict::Consumed | Verdict::Drop(_) => {}
        }
        for (to, packet) in sent {
            self.remember(to, packet);
        }
    }

    fn remember(&mut self, to: Zone, packet: Vec<u8>) {
        if self.seen.len() < SEEN {
            self.seen.push((to, packet));
        } else {
            let place = self.random.index(SEEN);
            self.seen[place] = (to, packet);
        }
    }

    /// What must hold of all connections.
    fn scan(&self) {
        let (nat, limits) = (&self.site.nat, self.site.config.limits);
        assert!(nat.connection_count() <= limits.connections, "the table's limit");
        let mut counted = 0;
        for view in nat.network_views() {
            counted += view.connections;
            assert!(view.connections <= limits.per_zone, "a network's limit");
        }
        assert_eq!(counted, nat.connection_count(), "each counts for its network");
        let external: HashSet<IpAddr> = nat.external_addresses().collect();
        let mut tuples = HashSet::new();
        let mut owners = HashMap::new();
        let mut of_host: HashMap<(Zone, IpAddr), usize> = HashMap::new();
        for conn in nat.connections(self.now) {
            let is_own = conn.original == conn.reply;
            for tuple in [conn.original, conn.reply] {
                let key = (
                    tuple.ends().src.ip(),
                    tuple.dst.ip(),
                    tuple.src_port,
                    tuple.dst_port,
                );
                let is_new = tuples.insert((key, tuple.zone, tuple.protocol, tuple.query));
                assert!(is_new || is_own, "{tuple:?} is of two connections");
            }
            let host = match conn.original.zone {
                Zone::OUTSIDE => (conn.reply.zone, conn.reply.src.ip()),
                zone => (zone, conn.original.src.ip()),
            };
            *of_host.entry(host).or_default() += 1;
            let shown = (conn.reply.dst.ip(), conn.reply.dst_port, conn.reply.protocol);
            let has_ports = conn.original.src_port != 0 && shown.1 != 0;
            let is_shown = !conn.original.zone.is_outside() && external.contains(&shown.0);
            if is_shown && has_ports && self.site.config.mapping == Mapping::EndpointIndependent {
                let inside = (host, conn.original.src_port);
                let owner = *owners.entry(shown).or_insert(inside);
                assert_eq!(owner, inside, "{shown:?} is of two endpoints");
            }
        }
        assert!(
            of_host.values().all(|&count| count <= limits.per_host),
            "a host's limit"
        );
    }

    /// In the end everything can go.
    fn finish(mut self, tally: &mut Tally) {
        self.scan();
        let nat = &mut self.site.nat;
        nat.flush(self.now);
        assert_eq!(nat.connection_count(), 0, "nothing is left");
        assert!(
            nat.network_views().all(|view| view.connections == 0),
            "and nothing counted"
        );
        tally.add(nat.counters());
        tally.turns += 1;
    }
}

/// N-INV-1: nothing outside has an inside source; nothing inside comes from another network.
fn check_leaving(nat: &Nat, to: Zone, packet: &[u8]) {
    let Some((src, dst)) = corpus::addresses(packet) else {
        panic!("no packet leaves: {packet:02x?}");
    };
    let is_hidden = |address| is_hidden(nat, address);
    if to.is_outside() {
        assert!(!is_hidden(src), "left with an inside source: {packet:02x?}");
        assert!(!is_hidden(dst), "left to an inside address: {packet:02x?}");
        return;
    }
    let Some(network) = nat.networks().find(|network| network.zone == to) else {
        panic!("left to nowhere");
    };
    let is_of = |address: IpAddr| network.prefixes.iter().any(|prefix| prefix.contains(&address));
    // A published port may lead to what was none of the engine's own addresses at that time.
    let was_foreign = EXTERNAL.iter().any(|addresses| addresses.contains(&dst));
    assert!(is_of(dst) || was_foreign, "not of {to}: {packet:02x?}");
    let is_gateway = network.gateways.contains(&src);
    assert!(
        !is_hidden(src) || is_gateway,
        "from a hidden source: {packet:02x?}"
    );
}

/// Nor does an error that was translated tell of inside; those that the engine makes quote what their receivers sent.
fn check_quoted(nat: &Nat, to: Zone, packet: &[u8]) {
    if let Some((src, dst)) = quoted(packet).and_then(corpus::addresses)
        && to.is_outside()
    {
        let tells = is_hidden(nat, src) || is_hidden(nat, dst);
        assert!(!tells, "quotes inside: {packet:02x?}");
    }
}

/// Whether it is of a network whose addresses nobody outside may see.
fn is_hidden(nat: &Nat, address: IpAddr) -> bool {
    nat.networks().any(|network| {
        !matches!(network.egress, Egress::Routed { .. })
            && network.prefixes.iter().any(|prefix| prefix.contains(&address))
    })
}

/// What an ICMP error quotes.
fn quoted(packet: &[u8]) -> Option<&[u8]> {
    let place = sums::locate(packet).filter(|place| place.fragment.is_none())?;
    let message = packet.get(place.start..place.end)?;
    let is_error = match (place.protocol, message.first()?) {
        (sums::ICMP, kind) => matches!(kind, 3 | 4 | 5 | 11 | 12),
        (sums::ICMPV6, kind) => matches!(kind, 1..=4),
        _ => false,
    };
    is_error.then_some(message.get(8..)?)
}

/// That pieces that leave together are a datagram with a right checksum.
fn check_pieces(sent: &[(Zone, Vec<u8>)]) {
    let mut whole: Vec<u8> = Vec::new();
    for (_, piece) in sent {
        let Some(place) = sums::locate(piece) else { return };
        let Some((offset, more)) = place.fragment else {
            return;
        };
        let base = match piece[0] >> 4 {
            4 => place.start,
            // Pieces have no headers before the fragment header that this reads.
            _ if piece[6] == 44 => 40,
            _ => return,
        };
        let content = &piece[if base == 40 && piece[0] >> 4 == 6 {
            48
        } else {
            base
        }..];
        if offset == 0 {
            whole = piece[..base].to_vec();
            if piece[0] >> 4 == 6 {
                whole[6] = piece[40];
            }
        }
        let header = whole.len().min(match piece[0] >> 4 {
            4 => usize::from(whole.first().map_or(5, |first| first & 15)) * 4,
            _ => 40,
        });
        assert_eq!(whole.len(), header + offset, "in order and without gaps");
        whole.extend(content);
        if more {
            continue;
        }
        match whole[0] >> 4 {
            4 => {
                let len = whole.len() as u16;
                whole[2..4].copy_from_slice(&len.to_be_bytes());
                whole[6..8].fill(0);
                sums::mend_header(&mut whole);
            }
            _ => {
                let len = (whole.len() - 40) as u16;
                whole[4..6].copy_from_slice(&len.to_be_bytes());
            }
        }
        assert_eq!(sums::fault(&whole), None, "in pieces: {whole:02x?}");
    }
}

/// That the partial checksum is the sum of the pseudo-header as it now is (N-CK-7).
fn check_partial(bytes: &[u8]) {
    let place = sums::locate(bytes).expect("it was before");
    let at = place.start + if place.protocol == sums::TCP { 16 } else { 6 };
    let given = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let right = sums::pseudo_header(bytes, &place, place.end - place.start);
    // Both zeros of one's complement are the same sum.
    assert!(
        given % 0xffff == right % 0xffff,
        "{given:#x} for {right:#x}: {bytes:02x?}"
    );
}

fn counted(counters: &Counters) -> u64 {
    let drops = DropReason::ALL.iter().map(|&reason| counters.dropped(reason));
    drops.sum::<u64>() + counters.forwarded + counters.local
}

/// Configurations of a run, if it is long enough.
const TURNS: u64 = 24;
const LEAST_PER_TURN: u64 = 1600;
const MOST_PER_TURN: u64 = 50_000;
/// Packets that can be answered.
const SEEN: usize = 64;
const SCAN_EVERY: u64 = 512;
const COMMAND_EVERY: u64 = 200;
const CALLS_MAX: u32 = 64;
