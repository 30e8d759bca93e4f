//! Many connections at once whose streams both ends know, so that each byte that comes is compared.

mod crowd;
mod flow;
mod plan;

use std::{
    io::{Read, stdin},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use socket2::Domain;

use super::{connect_within, idle::raise_descriptors, print, tcp_socket};
use crate::random::Random;
use crowd::{Crowd, Turn};
use flow::Flow;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Addresses that flows lead to in turn.
    #[arg(required = true)]
    servers: Vec<SocketAddr>,
    #[arg(long)]
    flows: u32,
    #[arg(long)]
    seed: u64,
    /// When flows that are not over have failed.
    #[arg(long)]
    seconds: f64,
}

/// How flows went, as one end saw them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Flows of which every byte and both ends were right.
    pub(crate) right: u32,
    /// A byte was not the one that was sent.
    pub(crate) different: u32,
    /// The stream ended too early.
    pub(crate) short: u32,
    /// Reset, or another error.
    pub(crate) broken: u32,
    /// Not over in time.
    pub(crate) late: u32,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) seconds: f64,
    /// The first failures in words.
    pub(crate) failures: Vec<String>,
}

/// Prints the number of connections once all are open; after a line of input, and when all flows are over, how
/// they went. Ends with its input, so that failed flows can be looked at.
pub(super) fn client(options: &Options) -> Result<()> {
    raise_descriptors(options.flows)?;
    let mut crowd = Crowd::new(None)?;
    let streams = connect_all(options)?;
    print(&options.flows)?;
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    ensure!(!line.is_empty(), "nobody wants the flows to begin");

    let now = Instant::now();
    for (stream, seed) in streams {
        crowd.add(now, Flow::client(now, stream, seed)?)?;
    }
    let end = now + Duration::from_secs_f64(options.seconds);
    while !crowd.is_empty() && Instant::now() < end {
        crowd.turn(Some(end))?;
    }
    print(&crowd.outcome())?;
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Connects some at a time, since a lost SYN takes a second.
fn connect_all(options: &Options) -> Result<Vec<(TcpStream, u64)>> {
    let next = AtomicU32::new(0);
    let connect_some = || {
        let mut streams = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= options.flows {
                return anyhow::Ok(streams);
            }
            let server = options.servers[index as usize % options.servers.len()];
            let stream = connect_within(server, CONNECT)
                .with_context(|| format!("open flow {} of {}", index + 1, options.flows))?;
            stream.set_nonblocking(true)?;
            let seed = Random::new(options.seed.wrapping_add(index.into())).number();
            streams.push((stream, seed));
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(connect_some)).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(
                worker
                    .join()
                    .map_err(|_| anyhow::anyhow!("a worker has panicked"))??,
            );
        }
        Ok(all)
    })
}

/// Fewer than the relay lets one container have pending.
const AT_ONCE: u32 = 64;
/// `tcp_syn_retries` of 6 waits longer, but by then something is wrong.
const CONNECT: Duration = Duration::from_secs(60);

/// How long a server may read on after the flows.
const REST: Duration = Duration::from_secs(20);

/// Prints its port; takes flows until its input ends.
pub(super) fn server(port: u16, flows: u32) -> Result<Outcome> {
    raise_descriptors(flows)?;
    let listener = listen_dual(port)?;
    println!("{}", listener.local_addr()?.port());
    listener.set_nonblocking(true)?;
    let mut crowd = Crowd::new(Some(listener))?;
    while crowd.turn(None)? == Turn::Over {}
    // The daemon has no more of the flows then, but sockets may: what a server with small windows has still to read.
    let end = Instant::now() + REST;
    while !crowd.is_empty() && Instant::now() < end {
        crowd.turn(Some(end))?;
    }
    Ok(crowd.outcome())
}

/// Listens for both protocols on a port; 0 lets the kernel choose.
pub(super) fn listen_dual(port: u16) -> Result<TcpListener> {
    let socket = tcp_socket(Domain::IPV6)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    // `net.core.somaxconn` cuts it to 4096.
    socket.listen(4096)?;
    Ok(socket.into())
}
