//! The TCP relay's state machine against the relay conformance reference: one module for each of its
//! sections. A test carries the ID of the requirement that it shows; `t…` are the reference's own vectors.

mod host;
mod scenario;
mod segment;
mod site;

mod acceptance;
mod closing;
mod from_container;
mod inbound;
mod limits;
mod network;
mod open;
mod options;
mod out_of_order;
mod published;
mod published_udp;
mod streams;
mod timers;
mod to_container;
mod tuples;
mod vectors;
