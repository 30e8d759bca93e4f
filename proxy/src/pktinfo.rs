//! UDP sockets that many peers share: which address of the host a datagram came to, and answers from there.
//!
//! A host has several addresses, and an unconnected socket would answer from the one that the route chooses. A
//! peer's connected socket takes no answer from another address than it asked (R-UDP-4).

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    os::fd::BorrowedFd,
};

use vswitch_wire::IpVersion;

use crate::sys::{self, IntOption, QueuedError, Received, Slots};

/// Both ends of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The other one. IPv4 peers have IPv4 addresses, on sockets of either version.
    pub peer: SocketAddr,
    /// The host's. Of the same version.
    pub local: Local,
}

/// An address of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Local {
    /// The address.
    pub address: IpAddr,
    /// Index of the interface that has it, for link-local addresses of IPv6; else 0.
    pub interface: u32,
}

/// A bound, unconnected UDP socket.
#[derive(Debug, Clone, Copy)]
pub struct SharedSocket<'a> {
    socket: BorrowedFd<'a>,
    version: IpVersion,
}

impl<'a> SharedSocket<'a> {
    /// A socket of that version. One of IPv6 may take IPv4, too (`IPV6_V6ONLY` is off).
    pub const fn new(socket: BorrowedFd<'a>, version: IpVersion) -> Self {
        Self { socket, version }
    }

    /// Lets it tell where datagrams came to. To be called once, before the first [`receive`](Self::receive).
    ///
    /// # Errors
    /// The kernel's.
    pub fn prepare(self) -> io::Result<()> {
        if self.version == IpVersion::V6 {
            IntOption::PACKET_INFO_V6.set(self.socket, 1)?;
        }
        // Also of the IPv4 datagrams of a socket of IPv6: IPv6's does not tell a broadcast.
        IntOption::PACKET_INFO_V4.set(self.socket, 1)
    }

    /// Lets the kernel keep ICMP errors and coalesce datagrams, for [`sys::pktinfo`].
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn prepare_batches(self) -> io::Result<()> {
        self.prepare()?;
        if self.version == IpVersion::V6 {
            IntOption::QUEUE_ERRORS_V6.set(self.socket, 1)?;
        }
        IntOption::QUEUE_ERRORS_V4.set(self.socket, 1)?;
        // Linux 5.0; without it datagrams come one by one.
        let _ = IntOption::UDP_GRO.set(self.socket, 1);
        Ok(())
    }

    /// Receives a datagram, without waiting; gives its length, and its ends unless it was sent to many stations at
    /// once. What does not fit into `buffer` is lost.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; the kernel's.
    pub fn receive(self, buffer: &mut [u8]) -> io::Result<(usize, Option<Ends>)> {
        let slots = Slots {
            stride: buffer.len().max(1),
            headroom: 0,
        };
        let (mut received, mut locals) = ([Received::default(); _], [None; _]);
        sys::pktinfo::receive_many(self.socket, buffer, slots, &mut received, &mut locals)?;
        Ok((received[0].len, Ends::of(&received[0], locals[0])))
    }

    /// Sends a datagram between `ends`, without waiting.
    ///
    /// # Errors
    /// The kernel's; `WouldBlock` when there is no room.
    pub fn send(self, payload: &[u8], ends: &Ends) -> io::Result<usize> {
        sys::pktinfo::send(self.socket, self.version, ends, payload, None)
    }

    /// Receives as many datagrams as are there and fit, one per slot, and gives how many; also the ends of each that
    /// was not sent to many stations at once.
    pub(crate) fn receive_many(
        self,
        buffer: &mut [u8],
        slots: Slots,
        received: &mut [Received; sys::RECEIVE_MAX],
        ends: &mut [Option<Ends>; sys::RECEIVE_MAX],
    ) -> io::Result<usize> {
        let mut locals = [None; sys::RECEIVE_MAX];
        let count = sys::pktinfo::receive_many(self.socket, buffer, slots, received, &mut locals)?;
        for index in 0..count {
            ends[index] = Ends::of(&received[index], locals[index]);
        }
        Ok(count)
    }

    /// The oldest entry of the error queue, whose payload goes to `payload`, and from where the packet was sent.
    pub(crate) fn receive_error(self, payload: &mut [u8]) -> io::Result<(QueuedError, Option<Local>)> {
        sys::pktinfo::receive_error(self.socket, payload)
    }

    /// As [`send`](Self::send), several datagrams of `size` but the last, cut by the kernel.
    pub(crate) fn send_segments(self, payload: &[u8], size: u16, ends: &Ends) -> io::Result<usize> {
        sys::pktinfo::send(self.socket, self.version, ends, payload, Some(size))
    }

    /// As [`send_segments`](Self::send_segments), one by one; gives how many bytes were sent.
    pub(crate) fn send_many(self, payload: &[u8], size: usize, ends: &Ends) -> io::Result<usize> {
        sys::pktinfo::send_many(self.socket, self.version, ends, payload, size)
    }
}

impl Ends {
    /// Of what was received; `None` if it was sent to many stations.
    pub(crate) fn of(received: &Received, local: Option<Local>) -> Option<Self> {
        Self::between(received.source?, local?)
    }

    /// `None` if they are of two versions, which no packet has.
    pub(crate) fn between(peer: SocketAddr, local: Local) -> Option<Self> {
        let peer = match (peer.ip().to_canonical(), peer) {
            (IpAddr::V6(address), SocketAddr::V6(peer)) => {
                // The flow label is no part of who it is.
                SocketAddrV6::new(address, peer.port(), 0, peer.scope_id()).into()
            }
            (address, peer) => SocketAddr::new(address, peer.port()),
        };
        (peer.is_ipv4() == local.address.is_ipv4()).then_some(Self { peer, local })
    }
}

#[cfg(test)]
mod tests;
