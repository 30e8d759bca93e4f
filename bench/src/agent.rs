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
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

pub(crate) use lossy::{Carried, Odds};
pub(crate) use short::{Answered, Asked};
pub(crate) use soak::Outcome;

/// One end of a measurement.
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
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
    /// Tries to connect until it succeeds; after some seconds, says why it does not.
    Reach { server: SocketAddr },
    /// Echoes single bytes on one connection.
    RrServer,
    /// Sends a byte, waits for its echo, for `seconds`.
    RrClient { server: SocketAddr, seconds: f64 },
    /// Many connections of a byte each way, one after the other.
    ShortClient(short::Options),
    /// Answers a byte on connections to `ports` ports, and says how they ended once its input ends.
    ShortServer { ports: usize },
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
        match *self {
            Self::CrrServer => request::crr_server(),
            Self::CrrClient { server, seconds } => print(&request::crr_client(server, length(seconds))?),
            Self::IdleClient { server, flows, rate } => idle::client(server, flows, rate),
            Self::IdleServer { flows } => idle::server(flows),
            Self::Lossy(ref options) => print(&lossy::carry(options)?),
            Self::Reach { server } => print(&request::reach(server)),
            Self::RrServer => request::rr_server(),
            Self::RrClient { server, seconds } => print(&request::rr_client(server, length(seconds))?),
            Self::ShortClient(ref options) => print(&short::client(options)?),
            Self::ShortServer { ports } => print(&short::server(ports)?),
            Self::SoakClient(ref options) => soak::client(options),
            Self::SoakServer { flows } => print(&soak::server(flows)?),
            Self::TcpFetch { server, streams } => print(&bulk::fetch(server, streams)?),
            Self::TcpServe { streams, seconds } => print(&bulk::serve(streams, length(seconds))?),
            Self::TcpSink { streams } => print(&bulk::sink(streams)?),
            Self::TcpSource {
                sink,
                streams,
                seconds,
            } => print(&bulk::source(sink, streams, length(seconds))?),
            Self::UdpEcho => request::udp_echo(),
            Self::UdpRrClient { server, seconds } => print(&request::udp_rr_client(server, length(seconds))?),
            Self::UdpSink => print(&datagrams::sink()?),
            Self::UdpSource { sink, size, seconds } => {
                print(&datagrams::source(sink, size, length(seconds))?)
            }
        }
    }
}

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

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

/// Listens on a port of the kernel's choice and prints it.
fn listen() -> Result<TcpListener> {
    let socket = tcp_socket(Domain::IPV4)?;
    socket.bind(&ANY.into())?;
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
