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
}

impl From<Malformed> for DropReason {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}
