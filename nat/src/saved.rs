//! A connection as it is kept over a restart (N-TBL-10), and as bytes.
//!
//! The bytes say in which version they are written and end with a CRC32C of all before it, so that what a disk or an editor has
//! damaged is refused rather than believed. They hold no secret but who talks to whom.

use vswitch_wire::{IpProtocol, IpVersion};

use crate::{
    Address, MappingId, Timer, Traffic, Tuple, Zone,
    conntrack::{Status, Tracker},
    reader::Reader,
    rewrite::{self, Query, UDP_LITE},
    sctp::SctpTrack,
    tcp::TcpTrack,
    time::Ticks,
    transport::{GRE, has_ports},
};

/// A connection with all that its engine knows of it, for another engine that goes on with it: see [`Nat::export`](crate::Nat::export).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedConn {
    pub(crate) tuples: [Tuple; 2],
    pub(crate) status: Status,
    /// Ticks that it has left.
    pub(crate) remaining: u32,
    pub(crate) tracker: SavedTracker,
    pub(crate) traffic: [Traffic; 2],
    /// Whether its external port is a lease of its inside endpoint.
    pub(crate) has_lease: bool,
    /// The published port that it came by.
    pub(crate) mapping: Option<MappingId>,
}

/// A [`Tracker`] in no engine's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SavedTracker {
    Sctp(SctpTrack),
    Stateless(Timer),
    Tcp(TcpTrack),
    /// How many ticks old it is.
    Udp(u32),
}

/// Why bytes are no saved connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedConnError {
    /// They are not what was written.
    #[error("the bytes are damaged or not of a connection: leave this one out")]
    Damaged,
    /// Another version of this crate wrote them.
    #[error(
        "written as version {0}, and only version {VERSION} can be read: begin without saved connections"
    )]
    Version(u8),
}

impl SavedConn {
    /// The most bytes that one takes.
    pub const MAX_LEN: usize = HEAD_LEN + 4 * 16 + BODY_LEN + 8 + TcpTrack::SNAPSHOT_LEN + CHECK_LEN;

    /// All of it as bytes, whose number the caller keeps if it puts several into one place.
    pub fn to_bytes(&self) -> Vec<u8> {
        let [original, reply] = &self.tuples;
        let is_v4 = original.src.is_v4();
        let flags = [
            (is_v4, IS_V4),
            (self.has_lease, HAS_LEASE),
            (self.mapping.is_some(), HAS_MAPPING),
        ];
        let flags = flags.into_iter().filter(|&(is_set, _)| is_set);
        let mut bytes = Vec::with_capacity(Self::MAX_LEN);
        bytes.extend([
            VERSION,
            flags.fold(0, |all, (_, flag)| all | flag),
            self.status.bits(),
            original.protocol,
            original.query,
        ]);
        for tuple in &self.tuples {
            bytes.extend(tuple.zone.0.to_be_bytes());
            for address in [&tuple.src, &tuple.dst] {
                match is_v4 {
                    true => bytes.extend(address.low()),
                    false => bytes.extend(address.octets()),
                }
            }
            bytes.extend(tuple.src_port.to_be_bytes());
            bytes.extend(tuple.dst_port.to_be_bytes());
        }
        debug_assert_eq!((original.protocol, original.query), (reply.protocol, reply.query));
        bytes.extend(self.remaining.to_be_bytes());
        for Traffic {
            packets,
            bytes: octets,
        } in self.traffic
        {
            bytes.extend(packets.to_be_bytes());
            bytes.extend(octets.to_be_bytes());
        }
        if let Some(MappingId(id)) = self.mapping {
            bytes.extend(id.to_be_bytes());
        }
        match &self.tracker {
            SavedTracker::Sctp(track) => bytes.extend(track.save()),
            SavedTracker::Stateless(_) => {}
            SavedTracker::Tcp(track) => bytes.extend(track.save()),
            SavedTracker::Udp(age) => bytes.extend(age.to_be_bytes()),
        }
        bytes.extend(rewrite::crc32c(&bytes).to_be_bytes());
        bytes
    }

