//! The anti-spoofing guard of a container's port (B-ARP-1, B-PORT-5).
//!
//! A guarded port may be one MAC and the addresses it was given, and is neither a router nor a DHCP
//! server. What it may send, by protocol:
//!
//! | frame | passes if |
//! | --- | --- |
//! | any | the Ethernet source is the port's MAC |
//! | ARP | sender MAC is the port's, sender IP is assigned; or a probe (RFC 5227) for an assigned address |
//! | IPv4 | the source is assigned; or 0.0.0.0 in a DHCP client's message (UDP 68 to 67) |
//! | IPv6 | the source is assigned or link-local; or `::` in duplicate address detection, MLD, a router solicitation |
//! | UDP | nothing that a DHCP client takes for its server's: not from port 67 or to 68, not from 547 or to 546 |
//! | ICMPv4 | no redirect (5), no router advertisement (9) |
//! | ICMPv6 | no router advertisement (134), no redirect (137); neighbour discovery speaks of the port's own addresses and MAC only |
//! | other | yes: it is bridged |
//!
//! A link-local IPv6 source passes by default, because a kernel may derive its address from the MAC
//! (EUI-64), from a secret (RFC 7217) or at random, and nobody tells us which; but one in the form of EUI-64
//! must be that of the port's own MAC, and [`Guard::forbidden`] names those that belong to others, the
//! gateway's above all. (A random one has that form once in 65 536 times; the kernel's then is not usable.)
//! [`LinkLocal::Eui64`] is stricter.
//!
//! The guard looks behind up to two VLAN tags, an LLC/SNAP header and all IPv6 extension headers; what
//! hides deeper is dropped as malformed. Of a fragmented packet the first fragment is judged, which RFC
//! 7112 obliges to hold all headers; neighbour discovery in fragments is dropped (RFC 6980). For TCP,
//! the hot path, it reads one address at a fixed place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vswitch_wire::{
    ArpOperation, ArpPacket, EtherType, IpProtocol, Ipv4Packet, Ipv6Packet, MacAddr, NetworkLayer,
};

use crate::DropReason;

/// Who a port is allowed to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The only source MAC. It becomes a static entry of the forwarding database at once (B-LRN-11).
    pub mac: MacAddr,
    /// The IPv4 and IPv6 addresses that the port may use.
    pub addresses: Vec<IpAddr>,
    /// Which IPv6 link-local addresses the port may use besides.
    pub link_local: LinkLocal,
    /// Link-local addresses of others, the gateway's above all, which the port may not use.
    pub forbidden: Vec<Ipv6Addr>,
}

/// Which link-local addresses a guarded port may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LinkLocal {
    /// Any of fe80::/64 that is neither forbidden nor the EUI-64 form of another MAC.
    #[default]
    Any,
    /// The one that follows from the MAC (RFC 4291, appendix A).
    Eui64,
}

impl Guard {
    /// One MAC, these addresses, and any link-local one.
    pub fn new(mac: MacAddr, addresses: Vec<IpAddr>) -> Self {
        Self {
            mac,
            addresses,
            link_local: LinkLocal::Any,
            forbidden: Vec::new(),
        }
    }
}

/// A guard, ready to judge frames.
#[derive(Debug)]
pub(crate) struct GuardFilter {
    mac: MacAddr,
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
    /// The link-local address in EUI-64 form.
    eui64: Ipv6Addr,
    link_local: LinkLocal,
    forbidden: Vec<Ipv6Addr>,
}

