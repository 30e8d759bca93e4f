//! The TCP state machine of one flow, sans-IO.

mod io;

pub use io::{FlowIo, Outgoing, Room, SynOptions};
