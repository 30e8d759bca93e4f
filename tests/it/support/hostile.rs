//! A container that misbehaves on the Ethernet layer.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use etherparse::{PacketBuilder, TcpHeader};
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
            match wire.send(&frame.bytes()) {
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
    Ok(wire.send(&Frame::new(wire.own, station).bytes())?)
}

/// Sends datagrams and SYNs straight to a station, whatever address they are for.
pub(super) fn smuggle(interface: &str, station: MacAddr, from: IpAddr, to: SocketAddr) -> io::Result<()> {
    let wire = Wire::open(interface)?;
    let builder = || {
        let builder = PacketBuilder::ethernet2(wire.own.0, station.0);
        match (from, to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Ok(builder.ipv4(from.octets(), to.octets(), 64)),
            (IpAddr::V6(from), IpAddr::V6(to)) => Ok(builder.ipv6(from.octets(), to.octets(), 64)),
            _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
        }
    };
    for port in 4000..4004 {
        let (mut datagram, mut segment) = (Vec::new(), Vec::new());
        let syn = builder()?.tcp(port, to.port(), 1, 64_000).syn();
        syn.write(&mut segment, &[]).map_err(io::Error::other)?;
        let udp = builder()?.udp(port, to.port());
        udp.write(&mut datagram, b"smuggled").map_err(io::Error::other)?;
        wire.send(&datagram)?;
        wire.send(&segment)?;
    }
    Ok(())
}

/// Sends packets that no sane host sends, of many kinds, to a router's station and these destinations; how
/// many the interface took.
pub(super) fn nonsense(interface: &str, station: MacAddr, to: &[SocketAddr]) -> io::Result<u64> {
    let wire = Wire::open(interface)?;
    let mut dice = Dice(SEED);
    let mut taken = 0;
    for _ in 0..PACKETS {
        let mut frame = dice.packet(wire.own, station, to)?;
        if dice.below(4) == 0 {
            // Behind the Ethernet header: versions, lengths, offsets and checksums that are wrong.
            let place = 14 + dice.below(frame.len() - 14);
            frame[place] ^= dice.byte();
        }
        if dice.below(8) == 0 {
            frame.truncate(14 + dice.below(frame.len() - 13));
        }
        match wire.send(&frame) {
            Ok(()) => taken += 1,
            // The daemon does not keep up with us, or not even our kernel takes that.
            Err(nix::Error::ENOBUFS | nix::Error::EINVAL) => thread::sleep(Duration::from_micros(100)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(taken)
}

/// Xorshift: Marsaglia, Journal of Statistical Software 8 (14), 2003.
struct Dice(u32);

impl Dice {
    fn word(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.word().to_be_bytes()[1]
    }

    fn below(&mut self, limit: usize) -> usize {
        self.word() as usize % limit
    }

    fn packet(&mut self, own: MacAddr, station: MacAddr, to: &[SocketAddr]) -> io::Result<Vec<u8>> {
        let to = to[self.below(to.len())];
        let builder = PacketBuilder::ethernet2(own.0, station.0);
        let builder = match to.ip() {
            IpAddr::V4(to) => builder.ipv4(OWN4.octets(), to.octets(), 64 * self.byte().min(1)),
            IpAddr::V6(to) => builder.ipv6(OWN6.octets(), to.octets(), 64 * self.byte().min(1)),
        };
        let mut payload = vec![0; self.below(200)];
        payload.fill_with(|| self.byte());
        // Few ports, so that flows meet packets that are none of theirs.
        let port = 2000 + u16::from(self.byte() % 16);
        let mut frame = Vec::new();
        match self.below(8) {
            0 if to.is_ipv4() => {
                let [kind, code] = [self.byte() % 16, self.byte() % 16];
                builder.icmpv4_raw(kind, code, [0; 4]).write(&mut frame, &payload)
            }
            0 => {
                let [kind, code] = [self.byte(), self.byte() % 8];
                builder.icmpv6_raw(kind, code, [0; 4]).write(&mut frame, &payload)
            }
            1 => builder.udp(port, to.port()).write(&mut frame, &payload),
            _ => {
                let mut tcp = TcpHeader::new(port, to.port(), self.word(), self.byte().into());
                tcp.acknowledgment_number = self.word();
                let flags = self.byte();
                tcp.syn = flags & 3 == 0;
                tcp.fin = flags & 0x0c == 0;
                tcp.rst = flags & 0x30 == 0;
                tcp.ack = flags & 0x40 == 0;
                tcp.urg = flags & 0x80 == 0;
                let options: Vec<u8> = (0..4 * self.below(11)).map(|_| self.byte()).collect();
                // Options of every kind and length fit.
                let _ = tcp.set_options_raw(&options);
                builder.tcp_header(tcp).write(&mut frame, &payload)
            }
        }
        .map_err(io::Error::other)?;
        Ok(frame)
    }
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

    fn send(&self, frame: &[u8]) -> nix::Result<()> {
        let flags = MsgFlags::empty();
        sendto(self.socket.as_raw_fd(), frame, &self.address, flags).map(drop)
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

/// Whose packets they pretend to be.
const OWN4: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 66);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, 0x66);

const SEED: u32 = 0x7673_7769;

const PACKETS: usize = 20_000;
