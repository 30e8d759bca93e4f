//! Many flows over a link that loses frames, then many short ones: every byte arrives as it was sent, and the
//! daemon keeps nothing of them.

mod container;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{
    agent::{Answered, Asked, Carried, Odds, Outcome},
    cpu,
    daemon::{Daemon, Footprint, NETWORK},
    stage::Stage,
    topology::{Netns, become_namespace_root},
};
use container::LossyContainer;

/// Options of `soak`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Flows that are open at once over the link that loses frames.
    #[arg(long, default_value_t = 10_000)]
    flows: u32,
    /// Short connections after that, over a link that loses nothing.
    #[arg(long, default_value_t = 200_000)]
    connections: u64,
    /// Short connections at once.
    #[arg(long, default_value_t = 8)]
    workers: u32,
    /// What streams, pauses and losses follow from; another one each time if not given.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    odds: Odds,
    /// How long the flows may take, in seconds.
    #[arg(long, default_value_t = 300.0)]
    seconds: f64,
    /// Flags for vswitchd, for example --poll=sleep.
    #[arg(last = true)]
    daemon: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    become_namespace_root()?;
    let stage = Stage::new()?;
    let daemon = Daemon::start_in(&stage.host, &options.daemon)?;
    let create = [
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "10.98.0.0/16",
        "--subnet",
        "fd98::/64",
        NETWORK,
    ];
    daemon.vswitch(&create)?;
    let mut soak = Soak {
        options,
        seed: options.seed.unwrap_or_else(any_seed),
        stage: &stage,
        daemon: &daemon,
        failures: Vec::new(),
    };
    println!("seed: {}", soak.seed);
    println!("load average at start: {}", cpu::load());
    if options.flows > 0 {
        soak.long_flows()?;
    }
    if options.connections > 0 {
        soak.short_flows()?;
    }
    println!("load average at end: {}", cpu::load());
    ensure!(
        soak.failures.is_empty(),
        "not as it should be (seed {}): {}",
        soak.seed,
        soak.failures.join("; ")
    );
    Ok(())
}

/// A seed for those who do not care; it is printed.
fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) << 16 | u64::from(process::id() & 0xffff)
}

struct Soak<'a> {
    options: &'a Options,
    seed: u64,
    stage: &'a Stage,
    daemon: &'a Daemon,
    /// What is not as it should be.
    failures: Vec<String>,
}

