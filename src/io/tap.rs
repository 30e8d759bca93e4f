//! TAP devices: the container's end is an interface, ours a descriptor with one frame per read or write.
//!
//! Each frame is preceded by a 10-byte virtio-net header, so that a container hands over up to 64 KiB at
//! once with unfinished checksums and takes the same back.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
};

use vswitch_wire::Abilities;

use super::sys::{self, TunNumber, TunSize};

/// A served TAP: non-blocking, with vnet header, offloads switched on as far as the kernel knows them.
///
/// Dropping it closes the descriptor; the interface stays if it is persistent, else it disappears.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    abilities: Abilities,
}

impl Tap {
    /// Takes a bound TAP descriptor into service.
    ///
    /// Works in any process that holds the descriptor, also outside the interface's namespace. It must have
    /// been bound with `IFF_NO_PI`, as [`open`] does it; the kernel does not tell.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the descriptor is not a TAP with vnet header; an error for which [`is_lost`] holds if its device has been deleted.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let (name, flags) = sys::tun_interface(fd.as_fd())?;
        // TUNGETIFF reports IFF_NO_PI for every device, so that flag says nothing.
        if flags & (libc::IFF_TAP | libc::IFF_VNET_HDR) != libc::IFF_TAP | libc::IFF_VNET_HDR {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name} is not a TAP with IFF_VNET_HDR (flags {flags:#x})"),
            ));
        }
        let status = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, status | rustix::fs::OFlags::NONBLOCK)?;
        sys::tun_set_size(fd.as_fd(), TunSize::VnetHeader, VNET_HEADER_LEN)?;
        sys::tun_set_size(fd.as_fd(), TunSize::SendBuffer, SEND_BUFFER)?;
        let abilities = probe_offloads(fd.as_fd())?;
        Ok(Self { fd, abilities })
    }

    /// What the kernel on the other end takes and gives: partial checksums and super-frames.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Switches exactly these offloads on. What is off, the container's kernel does itself before it hands a
    /// frame over, and whoever writes must do before [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// `EINVAL` when the kernel does not know one of them, or one is missing that another needs (everything
    /// needs `CSUM`, ECN needs TSO, the two USO bits go together).
    pub fn set_offloads(&mut self, offloads: Abilities) -> io::Result<()> {
        switch_offloads(self.as_fd(), offloads)?;
        self.abilities = offloads;
        Ok(())
    }

    /// Reads the next frame that the container sent, header first, and returns the length of both.
    ///
    /// A frame that does not fit into `buffer` is cut silently by the kernel: offer
    /// [`LARGEST_READ`] bytes.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none; an error for which [`is_lost`] holds when the device is gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, buffer)?)
    }

    /// Writes one frame to the container, given as header and parts in order.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the container does not keep up; one for which [`is_link_down`] holds when the
    /// container has set the interface down; one for which [`is_lost`] holds when the device is gone;
    /// `EINVAL` when the header does not describe the frame.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.fd, parts)?)
    }

    /// Decides whether the interface outlives this descriptor.
    ///
    /// # Errors
    ///
    /// One for which [`is_lost`] holds when the device is gone.
    pub fn set_persist(&self, persist: bool) -> io::Result<()> {
        sys::tun_set_number(self.fd.as_fd(), TunNumber::Persist, persist.into())
    }

    /// The interface's present name; the container may have changed it.
    ///
    /// # Errors
    ///
    /// One for which [`is_lost`] holds when the device is gone.
    pub fn name(&self) -> io::Result<String> {
        Ok(sys::tun_interface(self.fd.as_fd())?.0)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Whether the error says that the device has been deleted, by the container or with its namespace.
///
/// A device whose descriptor was opened inside the namespace pins that namespace: then the container's
/// end does not show here, watch its process as well ([`Liveness`](super::netns::Liveness)).
pub fn is_lost(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

/// Whether the error says that the container has set the interface down; it may come up again.
pub fn is_link_down(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// How [`open`] finds its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Attach to the existing persistent interface, or create it.
    Any,
    /// Create the interface; one that exists is an error (`EBUSY`).
    New,
}

/// Opens `/dev/net/tun` for a TAP called `name` in the calling thread's network namespace.
///
/// A new interface is not persistent yet: it goes away with the descriptor. `name` may contain `%d`.
///
/// # Errors
///
/// [`OpenError`] tells the device file and the interface apart.
pub fn open(name: &str, opening: Opening) -> Result<OwnedFd, OpenError> {
    let tun = open_tun().map_err(OpenError::Device)?;
    let exclusive = match opening {
        Opening::Any => 0,
        Opening::New => libc::IFF_TUN_EXCL,
    };
    sys::tun_set_interface(tun.as_fd(), name, FLAGS | exclusive).map_err(OpenError::Interface)?;
    Ok(tun.into())
}

/// Why a TAP could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The device file could not be opened.
    #[error("open {TUN_DEVICE}: {0}")]
    Device(#[source] io::Error),
    /// The interface could not be created or attached to.
    #[error("TUNSETIFF: {0}")]
    Interface(#[source] io::Error),
}

fn open_tun() -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(TUN_DEVICE)
}

fn switch_offloads(tun: BorrowedFd<'_>, offloads: Abilities) -> io::Result<()> {
    sys::tun_set_number(tun, TunNumber::Offload, offloads.tun_flags())
}

fn probe_offloads(tun: BorrowedFd<'_>) -> io::Result<Abilities> {
    for abilities in OFFLOADS {
        match switch_offloads(tun, abilities) {
            Ok(()) => return Ok(abilities),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Abilities::EMPTY)
}

/// The device file that TAPs are made from (Documentation/networking/tuntap.rst).
pub const TUN_DEVICE: &str = "/dev/net/tun";

/// Bytes that hold any frame with its header: a GSO packet of 64 KiB (`GSO_LEGACY_MAX_SIZE`,
/// include/linux/netdevice.h), Ethernet header and one VLAN tag, vnet header; rounded up.
pub const LARGEST_READ: usize = 65_536 + 64;

/// Bytes in front of each frame: `struct virtio_net_hdr` without `num_buffers` (linux/virtio_net.h).
pub const VNET_HEADER_LEN: libc::c_int = 10;

/// Bytes in flight to a container before `EAGAIN`. The socket default of about 208 KiB holds three
/// super-frames and throttles bulk flows; 4 MiB hold 64 (DESIGN.md §3).
const SEND_BUFFER: libc::c_int = 4 << 20;

const FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Sets of `TUN_F_*` from the largest down (linux/if_tun.h): everything else needs CSUM, ECN needs TSO, and
/// the two USO bits (kernel 6.2) are accepted only together. The kernel refuses unknown bits.
const OFFLOADS: [Abilities; 5] = [
    Abilities::ALL,
    TSO.union(Abilities::ECN),
    TSO,
    Abilities::CSUM,
    Abilities::EMPTY,
];

const TSO: Abilities = Abilities::CSUM.union(Abilities::TSO4).union(Abilities::TSO6);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tap_is_adopted() {
        let file = File::open("/dev/null").expect("/dev/null is readable");
        let error = Tap::adopt(file.into()).expect_err("not a TAP");
        assert!(!is_lost(&error) && !is_link_down(&error), "{error}");
    }

    #[test]
    fn errors_are_told_apart() {
        let [lost, down, full] = [libc::EBADFD, libc::EIO, libc::EAGAIN].map(io::Error::from_raw_os_error);
        assert!(is_lost(&lost) && !is_lost(&down) && !is_lost(&full));
        assert!(is_link_down(&down) && !is_link_down(&lost) && !is_link_down(&full));
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_probe_goes_from_all_to_nothing() {
        assert_eq!(OFFLOADS.map(Abilities::tun_flags), [0x6f, 0x0f, 0x07, 0x01, 0]);
    }

    #[test]
    fn every_offered_offload_set_obeys_the_kernels_rules() {
        for bits in OFFLOADS.map(Abilities::tun_flags) {
            let (csum, tso, ecn, uso) = (bits & 1 != 0, bits & 6 != 0, bits & 8 != 0, bits & 0x60);
            assert!(csum || bits == 0, "{bits:#x}");
            assert!(tso || !ecn, "{bits:#x}");
            assert!(uso == 0 || uso == 0x60, "{bits:#x}");
        }
    }
}
