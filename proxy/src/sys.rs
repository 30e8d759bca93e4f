//! System calls on host sockets that no safe crate offers: control messages, many datagrams at once, the
//! socket options that come with them, and what streams need ([`stream`]).
//!
//! This is the only module of the crate that contains `unsafe`. No call waits.
#![allow(unsafe_code)]

pub(crate) mod inherited;
pub(crate) mod pktinfo;
mod send;
pub(crate) mod signals;
pub(crate) mod stream;

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use libc::{c_int, c_void, msghdr, sockaddr_in, sockaddr_in6, socklen_t};

pub(crate) use send::{send_many, send_segments};

/// A socket option whose value is an `int`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IntOption {
    level: c_int,
    name: c_int,
}

impl IntOption {
    /// Choose the port at `connect`, not at `bind`, so that many sockets can share one.
    pub(crate) const BIND_ADDRESS_NO_PORT: Self = Self::new(libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    /// Whether IPv4 packets may be fragmented.
    pub(crate) const MTU_DISCOVER_V4: Self = Self::new(libc::SOL_IP, libc::IP_MTU_DISCOVER);
    /// Whether IPv6 packets may be fragmented.
    pub(crate) const MTU_DISCOVER_V6: Self = Self::new(libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER);
    /// The MTU of the path to the peer.
    pub(crate) const PATH_MTU_V4: Self = Self::new(libc::SOL_IP, libc::IP_MTU);
    /// The MTU of the path to the peer.
    pub(crate) const PATH_MTU_V6: Self = Self::new(libc::SOL_IPV6, libc::IPV6_MTU);
    /// Tell where each datagram came to, for [`pktinfo`].
    pub(crate) const PACKET_INFO_V4: Self = Self::new(libc::SOL_IP, libc::IP_PKTINFO);
    /// Tell where each datagram came to, for [`pktinfo`].
    pub(crate) const PACKET_INFO_V6: Self = Self::new(libc::SOL_IPV6, libc::IPV6_RECVPKTINFO);
    /// Keep ICMP errors for [`receive_error`].
    pub(crate) const QUEUE_ERRORS_V4: Self = Self::new(libc::SOL_IP, libc::IP_RECVERR);
    /// Keep ICMPv6 errors for [`receive_error`].
    pub(crate) const QUEUE_ERRORS_V6: Self = Self::new(libc::SOL_IPV6, libc::IPV6_RECVERR);
    /// Send UDP over IPv4 without checksums. For tests.
    #[cfg(test)]
    pub(crate) const NO_CHECKSUM: Self = Self::new(libc::SOL_SOCKET, libc::SO_NO_CHECK);
    /// Where the next peek begins (socket(7)); for TCP since Linux 6.9, `EOPNOTSUPP` before.
    pub(crate) const PEEK_OFFSET: Self = Self::new(libc::SOL_SOCKET, libc::SO_PEEK_OFF);
    /// Tell with what is received how much there is (`TCP_INQ`, since Linux 4.18).
    pub(crate) const INQ: Self = Self::new(libc::IPPROTO_TCP, libc::TCP_INQ);
    /// How often a SYN is sent again (tcp(7)).
    pub(crate) const SYN_COUNT: Self = Self::new(libc::IPPROTO_TCP, libc::TCP_SYNCNT);
    /// Receive datagrams of one peer and equal size as one (udp(7)).
    pub(crate) const UDP_GRO: Self = Self::new(libc::SOL_UDP, libc::UDP_GRO);

    const fn new(level: c_int, name: c_int) -> Self {
        Self { level, name }
    }

    /// Sets the option.
    ///
    /// # Errors
    /// The kernel's; `ENOPROTOOPT` if it does not know the option.
    pub(crate) fn set(self, socket: BorrowedFd<'_>, value: c_int) -> io::Result<()> {
        // SAFETY: the kernel reads `size_of::<c_int>()` bytes of `value`, which lives for the call.
        check(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                self.level,
                self.name,
                (&raw const value).cast(),
                size_of::<c_int>() as socklen_t,
            )
        })?;
        Ok(())
    }

    /// The option's value.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn value(self, socket: BorrowedFd<'_>) -> io::Result<c_int> {
        let mut value: c_int = 0;
        let mut len = size_of::<c_int>() as socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `value`; both live for the call.
        check(unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                self.level,
                self.name,
                (&raw mut value).cast(),
                &raw mut len,
            )
        })?;
        Ok(value)
    }
}

/// Where [`receive_many`] puts payloads in its buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slots {
    /// Bytes from the start of one slot to that of the next.
    pub(crate) stride: usize,
    /// Bytes at the start of a slot that are left alone.
    pub(crate) headroom: usize,
}

/// A datagram that was received.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Received {
    /// Bytes of payload.
    pub(crate) len: usize,
    /// Set if this is several datagrams in a row (`UDP_GRO`): the size of each but the last.
    pub(crate) segment: Option<u16>,
    /// Who sent it.
    pub(crate) source: Option<SocketAddr>,
}

