//! Traffic, made and taken by ordinary sockets inside a namespace.
//!
//! What listens prints its port first. A sink prints its result as one line of JSON once the source is
//! done; a source prints its result likewise. Rates are the sink's: what a sender hands to its kernel
//! proves nothing.

mod bulk;
mod datagrams;
mod idle;
mod lossy;
mod request;
mod short;
mod soak;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

pub(crate) use lossy::{Carried, Odds};
pub(crate) use short::{Answered, Asked};
pub(crate) use soak::Outcome;

/// One end of a measurement.
#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// Where the agent listens, if it does; 0 lets the kernel choose.
    #[arg(long, default_value_t = 0)]
    port: u16,
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Answers one byte on each connection, then closes it.
    CrrServer,
    /// Connects, sends a byte and waits for its answer, again and again for `seconds`.
    CrrClient { server: SocketAddr, seconds: f64 },
    /// Opens `flows` connections, at most `rate` a second; asks each once more when its input ends.
    IdleClient {
        server: SocketAddr,
        flows: u32,
        rate: u32,
    },
    /// Echoes what comes on up to `flows` connections.
    IdleServer { flows: u32 },
    /// Carries frames between two devices, but not all of them, nor in order; says how many once its input
    /// ends.
    Lossy(lossy::Options),
    /// Asks for a byte until one comes; after some seconds, says why none does.
    Reach { server: SocketAddr },
    /// Echoes single bytes on one connection.
    RrServer,
    /// Sends a byte, waits for its echo, for `seconds`.
    RrClient { server: SocketAddr, seconds: f64 },
    /// Many connections of a byte each way, some at once.
    ShortClient(short::Options),
    /// Answers a byte on connections to `ports` ports in a row, and says how they ended once its input ends.
    ShortServer { ports: u16 },
    /// Opens many connections; on each sends and expects streams that both ends know, once it gets a line.
    SoakClient(soak::Options),
    /// The other end of a soak client's connections; says how they went once its input ends.
    SoakServer { flows: u32 },
    /// Connects `streams` times and reads each to its end.
    TcpFetch { server: SocketAddr, streams: usize },
    /// Writes to `streams` connections that come, for `seconds`.
    TcpServe { streams: usize, seconds: f64 },
    /// Reads `streams` connections to their end.
    TcpSink { streams: usize },
    /// Writes to `streams` connections for `seconds`.
    TcpSource {
        sink: SocketAddr,
        streams: usize,
        seconds: f64,
    },
    /// Echoes datagrams.
    UdpEcho,
    /// Sends a datagram of one byte, waits for its echo, for `seconds`.
    UdpRrClient { server: SocketAddr, seconds: f64 },
    /// Counts datagrams until the one that says stop.
    UdpSink,
    /// Sends datagrams of `size` payload bytes for `seconds`.
    UdpSource {
        sink: SocketAddr,
        size: usize,
        seconds: f64,
    },
    /// Answers one byte on each connection, then closes it and says whose it was.
    Witness,
}

/// What the receiver of a bulk transfer saw.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) bytes: u64,
    /// Datagrams; zero for TCP.
    pub(crate) datagrams: u64,
    pub(crate) seconds: f64,
}

/// Round-trip times in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct RoundTrips {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// What the sender of a bulk transfer did.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Offered {
    pub(crate) bytes: u64,
    pub(crate) retransmits: u64,
}

impl Agent {
    pub(crate) fn run(&self) -> Result<()> {
        let length = Duration::from_secs_f64;
        let port = self.port;
        match self.role {
            Role::CrrServer => request::crr_server(port),
            Role::CrrClient { server, seconds } => print(&request::crr_client(server, length(seconds))?),
            Role::IdleClient { server, flows, rate } => idle::client(server, flows, rate),
            Role::IdleServer { flows } => idle::server(port, flows),
            Role::Lossy(ref options) => print(&lossy::carry(options)?),
            Role::Reach { server } => print(&request::reach(server)),
            Role::RrServer => request::rr_server(port),
            Role::RrClient { server, seconds } => print(&request::rr_client(server, length(seconds))?),
            Role::ShortClient(ref options) => print(&short::client(options)?),
            Role::ShortServer { ports } => print(&short::server(port, ports)?),
            Role::SoakClient(ref options) => soak::client(options),
            Role::SoakServer { flows } => print(&soak::server(port, flows)?),
            Role::TcpFetch { server, streams } => print(&bulk::fetch(server, streams)?),
            Role::TcpServe { streams, seconds } => print(&bulk::serve(port, streams, length(seconds))?),
            Role::TcpSink { streams } => print(&bulk::sink(port, streams)?),
            Role::TcpSource {
                sink,
                streams,
                seconds,
            } => print(&bulk::source(sink, streams, length(seconds))?),
            Role::UdpEcho => request::udp_echo(port),
            Role::UdpRrClient { server, seconds } => print(&request::udp_rr_client(server, length(seconds))?),
            Role::UdpSink => print(&datagrams::sink(port)?),
            Role::UdpSource { sink, size, seconds } => {
                print(&datagrams::source(sink, size, length(seconds))?)
            }
            Role::Witness => request::witness(port),
        }
    }
}

/// For what is of the kernel's choice.
const ANY: SocketAddr = any(0);

const fn any(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

/// What a fresh Linux uses; whatever this host prefers must not decide the comparison.
pub(crate) const CONGESTION_CONTROL: &str = "cubic";

/// A connection on which nothing moves for so long has failed; a measurement must not hang.
const STALL: Duration = Duration::from_secs(30);

/// A TCP socket with [`CONGESTION_CONTROL`], which connections accepted from it inherit.
///
/// Set before the connection exists: a socket that began with BBR goes on pacing by timer when the
/// algorithm is changed later (`sk_pacing_status` in net/ipv4/tcp_bbr.c is never taken back).
fn tcp_socket(domain: Domain) -> Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket
        .set_tcp_congestion(CONGESTION_CONTROL.as_bytes())
        .context("use cubic")?;
    Ok(socket)
}

/// Listens on a port and prints it.
fn listen(port: u16) -> Result<TcpListener> {
    let socket = tcp_socket(Domain::IPV4)?;
    // What connections to the port's last listener have left must not be in the way.
    socket.set_reuse_address(true)?;
    socket.bind(&any(port).into())?;
    socket.listen(128)?;
    let listener = TcpListener::from(socket);
    println!("{}", listener.local_addr()?.port());
    Ok(listener)
}

fn connect(server: SocketAddr) -> Result<TcpStream> {
    connect_within(server, STALL)
}

/// Also bounds each later write of the connection.
fn connect_within(server: SocketAddr, time: Duration) -> Result<TcpStream> {
    let socket = tcp_socket(Domain::for_address(server))?;
    // Linux applies the time limit of writing to connect as well (socket(7), SO_SNDTIMEO).
    socket.set_write_timeout(Some(time))?;
    socket
        .connect(&server.into())
        .with_context(|| format!("connect to {server}"))?;
    Ok(socket.into())
}

fn print(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}
