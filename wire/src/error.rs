//! Why bytes were refused.

/// The bytes end before the header does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the bytes end before the header does")]
pub struct Truncated;

/// A header contradicts itself, its buffer or the standard it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// An address that the message must not have.
    #[error("address not allowed in this message")]
    Address,
    /// A checksum that covers the message is wrong.
    #[error("wrong checksum")]
    Checksum,
    /// More IPv6 extension headers than anybody sends, or in a place where none may be.
    #[error("too many or misplaced extension headers")]
    Extensions,
    /// A fragment that cannot be part of a packet of at most 65 535 bytes.
    #[error("impossible fragment")]
    Fragment,
    /// A header length field below the minimum.
    #[error("impossible header length")]
    HeaderLength,
    /// A hop limit that shows that a router forwarded what must stay on its link.
    #[error("hop limit not 255")]
    HopLimit,
    /// A length field that is smaller than its header or larger than the bytes at hand.
    #[error("length field contradicts the packet")]
    Length,
    /// An option of length zero, or one that leaves its header.
    #[error("impossible option length")]
    OptionLength,
    /// The bytes end before the header does.
    #[error("the bytes end before the header does")]
    Truncated,
    /// An operation, type or address family that this parser does not read.
    #[error("unsupported type")]
    Type,
    /// Not the version of the protocol that was asked for.
    #[error("wrong protocol version")]
    Version,
}

impl From<Truncated> for Malformed {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

/// The buffer that a message was to be written to is too small for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the buffer is too small for the message")]
pub struct NoRoom;
