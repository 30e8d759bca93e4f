//! ICMP and ICMPv6 packets of the gateway.
//!
//! Each function makes a whole frame in a buffer that is used again and again, and returns `None`, leaving
//! the buffer to be ignored, where the standards want silence.

use std::net::Ipv6Addr;

use vswitch_wire::{
    Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Header, Ipv6Packet, MacAddr, Refusal, Stations,
    answer_echo_v4, answer_echo_v6,
    message::{frame_v4, frame_v6},
    ndp::{self, NeighborAdvertisement},
};

/// What the gateway makes of a packet for one of its own addresses: an echo reply in `reply` (`Ok`), or
/// the reason why nobody takes it.
pub(crate) fn answer_v4(
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
pub(crate) fn answer_v6(
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

/// Makes a neighbour advertisement from its own target.
pub(crate) fn advertise(
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
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
