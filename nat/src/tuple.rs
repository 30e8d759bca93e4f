//! What identifies a connection: addresses, protocol and ports, as one side of it sees them.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use vswitch_wire::IpProtocol;

/// An IP address of either version in 16 bytes; IPv4 as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2). Packets with such
/// IPv6 addresses are dropped before anything is looked up (N-V6-3), so the two never meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address([u8; 16]);

impl Address {
    /// Of IPv4, as it stands in a header.
    #[inline]
    pub const fn v4([a, b, c, d]: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// Of IPv6, as it stands in a header.
    #[inline]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// Whether it is one of IPv4.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.0[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
    }

    /// All 16 bytes.
    #[inline]
    pub const fn octets(&self) -> &[u8; 16] {
        &self.0
    }

    /// The last four bytes: the whole of an IPv4 address.
    #[inline]
    pub const fn low(&self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }

    /// The same as others write it.
    pub fn ip(&self) -> IpAddr {
        match self.is_v4() {
            true => IpAddr::V4(Ipv4Addr::from(self.low())),
            false => IpAddr::V6(Ipv6Addr::from(self.0)),
        }
    }
}

impl Hash for Address {
    /// As two words: bytes would be hashed one piece after another.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let number = u128::from_ne_bytes(self.0);
        state.write_u64(number as u64);
        state.write_u64((number >> 64) as u64);
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::v4(address.octets()),
            IpAddr::V6(address) => Self::v6(address.octets()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

/// A routing domain: the outside, or one network. Equal addresses in two zones are different hosts (N-TBL-6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(pub u16);

impl Zone {
    /// Beyond the external addresses.
    pub const OUTSIDE: Self = Self(0);

    /// Whether packets of it come from outside.
    #[inline]
    pub const fn is_outside(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OUTSIDE => f.write_str("outside"),
            Self(number) => number.fmt(f),
        }
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which way a packet of a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// As the packet that began the connection.
    Original = 0,
    /// The other way.
    Reply = 1,
}

impl Direction {
    /// The opposite.
    #[inline]
    #[must_use]
    pub const fn inverted(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// Addresses, protocol and ports of packets that go one way, and the zone in which they have them. A connection has
/// two: the packets of its initiator as the initiator's zone has them, and the answers as the responder's zone has
/// them, which is before they are translated.
///
/// A query of ICMP has its identifier as the port of the host that asks and 0 as the other's, so that a
/// request and a reply with equal addresses differ; protocols without ports have 0 twice.
#[derive(Clone, Copy, Eq)]
#[repr(C)]
pub struct Tuple {
    /// Source address.
    pub src: Address,
    /// Destination address, of the same version.
    pub dst: Address,
    /// Source port in host byte order.
    pub src_port: u16,
    /// Destination port in host byte order.
    pub dst_port: u16,
    /// Where packets with these addresses are met.
    pub zone: Zone,
    /// The transport protocol.
    pub protocol: u8,
    /// For a query of ICMP the type of its request, else 0.
    pub query: u8,
}

impl Tuple {
    /// The packets of the other direction, if nothing were translated.
    #[inline]
    #[must_use]
    pub const fn inverted(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            ..*self
        }
    }

    /// The same as another zone has it.
    #[inline]
    #[must_use]
    pub const fn in_zone(self, zone: Zone) -> Self {
        Self { zone, ..self }
    }

    /// The protocol.
    pub const fn protocol(&self) -> IpProtocol {
        IpProtocol(self.protocol)
    }

    /// Addresses and ports as they stand in a packet.
    #[inline]
    pub const fn ends(&self) -> Ends {
        Ends {
            src: self.src,
            dst: self.dst,
            src_port: self.src_port,
            dst_port: self.dst_port,
        }
    }
}

impl Tuple {
    /// Everything but the addresses in a word, for comparisons and hashes.
    #[inline]
    pub(crate) const fn word(&self) -> u64 {
        self.src_port as u64
            | (self.dst_port as u64) << 16
            | (self.zone.0 as u64) << 32
            | (self.protocol as u64) << 48
            | (self.query as u64) << 56
    }
}

impl Hash for Tuple {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.src.hash(state);
        self.dst.hash(state);
        state.write_u64(self.word());
    }
}

impl PartialEq for Tuple {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.word() == other.word() && self.src == other.src && self.dst == other.dst
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            src,
            dst,
            src_port,
            dst_port,
            zone,
            query,
            ..
        } = self;
        write!(f, "{} {src}:{src_port}>{dst}:{dst_port}", self.protocol())?;
        if *query != 0 {
            write!(f, " query {query}")?;
        }
        write!(f, " in {zone}")
    }
}

/// Addresses and ports of a packet, without the rest of a [`Tuple`]: what a translation replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Source address.
    pub src: Address,
    /// Destination address.
    pub dst: Address,
    /// Source port, or identifier of a query that asks.
    pub src_port: u16,
    /// Destination port, or identifier of a reply to a query.
    pub dst_port: u16,
}
