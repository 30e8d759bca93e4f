//! The station as a whole: frames in, frames out.

mod hear;
mod say;

use std::{collections::VecDeque, net::IpAddr, time::Instant};

use ipnet::{IpNet, Ipv6Net};
use vswitch_wire::{
    ArpPacket, EtherType, EthernetHeader, Ipv4Packet, Ipv6Packet, MacAddr, Offload, Refusal, Stations,
};
use zerocopy::IntoBytes;

use super::{
    addresses::{Act, Addresses, Standing},
    groups::Occasion,
    neighbours::{Due, Neighbours, Resolution, Sender},
};
use crate::engine::{
    allowance::{Allowance, COST, PORT_COST},
    icmp,
};

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
    /// What senders are told: all, and some of them together.
    errors: Allowance,
    errors_by_sender: [Allowance; SENDERS],
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
            errors: Allowance::default(),
            errors_by_sender: [Allowance::default(); SENDERS],
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

    /// Sends the IP packet in `frame`, which has room for an Ethernet header in front, because of `sender`. `offload`
    /// counts from the frame's first byte.
    #[inline]
    pub fn send(
        &mut self,
        now: Instant,
        sender: Sender,
        (frame, offload): (&mut [u8], Offload),
        out: &mut impl Transmit,
    ) {
        let Some((dst, ethertype)) = destination(frame) else {
            return;
        };
        let Some(hop) = self.next_hop(dst) else {
            self.counters.no_route += 1;
            self.give_up(now, sender, &frame[EthernetHeader::LEN..], Refusal::NoRoute);
            return;
        };
        match self.neighbours.resolve(now, sender, hop) {
            Resolution::Known(mac) => {
                address(frame, mac, self.mac, ethertype);
                out.transmit(frame, offload);
            }
            Resolution::Unknown => {
                address(frame, MacAddr::ZERO, self.mac, ethertype);
                let is_kept = self.neighbours.wait(sender, hop, (frame, offload));
                let displaced = std::mem::take(&mut self.neighbours.displaced);
                self.counters.neighbours_full += u64::from(!is_kept) + displaced;
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

    /// Asks neighbours that are to be asked, and gives up those that do not answer.
    fn settle_neighbours(&mut self, now: Instant, out: &mut impl Transmit) {
        while let Some(due) = self.neighbours.poll_due(now) {
            match due {
                Due::Ask(address, mac) => self.ask(address, mac, out),
                Due::Failed(waiting) => {
                    self.counters.unreachable += waiting.len() as u64;
                    for waiting in waiting {
                        let packet = &waiting.frame[EthernetHeader::LEN..];
                        self.give_up(now, waiting.sender, packet, Refusal::HostUnreachable);
                    }
                }
            }
        }
    }

    /// Has a sender told, if it was not told too often (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
    fn give_up(&mut self, now: Instant, sender: Sender, packet: &[u8], refusal: Refusal) {
        let own = &mut self.errors_by_sender[(sender.0 ^ (sender.0 >> 32)) as usize % SENDERS];
        let paid = self.errors.after(now, COST).zip(own.after(now, PORT_COST));
        if let Some(paid) = paid
            && self.undelivered.len() < UNDELIVERED
        {
            (self.errors, *own) = paid;
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

/// The longest answer: an echo of the largest packet.
const FRAME_CAPACITY: usize = vswitch_wire::MAX_FRAME;

/// Packets whose senders wait to be told; beyond that they are not.
const UNDELIVERED: usize = 64;

/// Parts that senders fall into for the rate of errors, so that one does not take all of it.
const SENDERS: usize = 64;

#[cfg(test)]
mod tests;
