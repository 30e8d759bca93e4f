//! What becomes of a packet that belongs to no connection: whether it may begin one, and how that is translated.
//! Decided once, for the connection's life (N-DN-5).

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Nat,
    path::{Arrival, Fit, lifetime, on_wire},
};
use crate::{
    Address, DropReason, Egress, Filtering, HairpinSource, Mapping, Output, PortChoice, TcpPolicy, Timer,
    Tuple, Unsolicited, Verdict, Zone,
    conntrack::{NONE, NewConn, Status, Tracker},
    external::{self, Endpoint},
    forward::Complaint,
    hosts::Opener,
    rewrite,
    sctp::SctpTrack,
    tcp::TcpTrack,
    transport::{Kind, has_ports},
};

/// A connection that might begin.
pub(super) struct Plan {
    /// What the answers will be, where they come from.
    reply: Tuple,
    /// Whom it counts for.
    host: (Zone, Address),
    lease: LeasePlan,
    publication: u32,
    status: Status,
}

/// Where a connection has its external port from.
pub(super) enum LeasePlan {
    /// The endpoint gets a lease.
    Grant(Endpoint, Address, u16),
    /// It has one.
    Held(u32),
    /// It needs none.
    None,
}

/// What becomes of a packet without a connection.
enum Decision {
    Connection(Plan),
    /// It is for the engine's owner.
    Local,
}

impl Nat {
    pub(super) fn take_new(
        &mut self,
        arrival: &mut Arrival<'_>,
        tuple: &Tuple,
        kind: &Kind,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        if let Some(way) = self.stateless_way(arrival)? {
            return self.send_stateless(arrival, way, out);
        }
        let decision = match arrival.zone {
            Zone::OUTSIDE => self.admit(arrival, tuple, kind),
            zone => self.leave(zone, arrival, tuple),
        };
        let plan = match decision {
            Ok(Decision::Connection(plan)) => plan,
            Ok(Decision::Local) => return Ok(Verdict::Local),
            Err(reason) => {
                self.explain(arrival, reason, kind, out);
                return Err(reason);
            }
        };
        let (tracker, timer) = self.open(arrival, kind, tuple)?;
        let fit = self.check_way(arrival, plan.reply.zone, out)?;
        let held = match plan.lease {
            LeasePlan::Held(lease) => lease,
            LeasePlan::Grant(..) | LeasePlan::None => NONE,
        };
        // The connection that makes room for this one may be the last that uses its mapping.
        self.hold_lease(held);
        let verdict = self.begin(arrival, (plan, tracker, timer), (tuple, fit), out);
        self.drop_lease(held);
        verdict
    }

    /// Sends a connection's first packet and enters the connection: what is not sent has not begun (N-TBL-5).
    fn begin(
        &mut self,
        arrival: &mut Arrival<'_>,
        (plan, tracker, timer): (Plan, Tracker, Timer),
        (tuple, fit): (&Tuple, Fit),
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        // The packet's own tuple was looked for before.
        self.clear(&[plan.reply], arrival.ticks);
        let opener = match arrival.zone {
            Zone::OUTSIDE => Opener::Stranger,
            _ => Opener::Host,
        };
        let host = self.make_room(plan.host, opener, arrival.ticks)?;
        let traffic = on_wire(&arrival.packet, arrival.offload);
        let ends = plan.reply.inverted().ends();
        rewrite::translate(arrival.bytes, &arrival.packet, &ends, arrival.offload);
        let verdict = match self.pass_on(arrival, (plan.reply.zone, fit), out) {
            Ok(verdict) => verdict,
            Err(reason) => {
                self.hosts.release(host);
                return Err(reason);
            }
        };
        let mut status = plan.status;
        if timer == Timer::UdpShort {
            status.insert(Status::SHORT);
        }
        let conn = NewConn {
            tuples: [*tuple, plan.reply],
            deadline: arrival
                .ticks
                .plus(lifetime(&self.config.timeouts, timer, self.is_filling())),
            status,
            tracker,
        };
        let lease = match plan.lease {
            LeasePlan::Grant(inside, external, port) => self.grant(inside, external, port, host),
            LeasePlan::Held(lease) => lease,
            LeasePlan::None => NONE,
        };
        let id = self.enter(conn, host, lease, plan.publication);
        self.counters.created += 1;
        if let Some(publication) = self.publications.get_mut(plan.publication) {
            publication.hits += 1;
        }
        self.table.conn_mut(id).traffic[0] = traffic;
        self.note(crate::Event::New, id);
        Ok(verdict)
    }

