//! The daemon; see `vswitch::daemon` for its exit codes.

use std::{env, process::ExitCode};

use vswitch::{daemon, hidden};

fn main() -> ExitCode {
    // Entering namespaces needs a process with one thread, so this comes before everything else.
    hidden::run_hidden(env::args_os()).unwrap_or_else(|| daemon::main(env::args_os()))
}
