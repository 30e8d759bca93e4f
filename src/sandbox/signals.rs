//! Passing signals on to a sandbox's command.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

/// Holds back the signals that `vswitch run` passes on instead of obeying them.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the forwarded signals in the calling thread from now on.
    ///
    /// Call this before the program creates threads: they inherit the mask, and one that does not block
    /// these signals would be killed by them in place of the command.
    ///
    /// # Errors
    ///
    /// Those of signalfd(2).
    pub fn hold() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in FORWARDED {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Self {
            fd: SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?,
        })
    }

    /// The next signal to pass on, if one is waiting.
    ///
    /// What the terminal sent (Ctrl-C, a new window size) is left out: the command is in the same process
    /// group and has it already.
    ///
    /// # Errors
    ///
    /// Those of read(2).
    pub fn next(&self) -> io::Result<Option<i32>> {
        while let Some(info) = self.fd.read_signal()? {
            if info.ssi_code != SI_KERNEL
                && let Ok(number) = i32::try_from(info.ssi_signo)
            {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}

/// The descriptor is readable when a signal is waiting.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Signals that a user or a supervisor sends to a command (`docker run --sig-proxy`), less those that tell
/// a process about itself and SIGTSTP, SIGTTIN and SIGTTOU, which stop both alike.
const FORWARDED: [Signal; 10] = [
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGPWR,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// `si_code` of signals that the kernel itself sent (asm-generic/siginfo.h).
const SI_KERNEL: i32 = 0x80;
