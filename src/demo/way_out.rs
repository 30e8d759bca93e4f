//! The demo's last part: what containers reach outside their networks. The outside is a service of the host,
//! so that neither privilege nor the Internet is needed.

use std::{
    io::{self, Write},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{AGENT, host_service::HostService, stage::Stage};

pub(super) const NETWORKS: [&str; 2] = ["green", "inner"];
pub(super) const SANDBOXES: [&str; 2] = ["delta", "epsilon"];

/// Whether the whole part could be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WayOut {
    Open,
    /// The host cannot reach its own service, so that nobody can.
    Skipped,
}

/// Shows who reaches a service on the host's loopback, and that nobody else does. Needs the sandbox `alpha`
/// on a network with the gateway 10.77.1.1.
pub(super) fn show(stage: &mut Stage) -> Result<WayOut> {
    let service = HostService::open()?;
    let port = service.port();

    stage.heading("The way out: a network that may reach what listens on the host's loopback")?;
    writeln!(
        io::stdout(),
        "  This process is an echo server at 127.0.0.1:{port}, TCP and UDP."
    )?;
    stage.run(&[
        "network",
        "create",
        "--subnet",
        "10.77.3.0/24",
        "-o",
        "allow_host_loopback=true",
        "green",
    ])?;
    stage.sandbox("delta", &["--network", "green", "--ip", "10.77.3.10"])?;

    stage.heading("delta reaches the server at its gateway's address")?;
    let address = format!("10.77.3.1:{port}");
    let way_out = if service.is_reachable()? {
        connection(stage, &address)?;
        // One that is small, one that fills a frame, one that goes in fragments.
        stage.agent("delta", &["datagrams", &address, "1,1472,8000"])?;
        WayOut::Open
    } else {
        writeln!(io::stdout(), "  skipped: the host's own loopback is down")?;
        WayOut::Skipped
    };

    stage.heading("Host loopback closed: alpha's network lacks the option")?;
    stage.agent("alpha", &["no-service", &format!("10.77.1.1:{port}")])?;

    stage.heading("No way out at all: an internal network")?;
    stage.run(&[
        "network",
        "create",
        "--internal",
        "--subnet",
        "10.77.4.0/24",
        "inner",
    ])?;
    stage.sandbox("epsilon", &["--network", "inner", "--ip", "10.77.4.10"])?;
    stage.agent("epsilon", &["no-service", &format!("10.77.4.1:{port}")])?;

    let (connections, datagrams) = match way_out {
        WayOut::Open => (1, 3),
        WayOut::Skipped => (0, 0),
    };
    let seen = (service.connections(), service.datagrams());
    ensure!(
        seen == (connections, datagrams),
        "the server saw {} connections and {} datagrams instead of delta's {connections} and {datagrams}",
        seen.0,
        seen.1
    );
    writeln!(
        io::stdout(),
        "  The server has seen delta only. Connections: {connections}, datagrams: {datagrams}."
    )?;
    Ok(way_out)
}

/// A verified transfer over TCP, and how its connection is listed while it is open.
fn connection(stage: &mut Stage, address: &str) -> Result<()> {
    writeln!(
        io::stdout(),
        "$ vswitch exec delta -- vswitch {AGENT} echo {address} {MEBIBYTES} &"
    )?;
    let mut echo = stage.agent_in_background("delta", &["echo", address, &MEBIBYTES.to_string()])?;
    let told = echo.first_line()?;
    // It has said why on the standard error.
    ensure!(!told.is_empty(), "delta's connection failed");
    writeln!(io::stdout(), "  {told}")?;

    // What the container received counts from its acknowledgment, which the kernel may delay.
    let deadline = Instant::now() + ACKNOWLEDGED;
    loop {
        let text = stage.quietly(&["flows", "green", "--format", "json"])?;
        let flows: Value = serde_json::from_str(&text).context("flows printed no JSON")?;
        if flows
            .as_array()
            .is_some_and(|flows| flows.iter().any(|flow| is_transfer(flow, address)))
        {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "flows do not list delta's connection as it is: {flows}"
        );
        thread::sleep(Duration::from_millis(20));
    }
    stage.run(&["flows", "green"])?;

    let told = echo.last_line()?;
    writeln!(io::stdout(), "  {told}")?;
    Ok(())
}

fn is_transfer(flow: &Value, address: &str) -> bool {
    flow["Sandbox"] == "delta"
        && flow["Protocol"] == "tcp"
        && flow["State"] == "ESTABLISHED"
        && flow["Remote"] == *address
        && flow["Target"] == *address.replace("10.77.3.1", "127.0.0.1")
        && flow["SentBytes"] == MEBIBYTES << 20
        && flow["ReceivedBytes"] == MEBIBYTES << 20
}

/// What is sent there and back.
const MEBIBYTES: u64 = 16;

/// Linux delays an acknowledgment by 200 ms at most (TCP_DELACK_MAX), a busy machine by more.
const ACKNOWLEDGED: Duration = Duration::from_secs(5);
