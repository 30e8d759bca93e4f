//! Hidden first arguments under which our programs start themselves again.
//!
//! Joining or creating a user namespace needs a process with one thread (`setns(2)`, `unshare(2)`), so
//! that work is done in a fresh copy of the program before it creates a thread or a runtime.

use std::{ffi::OsString, iter, process::ExitCode};

use crate::{daemon, demo, io::attach, sandbox};

/// Does what a hidden first argument asks for, or gives `None` when there is none.
///
/// Every binary calls this first in `main`, before it creates a thread or a runtime, with
/// [`std::env::args_os`].
pub fn run_hidden(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    match args.next()?.to_str()? {
        attach::ATTACH_HELPER => Some(attach::helper_main()),
        sandbox::launch::SANDBOX_INIT => Some(sandbox::init::init_main()),
        sandbox::enter::SANDBOX_ENTER => Some(sandbox::enter::enter_main(args)),
        daemon::HIDDEN => Some(daemon::main(iter::once(daemon::HIDDEN.into()).chain(args))),
        demo::AGENT => Some(demo::run_agent(args)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_arguments_are_not_ours() {
        for args in [
            &["vswitchd"][..],
            &["vswitchd", "--help"],
            &["vswitchd", "x", "attach-helper"],
        ] {
            assert!(run_hidden(args.iter().map(OsString::from)).is_none(), "{args:?}");
        }
    }
}
