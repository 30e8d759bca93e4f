//! UDP and echo flows of a relay: which datagram belongs to which, and what begins or ends one.

use std::{io, net::SocketAddr, time::Instant};

use vswitch_wire::Refusal;

use super::{Answer, Arrival, Flow, Kind, Pending, Relay, table::Tuple, target::Target};
use crate::{
    FlowId, Link, Scratch, config::Source, datagram::Inbound, datagram_socket::Progress, echo::EchoFlow,
    errors, link::SocketRole, listing::Protocol, payload::Packet, udp::UdpFlow,
};

impl Relay {
    /// Takes a UDP datagram, or several in a super-frame. Returns what the container is to be told.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        arrival: Arrival,
        packet: &Packet<'_>,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) -> Option<Refusal> {
        let datagram = match packet.datagram(&arrival.offload) {
            Ok(datagram) => datagram,
            Err(error) => return self.count_bad(error),
        };
        // RFC 768: a source port of 0 expects no reply, which a flow is there for.
        if datagram.src_port == 0 || datagram.dst_port == 0 {
            self.counters.bad_packet += 1;
            return None;
        }
        let tuple = Tuple {
            endpoint: arrival.endpoint,
            protocol: Protocol::Udp,
            container: SocketAddr::new(packet.src, datagram.src_port),
            remote: SocketAddr::new(packet.dst, datagram.dst_port),
        };
        let id = match self.flows.find(&tuple) {
            Some(id) => id,
            None => match self.open_datagrams(now, arrival, tuple, link) {
                Ok(id) => id,
                Err(refusal) => return refusal,
            },
        };
        if let Some(Kind::Session(_)) = self.flows.get(id).map(|flow| &flow.kind) {
            return self.answer_client(now, id, &datagram, scratch, link);
        }
        if self.is_query_refused(now, id) {
            return None;
        }
        self.with_datagrams(now, id, scratch, link, |flow, inbound, scratch| match flow {
            Kind::Udp(flow) => flow.handle_datagram(now, &datagram, inbound, scratch),
            Kind::Echo(_) | Kind::Session(_) | Kind::Tcp(_) => None,
        })
        .flatten()
    }

    /// Takes an echo request; other messages of containers are nobody's (R-ICMP-3). Returns what the
    /// container is to be told.
    pub(super) fn handle_echo(
        &mut self,
        now: Instant,
        arrival: Arrival,
        packet: &Packet<'_>,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) -> Option<Refusal> {
        let request = match packet.echo_request() {
            Ok(Some(request)) => request,
            Ok(None) => {
                let is_told = self.note_unreachable(arrival.endpoint, packet);
                self.counters.protocol += u64::from(!is_told);
                return None;
            }
            Err(error) => return self.count_bad(error),
        };
        let protocol = match packet.src {
            std::net::IpAddr::V4(_) => Protocol::Icmp,
            std::net::IpAddr::V6(_) => Protocol::Icmpv6,
        };
        let tuple = Tuple {
            endpoint: arrival.endpoint,
            protocol,
            container: SocketAddr::new(packet.src, request.echo.id),
            remote: SocketAddr::new(packet.dst, 0),
        };
        let id = match self.flows.find(&tuple) {
            Some(id) => id,
            None => match self.open_datagrams(now, arrival, tuple, link) {
                Ok(id) => id,
                Err(refusal) => return refusal,
            },
        };
        self.with_datagrams(now, id, scratch, link, |flow, inbound, scratch| match flow {
            Kind::Echo(flow) => flow.handle_request(now, &request, inbound, scratch),
            Kind::Session(_) | Kind::Tcp(_) | Kind::Udp(_) => None,
        })
        .flatten()
    }

    /// Begins a flow of datagrams or pings. The error is what the container is to be told, if anything.
    fn open_datagrams(
        &mut self,
        now: Instant,
        arrival: Arrival,
        tuple: Tuple,
        link: &mut impl Link,
    ) -> Result<FlowId, Option<Refusal>> {
        if !self.admit(now, arrival.endpoint) {
            return Err(None);
        }
        let target = match self.target(now, arrival.hop, &tuple) {
            Ok(target) => target,
            Err(refused) => {
                return Err(match self.answer_to(refused) {
                    Answer::None => None,
                    Answer::Refusal(refusal) => Some(refusal),
                    // A reset is TCP's.
                    Answer::Reset => Some(Refusal::Prohibited),
                });
            }
        };
        let descriptor = self.lease(now, arrival.endpoint).ok_or(None)?;
        let kind = match self.open_datagram_socket(now, &tuple, &target) {
            Ok(kind) => kind,
            Err(error) => {
                self.settle_admission(arrival.endpoint);
                let refusal = errors::refusal(&error);
                self.counters.no_descriptor += u64::from(refusal.is_none());
                return Err(refusal);
            }
        };
        let caller = match (&target, &kind) {
            // Before anything is sent.
            (Target::Published(_), Kind::Udp(flow)) => {
                flow.local_addr().ok().map(|own| self.announce(&tuple, own))
            }
            _ => None,
        };
        if !self.make_place(now, arrival.endpoint) {
            return Err(None);
        }
        let flow = Flow {
            tuple,
            station: arrival.station,
            is_query: target.is_query(&tuple),
            target: match target {
                Target::Itself => None,
                Target::Host(address) | Target::Resolver(address) | Target::Published(address) => {
                    Some(address)
                }
            },
            began: now,
            pending: Pending::No,
            unflushed: false,
            turn: false,
            evictable_place: None,
            mapping: None,
            _caller: caller,
            kind,
            descriptor: Some(descriptor),
        };
        self.insert(flow, link).ok_or(None)
    }

    fn open_datagram_socket(&mut self, now: Instant, tuple: &Tuple, target: &Target) -> io::Result<Kind> {
        let source = &self.config.source;
        if let Target::Resolver(_) = target {
            return UdpFlow::open_query(now, &mut self.resolvers, source).map(Kind::Udp);
        }
        let to = match *target {
            Target::Host(address) | Target::Published(address) => address,
            Target::Itself | Target::Resolver(_) => tuple.remote,
        };
        match tuple.protocol {
            Protocol::Icmp | Protocol::Icmpv6 => EchoFlow::open(now, to, source).map(Kind::Echo),
            Protocol::Tcp | Protocol::Udp => {
                // The host itself is reached without any device or address of the outside.
                let inside = Source::default();
                let source = match target {
                    Target::Published(_) => &inside,
                    _ => source,
                };
                UdpFlow::open(now, to, source).map(Kind::Udp)
            }
        }
    }

    /// Whether a query is one too many (R-DNS-3).
    fn is_query_refused(&mut self, now: Instant, id: FlowId) -> bool {
        let Some(flow) = self.flows.get_mut(id) else {
            return true;
        };
        let is_query = flow.is_query;
        let share = self.shares.of(flow.tuple.endpoint);
        if let Kind::Udp(flow) = &mut flow.kind {
            share.queries -= flow.expire_queries(now);
        }
        let is_refused = is_query && share.queries >= self.config.limits.queries_per_endpoint;
        self.counters.limit_queries += u64::from(is_refused);
        is_refused
    }

    pub(super) fn handle_datagram_ready(
        &mut self,
        now: Instant,
        id: FlowId,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        let progress = self.with_datagrams(now, id, scratch, link, |flow, inbound, scratch| match flow {
            Kind::Echo(flow) => flow.handle_ready(now, inbound, scratch),
            Kind::Udp(flow) => flow.handle_ready(now, inbound, scratch),
            Kind::Session(_) | Kind::Tcp(_) => Progress::Drained,
        });
        if progress == Some(Progress::More)
            && let Some(flow) = self.flows.get_mut(id)
            && !std::mem::replace(&mut flow.turn, true)
        {
            self.turns.push_back(SocketRole::Flow(id).id());
        }
    }

    pub(super) fn handle_datagram_timeout(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get(id) else { return };
        let deadline = flow.deadline(&self.config.timeouts);
        match deadline <= now {
            true => drop(self.remove(id)),
            false => self.deadlines.note(id, deadline),
        }
    }

    /// Lets a flow act, and does what follows from its new state.
    pub(super) fn with_datagrams<L: Link, R>(
        &mut self,
        now: Instant,
        id: FlowId,
        scratch: &mut Scratch,
        link: &mut L,
        act: impl FnOnce(&mut Kind, &mut Inbound<'_, L>, &mut Scratch) -> R,
    ) -> Option<R> {
        let flow = self.flows.get_mut(id)?;
        let path = flow.path(&self.config);
        let mut inbound = Inbound {
            token: link.token(SocketRole::Flow(id).id()),
            resolvers: &mut self.resolvers,
            source: &self.config.source,
            link,
            gateway: flow.gateway(&self.config),
            path: &path,
            ids: &mut self.fragment_ids,
            counters: &mut self.datagram_counters,
        };
        let before = (flow.outstanding_queries(), flow.dispensability(now));
        let result = act(&mut flow.kind, &mut inbound, scratch);
        let after = (flow.outstanding_queries(), flow.dispensability(now));
        let (endpoint, mapping) = (flow.tuple.endpoint, flow.mapping);
        let deadline = flow.deadline(&self.config.timeouts);
        let share = self.shares.of(endpoint);
        share.queries = share.queries + after.0 - before.0;
        // A client of a published port was not held against the rate of new flows.
        if let (Some((true, _)), Some((false, _)), None) = (before.1, after.1, mapping) {
            self.settle_admission(endpoint);
        }
        self.deadlines.note(id, deadline);
        Some(result)
    }
}