    /// The tracker that a connection begins with, and what it waits for.
    fn open(
        &self,
        arrival: &Arrival<'_>,
        kind: &Kind,
        tuple: &Tuple,
    ) -> Result<(Tracker, Timer), DropReason> {
        Ok(match kind {
            Kind::Answer | Kind::Message => return Err(DropReason::Invalid),
            &Kind::Ask(timer) | &Kind::Portless(timer) => (Tracker::Stateless(timer), timer),
            Kind::Sctp => {
                let packet = &arrival.bytes[arrival.packet.transport..arrival.packet.len];
                let (track, timer) = SctpTrack::open(packet)?;
                (Tracker::Sctp(track), timer)
            }
            Kind::Tcp(segment) => {
                let is_loose = self.config.tcp.loose || self.picks_up(arrival.now);
                let policy = TcpPolicy {
                    loose: is_loose,
                    ..self.config.tcp
                };
                let (track, timer) = TcpTrack::open(segment, &policy)?;
                (Tracker::Tcp(track), timer)
            }
            Kind::Udp => {
                let timer = match SHORT_PORTS.contains(&tuple.dst_port) {
                    true => Timer::UdpShort,
                    false => Timer::Udp,
                };
                (Tracker::Udp(arrival.ticks), timer)
            }
        })
    }

    /// A packet from inside.
    fn leave(&mut self, zone: Zone, arrival: &Arrival<'_>, tuple: &Tuple) -> Result<Decision, DropReason> {
        self.check_source(zone, &tuple.src)?;
        let inside = self.network(zone).ok_or(DropReason::NoRoute)?;
        let dst = tuple.dst.ip();
        if is_broadcast(&inside.network.prefixes, dst) || is_broadcast(&self.outside.prefixes, dst) {
            return Err(DropReason::Martian);
        }
        // A gateway's address leads to published ports as external ones do; Docker's users expect it.
        let is_gateways = inside.owns(&tuple.dst);
        let is_published = || {
            let found = self.publications.find(tuple.dst, tuple.protocol, tuple.dst_port);
            found.is_some()
        };
        if is_gateways && !is_published() {
            return Ok(Decision::Local);
        }
        if is_gateways || self.is_external(&tuple.dst) {
            return self.turn_back(zone, arrival, tuple);
        }
        if inside.contains(dst) {
            return Err(DropReason::NoRoute);
        }
        if self.network_of(dst).is_some() {
            return Err(DropReason::Isolated);
        }
        let host = (zone, tuple.src);
        if let Egress::Routed { .. } = inside.network.egress {
            let reply = tuple.inverted().in_zone(Zone::OUTSIDE);
            return match self.is_free(&reply, arrival) {
                true => Ok(Decision::Connection(Plan::untranslated(reply, host))),
                false => Err(DropReason::Untranslatable),
            };
        }
        let (external, port, lease) = self.shown_outside(zone, arrival, tuple)?;
        let reply = Tuple {
            dst: external,
            dst_port: port,
            ..tuple.inverted().in_zone(Zone::OUTSIDE)
        };
        // Of a port that was just chosen that is known.
        if !matches!(lease, LeasePlan::Grant(..)) && !self.is_free(&reply, arrival) {
            return Err(DropReason::Untranslatable);
        }
        Ok(Decision::Connection(Plan {
            lease,
            ..Plan::untranslated(reply, host)
        }))
    }

