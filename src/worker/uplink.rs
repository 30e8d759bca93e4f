//! The device uplink: a socket on the device, our host on its link, and the translation of all networks that leave by
//! it. One worker has it, and with it all these networks, so that nothing on the way is shared.
//!
//! A packet of a container comes from [`Network::handle_frame`], is translated, and leaves by the station, which finds the
//! next hop; what the translation sends back inside, and what comes from the device for a container, is delivered by the
//! network that its zone stands for. A frame is changed in place all the way.

mod forwards;
mod ways;
mod wire;

use std::{net::IpAddr, ops::RangeInclusive, time::Instant};

use ipnet::IpNet;
use vswitch_nat::{Config, Egress, Nat, Outside, Verdict, Zone};
use vswitch_proxy::publish::{Connections, MappingId, MappingSpec};
use vswitch_switch::PortId;
use vswitch_wire::{EthernetHeader, MacAddr, Offload, Refusal, Stations, message};

use self::{
    forwards::Forwards,
    ways::{Ways, place_of},
    wire::{Frame, Wire},
};
use super::{
    conns::Table,
    network::{Leaving, Network},
};
use crate::{
    dataplane::{DataPlaneError, Forwarding, NetworkSpec, TableKind, UplinkView, Way},
    io::packet::PacketSocket,
    log::RateLimit,
    model::NetworkId,
    uplink::{Arrival, DeviceUplink, Event, Sender, Station, Undelivered},
};

/// A worker's device uplink.
pub(super) struct Uplink {
    wire: Wire,
    config: DeviceUplink,
    mtu: u16,
    station: Station,
    nat: Nat,
    /// Slots of networks by the number of their zone, less one.
    zones: Vec<Option<usize>>,
    /// Networks likewise; one that has gone stays until its zone is used again.
    names: Vec<NetworkId>,
    /// Zones of networks by slot.
    slots: Vec<Zones>,
    forwards: Forwards,
    /// Networks that something was delivered to since this was last taken.
    touched: Vec<usize>,
    /// Where packets get room for an Ethernet header that have none.
    frame: Vec<u8>,
    /// Packets for hosts inside that are not there.
    no_host: u64,
    complaints: RateLimit,
}

/// The zones of one network; [`Zone::OUTSIDE`] stands for none. They are two if the versions are translated differently.
#[derive(Debug, Clone, Copy)]
struct Zones {
    v4: Zone,
    v6: Zone,
}

impl Default for Zones {
    fn default() -> Self {
        Self {
            v4: Zone::OUTSIDE,
            v6: Zone::OUTSIDE,
        }
    }
}

impl Uplink {
    /// Begins to test whether the addresses are free. `seed` is secret.
    pub(super) fn new(now: Instant, config: DeviceUplink, mtu: u16, socket: PacketSocket, seed: u64) -> Self {
        Self {
            wire: Wire::new(socket),
            station: Station::new(now, config.mac, &config.addresses, &config.gateways),
            nat: Nat::new(now, Config::standard(seed)),
            config,
            mtu,
            zones: Vec::new(),
            names: Vec::new(),
            slots: Vec::new(),
            forwards: Forwards::default(),
            touched: Vec::new(),
            frame: Vec::with_capacity(vswitch_wire::MAX_FRAME),
            no_host: 0,
            complaints: RateLimit::per_second(1),
        }
    }

    /// Takes a packet that a container sends; its frame is the end of what was read.
    pub(super) fn handle_leaving(
        &mut self,
        now: Instant,
        (slot, port): (usize, PortId),
        read: &mut [u8],
        leaving: Leaving,
        networks: &mut [Option<Network>],
    ) {
        let begin = read.len().saturating_sub(leaving.len);
        let (frame, offload) = (&mut read[begin..], leaving.offload);
        let zone = self.zone_of(slot, frame);
        let sender = Sender(((slot as u64) << 32) | u64::from(port.0));
        match self.translate(now, (zone, sender), (frame, offload), networks) {
            // The uplink's address: whoever asks for it from inside is answered by its own gateway.
            Some(Verdict::Local) => {
                if let Some(Some(network)) = networks.get_mut(slot) {
                    let Network { engine, devices, .. } = network;
                    engine.answer(now, port, (frame, offload), devices);
                }
            }
            Some(Verdict::Consumed | Verdict::Drop(_) | Verdict::Forward(_)) | None => {}
        }
        self.settle(now, networks);
    }

