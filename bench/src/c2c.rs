//! Container to container: the same traffic through our switch and through the kernel's bridge.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::{
    cpu,
    daemon::Daemon,
    report::{self, Better, Row, Summary},
    topology::{Pair, become_namespace_root},
};

/// Options of `c2c`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Interleaved rounds; the report gives their medians.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of each measurement in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Directory for c2c.json and c2c.svg.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Flags for vswitchd, for example --poll=sleep.
    #[arg(last = true)]
    daemon: Vec<String>,
}

/// One measurement through one topology.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    /// In the measure's unit.
    value: f64,
    /// Busy seconds of all cores per second of the measurement.
    cores: f64,
    /// Processor seconds of the switch's own process per second of the measurement.
    daemon_cores: f64,
    /// Segments that TCP sent again.
    retransmits: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Measure {
    TcpOne,
    TcpFour,
    UdpSmall,
    RoundTrip,
    RoundTripSameCore,
    RoundTripTwoCores,
}

impl Measure {
    const ALL: [Self; 6] = [
        Self::TcpOne,
        Self::TcpFour,
        Self::UdpSmall,
        Self::RoundTrip,
        Self::RoundTripSameCore,
        Self::RoundTripTwoCores,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::TcpOne => "TCP, one stream",
            Self::TcpFour => "TCP, four streams",
            Self::UdpSmall => "UDP, 18-byte payload (60-byte frames)",
            Self::RoundTrip => "TCP request/response p50, cores as the scheduler likes",
            Self::RoundTripSameCore => "TCP request/response p50, both ends on core 0",
            Self::RoundTripTwoCores => "TCP request/response p50, ends on cores 0 and 1",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::TcpOne | Self::TcpFour => "Gbit/s",
            Self::UdpSmall => "kpps",
            _ => "µs",
        }
    }

    fn better(self) -> Better {
        match self {
            Self::TcpOne | Self::TcpFour | Self::UdpSmall => Better::Higher,
            _ => Better::Lower,
        }
    }

    /// The ratio to the kernel's bridge that the project promises.
    fn goal(self) -> Option<f64> {
        match self {
            Self::TcpOne => Some(0.80),
            Self::TcpFour => Some(0.90),
            Self::UdpSmall => Some(0.70),
            Self::RoundTrip => Some(1.30),
            _ => None,
        }
    }

    fn run(self, pair: &Pair, seconds: f64) -> Result<Sample> {
        let (busy, own) = (cpu::machine_busy()?, own_time(pair)?);
        let ends = pair.ends();
        let tcp = |streams| {
            ends.upload(streams, seconds)
                .map(|bulk| (bulk.gbit_per_second(), bulk.retransmits))
        };
        let round_trip = |cores| ends.round_trip(cores, seconds).map(|times| (times.p50, 0));
        let (value, retransmits) = match self {
            Self::TcpOne => tcp(1)?,
            Self::TcpFour => tcp(4)?,
            Self::UdpSmall => (ends.datagrams(18, seconds)?.kpps(), 0),
            Self::RoundTrip => round_trip(None)?,
            Self::RoundTripSameCore => round_trip(Some(("0", "0")))?,
            Self::RoundTripTwoCores => round_trip(Some(("0", "1")))?,
        };
        Ok(Sample {
            value,
            cores: (cpu::machine_busy()? - busy) / seconds,
            daemon_cores: (own_time(pair)? - own) / seconds,
            retransmits,
        })
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    become_namespace_root()?;
    let daemon = Daemon::start(&options.daemon)?;
    let (ours, kernel) = (Pair::ours(&daemon, "v")?, Pair::kernel()?);
    println!("load average at start: {}", cpu::load());

    let mut samples = vec![(Vec::new(), Vec::new()); Measure::ALL.len()];
    for round in 0..options.rounds {
        for (measure, (our_samples, kernel_samples)) in Measure::ALL.into_iter().zip(&mut samples) {
            // ABBA order: neither side always runs into what the other has warmed or throttled.
            let mut turns = [(&ours, our_samples), (&kernel, kernel_samples)];
            if round % 2 == 1 {
                turns.reverse();
            }
            for (pair, into) in turns {
                into.push(measure.run(pair, options.seconds)?);
            }
        }
        eprintln!("round {} of {} done", round + 1, options.rounds);
    }

    let rows = Measure::ALL
        .into_iter()
        .zip(&samples)
        .map(|(measure, (ours, kernel))| Row {
            title: measure.title(),
            unit: measure.unit(),
            better: measure.better(),
            goal: measure.goal(),
            ours: summarise(ours),
            peer: summarise(kernel),
        });
    let rows: Vec<_> = rows.collect();
    report::print("vswitchd", "kernel bridge + veth", &rows, &cpu::load());
    report::write(&options.out, "c2c", "vswitchd", "kernel bridge + veth", &rows)
}

fn summarise(samples: &[Sample]) -> Summary {
    Summary {
        values: samples.iter().map(|sample| sample.value).collect(),
        cores: samples.iter().map(|sample| sample.cores).collect(),
        daemon_cores: samples.iter().map(|sample| sample.daemon_cores).collect(),
        retransmits: samples.iter().map(|sample| sample.retransmits as f64).collect(),
    }
}

fn own_time(pair: &Pair) -> Result<f64> {
    pair.daemon.map_or(Ok(0.0), cpu::process)
}
