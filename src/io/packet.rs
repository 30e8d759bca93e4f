//! Packet sockets: frames of an interface that a network namespace has already, a veth's end or a host's device.
//!
//! They read and write what a [`Tap`](super::tap::Tap) does: a 10-byte virtio-net header, then the frame. Super-frames
//! and unfinished checksums pass both ways; where the interface's driver cannot send them, the kernel segments and
//! sums in software (net/core/dev.c: validate_xmit_skb).
//!
//! Unlike a TAP, an interface behind a packet socket belongs to somebody else as well: the namespace's own stack sees
//! every frame too, and the kernel takes VLAN tags off. They are put back here. And a veth may deliver frames of one flow in
//! another order, when its sender runs on several processors (net/core/dev.c: enqueue_to_backlog, one queue for each);
//! TCP counts retransmissions then that nobody needed, as it does behind a kernel bridge. A TAP keeps the order.
//!
//! A frame per system call, on purpose (`bench packet`, on a veth, processor time of one thread, medians of nine rounds
//! on Linux 6.18). Calls for 32 frames at once save 3 to 5 % of receiving a small frame (3.0 µs, 1 of them the
//! reader's), nothing of a super-frame (12 µs), and 2 to 11 % of sending (1.7 and 4.3 µs). A `TPACKET_V3` ring, which takes vnet headers if
//! they are asked for first (later is `EBUSY`), saves a third of receiving and leaves the reader next to nothing to
//! do; but the kernel hands a block over when it is full or its timer, of 1 ms at least, has run out, so that a frame
//! alone, a TCP acknowledgement say, waits for 1000 µs in place of 5 to 8, and the ring's memory is held also when
//! nothing happens. `PACKET_QDISC_BYPASS` saves 1 % or nothing, and loses super-frames that the device cannot segment.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::sys::socket::{setsockopt, sockopt};
use vswitch_wire::{Abilities, MacAddr, VnetHeader};

use super::{
    netlink::Netlink,
    sys::packet::{self, Auxdata, PacketOption},
};

/// A socket that receives and sends all frames of one interface.
///
/// It keeps the network namespace where it was opened alive, and works in every process that holds it.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    abilities: Abilities,
    /// Frames that were lost before we could read them.
    drops: AtomicU64,
}

impl PacketSocket {
    /// Opens a socket on an interface of the calling thread's network namespace.
    ///
    /// An interface that is down is no error: the first read says so.
    ///
    /// # Errors
    ///
    /// One for which [`is_lost`] holds if there is no such interface; `PermissionDenied` without `CAP_NET_RAW` there;
    /// the kernel's if it is older than 4.20.
    pub fn open(interface: Interface<'_>, options: Options) -> io::Result<Self> {
        let fd = packet::open()?;
        let index = interface.index()?;
        packet::switch_on(fd.as_fd(), PacketOption::Auxdata)?;
        packet::switch_on(fd.as_fd(), PacketOption::IgnoreOutgoing)?;
        if let Err(error) = packet::switch_on(fd.as_fd(), PacketOption::VnetHeader) {
            tracing::warn!(%error, "packet sockets work without offloads: PACKET_VNET_HDR");
        }
        if let Some(mac) = options.filter {
            packet::attach_filter(fd.as_fd(), &filter_for(mac))?;
        }
        if options.promiscuity == Promiscuity::Promiscuous {
            packet::join_promiscuous(fd.as_fd(), index)?;
        }
        // Last, so that nothing is received that the options would have treated otherwise.
        packet::bind(fd.as_fd(), index)?;
        Self::adopt(fd)
    }

