//! ICMP errors that the engine sends, and how many.

use std::{
    hash::BuildHasher,
    time::{Duration, Instant},
};

use vswitch_wire::{
    ICMPV4_ERROR_MAX_LEN, ICMPV6_ERROR_MAX_LEN, Icmpv4Error, Icmpv6Error, IpProtocol, IpVersion, Ipv4Header,
    Ipv4Packet, Ipv6Header, Ipv6Packet, Offload, checksum, may_report_v4, may_report_v6,
};
use zerocopy::IntoBytes;

use crate::{Address, Zone, keyed::Keyed, packet::Packet};

use super::{quote, scope};

/// Why the engine sends an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// Host unreachable / no route.
    NoRoute,
    /// 3/4 with the next link's MTU, or packet too big.
    PacketTooBig(u16),
    /// 3/3.
    PortUnreachable,
    /// 3/13: administratively prohibited; also when ports run out (N-PORT-9).
    Prohibited,
    /// 11/0.
    TimeExceeded,
}

/// What became of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// None may be sent about that packet.
    Forbidden,
    /// Too many were sent.
    Limited,
    /// It is in the buffer.
    Made,
}

/// How many errors may be sent (N-FWD-7): to one host, and to all. What says that packets are too big has limits of its own, so
/// that others never keep a host from finding its path's MTU.
///
/// The table of hosts has a fixed size, and a keyed hash, because hosts choose their addresses. A host whose errors are few
/// enough that it may be forgotten gives its place to another; if there is none, the one that is nearest to that does. It may
/// then hear more than it should, but all together never do.
#[derive(Debug)]
pub(crate) struct ErrorLimits {
    hosts: Box<[Host]>,
    hasher: Keyed,
    /// Of all hosts, by class.
    all: [Bucket; Class::COUNT],
    /// Errors made, of which identifications are made.
    made: u64,
}

impl ErrorLimits {
    /// `seed` must be secret.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hosts: vec![Host::default(); HOSTS].into_boxed_slice(),
            hasher: Keyed::new(seed),
            all: [Bucket::default(); Class::COUNT],
            made: 0,
        }
    }

    /// Makes the error about `original`, which is as its sender sent it in `zone`, from `from`, in `reply` (an IP packet). The quote
    /// is made complete in `original`: what the sender left for the device to do is done, of a super-frame for its first
    /// segment.
    pub(crate) fn report(
        &mut self,
        now: Instant,
        complaint: Complaint,
        (original, packet, offload): (&mut [u8], &Packet, &Offload),
        (zone, from): (Zone, Address),
        reply: &mut Vec<u8>,
    ) -> Report {
        let may_be = match packet.version {
            IpVersion::V4 => Ipv4Packet::parse(original).is_ok_and(|packet| may_report_v4(&packet)),
            IpVersion::V6 => Ipv6Packet::parse(original).is_ok_and(|packet| may_report_v6(&packet)),
        };
        if !may_be || from.is_v4() != packet.src.is_v4() {
            return Report::Forbidden;
        }
        if !self.take((zone, packet.src), complaint.class(), now) {
            return Report::Limited;
        }
        let len = quote::complete(original, packet, offload);
        let Some(quoted) = original.get(..len) else {
            return Report::Forbidden;
        };
        self.made = self.made.wrapping_add(1);
        let made = match packet.version {
            IpVersion::V4 => {
                let id = self.hasher.hash_one(self.made) as u16;
                emit_v4(complaint.v4(), (from, packet.src), id, quoted, reply)
            }
            IpVersion::V6 => emit_v6(complaint.v6(), (from, packet.src), quoted, reply),
        };
        match made {
            Some(()) => Report::Made,
            None => Report::Forbidden,
        }
    }

    /// Makes the error about an IPv6 fragment that cannot be one (N-FR-3), which [`Packet::parse`] refuses; about any other packet
    /// there is none.
    pub(crate) fn report_fragment(
        &mut self,
        now: Instant,
        original: &[u8],
        (zone, from): (Zone, Address),
        reply: &mut Vec<u8>,
    ) -> Report {
        let Some((to, error)) = impossible_fragment(original).filter(|_| !from.is_v4()) else {
            return Report::Forbidden;
        };
        if !self.take((zone, to), Class::Other, now) {
            return Report::Limited;
        }
        match emit_v6(error, (from, to), original, reply) {
            Some(()) => Report::Made,
            None => Report::Forbidden,
        }
    }

    /// Takes a token for an error to a host from its bucket and from that of all, or from neither.
    fn take(&mut self, host: (Zone, Address), class: Class, now: Instant) -> bool {
        let (host_rate, all_rate) = class.rates(host.1);
        let place = self.place(host);
        let mut entry = self.hosts[place];
        if entry.name != Some(host) {
            entry = Host {
                name: Some(host),
                ..Host::default()
            };
        }
        let (Some(of_host), Some(of_all)) = (
            entry.buckets[class as usize].without_token(now, host_rate),
            self.all[class as usize].without_token(now, all_rate),
        ) else {
            return false;
        };
        entry.buckets[class as usize] = of_host;
        self.all[class as usize] = of_all;
        self.hosts[place] = entry;
        true
    }

    /// Where a host is in the table, or else the place of the one among its neighbours that may be forgotten first.
    fn place(&self, host: (Zone, Address)) -> usize {
        let start = self.hasher.hash_one(host) as usize;
        let places = || (0..PROBES).map(|step| start.wrapping_add(step) % HOSTS);
        let found = places().find(|&place| self.hosts[place].name == Some(host));
        let forgettable = || places().min_by_key(|&place| self.hosts[place].full_at());
        found.or_else(forgettable).unwrap_or(start % HOSTS)
    }
}

