//! What a switch port reads frames from and writes them to.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
};

use vswitch_wire::Abilities;

use super::{
    packet::{self, PacketSocket},
    tap::{self, Tap},
};

/// Our end of a container's interface.
#[derive(Debug)]
pub enum Device {
    /// A veth: the socket is on its other end, which is alone in a namespace that only the socket keeps alive
    /// ([`carrier`](super::attach)). It goes away with the socket.
    Packet(PacketSocket),
    /// A TAP, which may outlive its descriptor.
    Tap(Tap),
}

impl Device {
    /// What the kernel on the other end takes and gives: partial checksums and super-frames.
    pub fn abilities(&self) -> Abilities {
        match self {
            Self::Packet(socket) => socket.abilities(),
            Self::Tap(tap) => tap.abilities(),
        }
    }

    /// Reads the next frame that the container sent, header first, and returns the length of both.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none; one for which [`is_lost`](Self::is_lost) holds when the interface is gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Packet(socket) => socket.read(buffer),
            Self::Tap(tap) => tap.read(buffer),
        }
    }

    /// Writes one frame to the container, given as header and parts in order.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the container does not keep up; one for which [`is_lost`](Self::is_lost) holds when the
    /// interface is gone; others for this frame.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Packet(socket) => socket.write(parts),
            Self::Tap(tap) => tap.write(parts),
        }
    }

    /// Whether an error of this device says that the interface has been deleted, by the container or with its
    /// namespace.
    pub fn is_lost(&self, error: &io::Error) -> bool {
        match self {
            // Nobody but the kernel can set a veth's other end down, and it does so to delete it; afterwards a read
            // may have nothing more to say.
            Self::Packet(_) => packet::is_lost(error) || packet::is_link_down(error),
            Self::Tap(_) => tap::is_lost(error),
        }
    }

    /// Frames of the container that were lost before they could be read. A TAP's show in the container, at its interface.
    pub fn drops(&self) -> u64 {
        match self {
            Self::Packet(socket) => socket.drops().unwrap_or(0),
            Self::Tap(_) => 0,
        }
    }

    /// Closes our end for good: the interface disappears from the container. Takes tens of milliseconds.
    ///
    /// # Errors
    ///
    /// The kernel's; none when the interface was gone already.
    pub fn delete(self) -> io::Result<()> {
        match self {
            Self::Packet(_) => Ok(()),
            Self::Tap(tap) => match tap.set_persist(false) {
                Err(error) if !tap::is_lost(&error) => Err(error),
                _ => Ok(()),
            },
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Packet(socket) => socket.as_fd(),
            Self::Tap(tap) => tap.as_fd(),
        }
    }
}

impl From<PacketSocket> for Device {
    fn from(socket: PacketSocket) -> Self {
        Self::Packet(socket)
    }
}

impl From<Tap> for Device {
    fn from(tap: Tap) -> Self {
        Self::Tap(tap)
    }
}
