//! Who may begin a flow, what it takes and what it gives back.

use std::time::Instant;

use mio::unix::SourceFd;

use super::{Flow, Kind, Pending, Relay};
use crate::{FlowId, Link, config::Lease, link::SocketRole, listing::Protocol, stream::TcpFlow};

impl Relay {
    /// Whether the container may begin another flow now.
    pub(super) fn admit(&mut self, now: Instant, endpoint: u32) -> bool {
        let is_admitted = self.shares.of(endpoint).new.take(now);
        self.counters.limit_rate += u64::from(!is_admitted);
        is_admitted
    }

    /// A new flow was answered, or cannot be, which is an answer: only what nobody answers counts against the
    /// rate of new flows.
    pub(super) fn settle_admission(&mut self, endpoint: u32) {
        self.shares.of(endpoint).new.give_back();
    }

    /// A descriptor for another flow of the container. While they are scarce, a container holds no more than
    /// eight times what is left for all (R-LIM-2), and its own idle ones make room first.
    pub(super) fn lease(&mut self, now: Instant, endpoint: u32) -> Option<Lease> {
        let may_have =
            !self.is_over_share(endpoint) || self.evict(now, Some(endpoint)) || self.evict(now, None);
        let lease = may_have.then(|| self.config.limits.descriptors.take()).flatten();
        self.counters.no_descriptor += u64::from(lease.is_none());
        lease
    }

    /// The same for a client of a published port, for which no flow ends. The mapping counts those that find none.
    pub(super) fn lease_for_client(&mut self, endpoint: u32) -> Option<Lease> {
        let may_have = !self.is_over_share(endpoint);
        may_have.then(|| self.config.limits.descriptors.take()).flatten()
    }

    fn is_over_share(&mut self, endpoint: u32) -> bool {
        let left = self.config.limits.descriptors.left();
        self.shares.of(endpoint).descriptors >= SHARE * left
    }

    /// Makes sure that there is a place for another flow of the container, if need be by ending an idle one.
    pub(super) fn make_place(&mut self, now: Instant, endpoint: u32) -> bool {
        let has_place = self.make_place_among(now, endpoint, |_| true);
        self.counters.limit_flows += u64::from(!has_place);
        has_place
    }

    /// The same for a client of a published port. Only clients of UDP ports make room, and some places are never
    /// clients': however many come, the container can begin flows of its own. The mapping counts those that find none.
    /// A TCP client takes the place of one only that the container has not answered.
    pub(super) fn make_place_for_client(&mut self, now: Instant, protocol: Protocol, endpoint: u32) -> bool {
        let may_go = |flow: &Flow| {
            let is_unanswered = flow.dispensability(now).is_some_and(|(is_one_way, _)| is_one_way);
            flow.mapping.is_some() && (protocol == Protocol::Udp || is_unanswered)
        };
        let is_crowded = self.shares.of(endpoint).clients >= self.config.limits.clients_per_endpoint;
        let has_place = !is_crowded || self.evict_among(now, Some(endpoint), may_go);
        has_place && self.make_place_among(now, endpoint, may_go)
    }

    fn make_place_among(&mut self, now: Instant, endpoint: u32, may_go: impl Fn(&Flow) -> bool) -> bool {
        let limits = &self.config.limits;
        let is_own_full = self.shares.of(endpoint).flows >= limits.flows_per_endpoint;
        let is_full = is_own_full || self.flows.len() >= limits.flows;
        !is_full || self.evict_among(now, is_own_full.then_some(endpoint), may_go)
    }

    /// Ends the flow that is missed least, if there is one: of one container if it is named, else of the one
    /// that has most of them.
    pub(super) fn evict(&mut self, now: Instant, endpoint: Option<u32>) -> bool {
        self.evict_among(now, endpoint, |_| true)
    }

    fn evict_among(&mut self, now: Instant, endpoint: Option<u32>, may_go: impl Fn(&Flow) -> bool) -> bool {
        let flows = &self.flows;
        let ranked = self.shares.candidates(endpoint).filter_map(|id| {
            let flow = flows.get(id).filter(|flow| may_go(flow))?;
            Some((flow.dispensability(now)?, id))
        });
        let victim = ranked.max_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, id)| id);
        let Some(id) = victim else { return false };
        self.counters.evicted += 1;
        self.remove(id).is_some()
    }

    /// Enters a flow and its socket, if it has one.
    pub(super) fn insert(&mut self, flow: Flow, link: &impl Link) -> Option<FlowId> {
        let id = self.flows.next_id();
        let token = link.token(SocketRole::Flow(id).id());
        if let Some((fd, interest)) = flow.socket()
            && link
                .registry()
                .register(&mut SourceFd(&fd), token, interest)
                .is_err()
        {
            self.counters.no_descriptor += 1;
            if let (Kind::Tcp(TcpFlow { socket, .. }), Some(_)) = (flow.kind, flow.mapping) {
                // R-IN-5: a client that is not let in hears so.
                socket.reset();
            }
            return None;
        }
        self.counters.flows += 1;
        let share = self.shares.of(flow.tuple.endpoint);
        share.flows += 1;
        share.descriptors += usize::from(flow.descriptor.is_some());
        match flow.pending {
            Pending::Container => self.shares.of(flow.tuple.endpoint).initiating += 1,
            Pending::Host => {
                self.pending += 1;
                self.shares.of(flow.tuple.endpoint).pending += 1;
            }
            Pending::No => {}
        }
        if let Some(mapping) = flow.mapping {
            self.shares.of(flow.tuple.endpoint).clients += 1;
            self.published.count_in(mapping);
        }
        let (deadline, endpoint) = (flow.deadline(&self.config.timeouts), flow.tuple.endpoint);
        let is_evictable = flow.is_evictable();
        self.sessions.insert(&flow.kind, id);
        let id = self.flows.insert(flow);
        if is_evictable {
            let place = self.shares.of(endpoint).add_evictable(id);
            self.set_evictable_place(id, place);
        }
        self.deadlines.note(id, deadline);
        Some(id)
    }

    /// Takes a flow out of everything. Its socket leaves the poll set when it is closed.
    pub(super) fn remove(&mut self, id: FlowId) -> Option<Flow> {
        let flow = self.flows.remove(id)?;
        self.sessions.remove(&flow.kind);
        self.count_answered(flow.tuple.endpoint, flow.pending);
        if let Some(mapping) = flow.mapping {
            self.shares.of(flow.tuple.endpoint).clients -= 1;
            self.published.count_out(mapping);
        }
        self.deadlines.remove(id);
        let share = self.shares.of(flow.tuple.endpoint);
        share.flows -= 1;
        share.descriptors -= usize::from(flow.descriptor.is_some());
        share.queries -= flow.outstanding_queries();
        if let Some(place) = flow.evictable_place
            && let Some(moved) = share.remove_evictable(place)
        {
            self.set_evictable_place(moved, place);
        }
        Some(flow)
    }

    pub(super) fn set_evictable_place(&mut self, id: FlowId, place: usize) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.evictable_place = Some(place);
        }
    }

    /// A connection of the container waits no longer.
    pub(super) fn count_answered(&mut self, endpoint: u32, pending: Pending) {
        match pending {
            Pending::Container => self.shares.of(endpoint).initiating -= 1,
            Pending::Host => {
                self.pending -= 1;
                self.shares.of(endpoint).pending -= 1;
            }
            Pending::No => {}
        }
    }
}

/// A container that is alone gets eight ninths of all descriptors, the next one eight ninths of the rest:
/// somebody new always finds some.
const SHARE: usize = 8;
