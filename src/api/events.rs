//! `/events`.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Query, State},
    response::{IntoResponse, Response},
};
use hyper::{
    body::{Bytes, Frame},
    header,
};
use tokio::sync::{broadcast::error::RecvError, mpsc};

use super::{
    error::ApiError,
    networks::{Parameters, filters},
    server::Api,
    types::Event,
};
use crate::model::Timestamp;

/// Streams events: remembered ones when `since` or `until` is given, then new ones until `until`, the
/// client's end or ours.
pub(super) async fn events(State(api): State<Api>, Query(query): Parameters) -> Result<Response, ApiError> {
    let filters = filters(&query)?;
    let now = Timestamp::now();
    let time = |key: &str| {
        let text = query.get(key).filter(|text| !text.is_empty());
        text.map(|text| Timestamp::parse(text, now)).transpose()
    };
    let (since, until) = (time("since")?, time("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(ApiError::invalid("`since` time cannot be after `until` time"));
    }
    let (recent, mut receiver) = api.control.events();
    let mut closing = api.closing.clone();
    let (sender, lines) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let in_time = |event: &Event| {
            since.is_none_or(|since| event.time_nano >= since.nanoseconds())
                && until.is_none_or(|until| event.time_nano <= until.nanoseconds())
        };
        if since.is_some() || until.is_some() {
            for event in recent
                .iter()
                .filter(|event| in_time(event) && filters.event(event))
            {
                if sender.send(line(event)).await.is_err() {
                    return;
                }
            }
        }
        let rest = until.map(|until| until.since(now));
        let end = async {
            match rest {
                Some(rest) => tokio::time::sleep(rest).await,
                None => std::future::pending::<()>().await,
            }
        };
        tokio::pin!(end);
        if rest == Some(Duration::ZERO) {
            return;
        }
        loop {
            let event = tokio::select! {
                event = receiver.recv() => event,
                _ = closing.wait_for(|closing| *closing) => return,
                () = sender.closed() => return,
                () = &mut end => return,
            };
            match event {
                Ok(event) if filters.event(&event) => {
                    if sender.send(line(&event)).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "a client reads events too slowly"),
                Err(RecvError::Closed) => return,
            }
        }
    });
    let headers = [(header::CONTENT_TYPE, "application/json")];
    Ok((headers, Body::new(Lines(lines))).into_response())
}

/// Lines that wait for a slow client, beside those that the control plane keeps.
const BACKLOG: usize = 64;

fn line(event: &Event) -> Bytes {
    // Strings and integers always serialise.
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// A body that ends with its channel.
pub(super) struct Lines(pub(super) mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
