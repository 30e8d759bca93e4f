//! One byte there, one byte back: how long it takes.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{ANY, RoundTrips, STALL, any, connect, connect_within, listen, print};

pub(super) fn rr_server(port: u16) -> Result<()> {
    let (mut stream, _) = listen(port)?.accept()?;
    stream.set_nodelay(true)?;
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

pub(super) fn rr_client(server: SocketAddr, length: Duration) -> Result<RoundTrips> {
    let mut stream = connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STALL))?;
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
        times.push(microseconds(start));
    }
    round_trips(times)
}

/// Closes first, as a server of single requests does: the waiting that TCP asks of that side then takes no
/// port of the client.
pub(super) fn crr_server(port: u16) -> Result<()> {
    let listener = listen(port)?;
    loop {
        answer(listener.accept()?.0)?;
    }
}

/// Prints for each connection on which a byte came who it was from.
pub(super) fn witness(port: u16) -> Result<()> {
    let listener = listen(port)?;
    loop {
        let (stream, client) = listener.accept()?;
        // One that a relay made for a client which has gone again, or to see whether we are there.
        if answer(stream).is_ok_and(|len| len == 1) {
            print(&client)?;
        }
    }
}

/// How many bytes came.
fn answer(mut stream: TcpStream) -> Result<usize> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    let len = stream.read(&mut byte)?;
    stream.write_all(&byte[..len])?;
    Ok(len)
}

pub(super) fn crr_client(server: SocketAddr, length: Duration) -> Result<RoundTrips> {
    let mut times = Vec::new();
    let end = Instant::now() + length;
    while Instant::now() < end {
        let burst = Instant::now();
        for _ in 0..BURST {
            let start = Instant::now();
            if start >= end {
                break;
            }
            let mut stream = connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(STALL))?;
            let mut byte = [7];
            stream.write_all(&byte)?;
            stream.read_exact(&mut byte)?;
            times.push(microseconds(start));
            ensure!(
                stream.read(&mut byte)? == 0,
                "the server sends more than its answer"
            );
        }
        let rest = BURST_EVERY.saturating_sub(burst.elapsed());
        thread::sleep(rest.min(end.saturating_duration_since(Instant::now())));
    }
    round_trips(times)
}

/// Requests in one go. Our relay admits 500 new flows of one container per second (R-LIM-1), which a loop
/// without pause would exceed; it is the same for every peer.
const BURST: usize = 400;

/// From the start of one burst to the next.
const BURST_EVERY: Duration = Duration::from_secs(1);

pub(super) fn udp_echo(port: u16) -> Result<()> {
    let socket = UdpSocket::bind(any(port))?;
    println!("{}", socket.local_addr()?.port());
    let mut buffer = [0; 2048];
    loop {
        let (len, peer) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..len], peer)?;
    }
}

pub(super) fn udp_rr_client(server: SocketAddr, length: Duration) -> Result<RoundTrips> {
    let socket = UdpSocket::bind(ANY)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut times = Vec::with_capacity(1 << 20);
    let mut byte = [7];
    let end = Instant::now() + length;
    loop {
        let start = Instant::now();
        if start >= end {
            break;
        }
        socket.send(&byte).context("send a datagram")?;
        // A lost datagram is no round trip; none at all is told below.
        if socket.recv(&mut byte).is_ok() {
            times.push(microseconds(start));
        }
    }
    round_trips(times)
}

/// Why no byte came back, or none as soon as one does.
pub(super) fn reach(server: SocketAddr) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match call(server) {
            Ok(()) => return None,
            Err(error) if Instant::now() >= deadline => return Some(format!("{error:#}")),
            Err(_) => thread::sleep(RETRY_AFTER),
        }
    }
}

/// Short, since some measure how long it takes until something answers.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// A byte there and back: a relay may take connections that lead nowhere.
fn call(server: SocketAddr) -> Result<()> {
    let patience = Duration::from_secs(1);
    let mut stream = connect_within(server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut byte = [7];
    stream.write_all(&byte).context("ask")?;
    stream.read_exact(&mut byte).context("get an answer")
}

fn microseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

fn round_trips(mut times: Vec<f64>) -> Result<RoundTrips> {
    times.sort_by(f64::total_cmp);
    ensure!(!times.is_empty(), "no round trip was completed");
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    Ok(RoundTrips {
        count: times.len(),
        p50: at(0.5),
        p99: at(0.99),
    })
}
