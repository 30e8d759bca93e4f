//! What no safe crate offers of sockets. The only module of the crate that contains `unsafe`.
#![allow(unsafe_code)]

pub(crate) mod stream;

use std::io;

use libc::c_int;

/// Maps −1 to the error that it stands for.
fn check(result: c_int) -> io::Result<c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}
