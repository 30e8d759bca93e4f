//! Ten thousand published ports: how soon they answer, and what they cost, beside a docker-proxy for each.

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    agent::Asked,
    cpu,
    publish::{Bridged, DOCKER_PROXY, Sandboxed, docker_proxy},
    stats::median,
    topology::{Netns, become_namespace_root},
};

/// Options of `ports`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Ports to publish.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1..=12_000))]
    ports: u16,
    /// Ports to start a docker-proxy for; none leaves it out.
    #[arg(long, default_value_t = 100)]
    proxies: u16,
    /// Flags for vswitchd.
    #[arg(last = true)]
    daemon: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    become_namespace_root()?;
    raise_descriptors()?;
    let host = Netns::with_cubic("host")?;
    println!("load average at start: {}", cpu::load());
    let ours = ours(&host, options);
    // One of the two is better than nothing.
    if let Err(error) = &ours {
        eprintln!("vswitchd: {error:#}");
    }
    if options.proxies > 0
        && let Err(error) = docker(&host, options)
    {
        println!("LEFT OUT: docker-proxy: {error:#}");
    }
    println!("load average at end: {}", cpu::load());
    ours
}

fn ours(host: &Netns, options: &Options) -> Result<()> {
    let (sandboxed, container) = Sandboxed::start(host, &options.daemon, "ours", &[])?;
    let daemon = &sandboxed.daemon;
    let last = FIRST + options.ports - 1;
    let first = format!("--port={FIRST}");
    let mut server = container.agent(None, &[&first, "short-server", &options.ports.to_string()])?;
    server.report::<Vec<u16>>()?;

    let before = daemon.footprint()?;
    let processes = cpu::descendants(daemon.pid())?;
    let client = host.agent(None, &["reach", &format!("127.0.0.1:{last}")])?;
    let range = format!("127.0.0.1:{FIRST}-{last}:{FIRST}-{last}");
    let start = Instant::now();
    daemon.vswitch(&["publish", Sandboxed::NAME, "-p", &range])?;
    let answered = start.elapsed().as_secs_f64();
    let obstacle: Option<String> = client.result()?;
    let reached = start.elapsed().as_secs_f64();
    let after = daemon.footprint()?;
    let more = cpu::descendants(daemon.pid())?.saturating_sub(processes);

    println!("vswitch publish -p {range}");
    tell("until the command's end", answered, 1.0, " s");
    match obstacle {
        None => tell("until the last port answers", reached, 1.0, " s"),
        Some(obstacle) => println!("  the last port does not answer: {obstacle}: MISSED"),
    }
    let grown = after.resident_kib.saturating_sub(before.resident_kib);
    tell("resident memory more", grown as f64 / 1024.0, 20.0, " MiB");
    tell("processes more", more as f64, 0.0, "");
    println!(
        "  resident memory {} KiB before, {} KiB after; descriptors {} before, {} after",
        before.resident_kib, after.resident_kib, before.descriptors, after.descriptors
    );

    let asked = ask_all(host, FIRST..=last)?;
    println!("  ports that answer: {} of {}", asked.answered, options.ports);
    for failure in &asked.failures {
        println!("    {failure}");
    }
    let used = daemon.footprint()?;
    println!(
        "  resident memory after a connection to each: {} KiB",
        used.resident_kib
    );
    Ok(())
}

/// A connection to each port.
fn ask_all(host: &Netns, ports: impl ExactSizeIterator<Item = u16>) -> Result<Asked> {
    let connections = ports.len().to_string();
    let addresses: Vec<_> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
    let client = [
        "short-client",
        "--workers=8",
        "--first=server",
        "--connections",
        &connections,
    ];
    let addresses = addresses.iter().map(String::as_str);
    let client: Vec<_> = client.into_iter().chain(addresses).collect();
    host.agent(None, &client)?.result()
}

/// As many of them as asked for, one after the other as dockerd starts them; the rest is arithmetic, and said to be.
fn docker(host: &Netns, options: &Options) -> Result<()> {
    let container = Netns::new("docker")?;
    let Bridged { address } = Bridged::lay(host, &container, 1)?;
    let (mut proxies, mut times) = (Vec::new(), Vec::new());
    for port in FIRST..FIRST + options.proxies {
        let start = Instant::now();
        proxies.push(docker_proxy(host, DOCKER_PROXY.as_ref(), "tcp", (address, port))?);
        times.push(start.elapsed().as_secs_f64());
    }
    let sum = |read: fn(u32) -> Result<u64>| {
        let each = proxies.iter().map(|proxy| read(proxy.pid()));
        each.sum::<Result<u64>>()
    };
    let factor = f64::from(options.ports) / f64::from(options.proxies);
    let mib = |kib: u64| kib as f64 / 1024.0;
    let (resident, proportional) = (mib(sum(cpu::resident_kib)?), mib(sum(cpu::proportional_kib)?));
    let taken: f64 = times.iter().sum();
    println!("docker-proxy, MEASURED for {} ports:", options.proxies);
    println!(
        "  {} processes, {taken:.2} s to start (each {:.1} ms, median), resident memory {resident:.0} MiB, \
         {proportional:.0} MiB with shared pages counted once",
        options.proxies,
        median(&times) * 1e3,
    );
    println!("docker-proxy, EXTRAPOLATED to {} ports:", options.ports);
    println!(
        "  {} processes, {:.0} s, resident memory {:.0} MiB, {:.0} MiB with shared pages counted once",
        options.ports,
        taken * factor,
        resident * factor,
        proportional * factor,
    );
    Ok(())
}

fn tell(title: &str, value: f64, most: f64, unit: &str) {
    let verdict = if value <= most { "reached" } else { "MISSED" };
    println!("  {title}: {value:.3}{unit} (goal at most {most}{unit}): {verdict}");
}

/// Below the ports that Linux gives clients by itself (`net.ipv4.ip_local_port_range` begins at 32768).
const FIRST: u16 = 20_000;

/// Lets this process and what it starts hold as many descriptors as allowed.
fn raise_descriptors() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let wish = maximum.map(|maximum| maximum.max(WISH));
    let limit = |maximum| Rlimit {
        current: maximum,
        maximum,
    };
    // Beyond the hard limit only with CAP_SYS_RESOURCE.
    setrlimit(Resource::Nofile, limit(wish))
        .or_else(|_| setrlimit(Resource::Nofile, limit(maximum)))
        .context("raise the limit of descriptors")
}

/// More than the ports and what a connection to each may hold.
const WISH: u64 = 65_536;
