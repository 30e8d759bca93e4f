//! Socket calls of TCP flows.

use std::{
    io,
    mem::size_of_val,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
    time::Duration,
};

use libc::{c_int, c_void, socklen_t};

use super::check;

/// Removes `len` bytes from the start of a TCP socket's receive queue without copying them (`MSG_TRUNC`, tcp(7));
/// returns how many it removed.
///
/// # Errors
/// The kernel's, such as `WouldBlock` when the queue is empty.
pub(crate) fn discard(socket: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC the kernel writes nothing to the buffer of a TCP socket (tcp_recvmsg_locked,
    // net/ipv4/tcp.c), so a null pointer is never followed.
    let removed = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            ptr::null_mut(),
            len,
            libc::MSG_TRUNC | libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(removed).map_err(|_| io::Error::last_os_error())
}

/// What a peek has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peeked {
    /// Bytes copied.
    pub(crate) len: usize,
    /// Bytes in the whole receive queue, one more if the stream ends behind them; `None` if the kernel does not tell.
    pub(crate) queued: Option<u32>,
}

/// Copies from a TCP socket's receive queue without removing anything (`MSG_PEEK`), from where `SO_PEEK_OFF` is. With
/// [`INQ`](super::IntOption::INQ) set, also tells how long the queue is.
///
/// # Errors
/// The kernel's, such as `WouldBlock` when nothing is there.
pub(crate) fn peek(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Peeked> {
    let mut piece = libc::iovec {
        iov_base: into.as_mut_ptr().cast::<c_void>(),
        iov_len: into.len(),
    };
    // In words of 8 bytes, as control messages are aligned.
    let mut control = [0u64; INQ_CONTROL];
    // SAFETY: `msghdr` consists of integers and pointers, all valid when zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast::<c_void>();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the piece is `into` and the control buffer `control`, both borrowed exclusively for the whole call.
    let copied = unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut message,
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    let len = usize::try_from(copied).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled in `message`, whose control buffer lives on; the result is null or points into it.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: it is null or a header that the kernel has written.
    let queued = unsafe { header.as_ref() }
        .filter(|header| (header.cmsg_level, header.cmsg_type) == (libc::IPPROTO_TCP, TCP_CM_INQ))
        // SAFETY: a message of this type carries an `int` (tcp_recvmsg, net/ipv4/tcp.c), which need not be aligned.
        .map(|header| unsafe { libc::CMSG_DATA(header).cast::<c_int>().read_unaligned() });
    Ok(Peeked {
        len,
        queued: queued.and_then(|queued| u32::try_from(queued).ok()),
    })
}

/// Copies what lies `skip` bytes behind the start of the receive queue to `into`, on kernels that can only peek
/// at the start: everything before goes to `waste`, again and again. Returns the bytes copied, those to
/// `waste` included.
///
/// # Errors
/// The kernel's; `InvalidInput` if `waste` is too small for so much.
pub(crate) fn peek_behind(
    socket: BorrowedFd<'_>,
    skip: usize,
    waste: &mut [u8],
    into: &mut [u8],
) -> io::Result<usize> {
    let mut pieces = [libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    }; PIECES];
    let (mut left, mut count) = (skip, 0);
    while left > 0 {
        let len = left.min(waste.len());
        if len == 0 || count == PIECES - 1 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        pieces[count] = libc::iovec {
            iov_base: waste.as_mut_ptr().cast::<c_void>(),
            iov_len: len,
        };
        (left, count) = (left - len, count + 1);
    }
    pieces[count] = libc::iovec {
        iov_base: into.as_mut_ptr().cast::<c_void>(),
        iov_len: into.len(),
    };
    // SAFETY: `msghdr` consists of integers and pointers, all valid when zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = (count + 1) as _;
    // SAFETY: each piece lies in `waste` or `into`, which are borrowed exclusively for the whole call; that the
    // pieces in `waste` overlap only means that its contents are anything.
    let copied = unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut message,
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(copied).map_err(|_| io::Error::last_os_error())
}

