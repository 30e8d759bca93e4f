//! What the criterion benches share.
#![deny(unsafe_code)]

pub mod sys;
