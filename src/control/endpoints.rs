//! Endpoints: addresses, devices, default routes; connecting and disconnecting.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use vswitch_wire::MacAddr;

use super::{
    Control, ControlError, Device, Verb, Writer, endpoint_plan,
    interface::next_interface,
    ipam::{AddressError, AddressPool},
    network_plan::{family, random_mac},
    routes::default_routes,
    store::Change,
};
use crate::{
    api::types::{NetworkConnect, NetworkDisconnect},
    dataplane::EndpointSpec,
    io::{
        attach::{DEFAULT_TXQUEUELEN, DefaultRoute, LinkConfig},
        netns::{NetnsIdentity, NetnsTarget},
    },
    model::{
        Endpoint, EndpointId, EndpointRequest, Namespace, Network, NetworkId, Sandbox, SandboxId, Subnet,
    },
};

impl Control {
    /// Connects a living sandbox to one more network.
    ///
    /// # Errors
    ///
    /// The request is wrong or the device cannot be made; nothing has changed.
    pub async fn connect(&self, network: &str, request: NetworkConnect) -> Result<(), ControlError> {
        let (control, term) = (self.clone(), network.to_owned());
        self.detached(async move {
            let mut writer = control.writer().await?;
            let (network, sandbox) = control.read(|state| {
                let network = state.resolve_network(&term, Verb::Change)?;
                Ok::<_, ControlError>((
                    network.clone(),
                    state.resolve_sandbox(&request.container)?.clone(),
                ))
            })?;
            let wish = endpoint_plan::from_settings(request.endpoint_config.unwrap_or_default())?;
            if sandbox.finished.is_some() {
                return Err(ControlError::NotRunning(sandbox.id));
            }
            let endpoints = control.plan(&mut writer, &sandbox, vec![(network, wish)])?;
            control.plug(&mut writer, &sandbox, endpoints, Vec::new()).await?;
            control.move_ports(&mut writer, &sandbox).await;
            Ok(())
        })
        .await
    }

    /// Takes a sandbox off a network.
    ///
    /// # Errors
    ///
    /// It is not on it. After [`ControlError::Teardown`] it is off.
    pub async fn disconnect(&self, network: &str, request: NetworkDisconnect) -> Result<(), ControlError> {
        let (control, term) = (self.clone(), network.to_owned());
        self.detached(async move {
            let mut writer = control.writer().await?;
            let (sandbox, endpoint) = control.read(|state| {
                let network = state.resolve_network(&term, Verb::Change)?;
                let sandbox = match state.resolve_sandbox(&request.container) {
                    Err(ControlError::SandboxNotFound(term)) if request.force => {
                        return Err(ControlError::EndpointNotFound(term));
                    }
                    sandbox => sandbox?,
                };
                let endpoint =
                    state
                        .attachment(network.id, sandbox.id)
                        .ok_or_else(|| ControlError::NotConnected {
                            sandbox: sandbox.id,
                            network: network.name.clone(),
                        })?;
                Ok((sandbox.clone(), endpoint.clone()))
            })?;
            match control
                .unplug(&mut writer, &sandbox, vec![endpoint], Container::Alive)
                .await
            {
                Err(ControlError::Teardown(errors)) if request.force => {
                    tracing::warn!(sandbox = sandbox.name, ?errors, "disconnected by force");
                    Ok(())
                }
                outcome => outcome,
            }
        })
        .await
    }

