//! What the control plane sees and changes of a worker's connections.

use std::{collections::VecDeque, time::Instant};

use vswitch_nat::{DropReason, Event, Nat, Zone};

use crate::{
    dataplane::{
        ConnFilter, ConnRow, TableKind, TablePlace, TranslatedNetwork, TranslatedPort, TranslationView,
        Visit, Watcher,
    },
    model::NetworkId,
};

/// Lists connections that pass the filter in a part of the tables that is small enough to visit between packets, and where to
/// go on.
pub(super) fn visit(
    mut tables: [Option<Table<'_>>; TABLES],
    now: Instant,
    (visit, filter): (Visit, &ConnFilter),
    from: TablePlace,
) -> (Vec<ConnRow>, Option<TablePlace>) {
    let (rows, next) = match tables.get_mut(from.table) {
        Some(Some(table)) => table.visit(now, (visit, filter), from.entry),
        Some(None) | None => (Vec::new(), None),
    };
    let next = match next {
        Some(entry) => Some(TablePlace { entry, ..from }),
        None => Some(TablePlace {
            table: from.table + 1,
            entry: 0,
        })
        .filter(|place| place.table < TABLES),
    };
    (rows, next)
}

/// The connections of a translation, with what its zones stand for.
pub(super) struct Table<'a> {
    pub(super) kind: TableKind,
    pub(super) nat: &'a mut Nat,
    /// Networks by the number of their zone, less one. One that has gone stays until its zone is used again, so that the ends
    /// of its connections are told with its name.
    pub(super) networks: &'a [NetworkId],
    /// Where the events are if somebody else takes them from the translation.
    pub(super) heard: Option<&'a mut Heard>,
}

impl Table<'_> {
    fn visit(
        &mut self,
        now: Instant,
        (visit, filter): (Visit, &ConnFilter),
        from: u32,
    ) -> (Vec<ConnRow>, Option<u32>) {
        let networks = self.networks;
        let (views, next) = self.nat.connections_from(now, from, AT_ONCE);
        let rows = views.map(|view| ConnRow::new(view, |zone| network_of(networks, zone)));
        let rows: Vec<ConnRow> = rows.filter(|row| filter.matches(row)).collect();
        if visit == Visit::Remove {
            for row in &rows {
                self.nat.remove(now, &row.view.original);
            }
        }
        (rows, next)
    }

    pub(super) fn view(&self) -> TranslationView {
        let network = |zone| network_of(self.networks, zone);
        let networks = self.nat.network_views().map(|view| TranslatedNetwork {
            network: network(view.network.zone),
            zone: view.network.zone,
            prefixes: view.network.prefixes.clone(),
            egress: view.network.egress.clone(),
            filtering: view.network.filtering,
            connections: view.connections,
        });
        let ports = self.nat.publications().map(|view| TranslatedPort {
            network: network(view.mapping.zone),
            mapping: view.mapping.clone(),
            hits: view.hits,
        });
        // The reasons come first.
        let counters = self.nat.counters().iter().enumerate();
        let counters = counters.filter(|&(_, (_, count))| count > 0);
        let (drops, other): (Vec<_>, Vec<_>) =
            counters.partition(|&(index, _)| index < DropReason::ALL.len());
        let named = |counters: Vec<(usize, _)>| counters.into_iter().map(|(_, counter)| counter).collect();
        TranslationView {
            kind: self.kind,
            addresses: self.nat.external_addresses().collect(),
            networks: networks.collect(),
            ports: ports.collect(),
            connections: self.nat.connection_count(),
            drops: named(drops),
            other: named(other),
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        match &mut self.heard {
            Some(heard) => heard.events.pop_front(),
            None => self.nat.poll_event(),
        }
    }

    fn set_events(&mut self, wanted: bool) {
        match &mut self.heard {
            Some(heard) => heard.set_wanted(wanted),
            None => self.nat.set_events(wanted),
        }
    }

    /// Events that were lost before they could be taken.
    fn lost(&self) -> u64 {
        let heard = self.heard.as_ref().map_or(0, |heard| heard.lost);
        self.nat.counters().events_lost + heard
    }
}

/// Events of a translation whose owner takes them for itself, too.
#[derive(Debug, Default)]
pub(super) struct Heard {
    is_wanted: bool,
    events: VecDeque<Event>,
    lost: u64,
}

impl Heard {
    /// Keeps an event, if somebody watches.
    pub(super) fn push(&mut self, event: &Event) {
        if !self.is_wanted {
            return;
        }
        match self.events.len() < MOST_HEARD {
            true => self.events.push_back(event.clone()),
            false => self.lost += 1,
        }
    }

    fn set_wanted(&mut self, wanted: bool) {
        self.is_wanted = wanted;
        if !wanted {
            self.events = VecDeque::new();
        }
    }
}

/// Who watches connections of a worker.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    all: Vec<Watcher>,
    /// By table, the events that were lost when that was last told.
    lost: [u64; TABLES],
}

impl Watchers {
    /// Has somebody hear what happens from now on.
    pub(super) fn add(&mut self, watcher: Watcher, mut tables: [Option<Table<'_>>; TABLES]) {
        for (table, told) in tables.iter_mut().zip(&mut self.lost) {
            let Some(table) = table else { continue };
            if self.all.is_empty() {
                *told = table.lost();
            }
            table.set_events(true);
        }
        self.all.push(watcher);
    }

    pub(super) const fn are_there(&self) -> bool {
        !self.all.is_empty()
    }

    /// Tells what has happened since the last call.
    pub(super) fn tell(&mut self, mut tables: [Option<Table<'_>>; TABLES]) {
        self.all.retain(|watcher| !watcher.is_gone());
        for (table, told) in tables.iter_mut().zip(&mut self.lost) {
            let Some(table) = table else { continue };
            while let Some(event) = table.poll_event() {
                for watcher in &self.all {
                    watcher.tell(&event, |zone| network_of(table.networks, zone));
                }
            }
            let lost = table.lost();
            if lost != *told {
                let news = lost.wrapping_sub(*told);
                self.all.iter().for_each(|watcher| watcher.tell_lost(news));
                *told = lost;
            }
            table.set_events(!self.all.is_empty());
        }
    }
}

fn network_of(networks: &[NetworkId], zone: Zone) -> Option<NetworkId> {
    let place = usize::from(zone.0).checked_sub(1)?;
    networks.get(place).copied()
}

/// Entries of a table that are visited per command: some hundred microseconds.
const AT_ONCE: u32 = 1024;
/// Events that wait to be told at the end of a turn, as many as a translation keeps.
const MOST_HEARD: usize = 4096;
/// A worker's: the uplink's if it has one, and the one between its networks.
const TABLES: usize = 2;

#[cfg(test)]
mod tests;
