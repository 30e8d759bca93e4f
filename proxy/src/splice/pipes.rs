//! Pipes to borrow.

use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::PipeLimits;

/// A pipe; both ends are non-blocking.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) output: OwnedFd,
    pub(super) input: OwnedFd,
}

/// Those that nobody has borrowed, and how many somebody has.
#[derive(Debug)]
pub(super) struct Pipes {
    idle: Vec<Pipe>,
    lent: usize,
    limits: PipeLimits,
}

impl Pipes {
    pub(super) fn new(limits: PipeLimits) -> Self {
        Self {
            idle: Vec::new(),
            lent: 0,
            limits,
        }
    }

    /// Borrows an empty pipe, if the limits of ours and of the system let us have one.
    pub(super) fn borrow(&mut self) -> Option<Pipe> {
        if self.lent >= self.limits.most {
            return None;
        }
        let pipe = match self.idle.pop() {
            Some(pipe) => pipe,
            None => Pipe::open(self.limits.capacity)?,
        };
        self.lent += 1;
        Some(pipe)
    }

    /// Takes an empty pipe back.
    pub(super) fn give_back(&mut self, pipe: Pipe) {
        self.lent -= 1;
        if self.idle.len() < self.limits.kept {
            self.idle.push(pipe);
        }
    }

    /// Closes a pipe with something in it.
    pub(super) fn discard(&mut self, pipe: Pipe) {
        self.lent -= 1;
        drop(pipe);
    }

    pub(super) fn capacity(&self) -> usize {
        self.limits.capacity
    }

    #[cfg(test)]
    pub(super) fn lent(&self) -> usize {
        self.lent
    }
}

impl Pipe {
    fn open(capacity: usize) -> Option<Self> {
        // EMFILE, ENFILE: whoever wanted it copies.
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // Past the user's share of memory for pipes (`fs.pipe-user-pages-soft`) it stays as small as it is.
        let _ = fcntl_setpipe_size(&input, capacity);
        Some(Self { output, input })
    }
}
