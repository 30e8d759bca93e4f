//! The router address of a network.
//!
//! The gateway is a station of its network: it answers for its addresses by ARP (RFC 826) and neighbour
//! discovery (RFC 4861), answers echo requests, leaves to the relay what that carries on, and says by ICMP why
//! anything else that is sent to it or through it goes nowhere. It is stateless but for its rate limits.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use vswitch_proxy::Hop;
use vswitch_switch::PortId;
use vswitch_wire::{
    ArpOperation, ArpPacket, EtherType, EthernetHeader, IpProtocol, Ipv4Packet, Ipv6Packet, MacAddr, Offload,
    Refusal, Stations, message,
    ndp::{NdpMessage, NeighborAdvertisement, multicast_mac},
    segment,
};
use zerocopy::IntoBytes;

use super::{
    allowance::{Allowance, COST, PORT_COST},
    icmp,
};
use crate::dataplane::NetworkSpec;

/// A network's gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    mac: MacAddr,
    /// Its addresses with the prefixes that are on the link.
    addresses: Vec<IpNet>,
    link_local: Ipv6Addr,
    way_out: WayOut,
    neighbours: Arc<[IpNet]>,
    /// ICMP errors to all stations together, and to each, by the number of its port.
    errors: Allowance,
    errors_by_port: Vec<Allowance>,
    defended: Option<Instant>,
}

/// How packets leave the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WayOut {
    /// Not at all.
    None,
    /// By the relay.
    Relay,
}

/// How a packet came to the gateway.
#[derive(Debug, Clone, Copy)]
struct From {
    station: MacAddr,
    /// Whether the frame was for the gateway's MAC, rather than for a group.
    is_to_us: bool,
}

/// What the gateway has made of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing is to be done.
    Ignored,
    /// The relay is to carry it on.
    Relay(Hop),
    /// There is a frame to send from the gateway's port.
    Replied,
}

/// What is to be done with an IP packet.
#[derive(Debug, Clone, Copy)]
enum Decision {
    Refuse(Refusal, IpAddr),
    Relay(Hop),
    Replied,
}

/// Where a packet that reaches the gateway wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// One of the gateway's own addresses.
    Gateway,
    /// A group or broadcast; nobody routes it and nobody complains.
    Group,
    /// Another station.
    Station,
}

impl Gateway {
    pub(super) fn new(spec: &NetworkSpec) -> Self {
        Self {
            mac: spec.gateway_mac,
            addresses: spec.gateways.clone(),
            link_local: spec.gateway_mac.link_local(),
            way_out: match spec.uplink {
                None => WayOut::None,
                Some(_) => WayOut::Relay,
            },
            neighbours: Arc::new([]),
            errors: Allowance::default(),
            errors_by_port: Vec::new(),
            defended: None,
        }
    }

    pub(super) fn set_neighbours(&mut self, prefixes: Arc<[IpNet]>) {
        self.neighbours = prefixes;
    }

    /// Forgets what it counts of a port.
    pub(super) fn forget(&mut self, port: PortId) {
        if let Some(allowance) = self.errors_by_port.get_mut(port.index()) {
            *allowance = Allowance::default();
        }
    }

