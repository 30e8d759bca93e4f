//! What is measured through each peer.

use anyhow::Result;
use serde::Serialize;

use super::{
    Stage,
    peer::{Peer, Way},
};
use crate::{cpu, report::Better, traffic::Bulk};

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

/// One measurement through one peer.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sample {
    /// In the measure's unit.
    pub(crate) value: f64,
    /// The 99th percentile, where the value is a median.
    pub(crate) p99: Option<f64>,
    /// Where the value is another.
    pub(crate) gbit_per_second: Option<f64>,
    /// Processor seconds of the relay's own process per Gbit received.
    pub(crate) processor_per_gbit: Option<f64>,
    /// Segments that the TCP sender sent again; a download's sender is the server outside.
    pub(crate) retransmits: Option<u64>,
    /// Busy seconds of all cores per second of the measurement.
    pub(crate) cores: f64,
    /// Processor seconds of the relay's own process per second of the measurement.
    pub(crate) process_cores: Option<f64>,
}

/// How long a measurement takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) seconds: f64,
    /// Of the upload whose retransmits are counted.
    pub(crate) long_seconds: f64,
}

impl Measure {
    pub(crate) const ALL: [Self; 10] = [
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

    pub(crate) fn title(self) -> &'static str {
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

    pub(crate) fn unit(self) -> &'static str {
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

    pub(crate) fn better(self) -> Better {
        match self.unit() {
            "µs" | "segments" => Better::Lower,
            _ => Better::Higher,
        }
    }

    /// Whether the measure is taken through this peer.
    pub(super) fn concerns(self, peer: Peer) -> bool {
        match self {
            Self::Upload | Self::Download => true,
            // Long, and no goal names another.
            Self::UploadRetransmits => matches!(peer, Peer::Ours | Peer::Pasta),
            _ => !peer.is_jumbo(),
        }
    }

    pub(super) fn run(self, way: &Way, stage: &Stage, length: Length) -> Result<Sample> {
        let ends = way.ends(stage);
        let seconds = match self {
            Self::UploadRetransmits => length.long_seconds,
            _ => length.seconds,
        };
        let before = Processor::read(way)?;
        let seen = match self {
            Self::Upload | Self::UploadRetransmits => Seen::Bulk(ends.upload(1, seconds)?),
            Self::Download => Seen::Bulk(ends.download(1, seconds)?),
            Self::UploadFour => Seen::Bulk(ends.upload(4, seconds)?),
            Self::DownloadFour => Seen::Bulk(ends.download(4, seconds)?),
            Self::ConnectRequest => Seen::Times(ends.connect_request(seconds)?),
            Self::RequestResponse => Seen::Times(ends.round_trip(None, seconds)?),
            Self::RequestResponseSameCore => Seen::Times(ends.round_trip(Some(("0", "0")), seconds)?),
            Self::DatagramRequest => Seen::Times(ends.datagram_round_trip(seconds)?),
            Self::Datagrams => Seen::Bulk(ends.datagrams(1400, seconds)?),
        };
        let spent = Processor::read(way)?.since(before);
        let taken = match &seen {
            // What the relay still held was delivered after the sender's end.
            Seen::Bulk(bulk) => bulk.received.seconds.max(seconds),
            Seen::Times(_) => seconds,
        };
        let sample = Sample {
            value: 0.0,
            p99: None,
            gbit_per_second: None,
            processor_per_gbit: None,
            retransmits: None,
            cores: spent.machine / taken,
            process_cores: spent.process.map(|process| process / taken),
        };
        Ok(match seen {
            Seen::Times(times) => Sample {
                value: times.p50,
                p99: Some(times.p99),
                ..sample
            },
            Seen::Bulk(bulk) => Sample {
                value: self.value(&bulk),
                gbit_per_second: (self.unit() != "Gbit/s").then(|| bulk.gbit_per_second()),
                processor_per_gbit: spent.process.map(|process| process / bulk.gbit()),
                retransmits: (self != Self::Datagrams).then_some(bulk.retransmits),
                ..sample
            },
        })
    }

    fn value(self, bulk: &Bulk) -> f64 {
        match self {
            Self::UploadRetransmits => bulk.retransmits as f64,
            Self::Datagrams => bulk.kpps(),
            _ => bulk.gbit_per_second(),
        }
    }
}

enum Seen {
    Bulk(Bulk),
    Times(crate::agent::RoundTrips),
}

/// Processor seconds so far.
#[derive(Clone, Copy)]
struct Processor {
    machine: f64,
    process: Option<f64>,
}

impl Processor {
    fn read(way: &Way) -> Result<Self> {
        Ok(Self {
            machine: cpu::machine_busy()?,
            process: way.process().map(cpu::process).transpose()?,
        })
    }

    fn since(self, before: Self) -> Self {
        let process = self.process.zip(before.process);
        Self {
            machine: self.machine - before.machine,
            process: process.map(|(now, before)| now - before),
        }
    }
}
