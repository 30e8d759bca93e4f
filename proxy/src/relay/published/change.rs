//! Changes of a mapping in service that nobody's connection notices.

use std::ops::RangeInclusive;

use super::{Counters, Mapping, Relay};
use crate::{
    FlowId,
    allowance::Allowance,
    publish::{MappingId, MappingSpec, Routing},
};

impl Relay {
    /// New clients of a mapping are shown by this routing from now on. `false` if there is no such mapping.
    pub fn reroute(&mut self, id: MappingId, routing: Routing) -> bool {
        let Some(mapping) = self.published.mappings.get_mut(&id) else {
            return false;
        };
        let backend = &mut mapping.spec.backend;
        backend.routed_v4 = routing.routed_v4;
        backend.routed_v6 = routing.routed_v6;
        backend.on_link = routing.on_link;
        true
    }

    /// Makes the listeners for these ports of the container a mapping of their own, with the same rules and the
    /// connections that came by them. `false` if there is no such mapping.
    pub fn split(&mut self, id: MappingId, ports: RangeInclusive<u16>, apart: MappingId) -> bool {
        let published = &mut self.published;
        let Some(mapping) = published.mappings.get_mut(&id) else {
            return false;
        };
        let spec = MappingSpec {
            id: apart,
            ..mapping.spec.clone()
        };
        let doors = &mut published.listeners;
        let mut moved = Vec::new();
        mapping.listeners.retain(|&listener| {
            let door = doors.get_mut(listener.0 as usize).and_then(Option::as_mut);
            let Some(door) = door.filter(|door| ports.contains(&door.container_port)) else {
                return true;
            };
            door.mapping = apart;
            let known = &self.config.published;
            // The new entry first, so that callers always find one.
            known.insert(apart, spec.protocol, door.bound);
            known.remove(id, spec.protocol, door.bound);
            moved.push(listener);
            false
        });
        let of_ports = self
            .flows
            .iter()
            .filter(|(_, flow)| flow.mapping == Some(id) && ports.contains(&flow.tuple.container.port()));
        let flows: Vec<FlowId> = of_ports.map(|(id, _)| id).collect();
        let splices = self
            .splices
            .move_to(apart, |mapping, port| mapping == id && ports.contains(&port));
        let active = (flows.len() + splices) as u32;
        for flow in flows {
            if let Some(flow) = self.flows.get_mut(flow) {
                flow.mapping = Some(apart);
            }
        }
        mapping.active = mapping.active.saturating_sub(active);
        let rate = spec.rules.connections_per_second.map(Allowance::per_second);
        let part = Mapping {
            spec,
            listeners: moved,
            active,
            rate,
            counters: Counters::default(),
        };
        published.mappings.insert(apart, part);
        true
    }
}
