//! One measurement.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::{agent::RoundTrips, cpu, traffic::Bulk};

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
    /// Segments that the TCP sender sent again; none where that is not told.
    pub(crate) retransmits: Option<u64>,
    /// What of the things counted failed; none where the first failure ends the measurement.
    pub(crate) failed: Option<u64>,
    /// Busy seconds of all cores per second of the measurement.
    pub(crate) cores: f64,
    /// Processor seconds of the relay's own process per second of the measurement.
    pub(crate) process_cores: Option<f64>,
}

/// What the agents saw.
pub(crate) enum Seen {
    Bulk(Bulk),
    /// A bulk of datagrams, which are counted.
    Datagrams(Bulk),
    /// Things done, and how many more failed.
    Rate {
        per_second: f64,
        failed: u64,
    },
    Times(RoundTrips),
}

impl Sample {
    /// A measurement of at least so many seconds, with the value that is a rate or a median time.
    pub(crate) fn new(seen: &Seen, spent: Spent, seconds: f64) -> Self {
        let taken = match seen {
            // What the relay still held was delivered after the sender's end.
            Seen::Bulk(bulk) | Seen::Datagrams(bulk) => bulk.received.seconds.max(seconds),
            // Those that got stuck were waited for.
            Seen::Rate { .. } => spent.wall.as_secs_f64(),
            Seen::Times(_) => seconds,
        };
        let sample = Self {
            value: 0.0,
            p99: None,
            gbit_per_second: None,
            processor_per_gbit: None,
            retransmits: None,
            failed: None,
            cores: spent.machine / taken,
            process_cores: spent.process.map(|process| process / taken),
        };
        match seen {
            Seen::Rate { per_second, failed } => Self {
                value: *per_second,
                failed: Some(*failed),
                ..sample
            },
            Seen::Times(times) => Self {
                value: times.p50,
                p99: Some(times.p99),
                ..sample
            },
            Seen::Bulk(bulk) => Self {
                value: bulk.gbit_per_second(),
                processor_per_gbit: spent.process.map(|process| process / bulk.gbit()),
                retransmits: Some(bulk.retransmits),
                ..sample
            },
            Seen::Datagrams(bulk) => Self {
                value: bulk.kpps(),
                gbit_per_second: Some(bulk.gbit_per_second()),
                processor_per_gbit: spent.process.map(|process| process / bulk.gbit()),
                ..sample
            },
        }
    }
}

/// Processor seconds so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processor {
    at: Instant,
    machine: f64,
    process: Option<f64>,
}

/// What a measurement took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    wall: Duration,
    machine: f64,
    process: Option<f64>,
}

impl Processor {
    /// Of the machine, and of a relay's processes together; a relay that is the kernel's has none.
    pub(crate) fn read(processes: &[u32]) -> Result<Self> {
        let each = processes.iter().map(|&process| cpu::process(process));
        let each = each.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            at: Instant::now(),
            machine: cpu::machine_busy()?,
            process: (!each.is_empty()).then(|| each.iter().sum()),
        })
    }

    pub(crate) fn since(self, before: Self) -> Spent {
        let process = self.process.zip(before.process);
        Spent {
            wall: self.at.duration_since(before.at),
            machine: self.machine - before.machine,
            process: process.map(|(now, before)| now - before),
        }
    }
}
