//! What is measured through each peer.

use anyhow::Result;

use super::peer::{Peer, Way};
use crate::{
    compare::{self, Processor, Sample, Seen},
    stage::Stage,
};

/// A thing to measure. *To* and *from* a published port are as the container sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Upload,
    Download,
    UploadFour,
    DownloadFour,
    PublishedTo,
    PublishedFrom,
    ConnectRequest,
    DatagramRequest,
    Datagrams,
}

impl compare::Measure<Peer> for Measure {
    const ALL: &'static [Self] = &[
        Self::Upload,
        Self::Download,
        Self::UploadFour,
        Self::DownloadFour,
        Self::PublishedTo,
        Self::PublishedFrom,
        Self::ConnectRequest,
        Self::DatagramRequest,
        Self::Datagrams,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Upload => "TCP upload, one stream",
            Self::Download => "TCP download, one stream",
            Self::UploadFour => "TCP upload, four streams",
            Self::DownloadFour => "TCP download, four streams",
            Self::PublishedTo => "published port, TCP to the container, one stream",
            Self::PublishedFrom => "published port, TCP from the container, one stream",
            Self::ConnectRequest => "TCP connect + request, p50",
            Self::DatagramRequest => "UDP request/response, p50",
            Self::Datagrams => "UDP one way, 18-byte payload (60-byte frames)",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::ConnectRequest | Self::DatagramRequest => "µs",
            Self::Datagrams => "kpps",
            _ => "Gbit/s",
        }
    }

    fn concerns(self, _: Peer) -> bool {
        true
    }
}

impl Measure {
    pub(super) fn run(self, way: &Way, stage: &Stage, seconds: f64) -> Result<Sample> {
        let (out, back) = (way.outward(stage), way.inward(stage));
        let process = way.process();
        let before = Processor::read(process.as_slice())?;
        let seen = match self {
            Self::Upload => Seen::Bulk(out.upload(1, seconds)?),
            Self::Download => Seen::Bulk(out.download(1, seconds)?),
            Self::UploadFour => Seen::Bulk(out.upload(4, seconds)?),
            Self::DownloadFour => Seen::Bulk(out.download(4, seconds)?),
            Self::PublishedTo => Seen::Bulk(back.upload(1, seconds)?),
            Self::PublishedFrom => Seen::Bulk(back.download(1, seconds)?),
            Self::ConnectRequest => Seen::Times(out.connect_request(seconds)?),
            Self::DatagramRequest => Seen::Times(out.datagram_round_trip(seconds)?),
            Self::Datagrams => Seen::Datagrams(out.datagrams(18, seconds)?),
        };
        let spent = Processor::read(process.as_slice())?.since(before);
        Ok(Sample::new(&seen, spent, seconds))
    }
}
