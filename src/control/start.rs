//! Start and end of the control plane.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use tokio::{sync::Mutex, task::JoinSet};
use vswitch_wire::MacAddr;

use super::{
    AttachFailure, Change, Contents, Control, ControlConfig, ControlError, Shared, ShutdownMode, State,
    Store, Writer,
    endpoints::{Addresses, Container, device, target},
    events::Events,
    network_plan::{DEFAULT_MTU, DEFAULT_PREFIX, MTU, NetworkPlan},
    networks::{isolated, spec, uplinks_own},
    ports::HostPorts,
    routes::default_routes,
    sandboxes::is_alive,
};
use crate::{
    api::types::NetworkCreate,
    dataplane::NetworkSpec,
    io::netns::boot_id,
    model::{
        Driver, Endpoint, LinkKind, Network, NetworkId, NetworkSettings, OutboundSettings, Sandbox, Timestamp,
    },
};

impl Control {
    /// Opens the state, makes the predefined networks where they are missing, and takes over what an
    /// earlier daemon left: networks, and endpoints whose containers live.
    ///
    /// # Errors
    ///
    /// Another daemon has the state, it cannot be read, or a network cannot be made. An endpoint that
    /// cannot be taken over is logged and forgotten.
    pub async fn start(config: ControlConfig) -> Result<Self, ControlError> {
        let store = Store::open(&config.state_dir)?;
        let (host_id, contents) = (store.host_id()?, store.load()?);
        let boot = boot_id().map_err(|error| ControlError::system("read the id of this boot", error))?;
        let shared = Shared {
            state: RwLock::new(State::default()),
            writer: Mutex::default(),
            store,
            plane: config.dataplane,
            attacher: config.attacher,
            events: Events::new(),
            pools: config.pools,
            hints: config.hints,
            uplink: config.uplink,
            avoided: config.avoided,
            host_id,
            state_dir: config.state_dir,
            boot,
            started: Timestamp::now(),
        };
        let control = Self {
            shared: Arc::new(shared),
        };
        let mut writer = control.writer().await?;
        let external = control.uplink().map(|uplink| &uplink.addresses);
        let external = external.into_iter().flatten().map(|net| net.addr()).collect();
        writer.ports = Arc::new(std::sync::Mutex::new(HostPorts::new(config.inherited, external)));
        control.restore(&mut writer, contents).await?;
        control.predefine(&mut writer).await?;
        drop(writer);
        control.listen(config.reports);
        Ok(control)
    }

    /// Ends the control plane: refuses further commands and does what `mode` says. Errors are logged.
    pub async fn shutdown(&self, mode: ShutdownMode) {
        let mut writer = self.shared.writer.lock().await;
        writer.is_closed = true;
        writer.watchers.drain().for_each(|(_, watcher)| watcher.abort());
        if mode == ShutdownMode::KeepDevices {
            return;
        }
        let living: Vec<(Sandbox, Vec<Endpoint>)> = self.read(|state| {
            let living = state.sandboxes().filter(|sandbox| sandbox.finished.is_none());
            let with_endpoints = living.map(|sandbox| {
                let endpoints = state.endpoints_of(sandbox.id).into_iter();
                (
                    sandbox.clone(),
                    endpoints.map(|(endpoint, _)| endpoint.clone()).collect(),
                )
            });
            with_endpoints.collect()
        });
        self.close_ports(&mut writer).await;
        self.remove_devices(&living).await;
        // Only now: whoever cuts this short leaves what `kill -9` leaves, for the next daemon to take over.
        let mut removals = Vec::new();
        for (sandbox, endpoints) in &living {
            removals.extend(
                endpoints
                    .iter()
                    .map(|endpoint| Change::RemoveEndpoint(endpoint.id)),
            );
            removals.push(Change::RemoveSandbox(sandbox.id));
        }
        if let Err(error) = self.commit(removals).await {
            tracing::warn!(%error, "forgetting the sandboxes at the end");
            return;
        }
        let mut state = self.state();
        for (sandbox, endpoints) in &living {
            for endpoint in endpoints {
                state.endpoints.remove(&endpoint.id);
            }
            state.sandboxes.remove(&sandbox.id);
        }
        tracing::info!(count = living.len(), "sandboxes forgotten");
    }

