//! Many endpoints on one network, many networks: attach time, memory, and what is left of the rate.

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;

use crate::{
    cpu,
    daemon::Daemon,
    stats::median,
    topology::{Netns, Pair, become_namespace_root},
};

/// Options of `scale`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Endpoints on the crowded network.
    #[arg(long, default_value_t = 1000)]
    endpoints: usize,
    /// Networks at once, an endpoint on each.
    #[arg(long, default_value_t = 100)]
    networks: usize,
    /// Interleaved rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each measurement in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        options.networks + 2 <= options.endpoints,
        "each network needs an endpoint of its own"
    );
    become_namespace_root()?;
    // Two daemons side by side: one with the pair alone, one with the pair and everything else.
    let (empty, crowded) = (Daemon::start(&[])?, Daemon::start(&[])?);
    let few = Pair::ours(&empty, "e")?;
    let many = Pair::ours(&crowded, "c")?;
    println!(
        "resident memory of a daemon with 2 endpoints: {} KiB",
        cpu::resident_kib(empty.pid())?
    );

    let mut crowd = Vec::new();
    let mut times = Vec::new();
    for index in 0..options.endpoints.saturating_sub(2) {
        let netns = Netns::new(&format!("n{index}"))?;
        let start = Instant::now();
        crowded.attach(&netns, &format!("n{index}"), None)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        crowd.push(netns);
    }
    let last = times.len().saturating_sub(times.len() / 10);
    println!(
        "attach, {} endpoints on one network: median {:.1} ms, median of the last tenth {:.1} ms (CLI process included)",
        options.endpoints,
        median(&times),
        median(&times[last..]),
    );
    println!(
        "resident memory with {} endpoints: {} KiB",
        options.endpoints,
        cpu::resident_kib(crowded.pid())?
    );

    let mut ratios = Vec::new();
    for round in 0..options.rounds {
        let rate = |pair: &Pair| {
            let bulk = pair.ends().upload(1, options.seconds)?;
            anyhow::Ok(bulk.gbit_per_second())
        };
        let (alone, among) = if round % 2 == 0 {
            let alone = rate(&few)?;
            (alone, rate(&many)?)
        } else {
            let among = rate(&many)?;
            (rate(&few)?, among)
        };
        println!(
            "round {}: {alone:.2} Gbit/s with 2 endpoints, {among:.2} with {}",
            round + 1,
            options.endpoints
        );
        ratios.push(among / alone);
    }
    println!(
        "throughput kept among {} endpoints: {:.2} (goal 0.90)",
        options.endpoints,
        median(&ratios)
    );

    let start = Instant::now();
    for index in 0..options.networks {
        let name = format!("net{index}");
        let subnet = format!("10.{}.{}.0/24", 100 + index / 256, index % 256);
        crowded.vswitch(&["network", "create", "--subnet", &subnet, &name])?;
        crowded.vswitch(&["network", "connect", &name, &format!("n{index}")])?;
    }
    println!(
        "{} networks at once, an endpoint on each: {:.1} s; resident memory {} KiB",
        options.networks,
        start.elapsed().as_secs_f64(),
        cpu::resident_kib(crowded.pid())?
    );
    Ok(())
}