impl GuardFilter {
    pub(crate) fn new(guard: &Guard) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in &guard.addresses {
            match address {
                IpAddr::V4(address) => v4.push(*address),
                IpAddr::V6(address) => v6.push(*address),
            }
        }
        Self {
            mac: guard.mac,
            v4,
            v6,
            eui64: guard.mac.link_local(),
            link_local: guard.link_local,
            forbidden: guard.forbidden.clone(),
        }
    }

    /// Judges a frame whose Ethernet source is `src`.
    ///
    /// # Errors
    ///
    /// Why the frame must not enter the switch.
    #[inline]
    pub(crate) fn check(&self, src: MacAddr, frame: &[u8]) -> Result<(), DropReason> {
        if src != self.mac {
            return Err(DropReason::SpoofedMac);
        }
        let NetworkLayer { ethertype, offset } =
            NetworkLayer::parse(frame).map_err(|_| DropReason::Malformed)?;
        let payload = frame.get(offset..).unwrap_or_default();
        match ethertype {
            EtherType::IPV4 => self.check_ipv4(payload),
            EtherType::IPV6 => self.check_ipv6(payload),
            EtherType::ARP => self.check_arp(payload),
            other if other.is_tag() => Err(DropReason::Malformed),
            other if other.is_length() => self.check_llc(payload),
            _ => Ok(()),
        }
    }

    #[inline]
    fn check_ipv4(&self, bytes: &[u8]) -> Result<(), DropReason> {
        let packet = Ipv4Packet::parse(bytes).map_err(|_| DropReason::Malformed)?;
        let header = packet.header();
        let is_assigned = self.v4.contains(&header.src());
        if is_assigned && header.protocol() == IpProtocol::TCP {
            return Ok(());
        }
        let fragment = header.fragment();
        if fragment.is_some_and(|fragment| !fragment.is_first()) {
            return if is_assigned {
                Ok(())
            } else {
                Err(DropReason::SpoofedIp)
            };
        }
        match (header.protocol(), packet.payload()) {
            (IpProtocol::UDP, &[a, b, c, d, ..]) => {
                let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                let is_dhcp_client =
                    header.src().is_unspecified() && fragment.is_none() && ports == DHCP_CLIENT_TO_SERVER;
                if is_dhcp_client {
                    return Ok(());
                }
                // A client knows an answer by its own port alone (RFC 2131 §4.1).
                if ports.0 == DHCP_CLIENT_TO_SERVER.1 || ports.1 == DHCP_CLIENT_TO_SERVER.0 {
                    return Err(DropReason::RogueDhcp);
                }
            }
            (IpProtocol::ICMP, &[ICMP_REDIRECT | ICMP_ROUTER_ADVERTISEMENT, ..]) => {
                return Err(DropReason::RogueRouter);
            }
            (IpProtocol::UDP | IpProtocol::ICMP, payload) if payload.len() < 4 => {
                return Err(DropReason::Malformed);
            }
            _ => {}
        }
        if is_assigned {
            Ok(())
        } else {
            Err(DropReason::SpoofedIp)
        }
    }

    #[inline]
    fn check_ipv6(&self, bytes: &[u8]) -> Result<(), DropReason> {
        let packet = Ipv6Packet::parse(bytes).map_err(|_| DropReason::Malformed)?;
        let src = packet.header().src();
        if packet.header().next_header() == IpProtocol::TCP && self.owns_v6(src) {
            return Ok(());
        }
        let upper = packet.upper_layer().map_err(|_| DropReason::Malformed)?;
        let fragment = upper.fragment;
        if fragment.is_some_and(|fragment| !fragment.is_first()) {
            return if self.owns_v6(src) {
                Ok(())
            } else {
                Err(DropReason::SpoofedIp)
            };
        }
        let message = bytes.get(upper.offset..).unwrap_or_default();
        let message_end = packet
            .payload()
            .len()
            .saturating_sub(upper.offset.saturating_sub(IPV6_HEADER_LEN));
        let message = message.get(..message_end).unwrap_or(message);
        match upper.protocol {
            IpProtocol::ICMPV6 => {
                let &[kind, _, _, _, ..] = message else {
                    return Err(DropReason::Malformed);
                };
                if let 133..=137 = kind {
                    if fragment.is_some() {
                        // RFC 6980 §5: "Nodes MUST silently ignore the following Neighbor Discovery […]
                        // messages if the packets carrying them include an IPv6 Fragmentation Header".
                        return Err(DropReason::SpoofedNeighbour);
                    }
                    self.check_neighbour_discovery(kind, src, message)?;
                }
                if src.is_unspecified() && matches!(kind, 131 | 132 | 133 | 135 | 143) {
                    // MLD reports and done, router solicitation, duplicate address detection.
                    return Ok(());
                }
            }
            IpProtocol::UDP => match message {
                &[a, b, c, d, ..] => {
                    let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                    if ports.0 == DHCPV6_SERVER || ports.1 == DHCPV6_CLIENT {
                        return Err(DropReason::RogueDhcp);
                    }
                }
                _ => return Err(DropReason::Malformed),
            },
            _ => {}
        }
        if self.owns_v6(src) {
            Ok(())
        } else {
            Err(DropReason::SpoofedIp)
        }
    }

    /// Messages 133 to 137 (RFC 4861 §4): those of routers are refused, those of hosts must speak of the
    /// port itself.
    fn check_neighbour_discovery(&self, kind: u8, src: Ipv6Addr, message: &[u8]) -> Result<(), DropReason> {
        let (fixed_part, names_sender) = match kind {
            134 | 137 => return Err(DropReason::RogueRouter),
            133 => (8, false),
            // A solicitation from `::` claims its target (RFC 4862 §5.4); any other asks for it.
            135 => (24, src.is_unspecified()),
            _ => (24, true),
        };
        if names_sender {
            let target = message
                .get(8..24)
                .and_then(|octets| <[u8; 16]>::try_from(octets).ok());
            let target = Ipv6Addr::from(target.ok_or(DropReason::Malformed)?);
            if !self.owns_v6(target) {
                return Err(DropReason::SpoofedNeighbour);
            }
        }
        let mut options = message.get(fixed_part..).ok_or(DropReason::Malformed)?;
        while let &[kind, len, ..] = options {
            // RFC 4861 §4.6: length in units of 8 octets; "Nodes MUST silently discard an ND packet that
            // contains an option with length zero."
            let len = usize::from(len) * 8;
            let Some((option, rest)) = options.split_at_checked(len).filter(|_| len > 0) else {
                return Err(DropReason::Malformed);
            };
            let is_link_layer_address = matches!(kind, 1 | 2);
            if is_link_layer_address && option.get(2..8) != Some(&self.mac.0) {
                return Err(DropReason::SpoofedNeighbour);
            }
            options = rest;
        }
        Ok(())
    }

    fn check_arp(&self, bytes: &[u8]) -> Result<(), DropReason> {
        let (arp, _) = ArpPacket::parse(bytes).map_err(|_| DropReason::Malformed)?;
        let sender = arp.sender_ip();
        // RFC 5227 §2.1.1: whoever sees a foreign probe for an address that it is testing itself gives it up.
        let is_own_probe = sender.is_unspecified()
            && arp.operation() == ArpOperation::Request
            && self.v4.contains(&arp.target_ip());
        if arp.sender_mac() == self.mac && (is_own_probe || self.v4.contains(&sender)) {
            Ok(())
        } else {
            Err(DropReason::SpoofedArp)
        }
    }

    /// 802.3 frames are bridged, but SNAP with the OUI of Ethernet (RFC 1042) is only another spelling of
    /// an EtherType.
    fn check_llc(&self, payload: &[u8]) -> Result<(), DropReason> {
        match payload {
            [0xaa, 0xaa, 0x03, 0, 0, 0, hi, lo, rest @ ..] => {
                match EtherType::new(u16::from_be_bytes([*hi, *lo])) {
                    EtherType::IPV4 => self.check_ipv4(rest),
                    EtherType::IPV6 => self.check_ipv6(rest),
                    EtherType::ARP => self.check_arp(rest),
                    other if other.is_tag() => Err(DropReason::Malformed),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn owns_v6(&self, address: Ipv6Addr) -> bool {
        self.v6.contains(&address)
            || address.octets()[..8] == LINK_LOCAL_PREFIX && self.owns_link_local(address)
    }

    fn owns_link_local(&self, address: Ipv6Addr) -> bool {
        let may_be_ours = match self.link_local {
            LinkLocal::Any => address.octets()[11..13] != EUI64_MARK || address == self.eui64,
            LinkLocal::Eui64 => address == self.eui64,
        };
        may_be_ours && !self.forbidden.contains(&address)
    }
}

/// fe80::/64 (RFC 4291 §2.5.6).
const LINK_LOCAL_PREFIX: [u8; 8] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0];
/// In the middle of an interface identifier that was made of a MAC (RFC 4291, appendix A).
const EUI64_MARK: [u8; 2] = [0xff, 0xfe];
const IPV6_HEADER_LEN: usize = 40;
/// RFC 2131 §4.1: 'DHCP server' port 67, 'DHCP client' port 68.
const DHCP_CLIENT_TO_SERVER: (u16, u16) = (68, 67);
/// RFC 8415 §7.2.
const DHCPV6_SERVER: u16 = 547;
/// RFC 8415 §7.2.
const DHCPV6_CLIENT: u16 = 546;
/// RFC 792.
const ICMP_REDIRECT: u8 = 5;
/// RFC 1256.
const ICMP_ROUTER_ADVERTISEMENT: u8 = 9;
