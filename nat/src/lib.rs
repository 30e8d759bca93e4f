//! A NAT engine: connection tracking, source and destination translation, on packets.
//!
//! The crate does no I/O. Time and IP packets come in, decisions go out, and packets are rewritten in place; see [`Nat`] for the
//! order of calls. A packet that cannot be translated never leaves (N-INV-1).
//!
//! IDs such as N-MAP-1 are requirements of the project's NAT conformance reference; the tests carry them in their names.
#![forbid(unsafe_code)]

mod config;
mod conntrack;
mod external;
mod forward;
mod fragments;
mod hosts;
mod icmp_error;
mod keyed;
mod listing;
mod nat;
mod network;
mod npt;
mod packet;
mod publications;
mod random;
mod reader;
mod rewrite;
mod saved;
mod sctp;
mod tcp;
mod time;
mod timeouts;
mod transport;
mod tuple;
mod verdict;

pub use config::{Config, Eviction, Filtering, HairpinSource, Limits, Mapping, PortChoice, Unsolicited};
pub use fragments::FragmentLimits;
pub use listing::{ConnView, Event, NetworkView, PublicationView, Traffic};
pub use nat::{Imported, Nat, packet_len};
pub use network::{AddNetworkError, Egress, MappingId, Network, Outside, PortMapping, PublishError};
pub use npt::{PrefixPair, PrefixPairError};
pub use saved::{SavedConn, SavedConnError};
pub use tcp::{TcpPolicy, TcpState};
pub use timeouts::{Timeouts, Timer};
pub use tuple::{Address, Direction, Ends, Tuple, Zone};
pub use verdict::{Counters, DropReason, Output, Verdict};
