//! `/vswitch/v1/conntrack` and `/vswitch/v1/nat`.

mod entry;
mod query;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Query, State},
    response::{IntoResponse, Response},
};
use hyper::{body::Bytes, header};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use self::{
    entry::{Owners, entry, nat_info},
    query::{Wanted, filter, kinds},
};
use super::{
    error::ApiError,
    events::Lines,
    networks::Parameters,
    server::Api,
    types::{ConnectionCount, ConnectionEvent, NatInfo, PortStats},
};
use crate::{
    control::{Control, ControlError},
    dataplane::{ConnEvent, ConnEvents, ConnFilter, ConnPage, ConnRow, Place, TranslationView, Visit},
};

/// Lists connections.
pub(super) async fn list(State(api): State<Api>, Query(query): Parameters) -> Result<Response, ApiError> {
    stream(&api, query, Visit::List)
}

/// Removes connections and lists what they were.
pub(super) async fn remove(State(api): State<Api>, Query(query): Parameters) -> Result<Response, ApiError> {
    stream(&api, query, Visit::Remove)
}

/// Counts all connections, with those that are over and not yet removed.
pub(super) async fn count(State(api): State<Api>) -> Result<Json<ConnectionCount>, ApiError> {
    let views = api.control.dataplane().translations().await?;
    let count = views.iter().map(|view| view.connections as u64).sum();
    Ok(Json(ConnectionCount { count }))
}

/// Streams what happens to connections from now on, until the client's end or ours.
pub(super) async fn events(
    State(api): State<Api>,
    Query(mut query): Parameters,
) -> Result<Response, ApiError> {
    let kinds = kinds(query.remove("types"))?;
    let filter = api.control.read(|state| filter(state, &query))?;
    let events = api.control.dataplane().connection_events(Arc::new(filter));
    let events = events.await?;
    let (sender, lines) = mpsc::channel(1);
    tokio::spawn(send_events(
        api.control.clone(),
        (events, kinds),
        sender,
        api.closing.clone(),
    ));
    Ok(json(lines))
}

/// What is translated to what.
pub(super) async fn nat(State(api): State<Api>) -> Result<Json<NatInfo>, ApiError> {
    let views = api.control.dataplane().translations().await?;
    Ok(Json(api.control.read(|state| nat_info(state, views))))
}

/// The counters of the translations, as those of a port that is on no network.
pub(super) async fn stats(control: &Control) -> Result<Option<PortStats>, ControlError> {
    let views = control.dataplane().translations().await?;
    let sum = |of: fn(&TranslationView) -> &Vec<(&'static str, u64)>| {
        let mut sums = std::collections::BTreeMap::new();
        for &(name, count) in views.iter().flat_map(of) {
            *sums.entry(format!("nat_{name}")).or_default() += count;
        }
        sums
    };
    let (drops, other) = (sum(|view| &view.drops), sum(|view| &view.other));
    let has_counted = !drops.is_empty() || !other.is_empty();
    Ok(has_counted.then(|| PortStats {
        network: String::new(),
        network_id: String::new(),
        port: 0,
        label: "nat".into(),
        sandbox: String::new(),
        interface: String::new(),
        rx_frames: 0,
        rx_bytes: 0,
        tx_frames: 0,
        tx_bytes: 0,
        other,
        drops,
    }))
}

/// An array, made and sent in parts: neither the packet loop nor this daemon's memory has the whole of a large table.
fn stream(api: &Api, query: HashMap<String, String>, visit: Visit) -> Result<Response, ApiError> {
    let filter = api.control.read(|state| filter(state, &query))?;
    let (sender, parts) = mpsc::channel(1);
    tokio::spawn(send_rows(api.control.clone(), Arc::new(filter), visit, sender));
    Ok(json(parts))
}

async fn send_rows(control: Control, filter: Arc<ConnFilter>, visit: Visit, sender: mpsc::Sender<Bytes>) {
    let mut place = Some(Place::START);
    let mut text = vec![b'['];
    let mut separator: &[u8] = b"";
    while let Some(from) = place {
        let dataplane = control.dataplane();
        let page = match visit {
            Visit::List => dataplane.connections(&filter, from).await,
            Visit::Remove => dataplane.remove_connections(&filter, from).await,
        };
        let ConnPage { rows, next } = match page {
            Ok(page) => page,
            // The array stays open, which tells the client.
            Err(error) => return tracing::warn!(%error, "a listing of connections ends early"),
        };
        control.read(|state| {
            let owners = Owners::new(state, &rows);
            for row in &rows {
                text.extend_from_slice(separator);
                separator = b",";
                push(&mut text, &entry(state, &owners, row));
            }
        });
        place = next;
        if place.is_none() {
            text.extend_from_slice(b"]\n");
        }
        if text.len() < PART && place.is_some() {
            continue;
        }
        let sent = sender.send(std::mem::take(&mut text).into()).await;
        if sent.is_err() && visit == Visit::List {
            return;
        }
    }
}

/// Bytes that are worth a part of an answer.
const PART: usize = 16 << 10;

async fn send_events(
    control: Control,
    (mut events, kinds): (ConnEvents, Wanted),
    sender: mpsc::Sender<Bytes>,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = closing.wait_for(|closing| *closing) => return,
            () = sender.closed() => return,
        };
        let Some(event) = event else { return };
        if !kinds.has(&event) {
            continue;
        }
        let mut line = Vec::new();
        push(&mut line, &told(&control, &event));
        line.push(b'\n');
        if sender.send(line.into()).await.is_err() {
            return;
        }
    }
}

fn told(control: &Control, event: &ConnEvent) -> ConnectionEvent {
    let entry = |row: &ConnRow| {
        control.read(|state| entry(state, &Owners::new(state, std::slice::from_ref(row)), row))
    };
    match event {
        ConnEvent::Destroyed(row) => ConnectionEvent::Destroy(entry(row)),
        ConnEvent::Lost(count) => ConnectionEvent::Lost(ConnectionCount { count: *count }),
        ConnEvent::New(row) => ConnectionEvent::New(entry(row)),
        ConnEvent::Updated(row) => ConnectionEvent::Update(entry(row)),
    }
}

fn push(text: &mut Vec<u8>, value: &impl Serialize) {
    // Strings and numbers always serialise, and a vector takes everything.
    let _ = serde_json::to_writer(text, value);
}

fn json(parts: mpsc::Receiver<Bytes>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (headers, Body::new(Lines(parts))).into_response()
}