    /// The external address and port that an inside endpoint has towards a destination.
    fn shown_outside(
        &mut self,
        zone: Zone,
        arrival: &Arrival<'_>,
        tuple: &Tuple,
    ) -> Result<(Address, u16, LeasePlan), DropReason> {
        let external = self.external_of(zone, tuple.src).ok_or(DropReason::NoRoute)?;
        if arrival.packet.is_authenticated(arrival.bytes) {
            return Err(DropReason::Untranslatable);
        }
        if !has_ports(tuple.protocol) {
            return Ok((external, 0, LeasePlan::None));
        }
        let inside = Endpoint {
            zone,
            address: tuple.src,
            port: tuple.src_port,
            protocol: tuple.protocol,
        };
        let reply = |port| Tuple {
            dst: external,
            dst_port: port,
            ..tuple.inverted().in_zone(Zone::OUTSIDE)
        };
        let held = match self.config.port_choice {
            PortChoice::FullyRandom => None,
            PortChoice::Preserve | PortChoice::Random => self.external.of_inside(&inside),
        };
        let held = match held {
            // What is over and not swept yet keeps no port that is somebody else's now (N-TMO-3).
            Some(number) if self.external.is_reserved(self.external.lease(number)) => {
                self.expire(arrival.ticks);
                self.external.of_inside(&inside)
            }
            held => held,
        };
        if let Some(number) = held {
            let lease = self.external.lease(number);
            if self.config.mapping == Mapping::EndpointIndependent
                || is_free(&self.table, &reply(lease.port), arrival)
            {
                return Ok((lease.external, lease.port, LeasePlan::Held(number)));
            }
        }
        let table = &self.table;
        let port = self.external.choose(&inside, external, arrival.ticks, |port| {
            is_free(table, &reply(port), arrival)
        });
        let port = port.ok_or(DropReason::PortsExhausted)?;
        let lease = match held.is_some() || self.config.port_choice == PortChoice::FullyRandom {
            // The endpoint has another lease, for other destinations.
            true => LeasePlan::None,
            false => LeasePlan::Grant(inside, external, port),
        };
        Ok((external, port, lease))
    }

    /// A packet from inside to an external address: for a published port, or for a mapping that lets everybody in.
    fn turn_back(
        &mut self,
        zone: Zone,
        arrival: &Arrival<'_>,
        tuple: &Tuple,
    ) -> Result<Decision, DropReason> {
        let (target, publication, status) =
            match self.publications.find(tuple.dst, tuple.protocol, tuple.dst_port) {
                Some((number, port)) => (self.target(number, port, tuple)?, number, Status::default()),
                // A question to the address itself is no call of anybody behind it.
                None if tuple.query != 0 => return Ok(Decision::Local),
                None => match self.leased_target(tuple) {
                    Some((_, target, Filtering::EndpointIndependent)) => (target, NONE, Status::ADMITTED),
                    _ => return Ok(Decision::Local),
                },
            };
        let is_masqueraded = self
            .network(zone)
            .is_some_and(|inside| !matches!(inside.network.egress, Egress::Routed { .. }));
        let reply = Tuple {
            src: target.address,
            src_port: target.port,
            ..tuple.inverted().in_zone(target.zone)
        };
        let host = (zone, tuple.src);
        let shows_external = self.config.hairpin == HairpinSource::External
            && self.config.mapping == Mapping::EndpointIndependent
            && is_masqueraded;
        let (reply, lease) = if shows_external {
            let (external, port, lease) = self.shown_outside(zone, arrival, tuple)?;
            let reply = Tuple {
                dst: external,
                dst_port: port,
                ..reply
            };
            (reply, lease)
        } else {
            let gateway = self
                .network(target.zone)
                .and_then(|inside| inside.gateway(tuple.src.is_v4()))
                .ok_or(DropReason::NoRoute)?;
            let reply = Tuple {
                dst: gateway,
                ..reply
            };
            (self.with_free_port(reply, arrival)?, LeasePlan::None)
        };
        if !self.is_free(&reply, arrival) {
            return Err(DropReason::Untranslatable);
        }
        Ok(Decision::Connection(Plan {
            reply,
            host,
            lease,
            publication,
            status,
        }))
    }

