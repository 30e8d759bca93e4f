//! The station as a whole: frames in, frames out.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use ipnet::{IpNet, Ipv6Net};
use vswitch_wire::{
    ArpOperation, ArpPacket, EtherType, EthernetHeader, Ipv4Packet, Ipv6Packet, MacAddr, Offload, Refusal,
    Stations,
    message::frame_v6,
    ndp::{self, AddressProbe, NdpMessage, NeighborAdvertisement, NeighborSolicitation},
};
use zerocopy::IntoBytes;

use super::{
    addresses::{Act, Addresses, Standing},
    groups::{self, Occasion},
    neighbours::{Due, Evidence, Neighbours, Resolution, Waiting},
};
use crate::engine::icmp;

/// Our host on a link.
///
/// World to core: [`handle_frame`](Self::handle_frame), [`handle_local`](Self::handle_local),
/// [`send`](Self::send), [`handle_timeout`](Self::handle_timeout), which may be called early or twice. Core to world, after any
/// of them: [`poll_event`](Self::poll_event) and [`poll_undelivered`](Self::poll_undelivered) until they are empty,
/// [`poll_timeout`](Self::poll_timeout) for the time by which `handle_timeout` wants to be called.
#[derive(Debug)]
pub struct Station {
    mac: MacAddr,
    gateways: Vec<IpAddr>,
    addresses: Addresses,
    neighbours: Neighbours,
    events: VecDeque<Event>,
    undelivered: VecDeque<Undelivered>,
    counters: Counters,
    /// When membership in groups was told last because somebody asked.
    reported: Option<Instant>,
    /// What we make ourselves.
    frame: Vec<u8>,
}

/// Where a station's frames go.
pub trait Transmit {
    /// Sends one frame, whose offload fits it. Never blocks: a full device drops.
    fn transmit(&mut self, frame: &mut [u8], offload: Offload);
}

/// What a frame from the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing more is to be done with it.
    Done,
    /// It brings an IP packet for whoever routes here.
    Packet,
}

/// What somebody should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Another station has the address; it is not used.
    Conflict {
        /// The address.
        address: IpAddr,
        /// Who has it.
        mac: MacAddr,
    },
    /// Another station uses the address, which is ours.
    Defended {
        /// The address.
        address: IpAddr,
        /// Who uses it.
        mac: MacAddr,
    },
    /// The address is ours from now on.
    Ready(IpNet),
}

/// A packet whose next hop is not to be had.
#[derive(Debug)]
pub struct Undelivered {
    /// The packet, from its IP header on.
    pub packet: Vec<u8>,
    /// Why it goes nowhere.
    pub refusal: Refusal,
}

/// What a station counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets for which there was no room while their neighbour was asked for, or no room for the neighbour.
    pub neighbours_full: u64,
    /// Packets whose neighbour did not answer.
    pub unreachable: u64,
    /// Packets to which no prefix and no gateway leads.
    pub no_route: u64,
    /// Echo requests to our own addresses.
    pub echoes: u64,
}

impl Counters {
    /// Every counter with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let Self {
            neighbours_full,
            unreachable,
            no_route,
            echoes,
        } = *self;
        [
            ("uplink_neighbours_full", neighbours_full),
            ("uplink_unreachable", unreachable),
            ("uplink_no_route", no_route),
            ("uplink_echoes", echoes),
        ]
        .into_iter()
    }
}

impl Station {
    /// A station that wants these addresses; off its subnets it sends to these gateways, one of each version at most.
    /// With an IPv6 address it also has the link-local one of its MAC.
    pub fn new(now: Instant, mac: MacAddr, nets: &[IpNet], gateways: &[IpAddr]) -> Self {
        let has_v6 = nets.iter().any(|net| net.addr().is_ipv6());
        let link_local = Ipv6Net::new(mac.link_local(), 64).ok().map(IpNet::V6);
        let link_local = link_local.filter(|_| has_v6);
        Self {
            mac,
            gateways: gateways.to_vec(),
            addresses: Addresses::new(now, nets.iter().copied().chain(link_local)),
            neighbours: Neighbours::new(gateways.to_vec()),
            events: VecDeque::new(),
            undelivered: VecDeque::new(),
            counters: Counters::default(),
            reported: None,
            frame: Vec::with_capacity(FRAME_CAPACITY),
        }
    }