/// Receives as many datagrams as are there and fit, one per slot, and gives how many.
///
/// # Errors
/// `WouldBlock` when there is none; an error of an earlier packet of this socket, once.
pub(crate) fn receive_many(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    slots: Slots,
    received: &mut [Received; RECEIVE_MAX],
) -> io::Result<usize> {
    receive_batch::<64>(socket, buffer, slots, received, |_, _| {})
}

/// As [`receive_many`], with room for that many bytes of control messages each. `note` is given the number and the
/// header of each datagram, whose control messages are still in place.
fn receive_batch<const CONTROL: usize>(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    slots: Slots,
    received: &mut [Received; RECEIVE_MAX],
    mut note: impl FnMut(usize, &msghdr),
) -> io::Result<usize> {
    // SAFETY: these are integers, arrays of them and pointers, all valid when zero.
    let (mut messages, mut vectors, mut names) = unsafe {
        (
            mem::zeroed::<[libc::mmsghdr; RECEIVE_MAX]>(),
            mem::zeroed::<[libc::iovec; RECEIVE_MAX]>(),
            mem::zeroed::<[sockaddr_in6; RECEIVE_MAX]>(),
        )
    };
    let mut controls = [Control::<CONTROL>::EMPTY; RECEIVE_MAX];
    let mut count = 0;
    for slot in buffer.chunks_exact_mut(slots.stride).take(RECEIVE_MAX) {
        let room = &mut slot[slots.headroom..];
        vectors[count] = vector(room.as_mut_ptr(), room.len());
        let header = &mut messages[count].msg_hdr;
        header.msg_iov = &raw mut vectors[count];
        header.msg_iovlen = 1;
        header.msg_name = (&raw mut names[count]).cast();
        header.msg_namelen = size_of::<sockaddr_in6>() as socklen_t;
        controls[count].attach(header);
        count += 1;
    }
    // SAFETY: the first `count` headers point to names, vectors and control buffers in this frame, with their
    // sizes, and the vectors to disjoint parts of `buffer`, which is borrowed for the call.
    let result = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            count as _,
            libc::MSG_DONTWAIT as _,
            ptr::null_mut(),
        )
    };
    let filled = check(result)? as usize;
    for (index, message) in messages.iter().enumerate().take(filled) {
        received[index] = Received {
            len: (message.msg_len as usize).min(vectors[index].iov_len),
            // SAFETY: recvmmsg has just filled this header, whose control buffer is in `controls`.
            segment: unsafe { control_message::<c_int>(&message.msg_hdr, libc::SOL_UDP, libc::UDP_GRO) }
                .and_then(|(size, _)| u16::try_from(size).ok()),
            source: socket_addr(&names[index], message.msg_hdr.msg_namelen),
        };
        note(index, &message.msg_hdr);
    }
    Ok(filled)
}

/// An entry of a socket's error queue (ip(7), `IP_RECVERR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueuedError {
    /// The error's number.
    pub(crate) errno: i32,
    /// Who made the error.
    pub(crate) origin: Origin,
    /// Type of the ICMP message.
    pub(crate) kind: u8,
    /// Its code.
    pub(crate) code: u8,
    /// The MTU, if the packet was too big; the pointer, if a header is wrong.
    pub(crate) info: u32,
    /// Where the packet was addressed to.
    pub(crate) destination: Option<SocketAddr>,
    /// The node that sent the ICMP message.
    pub(crate) offender: Option<IpAddr>,
    /// Bytes of the packet's payload that came with the error.
    pub(crate) len: usize,
}

impl QueuedError {
    /// An entry that is no error.
    const OTHER: Self = Self {
        errno: 0,
        origin: Origin::Other,
        kind: 0,
        code: 0,
        info: 0,
        destination: None,
        offender: None,
        len: 0,
    };
}

/// Who made an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// ICMP.
    Icmp,
    /// ICMPv6.
    Icmpv6,
    /// This host's kernel, while sending.
    Local,
    /// Something else.
    Other,
}

/// Takes the oldest entry off the error queue; the payload that it is about goes to `payload`. All control
/// messages are looked through, because others may come with it.
///
/// # Errors
/// `WouldBlock` when the queue is empty.
pub(crate) fn receive_error(socket: BorrowedFd<'_>, payload: &mut [u8]) -> io::Result<QueuedError> {
    receive_error_with(socket, payload, |_| {})
}

