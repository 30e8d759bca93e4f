//! Putting other addresses and ports into a packet, in place, with every checksum that covers them
//! (nat-conformance §9).
//!
//! A checksum is never computed anew but for SCTP's: what a field's replacement changes is taken into it, so that a packet
//! that was damaged before it came here stays wrong and its receiver notices (N-CK-9).

mod crc32c;
mod query;
mod verify;

use vswitch_wire::{IpProtocol, IpVersion, Offload, checksum::Change};

use crate::{Address, Ends, packet::Packet};

pub(crate) use crc32c::sum as crc32c;
pub(crate) use query::Query;
pub(crate) use verify::{Integrity, pseudo_header, verify};

/// Gives the packet other ends, or its own, and one hop less. `offload` counts from the packet's first byte: a partial checksum
/// is kept partial (N-CK-7).
///
/// `ends.src_port` and `dst_port` are ports of TCP, UDP, UDP-Lite and SCTP; for a query of ICMP the one of them that is the
/// identifier (a request's source, a reply's destination). Other protocols have none, and none is written.
#[inline]
pub(crate) fn translate(bytes: &mut [u8], packet: &Packet, ends: &Ends, offload: &Offload) {
    let Some(addresses) = translate_header(bytes, packet.version, (ends.src, ends.dst), 1) else {
        return;
    };
    let Some(segment) = bytes.get_mut(packet.transport..packet.len) else {
        return;
    };
    let partial = offload.checksum.is_some();
    match packet.protocol {
        IpProtocol::TCP => {
            if let Some(header) = segment.first_chunk_mut::<{ TCP_CHECKSUM + 2 }>() {
                let ports = set_ports(header, ends);
                let field = [header[TCP_CHECKSUM], header[TCP_CHECKSUM + 1]];
                let field = match partial {
                    true => addresses.apply_partial(field),
                    false => addresses.and(ports).apply(field),
                };
                [header[TCP_CHECKSUM], header[TCP_CHECKSUM + 1]] = field;
            }
        }
        IpProtocol::UDP => {
            if let Some(header) = segment.first_chunk_mut::<{ UDP_CHECKSUM + 2 }>() {
                let ports = set_ports(header, ends);
                let field = [header[UDP_CHECKSUM], header[UDP_CHECKSUM + 1]];
                let field = match partial {
                    true => addresses.apply_partial(field),
                    false => addresses.and(ports).apply_udp(field),
                };
                [header[UDP_CHECKSUM], header[UDP_CHECKSUM + 1]] = field;
            }
        }
        _ => translate_other(segment, packet, ends, addresses),
    }
}

/// Puts addresses into an IP header and takes `hops` off, with IPv4's checksum; what the addresses change under a transport
/// checksum. `None` where the bytes end before the fixed header does.
#[inline]
pub(crate) fn translate_header(
    bytes: &mut [u8],
    version: IpVersion,
    (src, dst): (Address, Address),
    hops: u8,
) -> Option<Change> {
    match version {
        IpVersion::V4 => {
            let header = bytes.first_chunk_mut::<20>()?;
            let old = *header;
            let [s0, s1, s2, s3] = src.low();
            let [d0, d1, d2, d3] = dst.low();
            let addresses = Change::of32([old[12], old[13], old[14], old[15]], src.low())
                .and(Change::of32([old[16], old[17], old[18], old[19]], dst.low()));
            let ttl = old[8].saturating_sub(hops);
            let change = addresses.and(Change::of16([old[8], old[9]], [ttl, old[9]]));
            let [c0, c1] = change.apply([old[10], old[11]]);
            header[8] = ttl;
            header[10..].copy_from_slice(&[c0, c1, s0, s1, s2, s3, d0, d1, d2, d3]);
            Some(addresses)
        }
        IpVersion::V6 => {
            let header = bytes.first_chunk_mut::<40>()?;
            header[7] = header[7].saturating_sub(hops);
            let [old_src, old_dst] = header[8..].as_chunks_mut::<16>().0 else {
                return None;
            };
            let addresses = Change::of128(old_src, src.octets()).and(Change::of128(old_dst, dst.octets()));
            *old_src = *src.octets();
            *old_dst = *dst.octets();
            Some(addresses)
        }
    }
}

/// Puts ports into a header that begins with them.
#[inline]
pub(crate) fn set_ports<const N: usize>(header: &mut [u8; N], ends: &Ends) -> Change {
    const { assert!(N >= 4) }
    let old = [header[0], header[1], header[2], header[3]];
    let ([s0, s1], [d0, d1]) = (ends.src_port.to_be_bytes(), ends.dst_port.to_be_bytes());
    let new = [s0, s1, d0, d1];
    header[..4].copy_from_slice(&new);
    Change::of32(old, new)
}

/// Puts the identifier into a query of ICMP and mends the checksum of any message of it: that of ICMPv6 covers the addresses
/// (N-CK-10).
pub(crate) fn translate_icmp(message: &mut [u8], version: IpVersion, ends: &Ends, addresses: Change) {
    let Some(header) = message.first_chunk_mut::<8>() else {
        return;
    };
    let addresses = match version {
        IpVersion::V4 => Change::NONE,
        IpVersion::V6 => addresses,
    };
    let identifier = match Query::of(version, header[0]) {
        Some(query) => {
            let old = [header[4], header[5]];
            let new = query.identifier(ends).to_be_bytes();
            [header[4], header[5]] = new;
            Change::of16(old, new)
        }
        None => Change::NONE,
    };
    [header[2], header[3]] = addresses.and(identifier).apply([header[2], header[3]]);
}

/// Whether the packet's load is ICMP of its version; another version's has no meaning and is left alone.
pub(crate) const fn is_icmp(version: IpVersion, protocol: IpProtocol) -> bool {
    matches!(
        (version, protocol),
        (IpVersion::V4, IpProtocol::ICMP) | (IpVersion::V6, IpProtocol::ICMPV6)
    )
}

/// Apart, so that the way of TCP and UDP stays short.
#[inline(never)]
fn translate_other(segment: &mut [u8], packet: &Packet, ends: &Ends, addresses: Change) {
    match packet.protocol {
        IpProtocol::SCTP => {
            // RFC 9260 §6.8: the checksum covers no pseudo-header, so that addresses do not count (N-OP-1).
            let Some(header) = segment.first_chunk_mut::<4>() else {
                return;
            };
            let old = *header;
            let _ = set_ports(header, ends);
            if *header != old {
                crc32c::fill(segment);
            }
        }
        UDP_LITE => {
            // The first eight bytes are always covered (RFC 3828 §3.1).
            if let Some(header) = segment.first_chunk_mut::<{ UDP_CHECKSUM + 2 }>() {
                let ports = set_ports(header, ends);
                let field = [header[UDP_CHECKSUM], header[UDP_CHECKSUM + 1]];
                [header[UDP_CHECKSUM], header[UDP_CHECKSUM + 1]] = addresses.and(ports).apply_nonzero(field);
            }
        }
        protocol if is_icmp(packet.version, protocol) => {
            translate_icmp(segment, packet.version, ends, addresses);
        }
        _ => {}
    }
}

/// RFC 3828.
pub(crate) const UDP_LITE: IpProtocol = IpProtocol(136);
/// Where the checksum is in a header of TCP (RFC 9293 §3.1).
pub(crate) const TCP_CHECKSUM: usize = 16;
/// Where the checksum is in a header of UDP and UDP-Lite.
pub(crate) const UDP_CHECKSUM: usize = 6;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
