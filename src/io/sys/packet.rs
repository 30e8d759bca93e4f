//! Packet sockets (packet(7)): the calls that no safe crate offers.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use libc::{c_int, c_ushort, c_void, socklen_t};

use super::check;

/// A packet socket that receives nothing before it is [bound](bind); non-blocking, close-on-exec.
///
/// # Errors
///
/// `EPERM` without `CAP_NET_RAW` in the user namespace that owns the network namespace.
pub fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes numbers and returns a new descriptor.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the kernel has just created `fd` for us and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An option of packet sockets that is off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketOption {
    /// `PACKET_AUXDATA`: a control message tells what the kernel took off the frame.
    Auxdata,
    /// `PACKET_IGNORE_OUTGOING`: what leaves by the interface, our own frames too, is not received.
    IgnoreOutgoing,
    /// `PACKET_QDISC_BYPASS`: frames go to the driver without a queue, and are lost where it cannot take them as they are.
    QdiscBypass,
    /// `PACKET_VNET_HDR`: each frame is preceded by a 10-byte virtio-net header.
    VnetHeader,
}

impl PacketOption {
    fn number(self) -> c_int {
        match self {
            Self::Auxdata => libc::PACKET_AUXDATA,
            Self::IgnoreOutgoing => libc::PACKET_IGNORE_OUTGOING,
            Self::QdiscBypass => libc::PACKET_QDISC_BYPASS,
            Self::VnetHeader => libc::PACKET_VNET_HDR,
        }
    }
}

/// Switches an option on.
///
/// # Errors
///
/// `ENOPROTOOPT` when the kernel does not know it, `EBUSY` when it is too late.
pub fn switch_on(socket: BorrowedFd<'_>, option: PacketOption) -> io::Result<()> {
    set_option(socket, libc::SOL_PACKET, option.number(), &1)
}

/// Whether an option is on.
///
/// # Errors
///
/// `ENOPROTOOPT` or `EOPNOTSUPP` when the descriptor is not a packet socket, `ENOTSOCK` when it is none at all.
pub fn is_on(socket: BorrowedFd<'_>, option: PacketOption) -> io::Result<bool> {
    let on: c_int = option_of(socket, libc::SOL_PACKET, option.number())?;
    Ok(on != 0)
}

/// Begins to receive all protocols from the interface of this index, and to send by it.
///
/// # Errors
///
/// `ENODEV` when there is no such interface.
pub fn bind(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let mut address = link_layer_address();
    address.sll_protocol = ETH_P_ALL.to_be();
    address.sll_ifindex = interface_number(index)?;
    // SAFETY: `address` is a whole `sockaddr_ll`, whose length is passed, and lives for the call.
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            length_of(&address),
        )
    })?;
    Ok(())
}

/// The interface that the socket is bound to; `None` before [`bind`], and after the interface was deleted.
///
/// # Errors
///
/// `InvalidInput` when it is another kind of socket; `ENOTSOCK` when it is none at all.
pub fn bound_interface(socket: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let mut address = link_layer_address();
    let mut length = length_of(&address);
    let named =
        // SAFETY: the kernel writes at most `length` bytes, the size of `address`, whose fields are integers and an
        // array of them, so that any bytes are valid.
        unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
    check(named)?;
    if c_int::from(address.sll_family) != libc::AF_PACKET {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "this is not a packet socket",
        ));
    }
    // The kernel stores −1 when the interface goes (net/packet/af_packet.c: packet_notifier).
    Ok(u32::try_from(address.sll_ifindex).ok().filter(|&index| index > 0))
}

/// Has the interface receive frames for any address as long as the socket is open (`PACKET_MR_PROMISC`).
///
/// # Errors
///
/// `ENODEV` when there is no such interface.
pub fn join_promiscuous(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let membership = libc::packet_mreq {
        mr_ifindex: interface_number(index)?,
        mr_type: libc::PACKET_MR_PROMISC as c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
}

/// Receives only what this classic BPF program accepts (`SO_ATTACH_FILTER`), in place of an earlier one.
///
/// # Errors
///
/// `EINVAL` when the kernel's checker refuses the program.
pub fn attach_filter(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "the filter is too long");
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(too_long)?,
        // The kernel only reads it.
        filter: program.as_ptr().cast_mut(),
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Frames that the socket had no room for since this was last asked (`PACKET_STATISTICS`).
///
/// # Errors
///
/// The kernel's, which has no reason to refuse.
pub fn take_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let statistics: PacketStatistics = option_of(socket, libc::SOL_PACKET, libc::PACKET_STATISTICS)?;
    Ok(statistics.drops)
}

/// What came beside a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Auxdata {
    /// Tag protocol and tag control of the VLAN tag that the kernel took off.
    pub tag: Option<(u16, u16)>,
    /// The transport checksum is still to be finished.
    pub is_checksum_partial: bool,
}

