//! Foreign relays: a process of somebody else's, and its version.

use std::{
    fs::File,
    io::Read,
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use crate::topology::{line_of, terminate};

/// A foreign relay's process; ended when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    log: NamedTempFile,
    /// How it was started, as one would type it.
    pub(crate) line: String,
}

impl Program {
    /// Starts a command; what it says is kept.
    pub(crate) fn start(command: Command) -> Result<Self> {
        Self::spawn(command, None)
    }

    /// Likewise; what it writes to its output is the caller's to read.
    pub(crate) fn start_piped(command: Command) -> Result<(Self, ChildStdout)> {
        let mut program = Self::spawn(command, Some(Stdio::piped()))?;
        let output = program.child.stdout.take().context("the program has no output")?;
        Ok((program, output))
    }

    fn spawn(mut command: Command, output: Option<Stdio>) -> Result<Self> {
        let log = NamedTempFile::new()?;
        command
            .stdin(Stdio::null())
            .stdout(match output {
                Some(output) => output,
                None => log.reopen()?.into(),
            })
            .stderr(log.reopen()?);
        let line = line_of(&command);
        let child = command.spawn().with_context(|| format!("run {line}"))?;
        Ok(Self { child, log, line })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        let mut said = String::new();
        let read = File::open(self.log.path()).and_then(|mut log| log.read_to_string(&mut said));
        match read {
            Ok(_) => said.trim().to_owned(),
            Err(_) => String::new(),
        }
    }

    /// What it has said, in brackets.
    pub(crate) fn complaint(&self) -> String {
        match self.said() {
            said if said.is_empty() => said,
            said => format!(" (it said: {said})"),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        terminate(&mut self.child);
    }
}

/// The version of a program as its Debian package tells it; else as itself does.
pub(crate) fn version(package: &str, program: &str) -> String {
    let mut query = Command::new("dpkg-query");
    let packaged = first_line(query.args(["-W", "-f", "${Package} ${Version}\\n", package]));
    match packaged {
        packaged if packaged.is_empty() => own_version(program),
        packaged => packaged,
    }
}

/// What a program answers to `--version`.
pub(crate) fn own_version(program: &str) -> String {
    first_line(Command::new(program).arg("--version"))
}

/// The kernel's version, and that of nftables.
pub(crate) fn kernel_version() -> String {
    let kernel = rustix::system::uname();
    format!(
        "Linux {}, {}",
        kernel.release().to_string_lossy(),
        own_version("nft")
    )
}

/// What a command prints first; empty if it cannot be run.
fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().next().unwrap_or_default().trim().to_owned()
}
