//! The socket of a TCP flow, and the frames that its container gets.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::net::SendFlags;
use socket2::{Domain, Protocol, Socket, Type};
use vswitch_wire::{
    EtherType, EthernetHeader, Gso, GsoKind, IpProtocol, Ipv4Header, Ipv6Header, Offload, PartialChecksum,
    Refusal, TcpFlags, TcpHeader, checksum,
};
use zerocopy::IntoBytes;

use crate::{
    Delivery, Link, Path, Scratch,
    allowance::Allowance,
    config::Source,
    seq::SeqNum,
    sys::{
        IntOption,
        stream::{self, Peeked},
    },
    tcp::{Connection, EarlyBudget, FlowIo, Outgoing, Room, SynOptions},
};

/// A TCP flow: its state machine and its host socket.
#[derive(Debug)]
pub(crate) struct TcpFlow {
    pub(crate) connection: Connection,
    pub(crate) socket: HostSocket,
    pub(crate) attempt: Attempt,
}

/// The connect of a flow's socket, which may not be the first to a resolver (R-DNS-3).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) began: Instant,
    /// Resolvers that failed before.
    pub(crate) failures: usize,
}

impl Attempt {
    /// The first.
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, failures: 0 }
    }
}

/// A non-blocking TCP socket of the host.
#[derive(Debug)]
pub(crate) struct HostSocket {
    socket: Socket,
    /// Where the kernel's next peek begins.
    peek: Peek,
    /// The receive queue is not where the flow believes it to be; nothing of it may be used any more.
    is_out_of_step: bool,
    keeps_alive: bool,
    /// The last peek has copied all that had arrived, and the stream goes on.
    is_drained: bool,
    /// What the container gets before the first byte of the receive queue, as far as it has not acknowledged it.
    prefix: Vec<u8>,
    /// What `tcpi_bytes_acked` lacks of a stream with its SYN: the kernel counts the SYN that it has sent by connecting,
    /// but not the one by which it has answered a client (`tcp_check_req`).
    uncounted: u64,
}

/// How a peek gets to its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peek {
    /// `SO_PEEK_OFF`, which is now so far behind the start of the queue.
    Offset(u32),
    /// Not known to this kernel: everything before the offset is copied, too, and thrown away.
    Skip,
}