/// Errors that have buckets of their own.
#[derive(Clone, Copy, Debug)]
enum Class {
    Other,
    TooBig,
}

impl Class {
    const COUNT: usize = 2;

    /// To one host, and to all.
    fn rates(self, host: Address) -> (Rate, Rate) {
        match (self, host.is_v4()) {
            (Self::Other, true) => (HOST_V4, ALL),
            (Self::Other, false) => (HOST_V6, ALL),
            (Self::TooBig, _) => (HOST_TOO_BIG, ALL_TOO_BIG),
        }
    }
}

/// How many errors one host was sent.
#[derive(Clone, Copy, Debug, Default)]
struct Host {
    name: Option<(Zone, Address)>,
    buckets: [Bucket; Class::COUNT],
}

impl Host {
    /// When all its buckets are full, so that it is as if it had never been sent any.
    fn full_at(&self) -> Option<Instant> {
        self.buckets.iter().filter_map(|bucket| bucket.full_at).max()
    }
}

/// A token bucket, kept as the moment at which it will be full again; without one it is.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// The bucket with one token less; `None` if it has none.
    fn without_token(self, now: Instant, rate: Rate) -> Option<Self> {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + rate.interval;
        (full_at - now <= rate.interval * rate.burst).then_some(Self {
            full_at: Some(full_at),
        })
    }
}

/// How fast a bucket fills: a token each interval, up to `burst`.
#[derive(Clone, Copy, Debug)]
struct Rate {
    interval: Duration,
    burst: u32,
}

impl Complaint {
    const fn class(self) -> Class {
        match self {
            Self::PacketTooBig(_) => Class::TooBig,
            _ => Class::Other,
        }
    }

    const fn v4(self) -> Icmpv4Error {
        match self {
            Self::NoRoute => Icmpv4Error::HOST_UNREACHABLE,
            Self::PacketTooBig(mtu) => Icmpv4Error::FragmentationNeeded { mtu },
            Self::PortUnreachable => Icmpv4Error::PORT_UNREACHABLE,
            Self::Prohibited => Icmpv4Error::PROHIBITED,
            Self::TimeExceeded => Icmpv4Error::HOPS_EXCEEDED,
        }
    }

    fn v6(self) -> Icmpv6Error {
        match self {
            Self::NoRoute => Icmpv6Error::NO_ROUTE,
            Self::PacketTooBig(mtu) => Icmpv6Error::PacketTooBig {
                mtu: mtu.max(MTU_V6_MIN).into(),
            },
            Self::PortUnreachable => Icmpv6Error::PORT_UNREACHABLE,
            Self::Prohibited => Icmpv6Error::PROHIBITED,
            Self::TimeExceeded => Icmpv6Error::HOPS_EXCEEDED,
        }
    }
}

