//! A capture through the NAT engine: what arrived at a router goes in, what the engine makes of it comes out.
//!
//! The engine is the daemon's own, [`vswitch_nat::Nat`]; only its surroundings are made up. Time is that of the
//! capture, so a replay takes no longer than the engine does, and gives the same every time: what the engine chooses
//! at random follows from the configuration's seed.
//!
//! # Where a packet comes from
//!
//! The configuration has sides: the outside, and each network. A packet belongs to
//! 1. the side whose `interface` is the name, or the number, of the interface that the capture has for it. A side that
//!    says nothing has its own name as interface, which is what a replay's own output has;
//! 2. else, if any side has a `mac`, the side whose `mac` the frame was sent to; a frame to none of them is skipped. This
//!    separates what arrives from what leaves where both were captured on one interface;
//! 3. else the network in one of whose prefixes its source is; else the outside.
//!
//! # What comes out
//!
//! An Ethernet interface for each side, with the packets that leave there, each at the time of the packet that caused it.
//! A frame keeps its Ethernet header; what the engine sends back has it turned round; what came without one gets one
//! that is made up.

pub mod capture;
pub mod config;

mod explain;
mod link;
mod recorder;
mod run;
mod summary;

pub use explain::explain;
pub use link::Skip;
pub use recorder::Recorder;
pub use run::{Emitted, Fate, Origin, Report, RunError, Step, run};
pub use summary::Summary;

#[cfg(test)]
mod tests;