    /// Chooses what the wishes leave open and reserves the addresses. Nothing stays reserved on failure.
    pub(super) fn plan(
        &self,
        writer: &mut Writer,
        sandbox: &Sandbox,
        wishes: Vec<(Network, EndpointRequest)>,
    ) -> Result<Vec<Endpoint>, ControlError> {
        let (mut interfaces, mut networks) = self.read(|state| {
            let present = state.endpoints_of(sandbox.id);
            let interfaces: BTreeSet<String> = present.iter().map(|(end, _)| end.interface.clone()).collect();
            let networks: BTreeSet<NetworkId> = present.iter().map(|(end, _)| end.network).collect();
            (interfaces, networks)
        });
        let mut planned: Vec<Endpoint> = Vec::new();
        // Wished names first: an automatic one must not take them.
        for name in wishes.iter().filter_map(|(_, wish)| wish.interface.clone()) {
            if !interfaces.insert(name.clone()) {
                return Err(ControlError::InterfaceInUse {
                    sandbox: sandbox.name.clone(),
                    interface: name,
                });
            }
        }
        for (network, request) in wishes {
            let endpoint = if networks.insert(network.id) {
                self.plan_one(writer, sandbox.id, &network, request, &mut interfaces)
            } else {
                let (sandbox, network) = (sandbox.name.clone(), network.name.clone());
                Err(ControlError::AlreadyConnected { sandbox, network })
            };
            match endpoint {
                Ok(endpoint) => planned.push(endpoint),
                Err(error) => {
                    planned.iter().for_each(|endpoint| writer.release(endpoint));
                    return Err(error);
                }
            }
        }
        Ok(planned)
    }

    fn plan_one(
        &self,
        writer: &mut Writer,
        sandbox: SandboxId,
        network: &Network,
        request: EndpointRequest,
        interfaces: &mut BTreeSet<String>,
    ) -> Result<Endpoint, ControlError> {
        endpoint_plan::check_against(&request, network)?;
        let id = EndpointId::random().map_err(|error| ControlError::system("get random numbers", error))?;
        let taken: BTreeSet<MacAddr> = self.read(|state| {
            let endpoints = state.endpoints_on(network.id).map(|endpoint| endpoint.mac);
            endpoints.chain([network.gateway_mac]).collect()
        });
        if let Some(mac) = request.mac.filter(|mac| taken.contains(mac)) {
            return Err(ControlError::MacInUse {
                mac: mac.to_string(),
                network: network.name.clone(),
            });
        }
        let addresses = writer
            .addresses
            .get_mut(&network.id)
            .ok_or_else(|| ControlError::NetworkNotFound(network.name.clone()))?;
        let (ipv4, ipv6) = addresses
            .take(&request)
            .map_err(|(error, prefix)| ControlError::address(error, family(prefix), network))?;
        let mac = match (request.mac, ipv4) {
            (Some(mac), _) => mac,
            (None, Some(ipv4)) if !taken.contains(&MacAddr::from_ipv4(ipv4.addr())) => {
                MacAddr::from_ipv4(ipv4.addr())
            }
            // IPv6 only, or somebody asked for the address that would be ours.
            (None, _) => fresh_mac(&taken).inspect_err(|_| addresses.give_back(ipv4, ipv6))?,
        };
        let interface = match &request.interface {
            Some(name) => name.clone(),
            None => next_interface(&network.settings.interface_prefix, interfaces),
        };
        interfaces.insert(interface.clone());
        Ok(Endpoint {
            id,
            network: network.id,
            sandbox,
            interface,
            kind: request.kind.unwrap_or(network.settings.link_kind),
            mac,
            ipv4,
            ipv6,
            request,
        })
    }

    /// Stores planned endpoints together with `also`, makes their devices and enters them; or undoes all.
    pub(super) async fn plug(
        &self,
        writer: &mut Writer,
        sandbox: &Sandbox,
        endpoints: Vec<Endpoint>,
        also: Vec<Change>,
    ) -> Result<(), ControlError> {
        let mut changes = also.clone();
        changes.extend(endpoints.iter().cloned().map(Change::PutEndpoint));
        if let Err(error) = self.commit(changes).await {
            endpoints.iter().for_each(|endpoint| writer.release(endpoint));
            return Err(error);
        }
        if let Err(error) = self.make_devices(sandbox, &endpoints).await {
            endpoints.iter().for_each(|endpoint| writer.release(endpoint));
            let mut undo: Vec<Change> = also.iter().filter_map(Change::undone).collect();
            undo.extend(
                endpoints
                    .iter()
                    .map(|endpoint| Change::RemoveEndpoint(endpoint.id)),
            );
            if let Err(stored) = self.commit(undo).await {
                // The next start attaches them or forgets them with their container.
                tracing::error!(error = %stored, "cannot take back stored endpoints");
            }
            return Err(error);
        }
        for endpoint in endpoints {
            self.enter_endpoint(sandbox, endpoint);
        }
        Ok(())
    }

