//! A packet's headers, read once; nothing downstream parses them again.

use vswitch_wire::{
    Fragment, IpProtocol, IpVersion, Ipv4Packet, Ipv6Header, Ipv6Packet, Malformed, UpperLayer,
};

use crate::{Address, DropReason};

/// What the engine knows of an IP packet before it looks at the transport header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) version: IpVersion,
    pub(crate) src: Address,
    pub(crate) dst: Address,
    /// What is behind all extension headers.
    pub(crate) protocol: IpProtocol,
    /// Where that begins.
    pub(crate) transport: usize,
    /// Bytes of the packet by its header; what follows is padding (N-INV-3).
    pub(crate) len: usize,
    /// TTL or hop limit.
    pub(crate) hop_limit: u8,
    pub(crate) fragment: Option<Fragment>,
}

impl Packet {
    /// Reads a packet, with every check that does not need the transport header (N-INV-2).
    ///
    /// # Errors
    ///
    /// [`DropReason::Malformed`]; [`DropReason::BadChecksum`] for an IPv4 header's.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => {
                let packet = Ipv4Packet::parse(bytes)?;
                if !packet.has_valid_checksum() {
                    return Err(DropReason::BadChecksum);
                }
                let header = packet.header();
                let upper = packet.upper_layer();
                Ok(Self {
                    version: IpVersion::V4,
                    src: Address::v4(header.src().octets()),
                    dst: Address::v4(header.dst().octets()),
                    protocol: upper.protocol,
                    transport: upper.offset,
                    len: header.total_len().into(),
                    hop_limit: header.ttl(),
                    fragment: upper.fragment,
                })
            }
            Some(6) => {
                let packet = Ipv6Packet::parse(bytes)?;
                let header = packet.header();
                let UpperLayer {
                    protocol,
                    offset,
                    fragment,
                } = packet.upper_layer()?;
                Ok(Self {
                    version: IpVersion::V6,
                    src: Address::v6(header.src().octets()),
                    dst: Address::v6(header.dst().octets()),
                    protocol,
                    transport: offset,
                    len: Ipv6Header::LEN + packet.payload().len(),
                    hop_limit: header.hop_limit(),
                    fragment,
                })
            }
            _ => Err(DropReason::Malformed),
        }
    }

    /// Bytes of the transport header and what follows it.
    #[inline]
    pub(crate) const fn transport_len(&self) -> usize {
        self.len - self.transport
    }

    /// Whether an authentication header vouches for the addresses, which then must not change (N-OP-2). Of IPv6 it may be
    /// any of the extension headers.
    pub(crate) fn is_authenticated(&self, bytes: &[u8]) -> bool {
        if self.version == IpVersion::V4 {
            return self.protocol == IpProtocol::AUTHENTICATION;
        }
        let mut next = bytes.get(6).copied().map(IpProtocol);
        let mut at = Ipv6Header::LEN;
        // The headers were walked by the same lengths before.
        while let Some(protocol) = next.filter(|_| at < self.transport) {
            if protocol == IpProtocol::AUTHENTICATION {
                return true;
            }
            let len = match protocol {
                IpProtocol::FRAGMENT => 8,
                _ => (bytes.get(at + 1).copied().map_or(0, usize::from) + 1) * 8,
            };
            next = bytes.get(at).copied().map(IpProtocol);
            at += len;
        }
        false
    }
}

impl From<Malformed> for DropReason {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}
