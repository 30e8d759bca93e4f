//! What the control plane's commands do.

use std::{
    hash::{BuildHasher, RandomState},
    os::fd::{AsFd, AsRawFd},
    time::Instant,
};

use mio::{Interest, Registry, unix::SourceFd};
use vswitch_proxy::{
    Relay,
    publish::{Connections, Listener, MappingId, MappingSpec, MappingView},
};
use vswitch_switch::PortId;

use super::{Around, Command, Network, Owner, Reactor, Tokens, Uplink, earliest, settle};
use crate::{
    dataplane::{DataPlaneError, EndpointSpec, FdbRow, FlowRow, Forwarding, NetworkSpec, PortRow, Way},
    io::{device::Device, packet::PacketSocket},
    model::{EndpointId, NetworkId},
    uplink::DeviceUplink,
    worker::{conns, ports::Attached},
};

impl Reactor {
    pub(super) fn apply(&mut self, now: Instant, command: Command) {
        // A reply that nobody waits for any more is no error of ours.
        match command {
            Command::AddEndpoint { spec, device, reply } => {
                let _ = reply.send(self.add_endpoint(now, spec, device));
            }
            Command::AddNetwork { spec, reply } => {
                let _ = reply.send(self.add_network(now, spec));
            }
            Command::AddUplink {
                uplink,
                mtu,
                socket,
                reply,
            } => {
                let _ = reply.send(self.add_uplink(now, uplink, mtu, socket));
            }
            Command::ConnectionEvents { watcher, reply } => {
                let uplink = self.uplink.as_mut().map(Uplink::table);
                self.watchers.add(watcher, [uplink, Some(self.shortcut.table())]);
                let _ = reply.send(Ok(()));
            }
            Command::Connections {
                visit,
                filter,
                from,
                reply,
            } => {
                let tables = [
                    self.uplink.as_mut().map(Uplink::table),
                    Some(self.shortcut.table()),
                ];
                let visited = conns::visit(tables, now, (visit, &filter), from);
                self.shortcut.settle(&mut self.networks);
                let _ = reply.send(Ok(visited));
            }
            Command::Fdb { network, reply } => {
                let _ = reply.send(Ok(self.fdb(now, network)));
            }
            Command::Flows { network, reply } => {
                let _ = reply.send(Ok(self.flows(now, network)));
            }
            Command::Ports { network, reply } => {
                let _ = reply.send(Ok(self.ports(network)));
            }
            Command::Mappings { network, reply } => {
                let _ = reply.send(Ok(self.mappings(network)));
            }
            Command::Publish {
                at,
                spec,
                listeners,
                forwarding,
                reply,
            } => {
                let _ = reply.send(self.publish(now, at, (spec, listeners), forwarding));
            }
            Command::RemoveEndpoint {
                network,
                endpoint,
                reply,
            } => {
                let _ = reply.send(self.remove_endpoint(now, network, endpoint));
            }
            Command::RemoveNetwork { id, reply } => {
                let _ = reply.send(self.remove_network(now, id));
            }
            Command::Reroute {
                network,
                mapping,
                routing,
                reply,
            } => {
                let _ = reply
                    .send(self.change_mapping(network, mapping, |relay| relay.reroute(mapping, routing)));
            }
            Command::SetNeighbours { prefixes } => {
                for network in self.networks.iter_mut().flatten() {
                    network.engine.set_neighbours(prefixes.clone());
                }
                self.neighbours = prefixes;
            }
            Command::SetResolvers { resolvers } => {
                for network in self.networks.iter_mut().flatten() {
                    network.set_resolvers(resolvers.clone());
                }
                self.resolvers = resolvers;
            }
            Command::Split {
                network,
                mapping,
                part: (ports, apart),
                reply,
            } => {
                let of_uplink = (ports.clone(), apart);
                let split = |relay: &mut Relay| relay.split(mapping, ports, apart);
                let divided = self.change_mapping(network, mapping, split);
                if divided.is_ok() {
                    self.shortcut
                        .split(mapping, (&of_uplink.0, of_uplink.1), &mut self.networks);
                    if let Some(uplink) = &mut self.uplink {
                        uplink.split(now, mapping, of_uplink);
                    }
                }
                let _ = reply.send(divided);
            }
            Command::Stop => {}
            Command::Translations { reply } => {
                let uplink = self.uplink.as_mut().map(Uplink::table);
                let tables = uplink.into_iter().chain([self.shortcut.table()]);
                let _ = reply.send(Ok(tables.map(|table| table.view()).collect()));
            }
            Command::Unpublish {
                network,
                mapping,
                connections,
                reply,
            } => {
                let _ = reply.send(self.unpublish(now, network, mapping, connections));
            }
            Command::Uplink { reply } => {
                let _ = reply.send(Ok(self.uplink.as_ref().map(Uplink::view)));
            }
        }
    }

