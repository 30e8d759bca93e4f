//! Neighbour discovery for IPv6 (RFC 4861).

use std::net::Ipv6Addr;

use crate::{
    IcmpHeader, Icmpv6Packet, IpProtocol, Ipv6Header, Ipv6Packet, MacAddr, Malformed, NoRoom, icmp, icmpv6,
};

/// A neighbour discovery message that passed the validity checks of its RFC.
#[derive(Clone, Debug)]
pub enum NdpMessage<'a> {
    /// A node tells its link-layer address (§4.4).
    NeighborAdvertisement {
        /// The node is a router.
        router: bool,
        /// It answers a solicitation.
        solicited: bool,
        /// It overrides what caches hold.
        overrides: bool,
        /// The address it is about.
        target: Ipv6Addr,
        /// Options.
        options: NdpOptions<'a>,
    },
    /// A node asks for a link-layer address (§4.3).
    NeighborSolicitation {
        /// The address it is about.
        target: Ipv6Addr,
        /// Options.
        options: NdpOptions<'a>,
    },
    /// A router tells of a better first hop (§4.5).
    Redirect {
        /// The better first hop.
        target: Ipv6Addr,
        /// The destination it is better for.
        destination: Ipv6Addr,
        /// Options.
        options: NdpOptions<'a>,
    },
    /// A router tells about itself and its prefixes (§4.2).
    RouterAdvertisement {
        /// Hop limit that hosts are to use; 0 for unspecified.
        hop_limit: u8,
        /// Addresses come by DHCPv6.
        managed: bool,
        /// Other configuration comes by DHCPv6.
        other: bool,
        /// Seconds that the router may serve as default router; 0 if it may not.
        lifetime: u16,
        /// Options.
        options: NdpOptions<'a>,
    },
    /// A host asks for router advertisements (§4.1).
    RouterSolicitation {
        /// Options.
        options: NdpOptions<'a>,
    },
}

impl<'a> NdpMessage<'a> {
    /// Reads the message in a packet, behind extension headers too, or `None` if it carries something else.
    ///
    /// # Errors
    /// What §6.1.1, §6.1.2, §7.1.1, §7.1.2 and §8.1 tell a node to discard: a hop limit other than 255
    /// ([`Malformed::HopLimit`]), a wrong checksum, a code other than 0 ([`Malformed::Type`]), a message cut
    /// short, an option of length 0, addresses that do not fit the message ([`Malformed::Address`]). Also
    /// fragments ([`Malformed::Fragment`]), which RFC 6980 §5 tells nodes to ignore, and malformed packets.
    pub fn parse(packet: &Ipv6Packet<'a>) -> Result<Option<Self>, Malformed> {
        let upper_layer = packet.upper_layer()?;
        if upper_layer.protocol != IpProtocol::ICMPV6 || !upper_layer.has_transport_header() {
            return Ok(None);
        }
        let bytes = &packet.payload()[upper_layer.offset - Ipv6Header::LEN..];
        let icmp = Icmpv6Packet::parse(bytes)?;
        let kind = icmp.header().kind();
        if !(ROUTER_SOLICITATION..=REDIRECT).contains(&kind) {
            return Ok(None);
        }
        if upper_layer.fragment.is_some() {
            return Err(Malformed::Fragment);
        }
        let (src, dst) = (packet.header().src(), packet.header().dst());
        if packet.header().hop_limit() != HOP_LIMIT {
            return Err(Malformed::HopLimit);
        }
        if icmp.header().code() != 0 {
            return Err(Malformed::Type);
        }
        if !icmp.has_valid_checksum(src, dst) {
            return Err(Malformed::Checksum);
        }
        let message = Self::read(kind, &icmp)?;
        message.options().check()?;
        if !message.has_valid_addresses(src, dst) {
            return Err(Malformed::Address);
        }
        Ok(Some(message))
    }

