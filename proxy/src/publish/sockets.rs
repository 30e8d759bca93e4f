//! Sockets made inside a container's namespace, ready to be connected there.

use std::{
    fmt,
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::config::{Descriptors, Lease};

/// A stock of sockets inside one container's namespace.
///
/// A socket belongs for ever to the namespace that it was made in, whoever holds it. The daemon cannot enter the
/// namespace itself, so a short-lived process does and sends some at once; they wait here. Whoever takes the last
/// few has more of them ordered.
pub struct NamespaceSockets {
    stock: Mutex<Stock>,
    /// What sockets of all stocks and flows may take (R-LIM-2).
    descriptors: Arc<Descriptors>,
    /// Called without a lock held, from a packet loop: must not wait.
    order: Box<dyn Fn() + Send + Sync>,
}

#[derive(Debug, Default)]
struct Stock {
    tcp_v4: Vec<Kept>,
    tcp_v6: Vec<Kept>,
    udp_v4: Vec<Kept>,
    udp_v6: Vec<Kept>,
    is_ordered: bool,
}

/// A socket with the descriptor that it takes while it waits; whoever takes it accounts for it.
#[derive(Debug)]
struct Kept {
    socket: OwnedFd,
    _descriptor: Lease,
}

/// Kinds of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP over IPv4.
    UdpV4,
    /// UDP over IPv6.
    UdpV6,
}

impl SocketKind {
    /// The TCP kind for an address.
    pub fn tcp(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::TcpV4,
            IpAddr::V6(_) => Self::TcpV6,
        }
    }

    /// The UDP kind for an address.
    pub fn udp(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::UdpV4,
            IpAddr::V6(_) => Self::UdpV6,
        }
    }
}

impl NamespaceSockets {
    /// An empty stock. `order` is called when sockets run low; whoever answers calls [`put`](Self::put).
    pub fn new(descriptors: Arc<Descriptors>, order: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            stock: Mutex::default(),
            descriptors,
            order: Box::new(order),
        }
    }

    /// Takes an unbound socket, close-on-exec and non-blocking, one of TCP [prepared](crate::splice::prepare); `None` if there is none at the moment.
    pub fn take(&self, kind: SocketKind) -> Option<OwnedFd> {
        let (socket, must_order) = {
            let mut stock = self.stock();
            let kept = stock.of(kind);
            let socket = kept.pop().map(|kept| kept.socket);
            let is_low = kept.len() < Self::LOW;
            let must_order = is_low && !std::mem::replace(&mut stock.is_ordered, true);
            (socket, must_order)
        };
        if must_order {
            (self.order)();
        }
        socket
    }

    /// Adds sockets that have arrived, as far as there are descriptors for them.
    pub fn put(&self, kind: SocketKind, sockets: Vec<OwnedFd>) {
        let counted = sockets.into_iter().map_while(|socket| {
            let descriptor = self.descriptors.take()?;
            Some(Kept {
                socket,
                _descriptor: descriptor,
            })
        });
        let counted: Vec<Kept> = counted.collect();
        self.stock().of(kind).extend(counted);
    }

    /// Closes what there is of a kind beyond `most`.
    pub fn shrink(&self, kind: SocketKind, most: usize) {
        let surplus = {
            let mut stock = self.stock();
            let kept = stock.of(kind);
            let surplus = kept.split_off(most.min(kept.len()));
            kept.shrink_to_fit();
            surplus
        };
        // Closing is done without the lock.
        drop(surplus);
    }

    /// How many of a kind there are.
    pub fn count(&self, kind: SocketKind) -> usize {
        self.stock().of(kind).len()
    }

    /// The order has been answered, well or not: the next shortage makes another.
    pub fn finish_order(&self) {
        self.stock().is_ordered = false;
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stock {
    fn of(&mut self, kind: SocketKind) -> &mut Vec<Kept> {
        match kind {
            SocketKind::TcpV4 => &mut self.tcp_v4,
            SocketKind::TcpV6 => &mut self.tcp_v6,
            SocketKind::UdpV4 => &mut self.udp_v4,
            SocketKind::UdpV6 => &mut self.udp_v6,
        }
    }
}

impl fmt::Debug for NamespaceSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceSockets").finish_non_exhaustive()
    }
}

impl NamespaceSockets {
    /// With fewer of a kind left more are ordered.
    pub const LOW: usize = 4;
}
