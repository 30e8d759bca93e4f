//! Networks, addresses, sandboxes and endpoints: what exists, and how it changes.
//!
//! Theory of operation. [`State`] holds every object; readers look at it under a read lock that nobody
//! holds across an await, so a slow attach never blocks them. Commands run one at a time behind the
//! `writer` lock, each as a task of its own, so that a client that hangs up cannot stop one half-way.
//! A command validates everything, reserves addresses, writes its outcome to the [`store`](Store), then
//! makes devices and switches, and only then changes `State`. When a step fails, the earlier ones are
//! undone. A crash between the store and the devices is repaired by the next start, which attaches every
//! stored endpoint again or forgets those whose container has gone.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard, Weak},
};

use ipnet::IpNet;
use tokio::{
    sync::{Mutex, MutexGuard, broadcast, mpsc::UnboundedReceiver},
    task::AbortHandle,
};

pub use self::{
    attacher::{AttachFailure, Attacher, Device, Pending, TapAttacher},
    error::{ControlError, ErrorClass, Problems, PublishFailure, Verb},
    filters::{FilterError, Filters},
    host_routes::host_prefixes,
    networks::{Created, PruneError},
    pools::{InvalidPool, SubnetPool},
    ports::{InheritedSockets, PortError},
    publications::Publication,
    routes::route_gateway,
    sandboxes::{Caller, NewSandbox},
    signals::{Stopped, parse_signal},
    state::State,
    store::{Store, StoreError},
};
use self::{
    endpoints::Addresses,
    events::Events,
    ports::HostPorts,
    store::{Change, Contents},
    supply::Supply,
};
use crate::{
    api::types::Event,
    dataplane::{DataPlane, DataPlaneEvent},
    model::{NetworkId, SandboxId, Timestamp},
    uplink::DeviceUplink,
};

mod attacher;
mod endpoint_plan;
mod endpoints;
mod error;
mod events;
mod filters;
mod host_routes;
mod interface;
mod ipam;
mod lifetime;
mod network_plan;
mod networks;
mod pools;
mod ports;
mod publications;
mod publish;
mod routes;
mod sandboxes;
mod signals;
mod start;
mod state;
mod store;
mod supply;
mod unpublish;
mod uplink;

/// The control plane; clones are handles to the same one.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

/// What a control plane is made of.
pub struct ControlConfig {
    /// Directory of the state file and its lock.
    pub state_dir: PathBuf,
    /// Pools for automatic subnets; without an IPv6 pool the host's unique local prefix is used.
    pub pools: Vec<SubnetPool>,
    /// What the host uses itself, asked anew for each automatic subnet; see [`host_prefixes`].
    pub avoided: fn() -> Vec<IpNet>,
    /// The packet loops.
    pub dataplane: DataPlane,
    /// What the packet loops report.
    pub reports: UnboundedReceiver<DataPlaneEvent>,
    /// Makes devices; [`TapAttacher`] outside of tests.
    pub attacher: Arc<dyn Attacher>,
    /// Sockets for published ports that are bound already.
    pub inherited: InheritedSockets,
    /// What the host lacks, and what to do about it.
    pub hints: Vec<String>,
    /// The device by which networks leave, which the packet loops have already; `None` if by host sockets.
    pub uplink: Option<DeviceUplink>,
}

/// What becomes of living sandboxes when the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownMode {
    /// Devices are removed, sandboxes and their endpoints are forgotten. Networks stay stored.
    CleanUp,
    /// Everything stays for the next daemon to take over.
    KeepDevices,
}

impl Control {
    /// Reads one consistent picture of all objects. `look` must not block.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The remembered events, and a receiver of those to come.
    pub fn events(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        self.shared.events.subscribe()
    }

    /// The packet loops, for listings.
    pub fn dataplane(&self) -> &DataPlane {
        &self.shared.plane
    }

    /// Pools for automatic subnets.
    pub fn pools(&self) -> &[SubnetPool] {
        &self.shared.pools
    }

    /// What the host lacks, and what to do about it.
    pub fn hints(&self) -> &[String] {
        &self.shared.hints
    }

    /// The device by which networks leave, if it is not by host sockets.
    pub fn uplink(&self) -> Option<&DeviceUplink> {
        self.shared.uplink.as_ref()
    }

    /// Identity of the stored state.
    pub fn host_id(&self) -> &str {
        &self.shared.host_id
    }

    /// When the control plane started.
    pub fn started(&self) -> Timestamp {
        self.shared.started
    }

    /// Directory of the state file.
    pub fn state_dir(&self) -> &Path {
        &self.shared.state_dir
    }

    /// Runs a command to its end, even if the caller does not wait for it.
    async fn detached<T: Send + 'static>(
        &self,
        command: impl Future<Output = Result<T, ControlError>> + Send + 'static,
    ) -> Result<T, ControlError> {
        match tokio::spawn(command).await {
            Ok(outcome) => outcome,
            Err(error) => Err(ControlError::system(
                "run the command",
                std::io::Error::other(error),
            )),
        }
    }

    /// Waits until no other command runs.
    async fn writer(&self) -> Result<MutexGuard<'_, Writer>, ControlError> {
        let writer = self.shared.writer.lock().await;
        if writer.is_closed {
            Err(ControlError::ShuttingDown)
        } else {
            Ok(writer)
        }
    }

    fn state(&self) -> RwLockWriteGuard<'_, State> {
        // Changes are single insertions and removals, so a poisoned state is still whole.
        self.shared.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), ControlError> {
        Ok(self.shared.store.commit(changes).await?)
    }

    fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.shared)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("state_dir", &self.shared.state_dir)
            .finish_non_exhaustive()
    }
}

struct Shared {
    state: RwLock<State>,
    writer: Mutex<Writer>,
    store: Store,
    plane: DataPlane,
    attacher: Arc<dyn Attacher>,
    events: Events,
    pools: Vec<SubnetPool>,
    hints: Vec<String>,
    uplink: Option<DeviceUplink>,
    avoided: fn() -> Vec<IpNet>,
    host_id: String,
    state_dir: PathBuf,
    /// See [`boot_id`](crate::io::netns::boot_id).
    boot: String,
    started: Timestamp,
}

/// What only commands touch.
#[derive(Default)]
struct Writer {
    addresses: HashMap<NetworkId, Addresses>,
    watchers: HashMap<SandboxId, AbortHandle>,
    /// Sandboxes whose end has been told but not stored yet.
    dead: HashSet<SandboxId>,
    /// Shared with the threads on which ports are bound.
    ports: Arc<std::sync::Mutex<HostPorts>>,
    /// Number of the mapping that was made last.
    last_mapping: u64,
    /// Stocks of sockets inside of containers with published TCP ports.
    supplies: HashMap<SandboxId, Supply>,
    is_closed: bool,
}

#[cfg(test)]
pub(crate) mod fixtures;
