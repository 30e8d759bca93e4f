//! How connections enter and leave the table, and who makes room for whom (nat-conformance §13).

use super::Nat;
use crate::{
    Address, DropReason, Event, Eviction, Filtering, Tuple, Zone,
    conntrack::{Chain, Cold, ConnId, NONE, NewConn, Status, Tracker},
    external::Endpoint,
    hosts::Opener,
    tcp::TcpState,
    time::Ticks,
};

impl Nat {
    /// Makes sure that one more connection of a host may begin, by giving up others if it must (N-TBL-1 to N-TBL-3); the host's
    /// number. The host must get the connection or be released.
    pub(super) fn make_room(
        &mut self,
        (zone, address): (Zone, Address),
        opener: Opener,
        now: Ticks,
    ) -> Result<u32, DropReason> {
        let host = self.hosts.find_or_add(zone, address);
        match self.in_the_way(host, opener, now) {
            Ok(None) => Ok(host),
            Ok(Some(victim)) => {
                self.counters.evicted += 1;
                self.remove_conn(victim);
                // That may have been the host's last one, with which it was forgotten.
                Ok(self.hosts.find_or_add(zone, address))
            }
            Err(reason) => {
                self.hosts.release(host);
                Err(reason)
            }
        }
    }

    /// The connection that must be given up before another of a host begins, if any must.
    fn in_the_way(&mut self, host: u32, opener: Opener, now: Ticks) -> Result<Option<ConnId>, DropReason> {
        let limits = self.config.limits;
        if !self.hosts.may_open(host, now, opener, limits.rate_per_host) {
            return Err(DropReason::CreationRate);
        }
        let owner = self.hosts.host(host);
        let (zone, count) = (owner.zone, owner.count as usize);
        if count >= limits.per_host {
            let own = self.oldest_of(Some(host)).ok_or(DropReason::Quota)?;
            return Ok(Some(own));
        }
        let of_zone = self.network(zone).map_or(0, |inside| inside.count);
        // A zone that is full makes room in itself, also in a full table, where that is room enough.
        let (scope, held) = if of_zone >= limits.per_zone {
            (Some(zone), of_zone)
        } else if self.table.len() >= limits.connections {
            (None, self.table.len())
        } else {
            return Ok(None);
        };
        let share = held / self.hosts.count(scope).max(1);
        // Who has a fair share gives up something of its own first; who has not more than that gives up nothing for others.
        let victim = match count >= share && self.hosts.host(host).unassured_count > 0 {
            true => Some(host),
            false => self.hosts.most_unassured(scope, share),
        };
        self.oldest_of(victim).map(Some).ok_or(DropReason::TableFull)
    }

    /// A host's oldest connection that is not assured, if it may be given up.
    fn oldest_of(&self, host: Option<u32>) -> Option<ConnId> {
        match self.config.eviction {
            Eviction::Never => None,
            Eviction::Offender => self.table.first(&self.hosts.host(host?).unassured),
        }
    }

    /// Removes what is over but was not swept yet and has one of these tuples. Goes before a new connection's host is looked for,
    /// which it may forget.
    pub(super) fn clear(&mut self, tuples: &[Tuple], now: Ticks) {
        for tuple in tuples {
            if let Some((id, _)) = self.table.find(tuple)
                && self.table.conn(id).deadline <= now
            {
                self.counters.expired += 1;
                self.remove_conn(id);
            }
        }
    }

