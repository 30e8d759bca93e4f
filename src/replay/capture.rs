//! Capture files: classic pcap and pcapng are read, pcapng is written.
//!
//! pcapng is what `tcpdump`, `dumpcap` and Wireshark take and the only one of the two that names interfaces, so
//! that one file can hold both sides of a router.

mod description;
mod read;
mod write;

use std::{fmt, io};

pub use read::{Reader, Record};
pub use write::{InterfaceId, Writer};

/// When a packet was captured: nanoseconds since 1970, up to the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// Where packets were captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, if the file says it.
    pub name: Option<String>,
    /// What its packets begin with.
    pub link: LinkType,
}

/// What is in front of a captured IP packet: a number of the registry of link-layer header types
/// (draft-ietf-opsawg-pcaplinktype).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// Ethernet, perhaps with VLAN tags.
    pub const ETHERNET: Self = Self(1);
    /// Nothing; `DLT_RAW` of OpenBSD and of everybody else, as careless programs write it into files.
    pub const RAW_DLT: [Self; 2] = [Self(12), Self(14)];
    /// Nothing.
    pub const RAW: Self = Self(101);
    /// Linux "cooked": a capture on `any`.
    pub const LINUX_SLL: Self = Self(113);
    /// Nothing, and the packet is IPv4.
    pub const IPV4: Self = Self(228);
    /// Nothing, and the packet is IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux "cooked", version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A capture file that cannot be read on, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", Place(*packet))]
pub struct CaptureError {
    /// The packet that was to be read, from 1 as Wireshark numbers them; 0 for the beginning of the file.
    pub packet: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a capture file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It ends where more must follow.
    #[error("the file ends in the middle of it; packets before it are whole")]
    Cut,
    /// The operating system cannot read it.
    #[error("read: {0}")]
    Io(#[from] io::Error),
    /// A block's lengths contradict each other.
    #[error("the lengths in its block contradict each other; the file is damaged")]
    Lengths,
    /// It begins as no capture does.
    #[error("this is no capture; give a file in pcap or pcapng format")]
    NotACapture,
    /// A packet is larger than any program captures.
    #[error("it claims {0} bytes, and no capture has more than {max}; the file is damaged", max = MAX_CAPTURED)]
    TooLong(u32),
    /// A description of an interface, or of a section, is larger than it can reasonably be.
    #[error("a block before it describes an interface in {0} bytes; the file is damaged")]
    TooLongDescription(u32),
    /// More interfaces than a host has.
    #[error("there are more than {max} interfaces before it; the file is damaged", max = MAX_INTERFACES)]
    TooManyInterfaces,
    /// The interface was not described before.
    #[error("it was captured on interface {0}, which the file does not describe")]
    UnknownInterface(u32),
    /// Another version of the format.
    #[error("it is version {0}.{1} of its format, which is not known here")]
    Version(u16, u16),
}

/// Where in a file.
struct Place(u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("its beginning"),
            number => write!(f, "packet {number}"),
        }
    }
}

/// `MAXIMUM_SNAPLEN` of libpcap: what `tcpdump` and `dumpcap` capture at most of a packet.
const MAX_CAPTURED: u32 = 262_144;

/// A host has fewer interfaces.
const MAX_INTERFACES: usize = 4096;

/// Blocks of a file of ours, and the fields of theirs that both directions need.
mod block {
    pub(super) const SECTION: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE: u32 = 1;
    /// Obsolete, but old files have it.
    pub(super) const PACKET: u32 = 2;
    pub(super) const SIMPLE_PACKET: u32 = 3;
    pub(super) const ENHANCED_PACKET: u32 = 6;

    /// Tells the byte order of a section.
    pub(super) const BYTE_ORDER: u32 = 0x1a2b_3c4d;

    pub(super) const OPTION_END: u16 = 0;
    pub(super) const INTERFACE_NAME: u16 = 2;
    /// Resolution of timestamps: a negative power of 10, or of 2 if the top bit is set.
    pub(super) const RESOLUTION: u16 = 9;
    /// Seconds to add to timestamps.
    pub(super) const OFFSET: u16 = 14;
}

#[cfg(test)]
mod tests;