    /// Makes an attached endpoint visible.
    pub(super) fn enter_endpoint(&self, sandbox: &Sandbox, endpoint: Endpoint) {
        let mut state = self.state();
        if let Some(network) = state.networks.get(&endpoint.network) {
            self.shared.events.attachment("connect", network, sandbox);
            tracing::info!(
                sandbox = sandbox.name,
                network = network.name,
                interface = endpoint.interface,
                "connected"
            );
        }
        state.endpoints.insert(endpoint.id, endpoint);
    }

    /// Makes the devices of new endpoints and sets the routes; on failure none of the devices is left.
    ///
    /// A container that had no network of ours may have a default route of its own, which ours replaces.
    /// Nobody could restore it, so routes come when no other device can fail any more: with the last device,
    /// or behind all of them.
    async fn make_devices(&self, sandbox: &Sandbox, endpoints: &[Endpoint]) -> Result<(), ControlError> {
        let target = target(&sandbox.namespace);
        let (before, after) = (
            self.routes_with(sandbox.id, &[]),
            self.routes_with(sandbox.id, endpoints),
        );
        let last = endpoints.last().map(|endpoint| &endpoint.interface);
        let earlier = endpoints.iter().map(|endpoint| &endpoint.interface);
        let routes_follow = earlier
            .filter(|name| Some(*name) != last)
            .any(|name| after.iter().any(|route| route.interface == *name));
        let brought: &[DefaultRoute] = if routes_follow { &[] } else { &after };
        let mut made: Vec<&Endpoint> = Vec::new();
        let mut outcome = Ok(());
        for endpoint in endpoints {
            let (link, spec) = self.describe(sandbox, endpoint, brought);
            outcome = self.shared.attacher.attach(target.clone(), link, spec).await;
            if outcome.is_err() {
                break;
            }
            made.push(endpoint);
        }
        // Routes that a device has not brought along; and others that no longer hold must go.
        if outcome.is_ok() && (routes_follow || (!before.is_empty() && before != after)) {
            outcome = self.shared.attacher.set_routes(target.clone(), after).await;
        }
        let Err(error) = outcome else { return Ok(()) };
        for endpoint in made {
            if let Err(error) = self
                .shared
                .attacher
                .detach(device(endpoint, Some(target.clone())))
                .await
            {
                tracing::warn!(sandbox = sandbox.name, interface = endpoint.interface, %error, "roll back");
            }
        }
        if !before.is_empty()
            && let Err(error) = self.shared.attacher.set_routes(target, before).await
        {
            tracing::warn!(sandbox = sandbox.name, %error, "roll back of the default routes");
        }
        Err(error.into())
    }

    /// What the attacher and the data plane must know of an endpoint.
    pub(super) fn describe(
        &self,
        sandbox: &Sandbox,
        endpoint: &Endpoint,
        routes: &[DefaultRoute],
    ) -> (LinkConfig, EndpointSpec) {
        let mtu = self.read(|state| {
            state
                .network(endpoint.network)
                .map_or(super::network_plan::DEFAULT_MTU, |network| network.settings.mtu)
        });
        let ours = routes
            .iter()
            .filter(|route| route.interface == endpoint.interface);
        let link = LinkConfig {
            kind: endpoint.kind,
            name: endpoint.interface.clone(),
            mac: endpoint.mac,
            mtu,
            txqueuelen: DEFAULT_TXQUEUELEN,
            addresses: endpoint.addresses().collect(),
            default_gateways: ours.map(|route| route.gateway).collect(),
        };
        let spec = EndpointSpec {
            id: endpoint.id,
            network: endpoint.network,
            // The sandbox's name alone would be ambiguous only among several of its interfaces on one
            // network, of which there are none; the interface is what an engineer looks for next.
            label: format!("{}/{}", sandbox.name, endpoint.interface),
            mac: endpoint.mac,
            addresses: endpoint.addresses().map(|net| net.addr()).collect(),
        };
        (link, spec)
    }

