//! IPv4 (RFC 791).

use std::net::Ipv4Addr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

use crate::{Fragment, IpProtocol, Malformed, UpperLayer, checksum};

/// The fixed 20 bytes of an IPv4 header.
///
/// Any 20 bytes are one: only [`Ipv4Packet::parse`] says that the fields fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv4Header {
    version_ihl: u8,
    tos: u8,
    total_len: U16,
    id: U16,
    fragment: U16,
    ttl: u8,
    protocol: IpProtocol,
    checksum: U16,
    src: [u8; 4],
    dst: [u8; 4],
}

impl Ipv4Header {
    /// Bytes of a header without options.
    pub const LEN: usize = 20;
    /// Bytes of the longest header: fifteen words.
    pub const MAX_LEN: usize = 60;
    /// TTL of packets that we make: the recommended default (RFC 1700, "IP time to live").
    pub const DEFAULT_TTL: u8 = 64;

    /// A header without options for `payload_len` bytes, with Don't Fragment, id 0 (RFC 6864 §4.1) and a
    /// complete checksum. `None` if the packet would exceed 65 535 bytes.
    pub fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: IpProtocol, payload_len: usize) -> Option<Self> {
        let total_len = u16::try_from(payload_len.checked_add(Self::LEN)?).ok()?;
        let mut header = Self {
            version_ihl: 0x45,
            tos: 0,
            total_len: U16::new(total_len),
            id: U16::new(0),
            fragment: U16::new(DONT_FRAGMENT),
            ttl: Self::DEFAULT_TTL,
            protocol,
            checksum: U16::new(0),
            src: src.octets(),
            dst: dst.octets(),
        };
        header
            .checksum
            .set(checksum::finish(checksum::sum(header.as_bytes())));
        Some(header)
    }

    /// The fixed header at the start of `bytes`, for rewriting in place, and what follows it.
    ///
    /// # Errors
    /// [`Malformed::Truncated`]; nothing else is checked, [`Ipv4Packet::parse`] does that.
    pub fn parse_mut(bytes: &mut [u8]) -> Result<(&mut Self, &mut [u8]), Malformed> {
        Self::mut_from_prefix(bytes).map_err(|_| Malformed::Truncated)
    }

    /// Bytes of the header with options, 0–60.
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }

    /// Type of service: DSCP and ECN.
    pub fn tos(&self) -> u8 {
        self.tos
    }

    /// Bytes of the packet, header included, as the field says.
    pub fn total_len(&self) -> u16 {
        self.total_len.get()
    }

    /// Identification.
    pub fn id(&self) -> u16 {
        self.id.get()
    }

    /// Whether routers must not fragment the packet.
    pub fn dont_fragment(&self) -> bool {
        self.fragment.get() & DONT_FRAGMENT != 0
    }

    /// Whether fragments follow this one.
    pub fn more_fragments(&self) -> bool {
        self.fragment.get() & MORE_FRAGMENTS != 0
    }

    /// Bytes of the packet's payload before this fragment; a multiple of 8.
    pub fn fragment_offset(&self) -> u16 {
        (self.fragment.get() & FRAGMENT_OFFSET) << 3
    }

    /// The place of this fragment, or `None` for a whole packet.
    #[inline]
    pub fn fragment(&self) -> Option<Fragment> {
        (self.fragment.get() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0).then(|| Fragment {
            id: self.id().into(),
            offset: self.fragment_offset(),
            more: self.more_fragments(),
        })
    }

    /// Time to live, in hops.
    pub fn ttl(&self) -> u8 {
        self.ttl
    }

    /// What the packet carries.
    pub fn protocol(&self) -> IpProtocol {
        self.protocol
    }

    /// The header checksum as sent.
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// Source address.
    pub fn src(&self) -> Ipv4Addr {
        self.src.into()
    }

    /// Destination address.
    pub fn dst(&self) -> Ipv4Addr {
        self.dst.into()
    }

    /// Replaces the source address and brings the header checksum up to date. A transport checksum
    /// covers the address too: see [`checksum::update32`].
    pub fn set_src(&mut self, src: Ipv4Addr) {
        self.checksum.set(checksum::update32(
            self.checksum.get(),
            self.src().to_bits(),
            src.to_bits(),
        ));
        self.src = src.octets();
    }

    /// Replaces the destination address; see [`Ipv4Header::set_src`].
    pub fn set_dst(&mut self, dst: Ipv4Addr) {
        self.checksum.set(checksum::update32(
            self.checksum.get(),
            self.dst().to_bits(),
            dst.to_bits(),
        ));
        self.dst = dst.octets();
    }

    /// Replaces the time to live and brings the header checksum up to date.
    pub fn set_ttl(&mut self, ttl: u8) {
        let old = u16::from_be_bytes([self.ttl, self.protocol.0]);
        let new = u16::from_be_bytes([ttl, self.protocol.0]);
        self.checksum
            .set(checksum::update16(self.checksum.get(), old, new));
        self.ttl = ttl;
    }

    /// Replaces the identification and brings the header checksum up to date.
    pub fn set_id(&mut self, id: u16) {
        self.checksum
            .set(checksum::update16(self.checksum.get(), self.id.get(), id));
        self.id.set(id);
    }
}

