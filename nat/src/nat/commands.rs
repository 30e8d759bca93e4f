//! What the engine's owner changes: networks, external addresses, published ports, connections.

use std::{net::IpAddr, ops::RangeInclusive, time::Instant};

use vswitch_wire::IpProtocol;

use super::{DEFAULT_MTU, Exterior, Inside, Nat};
use crate::{
    AddNetworkError, Address, MappingId, Network, NetworkView, Outside, PortMapping, PublicationView,
    PublishError, Timeouts, Tuple, Zone, conntrack::ConnId,
};

impl Nat {
    /// Adds a network. Connections with hosts outside that have its addresses are removed: such hosts are forged from now on
    /// (N-FWD-12).
    ///
    /// # Errors
    ///
    /// See [`AddNetworkError`].
    pub fn add_network(&mut self, network: Network) -> Result<(), AddNetworkError> {
        let zone = network.zone;
        if zone.is_outside() {
            return Err(AddNetworkError::Outside);
        }
        if network.mtu == 0 {
            return Err(AddNetworkError::Mtu);
        }
        let index = usize::from(zone.0);
        if self.networks.len() <= index {
            self.networks.resize_with(index + 1, || None);
        }
        if self.networks[index].is_some() {
            return Err(AddNetworkError::Exists(zone));
        }
        if self.mtus.len() <= index {
            self.mtus.resize(index + 1, 0);
        }
        self.mtus[index] = network.mtu;
        let inside = Inside::from(network);
        self.remove_where(|tuples| remote(tuples).is_some_and(|remote| inside.contains(remote.ip())));
        self.networks[index] = Some(inside);
        Ok(())
    }

    /// Removes a network with its connections and published ports.
    pub fn remove_network(&mut self, now: Instant, zone: Zone) {
        let leading = |mapping: &&PortMapping| mapping.zone == zone;
        let published: Vec<MappingId> = self
            .mappings()
            .filter(leading)
            .map(|mapping| mapping.id)
            .collect();
        for id in published {
            self.unpublish(now, id);
        }
        for host in self.hosts.of_zone(zone) {
            self.flush_number(host);
        }
        // What others have to it by mappings that let everybody in, or by withdrawn ones.
        if self.network(zone).is_some_and(|inside| inside.guests > 0) {
            self.remove_where(|tuples| tuples[1].zone == zone);
        }
        self.fragments.remove_zone(zone);
        if let Some(place) = self.networks.get_mut(usize::from(zone.0)) {
            *place = None;
        }
        if let Some(mtu) = self.mtus.get_mut(usize::from(zone.0)) {
            *mtu = 0;
        }
    }

    /// Says what is outside, from now on. Connections by an address that goes are removed, and those with a host that had an
    /// address that comes.
    pub fn set_outside(&mut self, now: Instant, outside: Outside) {
        self.clock.advance(now);
        self.mtus[0] = match outside.mtu {
            0 => DEFAULT_MTU,
            mtu => mtu,
        };
        let before = std::mem::replace(&mut self.outside, Exterior::from(outside));
        if before.addresses == self.outside.addresses {
            return;
        }
        let (before, after) = (before.addresses, self.outside.addresses.clone());
        let has_gone = |address: &Address| before.contains(address) && !after.contains(address);
        self.remove_where(|tuples| {
            let mut addresses = tuples.iter().flat_map(|tuple| [&tuple.src, &tuple.dst]);
            addresses.any(has_gone) || remote(tuples).is_some_and(|remote| after.contains(remote))
        });
    }

