//! Fragments as they are read.

use std::net::IpAddr;

use vswitch_wire::{Fragment, IpProtocol, Ipv4Packet, Ipv6Packet, Malformed};

use crate::payload::{Fragmentation, Headers};

/// Which packet a fragment is of (N-FR-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) endpoint: u32,
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) id: u32,
    /// RFC 8200 §4.5 does not have it among the three, but no sender means two packets by one id.
    pub(super) protocol: IpProtocol,
}

impl Key {
    pub(super) fn version(&self) -> usize {
        usize::from(self.src.is_ipv6())
    }
}

/// One fragment.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) key: Key,
    pub(super) offset: usize,
    pub(super) more: bool,
    pub(super) headers: Headers,
    pub(super) bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    pub(super) fn parse(endpoint: u32, packet: &'a [u8]) -> Result<Self, Malformed> {
        let key = |src, dst, fragment: &Fragment, protocol| Key {
            endpoint,
            src,
            dst,
            id: fragment.id,
            protocol,
        };
        let piece = match packet.first().map(|byte| byte >> 4) {
            Some(4) => {
                let packet = Ipv4Packet::parse(packet)?;
                let header = packet.header();
                let fragment = header.fragment().ok_or(Malformed::Fragment)?;
                Self {
                    key: key(
                        header.src().into(),
                        header.dst().into(),
                        &fragment,
                        header.protocol(),
                    ),
                    offset: fragment.offset.into(),
                    more: fragment.more,
                    headers: Headers {
                        hops: header.ttl(),
                        class: header.tos(),
                        fragmentation: Fragmentation::Allowed,
                    },
                    bytes: packet.payload(),
                }
            }
            _ => {
                let packet = Ipv6Packet::parse(packet)?;
                let header = packet.header();
                let fragment = packet.upper_layer()?.fragment.ok_or(Malformed::Fragment)?;
                let (protocol, bytes) = fragmentable(&packet)?;
                Self {
                    key: key(header.src().into(), header.dst().into(), &fragment, protocol),
                    offset: fragment.offset.into(),
                    more: fragment.more,
                    headers: Headers {
                        hops: header.hop_limit(),
                        class: header.traffic_class(),
                        fragmentation: Fragmentation::Allowed,
                    },
                    bytes,
                }
            }
        };
        // N-FR-3; that none ends beyond the largest packet was checked by those who read the headers.
        let is_possible = !piece.bytes.is_empty() && (!piece.more || piece.bytes.len().is_multiple_of(8));
        is_possible.then_some(piece).ok_or(Malformed::Fragment)
    }

    pub(super) fn end(&self) -> usize {
        self.offset + self.bytes.len()
    }
}

/// What follows the fragment header, and what that is. Only transports that flows exist for are wanted, which
/// have no extension headers before them in what is fragmented: nobody sends those (RFC 7112 tells why).
fn fragmentable<'a>(packet: &Ipv6Packet<'a>) -> Result<(IpProtocol, &'a [u8]), Malformed> {
    let mut next = packet.header().next_header();
    let mut rest = packet.payload();
    // The walk of `Ipv6Packet::upper_layer` went before, so this one ends; the bound is its bound.
    for _ in 0..=vswitch_wire::MAX_EXTENSIONS {
        let &[following, len, ..] = rest else {
            return Err(Malformed::Truncated);
        };
        let len = match next {
            IpProtocol::FRAGMENT => 8,
            IpProtocol::AUTHENTICATION => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        rest = rest.get(len..).ok_or(Malformed::Truncated)?;
        if next == IpProtocol::FRAGMENT {
            return match IpProtocol(following) {
                protocol @ (IpProtocol::UDP | IpProtocol::ICMPV6 | IpProtocol::TCP) => Ok((protocol, rest)),
                _ => Err(Malformed::Extensions),
            };
        }
        next = IpProtocol(following);
    }
    Err(Malformed::Extensions)
}