/// Takes the next frame, and gives its length and what [`PacketOption::Auxdata`] has it tell. A frame that does not
/// fit is cut silently.
///
/// # Errors
///
/// `WouldBlock` when there is none; `ENETDOWN` once after the interface went down or away; `EINVAL` when the frame
/// cannot be described by a vnet header, and is lost.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Auxdata)> {
    let mut control = ControlBuffer([0; CONTROL_LEN]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: `msghdr` consists of pointers and integers, all valid when zero.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_LEN as _;
    // SAFETY: the one part is `buffer` with its length, the control buffer is aligned for `cmsghdr` and has the given
    // length; both live for the call and nothing else refers to them.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    Ok((length, auxdata(&message)))
}

fn auxdata(message: &libc::msghdr) -> Auxdata {
    // SAFETY: the kernel has filled `message`, whose control buffer lives as long as the caller's.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give whole headers inside the control buffer, or null.
        let (level, kind, length) = unsafe {
            (
                (*header).cmsg_level,
                (*header).cmsg_type,
                (*header).cmsg_len as usize,
            )
        };
        // SAFETY: CMSG_LEN only computes.
        let whole = unsafe { libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) } as usize;
        if level == libc::SOL_PACKET && kind == libc::PACKET_AUXDATA && length >= whole {
            // SAFETY: the message's data is as long as the structure, which consists of integers; it may be unaligned.
            let data: libc::tpacket_auxdata =
                unsafe { ptr::read_unaligned(libc::CMSG_DATA(header).cast_const().cast()) };
            return Auxdata::from(&data);
        }
        // SAFETY: as above; `header` belongs to `message`.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    Auxdata::default()
}

impl From<&libc::tpacket_auxdata> for Auxdata {
    fn from(data: &libc::tpacket_auxdata) -> Self {
        let has = |status: u32| data.tp_status & status != 0;
        let protocol = match has(libc::TP_STATUS_VLAN_TPID_VALID) {
            true => data.tp_vlan_tpid,
            false => libc::ETH_P_8021Q as u16,
        };
        Self {
            tag: has(libc::TP_STATUS_VLAN_VALID).then_some((protocol, data.tp_vlan_tci)),
            is_checksum_partial: has(libc::TP_STATUS_CSUMNOTREADY),
        }
    }
}

/// `struct tpacket_stats` (linux/if_packet.h).
#[repr(C)]
#[derive(Default)]
struct PacketStatistics {
    packets: u32,
    drops: u32,
}

/// Room for the one control message that we ask for, aligned as the CMSG macros need it.
#[repr(C, align(8))]
struct ControlBuffer([u8; CONTROL_LEN]);

/// `CMSG_SPACE` of `struct tpacket_auxdata` (20 bytes) is 40; the rest is for what a later kernel adds to it.
const CONTROL_LEN: usize = 64;

/// All protocols (linux/if_ether.h).
const ETH_P_ALL: u16 = libc::ETH_P_ALL as u16;

fn link_layer_address() -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as c_ushort,
        sll_protocol: 0,
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn interface_number(index: u32) -> io::Result<c_int> {
    // Index 0 would mean all interfaces.
    match c_int::try_from(index) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(io::Error::from_raw_os_error(libc::ENODEV)),
    }
}

fn set_option<T>(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let pointer: *const c_void = ptr::from_ref(value).cast();
    // SAFETY: the pointer is to `value`, whose size is passed and which lives for the call; the kernel only reads.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, pointer, length_of(value)) })?;
    Ok(())
}

/// For structures of integers only.
fn option_of<T: Default>(socket: BorrowedFd<'_>, level: c_int, option: c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut length = length_of(&value);
    let pointer: *mut c_void = ptr::from_mut(&mut value).cast();
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`; the callers' types consist of integers, for
    // which any bytes are valid.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, pointer, &raw mut length) })?;
    Ok(value)
}

fn length_of<T>(_: &T) -> socklen_t {
    size_of::<T>() as socklen_t
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(tp_status: u32) -> libc::tpacket_auxdata {
        libc::tpacket_auxdata {
            tp_status,
            tp_len: 60,
            tp_snaplen: 60,
            tp_mac: 0,
            tp_net: 14,
            tp_vlan_tci: 0x6007,
            tp_vlan_tpid: 0x88a8,
        }
    }

    #[test]
    fn a_tag_counts_only_when_the_kernel_says_so() {
        let cases = [
            (0, None),
            (libc::TP_STATUS_VLAN_VALID, Some((0x8100, 0x6007))),
            (
                libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID,
                Some((0x88a8, 0x6007)),
            ),
            (libc::TP_STATUS_VLAN_TPID_VALID, None),
        ];
        for (status, tag) in cases {
            assert_eq!(Auxdata::from(&data(status)).tag, tag, "{status:#x}");
        }
    }

    #[test]
    fn no_interface_is_never_all_interfaces() {
        for index in [0, u32::MAX] {
            let error = interface_number(index).map_err(|error| error.raw_os_error());
            assert_eq!(error, Err(Some(libc::ENODEV)), "{index}");
        }
    }
}
