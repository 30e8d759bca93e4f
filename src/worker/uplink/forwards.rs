//! Published ports of the uplink's addresses: which of the translation's mappings are whose.

use std::{collections::HashMap, net::IpAddr, ops::RangeInclusive, time::Instant};

use vswitch_nat::{Nat, PortMapping, PublishError, Zone};
use vswitch_proxy::{
    listing::Protocol,
    publish::{Connections, MappingId, MappingSpec},
};
use vswitch_wire::IpProtocol;

use crate::{dataplane::Forwarding, worker::shortcut::take_back};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    by_id: HashMap<MappingId, Forward>,
    /// Number of the translation's mapping that was made last.
    last: u64,
}

/// Those of one mapping.
#[derive(Debug, Clone)]
struct Forward {
    slot: usize,
    targets: Vec<(Zone, IpAddr)>,
    protocol: IpProtocol,
    forwarding: Forwarding,
    /// What they are called there.
    ids: Vec<vswitch_nat::MappingId>,
}

impl Forwards {
    /// Publishes ports that lead to these targets, all or none.
    pub(super) fn publish(
        &mut self,
        now: Instant,
        (slot, targets): (usize, Vec<(Zone, IpAddr)>),
        spec: &MappingSpec,
        forwarding: Forwarding,
        nat: &mut Nat,
    ) -> Result<(), PublishError> {
        let protocol = match spec.protocol {
            Protocol::Udp => IpProtocol::UDP,
            _ => IpProtocol::TCP,
        };
        let forward = Forward {
            slot,
            targets,
            protocol,
            forwarding,
            ids: Vec::new(),
        };
        self.enter(now, spec.id, forward, nat)
    }

    pub(super) fn unpublish(&mut self, now: Instant, id: MappingId, connections: Connections, nat: &mut Nat) {
        let Some(forward) = self.by_id.remove(&id) else {
            return;
        };
        for id in forward.ids {
            take_back(nat, now, id, (forward.protocol, connections));
        }
    }

    /// Makes some of the container's ports of a mapping one of their own; they are at one of its ends.
    pub(super) fn split(
        &mut self,
        now: Instant,
        id: MappingId,
        (ports, apart): (RangeInclusive<u16>, MappingId),
        nat: &mut Nat,
    ) {
        let Some(whole) = self.by_id.get(&id).cloned() else {
            return;
        };
        // Those of the whole range end: the translation cannot tell them apart.
        self.unpublish(now, id, Connections::End, nat);
        let [part, rest] = whole.forwarding.parts(&ports);
        for (id, forwarding) in [(apart, part), (id, rest)] {
            let Some(forwarding) = forwarding else { continue };
            let forward = Forward {
                forwarding,
                ids: Vec::new(),
                ..whole.clone()
            };
            if let Err(error) = self.enter(now, id, forward, nat) {
                // It cannot be: the ports were theirs a moment ago.
                tracing::error!(%error, "a published port is lost from the uplink");
            }
        }
    }

    /// Ends those that lead to a host of the network in a slot.
    pub(super) fn remove_host(&mut self, now: Instant, (slot, host): (usize, IpAddr), nat: &mut Nat) {
        let leads_there = |forward: &Forward| {
            forward.slot == slot && forward.targets.iter().any(|&(_, target)| target == host)
        };
        let gone = self.by_id.extract_if(|_, forward| leads_there(forward));
        for id in gone.flat_map(|(_, forward)| forward.ids) {
            nat.unpublish(now, id);
        }
    }

    /// Forgets those of a network that has gone from the translation.
    pub(super) fn remove_network(&mut self, slot: usize) {
        self.by_id.retain(|_, forward| forward.slot != slot);
    }

    fn enter(
        &mut self,
        now: Instant,
        id: MappingId,
        mut forward: Forward,
        nat: &mut Nat,
    ) -> Result<(), PublishError> {
        let mut outcome = Ok(());
        for &(zone, target) in &forward.targets {
            let Some(external) = forward.forwarding.external.of_version(target) else {
                continue;
            };
            self.last += 1;
            let id = vswitch_nat::MappingId(self.last);
            outcome = nat.publish(PortMapping {
                id,
                protocol: forward.protocol,
                external,
                ports: forward.forwarding.ports.clone(),
                zone,
                target,
                target_port: forward.forwarding.container_port,
            });
            if outcome.is_err() {
                break;
            }
            forward.ids.push(id);
        }
        match outcome {
            Ok(()) => {
                self.by_id.insert(id, forward);
            }
            Err(_) => forward.ids.into_iter().for_each(|id| {
                nat.unpublish(now, id);
            }),
        }
        outcome
    }
}

impl Forwarding {
    /// What of it leads to these of the container's ports, which are at one of its ends, and what is left.
    fn parts(&self, ports: &RangeInclusive<u16>) -> [Option<Self>; 2] {
        let shift = self.ports.start().abs_diff(self.container_port);
        let is_up = *self.ports.start() >= self.container_port;
        let external = |port: u16| match is_up {
            true => port.saturating_add(shift),
            false => port.saturating_sub(shift),
        };
        let count = self.ports.end().saturating_sub(*self.ports.start());
        let (first, last) = (self.container_port, self.container_port.saturating_add(count));
        let (from, to) = (*ports.start().max(&first), *ports.end().min(&last));
        let part = |from: u16, to: u16| {
            (from <= to).then(|| Self {
                ports: external(from)..=external(to),
                container_port: from,
                ..self.clone()
            })
        };
        if from > to {
            return [None, Some(self.clone())];
        }
        let rest = match from > first {
            true => part(first, from - 1),
            false => to.checked_add(1).and_then(|next| part(next, last)),
        };
        [part(from, to), rest]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::External;

    #[test]
    fn a_forwarding_is_divided_at_its_ends() {
        let whole = Forwarding {
            external: External::All,
            ports: 8000..=8004,
            container_port: 80,
        };
        let shown = |part: &Option<Forwarding>| {
            part.as_ref()
                .map(|part| (part.ports.clone(), part.container_port))
        };
        let cases = [
            (80..=81, Some((8000..=8001, 80)), Some((8002..=8004, 82))),
            (84..=84, Some((8004..=8004, 84)), Some((8000..=8003, 80))),
            (80..=84, Some((8000..=8004, 80)), None),
            (90..=91, None, Some((8000..=8004, 80))),
        ];
        for (ports, part, rest) in cases {
            let parts = whole.parts(&ports);
            assert_eq!((shown(&parts[0]), shown(&parts[1])), (part, rest), "{ports:?}");
        }
        let down = Forwarding {
            ports: 80..=81,
            container_port: 8080,
            ..whole
        };
        assert_eq!(shown(&down.parts(&(8081..=8081))[0]), Some((81..=81, 8081)));
    }
}
