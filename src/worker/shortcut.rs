//! The way from a container to a published port of another container of this worker: translated here, without host sockets.
//!
//! A container calls an address of the host, or its gateway's, and a port that is published there. Its packets become packets
//! of the target's network, from the gateway of that network (N-DN-2), and the answers come back the same way. What cannot
//! go so goes through the relay and the host's sockets as before: ports of other workers, targets of another version of IP,
//! mappings that put a header before the first byte, clients whom the rules refuse (the relay tells them).

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    ops::RangeInclusive,
    time::Instant,
};

use ipnet::IpNet;
use vswitch_nat::{
    Config, Egress, Event, HairpinSource, Limits, Nat, Output, Outside, PortMapping, Verdict, Zone,
};
use vswitch_proxy::{
    Hop,
    listing::Protocol,
    publish::{Bound, Connections, Listener, MappingId, MappingSpec},
};
use vswitch_switch::PortId;
use vswitch_wire::{
    EthernetHeader, FlowKey, IpProtocol, Ipv4Packet, Ipv6Packet, Offload, TcpFlags, TcpSegment,
};

use super::{
    conns::{Heard, Table},
    network::{Leaving, Network},
};
use crate::{
    dataplane::{NetworkSpec, TableKind},
    model::NetworkId,
};

/// A worker's translation between its networks.
pub(super) struct Shortcut {
    nat: Nat,
    /// Addresses of the host that containers have called.
    addresses: Vec<IpAddr>,
    /// By what the translation calls them.
    entries: HashMap<vswitch_nat::MappingId, Entry>,
    last: u64,
    /// Where packets get room for an Ethernet header that have none.
    frame: Vec<u8>,
    /// Networks that something was delivered to since this was last taken.
    touched: Vec<usize>,
    /// Networks by slot; one that has gone stays until its slot is used again.
    names: Vec<NetworkId>,
    /// For those who watch connections.
    heard: Heard,
}

/// One published port.
#[derive(Debug, Clone)]
struct Entry {
    /// The network of its container.
    slot: usize,
    mapping: MappingId,
    protocol: IpProtocol,
    container_port: u16,
    target: IpAddr,
    /// Connections that have come by it and go on.
    active: u32,
    is_withdrawn: bool,
}

/// Whether a packet was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is the relay's.
    No,
    Yes,
}

impl Shortcut {
    pub(super) fn new(now: Instant) -> Self {
        let config = Config {
            hairpin: HairpinSource::Gateway,
            limits: Limits {
                connections: MOST_CONNECTIONS,
                ..Limits::default()
            },
            ..Config::standard(RandomState::new().hash_one(0))
        };
        let mut nat = Nat::new(now, config);
        // The relays count who comes by a mapping.
        nat.set_events(true);
        Self {
            nat,
            addresses: Vec::new(),
            entries: HashMap::new(),
            last: 0,
            frame: Vec::with_capacity(vswitch_wire::MAX_FRAME),
            touched: Vec::new(),
            names: Vec::new(),
            heard: Heard::default(),
        }
    }

    pub(super) fn add_network(&mut self, slot: usize, spec: &NetworkSpec) {
        let added = self.nat.add_network(vswitch_nat::Network {
            zone: zone_of(slot),
            prefixes: spec.gateways.iter().map(IpNet::trunc).collect(),
            gateways: spec.gateways.iter().map(IpNet::addr).collect(),
            mtu: spec.mtu,
            egress: Egress::Routed { open: false },
            filtering: None,
        });
        if let Err(error) = added {
            tracing::error!(network = spec.name, %error, "published ports are reached through the host's sockets only");
        }
        if self.names.len() <= slot {
            self.names.resize(slot + 1, spec.id);
        }
        self.names[slot] = spec.id;
    }