    /// Enters a connection, whose tuples are free, with everything that hangs on it.
    pub(super) fn enter(&mut self, conn: NewConn, host: u32, lease: u32, publication: u32) -> ConnId {
        let (remote, egress) = (remote(&conn.tuples), conn.tuples[1].zone);
        let is_strangers = is_strangers(conn.status, &conn.tuples);
        // Also where it has no port (N-PORT-10).
        let external = Some(conn.tuples[1].dst).filter(|shown| self.is_external(shown));
        let id = self.table.insert(
            conn,
            Cold {
                host,
                lease,
                publication,
            },
        );
        let owner = self.hosts.host_mut(host);
        owner.count += 1;
        owner.unassured_count += 1;
        if let Some(external) = external {
            owner.external = Some(external);
        }
        let zone = owner.zone;
        self.table.push(&mut owner.unassured, Chain::Host, id);
        self.hosts.note_busy(host);
        if let Some(inside) = self.network_mut(zone) {
            inside.count += 1;
        }
        if let Some(inside) = self.network_mut(egress).filter(|_| egress != zone) {
            inside.guests += 1;
        }
        if let Some(publication) = self.publications.get_mut(publication) {
            self.table
                .push(&mut publication.connections, Chain::Publication, id);
        }
        self.hold_lease(lease);
        match (lease, is_strangers) {
            (NONE, _) => {}
            (_, true) => self.external.admit_stranger(lease),
            (_, false) => self.note_contact(lease, (zone, remote)),
        }
        id
    }

    /// Removes a connection with everything that hangs on it.
    pub(super) fn remove_conn(&mut self, id: ConnId) {
        self.note(Event::Destroyed, id);
        let Cold {
            host,
            lease,
            publication,
        } = self.table.cold(id);
        let conn = self.table.conn(id);
        let is_spared = conn.status.contains(Status::SPARED);
        let (remote, egress) = (remote(&conn.tuples), conn.tuples[1].zone);
        let is_strangers = is_strangers(conn.status, &conn.tuples);
        let owner = self.hosts.host_mut(host);
        owner.count -= 1;
        let zone = owner.zone;
        match is_spared {
            true => self.table.unlink(&mut owner.assured, Chain::Host, id),
            false => {
                owner.unassured_count -= 1;
                self.table.unlink(&mut owner.unassured, Chain::Host, id);
            }
        }
        if let Some(inside) = self.network_mut(zone) {
            inside.count = inside.count.saturating_sub(1);
        }
        if let Some(inside) = self.network_mut(egress).filter(|_| egress != zone) {
            inside.guests = inside.guests.saturating_sub(1);
        }
        if let Some(publication) = self.publications.get_mut(publication) {
            self.table
                .unlink(&mut publication.connections, Chain::Publication, id);
        }
        self.publications.forget_withdrawn(publication);
        match (lease, is_strangers) {
            (NONE, _) => {}
            (_, true) => self.external.end_stranger(lease),
            (_, false) => self.drop_contact(lease, remote),
        }
        self.table.remove(id);
        self.drop_lease(lease);
        self.hosts.release(host);
    }

    /// The inside has answered a stranger, who is none any more.
    #[cold]
    pub(super) fn accept(&mut self, id: ConnId) {
        let Cold { host, lease, .. } = self.table.cold(id);
        let tuples = &self.table.conn(id).tuples;
        if lease != NONE && tuples[0].zone.is_outside() {
            let remote = remote(tuples);
            self.external.end_stranger(lease);
            self.note_contact(lease, (self.hosts.host(host).zone, remote));
        }
    }

    fn note_contact(&mut self, lease: u32, (zone, remote): (Zone, Address)) {
        if self.filters_by_address(zone) {
            *self.contacts.entry((lease, remote)).or_default() += 1;
        }
    }

    fn drop_contact(&mut self, lease: u32, remote: Address) {
        if let Some(count) = self.contacts.get_mut(&(lease, remote)) {
            *count -= 1;
            if *count == 0 {
                self.contacts.remove(&(lease, remote));
            }
        }
    }

    /// Puts a connection among those of its host that are not given up when room is needed, or takes it out again.
    #[cold]
    pub(super) fn set_spared(&mut self, id: ConnId, is_spared: bool) {
        let host = self.table.cold(id).host;
        let owner = self.hosts.host_mut(host);
        let status = &mut self.table.conn_mut(id).status;
        if is_spared {
            status.insert(Status::SPARED);
            owner.unassured_count -= 1;
            self.table.unlink(&mut owner.unassured, Chain::Host, id);
            self.table.push(&mut owner.assured, Chain::Host, id);
        } else {
            status.remove(Status::SPARED);
            owner.unassured_count += 1;
            self.table.unlink(&mut owner.assured, Chain::Host, id);
            self.table.push(&mut owner.unassured, Chain::Host, id);
            self.hosts.note_busy(host);
        }
    }

