//! What no safe crate offers: an allocator that counts, which proves that the packet path does not allocate,
//! and packet sockets.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use libc::{c_int, sockaddr_ll, socklen_t};

pub mod packet;

/// The system's allocator, counting what it gives. A bench installs it as `#[global_allocator]`.
#[derive(Debug)]
pub struct CountingAllocator {
    allocations: AtomicU64,
    held: AtomicU64,
}

impl CountingAllocator {
    /// An allocator that has given nothing yet.
    #[expect(
        clippy::new_without_default,
        reason = "a global allocator is made in a constant"
    )]
    pub const fn new() -> Self {
        Self {
            allocations: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    /// How many allocations `work` makes, on all threads.
    pub fn count(&self, work: impl FnOnce()) -> u64 {
        let before = self.allocations.load(Ordering::Relaxed);
        work();
        self.allocations.load(Ordering::Relaxed) - before
    }

    /// Bytes that were given and not taken back.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

// SAFETY: every call goes to `System` unchanged, which upholds the contract; growing and zeroed allocation
// have default implementations over `alloc`.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        self.held.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.held.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// A non-blocking packet socket on the interface of this index. Each frame that it reads is one that came in
/// there, each that it writes goes out there, with a [`vswitch_wire::VnetHeader`] in front (`PACKET_VNET_HDR`,
/// packet(7)). Keeps up to `waiting` bytes for its reader.
///
/// # Errors
/// The kernel's; `EPERM` without `CAP_NET_RAW` and `CAP_NET_ADMIN` in the owner of the network namespace.
pub fn packet_socket(interface: u32, waiting: c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0 receives nothing until `bind` names another.
    // SAFETY: socket takes no pointer.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the kernel has just created `fd` for us and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    set_option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    // The limit of others needs a capability in the initial user namespace.
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, waiting)
        .or_else(|_| set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, waiting))?;

    bind_packet_socket(&socket, interface)?;
    Ok(socket)
}

fn bind_packet_socket(socket: &OwnedFd, interface: u32) -> io::Result<()> {
    // SAFETY: `sockaddr_ll` consists of integers and an array of them, all valid when zero.
    let mut address: sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = c_int::try_from(interface).map_err(io::Error::other)?;
    let len = mem::size_of::<sockaddr_ll>() as socklen_t;
    // SAFETY: bind reads `len` bytes of `address`, which it has and which live for the whole call.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(())
}

/// linux/if_packet.h, since Linux 4.20.
const PACKET_IGNORE_OUTGOING: c_int = 23;

fn set_option(socket: &OwnedFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let len = mem::size_of::<c_int>() as socklen_t;
    // SAFETY: setsockopt reads `len` bytes of `value`, which it has and which live for the whole call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    check(result).map(drop)
}

fn check(result: c_int) -> io::Result<c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(result),
    }
}