    /// Its connections.
    pub(super) fn table(&mut self) -> Table<'_> {
        Table {
            kind: TableKind::Inside,
            nat: &mut self.nat,
            networks: &self.names,
            heard: Some(&mut self.heard),
        }
    }

    pub(super) fn remove_network(&mut self, now: Instant, slot: usize, networks: &mut [Option<Network>]) {
        self.nat.remove_network(now, zone_of(slot));
        self.settle(networks);
        self.entries.retain(|_, entry| entry.slot != slot);
    }

    /// Forgets an endpoint's address: somebody else may get it.
    pub(super) fn remove_host(
        &mut self,
        now: Instant,
        (slot, address): (usize, IpAddr),
        networks: &mut [Option<Network>],
    ) {
        self.nat.flush_host(now, zone_of(slot), address);
        let gone = self
            .entries
            .extract_if(|_, entry| entry.slot == slot && entry.target == address);
        for (id, _) in gone {
            self.nat.unpublish(now, id);
        }
        self.settle(networks);
    }

    /// Has a mapping's ports lead to its container from inside, too.
    pub(super) fn publish(&mut self, slot: usize, spec: &MappingSpec, listeners: &[Listener]) {
        if spec.rules.proxy_protocol.is_some() {
            return;
        }
        let targets = [spec.backend.v4.map(IpAddr::V4), spec.backend.v6.map(IpAddr::V6)];
        for listener in listeners {
            for target in targets.into_iter().flatten() {
                self.publish_one(slot, spec, (&listener.bound, listener.container_port), target);
            }
        }
    }

    fn publish_one(
        &mut self,
        slot: usize,
        spec: &MappingSpec,
        (bound, container_port): (&Bound, u16),
        target: IpAddr,
    ) {
        let address = bound.address.ip();
        let takes_version = address.is_ipv4() == target.is_ipv4() || bound.dual_stack;
        // Nobody but the host reaches its loopback.
        if !takes_version || address.is_loopback() {
            return;
        }
        self.last += 1;
        let id = vswitch_nat::MappingId(self.last);
        let port = bound.address.port();
        let published = self.nat.publish(PortMapping {
            id,
            protocol: ip_protocol(spec.protocol),
            external: (!address.is_unspecified()).then_some(address),
            ports: port..=port,
            zone: zone_of(slot),
            target,
            target_port: container_port,
        });
        match published {
            Ok(()) => {
                let entry = Entry {
                    slot,
                    mapping: spec.id,
                    protocol: ip_protocol(spec.protocol),
                    container_port,
                    target,
                    active: 0,
                    is_withdrawn: false,
                };
                self.entries.insert(id, entry);
            }
            // Both a dual-stack and an IPv4 listener may have it; one is enough.
            Err(error) => tracing::debug!(%error, port, "reached through the host's sockets only"),
        }
    }

    pub(super) fn unpublish(
        &mut self,
        now: Instant,
        mapping: MappingId,
        connections: Connections,
        networks: &mut [Option<Network>],
    ) {
        let of_mapping = self
            .entries
            .iter_mut()
            .filter(|(_, entry)| entry.mapping == mapping);
        for (&id, entry) in of_mapping {
            entry.is_withdrawn = true;
            take_back(&mut self.nat, now, id, (entry.protocol, connections));
        }
        self.settle(networks);
        self.entries
            .retain(|_, entry| !entry.is_withdrawn || entry.active > 0);
    }

    /// Makes some of the container's ports of a mapping one of their own.
    pub(super) fn split(&mut self, mapping: MappingId, ports: &RangeInclusive<u16>, apart: MappingId) {
        for entry in self.entries.values_mut() {
            if entry.mapping == mapping && ports.contains(&entry.container_port) {
                entry.mapping = apart;
            }
        }
    }

    /// Whether a packet that a container of a network sends may be for this way: it belongs to a connection, or calls a port that
    /// is published. Asked for every packet that leaves a network.
    #[inline]
    pub(super) fn wants(&self, now: Instant, slot: usize, packet: &[u8]) -> bool {
        !self.entries.is_empty()
            && (self.nat.knows(now, zone_of(slot), packet) || self.beginning(packet).is_some())
    }

    /// Takes a packet that it [`wants`](Self::wants), unless something about it needs the relay.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        (slot, port): (usize, PortId),
        read: &mut [u8],
        leaving: Leaving,
        networks: &mut [Option<Network>],
    ) -> Taken {
        let begin = read.len().saturating_sub(leaving.len);
        let (frame, offload) = (&mut read[begin..], leaving.offload);
        let zone = zone_of(slot);
        let Some(packet) = frame.get(EthernetHeader::LEN..) else {
            return Taken::No;
        };
        if !self.nat.knows(now, zone, packet)
            && self
                .admit(now, (slot, port), packet, (leaving.hop, networks))
                .is_none()
        {
            return Taken::No;
        }
        let verdict = self.translate(now, zone, (frame, offload), networks);
        self.settle(networks);
        match verdict {
            Some(Verdict::Local) => Taken::No,
            Some(Verdict::Consumed | Verdict::Drop(_) | Verdict::Forward(_)) | None => Taken::Yes,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.nat.poll_timeout()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, networks: &mut [Option<Network>]) {
        self.nat.handle_timeout(now);
        self.settle(networks);
    }

    /// The networks that something was delivered to, perhaps repeatedly.
    pub(super) fn take_touched(&mut self) -> impl Iterator<Item = usize> + use<'_> {
        self.touched.drain(..)
    }

    /// The mapping that a packet would begin a connection by.
    fn beginning(&self, packet: &[u8]) -> Option<(FlowKey, vswitch_nat::MappingId)> {
        let key = FlowKey::parse(packet).ok()?;
        let ports = key.ports?;
        if !matches!(key.protocol, IpProtocol::TCP | IpProtocol::UDP) {
            return None;
        }
        let id = self.nat.published(key.dst, key.protocol, ports.dst)?;
        (key.protocol == IpProtocol::UDP || is_syn(packet)).then_some((key, id))
    }

    /// Whether a connection may begin so: the address is the host's or the gateway's, the relay has no such flow, and the
    /// mapping's rules let the container in.
    fn admit(
        &mut self,
        now: Instant,
        (slot, port): (usize, PortId),
        packet: &[u8],
        (hop, networks): (Hop, &mut [Option<Network>]),
    ) -> Option<()> {
        let (key, id) = self.beginning(packet)?;
        let entry = self.entries.get(&id)?;
        let relay = networks.get_mut(slot)?.as_mut()?.relay_mut()?;
        if relay.knows(now, port.0, packet) || (hop == Hop::Beyond && !relay.is_hosts(now, key.dst)) {
            return None;
        }
        let target = networks.get_mut(entry.slot)?.as_mut()?.relay_mut()?;
        if !target.admits(now, entry.mapping, key.src) {
            return None;
        }
        if hop == Hop::Beyond && !self.addresses.contains(&key.dst) {
            // A host has few addresses; those that it had once are no matter, because they are asked for each time.
            self.addresses.truncate(MOST_ADDRESSES - 1);
            self.addresses.push(key.dst);
            let addresses = self.addresses.clone();
            self.nat.set_outside(
                now,
                Outside {
                    addresses,
                    mtu: u16::MAX,
                    ..Outside::default()
                },
            );
        }
        Some(())
    }

    fn translate(
        &mut self,
        now: Instant,
        from: Zone,
        (frame, offload): (&mut [u8], Offload),
        networks: &mut [Option<Network>],
    ) -> Option<Verdict> {
        let inner = offload.shifted(-ETHERNET)?;
        let packet = frame.get_mut(EthernetHeader::LEN..)?;
        let mut ways = Ways {
            now,
            networks,
            touched: &mut self.touched,
            frame: &mut self.frame,
        };
        let verdict = self.nat.handle_packet(now, from, packet, &inner, &mut ways);
        if let Verdict::Forward(to) = verdict {
            let len = vswitch_nat::packet_len(&frame[EthernetHeader::LEN..]) + EthernetHeader::LEN;
            ways.deliver(to, &mut frame[..len], offload);
        }
        Some(verdict)
    }

    /// Tells the relays whose mappings they are which connections have begun and ended.
    pub(super) fn settle(&mut self, networks: &mut [Option<Network>]) {
        while let Some(event) = self.nat.poll_event() {
            self.heard.push(&event);
            let (Event::New(ref view) | Event::Destroyed(ref view) | Event::Updated(ref view)) = event;
            let Some(entry) = view.mapping.and_then(|id| self.entries.get_mut(&id)) else {
                continue;
            };
            let network = networks.get_mut(entry.slot).and_then(Option::as_mut);
            let relay = network.and_then(Network::relay_mut);
            match event {
                Event::New(_) => {
                    entry.active += 1;
                    relay.into_iter().for_each(|relay| relay.count_in(entry.mapping));
                }
                Event::Destroyed(_) => {
                    entry.active = entry.active.saturating_sub(1);
                    relay.into_iter().for_each(|relay| relay.count_out(entry.mapping));
                }
                Event::Updated(_) => {}
            }
        }
    }
}

