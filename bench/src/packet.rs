//! What a frame costs on packet sockets, by the way it is received and sent.
//!
//! Everything is done by one thread, whose processor time is taken: first frames are put into the receiver from the
//! other end of a veth, which the kernel does in the sender's name, then they are taken out. So nothing depends on
//! how threads are scheduled, and a busy machine disturbs little.

use std::{
    env,
    hint::black_box,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bench::sys::{
    self,
    packet::{BATCH, Ring},
};
use clap::Args;
use rustix::time::{ClockId, clock_gettime};

use crate::{cpu, stats::median};

/// Options of `packet`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds, each of which measures everything once.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(5..))]
    rounds: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    enter_namespace()?;
    println!("load average at start: {}", cpu::load());
    let [near, far] = ["near", "far"].map(index);
    let (near, far) = (near?, far?);
    let ring = Ring::new(near, 1).context("make a ring")?;
    println!("PACKET_VNET_HDR before a TPACKET_V3 ring: taken");
    match ring.vnet_header_afterwards() {
        Ok(()) => println!("PACKET_VNET_HDR after it: taken"),
        Err(error) => println!("PACKET_VNET_HDR after it: {error}"),
    }
    drop(ring);
    for case in [Case::SMALL, Case::SUPER] {
        receiving(&case, near, far, options.rounds)?;
    }
    for case in [Case::SMALL, Case::SUPER] {
        sending(&case, far, options.rounds)?;
    }
    waiting(near, far, options.rounds)?;
    println!("load average at end: {}", cpu::load());
    Ok(())
}

/// Frames of one kind.
struct Case {
    title: &'static str,
    payload: usize,
    /// Bytes of each segment; 0 for a frame that is no super-frame.
    segment: u16,
    /// How many wait for their receiver.
    frames: usize,
}

impl Case {
    const SMALL: Self = Self {
        title: "UDP, 18 bytes",
        payload: 18,
        segment: 0,
        frames: 4096,
    };
    const SUPER: Self = Self {
        title: "UDP super-frames, 60 000 bytes",
        payload: 60_000,
        segment: 1400,
        frames: 192,
    };

    /// Header and frame, with a checksum that is left open.
    fn frame(&self) -> Vec<u8> {
        let length = 8 + self.payload;
        let [low, high] = self.segment.to_le_bytes();
        let mut frame = match self.segment {
            0 => vec![1, 0, 0, 0, 0, 0, 34, 0, 6, 0],
            _ => vec![1, 5, 42, 0, low, high, 34, 0, 6, 0],
        };
        frame.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 3, 8, 0]);
        frame.extend([0x45, 0]);
        frame.extend(((20 + length) as u16).to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 3, 10, 9, 0, 2]);
        frame.extend([0x30, 0x39, 0x30, 0x3a]);
        frame.extend((length as u16).to_be_bytes());
        frame.extend([0, 0]);
        frame.resize(10 + 34 + length, 7);
        frame
    }
}

/// How frames are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    One,
    Many,
    RingInPlace,
    RingCopied,
}

impl Way {
    const ALL: [Self; 4] = [Self::One, Self::Many, Self::RingInPlace, Self::RingCopied];

    fn name(self) -> &'static str {
        match self {
            Self::One => "recvmsg",
            Self::Many => "recvmmsg, 32 at once",
            Self::RingInPlace => "TPACKET_V3, in place",
            Self::RingCopied => "TPACKET_V3, copied out",
        }
    }
}

/// Nanoseconds per frame.
#[derive(Debug, Clone, Copy)]
struct Cost {
    fill: f64,
    drain: f64,
}

fn receiving(case: &Case, near: u32, far: u32, rounds: u32) -> Result<()> {
    let frame = case.frame();
    let mut costs = Way::ALL.map(|_| Vec::new());
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..Way::ALL.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for way in order {
            costs[way].push(received(Way::ALL[way], case.frames, &frame, near, far)?);
        }
    }
    println!(
        "\nreceiving {}: ns of processor per frame, median of {rounds} rounds",
        case.title
    );
    println!(
        "{:24} {:>9} {:>9} {:>9} {:>22}",
        "", "kernel", "reader", "both", "both ÷ recvmsg's"
    );
    for (way, costs_of_way) in Way::ALL.into_iter().zip(&costs) {
        let of = |what: fn(&Cost) -> f64| median(&costs_of_way.iter().map(what).collect::<Vec<_>>());
        let both = |cost: &Cost| cost.fill + cost.drain;
        let ratios: Vec<f64> = costs_of_way
            .iter()
            .zip(&costs[0])
            .map(|(a, b)| both(a) / both(b))
            .collect();
        println!(
            "{:24} {:9.0} {:9.0} {:9.0} {:22.2}",
            way.name(),
            of(|cost| cost.fill),
            of(|cost| cost.drain),
            median(&costs_of_way.iter().map(both).collect::<Vec<_>>()),
            median(&ratios),
        );
    }
    Ok(())
}