/// Bytes that a socket may queue for sending, and those that it has queued, both with the kernel's own
/// overhead (`SO_MEMINFO`, linux/sock_diag.h).
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendMemory {
    pub(crate) limit: u32,
    pub(crate) queued: u32,
}

impl SendMemory {
    /// Whether epoll calls the socket writable (`__sk_stream_is_writeable`, net/core/stream.c).
    pub(crate) fn is_writable(self) -> bool {
        self.limit.saturating_sub(self.queued) >= self.queued / 2
    }
}

/// Reads what a socket has queued for sending.
///
/// # Errors
/// The kernel's.
pub(crate) fn send_memory(socket: BorrowedFd<'_>) -> io::Result<SendMemory> {
    let mut values = [0u32; MEMINFO_VARS];
    option(socket, libc::SOL_SOCKET, SO_MEMINFO, &mut values)?;
    Ok(SendMemory {
        limit: values[MEMINFO_SNDBUF],
        queued: values[MEMINFO_WMEM_QUEUED],
    })
}

/// What the kernel knows of a connection's peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// The window that it advertises, in bytes.
    pub(crate) window: u32,
    /// Sequence numbers that it has acknowledged, the SYN's included.
    pub(crate) acked: u64,
    /// Smoothed round trip.
    pub(crate) round_trip: Duration,
}

/// Reads what the kernel knows of the peer (`TCP_INFO`).
///
/// # Errors
/// The kernel's.
pub(crate) fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    // In words of 8 bytes, so that the kernel's 64-bit fields are aligned.
    let mut info = [0u64; TCP_INFO_LEN / 8];
    let len = option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    let word = |offset: usize| {
        let [low, high] = [info[offset / 8] & u64::from(u32::MAX), info[offset / 8] >> 32];
        let first = if cfg!(target_endian = "little") { low } else { high };
        let second = if cfg!(target_endian = "little") { high } else { low };
        (if offset.is_multiple_of(8) { first } else { second }) as u32
    };
    Ok(Peer {
        // Kernels before 5.4 do not tell it.
        window: if len > SND_WND { word(SND_WND) } else { u32::MAX },
        acked: info[BYTES_ACKED / 8],
        round_trip: Duration::from_micros(word(RTT).into()),
    })
}

/// Reads an option into `value`, as much of it as the kernel has; returns that length.
fn option<T: Into<u64>, const N: usize>(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &mut [T; N],
) -> io::Result<usize> {
    let mut len = size_of_val(value) as socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `value`, which consists of integers and lives
    // for the whole call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast::<c_void>(),
            &raw mut len,
        )
    })?;
    Ok(len as usize)
}

/// One control message with an `int`: 24 bytes.
const INQ_CONTROL: usize = 3;
/// `TCP_CM_INQ` (linux/tcp.h), which is `TCP_INQ`.
const TCP_CM_INQ: c_int = libc::TCP_INQ;

/// Pieces of a peek behind the start: enough for the largest window over [`Scratch`](crate::Scratch)'s datagrams.
const PIECES: usize = 32;

/// `SO_MEMINFO` (asm-generic/socket.h); libc has no name for it on all targets.
const SO_MEMINFO: c_int = 55;
/// `enum` in linux/sock_diag.h: `SK_MEMINFO_SNDBUF`, `SK_MEMINFO_WMEM_QUEUED`, `SK_MEMINFO_VARS`.
const MEMINFO_SNDBUF: usize = 3;
const MEMINFO_WMEM_QUEUED: usize = 5;
const MEMINFO_VARS: usize = 9;

/// Offsets in `struct tcp_info` (linux/tcp.h), which only ever grows at its end.
const RTT: usize = 68;
const BYTES_ACKED: usize = 120;
const SND_WND: usize = 228;
const TCP_INFO_LEN: usize = 240;