impl HostSocket {
    /// Opens a socket for a connection to `target`, which [`connect`](Self::connect) begins.
    ///
    /// # Errors
    /// The kernel's: no descriptor left, the source address is not the host's, the device does not exist.
    pub(crate) fn open(target: SocketAddr, source: &Source, traffic_class: u8) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(target),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        source.apply(&socket, target)?;
        if traffic_class != 0 {
            // R-ECN-1: what the container asks of routers is passed on, as far as the host lets us.
            let _ = match target {
                SocketAddr::V4(_) => socket.set_tos_v4(traffic_class.into()),
                SocketAddr::V6(_) => socket.set_tclass_v6(traffic_class.into()),
            };
        }
        Self::adopt(socket)
    }

    /// Takes a non-blocking socket that a listener has accepted. The container gets `prefix` before what its peer
    /// sends.
    ///
    /// # Errors
    /// The kernel's; it is no TCP socket.
    pub(crate) fn accepted(socket: Socket, prefix: Vec<u8>) -> io::Result<Self> {
        Ok(Self {
            prefix,
            uncounted: 1,
            ..Self::adopt(socket)?
        })
    }

    /// Takes a non-blocking socket that something else has made, and that connects.
    ///
    /// # Errors
    /// The kernel's; it is no TCP socket.
    pub(crate) fn adopt(socket: Socket) -> io::Result<Self> {
        // Small requests must not wait for the acknowledgment of the one before: the container's own stack
        // has decided already whether to wait.
        socket.set_tcp_nodelay(true)?;
        // R-RX-11: urgent data stays where it is in the stream; out of line, a peek would skip and miscount it.
        socket.set_out_of_band_inline(true)?;
        // Without, the queue is asked until it says that nothing is left.
        let _ = IntOption::INQ.set(socket.as_fd(), 1);
        let peek = match IntOption::PEEK_OFFSET.set(socket.as_fd(), 0) {
            Ok(()) => Peek::Offset(0),
            Err(_) => Peek::Skip,
        };
        Ok(Self {
            socket,
            peek,
            is_out_of_step: false,
            keeps_alive: false,
            is_drained: false,
            prefix: Vec::new(),
            uncounted: 0,
        })
    }

    /// Binds the socket to a free port of an address of the host, and gives both.
    ///
    /// # Errors
    /// The kernel's: no port is free, the address is not the host's any more.
    pub(crate) fn bind_to(&self, address: IpAddr) -> io::Result<SocketAddr> {
        // It may have an address and no port yet, by configuration.
        let own = self.socket.local_addr()?.as_socket();
        if own.is_none_or(|own| own.ip().is_unspecified()) {
            self.socket.bind(&SocketAddr::new(address, 0).into())?;
        }
        let own = self.socket.local_addr()?.as_socket();
        own.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Begins to connect; `Ok(true)` if that is done already.
    ///
    /// # Errors
    /// The connection cannot be.
    pub(crate) fn connect(&self, target: SocketAddr) -> io::Result<bool> {
        match self.socket.connect(&target.into()) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How the connect that was begun stands; `Ok(false)` if it is still pending.
    ///
    /// # Errors
    /// Why it has failed.
    pub(crate) fn connected(&self) -> io::Result<bool> {
        match self.socket.take_error()? {
            Some(error) => Err(error),
            // A stale event is no success; and a port of the range that connect chose from, which nobody listens on,
            // may have been connected to itself (R-IN-6).
            None => match self.socket.peer_addr() {
                Ok(peer)
                    if self
                        .socket
                        .local_addr()
                        .is_ok_and(|own| own.as_socket() == peer.as_socket()) =>
                {
                    Err(io::Error::from_raw_os_error(libc::ECONNREFUSED))
                }
                peer => Ok(peer.is_ok()),
            },
        }
    }

    /// The error that the kernel holds ready, if any.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.socket.take_error().unwrap_or_else(Some)
    }

    /// Closes with a reset (`SO_LINGER` of 0) rather than a FIN.
    pub(crate) fn reset(self) {
        // It is closed either way.
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }

    fn peek(&mut self, offset: u32, into: &mut [u8], waste: &mut [u8]) -> io::Result<usize> {
        self.is_drained = false;
        if self.is_out_of_step {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let offset = match self.prefix.get(offset as usize..) {
            Some(rest @ [_, ..]) => {
                let len = rest.len().min(into.len());
                into[..len].copy_from_slice(&rest[..len]);
                return Ok(len);
            }
            _ => offset - self.prefix.len() as u32,
        };
        let Peek::Offset(at) = &mut self.peek else {
            let skipped = offset as usize;
            let len = stream::peek_behind(self.socket.as_fd(), skipped, waste, into)?;
            // Nothing behind what was sent already; whether the stream ends there shows at offset 0.
            return Ok(len.saturating_sub(skipped));
        };
        if *at != offset {
            let wanted = i32::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
            IntOption::PEEK_OFFSET.set(self.socket.as_fd(), wanted)?;
            *at = offset;
        }
        let Peeked { len, queued } = stream::peek(self.socket.as_fd(), into)?;
        *at += len as u32;
        self.is_drained = queued == Some(*at);
        Ok(len)
    }

    fn discard(&mut self, len: u32) -> io::Result<()> {
        let of_prefix = self.prefix.len().min(len as usize);
        self.prefix.drain(..of_prefix);
        // At once, however few: what is left of it keeps the kernel's whole buffer, which may be all of the socket's
        // receive memory, and then the window stays closed for ever.
        self.remove(len - of_prefix as u32)
            .inspect_err(|_| self.is_out_of_step |= of_prefix > 0)
    }

    /// Removes bytes from the start of the queue.
    fn remove(&mut self, len: u32) -> io::Result<()> {
        let mut left = len as usize;
        while left > 0 {
            let removed = stream::discard(self.socket.as_fd(), left).and_then(|removed| match removed {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                removed => Ok(removed),
            });
            match removed {
                Ok(removed) => left -= removed.min(left),
                Err(error) => {
                    self.is_out_of_step = left < len as usize;
                    return Err(error);
                }
            }
        }
        if let Peek::Offset(at) = &mut self.peek {
            // socket(7): "a receive operation that does not have MSG_PEEK set [moves] the offset backward".
            *at = at.saturating_sub(len);
        }
        Ok(())
    }

    fn room(&self) -> Room {
        let socket = self.socket.as_fd();
        let (Ok(memory), Ok(peer)) = (stream::send_memory(socket), stream::peer(socket)) else {
            // Cannot happen on a TCP socket; as if it were full.
            return Room {
                free: 0,
                queued: 1,
                peer_window: 0,
                peer_acked: 0,
                round_trip: Duration::ZERO,
            };
        };
        let free = memory.limit.saturating_sub(memory.queued);
        Room {
            // The kernel counts its own overhead, a small part of which the new bytes will bring along.
            free: free - free / OVERHEAD,
            queued: memory.queued,
            peer_window: peer.window,
            peer_acked: peer.acked + self.uncounted,
            round_trip: peer.round_trip,
        }
    }
}

impl AsFd for HostSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Source {
    /// Binds a new socket as configured.
    ///
    /// # Errors
    /// The kernel's: the address is not the host's, the device does not exist.
    pub(crate) fn apply(&self, socket: &Socket, target: SocketAddr) -> io::Result<()> {
        if target.ip().is_loopback() {
            // The host itself is reached without any device or address of the outside.
            return Ok(());
        }
        if let Some(interface) = &self.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        let address = match target {
            SocketAddr::V4(_) => self.v4.map(IpAddr::V4),
            SocketAddr::V6(_) => self.v6.map(IpAddr::V6),
        };
        if let Some(address) = address {
            // R-LIM-3: the port is chosen by connect, where only the pair with the peer must be unique.
            let _ = IntOption::BIND_ADDRESS_NO_PORT.set(socket.as_fd(), 1);
            socket.bind(&SocketAddr::new(address, 0).into())?;
        }
        Ok(())
    }
}

/// What a TCP flow's state machine acts upon.
pub(crate) struct StreamIo<'a, L> {
    pub(crate) socket: &'a mut HostSocket,
    pub(crate) path: &'a Path,
    pub(crate) endpoint: u32,
    pub(crate) challenges: &'a mut Allowance,
    pub(crate) early: &'a Arc<EarlyBudget>,
    pub(crate) token: mio::Token,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) link: &'a mut L,
    pub(crate) now: Instant,
}