    /// The default routes that a sandbox has with its present endpoints and `more`.
    fn routes_with(&self, sandbox: SandboxId, more: &[Endpoint]) -> Vec<DefaultRoute> {
        self.read(|state| {
            let mut endpoints = state.endpoints_of(sandbox);
            endpoints.extend(
                more.iter()
                    .filter_map(|endpoint| Some((endpoint, state.network(endpoint.network)?))),
            );
            default_routes(&endpoints)
        })
    }

    /// Removes endpoints of a sandbox. All are gone afterwards; what could not be cleaned up is listed.
    pub(super) async fn unplug(
        &self,
        writer: &mut Writer,
        sandbox: &Sandbox,
        endpoints: Vec<Endpoint>,
        container: Container,
    ) -> Result<(), ControlError> {
        self.remove_endpoints(writer, sandbox, endpoints, container, Vec::new())
            .await?
            .outcome()
    }

    /// As [`unplug`](Self::unplug), but what could not be cleaned up is no error. `changes` are stored in
    /// the same step.
    ///
    /// # Errors
    ///
    /// The removal could not be stored; nothing has changed then.
    pub(super) async fn remove_endpoints(
        &self,
        writer: &mut Writer,
        sandbox: &Sandbox,
        endpoints: Vec<Endpoint>,
        container: Container,
        mut changes: Vec<Change>,
    ) -> Result<TornDown, ControlError> {
        let before = self.routes_with(sandbox.id, &[]);
        changes.extend(
            endpoints
                .iter()
                .map(|endpoint| Change::RemoveEndpoint(endpoint.id)),
        );
        self.commit(changes).await?;
        {
            let mut state = self.state();
            for endpoint in &endpoints {
                state.endpoints.remove(&endpoint.id);
            }
        }
        // Before the endpoint that they lead to is gone.
        self.move_ports(writer, sandbox).await;
        let place = match container {
            Container::Alive => Some(target(&sandbox.namespace)),
            Container::Gone => None,
        };
        let mut errors = Vec::new();
        for endpoint in &endpoints {
            if let Err(error) = self.shared.attacher.detach(device(endpoint, place.clone())).await {
                errors.push(format!("{}: {error}", endpoint.interface));
            }
            // Only now: nobody else may get the address while the device could still use it.
            writer.release(endpoint);
            if let Some(network) = self.read(|state| state.network(endpoint.network).cloned()) {
                self.shared.events.attachment("disconnect", &network, sandbox);
                tracing::info!(sandbox = sandbox.name, network = network.name, "disconnected");
            }
        }
        let after = self.routes_with(sandbox.id, &[]);
        // Routes vanish with their device; only a successor must be set.
        if let Some(place) = place
            && !after.is_empty()
            && after != before
            && let Err(error) = self.shared.attacher.set_routes(place, after).await
        {
            errors.push(format!("default routes: {error}"));
        }
        Ok(TornDown(errors))
    }
}

/// Endpoints that are gone; what of them could not be cleaned up.
#[derive(Debug)]
#[must_use]
pub(super) struct TornDown(Vec<String>);

impl TornDown {
    /// Anything that is left is an error.
    pub(super) fn outcome(self) -> Result<(), ControlError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ControlError::Teardown(self.0))
        }
    }
}

/// Whether the container's namespace can still be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Alive,
    Gone,
}

/// The addresses of one network.
#[derive(Debug)]
pub(super) struct Addresses {
    ipv4: Option<AddressPool>,
    ipv6: Option<AddressPool>,
    prefixes: [Option<IpNet>; 2],
}

impl Addresses {
    pub(super) fn of(network: &Network) -> Self {
        let pool = |subnet: &Option<Subnet>| subnet.as_ref().map(AddressPool::new);
        let prefix = |subnet: &Option<Subnet>| subnet.as_ref().map(|subnet| subnet.prefix);
        Self {
            ipv4: pool(&network.ipv4),
            ipv6: pool(&network.ipv6),
            prefixes: [prefix(&network.ipv4), prefix(&network.ipv6)],
        }
    }

