//! Whether a packet came undamaged (N-TCP-4, N-CK-9).

use vswitch_wire::{IpProtocol, IpVersion, Offload, checksum};

use super::{UDP_LITE, crc32c, is_icmp};
use crate::{DropReason, packet::Packet};

/// What can be said for a transport checksum that is not wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Integrity {
    /// It is right, somebody vouches for it, or the protocol has none.
    Sound,
    /// A datagram of UDP over IPv6 without one: only to tunnels that are allowed to do without (N-CK-5).
    Unchecked,
}

/// Looks at the transport checksum of a whole packet, of protocols that have one. The bytes of a frame that says that its checksum is
/// partial or that somebody verified it are not read: only their lengths.
///
/// # Errors
///
/// [`DropReason::BadChecksum`]; [`DropReason::Malformed`] where the header is not all there, or a length in it is beyond the packet.
#[inline]
pub(crate) fn verify(bytes: &[u8], packet: &Packet, offload: &Offload) -> Result<Integrity, DropReason> {
    let segment = bytes
        .get(packet.transport..packet.len)
        .ok_or(DropReason::Malformed)?;
    let covered = covered(packet, segment).ok_or(DropReason::Malformed)?;
    if offload.checksum.is_some() || offload.data_valid {
        return Ok(Integrity::Sound);
    }
    let pseudo_header = match packet.protocol {
        IpProtocol::TCP => pseudo_header(packet, covered.len()),
        IpProtocol::UDP => match (covered, packet.version) {
            ([_, _, _, _, _, _, 0, 0, ..], IpVersion::V4) => return Ok(Integrity::Sound),
            ([_, _, _, _, _, _, 0, 0, ..], IpVersion::V6) => return Ok(Integrity::Unchecked),
            _ => pseudo_header(packet, covered.len()),
        },
        // RFC 3828 §3.1: 0 is no checksum of UDP-Lite. Its pseudo-header has the length of all, not of what is covered.
        UDP_LITE => match covered {
            [_, _, _, _, _, _, 0, 0, ..] => return Err(DropReason::BadChecksum),
            _ => pseudo_header(packet, segment.len()),
        },
        IpProtocol::SCTP => {
            let field = covered.get(8..12);
            return match crc32c::of(covered).is_some_and(|right| field == Some(&right)) {
                true => Ok(Integrity::Sound),
                false => Err(DropReason::BadChecksum),
            };
        }
        protocol if !is_icmp(packet.version, protocol) => return Ok(Integrity::Sound),
        IpProtocol::ICMP => 0,
        _ => pseudo_header(packet, covered.len()),
    };
    match checksum::fold(pseudo_header + checksum::sum(covered)) {
        0xffff => Ok(Integrity::Sound),
        _ => Err(DropReason::BadChecksum),
    }
}

/// What of the packet its transport checksum covers beside the pseudo-header; `None` where a header or length does not fit.
#[inline]
fn covered<'b>(packet: &Packet, segment: &'b [u8]) -> Option<&'b [u8]> {
    let shortest = match packet.protocol {
        IpProtocol::TCP => 20,
        IpProtocol::UDP | UDP_LITE => {
            let &[_, _, _, _, l0, l1, ..] = segment else {
                return None;
            };
            let len = usize::from(u16::from_be_bytes([l0, l1]));
            let covered = match packet.protocol {
                // RFC 3828 §3.1: a coverage of 0 is all.
                UDP_LITE if len == 0 => segment,
                // RFC 768: the length of header and data; what the packet has beyond is not the datagram's.
                _ => segment.get(..len)?,
            };
            return (covered.len() >= 8).then_some(covered);
        }
        IpProtocol::SCTP => 12,
        protocol if is_icmp(packet.version, protocol) => 8,
        _ => 0,
    };
    (segment.len() >= shortest).then_some(segment)
}

/// The sum of the pseudo-header for `len` bytes of the packet's protocol.
#[inline]
pub(crate) fn pseudo_header(packet: &Packet, len: usize) -> u32 {
    let Packet {
        src, dst, protocol, ..
    } = packet;
    match packet.version {
        IpVersion::V4 => {
            checksum::pseudo_header_v4(src.low().into(), dst.low().into(), *protocol, len as u16)
        }
        IpVersion::V6 => {
            let (src, dst) = (*src.octets(), *dst.octets());
            checksum::pseudo_header_v6(src.into(), dst.into(), *protocol, len as u32)
        }
    }
}
