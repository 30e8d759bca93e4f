//! Ways to receive and to send on packet sockets: one frame or several per system call, and a ring in memory.

use std::{
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, Ordering},
};

use libc::{c_int, c_void};

use super::{bind_packet_socket, check, set_option};

/// Has each frame come with what the kernel took off it (`PACKET_AUXDATA`).
///
/// # Errors
/// The kernel's.
pub fn with_auxdata(socket: &OwnedFd) -> io::Result<()> {
    set_option(socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)
}

/// Has frames go to the driver without a queue (`PACKET_QDISC_BYPASS`).
///
/// # Errors
/// The kernel's.
pub fn without_queue(socket: &OwnedFd) -> io::Result<()> {
    set_option(socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)
}

/// Receives one frame with its control message (recvmsg); its length, or none if there is none.
pub fn receive_one(socket: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    let mut control = Control([0; CONTROL_LEN]);
    let mut part = part(buffer);
    let mut header = header(&mut part, &mut control);
    // SAFETY: all that `header` points to lives for the call and is as long as it says.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    usize::try_from(length).ok()
}

/// Receives as many frames as there are buffers and frames (recvmmsg); how many.
pub fn receive_many(socket: &OwnedFd, buffers: &mut [Vec<u8>; BATCH]) -> usize {
    let mut controls = [const { Control([0; CONTROL_LEN]) }; BATCH];
    let mut parts = buffers.each_mut().map(|buffer| part(buffer));
    let mut at = 0;
    let mut headers = parts.each_mut().map(|part| {
        let header = libc::mmsghdr {
            msg_hdr: header(part, &mut controls[at]),
            msg_len: 0,
        };
        at += 1;
        header
    });
    let flags = libc::MSG_DONTWAIT as _;
    // SAFETY: there are BATCH headers; all that they point to lives for the call and is as long as they say.
    let count = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            BATCH as u32,
            flags,
            ptr::null_mut(),
        )
    };
    usize::try_from(count).unwrap_or(0)
}

/// Sends one frame several times in one call (sendmmsg); how often it was taken.
pub fn send_many(socket: &OwnedFd, frame: &mut [u8]) -> usize {
    let mut parts = [(); BATCH].map(|()| part(frame));
    let mut headers = parts.each_mut().map(|part| {
        // SAFETY: `msghdr` consists of pointers and integers, all valid when zero.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = part;
        message.msg_iovlen = 1;
        libc::mmsghdr {
            msg_hdr: message,
            msg_len: 0,
        }
    });
    // SAFETY: there are BATCH headers; all that they point to lives for the call and is only read.
    let count = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), BATCH as u32, 0) };
    usize::try_from(count).unwrap_or(0)
}

/// A `TPACKET_V3` ring with vnet headers: blocks of frames that the kernel fills and hands over.
#[derive(Debug)]
pub struct Ring {
    socket: OwnedFd,
    memory: NonNull<u8>,
    next: usize,
}

impl Ring {
    /// On the interface of this index; a block is handed over when it is full, or when so many milliseconds are over.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(interface: u32, milliseconds: u32) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socket takes no pointer.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the kernel has just created `fd` for us and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, TPACKET_V3)?;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK as u32,
            tp_block_nr: BLOCKS as u32,
            tp_frame_size: 2048,
            tp_frame_nr: (BLOCK / 2048 * BLOCKS) as u32,
            tp_retire_blk_tov: milliseconds,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        let length = size_of_val(&request) as libc::socklen_t;
        let pointer: *const c_void = (&raw const request).cast();
        // SAFETY: the kernel reads `length` bytes of `request`, which lives for the call.
        check(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_RX_RING,
                pointer,
                length,
            )
        })?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, of the size that the ring was made with, at an address of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                BLOCK * BLOCKS,
                access,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).expect("a mapping is not at 0");
        bind_packet_socket(&socket, interface)?;
        Ok(Self {
            socket,
            memory,
            next: 0,
        })
    }

    /// What the kernel says to vnet headers once there is a ring.
    pub fn vnet_header_afterwards(&self) -> io::Result<()> {
        set_option(&self.socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)
    }

    /// Lets `take` look at every frame of the next block, header first, and hands the block back; none if the kernel has it still.
    pub fn take_block(&mut self, mut take: impl FnMut(&mut [u8])) -> Option<usize> {
        // SAFETY: `next` is below BLOCKS, so the block lies in the mapping.
        let block = unsafe { self.memory.add(self.next * BLOCK) };
        // SAFETY: a block begins with version and offset, then `struct tpacket_hdr_v1`, whose first word is the status; it is aligned.
        let status = unsafe { AtomicU32::from_ptr(block.add(8).cast().as_ptr()) };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the next two words of the same structure; the block is ours until its status changes.
        let (count, mut offset) = unsafe {
            (
                block.add(12).cast::<u32>().read(),
                block.add(16).cast::<u32>().read() as usize,
            )
        };
        for _ in 0..count {
            // SAFETY: the kernel has put `count` frames into the block, each behind a `tpacket3_hdr`, linked by their first word.
            let frame = unsafe { block.add(offset) };
            // SAFETY: the header is aligned to 16 bytes, and all its bytes are valid.
            let header = unsafe { frame.cast::<libc::tpacket3_hdr>().as_ref() };
            let start = usize::from(header.tp_mac) - 10;
            let length = header.tp_snaplen as usize + 10;
            offset += header.tp_next_offset as usize;
            // SAFETY: with PACKET_VNET_HDR ten bytes of header lie before `tp_mac`, then `tp_snaplen` bytes, all in the block.
            take(unsafe { std::slice::from_raw_parts_mut(frame.add(start).as_ptr(), length) });
        }
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % BLOCKS;
        Some(count as usize)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), BLOCK * BLOCKS) };
    }
}

/// Frames per call at most.
pub const BATCH: usize = 32;

/// A super-frame must fit into a block; together 16 MiB.
const BLOCK: usize = 256 * 1024;
const BLOCKS: usize = 64;

/// `enum tpacket_versions` (linux/if_packet.h).
const TPACKET_V3: c_int = 2;

#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

const CONTROL_LEN: usize = 64;

fn part(buffer: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    }
}

fn header(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: `msghdr` consists of pointers and integers, all valid when zero.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_LEN as _;
    message
}
