//! The requirements of the NAT conformance reference, through the engine as its users call it: one test each, named by requirement.
//! What the parts do by themselves (the tracker of TCP, N-CK-1 to N-CK-10, reassembly) is shown beside them in `nat/src`.
//!
//! Not here: N-INV-4 (the engine sees no frames), N-DN-8 (the relay's), N-V6-5 (the uplink's), N-ALG-2 (there are no ALGs:
//! N-ALG-1).

mod errors;
mod fairness;
mod filtering;
mod forwarding;
mod fragments;
#[path = "../fuzz/mod.rs"]
mod fuzz;
mod fuzzed;
mod golden;
mod invalid;
mod mapping;
mod model;
mod others;
mod packets;
mod ports;
mod properties;
mod published;
mod queries;
mod restart;
mod site;
mod tables;
mod tcp;
mod timeouts;
mod v6;
mod zones;
