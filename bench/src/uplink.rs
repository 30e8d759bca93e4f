//! From a container to the outside by a device that the daemon has for its uplink, and back to a published port, beside
//! the kernel's masquerade and DNAT.
//!
//! Each peer has a host of its own, between a container and the same "outside" namespace, with a veth to the outside.
//! Devices have the MTU and the offloads that the kernel gives them. Each round takes every measure through every peer,
//! one after the other, and begins with another peer.

mod goal;
mod measure;
mod peer;

use anyhow::{Result, ensure};
use clap::ValueEnum;

pub(crate) use self::peer::Peer;
use self::{goal::GOALS, measure::Measure, peer::Way};
use crate::{
    compare::{self, Options, Paper, Report},
    cpu,
    stage::Stage,
    topology::become_namespace_root,
};

pub(crate) fn run(options: &Options<Peer>) -> Result<()> {
    become_namespace_root()?;
    let stage = Stage::new()?;
    let start = |peer| Way::start(peer, &stage, &options.daemon);
    let (ways, left_out) = compare::start(Peer::value_variants(), &options.only, start);
    ensure!(!ways.is_empty(), "no peer reaches the outside");
    println!("load average at start: {}", cpu::load());

    let sides = compare::rounds(options.rounds, &ways, |measure: Measure, way| {
        measure.run(way, &stage, options.seconds)
    });

    let report = Report::new(&ways, left_out, sides, &GOALS);
    report.print(&cpu::load());
    let paper = Paper {
        name: "uplink",
        title: "vswitchd's device uplink",
    };
    report.write(&options.out, paper)
}
