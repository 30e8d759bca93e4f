//! What happened, for `GET /events`.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast;

use crate::{
    api::types::{Actor, Event, StringMap},
    model::{Network, Sandbox, Timestamp},
};

/// Remembers the latest events and passes new ones on.
#[derive(Debug)]
pub(super) struct Events {
    recent: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            recent: Mutex::default(),
            sender: broadcast::channel(BACKLOG).0,
        }
    }

    /// The remembered events, and from there on all that happens.
    pub(super) fn subscribe(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let recent = self.recent();
        (recent.iter().cloned().collect(), self.sender.subscribe())
    }

    /// Something happened to a network.
    pub(super) fn network(&self, action: &str, network: &Network) {
        self.emit("network", action, network.id.to_string(), of_network(network));
    }

    /// A sandbox was connected to or disconnected from a network.
    pub(super) fn attachment(&self, action: &str, network: &Network, sandbox: &Sandbox) {
        let mut attributes = of_network(network);
        attributes.insert("container".into(), sandbox.id.to_string());
        self.emit("network", action, network.id.to_string(), attributes);
    }

    /// Networks were pruned.
    pub(super) fn pruned(&self) {
        let attributes = StringMap::from([("reclaimed".to_owned(), "0".to_owned())]);
        self.emit("network", "prune", String::new(), attributes);
    }

    /// Something happened to a sandbox.
    pub(super) fn sandbox(&self, action: &str, sandbox: &Sandbox) {
        let attributes = StringMap::from([("name".to_owned(), sandbox.name.clone())]);
        self.emit("container", action, sandbox.id.to_string(), attributes);
    }

    fn emit(&self, kind: &str, action: &str, id: String, attributes: StringMap) {
        let now = Timestamp::now();
        let event = Event {
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor { id, attributes },
            scope: "local".to_owned(),
            time: now.seconds(),
            time_nano: now.nanoseconds(),
        };
        // Under the lock, so that a subscriber sees each event once.
        let mut recent = self.recent();
        if recent.len() == BACKLOG {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        // Fails when nobody listens.
        let _ = self.sender.send(event);
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As many as moby remembers (daemon/events, `eventsLimit`).
const BACKLOG: usize = 256;

fn of_network(network: &Network) -> StringMap {
    [("name", network.name.as_str()), ("type", network.driver.name())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
