//! Handle by which the control plane steers the packet workers.
//!
//! Every call is a message to the worker that owns the network, answered when the worker has applied
//! it; nothing here touches a table of the packet path.

mod connections;
mod listing;
mod spec;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use tokio::sync::{
    mpsc::{self, UnboundedReceiver},
    oneshot,
};
use vswitch_proxy::{
    config::Descriptors,
    publish::{Connections, Listener, MappingId, MappingSpec, MappingView, PublishedPorts, Routing},
};

use crate::{
    io::{device::Device, packet::PacketSocket},
    model::{EndpointId, NetworkId},
    uplink::DeviceUplink,
    worker::{Command, Reply, Shared as WorkersShared, Worker},
};

pub use self::connections::{
    ConnEvent, ConnEvents, ConnFilter, ConnPage, ConnRow, EndsFilter, Family, Place, Status, TableKind,
    TranslatedNetwork, TranslatedPort, TranslationView, has_ports,
};
pub(crate) use self::connections::{TablePlace, Visit, Watcher};
pub use self::{
    listing::{FdbKind, FdbRow, FlowRow, PortRow, UplinkView},
    spec::{EndpointSpec, External, Forwarding, NetworkSpec, Uplink, Way},
};
pub use crate::worker::PollMode;

/// Why the data plane refused a command.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// The endpoint is there already.
    #[error("endpoint {0:?} is in the data plane already")]
    EndpointExists(EndpointId),
    /// The network is there already.
    #[error("network {0:?} is in the data plane already")]
    NetworkExists(NetworkId),
    /// The network is not there.
    #[error("network {0:?} is not in the data plane")]
    UnknownNetwork(NetworkId),
    /// The mapping is not there.
    #[error("mapping {0:?} is not in the data plane")]
    UnknownMapping(MappingId),
    /// The endpoint is not there.
    #[error("endpoint {0:?} is not in the data plane")]
    UnknownEndpoint(EndpointId),
    /// The switch has no room for another port.
    #[error("the network's switch has no free port")]
    PortsExhausted,
    /// The device could not be put into the packet loop.
    #[error("cannot serve the device: {0}")]
    Device(#[from] std::io::Error),
    /// The daemon has no device uplink.
    #[error(
        "this daemon has no device uplink: start vswitchd with --uplink device=…, or create the network with vswitch.uplink=sockets"
    )]
    NoUplink,
    /// The uplink's translation does not take the network.
    #[error("the device uplink does not take the network: {0}")]
    Translation(#[from] vswitch_nat::AddNetworkError),
    /// The uplink's translation does not take the port.
    #[error("the device uplink does not take the port: {0}")]
    Forwarding(#[from] vswitch_nat::PublishError),
    /// The worker has ended; the daemon is shutting down.
    #[error("the packet loop has ended")]
    Stopped,
}

/// What the data plane tells the control plane unasked.
#[derive(Debug, Clone)]
pub enum DataPlaneEvent {
    /// The endpoint's device is gone; the container has died or removed it.
    DeviceLost(EndpointId),
}

/// Handle to the packet workers; clones are cheap.
///
/// Dropping the last clone ends the workers.
#[derive(Debug, Clone)]
pub struct DataPlane {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    workers: Vec<Worker>,
    descriptors: Arc<Descriptors>,
    networks: Mutex<Networks>,
}

/// Which worker owns which network.
#[derive(Debug, Default)]
struct Networks {
    placed: HashMap<NetworkId, Placed>,
    /// Who has the device uplink.
    uplink: Option<usize>,
}

#[derive(Debug)]
struct Placed {
    worker: usize,
    prefixes: Vec<IpNet>,
}

impl DataPlane {
    /// Starts `workers` packet loops (at least one), whose host sockets together take at most `descriptors`
    /// descriptors (R-LIM-2). The receiver brings what they notice by themselves.
    ///
    /// # Errors
    ///
    /// The kernel refused a thread or a descriptor.
    pub fn start(
        workers: usize,
        mode: PollMode,
        descriptors: usize,
    ) -> io::Result<(Self, UnboundedReceiver<DataPlaneEvent>)> {
        // Workers must never wait for the control plane; what they report is rare (a device has gone).
        let (sender, receiver) = mpsc::unbounded_channel();
        let descriptors = Arc::new(Descriptors::new(descriptors));
        let shared = WorkersShared {
            descriptors: Arc::clone(&descriptors),
            published: Arc::new(PublishedPorts::default()),
        };
        let workers =
            (0..workers.max(1)).map(|index| Worker::spawn(index, mode, shared.clone(), sender.clone()));
        let workers = workers.collect::<io::Result<Vec<_>>>()?;
        let shared = Shared {
            workers,
            descriptors,
            networks: Mutex::default(),
        };
        Ok((
            Self {
                shared: Arc::new(shared),
            },
            receiver,
        ))
    }

    /// Gives a worker the device by which networks leave; at most one, before there are networks. It begins to test
    /// whether its addresses are free; [`uplink`](Self::uplink) tells how far it is.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::Device`], [`DataPlaneError::Stopped`].
    pub async fn add_uplink(
        &self,
        uplink: DeviceUplink,
        mtu: u16,
        socket: PacketSocket,
    ) -> Result<(), DataPlaneError> {
        let worker = self.networks().least_loaded(self.shared.workers.len());
        self.ask(worker, |reply| Command::AddUplink {
            uplink,
            mtu,
            socket,
            reply,
        })
        .await?;
        self.networks().uplink = Some(worker);
        Ok(())
    }

    /// The device uplink, if there is one.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::Stopped`].
    pub async fn uplink(&self) -> Result<Option<UplinkView>, DataPlaneError> {
        let Some(worker) = self.networks().uplink else {
            return Ok(None);
        };
        self.ask(worker, |reply| Command::Uplink { reply }).await
    }

    /// Creates the network's switch and gateway: on the worker that has the device uplink if packets leave by it, so
    /// that all networks that share it share its thread, else on the one that has the fewest networks.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::NetworkExists`], [`DataPlaneError::NoUplink`], [`DataPlaneError::Translation`],
    /// [`DataPlaneError::Stopped`].
    pub async fn add_network(&self, spec: NetworkSpec) -> Result<(), DataPlaneError> {
        let (id, prefixes) = (spec.id, spec.gateways.iter().map(IpNet::trunc).collect());
        let leaves_by_device = |uplink: &Uplink| uplink.way != Way::Sockets;
        let worker = {
            let mut networks = self.networks();
            let worker = match spec.uplink.as_ref().is_some_and(leaves_by_device) {
                true => networks.uplink.ok_or(DataPlaneError::NoUplink)?,
                false => networks.least_loaded(self.shared.workers.len()),
            };
            if networks.placed.contains_key(&id) {
                return Err(DataPlaneError::NetworkExists(id));
            }
            networks.placed.insert(id, Placed { worker, prefixes });
            worker
        };
        let added = self
            .ask(worker, |reply| Command::AddNetwork { spec, reply })
            .await;
        if added.is_err() {
            self.networks().placed.remove(&id);
        }
        self.publish_prefixes();
        added
    }

    /// Removes the network, its switch and every port that is left on it, devices included.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::UnknownNetwork`], [`DataPlaneError::Stopped`].
    pub async fn remove_network(&self, id: NetworkId) -> Result<(), DataPlaneError> {
        let worker = self.worker_of(id)?;
        let devices = self
            .ask(worker, |reply| Command::RemoveNetwork { id, reply })
            .await?;
        self.networks().placed.remove(&id);
        self.publish_prefixes();
        for device in devices {
            close(device, DeviceFate::Delete).await;
        }
        Ok(())
    }

    /// Connects a device to the network's switch as a new port and announces its addresses (B-ARP-6).
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::UnknownNetwork`], [`DataPlaneError::EndpointExists`],
    /// [`DataPlaneError::PortsExhausted`], [`DataPlaneError::Device`], [`DataPlaneError::Stopped`].
    pub async fn add_endpoint(
        &self,
        spec: EndpointSpec,
        device: impl Into<Device>,
    ) -> Result<(), DataPlaneError> {
        let device = device.into();
        let worker = self.worker_of(spec.network)?;
        self.ask(worker, |reply| Command::AddEndpoint { spec, device, reply })
            .await
    }

    /// Removes the endpoint's port; `fate` says what becomes of its device.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::UnknownNetwork`], [`DataPlaneError::UnknownEndpoint`],
    /// [`DataPlaneError::Stopped`].
    pub async fn remove_endpoint(
        &self,
        network: NetworkId,
        endpoint: EndpointId,
        fate: DeviceFate,
    ) -> Result<(), DataPlaneError> {
        let worker = self.worker_of(network)?;
        let device = self
            .ask(worker, |reply| Command::RemoveEndpoint {
                network,
                endpoint,
                reply,
            })
            .await?;
        close(device, fate).await;
        Ok(())
    }

    /// Lists forwarding entries of one network or of all.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::UnknownNetwork`], [`DataPlaneError::Stopped`].
    pub async fn fdb(&self, network: Option<NetworkId>) -> Result<Vec<FdbRow>, DataPlaneError> {
        let mut rows = Vec::new();
        for worker in self.workers_of(network)? {
            rows.extend(self.ask(worker, |reply| Command::Fdb { network, reply }).await?);
        }
        Ok(rows)
    }

    /// Lists ports with their counters, of one network or of all.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::UnknownNetwork`], [`DataPlaneError::Stopped`].
    pub async fn ports(&self, network: Option<NetworkId>) -> Result<Vec<PortRow>, DataPlaneError> {
        let mut rows = Vec::new();
        for worker in self.workers_of(network)? {
            rows.extend(
                self.ask(worker, |reply| Command::Ports { network, reply })
                    .await?,
            );
        }
        Ok(rows)
    }

    /// Lists flows, of one network or of all.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::UnknownNetwork`], [`DataPlaneError::Stopped`].
    pub async fn flows(&self, network: Option<NetworkId>) -> Result<Vec<FlowRow>, DataPlaneError> {
        let mut rows = Vec::new();
        for worker in self.workers_of(network)? {
            rows.extend(
                self.ask(worker, |reply| Command::Flows { network, reply })
                    .await?,
            );
        }
        Ok(rows)
    }

    /// Takes a mapping into service: whoever reaches one of the listeners reaches the endpoint's container.
    /// `spec.backend.endpoint` is filled in by the worker. Removing the endpoint ends its mappings, whose
    /// listeners are closed; [`unpublish`](Self::unpublish) them before, where they are to live on.
    ///
    /// On a network that leaves by the device uplink the ports of `forwarding` lead to the container, too.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::UnknownNetwork`] (also for an internal network), [`DataPlaneError::UnknownEndpoint`],
    /// [`DataPlaneError::Device`] when the descriptors are used up, [`DataPlaneError::Forwarding`],
    /// [`DataPlaneError::Stopped`]. The listeners are closed then.
    pub async fn publish(
        &self,
        (network, endpoint): (NetworkId, EndpointId),
        spec: MappingSpec,
        listeners: Vec<Listener>,
        forwarding: Option<Forwarding>,
    ) -> Result<(), DataPlaneError> {
        let worker = self.worker_of(network)?;
        self.ask(worker, |reply| Command::Publish {
            at: (network, endpoint),
            spec,
            listeners,
            forwarding,
            reply,
        })
        .await
    }

    /// Takes a mapping out of service and gives its listeners, to be closed or used for another container.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::UnknownNetwork`], [`DataPlaneError::UnknownMapping`], [`DataPlaneError::Stopped`].
    pub async fn unpublish(
        &self,
        network: NetworkId,
        mapping: MappingId,
        connections: Connections,
    ) -> Result<Vec<Listener>, DataPlaneError> {
        let worker = self.worker_of(network)?;
        self.ask(worker, |reply| Command::Unpublish {
            network,
            mapping,
            connections,
            reply,
        })
        .await
    }

    /// Changes how clients of a mapping are shown to its container from now on.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::UnknownNetwork`], [`DataPlaneError::UnknownMapping`], [`DataPlaneError::Stopped`].
    pub async fn reroute(
        &self,
        network: NetworkId,
        mapping: MappingId,
        routing: Routing,
    ) -> Result<(), DataPlaneError> {
        let worker = self.worker_of(network)?;
        self.ask(worker, |reply| Command::Reroute {
            network,
            mapping,
            routing,
            reply,
        })
        .await
    }

    /// Makes the listeners for some of the container's ports a mapping of their own, called `apart`. Connections
    /// do not notice, but for those that have come by the device uplink: they end.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::UnknownNetwork`], [`DataPlaneError::UnknownMapping`], [`DataPlaneError::Stopped`].
    pub async fn split(
        &self,
        network: NetworkId,
        mapping: MappingId,
        ports: RangeInclusive<u16>,
        apart: MappingId,
    ) -> Result<(), DataPlaneError> {
        let worker = self.worker_of(network)?;
        self.ask(worker, |reply| Command::Split {
            network,
            mapping,
            part: (ports, apart),
            reply,
        })
        .await
    }

    /// Lists what has come by mappings, of one network or of all.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::UnknownNetwork`], [`DataPlaneError::Stopped`].
    pub async fn mappings(&self, network: Option<NetworkId>) -> Result<Vec<MappingView>, DataPlaneError> {
        let mut rows = Vec::new();
        for worker in self.workers_of(network)? {
            rows.extend(
                self.ask(worker, |reply| Command::Mappings { network, reply })
                    .await?,
            );
        }
        Ok(rows)
    }

    /// Names the host's resolvers, to which DNS queries to gateways go from now on, in order of preference.
    pub fn set_resolvers(&self, resolvers: Arc<[SocketAddr]>) {
        for worker in &self.shared.workers {
            worker.send(Command::SetResolvers {
                resolvers: Arc::clone(&resolvers),
            });
        }
    }

    /// The descriptors that host sockets may take.
    pub fn descriptors(&self) -> &Arc<Descriptors> {
        &self.shared.descriptors
    }

    /// Number of packet loops.
    pub fn workers(&self) -> usize {
        self.shared.workers.len()
    }

    async fn ask<T>(
        &self,
        worker: usize,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, DataPlaneError> {
        let (reply, answer) = oneshot::channel();
        self.shared
            .workers
            .get(worker)
            .ok_or(DataPlaneError::Stopped)?
            .send(command(reply));
        answer.await.unwrap_or(Err(DataPlaneError::Stopped))
    }

    fn worker_of(&self, id: NetworkId) -> Result<usize, DataPlaneError> {
        let networks = self.networks();
        networks
            .placed
            .get(&id)
            .map(|placed| placed.worker)
            .ok_or(DataPlaneError::UnknownNetwork(id))
    }

    fn workers_of(&self, network: Option<NetworkId>) -> Result<Vec<usize>, DataPlaneError> {
        match network {
            Some(id) => Ok(vec![self.worker_of(id)?]),
            None => Ok((0..self.shared.workers.len()).collect()),
        }
    }

    /// Tells every worker the prefixes of all networks.
    fn publish_prefixes(&self) {
        let prefixes: Arc<[IpNet]> = self
            .networks()
            .placed
            .values()
            .flat_map(|placed| placed.prefixes.iter().copied())
            .collect();
        for worker in &self.shared.workers {
            worker.send(Command::SetNeighbours {
                prefixes: prefixes.clone(),
            });
        }
    }

    fn networks(&self) -> MutexGuard<'_, Networks> {
        // The guarded code does not panic half-way, so a poisoned map is still whole.
        self.shared
            .networks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Networks {
    fn least_loaded(&self, workers: usize) -> usize {
        let load = |worker| {
            self.placed
                .values()
                .filter(|placed| placed.worker == worker)
                .count()
        };
        (0..workers).min_by_key(|&worker| load(worker)).unwrap_or(0)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.send(Command::Stop);
        }
    }
}

/// Closes a device away from the packet loops: the kernel may take tens of milliseconds to delete it.
async fn close(device: Device, fate: DeviceFate) {
    let closed = tokio::task::spawn_blocking(move || match fate {
        DeviceFate::Delete => device.delete(),
        DeviceFate::Keep => {
            drop(device);
            Ok(())
        }
    });
    match closed.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot delete a device"),
        Err(error) => tracing::error!(%error, "closing a device failed"),
    }
}

/// What becomes of an endpoint's device when its port is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceFate {
    /// The device disappears from the container.
    Delete,
    /// A persistent device stays for the next daemon to take over; a veth disappears.
    Keep,
}
