//! Our host on the link of the device by which networks leave (`--uplink device=…`), without any I/O.
//!
//! [`Station`] has an Ethernet address and IP addresses of its own there: it makes sure that nobody else has them,
//! answers for them, and finds the Ethernet addresses of the next hops. Time and frames come in, frames go out through
//! [`Transmit`]; what packets mean is the NAT engine's business.

mod addresses;
mod config;
mod groups;
mod neighbours;
mod station;

pub use addresses::Standing;
pub use config::{DeviceUplink, InvalidUplink, UplinkChoice};
pub use neighbours::Sender;
pub use station::{Arrival, Counters, Event, Station, Transmit, Undelivered};
pub(crate) use station::{destination, destination_of};
