//! Another command in a running sandbox (`vswitch exec`).

use std::{
    convert::Infallible,
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::AsFd,
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::PathBuf,
    process::{Command, ExitCode},
};

use nix::{
    sched::{CloneFlags, setns},
    unistd::{self, Gid, Uid},
};
use serde::{Deserialize, Serialize};

use crate::io::netns::Liveness;

use super::exec::{self, ExecError, OWN_ERROR};

/// A command to run inside a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// A process of the sandbox, as the caller's process namespace numbers it.
    pub pid: u32,
    /// When that process started ([`Liveness::started`]), where known; protects against a number that
    /// is used again.
    pub started: Option<u64>,
    /// The command: a path, or a name that is looked up in `PATH`.
    pub command: String,
    /// Its arguments, without its own name.
    pub args: Vec<String>,
    /// Environment variables to add.
    pub environment: Vec<(String, String)>,
    /// The directory that it starts in; `None` for `/`.
    pub directory: Option<PathBuf>,
}

impl Entry {
    /// Replaces this process by the command in the sandbox; returns only on failure.
    ///
    /// May be called from a program with many threads: it executes itself first, which ends them. What
    /// fails after that is reported on standard error and by exit code, as `docker exec` does it: 127 for
    /// a command that does not exist, 126 for one that cannot be executed, 125 else.
    ///
    /// # Errors
    ///
    /// When the program cannot execute itself.
    pub fn exec(&self) -> EnterError {
        self.exec_through(&PathBuf::from("/proc/self/exe"))
    }

    /// Like [`exec`](Self::exec) by way of another program of ours.
    ///
    /// # Errors
    ///
    /// When that program cannot be executed.
    pub fn exec_through(&self, program: &PathBuf) -> EnterError {
        match self.through(program) {
            Ok(mut command) => EnterError::failed(&program.display().to_string(), command.exec()),
            Err(error) => error,
        }
    }

    /// A process that enters the sandbox and becomes the command, to be spawned by the caller.
    ///
    /// # Errors
    ///
    /// When the entry cannot be written down.
    pub fn through(&self, program: &PathBuf) -> Result<Command, EnterError> {
        // The environment travels as such: arguments can be read by every user.
        let entry = Self {
            environment: Vec::new(),
            ..self.clone()
        };
        let text = serde_json::to_string(&entry)
            .map_err(|error| EnterError::failed("write down the entry", error.into()))?;
        let mut command = Command::new(program);
        command.arg(SANDBOX_ENTER).arg(text);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    fn enter(&self) -> Result<Infallible, EnterError> {
        let process =
            Liveness::of(self.pid).map_err(|error| EnterError::failed("find the sandbox", error))?;
        if self.started.is_some_and(|started| started != process.started()) {
            return Err(EnterError::Ended);
        }
        // All are opened before one is entered: afterwards paths and rights are other ones.
        let mut namespaces = Vec::new();
        for (name, kind) in NAMESPACES {
            let path = format!("/proc/{}/ns/{name}", self.pid);
            let theirs =
                File::open(&path).map_err(|error| EnterError::failed(&format!("open {path}"), error))?;
            let ours = fs::metadata(format!("/proc/self/ns/{name}"))
                .map_err(|error| EnterError::failed("look at the own namespaces", error))?;
            let metadata = theirs
                .metadata()
                .map_err(|error| EnterError::failed(&format!("open {path}"), error))?;
            // One's own user namespace cannot be joined again (EINVAL); the others need not be.
            if (metadata.dev(), metadata.ino()) != (ours.dev(), ours.ino()) {
                namespaces.push((path, theirs, kind));
            }
        }
        if !process
            .is_alive()
            .map_err(|error| EnterError::failed("watch the sandbox", error))?
        {
            return Err(EnterError::Ended);
        }
        for (path, namespace, kind) in namespaces {
            setns(namespace.as_fd(), kind)
                .map_err(|error| EnterError::failed(&format!("enter {path}"), error.into()))?;
            if kind == CloneFlags::CLONE_NEWUSER {
                become_root();
            }
        }
        let directory = self.directory.clone().unwrap_or_else(|| PathBuf::from("/"));
        Err(exec::exec(&self.command, &self.args, &self.environment, Some(&directory)).into())
    }
}

/// What a program runs when its first argument is [`SANDBOX_ENTER`]; `args` are those behind it.
///
/// The process must have one thread.
pub fn enter_main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let entry = args
        .next()
        .and_then(|text| serde_json::from_slice::<Entry>(text.as_encoded_bytes()).ok());
    let Some(entry) = entry else {
        eprintln!("vswitch exec enters sandboxes with this; it is not for use by hand");
        return OWN_ERROR.into();
    };
    let Err(error) = entry.enter();
    eprintln!("vswitch: {error}");
    error.exit_code().into()
}

/// Why a sandbox could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The command could not be executed.
    #[error(transparent)]
    Command(#[from] ExecError),
    /// The sandbox is no more.
    #[error("the sandbox has ended")]
    Ended,
    /// A step failed; for `EACCES` the sandbox belongs to another user.
    #[error("{operation}: {source}")]
    Failed {
        /// The step.
        operation: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl EnterError {
    fn failed(operation: &str, source: io::Error) -> Self {
        Self::Failed {
            operation: operation.to_owned(),
            source,
        }
    }

    /// The exit code that `docker exec` gives.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Command(error) => error.exit_code(),
            _ => OWN_ERROR,
        }
    }
}

/// Hidden first argument of entering processes.
pub const SANDBOX_ENTER: &str = "sandbox-enter";

/// The namespaces of a sandbox; the user namespace comes first because it gives the right to the others,
/// the mount namespace last because it changes what paths mean.
const NAMESPACES: [(&str, CloneFlags); 4] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("net", CloneFlags::CLONE_NEWNET),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// The host's root has no number in a user's namespace, and files it creates there would belong to nobody.
/// The sandbox's own user is its root already. In a namespace without a root we stay as we are.
fn become_root() {
    if unistd::getegid() != Gid::from_raw(0) {
        let _ = unistd::setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0));
    }
    if unistd::geteuid() != Uid::from_raw(0) {
        let _ = unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0));
    }
}
