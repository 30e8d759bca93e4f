//! ICMP for IPv6 (RFC 4443). Neighbour discovery is in [`crate::ndp`].

use std::net::Ipv6Addr;

use zerocopy::FromBytes;

use crate::{Echo, IcmpHeader, IpProtocol, Ipv6Header, Ipv6Packet, Malformed, NoRoom, checksum, icmp};

/// An ICMPv6 message.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6Packet<'a> {
    bytes: &'a [u8],
    header: &'a IcmpHeader,
    payload: &'a [u8],
}

impl<'a> Icmpv6Packet<'a> {
    /// Reads a message: all that follows the extension headers of an IPv6 packet. The checksum is not
    /// looked at: [`Icmpv6Packet::has_valid_checksum`].
    ///
    /// # Errors
    /// [`Malformed::Truncated`]: fewer than 8 bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, payload) = IcmpHeader::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        Ok(Self {
            bytes,
            header,
            payload,
        })
    }

    /// The header.
    pub fn header(&self) -> &'a IcmpHeader {
        self.header
    }

    /// What follows the 8 bytes of the header.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the checksum is right for a packet between these addresses.
    pub fn has_valid_checksum(&self, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
        checksum::fold(pseudo_header(src, dst, self.bytes.len()) + checksum::sum(self.bytes)) == 0xffff
    }

    /// What the message says.
    pub fn message(&self) -> Icmpv6Message<'a> {
        let code = self.header.code();
        let word = u32::from_be_bytes(self.header.rest());
        let error = |error| Icmpv6Message::Error {
            error,
            quoted: self.payload,
        };
        match self.header.kind() {
            DESTINATION_UNREACHABLE => error(Icmpv6Error::DestinationUnreachable { code }),
            PACKET_TOO_BIG => error(Icmpv6Error::PacketTooBig { mtu: word }),
            PARAMETER_PROBLEM => error(Icmpv6Error::ParameterProblem { code, pointer: word }),
            TIME_EXCEEDED => error(Icmpv6Error::TimeExceeded { code }),
            ECHO_REPLY => Icmpv6Message::EchoReply(self.header.echo(self.payload)),
            ECHO_REQUEST => Icmpv6Message::EchoRequest(self.header.echo(self.payload)),
            kind => Icmpv6Message::Other { kind },
        }
    }
}

/// What an ICMPv6 message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv6Message<'a> {
    /// Answer to an echo request.
    EchoReply(Echo<'a>),
    /// Asks for an echo reply.
    EchoRequest(Echo<'a>),
    /// Reports what became of a packet.
    Error {
        /// What became of it.
        error: Icmpv6Error,
        /// The packet from its IPv6 header on, as much as was sent; for [`Ipv6Packet::parse_quoted`].
        quoted: &'a [u8],
    },
    /// Anything else, such as neighbour discovery.
    Other {
        /// Type of the message.
        kind: u8,
    },
}

/// What an ICMPv6 error reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Icmpv6Error {
    /// The packet cannot be delivered (RFC 4443 §3.1).
    DestinationUnreachable {
        /// 0 no route, 1 prohibited, 3 address, 4 port.
        code: u8,
    },
    /// The packet is larger than the next link (RFC 4443 §3.2).
    PacketTooBig {
        /// Bytes of the largest packet that fits.
        mtu: u32,
    },
    /// A header cannot be processed (RFC 4443 §3.4).
    ParameterProblem {
        /// 0 erroneous field, 1 unknown next header, 2 unknown option.
        code: u8,
        /// Offset of the field in the packet.
        pointer: u32,
    },
    /// The packet ran out of hops or its fragments out of time (RFC 4443 §3.3).
    TimeExceeded {
        /// 0 in transit, 1 in reassembly.
        code: u8,
    },
}

impl Icmpv6Error {
    /// Destination unreachable, code 0.
    pub const NO_ROUTE: Self = Self::DestinationUnreachable { code: 0 };
    /// Destination unreachable, code 1: communication administratively prohibited.
    pub const PROHIBITED: Self = Self::DestinationUnreachable { code: 1 };
    /// Destination unreachable, code 3.
    pub const ADDRESS_UNREACHABLE: Self = Self::DestinationUnreachable { code: 3 };
    /// Destination unreachable, code 4.
    pub const PORT_UNREACHABLE: Self = Self::DestinationUnreachable { code: 4 };
    /// Time exceeded, code 0.
    pub const HOPS_EXCEEDED: Self = Self::TimeExceeded { code: 0 };

