//! One network on its worker: the engine, the devices behind its ports, and the relay beside it.

use std::{
    collections::{HashMap, hash_map::RandomState},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use ipnet::IpNet;
use mio::{Poll, Registry, Token};
use vswitch_proxy::{
    Delivery, Hop, Link, Outbound, Relay, Scratch, SocketId,
    config::{Descriptors, Limits, RelayConfig, Timeouts},
    publish::{Connections, Listener, MappingId, MappingSpec, MappingView, PublishedPorts},
    relay::Readiness,
};
use vswitch_switch::PortId;
use vswitch_wire::{EthernetHeader, MacAddr, Offload, Refusal};
use zerocopy::IntoBytes;

use super::{ports::Devices, shortcut::Shortcut};
use crate::{
    dataplane::{DataPlaneError, EndpointSpec, FlowRow, NetworkSpec, PortRow, Way},
    engine::Engine,
    log::RateLimit,
    model::EndpointId,
    uplink::{destination, destination_of},
};

/// One network's whole data path.
pub(super) struct Network {
    pub(super) spec: NetworkSpec,
    pub(super) engine: Engine,
    pub(super) devices: Devices,
    pub(super) ports: HashMap<EndpointId, PortId>,
    /// Where the endpoints' addresses are. A table of our own making, which only attaching changes; hosts outside choose
    /// what is looked up, so the hash is keyed.
    stations: HashMap<IpAddr, (PortId, MacAddr), foldhash::fast::RandomState>,
    /// The way out, or what remains of it beside the device uplink; `None` on internal networks.
    relay: Option<Relay>,
    leaves_by_device: bool,
    /// Shortages of the relay that were told already.
    told: u64,
    shortages: RateLimit,
}

/// A packet that leaves by another way than the relay: the last bytes of the read that it came by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    /// By which.
    pub(super) by: Exit,
    /// Whether it was for the gateway itself.
    pub(super) hop: Hop,
    /// Bytes of its frame.
    pub(super) len: usize,
    /// What the container's kernel left undone.
    pub(super) offload: Offload,
}

/// A way that packets leave by beside the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// The device uplink.
    Device,
    /// Perhaps to another container of this worker.
    Inside,
}

/// What a network uses of its worker.
pub(super) struct Around<'a> {
    now: Instant,
    slot: usize,
    registry: &'a Registry,
    scratch: &'a mut Scratch,
}

impl<'a> Around<'a> {
    pub(super) fn new(now: Instant, slot: usize, poll: &'a Poll, scratch: &'a mut Scratch) -> Self {
        Self {
            now,
            slot,
            registry: poll.registry(),
            scratch,
        }
    }
}

impl Network {
    pub(super) fn new(
        now: Instant,
        spec: NetworkSpec,
        descriptors: &Arc<Descriptors>,
        published: &Arc<PublishedPorts>,
    ) -> Result<Self, DataPlaneError> {
        let engine = Engine::new(now, &spec)?;
        let config = spec.uplink.as_ref().map(|uplink| RelayConfig {
            gateway_mac: spec.gateway_mac,
            gateways: spec.gateways.iter().map(IpNet::addr).collect(),
            mtu: spec.mtu,
            policy: uplink.policy,
            source: uplink.source.clone(),
            limits: Limits::new(Arc::clone(descriptors)),
            timeouts: Timeouts::default(),
            published: Arc::clone(published),
        });
        Ok(Self {
            engine,
            devices: Devices::default(),
            ports: HashMap::new(),
            stations: HashMap::default(),
            relay: config.map(|config| Relay::new(now, config, RandomState::new())),
            told: 0,
            shortages: RateLimit::per_second(1),
            leaves_by_device: matches!(&spec.uplink, Some(uplink) if uplink.way != Way::Sockets),
            spec,
        })
    }

    /// Takes one read from the device behind `port`. What leaves by another way than the relay is given back.
    pub(super) fn handle_frame(
        &mut self,
        port: PortId,
        read: &mut [u8],
        shortcut: &Shortcut,
        around: &mut Around<'_>,
    ) -> Option<Leaving> {
        let outbound = self
            .engine
            .handle_frame(around.now, port, read, &mut self.devices)?;
        let relay = self.relay.as_mut()?;
        let packet = outbound.frame.get(EthernetHeader::LEN..)?;
        let by = if self.leaves_by_device {
            let is_relayed = outbound.hop == Hop::Gateway
                || destination_of(packet).is_some_and(|(dst, _)| relay.reserves(dst))
                || relay.knows(around.now, port.0, packet);
            (!is_relayed).then_some(Exit::Device)
        } else {
            let is_wanted = shortcut.wants(around.now, around.slot, packet);
            is_wanted.then_some(Exit::Inside)
        };
        if let Some(by) = by {
            return Some(Leaving {
                by,
                hop: outbound.hop,
                len: outbound.frame.len(),
                offload: outbound.offload,
            });
        }
        let mut gate = Gate::new(&mut self.engine, &mut self.devices, around);
        relay.handle_packet(around.now, outbound, around.scratch, &mut gate);
        None
    }

