//! Tells a person at a terminal that something is still going on.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Waits for an operation; one that takes longer than half a second gets a spinner on stderr, if
/// that is a terminal. Nothing of the spinner is left when the operation ends.
pub async fn with_spinner<T>(what: &str, operation: impl Future<Output = T>) -> T {
    let mut operation = std::pin::pin!(operation);
    if !io::stderr().is_terminal() {
        return operation.await;
    }
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut operation).await {
        return done;
    }
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        .with_style(ProgressStyle::default_spinner())
        .with_message(what.to_owned());
    spinner.enable_steady_tick(TICK);
    let _cleared = Cleared(&spinner);
    operation.await
}

/// Clears the spinner also when the waiting is given up.
struct Cleared<'a>(&'a ProgressBar);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// How long an operation may take before a person wonders.
const PATIENCE: Duration = Duration::from_millis(500);

/// Time between two pictures of the spinner.
const TICK: Duration = Duration::from_millis(100);
