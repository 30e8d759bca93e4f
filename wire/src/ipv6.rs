//! IPv6 (RFC 8200) and its extension headers.

use std::net::Ipv6Addr;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

use crate::{Fragment, IpProtocol, Malformed, UpperLayer};

/// The fixed 40 bytes of an IPv6 header.
///
/// Any 40 bytes are one: only [`Ipv6Packet::parse`] says that the fields fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv6Header {
    version_class_flow: U32,
    payload_len: U16,
    next_header: IpProtocol,
    hop_limit: u8,
    src: [u8; 16],
    dst: [u8; 16],
}

impl Ipv6Header {
    /// Bytes of the header.
    pub const LEN: usize = 40;
    /// Hop limit of packets that we make, as Linux's `IPV6_DEFAULT_HOPLIMIT`.
    pub const DEFAULT_HOP_LIMIT: u8 = 64;

    /// A header for `payload_len` bytes with flow label 0. `None` if they exceed 65 535.
    pub fn new(src: Ipv6Addr, dst: Ipv6Addr, next_header: IpProtocol, payload_len: usize) -> Option<Self> {
        Some(Self {
            version_class_flow: U32::new(6 << 28),
            payload_len: U16::new(u16::try_from(payload_len).ok()?),
            next_header,
            hop_limit: Self::DEFAULT_HOP_LIMIT,
            src: src.octets(),
            dst: dst.octets(),
        })
    }

    /// The header at the start of `bytes`, for rewriting in place, and what follows it.
    ///
    /// # Errors
    /// [`Malformed::Truncated`]; nothing else is checked, [`Ipv6Packet::parse`] does that.
    pub fn parse_mut(bytes: &mut [u8]) -> Result<(&mut Self, &mut [u8]), Malformed> {
        Self::mut_from_prefix(bytes).map_err(|_| Malformed::Truncated)
    }

    /// Traffic class: DSCP and ECN.
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_flow.get() >> 20) as u8
    }

    /// Flow label, 20 bits.
    pub fn flow_label(&self) -> u32 {
        self.version_class_flow.get() & 0x000f_ffff
    }

    /// Bytes after this header, extension headers included, as the field says.
    pub fn payload_len(&self) -> u16 {
        self.payload_len.get()
    }

    /// The header that follows: an extension header or the upper layer.
    pub fn next_header(&self) -> IpProtocol {
        self.next_header
    }

    /// Hop limit.
    pub fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    /// Source address.
    pub fn src(&self) -> Ipv6Addr {
        self.src.into()
    }

    /// Destination address.
    pub fn dst(&self) -> Ipv6Addr {
        self.dst.into()
    }

    /// Replaces the source address. Transport checksums cover it: see [`crate::checksum::update`].
    pub fn set_src(&mut self, src: Ipv6Addr) {
        self.src = src.octets();
    }

    /// Replaces the destination address. Transport checksums cover it: see [`crate::checksum::update`].
    pub fn set_dst(&mut self, dst: Ipv6Addr) {
        self.dst = dst.octets();
    }

    /// Replaces the hop limit, which no checksum covers.
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        self.hop_limit = hop_limit;
    }
}

/// An IPv6 packet whose payload length fits its buffer.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Packet<'a> {
    header: &'a Ipv6Header,
    payload: &'a [u8],
}

