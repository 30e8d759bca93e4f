//! Mappings of a relay and their listeners: taking them into service and out, and what they count.

mod change;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    time::Instant,
};

use hashbrown::HashMap;
use mio::{Interest, unix::SourceFd};
use socket2::Socket;
use vswitch_wire::MacAddr;

use super::{
    Relay,
    host::Owner,
    sessions,
    target::{is_link_local, is_possible},
};
use crate::{
    FlowId, Link, Scratch,
    allowance::Allowance,
    config::Lease,
    counters::counters,
    link::{ListenerId, SocketRole},
    listing::Protocol,
    publish::{Bound, Connections, Listener, MappingId, MappingSpec, MappingView},
    splice,
};

/// The mappings of one relay.
#[derive(Debug, Default)]
pub(super) struct Published {
    mappings: HashMap<MappingId, Mapping, foldhash::fast::RandomState>,
    listeners: Vec<Option<Door>>,
    free: Vec<u32>,
    /// Listeners that accept nobody for want of descriptors, and until when.
    paused: Vec<ListenerId>,
    resume_at: Option<Instant>,
    /// Connections that went on when their mapping was taken out of service, by it.
    left: HashMap<MappingId, u32, foldhash::fast::RandomState>,
}

/// One mapping.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) spec: MappingSpec,
    listeners: Vec<ListenerId>,
    /// Connections, or UDP clients, that it has.
    pub(super) active: u32,
    /// New ones that may still come in this second.
    rate: Option<Allowance>,
    pub(super) counters: Counters,
}

/// One listener.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) mapping: MappingId,
    pub(super) socket: Socket,
    pub(super) bound: Bound,
    pub(super) container_port: u16,
    /// Waits in [`Relay::turns`].
    pub(super) turn: bool,
    /// Accepts nobody for want of descriptors.
    pub(super) is_paused: bool,
    _descriptor: Lease,
}

counters! {
    /// What has come by a mapping since it was published.
    Counters {
        /// Connections, or UDP clients, that were brought to the container.
        accepted,
        /// The container refused, or did not answer in time.
        failed,
        /// Clients refused because `allow` does not have them.
        refused_allow,
        /// Clients refused because `max-conns` were there.
        refused_connections,
        /// Clients refused for want of descriptors, flows or memory.
        refused_limit,
        /// Clients refused because more came in a second than `rate`.
        refused_rate,
    }
}

/// Who comes, as the container is to see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shown {
    pub(super) protocol: Protocol,
    /// The container's end of the flow.
    pub(super) container: SocketAddr,
    /// The client's address, or the gateway's.
    pub(super) remote: IpAddr,
}

