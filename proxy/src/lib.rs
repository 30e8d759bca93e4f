//! The rootless way out: container flows ended in host sockets.
//!
//! A container's TCP connection, UDP conversation or ping is a *flow*: one host socket each, which is also
//! the only buffer. [`Relay`](relay::Relay) keeps one network's flows; packets of containers and readiness of
//! sockets come in, frames go out through a [`Link`]. Time is an argument.
//!
//! - [`tcp`] is the TCP state machine, sans-IO: segments and socket events in, segments and socket operations
//!   out, through [`tcp::FlowIo`].
//! - [`config`] says what a network allows; [`listing`] what a flow looks like from outside.
//!
//! IDs such as R-TX-3 are requirements of the project's relay conformance reference; the tests carry them in
//! their names. `unsafe` is in `sys` alone.
#![deny(unsafe_code)]

pub mod config;
pub mod link;
pub mod listing;
pub mod seq;
pub mod tcp;

#[cfg(test)]
mod mock;

// The relay, which is to use these, is not there yet.
#[allow(dead_code)]
mod datagram;
#[allow(dead_code)]
mod datagram_socket;
#[allow(dead_code)]
mod echo;
#[allow(dead_code)]
mod errors;
#[allow(dead_code)]
mod payload;
#[allow(dead_code)]
mod reassembly;
#[allow(dead_code)]
mod report;
#[allow(dead_code)]
mod sys;
#[allow(dead_code)]
mod udp;

pub use link::{Delivery, FlowId, Link, Outbound, Path, Scratch};
