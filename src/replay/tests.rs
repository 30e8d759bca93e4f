//! The fixtures of `tests/data/nat`, and what a run does besides translating.

mod fixtures;
mod mutations;
mod samples;
mod steps;