impl Relay {
    /// Takes a mapping into service.
    ///
    /// # Errors
    /// The descriptors are used up, or the poll set takes no more. The listeners are closed then, and nothing has
    /// changed.
    pub fn publish(
        &mut self,
        _now: Instant,
        spec: MappingSpec,
        listeners: Vec<Listener>,
        link: &impl Link,
    ) -> io::Result<()> {
        let id = spec.id;
        let rate = spec.rules.connections_per_second.map(Allowance::per_second);
        // Some may have stayed when it was taken back before.
        let active = self.published.left.remove(&id).unwrap_or(0);
        let mapping = Mapping {
            spec,
            listeners: Vec::with_capacity(listeners.len()),
            active,
            rate,
            counters: Counters::default(),
        };
        self.published.mappings.insert(id, mapping);
        for listener in listeners {
            if let Err(error) = self.open_door(id, listener, link) {
                drop(self.close_doors(id, link));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes a mapping out of service; its listeners, if it was there.
    pub fn unpublish(
        &mut self,
        now: Instant,
        id: MappingId,
        connections: Connections,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) -> Option<Vec<Listener>> {
        let mapping = self.published.mappings.get(&id)?;
        let ends = connections == Connections::End || mapping.spec.protocol == Protocol::Udp;
        if ends && mapping.active > 0 {
            let of_mapping = self.flows.iter().filter(|(_, flow)| flow.mapping == Some(id));
            let ids: Vec<FlowId> = of_mapping.map(|(id, _)| id).collect();
            for id in ids {
                self.abort(now, id, scratch, link);
            }
            self.abort_splices_of(id);
        }
        let doors = self.close_doors(id, link);
        let listeners = doors.into_iter().map(|door| Listener {
            socket: door.socket.into(),
            bound: door.bound,
            container_port: door.container_port,
        });
        Some(listeners.collect())
    }

    /// Closes the mappings of a container whose port is about to go.
    pub(super) fn close_mappings_of(&mut self, endpoint: u32, link: &impl Link) {
        let mappings = self.published.mappings.values();
        let of_endpoint = mappings.filter(|mapping| mapping.spec.backend.endpoint == endpoint);
        let ids: Vec<MappingId> = of_endpoint.map(|mapping| mapping.spec.id).collect();
        for id in ids {
            drop(self.close_doors(id, link));
        }
    }

    /// Closes all mappings.
    pub(super) fn close_all_mappings(&mut self, link: &impl Link) {
        let ids: Vec<MappingId> = self.published.mappings.keys().copied().collect();
        for id in ids {
            drop(self.close_doors(id, link));
        }
    }

    /// Takes all listeners out of what relays share.
    pub(super) fn forget_ports(&self) {
        for mapping in self.published.mappings.values() {
            let MappingSpec { id, protocol, .. } = mapping.spec;
            let doors = mapping.listeners.iter().filter_map(|&id| self.published.door(id));
            for door in doors {
                self.config.published.remove(id, protocol, door.bound);
            }
        }
    }

    /// Lets listeners go on that have rested for want of descriptors.
    pub(super) fn resume_listeners(&mut self, now: Instant) {
        for id in self.published.take_rested(now) {
            if let Some(door) = self.published.door_mut(id) {
                door.is_paused = false;
                if !std::mem::replace(&mut door.turn, true) {
                    self.turns.push_back(SocketRole::Listener(id).id());
                }
            }
        }
    }

    /// Its turn has come.
    pub(super) fn clear_listener_turn(&mut self, id: ListenerId) {
        if let Some(door) = self.published.door_mut(id) {
            door.turn = false;
        }
    }

    /// Every mapping.
    pub fn mappings(&self) -> impl Iterator<Item = MappingView> {
        self.published.mappings.values().map(|mapping| MappingView {
            id: mapping.spec.id,
            active: mapping.active,
            counters: mapping.named_counters(),
        })
    }

    fn open_door(&mut self, mapping: MappingId, listener: Listener, link: &impl Link) -> io::Result<()> {
        let Listener {
            socket,
            bound,
            container_port,
        } = listener;
        let lease = self.config.limits.descriptors.take().ok_or_else(|| {
            let text =
                "the daemon's limit of open files is used up: raise it (ulimit -Hn) or publish fewer ports";
            io::Error::other(text)
        })?;
        let socket = Socket::from(socket);
        socket.set_nonblocking(true)?;
        match self
            .published
            .mapping(mapping)
            .map(|mapping| mapping.spec.protocol)
        {
            Some(Protocol::Udp) => sessions::prepare(&socket, &bound)?,
            // Clients' sockets inherit it.
            _ => splice::prepare(&socket)?,
        }
        let id = self.published.next_listener();
        let token = link.token(SocketRole::Listener(id).id());
        link.registry().register(
            &mut SourceFd(&socket.as_fd().as_raw_fd()),
            token,
            Interest::READABLE,
        )?;
        let door = Door {
            mapping,
            socket,
            bound,
            container_port,
            turn: false,
            is_paused: false,
            _descriptor: lease,
        };
        self.published.insert(id, door);
        if let Some(mapping) = self.published.mappings.get_mut(&mapping) {
            mapping.listeners.push(id);
            let MappingSpec { id, protocol, .. } = mapping.spec;
            self.config.published.insert(id, protocol, bound);
        }
        // Who came before the registration makes no edge.
        if let Some(door) = self.published.door_mut(id) {
            door.turn = true;
        }
        self.turns.push_back(SocketRole::Listener(id).id());
        Ok(())
    }

    fn close_doors(&mut self, id: MappingId, link: &impl Link) -> Vec<Door> {
        let Some(mapping) = self.published.mappings.remove(&id) else {
            return Vec::new();
        };
        if mapping.active > 0 {
            self.published.left.insert(id, mapping.active);
        }
        let doors = mapping
            .listeners
            .iter()
            .filter_map(|&listener| self.published.remove(listener));
        let doors: Vec<Door> = doors.collect();
        for door in &doors {
            // It leaves the poll set here: the socket may live on, given to another relay or, where the service
            // manager bound it, as the daemon's own.
            let _ = link
                .registry()
                .deregister(&mut SourceFd(&door.socket.as_raw_fd()));
            self.config
                .published
                .remove(id, mapping.spec.protocol, door.bound);
        }
        doors
    }

    /// Who comes as the container is to see it: as the client itself if the container's answers to that address come
    /// back to us, else as the gateway (R-IN-1). `None` if there is no way.
    pub(super) fn shown(&mut self, now: Instant, door: ListenerId, client: IpAddr) -> Option<Shown> {
        let door = self.published.door(door)?;
        let MappingSpec {
            protocol, backend, ..
        } = &self.published.mappings.get(&door.mapping)?.spec;
        let (protocol, address) = (*protocol, backend.address_for(client)?);
        let (container, gateways) = (
            SocketAddr::new(address, door.container_port),
            &self.config.gateways,
        );
        let is_routed = match address {
            IpAddr::V4(_) => backend.routed_v4,
            IpAddr::V6(_) => backend.routed_v6,
        };
        let keeps = is_routed
            && address.is_ipv4() == client.is_ipv4()
            && is_possible(client)
            && !is_link_local(client)
            && client != address
            && !backend.on_link.iter().any(|prefix| prefix.contains(&client))
            && self.host.owner(now, client) == Owner::Elsewhere;
        let gateway = gateways
            .iter()
            .find(|gateway| gateway.is_ipv4() == address.is_ipv4());
        let remote = match keeps {
            true => client,
            false => *gateway?,
        };
        Some(Shown {
            protocol,
            container,
            remote,
        })
    }
}

impl Published {
    pub(super) fn door(&self, id: ListenerId) -> Option<&Door> {
        self.listeners.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn door_mut(&mut self, id: ListenerId) -> Option<&mut Door> {
        self.listeners.get_mut(id.0 as usize)?.as_mut()
    }

    /// A listener and its mapping.
    pub(super) fn entrance(&mut self, id: ListenerId) -> Option<(&Door, &mut Mapping)> {
        let door = self.listeners.get(id.0 as usize)?.as_ref()?;
        Some((door, self.mappings.get_mut(&door.mapping)?))
    }

    /// A connection or client of a mapping begins.
    pub(super) fn count_in(&mut self, id: MappingId) {
        if let Some(mapping) = self.mappings.get_mut(&id) {
            mapping.active += 1;
            mapping.counters.accepted += 1;
        }
    }

    /// It ends. The mapping may have gone before.
    pub(super) fn count_out(&mut self, id: MappingId) {
        if let Some(mapping) = self.mappings.get_mut(&id) {
            mapping.active = mapping.active.saturating_sub(1);
        } else if let Some(left) = self.left.get_mut(&id) {
            *left -= 1;
            if *left == 0 {
                self.left.remove(&id);
            }
        }
    }

    /// Has some of a mapping's connections be another's.
    pub(super) fn move_counts(&mut self, from: MappingId, to: MappingId, count: u32) {
        if let Some(mapping) = self.mappings.get_mut(&from) {
            mapping.active = mapping.active.saturating_sub(count);
        }
        if let Some(mapping) = self.mappings.get_mut(&to) {
            mapping.active += count;
        }
    }

    /// Lets a listener rest until `at`, together with those that rest already.
    pub(super) fn pause(&mut self, at: Instant, id: ListenerId) {
        if let Some(door) = self.door_mut(id)
            && !std::mem::replace(&mut door.is_paused, true)
        {
            self.paused.push(id);
            self.resume_at.get_or_insert(at);
        }
    }

    /// When listeners that rest are to go on.
    pub(super) fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }

    /// Listeners that have rested.
    pub(super) fn take_rested(&mut self, now: Instant) -> Vec<ListenerId> {
        match self.resume_at.take_if(|at| *at <= now) {
            Some(_) => std::mem::take(&mut self.paused),
            None => Vec::new(),
        }
    }

    pub(super) fn mapping(&self, id: MappingId) -> Option<&Mapping> {
        self.mappings.get(&id)
    }

    pub(super) fn mapping_mut(&mut self, id: MappingId) -> Option<&mut Mapping> {
        self.mappings.get_mut(&id)
    }

    fn next_listener(&self) -> ListenerId {
        ListenerId(self.free.last().copied().unwrap_or(self.listeners.len() as u32))
    }

    fn insert(&mut self, id: ListenerId, door: Door) {
        match self.free.pop() {
            Some(_) => self.listeners[id.0 as usize] = Some(door),
            None => self.listeners.push(Some(door)),
        }
    }

    fn remove(&mut self, id: ListenerId) -> Option<Door> {
        let door = self.listeners.get_mut(id.0 as usize)?.take()?;
        self.free.push(id.0);
        Some(door)
    }
}

impl Mapping {
    /// Every counter with the name that listings of mappings have.
    fn named_counters(&self) -> Vec<(&'static str, u64)> {
        let counters = self.counters.iter();
        counters
            .map(|(name, count)| (name.strip_prefix("relay_").unwrap_or(name), count))
            .collect()
    }

    /// The container's switch port and MAC.
    pub(super) fn station(&self) -> (u32, MacAddr) {
        (self.spec.backend.endpoint, self.spec.backend.station)
    }

    /// As [`admit`](Self::admit), without counting a refusal.
    pub(super) fn admits(&mut self, now: Instant, client: IpAddr) -> bool {
        let rules = &self.spec.rules;
        rules.admit(client)
            && rules.max_connections.is_none_or(|most| self.active < most)
            && self.rate.as_mut().is_none_or(|rate| rate.take(now))
    }

    /// Whether the rules let a client in; counts why not. `false` means a refusal.
    pub(super) fn admit(&mut self, now: Instant, client: IpAddr) -> bool {
        let rules = &self.spec.rules;
        if !rules.admit(client) {
            self.counters.refused_allow += 1;
        } else if rules.max_connections.is_some_and(|most| self.active >= most) {
            self.counters.refused_connections += 1;
        } else if self.rate.as_mut().is_some_and(|rate| !rate.take(now)) {
            self.counters.refused_rate += 1;
        } else {
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests;