    /// Changes how long connections live; each takes it over with its next packet.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.config.timeouts = timeouts;
    }

    /// Publishes ports.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub fn publish(&mut self, mapping: PortMapping) -> Result<(), PublishError> {
        if self.network(mapping.zone).is_none() {
            return Err(PublishError::UnknownZone(mapping.zone));
        }
        let (protocol, ports) = (mapping.protocol, mapping.ports.clone());
        self.publications.add(mapping)?;
        self.external.reserve(protocol, ports);
        Ok(())
    }

    /// Takes a mapping out of service with its connections (N-DN-5); `false` if it is not there.
    pub fn unpublish(&mut self, now: Instant, id: MappingId) -> bool {
        self.clock.advance(now);
        let Some(number) = self.publications.number(id) else {
            return false;
        };
        while let Some(first) = self
            .publications
            .get(number)
            .and_then(|publication| self.table.first(&publication.connections))
        {
            self.remove_conn(first);
        }
        if let Some(mapping) = self.publications.remove(number) {
            self.external.release(mapping.protocol, mapping.ports);
        }
        true
    }

    /// Lets nobody in by a mapping any more; its connections go on to their end. `false` if it is not there.
    pub fn withdraw(&mut self, id: MappingId) -> bool {
        let Some(number) = self.publications.number(id) else {
            return false;
        };
        if let Some(mapping) = self.publications.withdraw(number) {
            self.external.release(mapping.protocol, mapping.ports);
        }
        self.publications.forget_withdrawn(number);
        true
    }

    /// Keeps ports of all external addresses for others, such as the host's sockets (N-PORT-7).
    pub fn reserve(&mut self, protocol: IpProtocol, ports: RangeInclusive<u16>) {
        self.external.reserve(protocol, ports);
    }

    /// Gives reserved ports back.
    pub fn release(&mut self, protocol: IpProtocol, ports: RangeInclusive<u16>) {
        self.external.release(protocol, ports);
    }

    /// Removes the connections of an inside address; how many.
    pub fn flush_host(&mut self, now: Instant, zone: Zone, host: IpAddr) -> usize {
        self.clock.advance(now);
        match self.hosts.find(zone, host.into()) {
            Some(number) => self.flush_number(number),
            None => 0,
        }
    }

    /// Removes the connection that has this tuple in one of its directions.
    pub fn remove(&mut self, now: Instant, tuple: &Tuple) -> bool {
        self.clock.advance(now);
        let found = self.table.find(tuple);
        if let Some((id, _)) = found {
            self.remove_conn(id);
        }
        found.is_some()
    }

    /// Removes all connections; how many.
    pub fn flush(&mut self, now: Instant) -> usize {
        self.clock.advance(now);
        let hosts = self.hosts.numbers();
        hosts.into_iter().map(|host| self.flush_number(host)).sum()
    }

    /// The external addresses, in order of preference.
    pub fn external_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.outside.addresses.iter().map(Address::ip)
    }

    /// Every network with what it has now.
    pub fn network_views(&self) -> impl Iterator<Item = NetworkView<'_>> {
        self.networks.iter().flatten().map(|inside| NetworkView {
            network: &inside.network,
            connections: inside.count,
        })
    }

    /// Every published port with what has come by it.
    pub fn publications(&self) -> impl Iterator<Item = PublicationView<'_>> {
        self.publications.iter().map(|publication| PublicationView {
            mapping: &publication.mapping,
            hits: publication.hits,
        })
    }

    /// Every published port.
    pub fn mappings(&self) -> impl Iterator<Item = &PortMapping> {
        self.publications.iter().map(|publication| &publication.mapping)
    }

    /// Every network.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.iter().flatten().map(|inside| &inside.network)
    }

    /// Looks at every connection.
    fn remove_where(&mut self, is_over: impl Fn(&[Tuple; 2]) -> bool) {
        let all = self.table.iter();
        let ended: Vec<ConnId> = all
            .filter(|(_, conn)| is_over(&conn.tuples))
            .map(|(id, _)| id)
            .collect();
        ended.into_iter().for_each(|id| self.remove_conn(id));
    }

    fn flush_number(&mut self, number: u32) -> usize {
        let count = self.hosts.host(number).count as usize;
        for _ in 0..count {
            let host = self.hosts.host(number);
            let first = self
                .table
                .first(&host.unassured)
                .or_else(|| self.table.first(&host.assured));
            let Some(first) = first else { break };
            self.remove_conn(first);
        }
        count
    }
}

/// The host outside that a connection is with.
fn remote(tuples: &[Tuple; 2]) -> Option<&Address> {
    let outside = tuples.iter().find(|tuple| tuple.zone.is_outside());
    outside.map(|tuple| &tuple.src)
}
