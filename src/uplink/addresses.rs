//! The addresses that a station has, or wants to have.
//!
//! An address is *probed* first: whoever has it already answers, and then we do not use it (RFC 5227 §2.1 for IPv4,
//! RFC 4862 §5.4 for IPv6). A free one is *announced* and from then on *settled*; one that is taken is tried again after
//! [`RETRY`]. Others that use a settled address are told that it is ours (RFC 5227 §2.4 (c): a router whose address
//! others are configured with cannot give it up).

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use vswitch_wire::MacAddr;

use super::station::Event;

/// How far we are with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is ours; so many announcements are still to be made.
    Announcing(u8),
    /// It is ours.
    Settled,
    /// Another station has it.
    Taken(MacAddr),
    /// We ask whether anybody has it; so many probes are still to be sent.
    Tentative(u8),
}

/// All addresses of a station.
#[derive(Debug)]
pub(super) struct Addresses {
    all: Vec<Own>,
}

/// One of them.
#[derive(Debug)]
struct Own {
    net: IpNet,
    standing: Standing,
    /// When something is to be done next.
    at: Option<Instant>,
    /// When it was defended last.
    defended: Option<Instant>,
    /// Who had it when we tried last.
    rival: Option<MacAddr>,
}

/// What is to be sent for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Announce(IpAddr),
    Probe(IpAddr),
}

impl Addresses {
    pub(super) fn new(now: Instant, nets: impl Iterator<Item = IpNet>) -> Self {
        let own = |net: IpNet| Own {
            net,
            standing: Standing::Tentative(probes(net.addr())),
            at: Some(now),
            defended: None,
            rival: None,
        };
        Self {
            all: nets.map(own).collect(),
        }
    }

    /// Every address with its prefix, and how far we are with it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (IpNet, Standing)> {
        self.all.iter().map(|own| (own.net, own.standing))
    }

    /// Those that are ours.
    pub(super) fn usable(&self) -> impl Iterator<Item = IpNet> {
        let ours = self.all.iter().filter(|own| own.is_usable());
        ours.map(|own| own.net)
    }

    pub(super) fn is_usable(&self, address: IpAddr) -> bool {
        self.usable().any(|net| net.addr() == address)
    }

    /// Whether it is ours or is to become it. One that another station has is that station's.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let is_it = |own: &&Own| own.net.addr() == address;
        let own = self.all.iter().find(is_it);
        own.is_some_and(|own| !matches!(own.standing, Standing::Taken(_)))
    }

    /// Whether it is in one of the prefixes.
    pub(super) fn is_on_link(&self, address: IpAddr) -> bool {
        self.all.iter().any(|own| own.net.contains(&address))
    }

    /// The address that we ask a neighbour from: of its subnet, else the first of its version.
    pub(super) fn source_for(&self, neighbour: IpAddr) -> Option<IpAddr> {
        let of_version = |net: &IpNet| net.addr().is_ipv4() == neighbour.is_ipv4();
        let on_subnet = self.usable().find(|net| net.contains(&neighbour));
        on_subnet
            .or_else(|| self.usable().find(of_version))
            .map(|net| net.addr())
    }

    /// Takes what another station said that shows that it has `address`, or wants it as we do.
    pub(super) fn note_rival(
        &mut self,
        now: Instant,
        address: IpAddr,
        mac: MacAddr,
    ) -> (Option<Act>, Option<Event>) {
        let Some(own) = self.all.iter_mut().find(|own| own.net.addr() == address) else {
            return (None, None);
        };
        match own.standing {
            Standing::Tentative(_) => {
                own.standing = Standing::Taken(mac);
                own.at = Some(now + RETRY);
                // It is told once, not at every try.
                let is_news = own.rival.replace(mac) != Some(mac);
                (None, is_news.then_some(Event::Conflict { address, mac }))
            }
            Standing::Announcing(_) | Standing::Settled => {
                // RFC 5227 §2.4 (c): "... it MUST NOT send more than one ARP Announcement per DEFEND_INTERVAL".
                let is_recent = |at: Instant| now.saturating_duration_since(at) < DEFEND_INTERVAL;
                if own.defended.is_some_and(is_recent) {
                    return (None, None);
                }
                own.defended = Some(now);
                (
                    Some(Act::Announce(address)),
                    Some(Event::Defended { address, mac }),
                )
            }
            Standing::Taken(_) => (None, None),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.all.iter().filter_map(|own| own.at).min()
    }

    /// The next thing that is due. There are few addresses, so all are looked at.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<(Option<Act>, Option<Event>)> {
        let own = self
            .all
            .iter_mut()
            .find(|own| own.at.is_some_and(|at| at <= now))?;
        let address = own.net.addr();
        Some(match own.standing {
            Standing::Tentative(0) => {
                own.rival = None;
                own.announce(now, ANNOUNCEMENTS);
                (Some(Act::Announce(address)), Some(Event::Ready(own.net)))
            }
            Standing::Tentative(left) => {
                own.standing = Standing::Tentative(left - 1);
                own.at = Some(now + probe_interval(address, left == 1));
                (Some(Act::Probe(address)), None)
            }
            Standing::Announcing(left) => {
                own.announce(now, left);
                (Some(Act::Announce(address)), None)
            }
            Standing::Taken(_) => {
                own.standing = Standing::Tentative(probes(address));
                (None, None)
            }
            Standing::Settled => {
                own.at = None;
                (None, None)
            }
        })
    }
}

impl Own {
    fn is_usable(&self) -> bool {
        matches!(self.standing, Standing::Announcing(_) | Standing::Settled)
    }

    /// Notes one announcement of `left`.
    fn announce(&mut self, now: Instant, left: u8) {
        (self.standing, self.at) = match left {
            0 | 1 => (Standing::Settled, None),
            _ => (Standing::Announcing(left - 1), Some(now + ANNOUNCE_INTERVAL)),
        };
    }
}

/// RFC 5227 §1.1 `PROBE_NUM`; RFC 4862 §5.1 `DupAddrDetectTransmits`.
fn probes(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 3,
        IpAddr::V6(_) => 1,
    }
}

/// RFC 5227 has one to two seconds between probes and two after the last, made for links where a bridge may take that
/// long to learn, and for hosts that come up together. Ours are addresses that somebody wrote into a configuration, on
/// a link that is up: a fifth of that lets the daemon start in a second. RFC 4861 §10 `RETRANS_TIMER` for IPv6.
fn probe_interval(address: IpAddr, is_last: bool) -> Duration {
    match (address, is_last) {
        (IpAddr::V4(_), false) => Duration::from_millis(200),
        (IpAddr::V4(_), true) => Duration::from_millis(400),
        (IpAddr::V6(_), _) => Duration::from_secs(1),
    }
}

/// RFC 5227 §1.1 `ANNOUNCE_NUM`, `ANNOUNCE_INTERVAL`; for IPv6 RFC 4861 §7.2.6 allows up to three.
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// RFC 5227 §1.1.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// How long an address that another station has is left alone: RFC 5227 §1.1 `RATE_LIMIT_INTERVAL`.
const RETRY: Duration = Duration::from_secs(60);
