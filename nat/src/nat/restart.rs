//! Connections that outlive their engine (N-TBL-10), and those that nobody saved (N-TCP-9).

use std::{net::IpAddr, time::Instant};

use super::{Inside, Nat, decide::LeasePlan};
use crate::{
    Address, Egress, Mapping, PortChoice, SavedConn, Tuple, Zone,
    conntrack::{NONE, NewConn, Status},
    external::Endpoint,
    saved::SavedTracker,
    time::Ticks,
    transport::has_ports,
};

/// What became of saved connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Those that go on.
    pub taken: usize,
    /// Those that do not: they would be translated otherwise now, or their port is somebody else's, or there are too many.
    pub refused: usize,
}

impl Nat {
    /// Every connection that is not over, for [`import`](Self::import) into the engine that comes after this one: windows, external
    /// ports, remaining time, traffic and the published port that it came by. Fragments and the time for which freed ports are
    /// kept from others are not saved.
    pub fn export(&self, now: Instant) -> impl Iterator<Item = SavedConn> + '_ {
        let mut clock = self.clock;
        let now = clock.advance(now);
        let live = self.table.iter().filter(move |(_, conn)| conn.deadline > now);
        live.map(move |(id, conn)| {
            let cold = self.table.cold(id);
            let publication = self.publications.get(cold.publication);
            SavedConn {
                tuples: conn.tuples,
                status: conn.status.without(Status::SPARED),
                remaining: conn.deadline.0.saturating_sub(now.0),
                tracker: SavedTracker::of(&conn.tracker, now),
                traffic: conn.traffic,
                has_lease: cold.lease != NONE,
                mapping: publication
                    .filter(|publication| !publication.is_withdrawn)
                    .map(|publication| publication.mapping.id),
            }
        })
    }

    /// Goes on with connections of an engine that was; their time goes on from where it stood when they were
    /// [exported](Self::export). Networks, external addresses, published and reserved ports must be there before: a connection
    /// keeps its external port, so it is refused if the port is somebody else's now, and also if its network, its external
    /// address or its published port is not there any more or leads elsewhere. Limits hold, and nothing is given up for what is
    /// imported.
    pub fn import(&mut self, now: Instant, saved: impl IntoIterator<Item = SavedConn>) -> Imported {
        let now = self.clock.advance(now);
        let mut imported = Imported::default();
        for saved in saved {
            match self.take_over(&saved, now) {
                Some(()) => imported.taken += 1,
                None => imported.refused += 1,
            }
        }
        imported
    }

    /// Lets connections of TCP begin in their middle until then, for those that lived while no engine did and that nobody saved.
    pub fn pick_up_until(&mut self, until: Instant) {
        self.pick_up_until = Some(until);
    }

    pub(super) fn picks_up(&self, now: Instant) -> bool {
        self.pick_up_until.is_some_and(|until| now < until)
    }

    fn take_over(&mut self, saved: &SavedConn, now: Ticks) -> Option<()> {
        let [original, reply] = &saved.tuples;
        let is_live = |tuple| {
            let found = self.table.find(tuple);
            found.is_some_and(|(id, _)| self.table.conn(id).deadline > now)
        };
        if saved.remaining == 0 || is_live(original) || is_live(reply) || !self.may_be(original, reply) {
            return None;
        }
        let publication = match saved.mapping {
            Some(_) => self.publication_of(saved)?,
            None => NONE,
        };
        let lease = self.claim(saved, now)?;
        self.clear(&saved.tuples, now);
        let (zone, address) = match original.zone {
            Zone::OUTSIDE => (reply.zone, reply.src),
            zone => (zone, original.src),
        };
        let of_zone = self.network(zone)?.count;
        let host = self.hosts.find_or_add(zone, address);
        let limits = self.config.limits;
        if self.table.len() >= limits.connections
            || of_zone >= limits.per_zone
            || self.hosts.host(host).count as usize >= limits.per_host
        {
            self.hosts.release(host);
            return None;
        }
        let lease = match lease {
            LeasePlan::Grant(inside, external, port) => self.grant(inside, external, port, host),
            LeasePlan::Held(lease) => lease,
            LeasePlan::None => NONE,
        };
        let conn = NewConn {
            tuples: saved.tuples,
            deadline: now.plus(saved.remaining),
            status: saved.status,
            tracker: saved.tracker.at(now),
        };
        let id = self.enter(conn, host, lease, publication);
        self.table.conn_mut(id).traffic = saved.traffic;
        if saved.status.contains(Status::ASSURED) && !self.table.conn(id).tracker.is_closing() {
            self.set_spared(id, true);
        }
        Some(())
    }

    /// Whether packets may still go by such a translation, as far as networks and external addresses say.
    fn may_be(&self, original: &Tuple, reply: &Tuple) -> bool {
        let is_plain = original.inverted().ends() == reply.ends();
        match (original.zone, reply.zone) {
            (Zone::OUTSIDE, Zone::OUTSIDE) => false,
            (zone, Zone::OUTSIDE) => {
                let Some(inside) = self
                    .network(zone)
                    .filter(|inside| self.has_host(inside, &original.src))
                else {
                    return false;
                };
                let is_answered = (reply.src, reply.src_port) == (original.dst, original.dst_port);
                let leaves = !inside.owns(&original.dst) && self.is_beyond(&original.dst);
                is_answered && leaves && self.may_show(inside, &reply.dst, is_plain)
            }
            (Zone::OUTSIDE, zone) => {
                let is_own = self.is_external(&original.dst);
                let is_routed = is_plain
                    && self
                        .network(zone)
                        .is_some_and(|inside| matches!(inside.network.egress, Egress::Routed { .. }));
                self.network(zone).is_some()
                    && self.is_beyond(&original.src)
                    && original.src == reply.dst
                    && (is_own || is_routed)
                    && !self.is_external(&reply.src)
            }
            (zone, target) => {
                let (Some(from), Some(to)) = (self.network(zone), self.network(target)) else {
                    return false;
                };
                let is_shown = to.owns(&reply.dst)
                    || (self.is_external(&reply.dst) && self.may_show(from, &reply.dst, false));
                self.has_host(from, &original.src)
                    && (self.is_external(&original.dst) || from.owns(&original.dst))
                    && is_shown
                    && !self.is_external(&reply.src)
            }
        }
    }

    /// Whether hosts of a network go out as that address.
    fn may_show(&self, inside: &Inside, shown: &Address, is_plain: bool) -> bool {
        match &inside.network.egress {
            Egress::Masquerade(addresses) => {
                let is_allowed = addresses.is_empty() || addresses.contains(&shown.ip());
                is_allowed && self.is_external(shown)
            }
            Egress::Prefix(_) => self.is_external(shown),
            Egress::Routed { .. } => is_plain,
        }
    }

    /// Whether a host of that address may be in a network.
    fn has_host(&self, inside: &Inside, address: &Address) -> bool {
        inside.contains(address.ip()) && !inside.owns(address) && !self.is_external(address)
    }

    /// Whether an address is outside, and of none of ours.
    fn is_beyond(&self, address: &Address) -> bool {
        let ip: IpAddr = address.ip();
        !self.is_external(address) && self.network_of(ip).is_none()
    }

    /// The published port that a connection came by, if it would still lead there.
    fn publication_of(&self, saved: &SavedConn) -> Option<u32> {
        let [original, reply] = &saved.tuples;
        let number = self.publications.number(saved.mapping?)?;
        let leads = match self
            .publications
            .find(original.dst, original.protocol, original.dst_port)
        {
            Some((found, port)) => found == number && port == reply.src_port,
            // Of a routed network.
            None => {
                self.publications
                    .leading_to(original.dst.ip(), original.protocol, original.dst_port)
                    == Some(number)
            }
        };
        let mapping = &self.publications.get(number)?.mapping;
        let is_same = mapping.zone == reply.zone && Address::from(mapping.target) == reply.src;
        (leads && is_same).then_some(number)
    }

    /// How a connection has its external port again; `None` if it may not.
    fn claim(&self, saved: &SavedConn, now: Ticks) -> Option<LeasePlan> {
        let [original, reply] = &saved.tuples;
        let (is_external, zone, address, port) = match original.zone {
            Zone::OUTSIDE => (saved.has_lease, reply.zone, reply.src, reply.src_port),
            zone => (
                self.is_external(&reply.dst),
                zone,
                original.src,
                original.src_port,
            ),
        };
        if !is_external || !has_ports(original.protocol) {
            return Some(LeasePlan::None);
        }
        let (external, external_port) = match original.zone {
            Zone::OUTSIDE => (original.dst, original.dst_port),
            _ => (reply.dst, reply.dst_port),
        };
        let inside = Endpoint {
            zone,
            address,
            port,
            protocol: original.protocol,
        };
        let is_exclusive = self.config.mapping == Mapping::EndpointIndependent;
        let may_have = || self.external.may_have(&inside, external, external_port, now);
        if self.config.port_choice == PortChoice::FullyRandom {
            return may_have().then_some(LeasePlan::None);
        }
        match self.external.of_inside(&inside) {
            Some(number) => {
                let lease = self.external.lease(number);
                match (lease.external, lease.port) == (external, external_port) {
                    true => Some(LeasePlan::Held(number)),
                    false if is_exclusive => None,
                    false => may_have().then_some(LeasePlan::None),
                }
            }
            None if !may_have() => None,
            None if is_exclusive || saved.has_lease => {
                Some(LeasePlan::Grant(inside, external, external_port))
            }
            None => Some(LeasePlan::None),
        }
    }
}
