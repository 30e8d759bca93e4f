//! The HTTP API on the unix socket: Docker's network subset, and `/vswitch/v1/` for what Docker has no
//! word for.

pub use self::{
    client::{Client, ClientError},
    server::serve,
    socket::DaemonSocket,
};

pub mod client;
pub mod socket;
pub mod types;

mod conntrack;
mod containers;
mod error;
mod events;
mod networks;
mod server;
mod system;
mod views;
mod vswitch;

#[cfg(test)]
mod tests;
