//! What a router does beside translating: addresses that are not routed, errors that it reports, segments that fit
//! (nat-conformance §11).

mod errors;
mod identifications;
mod mss;
mod quote;
mod scope;

use vswitch_wire::Offload;

use crate::packet::Packet;

pub(crate) use errors::{Complaint, ErrorLimits, Report};
pub(crate) use identifications::Identifications;
pub(crate) use mss::clamp_mss;
pub(crate) use quote::complete_checksum;
pub(crate) use scope::check_scope;

/// Whether the packet fits a link of `mtu` bytes; a super-frame by its segments.
#[inline]
pub(crate) fn fits(packet: &Packet, offload: &Offload, mtu: u16) -> bool {
    offload.largest_frame(packet.len) <= usize::from(mtu)
}

#[cfg(test)]
mod tests;
