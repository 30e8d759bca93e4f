//! One direction of a pair.

use std::{io, net::Shutdown};

use rustix::{
    net::{RecvFlags, SendFlags},
    pipe::{SpliceFlags, splice},
};
use socket2::Socket;

use super::pipes::{Pipe, Pipes};

/// Bytes on their way from one socket, the source, to the other, the sink.
#[derive(Debug)]
pub(super) struct Direction {
    /// The source may have something to read; kept until it says `EAGAIN`.
    pub(super) readable: bool,
    /// The sink may have room; kept until it says `EAGAIN`.
    pub(super) writable: bool,
    /// The source is known to have failed: the end of what it still has is no end of the stream.
    pub(super) source_failed: bool,
    /// Bytes read off the source.
    pub(super) moved: u64,
    /// Copied, but not sent yet from `sent` on. Goes before what is in the pipe.
    copied: Vec<u8>,
    sent: usize,
    /// Borrowed while there is something in it.
    pipe: Option<(Pipe, usize)>,
    pace: Pace,
    stage: Stage,
}

/// What all directions share.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) pipes: Pipes,
    buffer: Box<[u8]>,
}

/// Why a direction stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// At its budget.
    Budget,
    /// The stream's end has been passed on.
    Ended,
    /// The sink takes no more, ever.
    SinkFailed,
    /// The source's last byte has been delivered, and it is not the stream's end.
    SourceFailed,
    /// Until a socket is ready.
    Waits,
}

/// What the source has at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// At least a whole buffer: splice.
    Long,
    /// Less: copy, which takes fewer and quicker calls.
    Short,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The source's stream goes on.
    Open,
    /// It has ended; the sink has yet to hear of it.
    Finishing,
    /// The sink has heard of it.
    Ended,
}

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Bytes(usize),
    End,
    Nothing,
}

impl Direction {
    /// `prefix` goes before all that the source has.
    pub(super) fn new(prefix: Vec<u8>) -> Self {
        Self {
            readable: true,
            writable: true,
            source_failed: false,
            moved: 0,
            copied: prefix,
            sent: 0,
            pipe: None,
            pace: Pace::Short,
            stage: Stage::Open,
        }
    }

    /// Moves what can be moved within a budget.
    pub(super) fn advance(&mut self, source: &Socket, sink: &Socket, means: &mut Means) -> Halt {
        let mut budget = BUDGET;
        loop {
            if !self.writable && self.stage != Stage::Ended {
                // It holds what the sink has refused; events of the source do not change that.
                return Halt::Waits;
            }
            match self.deliver(sink, means) {
                Ok(()) => {}
                Err(error) if is_not_ready(&error) => {
                    self.writable = false;
                    return Halt::Waits;
                }
                Err(_) => return Halt::SinkFailed,
            }
            match self.stage {
                Stage::Ended => return Halt::Ended,
                Stage::Finishing if self.source_failed => return Halt::SourceFailed,
                Stage::Finishing => {
                    if sink.shutdown(Shutdown::Write).is_err() {
                        return Halt::SinkFailed;
                    }
                    self.stage = Stage::Ended;
                    return Halt::Ended;
                }
                Stage::Open if !self.readable => return Halt::Waits,
                Stage::Open if budget == 0 => return Halt::Budget,
                Stage::Open => {}
            }
            let taken = match self.take(source, sink, means) {
                Ok(taken) => taken,
                Err(error) if is_not_ready(&error) => {
                    self.readable = false;
                    return Halt::Waits;
                }
                Err(_) => return Halt::SourceFailed,
            };
            match taken {
                Taken::Bytes(len) => {
                    self.moved += len as u64;
                    budget = budget.saturating_sub(len.max(CALL));
                }
                Taken::End => self.stage = Stage::Finishing,
                Taken::Nothing => {}
            }
        }
    }

    /// The source has failed; what it still has is delivered.
    pub(super) fn fail_source(&mut self) {
        self.source_failed = true;
        self.readable = true;
    }

    /// Whether the source is read no more, for now or for ever, so that its failure would not show by a read.
    pub(super) fn is_deaf(&self) -> bool {
        self.stage == Stage::Ended || !self.writable
    }

    /// Throws away what it holds.
    pub(super) fn clear(&mut self, means: &mut Means) {
        self.copied = Vec::new();
        self.sent = 0;
        if let Some((pipe, _)) = self.pipe.take() {
            means.pipes.discard(pipe);
        }
        self.stage = Stage::Ended;
    }

    /// Gives the sink what is held; afterwards nothing is.
    fn deliver(&mut self, sink: &Socket, means: &mut Means) -> io::Result<()> {
        while self.sent < self.copied.len() {
            self.sent += send(sink, &self.copied[self.sent..])?;
        }
        if self.sent > 0 {
            self.copied = Vec::new();
            self.sent = 0;
        }
        while let Some((pipe, held)) = &mut self.pipe {
            // Never asked for more than there is: the kernel would wait for the rest before it sends the end.
            *held -= again(|| Ok(splice(&pipe.output, None, sink, None, *held, FLAGS)?))?;
            if *held == 0
                && let Some((pipe, _)) = self.pipe.take()
            {
                means.pipes.give_back(pipe);
            }
        }
        Ok(())
    }

    /// Reads something. Nothing is held before; what was copied has been offered to the sink.
    fn take(&mut self, source: &Socket, sink: &Socket, means: &mut Means) -> io::Result<Taken> {
        if self.pace == Pace::Long
            && let Some(pipe) = means.pipes.borrow()
        {
            let capacity = means.pipes.capacity();
            match again(|| Ok(splice(source, None, &pipe.input, None, capacity, FLAGS)?)) {
                Ok(len) if len > 0 => {
                    self.pipe = Some((pipe, len));
                    return Ok(Taken::Bytes(len));
                }
                // Nothing, the end, urgent data before which splice stops for ever (`tcp_read_sock`), or a socket
                // that it does not know: reading tells.
                Ok(_) | Err(_) => {
                    means.pipes.give_back(pipe);
                    self.pace = Pace::Short;
                    return Ok(Taken::Nothing);
                }
            }
        }
        let buffer = &mut means.buffer;
        let len = again(|| Ok(rustix::net::recv(source, &mut **buffer, RecvFlags::DONTWAIT)?.1))?;
        if len == 0 {
            return Ok(Taken::End);
        }
        self.pace = if len == buffer.len() {
            Pace::Long
        } else {
            Pace::Short
        };
        // If this fails, it fails again when the rest is delivered.
        let sent = send(sink, &buffer[..len]).unwrap_or(0);
        if sent < len {
            self.copied = buffer[sent..len].to_vec();
        }
        Ok(Taken::Bytes(len))
    }
}

impl Means {
    pub(super) fn new(pipes: Pipes) -> Self {
        Self {
            pipes,
            buffer: vec![0; COPY].into_boxed_slice(),
        }
    }
}

fn send(sink: &Socket, bytes: &[u8]) -> io::Result<usize> {
    again(|| {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(rustix::net::send(sink, bytes, flags)?)
    })
}

/// Calls again what a signal has interrupted.
fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn is_not_ready(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// Bytes per call of a direction, before others have their turn.
pub(super) const BUDGET: usize = 1 << 20;
/// What a read costs at least, in bytes.
const CALL: usize = 16 << 10;
/// Bytes copied at once.
const COPY: usize = 64 << 10;
