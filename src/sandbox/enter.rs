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
    errno::Errno,
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
        let user = match namespaces.first() {
            Some((_, _, CloneFlags::CLONE_NEWUSER)) => Some(User::of(self.pid)?),
            _ => None,
        };
        if !process
            .is_alive()
            .map_err(|error| EnterError::failed("watch the sandbox", error))?
        {
            return Err(EnterError::Ended);
        }
        if user.is_some() {
            drop_groups()?;
        }
        for (path, namespace, kind) in namespaces {
            setns(namespace.as_fd(), kind)
                .map_err(|error| EnterError::failed(&format!("enter {path}"), error.into()))?;
            // The user namespace comes first: nothing else is entered by somebody whom it does not know.
            if kind == CloneFlags::CLONE_NEWUSER
                && let Some(user) = &user
            {
                user.assume()?;
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
    /// We are nobody in the sandbox's user namespace, which has no root either; enter as one of its users.
    #[error(
        "the sandbox's user namespace has neither a number 0 nor one for our own {own} (see {map}): the command \
         would keep a number of the host's"
    )]
    Unmapped {
        /// The file with the namespace's numbers.
        map: String,
        /// Our effective user or group.
        own: u32,
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

/// Whom the command runs as in another user namespace: its root, else ourselves under our number there.
///
/// The host's root may enter any user namespace and keeps a number there that nothing in it stands for. A
/// command that ran with it would be the host's root, on files that a stranger has chosen.
struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// As the user namespace of a process numbers users.
    fn of(pid: u32) -> Result<Self, EnterError> {
        let number = |file: &str, own: u32| {
            let path = format!("/proc/{pid}/{file}");
            let map = fs::read_to_string(&path)
                .map_err(|error| EnterError::failed(&format!("read {path}"), error))?;
            number_inside(&map, own).ok_or(EnterError::Unmapped { map: path, own })
        };
        Ok(Self {
            uid: number("uid_map", unistd::geteuid().as_raw())?,
            gid: number("gid_map", unistd::getegid().as_raw())?,
        })
    }

    /// Takes on these numbers in the user namespace that we are in; it refuses those that it does not know.
    fn assume(&self) -> Result<(), EnterError> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        unistd::setresgid(gid, gid, gid).map_err(|error| {
            EnterError::failed(&format!("become group {gid} of the sandbox"), error.into())
        })?;
        unistd::setresuid(uid, uid, uid)
            .map_err(|error| EnterError::failed(&format!("become user {uid} of the sandbox"), error.into()))
    }
}

/// 0 where the map has it, else what it makes of `own`; each line is a first number inside, the first
/// outside as its reader sees it, and how many follow (user_namespaces(7)).
fn number_inside(map: &str, own: u32) -> Option<u32> {
    let ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        Some((
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
        ))
    });
    let mut kept = None;
    for (inside, outside, count) in ranges {
        if inside == 0 && count > 0 {
            return Some(0);
        }
        if let Some(index) = own.checked_sub(outside).filter(|&index| index < count) {
            kept = inside.checked_add(index);
        }
    }
    kept
}

/// Gives up the supplementary groups of root, which would be the host's in the sandbox too.
///
/// An ordinary user has no right to that, and needs none: the sandbox is that user's own. The same holds for
/// the root of a user's namespace that says so (`/proc/PID/setgroups`).
fn drop_groups() -> Result<(), EnterError> {
    if !unistd::geteuid().is_root() {
        return Ok(());
    }
    match unistd::setgroups(&[]) {
        Err(Errno::EPERM)
            if fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim_end() == "deny") =>
        {
            Ok(())
        }
        outcome => {
            outcome.map_err(|error| EnterError::failed("give up the supplementary groups", error.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_the_sandboxes_root_or_keeps_a_number_there_or_is_nobody() {
        for (map, own, expected) in [
            ("         0       1000          1\n", 1000, Some(0)),
            ("0 100000 65536\n", 0, Some(0)),
            ("5 1000 1\n0 100000 65536\n", 1000, Some(0)),
            ("5 1000 1\n", 1000, Some(5)),
            ("1 0 10\n", 9, Some(10)),
            ("1 0 10\n", 10, None),
            ("1000 100000 1\n", 0, None),
            ("0 100000 0\n", 0, None),
            ("4294967295 7 2\n", 8, None),
            ("", 0, None),
            ("0 what 1\n", 0, None),
        ] {
            assert_eq!(number_inside(map, own), expected, "{map:?} for {own}");
        }
    }
}
