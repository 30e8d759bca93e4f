//! Which of the host's addresses and ports are published, and which containers call them.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{Bound, MappingId};
use crate::listing::Protocol;

/// All published ports of the daemon, and the containers that are on their way to one.
///
/// A container that calls a published port by an address of the host comes to the listener from a host socket of its
/// relay, and so with the host's address. It must not be taken for a process of the host (CVE-2021-20199): its relay
/// enters the socket here before it connects, and the listener's relay finds out who it is.
///
/// Relays look here once for each new flow of a container to an address of the host, and for each client that seems to
/// be on this host; no packet does.
#[derive(Debug, Default)]
pub struct PublishedPorts {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    ports: HashMap<(Protocol, u16), Vec<(MappingId, Bound)>>,
    callers: HashMap<(Protocol, SocketAddr), IpAddr>,
}

/// A container's host socket among [`PublishedPorts`], until this is dropped.
#[derive(Debug)]
pub(crate) struct Caller {
    ports: Arc<PublishedPorts>,
    protocol: Protocol,
    socket: SocketAddr,
}

impl PublishedPorts {
    /// Enters a listener of a mapping.
    pub(crate) fn insert(&self, mapping: MappingId, protocol: Protocol, bound: Bound) {
        let mut known = self.change();
        let entries = known.ports.entry((protocol, bound.address.port()));
        entries.or_default().push((mapping, bound));
    }

    /// Removes a listener of a mapping.
    pub(crate) fn remove(&self, mapping: MappingId, protocol: Protocol, bound: Bound) {
        let mut known = self.change();
        let key = (protocol, bound.address.port());
        if let Some(entries) = known.ports.get_mut(&key) {
            entries.retain(|entry| *entry != (mapping, bound));
            if entries.is_empty() {
                known.ports.remove(&key);
            }
        }
    }

    /// Whether somebody who calls `to`, an address of the host, reaches a published port.
    pub(crate) fn has(&self, protocol: Protocol, to: SocketAddr) -> bool {
        let known = self.look();
        let entries = known.ports.get(&(protocol, to.port()));
        entries.is_some_and(|entries| entries.iter().any(|(_, bound)| bound.covers(to)))
    }

    /// Says that what comes from `socket`, bound to an address of the host, is the container with that address.
    pub(crate) fn announce(
        self: &Arc<Self>,
        protocol: Protocol,
        socket: SocketAddr,
        container: IpAddr,
    ) -> Caller {
        self.change().callers.insert((protocol, socket), container);
        Caller {
            ports: Arc::clone(self),
            protocol,
            socket,
        }
    }

    /// The container behind a client that seems to be on this host.
    pub(crate) fn caller(&self, protocol: Protocol, client: SocketAddr) -> Option<IpAddr> {
        self.look().callers.get(&(protocol, client)).copied()
    }

    fn look(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.ports.change().callers.remove(&(self.protocol, self.socket));
    }
}
