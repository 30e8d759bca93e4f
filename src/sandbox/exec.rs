//! The last step of every sandboxed process: becoming the command.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use serde::{Deserialize, Serialize};

use crate::io::message;

/// Replaces this process by the command; returns only on failure.
///
/// Signal mask and SIGPIPE are set back to what a fresh program expects.
pub(super) fn exec(
    command: &str,
    args: &[String],
    environment: &[(String, String)],
    directory: Option<&PathBuf>,
) -> ExecError {
    if let Some(directory) = directory
        && let Err(source) = std::env::set_current_dir(directory)
    {
        return ExecError {
            what: format!("working directory {}", directory.display()),
            source,
        };
    }
    let mut program = Command::new(command);
    program
        .args(args)
        .envs(environment.iter().map(|(name, value)| (name, value)));
    let mut source = program.exec();
    // The search reports a directory of PATH that it may not look into as EACCES.
    if source.raw_os_error() == Some(libc::EACCES) && !command.contains('/') {
        let given = environment.iter().rfind(|(name, _)| name == "PATH");
        let path = given.map_or_else(
            || std::env::var_os("PATH").unwrap_or_default(),
            |(_, path)| path.into(),
        );
        if !is_found(command, &path) {
            source = io::Error::from_raw_os_error(libc::ENOENT);
        }
    }
    ExecError {
        what: command.to_owned(),
        source,
    }
}

fn is_found(command: &str, path: &OsStr) -> bool {
    std::env::split_paths(path).any(|directory| directory.join(command).exists())
}

/// A command that could not be started.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("cannot execute {what}: {source}")]
pub struct ExecError {
    /// The command, or the working directory that it should have had.
    pub what: String,
    /// The kernel's answer.
    #[serde(with = "message::error")]
    pub source: io::Error,
}

impl ExecError {
    /// The exit code that Docker and shells give: 127 for a command that does not exist, 126 for one that
    /// cannot be executed.
    pub fn exit_code(&self) -> u8 {
        match self.source.raw_os_error() {
            Some(libc::ENOENT) => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        }
    }
}

impl From<&ExecError> for ExitCode {
    fn from(error: &ExecError) -> Self {
        error.exit_code().into()
    }
}

/// `docker run`'s exit code for its own errors.
pub(super) const OWN_ERROR: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_codes_of_docker() {
        for (number, code) in [(libc::ENOENT, 127), (libc::EACCES, 126), (libc::ENOEXEC, 126)] {
            let error = ExecError {
                what: "x".into(),
                source: io::Error::from_raw_os_error(number),
            };
            assert_eq!(error.exit_code(), code);
        }
    }

    #[test]
    fn a_name_is_looked_for_in_every_directory() {
        let path = OsStr::new("/nonexistent:/etc/passwd:/proc/self");
        assert!(is_found("comm", path));
        assert!(!is_found("not-there", path));
        assert!(!is_found("comm", OsStr::new("/nonexistent")));
    }
}
