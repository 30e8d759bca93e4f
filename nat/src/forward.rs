//! What a router does beside translating: addresses that are not routed, errors that it reports, segments that fit
//! (nat-conformance §11).

use std::time::Instant;

use vswitch_wire::{IpVersion, Offload};

use crate::{Address, DropReason, Zone, packet::Packet};

/// Why the engine sends an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// Host unreachable / no route.
    NoRoute,
    /// 3/4 with the next link's MTU, or packet too big.
    PacketTooBig(u16),
    /// 3/3.
    PortUnreachable,
    /// 3/13: administratively prohibited; also when ports run out (N-PORT-9).
    Prohibited,
    /// 11/0.
    TimeExceeded,
}

/// How many errors may be sent (N-FWD-7).
#[derive(Debug)]
pub(crate) struct ErrorLimits;

impl ErrorLimits {
    pub(crate) fn new() -> Self {
        Self
    }

    /// Makes the error about `original`, which is as its sender sent it, from `from`, in `reply` (an IP packet); `false` if none
    /// may be sent about it (N-FWD-6) or too many were: `limited` tells the latter.
    pub(crate) fn report(
        &mut self,
        now: Instant,
        complaint: Complaint,
        (original, packet, offload): (&mut [u8], &Packet, &Offload),
        from: Address,
        reply: &mut Vec<u8>,
    ) -> Report {
        let _ = (now, complaint, original, packet, offload, from, reply);
        Report::Forbidden
    }
}

/// What became of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// None may be sent about that packet.
    Forbidden,
    /// Too many were sent.
    Limited,
    /// It is in the buffer.
    Made,
}

/// Refuses addresses that are never routed, source routes, and what has link scope (N-FWD-8, N-FWD-10, N-FWD-13, N-V6-1 to N-V6-3).
/// Addresses of the engine itself, spoofing and broadcasts of subnets are the caller's to look at.
///
/// # Errors
///
/// [`DropReason::Martian`], [`DropReason::SourceRoute`].
#[inline]
pub(crate) fn check_scope(bytes: &[u8], packet: &Packet) -> Result<(), DropReason> {
    let _ = (bytes, packet);
    Ok(())
}

/// Whether the packet fits a link of `mtu` bytes; a super-frame by its segments.
#[inline]
pub(crate) fn fits(packet: &Packet, offload: &Offload, mtu: u16) -> bool {
    offload.largest_frame(packet.len) <= usize::from(mtu)
}

/// Lowers the MSS option of a SYN to what fits `mtu`, and mends the checksum (N-FWD-9). The transport header begins at
/// `packet.transport`.
pub(crate) fn clamp_mss(bytes: &mut [u8], packet: &Packet, offload: &Offload, mtu: u16) {
    let _ = (bytes, packet, offload, mtu);
}

/// Identifications of fragments that leave from an external address (N-FR-8).
#[derive(Debug)]
pub(crate) struct Identifications;

impl Identifications {
    pub(crate) fn new(seed: u64) -> Self {
        let _ = seed;
        Self
    }

    /// The next one for datagrams from `src` to `dst`.
    pub(crate) fn next(&mut self, src: Address, dst: Address, protocol: u8, version: IpVersion) -> u32 {
        let _ = (src, dst, protocol, version);
        0
    }

    /// Forgets nothing that matters; here so that tests can name a zone's.
    pub(crate) fn remove_zone(&mut self, zone: Zone) {
        let _ = zone;
    }
}
