//! What the control plane sees and changes of a worker's connections.

use std::time::Instant;

use vswitch_nat::{ConnView, DropReason, Nat, Zone};

use crate::{
    dataplane::{ConnFilter, ConnRow, TranslatedNetwork, TranslatedPort, TranslationView, Visit, Watcher},
    model::NetworkId,
};

/// A worker's translation with what its zones stand for.
pub(super) struct Translation<'a> {
    pub(super) nat: &'a mut Nat,
    /// Networks by the number of their zone, less one. One that has gone stays until its zone is used again, so that the ends
    /// of its connections are told with its name.
    pub(super) networks: &'a [NetworkId],
}

impl Translation<'_> {
    /// Lists connections that pass the filter in a part of the table that is small enough to visit between packets, and where
    /// to go on.
    pub(super) fn visit(
        &mut self,
        now: Instant,
        visit: Visit,
        filter: &ConnFilter,
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
            addresses: self.nat.external_addresses().collect(),
            networks: networks.collect(),
            ports: ports.collect(),
            connections: self.nat.connection_count(),
            drops: named(drops),
            other: named(other),
        }
    }
}

/// Who watches connections of a worker.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    all: Vec<Watcher>,
    /// Events that the translation itself had no room for, when that was last told.
    lost: u64,
}

impl Watchers {
    pub(super) fn add(&mut self, watcher: Watcher) {
        self.all.push(watcher);
    }

    /// Tells what has happened since the last call. Without watchers that is one comparison.
    #[inline]
    pub(super) fn settle(&mut self, translation: Option<Translation<'_>>) {
        if !self.all.is_empty() {
            self.tell(translation);
        }
    }

    fn tell(&mut self, translation: Option<Translation<'_>>) {
        self.all.retain(|watcher| !watcher.is_gone());
        let Some(Translation { nat, networks }) = translation else {
            return;
        };
        while let Some(event) = nat.poll_event() {
            for watcher in &self.all {
                watcher.tell(&event, |zone| network_of(networks, zone));
            }
        }
        let lost = nat.counters().events_lost;
        if lost != self.lost {
            let news = lost.wrapping_sub(self.lost);
            self.all.iter().for_each(|watcher| watcher.tell_lost(news));
            self.lost = lost;
        }
        nat.set_events(!self.all.is_empty());
    }
}

fn network_of(networks: &[NetworkId], zone: Zone) -> Option<NetworkId> {
    let place = usize::from(zone.0).checked_sub(1)?;
    networks.get(place).copied()
}

/// Entries of the table that are visited per command: some hundred microseconds.
const AT_ONCE: u32 = 1024;

#[cfg(test)]
mod tests;