fn received(way: Way, frames: usize, frame: &[u8], near: u32, far: u32) -> Result<Cost> {
    let sender = sys::packet_socket(far, 4096)?;
    let mut buffers = [const { Vec::new() }; BATCH].map(|mut buffer: Vec<u8>| {
        buffer.resize(66_000, 0);
        buffer
    });
    let mut receiver = match way {
        Way::One | Way::Many => {
            let socket = sys::packet_socket(near, 256 << 20)?;
            sys::packet::with_auxdata(&socket)?;
            Receiver::Socket(socket)
        }
        Way::RingInPlace | Way::RingCopied => Receiver::Ring(Ring::new(near, 1)?),
    };
    let mut fill = Duration::ZERO;
    let mut drain = Duration::ZERO;
    let (mut taken, mut whole, length) = (0, true, frame.len());
    for _ in 0..PASSES {
        let begin = processor();
        for _ in 0..frames {
            write(&sender, frame);
        }
        fill += processor() - begin;
        // The kernel may still be at it, and hands a block that is not full over after a millisecond.
        thread::sleep(Duration::from_millis(5));
        let begin = processor();
        taken += match (&mut receiver, way) {
            (Receiver::Socket(socket), Way::One) => drain_one(socket, &mut buffers[0]),
            (Receiver::Socket(socket), _) => drain_many(socket, &mut buffers),
            (Receiver::Ring(ring), Way::RingInPlace) => drain_ring(ring, |frame| {
                whole &= frame.len() == length;
                black_box(
                    frame[..frame.len().min(64)]
                        .iter()
                        .fold(0_u8, |sum, byte| sum ^ byte),
                );
            }),
            (Receiver::Ring(ring), _) => drain_ring(ring, |frame| {
                buffers[0][..frame.len()].copy_from_slice(frame);
                black_box(&buffers[0]);
            }),
        };
        drain += processor() - begin;
    }
    let sent = frames * PASSES;
    ensure!(whole, "{way:?} cut frames");
    ensure!(taken * 100 >= sent * 99, "{way:?} lost frames: {taken} of {sent}");
    let each = |time: Duration| time.as_nanos() as f64 / taken as f64;
    Ok(Cost {
        fill: each(fill),
        drain: each(drain),
    })
}

enum Receiver {
    Ring(Ring),
    Socket(OwnedFd),
}

fn drain_one(socket: &OwnedFd, buffer: &mut [u8]) -> usize {
    let mut taken = 0;
    while sys::packet::receive_one(socket, buffer).is_some() {
        taken += 1;
    }
    taken
}

fn drain_many(socket: &OwnedFd, buffers: &mut [Vec<u8>; BATCH]) -> usize {
    let mut taken = 0;
    loop {
        match sys::packet::receive_many(socket, buffers) {
            0 => return taken,
            count => taken += count,
        }
    }
}

fn drain_ring(ring: &mut Ring, mut take: impl FnMut(&mut [u8])) -> usize {
    let mut taken = 0;
    while let Some(count) = ring.take_block(&mut take) {
        taken += count;
    }
    taken
}

/// Nobody receives what is sent here: the other end's stack drops it.
fn sending(case: &Case, far: u32, rounds: u32) -> Result<()> {
    let mut frame = case.frame();
    let names = ["writev", "sendmmsg, 32 at once", "writev, queue bypassed"];
    let mut costs = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        for (way, costs) in costs.iter_mut().enumerate() {
            let socket = sys::packet_socket(far, 4096)?;
            if way == 2 {
                sys::packet::without_queue(&socket)?;
            }
            let begin = processor();
            let mut sent = 0;
            while sent < case.frames * PASSES {
                match way {
                    1 => sent += sys::packet::send_many(&socket, &mut frame),
                    _ => {
                        write(&socket, &frame);
                        sent += 1;
                    }
                }
            }
            costs.push((processor() - begin).as_nanos() as f64 / sent as f64);
        }
    }
    println!(
        "\nsending {}: ns of processor per frame, median of {rounds} rounds",
        case.title
    );
    for (name, values) in names.into_iter().zip(&costs) {
        let ratios: Vec<f64> = values.iter().zip(&costs[0]).map(|(a, b)| a / b).collect();
        println!(
            "{name:24} {:9.0} {:31} {:9.2}",
            median(values),
            "÷ writev's",
            median(&ratios)
        );
    }
    Ok(())
}

/// How long one frame alone takes to show.
fn waiting(near: u32, far: u32, rounds: u32) -> Result<()> {
    let frame = Case::SMALL.frame();
    let sender = sys::packet_socket(far, 4096)?;
    let socket = sys::packet_socket(near, 1 << 20)?;
    let mut ring = Ring::new(near, 1)?;
    let mut buffer = vec![0; 66_000];
    let (mut by_call, mut by_ring) = (Vec::new(), Vec::new());
    for _ in 0..rounds * 20 {
        let begin = Instant::now();
        write(&sender, &frame);
        while sys::packet::receive_one(&socket, &mut buffer).is_none() {}
        by_call.push(begin.elapsed().as_nanos() as f64 / 1e3);
        while ring.take_block(|_| ()).is_none() {}
        by_ring.push(begin.elapsed().as_nanos() as f64 / 1e3);
    }
    println!(
        "\nfrom sending one frame to having it, µs, median of {}",
        rounds * 20
    );
    println!("{:24} {:9.1}", "recvmsg", median(&by_call));
    println!("{:24} {:9.1}", "TPACKET_V3, 1 ms", median(&by_ring));
    Ok(())
}

fn write(socket: &OwnedFd, frame: &[u8]) {
    // A full socket shows as a lost frame.
    let _ = rustix::io::write(socket, frame);
}

fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn index(name: &str) -> Result<u32> {
    let path = format!("/sys/class/net/{name}/ifindex");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok(text.trim().parse()?)
}

/// Starts over in a network namespace with a veth pair that is up and silent.
fn enter_namespace() -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let script = "mount -t sysfs sysfs /sys \
        && ip link add near type veth peer name far \
        && echo 1 >/proc/sys/net/ipv6/conf/near/disable_ipv6 && echo 1 >/proc/sys/net/ipv6/conf/far/disable_ipv6 \
        && ip link set near up && ip link set far up && exec \"$0\" \"$@\"";
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let error = unshare
        .args(["--net", "--mount", "sh", "-c", script])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("run unshare (util-linux)")
}

/// Set where the namespace has been entered.
const INSIDE: &str = "VSWITCH_BENCH_PACKET";

/// How often a receiver is filled and emptied per round.
const PASSES: usize = 4;
