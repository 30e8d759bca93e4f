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
///
/// They connect clients on the host to the container's TCP ports.
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
    is_ordered: bool,
    is_closed: bool,
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
}

impl SocketKind {
    /// The TCP kind for an address.
    pub fn tcp(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::TcpV4,
            IpAddr::V6(_) => Self::TcpV6,
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

    /// Takes an unbound socket, close-on-exec, non-blocking and [prepared](crate::splice::prepare); `None` if there is
    /// none at the moment.
    pub fn take(&self, kind: SocketKind) -> Option<OwnedFd> {
        let (socket, must_order) = {
            let mut stock = self.stock();
            let kept = stock.of(kind);
            let socket = kept.pop().map(|kept| kept.socket);
            let is_low = kept.len() < Self::LOW;
            let must_order = is_low && !stock.is_closed && !std::mem::replace(&mut stock.is_ordered, true);
            (socket, must_order)
        };
        if must_order {
            (self.order)();
        }
        socket
    }

    /// Adds sockets that have arrived, as far as there are descriptors for them; gives how many that are. The others
    /// are closed.
    pub fn put(&self, kind: SocketKind, sockets: Vec<OwnedFd>) -> usize {
        let counted = sockets.into_iter().map_while(|socket| {
            let descriptor = self.descriptors.take()?;
            Some(Kept {
                socket,
                _descriptor: descriptor,
            })
        });
        let mut counted: Vec<Kept> = counted.collect();
        let count = counted.len();
        let mut stock = self.stock();
        if stock.is_closed {
            // Closing is done without the lock.
            drop(stock);
            return 0;
        }
        stock.of(kind).append(&mut counted);
        count
    }

    /// Closes all sockets; from now on there are none, whoever still holds the stock.
    pub fn close(&self) {
        let kept = {
            let mut stock = self.stock();
            stock.is_closed = true;
            [
                std::mem::take(&mut stock.tcp_v4),
                std::mem::take(&mut stock.tcp_v6),
            ]
        };
        // Closing is done without the lock.
        drop(kept);
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
        }
    }
}

impl fmt::Debug for NamespaceSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceSockets").finish_non_exhaustive()
    }
}

impl NamespaceSockets {
    /// With fewer of a kind left more are ordered: half of what an idle container keeps.
    pub const LOW: usize = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(count: usize) -> Vec<OwnedFd> {
        let make = |_| std::net::UdpSocket::bind("127.0.0.1:0").map(OwnedFd::from);
        let made: Result<_, _> = (0..count).map(make).collect();
        made.expect("the kernel has ports")
    }

    #[test]
    fn r_lim_2_no_more_is_kept_than_there_are_descriptors_for() {
        let descriptors = Arc::new(Descriptors::new(3));
        let stock = NamespaceSockets::new(Arc::clone(&descriptors), || {});
        assert_eq!(stock.put(SocketKind::TcpV4, sockets(2)), 2);
        assert_eq!(stock.put(SocketKind::TcpV6, sockets(2)), 1);
        assert_eq!((stock.count(SocketKind::TcpV6), descriptors.left()), (1, 0));
        drop(stock.take(SocketKind::TcpV4));
        assert_eq!(descriptors.left(), 1, "whoever takes it accounts for it");
    }

    #[test]
    fn a_closed_stock_is_empty_and_stays_so() {
        let descriptors = Arc::new(Descriptors::new(8));
        let stock = NamespaceSockets::new(Arc::clone(&descriptors), || panic!("nobody delivers any more"));
        stock.put(SocketKind::TcpV4, sockets(3));
        stock.close();
        assert_eq!(descriptors.left(), 8);
        assert!(stock.take(SocketKind::TcpV4).is_none());
        assert_eq!(stock.put(SocketKind::TcpV4, sockets(1)), 0);
        assert_eq!((stock.count(SocketKind::TcpV4), descriptors.left()), (0, 8));
    }
}
