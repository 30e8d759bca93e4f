//! From a container to a server outside: our relay, slirp4netns, pasta, and the kernel's masquerade.
//!
//! All relays run in one "host" namespace, each with a container of its own, and reach the same "outside"
//! namespace over the same link. Each round takes every measure through every peer, one after the other,
//! and begins with another peer.

mod goal;
mod measure;
mod peer;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use self::{
    goal::GOALS,
    measure::{Length, Measure},
    peer::{Peer, Way},
};
use crate::{
    compare::{self, Paper, Report},
    cpu,
    stage::Stage,
    topology::become_namespace_root,
};

/// Options of `outbound`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: compare::Options<Peer>,
    /// Length of the upload whose retransmits are counted.
    #[arg(long, default_value_t = 10.0)]
    long_seconds: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let common = &options.common;
    become_namespace_root()?;
    let stage = Stage::new()?;
    let start = |peer| Way::start(peer, &stage, &common.daemon);
    let (ways, left_out) = compare::start(Peer::value_variants(), &common.only, start);
    ensure!(!ways.is_empty(), "no peer reaches the outside");
    println!("load average at start: {}", cpu::load());

    let length = Length {
        seconds: common.seconds,
        long_seconds: options.long_seconds,
    };
    let sides = compare::rounds(common.rounds, &ways, |measure: Measure, way| {
        measure.run(way, &stage, length)
    });

    let report = Report::new(&ways, left_out, sides, &GOALS);
    report.print(&cpu::load());
    let paper = Paper {
        name: "outbound",
        title: "vswitchd's way out",
    };
    report.write(&common.out, paper)
}
