//! A server for published ports, and its visitors.

use std::{
    io::{self, Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// Tells whoever comes by TCP or UDP which address it sees, until the input ends; then prints how many came.
pub(super) fn greet(port: &str) -> Result<()> {
    let port: u16 = port.parse().context("not a port")?;
    // Of both versions.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).context("listen")?;
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).context("open a UDP socket")?;
    println!("ready");
    io::stdout().flush()?;
    // Both end with the process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let told = stream
                .peer_addr()
                .and_then(|from| (&stream).write_all(greeting(from).as_bytes()));
            VISITORS.fetch_add(u64::from(told.is_ok()), Ordering::Relaxed);
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let told = socket.send_to(greeting(from).as_bytes(), from);
                VISITORS.fetch_add(u64::from(told.is_ok()), Ordering::Relaxed);
            }
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink())?;
    println!("{} visitors", VISITORS.load(Ordering::Relaxed));
    Ok(())
}

/// Has itself greeted.
pub(super) fn visit(protocol: &str, address: &str) -> Result<()> {
    let address: SocketAddr = address.parse().context("not an address and port")?;
    let mut told = String::new();
    match protocol {
        "tcp" => {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
                .with_context(|| format!("connect to {address}"))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.read_to_string(&mut told).context("no greeting")?;
        }
        "udp" => {
            let socket = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send(b"who am I?")?;
            let mut buffer = [0; 256];
            let len = socket.recv(&mut buffer).context("no answer")?;
            told = String::from_utf8_lossy(&buffer[..len]).into_owned();
        }
        other => bail!("no protocol {other}"),
    }
    if !told.starts_with("you are ") {
        bail!("{address} is somebody else: {told:?}");
    }
    println!("by {protocol} to {address}: {told:?}");
    Ok(())
}

fn greeting(from: SocketAddr) -> String {
    format!("you are {}", from.ip().to_canonical())
}

static VISITORS: AtomicU64 = AtomicU64::new(0);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
