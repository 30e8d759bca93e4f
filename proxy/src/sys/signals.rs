//! Signals as events.

use std::{
    io, mem,
    os::fd::{FromRawFd, OwnedFd},
    ptr,
};

use super::check;

/// A descriptor that becomes readable once `SIGINT` or `SIGTERM` has come to this thread or the process, which they
/// no longer end by themselves (signalfd(2)). For a process of one thread.
///
/// # Errors
/// No descriptor is left.
pub(crate) fn stops() -> io::Result<OwnedFd> {
    // SAFETY: a `sigset_t` is an array of integers, valid when zero; the calls read and write only `set`, which lives
    // for all of them.
    let fd = check(unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        check(libc::sigprocmask(
            libc::SIG_BLOCK,
            &raw const set,
            ptr::null_mut(),
        ))?;
        libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
    })?;
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
