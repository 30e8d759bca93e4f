//! Sending datagrams, several at once, and from and to addresses that the socket does not have itself.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use libc::{c_int, cmsghdr, msghdr, sockaddr_in6, socklen_t};

use super::{Control, check, check_len, vector};

/// Sends `payload` as datagrams of `segment` bytes each, the last one of the rest (`UDP_SEGMENT`, udp(7)).
///
/// # Errors
/// The kernel's: `EIO` or `EINVAL` where it cannot. Nothing was sent.
pub(crate) fn send_segments(socket: BorrowedFd<'_>, payload: &[u8], segment: u16) -> io::Result<usize> {
    let mut envelope = Envelope::new();
    envelope.add_segment(segment);
    send_enveloped(socket, payload, &mut envelope)
}

/// Sends the first datagrams of `payload`, which has one after the other, each of `size` bytes but the last;
/// gives how many bytes were sent.
///
/// # Errors
/// The first datagram could not be sent.
pub(crate) fn send_many(socket: BorrowedFd<'_>, payload: &[u8], size: usize) -> io::Result<usize> {
    send_many_enveloped(socket, payload, size, &mut Envelope::new())
}

/// Sends `payload` with what the envelope says.
pub(super) fn send_enveloped(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    envelope: &mut Envelope,
) -> io::Result<usize> {
    let mut iovec = vector(payload.as_ptr().cast_mut(), payload.len());
    // SAFETY: a `msghdr` consists of integers and pointers, all valid when zero.
    let mut header: msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut iovec;
    header.msg_iovlen = 1;
    envelope.attach(&mut header);
    // SAFETY: `header` points to `iovec` and to what is in `envelope`, with their sizes; all live for the call, and
    // the kernel only reads them and `payload`.
    check_len(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, SEND_FLAGS) })
}

/// As [`send_many`], each with what the envelope says.
pub(super) fn send_many_enveloped(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    size: usize,
    envelope: &mut Envelope,
) -> io::Result<usize> {
    // SAFETY: these are integers and pointers, all valid when zero.
    let (mut messages, mut vectors) = unsafe {
        (
            mem::zeroed::<[libc::mmsghdr; SEND_MAX]>(),
            mem::zeroed::<[libc::iovec; SEND_MAX]>(),
        )
    };
    let mut count = 0;
    for datagram in payload.chunks(size.max(1)).take(SEND_MAX) {
        vectors[count] = vector(datagram.as_ptr().cast_mut(), datagram.len());
        let header = &mut messages[count].msg_hdr;
        header.msg_iov = &raw mut vectors[count];
        header.msg_iovlen = 1;
        envelope.attach(header);
        count += 1;
    }
    // SAFETY: the first `count` headers point to vectors in this frame and to what is in `envelope`, and the vectors
    // to parts of `payload`; the kernel only reads them.
    let sent = check(unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            count as _,
            SEND_FLAGS as _,
        )
    })?;
    Ok(vectors
        .iter()
        .take(sent as usize)
        .map(|vector| vector.iov_len)
        .sum())
}

/// What a message has beside its payload: the destination, and control messages.
#[derive(Clone)]
pub(super) struct Envelope {
    name: sockaddr_in6,
    name_len: socklen_t,
    control: Control<ENVELOPE_LEN>,
    control_len: usize,
}

impl Envelope {
    pub(super) fn new() -> Self {
        Self {
            // SAFETY: a `sockaddr_in6` consists of integers, all valid when zero.
            name: unsafe { mem::zeroed() },
            name_len: 0,
            control: Control::EMPTY,
            control_len: 0,
        }
    }

    /// Says where it goes.
    pub(super) fn address(&mut self, name: sockaddr_in6, len: socklen_t) {
        self.name = name;
        self.name_len = len.min(size_of::<sockaddr_in6>() as socklen_t);
    }

    /// Says that the payload is several datagrams.
    pub(super) fn add_segment(&mut self, segment: u16) {
        self.add(libc::SOL_UDP, libc::UDP_SEGMENT, segment);
    }

    /// Adds a control message. An envelope has room for one of each that this crate sends.
    pub(super) fn add<T: Copy>(&mut self, level: c_int, kind: c_int, data: T) {
        const { assert!(size_of::<T>() <= size_of::<libc::in6_pktinfo>()) };
        let place = self.control_len;
        // SAFETY: both only compute, from a length that is bounded above.
        let (len, space) = unsafe {
            (
                libc::CMSG_LEN(size_of::<T>() as u32),
                libc::CMSG_SPACE(size_of::<T>() as u32) as usize,
            )
        };
        let Some(room) = self.control.0.get_mut(place..place + space) else {
            debug_assert!(
                false,
                "an envelope has room for all control messages of one packet"
            );
            return;
        };
        let message = room.as_mut_ptr().cast::<cmsghdr>();
        // SAFETY: `room` has CMSG_SPACE bytes for a header and a `T`, and CMSG_DATA gives the place behind the header
        // within it. The buffer is aligned for headers, and CMSG_SPACE keeps each next one so.
        unsafe {
            (*message).cmsg_level = level;
            (*message).cmsg_type = kind;
            (*message).cmsg_len = len as _;
            ptr::write_unaligned(libc::CMSG_DATA(message).cast::<T>(), data);
        }
        self.control_len += space;
    }

    fn attach(&mut self, header: &mut msghdr) {
        if self.name_len > 0 {
            header.msg_name = (&raw mut self.name).cast();
            header.msg_namelen = self.name_len;
        }
        if self.control_len > 0 {
            header.msg_control = self.control.0.as_mut_ptr().cast();
            header.msg_controllen = self.control_len as _;
        }
    }
}

/// Room for the size of segments and the source address: `CMSG_SPACE` of a `u16` and of an `in6_pktinfo`.
const ENVELOPE_LEN: usize = 64;
/// Datagrams sent by one call at most: as many as a super-frame of a container is cut into at once.
const SEND_MAX: usize = 64;
const SEND_FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
