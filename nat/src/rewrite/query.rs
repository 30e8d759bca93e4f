//! Queries of ICMP: messages with an identifier, which stands for a port.

use vswitch_wire::IpVersion;

use crate::Ends;

/// What a message of ICMP is in an exchange of request and reply (N-ICQ-1), with the type of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Query {
    /// The answer to one of that type.
    Reply(u8),
    /// One of that type.
    Request(u8),
}

impl Query {
    /// By its type; `None` for anything else. Node information queries (139 of ICMPv6, RFC 4620) have a nonce
    /// in place of an identifier and are none.
    #[inline]
    pub(crate) const fn of(version: IpVersion, kind: u8) -> Option<Self> {
        match (version, kind) {
            // Echo (RFC 792).
            (IpVersion::V4, 0) => Some(Self::Reply(8)),
            // Echo, timestamp, information (RFC 792), address mask (RFC 950).
            (IpVersion::V4, 8 | 13 | 15 | 17) => Some(Self::Request(kind)),
            (IpVersion::V4, 14 | 16 | 18) => Some(Self::Reply(kind - 1)),
            // Echo (RFC 4443 §4).
            (IpVersion::V6, 128) => Some(Self::Request(128)),
            (IpVersion::V6, 129) => Some(Self::Reply(128)),
            _ => None,
        }
    }

    /// The one of two ports that is the identifier: the asking side's.
    #[inline]
    pub(crate) const fn identifier(self, ends: &Ends) -> u16 {
        match self {
            Self::Reply(_) => ends.dst_port,
            Self::Request(_) => ends.src_port,
        }
    }

    /// The ports of a message with that identifier: source and destination.
    #[inline]
    pub(crate) const fn ports(self, identifier: u16) -> (u16, u16) {
        match self {
            Self::Reply(_) => (0, identifier),
            Self::Request(_) => (identifier, 0),
        }
    }

    /// The type of the request.
    #[inline]
    pub(crate) const fn request(self) -> u8 {
        match self {
            Self::Reply(kind) | Self::Request(kind) => kind,
        }
    }
}
