//! What is measured through each peer.

use anyhow::Result;

use super::peer::{Peer, Way};
use crate::{
    compare::{self, Processor, Sample, Seen},
    stage::Stage,
};

/// A thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Upload,
    Download,
    UploadFour,
    DownloadFour,
    UploadRetransmits,
    ConnectRequest,
    RequestResponse,
    RequestResponseSameCore,
    DatagramRequest,
    Datagrams,
}

/// How long a measurement takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) seconds: f64,
    /// Of the upload whose retransmits are counted.
    pub(crate) long_seconds: f64,
}

impl compare::Measure<Peer> for Measure {
    const ALL: &'static [Self] = &[
        Self::Upload,
        Self::Download,
        Self::UploadFour,
        Self::DownloadFour,
        Self::UploadRetransmits,
        Self::ConnectRequest,
        Self::RequestResponse,
        Self::RequestResponseSameCore,
        Self::DatagramRequest,
        Self::Datagrams,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Upload => "TCP upload, one stream",
            Self::Download => "TCP download, one stream",
            Self::UploadFour => "TCP upload, four streams",
            Self::DownloadFour => "TCP download, four streams",
            Self::UploadRetransmits => "TCP upload, retransmits of one long stream",
            Self::ConnectRequest => "TCP connect + request, p50",
            Self::RequestResponse => "TCP request/response, p50, cores as the scheduler likes",
            Self::RequestResponseSameCore => "TCP request/response, p50, both ends on core 0",
            Self::DatagramRequest => "UDP request/response, p50",
            Self::Datagrams => "UDP one way, 1400-byte payload",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Upload | Self::Download | Self::UploadFour | Self::DownloadFour => "Gbit/s",
            Self::UploadRetransmits => "segments",
            Self::ConnectRequest
            | Self::RequestResponse
            | Self::RequestResponseSameCore
            | Self::DatagramRequest => "µs",
            Self::Datagrams => "kpps",
        }
    }

    fn concerns(self, peer: Peer) -> bool {
        match self {
            Self::Upload | Self::Download => true,
            // Long, and no goal names another.
            Self::UploadRetransmits => matches!(peer, Peer::Ours | Peer::Pasta),
            _ => !peer.is_jumbo(),
        }
    }
}

impl Measure {
    pub(super) fn run(self, way: &Way, stage: &Stage, length: Length) -> Result<Sample> {
        let ends = way.ends(stage);
        let seconds = match self {
            Self::UploadRetransmits => length.long_seconds,
            _ => length.seconds,
        };
        let before = Processor::read(way.process().as_slice())?;
        let seen = match self {
            Self::Upload | Self::UploadRetransmits => Seen::Bulk(ends.upload(1, seconds)?),
            Self::Download => Seen::Bulk(ends.download(1, seconds)?),
            Self::UploadFour => Seen::Bulk(ends.upload(4, seconds)?),
            Self::DownloadFour => Seen::Bulk(ends.download(4, seconds)?),
            Self::ConnectRequest => Seen::Times(ends.connect_request(seconds)?),
            Self::RequestResponse => Seen::Times(ends.round_trip(None, seconds)?),
            Self::RequestResponseSameCore => Seen::Times(ends.round_trip(Some(("0", "0")), seconds)?),
            Self::DatagramRequest => Seen::Times(ends.datagram_round_trip(seconds)?),
            Self::Datagrams => Seen::Datagrams(ends.datagrams(1400, seconds)?),
        };
        let spent = Processor::read(way.process().as_slice())?.since(before);
        let sample = Sample::new(&seen, spent, seconds);
        Ok(match (self, &seen) {
            (Self::UploadRetransmits, Seen::Bulk(bulk)) => Sample {
                value: bulk.retransmits as f64,
                gbit_per_second: Some(bulk.gbit_per_second()),
                ..sample
            },
            _ => sample,
        })
    }
}
