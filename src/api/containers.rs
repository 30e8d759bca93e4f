//! `/containers`: our sandboxes, as Docker shows and ends containers.

use std::time::Duration;

use axum::{
    Json,
    extract::{ConnectInfo, Path, Query, State},
};
use hyper::StatusCode;
use tokio::sync::Semaphore;

use super::{
    error::ApiError,
    networks::{Parameters, filters},
    server::{Api, PeerInfo},
    types::{Container, ContainerSummary},
    views,
};
use crate::{
    control::{ControlError, Stopped, parse_signal},
    model::{Sandbox, Timestamp},
};

pub(super) async fn list(
    State(api): State<Api>,
    Query(query): Parameters,
) -> Result<Json<Vec<ContainerSummary>>, ApiError> {
    let filters = filters(&query)?;
    // moby: httputils.BoolValue.
    let is_set = |text: &str| {
        !matches!(
            text.trim().to_lowercase().as_str(),
            "" | "0" | "no" | "false" | "none"
        )
    };
    let limit = match query.get("limit").filter(|limit| !limit.is_empty()) {
        None => None,
        Some(limit) => {
            let limit = integer(limit)?;
            usize::try_from(limit).ok().filter(|limit| *limit > 0)
        }
    };
    // A limit means the latest ones, whatever their state.
    let all = limit.is_some() || query.get("all").is_some_and(|all| is_set(all));
    let now = Timestamp::now();
    let containers = api.control.read(|state| {
        let mut sandboxes = filters.sandboxes(state, all)?;
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.created));
        sandboxes.truncate(limit.unwrap_or(usize::MAX));
        let summaries = sandboxes
            .into_iter()
            .map(|sandbox| (sandbox.clone(), views::summary(state, sandbox, now)));
        Ok::<_, ApiError>(summaries.unzip())
    });
    let (sandboxes, mut summaries): (_, Vec<ContainerSummary>) = containers?;
    for (summary, command) in summaries.iter_mut().zip(commands(sandboxes).await) {
        summary.command = command.join(" ");
    }
    Ok(Json(summaries))
}

pub(super) async fn inspect(
    State(api): State<Api>,
    Path(term): Path<String>,
) -> Result<Json<Container>, ApiError> {
    let (sandbox, mut container) = api.control.read(|state| {
        state
            .resolve_sandbox(&term)
            .map(|sandbox| (sandbox.clone(), views::container(state, sandbox)))
    })?;
    let mut words = commands(vec![sandbox]).await.into_iter().flatten();
    container.path = words.next().unwrap_or_default();
    container.args = words.collect();
    Ok(Json(container))
}

/// What runs in each of the sandboxes; nothing when that cannot be read in time.
///
/// A container can hold up whoever reads its command line. That must cost neither a thread of the runtime
/// nor the threads of the blocking pool one by one, because the store needs them.
async fn commands(sandboxes: Vec<Sandbox>) -> Vec<Vec<String>> {
    static READERS: Semaphore = Semaphore::const_new(4);
    let read = async {
        let permit = READERS.acquire().await.ok()?;
        let reading = tokio::task::spawn_blocking(move || {
            let commands = sandboxes.iter().map(views::command).collect();
            drop(permit);
            commands
        });
        reading.await.ok()
    };
    let read = tokio::time::timeout(COMMAND_PATIENCE, read).await;
    read.ok().flatten().unwrap_or_default()
}

/// Ends the sandbox's process: 204, or 304 when it had ended before.
pub(super) async fn stop(
    State(mut api): State<Api>,
    ConnectInfo(peer): PeerInfo,
    Path(term): Path<String>,
    Query(query): Parameters,
) -> Result<StatusCode, ApiError> {
    let value = |key: &str| query.get(key).map(String::as_str).filter(|text| !text.is_empty());
    let signal = parse_signal(value("signal").unwrap_or("SIGTERM"))?;
    let patience = match value("t").map(integer).transpose()? {
        None => Some(STOP_PATIENCE),
        // A negative one means for ever.
        Some(seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
    };
    let stopped = api.control.stop_sandbox(&term, signal, patience, peer.caller()?);
    tokio::select! {
        stopped = stopped => Ok(match stopped? {
            Stopped::Already => StatusCode::NOT_MODIFIED,
            Stopped::Now => StatusCode::NO_CONTENT,
        }),
        // A patient caller must not keep the daemon from ending.
        _ = api.closing.wait_for(|closing| *closing) => Err(ControlError::ShuttingDown.into()),
    }
}

/// Sends the sandbox's process a signal, SIGKILL by default.
pub(super) async fn kill(
    State(api): State<Api>,
    ConnectInfo(peer): PeerInfo,
    Path(term): Path<String>,
    Query(query): Parameters,
) -> Result<StatusCode, ApiError> {
    let signal = query.get("signal").filter(|text| !text.is_empty());
    let signal = parse_signal(signal.map_or("SIGKILL", String::as_str))?;
    api.control.kill_sandbox(&term, signal, peer.caller()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A command line takes some 20 µs to read.
const COMMAND_PATIENCE: Duration = Duration::from_secs(2);

/// moby: `defaultStopTimeout` (daemon/container).
const STOP_PATIENCE: Duration = Duration::from_secs(10);

fn integer(text: &str) -> Result<i64, ApiError> {
    text.parse()
        .map_err(|_| ApiError::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
}