    fn read(kind: u8, icmp: &Icmpv6Packet<'a>) -> Result<Self, Malformed> {
        let [first, flags, lifetime @ ..] = icmp.header().rest();
        let body = icmp.payload();
        Ok(match kind {
            ROUTER_SOLICITATION => Self::RouterSolicitation {
                options: NdpOptions { rest: body },
            },
            ROUTER_ADVERTISEMENT => Self::RouterAdvertisement {
                hop_limit: first,
                managed: flags & 0x80 != 0,
                other: flags & 0x40 != 0,
                lifetime: u16::from_be_bytes(lifetime),
                // Reachable time and retransmission timer are skipped.
                options: NdpOptions {
                    rest: body.get(8..).ok_or(Malformed::Truncated)?,
                },
            },
            NEIGHBOR_SOLICITATION => {
                let (target, rest) = read_address(body)?;
                Self::NeighborSolicitation {
                    target,
                    options: NdpOptions { rest },
                }
            }
            NEIGHBOR_ADVERTISEMENT => {
                let (target, rest) = read_address(body)?;
                Self::NeighborAdvertisement {
                    router: first & 0x80 != 0,
                    solicited: first & 0x40 != 0,
                    overrides: first & 0x20 != 0,
                    target,
                    options: NdpOptions { rest },
                }
            }
            _ => {
                let (target, rest) = read_address(body)?;
                let (destination, rest) = read_address(rest)?;
                Self::Redirect {
                    target,
                    destination,
                    options: NdpOptions { rest },
                }
            }
        })
    }

    /// The options of the message.
    pub fn options(&self) -> NdpOptions<'a> {
        match self {
            Self::NeighborAdvertisement { options, .. }
            | Self::NeighborSolicitation { options, .. }
            | Self::Redirect { options, .. }
            | Self::RouterAdvertisement { options, .. }
            | Self::RouterSolicitation { options } => options.clone(),
        }
    }

    /// Link-layer address of the sender, from the source link-layer option.
    pub fn source_mac(&self) -> Option<MacAddr> {
        self.options().find_map(|option| match option {
            Ok(NdpOption::SourceLinkLayer(mac)) => Some(mac),
            _ => None,
        })
    }

    /// Link-layer address of the target, from the target link-layer option.
    pub fn target_mac(&self) -> Option<MacAddr> {
        self.options().find_map(|option| match option {
            Ok(NdpOption::TargetLinkLayer(mac)) => Some(mac),
            _ => None,
        })
    }

    fn has_valid_addresses(&self, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
        match self {
            Self::NeighborAdvertisement {
                solicited, target, ..
            } => {
                // §7.1.2: "If the IP Destination Address is a multicast address the Solicited flag is zero."
                !target.is_multicast() && (!dst.is_multicast() || !solicited)
            }
            Self::NeighborSolicitation { target, .. } => {
                // §7.1.1: from the unspecified address (duplicate address detection) only to a
                // solicited-node group, and without a source link-layer address.
                !target.is_multicast()
                    && (!src.is_unspecified() || (is_solicited_node(dst) && self.source_mac().is_none()))
            }
            Self::Redirect {
                target, destination, ..
            } => {
                // §8.1: the target is a router (link-local) or the destination itself.
                src.is_unicast_link_local()
                    && !destination.is_multicast()
                    && (target.is_unicast_link_local() || target == destination)
            }
            Self::RouterAdvertisement { .. } => src.is_unicast_link_local(),
            Self::RouterSolicitation { .. } => !src.is_unspecified() || self.source_mac().is_none(),
        }
    }
}

/// The solicited-node group of an address (RFC 4291 §2.7.1): `ff02::1:ffXX:XXXX`.
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The Ethernet group that an IPv6 group is sent to (RFC 2464 §7): `33:33` and its last four bytes.
pub fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

fn is_solicited_node(address: Ipv6Addr) -> bool {
    solicited_node(address) == address
}

/// One option of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NdpOption<'a> {
    /// MTU of the link in bytes (§4.6.4).
    Mtu(u32),
    /// Any other option.
    Other {
        /// The option's number.
        kind: u8,
        /// What follows type and length.
        data: &'a [u8],
    },
    /// A prefix of the link (§4.6.2).
    Prefix(PrefixInformation),
    /// The packet that caused a redirect, as much as was sent (§4.6.3).
    RedirectedHeader(&'a [u8]),
    /// Link-layer address of the sender (§4.6.1).
    SourceLinkLayer(MacAddr),
    /// Link-layer address of the target (§4.6.1).
    TargetLinkLayer(MacAddr),
}

