//! Launching a command in namespaces of its own, in two steps.
//!
//! [`Launcher::prepare`] starts our own program with the hidden argument [`SANDBOX_INIT`], which creates
//! the namespaces and then waits; now the daemon can attach the process. [`Prepared::start`] hands over
//! the name files and lets it become the command. A launcher that dies, or drops [`Prepared`], before
//! that ends the sandbox: its end of the socket closes.
//!
//! # States
//!
//! preparing → *prepared* (`pid` is valid; attach it; `start` or drop) → *running* (the same pid; `wait`).

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};

use crate::io::{message, restriction::Restriction};

use super::{
    exec::{self, ExecError},
    names::Names,
    signals::Signals,
};

/// Starts sandboxes.
#[derive(Debug, Clone)]
pub struct Launcher {
    program: PathBuf,
}

impl Default for Launcher {
    /// Starts the running program again.
    fn default() -> Self {
        Self::new("/proc/self/exe")
    }
}

impl Launcher {
    /// Starts `program`, which must call [`run_hidden`](crate::hidden::run_hidden) first in its `main`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
        }
    }

    /// Creates the sandbox's namespaces and leaves the process waiting in them.
    ///
    /// # Errors
    ///
    /// See [`LaunchError`].
    pub fn prepare(&self, config: &LaunchConfig) -> Result<Prepared, LaunchError> {
        let (near, far) = message::pair().map_err(|source| LaunchError::own("open a socket pair", source))?;
        let stdin = config
            .stdio
            .stdin()
            .map_err(|source| LaunchError::own("open standard input", source))?;
        let mut command = Command::new(&self.program);
        // The socket takes the place of standard input, so that no descriptor is left open across exec
        // by accident; the true one is sent through it.
        command.arg(SANDBOX_INIT).stdin(far);
        if let Some(output) = config.stdio.output()? {
            let errors = output
                .try_clone()
                .map_err(|source| LaunchError::own("share the output", source))?;
            command.stdout(output).stderr(errors);
        }
        let child = command
            .spawn()
            .map_err(|source| LaunchError::own(&format!("start {}", self.program.display()), source))?;
        drop(command); // and with it our copy of the other end
        let mut sandbox = Prepared {
            child: Some(child),
            socket: near,
            warnings: Vec::new(),
        };
        message::send(&sandbox.socket, config, &[stdin.as_fd()])
            .map_err(|source| LaunchError::own("talk to the sandbox", source))?;
        let ready = message::wait_readable(&sandbox.socket, Instant::now() + DEADLINE)
            .map_err(|source| LaunchError::own("wait for the sandbox", source))?;
        if !ready {
            return Err(LaunchError::Deadline);
        }
        match message::receive::<Result<Ready, LaunchError>>(&sandbox.socket) {
            Ok(Some((Ok(Ready { warnings }), _))) => {
                sandbox.warnings = warnings;
                Ok(sandbox)
            }
            Ok(Some((Err(error), _))) => Err(error),
            Ok(None) => {
                let cause = io::Error::other("it ended unexpectedly");
                Err(LaunchError::own("prepare the sandbox", cause))
            }
            Err(source) => Err(LaunchError::own("talk to the sandbox", source)),
        }
    }
}

/// What to run and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaunchConfig {
    /// Host name of the sandbox, at most 64 bytes.
    pub hostname: String,
    /// The command: a path, or a name that is looked up in `PATH`.
    pub command: String,
    /// Its arguments, without its own name.
    pub args: Vec<String>,
    /// Environment variables to add to those of the launcher.
    pub environment: Vec<(String, String)>,
    /// The directory that it starts in; `None` for that of the launcher.
    pub directory: Option<PathBuf>,
    /// Where its input comes from and its output goes.
    pub stdio: Stdio,
}

/// A sandbox's connection to the outside world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// A session of its own, no input; output goes to the file, or nowhere. It outlives the launcher.
    Detached {
        /// The file that output is appended to.
        log: Option<PathBuf>,
    },
    /// The launcher's.
    Foreground,
}

impl Stdio {
    fn stdin(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Detached { .. } => Ok(OpenOptions::new().read(true).open("/dev/null")?.into()),
            Self::Foreground => io::stdin().as_fd().try_clone_to_owned(),
        }
    }

    fn output(&self) -> Result<Option<std::fs::File>, LaunchError> {
        let mut options = OpenOptions::new();
        let (path, options) = match self {
            Self::Foreground => return Ok(None),
            Self::Detached { log: None } => (PathBuf::from("/dev/null"), options.write(true)),
            Self::Detached { log: Some(path) } => (path.clone(), options.append(true).create(true)),
        };
        match options.open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(source) => Err(LaunchError::own(&format!("open {}", path.display()), source)),
        }
    }
}

/// A sandbox that waits for its start. Dropping it ends it.
#[derive(Debug)]
pub struct Prepared {
    child: Option<Child>,
    socket: OwnedFd,
    warnings: Vec<String>,
}

