//! Instruments for tests: a virtual clock, builders of frames, a comparison of captures. A dev-dependency only.
#![forbid(unsafe_code)]

mod clock;
pub mod compare;
pub mod frames;

pub use clock::Clock;