impl<L: Link> FlowIo for StreamIo<'_, L> {
    fn send(&mut self, payload: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(rustix::net::send(&self.socket.socket, payload, flags)?)
    }

    fn room(&mut self) -> Room {
        self.socket.room()
    }

    fn watch_room(&mut self) {
        // A writable socket would make an event at once, and again each time it is asked about.
        if stream::send_memory(self.socket.as_fd()).is_ok_and(|memory| memory.is_writable()) {
            return;
        }
        // Asking epoll anew makes the kernel note that somebody waits for room.
        let fd = std::os::fd::AsRawFd::as_raw_fd(&self.socket.as_fd());
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
        let _ = self
            .link
            .registry()
            .reregister(&mut mio::unix::SourceFd(&fd), self.token, interest);
    }

    fn peek(&mut self, offset: u32, max: usize) -> io::Result<usize> {
        let at = header_len(self.path);
        let Scratch { frame, datagrams } = &mut *self.scratch;
        let room = &mut frame[at..];
        let max = max.min(room.len());
        self.socket.peek(offset, &mut room[..max], datagrams)
    }

    fn is_drained(&self) -> bool {
        self.socket.is_drained
    }

    fn discard(&mut self, len: u32) -> io::Result<()> {
        self.socket.discard(len)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket.socket.shutdown(std::net::Shutdown::Write)
    }

    fn keep_alive(&mut self) {
        if !std::mem::replace(&mut self.socket.keeps_alive, true) {
            // It only helps to notice a dead peer sooner.
            let _ = self.socket.socket.set_keepalive(true);
        }
    }

    fn emit(&mut self, segment: &Outgoing) -> Delivery {
        match build(self.path, segment, &mut self.scratch.frame) {
            Some((len, offload)) => self.link.send(&mut self.scratch.frame[..len], offload),
            None => Delivery::Refused,
        }
    }

    fn allow_challenge(&mut self) -> bool {
        self.challenges.take(self.now)
    }

    fn early_budget(&self) -> &Arc<EarlyBudget> {
        self.early
    }

    fn refuse(&mut self, syn: SeqNum, refusal: Refusal) {
        let original = Outgoing {
            seq: syn,
            ack: SeqNum(0),
            flags: TcpFlags::SYN,
            window: 0,
            payload_len: 0,
            mss: 0,
            syn_options: None,
        };
        let reverse = self.path.reversed();
        if let Some((len, offload)) = build(&reverse, &original, &mut self.scratch.frame) {
            let frame = &mut self.scratch.frame[..len];
            self.link.refuse(self.endpoint, frame, offload, refusal);
        }
    }
}

