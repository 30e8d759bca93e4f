//! One flow of a relay: what all kinds have in common.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, RawFd},
    time::{Duration, Instant},
};

use mio::Interest;
use vswitch_wire::{MacAddr, Stations};

use super::{
    sessions::UdpSession,
    table::{Keyed, Tuple},
};
use crate::{
    Path,
    activity::Activity,
    config::{Lease, RelayConfig, Timeouts},
    echo::EchoFlow,
    listing::FlowView,
    publish::{Caller, MappingId},
    stream::TcpFlow,
    udp::UdpFlow,
};

/// One flow.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) tuple: Tuple,
    pub(super) station: MacAddr,
    /// Where the host socket leads if not to the tuple's other end.
    pub(super) target: Option<SocketAddr>,
    /// Whether that is a resolver of the host, in whose place another may come.
    pub(super) is_query: bool,
    pub(super) began: Instant,
    /// Whose answer it counts as waiting for.
    pub(super) pending: Pending,
    /// Waits in [`Relay`](super::Relay)'s `unflushed` and `turns`.
    pub(super) unflushed: bool,
    pub(super) turn: bool,
    /// Place among its container's flows that may be ended to make room.
    pub(super) evictable_place: Option<usize>,
    /// The mapping that it came in by; `None` if the container began it.
    pub(super) mapping: Option<MappingId>,
    /// It leads to a published port of the host, and this tells the listener whose it is.
    pub(super) _caller: Option<Caller>,
    pub(super) kind: Kind,
    /// `None` for a client of a published UDP port, which has no socket of its own.
    pub(super) descriptor: Option<Lease>,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most flows are TCP's, and a box would cost a cache miss per segment"
)]
pub(super) enum Kind {
    Echo(EchoFlow),
    Session(UdpSession),
    Tcp(TcpFlow),
    Udp(UdpFlow),
}

/// Whose answer a connection waits for before it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    /// The container's: it is a client's of a published port.
    Container,
    /// The host's connect.
    Host,
    /// Nobody's.
    No,
}

impl Keyed for Flow {
    fn tuple(&self) -> &Tuple {
        &self.tuple
    }
}

impl Flow {
    /// The gateway's address of the flow's version.
    pub(super) fn gateway(&self, config: &RelayConfig) -> IpAddr {
        let remote = self.tuple.remote.ip();
        let mut gateways = config.gateways.iter();
        let own = gateways.find(|gateway| gateway.is_ipv4() == remote.is_ipv4());
        own.copied().unwrap_or(match remote {
            IpAddr::V6(_) => IpAddr::V6(config.gateway_mac.link_local()),
            remote => remote,
        })
    }

    pub(super) fn path(&self, config: &RelayConfig) -> Path {
        Path {
            container: self.tuple.container,
            remote: self.tuple.remote,
            stations: Stations {
                src: config.gateway_mac,
                dst: self.station,
            },
            mtu: config.mtu,
        }
    }

    /// Its socket, if it has one of its own, and what of it is of interest.
    pub(super) fn socket(&self) -> Option<(RawFd, Interest)> {
        Some(match &self.kind {
            // Every datagram that leaves would make a socket writable anew.
            Kind::Echo(flow) => (flow.as_fd().as_raw_fd(), Interest::READABLE),
            Kind::Udp(flow) => (flow.as_fd().as_raw_fd(), Interest::READABLE),
            Kind::Tcp(flow) => (
                flow.socket.as_fd().as_raw_fd(),
                Interest::READABLE | Interest::WRITABLE,
            ),
            Kind::Session(_) => return None,
        })
    }

    pub(super) fn session_mut(&mut self) -> Option<&mut UdpSession> {
        match &mut self.kind {
            Kind::Session(session) => Some(session),
            Kind::Echo(_) | Kind::Tcp(_) | Kind::Udp(_) => None,
        }
    }

    pub(super) fn deadline(&self, timeouts: &Timeouts) -> Instant {
        match &self.kind {
            Kind::Echo(flow) => flow.deadline(timeouts),
            Kind::Session(session) => session.deadline(timeouts),
            Kind::Tcp(flow) => flow.connection.poll_timeout(),
            Kind::Udp(flow) => flow.deadline(timeouts),
        }
    }

    /// Whether it may be ended to make room: not TCP's, whose ends would have to be told.
    pub(super) fn is_evictable(&self) -> bool {
        !matches!(self.kind, Kind::Tcp(_))
    }

    /// How little the flow is missed: without an answer, then idle for long.
    pub(super) fn dispensability(&self, now: Instant) -> Option<(bool, Duration)> {
        let activity = match &self.kind {
            Kind::Echo(flow) => flow.activity(),
            Kind::Session(session) => session.activity(),
            Kind::Tcp(_) => return None,
            Kind::Udp(flow) => flow.activity(),
        };
        Some((activity.is_one_way, now.saturating_duration_since(activity.last)))
    }

    pub(super) fn outstanding_queries(&self) -> usize {
        match &self.kind {
            Kind::Udp(flow) => flow.outstanding_queries(),
            Kind::Echo(_) | Kind::Session(_) | Kind::Tcp(_) => 0,
        }
    }

    pub(super) fn view(&self, now: Instant, timeouts: &Timeouts) -> FlowView {
        let of_datagrams = |activity: &Activity, expires| {
            let moved = (activity.sent, activity.received);
            (activity.state(), moved, activity.last, expires)
        };
        let (state, (sent, received), active, expires) = match &self.kind {
            Kind::Echo(flow) => of_datagrams(flow.activity(), flow.deadline(timeouts)),
            Kind::Session(session) => of_datagrams(session.activity(), session.deadline(timeouts)),
            Kind::Udp(flow) => of_datagrams(flow.activity(), flow.deadline(timeouts)),
            Kind::Tcp(flow) => (
                flow.connection.state_name(),
                flow.connection.bytes(),
                flow.connection.active(),
                flow.connection.expires_at(),
            ),
        };
        FlowView {
            endpoint: self.tuple.endpoint,
            protocol: self.tuple.protocol,
            state,
            container: self.tuple.container,
            remote: self.tuple.remote,
            target: match &self.kind {
                // It may be another resolver by now.
                Kind::Udp(flow) => self.target.map(|_| flow.target()),
                Kind::Echo(_) | Kind::Session(_) | Kind::Tcp(_) => self.target,
            },
            sent,
            received,
            age: now.saturating_duration_since(self.began),
            idle: now.saturating_duration_since(active),
            timeout: expires.saturating_duration_since(now),
        }
    }
}
