//! Which of the host's addresses and ports lead to containers, for containers that call them.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Bound, MappingId, MappingSpec, NamespaceSockets, SocketKind};
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
    v4: Option<SocketAddr>,
    v6: Option<SocketAddr>,
    inside: Option<Inside>,
}

/// A way to a container that does not leave the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Inside {
    /// Sockets inside the container's namespace.
    pub(crate) sockets: Arc<NamespaceSockets>,
    /// How many have gone that way.
    pub(crate) count: Arc<AtomicU64>,
}

/// The container behind a published port.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    /// Its address, of the caller's version if it has one, and its port.
    pub(crate) address: SocketAddr,
    /// `None` where the mapping's rules need the listener to see who comes, or where the namespace cannot be entered.
    pub(crate) inside: Option<Inside>,
}

impl Reached {
    /// Takes a socket inside the container's namespace for a connection to it, which is counted.
    pub(crate) fn take_socket(&self, kind: impl Fn(IpAddr) -> SocketKind) -> Option<OwnedFd> {
        let Inside { sockets, count } = self.inside.as_ref()?;
        let socket = sockets.take(kind(self.address.ip()))?;
        count.fetch_add(1, Ordering::Relaxed);
        Some(socket)
    }
}

impl PublishedPorts {
    /// Enters a listener of a mapping; `count` counts those who come without touching it.
    pub(crate) fn insert(&self, spec: &MappingSpec, (bound, port): (Bound, u16), count: &Arc<AtomicU64>) {
        let backend = &spec.backend;
        let at = |address: IpAddr| SocketAddr::new(address, port);
        let sockets = backend.sockets.clone().filter(|_| spec.rules.is_trivial());
        let entry = Entry {
            mapping: spec.id,
            bound,
            v4: backend.v4.map(|address| at(address.into())),
            v6: backend.v6.map(|address| at(address.into())),
            inside: sockets.map(|sockets| Inside {
                sockets,
                count: Arc::clone(count),
            }),
        };
        let mut by_port = self.by_port.write().unwrap_or_else(PoisonError::into_inner);
        by_port
            .entry((spec.protocol, bound.address.port()))
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
        let entry = entries.find(|entry| entry.bound.covers(to))?;
        let address = match to {
            SocketAddr::V4(_) => entry.v4.or(entry.v6),
            SocketAddr::V6(_) => entry.v6.or(entry.v4),
        }?;
        Some(Reached {
            address,
            inside: entry.inside.clone(),
        })
    }
}
