//! The test's ends of the cables, below the protocols.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, send,
        socket,
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vswitch_wire::MacAddr;

/// One end of a cable.
pub(super) struct Wire {
    socket: OwnedFd,
    own: MacAddr,
    peer: MacAddr,
    frame: Vec<u8>,
}

impl Wire {
    /// Opens the interface of that name; `peer` is who is at the other end.
    pub(super) fn open(interface: &str, peer: MacAddr) -> io::Result<Self> {
        let address = link_address(interface)?;
        let own = MacAddr(address.addr().ok_or(io::ErrorKind::InvalidData)?);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        // The address names no protocol, so the socket keeps its own.
        bind(socket.as_raw_fd(), &address)?;
        Ok(Self {
            socket,
            own,
            peer,
            frame: vec![0; 1 << 16],
        })
    }

    /// The address of this end.
    pub(super) fn own(&self) -> MacAddr {
        self.own
    }

    /// Sends an IP packet.
    pub(super) fn send(&self, packet: &[u8]) -> io::Result<()> {
        let ethertype: [u8; 2] = match packet.first().map(|byte| byte >> 4) {
            Some(6) => [0x86, 0xdd],
            _ => [0x08, 0x00],
        };
        let frame = [&self.peer.0, &self.own.0, &ethertype[..], packet].concat();
        send(self.socket.as_raw_fd(), &frame, MsgFlags::empty())?;
        Ok(())
    }

    /// The next IP packet that came for this end, if there is one; what the machine at the other end says to all
    /// does not count.
    pub(super) fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut self.frame, MsgFlags::empty()) {
                Ok(length) => length,
                Err(nix::Error::EAGAIN) => return Ok(None),
                // What ICMP said of an earlier frame; there is none here.
                Err(error) => return Err(error.into()),
            };
            let frame = &self.frame[..length];
            let is_ip = matches!(frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]));
            if is_ip && frame.starts_with(&self.own.0) {
                return Ok(Some(frame[14..].to_vec()));
            }
        }
    }
}

/// Waits until one of the wires has a frame; `false` when it takes longer than a few seconds.
pub(super) fn wait(wires: &[Wire; 2]) -> io::Result<bool> {
    let mut fds = wires
        .each_ref()
        .map(|wire| PollFd::from_borrowed_fd(wire.socket.as_fd(), PollFlags::IN));
    let patience = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    Ok(poll(&mut fds, Some(&patience))? > 0)
}

fn link_address(interface: &str) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|found| found.interface_name == interface)
        .find_map(|found| {
            let address = found.address?;
            (address.family() == Some(AddressFamily::Packet)).then(|| address.as_link_addr().copied())?
        })
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, interface.to_owned()))
}
