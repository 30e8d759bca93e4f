//! From a client to a published port: ours, docker-proxy, RootlessKit's builtin driver, pasta -t, slirp4netns'
//! hostfwd, and the kernel's DNAT.
//!
//! All peers run in one "host" namespace, each with a container and a port of its own; remote clients come from
//! the same "outside" namespace over the same link. Each round takes every measure through every peer, one after
//! the other, and begins with another peer.

mod carrier;
mod goal;
mod http;
mod measure;
mod peer;
mod stage;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

pub(crate) use self::{
    carrier::{DOCKER_PROXY, Sandboxed, docker_proxy},
    stage::{Bridged, publish_by_dnat},
};
use self::{
    goal::GOALS,
    measure::Measure,
    peer::{Peer, Way},
};
use crate::{
    compare::{self, Paper, Report, Way as _},
    cpu,
    stage::Stage,
    topology::become_namespace_root,
};

/// Options of `publish`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Interleaved rounds; the report gives their medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each measurement in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Peers to measure, separated by commas; all by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Peer>,
    /// Directory for publish.json and publish.svg.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Flags for vswitchd, for example --poll=sleep.
    #[arg(last = true)]
    daemon: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    become_namespace_root()?;
    let stage = Stage::new()?;
    let start = |peer| Way::start(peer, &stage, &options.daemon);
    let (ways, left_out) = compare::start(Peer::value_variants(), &options.only, start);
    ensure!(!ways.is_empty(), "no peer leads to its container");
    println!("load average at start: {}", cpu::load());

    let sides = compare::rounds(options.rounds, &ways, |measure: Measure, way| {
        measure.run(way, &stage, options.seconds)
    });

    let report = Report::new(&ways, left_out, sides, &GOALS);
    report.print(&cpu::load());
    if let Some(ours) = ways.iter().find(|way| way.peer() == Peer::Ours) {
        let verdict = if ours.keeps_address() { "reached" } else { "MISSED" };
        println!("goal: ours keeps a remote client's address: {verdict}");
    }
    let paper = Paper {
        name: "publish",
        title: "vswitchd's published ports",
    };
    report.write(&options.out, paper)
}
