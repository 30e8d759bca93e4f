//! What no safe crate offers: the TUN/TAP and namespace ioctls, packet sockets, and waiting for a descriptor in
//! tokio.
//!
//! This is the only module of the package, with those below it, that contains `unsafe`.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use libc::{c_char, c_int, c_short, c_uint, c_ulong};
use tokio::io::{Interest, unix::AsyncFd};

pub mod ethtool;
pub mod packet;

/// Longest interface name in bytes, without the terminating zero (`IFNAMSIZ` − 1, linux/if.h).
pub const INTERFACE_NAME_MAX: usize = libc::IFNAMSIZ - 1;

/// Binds a `/dev/net/tun` descriptor to the interface `name`, which is created if it does not exist, and
/// returns the name that the kernel gave it (`TUNSETIFF`).
///
/// # Errors
///
/// `InvalidInput` if the name is empty, too long or contains a zero byte; else the kernel's error.
pub fn tun_set_interface(tun: BorrowedFd<'_>, name: &str, flags: c_int) -> io::Result<String> {
    let mut request = interface_request(name)?;
    // The kernel reads the 16 bits of `ifr_flags`; IFF_TUN_EXCL is the topmost of them.
    request.ifr_ifru.ifru_flags = flags as u16 as c_short;
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq` (drivers/net/tun.c: __tun_chr_ioctl), which
    // `request` is for the whole call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(interface_name(&request))
}

/// The present name of the TAP behind a descriptor, and its flags (`TUNGETIFF`).
///
/// # Errors
///
/// `EBADFD` if the descriptor is not bound to a device or its device has been deleted.
pub fn tun_interface(tun: BorrowedFd<'_>) -> io::Result<(String, c_int)> {
    // SAFETY: `ifreq` consists of integers, arrays of them and a pointer, all valid when zero.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // SAFETY: TUNGETIFF writes one `struct ifreq`, which `request` is for the whole call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    // SAFETY: the kernel has filled `ifr_flags`; any bit pattern is a valid integer.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok((interface_name(&request), c_int::from(flags as u16)))
}

/// A TUN/TAP ioctl whose argument is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunNumber {
    /// `TUNSETOFFLOAD`: what the reader of the descriptor can take, as `TUN_F_*` bits.
    Offload,
    /// `TUNSETOWNER`: the user who may attach to the device without `CAP_NET_ADMIN`.
    Owner,
    /// `TUNSETPERSIST`: whether the device outlives its last descriptor.
    Persist,
}

/// Calls one of the ioctls whose argument is a number.
///
/// # Errors
///
/// The kernel's error, such as `EINVAL` for a combination of offloads that it does not know.
pub fn tun_set_number(tun: BorrowedFd<'_>, what: TunNumber, value: c_uint) -> io::Result<()> {
    let request = match what {
        TunNumber::Offload => libc::TUNSETOFFLOAD,
        TunNumber::Owner => libc::TUNSETOWNER,
        TunNumber::Persist => libc::TUNSETPERSIST,
    };
    // SAFETY: these three take the argument itself, not a pointer (drivers/net/tun.c).
    check(unsafe { libc::ioctl(tun.as_raw_fd(), request, c_ulong::from(value)) })?;
    Ok(())
}

/// A TUN/TAP ioctl whose argument points to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunSize {
    /// `TUNSETSNDBUF`: bytes that may be in flight into the network namespace before `EAGAIN`.
    SendBuffer,
    /// `TUNSETVNETHDRSZ`: bytes of the header in front of each frame.
    VnetHeader,
}

/// Calls one of the ioctls whose argument points to a number.
///
/// # Errors
///
/// The kernel's error, such as `EINVAL` for a size that it refuses.
pub fn tun_set_size(tun: BorrowedFd<'_>, what: TunSize, value: c_int) -> io::Result<()> {
    let request = match what {
        TunSize::SendBuffer => libc::TUNSETSNDBUF,
        TunSize::VnetHeader => libc::TUNSETVNETHDRSZ,
    };
    // SAFETY: both read one `int` through the pointer, and `value` lives for the whole call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), request, &raw const value) })?;
    Ok(())
}

/// The user namespace that owns a namespace (`NS_GET_USERNS`, ioctl_nsfs(2)).
///
/// # Errors
///
/// `EPERM` if the owner is outside the caller's own hierarchy.
pub fn namespace_owner(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: NS_GET_USERNS takes no argument and returns a new descriptor.
    let fd = check(unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_USERNS) })?;
    // SAFETY: the kernel has just created `fd` (with close-on-exec) for us and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kind of a namespace as a `CLONE_NEW*` flag (`NS_GET_NSTYPE`, ioctl_nsfs(2)).
///
/// # Errors
///
/// `ENOTTY` if the descriptor is not a namespace.
pub fn namespace_kind(namespace: BorrowedFd<'_>) -> io::Result<c_int> {
    // SAFETY: NS_GET_NSTYPE takes no argument and returns a number.
    check(unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_NSTYPE) })
}

/// The user who created a user namespace, as the caller's namespace numbers users
/// (`NS_GET_OWNER_UID`, ioctl_nsfs(2)).
///
/// # Errors
///
/// `EINVAL` if the descriptor is not a user namespace.
pub fn user_namespace_creator(namespace: BorrowedFd<'_>) -> io::Result<libc::uid_t> {
    let mut uid: libc::uid_t = 0;
    // SAFETY: NS_GET_OWNER_UID writes one `uid_t` through the pointer, and `uid` lives for the call.
    check(unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_OWNER_UID, &raw mut uid) })?;
    Ok(uid)
}

/// Lets a tokio task wait until the descriptor is readable.
///
/// # Errors
///
/// The kernel's, such as `EPERM` for a descriptor that cannot be polled.
///
/// # Panics
///
/// Outside of a tokio runtime with I/O.
pub fn watch_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and always gives the same number until it is dropped, and the `AsyncFd`
    // owns it from here on; closing a descriptor that somebody else owns is what `OwnedFd` rules out.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Takes the descriptors that the service manager has passed to this process, `count` of them from 3 on
/// (`SD_LISTEN_FDS_START`, sd_listen_fds(3)), and sets them close-on-exec. Those that are not open are left out; a
/// second call gives none.
///
/// Must be called before the process opens anything that it means to keep.
pub fn take_inherited(count: u16) -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let numbers = (0..count).map(|index| INHERITED_START + c_int::from(index));
    numbers
        .filter_map(|number| {
            // SAFETY: F_SETFD takes a number; on a descriptor that is not open it fails without effect.
            check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
            // SAFETY: the descriptor is open. It came with the process, so that nothing in it owns it but by this
            // function, which does so once.
            Some(unsafe { OwnedFd::from_raw_fd(number) })
        })
        .collect()
}

/// `SD_LISTEN_FDS_START`.
const INHERITED_START: c_int = 3;

fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > INTERFACE_NAME_MAX || bytes.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("an interface name has 1 to {INTERFACE_NAME_MAX} bytes: {name:?}"),
        ));
    }
    // SAFETY: `ifreq` consists of integers, arrays of them and a pointer, all valid when zero.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(bytes) {
        *slot = *byte as c_char;
    }
    Ok(request)
}

fn interface_name(request: &libc::ifreq) -> String {
    let bytes: Vec<u8> = request
        .ifr_name
        .iter()
        .map(|&byte| byte as u8)
        .take_while(|&byte| byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd};

    use super::*;

    #[test]
    fn names_are_checked_before_they_are_copied() {
        for name in ["", "sixteen-bytes-xx", "a\0b"] {
            let error = interface_request(name).err().map(|error| error.kind());
            assert_eq!(error, Some(io::ErrorKind::InvalidInput), "{name:?}");
        }
        let request = interface_request("fifteen-bytes-x").expect("15 bytes fit");
        assert_eq!(interface_name(&request), "fifteen-bytes-x");
    }

    #[test]
    fn the_kind_of_our_own_namespace_is_known() {
        let namespace = File::open("/proc/self/ns/net").expect("own namespaces are readable");
        assert_eq!(namespace_kind(namespace.as_fd()).ok(), Some(libc::CLONE_NEWNET));
        assert_eq!(
            user_namespace_creator(namespace.as_fd()).map_err(|error| error.raw_os_error()),
            Err(Some(libc::EINVAL))
        );
    }

    #[tokio::test]
    async fn a_descriptor_is_readable_when_its_other_end_writes_or_closes() {
        use std::io::Write;
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let reader = watch_readable(reader.into()).expect("pipes can be polled");
        writer.write_all(b"x").expect("the pipe has room");
        drop(reader.readable().await.expect("the runtime lives"));
        drop(writer);
        drop(reader.readable().await.expect("the runtime lives"));
    }

    #[tokio::test]
    async fn a_plain_file_cannot_be_waited_for() {
        let file = File::open("/proc/self/stat").expect("own stat is readable");
        watch_readable(file.into()).expect_err("files are always ready");
    }

    #[test]
    fn a_plain_file_is_no_namespace() {
        let file = File::open("/proc/self/stat").expect("own stat is readable");
        let error = namespace_kind(file.as_fd()).map_err(|error| error.raw_os_error());
        assert_eq!(error, Err(Some(libc::ENOTTY)));
    }
}
