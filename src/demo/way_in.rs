//! The demo's last part: published ports, for the host and for containers elsewhere.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{stage::Stage, way_out::WayOut};

/// Publishes ports of the sandbox `alpha`, visits them from the host and from `gamma`, whose gateway is 10.77.2.1, and
/// takes them back. `loopback` says whether the host reaches itself.
pub(super) fn show(stage: &mut Stage, loopback: WayOut) -> Result<()> {
    stage.heading("The way in: a server in alpha, published on the host's loopback")?;
    let mut greeter = stage.agent_in_background("alpha", &["greet", "7000"])?;
    ensure!(
        greeter.first_line()? == "ready",
        "the server in alpha does not start"
    );
    let published = stage.run(&[
        "publish",
        "alpha",
        "-p",
        "127.0.0.1::7000",
        "-p",
        "127.0.0.1::7000/udp",
    ])?;
    let (tcp, udp) = (port(&published, "tcp")?, port(&published, "udp")?);
    match loopback {
        WayOut::Open => visit(tcp, udp)?,
        WayOut::Skipped => writeln!(io::stdout(), "  skipped: the host's own loopback is down")?,
    }

    stage.heading("What is published on loopback is for the host alone")?;
    stage.agent("gamma", &["no-service", &format!("10.77.2.1:{tcp}")])?;

    stage.heading("What is published on all addresses is for gamma, too, whose network is another")?;
    let published = stage.run(&["publish", "alpha", "-p", "7000", "-p", "7000/udp"])?;
    for protocol in ["tcp", "udp"] {
        let port = port(&published, protocol)?;
        stage.agent("gamma", &["visit", protocol, &format!("10.77.2.1:{port}")])?;
    }
    stage.run(&["port", "alpha"])?;
    stage.run(&["port", "--counters", "alpha"])?;

    stage.run(&["unpublish", "alpha", "7000/tcp", "7000/udp"])?;
    let left = stage.quietly(&["port", "alpha"])?;
    ensure!(left.is_empty(), "ports are left: {left}");
    ensure!(
        TcpStream::connect((Ipv4Addr::LOCALHOST, tcp)).is_err(),
        "the host's port {tcp} is still open"
    );
    let told = greeter.last_line()?;
    writeln!(io::stdout(), "  alpha's server: {told}")?;
    let expected = match loopback {
        WayOut::Open => "4 visitors",
        WayOut::Skipped => "2 visitors",
    };
    ensure!(told == expected, "alpha's server should have seen {expected}");
    Ok(())
}

/// Calls both ports from the host.
fn visit(tcp: u16, udp: u16) -> Result<()> {
    let mut greeting = String::new();
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, tcp)).context("connect to the published port")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream
        .read_to_string(&mut greeting)
        .context("no greeting from alpha")?;
    writeln!(
        io::stdout(),
        "  this process, by TCP to 127.0.0.1:{tcp}: {greeting:?}"
    )?;
    ensure!(greeting.starts_with("you are "), "this is not alpha's server");

    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, udp))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"who am I?")?;
    let mut buffer = [0; 256];
    let len = socket.recv(&mut buffer).context("no answer from alpha")?;
    let greeting = String::from_utf8_lossy(&buffer[..len]);
    writeln!(
        io::stdout(),
        "  this process, by UDP to 127.0.0.1:{udp}: {greeting:?}"
    )?;
    ensure!(greeting.starts_with("you are "), "this is not alpha's server");
    Ok(())
}

/// The host's port in lines such as `7000/tcp -> 127.0.0.1:32768`.
fn port(lines: &str, protocol: &str) -> Result<u16> {
    let found = lines.lines().find_map(|line| {
        let (container, host) = line.split_once(" -> ")?;
        let host: SocketAddr = host.parse().ok()?;
        container.ends_with(protocol).then_some(host.port())
    });
    found.with_context(|| format!("`vswitch publish` named no port for {protocol}"))
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
