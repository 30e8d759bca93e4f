//! What the demo runs inside its sandboxes, so that it needs no other program.

mod inbound;
mod outbound;

use std::{
    ffi::OsString,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use vswitch_wire::checksum;

/// Runs the agent that `args` name; called instead of the command line proper.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["datagrams", address, sizes] => outbound::datagrams(address, sizes),
        ["echo", address, mebibytes] => outbound::echo(address, mebibytes),
        ["greet", port] => inbound::greet(port),
        ["no-ping", address] => expect_no_answer(address),
        ["no-service", address] => outbound::expect_no_service(address),
        ["ping", address] => ping(address),
        ["sink"] => sink(),
        ["source", address, seconds] => source(address, seconds),
        ["visit", protocol, address] => inbound::visit(protocol, address),
        ["wait"] => wait(),
        _ => Err(anyhow::anyhow!("unknown demo agent {args:?}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says so and then only waits for the signal that ends it.
fn wait() -> Result<()> {
    println!("ready");
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

/// Three echo requests, of which each must be answered by the very station that was asked.
fn ping(address: &str) -> Result<()> {
    let target: IpAddr = address.parse().context("not an address")?;
    let prober = Prober::new(target)?;
    for sequence in 1..=3 {
        match prober.probe(sequence, Duration::from_secs(2))? {
            Answer::Echo(time) => {
                println!(
                    "answer from {target}: seq={sequence} time={:.3} ms",
                    time.as_secs_f64() * 1e3
                );
            }
            Answer::Nothing => bail!("no answer from {target}"),
            Answer::Unreachable(by) => bail!("{by} says that {target} is unreachable"),
        }
    }
    Ok(())
}

fn expect_no_answer(address: &str) -> Result<()> {
    let target: IpAddr = address.parse().context("not an address")?;
    match Prober::new(target)?.probe(1, Duration::from_secs(1))? {
        Answer::Echo(_) => bail!("{target} answered although it must be out of reach"),
        Answer::Nothing => println!("no answer from {target}, as it must be"),
        Answer::Unreachable(by) => println!("{by} says that {target} is unreachable, as it must be"),
    }
    Ok(())
}

enum Answer {
    Echo(Duration),
    Nothing,
    Unreachable(IpAddr),
}

/// A raw ICMP socket, which the root of a namespace may have. The standard library's UDP type serves any
/// datagram socket.
struct Prober {
    socket: UdpSocket,
    target: IpAddr,
    id: u16,
}

impl Prober {
    fn new(target: IpAddr) -> Result<Self> {
        let (domain, protocol) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).context("open a raw ICMP socket")?;
        let id = (std::process::id() & 0xffff) as u16;
        Ok(Self {
            socket: UdpSocket::from(OwnedFd::from(socket)),
            target,
            id,
        })
    }

    fn probe(&self, sequence: u16, limit: Duration) -> Result<Answer> {
        let start = Instant::now();
        self.socket
            .send_to(&self.request(sequence), SocketAddr::new(self.target, 0))
            .context("send an echo request")?;
        let mut buffer = [0; 2048];
        while let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left))?;
            let Ok((len, from)) = self.socket.recv_from(&mut buffer) else {
                continue;
            };
            match self.classify(&buffer[..len], sequence) {
                Some(Meaning::Answer) if from.ip() == self.target => {
                    return Ok(Answer::Echo(start.elapsed()));
                }
                Some(Meaning::Unreachable) => return Ok(Answer::Unreachable(from.ip())),
                _ => {}
            }
        }
        Ok(Answer::Nothing)
    }

    /// An echo request; the kernel fills in an ICMPv6 checksum by itself (RFC 3542 §3.1).
    fn request(&self, sequence: u16) -> Vec<u8> {
        let kind = match self.target {
            IpAddr::V4(_) => 8,
            IpAddr::V6(_) => 128,
        };
        let mut message = vec![kind, 0, 0, 0];
        message.extend(self.id.to_be_bytes());
        message.extend(sequence.to_be_bytes());
        message.extend([0x76; 48]);
        let sum = checksum::finish(checksum::sum(&message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    /// What a received message says about our request, if anything. IPv4 raw sockets receive the IP
    /// header too (raw(7)), IPv6 ones do not.
    fn classify(&self, bytes: &[u8], sequence: u16) -> Option<Meaning> {
        let (message, reply, errors, quoted_header) = match self.target {
            IpAddr::V4(_) => (bytes.get(usize::from(bytes.first()? & 0x0f) * 4..)?, 0, 3..=3, 20),
            IpAddr::V6(_) => (bytes, 129, 1..=1, 40),
        };
        let kind = *message.first()?;
        let ours = |echo: &[u8]| {
            echo.get(4..8) == Some(&[self.id.to_be_bytes(), sequence.to_be_bytes()].concat()[..])
        };
        if kind == reply && ours(message) {
            Some(Meaning::Answer)
        } else if errors.contains(&kind) && ours(message.get(8 + quoted_header..)?) {
            Some(Meaning::Unreachable)
        } else {
            None
        }
    }
}

enum Meaning {
    Answer,
    Unreachable,
}

/// Prints the port, reads one connection to its end, prints the number of bytes.
fn sink() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    let (mut stream, _) = listener.accept()?;
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            len => bytes += len as u64,
        }
    }
    println!("{bytes}");
    Ok(())
}

fn source(address: &str, seconds: &str) -> Result<()> {
    let length = Duration::try_from_secs_f64(seconds.parse()?)?;
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    let buffer = vec![0x76; 128 << 10];
    let end = Instant::now() + length;
    let mut bytes = 0;
    while Instant::now() < end {
        bytes += stream.write(&buffer)?;
    }
    ensure!(bytes > 0, "nothing could be sent");
    Ok(())
}
