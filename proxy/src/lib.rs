//! The rootless way out: container flows ended in host sockets.
//!
//! A container's TCP connection, UDP conversation or ping is a *flow*: one host socket each, which is also
//! the only buffer. [`Relay`](relay::Relay) keeps one network's flows; packets of containers and readiness of
//! sockets come in, frames go out through a [`Link`]. Time is an argument.
//!
//! - [`tcp`] is the TCP state machine, sans-IO: segments and socket events in, segments and socket operations
//!   out, through [`tcp::FlowIo`].
//! - [`publish`] is the way in: published ports, whose clients come by the host's listening sockets.
//! - [`splice`] moves streams from socket to socket, for clients on this host.
//! - [`pktinfo`] is UDP sockets that many peers share.
//! - [`forward`] is one published port in a process of its own.
//! - [`config`] says what a network allows; [`listing`] what a flow looks like from outside.
//!
//! IDs such as R-TX-3 are requirements of the project's relay conformance reference; the tests carry them in
//! their names. `unsafe` is in `sys` alone.
#![deny(unsafe_code)]

mod activity;
mod allowance;
pub mod config;
mod counters;
mod datagram;
mod datagram_socket;
mod drain;
mod echo;
mod errors;
pub mod forward;
pub mod link;
pub mod listing;
mod payload;
pub mod pktinfo;
pub mod publish;
mod reassembly;
pub mod relay;
mod report;
mod resolvers;
pub mod seq;
pub mod splice;
mod stream;
mod sys;
pub mod tcp;
mod udp;

#[cfg(test)]
mod mock;

pub(crate) use link::FlowId;
pub use link::{Delivery, Hop, Link, Outbound, Path, Scratch, SocketId};
pub use relay::Relay;
