//! ICMP for IPv4 (RFC 792), and what ICMP has in common for both versions.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

use crate::{IpProtocol, Ipv4Packet, Malformed, NoRoom, checksum};

/// The first 8 bytes of every ICMP and ICMPv6 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcmpHeader {
    kind: u8,
    code: u8,
    checksum: U16,
    rest: [u8; 4],
}

impl IcmpHeader {
    /// Bytes of the header.
    pub const LEN: usize = 8;

    pub(crate) const fn new(kind: u8, code: u8, rest: [u8; 4]) -> Self {
        Self {
            kind,
            code,
            checksum: U16::ZERO,
            rest,
        }
    }

    /// The header at the start of `bytes`, for rewriting in place, and what follows it.
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn parse_mut(bytes: &mut [u8]) -> Result<(&mut Self, &mut [u8]), Malformed> {
        Self::mut_from_prefix(bytes).map_err(|_| Malformed::Truncated)
    }

    /// Type of the message.
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// Code, whose meaning depends on the type.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// The checksum field.
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// Identifier of an echo message; in others two bytes of something else.
    pub fn echo_id(&self) -> u16 {
        u16::from_be_bytes([self.rest[0], self.rest[1]])
    }

    /// Replaces the identifier of an echo message and brings the checksum up to date.
    pub fn set_echo_id(&mut self, id: u16) {
        self.checksum
            .set(checksum::update16(self.checksum.get(), self.echo_id(), id));
        self.rest[..2].copy_from_slice(&id.to_be_bytes());
    }

    /// Replaces the checksum field as is.
    pub fn set_checksum(&mut self, checksum: u16) {
        self.checksum.set(checksum);
    }

    pub(crate) fn rest(&self) -> [u8; 4] {
        self.rest
    }

    /// Replaces the type and brings the checksum up to date.
    pub(crate) fn set_kind(&mut self, kind: u8) {
        let old = u16::from_be_bytes([self.kind, self.code]);
        let new = u16::from_be_bytes([kind, self.code]);
        self.checksum
            .set(checksum::update16(self.checksum.get(), old, new));
        self.kind = kind;
    }

    pub(crate) fn echo<'a>(&self, data: &'a [u8]) -> Echo<'a> {
        let [_, _, c, d] = self.rest;
        Echo {
            id: self.echo_id(),
            sequence: u16::from_be_bytes([c, d]),
            data,
        }
    }
}

/// An echo request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Identifier, which replies repeat; the "port" of a ping.
    pub id: u16,
    /// Sequence number, which replies repeat.
    pub sequence: u16,
    /// Data, which replies repeat.
    pub data: &'a [u8],
}

/// An ICMP message.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv4Packet<'a> {
    bytes: &'a [u8],
    header: &'a IcmpHeader,
    payload: &'a [u8],
}

impl<'a> Icmpv4Packet<'a> {
    /// Reads a message: the whole payload of an IPv4 packet. The checksum is not looked at:
    /// [`Icmpv4Packet::has_valid_checksum`].
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

    /// Whether the checksum is right.
    pub fn has_valid_checksum(&self) -> bool {
        checksum::fold(checksum::sum(self.bytes)) == 0xffff
    }

    /// What the message says.
    pub fn message(&self) -> Icmpv4Message<'a> {
        let [pointer, _, c, d] = self.header.rest;
        let code = self.header.code;
        let error = |error| Icmpv4Message::Error {
            error,
            quoted: self.payload,
        };
        match self.header.kind {
            ECHO_REPLY => Icmpv4Message::EchoReply(self.header.echo(self.payload)),
            ECHO_REQUEST => Icmpv4Message::EchoRequest(self.header.echo(self.payload)),
            DESTINATION_UNREACHABLE if code == FRAGMENTATION_NEEDED => {
                error(Icmpv4Error::FragmentationNeeded {
                    mtu: u16::from_be_bytes([c, d]),
                })
            }
            DESTINATION_UNREACHABLE => error(Icmpv4Error::DestinationUnreachable { code }),
            PARAMETER_PROBLEM => error(Icmpv4Error::ParameterProblem { code, pointer }),
            REDIRECT => error(Icmpv4Error::Redirect {
                code,
                gateway: self.header.rest,
            }),
            SOURCE_QUENCH => error(Icmpv4Error::SourceQuench),
            TIME_EXCEEDED => error(Icmpv4Error::TimeExceeded { code }),
            kind => Icmpv4Message::Other { kind },
        }
    }
}

