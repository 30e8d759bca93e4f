//! The requirements of the bridge conformance reference, one test each, named by requirement.

mod acceptance;
mod fairness;
mod forwarding;
mod guard;
mod learning;
mod limits;
mod loops;
mod model;
mod mtu;
mod ports;
mod reserved;
mod scenario;
mod stats;
mod storm;
mod vlan;
