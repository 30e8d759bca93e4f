//! A link that loses frames, sends some twice and others late: what `tc netem` does, where that is missing.

mod impairment;
mod segments;

use std::{
    io::{self, stdin},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bench::sys;
use clap::Args;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, RecvFlags, SendFlags, SocketType, netdevice::name_to_index},
};
use serde::{Deserialize, Serialize};
use vswitch_wire::VnetHeader;
use zerocopy::FromBytes;

use crate::random::Random;
use impairment::Impairment;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The two devices.
    one: String,
    other: String,
    /// Makes every run the same, as far as the frames are.
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    odds: Odds,
}

/// Probabilities of what may happen to a frame.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Odds {
    /// Lost.
    #[arg(long, default_value_t = 0.01)]
    pub(crate) loss: f64,
    /// Held back until others have overtaken it.
    #[arg(long, default_value_t = 0.01)]
    pub(crate) reorder: f64,
    /// Sent twice.
    #[arg(long, default_value_t = 0.002)]
    pub(crate) duplicate: f64,
}

/// What became of all frames; super-frames count as their segments.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) reordered: u64,
    pub(crate) duplicated: u64,
    /// The device took no more.
    pub(crate) refused: u64,
}

/// Carries frames between both devices until its input ends.
pub(super) fn carry(options: &Options) -> Result<Carried> {
    let lookup = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let [a, b] = [&options.one, &options.other].map(|name| {
        let index = name_to_index(&lookup, name).with_context(|| format!("no device {name}"))?;
        sys::packet_socket(index, WAITING).with_context(|| format!("open a packet socket on {name}"))
    });
    let (a, b) = (a?, b?);
    let mut random = Random::new(options.seed);
    let mut way = |from, to| Way {
        from,
        to,
        impairment: Impairment::new(options.odds, Random::new(random.number())),
        carried: Carried::default(),
    };
    let mut ways = [way(&a, &b), way(&b, &a)];
    let mut buffers = Buffers::new();
    loop {
        let deadline = ways.iter().filter_map(|way| way.impairment.deadline()).min();
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if wait(&ways, timeout)? == Wait::InputEnded {
            let [one, other] = ways.map(|way| way.carried);
            return Ok(Carried {
                sent: one.sent + other.sent,
                lost: one.lost + other.lost,
                reordered: one.reordered + other.reordered,
                duplicated: one.duplicated + other.duplicated,
                refused: one.refused + other.refused,
            });
        }
        for way in &mut ways {
            way.carry(&mut buffers)?;
        }
    }
}

/// One direction.
struct Way<'a> {
    from: &'a OwnedFd,
    to: &'a OwnedFd,
    impairment: Impairment,
    carried: Carried,
}

struct Buffers {
    read: Box<[u8]>,
    segment: Vec<u8>,
}

impl Buffers {
    fn new() -> Self {
        Self {
            read: vec![0; VnetHeader::LEN + LONGEST_FRAME].into(),
            segment: Vec::with_capacity(LONGEST_FRAME),
        }
    }
}

impl Way<'_> {
    /// Carries what there is, within a budget.
    fn carry(&mut self, buffers: &mut Buffers) -> Result<()> {
        let Self {
            from,
            to,
            impairment,
            carried,
        } = self;
        for _ in 0..BUDGET {
            let len = match rustix::net::recv(*from, &mut buffers.read[..], RecvFlags::DONTWAIT) {
                Ok((_, len)) => len,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                // What a device reports that went down and up.
                Err(rustix::io::Errno::NETDOWN) => continue,
                Err(error) => return Err(error).context("read a frame"),
            };
            let read = &buffers.read[..len];
            let Ok((header, frame)) = VnetHeader::read_from_prefix(read) else {
                continue;
            };
            let now = Instant::now();
            let mut pass = |frame: &[u8]| {
                impairment.pass(now, frame, carried, &mut |frame: &[u8], carried: &mut Carried| {
                    send(to, frame, carried);
                });
            };
            match header.validate(frame) {
                Ok(offload) if offload.gso.is_some() => {
                    segments::cut(frame, offload, &mut buffers.segment, &mut pass);
                }
                // With its header, so that the receiver completes the checksum.
                _ => pass(read),
            }
        }
        let now = Instant::now();
        impairment.release(now, carried, &mut |frame: &[u8], carried: &mut Carried| {
            send(to, frame, carried);
        });
        Ok(())
    }
}

fn send(to: &OwnedFd, frame: &[u8], carried: &mut Carried) {
    match rustix::net::send(to, frame, SendFlags::DONTWAIT) {
        Ok(_) => carried.sent += 1,
        Err(_) => carried.refused += 1,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    InputEnded,
    Over,
}

fn wait(ways: &[Way<'_>; 2], timeout: Option<Duration>) -> Result<Wait> {
    let input = stdin();
    let [one, other] = ways;
    let mut fds = [
        PollFd::new(one.from, PollFlags::IN),
        PollFd::new(other.from, PollFlags::IN),
        PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN),
    ];
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(io::Error::from(error)).context("wait for frames"),
    }
    Ok(match fds[2].revents().is_empty() {
        true => Wait::Over,
        false => Wait::InputEnded,
    })
}

/// What one end may have waiting for us: more than the bursts of some hundred flows, less than makes a round trip
/// of seconds, which the timers of ten thousand flows would take for losses.
const WAITING: i32 = 8 << 20;

/// Frames of one direction before it is the other's turn.
const BUDGET: usize = 64;

/// 64 KiB of IP with its Ethernet header, generously.
const LONGEST_FRAME: usize = 66 << 10;