    /// From what [`to_bytes`](Self::to_bytes) has given, and nothing more.
    ///
    /// # Errors
    ///
    /// See [`SavedConnError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SavedConnError> {
        match bytes.first() {
            None | Some(&VERSION) => {}
            Some(&other) => return Err(SavedConnError::Version(other)),
        }
        let (content, check) = bytes.split_last_chunk().ok_or(SavedConnError::Damaged)?;
        if rewrite::crc32c(content) != u32::from_be_bytes(*check) {
            return Err(SavedConnError::Damaged);
        }
        Self::read(content).ok_or(SavedConnError::Damaged)
    }

    fn read(content: &[u8]) -> Option<Self> {
        let mut rest = Reader(content);
        let [_, flags, status, protocol, query] = rest.take()?;
        if flags & !(IS_V4 | HAS_LEASE | HAS_MAPPING) != 0 {
            return None;
        }
        let is_v4 = flags & IS_V4 != 0;
        let tuples = [
            rest.tuple(is_v4, protocol, query)?,
            rest.tuple(is_v4, protocol, query)?,
        ];
        let timer = judge(&tuples, is_v4)?;
        let remaining = rest.word()?;
        let mut traffic = [Traffic::default(); 2];
        for Traffic { packets, bytes } in &mut traffic {
            (*packets, *bytes) = (rest.long()?, rest.long()?);
        }
        let mapping = match flags & HAS_MAPPING != 0 {
            true => Some(MappingId(rest.long()?)),
            false => None,
        };
        let tracker = match IpProtocol(protocol) {
            IpProtocol::SCTP => SavedTracker::Sctp(SctpTrack::restore(&rest.take()?)?),
            IpProtocol::TCP => SavedTracker::Tcp(TcpTrack::restore(&rest.take()?)?),
            IpProtocol::UDP | UDP_LITE => SavedTracker::Udp(rest.word()?),
            _ => SavedTracker::Stateless(timer),
        };
        rest.0.is_empty().then_some(Self {
            tuples,
            status: Status::from_bits(status)?,
            remaining,
            tracker,
            traffic,
            has_lease: flags & HAS_LEASE != 0,
            mapping,
        })
    }
}

impl SavedTracker {
    /// As it is at `now`.
    pub(crate) const fn of(tracker: &Tracker, now: Ticks) -> Self {
        match *tracker {
            Tracker::Sctp(track) => Self::Sctp(track),
            Tracker::Stateless(timer) => Self::Stateless(timer),
            Tracker::Tcp(track) => Self::Tcp(track),
            Tracker::Udp(since) => Self::Udp(now.since(since)),
        }
    }

    /// In an engine where it is `now`.
    pub(crate) const fn at(self, now: Ticks) -> Tracker {
        match self {
            Self::Sctp(track) => Tracker::Sctp(track),
            Self::Stateless(timer) => Tracker::Stateless(timer),
            Self::Tcp(track) => Tracker::Tcp(track),
            Self::Udp(age) => Tracker::Udp(now.before(age)),
        }
    }
}

/// Whether a connection may have such tuples, whatever is translated to what; and the timer that it waits for if its protocol has no
/// tracker.
fn judge([original, reply]: &[Tuple; 2], is_v4: bool) -> Option<Timer> {
    let mut addresses = [original, reply]
        .into_iter()
        .flat_map(|tuple| [tuple.src, tuple.dst]);
    if !addresses.all(|address| address.is_v4() == is_v4) {
        return None;
    }
    let version = match is_v4 {
        true => IpVersion::V4,
        false => IpVersion::V6,
    };
    let ports = [
        original.src_port,
        original.dst_port,
        reply.src_port,
        reply.dst_port,
    ];
    let is_query = || Query::of(version, original.query) == Some(Query::Request(original.query));
    let (fits, timer) = match IpProtocol(original.protocol) {
        protocol @ (IpProtocol::ICMP | IpProtocol::ICMPV6) => {
            let timer = match version {
                IpVersion::V4 => Timer::Icmp,
                IpVersion::V6 => Timer::Icmpv6,
            };
            let asks = original.dst_port == 0 && reply.src_port == 0;
            return (rewrite::is_icmp(version, protocol) && is_query() && asks).then_some(timer);
        }
        IpProtocol(protocol) if has_ports(protocol) => (!ports.contains(&0), Timer::Generic),
        GRE => (ports == [0; 4], Timer::Gre),
        _ => (ports == [0; 4], Timer::Generic),
    };
    (fits && original.query == 0).then_some(timer)
}

impl Reader<'_> {
    fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn address(&mut self, is_v4: bool) -> Option<Address> {
        match is_v4 {
            true => self.take().map(Address::v4),
            false => self.take().map(Address::v6),
        }
    }

    fn tuple(&mut self, is_v4: bool, protocol: u8, query: u8) -> Option<Tuple> {
        Some(Tuple {
            zone: Zone(self.short()?),
            src: self.address(is_v4)?,
            dst: self.address(is_v4)?,
            src_port: self.short()?,
            dst_port: self.short()?,
            protocol,
            query,
        })
    }
}

/// Of the bytes; another for each change of what they mean, also of what trackers save.
const VERSION: u8 = 1;
const IS_V4: u8 = 1;
const HAS_LEASE: u8 = 1 << 1;
const HAS_MAPPING: u8 = 1 << 2;
/// Version, flags, status, protocol, query.
const HEAD_LEN: usize = 5;
/// Zones and ports, time, traffic.
const BODY_LEN: usize = 2 * (2 + 4) + 4 + 4 * 8;
const CHECK_LEN: usize = 4;