    /// A packet from outside.
    fn admit(&mut self, arrival: &Arrival<'_>, tuple: &Tuple, kind: &Kind) -> Result<Decision, DropReason> {
        self.check_source(Zone::OUTSIDE, &tuple.src)?;
        if is_broadcast(&self.outside.prefixes, tuple.dst.ip()) {
            return Err(DropReason::Martian);
        }
        if !self.is_external(&tuple.dst) {
            return self.route_inside(arrival, tuple);
        }
        if let Some((number, port)) = self.publications.find(tuple.dst, tuple.protocol, tuple.dst_port) {
            let target = self.target(number, port, tuple)?;
            let reply = Tuple {
                src: target.address,
                src_port: target.port,
                ..tuple.inverted().in_zone(target.zone)
            };
            // Two published ports may lead to the same place (N-DN-6).
            let reply = self.with_free_port(reply, arrival)?;
            return Ok(Decision::Connection(Plan {
                publication: number,
                ..Plan::untranslated(reply, (target.zone, target.address))
            }));
        }
        if let Some((lease, target, filtering)) = self.leased_target(tuple) {
            let is_known = match filtering {
                Filtering::EndpointIndependent => true,
                Filtering::Address => self.contacts.contains_key(&(lease, tuple.src)),
                Filtering::AddressAndPort => false,
            };
            if is_known && has_ports(tuple.protocol) && !matches!(kind, Kind::Ask(_) | Kind::Answer) {
                let reply = Tuple {
                    src: target.address,
                    src_port: target.port,
                    ..tuple.inverted().in_zone(target.zone)
                };
                return match self.is_free(&reply, arrival) {
                    true => Ok(Decision::Connection(Plan {
                        lease: LeasePlan::Held(lease),
                        status: Status::ADMITTED,
                        ..Plan::untranslated(reply, (target.zone, target.address))
                    })),
                    false => Err(DropReason::Untranslatable),
                };
            }
        }
        match kind {
            Kind::Ask(_) => Ok(Decision::Local),
            _ => Err(DropReason::Unsolicited),
        }
    }

    /// Refuses a source that a packet from that zone cannot have (N-FWD-10 to N-FWD-12).
    pub(super) fn check_source(&self, zone: Zone, src: &Address) -> Result<(), DropReason> {
        let address = src.ip();
        let (is_foreign, is_gateway, prefixes) = match self.network(zone) {
            Some(inside) => (
                !inside.contains(address),
                inside.owns(src),
                &inside.network.prefixes,
            ),
            None if zone.is_outside() => (self.network_of(address).is_some(), false, &self.outside.prefixes),
            None => return Err(DropReason::NoRoute),
        };
        if is_foreign {
            return Err(DropReason::Spoofed);
        }
        match is_gateway || self.is_external(src) || is_broadcast(prefixes, address) {
            true => Err(DropReason::Martian),
            false => Ok(()),
        }
    }

    /// A packet from outside to an address inside, which only routed networks show.
    fn route_inside(&mut self, arrival: &Arrival<'_>, tuple: &Tuple) -> Result<Decision, DropReason> {
        let dst = tuple.dst.ip();
        let zone = self.network_of(dst).ok_or(DropReason::NoRoute)?;
        let inside = self.network(zone).ok_or(DropReason::NoRoute)?;
        let Egress::Routed { open } = inside.network.egress else {
            return Err(DropReason::Unsolicited);
        };
        if is_broadcast(&inside.network.prefixes, dst) {
            return Err(DropReason::Martian);
        }
        if inside.owns(&tuple.dst) {
            return Ok(Decision::Local);
        }
        let publication = self.publications.leading_to(dst, tuple.protocol, tuple.dst_port);
        if !open && publication.is_none() {
            return Err(DropReason::Unsolicited);
        }
        let reply = tuple.inverted().in_zone(zone);
        if !self.is_free(&reply, arrival) {
            return Err(DropReason::Untranslatable);
        }
        Ok(Decision::Connection(Plan {
            publication: publication.unwrap_or(NONE),
            ..Plan::untranslated(reply, (zone, tuple.dst))
        }))
    }

    /// Where a published port leads.
    fn target(&self, number: u32, port: u16, tuple: &Tuple) -> Result<Endpoint, DropReason> {
        let publication = self.publications.get(number).ok_or(DropReason::Unsolicited)?;
        let mapping = &publication.mapping;
        let address = Address::from(mapping.target);
        // It must not come back here once more (N-DN-4).
        if self.is_external(&address) {
            return Err(DropReason::Loop);
        }
        Ok(Endpoint {
            zone: mapping.zone,
            address,
            port,
            protocol: tuple.protocol,
        })
    }

    /// Whose external port the packet is for, and whom its network lets in.
    fn leased_target(&self, tuple: &Tuple) -> Option<(u32, Endpoint, Filtering)> {
        let outside = Endpoint {
            zone: Zone::OUTSIDE,
            address: tuple.dst,
            port: tuple.dst_port,
            protocol: tuple.protocol,
        };
        let number = self.external.of_outside(&outside)?;
        let lease = self.external.lease(number);
        if !lease.is_open() {
            return None;
        }
        let inside = lease.inside;
        let network = &self.network(inside.zone)?.network;
        Some((number, inside, network.filtering.unwrap_or(self.config.filtering)))
    }

