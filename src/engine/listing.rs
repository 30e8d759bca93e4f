//! What the engine shows of itself.

use std::time::Instant;

use vswitch_switch::{EntryKind, Event, PortId};

use super::Engine;
use crate::{
    dataplane::{FdbKind, FdbRow, PortRow},
    model::NetworkId,
};

impl Engine {
    /// The forwarding database.
    pub fn fdb(&self, now: Instant, network: NetworkId) -> impl Iterator<Item = FdbRow> {
        self.switch.fdb(now).map(move |entry| FdbRow {
            network,
            mac: entry.mac,
            vlan: entry.vlan.map(|vlan| vlan.value()),
            port: entry.port.map_or(self.gateway_port, |port| port).0,
            label: self.label(entry.port.unwrap_or(self.gateway_port)).to_owned(),
            age: entry.age,
            kind: match entry.kind {
                EntryKind::Dynamic => FdbKind::Dynamic,
                EntryKind::Local => FdbKind::Local,
                EntryKind::Static => FdbKind::Static,
            },
        })
    }

    /// The ports with their counters.
    pub fn ports(&self, network: NetworkId) -> impl Iterator<Item = PortRow> {
        self.switch.ports().filter_map(move |(port, config)| {
            let counters = self.switch.counters(port)?;
            let link = self.links.get(port.index());
            let other = [
                ("flooded", counters.flooded),
                ("learned", counters.learned),
                ("moved", counters.moved),
                ("limit_hits", counters.limit_hits),
                ("events_suppressed", counters.events_suppressed),
            ];
            Some(PortRow {
                network,
                port: port.0,
                label: self.label(port).to_owned(),
                endpoint: link.and_then(|link| link.endpoint),
                state: if self.switch.is_blocked(port) {
                    "blocked"
                } else {
                    "forwarding"
                }
                .to_owned(),
                mtu: config.mtu,
                rx_frames: counters.rx_frames,
                rx_bytes: counters.rx_bytes,
                tx_frames: counters.tx_frames,
                tx_bytes: counters.tx_bytes,
                other: other.into_iter().filter(|&(_, count)| count > 0).collect(),
                drops: counters
                    .drops()
                    .map(|(reason, count)| (reason.name(), count))
                    .filter(|&(_, count)| count > 0)
                    .collect(),
            })
        })
    }

    /// Logs what the switch has noticed. The switch limits these events itself, to 100 a second per port.
    pub fn report_events(&mut self, network: &str) {
        while let Some(event) = self.switch.poll_event() {
            match event {
                Event::Flapping {
                    station,
                    older,
                    younger,
                } => {
                    tracing::warn!(network, mac = %station.mac, kept_on = self.label(older), seen_on = self.label(younger), "a station flaps between two ports");
                }
                Event::PinViolated {
                    station,
                    owner,
                    offender,
                } => {
                    tracing::warn!(network, mac = %station.mac, owner = self.label(owner), offender = self.label(offender), "a container used another's MAC address");
                }
                Event::PortBlocked { port, cause, .. } => {
                    tracing::warn!(
                        network,
                        port = self.label(port),
                        ?cause,
                        "a port was disabled for a while"
                    );
                }
                Event::PortUnblocked { port } => {
                    tracing::info!(network, port = self.label(port), "a port is enabled again");
                }
                Event::LimitReached { station, port, limit } => {
                    tracing::debug!(network, mac = %station.mac, port = self.label(port), ?limit, "a station could not be learnt");
                }
                Event::Aged { .. } | Event::Evicted { .. } | Event::Learned { .. } | Event::Moved { .. } => {
                    tracing::trace!(network, ?event, "forwarding database changed");
                }
            }
        }
    }

    fn label(&self, port: PortId) -> &str {
        self.links.get(port.index()).map_or("", |link| &link.label)
    }
}
