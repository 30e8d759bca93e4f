//! Integration tests: our programs against the real kernel, in namespaces of their own.
#![forbid(unsafe_code)]

mod assumptions;
mod attach;
mod cli;
mod commands;
mod container_death;
mod dataplane;
mod demo;
mod docker;
mod dockerd;
mod hostile_neighbour;
mod idle;
mod isolation;
mod namespace_sockets;
mod oracle;
mod outbound;
mod packet;
mod policy;
mod published;
mod refusals;
mod resolvers;
mod restart;
mod sandbox;
mod shutdown;
mod support;
mod tunnel;
mod uplink;
mod veth;
mod walk_through;
