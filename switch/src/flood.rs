//! Who may get a frame from whom.

use vswitch_wire::{EtherType, IpProtocol, Ipv4Packet, Ipv6Packet, MacAddr, NetworkLayer};

use crate::{BpduPolicy, DropReason, PortId, ReservedMask, TagOp, port::Lane};

/// A port that must send the frame last handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Egress {
    /// The port.
    pub port: PortId,
    /// What to do with the frame's outer VLAN tag first.
    pub tag: TagOp,
}

/// Whether a frame that came in through `from` may leave through `to`, its VLAN and size aside.
#[inline]
pub(crate) fn permit(from: &Lane, to: &Lane, same_port: bool) -> Result<(), DropReason> {
    if !to.is_up {
        return Err(DropReason::EgressDown);
    }
    if same_port {
        return if to.is_hairpin {
            Ok(())
        } else {
            Err(DropReason::SamePort)
        };
    }
    if from.is_isolated && to.is_isolated {
        return Err(DropReason::Isolated);
    }
    if from.split_horizon != 0 && from.split_horizon == to.split_horizon {
        return Err(DropReason::SplitHorizon);
    }
    Ok(())
}

/// Whether bridges keep frames to this address to themselves (B-RSV-1 to B-RSV-3).
#[inline]
pub(crate) fn is_reserved(dst: MacAddr, allowed: ReservedMask, bpdu: BpduPolicy) -> bool {
    match dst.0 {
        [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00] => bpdu == BpduPolicy::Drop,
        [0x01, 0x80, 0xc2, 0x00, 0x00, low @ 0x01..=0x0f] => !allowed.allows(low),
        // CDP and VTP, PVST+, and EDP: Open vSwitch drops them with the BPDUs and forwards them with them.
        [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc | 0xcd] | [0x00, 0xe0, 0x2b, 0x00, 0x00, 0x00] => {
            bpdu == BpduPolicy::Drop
        }
        _ => false,
    }
}

/// Whether a frame is a spanning tree BPDU: its address, and LLC 42 42 03 (B-STP-2).
pub(crate) fn is_bpdu(dst: MacAddr, ethertype: EtherType, frame: &[u8]) -> bool {
    dst.0 == [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00]
        && ethertype.is_length()
        && frame.get(14..17) == Some(&[0x42, 0x42, 0x03])
}

/// Whether a network works without this frame being flooded only for a while: ARP, neighbour and router
/// discovery, DHCP (B-STM-1).
pub(crate) fn is_essential(frame: &[u8]) -> bool {
    let Ok(NetworkLayer { ethertype, offset }) = NetworkLayer::parse(frame) else {
        return false;
    };
    let packet = frame.get(offset..).unwrap_or_default();
    match ethertype {
        EtherType::ARP => true,
        EtherType::IPV4 => Ipv4Packet::parse(packet).is_ok_and(|ip| {
            ip.header().fragment().is_none()
                && ip.header().protocol() == IpProtocol::UDP
                && dst_port(ip.payload()).is_some_and(|port| matches!(port, 67 | 68))
        }),
        EtherType::IPV6 => Ipv6Packet::parse(packet).is_ok_and(|ip| match ip.header().next_header() {
            IpProtocol::ICMPV6 => matches!(ip.payload().first(), Some(133..=136)),
            IpProtocol::UDP => dst_port(ip.payload()).is_some_and(|port| matches!(port, 546 | 547)),
            _ => false,
        }),
        _ => false,
    }
}

fn dst_port(udp: &[u8]) -> Option<u16> {
    match udp {
        [_, _, hi, lo, ..] => Some(u16::from_be_bytes([*hi, *lo])),
        _ => None,
    }
}
