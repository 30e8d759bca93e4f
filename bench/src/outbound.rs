//! From a container to a server outside: our relay, slirp4netns, pasta, and the kernel's masquerade.
//!
//! All relays run in one "host" namespace, each with a container of its own, and reach the same "outside"
//! namespace over the same link. Each round takes every measure through every peer, one after the other,
//! and begins with another peer.

mod goal;
mod measure;
mod peer;
mod report;
mod stage;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

pub(crate) use self::stage::Stage;
use self::{
    goal::GOALS,
    measure::{Length, Measure},
    peer::{Peer, Way},
    report::{LeftOut, Report, Side},
};
use crate::{cpu, topology::become_namespace_root};

/// Options of `outbound`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Interleaved rounds; the report gives their medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each measurement in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Length of the upload whose retransmits are counted.
    #[arg(long, default_value_t = 10.0)]
    long_seconds: f64,
    /// Peers to measure, separated by commas; all by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Peer>,
    /// Directory for outbound.json and outbound.svg.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Flags for vswitchd, for example --poll=sleep.
    #[arg(last = true)]
    daemon: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    become_namespace_root()?;
    let stage = Stage::new()?;
    let (ways, left_out) = start(&stage, options);
    ensure!(!ways.is_empty(), "no peer reaches the outside");
    println!("load average at start: {}", cpu::load());

    let length = Length {
        seconds: options.seconds,
        long_seconds: options.long_seconds,
    };
    let mut sides = Measure::ALL.map(|measure| {
        let taking_part = ways.iter().filter(|way| measure.concerns(way.peer()));
        taking_part.map(|way| Side::new(way.peer())).collect::<Vec<_>>()
    });
    for round in 0..options.rounds {
        for (measure, sides) in Measure::ALL.into_iter().zip(&mut sides) {
            // No peer always runs into what the same other one has warmed or throttled.
            let count = sides.len().max(1);
            let order = (0..sides.len()).map(|turn| (turn + round) % count);
            for side in order.collect::<Vec<_>>() {
                let side = &mut sides[side];
                let Some(way) = ways.iter().find(|way| way.peer() == side.peer) else {
                    continue;
                };
                let sample = measure.run(way, &stage, length).inspect_err(|error| {
                    eprintln!("{}, {}: {error:#}", measure.title(), side.peer.title());
                });
                side.samples.push(sample.ok());
            }
        }
        eprintln!("round {} of {} done", round + 1, options.rounds);
    }

    let report = Report::new(&ways, left_out, sides, &GOALS);
    report.print(&cpu::load());
    report.write(&options.out)
}

/// Every peer that reaches the outside, and why the others do not.
fn start<'a>(stage: &Stage, options: &'a Options) -> (Vec<Way>, Vec<LeftOut>) {
    let chosen: &'a [Peer] = if options.only.is_empty() {
        Peer::value_variants()
    } else {
        &options.only
    };
    let (mut ways, mut left_out) = (Vec::new(), Vec::new());
    for &peer in chosen {
        match Way::start(peer, stage, &options.daemon) {
            Ok(way) => ways.push(way),
            Err(error) => {
                let why = format!("{error:#}");
                eprintln!("LEFT OUT: {}: {why}", peer.title());
                left_out.push(LeftOut {
                    peer: peer.title(),
                    why,
                });
            }
        }
    }
    (ways, left_out)
}
