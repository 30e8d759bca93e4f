//! The engine as a whole: a packet's way through it.

use std::{ops::RangeInclusive, time::Instant};

use vswitch_wire::{IpProtocol, Offload};

use crate::{
    AddNetworkError, Config, ConnView, Counters, DropReason, Event, MappingId, Network, Output, Outside,
    PortMapping, PublishError, Timeouts, Tuple, Verdict, Zone,
};

/// A NAT engine for any number of networks and one outside.
///
/// World to core: [`handle_packet`](Self::handle_packet), [`handle_timeout`](Self::handle_timeout). Commands:
/// [`add_network`](Self::add_network), [`publish`](Self::publish), the flushes. Core to world: [`poll_event`](Self::poll_event) until
/// it is empty, [`poll_timeout`](Self::poll_timeout) for the time by which `handle_timeout` wants to be called; early or twice does
/// no harm.
#[derive(Debug)]
pub struct Nat {
    counters: Counters,
}

impl Nat {
    /// An engine without networks.
    pub fn new(now: Instant, config: Config) -> Self {
        let _ = (now, config);
        Self {
            counters: Counters::default(),
        }
    }

    /// Takes an IP packet that comes from `zone`, from its IP header on, and rewrites it in place. `offload` counts from the packet's
    /// first byte; a forwarded packet keeps it.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        zone: Zone,
        packet: &mut [u8],
        offload: &Offload,
        out: &mut impl Output,
    ) -> Verdict {
        let _ = (now, zone, packet, offload, out);
        Verdict::Drop(DropReason::NoRoute)
    }

    /// The time by which [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Removes what is over at `now`; bounded work, so it may want to be called again at once.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// The next event, if they are wanted.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Begins or ends to note events (N-TBL-7).
    pub fn set_events(&mut self, wanted: bool) {
        let _ = wanted;
    }

    /// Adds a network.
    ///
    /// # Errors
    ///
    /// See [`AddNetworkError`].
    pub fn add_network(&mut self, network: Network) -> Result<(), AddNetworkError> {
        let _ = network;
        Ok(())
    }

    /// Removes a network with its connections and published ports.
    pub fn remove_network(&mut self, now: Instant, zone: Zone) {
        let _ = (now, zone);
    }

    /// Says what is outside, from now on. Connections by an address that goes are removed.
    pub fn set_outside(&mut self, now: Instant, outside: Outside) {
        let _ = (now, outside);
    }

    /// Changes how long connections live; each takes it over with its next packet.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        let _ = timeouts;
    }

    /// Publishes ports.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub fn publish(&mut self, mapping: PortMapping) -> Result<(), PublishError> {
        let _ = mapping;
        Ok(())
    }

    /// Takes a mapping out of service with its connections (N-DN-5); `false` if it is not there.
    pub fn unpublish(&mut self, now: Instant, id: MappingId) -> bool {
        let _ = (now, id);
        false
    }

    /// Keeps ports of all external addresses for others, such as the host's sockets (N-PORT-7).
    pub fn reserve(&mut self, protocol: IpProtocol, ports: RangeInclusive<u16>) {
        let _ = (protocol, ports);
    }

    /// Gives reserved ports back.
    pub fn release(&mut self, protocol: IpProtocol, ports: RangeInclusive<u16>) {
        let _ = (protocol, ports);
    }

    /// Removes the connections of an inside address; how many.
    pub fn flush_host(&mut self, now: Instant, zone: Zone, host: std::net::IpAddr) -> usize {
        let _ = (now, zone, host);
        0
    }

    /// Removes the connection that has this tuple in one of its directions.
    pub fn remove(&mut self, now: Instant, tuple: &Tuple) -> bool {
        let _ = (now, tuple);
        false
    }

    /// Removes all connections; how many.
    pub fn flush(&mut self, now: Instant) -> usize {
        let _ = now;
        0
    }

    /// Every connection.
    pub fn connections(&self, now: Instant) -> impl Iterator<Item = ConnView> + '_ {
        let _ = now;
        std::iter::empty()
    }

    /// Every published port.
    pub fn mappings(&self) -> impl Iterator<Item = &PortMapping> {
        std::iter::empty()
    }

    /// Every network.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        std::iter::empty()
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
