//! Frames with datagrams and ICMP messages for containers, built in place around their payload.
//!
//! A buffer has [`HEADROOM`] bytes before the payload. Where one payload makes several frames, each frame's
//! headers go right before its part and overwrite what was sent already; nothing is copied.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use mio::Token;
use vswitch_wire::{
    EtherType, EthernetHeader, Gso, GsoKind, IpProtocol, Ipv4Header, Ipv6Header, MAX_UDP_SEGMENTS, Offload,
    PartialChecksum, UdpHeader, checksum,
};
use zerocopy::IntoBytes;

use crate::counters::counters;
use crate::{Delivery, Link, Path, config::Source, resolvers::Resolvers};

/// The way to the container of one flow. Frames for which there is no room are dropped and counted, as a
/// switch does: datagrams are not kept.
#[derive(Debug)]
pub(crate) struct Inbound<'a, L> {
    /// The packet loop.
    pub(crate) link: &'a mut L,
    /// Both ends of the flow.
    pub(crate) path: &'a Path,
    /// The gateway's address of the flow's version: source of errors that nobody else made.
    pub(crate) gateway: IpAddr,
    /// Under which events of the flow's socket come.
    pub(crate) token: Token,
    /// Of the relay.
    pub(crate) resolvers: &'a mut Resolvers,
    /// How a socket of the flow is bound.
    pub(crate) source: &'a Source,
    /// Of the relay.
    pub(crate) ids: &'a mut FragmentIds,
    /// Of the relay.
    pub(crate) counters: &'a mut Counters,
}