/// A prefix that a router advertises (§4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixInformation {
    /// The prefix; bits beyond its length are to be ignored.
    pub prefix: Ipv6Addr,
    /// Bits of the prefix as sent, 0–255.
    pub len: u8,
    /// The prefix is on the link.
    pub on_link: bool,
    /// Hosts may make addresses of it (RFC 4862).
    pub autonomous: bool,
    /// Seconds; `u32::MAX` for ever.
    pub valid_lifetime: u32,
    /// Seconds; `u32::MAX` for ever.
    pub preferred_lifetime: u32,
}

/// Iterator over the options of a message, which ends after the first malformed one.
#[derive(Clone, Debug)]
pub struct NdpOptions<'a> {
    rest: &'a [u8],
}

impl<'a> NdpOptions<'a> {
    /// Over bytes that were cut from a message otherwise.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn check(mut self) -> Result<(), Malformed> {
        self.try_for_each(|option| option.map(|_| ()))
    }
}

impl<'a> Iterator for NdpOptions<'a> {
    type Item = Result<NdpOption<'a>, Malformed>;

    /// §4.6: "The value 0 is invalid. Nodes MUST silently discard an ND packet that contains an option with
    /// length zero."
    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.rest);
        match *bytes {
            [] => None,
            [kind, len, ..] if len != 0 && usize::from(len) * 8 <= bytes.len() => {
                let (option, rest) = bytes.split_at(usize::from(len) * 8);
                self.rest = rest;
                Some(Ok(NdpOption::read(kind, &option[2..])))
            }
            _ => Some(Err(Malformed::OptionLength)),
        }
    }
}

impl<'a> NdpOption<'a> {
    /// An option whose length is not its kind's is an unknown one.
    fn read(kind: u8, data: &'a [u8]) -> Self {
        match (kind, data) {
            (SOURCE_LINK_LAYER, &[a, b, c, d, e, f]) => Self::SourceLinkLayer(MacAddr([a, b, c, d, e, f])),
            (TARGET_LINK_LAYER, &[a, b, c, d, e, f]) => Self::TargetLinkLayer(MacAddr([a, b, c, d, e, f])),
            (PREFIX, &[len, flags, ref rest @ ..]) => match PrefixInformation::read(len, flags, rest) {
                Some(prefix) => Self::Prefix(prefix),
                None => Self::Other { kind, data },
            },
            (REDIRECTED_HEADER, [_, _, _, _, _, _, packet @ ..]) => Self::RedirectedHeader(packet),
            (MTU, &[_, _, a, b, c, d]) => Self::Mtu(u32::from_be_bytes([a, b, c, d])),
            _ => Self::Other { kind, data },
        }
    }
}

impl PrefixInformation {
    fn read(len: u8, flags: u8, rest: &[u8]) -> Option<Self> {
        let (&valid, rest) = rest.split_first_chunk::<4>()?;
        let (&preferred, rest) = rest.split_first_chunk::<4>()?;
        let (_reserved, rest) = rest.split_first_chunk::<4>()?;
        let (&prefix, []) = rest.split_first_chunk::<16>()? else {
            return None;
        };
        Some(Self {
            prefix: prefix.into(),
            len,
            on_link: flags & 0x80 != 0,
            autonomous: flags & 0x40 != 0,
            valid_lifetime: u32::from_be_bytes(valid),
            preferred_lifetime: u32::from_be_bytes(preferred),
        })
    }
}

/// A neighbour advertisement to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborAdvertisement {
    /// We are a router.
    pub router: bool,
    /// It answers a solicitation from a specified address.
    pub solicited: bool,
    /// It overrides what caches hold.
    pub overrides: bool,
    /// The address it is about.
    pub target: Ipv6Addr,
    /// Where `target` is.
    pub mac: MacAddr,
}

