//! Supplying the packet loops with sockets inside of containers.
//!
//! A [`NamespaceSockets`] is taken from by packet loops, which must not wait; what they take is replaced by a task
//! here, by an attach process for each delivery. A delivery is small at first and doubles as long as orders follow each
//! other closely; when there are none for a while it is small again, and what is left over is closed. Where descriptors
//! are few there are no deliveries: clients on the host are relayed, which takes one for each instead of two.

use std::{
    collections::hash_map::Entry,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time,
};
use vswitch_proxy::{
    config::Descriptors,
    publish::{NamespaceSockets, SocketKind},
};

use super::{
    Attacher, Control, Writer,
    endpoints::target,
    publications::{Home, Publication},
};
use crate::{
    io::{attach::SocketCounts, netns::NetnsTarget},
    model::{Endpoint, PortMapping, Sandbox, SandboxId, Transport},
};

/// The stock of one container, and the task that refills it until this is dropped.
#[derive(Debug)]
pub(super) struct Supply {
    /// Packet loops hold it too, longer than they need it; it is emptied when this is dropped.
    sockets: Arc<NamespaceSockets>,
    /// Whether the first delivery has come, or failed.
    begun: watch::Receiver<bool>,
    task: AbortHandle,
}

impl Supply {
    /// Begins with a first delivery of the kinds that the endpoint has addresses for.
    pub(super) fn start(
        sandbox: &str,
        target: NetnsTarget,
        endpoint: &Endpoint,
        (attacher, descriptors): (Arc<dyn Attacher>, Arc<Descriptors>),
    ) -> Self {
        let orders = Arc::new(Notify::new());
        let bell = Arc::clone(&orders);
        let sockets = NamespaceSockets::new(Arc::clone(&descriptors), move || bell.notify_one());
        let sockets = Arc::new(sockets);
        orders.notify_one();
        let (begins, begun) = watch::channel(false);
        let delivery = Delivery {
            sandbox: sandbox.to_owned(),
            target,
            attacher,
            descriptors,
            sockets: Arc::downgrade(&sockets),
            levels: Levels::new(endpoint.ipv4.is_some(), endpoint.ipv6.is_some()),
        };
        let task = tokio::spawn(delivery.run(orders, begins)).abort_handle();
        Self { sockets, begun, task }
    }

    pub(super) fn sockets(&self) -> Arc<NamespaceSockets> {
        Arc::clone(&self.sockets)
    }

    /// What ends when there are sockets, or none to be had: clients are treated alike from the first one on.
    pub(super) fn begun(&self) -> impl Future<Output = ()> + use<> {
        let mut begun = self.begun.clone();
        async move {
            // A task that has ended delivers nothing.
            let _ = time::timeout(PATIENCE, begun.wait_for(|&begun| begun)).await;
        }
    }
}

impl Drop for Supply {
    fn drop(&mut self) {
        self.task.abort();
        // They keep the container's namespace alive.
        self.sockets.close();
    }
}

impl Control {
    /// The stock of sockets inside the container, for a mapping that uses it.
    pub(super) async fn sockets(
        &self,
        writer: &mut Writer,
        sandbox: &Sandbox,
        home: &Home,
        mapping: &PortMapping,
    ) -> Option<Arc<NamespaceSockets>> {
        if !takes_sockets(mapping) {
            return None;
        }
        let supply = match writer.supplies.entry(sandbox.id) {
            Entry::Occupied(present) => present.into_mut(),
            Entry::Vacant(place) => place.insert(Supply::start(
                &sandbox.name,
                target(&sandbox.namespace),
                &home.endpoint,
                (
                    Arc::clone(&self.shared.attacher),
                    Arc::clone(self.shared.plane.descriptors()),
                ),
            )),
        };
        supply.begun().await;
        Some(supply.sockets())
    }

    /// Drops the stock of sockets inside the container if no mapping needs it: sockets keep the namespace alive.
    pub(super) fn tidy(&self, writer: &mut Writer, sandbox: SandboxId) {
        let needs =
            |publication: &Publication| publication.at.is_some() && takes_sockets(&publication.mapping);
        if !self.read(|state| state.publications_of(sandbox).iter().any(needs)) {
            writer.supplies.remove(&sandbox);
        }
    }
}

