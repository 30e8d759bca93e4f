//! UDP (RFC 768).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

use crate::{Malformed, checksum};

/// The 8 bytes of a UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UdpHeader {
    src_port: U16,
    dst_port: U16,
    len: U16,
    checksum: U16,
}

impl UdpHeader {
    /// Bytes of the header.
    pub const LEN: usize = 8;
    /// Where the checksum field is in the header, as `csum_offset` of a vnet header.
    pub const CHECKSUM_OFFSET: u16 = 6;

    /// A header for `payload_len` bytes with no checksum. `None` if the datagram would exceed 65 535 bytes.
    pub fn new(src_port: u16, dst_port: u16, payload_len: usize) -> Option<Self> {
        let len = u16::try_from(payload_len.checked_add(Self::LEN)?).ok()?;
        Some(Self {
            src_port: U16::new(src_port),
            dst_port: U16::new(dst_port),
            len: U16::new(len),
            checksum: U16::new(0),
        })
    }

    /// The header at the start of `bytes`, for rewriting in place, and what follows it.
    ///
    /// # Errors
    /// [`Malformed::Truncated`]; nothing else is checked, [`UdpDatagram::parse`] does that.
    pub fn parse_mut(bytes: &mut [u8]) -> Result<(&mut Self, &mut [u8]), Malformed> {
        Self::mut_from_prefix(bytes).map_err(|_| Malformed::Truncated)
    }

    /// Source port.
    pub fn src_port(&self) -> u16 {
        self.src_port.get()
    }

    /// Destination port.
    pub fn dst_port(&self) -> u16 {
        self.dst_port.get()
    }

    /// Bytes of header and payload, as the field says.
    pub fn len(&self) -> u16 {
        self.len.get()
    }

    /// Whether the datagram carries nothing, as the length field says.
    pub fn is_empty(&self) -> bool {
        usize::from(self.len()) <= Self::LEN
    }

    /// The checksum field; 0 means "none".
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// Replaces the source port, not the checksum.
    pub fn set_src_port(&mut self, port: u16) {
        self.src_port.set(port);
    }

    /// Replaces the destination port, not the checksum.
    pub fn set_dst_port(&mut self, port: u16) {
        self.dst_port.set(port);
    }

    /// Replaces the checksum field as is.
    pub fn set_checksum(&mut self, checksum: u16) {
        self.checksum.set(checksum);
    }

    /// Computes the checksum over `pseudo_header` (a sum), this header and `payload`.
    pub fn fill_checksum(&mut self, pseudo_header: u32, payload: &[u8]) {
        self.checksum.set(0);
        let sum = pseudo_header + checksum::sum(self.as_bytes()) + checksum::sum(payload);
        self.checksum.set(checksum::finish_udp(sum));
    }
}

/// A datagram whose length field fits its buffer.
#[derive(Clone, Copy, Debug)]
pub struct UdpDatagram<'a> {
    header: &'a UdpHeader,
    payload: &'a [u8],
}

impl<'a> UdpDatagram<'a> {
    /// Reads a datagram from the payload of an IP packet. Bytes beyond the length field are left out.
    /// A length of 0, which means "see the jumbo payload option" (RFC 2675 §4), is refused.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::Length`] where the field is below 8 or beyond the buffer.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = UdpHeader::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        let payload_len = usize::from(header.len())
            .checked_sub(UdpHeader::LEN)
            .ok_or(Malformed::Length)?;
        let payload = rest.get(..payload_len).ok_or(Malformed::Length)?;
        Ok(Self { header, payload })
    }

    /// The header.
    pub fn header(&self) -> &'a UdpHeader {
        self.header
    }

    /// What the datagram carries.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the checksum is right for `pseudo_header` (a sum). Over IPv4 a checksum of 0 means that the
    /// sender computed none, which is right; over IPv6 the caller refuses it (RFC 8200 §8.1).
    pub fn has_valid_checksum(&self, pseudo_header: u32) -> bool {
        self.header.checksum() == 0
            || checksum::fold(
                pseudo_header + checksum::sum(self.header.as_bytes()) + checksum::sum(self.payload),
            ) == 0xffff
    }
}

#[cfg(test)]
mod tests;
