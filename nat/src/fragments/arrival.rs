//! Fragments as they are read.

use vswitch_wire::{IpProtocol, IpVersion, Ipv4Packet, Ipv6Packet, reassembly::Piece};

use crate::{Address, DropReason, Zone, packet::Packet};

/// Which datagram a fragment is of (N-FR-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) src: Address,
    pub(super) dst: Address,
    pub(super) id: u32,
    pub(super) zone: Zone,
    /// Of IPv4; RFC 8200 §4.5 does not have it among the three, and fragments after the first may say what they like.
    pub(super) protocol: u8,
    pub(super) version: IpVersion,
}

impl Key {
    /// Whose limits it is under.
    pub(super) const fn source(&self) -> (Zone, Address) {
        (self.zone, self.src)
    }
}

/// A fragment.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) key: Key,
    pub(super) piece: Piece<'a>,
    /// What all fragments of the datagram begin with: the IP header with its options or with those extension headers that
    /// come before the fragment header.
    pub(super) head: &'a [u8],
    /// Of IPv6: where in `head` the next header field is that names the fragment header, and what that has in its own.
    pub(super) link: (usize, IpProtocol),
    /// Bytes of the fragment.
    pub(super) len: usize,
    pub(super) dont_fragment: bool,
    /// The two bits of RFC 3168 §5.
    pub(super) ecn: u8,
}

impl<'a> Arrival<'a> {
    /// Reads a fragment.
    ///
    /// # Errors
    ///
    /// [`DropReason::Malformed`]: it cannot be one (N-FR-3), or the first of IPv6 has less than the whole header chain (N-FR-4).
    pub(super) fn parse(zone: Zone, bytes: &'a [u8], packet: &Packet) -> Result<Self, DropReason> {
        match packet.version {
            IpVersion::V4 => Self::v4(zone, bytes, packet),
            IpVersion::V6 => Self::v6(zone, bytes, packet),
        }
    }

    fn v4(zone: Zone, bytes: &'a [u8], packet: &Packet) -> Result<Self, DropReason> {
        let view = Ipv4Packet::parse(bytes)?;
        let header = view.header();
        let fragment = header.fragment().ok_or(DropReason::Malformed)?;
        let piece = Piece::new(fragment.offset, fragment.more, view.payload());
        let head = bytes.get(..header.header_len());
        Ok(Self {
            key: Key {
                src: packet.src,
                dst: packet.dst,
                id: fragment.id,
                zone,
                protocol: header.protocol().0,
                version: IpVersion::V4,
            },
            piece: piece.ok_or(DropReason::Malformed)?,
            head: head.ok_or(DropReason::Malformed)?,
            link: (0, IpProtocol(0)),
            len: packet.len,
            dont_fragment: header.dont_fragment(),
            ecn: header.tos() & ECN,
        })
    }

    fn v6(zone: Zone, bytes: &'a [u8], packet: &Packet) -> Result<Self, DropReason> {
        let view = Ipv6Packet::parse(bytes)?;
        let placed = view.fragment().ok_or(DropReason::Malformed)?;
        let fragment = placed.fragment;
        let is_alone = fragment.is_whole();
        if is_alone || (fragment.is_first() && packet.transport_len() < upper_header_len(packet.protocol)) {
            return Err(DropReason::Malformed);
        }
        let piece = Piece::new(fragment.offset, fragment.more, placed.payload);
        let head = bytes.get(..placed.header_at);
        Ok(Self {
            key: Key {
                src: packet.src,
                dst: packet.dst,
                id: fragment.id,
                zone,
                protocol: 0,
                version: IpVersion::V6,
            },
            piece: piece.ok_or(DropReason::Malformed)?,
            head: head.ok_or(DropReason::Malformed)?,
            link: (placed.link, placed.next_header),
            len: packet.len,
            dont_fragment: false,
            ecn: view.header().traffic_class() & ECN,
        })
    }
}

/// RFC 7112 §5: "When a host fragments an IPv6 datagram, it MUST include the entire IPv6 Header Chain in the First
/// Fragment", of which the upper layer's header is the end.
const fn upper_header_len(protocol: IpProtocol) -> usize {
    match protocol {
        IpProtocol::TCP => vswitch_wire::TcpHeader::LEN,
        IpProtocol::UDP | IpProtocol::ICMPV6 => vswitch_wire::UdpHeader::LEN,
        // RFC 9260 §3.1.
        IpProtocol::SCTP => 12,
        _ => 0,
    }
}

/// Of the type of service or traffic class.
const ECN: u8 = 0x03;