impl<L: Link> Inbound<'_, L> {
    /// Sends a UDP datagram, or with `segment` several of that size but the last, whose payload is at
    /// `payload` in `buffer`, at least [`HEADROOM`] behind its start. Gives how many bytes of payload went out.
    pub(crate) fn send_udp(
        &mut self,
        buffer: &mut [u8],
        payload: Range<usize>,
        segment: Option<u16>,
    ) -> usize {
        let size = match segment {
            Some(size) if size > 0 && payload.len() > usize::from(size) => usize::from(size),
            _ => return self.send_datagram(buffer, payload),
        };
        if self.ip_header_len() + UdpHeader::LEN + size > usize::from(self.path.mtu) {
            return pieces(payload, size)
                .map(|piece| self.send_datagram(buffer, piece))
                .sum();
        }
        // The super-frame is an IP packet, too.
        let room = usize::from(u16::MAX) - self.ip_header_len() - UdpHeader::LEN;
        let most = (room / size).min(MAX_UDP_SEGMENTS) * size;
        pieces(payload, most)
            .map(|piece| {
                let gso = (piece.len() > size).then_some(size as u16);
                self.send_whole_udp(buffer, piece, gso)
            })
            .sum()
    }

    /// Sends an ICMP message, complete with its checksum.
    pub(crate) fn send_icmp(&mut self, buffer: &mut [u8], message: Range<usize>) -> usize {
        let protocol = match self.path.remote {
            SocketAddr::V4(_) => IpProtocol::ICMP,
            SocketAddr::V6(_) => IpProtocol::ICMPV6,
        };
        let len = message.len();
        let delivery = if self.ip_header_len() + len <= usize::from(self.path.mtu) {
            self.send_whole(buffer, message, protocol, |_| Offload::NONE)
        } else {
            self.send_fragments(buffer, message, protocol)
        };
        self.count(delivery, 1, len)
    }

    fn send_datagram(&mut self, buffer: &mut [u8], payload: Range<usize>) -> usize {
        if self.ip_header_len() + UdpHeader::LEN + payload.len() <= usize::from(self.path.mtu) {
            return self.send_whole_udp(buffer, payload, None);
        }
        let len = payload.len();
        let start = payload.start - UdpHeader::LEN;
        let Some(mut header) =
            UdpHeader::new(self.path.remote.port(), self.path.container.port(), payload.len())
        else {
            self.counters.dropped_refused += 1;
            return 0;
        };
        let pseudo_header = self.pseudo_header(IpProtocol::UDP, header.len());
        header.fill_checksum(pseudo_header, &buffer[payload.clone()]);
        buffer[start..payload.start].copy_from_slice(header.as_bytes());
        let delivery = self.send_fragments(buffer, start..payload.end, IpProtocol::UDP);
        self.count(delivery, 1, len)
    }

    /// One frame, whose checksum is left to the receiver: a container's kernel believes it then, which
    /// spares both a pass over the payload.
    fn send_whole_udp(&mut self, buffer: &mut [u8], payload: Range<usize>, gso: Option<u16>) -> usize {
        let len = payload.len();
        let datagrams = gso.map_or(1, |size| len.div_ceil(size.into()));
        let start = payload.start - UdpHeader::LEN;
        let Some(mut header) =
            UdpHeader::new(self.path.remote.port(), self.path.container.port(), payload.len())
        else {
            self.counters.dropped_refused += 1;
            return 0;
        };
        header.set_checksum(checksum::fold(self.pseudo_header(IpProtocol::UDP, header.len())));
        buffer[start..payload.start].copy_from_slice(header.as_bytes());
        let delivery = self.send_whole(buffer, start..payload.end, IpProtocol::UDP, |start| Offload {
            checksum: Some(PartialChecksum {
                start,
                offset: UdpHeader::CHECKSUM_OFFSET,
            }),
            gso: gso.map(|size| Gso {
                kind: GsoKind::Udp,
                ecn: false,
                size,
                header_len: start + UdpHeader::LEN as u16,
            }),
            data_valid: false,
        });
        self.count(delivery, datagrams, len)
    }

    /// Sends the transport's bytes at `body` as one packet; `offload` is given their offset in the frame.
    fn send_whole(
        &mut self,
        buffer: &mut [u8],
        body: Range<usize>,
        protocol: IpProtocol,
        offload: impl FnOnce(u16) -> Offload,
    ) -> Delivery {
        let len = body.len();
        let head = &mut buffer[..body.start];
        let (written, ethertype, header_len) = match (self.path.remote.ip(), self.path.container.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => (
                write_v4(head, Ipv4Header::new(src, dst, protocol, len)),
                EtherType::IPV4,
                Ipv4Header::LEN,
            ),
            (IpAddr::V6(src), IpAddr::V6(dst)) => (
                write_v6(head, Ipv6Header::new(src, dst, protocol, len)),
                EtherType::IPV6,
                Ipv6Header::LEN,
            ),
            _ => return Delivery::Refused,
        };
        if !written {
            return Delivery::Refused;
        }
        self.write_ethernet(&mut head[..body.start - header_len], ethertype);
        let before = EthernetHeader::LEN + header_len;
        self.link
            .send(&mut buffer[body.start - before..body.end], offload(before as u16))
    }

    /// Sends the transport's bytes at `body` in as many fragments as the MTU wants (R-UDP-10).
    fn send_fragments(&mut self, buffer: &mut [u8], body: Range<usize>, protocol: IpProtocol) -> Delivery {
        let (ethertype, header_len) = match self.path.remote {
            SocketAddr::V4(_) => (EtherType::IPV4, Ipv4Header::LEN),
            SocketAddr::V6(_) => (EtherType::IPV6, Ipv6Header::LEN + FRAGMENT_HEADER_LEN),
        };
        // RFC 791 §3.2, RFC 8200 §4.5: all but the last are a multiple of 8 bytes.
        let size = usize::from(self.path.mtu).saturating_sub(header_len) & !7;
        if size == 0 || body.len() > usize::from(u16::MAX) {
            return Delivery::Refused;
        }
        let id = self.ids.allocate();
        self.counters.fragmented += 1;
        let begin = body.start;
        let end = body.end;
        for piece in pieces(body, size) {
            let place = Place {
                id,
                // Both fit 16 bits: the body does.
                offset: (piece.start - begin) as u16,
                more: piece.end < end,
            };
            let head = &mut buffer[piece.start - header_len..piece.start];
            let written = match (self.path.remote.ip(), self.path.container.ip()) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    let header = Ipv4Header::new(src, dst, protocol, piece.len());
                    write_v4(head, header.map(|header| place.in_v4(header)))
                }
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    let (head, extension) = head.split_at_mut(Ipv6Header::LEN);
                    extension.copy_from_slice(&place.extension(protocol));
                    let len = FRAGMENT_HEADER_LEN + piece.len();
                    write_v6(head, Ipv6Header::new(src, dst, IpProtocol::FRAGMENT, len))
                }
                _ => false,
            };
            if !written {
                return Delivery::Refused;
            }
            let start = piece.start - header_len;
            self.write_ethernet(&mut buffer[..start], ethertype);
            let frame = &mut buffer[start - EthernetHeader::LEN..piece.end];
            let delivery = self.link.send(frame, Offload::NONE);
            if delivery != Delivery::Sent {
                // Without one fragment the others are of no use.
                return delivery;
            }
        }
        Delivery::Sent
    }

    /// Writes the Ethernet header at the end of `head`.
    pub(crate) fn write_ethernet(&self, head: &mut [u8], ethertype: EtherType) {
        let header = EthernetHeader {
            dst: self.path.stations.dst,
            src: self.path.stations.src,
            ethertype,
        };
        write_last(head, header.as_bytes());
    }

    pub(crate) fn ip_header_len(&self) -> usize {
        match self.path.remote {
            SocketAddr::V4(_) => Ipv4Header::LEN,
            SocketAddr::V6(_) => Ipv6Header::LEN,
        }
    }

    /// It is the same in both directions.
    pub(crate) fn pseudo_header(&self, protocol: IpProtocol, len: u16) -> u32 {
        match (self.path.remote.ip(), self.path.container.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => checksum::pseudo_header_v4(src, dst, protocol, len),
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                checksum::pseudo_header_v6(src, dst, protocol, u32::from(len))
            }
            // Both ends are of one version.
            _ => 0,
        }
    }

    /// Counts what became of that many datagrams; gives the bytes that went out.
    pub(crate) fn count(&mut self, delivery: Delivery, datagrams: usize, len: usize) -> usize {
        match delivery {
            Delivery::Sent => return len,
            Delivery::Full => self.counters.dropped_full += datagrams as u64,
            Delivery::Refused => self.counters.dropped_refused += datagrams as u64,
        }
        0
    }
}