    /// Removes the devices of living sandboxes, some at once.
    async fn remove_devices(&self, living: &[(Sandbox, Vec<Endpoint>)]) {
        let report = |(sandbox, interface, outcome): (String, String, Result<(), AttachFailure>)| {
            if let Err(error) = outcome {
                tracing::warn!(sandbox, interface, %error, "cleaning up at the end");
            }
        };
        let mut tasks = JoinSet::new();
        for (sandbox, endpoints) in living {
            for endpoint in endpoints {
                if tasks.len() == REMOVALS
                    && let Some(Ok(removed)) = tasks.join_next().await
                {
                    report(removed);
                }
                let device = device(endpoint, Some(target(&sandbox.namespace)));
                let (name, interface) = (sandbox.name.clone(), endpoint.interface.clone());
                let attacher = Arc::clone(&self.shared.attacher);
                tasks.spawn(async move { (name, interface, attacher.detach(device).await) });
            }
        }
        tasks.join_all().await.into_iter().for_each(report);
    }

    async fn restore(&self, writer: &mut Writer, contents: Contents) -> Result<(), ControlError> {
        for network in contents.networks {
            if network.driver == Driver::Bridge {
                if let Some((subnet, outside)) = uplinks_own(&network, self.uplink()) {
                    tracing::warn!(
                        network = network.name,
                        "subnet {subnet} overlaps {outside}, the prefix of the device uplink: its containers and hosts on that \
                         link cannot reach each other; create the network anew with another subnet"
                    );
                }
                let spec = spec(&network, self.uplink()).unwrap_or_else(|error| {
                    // What leaves by another way than it was told to would surprise more than what does not leave.
                    tracing::error!(network = network.name, %error, "has no way out until then");
                    NetworkSpec {
                        uplink: None,
                        ..isolated(&network)
                    }
                });
                self.shared.plane.add_network(spec).await?;
            }
            writer.addresses.insert(network.id, Addresses::of(&network));
            self.state().networks.insert(network.id, network);
        }
        let mut endpoints: BTreeMap<_, Vec<Endpoint>> = BTreeMap::new();
        let mut orphans = Vec::new();
        for endpoint in contents.endpoints {
            let held = writer
                .addresses
                .get_mut(&endpoint.network)
                .map(|addresses| addresses.hold(&endpoint));
            if matches!(held, Some(Ok(()))) {
                endpoints.entry(endpoint.sandbox).or_default().push(endpoint);
            } else {
                tracing::warn!(
                    endpoint = endpoint.id.short(),
                    "its network or address is not ours: forgotten"
                );
                orphans.push(Change::RemoveEndpoint(endpoint.id));
            }
        }
        self.commit(orphans).await?;
        let mut living = Vec::new();
        for sandbox in contents.sandboxes {
            let own = endpoints.remove(&sandbox.id).unwrap_or_default();
            if self.resume(writer, &sandbox, &own).await? {
                living.push((sandbox, own));
            }
        }
        let mut taken_over = self.take_over(living).await?;
        // Of those who want the same port, it is always the same one who gets it.
        taken_over.sort_by_key(|(sandbox, _)| (sandbox.created, sandbox.id));
        for (sandbox, lost) in taken_over {
            if !lost.is_empty()
                && let Err(error) = self.unplug(writer, &sandbox, lost, Container::Alive).await
            {
                tracing::warn!(sandbox = sandbox.name, %error, "cleaning up what could not be taken over");
            }
            self.restore_ports(writer, &sandbox).await;
            self.watch(writer, &sandbox);
        }
        Ok(())
    }

    /// Enters a stored sandbox and does what its end asks for if it has ended; true if it lives.
    async fn resume(
        &self,
        writer: &mut Writer,
        sandbox: &Sandbox,
        endpoints: &[Endpoint],
    ) -> Result<bool, ControlError> {
        {
            let mut state = self.state();
            state.sandboxes.insert(sandbox.id, sandbox.clone());
            state
                .endpoints
                .extend(endpoints.iter().map(|endpoint| (endpoint.id, endpoint.clone())));
        }
        if sandbox.finished.is_some() {
            return Ok(false);
        }
        // What looks like its process or its namespace in another boot is somebody else's.
        let alive = sandbox.boot == self.shared.boot
            // A place that cannot be looked at now may be there again later: only attaching decides.
            && is_alive(&sandbox.namespace).unwrap_or_else(|error| {
                tracing::warn!(sandbox = sandbox.name, %error, "cannot look for the container");
                true
            });
        if alive {
            return Ok(true);
        }
        tracing::info!(sandbox = sandbox.name, "ended while no daemon ran");
        match self.bury(writer, sandbox.clone()).await {
            Err(ControlError::Teardown(errors)) => {
                tracing::warn!(
                    sandbox = sandbox.name,
                    ?errors,
                    "cleaning up what an earlier daemon left"
                );
                Ok(false)
            }
            outcome => outcome.map(|()| false),
        }
    }

