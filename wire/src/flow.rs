//! The identity of a flow, read once.

use std::net::IpAddr;

use crate::{
    EtherType, IpProtocol, IpVersion, Ipv4Packet, Ipv6Header, Ipv6Packet, Malformed, NetworkLayer,
    UpperLayer, icmp, icmpv6,
};

/// Addresses, protocol and ports of one packet, as read; nothing downstream parses again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Source address.
    pub src: IpAddr,
    /// Destination address; of the same version as `src`.
    pub dst: IpAddr,
    /// What the packet carries behind all extension headers.
    pub protocol: IpProtocol,
    /// `None` where the packet has no ports: a fragment other than the first, ICMP other than echo, or a
    /// protocol without ports.
    pub ports: Option<Ports>,
}

/// The ports of TCP, UDP and SCTP. An ICMP echo has its identifier as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
}

impl FlowKey {
    /// Of an IP packet of either version.
    ///
    /// # Errors
    /// The packet or its extension headers are malformed, or it ends before its ports.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::from_ipv4(&Ipv4Packet::parse(packet)?),
            Some(6) => Self::from_ipv6(&Ipv6Packet::parse(packet)?).map(|(key, _)| key),
            Some(_) => Err(Malformed::Version),
            None => Err(Malformed::Truncated),
        }
    }

    /// Of the IP packet in a frame, behind at most [`crate::MAX_TAGS`] tags; `None` if it carries another
    /// protocol.
    ///
    /// # Errors
    /// As [`FlowKey::parse`]; also if the version is not that of the EtherType.
    #[inline]
    pub fn from_frame(frame: &[u8]) -> Result<Option<Self>, Malformed> {
        let network = NetworkLayer::parse(frame)?;
        let packet = &frame[network.offset..];
        match network.ethertype {
            EtherType::IPV4 => Self::from_ipv4(&Ipv4Packet::parse(packet)?).map(Some),
            EtherType::IPV6 => Self::from_ipv6(&Ipv6Packet::parse(packet)?).map(|(key, _)| Some(key)),
            _ => Ok(None),
        }
    }

    /// Of a packet that an ICMP error quotes, which need not be whole. It has the direction of the packet
    /// that caused the error.
    ///
    /// # Errors
    /// As [`FlowKey::parse`].
    pub fn parse_quoted(packet: &[u8]) -> Result<Self, Malformed> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::from_ipv4(&Ipv4Packet::parse_quoted(packet)?),
            Some(6) => Self::from_ipv6(&Ipv6Packet::parse_quoted(packet)?).map(|(key, _)| key),
            Some(_) => Err(Malformed::Version),
            None => Err(Malformed::Truncated),
        }
    }

    /// Of a packet that was read already.
    ///
    /// # Errors
    /// The packet ends before its ports.
    #[inline]
    pub fn from_ipv4(packet: &Ipv4Packet<'_>) -> Result<Self, Malformed> {
        let header = packet.header();
        Ok(Self {
            src: IpAddr::V4(header.src()),
            dst: IpAddr::V4(header.dst()),
            protocol: header.protocol(),
            ports: Ports::read(&packet.upper_layer(), packet.payload())?,
        })
    }

    /// Of a packet that was read already, with what its extension headers led to.
    ///
    /// # Errors
    /// The extension headers are malformed, or the packet ends before its ports.
    #[inline]
    pub fn from_ipv6(packet: &Ipv6Packet<'_>) -> Result<(Self, UpperLayer), Malformed> {
        let header = packet.header();
        let upper_layer = packet.upper_layer()?;
        let segment = &packet.payload()[upper_layer.offset - Ipv6Header::LEN..];
        let key = Self {
            src: IpAddr::V6(header.src()),
            dst: IpAddr::V6(header.dst()),
            protocol: upper_layer.protocol,
            ports: Ports::read(&upper_layer, segment)?,
        };
        Ok((key, upper_layer))
    }

    /// The version of both addresses.
    pub fn version(&self) -> IpVersion {
        match self.src {
            IpAddr::V4(_) => IpVersion::V4,
            IpAddr::V6(_) => IpVersion::V6,
        }
    }
}

impl Ports {
    #[inline]
    fn read(upper_layer: &UpperLayer, segment: &[u8]) -> Result<Option<Self>, Malformed> {
        if !upper_layer.has_transport_header() {
            return Ok(None);
        }
        match upper_layer.protocol {
            IpProtocol::TCP | IpProtocol::UDP | IpProtocol::SCTP => {
                let &[a, b, c, d, ..] = segment else {
                    return Err(Malformed::Truncated);
                };
                Ok(Some(Self {
                    src: u16::from_be_bytes([a, b]),
                    dst: u16::from_be_bytes([c, d]),
                }))
            }
            IpProtocol::ICMP => Self::read_echo(segment, [icmp::ECHO_REQUEST, icmp::ECHO_REPLY]),
            IpProtocol::ICMPV6 => Self::read_echo(segment, [icmpv6::ECHO_REQUEST, icmpv6::ECHO_REPLY]),
            _ => Ok(None),
        }
    }

    fn read_echo(message: &[u8], echo_kinds: [u8; 2]) -> Result<Option<Self>, Malformed> {
        match *message {
            [kind, _, _, _, a, b, ..] if echo_kinds.contains(&kind) => {
                let id = u16::from_be_bytes([a, b]);
                Ok(Some(Self { src: id, dst: id }))
            }
            [kind, ..] if echo_kinds.contains(&kind) => Err(Malformed::Truncated),
            [_, ..] => Ok(None),
            [] => Err(Malformed::Truncated),
        }
    }
}

#[cfg(test)]
mod tests;