/// Identifications of packets that we fragment: each is used again as late as possible, and the first is a
/// stranger's guess (N-FR-8).
#[derive(Debug)]
pub(crate) struct FragmentIds(u32);

impl FragmentIds {
    /// Begins at `first`, which should be random.
    pub(crate) const fn new(first: u32) -> Self {
        Self(first)
    }

    fn allocate(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(1);
        self.0
    }
}

counters! {
    /// What datagram and echo flows count, for one relay.
    Counters {
        /// Datagrams to a container whose device was full.
        dropped_full,
        /// Datagrams to a container that the switch or the device refused.
        dropped_refused,
        /// Datagrams of a container that its host socket did not take.
        dropped_host,
        /// Of those, packets that were too big for the host's path.
        too_big,
        /// Datagrams from somebody else than the flow's other end.
        dropped_foreign,
        /// ICMP errors that were passed to a container.
        errors_passed,
        /// Entries of error queues that are nothing a container could be told.
        errors_ignored,
        /// Host sockets that stopped using `UDP_SEGMENT`.
        gso_fallbacks,
        /// Packets that were cut into fragments for a container.
        fragmented,
        /// DNS queries that were given to the next resolver.
        resolvers_changed,
    }
}

/// The place of a fragment.
struct Place {
    id: u32,
    offset: u16,
    more: bool,
}

impl Place {
    /// RFC 791 §3.1: flags and offset, in units of 8 bytes; Don't Fragment is clear.
    fn in_v4(&self, mut header: Ipv4Header) -> Ipv4Header {
        let field = (self.offset >> 3) | if self.more { MORE_FRAGMENTS } else { 0 };
        header.as_mut_bytes()[6..8].copy_from_slice(&field.to_be_bytes());
        header.set_id(self.id as u16);
        sealed(header)
    }

    /// RFC 8200 §4.5.
    fn extension(&self, protocol: IpProtocol) -> [u8; FRAGMENT_HEADER_LEN] {
        let [a, b] = (self.offset | u16::from(self.more)).to_be_bytes();
        let [c, d, e, f] = self.id.to_be_bytes();
        [protocol.0, 0, a, b, c, d, e, f]
    }
}

/// With its checksum computed anew.
pub(crate) fn sealed(mut header: Ipv4Header) -> Ipv4Header {
    let bytes = header.as_mut_bytes();
    bytes[10..12].fill(0);
    let checksum = checksum::finish(checksum::sum(bytes));
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// Parts of `range` of `size` each but the last; one empty part of an empty range.
fn pieces(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let count = range.len().div_ceil(size).max(1);
    (0..count).map(move |index| {
        let start = range.start + index * size;
        start..range.end.min(start + size)
    })
}

/// Writes the header, if there is one, at the end of `head`.
pub(crate) fn write_v4(head: &mut [u8], header: Option<Ipv4Header>) -> bool {
    header.is_some_and(|header| write_last(head, header.as_bytes()))
}

/// As [`write_v4`].
pub(crate) fn write_v6(head: &mut [u8], header: Option<Ipv6Header>) -> bool {
    header.is_some_and(|header| write_last(head, header.as_bytes()))
}

fn write_last(head: &mut [u8], header: &[u8]) -> bool {
    let place = head
        .len()
        .checked_sub(header.len())
        .and_then(|start| head.get_mut(start..));
    let Some(place) = place else { return false };
    place.copy_from_slice(header);
    true
}

/// Room before a payload: Ethernet, IPv6, fragment and UDP headers, in whole words.
pub(crate) const HEADROOM: usize = 72;

/// RFC 8200 §4.5.
const FRAGMENT_HEADER_LEN: usize = 8;
/// RFC 791 §3.1.
const MORE_FRAGMENTS: u16 = 0x2000;
const _: () = {
    assert!(HEADROOM >= EthernetHeader::LEN + Ipv6Header::LEN + FRAGMENT_HEADER_LEN + UdpHeader::LEN);
};

#[cfg(test)]
mod tests;