    fn add_network(&mut self, now: Instant, spec: NetworkSpec) -> Result<(), DataPlaneError> {
        if self.slot(spec.id).is_ok() {
            return Err(DataPlaneError::NetworkExists(spec.id));
        }
        let free = self.networks.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.networks.len());
        match (&spec.uplink, &mut self.uplink) {
            (Some(leaves), None) if leaves.way != Way::Sockets => return Err(DataPlaneError::NoUplink),
            (_, None) => {}
            (_, Some(uplink)) => uplink.add_network(now, slot, &spec)?,
        }
        let mut network = match Network::new(now, spec, &self.descriptors, &self.published) {
            Ok(network) => network,
            Err(error) => {
                if let Some(uplink) = &mut self.uplink {
                    uplink.remove_network(now, slot);
                }
                return Err(error);
            }
        };
        if has_relay_only(&network.spec) {
            self.shortcut.add_network(slot, &network.spec);
        }
        network.engine.set_neighbours(self.neighbours.clone());
        network.set_resolvers(self.resolvers.clone());
        match self.networks.get_mut(slot) {
            Some(slot) => *slot = Some(network),
            None => self.networks.push(Some(network)),
        }
        Ok(())
    }

    fn add_uplink(
        &mut self,
        now: Instant,
        config: DeviceUplink,
        mtu: u16,
        socket: PacketSocket,
    ) -> Result<(), DataPlaneError> {
        let token = self.tokens.insert(Owner::Uplink);
        let registered =
            self.poll
                .registry()
                .register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE);
        if let Err(error) = registered {
            self.tokens.remove(token);
            return Err(error.into());
        }
        let seed = RandomState::new().hash_one(0);
        let uplink = Uplink::new(now, config, mtu, socket, seed);
        self.deadline = earliest(self.deadline, uplink.poll_timeout());
        self.uplink = Some(uplink);
        self.tokens.mark_ready(token, &mut self.ready);
        Ok(())
    }

    fn remove_network(&mut self, now: Instant, id: NetworkId) -> Result<Vec<Device>, DataPlaneError> {
        let slot = self.slot(id)?;
        let mut network = self.networks[slot]
            .take()
            .ok_or(DataPlaneError::UnknownNetwork(id))?;
        let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
        network.remove_all_flows(&mut around);
        self.shortcut.remove_network(now, slot, &mut self.networks);
        if let Some(uplink) = &mut self.uplink {
            uplink.remove_network(now, slot);
        }
        let ports: Vec<PortId> = network.devices.iter().map(|(port, _)| port).collect();
        let devices = ports.into_iter().filter_map(|port| network.devices.remove(port));
        Ok(devices
            .map(|device| release(&mut self.tokens, self.poll.registry(), device))
            .collect())
    }

    fn add_endpoint(
        &mut self,
        now: Instant,
        spec: EndpointSpec,
        device: Device,
    ) -> Result<(), DataPlaneError> {
        let slot = self.slot(spec.network)?;
        let network = self.networks[slot]
            .as_mut()
            .ok_or(DataPlaneError::UnknownNetwork(spec.network))?;
        if network.ports.contains_key(&spec.id) {
            return Err(DataPlaneError::EndpointExists(spec.id));
        }
        let port = network.engine.add_endpoint(now, &spec, device.abilities())?;
        let token = self.tokens.insert(Owner::Port { slot, port });
        let registered = self.poll.registry().register(
            &mut SourceFd(&device.as_fd().as_raw_fd()),
            token,
            Interest::READABLE,
        );
        if let Err(error) = registered {
            self.tokens.remove(token);
            network.engine.remove_port(now, port);
            return Err(error.into());
        }
        network.devices.insert(
            port,
            Attached {
                device,
                token,
                endpoint: spec.id,
                lost: false,
            },
        );
        network.ports.insert(spec.id, port);
        network.enter_station(port, &spec);
        // Readiness is edge-triggered: frames that wait since before the registration make no edge.
        self.tokens.mark_ready(token, &mut self.ready);
        network.engine.announce(now, port, &spec, &mut network.devices);
        settle(now, network, &mut self.deadline, &self.events);
        Ok(())
    }

    fn remove_endpoint(
        &mut self,
        now: Instant,
        id: NetworkId,
        endpoint: EndpointId,
    ) -> Result<Device, DataPlaneError> {
        let slot = self.slot(id)?;
        let network = self.networks[slot]
            .as_mut()
            .ok_or(DataPlaneError::UnknownNetwork(id))?;
        let port = network
            .ports
            .remove(&endpoint)
            .ok_or(DataPlaneError::UnknownEndpoint(endpoint))?;
        let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
        network.remove_flows(port, &mut around);
        network.engine.remove_port(now, port);
        let addresses = network.forget_station(port);
        settle(now, network, &mut self.deadline, &self.events);
        let device = network.devices.remove(port);
        for address in addresses {
            if let Some(uplink) = &mut self.uplink {
                uplink.remove_host(now, slot, address);
            }
            self.shortcut
                .remove_host(now, (slot, address), &mut self.networks);
        }
        let device = device.ok_or(DataPlaneError::UnknownEndpoint(endpoint))?;
        Ok(release(&mut self.tokens, self.poll.registry(), device))
    }

    fn publish(
        &mut self,
        now: Instant,
        (id, endpoint): (NetworkId, EndpointId),
        (spec, listeners): (MappingSpec, Vec<Listener>),
        forwarding: Option<Forwarding>,
    ) -> Result<(), DataPlaneError> {
        let slot = self.slot(id)?;
        let network = self.networks[slot]
            .as_mut()
            .ok_or(DataPlaneError::UnknownNetwork(id))?;
        if let (Some(forwarding), Some(uplink)) = (forwarding, &mut self.uplink)
            && network.ports.contains_key(&endpoint)
        {
            uplink.publish(now, slot, &spec, forwarding)?;
        }
        let mapping = spec.id;
        if has_relay_only(&network.spec) {
            self.shortcut.publish(slot, &spec, &listeners);
        }
        let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
        let published = network.publish(endpoint, spec, listeners, &mut around);
        self.has_turns |= network.has_turns();
        settle(now, network, &mut self.deadline, &self.events);
        if published.is_err() {
            if let Some(uplink) = &mut self.uplink {
                uplink.unpublish(now, mapping, Connections::End);
            }
            self.shortcut
                .unpublish(now, mapping, Connections::End, &mut self.networks);
        }
        published
    }

    fn unpublish(
        &mut self,
        now: Instant,
        id: NetworkId,
        mapping: MappingId,
        connections: Connections,
    ) -> Result<Vec<Listener>, DataPlaneError> {
        let slot = self.slot(id)?;
        let network = self.networks[slot]
            .as_mut()
            .ok_or(DataPlaneError::UnknownNetwork(id))?;
        let mut around = Around::new(now, slot, &self.poll, &mut self.scratch);
        let listeners = network.unpublish(mapping, connections, &mut around);
        settle(now, network, &mut self.deadline, &self.events);
        if let Some(uplink) = &mut self.uplink {
            uplink.unpublish(now, mapping, connections);
        }
        self.shortcut
            .unpublish(now, mapping, connections, &mut self.networks);
        listeners.ok_or(DataPlaneError::UnknownMapping(mapping))
    }

    /// Changes a mapping; `change` gives whether it is there.
    fn change_mapping(
        &mut self,
        id: NetworkId,
        mapping: MappingId,
        change: impl FnOnce(&mut Relay) -> bool,
    ) -> Result<(), DataPlaneError> {
        let slot = self.slot(id)?;
        let relay = self.networks[slot].as_mut().and_then(Network::relay_mut);
        match relay.is_some_and(change) {
            true => Ok(()),
            false => Err(DataPlaneError::UnknownMapping(mapping)),
        }
    }

    fn mappings(&self, only: Option<NetworkId>) -> Vec<MappingView> {
        self.chosen(only).flat_map(Network::mappings).collect()
    }

    fn fdb(&self, now: Instant, only: Option<NetworkId>) -> Vec<FdbRow> {
        self.chosen(only)
            .flat_map(|network| network.engine.fdb(now, network.spec.id))
            .collect()
    }

    fn flows(&self, now: Instant, only: Option<NetworkId>) -> Vec<FlowRow> {
        self.chosen(only).flat_map(|network| network.flows(now)).collect()
    }

    fn ports(&self, only: Option<NetworkId>) -> Vec<PortRow> {
        self.chosen(only).flat_map(Network::ports).collect()
    }

    fn chosen(&self, only: Option<NetworkId>) -> impl Iterator<Item = &Network> {
        self.networks
            .iter()
            .flatten()
            .filter(move |network| only.is_none_or(|id| id == network.spec.id))
    }

    fn slot(&self, id: NetworkId) -> Result<usize, DataPlaneError> {
        let is_it = |network: &Option<Network>| network.as_ref().is_some_and(|network| network.spec.id == id);
        self.networks
            .iter()
            .position(is_it)
            .ok_or(DataPlaneError::UnknownNetwork(id))
    }
}

/// Whether a network leaves by host sockets only, so that published ports of it are for the shortcut.
fn has_relay_only(spec: &NetworkSpec) -> bool {
    matches!(&spec.uplink, Some(uplink) if uplink.way == Way::Sockets)
}

/// Takes a device out of the poll set.
fn release(tokens: &mut Tokens, registry: &Registry, attached: Attached) -> Device {
    tokens.remove(attached.token);
    // A lost device may have left the poll set by itself.
    let _ = registry.deregister(&mut SourceFd(&attached.device.as_fd().as_raw_fd()));
    attached.device
}