/// What an ICMP message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv4Message<'a> {
    /// Answer to an echo request.
    EchoReply(Echo<'a>),
    /// Asks for an echo reply.
    EchoRequest(Echo<'a>),
    /// Reports what became of a packet.
    Error {
        /// What became of it.
        error: Icmpv4Error,
        /// The packet from its IP header on, as much as was sent, and possibly extensions (RFC 4884);
        /// for [`Ipv4Packet::parse_quoted`].
        quoted: &'a [u8],
    },
    /// Anything else, such as timestamps.
    Other {
        /// Type of the message.
        kind: u8,
    },
}

/// What an ICMP error reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Icmpv4Error {
    /// The packet cannot be delivered; RFC 792 and RFC 1812 §5.2.7.1 have the codes.
    DestinationUnreachable {
        /// 0 network, 1 host, 2 protocol, 3 port, 9/10/13 prohibited; not 4.
        code: u8,
    },
    /// The packet is larger than the next link and must not be fragmented (RFC 1191 §4).
    FragmentationNeeded {
        /// Bytes of the largest packet that fits; 0 from routers older than the RFC.
        mtu: u16,
    },
    /// A field of the header is wrong.
    ParameterProblem {
        /// 0 if `pointer` is meaningful.
        code: u8,
        /// Offset of the field in the packet.
        pointer: u8,
    },
    /// There is a better first hop.
    Redirect {
        /// 0 for the network, 1 for the host.
        code: u8,
        /// The better router.
        gateway: [u8; 4],
    },
    /// Obsolete (RFC 6633); ignored by hosts.
    SourceQuench,
    /// The packet ran out of hops (0) or its fragments out of time (1).
    TimeExceeded {
        /// 0 in transit, 1 in reassembly.
        code: u8,
    },
}

impl Icmpv4Error {
    /// Destination unreachable, code 0.
    pub const NET_UNREACHABLE: Self = Self::DestinationUnreachable { code: 0 };
    /// Destination unreachable, code 1.
    pub const HOST_UNREACHABLE: Self = Self::DestinationUnreachable { code: 1 };
    /// Destination unreachable, code 2.
    pub const PROTOCOL_UNREACHABLE: Self = Self::DestinationUnreachable { code: 2 };
    /// Destination unreachable, code 3.
    pub const PORT_UNREACHABLE: Self = Self::DestinationUnreachable { code: 3 };
    /// Destination unreachable, code 13: communication administratively prohibited (RFC 1812 §5.2.7.1).
    pub const PROHIBITED: Self = Self::DestinationUnreachable { code: 13 };
    /// Time exceeded, code 0.
    pub const HOPS_EXCEEDED: Self = Self::TimeExceeded { code: 0 };

    /// Writes the error about `packet` (from its IP header on) to `out` and gives its length. As much of the
    /// packet is quoted as fits a datagram of 576 bytes, as RFC 1812 §4.3.2.3 has it: "The ICMP datagram SHOULD
    /// contain as much of the original datagram as possible without the length of the ICMP datagram
    /// exceeding 576 bytes." Whether an error may be sent at all: [`may_report_v4`].
    ///
    /// # Errors
    /// `out` is too small for that; [`ICMPV4_ERROR_MAX_LEN`] always suffices.
    pub fn emit(self, packet: &[u8], out: &mut [u8]) -> Result<usize, NoRoom> {
        let quoted = &packet[..packet.len().min(ICMPV4_ERROR_MAX_LEN - IcmpHeader::LEN)];
        emit(self.header(), quoted, 0, out)
    }

