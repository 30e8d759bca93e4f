//! How connections enter and leave the table, and who makes room for whom (nat-conformance §13).

use super::Nat;
use crate::{
    Address, DropReason, Event, Eviction, Filtering, Zone,
    conntrack::{Chain, Cold, ConnId, NONE, NewConn, Status, Tracker},
    external::Endpoint,
    tcp::TcpState,
    time::Ticks,
};

impl Nat {
    /// Makes sure that one more connection of a host may begin, by giving up others if it must (N-TBL-1 to N-TBL-3).
    pub(super) fn make_room(&mut self, host: u32, now: Ticks) -> Result<(), DropReason> {
        let limits = self.config.limits;
        let owner = self.hosts.host_mut(host);
        if !owner.may_open(now, limits.rate_per_host) {
            return Err(DropReason::CreationRate);
        }
        let (zone, count) = (owner.zone, owner.count as usize);
        if count >= limits.per_host {
            return self.evict_of(Some(host)).ok_or(DropReason::Quota);
        }
        let of_zone = self.network(zone).map_or(0, |inside| inside.count);
        let scope = if self.table.len() >= limits.connections {
            None
        } else if of_zone >= limits.per_zone {
            Some(zone)
        } else {
            return Ok(());
        };
        let held = match scope {
            Some(_) => of_zone,
            None => self.table.len(),
        };
        // Who has more than a fair share gives up something of its own first.
        let share = held / self.hosts.len().max(1);
        let victim = match count > share && self.hosts.host(host).unassured_count > 0 {
            true => Some(host),
            false => self.hosts.most_unassured(scope),
        };
        self.evict_of(victim).ok_or(DropReason::TableFull)
    }

    /// Gives up a host's oldest connection that is not assured.
    fn evict_of(&mut self, host: Option<u32>) -> Option<()> {
        if self.config.eviction == Eviction::Never {
            return None;
        }
        let host = self.hosts.host(host?);
        let oldest = self.table.first(&host.unassured)?;
        self.counters.evicted += 1;
        self.remove_conn(oldest);
        Some(())
    }

    /// Enters a connection with everything that hangs on it.
    pub(super) fn enter(&mut self, conn: NewConn, host: u32, lease: u32, publication: u32) -> ConnId {
        for tuple in &conn.tuples {
            // What is over but was not swept yet may have the same.
            if let Some((id, _)) = self.table.find(tuple) {
                self.counters.expired += 1;
                self.remove_conn(id);
            }
        }
        let remote = conn.tuples[1].src;
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
        let zone = owner.zone;
        self.table.push(&mut owner.unassured, Chain::Host, id);
        if let Some(inside) = self.network_mut(zone) {
            inside.count += 1;
        }
        if let Some(publication) = self.publications.get_mut(publication) {
            self.table
                .push(&mut publication.connections, Chain::Publication, id);
        }
        self.hold_lease(lease);
        if lease != NONE && self.filters_by_address(zone) {
            *self.contacts.entry((lease, remote)).or_default() += 1;
        }
        self.counters.created += 1;
        id
    }

    /// Removes a connection with everything that hangs on it.
    pub(super) fn remove_conn(&mut self, id: ConnId) {
        self.note(Event::Destroyed, id);
        self.take_out(id);
    }

    /// The same of one that nobody was told of.
    pub(super) fn take_out(&mut self, id: ConnId) {
        let Cold {
            host,
            lease,
            publication,
        } = self.table.cold(id);
        let conn = self.table.conn(id);
        let is_assured = conn.status.contains(Status::ASSURED);
        let remote = conn.tuples[1].src;
        let owner = self.hosts.host_mut(host);
        owner.count -= 1;
        let zone = owner.zone;
        match is_assured {
            true => self.table.unlink(&mut owner.assured, Chain::Host, id),
            false => {
                owner.unassured_count -= 1;
                self.table.unlink(&mut owner.unassured, Chain::Host, id);
            }
        }
        if let Some(inside) = self.network_mut(zone) {
            inside.count = inside.count.saturating_sub(1);
        }
        if let Some(publication) = self.publications.get_mut(publication) {
            self.table
                .unlink(&mut publication.connections, Chain::Publication, id);
        }
        if let Some(count) = self.contacts.get_mut(&(lease, remote)) {
            *count -= 1;
            if *count == 0 {
                self.contacts.remove(&(lease, remote));
            }
        }
        self.table.remove(id);
        self.drop_lease(lease);
        self.hosts.release(host);
    }

    /// Spares a connection from now on when room is needed.
    pub(super) fn assure(&mut self, id: ConnId) {
        self.table.conn_mut(id).status.insert(Status::ASSURED);
        let owner = self.hosts.host_mut(self.table.cold(id).host);
        owner.unassured_count -= 1;
        self.table.unlink(&mut owner.unassured, Chain::Host, id);
        self.table.push(&mut owner.assured, Chain::Host, id);
    }

    pub(super) fn grant(&mut self, inside: Endpoint, external: Address, port: u16, host: u32) -> u32 {
        let owner = self.hosts.host_mut(host);
        owner.mappings += 1;
        owner.external = Some(external);
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

    /// nf_conntrack_proto_tcp.c, `tcp_can_early_drop`.
    fn can_give_up(&self, id: ConnId) -> bool {
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

/// RFC 6888 REQ-8.
const QUARANTINE: u32 = 120 * Ticks::PER_SECOND;
/// Connections looked at per call.
const THINNING: usize = 256;
