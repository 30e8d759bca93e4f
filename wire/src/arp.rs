//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

use crate::{EtherType, MacAddr, Malformed};

/// A request or reply that maps an IPv4 address to an Ethernet address.
///
/// Every value that [`ArpPacket::parse`] or a constructor gives is Ethernet/IPv4 and has a known operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ArpPacket {
    hardware_type: U16,
    protocol_type: EtherType,
    hardware_len: u8,
    protocol_len: u8,
    operation: U16,
    sender_mac: MacAddr,
    sender_ip: [u8; 4],
    target_mac: MacAddr,
    target_ip: [u8; 4],
}

/// What an ARP packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArpOperation {
    /// `ares_op$REPLY`.
    Reply,
    /// `ares_op$REQUEST`.
    Request,
}

impl ArpPacket {
    /// Bytes of the packet.
    pub const LEN: usize = 28;

    /// The packet and what follows it (padding).
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::Type`] for another hardware, protocol or operation,
    /// [`Malformed::Length`] for address lengths other than 6 and 4.
    pub fn parse(bytes: &[u8]) -> Result<(&Self, &[u8]), Malformed> {
        let (packet, rest) = Self::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        if packet.hardware_type.get() != HARDWARE_ETHERNET
            || packet.protocol_type != EtherType::IPV4
            || !matches!(packet.operation.get(), REQUEST | REPLY)
        {
            return Err(Malformed::Type);
        }
        if packet.hardware_len != 6 || packet.protocol_len != 4 {
            return Err(Malformed::Length);
        }
        Ok((packet, rest))
    }

    /// Asks who has `target_ip`.
    pub fn request(sender_mac: MacAddr, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Self {
        Self {
            hardware_type: U16::new(HARDWARE_ETHERNET),
            protocol_type: EtherType::IPV4,
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(REQUEST),
            sender_mac,
            sender_ip: sender_ip.octets(),
            target_mac: MacAddr::ZERO,
            target_ip: target_ip.octets(),
        }
    }

    /// Tells whoever sent `self` that its target address is at `mac`.
    pub fn reply(&self, mac: MacAddr) -> Self {
        Self {
            operation: U16::new(REPLY),
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
            ..*self
        }
    }

    /// What the packet does.
    pub fn operation(&self) -> ArpOperation {
        match self.operation.get() {
            REPLY => ArpOperation::Reply,
            _ => ArpOperation::Request,
        }
    }

    /// Ethernet address of the sender, as it claims.
    pub fn sender_mac(&self) -> MacAddr {
        self.sender_mac
    }

    /// IPv4 address of the sender, as it claims; 0.0.0.0 in a probe.
    pub fn sender_ip(&self) -> Ipv4Addr {
        self.sender_ip.into()
    }

    /// Ethernet address of the target; meaningless in a request.
    pub fn target_mac(&self) -> MacAddr {
        self.target_mac
    }

    /// IPv4 address that is asked for, or that a reply goes to.
    pub fn target_ip(&self) -> Ipv4Addr {
        self.target_ip.into()
    }

    /// Whether a station tests if an address is free before it takes it (RFC 5227 §1.1): a request
    /// from 0.0.0.0.
    pub fn is_probe(&self) -> bool {
        self.operation() == ArpOperation::Request && self.sender_ip == [0; 4]
    }

    /// Whether a station announces its own address (gratuitous ARP; RFC 5227 §1.1): sender and target
    /// address are the same.
    pub fn is_announcement(&self) -> bool {
        self.sender_ip == self.target_ip
    }
}

/// `ar$hrd` of Ethernet.
const HARDWARE_ETHERNET: u16 = 1;
/// `ares_op$REQUEST`.
const REQUEST: u16 = 1;
/// `ares_op$REPLY`.
const REPLY: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::mutilate;

    const SENDER: MacAddr = MacAddr([2, 0x42, 10, 0, 0, 2]);
    const ROUTER: MacAddr = MacAddr([2, 0x42, 10, 0, 0, 1]);

    fn request() -> ArpPacket {
        ArpPacket::request(SENDER, Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1))
    }

    #[test]
    fn a_request_is_laid_out_as_rfc_826_has_it() {
        let bytes = [
            0, 1, 8, 0, 6, 4, 0, 1, 2, 0x42, 10, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1,
        ];
        assert_eq!(request().as_bytes(), bytes);
        let padded = [&bytes[..], &[0; 18]].concat();
        assert_eq!(ArpPacket::parse(&padded), Ok((&request(), &[0; 18][..])));
    }

    #[test]
    fn a_reply_goes_back() {
        let reply = request().reply(ROUTER);
        assert_eq!(reply.operation(), ArpOperation::Reply);
        assert_eq!(
            (reply.sender_mac(), reply.sender_ip()),
            (ROUTER, Ipv4Addr::new(10, 0, 0, 1))
        );
        assert_eq!(
            (reply.target_mac(), reply.target_ip()),
            (SENDER, Ipv4Addr::new(10, 0, 0, 2))
        );
        assert!(ArpPacket::parse(reply.as_bytes()).is_ok());
        let oracle = etherparse::ArpPacketSlice::from_slice(reply.as_bytes()).unwrap();
        assert_eq!(oracle.operation(), etherparse::ArpOperation::REPLY);
        assert_eq!(oracle.sender_hw_addr(), ROUTER.0);
        assert_eq!(oracle.target_protocol_addr(), [10, 0, 0, 2]);
    }

    /// RFC 5227 §1.1.
    #[test]
    fn probes_and_announcements() {
        let address = Ipv4Addr::new(10, 0, 0, 2);
        let probe = ArpPacket::request(SENDER, Ipv4Addr::UNSPECIFIED, address);
        assert!(probe.is_probe() && !probe.is_announcement());
        let announcement = ArpPacket::request(SENDER, address, address);
        assert!(announcement.is_announcement() && !announcement.is_probe());
        assert!(!request().is_probe() && !request().is_announcement());
    }

    #[test]
    fn other_packets_are_refused() {
        for (place, value, error) in [
            (1, 6, Malformed::Type),
            (2, 0x86, Malformed::Type),
            (4, 8, Malformed::Length),
            (5, 16, Malformed::Length),
            (7, 0, Malformed::Type),
            (7, 3, Malformed::Type),
        ] {
            let mut bytes = request().as_bytes().to_vec();
            bytes[place] = value;
            assert_eq!(ArpPacket::parse(&bytes), Err(error), "byte {place} = {value}");
        }
        assert_eq!(
            ArpPacket::parse(&request().as_bytes()[..27]),
            Err(Malformed::Truncated)
        );
    }

    #[test]
    fn parsing_survives_mutilation() {
        mutilate(request().as_bytes(), ArpPacket::LEN, |bytes| {
            if let Ok((packet, _)) = ArpPacket::parse(bytes) {
                let _ = packet.reply(ROUTER);
            }
        });
    }
}