/// Whether clients on the host are brought to the container socket to socket.
fn takes_sockets(mapping: &PortMapping) -> bool {
    mapping.protocol == Transport::Tcp && !mapping.rules.relay_local
}

struct Delivery {
    sandbox: String,
    target: NetnsTarget,
    attacher: Arc<dyn Attacher>,
    descriptors: Arc<Descriptors>,
    /// Whoever holds the stock keeps the container's namespace alive.
    sockets: Weak<NamespaceSockets>,
    levels: Levels,
}

impl Delivery {
    async fn run(mut self, orders: Arc<Notify>, begins: watch::Sender<bool>) {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.levels.are_lowest() {
                orders.notified().await;
            } else if time::timeout(IDLE, orders.notified()).await.is_err() {
                let Some(sockets) = self.sockets.upgrade() else {
                    return;
                };
                self.levels.lower(&sockets);
                continue;
            }
            let delivered = self.deliver().await;
            // Nobody may be waiting.
            let _ = begins.send(true);
            match delivered {
                Delivered::Done => pause = FIRST_PAUSE,
                Delivered::Failed => {
                    // Clients on the host are relayed meanwhile, which works without.
                    time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Delivered::Unwanted => return,
            }
            if let Some(sockets) = self.sockets.upgrade() {
                sockets.finish_order();
            }
        }
    }

    async fn deliver(&mut self) -> Delivered {
        let Some(present) = self.sockets.upgrade() else {
            return Delivered::Unwanted;
        };
        let wanted = self.levels.order(Instant::now(), |kind| present.count(kind));
        drop(present);
        let Some(counts) = affordable(wanted, self.descriptors.left()) else {
            tracing::debug!(
                sandbox = self.sandbox,
                "few descriptors are left; local clients of its ports are relayed"
            );
            return Delivered::Failed;
        };
        if counts.total() == 0 {
            return Delivered::Done;
        }
        let made = self.attacher.make_sockets(self.target.clone(), counts).await;
        let mut made = match made {
            Ok(made) => made.into_iter(),
            Err(error) => {
                tracing::warn!(
                    sandbox = self.sandbox,
                    %error,
                    "cannot make sockets in the container; local clients of its ports are relayed"
                );
                return Delivered::Failed;
            }
        };
        let Some(sockets) = self.sockets.upgrade() else {
            return Delivered::Unwanted;
        };
        let mut kept = 0;
        for (kind, count) in KINDS.into_iter().zip([counts.tcp_v4, counts.tcp_v6]) {
            kept += sockets.put(kind, made.by_ref().take(count.into()).collect());
        }
        match kept == counts.total() {
            true => Delivered::Done,
            // Others have taken the descriptors.
            false => Delivered::Failed,
        }
    }
}

/// As much of what is wanted as may be had with so many descriptors left; `None` if they are too few for any.
fn affordable(wanted: [u8; 2], left: usize) -> Option<SocketCounts> {
    if left < RESERVE {
        return None;
    }
    let most = left / SHARE;
    let tcp_v4 = usize::from(wanted[0]).min(most);
    let tcp_v6 = usize::from(wanted[1]).min(most - tcp_v4);
    Some(SocketCounts {
        tcp_v4: u8::try_from(tcp_v4).unwrap_or(u8::MAX),
        tcp_v6: u8::try_from(tcp_v6).unwrap_or(u8::MAX),
    })
}

enum Delivered {
    Done,
    Failed,
    /// The stock is gone.
    Unwanted,
}

/// How many of each kind there shall be after a delivery, by place in [`KINDS`].
#[derive(Debug)]
struct Levels {
    lowest: [u8; 2],
    now: [u8; 2],
    ordered: Option<Instant>,
}

impl Levels {
    fn new(has_v4: bool, has_v6: bool) -> Self {
        let [v4, v6] = [has_v4, has_v6].map(u8::from);
        let lowest = [FEW * v4, FEW * v6];
        Self {
            lowest,
            now: lowest,
            ordered: None,
        }
    }