    /// Takes a bound socket into service that [`open`](Self::open) made, perhaps in another process.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the descriptor is not a bound packet socket.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let invalid = |text| io::Error::new(io::ErrorKind::InvalidInput, text);
        match packet::bound_interface(fd.as_fd()) {
            Ok(Some(_)) => {}
            Ok(None) => return Err(invalid("the packet socket is not bound to an interface")),
            Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => {
                return Err(invalid("this is not a socket"));
            }
            Err(error) => return Err(error),
        }
        // Here, because who opened the socket may have been allowed less than we are.
        enlarge_buffers(&fd)?;
        let status = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, status | rustix::fs::OFlags::NONBLOCK)?;
        let abilities = match packet::is_on(fd.as_fd(), PacketOption::VnetHeader)? {
            true if describes_udp_segments() => Abilities::ALL,
            true => WITHOUT_USO,
            false => Abilities::EMPTY,
        };
        Ok(Self {
            fd,
            abilities,
            drops: AtomicU64::new(0),
        })
    }

    /// What may be written: everything, as the kernel does in software what the interface cannot; no UDP super-frames before
    /// Linux 6.2, and nothing where the kernel has no vnet header for packet sockets.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Reads the next frame, header first, and returns the length of both. A VLAN tag is where it was on the wire.
    ///
    /// A frame that does not fit into `buffer` is cut silently: offer
    /// [`LARGEST_READ`](super::tap::LARGEST_READ) bytes.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none; one for which [`is_link_down`] holds, once, after the interface was set down;
    /// one for which [`is_lost`] holds, once, after it was deleted.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let header = match self.abilities.is_empty() {
            true => VNET_LEN,
            false => 0,
        };
        // What a tag needs must stay free.
        let Some(end) = buffer.len().checked_sub(TAG_LEN).filter(|&end| end > header) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        for _ in 0..UNREADABLE_MAX {
            match packet::receive(self.fd.as_fd(), &mut buffer[header..end]) {
                Ok((_, auxdata)) if header > 0 && auxdata.is_checksum_partial => {}
                Ok((length, auxdata)) => {
                    buffer[..header].fill(0);
                    return Ok(restore_tag(buffer, header + length, auxdata));
                }
                // Super-frames of a kind that vnet headers do not know, such as those of a tunnel, are lost one by one
                // (net/packet/af_packet.c: packet_rcv_vnet); behind them may be others.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                Err(error) if is_link_down(&error) && self.interface()?.is_none() => {
                    return Err(io::Error::from_raw_os_error(libc::ENODEV));
                }
                Err(error) => return Err(error),
            }
            self.drops.fetch_add(1, Ordering::Relaxed);
        }
        // Not `WouldBlock`: the caller would wait for an edge that does not come.
        Err(io::ErrorKind::Interrupted.into())
    }

    /// Sends one frame, given as header and parts in order.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the interface does not keep up; one for which [`is_link_down`] holds when it is down, and
    /// for which [`is_lost`] holds when it is gone; `EMSGSIZE` when the frame is longer than the interface's MTU
    /// allows; `EINVAL` when the header does not describe the frame.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = match (self.abilities.is_empty(), parts) {
            // The header can only say that there is nothing to do.
            (true, [header, rest @ ..]) if header.len() == VNET_LEN => rustix::io::writev(&self.fd, rest),
            _ => rustix::io::writev(&self.fd, parts),
        };
        match written {
            // The interface's own queue is full; what is full is the caller's business in one way only.
            Err(rustix::io::Errno::NOBUFS) => Err(io::ErrorKind::WouldBlock.into()),
            other => Ok(other?),
        }
    }

    /// Receives from now on only frames to this address and to groups.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `ENOMEM`.
    pub fn set_filter(&self, mac: MacAddr) -> io::Result<()> {
        packet::attach_filter(self.fd.as_fd(), &filter_for(mac))
    }

    /// Index of the interface in its namespace; `None` when it has been deleted.
    ///
    /// # Errors
    ///
    /// The kernel's, which has no reason to refuse.
    pub fn interface(&self) -> io::Result<Option<u32>> {
        packet::bound_interface(self.fd.as_fd())
    }

    /// Frames that were lost before they could be read, because there was no room or the kernel could not describe them.
    ///
    /// # Errors
    ///
    /// The kernel's, which has no reason to refuse.
    pub fn drops(&self) -> io::Result<u64> {
        // Asking the kernel sets its counter back.
        let more = u64::from(packet::take_drops(self.fd.as_fd())?);
        Ok(self.drops.fetch_add(more, Ordering::Relaxed) + more)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl From<PacketSocket> for OwnedFd {
    fn from(socket: PacketSocket) -> Self {
        socket.fd
    }
}

/// Whether the error says that there is no such interface, or none any more.
///
/// A socket whose interface is being deleted first says that it is down, and may go on to say nothing else: a read has
/// one error for both (net/packet/af_packet.c: packet_notifier). Ask [`PacketSocket::interface`] later.
pub fn is_lost(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
}

/// Whether the error says that the interface is set down; it may come up again, and then works by itself.
pub fn is_link_down(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENETDOWN)
}

/// How [`PacketSocket::open`] finds its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface<'a> {
    /// By its number in the namespace.
    Index(u32),
    /// By its name.
    Name(&'a str),
}

impl Interface<'_> {
    fn index(self) -> io::Result<u32> {
        let name = match self {
            Self::Index(index) => return Ok(index),
            Self::Name(name) => name,
        };
        let mut netlink = Netlink::open().map_err(|error| error.source)?;
        match netlink.link_by_name(name).map_err(|error| error.source)? {
            Some(link) => Ok(link.index),
            None => Err(io::Error::from_raw_os_error(libc::ENODEV)),
        }
    }
}

/// How a socket is opened. The default suits an interface that is ours alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Receive only frames to this address and to groups.
    pub filter: Option<MacAddr>,
    /// Whether the interface takes frames for other addresses than its own.
    pub promiscuity: Promiscuity,
}

/// Whether an interface takes frames for other addresses than its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Promiscuity {
    /// Its driver may drop them.
    #[default]
    Ordinary,
    /// It takes all as long as the socket is open.
    Promiscuous,
}

