//! What the project promises of published ports.

use super::{measure::Measure, peer::Peer};
use crate::compare::{Goal, Quantity};

/// Every goal. The kernel's DNAT is there for reference, and what no peer of ours does well has none.
pub(crate) const GOALS: [Goal<Peer, Measure>; 11] = [
    goal(
        "remote, to ÷ docker-proxy",
        Measure::RemoteTo,
        DOCKER,
        1.2,
        Some(1.5),
    ),
    goal(
        "remote, from ÷ docker-proxy",
        Measure::RemoteFrom,
        DOCKER,
        1.2,
        Some(1.5),
    ),
    goal(
        "remote, to ÷ RootlessKit",
        Measure::RemoteTo,
        ROOTLESSKIT,
        1.0,
        None,
    ),
    goal(
        "remote, from ÷ RootlessKit",
        Measure::RemoteFrom,
        ROOTLESSKIT,
        1.0,
        None,
    ),
    goal(
        "loopback, to ÷ pasta's splice",
        Measure::LoopbackTo,
        PASTA,
        0.95,
        Some(1.1),
    ),
    goal(
        "loopback, from ÷ pasta's splice",
        Measure::LoopbackFrom,
        PASTA,
        0.95,
        Some(1.1),
    ),
    goal(
        "remote, new connections ÷ docker-proxy",
        Measure::RemoteConnections,
        DOCKER,
        1.2,
        None,
    ),
    goal(
        "loopback, new connections ÷ docker-proxy",
        Measure::LoopbackConnections,
        DOCKER,
        1.2,
        None,
    ),
    goal(
        "remote, connect + request ÷ docker-proxy",
        Measure::RemoteConnectRequest,
        DOCKER,
        0.6,
        Some(0.45),
    ),
    goal(
        "loopback, connect + request ÷ docker-proxy",
        Measure::LoopbackConnectRequest,
        DOCKER,
        0.6,
        Some(0.45),
    ),
    goal(
        "remote, kept connections ÷ docker-proxy",
        Measure::KeepAlive,
        DOCKER,
        1.2,
        None,
    ),
];

const DOCKER: &[Peer] = &[Peer::DockerProxy];
const PASTA: &[Peer] = &[Peer::Pasta];
const ROOTLESSKIT: &[Peer] = &[Peer::Rootlesskit];

const fn goal(
    title: &'static str,
    measure: Measure,
    against: &'static [Peer],
    must: f64,
    aim: Option<f64>,
) -> Goal<Peer, Measure> {
    Goal {
        title,
        measure,
        quantity: Quantity::Value,
        ours: Peer::Ours,
        against,
        must: Some(must),
        aim,
    }
}
