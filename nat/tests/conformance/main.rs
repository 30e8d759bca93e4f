//! The requirements of the NAT conformance reference, through the engine as its users call it: one test each, named by requirement.
//! What the parts do by themselves (the tracker of TCP, checksums, reassembly) is shown beside them in `nat/src`.

mod errors;
mod fairness;
mod filtering;
mod forwarding;
mod fragments;
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
