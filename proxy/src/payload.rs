//! What of a container's packet a flow carries on to its host socket.

use std::net::IpAddr;

use vswitch_wire::{
    Echo, EthernetHeader, Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv4Packet,
    Ipv6Header, Ipv6Packet, Malformed, Offload, UdpDatagram, checksum,
};

/// A whole IP packet of a container: as it came, or reassembled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    /// Source address.
    pub(crate) src: IpAddr,
    /// Destination address, of the same version.
    pub(crate) dst: IpAddr,
    /// What `body` is.
    pub(crate) protocol: IpProtocol,
    /// What of the IP header a host socket repeats.
    pub(crate) headers: Headers,
    /// The transport header and what follows it.
    pub(crate) body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads the packet in an untagged frame; `None` if it is a fragment, which is for
    /// [`Reassembly`](crate::reassembly::Reassembly).
    ///
    /// # Errors
    /// As [`Ipv4Packet::parse`] and [`Ipv6Packet::upper_layer`].
    pub(crate) fn from_frame(frame: &'a [u8]) -> Result<Option<Self>, Malformed> {
        Self::parse(frame.get(EthernetHeader::LEN..).ok_or(Malformed::Truncated)?)
    }

    /// Reads a packet from its IP header on.
    ///
    /// # Errors
    /// As [`Packet::from_frame`].
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Option<Self>, Malformed> {
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => {
                let packet = Ipv4Packet::parse(bytes)?;
                let header = packet.header();
                Ok(header.fragment().is_none().then(|| Self {
                    src: header.src().into(),
                    dst: header.dst().into(),
                    protocol: header.protocol(),
                    headers: Headers {
                        hops: header.ttl(),
                        class: header.tos(),
                        fragmentation: match header.dont_fragment() {
                            true => Fragmentation::Forbidden,
                            false => Fragmentation::Allowed,
                        },
                    },
                    body: packet.payload(),
                }))
            }
            Some(6) => {
                let packet = Ipv6Packet::parse(bytes)?;
                let header = packet.header();
                let upper_layer = packet.upper_layer()?;
                let is_fragment = upper_layer.fragment.is_some_and(|fragment| !fragment.is_whole());
                Ok((!is_fragment).then(|| Self {
                    src: header.src().into(),
                    dst: header.dst().into(),
                    protocol: upper_layer.protocol,
                    headers: Headers {
                        hops: header.hop_limit(),
                        class: header.traffic_class(),
                        // RFC 8200 §5: only sources fragment.
                        fragmentation: Fragmentation::Forbidden,
                    },
                    body: &packet.payload()[upper_layer.offset - Ipv6Header::LEN..],
                }))
            }
            Some(_) => Err(Malformed::Version),
            None => Err(Malformed::Truncated),
        }
    }

    /// The UDP datagram, or the datagrams of a super-frame, that the packet carries. We are where the container's
    /// checksum ends, so a complete one is verified.
    ///
    /// # Errors
    /// [`Malformed::Type`] if the packet carries something else, [`Malformed::Checksum`], and as
    /// [`UdpDatagram::parse`].
    pub(crate) fn datagram(&self, offload: &Offload) -> Result<Datagram<'a>, Malformed> {
        if self.protocol != IpProtocol::UDP {
            return Err(Malformed::Type);
        }
        let datagram = UdpDatagram::parse(self.body)?;
        let header = datagram.header();
        if offload.checksum.is_none() && !offload.data_valid {
            // RFC 8200 §8.1: "IPv6 receivers must discard UDP packets containing a zero checksum".
            let is_missing = header.checksum() == 0 && self.dst.is_ipv6();
            if is_missing || !datagram.has_valid_checksum(self.pseudo_header(header.len().into())) {
                return Err(Malformed::Checksum);
            }
        }
        Ok(Datagram {
            src_port: header.src_port(),
            dst_port: header.dst_port(),
            payload: datagram.payload(),
            segment: offload.gso.map(|gso| gso.size),
            headers: self.headers,
        })
    }

    /// The echo request that the packet carries; `None` if it is another message.
    ///
    /// # Errors
    /// [`Malformed::Type`] if the packet carries no ICMP of its version, [`Malformed::Checksum`],
    /// [`Malformed::Truncated`].
    pub(crate) fn echo_request(&self) -> Result<Option<EchoRequest<'a>>, Malformed> {
        let echo = match (self.protocol, self.src, self.dst) {
            (IpProtocol::ICMP, IpAddr::V4(_), _) => {
                let message = Icmpv4Packet::parse(self.body)?;
                if !message.has_valid_checksum() {
                    return Err(Malformed::Checksum);
                }
                match message.message() {
                    Icmpv4Message::EchoRequest(echo) => echo,
                    _ => return Ok(None),
                }
            }
            (IpProtocol::ICMPV6, IpAddr::V6(src), IpAddr::V6(dst)) => {
                let message = Icmpv6Packet::parse(self.body)?;
                if !message.has_valid_checksum(src, dst) {
                    return Err(Malformed::Checksum);
                }
                match message.message() {
                    Icmpv6Message::EchoRequest(echo) => echo,
                    _ => return Ok(None),
                }
            }
            _ => return Err(Malformed::Type),
        };
        Ok(Some(EchoRequest {
            echo,
            headers: self.headers,
        }))
    }

    fn pseudo_header(&self, len: u32) -> u32 {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                checksum::pseudo_header_v4(src, dst, self.protocol, len as u16)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => checksum::pseudo_header_v6(src, dst, self.protocol, len),
            // Both are of one packet.
            _ => 0,
        }
    }
}

/// A UDP datagram of a container, or several in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram<'a> {
    /// Source port.
    pub(crate) src_port: u16,
    /// Destination port.
    pub(crate) dst_port: u16,
    /// What it carries; may be empty.
    pub(crate) payload: &'a [u8],
    /// Set for several datagrams: the size of each but the last.
    pub(crate) segment: Option<u16>,
    /// Of its packet.
    pub(crate) headers: Headers,
}

/// An echo request of a container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EchoRequest<'a> {
    /// The message.
    pub(crate) echo: Echo<'a>,
    /// Of its packet.
    pub(crate) headers: Headers,
}

/// What of an IP header a host socket repeats, as the container sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Headers {
    /// TTL or hop limit.
    pub(crate) hops: u8,
    /// Type of service or traffic class.
    pub(crate) class: u8,
    /// Whether the packet may be fragmented on its way.
    pub(crate) fragmentation: Fragmentation,
}

/// Whether a packet may be fragmented on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fragmentation {
    /// The host's kernel fragments it where it must.
    Allowed,
    /// The container is told the MTU instead.
    Forbidden,
}

impl Headers {
    /// Where nothing is known of the container's.
    pub(crate) const DEFAULT: Self = Self {
        hops: 64,
        class: 0,
        fragmentation: Fragmentation::Forbidden,
    };
}
