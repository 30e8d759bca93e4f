//! Ethernet II framing.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{MacAddr, Truncated};

/// The first 14 bytes of every frame.
///
/// A tagged frame has the tag's protocol ([`EtherType::VLAN`] or [`EtherType::SERVICE_VLAN`]) here;
/// [`OuterTag`](crate::OuterTag) and [`NetworkLayer`](crate::NetworkLayer) read on.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct EthernetHeader {
    /// Destination station or group.
    pub dst: MacAddr,
    /// Sending station.
    pub src: MacAddr,
    /// What follows: a protocol, or a length if [`EtherType::is_length`].
    pub ethertype: EtherType,
}

impl EthernetHeader {
    /// Bytes of the header.
    pub const LEN: usize = 14;

    /// The header and what follows it, padding included.
    ///
    /// # Errors
    /// The frame is shorter than 14 bytes.
    pub fn parse(frame: &[u8]) -> Result<(&Self, &[u8]), Truncated> {
        Self::ref_from_prefix(frame).map_err(|_| Truncated)
    }

    /// The same, for rewriting in place.
    ///
    /// # Errors
    /// The frame is shorter than 14 bytes.
    pub fn parse_mut(frame: &mut [u8]) -> Result<(&mut Self, &mut [u8]), Truncated> {
        Self::mut_from_prefix(frame).map_err(|_| Truncated)
    }
}

/// A protocol number of the EtherType registry, in wire order.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct EtherType([u8; 2]);

impl EtherType {
    /// IPv4 (RFC 894).
    pub const IPV4: Self = Self::new(0x0800);
    /// ARP (RFC 826).
    pub const ARP: Self = Self::new(0x0806);
    /// IPv6 (RFC 2464 §3).
    pub const IPV6: Self = Self::new(0x86dd);
    /// Customer VLAN tag (802.1Q C-TAG).
    pub const VLAN: Self = Self::new(0x8100);
    /// Service VLAN tag (802.1ad S-TAG).
    pub const SERVICE_VLAN: Self = Self::new(0x88a8);
    /// MAC control: PAUSE and priority flow control (802.3 annex 31).
    pub const FLOW_CONTROL: Self = Self::new(0x8808);

    /// The protocol with this registered number.
    pub const fn new(value: u16) -> Self {
        Self(value.to_be_bytes())
    }

    /// The registered number.
    pub const fn value(self) -> u16 {
        u16::from_be_bytes(self.0)
    }

    /// Whether the field is the payload length of an 802.3 frame (≤ 1500) and no protocol.
    pub const fn is_length(self) -> bool {
        self.value() <= 1500
    }

    /// Whether a VLAN tag follows.
    pub const fn is_tag(self) -> bool {
        matches!(self, Self::VLAN | Self::SERVICE_VLAN)
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:04x}", self.value())
    }
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::mutilate;

    const FRAME: [u8; 16] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0x42, 10, 0, 0, 2, 0x08, 0x06, 1, 2,
    ];

    #[test]
    fn a_header_is_read_and_rewritten_in_place() {
        let mut frame = FRAME;
        let (header, payload) = EthernetHeader::parse(&frame).unwrap();
        assert!(header.dst.is_broadcast());
        assert_eq!(header.src.to_string(), "02:42:0a:00:00:02");
        assert_eq!(header.ethertype, EtherType::ARP);
        assert_eq!(payload, [1, 2]);
        let (header, _) = EthernetHeader::parse_mut(&mut frame).unwrap();
        header.dst = header.src;
        header.ethertype = EtherType::IPV6;
        assert_eq!(frame[..6], frame[6..12]);
        assert_eq!(frame[12..], [0x86, 0xdd, 1, 2]);
    }

    #[test]
    fn parsing_survives_mutilation() {
        mutilate(&FRAME, EthernetHeader::LEN, |bytes| {
            assert_eq!(
                EthernetHeader::parse(bytes).is_ok(),
                bytes.len() >= EthernetHeader::LEN
            );
        });
    }

    #[test]
    fn lengths_and_tags_are_told_from_protocols() {
        assert!(EtherType::new(1500).is_length());
        assert!(!EtherType::new(1536).is_length());
        assert!(EtherType::VLAN.is_tag() && EtherType::SERVICE_VLAN.is_tag());
        assert!(!EtherType::IPV4.is_tag());
        assert_eq!(EtherType::FLOW_CONTROL.to_string(), "0x8808");
    }
}