impl Soak<'_> {
    /// Flows that are all open at once.
    fn long_flows(&mut self) -> Result<()> {
        let container = LossyContainer::start(self.daemon, self.options.odds, self.seed)?;
        let outside = self.stage.ends(&container.netns).server;
        let flows = self.options.flows.to_string();
        let mut server = outside.agent(None, &["soak-server", &flows])?;
        let port = server.port()?;
        let before = self.daemon.footprint()?;

        let (seed, seconds) = (self.seed.to_string(), self.options.seconds.to_string());
        let (v4, v6) = (address(V4, port), address(V6, port));
        let client = [
            "soak-client",
            "--flows",
            &flows,
            "--seed",
            &seed,
            "--seconds",
            &seconds,
            &v4,
            &v6,
        ];
        let start = Instant::now();
        let mut client = container.netns.agent(None, &client)?;
        let open: u32 = client.report()?;
        let listed = self.listed()?;
        println!(
            "{open} flows open after {:.1} s, of which the daemon lists {listed}: {}",
            start.elapsed().as_secs_f64(),
            words(self.daemon.footprint()?)
        );
        self.check(listed == open as usize, || {
            format!("the daemon lists {listed} of {open} open flows")
        });

        client.go_on()?;
        let outcome: Outcome = client.report()?;
        self.judge("client", &outcome);
        let left = self.wait_until_over(LINGER)?;
        if left > 0 {
            let table = self.daemon.vswitch(&["flows"])?;
            eprintln!("flows that are left:");
            table.lines().take(TOLD).for_each(|line| eprintln!("{line}"));
        }
        self.check(left == 0, || format!("{left} flows are left"));
        server.end_input();
        let at_server: Outcome = server.result()?;
        self.judge("server", &at_server);
        println!(
            "bytes: {} up, {} down",
            at_server.received_bytes, outcome.received_bytes
        );
        client.end_input();
        drop(client);
        let Carried {
            sent,
            lost,
            reordered,
            duplicated,
            refused,
        } = container.end()?;
        println!(
            "frames: {sent} carried, {lost} lost, {reordered} reordered, {duplicated} doubled, {refused} refused \
             by a full device"
        );

        let after = self.daemon.footprint()?;
        println!("before: {}; after: {}", words(before), words(after));
        self.check_descriptors(before, after);
        // Tables keep the places of flows that were (goal: at most 1 KiB each).
        let kept = after.resident_kib.saturating_sub(before.resident_kib);
        self.check(kept <= u64::from(open) + EARLY_KIB + SLACK_KIB, || {
            format!("{kept} KiB are left of {open} flows")
        });
        Ok(())
    }

    /// Prints how one end fared.
    fn judge(&mut self, end: &str, outcome: &Outcome) {
        let Outcome {
            right,
            different,
            short,
            broken,
            late,
            seconds,
            ..
        } = *outcome;
        println!(
            "{end}: {right} of {} streams equal after {seconds:.1} s; {different} different, {short} cut off, \
             {broken} broken, {late} not over",
            self.options.flows
        );
        for failure in &outcome.failures {
            println!("  {failure}");
        }
        let flows = self.options.flows;
        self.check(right == flows, || {
            format!("{} streams not equal at the {end}", flows.saturating_sub(right))
        });
    }

    /// One connection after the other.
    fn short_flows(&mut self) -> Result<()> {
        let container = Netns::new("short")?;
        self.daemon.attach(&container, "short", None)?;
        let ends = self.stage.ends(&container);
        ends.reach()?;
        let mut server = ends.server.agent(None, &["short-server", PORTS])?;
        let ports: Vec<u16> = server.report()?;
        let mut client: Vec<String> = ["short-client", "--workers"].map(str::to_owned).into();
        client.push(self.options.workers.to_string());
        let addresses = ports
            .iter()
            .flat_map(|&port| [address(V4, port), address(V6, port)]);
        client.extend(addresses);
        client.push("--connections".to_owned());

        let before = self.daemon.footprint()?;
        let mut footprints = vec![before];
        let half = self.options.connections / 2;
        for connections in [half, self.options.connections - half] {
            let count = connections.to_string();
            let args: Vec<&str> = client
                .iter()
                .map(String::as_str)
                .chain([count.as_str()])
                .collect();
            let asked: Asked = container.agent(None, &args)?.result()?;
            println!(
                "{} of {connections} short connections answered, {:.0} a second",
                asked.answered,
                connections as f64 / asked.seconds
            );
            for failure in &asked.failures {
                println!("  {failure}");
            }
            self.check(asked.failed == 0, || {
                format!("{} short connections failed", asked.failed)
            });
            let left = self.wait_until_over(LINGER)?;
            self.check(left == 0, || format!("{left} short flows are left"));
            let footprint = self.daemon.footprint()?;
            println!("{}", words(footprint));
            self.check_descriptors(before, footprint);
            footprints.push(footprint);
        }
        server.end_input();
        let Answered { ended, broken, left } = server.result()?;
        println!("server: {ended} ended as they should, {broken} broken, {left} open");
        self.check(ended == self.options.connections, || {
            format!("{broken} short connections broken and {left} open at the server")
        });
        if let [_, middle, end] = footprints[..] {
            let grown = end.resident_kib.saturating_sub(middle.resident_kib);
            println!("grown by {grown} KiB during the second half (goal at most {SLACK_KIB})");
            self.check(grown <= SLACK_KIB, || {
                format!("{grown} KiB more after the second half of the short connections")
            });
        }
        Ok(())
    }

    /// Waits until the daemon has no flow; says how long that took. How many are left then.
    fn wait_until_over(&self, most: Duration) -> Result<usize> {
        let start = Instant::now();
        loop {
            let left = self.listed()?;
            if left == 0 || start.elapsed() > most {
                println!("{left} flows left after {:.1} s", start.elapsed().as_secs_f64());
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// How many flows the daemon has.
    fn listed(&self) -> Result<usize> {
        let flows = self.daemon.vswitch(&["flows", "--format", "json"])?;
        let flows: Vec<serde_json::Value> =
            serde_json::from_str(&flows).context("vswitch flows printed no list")?;
        Ok(flows.len())
    }

    fn check_descriptors(&mut self, before: Footprint, after: Footprint) {
        self.check(after.descriptors <= before.descriptors + KEPT, || {
            format!("{} descriptors, {} before", after.descriptors, before.descriptors)
        });
    }

    fn check(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(failure());
        }
    }
}

fn words(footprint: Footprint) -> String {
    format!(
        "{} descriptors, {} KiB resident",
        footprint.descriptors, footprint.resident_kib
    )
}

fn address(ip: impl Into<std::net::IpAddr>, port: u16) -> String {
    SocketAddr::new(ip.into(), port).to_string()
}

/// The outside's addresses; see `Stage`.
const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// Ports of the short connections' server: closed connections keep the 28 232 local ports of each busy.
const PORTS: &str = "8";

/// How long the last segments may be repeated on a link that loses some: several doublings of a timer of 1 s.
const LINGER: Duration = Duration::from_secs(90);

/// The socket that the host's routes are asked by, opened with the first flow.
const KEPT: usize = 1;

/// What the flows may have had out of order (`Limits::early_bytes`): given back to the allocator, which may keep it.
const EARLY_KIB: u64 = 16 << 10;

/// What memory may grow by without cause.
const SLACK_KIB: u64 = 4096;

/// Flows that are shown when they should be over.
const TOLD: usize = 20;