    /// How many to deliver where there are `count` of a kind now.
    fn order(&mut self, now: Instant, count: impl Fn(SocketKind) -> usize) -> [u8; 2] {
        let follows = self
            .ordered
            .replace(now)
            .is_some_and(|last| now.duration_since(last) < CLOSE);
        let mut room = MOST;
        let mut wanted = [0; 2];
        for (index, kind) in KINDS.into_iter().enumerate() {
            let present = u8::try_from(count(kind)).unwrap_or(u8::MAX);
            let level = &mut self.now[index];
            if follows && usize::from(present) < NamespaceSockets::LOW {
                *level = level.saturating_mul(2).min(MOST);
            }
            wanted[index] = level.saturating_sub(present).min(room);
            room -= wanted[index];
        }
        wanted
    }

    fn are_lowest(&self) -> bool {
        self.now == self.lowest
    }

    /// Closes what the lowest levels do without.
    fn lower(&mut self, sockets: &NamespaceSockets) {
        self.now = self.lowest;
        for (kind, level) in KINDS.into_iter().zip(self.now) {
            sockets.shrink(kind, level.into());
        }
    }
}

/// In the order of [`SocketCounts`]' fields.
const KINDS: [SocketKind; 2] = [SocketKind::TcpV4, SocketKind::TcpV6];

/// What an idle container keeps of a kind: enough for the first clients until the next delivery, some
/// milliseconds later.
const FEW: u8 = 4;
/// With fewer descriptors left there are no deliveries.
const RESERVE: usize = 64;
/// One delivery takes at most this part of the descriptors that are left.
const SHARE: usize = 16;
/// One delivery: a little less than a message has room for ([`SocketCounts::MAX`]).
const MOST: u8 = 240;
/// Orders that follow each other within this time are answered with more.
const CLOSE: Duration = Duration::from_secs(1);
/// How long publishing waits for the first delivery.
const PATIENCE: Duration = Duration::from_secs(1);
/// After this time without an order there are as few as in the beginning.
const IDLE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 10 });
/// Between a failed delivery and the next; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 2000 });
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_grow_while_orders_follow_closely() {
        let mut levels = Levels::new(true, false);
        let start = Instant::now();
        assert_eq!(levels.order(start, |_| 0), [4, 0]);
        let taken = |kind| match kind {
            SocketKind::TcpV4 => 1,
            SocketKind::TcpV6 => 0,
        };
        let soon = Duration::from_millis(100);
        assert_eq!(levels.order(start + soon, taken), [7, 0]);
        assert!(!levels.are_lowest());
        for round in 2..10 {
            levels.order(start + soon * round, taken);
        }
        assert_eq!(levels.order(start + soon * 10, taken), [239, 0]);
        let later = start + Duration::from_secs(30);
        assert_eq!(
            levels.order(later, taken),
            [239, 0],
            "it is lowered by time alone"
        );
        levels.lower(&NamespaceSockets::new(Arc::new(Descriptors::new(0)), || {}));
        assert_eq!(levels.order(later + CLOSE, taken), [3, 0]);
    }

    #[test]
    fn r_lim_2_a_delivery_takes_a_small_share_of_the_descriptors() {
        for (left, expected) in [
            (0, None),
            (63, None),
            (64, Some((4, 0))),
            (256, Some((12, 4))),
            (100_000, Some((12, 200))),
        ] {
            let counts = affordable([12, 200], left).map(|counts| (counts.tcp_v4, counts.tcp_v6));
            assert_eq!(counts, expected, "{left} left");
        }
    }

    #[test]
    fn a_delivery_fits_one_message() {
        let mut levels = Levels::new(true, true);
        let start = Instant::now();
        for round in 0..20 {
            let wanted = levels.order(start + Duration::from_millis(round), |_| 0);
            let total: usize = wanted.map(usize::from).iter().sum();
            assert!(total <= SocketCounts::MAX.min(MOST.into()), "{wanted:?}");
        }
    }
}
