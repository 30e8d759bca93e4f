//! Which of the host's addresses a datagram came to, and sending from that address (`IP_PKTINFO`, ip(7);
//! `IPV6_PKTINFO`, ipv6(7)).

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::BorrowedFd,
};

use libc::{c_int, msghdr, sockaddr_in, sockaddr_in6, socklen_t};
use vswitch_wire::IpVersion;

use super::{
    QueuedError, RECEIVE_MAX, Received, Slots, control_message, receive_batch, receive_error_with,
    send::{Envelope, send_enveloped, send_many_enveloped},
};
use crate::pktinfo::{Ends, Local};

/// As [`receive_many`](super::receive_many); also gives where each came to, `None` if it was sent to many stations,
/// or if the socket does not tell.
///
/// # Errors
/// As there.
pub(crate) fn receive_many(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    slots: Slots,
    received: &mut [Received; RECEIVE_MAX],
    locals: &mut [Option<Local>; RECEIVE_MAX],
) -> io::Result<usize> {
    receive_batch::<RECEIVED_CONTROL>(socket, buffer, slots, received, |index, header| {
        // SAFETY: `receive_batch` gives headers that the kernel has just filled.
        locals[index] = unsafe { local_of_datagram(header) };
    })
}

/// As [`receive_error`](super::receive_error); also gives the address that the packet was sent from, which is where
/// the ICMP message came to.
///
/// # Errors
/// As there.
pub(crate) fn receive_error(
    socket: BorrowedFd<'_>,
    payload: &mut [u8],
) -> io::Result<(QueuedError, Option<Local>)> {
    let mut local = None;
    let error = receive_error_with(socket, payload, |header| {
        // SAFETY: `receive_error_with` gives a header that the kernel has just filled.
        local = unsafe { local_of_error(header) };
    })?;
    Ok((error, local))
}

/// Sends `payload` between `ends`, with `segment` as several datagrams of that size but the last. The socket is of
/// `version`; one of IPv6 may also have IPv4 peers.
///
/// # Errors
/// The kernel's; `EINVAL` or `EADDRNOTAVAIL` if the host has lost the address.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    version: IpVersion,
    ends: &Ends,
    payload: &[u8],
    segment: Option<u16>,
) -> io::Result<usize> {
    let mut envelope = envelope(version, ends);
    if let Some(segment) = segment {
        envelope.add_segment(segment);
    }
    send_enveloped(socket, payload, &mut envelope)
}

/// As [`send_many`](super::send_many), between `ends`.
///
/// # Errors
/// As there and [`send`].
pub(crate) fn send_many(
    socket: BorrowedFd<'_>,
    version: IpVersion,
    ends: &Ends,
    payload: &[u8],
    size: usize,
) -> io::Result<usize> {
    send_many_enveloped(socket, payload, size, &mut envelope(version, ends))
}

