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
    let trusted = offload.checksum.is_some() || offload.data_valid;
    // Beside the pseudo-header: what the checksum covers.
    let covered = match packet.protocol {
        IpProtocol::TCP => segment.first_chunk::<20>().map(|_| segment),
        IpProtocol::UDP => {
            let [_, _, _, _, l0, l1, c0, c1] = *segment.first_chunk().ok_or(DropReason::Malformed)?;
            let len = usize::from(u16::from_be_bytes([l0, l1]));
            // RFC 768: the length is that of header and data; what the packet has beyond is not the datagram's.
            let datagram = segment.get(..len).filter(|_| len >= 8);
            if [c0, c1] == [0, 0] && !trusted {
                datagram.ok_or(DropReason::Malformed)?;
                return Ok(match packet.version {
                    IpVersion::V4 => Integrity::Sound,
                    IpVersion::V6 => Integrity::Unchecked,
                });
            }
            datagram
        }
        UDP_LITE => return verify_udp_lite(bytes, packet, segment, trusted),
        IpProtocol::SCTP => return verify_sctp(segment, trusted),
        protocol if is_icmp(packet.version, protocol) => segment.first_chunk::<8>().map(|_| segment),
        _ => return Ok(Integrity::Sound),
    };
    let covered = covered.ok_or(DropReason::Malformed)?;
    if trusted {
        return Ok(Integrity::Sound);
    }
    let pseudo_header = match packet.protocol {
        IpProtocol::ICMP => 0,
        _ => pseudo_header(bytes, packet, covered.len()),
    };
    judge(pseudo_header + checksum::sum(covered))
}

/// RFC 3828 §3.1: the coverage is 0 for all or at least the header, and "the checksum field MUST NOT be zero".
fn verify_udp_lite(
    bytes: &[u8],
    packet: &Packet,
    datagram: &[u8],
    trusted: bool,
) -> Result<Integrity, DropReason> {
    let [_, _, _, _, l0, l1, c0, c1] = *datagram.first_chunk().ok_or(DropReason::Malformed)?;
    let covered = match usize::from(u16::from_be_bytes([l0, l1])) {
        0 => datagram,
        1..8 => return Err(DropReason::Malformed),
        coverage => datagram.get(..coverage).ok_or(DropReason::Malformed)?,
    };
    if trusted {
        return Ok(Integrity::Sound);
    }
    if [c0, c1] == [0, 0] {
        return Err(DropReason::BadChecksum);
    }
    // The pseudo-header has the length of the whole datagram, not of what is covered.
    judge(pseudo_header(bytes, packet, datagram.len()) + checksum::sum(covered))
}

fn verify_sctp(segment: &[u8], trusted: bool) -> Result<Integrity, DropReason> {
    let header = segment.first_chunk::<12>().ok_or(DropReason::Malformed)?;
    match trusted || crc32c::of(segment).is_some_and(|right| header[8..] == right) {
        true => Ok(Integrity::Sound),
        false => Err(DropReason::BadChecksum),
    }
}

/// The sum of the pseudo-header for `len` bytes: the addresses as they stand in the header, protocol and length.
#[inline]
pub(crate) fn pseudo_header(bytes: &[u8], packet: &Packet, len: usize) -> u32 {
    let addresses = match packet.version {
        IpVersion::V4 => bytes.get(12..20),
        IpVersion::V6 => bytes.get(8..40),
    };
    // A packet has at most 65 535 bytes and 40 of IPv6's header: two words of length.
    let len = (len >> 16) as u32 + (len & 0xffff) as u32;
    checksum::sum(addresses.unwrap_or_default()) + u32::from(packet.protocol.0) + len
}

#[inline]
fn judge(sum: u32) -> Result<Integrity, DropReason> {
    match checksum::fold(sum) {
        0xffff => Ok(Integrity::Sound),
        _ => Err(DropReason::BadChecksum),
    }
}