/// Where packets go from the translation.
struct Ways<'a> {
    now: Instant,
    networks: &'a mut [Option<Network>],
    touched: &'a mut Vec<usize>,
    frame: &'a mut Vec<u8>,
}

impl Ways<'_> {
    /// Brings the packet in a frame, behind room for an Ethernet header, to its container.
    fn deliver(&mut self, to: Zone, frame: &mut [u8], offload: Offload) {
        let slot = usize::from(to.0).wrapping_sub(1);
        let Some(Some(network)) = self.networks.get_mut(slot) else {
            return;
        };
        // Without such a container the mapping is about to go.
        let _ = network.deliver(self.now, frame, offload);
        if self.touched.last() != Some(&slot) {
            self.touched.push(slot);
        }
    }
}

impl Output for Ways<'_> {
    fn send(&mut self, to: Zone, packet: &mut [u8], offload: Offload) {
        let Some(offload) = offload.shifted(ETHERNET) else {
            return;
        };
        let mut frame = std::mem::take(self.frame);
        frame.clear();
        frame.resize(EthernetHeader::LEN, 0);
        frame.extend_from_slice(packet);
        self.deliver(to, &mut frame, offload);
        *self.frame = frame;
    }
}

/// Takes a published port out of a translation's service. UDP's clients end in any case: a stale one would go on to a container
/// that has the port no longer (N-DN-5).
pub(super) fn take_back(
    nat: &mut Nat,
    now: Instant,
    id: vswitch_nat::MappingId,
    (protocol, connections): (IpProtocol, Connections),
) {
    match connections {
        Connections::Keep if protocol == IpProtocol::TCP => nat.withdraw(id),
        Connections::End | Connections::Keep => nat.unpublish(now, id),
    };
}

