//! A container that misbehaves on the Ethernet layer.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, sendto, socket,
    },
};
use vswitch_testkit::frames::{Arp, Frame};
use vswitch_wire::MacAddr;

/// Sends random source addresses, broadcasts, and ARP packets that claim the victim's address, until told
/// to end; the number of frames that the interface took.
pub(super) fn flood(interface: &str, victim: Ipv4Addr, ended: &AtomicBool) -> io::Result<u64> {
    let wire = Wire::open(interface)?;
    let mut taken = 0;
    for round in 0_u32.. {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        let [_, a, b, c] = round.to_be_bytes();
        let stranger = MacAddr([0x02, 0xbd, a, b, c, 1]);
        let frames = [
            Frame::new(stranger, MacAddr::BROADCAST),
            Frame::new(wire.own, MacAddr::BROADCAST),
            Arp::announcement(wire.own, victim).frame(),
            Arp::reply(wire.own, victim, MacAddr::BROADCAST, victim).frame(),
        ];
        for frame in &frames {
            match wire.send(frame) {
                Ok(()) => taken += 1,
                // The daemon does not keep up with us.
                Err(nix::Error::ENOBUFS) => thread::sleep(Duration::from_micros(100)),
                Err(error) => return Err(error.into()),
            }
        }
        if round % 64 == 0 {
            super::agent::say(taken);
            // A machine with one core must get to the others, too.
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(taken)
}

/// Sends a frame to a station, whose address nobody was asked for.
pub(super) fn knock(interface: &str, station: MacAddr) -> io::Result<()> {
    let wire = Wire::open(interface)?;
    Ok(wire.send(&Frame::new(wire.own, station))?)
}

/// An interface below the protocols.
struct Wire {
    socket: OwnedFd,
    address: LinkAddr,
    own: MacAddr,
}

impl Wire {
    fn open(interface: &str) -> io::Result<Self> {
        let address = link_address(interface)?;
        let own = MacAddr(address.addr().ok_or(io::ErrorKind::InvalidData)?);
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )?;
        Ok(Self { socket, address, own })
    }

    fn send(&self, frame: &Frame) -> nix::Result<()> {
        let flags = MsgFlags::empty();
        sendto(self.socket.as_raw_fd(), &frame.bytes(), &self.address, flags).map(drop)
    }
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
