//! The packet loop.
//!
//! A worker is one thread that owns whole networks: their engines, their TAPs and the buffer that
//! frames are read into. It reads a frame, asks the engine, writes the outcome, and takes the next;
//! there is no queue between read and write, no lock, and no allocation per frame. The control plane
//! talks to it by [`Command`]s only.
//!
//! A turn of the loop: apply commands, fire due timers, serve some host sockets that have become ready, give
//! every ready port its budget of frames, give flows that stopped at theirs another, then either look for more
//! readiness (something is still ready) or wait ([`Wait`] says how). The clock is read once per turn.

mod command;
mod conns;
mod network;
mod ports;
mod reactor;
mod shortcut;
mod uplink;
mod wait;

pub(crate) use command::{Command, Reply};
pub use wait::PollMode;

use std::{io, sync::Arc, thread};

use crossbeam::channel::{self, Sender};
use mio::Waker;
use tokio::sync::mpsc::UnboundedSender;
use vswitch_proxy::{config::Descriptors, publish::PublishedPorts};

use crate::dataplane::DataPlaneEvent;
use reactor::Reactor;

/// What all workers share; touched when a flow begins, never per packet.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// What host sockets may take.
    pub(crate) descriptors: Arc<Descriptors>,
    /// Published ports.
    pub(crate) published: Arc<PublishedPorts>,
}

/// Control-side end of one worker thread.
#[derive(Debug)]
pub(crate) struct Worker {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Worker {
    /// Starts the thread `worker-<index>`; it ends when the last sender of its commands is gone or a
    /// [`Command::Stop`] arrives.
    ///
    /// # Errors
    ///
    /// The kernel refused the epoll or event descriptor, or the thread.
    pub(crate) fn spawn(
        index: usize,
        mode: PollMode,
        shared: Shared,
        events: UnboundedSender<DataPlaneEvent>,
    ) -> io::Result<Self> {
        // Commands are rare and each is awaited by its sender, so the queue stays short.
        let (sender, receiver) = channel::unbounded();
        let (mut reactor, waker) = Reactor::new(mode, shared, receiver, events)?;
        thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || reactor.run())?;
        Ok(Self {
            commands: sender,
            waker: Arc::new(waker),
        })
    }

    /// Hands the worker a command and wakes it. A stopped worker drops the command, which its sender
    /// sees as a closed reply.
    pub(crate) fn send(&self, command: Command) {
        if self.commands.send(command).is_ok()
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "cannot wake a worker");
        }
    }
}
