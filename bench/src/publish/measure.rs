//! What is measured through each peer.

use anyhow::Result;

use super::{
    http,
    peer::{From, Peer, Way},
};
use crate::{
    compare::{self, Measure as _, Processor, Sample, Seen, Way as _},
    stage::Stage,
};

/// A thing to measure. *To* and *from* are as the container sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    RemoteTo,
    RemoteFrom,
    RemoteToFour,
    RemoteFromFour,
    LoopbackTo,
    LoopbackFrom,
    RemoteConnections,
    LoopbackConnections,
    RemoteConnectRequest,
    LoopbackConnectRequest,
    KeepAlive,
    Datagrams,
}

impl compare::Measure<Peer> for Measure {
    const ALL: &'static [Self] = &[
        Self::RemoteTo,
        Self::RemoteFrom,
        Self::RemoteToFour,
        Self::RemoteFromFour,
        Self::LoopbackTo,
        Self::LoopbackFrom,
        Self::RemoteConnections,
        Self::LoopbackConnections,
        Self::RemoteConnectRequest,
        Self::LoopbackConnectRequest,
        Self::KeepAlive,
        Self::Datagrams,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::RemoteTo => "remote client, TCP to the container, one stream",
            Self::RemoteFrom => "remote client, TCP from the container, one stream",
            Self::RemoteToFour => "remote client, TCP to the container, four streams",
            Self::RemoteFromFour => "remote client, TCP from the container, four streams",
            Self::LoopbackTo => "loopback client, TCP to the container, one stream",
            Self::LoopbackFrom => "loopback client, TCP from the container, one stream",
            Self::RemoteConnections => "remote clients, 32 at once, connect + request + close",
            Self::LoopbackConnections => "loopback clients, 32 at once, connect + request + close",
            Self::RemoteConnectRequest => "remote client, connect + request, p50",
            Self::LoopbackConnectRequest => "loopback client, connect + request, p50",
            Self::KeepAlive => "remote clients, HTTP on 32 kept connections (wrk, nginx)",
            Self::Datagrams => "remote client, UDP request/response, p50",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::RemoteTo
            | Self::RemoteFrom
            | Self::RemoteToFour
            | Self::RemoteFromFour
            | Self::LoopbackTo
            | Self::LoopbackFrom => "Gbit/s",
            Self::RemoteConnections | Self::LoopbackConnections => "connections/s",
            Self::RemoteConnectRequest | Self::LoopbackConnectRequest | Self::Datagrams => "µs",
            Self::KeepAlive => "requests/s",
        }
    }

    fn concerns(self, peer: Peer) -> bool {
        // A DNAT rule leaves loopback clients to the userland proxy (route_localnet is off by default).
        peer != Peer::Kernel || self.from() != From::Loopback
    }
}

impl Measure {
    fn from(self) -> From {
        match self {
            Self::LoopbackTo
            | Self::LoopbackFrom
            | Self::LoopbackConnections
            | Self::LoopbackConnectRequest => From::Loopback,
            _ => From::Outside,
        }
    }

    pub(super) fn run(self, way: &Way, stage: &Stage, seconds: f64) -> Result<Sample> {
        let ends = way.ends(stage, self.from());
        let seconds = match self {
            // wrk counts whole seconds.
            Self::KeepAlive => seconds.ceil(),
            _ => seconds,
        };
        let processes = way.processes();
        let before = Processor::read(&processes)?;
        let seen = match self {
            Self::RemoteTo | Self::LoopbackTo => Seen::Bulk(ends.upload(1, seconds)?),
            Self::RemoteFrom | Self::LoopbackFrom => Seen::Bulk(ends.download(1, seconds)?),
            Self::RemoteToFour => Seen::Bulk(ends.upload(4, seconds)?),
            Self::RemoteFromFour => Seen::Bulk(ends.download(4, seconds)?),
            Self::RemoteConnections | Self::LoopbackConnections => {
                let asked = ends.short_connections(CLIENTS, seconds)?;
                if let Some(failure) = asked.failures.first() {
                    let more = asked.failed - 1;
                    eprintln!("{}, {}: {failure}; {more} more failed", self.title(), way.title());
                }
                Seen::Rate {
                    per_second: asked.answered as f64 / asked.seconds,
                    failed: asked.failed,
                }
            }
            Self::RemoteConnectRequest | Self::LoopbackConnectRequest => {
                Seen::Times(ends.connect_request(seconds)?)
            }
            Self::KeepAlive => Seen::Rate {
                per_second: http::requests_per_second(ends, seconds)?,
                failed: 0,
            },
            Self::Datagrams => Seen::Times(ends.datagram_round_trip(seconds)?),
        };
        let spent = Processor::read(&processes)?.since(before);
        Ok(Sample::new(&seen, spent, seconds))
    }
}

/// Short connections at once.
const CLIENTS: usize = 32;