    /// The link-local addresses that no container may claim. Subnets cannot be link-local.
    pub(super) fn link_local_addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        [self.link_local].into_iter()
    }

    /// Takes a frame that came in at `ingress` and that the switch has given to the gateway's port. A reply is
    /// in `reply`.
    pub(super) fn handle_frame(
        &mut self,
        now: Instant,
        ingress: PortId,
        frame: &mut [u8],
        offload: Offload,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let Ok((&ethernet, payload)) = EthernetHeader::parse(frame) else {
            return Outcome::Ignored;
        };
        let from = From {
            station: ethernet.src,
            is_to_us: ethernet.dst == self.mac,
        };
        let decision = match ethernet.ethertype {
            EtherType::ARP => self.handle_arp(now, payload, reply),
            EtherType::IPV4 => self.handle_ipv4(from, payload, reply),
            EtherType::IPV6 => self.handle_ipv6(from, payload, reply),
            _ => None,
        };
        match decision {
            None => Outcome::Ignored,
            Some(Decision::Replied) => Outcome::Replied,
            Some(Decision::Relay(hop)) => Outcome::Relay(hop),
            Some(Decision::Refuse(refusal, address)) => {
                match self.report(now, ingress, (frame, offload), (refusal, address), reply) {
                    Some(()) => Outcome::Replied,
                    None => Outcome::Ignored,
                }
            }
        }
    }

    /// Makes an ICMP error about a packet that the relay does not carry on.
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        ingress: PortId,
        (frame, offload): (&mut [u8], Offload),
        refusal: Refusal,
        reply: &mut Vec<u8>,
    ) -> Option<()> {
        let (ethernet, bytes) = EthernetHeader::parse(frame).ok()?;
        let (src, dst) = match ethernet.ethertype {
            EtherType::IPV4 => {
                let header = Ipv4Packet::parse(bytes).ok()?.header();
                (IpAddr::V4(header.src()), IpAddr::V4(header.dst()))
            }
            EtherType::IPV6 => {
                let header = Ipv6Packet::parse(bytes).ok()?.header();
                (IpAddr::V6(header.src()), IpAddr::V6(header.dst()))
            }
            _ => return None,
        };
        let address = self.reporter(src, dst)?;
        self.report(now, ingress, (frame, offload), (refusal, address), reply)
    }

    /// Answers a packet to whatever address it has, as that address; or says why nobody takes it.
    pub(super) fn answer_as_another(&self, frame: &[u8], reply: &mut Vec<u8>) -> Option<Result<(), Refusal>> {
        let (ethernet, bytes) = EthernetHeader::parse(frame).ok()?;
        let stations = Stations {
            src: self.mac,
            dst: ethernet.src,
        };
        match ethernet.ethertype {
            EtherType::IPV4 => icmp::answer_v4(stations, &Ipv4Packet::parse(bytes).ok()?, reply),
            EtherType::IPV6 => icmp::answer_v6(stations, &Ipv6Packet::parse(bytes).ok()?, reply),
            _ => None,
        }
    }

    /// The address that an error about a packet comes from: RFC 4443 §2.2 (a), and Linux for both families,
    /// have the one that the packet was sent to, if it is ours.
    fn reporter(&self, src: IpAddr, dst: IpAddr) -> Option<IpAddr> {
        if self.owns(dst) {
            return Some(dst);
        }
        match src {
            IpAddr::V4(src) => self.address_v4(src).map(IpAddr::V4),
            IpAddr::V6(src) => Some(IpAddr::V6(self.address_v6(src))),
        }
    }

    /// Makes an ICMP error for a port unless its share or that of all is used up. Only an error that is made
    /// costs something.
    fn report(
        &mut self,
        now: Instant,
        port: PortId,
        (frame, offload): (&mut [u8], Offload),
        (refusal, address): (Refusal, IpAddr),
        reply: &mut Vec<u8>,
    ) -> Option<()> {
        if self.errors_by_port.len() <= port.index() {
            self.errors_by_port
                .resize_with(port.index() + 1, Allowance::default);
        }
        let own = &mut self.errors_by_port[port.index()];
        let (paid, own_paid) = (self.errors.after(now, COST)?, own.after(now, PORT_COST)?);
        // What an ICMP error quotes must carry a checksum that its reader can verify (B-OFF-7).
        if let (Some(place), None) = (offload.checksum, offload.gso) {
            segment::complete_checksum(frame, place).ok()?;
        }
        let (ethernet, bytes) = EthernetHeader::parse(frame).ok()?;
        let stations = Stations {
            src: self.mac,
            dst: ethernet.src,
        };
        match address {
            IpAddr::V4(from) => message::report_v4(refusal.v4(), stations, from, bytes, reply)?,
            IpAddr::V6(from) => message::report_v6(refusal.v6(), stations, from, bytes, reply)?,
        }
        (self.errors, *own) = (paid, own_paid);
        Some(())
    }

    fn handle_arp(&mut self, now: Instant, bytes: &[u8], reply: &mut Vec<u8>) -> Option<Decision> {
        let (arp, _) = ArpPacket::parse(bytes).ok()?;
        if self.owns(arp.sender_ip()) {
            // RFC 5227 §2.4 (b): defend the address by one announcement, not more often than every
            // DEFEND_INTERVAL, so that two defenders do not fight for ever.
            if self
                .defended
                .is_some_and(|at| now.saturating_duration_since(at) < DEFEND_INTERVAL)
            {
                return None;
            }
            self.defended = Some(now);
            let announcement = ArpPacket::request(self.mac, arp.sender_ip(), arp.sender_ip());
            begin(reply, MacAddr::BROADCAST, self.mac, EtherType::ARP);
            reply.extend_from_slice(announcement.as_bytes());
            return Some(Decision::Replied);
        }
        // RFC 826: a request for an address of ours is answered, whoever asks; that includes a probe from
        // 0.0.0.0 (RFC 5227 §2.1.1), whose sender must learn that the address is taken.
        if arp.operation() != ArpOperation::Request || !self.owns(arp.target_ip()) {
            return None;
        }
        begin(reply, arp.sender_mac(), self.mac, EtherType::ARP);
        reply.extend_from_slice(arp.reply(self.mac).as_bytes());
        Some(Decision::Replied)
    }

    fn handle_ipv4(&self, from: From, bytes: &[u8], reply: &mut Vec<u8>) -> Option<Decision> {
        // RFC 1812 §5.2.2: a router must verify the header checksum and discard silently.
        let packet = Ipv4Packet::parse(bytes)
            .ok()
            .filter(Ipv4Packet::has_valid_checksum)?;
        let header = packet.header();
        let (src, dst) = (header.src(), header.dst());
        // RFC 1812 §5.3.7: a source that is no unicast address gets no answer of any kind.
        if !from.is_to_us || !is_unicast_v4(src) {
            return None;
        }
        let refusal = match self.target_v4(dst) {
            Target::Group => return None,
            Target::Gateway if self.is_relayed(header.protocol()) => {
                return Some(Decision::Relay(Hop::Gateway));
            }
            Target::Gateway => match icmp::answer_v4(self.stations(from), &packet, reply)? {
                Ok(()) => return Some(Decision::Replied),
                Err(refusal) => refusal,
            },
            // RFC 1812 §5.3.1: TTL is checked for packets that would be forwarded only.
            Target::Station if header.ttl() <= 1 => Refusal::TimeExceeded,
            Target::Station => match self.refusal(IpAddr::V4(dst)) {
                Some(refusal) => refusal,
                None => return Some(Decision::Relay(Hop::Beyond)),
            },
        };
        let address = self.reporter(IpAddr::V4(src), IpAddr::V4(dst))?;
        Some(Decision::Refuse(refusal, address))
    }

    fn handle_ipv6(&self, from: From, bytes: &[u8], reply: &mut Vec<u8>) -> Option<Decision> {
        let packet = Ipv6Packet::parse(bytes).ok()?;
        let header = packet.header();
        let (src, dst) = (header.src(), header.dst());
        if let Ok(Some(NdpMessage::NeighborSolicitation { target, .. })) = NdpMessage::parse(&packet)
            && self.owns(target)
        {
            self.advertise(target, src, from.station, reply)?;
            return Some(Decision::Replied);
        }
        if !from.is_to_us || src.is_unspecified() || src.is_multicast() || src.is_loopback() {
            return None;
        }
        let refusal = match self.target_v6(dst) {
            Target::Group => return None,
            Target::Gateway if self.is_relayed(packet.upper_layer().ok()?.protocol) => {
                return Some(Decision::Relay(Hop::Gateway));
            }
            Target::Gateway => match icmp::answer_v6(self.stations(from), &packet, reply)? {
                Ok(()) => return Some(Decision::Replied),
                Err(refusal) => refusal,
            },
            // RFC 4291 §2.5.6: link-local packets are never forwarded.
            Target::Station if src.is_unicast_link_local() && !dst.is_unicast_link_local() => {
                Refusal::BeyondScope
            }
            Target::Station if header.hop_limit() <= 1 => Refusal::TimeExceeded,
            Target::Station => match self.refusal(IpAddr::V6(dst)) {
                Some(refusal) => refusal,
                None => return Some(Decision::Relay(Hop::Beyond)),
            },
        };
        let address = self.reporter(IpAddr::V6(src), IpAddr::V6(dst))?;
        Some(Decision::Refuse(refusal, address))
    }

    /// Whether packets of that protocol to the gateway itself are the relay's; echo requests are not.
    fn is_relayed(&self, protocol: IpProtocol) -> bool {
        self.way_out == WayOut::Relay && matches!(protocol, IpProtocol::TCP | IpProtocol::UDP)
    }

    fn stations(&self, from: From) -> Stations {
        Stations {
            src: self.mac,
            dst: from.station,
        }
    }

    /// Answers a solicitation from `src` (RFC 4861 §7.2.4): a sender that still tests whether the address is
    /// free has no address of its own, so all nodes are told.
    fn advertise(
        &self,
        target: Ipv6Addr,
        src: Ipv6Addr,
        station: MacAddr,
        reply: &mut Vec<u8>,
    ) -> Option<()> {
        let solicited = !src.is_unspecified();
        let (mac, dst) = match solicited {
            true => (station, src),
            false => (multicast_mac(icmp::ALL_NODES), icmp::ALL_NODES),
        };
        let advertisement = NeighborAdvertisement {
            router: true,
            solicited,
            overrides: true,
            target,
            mac: self.mac,
        };
        icmp::advertise(&advertisement, mac, dst, reply)
    }

    /// Why a packet to another station goes nowhere; `None` if it does go somewhere.
    fn refusal(&self, dst: IpAddr) -> Option<Refusal> {
        let within = |prefixes: &[IpNet]| prefixes.iter().any(|prefix| prefix.contains(&dst));
        if within(&self.addresses) {
            // On the link: whoever sent it to us instead of the station itself has a wrong route.
            return Some(Refusal::HostUnreachable);
        }
        (self.way_out == WayOut::None || within(&self.neighbours)).then_some(Refusal::Prohibited)
    }

    fn target_v4(&self, dst: Ipv4Addr) -> Target {
        let broadcast = self
            .addresses
            .iter()
            .any(|net| matches!(net, IpNet::V4(net) if net.broadcast() == dst));
        if self.owns(dst) {
            Target::Gateway
        } else if broadcast || dst.is_multicast() || dst.is_broadcast() || dst.is_unspecified() {
            Target::Group
        } else {
            Target::Station
        }
    }

    fn target_v6(&self, dst: Ipv6Addr) -> Target {
        if self.owns(dst) {
            Target::Gateway
        } else if dst.is_multicast() || dst.is_unspecified() {
            Target::Group
        } else {
            Target::Station
        }
    }

    fn owns(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        address == self.link_local || self.addresses.iter().any(|net| net.addr() == address)
    }

    /// The gateway's address on the sender's subnet, else its first one.
    fn address_v4(&self, station: Ipv4Addr) -> Option<Ipv4Addr> {
        let mut own = self.addresses.iter().filter_map(|net| match net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        });
        let first = own.clone().next()?;
        Some(own.find(|net| net.contains(&station)).unwrap_or(first).addr())
    }

    /// As [`Gateway::address_v4`]; stations that know us by our link-local address hear from that.
    fn address_v6(&self, station: Ipv6Addr) -> Ipv6Addr {
        let mut own = self.addresses.iter().filter_map(|net| match net {
            IpNet::V6(net) => Some(net),
            IpNet::V4(_) => None,
        });
        own.find(|net| net.contains(&station))
            .map_or(self.link_local, ipnet::Ipv6Net::addr)
    }
}

/// RFC 5227 §1.1.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// Starts a frame anew.
fn begin(reply: &mut Vec<u8>, dst: MacAddr, src: MacAddr, ethertype: EtherType) {
    reply.clear();
    reply.extend_from_slice(EthernetHeader { dst, src, ethertype }.as_bytes());
}

fn is_unicast_v4(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.octets()[0] >= 240)
}

#[cfg(test)]
mod tests;
