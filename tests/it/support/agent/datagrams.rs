//! Both ends of UDP conversations.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use super::{bulk::fill, say};

/// Sends back what comes, for ever.
pub(super) fn echo(at: SocketAddr) -> io::Result<String> {
    let socket = UdpSocket::bind(at)?;
    say(socket.local_addr()?.port());
    let mut known = HashSet::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (len, peer) = socket.recv_from(&mut buffer)?;
        if known.insert(peer) {
            say(format_args!("from {}", peer.ip().to_canonical()));
        }
        socket.send_to(&buffer[..len], peer)?;
    }
}

/// Each datagram must come back; how many have.
pub(super) fn exchange(to: SocketAddr, sizes: &[usize]) -> io::Result<String> {
    let socket = connected(to)?;
    let mut buffer = vec![0; 1 << 16];
    for &size in sizes {
        let mut sent = vec![0; size];
        // Each size has bytes of its own.
        fill(&mut sent, size as u64);
        // A datagram may be lost; a busy machine's buffers are full at times.
        let answer =
            (0..ATTEMPTS).find_map(|_| socket.send(&sent).and_then(|_| socket.recv(&mut buffer)).ok());
        let Some(len) = answer else {
            return Ok(format!("no answer to {size} bytes"));
        };
        if buffer[..len] != sent {
            return Ok(format!("{len} other bytes for {size}"));
        }
    }
    Ok(sizes.len().to_string())
}

/// How a socket hears that nobody listens.
pub(super) fn refused(to: SocketAddr) -> io::Result<String> {
    let socket = connected(to)?;
    let mut buffer = [0; 16];
    for _ in 0..ATTEMPTS {
        // Either hears of it.
        match socket.send(b"anybody?").and_then(|_| socket.recv(&mut buffer)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Ok(format!("{:?}", error.kind())),
            Ok(_) => return Ok("an answer".to_owned()),
        }
    }
    Ok("nothing".to_owned())
}

pub(super) fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if to.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

/// An answer comes in much less.
const TIMEOUT: Duration = Duration::from_secs(4);

const ATTEMPTS: usize = 3;
