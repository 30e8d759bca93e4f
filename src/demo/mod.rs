//! `vswitch demo`: the whole thing in a minute, on a daemon of its own.
//!
//! Starts a daemon in a temporary directory, builds networks and sandboxes, and shows that stations of one
//! network reach each other, that networks are apart, that the switch has learnt who is where, and who
//! reaches a service of the host and who a published port. Every step is verified, not only shown: the first one that does not hold
//! ends the demo with an error, after everything that it made has been removed.

mod agent;
mod host_service;
mod interrupt;
mod stage;
mod way_in;
mod way_out;

pub use agent::run as run_agent;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use stage::Stage;
use way_out::WayOut;

/// Name of the hidden subcommand that makes the demo's traffic inside sandboxes.
pub const AGENT: &str = "demo-agent";

/// Runs the demo; success only if each step that was shown held.
pub fn run() -> ExitCode {
    let told = demo().and_then(|way_out| {
        let verified = match way_out {
            WayOut::Open => "Every step was verified.",
            WayOut::Skipped => "Every step but the skipped one was verified.",
        };
        writeln!(io::stdout(), "\n{verified} Nothing is left behind.")?;
        Ok(())
    });
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vswitch demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<WayOut> {
    let mut stage = Stage::open()?;
    let shown = show(&mut stage);
    let closed = close(stage);
    shown.and_then(|way_out| closed.map(|()| way_out))
}

fn show(stage: &mut Stage) -> Result<WayOut> {
    stage.heading("Two networks, each a learning switch of its own in this process")?;
    stage.run(&[
        "network",
        "create",
        "--subnet",
        "10.77.1.0/24",
        "--subnet",
        "fd77:1::/64",
        "--ipv6",
        "red",
    ])?;
    stage.run(&["network", "create", "--subnet", "10.77.2.0/24", "blue"])?;
    stage.run(&["network", "ls"])?;

    stage.heading("Three sandboxes: real network namespaces with the kernel's own TCP/IP stack")?;
    stage.sandbox(
        "alpha",
        &["--network", "red", "--ip", "10.77.1.10", "--ip6", "fd77:1::10"],
    )?;
    stage.sandbox(
        "beta",
        &["--network", "red", "--ip", "10.77.1.11", "--ip6", "fd77:1::11"],
    )?;
    stage.sandbox("gamma", &["--network", "blue", "--ip", "10.77.2.10"])?;
    let listing = stage.run(&["ps"])?;
    for name in ["alpha", "beta", "gamma"] {
        ensure!(listing.contains(name), "`vswitch ps` does not list {name}");
    }

    stage.heading("alpha reaches beta and its gateway, over IPv4 and IPv6")?;
    for address in ["10.77.1.11", "fd77:1::11", "10.77.1.1", "fd77:1::1"] {
        stage.agent("alpha", &["ping", address])?;
    }

    stage.heading("TCP from alpha to beta")?;
    throughput(stage)?;

    stage.heading("gamma is on the other network: alpha cannot reach it")?;
    stage.agent("alpha", &["no-ping", "10.77.2.10"])?;

    stage.heading("... until it is connected, at run time")?;
    stage.run(&["network", "connect", "--ip", "10.77.1.12", "red", "gamma"])?;
    stage.agent("alpha", &["ping", "10.77.1.12"])?;

    stage.heading("What the switch of `red` knows")?;
    stage.run(&["show", "red"])?;
    let fdb = stage.run(&["fdb", "red"])?;
    for mac in ["02:42:0a:4d:01:0a", "02:42:0a:4d:01:0b", "02:42:0a:4d:01:0c"] {
        ensure!(fdb.contains(mac), "the forwarding database lacks {mac}");
    }
    stage.run(&["stats", "red"])?;
    counters(stage)?;
    let way_out = way_out::show(stage)?;
    way_in::show(stage, way_out)?;
    Ok(way_out)
}

/// One measured transfer, with the receiver's word for what came.
fn throughput(stage: &mut Stage) -> Result<()> {
    let mut sink = stage.agent_in_background("beta", &["sink"])?;
    let port = sink.first_line()?;
    let address = format!("10.77.1.11:{port}");
    stage.agent("alpha", &["source", &address, "1.5"])?;
    let bytes: u64 = sink
        .last_line()?
        .parse()
        .context("the sink printed no number of bytes")?;
    ensure!(bytes > 1 << 20, "only {bytes} bytes arrived");
    writeln!(
        io::stdout(),
        "  beta received {} MiB: {:.1} Gbit/s",
        bytes >> 20,
        bytes as f64 * 8.0 / 1.5 / 1e9
    )?;
    Ok(())
}

/// The counters must tell of the traffic that was just made.
fn counters(stage: &mut Stage) -> Result<()> {
    let text = stage.quietly(&["stats", "red", "--format", "json"])?;
    let ports: serde_json::Value = serde_json::from_str(&text).context("stats printed no JSON")?;
    let ports = ports.as_array().context("stats printed no list")?;
    for name in ["alpha", "beta"] {
        let port = ports.iter().find(|port| {
            port["Label"]
                .as_str()
                .is_some_and(|label| label.split('/').next() == Some(name))
        });
        let Some(port) = port else {
            bail!("stats list no port of {name}")
        };
        let count = |field: &str| port[field].as_u64().unwrap_or(0);
        ensure!(
            count("RxFrames") > 0 && count("TxFrames") > 0,
            "{name}'s port counted no traffic: {port}"
        );
    }
    Ok(())
}

fn close(mut stage: Stage) -> Result<()> {
    stage.heading("Everything is removed")?;
    for name in ["alpha", "beta", "gamma"].into_iter().chain(way_out::SANDBOXES) {
        stage.quietly(&["detach", name])?;
    }
    stage.end_sandboxes();
    let networks = [&["network", "rm", "red", "blue"], &way_out::NETWORKS[..]].concat();
    stage.run(&networks)?;
    let left = stage.quietly(&["ps", "-q"])?;
    ensure!(left.trim().is_empty(), "sandboxes are left: {left}");
    stage.stop(Duration::from_secs(10))
}
