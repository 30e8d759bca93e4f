//! ICMP and ICMPv6 packets of the gateway.
//!
//! Each function makes a whole frame in a buffer that is used again and again, and returns `None`, leaving
//! the buffer to be ignored, where the standards want silence.

use std::net::{Ipv4Addr, Ipv6Addr};

use vswitch_wire::{
    EtherType, EthernetHeader, ICMPV4_ERROR_MAX_LEN, ICMPV6_ERROR_MAX_LEN, Icmpv4Error, Icmpv4Packet,
    Icmpv6Error, Icmpv6Packet, IpProtocol, Ipv4Header, Ipv4Packet, Ipv6Header, Ipv6Packet, MacAddr,
    answer_echo_v4, answer_echo_v6, may_report_v4, may_report_v6,
    ndp::{self, NeighborAdvertisement},
};
use zerocopy::IntoBytes;

/// Why a packet goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
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
    fn v4(self) -> Icmpv4Error {
        match self {
            Self::BeyondScope | Self::NoRoute => Icmpv4Error::NET_UNREACHABLE,
            Self::HostUnreachable => Icmpv4Error::HOST_UNREACHABLE,
            Self::PortUnreachable => Icmpv4Error::PORT_UNREACHABLE,
            Self::Prohibited => Icmpv4Error::PROHIBITED,
            Self::ProtocolUnreachable => Icmpv4Error::PROTOCOL_UNREACHABLE,
            Self::TimeExceeded => Icmpv4Error::HOPS_EXCEEDED,
        }
    }

    fn v6(self) -> Icmpv6Error {
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
pub(super) struct Stations {
    pub(super) src: MacAddr,
    pub(super) dst: MacAddr,
}

/// What the gateway makes of a packet for one of its own addresses: an echo reply in `reply` (`Ok`), or
/// the reason why nobody takes it.
pub(super) fn answer_v4(
    stations: Stations,
    packet: &Ipv4Packet<'_>,
    reply: &mut Vec<u8>,
) -> Option<Result<(), Refusal>> {
    let header = packet.header();
    if header.fragment().is_some() {
        // The gateway keeps no fragments; an echo of more than the MTU is nothing that anybody depends on.
        return None;
    }
    match header.protocol() {
        IpProtocol::ICMP => {
            let message = packet.payload();
            Icmpv4Packet::parse(message)
                .ok()
                .filter(Icmpv4Packet::has_valid_checksum)?;
            // RFC 1812 §4.3.3.6: the reply comes from the address that was asked.
            let answer = |out: &mut [u8]| echo(message, out, |out| answer_echo_v4(out).is_ok());
            frame_v4(
                stations,
                (header.dst(), header.src()),
                message.len(),
                reply,
                answer,
            )
            .map(Ok)
        }
        IpProtocol::TCP | IpProtocol::UDP => Some(Err(Refusal::PortUnreachable)),
        // Group membership is told to whoever listens; a router without multicast does not.
        IpProtocol::IGMP => None,
        _ => Some(Err(Refusal::ProtocolUnreachable)),
    }
}

/// As [`answer_v4`], for IPv6.
pub(super) fn answer_v6(
    stations: Stations,
    packet: &Ipv6Packet<'_>,
    reply: &mut Vec<u8>,
) -> Option<Result<(), Refusal>> {
    let header = packet.header();
    let upper = packet.upper_layer().ok()?;
    if upper.fragment.is_some_and(|fragment| !fragment.is_whole()) {
        return None;
    }
    match upper.protocol {
        IpProtocol::ICMPV6 => {
            let message = packet.payload().get(upper.offset - Ipv6Header::LEN..)?;
            let icmp = Icmpv6Packet::parse(message).ok()?;
            icmp.has_valid_checksum(header.src(), header.dst())
                .then_some(())?;
            let answer = |out: &mut [u8]| echo(message, out, |out| answer_echo_v6(out).is_ok());
            let addresses = (header.dst(), header.src());
            frame_v6(
                stations,
                addresses,
                Ipv6Header::DEFAULT_HOP_LIMIT,
                message.len(),
                reply,
                answer,
            )
            .map(Ok)
        }
        IpProtocol::TCP | IpProtocol::UDP => Some(Err(Refusal::PortUnreachable)),
        IpProtocol::NO_NEXT_HEADER => None,
        // Behind extension headers the pointer would have to name the last of them; stay silent there.
        _ if upper.offset != Ipv6Header::LEN => None,
        _ => Some(Err(Refusal::ProtocolUnreachable)),
    }
}

/// Copies an echo request to `out` and turns it into its reply.
fn echo(message: &[u8], out: &mut [u8], turn: impl FnOnce(&mut [u8]) -> bool) -> Option<usize> {
    out.copy_from_slice(message);
    turn(out).then_some(message.len())
}

/// Makes an ICMP error about `packet`, whose bytes are `original`, from `from`.
pub(super) fn refuse_v4(
    refusal: Refusal,
    stations: Stations,
    from: Ipv4Addr,
    original: &[u8],
    reply: &mut Vec<u8>,
) -> Option<()> {
    let packet = Ipv4Packet::parse(original).ok().filter(may_report_v4)?;
    let original = original.get(..packet.header().total_len().into())?;
    let emit = |out: &mut [u8]| refusal.v4().emit(original, out).ok();
    frame_v4(
        stations,
        (from, packet.header().src()),
        ICMPV4_ERROR_MAX_LEN,
        reply,
        emit,
    )
}

/// As [`refuse_v4`], for IPv6.
pub(super) fn refuse_v6(
    refusal: Refusal,
    stations: Stations,
    from: Ipv6Addr,
    original: &[u8],
    reply: &mut Vec<u8>,
) -> Option<()> {
    let packet = Ipv6Packet::parse(original).ok().filter(may_report_v6)?;
    let original = original.get(..Ipv6Header::LEN + packet.payload().len())?;
    let to = packet.header().src();
    let emit = |out: &mut [u8]| refusal.v6().emit(from, to, original, out).ok();
    frame_v6(
        stations,
        (from, to),
        Ipv6Header::DEFAULT_HOP_LIMIT,
        ICMPV6_ERROR_MAX_LEN,
        reply,
        emit,
    )
}

/// Makes a neighbour advertisement from its own target.
pub(super) fn advertise(
    advertisement: &NeighborAdvertisement,
    dst_mac: MacAddr,
    dst: Ipv6Addr,
    reply: &mut Vec<u8>,
) -> Option<()> {
    let stations = Stations {
        src: advertisement.mac,
        dst: dst_mac,
    };
    let addresses = (advertisement.target, dst);
    let emit = |out: &mut [u8]| advertisement.emit(addresses.0, addresses.1, out).ok();
    frame_v6(
        stations,
        addresses,
        ndp::HOP_LIMIT,
        NeighborAdvertisement::LEN,
        reply,
        emit,
    )
}

/// `ff02::1` (RFC 4291 §2.7.1).
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Offset of the next header field in an IPv6 header (RFC 8200 §3).
const NEXT_HEADER: u32 = 6;

/// Makes a frame of an ICMP message of at most `room` bytes that `emit` writes.
fn frame_v4(
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
fn frame_v6(
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
