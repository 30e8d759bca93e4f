//! What the project promises of the way out.

use super::{measure::Measure, peer::Peer};
use crate::compare::{Goal, Quantity};

/// Every goal; ours is at MTU 1500 throughout. Of the two against MTU 65520 the worse one is the promise.
pub(crate) const GOALS: [Goal<Peer, Measure>; 13] = [
    goal(
        "upload ÷ slirp4netns",
        Measure::Upload,
        &[Peer::Slirp4netns],
        8.0,
        Some(14.0),
    ),
    goal(
        "upload ÷ pasta, txqueuelen 8000",
        Measure::Upload,
        &[Peer::PastaTuned],
        1.2,
        Some(2.0),
    ),
    goal(
        "upload ÷ best at MTU 65520",
        Measure::Upload,
        BEST_JUMBO,
        1.0,
        Some(1.3),
    ),
    goal(
        "download ÷ slirp4netns",
        Measure::Download,
        &[Peer::Slirp4netns],
        3.0,
        Some(5.0),
    ),
    goal(
        "download ÷ pasta as shipped",
        Measure::Download,
        &[Peer::Pasta],
        5.0,
        Some(8.0),
    ),
    goal(
        "download ÷ best at MTU 65520",
        Measure::Download,
        BEST_JUMBO,
        1.0,
        Some(1.3),
    ),
    goal(
        "retransmits ÷ pasta as shipped",
        Measure::UploadRetransmits,
        &[Peer::Pasta],
        0.01,
        Some(0.0),
    ),
    goal(
        "connect + request p50 ÷ slirp4netns",
        Measure::ConnectRequest,
        &[Peer::Slirp4netns],
        0.5,
        Some(0.35),
    ),
    goal(
        "connect + request p50 ÷ pasta",
        Measure::ConnectRequest,
        &[Peer::Pasta],
        1.0,
        Some(0.7),
    ),
    goal(
        "request/response p50 ÷ pasta",
        Measure::RequestResponse,
        &[Peer::Pasta],
        1.0,
        Some(0.5),
    ),
    goal(
        "request/response p50 ÷ pasta, core 0",
        Measure::RequestResponseSameCore,
        &[Peer::Pasta],
        1.0,
        Some(0.5),
    ),
    processor("upload, CPU per Gbit ÷ slirp4netns", Measure::Upload),
    processor("download, CPU per Gbit ÷ slirp4netns", Measure::Download),
];

const BEST_JUMBO: &[Peer] = &[Peer::Slirp4netnsJumbo, Peer::PastaJumbo];

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

const fn processor(title: &'static str, measure: Measure) -> Goal<Peer, Measure> {
    Goal {
        quantity: Quantity::Processor,
        ..goal(title, measure, &[Peer::Slirp4netns], 0.25, Some(0.12))
    }
}
