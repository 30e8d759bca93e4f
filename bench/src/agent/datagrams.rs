//! Datagrams one way, as fast as they go.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{ANY, Offered, Received, any};

pub(super) fn sink(port: u16) -> Result<Received> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // Best effort: without it the default buffer decides, for both sides alike.
    let _ = socket.set_recv_buffer_size(4 << 20);
    socket.bind(&any(port).into())?;
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
    Ok(received)
}

pub(super) fn source(sink: SocketAddr, size: usize, length: Duration) -> Result<Offered> {
    ensure!(size > STOP_LEN, "datagrams need more than {STOP_LEN} byte");
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
        let answered = socket.send(&[0; STOP_LEN]).and_then(|_| socket.recv(&mut answer));
        match answered {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // The sink has ended, and its answer is lost or late.
            Err(error) if error.kind() != ErrorKind::ConnectionRefused => {
                return Err(error).context("send the last datagram");
            }
            Ok(_) | Err(_) => {
                return Ok(Offered {
                    bytes,
                    retransmits: 0,
                });
            }
        }
    }
    bail!("the sink does not answer")
}

/// A datagram of this length ends a UDP measurement; measured ones are longer.
const STOP_LEN: usize = 1;
