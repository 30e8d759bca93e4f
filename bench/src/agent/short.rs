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
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::event::epoll::{self, EventData, EventFlags};
use serde::{Deserialize, Serialize};

use super::{STALL, connect, idle::raise_descriptors, print, soak::listen_dual};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Addresses that connections lead to in turn.
    #[arg(required = true)]
    servers: Vec<SocketAddr>,
    #[arg(long)]
    connections: u64,
    /// Connections at once.
    #[arg(long)]
    workers: u32,
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
    let (next, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures = Mutex::new(Vec::new());
    let start = Instant::now();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= options.connections {
                return;
            }
            let servers = options.servers.len() as u64;
            let server = options.servers[(index % servers) as usize];
            // Both kinds at all addresses.
            let first = match (index / servers).is_multiple_of(2) {
                true => CLIENT_FIRST,
                false => SERVER_FIRST,
            };
            match ask(server, first) {
                Ok(()) => {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
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
    let answered = answered.into_inner();
    Ok(Asked {
        answered,
        failed: options.connections - answered,
        seconds: start.elapsed().as_secs_f64(),
        failures: failures.into_inner().unwrap_or_default(),
    })
}

/// One connection, of which the side that `first` names closes first.
fn ask(server: SocketAddr, first: u8) -> Result<()> {
    let mut stream = connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STALL))?;
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

const CLIENT_FIRST: u8 = b'c';
const SERVER_FIRST: u8 = b's';

/// Failures that are told in words.
const TOLD: usize = 20;

/// Prints its ports; answers until its input ends.
pub(super) fn server(ports: usize) -> Result<Answered> {
    raise_descriptors(1024)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, stdin(), EventData::new_u64(INPUT), EventFlags::IN)?;
    let listeners = (0..ports).map(|_| listen_dual()).collect::<Result<Vec<_>>>()?;
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
