//! Where the transport header of a frame is: the parse that offloads rest on.

use zerocopy::FromBytes;

use crate::{
    EtherType, IpProtocol, IpVersion, Ipv4Packet, Ipv6Header, Ipv6Packet, Malformed, NetworkLayer, TcpHeader,
    UdpHeader,
};

/// The whole TCP segment or UDP datagram in a frame: all offsets from the start of the frame, and
/// `l3 < l4 < payload <= end <= frame.len()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transport {
    pub(crate) version: IpVersion,
    pub(crate) protocol: L4,
    /// The IP header.
    pub(crate) l3: usize,
    /// The transport header.
    pub(crate) l4: usize,
    /// What follows the transport header and its options.
    pub(crate) payload: usize,
    /// The end of the packet by its IP length; what follows is padding.
    pub(crate) end: usize,
}

/// The protocols that offloads exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum L4 {
    Tcp,
    Udp,
}

/// Why a frame has no whole TCP segment or UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTransport {
    /// The packet is a fragment.
    Fragment,
    /// A header is malformed.
    Malformed(Malformed),
    /// Behind the tags is neither IPv4 nor IPv6.
    NotIp,
    /// The packet carries neither TCP nor UDP.
    Protocol,
}

/// What a whole IP packet in a frame carries, whatever it is: offsets from the start of the frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    version: IpVersion,
    protocol: IpProtocol,
    /// The IP header.
    l3: usize,
    /// What follows the IP header and its extensions.
    pub(crate) start: usize,
    /// The end of the packet by its IP length; what follows is padding.
    pub(crate) end: usize,
}

impl Load {
    #[inline]
    pub(crate) fn locate(frame: &[u8]) -> Result<Self, NoTransport> {
        let network = NetworkLayer::parse(frame)?;
        let l3 = network.offset;
        let packet = &frame[l3..];
        let (version, upper_layer, len) = match network.ethertype {
            EtherType::IPV4 => {
                let packet = Ipv4Packet::parse(packet)?;
                (
                    IpVersion::V4,
                    packet.upper_layer(),
                    usize::from(packet.header().total_len()),
                )
            }
            EtherType::IPV6 => {
                let packet = Ipv6Packet::parse(packet)?;
                (
                    IpVersion::V6,
                    packet.upper_layer()?,
                    Ipv6Header::LEN + packet.payload().len(),
                )
            }
            _ => return Err(NoTransport::NotIp),
        };
        if upper_layer.fragment.is_some_and(|fragment| !fragment.is_whole()) {
            return Err(NoTransport::Fragment);
        }
        Ok(Self {
            version,
            protocol: upper_layer.protocol,
            l3,
            start: l3 + upper_layer.offset,
            end: l3 + len,
        })
    }
}

impl Transport {
    #[inline]
    pub(crate) fn locate(frame: &[u8]) -> Result<Self, NoTransport> {
        let Load {
            version,
            protocol,
            l3,
            start: l4,
            end,
        } = Load::locate(frame)?;
        let segment = &frame[l4..end];
        let (protocol, header_len) = match protocol {
            IpProtocol::TCP => {
                let &[_, _, _, _, _, _, _, _, _, _, _, _, data_offset, ..] = segment else {
                    return Err(NoTransport::Malformed(Malformed::Truncated));
                };
                let header_len = usize::from(data_offset >> 4) * 4;
                if header_len < TcpHeader::LEN {
                    return Err(NoTransport::Malformed(Malformed::HeaderLength));
                }
                (L4::Tcp, header_len)
            }
            IpProtocol::UDP => (L4::Udp, UdpHeader::LEN),
            _ => return Err(NoTransport::Protocol),
        };
        if header_len > segment.len() {
            return Err(NoTransport::Malformed(Malformed::Truncated));
        }
        Ok(Self {
            version,
            protocol,
            l3,
            l4,
            payload: l4 + header_len,
            end,
        })
    }

    /// False if this is UDP with another length than the packet's.
    pub(crate) fn udp_length_matches(&self, frame: &[u8]) -> bool {
        match self.protocol {
            L4::Tcp => true,
            L4::Udp => match UdpHeader::ref_from_prefix(&frame[self.l4..]) {
                Ok((header, _)) => usize::from(header.len()) == self.end - self.l4,
                Err(_) => false,
            },
        }
    }
}

impl<E: Into<Malformed>> From<E> for NoTransport {
    fn from(error: E) -> Self {
        Self::Malformed(error.into())
    }
}