/// As [`receive_error`]; `note` is given its header, whose control messages are still in place.
fn receive_error_with(
    socket: BorrowedFd<'_>,
    payload: &mut [u8],
    note: impl FnOnce(&msghdr),
) -> io::Result<QueuedError> {
    let mut control = Control::<512>::EMPTY;
    let mut iovec = vector(payload.as_mut_ptr(), payload.len());
    // SAFETY: both consist of integers and pointers, all valid when zero.
    let (mut header, mut name) = unsafe { (mem::zeroed::<msghdr>(), mem::zeroed::<sockaddr_in6>()) };
    header.msg_iov = &raw mut iovec;
    header.msg_iovlen = 1;
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of::<sockaddr_in6>() as socklen_t;
    control.attach(&mut header);
    // SAFETY: `header` points to `iovec`, `name` and `control`, which live for the call, with their sizes, and
    // `iovec` to `payload`.
    let len = check_len(unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut header,
            libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
        )
    })?;
    note(&header);
    // SAFETY: recvmsg has just filled `header`, whose control buffer is `control`.
    let found = unsafe {
        control_message::<ExtendedError>(&header, libc::SOL_IP, libc::IP_RECVERR)
            .or_else(|| control_message(&header, libc::SOL_IPV6, libc::IPV6_RECVERR))
    };
    let Some((ExtendedError { error, offender }, data_len)) = found else {
        // Taken off the queue like any other, it says nothing of a packet (a time stamp, say).
        return Ok(QueuedError::OTHER);
    };
    let offender_len = data_len.saturating_sub(size_of::<libc::sock_extended_err>());
    Ok(QueuedError {
        errno: error.ee_errno as i32,
        origin: match error.ee_origin {
            libc::SO_EE_ORIGIN_ICMP => Origin::Icmp,
            libc::SO_EE_ORIGIN_ICMP6 => Origin::Icmpv6,
            libc::SO_EE_ORIGIN_LOCAL => Origin::Local,
            _ => Origin::Other,
        },
        kind: error.ee_type,
        code: error.ee_code,
        info: error.ee_info,
        destination: socket_addr(&name, header.msg_namelen),
        offender: socket_addr(&offender, offender_len as socklen_t).map(|address| address.ip()),
        len: len.min(payload.len()),
    })
}

/// Datagrams received by one call at most.
pub(crate) const RECEIVE_MAX: usize = crate::Scratch::SLOTS;

/// `sock_extended_err` and the offender's address behind it (`SO_EE_OFFENDER`, linux/errqueue.h).
#[derive(Clone, Copy)]
#[repr(C)]
struct ExtendedError {
    error: libc::sock_extended_err,
    offender: sockaddr_in6,
}

/// A buffer for control messages, aligned for their headers.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control<const LEN: usize>([u8; LEN]);

impl<const LEN: usize> Control<LEN> {
    const EMPTY: Self = Self([0; LEN]);

    fn attach(&mut self, header: &mut msghdr) {
        header.msg_control = self.0.as_mut_ptr().cast();
        header.msg_controllen = LEN as _;
    }
}

/// The data of the first control message of that level and type, and how many bytes of it there were; the
/// rest is zero.
///
/// # Safety
/// `header` is one that a receiving call has just filled, with its control buffer still in place: its
/// `msg_control` points to `msg_controllen` initialised bytes. Any bytes are a valid `T`.
unsafe fn control_message<T: Copy>(header: &msghdr, level: c_int, name: c_int) -> Option<(T, usize)> {
    // SAFETY: by the caller's word CMSG_FIRSTHDR and CMSG_NXTHDR only give headers that lie within the control
    // buffer, or null. The copy takes no more bytes than the message has by its length, which the kernel
    // wrote, and than a `T` has, for which any bytes are valid.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(ptr::from_ref(header));
        while let Some(current) = message.as_ref() {
            if current.cmsg_level == level && current.cmsg_type == name {
                let head = libc::CMSG_LEN(0) as usize;
                let given: usize = current.cmsg_len as _;
                let len = given.saturating_sub(head).min(size_of::<T>());
                let mut data: T = mem::zeroed();
                ptr::copy_nonoverlapping(libc::CMSG_DATA(message), (&raw mut data).cast::<u8>(), len);
                return Some((data, len));
            }
            message = libc::CMSG_NXTHDR(ptr::from_ref(header), message);
        }
    }
    None
}

/// The address in `name`, of which the kernel has filled `len` bytes.
fn socket_addr(name: &sockaddr_in6, len: socklen_t) -> Option<SocketAddr> {
    match c_int::from(name.sin6_family) {
        libc::AF_INET6 if len as usize >= size_of::<sockaddr_in6>() => {
            let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(
                SocketAddrV6::new(
                    address,
                    port,
                    u32::from_be(name.sin6_flowinfo),
                    name.sin6_scope_id,
                )
                .into(),
            )
        }
        libc::AF_INET if len as usize >= size_of::<sockaddr_in>() => {
            // SAFETY: a `sockaddr_in` is smaller than a `sockaddr_in6` and consists of integers only.
            let name = unsafe { ptr::read_unaligned(ptr::from_ref(name).cast::<sockaddr_in>()) };
            let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(address, u16::from_be(name.sin_port)).into())
        }
        _ => None,
    }
}

const fn vector(base: *mut u8, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: base.cast::<c_void>(),
        iov_len: len,
    }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
