//! Builders of frames with happy defaults: change what the test is about, then take [`Frame::bytes`].
//!
//! Checksums and lengths are right unless a test spoils them. Nothing here uses the code under test but
//! for [`MacAddr`]: sums come from etherparse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::checksum::Sum16BitWords;
use vswitch_wire::MacAddr;

/// The address of station number `n`: `02:00:00:00:00:0n`.
pub const fn mac(n: u8) -> MacAddr {
    MacAddr([0x02, 0, 0, 0, 0, n])
}

/// 802.1Q tag protocol.
pub const VLAN: u16 = 0x8100;
/// 802.1ad service tag protocol.
pub const SERVICE_VLAN: u16 = 0x88a8;
/// Ethertype for local experiments (IEEE 802 §9.2), which no stack takes.
pub const EXPERIMENTAL: u16 = 0x88b5;
/// IPv6's all-nodes group.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An Ethernet frame in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// (protocol, control information) of each tag, outermost first.
    pub tags: Vec<(u16, u16)>,
    /// Ethertype, or length of an 802.3 frame.
    pub ethertype: u16,
    /// What follows.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of 60 bytes with an experimental ethertype and 46 times `x` in it.
    pub fn new(src: MacAddr, dst: MacAddr) -> Self {
        Self {
            dst,
            src,
            tags: Vec::new(),
            ethertype: EXPERIMENTAL,
            payload: vec![b'x'; 46],
        }
    }

    /// Puts an 802.1Q tag in front of those that are there.
    pub fn tagged(self, vid: u16) -> Self {
        self.tagged_raw(VLAN, vid)
    }

    /// Puts a tag of any protocol and control information in front.
    pub fn tagged_raw(mut self, protocol: u16, tci: u16) -> Self {
        self.tags.insert(0, (protocol, tci));
        self
    }

    /// With this source.
    pub fn from(mut self, src: MacAddr) -> Self {
        self.src = src;
        self
    }

    /// With this destination.
    pub fn to(mut self, dst: MacAddr) -> Self {
        self.dst = dst;
        self
    }

    /// With this ethertype.
    pub fn ethertype(mut self, ethertype: u16) -> Self {
        self.ethertype = ethertype;
        self
    }

    /// With this payload.
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// As an 802.3 frame: the length field counts an LLC header and the old payload.
    pub fn llc(mut self, header: &[u8]) -> Self {
        self.payload.splice(0..0, header.iter().copied());
        self.ethertype = self.payload.len() as u16;
        self
    }

    /// The frame as it would be read from a device.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.dst.0, self.src.0].concat();
        for (protocol, tci) in &self.tags {
            bytes.extend(protocol.to_be_bytes());
            bytes.extend(tci.to_be_bytes());
        }
        bytes.extend(self.ethertype.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Sender.
    pub sender_mac: MacAddr,
    /// Sender.
    pub sender_ip: Ipv4Addr,
    /// Target; zero in requests.
    pub target_mac: MacAddr,
    /// Target.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// Who has `target_ip`?
    pub fn request(sender_mac: MacAddr, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Self {
        Self {
            operation: 1,
            sender_mac,
            sender_ip,
            target_mac: MacAddr::ZERO,
            target_ip,
        }
    }

    /// `sender_ip` is at `sender_mac`.
    pub fn reply(sender_mac: MacAddr, sender_ip: Ipv4Addr, to_mac: MacAddr, to_ip: Ipv4Addr) -> Self {
        Self {
            operation: 2,
            sender_mac,
            sender_ip,
            target_mac: to_mac,
            target_ip: to_ip,
        }
    }

    /// Does anybody have `target_ip` (RFC 5227)?
    pub fn probe(sender_mac: MacAddr, target_ip: Ipv4Addr) -> Self {
        Self::request(sender_mac, Ipv4Addr::UNSPECIFIED, target_ip)
    }

    /// Everybody: `ip` is at `mac`.
    pub fn announcement(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self::request(mac, ip, ip)
    }

    /// The frame: a request goes to everybody, a reply to its target.
    pub fn frame(&self) -> Frame {
        let dst = if self.operation == 1 {
            MacAddr::BROADCAST
        } else {
            self.target_mac
        };
        let mut payload = vec![0, 1, 0x08, 0, 6, 4];
        payload.extend(self.operation.to_be_bytes());
        payload.extend(self.sender_mac.0);
        payload.extend(self.sender_ip.octets());
        payload.extend(self.target_mac.0);
        payload.extend(self.target_ip.octets());
        Frame::new(self.sender_mac, dst)
            .ethertype(0x0806)
            .payload(payload)
    }
}

/// An IPv4 or IPv6 packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Source.
    pub src: IpAddr,
    /// Destination, of the same version.
    pub dst: IpAddr,
    /// Time to live, or hop limit. Default 64; 255 for neighbour discovery.
    pub ttl: u8,
    /// Identification of fragments.
    pub id: u16,
    /// (offset in bytes, more follow) of a fragment.
    pub fragment: Option<(u16, bool)>,
    /// IPv6 extension headers before the fragment header: (protocol number, body after the two leading
    /// bytes, a multiple of 8 with them).
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// What is in it.
    pub upper: Upper,
}