impl NeighborAdvertisement {
    /// Bytes of the ICMPv6 message with the target link-layer option.
    pub const LEN: usize = 32;

    /// Writes the message, sent from `src` to `dst` with [`HOP_LIMIT`], to `out` and gives its length.
    ///
    /// # Errors
    /// `out` is shorter than [`NeighborAdvertisement::LEN`].
    pub fn emit(&self, src: Ipv6Addr, dst: Ipv6Addr, out: &mut [u8]) -> Result<usize, NoRoom> {
        let flags =
            u8::from(self.router) << 7 | u8::from(self.solicited) << 6 | u8::from(self.overrides) << 5;
        let header = IcmpHeader::new(NEIGHBOR_ADVERTISEMENT, 0, [flags, 0, 0, 0]);
        emit_neighbor(
            header,
            self.target,
            (TARGET_LINK_LAYER, self.mac),
            (src, dst),
            out,
        )
    }
}

/// A neighbour solicitation to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborSolicitation {
    /// The address that is asked for.
    pub target: Ipv6Addr,
    /// Where we are.
    pub mac: MacAddr,
}

impl NeighborSolicitation {
    /// Bytes of the ICMPv6 message with the source link-layer option.
    pub const LEN: usize = 32;

    /// Writes the message, sent from `src` (a specified address) to `dst` with [`HOP_LIMIT`], to `out` and
    /// gives its length.
    ///
    /// # Errors
    /// `out` is shorter than [`NeighborSolicitation::LEN`].
    pub fn emit(&self, src: Ipv6Addr, dst: Ipv6Addr, out: &mut [u8]) -> Result<usize, NoRoom> {
        let header = IcmpHeader::new(NEIGHBOR_SOLICITATION, 0, [0; 4]);
        emit_neighbor(
            header,
            self.target,
            (SOURCE_LINK_LAYER, self.mac),
            (src, dst),
            out,
        )
    }
}

/// A neighbour solicitation by which a node finds out whether an address is free (RFC 4862 §5.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressProbe {
    /// The address that the node wants.
    pub target: Ipv6Addr,
}

impl AddressProbe {
    /// Bytes of the ICMPv6 message, which has no option.
    pub const LEN: usize = 24;

    /// Writes the message, sent from the unspecified address to the target's [`solicited_node`] group with
    /// [`HOP_LIMIT`], to `out` and gives its length.
    ///
    /// # Errors
    /// `out` is shorter than [`AddressProbe::LEN`].
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        let header = IcmpHeader::new(NEIGHBOR_SOLICITATION, 0, [0; 4]);
        let (src, dst) = (Ipv6Addr::UNSPECIFIED, solicited_node(self.target));
        let sum = icmpv6::pseudo_header(src, dst, Self::LEN);
        icmp::emit(header, &self.target.octets(), sum, out)
    }
}

fn emit_neighbor(
    header: IcmpHeader,
    target: Ipv6Addr,
    (kind, mac): (u8, MacAddr),
    (src, dst): (Ipv6Addr, Ipv6Addr),
    out: &mut [u8],
) -> Result<usize, NoRoom> {
    let mut body = [0; 24];
    body[..16].copy_from_slice(&target.octets());
    body[16..18].copy_from_slice(&[kind, 1]);
    body[18..].copy_from_slice(&mac.0);
    icmp::emit(
        header,
        &body,
        icmpv6::pseudo_header(src, dst, IcmpHeader::LEN + body.len()),
        out,
    )
}

fn read_address(bytes: &[u8]) -> Result<(Ipv6Addr, &[u8]), Malformed> {
    let (address, rest) = bytes.split_first_chunk::<16>().ok_or(Malformed::Truncated)?;
    Ok(((*address).into(), rest))
}

/// Hop limit of every neighbour discovery packet: proof that no router forwarded it (§3.1).
pub const HOP_LIMIT: u8 = 255;

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const PREFIX: u8 = 3;
const REDIRECTED_HEADER: u8 = 4;
const MTU: u8 = 5;

#[cfg(test)]
mod tests;
