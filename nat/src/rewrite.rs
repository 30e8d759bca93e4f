//! Putting other addresses and ports into a packet, in place, with every checksum that covers them
//! (nat-conformance §9).

use vswitch_wire::Offload;

use crate::{Ends, packet::Packet};

/// Gives the packet other ends and one hop less. `offload` counts from the packet's first byte: a partial checksum
/// is kept partial (N-CK-7).
///
/// `ends.src_port` and `dst_port` are ports of TCP, UDP, UDP-Lite and SCTP; for a query of ICMP the one of them that is the
/// identifier (a request's source, a reply's destination). Other protocols have none, and none is written.
pub(crate) fn translate(bytes: &mut [u8], packet: &Packet, ends: &Ends, offload: &Offload) {
    let _ = (bytes, packet, ends, offload);
}

/// Takes one hop off: TTL with the header's checksum, or hop limit.
pub(crate) fn decrement_hops(bytes: &mut [u8], packet: &Packet) {
    let _ = (bytes, packet);
}

/// What can be said for a transport checksum that is not wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Integrity {
    /// It is right, somebody vouches for it, or the protocol has none.
    Sound,
    /// A datagram of UDP over IPv6 without one.
    Unchecked,
}

/// Looks at the transport checksum.
pub(crate) fn verify(
    bytes: &[u8],
    packet: &Packet,
    offload: &Offload,
) -> Result<Integrity, crate::DropReason> {
    let _ = (bytes, packet, offload);
    Ok(Integrity::Sound)
}
