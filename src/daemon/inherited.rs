//! Sockets from the service manager (sd_listen_fds(3)): published ports that an ordinary user may not bind.

use std::{env, os::fd::OwnedFd};

use crate::io::sys;

/// The descriptors that were passed to this process, close-on-exec.
///
/// The variables stay in the environment: removing them is not sound beside other threads, they are for the process
/// that `LISTEN_PID` names only, and attach processes get no environment.
pub(super) fn take() -> Vec<OwnedFd> {
    let variable = |name| env::var(name).ok();
    match count(variable("LISTEN_PID"), variable("LISTEN_FDS"), std::process::id()) {
        0 => Vec::new(),
        count => sys::take_inherited(count),
    }
}

/// How many are for the process `own`.
fn count(pid: Option<String>, descriptors: Option<String>, own: u32) -> u16 {
    let is_ours = pid.and_then(|pid| pid.parse().ok()) == Some(own);
    let count = descriptors.and_then(|count| count.parse().ok());
    count.filter(|_| is_ours).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_us_is_taken() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(count(text("7"), text("2"), 7), 2);
        for (pid, descriptors) in [
            (text("8"), text("2")),
            (None, text("2")),
            (text("7"), None),
            (text("7"), text("-1")),
            (text("7"), text("70000")),
            (text("x"), text("2")),
        ] {
            assert_eq!(
                count(pid.clone(), descriptors.clone(), 7),
                0,
                "{pid:?} {descriptors:?}"
            );
        }
    }
}