    /// Takes one address of each family, the wished ones where there are wishes. On failure none is taken,
    /// and the prefix tells whose address was not to be had.
    fn take(
        &mut self,
        wish: &EndpointRequest,
    ) -> Result<(Option<Ipv4Net>, Option<Ipv6Net>), (AddressError, IpNet)> {
        let ipv4 = take(self.ipv4.as_mut(), self.prefixes[0], wish.ipv4.map(IpAddr::V4))?;
        let ipv6 = match take(self.ipv6.as_mut(), self.prefixes[1], wish.ipv6.map(IpAddr::V6)) {
            Ok(ipv6) => ipv6,
            Err(error) => {
                self.release(ipv4);
                return Err(error);
            }
        };
        let ipv4 = ipv4.and_then(|net| if let IpNet::V4(net) = net { Some(net) } else { None });
        let ipv6 = ipv6.and_then(|net| if let IpNet::V6(net) = net { Some(net) } else { None });
        Ok((ipv4, ipv6))
    }

    /// Takes the addresses of an endpoint that was stored by an earlier daemon.
    pub(super) fn hold(&mut self, endpoint: &Endpoint) -> Result<(), AddressError> {
        for net in endpoint.addresses() {
            let pool = if net.addr().is_ipv4() {
                &mut self.ipv4
            } else {
                &mut self.ipv6
            };
            pool.as_mut().ok_or(AddressError::Outside)?.claim(net.addr())?;
        }
        Ok(())
    }

    fn give_back(&mut self, ipv4: Option<Ipv4Net>, ipv6: Option<Ipv6Net>) {
        self.release(ipv4.map(IpNet::V4));
        self.release(ipv6.map(IpNet::V6));
    }

    fn release(&mut self, net: Option<IpNet>) {
        let Some(address) = net.map(|net| net.addr()) else {
            return;
        };
        let pool = if address.is_ipv4() {
            &mut self.ipv4
        } else {
            &mut self.ipv6
        };
        if let Some(pool) = pool {
            pool.release(address);
        }
    }
}

impl Writer {
    pub(super) fn release(&mut self, endpoint: &Endpoint) {
        if let Some(addresses) = self.addresses.get_mut(&endpoint.network) {
            addresses.give_back(endpoint.ipv4, endpoint.ipv6);
        }
    }
}

/// How the attacher finds a namespace.
pub(super) fn target(namespace: &Namespace) -> NetnsTarget {
    match namespace {
        Namespace::Path { path, device, inode } => NetnsTarget::Known {
            path: path.clone(),
            identity: NetnsIdentity {
                device: *device,
                inode: *inode,
            },
        },
        Namespace::Process { pid, start_time } => NetnsTarget::Process {
            pid: *pid,
            started: *start_time,
        },
    }
}

pub(super) fn device(endpoint: &Endpoint, target: Option<NetnsTarget>) -> Device {
    Device {
        endpoint: endpoint.id,
        network: endpoint.network,
        interface: endpoint.interface.clone(),
        kind: endpoint.kind,
        mac: endpoint.mac,
        target,
    }
}

fn take(
    pool: Option<&mut AddressPool>,
    prefix: Option<IpNet>,
    wish: Option<IpAddr>,
) -> Result<Option<IpNet>, (AddressError, IpNet)> {
    let (Some(pool), Some(prefix)) = (pool, prefix) else {
        return Ok(None);
    };
    let taken = match wish {
        Some(wish) => pool.claim(wish).map(|()| wish),
        None => pool.take_lowest(),
    };
    let address = taken.map_err(|error| (error, prefix))?;
    Ok(IpNet::new(address, prefix.prefix_len()).ok())
}

fn fresh_mac(taken: &BTreeSet<MacAddr>) -> Result<MacAddr, ControlError> {
    loop {
        let mac = random_mac()?;
        if !taken.contains(&mac) {
            return Ok(mac);
        }
    }
}
