//! Descriptors that a process was started with.

use std::{
    os::fd::{FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

/// Takes those of the descriptors that are open; nothing from the second call on. To be called before this process
/// has opened anything: later, the numbers may be others' descriptors.
pub(crate) fn take<const N: usize>(numbers: [RawFd; N]) -> [Option<OwnedFd>; N] {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let is_first = !TAKEN.swap(true, Ordering::Relaxed);
    numbers.map(|number| {
        // SAFETY: the call only asks for the descriptor's flags, and fails if there is no such descriptor.
        let is_open = is_first && unsafe { libc::fcntl(number, libc::F_GETFD) } != -1;
        // SAFETY: it is open, came with the process (by the caller's word) and is given away once only.
        is_open.then(|| unsafe { OwnedFd::from_raw_fd(number) })
    })
}