/// Whether vnet headers can say that a frame is many UDP datagrams. Older kernels refuse to send such a frame, and lose one
/// that was to be received (include/linux/virtio_net.h: `VIRTIO_NET_HDR_GSO_UDP_L4`, commit 860b7f27b8f7, Linux 6.2).
/// There is nothing to ask but the release: the TAP's answer would need its device file, which we may not have.
pub(crate) fn describes_udp_segments() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let release = rustix::system::uname();
        let describes = is_since_6_2(&release.release().to_string_lossy());
        if !describes {
            tracing::info!(
                "UDP super-frames are segmented before packet sockets: this kernel is older than 6.2"
            );
        }
        describes
    })
}

/// Whether a kernel's release, such as `6.1.0-18-amd64`, is 6.2 or later.
fn is_since_6_2(release: &str) -> bool {
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 2),
        _ => false,
    }
}

/// What vnet headers of all kernels describe.
const WITHOUT_USO: Abilities = Abilities::CSUM
    .union(Abilities::TSO4)
    .union(Abilities::TSO6)
    .union(Abilities::ECN);

/// As much as the kernel allows: root gets what it asks for, others up to `net.core.rmem_max` and `wmem_max`.
fn enlarge_buffers(fd: &OwnedFd) -> io::Result<()> {
    if setsockopt(fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(fd, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    }
    if setsockopt(fd, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
        setsockopt(fd, sockopt::SndBuf, &SEND_BUFFER)?;
    }
    Ok(())
}

/// Puts the tag that the kernel took off back behind the addresses of the frame in `buffer[..length]`, which has room
/// for it; returns the new length.
fn restore_tag(buffer: &mut [u8], length: usize, auxdata: Auxdata) -> usize {
    let Some((protocol, control)) = auxdata.tag else {
        return length;
    };
    if length < TAG_PLACE {
        return length;
    }
    buffer.copy_within(TAG_PLACE..length, TAG_PLACE + TAG_LEN);
    buffer[TAG_PLACE..TAG_PLACE + 2].copy_from_slice(&protocol.to_be_bytes());
    buffer[TAG_PLACE + 2..TAG_PLACE + TAG_LEN].copy_from_slice(&control.to_be_bytes());
    // `csum_start` counts only beside its flag, and 0 is no length of headers.
    if buffer[VNET_FLAGS] & NEEDS_CSUM != 0 {
        move_back(&mut buffer[VNET_CHECKSUM_START..]);
    }
    if buffer[VNET_HEADER_LEN..VNET_HEADER_LEN + 2] != [0, 0] {
        move_back(&mut buffer[VNET_HEADER_LEN..]);
    }
    length + TAG_LEN
}

/// Adds the length of a tag to the little-endian offset at the beginning of `field` (B-OFF-6).
fn move_back(field: &mut [u8]) {
    let offset = u16::from_le_bytes([field[0], field[1]]).saturating_add(TAG_LEN as u16);
    field[..2].copy_from_slice(&offset.to_le_bytes());
}

/// Classic BPF that accepts what goes to `mac` or to a group (the lowest bit of the first byte).
fn filter_for(mac: MacAddr) -> [libc::sock_filter; 8] {
    let [a, b, c, d, e, f] = mac.0;
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = |size: u32, at| step(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, at);
    let equal = |value, jt, jf| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, value);
    let give = |bytes| step(libc::BPF_RET | libc::BPF_K, 0, 0, bytes);
    [
        load(libc::BPF_B, 0),
        step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 4, 0, 1),
        load(libc::BPF_W, 0),
        equal(u32::from_be_bytes([a, b, c, d]), 0, 3),
        load(libc::BPF_H, 4),
        equal(u32::from(u16::from_be_bytes([e, f])), 0, 1),
        give(u32::MAX),
        give(0),
    ]
}

/// Bytes that may wait for us; the kernel doubles it and counts the memory that frames take. It must hold the windows of
/// several TCP flows, of 6 MiB each by default (`tcp_rmem`), as a TAP's queue does.
const RECEIVE_BUFFER: usize = 32 << 20;

/// Bytes in flight before `EAGAIN`: 64 super-frames, as with a TAP (tap.rs: `SEND_BUFFER`).
const SEND_BUFFER: usize = 4 << 20;

/// Frames in a row that are skipped before the caller is given a turn.
const UNREADABLE_MAX: usize = 64;

const VNET_LEN: usize = VnetHeader::LEN;

/// Fields of `struct virtio_net_hdr` (linux/virtio_net.h).
const VNET_FLAGS: usize = 0;
const VNET_HEADER_LEN: usize = 2;
const VNET_CHECKSUM_START: usize = 6;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CSUM: u8 = 1;

/// A VLAN tag stands behind the two addresses (IEEE 802.1Q clause 9.3).
const TAG_PLACE: usize = VNET_LEN + 12;
const TAG_LEN: usize = 4;

#[cfg(test)]
mod tests;
