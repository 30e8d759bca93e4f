//! Instruments for tests: a virtual clock and builders of frames. A dev-dependency only.
#![forbid(unsafe_code)]

mod clock;
pub mod frames;

pub use clock::Clock;