/// The protocol above IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upper {
    /// ICMP of the packet's version: type, code, and all after the checksum.
    Icmp(u8, u8, Vec<u8>),
    /// Any protocol, verbatim.
    Raw(u8, Vec<u8>),
    /// A segment: source port, destination port, flags, payload.
    Tcp(u16, u16, u8, Vec<u8>),
    /// A datagram: source port, destination port, payload.
    Udp(u16, u16, Vec<u8>),
}

impl Packet {
    /// A packet with any content.
    ///
    /// # Panics
    ///
    /// The addresses are of different versions.
    pub fn new(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, upper: Upper) -> Self {
        let (src, dst) = (src.into(), dst.into());
        assert_eq!(src.is_ipv4(), dst.is_ipv4(), "both addresses have one version");
        Self {
            src,
            dst,
            ttl: 64,
            id: 0x4849,
            fragment: None,
            extensions: Vec::new(),
            upper,
        }
    }

    /// A TCP acknowledgement with some payload, from port 40000 to 80.
    pub fn tcp(src: impl Into<IpAddr>, dst: impl Into<IpAddr>) -> Self {
        Self::new(src, dst, Upper::Tcp(40_000, 80, 0x10, b"payload".to_vec()))
    }

    /// A UDP datagram with some payload, from port 40000 to 53.
    pub fn udp(src: impl Into<IpAddr>, dst: impl Into<IpAddr>) -> Self {
        Self::udp_ports(src, dst, 40_000, 53)
    }

    /// A UDP datagram between two ports.
    pub fn udp_ports(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, from: u16, to: u16) -> Self {
        Self::new(src, dst, Upper::Udp(from, to, b"payload!".to_vec()))
    }

    /// An echo request.
    pub fn ping(src: impl Into<IpAddr>, dst: impl Into<IpAddr>) -> Self {
        let src = src.into();
        let kind = if src.is_ipv4() { 8 } else { 128 };
        Self::new(src, dst, Upper::Icmp(kind, 0, b"\x00\x01\x00\x01ping".to_vec()))
    }

    /// What a DHCP client without address says to all servers.
    pub fn dhcp_discover() -> Self {
        Self::udp_ports(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, 68, 67)
    }

    /// A neighbour solicitation for `target` with the source's link-layer address.
    pub fn neighbour_solicitation(src: Ipv6Addr, target: Ipv6Addr, link_layer: MacAddr) -> Self {
        let [.., a, b, c] = target.octets();
        let group = Ipv6Addr::new(
            0xff02,
            0,
            0,
            0,
            0,
            1,
            0xff00 | u16::from(a),
            u16::from_be_bytes([b, c]),
        );
        let body = [&[0; 4], &target.octets()[..], &[1, 1], &link_layer.0].concat();
        Self {
            ttl: 255,
            ..Self::new(src, group, Upper::Icmp(135, 0, body))
        }
    }

    /// Duplicate address detection for `target` (RFC 4862 §5.4.2).
    pub fn duplicate_address_detection(target: Ipv6Addr) -> Self {
        let body = [&[0; 4], &target.octets()[..]].concat();
        Self {
            ttl: 255,
            ..Self::new(Ipv6Addr::UNSPECIFIED, ALL_NODES, Upper::Icmp(135, 0, body))
        }
    }

