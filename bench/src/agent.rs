//! Traffic, made and taken by ordinary sockets inside a namespace.
//!
//! A sink prints the port that it listens on, then its result as one line of JSON once the source is
//! done; a source prints its result likewise. Rates are the sink's: what a sender hands to its kernel
//! proves nothing.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde::{Deserialize, Serialize};

/// One end of a measurement.
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Echoes single bytes on one connection.
    RrServer,
    /// Sends a byte, waits for its echo, for `seconds`.
    RrClient { server: SocketAddr, seconds: f64 },
    /// Reads `streams` connections to their end.
    TcpSink { streams: usize },
    /// Writes to `streams` connections for `seconds`.
    TcpSource {
        sink: SocketAddr,
        streams: usize,
        seconds: f64,
    },
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
        match *self {
            Self::RrServer => rr_server(),
            Self::RrClient { server, seconds } => {
                print(&rr_client(server, Duration::from_secs_f64(seconds))?)
            }
            Self::TcpSink { streams } => tcp_sink(streams),
            Self::TcpSource {
                sink,
                streams,
                seconds,
            } => print(&tcp_source(sink, streams, Duration::from_secs_f64(seconds))?),
            Self::UdpSink => udp_sink(),
            Self::UdpSource { sink, size, seconds } => {
                print(&udp_source(sink, size, Duration::from_secs_f64(seconds))?)
            }
        }
    }
}

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What a fresh Linux uses; whatever this host prefers must not decide the comparison.
const CONGESTION_CONTROL: &[u8] = b"cubic";

/// A TCP socket with [`CONGESTION_CONTROL`], which connections accepted from it inherit.
///
/// Set before the connection exists: a socket that began with BBR goes on pacing by timer when the
/// algorithm is changed later (`sk_pacing_status` in net/ipv4/tcp_bbr.c is never taken back).
fn tcp_socket() -> Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket
        .set_tcp_congestion(CONGESTION_CONTROL)
        .context("use cubic")?;
    Ok(socket)
}

fn listen() -> Result<TcpListener> {
    let socket = tcp_socket()?;
    socket.bind(&ANY.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

fn connect(server: SocketAddr) -> Result<TcpStream> {
    let socket = tcp_socket()?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

fn print(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

fn tcp_sink(streams: usize) -> Result<()> {
    let listener = listen()?;
    println!("{}", listener.local_addr()?.port());
    let mut connections = Vec::new();
    for _ in 0..streams {
        connections.push(listener.accept()?.0);
    }
    let start = Instant::now();
    let readers: Vec<_> = connections
        .into_iter()
        .map(|stream| thread::spawn(move || drain(stream)))
        .collect();
    let mut bytes = 0;
    for reader in readers {
        bytes += reader
            .join()
            .map_err(|_| anyhow::anyhow!("a reader panicked"))??;
    }
    print(&Received {
        bytes,
        datagrams: 0,
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn drain(mut stream: TcpStream) -> Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(len) => bytes += len as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("read a stream"),
        }
    }
}

fn tcp_source(sink: SocketAddr, streams: usize, length: Duration) -> Result<Offered> {
    let connections = (0..streams)
        .map(|_| connect(sink))
        .collect::<Result<Vec<_>, _>>()?;
    let writers: Vec<_> = connections
        .into_iter()
        .map(|stream| thread::spawn(move || fill(stream, length)))
        .collect();
    let mut total = Offered {
        bytes: 0,
        retransmits: 0,
    };
    for writer in writers {
        let offered = writer
            .join()
            .map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        total.bytes += offered.bytes;
        total.retransmits += offered.retransmits;
    }
    Ok(total)
}

fn fill(mut stream: TcpStream, length: Duration) -> Result<Offered> {
    let buffer = vec![0x5a; 128 << 10];
    let mut bytes = 0;
    let end = Instant::now() + length;
    while Instant::now() < end {
        bytes += stream.write(&buffer).context("write a stream")? as u64;
    }
    let retransmits = retransmits(&stream);
    Ok(Offered { bytes, retransmits })
}

/// Segments that this connection sent again, as `ss -i` reads them (`tcpi_total_retrans`).
fn retransmits(stream: &TcpStream) -> u64 {
    // `ss` is part of iproute2, which the topologies need anyway; reading TCP_INFO here would take unsafe code.
    let Ok(local) = stream.local_addr() else { return 0 };
    let filter = format!("sport = :{}", local.port());
    let output = std::process::Command::new("ss").args(["-tinH", &filter]).output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let field = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("retrans:"));
    field
        .and_then(|value| value.split('/').nth(1)?.parse().ok())
        .unwrap_or(0)
}

/// A datagram of this length ends a UDP measurement; measured ones are longer.
const STOP_LEN: usize = 1;

fn udp_sink() -> Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // Best effort: without it the default buffer decides, for both sides alike.
    let _ = socket.set_recv_buffer_size(4 << 20);
    socket.bind(&ANY.into())?;
    let socket = UdpSocket::from(socket);
    println!("{}", socket.local_addr()?.port());
    let mut buffer = [0; 2048];
    let (mut start, mut last) = (None, Instant::now());
    let mut received = Received {
        bytes: 0,
        datagrams: 0,
        seconds: 0.0,
    };
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    loop {
        let (len, peer) = socket.recv_from(&mut buffer).context("no datagram came")?;
        if len == STOP_LEN {
            let _ = socket.send_to(&buffer[..len], peer);
            break;
        }
        last = Instant::now();
        start.get_or_insert(last);
        received.bytes += len as u64;
        received.datagrams += 1;
    }
    let Some(start) = start else {
        bail!("no datagram came before the end")
    };
    received.seconds = last.duration_since(start).as_secs_f64();
    print(&received)
}

fn udp_source(sink: SocketAddr, size: usize, length: Duration) -> Result<Offered> {
    anyhow::ensure!(size > STOP_LEN, "datagrams need more than {STOP_LEN} byte");
    let socket = UdpSocket::bind(ANY)?;
    socket.connect(sink)?;
    let payload = vec![0x5a; size];
    let (mut bytes, end) = (0, Instant::now() + length);
    while Instant::now() < end {
        match socket.send(&payload) {
            Ok(len) => bytes += len as u64,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {}
            Err(error) => return Err(error).context("send a datagram"),
        }
    }
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut answer = [0; STOP_LEN];
    for _ in 0..50 {
        socket.send(&[0; STOP_LEN]).context("send the last datagram")?;
        if socket.recv(&mut answer).is_ok() {
            return Ok(Offered {
                bytes,
                retransmits: 0,
            });
        }
    }
    bail!("the sink does not answer")
}

fn rr_server() -> Result<()> {
    let listener = listen()?;
    println!("{}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

fn rr_client(server: SocketAddr, length: Duration) -> Result<RoundTrips> {
    let mut stream = connect(server)?;
    stream.set_nodelay(true)?;
    let mut times = Vec::with_capacity(1 << 20);
    let mut byte = [7];
    let end = Instant::now() + length;
    loop {
        let start = Instant::now();
        if start >= end {
            break;
        }
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    anyhow::ensure!(!times.is_empty(), "no round trip was completed");
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    Ok(RoundTrips {
        count: times.len(),
        p50: at(0.5),
        p99: at(0.99),
    })
}
