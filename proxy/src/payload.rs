//! What of a container's packet a flow carries on to its host socket.

use std::net::IpAddr;

use vswitch_wire::{
    Echo, EtherType, EthernetHeader, Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpProtocol,
    Ipv4Header, Ipv4Packet, Ipv6Header, Ipv6Packet, MacAddr, Malformed, Offload, UdpDatagram, checksum,
};
use zerocopy::IntoBytes;

use crate::datagram::{write_v4, write_v6};

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
    #[cfg(test)]
    pub(crate) fn from_frame(frame: &'a [u8]) -> Result<Option<Self>, Malformed> {
        Self::parse(
            frame
                .get(vswitch_wire::EthernetHeader::LEN..)
                .ok_or(Malformed::Truncated)?,
        )
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

    /// Writes the packet as one frame from `src` to `dst`, and gives its length; `None` if that is too large. It has
    /// no identification and no extension headers, which nobody tells packets of a flow apart by.
    pub(crate) fn emit(&self, src: MacAddr, dst: MacAddr, frame: &mut [u8]) -> Option<usize> {
        let (ethertype, header_len) = match self.dst {
            IpAddr::V4(_) => (EtherType::IPV4, Ipv4Header::LEN),
            IpAddr::V6(_) => (EtherType::IPV6, Ipv6Header::LEN),
        };
        let start = EthernetHeader::LEN + header_len;
        let len = start + self.body.len();
        frame.get_mut(start..len)?.copy_from_slice(self.body);
        let (ethernet, ip) = frame[..start].split_at_mut(EthernetHeader::LEN);
        ethernet.copy_from_slice(EthernetHeader { dst, src, ethertype }.as_bytes());
        let written = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = Ipv4Header::new(src, dst, self.protocol, self.body.len());
                write_v4(ip, header.map(|header| self.headers.in_v4(header)))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = Ipv6Header::new(src, dst, self.protocol, self.body.len());
                write_v6(ip, header.map(|header| self.headers.in_v6(header)))
            }
            // Both are of one packet.
            _ => false,
        };
        written.then_some(len)
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

    /// The pseudo-header's sum for a transport checksum over `len` bytes.
    pub(crate) fn pseudo_header(&self, len: u32) -> u32 {
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

#[cfg(test)]
mod tests {
    use vswitch_wire::{UdpHeader, segment};

    use crate::{datagram::HEADROOM, mock::Side};

    use super::*;

    #[test]
    fn a_datagram_is_read_with_what_its_socket_repeats() {
        for [container, remote] in BOTH {
            let frame = frame(container, remote, b"hello");
            let packet = Packet::from_frame(&frame).expect("valid").expect("whole");
            let datagram = packet.datagram(&Offload::NONE).expect("a datagram");
            assert_eq!((datagram.src_port, datagram.dst_port), (40_000, 80));
            assert_eq!(datagram.payload, b"hello");
            assert_eq!(datagram.segment, None);
            assert_eq!(datagram.headers, Headers::DEFAULT);
            assert_eq!(packet.echo_request().err(), Some(Malformed::Type));
        }
    }

    #[test]
    fn r_udp_14_a_wrong_checksum_of_the_container_is_noticed_here() {
        for [container, remote] in BOTH {
            let mut frame = frame(container, remote, b"hello");
            let last = frame.len() - 1;
            frame[last] ^= 1;
            let packet = Packet::from_frame(&frame).expect("valid").expect("whole");
            let result = |offload: &Offload| packet.datagram(offload).map(|datagram| datagram.payload.len());
            assert_eq!(result(&Offload::NONE), Err(Malformed::Checksum));
            let verified = Offload {
                data_valid: true,
                ..Offload::NONE
            };
            assert_eq!(result(&verified), Ok(5));
        }
    }

    #[test]
    fn r_udp_14_only_ipv4_may_do_without_a_checksum() {
        for ([container, remote], expected) in BOTH.into_iter().zip([Ok(5), Err(Malformed::Checksum)]) {
            let mut frame = frame(container, remote, b"hello");
            let at = frame.len() - 5 - UdpHeader::LEN;
            frame[at + 6..at + 8].fill(0);
            let packet = Packet::from_frame(&frame).expect("valid").expect("whole");
            let result = packet.datagram(&Offload::NONE);
            assert_eq!(result.map(|datagram| datagram.payload.len()), expected);
        }
    }

    #[test]
    fn r_udp_11_a_super_frame_has_its_segment_size() {
        let mut side = Side::new(BOTH[0][1], BOTH[0][0]);
        let mut buffer = vec![1; HEADROOM + 1000];
        side.inbound()
            .send_udp(&mut buffer, HEADROOM..HEADROOM + 1000, Some(300));
        let (frame, offload) = &side.link.frames[0];
        let packet = Packet::from_frame(frame).expect("valid").expect("whole");
        let datagram = packet.datagram(offload).expect("datagrams");
        assert_eq!((datagram.payload.len(), datagram.segment), (1000, Some(300)));
    }

    #[test]
    fn r_icmp_3_only_requests_are_read() {
        // An echo request of 3 bytes: identifier 7, sequence number 3.
        let message = |kind: u8| {
            let mut message = vec![kind, 0, 0, 0, 0, 7, 0, 3, 1, 2, 3];
            let sum = checksum::finish(checksum::sum(&message));
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            message
        };
        let packet = |body| Packet {
            src: BOTH[0][0]
                .parse::<std::net::SocketAddr>()
                .expect("an address")
                .ip(),
            dst: BOTH[0][1]
                .parse::<std::net::SocketAddr>()
                .expect("an address")
                .ip(),
            protocol: IpProtocol::ICMP,
            headers: Headers::DEFAULT,
            body,
        };
        let request = message(8);
        let read = packet(&request)
            .echo_request()
            .expect("valid")
            .expect("a request");
        assert_eq!((read.echo.id, read.echo.sequence), (7, 3));
        assert_eq!(read.echo.data, [1, 2, 3]);
        let reply = message(0);
        assert!(packet(&reply).echo_request().expect("valid").is_none());
        let mut wrong = message(8);
        wrong[9] ^= 4;
        assert_eq!(packet(&wrong).echo_request().err(), Some(Malformed::Checksum));
        assert_eq!(
            packet(&request[..7]).echo_request().err(),
            Some(Malformed::Truncated)
        );
    }

    #[test]
    fn r_udp_10_a_packet_is_written_as_it_was_read() {
        for [container, remote] in BOTH {
            let mut whole = frame(container, remote, b"hello");
            if container.starts_with('1') {
                // DSCP and TTL of its own, with a checksum that [`Packet::parse`] holds against them.
                whole[15] = 0xb8;
                whole[22] = 7;
                whole[24..26].fill(0);
                let checksum = checksum::finish(checksum::sum(&whole[14..34]));
                whole[24..26].copy_from_slice(&checksum.to_be_bytes());
            }
            let packet = Packet::from_frame(&whole).expect("valid").expect("whole");
            let mut buffer = vec![0xee; whole.len()];
            let (dst, src) = (MacAddr([2, 0, 0, 0, 0, 2]), MacAddr([2, 0, 0, 0, 0, 1]));
            assert_eq!(packet.emit(src, dst, &mut buffer), Some(whole.len()));
            assert_eq!(buffer, whole);
            assert_eq!(packet.emit(src, dst, &mut buffer[1..]), None);
        }
    }

    #[test]
    fn reading_survives_mutilation() {
        for [container, remote] in BOTH {
            let whole = frame(container, remote, b"hello");
            for len in 0..whole.len() {
                if let Ok(Some(packet)) = Packet::from_frame(&whole[..len]) {
                    let _ = (packet.datagram(&Offload::NONE), packet.echo_request());
                }
            }
            for bit in 0..whole.len() * 8 {
                let mut frame = whole.clone();
                frame[bit / 8] ^= 1 << (bit % 8);
                if let Ok(Some(packet)) = Packet::from_frame(&frame) {
                    let _ = (packet.datagram(&Offload::NONE), packet.echo_request());
                }
            }
        }
    }

    /// A container's frame, complete.
    fn frame(container: &str, remote: &str, payload: &[u8]) -> Vec<u8> {
        let mut side = Side::new(remote, container);
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(payload);
        let payload = HEADROOM..buffer.len();
        side.inbound().send_udp(&mut buffer, payload, None);
        let (mut frame, offload) = side.link.frames.swap_remove(0);
        let partial = offload.checksum.expect("left to the receiver");
        segment::complete_checksum(&mut frame, partial).expect("it fits");
        frame
    }

    const BOTH: [[&str; 2]; 2] = [
        ["10.0.0.2:40000", "203.0.113.5:80"],
        ["[fd00::2]:40000", "[2001:db8::5]:80"],
    ];
}