/// Where the payload of a segment without options begins in its frame.
fn header_len(path: &Path) -> usize {
    let ip = match path.container {
        SocketAddr::V4(_) => Ipv4Header::LEN,
        SocketAddr::V6(_) => Ipv6Header::LEN,
    };
    EthernetHeader::LEN + ip + TcpHeader::LEN
}

/// Writes a segment's headers before its payload; returns the frame's length and what is left to the
/// receiver: its checksum, and the cutting of a super-frame. `None` if it is too long for a packet.
pub(crate) fn build(path: &Path, segment: &Outgoing, frame: &mut [u8]) -> Option<(usize, Offload)> {
    let l4 = header_len(path) - TcpHeader::LEN;
    let mut options = [0; SYN_OPTIONS_LEN];
    let options = match segment.syn_options {
        Some(offer) => offer.emit(&mut options),
        None => &options[..0],
    };
    let segment_len = TcpHeader::LEN + options.len() + segment.payload_len;
    let (ethertype, pseudo_header) = match (path.remote.ip(), path.container.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = Ipv4Header::new(src, dst, IpProtocol::TCP, segment_len)?;
            frame[EthernetHeader::LEN..l4].copy_from_slice(header.as_bytes());
            let len = u16::try_from(segment_len).ok()?;
            (
                EtherType::IPV4,
                checksum::pseudo_header_v4(src, dst, IpProtocol::TCP, len),
            )
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = Ipv6Header::new(src, dst, IpProtocol::TCP, segment_len)?;
            frame[EthernetHeader::LEN..l4].copy_from_slice(header.as_bytes());
            let len = u32::try_from(segment_len).ok()?;
            (
                EtherType::IPV6,
                checksum::pseudo_header_v6(src, dst, IpProtocol::TCP, len),
            )
        }
        _ => return None,
    };
    let ethernet = EthernetHeader {
        dst: path.stations.dst,
        src: path.stations.src,
        ethertype,
    };
    frame[..EthernetHeader::LEN].copy_from_slice(ethernet.as_bytes());
    let mut header = TcpHeader::new(path.remote.port(), path.container.port(), options.len())?;
    header.set_sequence(segment.seq.0);
    if segment.flags.contains(TcpFlags::ACK) {
        header.set_acknowledgment(segment.ack.0);
    }
    header.set_flags(segment.flags);
    header.set_window(segment.window);
    // The receiver adds the rest (B-OFF-5).
    header.set_checksum(checksum::fold(pseudo_header));
    frame[l4..l4 + TcpHeader::LEN].copy_from_slice(header.as_bytes());
    let payload = l4 + TcpHeader::LEN + options.len();
    frame[l4 + TcpHeader::LEN..payload].copy_from_slice(options);
    let is_super = segment.payload_len > usize::from(segment.mss);
    let gso = is_super.then_some(Gso {
        kind: match ethertype {
            EtherType::IPV4 => GsoKind::TcpV4,
            _ => GsoKind::TcpV6,
        },
        ecn: false,
        size: segment.mss,
        header_len: payload as u16,
    });
    let offload = Offload {
        checksum: Some(PartialChecksum {
            start: l4 as u16,
            offset: TcpHeader::CHECKSUM_OFFSET,
        }),
        gso,
        data_valid: false,
    };
    Some((payload + segment.payload_len, offload))
}

impl SynOptions {
    fn emit(self, out: &mut [u8; SYN_OPTIONS_LEN]) -> &[u8] {
        let [high, low] = self.mss.to_be_bytes();
        out[..4].copy_from_slice(&[MSS, 4, high, low]);
        match self.window_scale {
            Some(scale) => {
                out[4..].copy_from_slice(&[NO_OPERATION, WINDOW_SCALE, 3, scale]);
                out
            }
            None => &out[..4],
        }
    }
}

/// Option kinds (RFC 9293 §3.2, RFC 7323 §2.2).
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SYN_OPTIONS_LEN: usize = 8;

/// A 64 KiB segment takes about 1.5 KiB more of the send queue's allowance than its payload; one part in 16
/// is kept for that and for smaller segments.
const OVERHEAD: u32 = 16;

#[cfg(test)]
mod tests;
