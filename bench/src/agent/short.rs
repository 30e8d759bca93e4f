//! Connections that live for a byte each way.

use std::{
    collections::HashMap,
    io::{self, Read, Write, stdin},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use rustix::event::epoll::{self, EventData, EventFlags};
use serde::{Deserialize, Serialize};

use super::{STALL, connect_within, idle::raise_descriptors, print, soak::listen_dual};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Addresses that connections lead to in turn.
    #[arg(required = true)]
    servers: Vec<SocketAddr>,
    /// Connections in all.
    #[arg(long, required_unless_present = "seconds")]
    connections: Option<u64>,
    /// For so long, if that is over first; then no connection may take long.
    #[arg(long)]
    seconds: Option<f64>,
    /// Who closes first.
    #[arg(long, value_enum, default_value_t)]
    first: First,
    /// Connections at once.
    #[arg(long)]
    workers: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum First {
    /// Client and server in turn.
    #[default]
    Both,
    /// The waiting that TCP asks of that side then takes no port of the client, nor of a relay between.
    Server,
}

/// What the client saw.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) seconds: f64,
    /// The first failures in words.
    pub(crate) failures: Vec<String>,
}

/// What the server saw.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Answered {
    /// Connections on which a byte came and went and whose end came as it should.
    pub(crate) ended: u64,
    pub(crate) broken: u64,
    /// Connections that are still open.
    pub(crate) left: u64,
}

pub(super) fn client(options: &Options) -> Result<Asked> {
    let (next, answered, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let most = options.connections.unwrap_or(u64::MAX);
    let failures = Mutex::new(Vec::new());
    let start = Instant::now();
    let end = options
        .seconds
        .map(|seconds| start + Duration::from_secs_f64(seconds));
    let patience = end.map_or(STALL, |_| PATIENCE);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= most || end.is_some_and(|end| Instant::now() >= end) {
                return;
            }
            let servers = options.servers.len() as u64;
            let server = options.servers[(index % servers) as usize];
            // Both kinds at all addresses.
            let first = match options.first {
                First::Both if (index / servers).is_multiple_of(2) => CLIENT_FIRST,
                _ => SERVER_FIRST,
            };
            match ask(server, first, patience) {
                // What is answered too late is not counted among what was answered in that time.
                Ok(()) if end.is_some_and(|end| Instant::now() > end) => {}
                Ok(()) => {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    if let Ok(mut failures) = failures.lock()
                        && failures.len() < TOLD
                    {
                        let after = start.elapsed().as_secs_f64();
                        failures.push(format!(
                            "connection {index} to {server} after {after:.3} s: {error:#}"
                        ));
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..options.workers {
            scope.spawn(work);
        }
    });
    let elapsed = start.elapsed().as_secs_f64();
    Ok(Asked {
        answered: answered.into_inner(),
        failed: failed.into_inner(),
        seconds: options.seconds.map_or(elapsed, |seconds| seconds.min(elapsed)),
        failures: failures.into_inner().unwrap_or_default(),
    })
}

/// One connection, of which the side that `first` names closes first.
fn ask(server: SocketAddr, first: u8, patience: Duration) -> Result<()> {
    let mut stream = connect_within(server, patience)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(&[first]).context("ask")?;
    let mut byte = [0];
    stream.read_exact(&mut byte).context("get an answer")?;
    ensure!(byte == [first], "the answer is another byte");
    if first == SERVER_FIRST {
        let len = stream.read(&mut byte).context("wait for the end")?;
        ensure!(len == 0, "more than the answer came");
    }
    Ok(())
}

/// How long one connection may take where their number in some time is counted: a SYN is sent again after 1 s and
/// after 3 s (RFC 6298, 5.5).
const PATIENCE: Duration = Duration::from_secs(4);

const CLIENT_FIRST: u8 = b'c';
const SERVER_FIRST: u8 = b's';

/// Failures that are told in words.
const TOLD: usize = 20;

/// Prints its ports; answers until its input ends. They begin with `first`, unless that is 0.
pub(super) fn server(first: u16, ports: u16) -> Result<Answered> {
    raise_descriptors(u32::from(ports) + 1024)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, stdin(), EventData::new_u64(INPUT), EventFlags::IN)?;
    let wishes = (0..ports).map(|index| {
        if first == 0 {
            Some(0)
        } else {
            first.checked_add(index)
        }
    });
    let listeners = wishes
        .map(|port| listen_dual(port.context("there are fewer ports")?))
        .collect::<Result<Vec<_>>>()?;
    let mut numbers = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        numbers.push(listener.local_addr()?.port());
        let data = EventData::new_u64(LISTENERS + index as u64);
        epoll::add(&poll, listener, data, EventFlags::IN)?;
    }
    print(&numbers)?;

    let mut served = Served::default();
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for connections"),
        }
        for event in &events {
            match event.data.u64() {
                INPUT => {
                    served.answered.left = served.streams.len() as u64;
                    return Ok(served.answered);
                }
                key @ LISTENERS.. => served.accept(&listeners[(key - LISTENERS) as usize], &poll)?,
                key => served.serve(key),
            }
        }
    }
}

/// No connection's descriptor.
const INPUT: u64 = u64::MAX;
const LISTENERS: u64 = 1 << 32;

#[derive(Debug, Default)]
struct Served {
    /// By descriptor.
    streams: HashMap<u64, (TcpStream, Phase)>,
    answered: Answered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Asked,
    Ending,
}

impl Served {
    fn accept(&mut self, listener: &TcpListener, poll: &impl std::os::fd::AsFd) -> Result<()> {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let key = stream.as_raw_fd() as u64;
            epoll::add(poll, &stream, EventData::new_u64(key), EventFlags::IN)?;
            self.streams.insert(key, (stream, Phase::Asked));
        }
        Ok(())
    }

    fn serve(&mut self, key: u64) {
        let Some((stream, phase)) = self.streams.get_mut(&key) else {
            return;
        };
        let mut byte = [0];
        let result = stream.read(&mut byte).and_then(|len| match (*phase, len) {
            (Phase::Asked, 1) => {
                *phase = Phase::Ending;
                stream.write_all(&byte)?;
                Ok(byte[0] == SERVER_FIRST)
            }
            (Phase::Ending, 0) => Ok(true),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        });
        match result {
            Ok(true) => self.answered.ended += 1,
            Ok(false) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => self.answered.broken += 1,
        }
        self.streams.remove(&key);
    }
}