    /// Gives a packet to the relay after all.
    pub(super) fn relay_packet(
        &mut self,
        port: PortId,
        read: &mut [u8],
        leaving: Leaving,
        around: &mut Around<'_>,
    ) {
        let begin = read.len().saturating_sub(leaving.len);
        let outbound = Outbound {
            endpoint: port.0,
            frame: &mut read[begin..],
            offload: leaving.offload,
            hop: leaving.hop,
        };
        self.with_relay(around, |relay, now, scratch, gate| {
            relay.handle_packet(now, outbound, scratch, gate);
        });
    }

    /// Notes where an endpoint's addresses are.
    pub(super) fn enter_station(&mut self, port: PortId, spec: &EndpointSpec) {
        let addresses = spec.addresses.iter().copied();
        self.stations
            .extend(addresses.map(|address| (address, (port, spec.mac))));
    }

    /// Forgets the addresses of the endpoint behind a port; what they were.
    pub(super) fn forget_station(&mut self, port: PortId) -> Vec<IpAddr> {
        let gone = self.stations.extract_if(|_, (at, _)| *at == port);
        gone.map(|(address, _)| address).collect()
    }

    /// Brings an IP packet to the endpoint that it is addressed to; false if there is none. It is in `frame`, behind room
    /// for an Ethernet header; `offload` counts from the frame's first byte.
    pub(super) fn deliver(&mut self, now: Instant, frame: &mut [u8], offload: Offload) -> bool {
        let Some((dst, ethertype)) = destination(frame) else {
            return false;
        };
        let Some(&(_, mac)) = self.stations.get(&dst) else {
            return false;
        };
        let header = EthernetHeader {
            dst: mac,
            src: self.spec.gateway_mac,
            ethertype,
        };
        frame[..EthernetHeader::LEN].copy_from_slice(header.as_bytes());
        // What does not fit is counted at the port.
        let _ = self
            .engine
            .send_from_gateway(now, frame, offload, &mut self.devices);
        true
    }

    /// Sends what is due at the end of a batch of frames.
    pub(super) fn flush(&mut self, around: &mut Around<'_>) {
        self.with_relay(around, |relay, now, scratch, gate| {
            relay.flush(now, scratch, gate)
        });
    }

    /// Takes readiness of a host socket.
    pub(super) fn handle_ready(&mut self, socket: SocketId, readiness: Readiness, around: &mut Around<'_>) {
        self.with_relay(around, |relay, now, scratch, gate| {
            relay.handle_ready(now, socket, readiness, scratch, gate);
            relay.flush(now, scratch, gate);
        });
    }

    /// Whether the relay has flows that stopped at their budget.
    pub(super) fn has_turns(&self) -> bool {
        self.relay.as_ref().is_some_and(Relay::has_turns)
    }

    pub(super) fn take_turns(&mut self, most: usize, around: &mut Around<'_>) {
        self.with_relay(around, |relay, now, scratch, gate| {
            relay.take_turns(now, most, scratch, gate);
            relay.flush(now, scratch, gate);
        });
    }

