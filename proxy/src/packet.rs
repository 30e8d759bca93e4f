//! A container's packet, read once.

use std::net::{IpAddr, Ipv6Addr};

use vswitch_wire::{
    EtherType, EthernetHeader, Fragment, IpProtocol, Ipv4Packet, Ipv6Header, Ipv6Packet, MacAddr, checksum,
};

/// What the relay needs of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) station: MacAddr,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: IpProtocol,
    /// TTL or hop limit.
    pub(crate) hops: u8,
    /// TOS or traffic class.
    pub(crate) traffic_class: u8,
    pub(crate) dont_fragment: bool,
    /// Identification and place, if it is a part only.
    pub(crate) fragment: Option<Fragment>,
    /// The transport header and what follows it, without Ethernet padding; of a fragment, its part of that.
    pub(crate) load: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None` if the frame carries no well-formed IP packet.
    pub(crate) fn read(frame: &'a [u8]) -> Option<Self> {
        let (ethernet, bytes) = EthernetHeader::parse(frame).ok()?;
        let station = ethernet.src;
        match ethernet.ethertype {
            EtherType::IPV4 => {
                let packet = Ipv4Packet::parse(bytes).ok()?;
                let header = packet.header();
                Some(Self {
                    station,
                    src: header.src().into(),
                    dst: header.dst().into(),
                    protocol: header.protocol(),
                    hops: header.ttl(),
                    traffic_class: header.tos(),
                    dont_fragment: header.dont_fragment(),
                    fragment: header.fragment(),
                    load: packet.payload(),
                })
            }
            EtherType::IPV6 => {
                let packet = Ipv6Packet::parse(bytes).ok()?;
                let header = packet.header();
                let upper = packet.upper_layer().ok()?;
                Some(Self {
                    station,
                    src: header.src().into(),
                    dst: header.dst().into(),
                    protocol: upper.protocol,
                    hops: header.hop_limit(),
                    traffic_class: header.traffic_class(),
                    // RFC 8200 §5: only the source fragments.
                    dont_fragment: true,
                    // An atomic fragment is an ordinary packet (RFC 6946 §4).
                    fragment: upper.fragment.filter(|fragment| !fragment.is_whole()),
                    load: packet.payload().get(upper.offset - Ipv6Header::LEN..)?,
                })
            }
            _ => None,
        }
    }

    /// The pseudo-header's sum for a transport checksum over `load`.
    pub(crate) fn pseudo_header(&self) -> u32 {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                // A packet's load is shorter than 64 KiB.
                checksum::pseudo_header_v4(src, dst, self.protocol, self.load.len() as u16)
            }
            (src, dst) => {
                checksum::pseudo_header_v6(to_v6(src), to_v6(dst), self.protocol, self.load.len() as u32)
            }
        }
    }
}

fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
