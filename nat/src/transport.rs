//! What of a packet's transport header the engine works with.

use vswitch_wire::{IpProtocol, IpVersion, TcpSegment, UdpDatagram};

use crate::{
    DropReason, Timer, Tuple, Zone,
    packet::Packet,
    rewrite::{Query, UDP_LITE, is_icmp},
    tcp::Segment,
};

/// A transport header as read: what would be its connection's tuple, and what it may do to that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transport {
    pub(crate) tuple: Tuple,
    pub(crate) kind: Kind,
}

/// What a packet may do to a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// It answers a query of ICMP.
    Answer,
    /// It asks one.
    Ask(Timer),
    /// It is a message of ICMP about something else.
    Message,
    /// A protocol without ports.
    Portless(Timer),
    Sctp,
    Tcp(Segment),
    Udp,
}

impl Transport {
    /// Reads the transport header of a packet that is no fragment, with every check of it (N-INV-2, N-TCP-3, N-TCP-4, N-ICQ-1, N-PORT-13).
    #[inline]
    pub(crate) fn read(bytes: &[u8], packet: &Packet, zone: Zone) -> Result<Self, DropReason> {
        let payload = bytes
            .get(packet.transport..packet.len)
            .ok_or(DropReason::Malformed)?;
        let flow = |(src_port, dst_port), query, kind| {
            let tuple = Tuple {
                src: packet.src,
                dst: packet.dst,
                src_port,
                dst_port,
                zone,
                protocol: packet.protocol.0,
                query,
            };
            Ok(Self { tuple, kind })
        };
        match packet.protocol {
            IpProtocol::TCP => {
                let segment = TcpSegment::parse(payload)?;
                let header = segment.header();
                let ports = (header.src_port(), header.dst_port());
                flow(nonzero(ports)?, 0, Kind::Tcp(Segment::read(&segment)?))
            }
            IpProtocol::UDP => {
                let header = UdpDatagram::parse(payload)?.header();
                let ports = (header.src_port(), header.dst_port());
                flow(nonzero(ports)?, 0, Kind::Udp)
            }
            UDP_LITE => flow(nonzero(ports(payload, UDP_HEADER)?)?, 0, Kind::Udp),
            IpProtocol::SCTP => flow(nonzero(ports(payload, SCTP_HEADER)?)?, 0, Kind::Sctp),
            protocol if is_icmp(packet.version, protocol) => {
                let &[kind, _, _, _, a, b, _, _, ..] = payload else {
                    return Err(DropReason::Malformed);
                };
                let id = u16::from_be_bytes([a, b]);
                let timer = match packet.version {
                    IpVersion::V4 => Timer::Icmp,
                    IpVersion::V6 => Timer::Icmpv6,
                };
                let Some(query) = Query::of(packet.version, kind) else {
                    return flow((0, 0), 0, Kind::Message);
                };
                let role = match query {
                    Query::Reply(_) => Kind::Answer,
                    Query::Request(_) => Kind::Ask(timer),
                };
                flow(query.ports(id), query.request(), role)
            }
            // Each belongs to the other version.
            IpProtocol::ICMP | IpProtocol::ICMPV6 => Err(DropReason::Malformed),
            GRE => flow((0, 0), 0, Kind::Portless(Timer::Gre)),
            _ => flow((0, 0), 0, Kind::Portless(Timer::Generic)),
        }
    }
}

/// The ports of a protocol that has them first, in a header of `len` bytes.
fn ports(payload: &[u8], len: usize) -> Result<(u16, u16), DropReason> {
    match payload {
        &[a, b, c, d, ..] if payload.len() >= len => {
            Ok((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
        }
        _ => Err(DropReason::Malformed),
    }
}

#[inline]
fn nonzero((src, dst): (u16, u16)) -> Result<(u16, u16), DropReason> {
    match src == 0 || dst == 0 {
        true => Err(DropReason::ZeroPort),
        false => Ok((src, dst)),
    }
}

/// Whether a protocol's translation may change ports.
pub(crate) const fn has_ports(protocol: u8) -> bool {
    matches!(
        IpProtocol(protocol),
        IpProtocol::TCP
            | IpProtocol::UDP
            | IpProtocol::SCTP
            | IpProtocol::ICMP
            | IpProtocol::ICMPV6
            | UDP_LITE
    )
}

/// Generic routing encapsulation (RFC 2784).
pub(crate) const GRE: IpProtocol = IpProtocol(47);
const UDP_HEADER: usize = 8;
/// RFC 9260 §3.1, and no chunk.
const SCTP_HEADER: usize = 12;