    /// Writes the error about `packet` (from its IPv6 header on), sent from `src` to `dst`, to `out` and gives
    /// its length. RFC 4443 §2.4 (c): "Every ICMPv6 error message (type < 128) MUST include as much of the IPv6
    /// offending (invoking) packet […] as possible without making the error message packet exceed the
    /// minimum IPv6 MTU". Whether an error may be sent at all: [`may_report_v6`].
    ///
    /// # Errors
    /// `out` is too small for that; [`ICMPV6_ERROR_MAX_LEN`] always suffices.
    pub fn emit(self, src: Ipv6Addr, dst: Ipv6Addr, packet: &[u8], out: &mut [u8]) -> Result<usize, NoRoom> {
        let quoted = &packet[..packet.len().min(ICMPV6_ERROR_MAX_LEN - IcmpHeader::LEN)];
        let (kind, code, word) = match self {
            Self::DestinationUnreachable { code } => (DESTINATION_UNREACHABLE, code, 0),
            Self::PacketTooBig { mtu } => (PACKET_TOO_BIG, 0, mtu),
            Self::ParameterProblem { code, pointer } => (PARAMETER_PROBLEM, code, pointer),
            Self::TimeExceeded { code } => (TIME_EXCEEDED, code, 0),
        };
        let header = IcmpHeader::new(kind, code, word.to_be_bytes());
        icmp::emit(
            header,
            quoted,
            pseudo_header(src, dst, IcmpHeader::LEN + quoted.len()),
            out,
        )
    }
}

/// Turns an echo request into its reply, in place; the caller swaps the addresses, which leaves the
/// checksum right. A wrong checksum stays wrong.
///
/// # Errors
/// [`Malformed::Truncated`], [`Malformed::Type`] if it is no echo request.
pub fn answer_echo_v6(message: &mut [u8]) -> Result<(), Malformed> {
    let (header, _) = IcmpHeader::parse_mut(message)?;
    if header.kind() != ECHO_REQUEST {
        return Err(Malformed::Type);
    }
    header.set_kind(ECHO_REPLY);
    Ok(())
}

/// Whether an ICMPv6 error may be sent about `packet` (RFC 4443 §2.4 (e)): not about an error or a redirect,
/// not about a packet to a group (except [`Icmpv6Error::PacketTooBig`], which this does not allow for),
/// not to a source that is no single node, and, as for IPv4, not about a fragment other than the first.
/// Frames sent to a group address of the link are for the caller to see.
pub fn may_report_v6(packet: &Ipv6Packet<'_>) -> bool {
    let (src, dst) = (packet.header().src(), packet.header().dst());
    let Ok(upper_layer) = packet.upper_layer() else {
        return false;
    };
    let is_single_node = !(src.is_unspecified() || src.is_multicast() || src.is_loopback());
    if !is_single_node || dst.is_multicast() || !upper_layer.has_transport_header() {
        return false;
    }
    if upper_layer.protocol != IpProtocol::ICMPV6 {
        return true;
    }
    match Icmpv6Packet::parse(&packet.payload()[upper_layer.offset - Ipv6Header::LEN..]) {
        Ok(message) => message.header.kind() >= 128 && message.header.kind() != REDIRECT,
        Err(_) => false,
    }
}

pub(crate) fn pseudo_header(src: Ipv6Addr, dst: Ipv6Addr, len: usize) -> u32 {
    checksum::pseudo_header_v6(src, dst, IpProtocol::ICMPV6, len as u32)
}

/// Longest ICMPv6 error that we send: the minimum MTU of 1280 bytes less the IPv6 header (RFC 4443 §2.4 (c)).
pub const ICMPV6_ERROR_MAX_LEN: usize = 1280 - 40;

const DESTINATION_UNREACHABLE: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;
pub(crate) const ECHO_REQUEST: u8 = 128;
pub(crate) const ECHO_REPLY: u8 = 129;
/// RFC 4861 §4.5.
const REDIRECT: u8 = 137;