    /// Reads what has come by the device, so many frames at most; how many there were. As many as asked for means that
    /// there may be more.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        most: u32,
        buffer: &mut [u8],
        networks: &mut [Option<Network>],
    ) -> u32 {
        let mut count = 0;
        while count < most {
            match self.wire.receive(buffer) {
                Frame::Read(len) => {
                    count += 1;
                    self.handle_read(now, &mut buffer[..len], networks);
                }
                Frame::Unreadable => count += 1,
                Frame::Empty => break,
                Frame::Failed(error) => {
                    let advice = self.wire.advice(&error);
                    let interface = &self.config.interface;
                    self.complaints.run(now, |suppressed| {
                        tracing::warn!(interface, %error, suppressed, "cannot read from the uplink's device{advice}");
                    });
                    // An error comes once and hides what waits behind it.
                    count = most;
                }
            }
        }
        self.settle(now, networks);
        count
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let nat = self.nat.poll_timeout();
        self.station.poll_timeout().into_iter().chain(nat).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, networks: &mut [Option<Network>]) {
        self.station.handle_timeout(now, &mut self.wire);
        self.nat.handle_timeout(now);
        self.settle(now, networks);
    }

    /// The networks that something was delivered to, perhaps repeatedly.
    pub(super) fn take_touched(&mut self) -> impl Iterator<Item = usize> + use<'_> {
        self.touched.drain(..)
    }

    /// Takes the packets of a network from now on.
    pub(super) fn add_network(
        &mut self,
        now: Instant,
        slot: usize,
        spec: &NetworkSpec,
    ) -> Result<(), DataPlaneError> {
        let Some(Way::Device { v4, v6 }) = spec.uplink.as_ref().map(|uplink| &uplink.way) else {
            return Ok(());
        };
        let zones = match v4 == v6 {
            true => {
                let both = self.add_zone(slot, spec, v4, |_| true)?;
                Zones { v4: both, v6: both }
            }
            false => {
                let first = self.add_zone(slot, spec, v4, |net| net.addr().is_ipv4())?;
                let second = self.add_zone(slot, spec, v6, |net| net.addr().is_ipv6());
                let second = second.inspect_err(|_| self.remove_zone(now, first))?;
                Zones {
                    v4: first,
                    v6: second,
                }
            }
        };
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, Zones::default);
        }
        self.slots[slot] = zones;
        Ok(())
    }

    /// Forgets a network with all its connections.
    pub(super) fn remove_network(&mut self, now: Instant, slot: usize) {
        let Some(zones) = self.slots.get_mut(slot).map(std::mem::take) else {
            return;
        };
        for zone in [zones.v4, zones.v6] {
            self.remove_zone(now, zone);
        }
        self.forwards.remove_network(slot);
    }

    /// Forgets what an endpoint's addresses had, connections and ports: somebody else may get them.
    pub(super) fn remove_host(&mut self, now: Instant, slot: usize, address: IpAddr) {
        self.forwards.remove_host(now, (slot, address), &mut self.nat);
        let zones = self.slots.get(slot).copied().unwrap_or_default();
        let zone = if address.is_ipv4() { zones.v4 } else { zones.v6 };
        if !zone.is_outside() {
            self.nat.flush_host(now, zone, address);
        }
    }

    /// Has ports of our addresses lead to the container of a mapping.
    pub(super) fn publish(
        &mut self,
        now: Instant,
        slot: usize,
        spec: &MappingSpec,
        forwarding: Forwarding,
    ) -> Result<(), DataPlaneError> {
        let zones = self.slots.get(slot).copied().unwrap_or_default();
        let targets = spec
            .backend
            .v4
            .map(|host| (zones.v4, IpAddr::V4(host)))
            .into_iter();
        let targets = targets.chain(spec.backend.v6.map(|host| (zones.v6, IpAddr::V6(host))));
        let targets = targets.filter(|(zone, _)| !zone.is_outside()).collect();
        Ok(self
            .forwards
            .publish(now, (slot, targets), spec, forwarding, &mut self.nat)?)
    }

    /// Ends that, and the connections that have come by it.
    pub(super) fn unpublish(&mut self, now: Instant, id: MappingId, connections: Connections) {
        self.forwards.unpublish(now, id, connections, &mut self.nat);
    }

    /// Makes some of the container's ports of a mapping one of their own.
    pub(super) fn split(
        &mut self,
        now: Instant,
        id: MappingId,
        (ports, apart): (RangeInclusive<u16>, MappingId),
    ) {
        self.forwards.split(now, id, (ports, apart), &mut self.nat);
    }

    /// Its connections.
    pub(super) fn table(&mut self) -> Table<'_> {
        Table {
            kind: TableKind::Uplink,
            nat: &mut self.nat,
            networks: &self.names,
            heard: None,
        }
    }

    pub(super) fn view(&self) -> UplinkView {
        let ours = [("uplink_no_host", self.no_host)].into_iter();
        let counters = ours
            .chain(self.wire.counters())
            .chain(self.station.counters().iter())
            .chain(self.nat.counters().iter());
        UplinkView {
            mac: self.station.mac(),
            mtu: self.mtu,
            addresses: self.station.addresses().collect(),
            neighbours: self.station.neighbours(),
            counters: counters.filter(|&(_, count)| count > 0).collect(),
        }
    }

    fn handle_read(&mut self, now: Instant, read: &mut [u8], networks: &mut [Option<Network>]) {
        let Some((frame, offload)) = self.wire.open(read) else {
            return;
        };
        match self.station.handle_frame(now, frame, &mut self.wire) {
            Arrival::Done => return,
            Arrival::Packet => {}
        }
        match self.translate(now, (Zone::OUTSIDE, Sender::OUTSIDE), (frame, offload), networks) {
            Some(Verdict::Local) => self.station.handle_local(frame, &mut self.wire),
            Some(Verdict::Consumed | Verdict::Drop(_) | Verdict::Forward(_)) | None => {}
        }
    }

    /// Runs the packet in a frame through the translation and sends it on.
    fn translate(
        &mut self,
        now: Instant,
        (from, sender): (Zone, Sender),
        (frame, offload): (&mut [u8], Offload),
        networks: &mut [Option<Network>],
    ) -> Option<Verdict> {
        let inner = offload.shifted(-ETHERNET)?;
        let packet = frame.get_mut(EthernetHeader::LEN..)?;
        let (nat, mut ways) = self.ways(now, sender, networks);
        let verdict = nat.handle_packet(now, from, packet, &inner, &mut ways);
        if let Verdict::Forward(to) = verdict {
            ways.forward(to, frame, offload);
        }
        Some(verdict)
    }

    /// Tells the news of the station, and senders of packets that it could not deliver.
    fn settle(&mut self, now: Instant, networks: &mut [Option<Network>]) {
        while let Some(event) = self.station.poll_event() {
            self.handle_event(now, event);
        }
        while let Some(undelivered) = self.station.poll_undelivered() {
            self.report(now, &undelivered, networks);
        }
    }

    fn handle_event(&mut self, now: Instant, event: Event) {
        let interface = &self.config.interface;
        match event {
            Event::Conflict { address, mac } => tracing::error!(
                interface,
                "the uplink does not use {address}: {mac} has it; give the uplink another address, or take it from \
                 that station (tried again every minute)"
            ),
            Event::Defended { address, mac } => self.complaints.run(now, |_| {
                tracing::warn!(
                    interface,
                    "{mac} uses {address}, which is the uplink's: give one of the two another address"
                );
            }),
            Event::Ready(net) => {
                tracing::info!(interface, address = %net, "the uplink has its address");
                let outside = Outside {
                    addresses: self.usable(),
                    prefixes: self.config.addresses.iter().map(IpNet::trunc).collect(),
                    mtu: self.mtu,
                };
                self.nat.set_outside(now, outside);
            }
        }
    }

    /// The addresses that are ours, in the order in which they were given.
    fn usable(&self) -> Vec<IpAddr> {
        self.station.usable().map(|net| net.addr()).collect()
    }

    /// Tells the sender of a translated packet that it went nowhere. The error goes the way of one that comes from
    /// outside, from where the packet was to go, so that it is translated as those are; then it gets the address of the
    /// router that really speaks, the sender's gateway.
    fn report(&mut self, now: Instant, undelivered: &Undelivered, networks: &mut [Option<Network>]) {
        let mut frame = std::mem::take(&mut self.frame);
        if complain(&undelivered.packet, undelivered.refusal, &mut frame).is_some() {
            let packet = &mut frame[EthernetHeader::LEN..];
            let (nat, mut ways) = self.ways(now, Sender::OUTSIDE, networks);
            let verdict = nat.handle_packet(now, Zone::OUTSIDE, packet, &Offload::NONE, &mut ways);
            if let Verdict::Forward(to) = verdict
                && !to.is_outside()
                && let Some(()) = ways.sign(to, packet)
            {
                ways.forward(to, &mut frame, Offload::NONE);
            }
        }
        self.frame = frame;
    }

    fn ways<'a>(
        &'a mut self,
        now: Instant,
        sender: Sender,
        networks: &'a mut [Option<Network>],
    ) -> (&'a mut Nat, Ways<'a>) {
        let ways = Ways {
            now,
            sender,
            wire: &mut self.wire,
            station: &mut self.station,
            networks,
            zones: &self.zones,
            touched: &mut self.touched,
            frame: &mut self.frame,
            no_host: &mut self.no_host,
        };
        (&mut self.nat, ways)
    }

    fn zone_of(&self, slot: usize, frame: &[u8]) -> Zone {
        let zones = self.slots.get(slot).copied().unwrap_or_default();
        match frame.get(EthernetHeader::LEN).map(|byte| byte >> 4) {
            Some(6) => zones.v6,
            _ => zones.v4,
        }
    }

    fn remove_zone(&mut self, now: Instant, zone: Zone) {
        if let Some(place) = self.zones.get_mut(place_of(zone)) {
            *place = None;
            self.nat.remove_network(now, zone);
        }
    }

    fn add_zone(
        &mut self,
        slot: usize,
        spec: &NetworkSpec,
        egress: &Egress,
        is_meant: impl Fn(&&IpNet) -> bool,
    ) -> Result<Zone, DataPlaneError> {
        let place = self
            .zones
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.zones.len());
        // There are far fewer networks than numbers.
        let zone = Zone(u16::try_from(place + 1).unwrap_or_default());
        let nets = || spec.gateways.iter().filter(&is_meant);
        self.nat.add_network(vswitch_nat::Network {
            zone,
            prefixes: nets().map(IpNet::trunc).collect(),
            gateways: nets().map(IpNet::addr).collect(),
            mtu: spec.mtu,
            egress: egress.clone(),
            filtering: None,
        })?;
        match (self.zones.get_mut(place), self.names.get_mut(place)) {
            (Some(free), Some(name)) => (*free, *name) = (Some(slot), spec.id),
            _ => {
                self.zones.push(Some(slot));
                self.names.push(spec.id);
            }
        }
        Ok(zone)
    }
}

/// Makes an ICMP error about a packet as if the host that it is addressed to had sent it.
fn complain(packet: &[u8], refusal: Refusal, frame: &mut Vec<u8>) -> Option<()> {
    // They are written again on the way.
    let stations = Stations {
        src: MacAddr::ZERO,
        dst: MacAddr::ZERO,
    };
    match wire::destination(packet)? {
        IpAddr::V4(dst) => message::report_v4(refusal.v4(), stations, dst, packet, frame),
        IpAddr::V6(dst) => message::report_v6(refusal.v6(), stations, dst, packet, frame),
    }
}

/// What an Ethernet header moves offsets by.
const ETHERNET: i16 = EthernetHeader::LEN as i16;

#[cfg(test)]
mod tests;
