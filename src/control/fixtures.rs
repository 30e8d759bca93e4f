//! What the tests of the control plane and of the API share.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, UdpSocket},
    ops::RangeInclusive,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use vswitch_proxy::publish::{Connections, Listener, MappingId, MappingSpec, NamespaceSockets, Routing};
use vswitch_wire::MacAddr;

use super::{
    AttachFailure, Attacher, Control, ControlConfig, Device, InheritedSockets, Pending, State, Store,
    SubnetPool, store::Change,
};
use crate::{
    dataplane::{DataPlane, DataPlaneError, EndpointSpec, Forwarding, PollMode},
    io::{
        attach::{AttachError, DefaultRoute, LinkConfig, SocketCounts},
        netns::NetnsTarget,
    },
    model::{
        Driver, Endpoint, EndpointId, EndpointRequest, LinkKind, Namespace, Network, NetworkId,
        NetworkSettings, Origin, OutboundSettings, Sandbox, SandboxId, Subnet, Timestamp,
    },
};

/// A network id made of one byte.
pub(crate) fn id(byte: u8) -> NetworkId {
    NetworkId::from_bytes([byte; 32])
}

/// A dual-stack network, and a sandbox with an endpoint on it.
pub(crate) fn objects() -> (Network, Sandbox, Endpoint) {
    let subnet = |prefix: &str, gateway: &str| Subnet {
        prefix: prefix.parse().expect("a prefix"),
        range: None,
        gateway: Some(gateway.parse().expect("an address")),
        auxiliary: BTreeMap::new(),
        origin: Origin::Requested,
        gateway_origin: Origin::Requested,
    };
    let network = Network {
        id: id(1),
        name: "net".into(),
        created: Timestamp::now(),
        driver: Driver::Bridge,
        ipam_options: Some(BTreeMap::new()),
        ipv4: Some(subnet("10.0.0.0/24", "10.0.0.1")),
        ipv6: Some(subnet("fd00::/64", "fd00::1")),
        internal: false,
        attachable: true,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        settings: NetworkSettings {
            mtu: 1500,
            inter_container: true,
            interface_prefix: "eth".into(),
            link_kind: LinkKind::Tap,
            outbound: OutboundSettings::default(),
        },
        gateway_mac: MacAddr([2, 0x42, 10, 0, 0, 1]),
    };
    let sandbox = Sandbox {
        id: SandboxId::from_bytes([5; 32]),
        name: "web".into(),
        namespace: Namespace::Process {
            pid: 1,
            start_time: 7,
        },
        boot: "6a6a3a4e-0f0e-4c3c-8a5e-3d1d0a6f9b11".into(),
        hostname: "web".into(),
        created: Timestamp::now(),
        auto_remove: true,
        finished: None,
        ports: Vec::new(),
    };
    let endpoint = Endpoint {
        id: EndpointId::from_bytes([9; 32]),
        network: network.id,
        sandbox: sandbox.id,
        interface: "eth0".into(),
        kind: LinkKind::Tap,
        mac: MacAddr([2, 0x42, 10, 0, 0, 2]),
        ipv4: Some("10.0.0.2/24".parse().expect("an address")),
        ipv6: Some("fd00::2/64".parse().expect("an address")),
        request: EndpointRequest {
            mac: Some(MacAddr([2, 0x42, 10, 0, 0, 2])),
            ..EndpointRequest::default()
        },
    };
    (network, sandbox, endpoint)
}

/// The state that has [`objects`], and the endpoint.
pub(crate) fn state() -> (State, Endpoint) {
    let (network, sandbox, endpoint) = objects();
    let mut state = State::default();
    state.networks.insert(network.id, network);
    state.sandboxes.insert(sandbox.id, sandbox);
    state.endpoints.insert(endpoint.id, endpoint.clone());
    (state, endpoint)
}

/// Records what would be done to containers.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeAttacher {
    shared: Arc<Mutex<Fake>>,
}

#[derive(Debug, Default)]
struct Fake {
    published: HashMap<(NetworkId, MappingId), Vec<Listener>>,
    stocks: HashMap<MappingId, Weak<NamespaceSockets>>,
    sockets: Vec<SocketCounts>,
    log: Vec<String>,
    refuse: Option<String>,
    stall: bool,
    attaching: usize,
    most_attaching: usize,
}

