//! How a command fails: one line that says what to do next, and an exit code.

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use crate::api::client::ClientError;

/// The end of a command that did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    message: Option<String>,
}

impl Failure {
    /// The command failed for this reason (exit code 1).
    pub fn new(reason: impl fmt::Display) -> Self {
        Self {
            code: FAILED,
            message: Some(one_line(&reason.to_string())),
        }
    }

    /// The flags contradict each other in a way that the grammar cannot say (exit code 2).
    pub fn usage(reason: impl fmt::Display) -> Self {
        Self {
            code: USAGE,
            ..Self::new(reason)
        }
    }

    /// The command failed, and what to do about it takes more than a line (exit code 1).
    pub fn explained(reason: impl fmt::Display) -> Self {
        let lines: Vec<String> = reason.to_string().lines().map(super::print::plain).collect();
        Self {
            code: FAILED,
            message: Some(lines.join("\n")),
        }
    }

    /// The command failed and has already said why (exit code 1).
    pub const fn reported() -> Self {
        Self {
            code: FAILED,
            message: None,
        }
    }

    /// The same failure with the exit code that `run` or `exec` give for it.
    pub fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// The same failure of `run` or `exec`, before their command began (exit code 125).
    pub fn before_command(self) -> Self {
        self.with_code(BEFORE_COMMAND)
    }

    /// The reason, unless it has been said already; one line.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The code to exit with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

/// Standard output could not be written; a reader that has seen enough is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self {
                code: 0,
                message: None,
            },
            _ => Self::new(format_args!("write to standard output: {error}")),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error)
    }
}

/// Says on stderr that something is wrong that does not end the command, on one line.
pub fn report(message: &str) {
    say(&one_line(message));
}

/// Says on stderr what was done differently from what was asked, a line each.
pub fn warn<'a>(warnings: impl IntoIterator<Item = &'a String>) {
    for warning in warnings {
        report(&format!("warning: {warning}"));
    }
}

/// Says on stderr who speaks and what.
pub fn say(message: &str) {
    // `eprintln!` panics when stderr is closed; a command does not fail because nobody listens.
    let _ = writeln!(io::stderr(), "vswitch: {message}");
}

/// A message on one line: Docker's daemon reports several problems on several lines.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if !line.is_empty() {
            line.push_str(if line.ends_with([':', ';', ',']) {
                " "
            } else {
                "; "
            });
        }
        line.push_str(part.strip_prefix("* ").unwrap_or(part));
    }
    super::print::plain(&line)
}

/// The command failed.
const FAILED: u8 = 1;

/// The command line is wrong; clap uses the same.
const USAGE: u8 = 2;

/// `docker run`: the error is the engine's, not the command's.
const BEFORE_COMMAND: u8 = 125;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_lists_of_problems_become_one_line() {
        for (text, line) in [
            ("network x not found\n", "network x not found"),
            (
                "invalid network config:\ninvalid subnet a",
                "invalid network config: invalid subnet a",
            ),
            (
                "invalid network config:\n* one\n* two",
                "invalid network config: one; two",
            ),
            ("a\r\n\n  b  ", "a; b"),
            ("a\x1b[2J", "a\\u{1b}[2J"),
            ("", ""),
        ] {
            assert_eq!(one_line(text), line, "{text:?}");
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.code, failure.message()), (0, None));
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::StorageFull)).code, 1);
    }

    #[test]
    fn explanations_keep_their_lines() {
        assert_eq!(Failure::explained("a\nb\x1bc").message(), Some("a\nb\\u{1b}c"));
    }

    #[test]
    fn the_codes_are_the_documented_ones() {
        assert_eq!(Failure::new("a").code, 1);
        assert_eq!(Failure::reported().code, 1);
        assert_eq!(Failure::usage("a").code, 2);
        let before = Failure::new("a").before_command();
        assert_eq!((before.code, before.message()), (125, Some("a")));
        for code in ["0 ", "1 ", "2 ", "125 ", "126 ", "127 ", "128+n "] {
            assert!(
                super::super::args::EXIT_CODES.contains(&format!("\n  {code}")),
                "{code}"
            );
        }
    }
}
