//! Membership in multicast groups (MLDv2, RFC 3810): switches that look at it (RFC 4541) bring frames for a group only
//! to those who have said that they are in it, and neighbour solicitations go to groups.

use std::net::Ipv6Addr;

use vswitch_wire::{
    EtherType, EthernetHeader, Icmpv6Packet, IpProtocol, Ipv6Header, Ipv6Packet, MacAddr, checksum,
    ndp::multicast_mac,
};
use zerocopy::IntoBytes;

/// Why membership is told (RFC 3810 §5.2.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Somebody asked.
    Asked = 2,
    /// We have joined.
    Joined = 4,
}

/// Makes a frame that tells all routers of these groups, of which there are few.
pub(super) fn report(
    mac: MacAddr,
    src: Ipv6Addr,
    occasion: Occasion,
    groups: &[Ipv6Addr],
    frame: &mut Vec<u8>,
) -> Option<()> {
    let len = REPORT_LEN + RECORD_LEN * groups.len();
    let mut header = Ipv6Header::new(src, ROUTERS, IpProtocol(0), ROUTER_ALERT.len() + len)?;
    // RFC 3810 §5: "... sent with ... an IPv6 Hop Limit of 1, and an IPv6 Router Alert option".
    header.set_hop_limit(1);
    let ethernet = EthernetHeader {
        dst: multicast_mac(ROUTERS),
        src: mac,
        ethertype: EtherType::IPV6,
    };
    frame.clear();
    for part in [ethernet.as_bytes(), header.as_bytes(), &ROUTER_ALERT] {
        frame.extend_from_slice(part);
    }
    let message = frame.len();
    let [high, low] = u16::try_from(groups.len()).ok()?.to_be_bytes();
    frame.extend_from_slice(&[REPORT, 0, 0, 0, 0, 0, high, low]);
    for group in groups {
        frame.extend_from_slice(&[occasion as u8, 0, 0, 0]);
        frame.extend_from_slice(&group.octets());
    }
    let pseudo_header =
        checksum::pseudo_header_v6(src, ROUTERS, IpProtocol::ICMPV6, u32::try_from(len).ok()?);
    let sum = checksum::finish(pseudo_header + checksum::sum(&frame[message..]));
    frame[message + 2..message + 4].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Whether a router asks for membership (RFC 3810 §6.2: from a link-local address, with a hop limit of 1).
pub(super) fn is_query(packet: &Ipv6Packet<'_>) -> bool {
    let header = packet.header();
    let Ok(upper) = packet.upper_layer() else {
        return false;
    };
    if upper.protocol != IpProtocol::ICMPV6
        || upper.fragment.is_some()
        || header.hop_limit() != 1
        || !header.src().is_unicast_link_local()
    {
        return false;
    }
    let message = packet.payload().get(upper.offset - Ipv6Header::LEN..);
    let icmp = message.and_then(|message| Icmpv6Packet::parse(message).ok());
    icmp.is_some_and(|icmp| {
        icmp.header().kind() == QUERY && icmp.has_valid_checksum(header.src(), header.dst())
    })
}

/// All routers that speak MLDv2 (RFC 3810 §5.2.14).
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// RFC 3810 §5.1 and §5.2.
const QUERY: u8 = 130;
const REPORT: u8 = 143;
/// Bytes of a report without records, and of a record without sources.
const REPORT_LEN: usize = 8;
const RECORD_LEN: usize = 20;
/// A hop-by-hop header with the router alert option for MLD (RFC 2711 §2.1) and padding, before ICMPv6.
const ROUTER_ALERT: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];
