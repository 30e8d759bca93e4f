//! One end of a flow.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::Result;
use socket2::SockRef;

use super::plan::{Order, Plan, Stream};
use crate::random::{self, Random};

/// One end of a flow: sends what the plan says and compares what comes.
///
/// The client's stream is preceded by the seed, from which the server makes the plan.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) stream: TcpStream,
    side: Side,
    seed: [u8; 8],
    /// Bytes of the seed that were sent or received.
    seed_len: usize,
    plan: Option<Plan>,
    random: Random,
    pub(super) sent: u64,
    pub(super) received: u64,
    sending: Activity,
    receiving: Activity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    /// Whenever the socket lets it, but not before then.
    From(Instant),
    Over,
}

/// What a flow waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Socket,
    /// And that time.
    Time(Instant),
    Over,
}

/// Why a flow is not right.
#[derive(Debug)]
pub(super) enum Failure {
    Broken(io::Error),
    /// The byte at this place of the stream, or one behind its end.
    Different(u64),
    /// The stream ended here.
    Short(u64),
}

impl Flow {
    pub(super) fn client(now: Instant, stream: TcpStream, seed: u64) -> Result<Self> {
        let mut flow = Self::new(now, stream, Side::Client);
        flow.begin(now, seed)?;
        // Not all flows at the same moment.
        let later = flow.random.below(SPREAD.as_millis() as u64);
        flow.sending = Activity::From(now + Duration::from_millis(later));
        Ok(flow)
    }

    pub(super) fn server(now: Instant, stream: TcpStream) -> Self {
        Self::new(now, stream, Side::Server)
    }

    fn new(now: Instant, stream: TcpStream, side: Side) -> Self {
        Self {
            stream,
            side,
            seed: [0; 8],
            seed_len: 0,
            plan: None,
            random: Random::new(0),
            sent: 0,
            received: 0,
            sending: Activity::From(now),
            receiving: Activity::From(now),
        }
    }

    fn begin(&mut self, now: Instant, seed: u64) -> io::Result<()> {
        let plan = Plan::new(seed);
        self.seed = seed.to_le_bytes();
        self.random = Random::new(match self.side {
            Side::Client => seed,
            Side::Server => !seed,
        });
        if let Some(len) = plan.receive_buffer {
            SockRef::from(&self.stream).set_recv_buffer_size(len)?;
        }
        self.plan = Some(plan);
        self.sending = Activity::From(now);
        Ok(())
    }

    /// Sends and receives what can be now, within a budget.
    pub(super) fn advance(&mut self, now: Instant, buffers: &mut Buffers) -> Result<Next, Failure> {
        self.exchange_seed(now).map_err(Failure::Broken)?;
        let mut next = Next::Socket;
        if let Some(plan) = self.plan.clone() {
            let (outgoing, incoming, waits) = match self.side {
                Side::Client => (plan.to_server, plan.to_client, Order::ServerFirst),
                Side::Server => (plan.to_client, plan.to_server, Order::ClientFirst),
            };
            let is_seed_exchanged = self.seed_len == self.seed.len();
            let receiving = self.receive(now, incoming, buffers)?;
            let may_send = plan.order != waits || self.receiving == Activity::Over;
            let sending = match may_send && is_seed_exchanged {
                true => self.send(now, outgoing, buffers).map_err(Failure::Broken)?,
                false => match self.sending {
                    Activity::From(at) if !is_seed_exchanged && now < at => Some(at),
                    _ => None,
                },
            };
            if let Some(at) = receiving.into_iter().chain(sending).min() {
                next = Next::Time(at);
            }
        }
        Ok(match (self.sending, self.receiving) {
            (Activity::Over, Activity::Over) => Next::Over,
            _ => next,
        })
    }

