//! What a station says of itself, and asks others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vswitch_wire::{
    ArpPacket, EtherType, EthernetHeader, MacAddr, Offload, Stations,
    message::frame_v6,
    ndp::{self, AddressProbe, NeighborAdvertisement, NeighborSolicitation},
};
use zerocopy::IntoBytes;

use super::{Station, Transmit};
use crate::{
    engine::icmp,
    uplink::{
        Standing,
        addresses::Act,
        groups::{self, Occasion},
    },
};

impl Station {
    pub(super) fn perform(&mut self, act: Act, out: &mut impl Transmit) {
        let made = match act {
            Act::Announce(IpAddr::V4(address)) => {
                // RFC 5227 §3: the request form, which every host understands.
                self.arp(
                    MacAddr::BROADCAST,
                    &ArpPacket::request(self.mac, address, address),
                );
                Some(())
            }
            Act::Announce(IpAddr::V6(address)) => return self.advertise(address, None, out),
            Act::Probe(IpAddr::V4(address)) => {
                // RFC 5227 §2.1.1: "The 'sender IP address' field MUST be set to all zeroes".
                let probe = ArpPacket::request(self.mac, Ipv4Addr::UNSPECIFIED, address);
                self.arp(MacAddr::BROADCAST, &probe);
                Some(())
            }
            Act::Probe(IpAddr::V6(target)) => {
                let group = ndp::solicited_node(target);
                self.icmpv6(
                    ndp::multicast_mac(group),
                    (Ipv6Addr::UNSPECIFIED, group),
                    AddressProbe::LEN,
                    |out| AddressProbe { target }.emit(out).ok(),
                )
            }
        };
        if made.is_some() {
            out.transmit(&mut self.frame, Offload::NONE);
        }
    }

    /// Tells routers and switches in which groups we are: those of the addresses that we have or test.
    pub(super) fn report_groups(&mut self, occasion: Occasion, out: &mut impl Transmit) {
        let mut groups: Vec<Ipv6Addr> = Vec::new();
        for (net, standing) in self.addresses.iter() {
            if let (IpAddr::V6(address), false) = (net.addr(), matches!(standing, Standing::Taken(_))) {
                let group = ndp::solicited_node(address);
                if !groups.contains(&group) {
                    groups.push(group);
                }
            }
        }
        let link_local = self.mac.link_local();
        let source = match self.addresses.is_usable(link_local.into()) {
            true => link_local,
            false => Ipv6Addr::UNSPECIFIED,
        };
        if !groups.is_empty()
            && groups::report(self.mac, source, occasion, &groups, &mut self.frame).is_some()
        {
            out.transmit(&mut self.frame, Offload::NONE);
        }
    }

    /// Asks for a neighbour: all stations, or the one that had the address.
    pub(super) fn ask(&mut self, neighbour: IpAddr, mac: Option<MacAddr>, out: &mut impl Transmit) {
        let made = match (neighbour, self.addresses.source_for(neighbour)) {
            (IpAddr::V4(target), Some(IpAddr::V4(source))) => {
                let request = ArpPacket::request(self.mac, source, target);
                self.arp(mac.unwrap_or(MacAddr::BROADCAST), &request);
                Some(())
            }
            (IpAddr::V6(target), Some(IpAddr::V6(source))) => {
                let group = ndp::solicited_node(target);
                let (to, dst) = match mac {
                    Some(mac) => (mac, target),
                    None => (ndp::multicast_mac(group), group),
                };
                let solicitation = NeighborSolicitation {
                    target,
                    mac: self.mac,
                };
                self.icmpv6(to, (source, dst), NeighborSolicitation::LEN, |out| {
                    solicitation.emit(source, dst, out).ok()
                })
            }
            // None of our addresses is free yet; the next try may find one.
            _ => None,
        };
        if made.is_some() {
            out.transmit(&mut self.frame, Offload::NONE);
        }
    }

    /// Says where an address of ours is: to whoever has asked, or to all.
    pub(super) fn advertise(
        &mut self,
        target: Ipv6Addr,
        asker: Option<(Ipv6Addr, MacAddr)>,
        out: &mut impl Transmit,
    ) {
        let to_all = (icmp::ALL_NODES, ndp::multicast_mac(icmp::ALL_NODES));
        let (dst, mac) = asker.unwrap_or(to_all);
        let advertisement = NeighborAdvertisement {
            router: false,
            solicited: asker.is_some(),
            overrides: true,
            target,
            mac: self.mac,
        };
        if icmp::advertise(&advertisement, mac, dst, &mut self.frame).is_some() {
            out.transmit(&mut self.frame, Offload::NONE);
        }
    }

    fn arp(&mut self, dst: MacAddr, packet: &ArpPacket) {
        begin(&mut self.frame, dst, self.mac, EtherType::ARP);
        self.frame.extend_from_slice(packet.as_bytes());
    }

    fn icmpv6(
        &mut self,
        dst: MacAddr,
        addresses: (Ipv6Addr, Ipv6Addr),
        len: usize,
        emit: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<()> {
        let stations = Stations { src: self.mac, dst };
        frame_v6(stations, addresses, ndp::HOP_LIMIT, len, &mut self.frame, emit)
    }
}

/// Starts a frame anew.
pub(super) fn begin(frame: &mut Vec<u8>, dst: MacAddr, src: MacAddr, ethertype: EtherType) {
    frame.clear();
    frame.extend_from_slice(EthernetHeader { dst, src, ethertype }.as_bytes());
}