    /// An unsolicited neighbour advertisement to all nodes: `target` is at `link_layer`.
    pub fn neighbour_advertisement(src: Ipv6Addr, target: Ipv6Addr, link_layer: MacAddr) -> Self {
        let body = [&[0x20, 0, 0, 0], &target.octets()[..], &[2, 1], &link_layer.0].concat();
        Self {
            ttl: 255,
            ..Self::new(src, ALL_NODES, Upper::Icmp(136, 0, body))
        }
    }

    /// A router advertisement to all nodes.
    pub fn router_advertisement(src: Ipv6Addr) -> Self {
        let body = [&[64, 0, 0x07, 0x08], &[0; 8][..]].concat();
        Self {
            ttl: 255,
            ..Self::new(src, ALL_NODES, Upper::Icmp(134, 0, body))
        }
    }

    /// A router's redirect for `destination` by way of `target`.
    pub fn redirect_v6(src: Ipv6Addr, dst: Ipv6Addr, target: Ipv6Addr, destination: Ipv6Addr) -> Self {
        let body = [&[0; 4], &target.octets()[..], &destination.octets()[..]].concat();
        Self {
            ttl: 255,
            ..Self::new(src, dst, Upper::Icmp(137, 0, body))
        }
    }

    /// A fragment of this packet: its content from `offset` is what [`Self::upper`] says, verbatim.
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = Some((offset, more));
        self
    }

    /// Adds an IPv6 extension header with `units` times 8 bytes of zeros (Pad1 options).
    pub fn extended(mut self, protocol: u8, units: u8) -> Self {
        self.extensions
            .push((protocol, vec![0; usize::from(units) * 8 - 2]));
        self
    }

    /// The frame that carries it.
    pub fn frame(&self, src: MacAddr, dst: MacAddr) -> Frame {
        let ethertype = if self.src.is_ipv4() { 0x0800 } else { 0x86dd };
        Frame::new(src, dst).ethertype(ethertype).payload(self.bytes())
    }

    /// The packet.
    pub fn bytes(&self) -> Vec<u8> {
        let (protocol, content) = self.content();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src, dst, protocol, &content),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(src, dst, protocol, &content),
            _ => unreachable!("`new` compares the versions"),
        }
    }

    fn ipv4(&self, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
        let (offset, more) = self.fragment.unwrap_or_default();
        let mut bytes = vec![0x45, 0];
        bytes.extend((20 + content.len() as u16).to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        bytes.extend([self.ttl, protocol, 0, 0]);
        bytes.extend(src.octets());
        bytes.extend(dst.octets());
        let sum = Sum16BitWords::new().add_slice(&bytes).ones_complement().to_be();
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(content);
        bytes
    }

    fn ipv6(&self, src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
        let mut headers: Vec<(u8, Vec<u8>)> = Vec::new();
        for (number, body) in &self.extensions {
            headers.push((*number, [&[(body.len() / 8) as u8], &body[..]].concat()));
        }
        if let Some((offset, more)) = self.fragment {
            let place = (offset & 0xfff8) | u16::from(more);
            headers.push((
                44,
                [&[0], &place.to_be_bytes()[..], &[0, 0], &self.id.to_be_bytes()].concat(),
            ));
        }
        let mut chain = Vec::new();
        for (index, (_, body)) in headers.iter().enumerate() {
            chain.push(headers.get(index + 1).map_or(protocol, |(next, _)| *next));
            chain.extend(body);
        }
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(((chain.len() + content.len()) as u16).to_be_bytes());
        bytes.extend([headers.first().map_or(protocol, |(first, _)| *first), self.ttl]);
        bytes.extend(src.octets());
        bytes.extend(dst.octets());
        bytes.extend(chain);
        bytes.extend(content);
        bytes
    }

    /// Protocol number and bytes above IP.
    fn content(&self) -> (u8, Vec<u8>) {
        match &self.upper {
            Upper::Raw(protocol, bytes) => (*protocol, bytes.clone()),
            Upper::Icmp(kind, code, rest) => {
                let bytes = [&[*kind, *code, 0, 0], &rest[..]].concat();
                if self.src.is_ipv4() {
                    let sum = Sum16BitWords::new().add_slice(&bytes).ones_complement().to_be();
                    (1, with_checksum(bytes, 2, sum))
                } else {
                    let sum = self.sum(58, &bytes);
                    (58, with_checksum(bytes, 2, sum))
                }
            }
            Upper::Tcp(from, to, flags, payload) => {
                let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.extend(payload);
                let sum = self.sum(6, &bytes);
                (6, with_checksum(bytes, 16, sum))
            }
            Upper::Udp(from, to, payload) => {
                let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
                bytes.extend((8 + payload.len() as u16).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(payload);
                let sum = match self.sum(17, &bytes) {
                    0 => 0xffff,
                    sum => sum,
                };
                (17, with_checksum(bytes, 6, sum))
            }
        }
    }

    fn sum(&self, protocol: u8, bytes: &[u8]) -> u16 {
        let sum = Sum16BitWords::new();
        let sum = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => sum.add_slice(&src.octets()).add_slice(&dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => sum.add_slice(&src.octets()).add_slice(&dst.octets()),
            _ => unreachable!("`new` compares the versions"),
        };
        let sum = sum
            .add_2bytes([0, protocol])
            .add_slice(&(bytes.len() as u32).to_be_bytes());
        sum.add_slice(bytes).ones_complement().to_be()
    }
}

fn with_checksum(mut bytes: Vec<u8>, offset: usize, sum: u16) -> Vec<u8> {
    bytes[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketHeaders, TransportHeader};

    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn etherparse_finds_the_checksums_right() {
        let (a6, b6) = (Ipv6Addr::LOCALHOST, ALL_NODES);
        for packet in [
            Packet::tcp(A, B),
            Packet::udp(A, B),
            Packet::ping(A, B),
            Packet::tcp(a6, b6),
            Packet::udp(a6, b6),
            Packet::ping(a6, b6),
            Packet::neighbour_advertisement(a6, a6, mac(1)),
        ] {
            let bytes = packet.frame(mac(1), mac(2)).bytes();
            let headers = PacketHeaders::from_ethernet_slice(&bytes).expect("well-formed");
            let payload = headers.payload.slice();
            let net = headers.net.expect("an IP header");
            let (given, computed) = match headers.transport.expect("a transport header") {
                TransportHeader::Tcp(tcp) => (
                    tcp.checksum,
                    net_v4(&net)
                        .map_or_else(
                            || tcp.calc_checksum_ipv6(&net_v6(&net).expect("IPv6"), payload),
                            |ip| tcp.calc_checksum_ipv4(&ip, payload),
                        )
                        .expect("short"),
                ),
                TransportHeader::Udp(udp) => (
                    udp.checksum,
                    net_v4(&net)
                        .map_or_else(
                            || udp.calc_checksum_ipv6(&net_v6(&net).expect("IPv6"), payload),
                            |ip| udp.calc_checksum_ipv4(&ip, payload),
                        )
                        .expect("short"),
                ),
                TransportHeader::Igmp(_) => panic!("nothing here is IGMP"),
                TransportHeader::Icmpv4(icmp) => (icmp.checksum, icmp.icmp_type.calc_checksum(payload)),
                TransportHeader::Icmpv6(icmp) => {
                    let ip = net_v6(&net).expect("IPv6");
                    let sum = icmp.icmp_type.calc_checksum(ip.source, ip.destination, payload);
                    (icmp.checksum, sum.expect("short"))
                }
            };
            assert_eq!(given, computed, "{packet:?}");
            if let Some(ip) = net_v4(&net) {
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            }
        }
    }

    fn net_v4(net: &etherparse::NetHeaders) -> Option<etherparse::Ipv4Header> {
        net.ipv4_ref().map(|(header, _)| header.clone())
    }

    fn net_v6(net: &etherparse::NetHeaders) -> Option<etherparse::Ipv6Header> {
        net.ipv6_ref().map(|(header, _)| header.clone())
    }
}