/// A network's zone, by its slot. There are far fewer networks than numbers.
fn zone_of(slot: usize) -> Zone {
    Zone(u16::try_from(slot + 1).unwrap_or(u16::MAX))
}

fn ip_protocol(protocol: Protocol) -> IpProtocol {
    match protocol {
        Protocol::Udp => IpProtocol::UDP,
        _ => IpProtocol::TCP,
    }
}

/// Whether a segment of TCP begins a connection.
fn is_syn(packet: &[u8]) -> bool {
    let segment = match packet.first().map(|byte| byte >> 4) {
        Some(4) => Ipv4Packet::parse(packet).ok().map(|packet| packet.payload()),
        _ => Ipv6Packet::parse(packet).ok().and_then(|ip| {
            let upper = ip.upper_layer().ok()?;
            packet.get(upper.offset..)
        }),
    };
    let flags = segment
        .and_then(|segment| TcpSegment::parse(segment).ok())
        .map(|segment| segment.header().flags());
    flags.is_some_and(|flags| flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK))
}

/// What an Ethernet header moves offsets by.
const ETHERNET: i16 = EthernetHeader::LEN as i16;
/// As many as one network's flows (DESIGN §9).
const MOST_CONNECTIONS: usize = 65_536;
/// Addresses of the host that are remembered.
const MOST_ADDRESSES: usize = 64;
