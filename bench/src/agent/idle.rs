//! Many connections that say nothing.

use std::{
    collections::HashMap,
    io::{Read, Write, stdin},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::{
    event::epoll,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::{STALL, connect, listen, print};

/// Prints the number of connections once all are open, the number of those that still answer at the end.
pub(super) fn client(server: SocketAddr, flows: u32, rate: u32) -> Result<()> {
    raise_descriptors(flows)?;
    let start = Instant::now();
    let mut streams = Vec::new();
    for index in 0..flows {
        let due = Duration::from_secs(1) * index / rate;
        thread::sleep(due.saturating_sub(start.elapsed()));
        let mut stream = connect(server).with_context(|| format!("open flow {} of {flows}", index + 1))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STALL))?;
        ask(&mut stream).with_context(|| format!("ask on flow {} of {flows}", index + 1))?;
        streams.push(stream);
        if (index + 1) % PROGRESS_EVERY == 0 {
            eprintln!("{} of {flows} flows are open", index + 1);
        }
    }
    print(&flows)?;
    stdin().read_to_end(&mut Vec::new())?;
    let answering = streams.iter_mut().filter_map(|stream| ask(stream).ok()).count();
    print(&answering)
}

/// A byte there and back: the flow leads all the way.
fn ask(stream: &mut TcpStream) -> Result<()> {
    let mut byte = [7];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)?;
    Ok(())
}

const PROGRESS_EVERY: u32 = 2048;

pub(super) fn server(port: u16, flows: u32) -> Result<()> {
    raise_descriptors(flows)?;
    let listener = listen(port)?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &poll,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        epoll::EventFlags::IN,
    )?;
    let mut streams = HashMap::new();
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for connections"),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => accept(&listener, &poll, &mut streams)?,
                stream => answer(stream, &mut streams),
            }
        }
    }
}

/// No connection's descriptor.
const LISTENER: u64 = u64::MAX;

fn accept(
    listener: &TcpListener,
    poll: &impl std::os::fd::AsFd,
    streams: &mut HashMap<u64, TcpStream>,
) -> Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let key = stream.as_raw_fd() as u64;
        epoll::add(
            poll,
            &stream,
            epoll::EventData::new_u64(key),
            epoll::EventFlags::IN,
        )?;
        streams.insert(key, stream);
    }
    Ok(())
}

/// Echoes, or forgets a connection that has ended.
fn answer(key: u64, streams: &mut HashMap<u64, TcpStream>) {
    let Some(stream) = streams.get_mut(&key) else {
        return;
    };
    let mut byte = [0];
    let echoed = match stream.read(&mut byte) {
        Ok(1) => stream.write_all(&byte),
        Ok(_) => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Err(error) => Err(error),
    };
    if echoed.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock) {
        streams.remove(&key);
    }
}

/// Lets this process hold as many connections, and the few descriptors besides.
pub(super) fn raise_descriptors(flows: u32) -> Result<()> {
    let needed = u64::from(flows) + 64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(needed));
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(needed),
            maximum,
        },
    )
    .with_context(|| {
        format!("open {needed} descriptors: raise the hard limit (ulimit -Hn) or ask for fewer --flows")
    })
}
