//! ICMP errors that routers and hosts send about translated packets (nat-conformance §8).

use vswitch_wire::IpProtocol;

use crate::{Address, DropReason, Ends, packet::Packet};

/// An error of ICMP or ICMPv6 as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IcmpError {
    /// The quoted packet's ends, in the direction in which it went. Of a query of ICMP its identifier is the port of
    /// the side that asks, as in a [`Tuple`](crate::Tuple).
    pub(crate) quoted: Ends,
    /// The quoted packet's transport protocol.
    pub(crate) protocol: IpProtocol,
    /// If that is a query of ICMP, the type of its request, else 0.
    pub(crate) query: u8,
    /// Sequence number of a quoted TCP segment.
    pub(crate) sequence: Option<u32>,
    /// Whether it is a redirect.
    pub(crate) is_redirect: bool,
    /// Where the quoted packet's transport header begins, from the outer packet's first byte.
    quoted_transport: usize,
}

impl IcmpError {
    /// Reads an ICMP message of types 3, 4, 5, 11 and 12, or 1 to 4 of ICMPv6; `None` for any other.
    ///
    /// # Errors
    ///
    /// [`DropReason::BadChecksum`] (N-ICE-1; the quoted IPv4 header's too, N-ICE-3), [`DropReason::Malformed`] where the quoted
    /// packet ends before its ports or cannot be read; a quoted fragment that is not the first is
    /// [`DropReason::IcmpUnrelated`]. An MTU too small to be true is [`DropReason::Invalid`] (N-ICE-13).
    pub(crate) fn read(bytes: &[u8], packet: &Packet) -> Result<Option<Self>, DropReason> {
        let _ = (bytes, packet);
        Ok(None)
    }

    /// Puts other ends into the quoted packet and other addresses around it, and mends the checksums (N-ICE-5 to N-ICE-8, N-ICE-14).
    /// Takes one hop off the outer packet.
    pub(crate) fn translate(
        &self,
        bytes: &mut [u8],
        packet: &Packet,
        quoted: &Ends,
        (src, dst): (Address, Address),
    ) {
        let _ = (bytes, packet, quoted, src, dst, self.quoted_transport);
    }
}