    /// The external address that a host has (N-PORT-10): the one that it had, else the least used.
    fn external_of(&self, zone: Zone, host: Address) -> Option<Address> {
        if let Some(number) = self.hosts.find(zone, host) {
            let host = self.hosts.host(number);
            if let Some(external) = host.external.filter(|external| self.is_external(external)) {
                return Some(external);
            }
        }
        let allowed: &[IpAddr] = match &self.network(zone)?.network.egress {
            Egress::Masquerade(addresses) => addresses,
            Egress::Prefix(_) | Egress::Routed { .. } => &[],
        };
        let mut eligible = self.outside.addresses.iter().copied().filter(|address| {
            address.is_v4() == host.is_v4() && (allowed.is_empty() || allowed.contains(&address.ip()))
        });
        let first = eligible.next()?;
        let rest = eligible.map(|address| (self.external.load(address), address));
        let mut rest = rest.peekable();
        match rest.peek() {
            // The usual case: there is one.
            None => Some(first),
            Some(_) => {
                let all = std::iter::once((self.external.load(first), first)).chain(rest);
                all.min_by_key(|&(load, _)| load).map(|(_, address)| address)
            }
        }
    }

    /// The same answers to another port, if these are somebody's already.
    fn with_free_port(&mut self, reply: Tuple, arrival: &Arrival<'_>) -> Result<Tuple, DropReason> {
        if self.is_free(&reply, arrival) {
            return Ok(reply);
        }
        if !has_ports(reply.protocol) {
            return Err(DropReason::Untranslatable);
        }
        let shown = Endpoint {
            zone: reply.zone,
            address: reply.dst,
            port: reply.dst_port,
            protocol: reply.protocol,
        };
        let range = external::class(&shown, &(1..=u16::MAX));
        let table = &self.table;
        let to_port = |dst_port| Tuple { dst_port, ..reply };
        let port = external::probe(&mut self.random, &range, None, |port| {
            is_free(table, &to_port(port), arrival)
        });
        port.map(to_port).ok_or(DropReason::PortsExhausted)
    }

    fn is_free(&self, tuple: &Tuple, arrival: &Arrival<'_>) -> bool {
        is_free(&self.table, tuple, arrival)
    }

    /// The network that an address is in, by its number; outside there may be many networks with it, which are masqueraded.
    pub(super) fn network_of(&self, address: IpAddr) -> Option<Zone> {
        let mut networks = self.networks.iter().flatten();
        networks
            .find(|inside| inside.contains(address))
            .map(|inside| inside.network.zone)
    }

    /// Tells the sender of a packet that was refused, where that helps it.
    fn explain(&mut self, arrival: &mut Arrival<'_>, reason: DropReason, kind: &Kind, out: &mut impl Output) {
        let complaint = match (reason, arrival.zone) {
            (DropReason::NoRoute, zone) if !zone.is_outside() => Complaint::NoRoute,
            (DropReason::PortsExhausted, zone) if !zone.is_outside() => Complaint::Prohibited,
            (DropReason::Unsolicited, Zone::OUTSIDE)
                if self.config.unsolicited == Unsolicited::PortUnreachable && matches!(kind, Kind::Udp) =>
            {
                Complaint::PortUnreachable
            }
            _ => return,
        };
        self.complain(arrival, complaint, out);
    }
}

impl Plan {
    /// A connection whose answers are as its reply tuple says, by no lease and no published port.
    const fn untranslated(reply: Tuple, host: (Zone, Address)) -> Self {
        Self {
            reply,
            host,
            lease: LeasePlan::None,
            publication: NONE,
            status: Status::NONE,
        }
    }
}

/// Whether no living connection has this tuple.
fn is_free(table: &crate::conntrack::Table, tuple: &Tuple, arrival: &Arrival<'_>) -> bool {
    table
        .find(tuple)
        .is_none_or(|(id, _)| table.conn(id).deadline <= arrival.ticks)
}

/// Whether it is the broadcast address of one of these subnets; subnets of two or fewer addresses have none (RFC 3021).
fn is_broadcast(prefixes: &[IpNet], address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else {
        return false;
    };
    prefixes
        .iter()
        .any(|prefix| matches!(prefix, IpNet::V4(net) if net.prefix_len() < 31 && net.broadcast() == address))
}

/// DNS and NTP: one question, one answer (RFC 4787 REQ-5a, nat-conformance §2).
const SHORT_PORTS: [u16; 2] = [53, 123];
