//! Making packets complete that their senders left for the device to finish, so that others can read them.

use vswitch_wire::{
    Gso, GsoKind, IpProtocol, IpVersion, Ipv6Header, Offload, PartialChecksum, TcpFlags, checksum,
};

use crate::packet::Packet;

/// Completes a partial checksum of the transport header, in place, over the packet as it is: for a packet that is about to be
/// quoted or cut.
pub(crate) fn complete_checksum(bytes: &mut [u8], packet: &Packet, partial: PartialChecksum) {
    let covered = bytes.get(packet.transport..packet.len);
    let Some(covered) = covered.filter(|_| usize::from(partial.start) == packet.transport) else {
        return;
    };
    let sum = checksum::sum(covered);
    let checksum = match packet.protocol {
        IpProtocol::UDP => checksum::finish_udp(sum),
        _ => checksum::finish(sum),
    };
    write16(bytes, partial.place(), checksum);
}

/// Makes of a packet what goes on the wire of it, in place: of a super-frame the first segment, and a complete checksum. The
/// length of that.
pub(super) fn complete(bytes: &mut [u8], packet: &Packet, offload: &Offload) -> usize {
    let Some(partial) = offload.checksum else {
        return packet.len;
    };
    let mut packet = *packet;
    if let Some(gso) = offload.gso {
        packet.len = keep_first_segment(bytes, &packet, (partial, gso));
    }
    complete_checksum(bytes, &packet, partial);
    packet.len
}

fn keep_first_segment(bytes: &mut [u8], packet: &Packet, (partial, gso): (PartialChecksum, Gso)) -> usize {
    let len = usize::from(gso.header_len) + usize::from(gso.size);
    let start = packet.transport;
    if usize::from(partial.start) != start || len <= start || len >= packet.len {
        return packet.len;
    }
    // The field holds the sum of the pseudo-header, which has the length of the whole.
    let place = partial.place();
    let old = u32::from(read16(bytes, place));
    let lengths = u32::from(!((packet.len - start) as u16)) + (len - start) as u32;
    write16(bytes, place, checksum::fold(old + lengths));
    match packet.version {
        IpVersion::V4 => {
            write16(bytes, 2, len as u16);
            write16(bytes, IPV4_CHECKSUM, 0);
            let header_len = bytes.first().map_or(0, |byte| usize::from(byte & 0x0f) * 4);
            let sum = checksum::sum(bytes.get(..header_len).unwrap_or_default());
            write16(bytes, IPV4_CHECKSUM, checksum::finish(sum));
        }
        IpVersion::V6 => write16(bytes, 4, (len - Ipv6Header::LEN) as u16),
    }
    match gso.kind {
        GsoKind::Udp => write16(bytes, start + UDP_LEN, (len - start) as u16),
        GsoKind::TcpV4 | GsoKind::TcpV6 => {
            if let Some(flags) = bytes.get_mut(start + TCP_FLAGS) {
                *flags &= !(TcpFlags::FIN | TcpFlags::PSH).0;
            }
        }
    }
    len
}

fn read16(bytes: &[u8], place: usize) -> u16 {
    match bytes.get(place..place + 2) {
        Some(&[a, b]) => u16::from_be_bytes([a, b]),
        _ => 0,
    }
}

fn write16(bytes: &mut [u8], place: usize, value: u16) {
    if let Some(field) = bytes.get_mut(place..place + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Places of fields in their headers.
const IPV4_CHECKSUM: usize = 10;
const TCP_FLAGS: usize = 13;
const UDP_LEN: usize = 4;