    /// Attaches the endpoints of living sandboxes again, some sandboxes at once; gives all sandboxes, with
    /// the endpoints that are lost.
    ///
    /// # Errors
    ///
    /// A task panicked.
    async fn take_over(
        &self,
        living: Vec<(Sandbox, Vec<Endpoint>)>,
    ) -> Result<Vec<(Sandbox, Vec<Endpoint>)>, AttachFailure> {
        let mut done = Vec::with_capacity(living.len());
        let mut tasks = JoinSet::new();
        for (sandbox, endpoints) in living {
            if tasks.len() == TAKE_OVERS {
                done.extend(tasks.join_next().await.transpose()?);
            }
            let control = self.clone();
            tasks.spawn(async move {
                let lost = control.reattach(&sandbox, endpoints).await;
                (sandbox, lost)
            });
        }
        while let Some(task) = tasks.join_next().await {
            done.push(task?);
        }
        Ok(done)
    }

    /// Attaches endpoints of one sandbox again; gives those that could not be.
    async fn reattach(&self, sandbox: &Sandbox, endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
        let routes = self.read(|state| default_routes(&state.endpoints_of(sandbox.id)));
        let mut lost = Vec::new();
        for endpoint in endpoints {
            let (link, spec) = self.describe(sandbox, &endpoint, &routes);
            let attached = self
                .shared
                .attacher
                .attach(target(&sandbox.namespace), link, spec);
            if let Err(error) = attached.await {
                tracing::error!(sandbox = sandbox.name, interface = endpoint.interface, %error, "cannot take over");
                lost.push(endpoint);
            }
        }
        lost
    }

    /// Makes `bridge`, `host` and `none` where they are missing.
    async fn predefine(&self, writer: &mut Writer) -> Result<(), ControlError> {
        let missing = |name: &str| self.read(|state| !state.networks().any(|network| network.name == name));
        if missing("bridge") {
            let options = BRIDGE_OPTIONS.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let request = NetworkCreate {
                options: options.into(),
                ..NetworkCreate::default()
            };
            let plan = NetworkPlan::predefined("bridge", request)?;
            self.build_network(writer, plan).await?;
        }
        for (name, driver) in [("host", Driver::Host), ("none", Driver::Null)] {
            if missing(name) {
                let network = bare(name, driver)?;
                self.commit(vec![Change::PutNetwork(network.clone())]).await?;
                self.enter_network(writer, network);
            }
        }
        Ok(())
    }
}

/// How many sandboxes are attached at once at the start. Each attachment is a process of its own that works
/// for some milliseconds; more than a few only compete for the cores and for the kernel's lock (`rtnl_lock`).
const TAKE_OVERS: usize = 4;

/// How many devices are removed at once at the end: the kernel lets some milliseconds pass for each
/// (`synchronize_net`), which others can share.
const REMOVALS: usize = 16;

/// The options that Docker shows on its default network.
const BRIDGE_OPTIONS: [(&str, &str); 6] = [
    ("com.docker.network.bridge.default_bridge", "true"),
    ("com.docker.network.bridge.enable_icc", "true"),
    ("com.docker.network.bridge.enable_ip_masquerade", "true"),
    ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
    ("com.docker.network.bridge.name", "docker0"),
    (MTU, "1500"),
];

/// A network that nothing carries.
fn bare(name: &str, driver: Driver) -> Result<Network, ControlError> {
    Ok(Network {
        id: NetworkId::random().map_err(|error| ControlError::system("get random numbers", error))?,
        name: name.to_owned(),
        created: Timestamp::now(),
        driver,
        ipam_options: None,
        ipv4: None,
        ipv6: None,
        internal: false,
        attachable: false,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        settings: NetworkSettings {
            mtu: DEFAULT_MTU,
            inter_container: true,
            interface_prefix: DEFAULT_PREFIX.to_owned(),
            link_kind: LinkKind::default(),
            outbound: OutboundSettings::default(),
        },
        gateway_mac: MacAddr::ZERO,
    })
}
