//! What the project promises of the device uplink.

use super::{measure::Measure, peer::Peer};
use crate::compare::{Goal, Quantity};

/// Every goal, and what else is worth a ratio to the kernel.
pub(crate) const GOALS: [Goal<Peer, Measure>; 18] = [
    stream("upload", Peer::Tap, Measure::Upload),
    stream("upload, veth", Peer::Veth, Measure::Upload),
    stream("download", Peer::Tap, Measure::Download),
    stream("download, veth", Peer::Veth, Measure::Download),
    beside("upload, four streams", Peer::Tap, Measure::UploadFour),
    beside("upload, four streams, veth", Peer::Veth, Measure::UploadFour),
    beside("download, four streams", Peer::Tap, Measure::DownloadFour),
    beside("download, four streams, veth", Peer::Veth, Measure::DownloadFour),
    beside("to a published port", Peer::Tap, Measure::PublishedTo),
    beside("to a published port, veth", Peer::Veth, Measure::PublishedTo),
    beside("from a published port", Peer::Tap, Measure::PublishedFrom),
    beside("from a published port, veth", Peer::Veth, Measure::PublishedFrom),
    beside("connect + request", Peer::Tap, Measure::ConnectRequest),
    beside("connect + request, veth", Peer::Veth, Measure::ConnectRequest),
    beside("UDP request/response", Peer::Tap, Measure::DatagramRequest),
    beside("UDP request/response, veth", Peer::Veth, Measure::DatagramRequest),
    beside("UDP, small", Peer::Tap, Measure::Datagrams),
    beside("UDP, small, veth", Peer::Veth, Measure::Datagrams),
];

/// One stream of TCP, of which something is promised.
const fn stream(title: &'static str, ours: Peer, measure: Measure) -> Goal<Peer, Measure> {
    Goal {
        must: Some(0.60),
        ..beside(title, ours, measure)
    }
}

const fn beside(title: &'static str, ours: Peer, measure: Measure) -> Goal<Peer, Measure> {
    Goal {
        title,
        measure,
        quantity: Quantity::Value,
        ours,
        against: &[Peer::Kernel],
        must: None,
        aim: None,
    }
}
