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

use anyhow::{Result, ensure};
use clap::ValueEnum;

pub(crate) use self::{
    carrier::{DOCKER_PROXY, Sandboxed, docker_proxy},
    peer::Peer,
    stage::{Bridged, publish_by_dnat},
};
use self::{goal::GOALS, measure::Measure, peer::Way};
use crate::{
    compare::{self, Options, Paper, Report, Way as _},
    cpu,
    stage::Stage,
    topology::become_namespace_root,
};

pub(crate) fn run(options: &Options<Peer>) -> Result<()> {
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