impl Prepared {
    /// The process that the namespaces belong to; it becomes the command.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// What could not be set up but does not prevent the sandbox.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Writes the name files and lets the sandbox become the command.
    ///
    /// Returns when the command has been executed.
    ///
    /// # Errors
    ///
    /// [`LaunchError::Command`] when it cannot be executed; see there for the others.
    pub fn start(mut self, names: &Names) -> Result<Running, LaunchError> {
        message::send(&self.socket, names, &[])
            .map_err(|source| LaunchError::own("start the sandbox", source))?;
        let mut warnings = std::mem::take(&mut self.warnings);
        loop {
            match message::receive::<Result<Ready, LaunchError>>(&self.socket) {
                Ok(Some((Ok(more), _))) => warnings.extend(more.warnings),
                Ok(Some((Err(error), _))) => return Err(error),
                // The socket was closed by the execution of the command.
                Ok(None) => break,
                Err(source) => return Err(LaunchError::own("talk to the sandbox", source)),
            }
        }
        let gone = || LaunchError::own("start the sandbox", io::Error::from_raw_os_error(libc::ESRCH));
        let child = self.child.take().ok_or_else(gone)?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(gone)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| LaunchError::own("watch the sandbox", error.into()))?;
        Ok(Running {
            child,
            pidfd,
            warnings,
        })
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It would end by itself when our socket closes; both fail only if it has been waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A sandbox whose command runs. Dropping it leaves the command running.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pidfd: OwnedFd,
    warnings: Vec<String>,
}

impl Running {
    /// The command's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What could not be set up but did not prevent the sandbox.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Sends the command a signal, by number.
    ///
    /// # Errors
    ///
    /// `ESRCH` when it has ended; `InvalidInput` for a number that is no signal.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(number)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{number} is no signal")))?;
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Waits for the command and returns its exit code, 128 + signal if a signal ended it.
    ///
    /// Signals that `signals` holds are passed on meanwhile.
    ///
    /// # Errors
    ///
    /// Those of waitpid(2) and poll(2).
    pub fn wait(&mut self, signals: Option<&Signals>) -> io::Result<u8> {
        if let Some(signals) = signals {
            self.forward_signals(signals)?;
        }
        Ok(exit_code(self.child.wait()?))
    }

    fn forward_signals(&self, signals: &Signals) -> io::Result<()> {
        loop {
            let mut polled = [
                PollFd::new(&self.pidfd, PollFlags::IN),
                PollFd::new(signals, PollFlags::IN),
            ];
            match poll(&mut polled, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            while let Some(number) = signals.next()? {
                match self.signal(number) {
                    Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                    _ => {}
                }
            }
            if !polled[0].revents().is_empty() {
                return Ok(());
            }
        }
    }
}

/// Why a sandbox could not be launched.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub enum LaunchError {
    /// The command could not be executed.
    #[error(transparent)]
    Command(#[from] ExecError),
    /// The sandbox process did not get ready in time.
    #[error("the sandbox was not ready within {DEADLINE:?}")]
    Deadline,
    /// Something failed that should not.
    #[error("{operation}: {source}")]
    Own {
        /// What was tried.
        operation: String,
        /// The system's answer.
        #[serde(with = "message::error")]
        source: io::Error,
    },
    /// The system does not let us create namespaces.
    #[error("create the sandbox's namespaces: {source}. {advice}")]
    Refused {
        /// The kernel's answer.
        #[serde(with = "message::error")]
        source: io::Error,
        /// The restriction that explains it, or what to look at.
        advice: String,
    },
}

impl LaunchError {
    pub(super) fn own(operation: &str, source: io::Error) -> Self {
        Self::Own {
            operation: operation.to_owned(),
            source,
        }
    }

    pub(super) fn refused(source: io::Error) -> Self {
        let advice = match Restriction::detect() {
            Some(restriction) => restriction.to_string(),
            None => "A container's seccomp filter or user.max_net_namespaces may forbid it.".to_owned(),
        };
        Self::Refused { source, advice }
    }

    /// The exit code that `docker run` gives: 127 for a command that does not exist, 126 for one that
    /// cannot be executed, 125 for all else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Command(error) => error.exit_code(),
            _ => exec::OWN_ERROR,
        }
    }
}

/// Hidden first argument of sandbox processes.
pub const SANDBOX_INIT: &str = "sandbox-init";

/// What the sandbox process reports when a step is done.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) warnings: Vec<String>,
}

/// Time to create the namespaces, which takes milliseconds on an idle machine.
const DEADLINE: Duration = Duration::from_secs(10);

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(exec::OWN_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        for (raw, code) in [(0, 0), (3 << 8, 3), (255 << 8, 255), (9, 137), (15, 143)] {
            assert_eq!(exit_code(ExitStatus::from_raw(raw)), code, "{raw:#x}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_our_own_error() {
        let config = LaunchConfig {
            hostname: "box".into(),
            command: "true".into(),
            args: Vec::new(),
            environment: Vec::new(),
            directory: None,
            stdio: Stdio::Detached { log: None },
        };
        let error = Launcher::new("/nonexistent/vswitch")
            .prepare(&config)
            .expect_err("nothing to start");
        assert_eq!(error.exit_code(), 125);
        assert!(error.to_string().contains("/nonexistent/vswitch"), "{error}");
    }
}
