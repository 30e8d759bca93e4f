//! Fragments as they are read.

use std::net::IpAddr;

use vswitch_wire::{Fragment, IpProtocol, Ipv4Packet, Ipv6Packet, Malformed, reassembly::Piece};

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

/// One fragment, and what of its headers counts.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) key: Key,
    pub(super) headers: Headers,
    pub(super) piece: Piece<'a>,
}

impl<'a> Arrival<'a> {
    pub(super) fn parse(endpoint: u32, packet: &'a [u8]) -> Result<Self, Malformed> {
        let key = |src, dst, fragment: &Fragment, protocol| Key {
            endpoint,
            src,
            dst,
            id: fragment.id,
            protocol,
        };
        let (key, headers, fragment, bytes) = match packet.first().map(|byte| byte >> 4) {
            Some(4) => {
                let packet = Ipv4Packet::parse(packet)?;
                let header = packet.header();
                let fragment = header.fragment().ok_or(Malformed::Fragment)?;
                let headers = Headers {
                    hops: header.ttl(),
                    class: header.tos(),
                    fragmentation: Fragmentation::Allowed,
                };
                let (src, dst) = (header.src().into(), header.dst().into());
                (
                    key(src, dst, &fragment, header.protocol()),
                    headers,
                    fragment,
                    packet.payload(),
                )
            }
            _ => {
                let packet = Ipv6Packet::parse(packet)?;
                let header = packet.header();
                packet.upper_layer()?;
                let placed = packet.fragment().ok_or(Malformed::Fragment)?;
                // Only transports that flows exist for are wanted, which have no extension headers before them in
                // what is fragmented: nobody sends those (RFC 7112 tells why).
                let protocol @ (IpProtocol::UDP | IpProtocol::ICMPV6 | IpProtocol::TCP) = placed.next_header
                else {
                    return Err(Malformed::Extensions);
                };
                let headers = Headers {
                    hops: header.hop_limit(),
                    class: header.traffic_class(),
                    fragmentation: Fragmentation::Allowed,
                };
                let (src, dst) = (header.src().into(), header.dst().into());
                (
                    key(src, dst, &placed.fragment, protocol),
                    headers,
                    placed.fragment,
                    placed.payload,
                )
            }
        };
        // N-FR-3.
        let piece = Piece::new(fragment.offset, fragment.more, bytes).ok_or(Malformed::Fragment)?;
        Ok(Self { key, headers, piece })
    }
}