    pub(super) fn grant(&mut self, inside: Endpoint, external: Address, port: u16, host: u32) -> u32 {
        self.hosts.host_mut(host).mappings += 1;
        self.external.grant(inside, external, port, host)
    }

    pub(super) fn hold_lease(&mut self, lease: u32) {
        if lease != NONE {
            self.external.hold(lease);
        }
    }

    /// Gives up a use of a lease; the last one's end may keep the port from others for a while (N-PORT-8).
    pub(super) fn drop_lease(&mut self, lease: u32) {
        if lease == NONE {
            return;
        }
        let inside = self.external.lease(lease).inside;
        let is_quarantined = inside.protocol != vswitch_wire::IpProtocol::TCP.0
            && self.filtering_of(inside.zone) != Filtering::AddressAndPort;
        let until = is_quarantined.then(|| self.clock.now().plus(QUARANTINE));
        if let Some(ended) = self.external.drop_use(lease, until) {
            self.hosts.host_mut(ended.host).mappings -= 1;
            self.hosts.release(ended.host);
        }
    }

    /// Looks at some connections of a table that is nearly full, and gives up those that can be (N-TBL-2).
    pub(super) fn thin_out(&mut self) {
        if self.config.eviction == Eviction::Never {
            return;
        }
        for _ in 0..THINNING {
            if !self.is_crowded() {
                return;
            }
            let (id, next) = self.table.step(self.sweep);
            self.sweep = next;
            if let Some(id) = id.filter(|&id| self.can_give_up(id)) {
                self.counters.evicted += 1;
                self.remove_conn(id);
            }
        }
    }

    /// nf_conntrack_proto_tcp.c, `tcp_can_early_drop`; but not of a host that has less than a fair share (N-TBL-3).
    fn can_give_up(&self, id: ConnId) -> bool {
        let owner = self.hosts.host(self.table.cold(id).host);
        if (owner.count as usize) < self.table.len() / self.hosts.count(None).max(1) {
            return false;
        }
        let conn = self.table.conn(id);
        let is_closing = match &conn.tracker {
            Tracker::Tcp(track) => matches!(
                track.state(),
                TcpState::FinWait
                    | TcpState::CloseWait
                    | TcpState::LastAck
                    | TcpState::TimeWait
                    | TcpState::Close
            ),
            _ => false,
        };
        is_closing || !conn.status.contains(Status::ASSURED)
    }

    /// Above 95 %, as in Linux's `gc_worker`.
    pub(super) fn is_crowded(&self) -> bool {
        self.config.eviction == Eviction::Offender
            && self.table.len() * 20 > self.config.limits.connections * 19
    }

    /// Above 75 % (nat-conformance §2).
    #[inline]
    pub(super) fn is_filling(&self) -> bool {
        self.table.len() * 4 > self.config.limits.connections * 3
    }

    fn filtering_of(&self, zone: Zone) -> Filtering {
        let own = self.network(zone).and_then(|inside| inside.network.filtering);
        own.unwrap_or(self.config.filtering)
    }

    fn filters_by_address(&self, zone: Zone) -> bool {
        self.filtering_of(zone) == Filtering::Address
    }
}

/// Whether somebody outside began it by another's mapping, and nobody inside has answered.
fn is_strangers(status: Status, tuples: &[Tuple; 2]) -> bool {
    tuples[0].zone.is_outside() && status.contains(Status::ADMITTED) && !status.contains(Status::REPLIED)
}

/// The host outside.
const fn remote(tuples: &[Tuple; 2]) -> Address {
    match tuples[0].zone.is_outside() {
        true => tuples[0].src,
        false => tuples[1].src,
    }
}

/// RFC 6888 REQ-8.
const QUARANTINE: u32 = 120 * Ticks::PER_SECOND;
/// Connections looked at per call.
const THINNING: usize = 256;
