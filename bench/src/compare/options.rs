//! What the commands that compare peers have for options.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options of a comparison of peers `P`.
#[derive(Debug, Args)]
pub(crate) struct Options<P: ValueEnum + Send + Sync + 'static> {
    /// Interleaved rounds; the report gives their medians.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Length of each measurement in seconds.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Peers to measure, separated by commas; all by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<P>,
    /// Directory for the report as JSON and as a picture.
    #[arg(long, default_value = "target/bench")]
    pub(crate) out: PathBuf,
    /// Flags for vswitchd, for example --poll=sleep.
    #[arg(last = true)]
    pub(crate) daemon: Vec<String>,
}
