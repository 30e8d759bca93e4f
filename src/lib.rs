//! A userspace virtual switch for containers.
#![deny(unsafe_code)]

pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dataplane;
pub mod demo;
pub mod dns;
pub mod engine;
pub mod hidden;
pub mod io;
pub mod log;
pub mod model;
pub mod paths;
pub mod replay;
pub mod sandbox;
pub mod uplink;
mod worker;
