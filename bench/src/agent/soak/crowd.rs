//! All flows of one end.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io::{self, stdin},
    net::TcpListener,
    os::fd::{AsRawFd, OwnedFd},
    time::Instant,
};

use anyhow::{Context, Result};
use rustix::event::{
    Timespec,
    epoll::{self, EventData, EventFlags},
};

use super::{
    Outcome,
    flow::{Buffers, Failure, Flow, Next},
};

/// Flows and what they wait for.
#[derive(Debug)]
pub(super) struct Crowd {
    poll: OwnedFd,
    listener: Option<TcpListener>,
    flows: HashMap<u64, Flow>,
    /// Flows that are over. Failed ones stay open to be looked at, the others so that the kernel repeats a lost
    /// FIN for as long as it does for an application: once closed, that ends after `tcp_orphan_retries`, and the
    /// other end sees a reset.
    over: Vec<Flow>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    buffers: Buffers,
    outcome: Outcome,
    began: Instant,
}

/// How a turn went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    InputEnded,
    Over,
}

impl Crowd {
    /// With a listener, takes its connections and looks at its own input.
    pub(super) fn new(listener: Option<TcpListener>) -> Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        if let Some(listener) = &listener {
            epoll::add(&poll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
            epoll::add(&poll, stdin(), EventData::new_u64(INPUT), EventFlags::IN)?;
        }
        Ok(Self {
            poll,
            listener,
            flows: HashMap::new(),
            over: Vec::new(),
            due: BinaryHeap::new(),
            buffers: Buffers::new(),
            outcome: Outcome::default(),
            began: Instant::now(),
        })
    }

    /// Begins a flow on a non-blocking connection.
    pub(super) fn add(&mut self, now: Instant, flow: Flow) -> Result<()> {
        let key = flow.stream.as_raw_fd() as u64;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.poll, &flow.stream, EventData::new_u64(key), flags)?;
        self.flows.insert(key, flow);
        self.due.push(Reverse((now, key)));
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Waits for sockets and times, but not beyond `end`, and does what can be done then.
    pub(super) fn turn(&mut self, end: Option<Instant>) -> Result<Turn> {
        let due = self.due.peek().map(|&Reverse((at, _))| at);
        let timeout = due.into_iter().chain(end).min().map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let mut events = Vec::with_capacity(256);
        match epoll::wait(
            &self.poll,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for connections"),
        }
        let now = Instant::now();
        let mut turn = Turn::Over;
        for event in &events {
            match event.data.u64() {
                INPUT => {
                    // Once is enough.
                    epoll::delete(&self.poll, stdin())?;
                    turn = Turn::InputEnded;
                }
                LISTENER => self.accept(now)?,
                key => self.advance(now, key),
            }
        }
        while let Some(&Reverse((at, key))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            self.advance(now, key);
        }
        Ok(turn)
    }

    fn accept(&mut self, now: Instant) -> Result<()> {
        loop {
            match self.listener.as_ref().map(TcpListener::accept) {
                Some(Ok((stream, _))) => {
                    stream.set_nonblocking(true)?;
                    self.add(now, Flow::server(now, stream))?;
                }
                Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(error).context("accept a connection");
                }
                _ => return Ok(()),
            }
        }
    }

    fn advance(&mut self, now: Instant, key: u64) {
        let Some(flow) = self.flows.get_mut(&key) else {
            return;
        };
        match flow.advance(now, &mut self.buffers) {
            Ok(Next::Socket) => {}
            // Budgets leave the others their turn: what is due now is due in the next one.
            Ok(Next::Time(at)) => self.due.push(Reverse((at.max(now), key))),
            Ok(Next::Over) => {
                self.outcome.right += 1;
                let flow = self.remove(key);
                self.over.extend(flow);
            }
            Err(failure) => self.fail(key, &failure),
        }
    }

    fn fail(&mut self, key: u64, failure: &Failure) {
        let (count, words) = match failure {
            Failure::Broken(error) => (&mut self.outcome.broken, error.to_string()),
            Failure::Different(at) => (&mut self.outcome.different, format!("byte {at} is another")),
            Failure::Short(at) => (&mut self.outcome.short, format!("ended at byte {at}")),
        };
        *count += 1;
        if let Some(flow) = self.remove(key)
            && self.outcome.failures.len() < TOLD
        {
            let after = self.began.elapsed().as_secs_f64();
            self.outcome
                .failures
                .push(format!("{words} after {after:.3} s: {flow}"));
            self.over.push(flow);
        }
    }

    fn remove(&mut self, key: u64) -> Option<Flow> {
        let flow = self.flows.remove(&key)?;
        self.outcome.sent_bytes += flow.sent;
        self.outcome.received_bytes += flow.received;
        Some(flow)
    }

    /// How all flows went; those that are not over are late.
    pub(super) fn outcome(&self) -> Outcome {
        let mut outcome = self.outcome.clone();
        outcome.late = self.flows.len() as u32;
        outcome.seconds = self.began.elapsed().as_secs_f64();
        for flow in self.flows.values() {
            outcome.sent_bytes += flow.sent;
            outcome.received_bytes += flow.received;
            if outcome.failures.len() < TOLD {
                outcome.failures.push(format!("not over: {flow}"));
            }
        }
        outcome
    }
}

/// No connection's descriptor.
const LISTENER: u64 = u64::MAX;
const INPUT: u64 = u64::MAX - 1;

/// Failures that are told in words.
const TOLD: usize = 20;