/// An IPv4 packet whose lengths fit its buffer.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Packet<'a> {
    header: &'a Ipv4Header,
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Ipv4Packet<'a> {
    /// Reads a packet. Bytes beyond the total length (Ethernet padding) are left out of the payload.
    /// The header checksum is not looked at: [`Ipv4Packet::has_valid_checksum`].
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::Version`], [`Malformed::HeaderLength`] below 20 bytes,
    /// [`Malformed::Length`] where the total length is below the header's or beyond the buffer,
    /// [`Malformed::Fragment`] where the fragment would end beyond 65 535 bytes ("ping of death").
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let packet = Self::parse_quoted(bytes)?;
        if usize::from(packet.header.total_len()) > bytes.len() {
            return Err(Malformed::Length);
        }
        Ok(packet)
    }

    /// Reads the beginning of a packet, as ICMP errors quote it: the total length may lie beyond the
    /// bytes, the payload is what is there. Everything else is checked.
    ///
    /// # Errors
    /// As [`Ipv4Packet::parse`].
    #[inline]
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = Ipv4Header::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        if header.version_ihl >> 4 != 4 {
            return Err(Malformed::Version);
        }
        let header_len = header.header_len();
        let total_len = usize::from(header.total_len());
        if header_len < Ipv4Header::LEN {
            return Err(Malformed::HeaderLength);
        }
        if total_len < header_len {
            return Err(Malformed::Length);
        }
        if usize::from(header.fragment_offset()) + total_len > usize::from(u16::MAX) {
            return Err(Malformed::Fragment);
        }
        let (options, rest) = rest
            .split_at_checked(header_len - Ipv4Header::LEN)
            .ok_or(Malformed::Truncated)?;
        let payload = rest.get(..total_len - header_len).unwrap_or(rest);
        Ok(Self {
            header,
            options,
            payload,
        })
    }

    /// The fixed header.
    pub fn header(&self) -> &'a Ipv4Header {
        self.header
    }

    /// Options, 0–40 bytes.
    pub fn options(&self) -> &'a [u8] {
        self.options
    }

    /// What follows the header, without padding.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn has_valid_checksum(&self) -> bool {
        checksum::holds([self.header.as_bytes(), self.options])
    }

    /// What the packet carries, and where.
    #[inline]
    pub fn upper_layer(&self) -> UpperLayer {
        UpperLayer {
            protocol: self.header.protocol,
            offset: self.header.header_len(),
            fragment: self.header.fragment(),
        }
    }
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
/// In units of 8 bytes.
const FRAGMENT_OFFSET: u16 = 0x1fff;

#[cfg(test)]
mod tests;