impl FakeAttacher {
    /// What was done since the last call.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().log)
    }

    /// From now on operations whose log line starts with `prefix` fail; an empty text ends that.
    pub(crate) fn refuse(&self, prefix: &str) {
        self.lock().refuse = Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty());
    }

    /// The stock that a mapping was published with.
    pub(crate) fn sockets_of(&self, mapping: u64) -> Option<Arc<NamespaceSockets>> {
        self.lock().stocks.get(&MappingId(mapping))?.upgrade()
    }

    /// Sockets that were asked for since the last call.
    pub(crate) fn take_socket_orders(&self) -> Vec<SocketCounts> {
        std::mem::take(&mut self.lock().sockets)
    }

    /// From now on no device that is being removed goes away.
    pub(crate) fn stall_removals(&self) {
        self.lock().stall = true;
    }

    /// How many devices were being attached at the same time, at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.lock().most_attaching
    }

    fn begin(&self) {
        let mut fake = self.lock();
        fake.attaching += 1;
        fake.most_attaching = fake.most_attaching.max(fake.attaching);
    }

    fn record(&self, line: String) -> Pending<'_> {
        let mut fake = self.lock();
        let refused = fake
            .refuse
            .as_ref()
            .is_some_and(|prefix| line.starts_with(prefix));
        let outcome = if refused { Err(refusal()) } else { Ok(()) };
        fake.log.push(if refused { format!("! {line}") } else { line });
        Box::pin(std::future::ready(outcome))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Fake> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attacher for FakeAttacher {
    fn attach(&self, _: NetnsTarget, link: LinkConfig, spec: EndpointSpec) -> Pending<'_> {
        let list = |texts: Vec<String>| texts.join(",");
        let addresses = list(link.addresses.iter().map(ToString::to_string).collect());
        let gateways = list(link.default_gateways.iter().map(ToString::to_string).collect());
        let line = format!(
            "attach {} {} {addresses} mtu {} via {gateways}",
            spec.label, link.mac, link.mtu
        );
        Box::pin(async move {
            self.begin();
            tokio::task::yield_now().await;
            self.lock().attaching -= 1;
            self.record(line).await
        })
    }

    fn detach(&self, device: Device) -> Pending<'_> {
        let place = if device.target.is_some() { "alive" } else { "gone" };
        let done = self.record(format!("detach {} {place}", device.interface));
        if self.lock().stall {
            return Box::pin(std::future::pending());
        }
        done
    }

    fn set_routes(&self, _: NetnsTarget, routes: Vec<DefaultRoute>) -> Pending<'_> {
        let routes: Vec<String> = routes
            .iter()
            .map(|r| format!("{} {}", r.interface, r.gateway))
            .collect();
        self.record(format!("routes {}", routes.join(",")))
    }

    fn publish(
        &self,
        (network, _): (NetworkId, EndpointId),
        spec: MappingSpec,
        listeners: Vec<Listener>,
        forwarding: Option<Forwarding>,
    ) -> Pending<'_> {
        let backend = &spec.backend;
        let routed = match (backend.routed_v4, backend.routed_v6) {
            (true, true) => "46",
            (true, false) => "4",
            (false, true) => "6",
            (false, false) => "",
        };
        let address = backend.v4.map(IpAddr::from).or(backend.v6.map(IpAddr::from));
        let address = address.map_or_else(String::new, |address| address.to_string());
        let (id, count) = (spec.id.0, listeners.len());
        let forwarded = forwarding.map_or_else(String::new, |forwarding| {
            let Forwarding {
                external,
                ports,
                container_port,
            } = forwarding;
            format!(", forward {external:?} {ports:?} to {container_port}")
        });
        let line = format!("publish {id} of {count} to {address} routed {routed}{forwarded}");
        let done = self.record(line);
        if let Some(sockets) = &spec.backend.sockets {
            let mut fake = self.lock();
            fake.log.push("with sockets".into());
            fake.stocks.insert(spec.id, Arc::downgrade(sockets));
        }
        Box::pin(async move {
            done.await?;
            self.lock().published.insert((network, spec.id), listeners);
            Ok(())
        })
    }

    fn unpublish(
        &self,
        network: NetworkId,
        mapping: MappingId,
        connections: Connections,
    ) -> Pending<'_, Vec<Listener>> {
        let done = self.record(format!("unpublish {} {connections:?}", mapping.0));
        Box::pin(async move {
            done.await?;
            let listeners = self.lock().published.remove(&(network, mapping));
            Ok(listeners.ok_or(DataPlaneError::UnknownMapping(mapping))?)
        })
    }

    fn reroute(&self, _: NetworkId, mapping: MappingId, routing: Routing) -> Pending<'_> {
        let on_link: Vec<String> = routing.on_link.iter().map(ToString::to_string).collect();
        self.record(format!("reroute {} beside {}", mapping.0, on_link.join(",")))
    }

    fn split(
        &self,
        network: NetworkId,
        mapping: MappingId,
        ports: RangeInclusive<u16>,
        apart: MappingId,
    ) -> Pending<'_> {
        let done = self.record(format!("split {ports:?} of {} to {}", mapping.0, apart.0));
        Box::pin(async move {
            done.await?;
            let published = &mut self.lock().published;
            let all = published.remove(&(network, mapping)).unwrap_or_default();
            let is_part = |listener: &Listener| ports.contains(&listener.container_port);
            let (part, rest) = all.into_iter().partition(is_part);
            published.insert((network, mapping), rest);
            published.insert((network, apart), part);
            Ok(())
        })
    }

    fn make_sockets(&self, _: NetnsTarget, counts: SocketCounts) -> Pending<'_, Vec<OwnedFd>> {
        let mut fake = self.lock();
        fake.sockets.push(counts);
        if fake.refuse.as_deref() == Some("sockets") {
            return Box::pin(std::future::ready(Err(refusal())));
        }
        let sockets = (0..counts.total()).map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("the kernel has ports");
            OwnedFd::from(socket)
        });
        Box::pin(std::future::ready(Ok(sockets.collect())))
    }
}