    fn header(self) -> IcmpHeader {
        match self {
            Self::DestinationUnreachable { code } => IcmpHeader::new(DESTINATION_UNREACHABLE, code, [0; 4]),
            Self::FragmentationNeeded { mtu } => {
                let [c, d] = mtu.to_be_bytes();
                IcmpHeader::new(DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED, [0, 0, c, d])
            }
            Self::ParameterProblem { code, pointer } => {
                IcmpHeader::new(PARAMETER_PROBLEM, code, [pointer, 0, 0, 0])
            }
            Self::Redirect { code, gateway } => IcmpHeader::new(REDIRECT, code, gateway),
            Self::SourceQuench => IcmpHeader::new(SOURCE_QUENCH, 0, [0; 4]),
            Self::TimeExceeded { code } => IcmpHeader::new(TIME_EXCEEDED, code, [0; 4]),
        }
    }
}

/// Turns an echo request into its reply, in place; the caller swaps the addresses. A wrong checksum stays
/// wrong.
///
/// # Errors
/// [`Malformed::Truncated`], [`Malformed::Type`] if it is no echo request.
pub fn answer_echo_v4(message: &mut [u8]) -> Result<(), Malformed> {
    let (header, _) = IcmpHeader::parse_mut(message)?;
    if header.kind != ECHO_REQUEST {
        return Err(Malformed::Type);
    }
    header.set_kind(ECHO_REPLY);
    Ok(())
}

/// Whether an ICMP error may be sent about `packet`.
///
/// RFC 1122 §3.2.2: "An ICMP error message MUST NOT be sent as the result of receiving: an ICMP error
/// message, or a datagram destined to an IP broadcast or IP multicast address, or […] a non-initial
/// fragment, or a datagram whose source address does not define a single host -- e.g., a zero address,
/// a loopback address, a broadcast address, a multicast address, or a Class E address." Directed broadcasts
/// and frames sent to a group address of the link are for the caller to see.
pub fn may_report_v4(packet: &Ipv4Packet<'_>) -> bool {
    let (src, dst) = (packet.header().src(), packet.header().dst());
    let first_octet = src.octets()[0];
    let is_single_host = !(first_octet == 0 || first_octet >= 224 || src.is_loopback());
    if !is_single_host
        || dst.is_multicast()
        || dst.is_broadcast()
        || !packet.upper_layer().has_transport_header()
    {
        return false;
    }
    if packet.header().protocol() != IpProtocol::ICMP {
        return true;
    }
    match Icmpv4Packet::parse(packet.payload()) {
        Ok(message) => is_query(message.header.kind),
        Err(_) => false,
    }
}

/// Echo, router discovery (RFC 1256), timestamp, information and address mask (RFC 950): anything else may
/// be an error.
const fn is_query(kind: u8) -> bool {
    matches!(kind, ECHO_REPLY | ECHO_REQUEST | 9 | 10 | 13..=18)
}

/// Header, body and the checksum over both and `pseudo_header` (a sum).
pub(crate) fn emit(
    mut header: IcmpHeader,
    body: &[u8],
    pseudo_header: u32,
    out: &mut [u8],
) -> Result<usize, NoRoom> {
    let len = IcmpHeader::LEN + body.len();
    let out = out.get_mut(..len).ok_or(NoRoom)?;
    let sum = pseudo_header + checksum::sum(header.as_bytes()) + checksum::sum(body);
    header.checksum.set(checksum::finish(sum));
    let (head, rest) = out.split_at_mut(IcmpHeader::LEN);
    head.copy_from_slice(header.as_bytes());
    rest.copy_from_slice(body);
    Ok(len)
}

/// Longest ICMP error that we send: 576 bytes less the IP header (RFC 1812 §4.3.2.3).
pub const ICMPV4_ERROR_MAX_LEN: usize = 576 - 20;

pub(crate) const ECHO_REPLY: u8 = 0;
const DESTINATION_UNREACHABLE: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;
pub(crate) const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
/// Code of [`DESTINATION_UNREACHABLE`].
const FRAGMENTATION_NEEDED: u8 = 4;

#[cfg(test)]
mod tests;
