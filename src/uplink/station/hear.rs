//! What a station makes of what others on its link say.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use vswitch_wire::{
    ArpOperation, ArpPacket, EtherType, EthernetHeader, Ipv6Packet, MacAddr, Offload, ndp::NdpMessage,
};
use zerocopy::IntoBytes;

use super::{Arrival, Station, Transmit, say::begin};
use crate::uplink::{
    groups::{self, Occasion},
    neighbours::{Evidence, Waiting},
};

impl Station {
    pub(super) fn handle_arp(&mut self, now: Instant, arp: &ArpPacket, out: &mut impl Transmit) {
        let (sender, mac) = (arp.sender_ip(), arp.sender_mac());
        if mac == self.mac || !is_station(mac) {
            return;
        }
        // RFC 5227 §2.1.1: somebody has the address, or tests it as we do. One that is settled is defended against the
        // first and answered for to the second.
        let tested =
            (arp.is_probe() && !self.addresses.is_usable(arp.target_ip().into())).then(|| arp.target_ip());
        let claimed = self.addresses.contains(sender.into()).then_some(sender);
        if let Some(address) = claimed.or(tested) {
            self.note_rival(now, address.into(), mac, out);
            return;
        }
        let is_for_us = self.addresses.is_usable(arp.target_ip().into());
        let evidence = match arp.operation() {
            ArpOperation::Reply if is_for_us && arp.target_mac() == self.mac => {
                Evidence::Answer { overrides: true }
            }
            _ => Evidence::Claim { overrides: true },
        };
        if is_unicast_v4(sender) {
            self.note_neighbour(now, sender.into(), mac, evidence, out);
        }
        if arp.operation() == ArpOperation::Request && is_for_us {
            begin(&mut self.frame, mac, self.mac, EtherType::ARP);
            self.frame.extend_from_slice(arp.reply(self.mac).as_bytes());
            out.transmit(&mut self.frame, Offload::NONE);
        }
    }

    pub(super) fn handle_ipv6(
        &mut self,
        now: Instant,
        ethernet: &EthernetHeader,
        payload: &[u8],
        out: &mut impl Transmit,
    ) -> Arrival {
        let Ok(packet) = Ipv6Packet::parse(payload) else {
            return Arrival::Done;
        };
        let (src, dst) = (packet.header().src(), packet.header().dst());
        match NdpMessage::parse(&packet) {
            Ok(Some(message)) => self.handle_ndp(now, ethernet.src, (src, dst), &message, out),
            Ok(None) if dst.is_multicast() && groups::is_query(&packet) => {
                // RFC 3810 §6.2 wants a random delay; we are one host with few groups, and answer once a second.
                let is_recent = |at: Instant| now.saturating_duration_since(at) < REPORT_INTERVAL;
                if !self.reported.is_some_and(is_recent) {
                    self.reported = Some(now);
                    self.report_groups(Occasion::Asked, out);
                }
            }
            // Fragments of larger packets are malformed for this parser only if they claim to be discovery.
            Ok(None) if ethernet.dst == self.mac && !dst.is_multicast() => {
                if !dst.is_unicast_link_local() {
                    return Arrival::Packet;
                }
                // Nobody else hears of it: link-local packets are never routed.
                let frame = [ethernet.as_bytes(), payload].concat();
                self.handle_local(&frame, out);
            }
            Ok(None) | Err(_) => {}
        }
        Arrival::Done
    }

    fn handle_ndp(
        &mut self,
        now: Instant,
        station: MacAddr,
        (src, dst): (Ipv6Addr, Ipv6Addr),
        message: &NdpMessage<'_>,
        out: &mut impl Transmit,
    ) {
        match *message {
            NdpMessage::NeighborAdvertisement {
                solicited,
                overrides,
                target,
                ..
            } => {
                let Some(mac) = message.target_mac().filter(|&mac| mac != self.mac) else {
                    // RFC 4862 §5.4.4 wants no option of an advertisement that shows an address to be taken.
                    if self.addresses.contains(target.into()) && station != self.mac {
                        self.note_rival(now, target.into(), station, out);
                    }
                    return;
                };
                if self.addresses.contains(target.into()) {
                    self.note_rival(now, target.into(), mac, out);
                    return;
                }
                let evidence = match solicited && self.addresses.is_usable(dst.into()) {
                    true => Evidence::Answer { overrides },
                    false => Evidence::Claim { overrides },
                };
                self.note_neighbour(now, target.into(), mac, evidence, out);
            }
            NdpMessage::NeighborSolicitation { target, .. } => {
                if !self.addresses.is_usable(target.into()) {
                    // RFC 4862 §5.4.3: another station tests the address that we test.
                    if src.is_unspecified() && self.addresses.contains(target.into()) {
                        self.note_rival(now, target.into(), station, out);
                    }
                    return;
                }
                let source = message
                    .source_mac()
                    .filter(|_| !self.addresses.contains(src.into()));
                if let Some(mac) = source {
                    let evidence = Evidence::Claim { overrides: true };
                    self.note_neighbour(now, src.into(), mac, evidence, out);
                }
                self.advertise(target, (!src.is_unspecified()).then_some((src, station)), out);
            }
            // Gateways are configured; redirects would let any station of the link take packets over.
            NdpMessage::Redirect { .. }
            | NdpMessage::RouterAdvertisement { .. }
            | NdpMessage::RouterSolicitation { .. } => {}
        }
    }

    fn note_rival(&mut self, now: Instant, address: IpAddr, mac: MacAddr, out: &mut impl Transmit) {
        let (act, event) = self.addresses.note_rival(now, address, mac);
        self.events.extend(event);
        if let Some(act) = act {
            self.perform(act, out);
        }
    }

    fn note_neighbour(
        &mut self,
        now: Instant,
        address: IpAddr,
        mac: MacAddr,
        evidence: Evidence,
        out: &mut impl Transmit,
    ) {
        if !is_station(mac) {
            return;
        }
        for Waiting {
            mut frame, offload, ..
        } in self.neighbours.note(now, address, mac, evidence)
        {
            frame[..6].copy_from_slice(&mac.0);
            out.transmit(&mut frame, offload);
        }
    }
}

/// Whether it can be the address of one station.
fn is_station(mac: MacAddr) -> bool {
    !mac.is_multicast() && !mac.is_zero()
}

fn is_unicast_v4(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_broadcast())
}

/// Between answers to routers that ask for membership in groups.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
