//! The TCP relay's state machine against the relay conformance reference: one module for each of its
//! sections. A test carries the ID of the requirement that it shows; `t…` are the reference's own vectors.

mod host;
mod scenario;
mod segment;

mod from_container;
mod open;
mod options;
mod to_container;
