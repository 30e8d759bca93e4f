//! The command line client; see `vswitch::cli` for its exit codes.

use std::{env, process::ExitCode};

use vswitch::{cli, hidden};

fn main() -> ExitCode {
    // Entering namespaces needs a process with one thread, so this comes before everything else.
    hidden::run_hidden(env::args_os()).unwrap_or_else(|| cli::run(env::args_os()))
}
