//! Connections and their beginnings and ends as others see them.

use std::time::Duration;

use crate::{MappingId, Network, PortMapping, Tuple};

/// A connection in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnView {
    /// As its initiator sends.
    pub original: Tuple,
    /// As the responder answers.
    pub reply: Tuple,
    /// State of TCP or SCTP in the words of `conntrack`, such as `ESTABLISHED`.
    pub state: Option<&'static str>,
    /// Whether an answer was seen.
    pub is_replied: bool,
    /// Whether it is spared when room is needed.
    pub is_assured: bool,
    /// Until it ends if nothing comes.
    pub remaining: Duration,
    /// What went each way: original, reply.
    pub traffic: [Traffic; 2],
    /// The published port that it came by.
    pub mapping: Option<MappingId>,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets on the wire; a super-frame counts as its segments (N-TBL-8).
    pub packets: u64,
    /// Bytes of IP packets on the wire.
    pub bytes: u64,
}

/// A network in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkView<'a> {
    /// What it is.
    pub network: &'a Network,
    /// Connections that count for it now.
    pub connections: usize,
}

/// A published port in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicationView<'a> {
    /// What it is.
    pub mapping: &'a PortMapping,
    /// Connections that have come by it since it was published.
    pub hits: u64,
}

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has ended; with what went by it.
    Destroyed(ConnView),
    /// It has begun.
    New(ConnView),
    /// Its TCP state has changed, or its first answer came, or it became assured.
    Updated(ConnView),
}
