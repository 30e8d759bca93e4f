//! Events: who is told of what, and how often.

use super::Switch;
use crate::{
    Event, PortId, Station,
    fdb::{Departed, Departure, Key},
    timeline::Tick,
};

impl Switch {
    pub(super) fn report_displacement(&mut self, now: Tick, ingress: PortId, displaced: Option<Departed>) {
        if let Some(departed) = displaced {
            if departed.cause == Departure::Evicted {
                self.count(ingress, |counters| counters.limit_hits += 1);
            }
            self.report_departure(departed, now);
        }
    }

    pub(super) fn report_departure(&mut self, Departed { key, port, cause }: Departed, now: Tick) {
        let station = station(key);
        let event = match cause {
            Departure::Aged => Event::Aged { station, port },
            Departure::Evicted => Event::Evicted { station, port },
        };
        self.report(now, port, event);
    }

    /// Reports an event about a station, if the port that causes it has not caused too many (B-LIM-4).
    pub(super) fn report(&mut self, now: Tick, cause: PortId, event: Event) {
        let Some(Some(port)) = self.ports.get_mut(cause.index()) else {
            return;
        };
        if port.station_events.take(1, now) {
            self.push_event(cause, event);
        } else {
            port.counters.events_suppressed += 1;
        }
    }

    pub(super) fn push_event(&mut self, cause: PortId, event: Event) {
        if !self.events.push(event) {
            self.count(cause, |counters| counters.events_suppressed += 1);
        }
    }
}

pub(super) fn station(key: Key) -> Station {
    Station {
        mac: key.mac(),
        vlan: key.vlan(),
    }
}