fn refusal() -> AttachFailure {
    AttachFailure::Attach(AttachError::Failed {
        operation: "test".into(),
        source: std::io::Error::other("refused"),
    })
}

/// A control plane with its state in `directory` and devices that are only recorded.
pub(crate) async fn control(directory: &Path) -> (Control, FakeAttacher) {
    let attacher = FakeAttacher::default();
    let control = Control::start(config(directory, attacher.clone()))
        .await
        .expect("a fresh state");
    (control, attacher)
}

/// Makes all stored sandboxes look as if the host had been started anew since.
pub(crate) async fn reboot(directory: &Path) {
    let store = Store::open(directory).expect("no daemon runs");
    let sandboxes = store.load().expect("it parses").sandboxes;
    let changed = sandboxes.into_iter().map(|sandbox| {
        Change::PutSandbox(Sandbox {
            boot: "another".into(),
            ..sandbox
        })
    });
    store.commit(changed.collect()).await.expect("the disk has room");
}

/// Makes a sandbox's process look like an earlier one with the same id.
pub(crate) fn forge_start_time(control: &Control, name: &str) {
    let mut state = control.state();
    let named = state.sandboxes.values_mut().find(|sandbox| sandbox.name == name);
    if let Namespace::Process { start_time, .. } = &mut named.expect("it is there").namespace {
        *start_time += 1;
    }
}

/// Its configuration.
pub(crate) fn config(directory: &Path, attacher: FakeAttacher) -> ControlConfig {
    let (dataplane, reports) =
        DataPlane::start(1, PollMode::Sleep, DESCRIPTORS).expect("the kernel gives a thread");
    ControlConfig {
        state_dir: directory.to_owned(),
        pools: SubnetPool::defaults(),
        avoided: Vec::new,
        dataplane,
        reports,
        attacher: Arc::new(attacher),
        inherited: InheritedSockets::default(),
        hints: vec!["something is missing".into()],
        uplink: None,
    }
}

/// Descriptors for host sockets.
const DESCRIPTORS: usize = 4096;
