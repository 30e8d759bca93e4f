//! Segments that fit the way.

use vswitch_wire::{IpProtocol, IpVersion, Ipv4Header, Ipv6Header, Offload, TcpFlags, TcpHeader, checksum};

use crate::packet::Packet;

/// Lowers the MSS option of a SYN to what fits `mtu`, and mends the checksum (N-FWD-9). The transport header begins at
/// `packet.transport`. As with Linux' TCPMSS, options of either header are the sender's to leave room for
/// (RFC 9293 §3.7.1).
#[inline]
pub(crate) fn clamp_mss(bytes: &mut [u8], packet: &Packet, offload: &Offload, mtu: u16) {
    if packet.protocol != IpProtocol::TCP || packet.fragment.is_some_and(|fragment| !fragment.is_first()) {
        return;
    }
    let Some(segment) = bytes.get_mut(packet.transport..packet.len) else {
        return;
    };
    if segment
        .get(FLAGS)
        .is_some_and(|flags| flags & TcpFlags::SYN.0 != 0)
    {
        clamp(segment, packet.version, offload, mtu);
    }
}

#[cold]
fn clamp(segment: &mut [u8], version: IpVersion, offload: &Offload, mtu: u16) {
    let headers = match version {
        IpVersion::V4 => Ipv4Header::LEN + TcpHeader::LEN,
        IpVersion::V6 => Ipv6Header::LEN + TcpHeader::LEN,
    };
    let Some(largest) = mtu.checked_sub(headers as u16).filter(|&largest| largest > 0) else {
        return;
    };
    let Some(place) = find_mss(segment) else { return };
    let old = u16::from_be_bytes([segment[place], segment[place + 1]]);
    if old <= largest {
        return;
    }
    segment[place..place + 2].copy_from_slice(&largest.to_be_bytes());
    // A partial checksum covers the pseudo-header only, and is completed later over what is there then (N-CK-7).
    if offload.checksum.is_some() {
        return;
    }
    // At an odd place each byte is the other half of a word.
    let (old, new) = match place.is_multiple_of(2) {
        true => (old, largest),
        false => (old.swap_bytes(), largest.swap_bytes()),
    };
    if let Ok((header, _)) = TcpHeader::parse_mut(segment) {
        header.set_checksum(checksum::update16(header.checksum(), old, new));
    }
}

/// Where the option's value is. Reading ends at the first option that is malformed (N-WIN-2).
fn find_mss(segment: &[u8]) -> Option<usize> {
    let header_len = usize::from(segment.get(DATA_OFFSET)? >> 4) * 4;
    let header = segment.get(..header_len)?;
    let mut at = TcpHeader::LEN;
    loop {
        match *header.get(at..)? {
            [END_OF_OPTIONS, ..] => return None,
            [NO_OPERATION, ..] => at += 1,
            [MAXIMUM_SEGMENT_SIZE, 4, _, _, ..] => return Some(at + 2),
            [_, len, ..] if len >= 2 => at += usize::from(len),
            _ => return None,
        }
    }
}

/// Places in a TCP header, and kinds of options (RFC 9293 §3.1, §3.2).
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