    fn exchange_seed(&mut self, now: Instant) -> io::Result<()> {
        while self.seed_len < self.seed.len() {
            let rest = &mut self.seed[self.seed_len..];
            let result = match self.side {
                Side::Client if matches!(self.sending, Activity::From(at) if now < at) => return Ok(()),
                Side::Client => self.stream.write(rest),
                Side::Server => self.stream.read(rest),
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.seed_len += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.side == Side::Server && self.seed_len == self.seed.len() {
                self.begin(now, u64::from_le_bytes(self.seed))?;
            }
        }
        Ok(())
    }

    /// When to go on if not when the socket lets us.
    fn send(&mut self, now: Instant, stream: Stream, buffers: &mut Buffers) -> io::Result<Option<Instant>> {
        for _ in 0..BUDGET {
            match self.sending {
                Activity::Over => return Ok(None),
                Activity::From(at) if now < at => return Ok(Some(at)),
                Activity::From(_) => {}
            }
            let left = stream.len - self.sent;
            if left == 0 {
                self.stream.shutdown(Shutdown::Write)?;
                self.sending = Activity::Over;
                return Ok(None);
            }
            let len = (1 + self.random.below(CHUNK)).min(left) as usize;
            let bytes = &mut buffers.expected[..len];
            random::stream(stream.key, self.sent, bytes);
            match self.stream.write(bytes) {
                Ok(len) => self.sent += len as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
            self.sending = Activity::From(self.pause(now));
        }
        Ok(Some(now))
    }

    fn receive(
        &mut self,
        now: Instant,
        stream: Stream,
        buffers: &mut Buffers,
    ) -> Result<Option<Instant>, Failure> {
        for _ in 0..BUDGET {
            match self.receiving {
                Activity::Over => return Ok(None),
                Activity::From(at) if now < at => return Ok(Some(at)),
                Activity::From(_) => {}
            }
            let most = 1 + self.random.below(CHUNK) as usize;
            let len = match self.stream.read(&mut buffers.received[..most]) {
                Ok(0) if self.received == stream.len => {
                    self.receiving = Activity::Over;
                    return Ok(None);
                }
                Ok(0) => return Err(Failure::Short(self.received)),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(Failure::Broken(error)),
            };
            let (expected, received) = (&mut buffers.expected[..len], &buffers.received[..len]);
            random::stream(stream.key, self.received, expected);
            if let Some(at) = expected.iter().zip(received).position(|(a, b)| a != b) {
                return Err(Failure::Different(self.received + at as u64));
            }
            self.received += len as u64;
            if self.received > stream.len {
                return Err(Failure::Different(stream.len));
            }
            self.receiving = Activity::From(self.pause(now));
        }
        Ok(Some(now))
    }

    /// Mostly none, sometimes short, seldom long.
    fn pause(&mut self, now: Instant) -> Instant {
        let most = match self.random.below(16) {
            0 => LONGEST_PAUSE,
            1..4 => SHORT_PAUSE,
            _ => return now,
        };
        now + Duration::from_millis(self.random.below(most.as_millis() as u64))
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = |address: io::Result<SocketAddr>| match address {
            Ok(address) => address.to_string(),
            Err(_) => "?".to_owned(),
        };
        write!(
            f,
            "{:?} {} to {}, seed {:#x}, ",
            self.side,
            address(self.stream.local_addr()),
            address(self.stream.peer_addr()),
            u64::from_le_bytes(self.seed)
        )?;
        match &self.plan {
            None => write!(f, "no seed yet"),
            Some(plan) => {
                let (outgoing, incoming) = match self.side {
                    Side::Client => (plan.to_server, plan.to_client),
                    Side::Server => (plan.to_client, plan.to_server),
                };
                write!(
                    f,
                    "{:?}, buffer {:?}, sent {} of {}{}, received {} of {}{}",
                    plan.order,
                    plan.receive_buffer,
                    self.sent,
                    outgoing.len,
                    over(self.sending),
                    self.received,
                    incoming.len,
                    over(self.receiving),
                )
            }
        }
    }
}

fn over(activity: Activity) -> &'static str {
    match activity {
        Activity::From(_) => "",
        Activity::Over => " and the end",
    }
}

/// What all flows use in turn.
#[derive(Debug)]
pub(super) struct Buffers {
    expected: Box<[u8]>,
    received: Box<[u8]>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        let buffer = || vec![0; CHUNK as usize].into();
        Self {
            expected: buffer(),
            received: buffer(),
        }
    }
}

/// Most bytes of one read or write.
const CHUNK: u64 = 32 << 10;
/// Reads or writes before it is another flow's turn.
const BUDGET: u32 = 8;
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const SHORT_PAUSE: Duration = Duration::from_millis(20);
/// How long it takes until all flows have begun.
const SPREAD: Duration = Duration::from_secs(15);