    /// The earliest time at which anything here is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let relay = self.relay.as_ref().and_then(Relay::poll_timeout);
        self.engine.poll_timeout().into_iter().chain(relay).min()
    }

    pub(super) fn handle_timeout(&mut self, around: &mut Around<'_>) {
        self.engine.handle_timeout(around.now, &mut self.devices);
        self.with_relay(around, |relay, now, scratch, gate| {
            relay.handle_timeout(now, scratch, gate);
            relay.flush(now, scratch, gate);
        });
    }

    /// Ends the flows of a port that is about to go.
    pub(super) fn remove_flows(&mut self, port: PortId, around: &mut Around<'_>) {
        self.with_relay(around, |relay, now, scratch, gate| {
            relay.remove_endpoint(now, port.0, scratch, gate);
        });
    }

    /// Takes a mapping into service; its container is the endpoint's. Gives everything back if it cannot be.
    pub(super) fn publish(
        &mut self,
        endpoint: EndpointId,
        mut spec: MappingSpec,
        listeners: Vec<Listener>,
        around: &mut Around<'_>,
    ) -> Result<(), DataPlaneError> {
        let port = *self
            .ports
            .get(&endpoint)
            .ok_or(DataPlaneError::UnknownEndpoint(endpoint))?;
        spec.backend.endpoint = port.0;
        let relay = self
            .relay
            .as_mut()
            .ok_or(DataPlaneError::UnknownNetwork(self.spec.id))?;
        let gate = Gate::new(&mut self.engine, &mut self.devices, around);
        Ok(relay.publish(around.now, spec, listeners, &gate)?)
    }

    /// Takes a mapping out of service; its listeners, if it was there.
    pub(super) fn unpublish(
        &mut self,
        id: MappingId,
        connections: Connections,
        around: &mut Around<'_>,
    ) -> Option<Vec<Listener>> {
        let mut listeners = None;
        self.with_relay(around, |relay, now, scratch, gate| {
            listeners = relay.unpublish(now, id, connections, scratch, gate);
        });
        listeners
    }

    /// Its way out and in; `None` for an internal network.
    pub(super) fn relay_mut(&mut self) -> Option<&mut Relay> {
        self.relay.as_mut()
    }

    /// Every mapping.
    pub(super) fn mappings(&self) -> impl Iterator<Item = MappingView> {
        self.relay.iter().flat_map(Relay::mappings)
    }

    /// Ends all flows.
    pub(super) fn remove_all_flows(&mut self, around: &mut Around<'_>) {
        self.with_relay(around, |relay, now, scratch, gate| {
            relay.remove_all(now, scratch, gate);
        });
    }

    pub(super) fn set_resolvers(&mut self, resolvers: Arc<[SocketAddr]>) {
        if let Some(relay) = &mut self.relay {
            relay.set_resolvers(resolvers);
        }
    }

    /// Logs that the relay has hit limits, if it has since the last time.
    pub(super) fn report_shortages(&mut self, now: Instant) {
        let Some(relay) = &self.relay else { return };
        let count = relay.shortages();
        if count == self.told {
            return;
        }
        let (name, since) = (&self.spec.name, count - self.told);
        let told = &mut self.told;
        self.shortages.run(now, |_| {
            *told = count;
            tracing::warn!(
                network = name,
                refused = since,
                "flows to the outside were refused by limits; `vswitch stats` says which (relay_limit_…, relay_no_…)"
            );
        });
    }

    /// Every flow of the relay.
    pub(super) fn flows(&self, now: Instant) -> Vec<FlowRow> {
        let rows = self.relay.iter().flat_map(|relay| relay.flows(now));
        rows.map(|view| FlowRow {
            network: self.spec.id,
            endpoint: self.devices.endpoint(PortId(view.endpoint)),
            view,
        })
        .collect()
    }

    /// Every port; what the relay counts stands at the gateway's.
    pub(super) fn ports(&self) -> Vec<PortRow> {
        let mut rows: Vec<_> = self.engine.ports(self.spec.id).collect();
        if let (Some(relay), Some(gateway)) = (&self.relay, rows.first_mut()) {
            let counters = relay.counters();
            gateway.other.extend(counters.filter(|&(_, count)| count > 0));
        }
        for (port, attached) in self.devices.iter() {
            let lost = attached.device.drops();
            if let Some(row) = rows.iter_mut().find(|row| row.port == port.0 && lost > 0) {
                row.drops.push((OVERRUN, lost));
            }
        }
        rows
    }

    fn with_relay(
        &mut self,
        around: &mut Around<'_>,
        act: impl FnOnce(&mut Relay, Instant, &mut Scratch, &mut Gate<'_>),
    ) {
        if let Some(relay) = &mut self.relay {
            let mut gate = Gate::new(&mut self.engine, &mut self.devices, around);
            act(relay, around.now, around.scratch, &mut gate);
        }
    }
}

/// The relay's way to the containers: through the gateway's port.
struct Gate<'a> {
    engine: &'a mut Engine,
    devices: &'a mut Devices,
    registry: &'a Registry,
    slot: usize,
    now: Instant,
}

impl<'a> Gate<'a> {
    fn new(engine: &'a mut Engine, devices: &'a mut Devices, around: &Around<'a>) -> Self {
        Self {
            engine,
            devices,
            registry: around.registry,
            slot: around.slot,
            now: around.now,
        }
    }
}

impl Link for Gate<'_> {
    fn send(&mut self, frame: &mut [u8], offload: Offload) -> Delivery {
        self.engine
            .send_from_gateway(self.now, frame, offload, self.devices)
    }

    fn refuse(&mut self, endpoint: u32, frame: &mut [u8], offload: Offload, refusal: Refusal) {
        let original = (frame, offload);
        self.engine
            .refuse(self.now, PortId(endpoint), original, refusal, self.devices);
    }

    fn registry(&self) -> &Registry {
        self.registry
    }

    fn token(&self, socket: SocketId) -> Token {
        SocketToken {
            slot: self.slot,
            socket,
        }
        .encode()
    }
}

/// A host socket in the poll set: its network, and which of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketToken {
    pub(super) slot: usize,
    pub(super) socket: SocketId,
}

impl SocketToken {
    /// Host sockets have the topmost bit, ports do not.
    fn encode(self) -> Token {
        Token(SOCKET | (self.slot << 32) | self.socket.0 as usize)
    }

    pub(super) fn decode(token: Token) -> Option<Self> {
        (token.0 & SOCKET != 0).then_some(Self {
            slot: (token.0 & !SOCKET) >> 32,
            socket: SocketId(token.0 as u32),
        })
    }
}

const SOCKET: usize = 1 << 63;

/// Under which name `stats` shows frames that a device lost before they reached the switch.
const OVERRUN: &str = "device_overrun";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sockets_token_is_no_ports() {
        let token = SocketToken {
            slot: 7,
            socket: SocketId(u32::MAX),
        };
        assert_eq!(SocketToken::decode(token.encode()), Some(token));
        assert_eq!(SocketToken::decode(Token(7)), None);
    }
}
