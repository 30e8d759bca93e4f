//! What is never routed.

use vswitch_wire::{IpProtocol, IpVersion, Ipv4Header, Ipv6Header, MAX_EXTENSIONS};

use crate::{Address, DropReason, packet::Packet};

/// Refuses addresses that are never routed, source routes, and what has link scope (N-FWD-8, N-FWD-10, N-FWD-13, N-V6-1 to N-V6-3).
/// Addresses of the engine itself, spoofing and broadcasts of subnets are the caller's to look at.
///
/// # Errors
///
/// [`DropReason::Martian`], [`DropReason::SourceRoute`], [`DropReason::Malformed`] for IPv4 options that cannot be read, because
/// one of them may be a source route.
#[inline]
pub(crate) fn check_scope(bytes: &[u8], packet: &Packet) -> Result<(), DropReason> {
    match packet.version {
        IpVersion::V4 => {
            if !(is_routed_v4(packet.src) && is_routed_v4(packet.dst)) {
                return Err(DropReason::Martian);
            }
            match packet.transport {
                Ipv4Header::LEN => Ok(()),
                _ => check_options(bytes, packet),
            }
        }
        IpVersion::V6 => {
            let is_routed = is_routed_v6(&packet.src) && is_routed_v6(&packet.dst);
            if !is_routed || is_neighbour_discovery(bytes, packet) {
                return Err(DropReason::Martian);
            }
            match packet.transport {
                Ipv6Header::LEN => Ok(()),
                _ => check_extensions(bytes, packet),
            }
        }
    }
}

/// Not 0/8, 127/8, 224/4 (multicast), 240/4 with the limited broadcast, 169.254/16 (RFC 3927 §7: "A router MUST NOT forward
/// a packet with an IPv4 Link-Local source or destination address").
#[inline]
const fn is_routed_v4(address: Address) -> bool {
    let [a, b, ..] = address.low();
    !matches!((a, b), (0 | 127 | 224.., _) | (169, 254))
}

/// Not `::`, `::1` and those that embed an IPv4 address as ours do, nor fe80::/10 and ff00::/8.
#[inline]
pub(super) fn is_routed_v6(address: &Address) -> bool {
    let [a, b, ..] = *address.octets();
    match a {
        0 => !is_special(address),
        0xfe => b & 0xc0 != 0x80,
        a => a != 0xff,
    }
}

#[cold]
fn is_special(address: &Address) -> bool {
    let number = u128::from_be_bytes(*address.octets());
    number <= 1 || address.is_v4()
}

/// N-V6-2. What is forwarded has lost a hop, so that nobody would believe it (RFC 4861 §6.1).
#[inline]
fn is_neighbour_discovery(bytes: &[u8], packet: &Packet) -> bool {
    packet.protocol == IpProtocol::ICMPV6
        && packet.fragment.is_none_or(|fragment| fragment.is_first())
        && matches!(bytes.get(packet.transport), Some(133..=137))
}

#[cold]
fn check_options(bytes: &[u8], packet: &Packet) -> Result<(), DropReason> {
    let options = bytes.get(Ipv4Header::LEN..packet.transport);
    let mut rest = options.ok_or(DropReason::Malformed)?;
    loop {
        match *rest {
            [] | [END_OF_OPTIONS, ..] => return Ok(()),
            [NO_OPERATION, ref after @ ..] => rest = after,
            [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, ..] => return Err(DropReason::SourceRoute),
            [_, len, ..] if len >= 2 => rest = rest.get(len.into()..).ok_or(DropReason::Malformed)?,
            _ => return Err(DropReason::Malformed),
        }
    }
}

/// Looks for a routing header of type 0 (RFC 5095 §3). [`Packet::parse`] has walked the same headers, so the walk ends.
#[cold]
fn check_extensions(bytes: &[u8], packet: &Packet) -> Result<(), DropReason> {
    let chain = bytes.get(..packet.transport).ok_or(DropReason::Malformed)?;
    let mut protocol = IpProtocol(*chain.get(NEXT_HEADER).ok_or(DropReason::Malformed)?);
    let mut rest = chain.get(Ipv6Header::LEN..).unwrap_or_default();
    for _ in 0..=MAX_EXTENSIONS {
        let &[next, len, kind, ..] = rest else {
            return Ok(());
        };
        let header_len = match protocol {
            IpProtocol::ROUTING if kind == 0 => return Err(DropReason::SourceRoute),
            IpProtocol::FRAGMENT => 8,
            IpProtocol::AUTHENTICATION => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        protocol = IpProtocol(next);
        rest = rest.get(header_len..).unwrap_or_default();
    }
    Ok(())
}

/// RFC 791 §3.1.
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
/// Place of the field in the fixed header (RFC 8200 §3).
const NEXT_HEADER: usize = 6;