fn envelope(version: IpVersion, ends: &Ends) -> Envelope {
    let mut envelope = Envelope::new();
    match (version, ends.peer) {
        (IpVersion::V4, SocketAddr::V4(peer)) => {
            // SAFETY: both consist of integers, all valid when zero.
            let (mut name, mut name_v4) =
                unsafe { (mem::zeroed::<sockaddr_in6>(), mem::zeroed::<sockaddr_in>()) };
            name_v4.sin_family = libc::AF_INET as _;
            name_v4.sin_port = peer.port().to_be();
            name_v4.sin_addr.s_addr = in_addr(*peer.ip()).s_addr;
            // SAFETY: a `sockaddr_in` is smaller than a `sockaddr_in6`, into which it is written whole.
            unsafe { (&raw mut name).cast::<sockaddr_in>().write_unaligned(name_v4) };
            envelope.address(name, size_of::<sockaddr_in>() as socklen_t);
        }
        (_, peer) => {
            let (address, scope) = match peer {
                SocketAddr::V4(peer) => (peer.ip().to_ipv6_mapped(), 0),
                SocketAddr::V6(peer) => (*peer.ip(), peer.scope_id()),
            };
            // SAFETY: it consists of integers, all valid when zero.
            let mut name = unsafe { mem::zeroed::<sockaddr_in6>() };
            name.sin6_family = libc::AF_INET6 as _;
            name.sin6_port = peer.port().to_be();
            name.sin6_addr.s6_addr = address.octets();
            name.sin6_scope_id = scope;
            envelope.address(name, size_of::<sockaddr_in6>() as socklen_t);
        }
    }
    match ends.local.address {
        // Sockets of IPv6 take it for IPv4 peers, too (ip_cmsg_send, net/ipv4/ip_sockglue.c).
        IpAddr::V4(address) => envelope.add(
            libc::SOL_IP,
            libc::IP_PKTINFO,
            libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr(address),
                ipi_addr: in_addr(Ipv4Addr::UNSPECIFIED),
            },
        ),
        IpAddr::V6(address) => envelope.add(
            libc::SOL_IPV6,
            libc::IPV6_PKTINFO,
            libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: address.octets(),
                },
                ipi6_ifindex: ends.local.interface as _,
            },
        ),
    }
    envelope
}

/// # Safety
/// As [`control_message`].
unsafe fn local_of_datagram(header: &msghdr) -> Option<Local> {
    // SAFETY: by the caller's word.
    if let Some(info) = unsafe { info_v4(header) } {
        let (sent_to, ours) = (info.ipi_addr.s_addr, info.ipi_spec_dst.s_addr);
        // The second is the first unless that is a broadcast or multicast address (fib_compute_spec_dst).
        return (sent_to == ours).then(|| local_v4(info.ipi_addr));
    }
    // SAFETY: by the caller's word.
    let local = unsafe { local_v6(header) }?;
    (!local.address.is_multicast()).then_some(local)
}

/// # Safety
/// As [`control_message`].
unsafe fn local_of_error(header: &msghdr) -> Option<Local> {
    // SAFETY: by the caller's word. In errors `ipi_spec_dst` means nothing: the kernel keeps the error itself where it
    // would be (`SKB_EXT_ERR`).
    unsafe {
        info_v4(header)
            .map(|info| local_v4(info.ipi_addr))
            .or_else(|| local_v6(header))
    }
}

/// # Safety
/// As [`control_message`].
unsafe fn info_v4(header: &msghdr) -> Option<libc::in_pktinfo> {
    // SAFETY: by the caller's word; any bytes are a valid `in_pktinfo`.
    unsafe { whole(header, libc::SOL_IP, libc::IP_PKTINFO) }
}

/// # Safety
/// As [`control_message`].
unsafe fn local_v6(header: &msghdr) -> Option<Local> {
    // SAFETY: by the caller's word; any bytes are a valid `in6_pktinfo`.
    let info: libc::in6_pktinfo = unsafe { whole(header, libc::SOL_IPV6, libc::IPV6_PKTINFO) }?;
    let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
    Some(Local {
        address: address.to_canonical(),
        interface: match address.is_unicast_link_local() {
            true => info.ipi6_ifindex as _,
            false => 0,
        },
    })
}

/// # Safety
/// As [`control_message`].
unsafe fn whole<T: Copy>(header: &msghdr, level: c_int, kind: c_int) -> Option<T> {
    // SAFETY: by the caller's word.
    let (data, len) = unsafe { control_message::<T>(header, level, kind) }?;
    (len == size_of::<T>()).then_some(data)
}

fn local_v4(address: libc::in_addr) -> Local {
    Local {
        address: Ipv4Addr::from(u32::from_be(address.s_addr)).into(),
        interface: 0,
    }
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: address.to_bits().to_be(),
    }
}

/// Room for the size of coalesced datagrams and both versions' `pktinfo`, which an IPv4 datagram has on a socket of
/// IPv6: 24, 32 and 40 bytes; and for what else a service manager may have asked of a socket that it hands over.
const RECEIVED_CONTROL: usize = 256;
