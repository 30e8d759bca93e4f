//! ICMP errors for containers, about packets of theirs that went somewhere and came to grief there.

use std::net::{IpAddr, SocketAddr};

use vswitch_wire::{
    EtherType, EthernetHeader, ICMPV4_ERROR_MAX_LEN, ICMPV6_ERROR_MAX_LEN, Icmpv4Error, Icmpv6Error,
    IpProtocol, Ipv4Header, Ipv6Header, Offload, UdpHeader,
};
use zerocopy::IntoBytes;

use crate::{
    Delivery, Link,
    datagram::{Inbound, sealed, write_v4, write_v6},
    payload::{Fragmentation, Headers},
};

impl<L: Link> Inbound<'_, L> {
    /// Tells the container by ICMP what became of a packet of this flow. The frame is built in `frame`.
    pub(crate) fn report(&mut self, error: IcmpError, from: IpAddr, quote: &Quote<'_>, frame: &mut [u8]) {
        let mut original = [0; QUOTE_MAX];
        let len = self.rebuild(quote, &mut original);
        let original = &original[..len];
        let (head, ethertype) = match error {
            IcmpError::V4(_) => (EthernetHeader::LEN + Ipv4Header::LEN, EtherType::IPV4),
            IcmpError::V6(_) => (EthernetHeader::LEN + Ipv6Header::LEN, EtherType::IPV6),
        };
        let Some((header_room, message)) = frame.split_at_mut_checked(head) else {
            return;
        };
        let to = self.path.container.ip();
        let message_len = match (error, from, to) {
            (IcmpError::V4(error), IpAddr::V4(src), IpAddr::V4(dst)) => {
                let len = error.emit(original, message).ok();
                len.filter(|&len| write_v4(header_room, Ipv4Header::new(src, dst, IpProtocol::ICMP, len)))
            }
            (IcmpError::V6(error), IpAddr::V6(src), IpAddr::V6(dst)) => {
                let len = error.emit(src, dst, original, message).ok();
                len.filter(|&len| write_v6(header_room, Ipv6Header::new(src, dst, IpProtocol::ICMPV6, len)))
            }
            _ => None,
        };
        let Some(message_len) = message_len else { return };
        self.write_ethernet(&mut header_room[..EthernetHeader::LEN], ethertype);
        let delivery = self.link.send(&mut frame[..head + message_len], Offload::NONE);
        self.counters.errors_passed += u64::from(delivery == Delivery::Sent);
        self.count(delivery, 1, 0);
    }

    /// The container's packet as it was sent, as far as it is known; gives the length of the quote.
    fn rebuild(&self, quote: &Quote<'_>, original: &mut [u8; QUOTE_MAX]) -> usize {
        let head = self.ip_header_len();
        let (protocol, transport_header) = match (quote.protocol, self.path.container) {
            (QuotedProtocol::Echo, SocketAddr::V4(_)) => (IpProtocol::ICMP, None),
            (QuotedProtocol::Echo, SocketAddr::V6(_)) => (IpProtocol::ICMPV6, None),
            (QuotedProtocol::Udp, _) => (
                IpProtocol::UDP,
                UdpHeader::new(
                    self.path.container.port(),
                    self.path.remote.port(),
                    quote.payload.len(),
                ),
            ),
        };
        let mut place = head;
        if let Some(mut header) = transport_header {
            header.fill_checksum(self.pseudo_header(protocol, header.len()), quote.payload);
            original[place..place + UdpHeader::LEN].copy_from_slice(header.as_bytes());
            place += UdpHeader::LEN;
        }
        let whole_len = place - head + quote.payload.len();
        let len = quote.payload.len().min(QUOTE_MAX - place);
        original[place..place + len].copy_from_slice(&quote.payload[..len]);
        // The headers are those of the whole packet, of which the quote has only the beginning.
        match (self.path.container.ip(), self.path.remote.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = Ipv4Header::new(src, dst, protocol, whole_len);
                write_v4(
                    &mut original[..head],
                    header.map(|header| quote.headers.in_v4(header)),
                );
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = Ipv6Header::new(src, dst, protocol, whole_len);
                write_v6(
                    &mut original[..head],
                    header.map(|header| quote.headers.in_v6(header)),
                );
            }
            _ => {}
        }
        place + len
    }
}

/// An ICMP error for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IcmpError {
    /// Over IPv4.
    V4(Icmpv4Error),
    /// Over IPv6.
    V6(Icmpv6Error),
}

/// The packet that an error is about: what is known of it, to be quoted (R-UDP-6). Where only the beginning of a
/// datagram came back, the quote has its length and checksum; containers find the socket by the ports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quote<'a> {
    /// What it carried.
    pub(crate) protocol: QuotedProtocol,
    /// Of its IP header.
    pub(crate) headers: Headers,
    /// The payload of UDP, or the ICMP message; as much as is known.
    pub(crate) payload: &'a [u8],
}

/// What the packet that an error is about carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QuotedProtocol {
    /// An echo request.
    Echo,
    /// A datagram.
    Udp,
}

impl Headers {
    /// In a header that has none of its own yet.
    pub(crate) fn in_v4(self, mut header: Ipv4Header) -> Ipv4Header {
        let bytes = header.as_mut_bytes();
        bytes[1] = self.class;
        if self.fragmentation == Fragmentation::Allowed {
            bytes[6] = 0;
        }
        bytes[8] = self.hops;
        sealed(header)
    }

    /// As [`in_v4`](Self::in_v4).
    pub(crate) fn in_v6(self, mut header: Ipv6Header) -> Ipv6Header {
        let bytes = header.as_mut_bytes();
        bytes[0] |= self.class >> 4;
        bytes[1] |= self.class << 4;
        header.set_hop_limit(self.hops);
        header
    }
}

/// No error quotes more.
const QUOTE_MAX: usize = 1280;

const _: () = assert!(QUOTE_MAX >= ICMPV4_ERROR_MAX_LEN && QUOTE_MAX >= ICMPV6_ERROR_MAX_LEN);

#[cfg(test)]
mod tests;
