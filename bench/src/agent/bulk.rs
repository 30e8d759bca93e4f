//! TCP streams as fast as they go, from client to server and back.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

use super::{Offered, Received, STALL, connect, listen};

pub(super) fn sink(port: u16, streams: usize) -> Result<Received> {
    drain_all(accept(&listen(port)?, streams)?)
}

pub(super) fn fetch(server: SocketAddr, streams: usize) -> Result<Received> {
    let mut connections = connect_all(server, streams)?;
    for stream in &mut connections {
        // pasta of March 2023 completes a connection to the container only when the client says something.
        stream.write_all(&REQUEST).context("ask for a stream")?;
    }
    drain_all(connections)
}

/// What a client sends before it reads.
const REQUEST: [u8; 1] = [7];

pub(super) fn source(sink: SocketAddr, streams: usize, length: Duration) -> Result<Offered> {
    fill_all(connect_all(sink, streams)?, length)
}

pub(super) fn serve(port: u16, streams: usize, length: Duration) -> Result<Offered> {
    let mut connections = accept(&listen(port)?, streams)?;
    for stream in &mut connections {
        stream.set_read_timeout(Some(STALL))?;
        stream
            .read_exact(&mut REQUEST.clone())
            .context("read a request")?;
    }
    fill_all(connections, length)
}

fn accept(listener: &TcpListener, streams: usize) -> Result<Vec<TcpStream>> {
    // A client that does not come must not make us wait for ever; Linux applies the limit of reading to accept.
    socket2::SockRef::from(listener).set_read_timeout(Some(STALL))?;
    let next = || Ok(listener.accept().context("wait for a connection")?.0);
    (0..streams).map(|_| next()).collect()
}

fn connect_all(server: SocketAddr, streams: usize) -> Result<Vec<TcpStream>> {
    (0..streams).map(|_| connect(server)).collect()
}

fn drain_all(streams: Vec<TcpStream>) -> Result<Received> {
    let start = Instant::now();
    let bytes = on_threads(streams, drain)?.into_iter().sum();
    Ok(Received {
        bytes,
        datagrams: 0,
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn fill_all(streams: Vec<TcpStream>, length: Duration) -> Result<Offered> {
    let offered = on_threads(streams, move |stream| fill(stream, length))?;
    Ok(Offered {
        bytes: offered.iter().map(|one| one.bytes).sum(),
        retransmits: offered.iter().map(|one| one.retransmits).sum(),
    })
}

fn on_threads<T: Send + 'static>(
    streams: Vec<TcpStream>,
    work: impl Fn(TcpStream) -> Result<T> + Copy + Send + 'static,
) -> Result<Vec<T>> {
    let threads: Vec<_> = streams
        .into_iter()
        .map(|stream| thread::spawn(move || work(stream)))
        .collect();
    threads
        .into_iter()
        .map(|thread| thread.join().map_err(|_| anyhow!("a stream's thread panicked"))?)
        .collect()
}

fn drain(mut stream: TcpStream) -> Result<u64> {
    stream.set_read_timeout(Some(STALL))?;
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

fn fill(mut stream: TcpStream, length: Duration) -> Result<Offered> {
    stream.set_write_timeout(Some(STALL))?;
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
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
        return 0;
    };
    let filter = format!("sport = :{} and dport = :{}", local.port(), peer.port());
    let output = Command::new("ss").args(["-tinH", &filter]).output();
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
