//! Which of the host's addresses and ports lead to containers, for containers that call them.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
};

use super::{Backend, Bound, MappingId, NamespaceSockets};
use crate::listing::Protocol;

/// All published ports of the daemon. Relays enter and remove theirs, and look here once for each new flow of a
/// container to an address of the host; no packet does.
#[derive(Debug, Default)]
pub struct PublishedPorts {
    by_port: RwLock<HashMap<(Protocol, u16), Vec<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    mapping: MappingId,
    bound: Bound,
    container: ContainerPort,
}

#[derive(Debug, Clone)]
struct ContainerPort {
    v4: Option<SocketAddr>,
    v6: Option<SocketAddr>,
    sockets: Option<Arc<NamespaceSockets>>,
}

/// The container behind a published port.
#[derive(Debug, Clone)]
pub struct Reached {
    /// Its address, of the caller's version if it has one, and its port.
    pub address: SocketAddr,
    /// Sockets inside its namespace.
    pub sockets: Option<Arc<NamespaceSockets>>,
}

impl PublishedPorts {
    /// Enters a listener of a mapping.
    pub(crate) fn insert(
        &self,
        mapping: MappingId,
        protocol: Protocol,
        (bound, port): (Bound, u16),
        backend: &Backend,
    ) {
        let at = |address: IpAddr| SocketAddr::new(address, port);
        let entry = Entry {
            mapping,
            bound,
            container: ContainerPort {
                v4: backend.v4.map(|address| at(address.into())),
                v6: backend.v6.map(|address| at(address.into())),
                sockets: backend.sockets.clone(),
            },
        };
        let mut by_port = self.by_port.write().unwrap_or_else(PoisonError::into_inner);
        by_port
            .entry((protocol, bound.address.port()))
            .or_default()
            .push(entry);
    }

    /// Removes a listener of a mapping.
    pub(crate) fn remove(&self, mapping: MappingId, protocol: Protocol, bound: Bound) {
        let mut by_port = self.by_port.write().unwrap_or_else(PoisonError::into_inner);
        let key = (protocol, bound.address.port());
        if let Some(entries) = by_port.get_mut(&key) {
            entries.retain(|entry| (entry.mapping, entry.bound) != (mapping, bound));
            if entries.is_empty() {
                by_port.remove(&key);
            }
        }
    }

    /// The container that a caller of this address of the host reaches.
    pub(crate) fn find(&self, protocol: Protocol, to: SocketAddr) -> Option<Reached> {
        let by_port = self.by_port.read().unwrap_or_else(PoisonError::into_inner);
        let mut entries = by_port.get(&(protocol, to.port()))?.iter();
        let ContainerPort { v4, v6, sockets } = &entries.find(|entry| entry.bound.covers(to))?.container;
        let address = match to {
            SocketAddr::V4(_) => v4.or(*v6),
            SocketAddr::V6(_) => v6.or(*v4),
        }?;
        Some(Reached {
            address,
            sockets: sockets.clone(),
        })
    }
}
