//! A service of the host that listens on its loopback only, for the demo's way out to lead to.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail};

/// Sends back what it hears by TCP and by UDP, on one port of 127.0.0.1, and counts who came. Its threads
/// end with the process.
#[derive(Debug)]
pub(super) struct HostService {
    port: u16,
    seen: Arc<Seen>,
}

impl HostService {
    /// Listens on a port that the kernel chooses.
    pub(super) fn open() -> Result<Self> {
        let (listener, socket) = bind().context("listen on the host's loopback")?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(Seen::default());
        let count = Arc::clone(&seen);
        spawn("tcp service", move || accept(&listener, &count.connections))?;
        let count = Arc::clone(&seen);
        spawn("udp service", move || answer(&socket, &count.datagrams))?;
        Ok(Self { port, seen })
    }

    /// The port of both protocols.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host has its loopback up; a namespace that is new has not.
    pub(super) fn is_reachable(&self) -> Result<bool> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("open a UDP socket")?;
        // Looks for a route and sends nothing (udp(7)).
        Ok(socket.connect((Ipv4Addr::LOCALHOST, self.port)).is_ok())
    }

    /// How many connections it has accepted.
    pub(super) fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// How many datagrams it has received.
    pub(super) fn datagrams(&self) -> u64 {
        self.seen.datagrams.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Seen {
    connections: AtomicU64,
    datagrams: AtomicU64,
}

/// A port that is free for both protocols; the one that the kernel gives for TCP may be taken for UDP.
fn bind() -> Result<(TcpListener, UdpSocket)> {
    for _ in 0..ATTEMPTS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        match UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(socket) => return Ok((listener, socket)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("no port was free for both TCP and UDP in {ATTEMPTS} attempts")
}

fn accept(listener: &TcpListener, connections: &AtomicU64) {
    for stream in listener.incoming().flatten() {
        connections.fetch_add(1, Ordering::Relaxed);
        // Whoever is not served notices, and the demo with it.
        let _ = spawn("tcp session", || {
            let _ = echo(stream);
        });
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            len => stream.write_all(&buffer[..len])?,
        }
    }
}

fn answer(socket: &UdpSocket, datagrams: &AtomicU64) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        // An error is one of an answer sent before, and the client's to notice.
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            datagrams.fetch_add(1, Ordering::Relaxed);
            let _ = socket.send_to(&buffer[..len], from);
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .with_context(|| format!("start the thread of the {name}"))?;
    Ok(())
}

/// Ports of the kernel's choice to try: that so many are taken for UDP alone does not happen.
const ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use super::*;

    #[test]
    fn both_protocols_are_answered_on_one_port_and_counted() {
        let service = HostService::open().expect("loopback has ports");
        let address = (Ipv4Addr::LOCALHOST, service.port());
        assert!(service.is_reachable().expect("a socket"));
        assert_eq!((service.connections(), service.datagrams()), (0, 0));

        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(b"stream").expect("it reads");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!(io::read_to_string(stream).expect("it answers"), "stream");

        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.send_to(b"datagram", address).expect("it reads");
        let mut buffer = [0; 16];
        let len = socket.recv(&mut buffer).expect("it answers");
        assert_eq!(&buffer[..len], b"datagram");
        assert_eq!((service.connections(), service.datagrams()), (1, 1));
    }
}