    /// Its Ethernet address.
    pub const fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Every address with its prefix, and how far we are with it; the link-local one too.
    pub fn addresses(&self) -> impl Iterator<Item = (IpNet, Standing)> {
        self.addresses.iter()
    }

    /// The addresses that are ours and can be reached from beyond the link.
    pub fn usable(&self) -> impl Iterator<Item = IpNet> {
        self.addresses.usable().filter(|net| !is_link_local(net.addr()))
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Number of neighbours that are known or asked for.
    pub fn neighbours(&self) -> usize {
        self.neighbours.len()
    }

    /// Takes a frame from the link.
    pub fn handle_frame(&mut self, now: Instant, frame: &[u8], out: &mut impl Transmit) -> Arrival {
        let Ok((&ethernet, payload)) = EthernetHeader::parse(frame) else {
            return Arrival::Done;
        };
        let is_ours = ethernet.dst == self.mac;
        // Nobody else may send with our address; it would be an echo of ourselves.
        if ethernet.src == self.mac
            || ethernet.src.is_multicast()
            || !(is_ours || ethernet.dst.is_multicast())
        {
            return Arrival::Done;
        }
        match ethernet.ethertype {
            EtherType::ARP => {
                if let Ok((arp, _)) = ArpPacket::parse(payload) {
                    self.handle_arp(now, arp, out);
                }
                Arrival::Done
            }
            EtherType::IPV4 if is_ours => Arrival::Packet,
            EtherType::IPV6 => self.handle_ipv6(now, &ethernet, payload, out),
            _ => Arrival::Done,
        }
    }

    /// Takes a packet that is for one of our own addresses and nobody's business but ours: answers an echo request.
    pub fn handle_local(&mut self, frame: &[u8], out: &mut impl Transmit) {
        let Ok((ethernet, payload)) = EthernetHeader::parse(frame) else {
            return;
        };
        let stations = Stations {
            src: self.mac,
            dst: ethernet.src,
        };
        let answer = match ethernet.ethertype {
            EtherType::IPV4 => Ipv4Packet::parse(payload)
                .ok()
                .filter(|packet| self.addresses.is_usable(packet.header().dst().into()))
                .and_then(|packet| icmp::answer_v4(stations, &packet, &mut self.frame)),
            EtherType::IPV6 => Ipv6Packet::parse(payload)
                .ok()
                .filter(|packet| self.addresses.is_usable(packet.header().dst().into()))
                .and_then(|packet| icmp::answer_v6(stations, &packet, &mut self.frame)),
            _ => None,
        };
        // What nobody asked for stays unanswered, as with everything that comes from outside.
        if let Some(Ok(())) = answer {
            self.counters.echoes += 1;
            out.transmit(&mut self.frame, Offload::NONE);
        }
    }

    /// Sends the IP packet in `frame`, which has room for an Ethernet header in front. `offload` counts from the
    /// frame's first byte.
    #[inline]
    pub fn send(&mut self, now: Instant, frame: &mut [u8], offload: Offload, out: &mut impl Transmit) {
        let Some((dst, ethertype)) = destination(frame) else {
            return;
        };
        let Some(hop) = self.next_hop(dst) else {
            self.counters.no_route += 1;
            self.give_up(&frame[EthernetHeader::LEN..], Refusal::NoRoute);
            return;
        };
        match self.neighbours.resolve(now, hop) {
            Resolution::Known(mac) => {
                address(frame, mac, self.mac, ethertype);
                out.transmit(frame, offload);
            }
            Resolution::Unknown => {
                let mut frame = frame.to_vec();
                address(&mut frame, MacAddr::ZERO, self.mac, ethertype);
                if !self.neighbours.wait(hop, Waiting { frame, offload }) {
                    self.counters.neighbours_full += 1;
                }
                self.settle_neighbours(now, out);
            }
            Resolution::Full => self.counters.neighbours_full += 1,
        }
    }

    /// The time by which [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let neighbours = self.neighbours.poll_timeout();
        self.addresses.poll_timeout().into_iter().chain(neighbours).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl Transmit) {
        while let Some((act, event)) = self.addresses.poll_due(now) {
            self.events.extend(event);
            // RFC 4862 §5.4.2: a group is joined before its address is tested. Reports without an address (RFC 3590) are
            // nothing to some switches, so it is told again from the link-local one.
            if let Some(Act::Announce(IpAddr::V6(_)) | Act::Probe(IpAddr::V6(_))) = act {
                self.report_groups(Occasion::Joined, out);
            }
            if let Some(act) = act {
                self.perform(act, out);
            }
        }
        self.settle_neighbours(now, out);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next packet whose sender is to be told that it went nowhere.
    pub fn poll_undelivered(&mut self) -> Option<Undelivered> {
        self.undelivered.pop_front()
    }

    fn handle_arp(&mut self, now: Instant, arp: &ArpPacket, out: &mut impl Transmit) {
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

    fn handle_ipv6(
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
        for Waiting { mut frame, offload } in self.neighbours.note(now, address, mac, evidence) {
            frame[..6].copy_from_slice(&mac.0);
            out.transmit(&mut frame, offload);
        }
    }

    /// Asks neighbours that are to be asked, and gives up those that do not answer.
    fn settle_neighbours(&mut self, now: Instant, out: &mut impl Transmit) {
        while let Some(due) = self.neighbours.poll_due(now) {
            match due {
                Due::Ask(address, mac) => self.ask(address, mac, out),
                Due::Failed(waiting) => {
                    self.counters.unreachable += waiting.len() as u64;
                    for waiting in waiting {
                        self.give_up(&waiting.frame[EthernetHeader::LEN..], Refusal::HostUnreachable);
                    }
                }
            }
        }
    }

    fn give_up(&mut self, packet: &[u8], refusal: Refusal) {
        if self.undelivered.len() < UNDELIVERED {
            // An error quotes the beginning only, but a packet is read whole before one is made.
            let packet = packet.to_vec();
            self.undelivered.push_back(Undelivered { packet, refusal });
        }
    }

    fn next_hop(&self, dst: IpAddr) -> Option<IpAddr> {
        if self.addresses.is_on_link(dst) {
            return Some(dst);
        }
        let mut gateways = self.gateways.iter().copied();
        gateways.find(|gateway| gateway.is_ipv4() == dst.is_ipv4())
    }

    fn perform(&mut self, act: Act, out: &mut impl Transmit) {
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
    fn report_groups(&mut self, occasion: Occasion, out: &mut impl Transmit) {
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
    fn ask(&mut self, neighbour: IpAddr, mac: Option<MacAddr>, out: &mut impl Transmit) {
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
    fn advertise(&mut self, target: Ipv6Addr, asker: Option<(Ipv6Addr, MacAddr)>, out: &mut impl Transmit) {
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
fn begin(frame: &mut Vec<u8>, dst: MacAddr, src: MacAddr, ethertype: EtherType) {
    frame.clear();
    frame.extend_from_slice(EthernetHeader { dst, src, ethertype }.as_bytes());
}

/// Writes the Ethernet header into its room.
#[inline]
fn address(frame: &mut [u8], dst: MacAddr, src: MacAddr, ethertype: EtherType) {
    let header = EthernetHeader { dst, src, ethertype };
    frame[..EthernetHeader::LEN].copy_from_slice(header.as_bytes());
}

/// Where the packet in a frame is addressed to, and what it is.
#[inline]
pub(crate) fn destination(frame: &[u8]) -> Option<(IpAddr, EtherType)> {
    destination_of(frame.get(EthernetHeader::LEN..)?)
}

/// Where a packet is addressed to, and what it is.
#[inline]
pub(crate) fn destination_of(packet: &[u8]) -> Option<(IpAddr, EtherType)> {
    match packet.first()? >> 4 {
        4 => {
            let dst: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some((dst.into(), EtherType::IPV4))
        }
        6 => {
            let dst: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some((dst.into(), EtherType::IPV6))
        }
        _ => None,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Whether it can be the address of one station.
fn is_station(mac: MacAddr) -> bool {
    !mac.is_multicast() && !mac.is_zero()
}

fn is_unicast_v4(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_broadcast())
}

/// The longest answer: an echo of the largest packet.
const FRAME_CAPACITY: usize = vswitch_wire::MAX_FRAME;

/// Between answers to routers that ask for membership in groups.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Packets whose senders wait to be told; beyond that they are not.
const UNDELIVERED: usize = 64;

#[cfg(test)]
mod tests;