impl<'a> Ipv6Packet<'a> {
    /// Reads a packet. Bytes beyond the payload length (Ethernet padding) are left out of the payload.
    /// Jumbograms (RFC 2675) are not read: their payload length of 0 gives an empty payload.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::Version`], [`Malformed::Length`] where the payload length
    /// lies beyond the buffer.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let packet = Self::parse_quoted(bytes)?;
        if packet.payload.len() < usize::from(packet.header.payload_len()) {
            return Err(Malformed::Length);
        }
        Ok(packet)
    }

    /// Reads the beginning of a packet, as ICMPv6 errors quote it: the payload is what is there.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::Version`].
    #[inline]
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = Ipv6Header::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        if header.version_class_flow.get() >> 28 != 6 {
            return Err(Malformed::Version);
        }
        let payload = rest.get(..usize::from(header.payload_len())).unwrap_or(rest);
        Ok(Self { header, payload })
    }

    /// The fixed header.
    pub fn header(&self) -> &'a Ipv6Header {
        self.header
    }

    /// What follows the fixed header, without padding.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Walks the extension headers: hop-by-hop options (only first), routing, destination options,
    /// fragment (only one) and authentication, at most [`MAX_EXTENSIONS`] of them. The walk ends at a
    /// fragment that is not the first, because what its next header field names is not in it.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] where a header leaves the packet, [`Malformed::HeaderLength`] for an
    /// authentication header below its fixed fields, [`Malformed::Extensions`] for more
    /// headers or in another place, [`Malformed::Fragment`] where a fragment would end beyond 65 535 bytes
    /// or one that others follow is no multiple of 8 bytes long (RFC 8200 §4.5).
    #[inline]
    pub fn upper_layer(&self) -> Result<UpperLayer, Malformed> {
        let protocol = self.header.next_header;
        if !is_extension(protocol) {
            return Ok(UpperLayer {
                protocol,
                offset: Ipv6Header::LEN,
                fragment: None,
            });
        }
        self.walk()
    }

    fn walk(&self) -> Result<UpperLayer, Malformed> {
        let mut protocol = self.header.next_header;
        let mut rest = self.payload;
        let mut fragment = None;
        let upper_layer = |protocol, rest: &[u8], fragment| UpperLayer {
            protocol,
            offset: Ipv6Header::LEN + self.payload.len() - rest.len(),
            fragment,
        };
        for position in 0..=MAX_EXTENSIONS {
            if !is_extension(protocol) {
                return Ok(upper_layer(protocol, rest, fragment));
            }
            if protocol == IpProtocol::HOP_BY_HOP && position != 0 {
                return Err(Malformed::Extensions);
            }
            let &[next, len, ..] = rest else {
                return Err(Malformed::Truncated);
            };
            let header_len = match protocol {
                IpProtocol::FRAGMENT => FragmentHeader::LEN,
                // RFC 4302 §2.2: in 4-byte words, minus 2; the fixed fields are three words.
                IpProtocol::AUTHENTICATION if len == 0 => return Err(Malformed::HeaderLength),
                IpProtocol::AUTHENTICATION => (usize::from(len) + 2) * 4,
                // RFC 8200 §4.3, §4.4, §4.6: in 8-byte words, not counting the first.
                _ => (usize::from(len) + 1) * 8,
            };
            let (header, following) = rest.split_at_checked(header_len).ok_or(Malformed::Truncated)?;
            if protocol == IpProtocol::FRAGMENT {
                if fragment.is_some() {
                    return Err(Malformed::Extensions);
                }
                let header = FragmentHeader::ref_from_bytes(header).map_err(|_| Malformed::Truncated)?;
                let place = header.fragment();
                if place.more && self.is_complete() && following.len() % 8 != 0 {
                    return Err(Malformed::Fragment);
                }
                if usize::from(place.offset) + following.len() > usize::from(u16::MAX) {
                    return Err(Malformed::Fragment);
                }
                fragment = Some(place);
                if !place.is_first() {
                    return Ok(upper_layer(IpProtocol(next), following, fragment));
                }
            }
            protocol = IpProtocol(next);
            rest = following;
        }
        Err(Malformed::Extensions)
    }

    /// Where the fragment header is, and what it says; `None` if there is none among the extension headers that
    /// [`upper_layer`](Self::upper_layer) walks.
    pub fn fragment(&self) -> Option<PlacedFragment<'a>> {
        let mut protocol = self.header.next_header;
        let mut rest = self.payload;
        let mut link = NEXT_HEADER;
        for _ in 0..=MAX_EXTENSIONS {
            let &[next, len, ..] = rest else { return None };
            let header_len = match protocol {
                IpProtocol::FRAGMENT => {
                    let (header, payload) = FragmentHeader::ref_from_prefix(rest).ok()?;
                    return Some(PlacedFragment {
                        fragment: header.fragment(),
                        header_at: Ipv6Header::LEN + self.payload.len() - rest.len(),
                        link,
                        next_header: IpProtocol(next),
                        payload,
                    });
                }
                IpProtocol::AUTHENTICATION => (usize::from(len) + 2) * 4,
                protocol if is_extension(protocol) => (usize::from(len) + 1) * 8,
                _ => return None,
            };
            link = Ipv6Header::LEN + self.payload.len() - rest.len();
            protocol = IpProtocol(next);
            rest = rest.get(header_len..)?;
        }
        None
    }

    /// False only for a quoted packet that was cut.
    fn is_complete(&self) -> bool {
        self.payload.len() == usize::from(self.header.payload_len())
    }
}

/// A fragment header and its surroundings; places are in bytes from the start of the IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedFragment<'a> {
    /// What it says.
    pub fragment: Fragment,
    /// Where it begins: the end of the headers that all fragments of the packet have.
    pub header_at: usize,
    /// Where the next header field is that names it.
    pub link: usize,
    /// What follows it in the packet that was cut.
    pub next_header: IpProtocol,
    /// What follows it in this fragment.
    pub payload: &'a [u8],
}

/// Extension headers that are walked in one packet. RFC 8200 §4.1 gives an order with six; nothing that
/// forwards packets in practice accepts many (RFC 7872, RFC 9098 §4).
pub const MAX_EXTENSIONS: usize = 8;

/// RFC 8200 §4.5.
#[derive(Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FragmentHeader {
    _next_header: u8,
    _reserved: u8,
    offset_more: U16,
    id: U32,
}

impl FragmentHeader {
    const LEN: usize = 8;

    fn fragment(&self) -> Fragment {
        let bits = self.offset_more.get();
        Fragment {
            id: self.id.get(),
            offset: bits & 0xfff8,
            more: bits & 1 != 0,
        }
    }
}

/// Place of the field in the fixed header (RFC 8200 §3).
const NEXT_HEADER: usize = 6;

#[inline]
const fn is_extension(protocol: IpProtocol) -> bool {
    matches!(
        protocol,
        IpProtocol::HOP_BY_HOP
            | IpProtocol::ROUTING
            | IpProtocol::FRAGMENT
            | IpProtocol::AUTHENTICATION
            | IpProtocol::DESTINATION_OPTIONS
    )
}

#[cfg(test)]
mod tests;
