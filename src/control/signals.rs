//! Ending a sandbox's process, and sending it signals.
//!
//! Only what happens after the process's end is a command behind the writer lock: a process may take its
//! time to end, and nobody else shall wait for that.

use std::{io, time::Duration};

use rustix::process::Signal;
use tokio::time;

use super::{
    Control, ControlError,
    lifetime::end_of,
    sandboxes::{Caller, check_owner},
};
use crate::{
    io::netns::Liveness,
    model::{Namespace, Sandbox},
};

/// What became of a sandbox that was to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It had ended before.
    Already,
    /// It has ended now.
    Now,
}

impl Control {
    /// Asks a sandbox's process to end by `signal`, insists by SIGKILL after `patience` (`None`: never),
    /// and does what the sandbox's end asks for.
    ///
    /// # Errors
    ///
    /// There is no such sandbox, vswitchd does not know its process, the process is not the caller's, or the
    /// end could not be stored.
    pub async fn stop_sandbox(
        &self,
        term: &str,
        signal: Signal,
        patience: Option<Duration>,
        caller: Caller,
    ) -> Result<Stopped, ControlError> {
        let (control, sandbox) = (self.clone(), self.signalled(term)?);
        if sandbox.finished.is_some() {
            return Ok(Stopped::Already);
        }
        // To its end even if the caller hangs up: SIGTERM alone would leave half of what was asked for.
        self.detached(async move {
            if let Some(process) = process_of(&sandbox, caller)? {
                send(&sandbox, &process, signal)?;
                if !control.ends_within(&sandbox, patience).await? {
                    send(&sandbox, &process, Signal::KILL)?;
                    control.must_end(&sandbox).await?;
                }
            }
            control.sandbox_ended(sandbox.id).await?;
            Ok(Stopped::Now)
        })
        .await
    }

    /// Sends a sandbox's process a signal; after SIGKILL, waits for its end and does what that asks for.
    ///
    /// # Errors
    ///
    /// As of [`stop_sandbox`](Self::stop_sandbox), and the sandbox has ended.
    pub async fn kill_sandbox(&self, term: &str, signal: Signal, caller: Caller) -> Result<(), ControlError> {
        let (control, sandbox) = (self.clone(), self.signalled(term)?);
        let process = match sandbox.finished {
            Some(_) => None,
            None => process_of(&sandbox, caller)?,
        };
        let process = process.ok_or(ControlError::NotRunning(sandbox.id))?;
        send(&sandbox, &process, signal)?;
        if signal != Signal::KILL {
            return Ok(());
        }
        self.detached(async move {
            control.must_end(&sandbox).await?;
            control.sandbox_ended(sandbox.id).await
        })
        .await
    }

    fn signalled(&self, term: &str) -> Result<Sandbox, ControlError> {
        self.read(|state| state.resolve_sandbox(term).cloned())
    }

    async fn ends_within(&self, sandbox: &Sandbox, patience: Option<Duration>) -> Result<bool, ControlError> {
        let end = end_of(&sandbox.namespace);
        let ended = match patience {
            Some(patience) => match time::timeout(patience, end).await {
                Ok(ended) => ended,
                Err(_) => return Ok(false),
            },
            None => end.await,
        };
        match ended {
            Ok(()) => Ok(true),
            Err(error) => Err(ControlError::system(
                format!("watch container {}", sandbox.name),
                error,
            )),
        }
    }

    async fn must_end(&self, sandbox: &Sandbox) -> Result<(), ControlError> {
        if self.ends_within(sandbox, Some(KILL_PATIENCE)).await? {
            return Ok(());
        }
        let late = io::Error::from(io::ErrorKind::TimedOut);
        Err(ControlError::system(
            format!("kill container {}", sandbox.name),
            late,
        ))
    }
}

/// A signal by number or by name, with or without `SIG` (moby: `signal.ParseSignal`).
///
/// # Errors
///
/// [`ControlError::Invalid`] in Docker's words.
pub fn parse_signal(text: &str) -> Result<Signal, ControlError> {
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = name.parse().ok().or_else(|| {
        let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().ok()?;
        Some(signal as i32)
    });
    number
        .and_then(Signal::from_named_raw)
        .ok_or_else(|| ControlError::Invalid(format!("invalid signal: {text}")))
}

/// The sandbox's process, which the caller may signal; `None` if it has ended.
fn process_of(sandbox: &Sandbox, caller: Caller) -> Result<Option<Liveness>, ControlError> {
    let Namespace::Process { pid, start_time } = sandbox.namespace else {
        return Err(ControlError::NoProcess(sandbox.name.clone()));
    };
    let process = Liveness::again(pid, start_time)
        .map_err(|error| ControlError::system(format!("watch process {pid}"), error))?;
    match process {
        Some(process) => check_owner(&process, caller).map(|()| Some(process)),
        None => Ok(None),
    }
}

fn send(sandbox: &Sandbox, process: &Liveness, signal: Signal) -> Result<(), ControlError> {
    match process.signal(signal) {
        // It was faster.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        outcome => {
            outcome.map_err(|error| ControlError::system(format!("signal container {}", sandbox.name), error))
        }
    }
}

/// How long a killed process may take to end (moby: `Daemon.Kill` waits as long). One that the kernel holds
/// in an uninterruptible wait takes longer; its end is noticed when it comes.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, signal) in [
            ("SIGTERM", Signal::TERM),
            ("term", Signal::TERM),
            ("9", Signal::KILL),
            ("SIGUSR1", Signal::USR1),
            ("sighup", Signal::HUP),
        ] {
            assert_eq!(parse_signal(text).ok(), Some(signal), "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "SIG",
            "SIGSIGTERM",
            "TERM ",
            "65",
            "99999999999",
            "stop it",
        ] {
            let error = parse_signal(text).expect_err(text).to_string();
            assert_eq!(error, format!("invalid signal: {text}"));
        }
    }
}