/// What is wrong with a fragment, and who is to know. RFC 8200 §4.5: "If the length of a fragment […] is not a multiple of 8
/// octets and the M flag of that fragment is 1, then that fragment must be discarded and an ICMP Parameter Problem, Code
/// 0, message should be sent to the source of the fragment, pointing to the Payload Length field"; the same with the
/// Fragment Offset field where it would end beyond 65 535 bytes. What may be an ICMPv6 error itself is left alone.
fn impossible_fragment(original: &[u8]) -> Option<(Address, Icmpv6Error)> {
    let packet = Ipv6Packet::parse(original).ok()?;
    let placed = packet.fragment()?;
    let header = packet.header();
    let ends = [header.src(), header.dst()].map(|address| Address::v6(address.octets()));
    if !ends.iter().all(scope::is_routed_v6) || placed.next_header == IpProtocol::ICMPV6 {
        return None;
    }
    let end = usize::from(placed.fragment.offset) + placed.payload.len();
    let pointer = if placed.fragment.more && !placed.payload.len().is_multiple_of(8) {
        PAYLOAD_LENGTH
    } else if end > usize::from(u16::MAX) {
        placed.header_at + FRAGMENT_OFFSET
    } else {
        return None;
    };
    let error = Icmpv6Error::ParameterProblem {
        code: 0,
        pointer: pointer as u32,
    };
    Some((ends[0], error))
}

fn emit_v4(
    error: Icmpv4Error,
    (from, to): (Address, Address),
    id: u16,
    quoted: &[u8],
    reply: &mut Vec<u8>,
) -> Option<()> {
    reply.clear();
    reply.resize(Ipv4Header::LEN + ICMPV4_ERROR_MAX_LEN, 0);
    let (head, message) = reply.split_at_mut(Ipv4Header::LEN);
    let len = error.emit(quoted, message).ok()?;
    let header = Ipv4Header::new(from.low().into(), to.low().into(), IpProtocol::ICMP, len)?;
    head.copy_from_slice(header.as_bytes());
    head[1] = INTERNETWORK_CONTROL;
    head[4..6].copy_from_slice(&id.to_be_bytes());
    // As Linux sends them: may be fragmented (G12).
    head[6..8].fill(0);
    head[10..12].fill(0);
    let checksum = checksum::finish(checksum::sum(head));
    head[10..12].copy_from_slice(&checksum.to_be_bytes());
    reply.truncate(Ipv4Header::LEN + len);
    Some(())
}

fn emit_v6(
    error: Icmpv6Error,
    (from, to): (Address, Address),
    quoted: &[u8],
    reply: &mut Vec<u8>,
) -> Option<()> {
    let (from, to) = ((*from.octets()).into(), (*to.octets()).into());
    reply.clear();
    reply.resize(Ipv6Header::LEN + ICMPV6_ERROR_MAX_LEN, 0);
    let (head, message) = reply.split_at_mut(Ipv6Header::LEN);
    let len = error.emit(from, to, quoted, message).ok()?;
    let header = Ipv6Header::new(from, to, IpProtocol::ICMPV6, len)?;
    head.copy_from_slice(header.as_bytes());
    reply.truncate(Ipv6Header::LEN + len);
    Some(())
}

/// Places of fields in the IPv6 header and in the fragment header (RFC 8200 §3, §4.5).
const PAYLOAD_LENGTH: usize = 4;
const FRAGMENT_OFFSET: usize = 2;
/// TOS of ICMP errors (RFC 1812 §4.3.2.5; N-FWD-6).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// RFC 8200 §5; N-FWD-5.
const MTU_V6_MIN: u16 = 1280;

/// net.ipv4.icmp_ratelimit; the burst is `XRLIM_BURST_FACTOR` (net/ipv4/inetpeer.c).
const HOST_V4: Rate = Rate {
    interval: Duration::from_secs(1),
    burst: 6,
};
/// N-FWD-7, as Linux was seen to do; the same burst.
const HOST_V6: Rate = Rate {
    interval: Duration::from_millis(100),
    burst: 6,
};
/// net.ipv4.icmp_msgs_per_sec and icmp_msgs_burst.
const ALL: Rate = Rate {
    interval: Duration::from_millis(1),
    burst: 50,
};
/// Ours; Linux does not limit them at all (`icmpv4_xrlim_allow`). One for each connection that a busy host begins at once.
const HOST_TOO_BIG: Rate = Rate {
    interval: Duration::from_millis(10),
    burst: 100,
};
/// Ours: ten such hosts.
const ALL_TOO_BIG: Rate = Rate {
    interval: Duration::from_millis(1),
    burst: 1000,
};
/// Ours: as many as may be sent errors in a second.
const HOSTS: usize = 1024;
/// Places in which a host may be.
const PROBES: usize = 8;
