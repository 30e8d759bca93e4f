//! Frames that carry an ICMP message of ours, and the errors among them.
//!
//! Each function makes a whole frame in a buffer that is used again and again, and returns `None`, leaving
//! the buffer to be ignored, where the standards want silence.

use std::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::IntoBytes;

use crate::{
    EtherType, EthernetHeader, ICMPV4_ERROR_MAX_LEN, ICMPV6_ERROR_MAX_LEN, Icmpv4Error, Icmpv6Error,
    IpProtocol, Ipv4Header, Ipv4Packet, Ipv6Header, Ipv6Packet, MacAddr, may_report_v4, may_report_v6,
};

/// Why a packet goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A link-local source wants to leave its link.
    BeyondScope,
    /// The station is on the link, but not here.
    HostUnreachable,
    /// There is no way to that network.
    NoRoute,
    /// No transport listens on that port.
    PortUnreachable,
    /// The network's policy forbids it.
    Prohibited,
    /// The protocol is not spoken here.
    ProtocolUnreachable,
    /// The packet has come too far.
    TimeExceeded,
}

impl Refusal {
    /// The error that tells it over IPv4.
    pub fn v4(self) -> Icmpv4Error {
        match self {
            Self::BeyondScope | Self::NoRoute => Icmpv4Error::NET_UNREACHABLE,
            Self::HostUnreachable => Icmpv4Error::HOST_UNREACHABLE,
            Self::PortUnreachable => Icmpv4Error::PORT_UNREACHABLE,
            Self::Prohibited => Icmpv4Error::PROHIBITED,
            Self::ProtocolUnreachable => Icmpv4Error::PROTOCOL_UNREACHABLE,
            Self::TimeExceeded => Icmpv4Error::HOPS_EXCEEDED,
        }
    }

    /// The error that tells it over IPv6.
    pub fn v6(self) -> Icmpv6Error {
        match self {
            // RFC 4443 §3.1, code 2: beyond scope of source address.
            Self::BeyondScope => Icmpv6Error::DestinationUnreachable { code: 2 },
            Self::HostUnreachable => Icmpv6Error::ADDRESS_UNREACHABLE,
            Self::NoRoute => Icmpv6Error::NO_ROUTE,
            Self::PortUnreachable => Icmpv6Error::PORT_UNREACHABLE,
            Self::Prohibited => Icmpv6Error::PROHIBITED,
            // RFC 4443 §3.4, code 1: the pointer names the field, here the fixed header's.
            Self::ProtocolUnreachable => Icmpv6Error::ParameterProblem {
                code: 1,
                pointer: NEXT_HEADER,
            },
            Self::TimeExceeded => Icmpv6Error::HOPS_EXCEEDED,
        }
    }
}

/// The two stations of a frame that we make.
#[derive(Debug, Clone, Copy)]
pub struct Stations {
    /// Who sends it.
    pub src: MacAddr,
    /// Who is to get it.
    pub dst: MacAddr,
}

/// Makes an ICMP error about `packet`, whose bytes are `original`, from `from`.
pub fn report_v4(
    error: Icmpv4Error,
    stations: Stations,
    from: Ipv4Addr,
    original: &[u8],
    reply: &mut Vec<u8>,
) -> Option<()> {
    let packet = Ipv4Packet::parse(original).ok().filter(may_report_v4)?;
    let original = original.get(..packet.header().total_len().into())?;
    let emit = |out: &mut [u8]| error.emit(original, out).ok();
    frame_v4(
        stations,
        (from, packet.header().src()),
        ICMPV4_ERROR_MAX_LEN,
        reply,
        emit,
    )
}

/// As [`report_v4`], for IPv6.
pub fn report_v6(
    error: Icmpv6Error,
    stations: Stations,
    from: Ipv6Addr,
    original: &[u8],
    reply: &mut Vec<u8>,
) -> Option<()> {
    let packet = Ipv6Packet::parse(original).ok().filter(may_report_v6)?;
    let original = original.get(..Ipv6Header::LEN + packet.payload().len())?;
    let to = packet.header().src();
    let emit = |out: &mut [u8]| error.emit(from, to, original, out).ok();
    frame_v6(
        stations,
        (from, to),
        Ipv6Header::DEFAULT_HOP_LIMIT,
        ICMPV6_ERROR_MAX_LEN,
        reply,
        emit,
    )
}

/// Makes a frame of an ICMP message of at most `room` bytes that `emit` writes.
pub fn frame_v4(
    stations: Stations,
    (src, dst): (Ipv4Addr, Ipv4Addr),
    room: usize,
    reply: &mut Vec<u8>,
    emit: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Option<()> {
    let at = EthernetHeader::LEN + Ipv4Header::LEN;
    let len = begin(stations, EtherType::IPV4, at, room, reply, emit)?;
    let header = Ipv4Header::new(src, dst, IpProtocol::ICMP, len)?;
    reply[EthernetHeader::LEN..at].copy_from_slice(header.as_bytes());
    Some(())
}

/// As [`frame_v4`], for IPv6.
pub fn frame_v6(
    stations: Stations,
    (src, dst): (Ipv6Addr, Ipv6Addr),
    hop_limit: u8,
    room: usize,
    reply: &mut Vec<u8>,
    emit: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Option<()> {
    let at = EthernetHeader::LEN + Ipv6Header::LEN;
    let len = begin(stations, EtherType::IPV6, at, room, reply, emit)?;
    let mut header = Ipv6Header::new(src, dst, IpProtocol::ICMPV6, len)?;
    header.set_hop_limit(hop_limit);
    reply[EthernetHeader::LEN..at].copy_from_slice(header.as_bytes());
    Some(())
}

/// Starts the frame anew with its Ethernet header, and with the message at `at`; the message's length.
fn begin(
    stations: Stations,
    ethertype: EtherType,
    at: usize,
    room: usize,
    reply: &mut Vec<u8>,
    emit: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Option<usize> {
    reply.clear();
    reply.resize(at + room, 0);
    let len = emit(&mut reply[at..])?;
    reply.truncate(at + len);
    let header = EthernetHeader {
        dst: stations.dst,
        src: stations.src,
        ethertype,
    };
    reply[..EthernetHeader::LEN].copy_from_slice(header.as_bytes());
    Some(len)
}

/// Offset of the next header field in an IPv6 header (RFC 8200 §3).
const NEXT_HEADER: u32 = 6;
