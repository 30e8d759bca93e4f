//! Many idle flows: what is left of the bulk rate beside them, and what each costs the daemon.

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{
    cpu,
    daemon::{Daemon, NETWORK},
    stage::Stage,
    stats::median,
    topology::{Netns, become_namespace_root},
};

/// Options of `flows`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Idle flows of one container.
    #[arg(long, default_value_t = 16_384)]
    flows: u32,
    /// New flows per second; the daemon admits 500 of one container.
    #[arg(long, default_value_t = 440, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Interleaved rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each measurement in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Flags for both daemons, for example --poll=sleep.
    #[arg(last = true)]
    daemon: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    become_namespace_root()?;
    let stage = Stage::new()?;
    // Two daemons side by side, alike but for the idle flows.
    let empty = Subject::start(&stage, "e", &options.daemon)?;
    let crowded = Subject::start(&stage, "c", &options.daemon)?;
    println!("load average at start: {}", cpu::load());

    let before = crowded.daemon.footprint()?;
    let (_server, address) = stage
        .ends(&crowded.idle)
        .listen(None, &["idle-server", &options.flows.to_string()])?;
    let (flows, rate) = (options.flows.to_string(), options.rate.to_string());
    let client = ["idle-client", &address, &flows, &rate];
    let mut client = crowded.idle.agent(None, &client)?;
    let open: u32 = client.report()?;
    let after = crowded.daemon.footprint()?;
    let grown = after.resident_kib.saturating_sub(before.resident_kib);
    println!(
        "resident memory: {} KiB without flows, {} KiB with {open}: {:.3} KiB per flow (goal at most 1)",
        before.resident_kib,
        after.resident_kib,
        grown as f64 / f64::from(open),
    );
    println!(
        "descriptors: {} without flows, {} with {open}",
        before.descriptors, after.descriptors
    );

    for direction in [Direction::Upload, Direction::Download] {
        direction.compare(&stage, &empty, &crowded, options)?;
    }

    client.end_input();
    let answering: u32 = client.result()?;
    println!("idle flows that still answer: {answering} of {open}");
    ensure!(answering == open, "{} idle flows are lost", open - answering);
    println!("load average at end: {}", cpu::load());
    Ok(())
}

/// A daemon with two containers: one for the bulk transfers, one for the idle flows.
#[derive(Debug)]
struct Subject {
    daemon: Daemon,
    bulk: Netns,
    idle: Netns,
}

impl Subject {
    fn start(stage: &Stage, role: &str, flags: &[String]) -> Result<Self> {
        let daemon = Daemon::start_in(&stage.host, flags)?;
        daemon.vswitch(&["network", "create", "--subnet", "10.98.0.0/16", NETWORK])?;
        let (bulk, idle) = (
            Netns::new(&format!("{role}bulk"))?,
            Netns::new(&format!("{role}idle"))?,
        );
        for (container, name) in [(&bulk, "bulk"), (&idle, "idle")] {
            daemon.attach(container, name, None)?;
            stage
                .ends(container)
                .reach()
                .with_context(|| format!("container {name} does not reach the outside"))?;
        }
        Ok(Self { daemon, bulk, idle })
    }
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Download,
    Upload,
}

impl Direction {
    fn title(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }

    fn compare(self, stage: &Stage, empty: &Subject, crowded: &Subject, options: &Options) -> Result<()> {
        let rate = |subject: &Subject| {
            let ends = stage.ends(&subject.bulk);
            let bulk = match self {
                Self::Download => ends.download(1, options.seconds)?,
                Self::Upload => ends.upload(1, options.seconds)?,
            };
            anyhow::Ok(bulk.gbit_per_second())
        };
        let mut ratios = Vec::new();
        for round in 0..options.rounds {
            let (alone, among) = if round % 2 == 0 {
                let alone = rate(empty)?;
                (alone, rate(crowded)?)
            } else {
                let among = rate(crowded)?;
                (rate(empty)?, among)
            };
            println!(
                "{}, round {}: {alone:.2} Gbit/s without idle flows, {among:.2} with",
                self.title(),
                round + 1
            );
            ratios.push(among / alone);
        }
        println!(
            "{} kept beside the idle flows: {:.2} (goal at least 0.95)",
            self.title(),
            median(&ratios)
        );
        Ok(())
    }
}
