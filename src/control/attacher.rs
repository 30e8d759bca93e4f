//! How endpoints come into being: a device in a container, a port of a switch.

use std::{ops::RangeInclusive, os::fd::OwnedFd, pin::Pin};

use vswitch_proxy::publish::{Connections, Listener, MappingId, MappingSpec, Routing};
use vswitch_wire::MacAddr;

use super::error::ErrorClass;
use crate::{
    dataplane::{DataPlane, DataPlaneError, DeviceFate, EndpointSpec, Forwarding},
    io::{
        attach::{AttachClient, AttachError, AttachRequest, DefaultRoute, LinkConfig, SocketCounts},
        netns::{NetnsError, NetnsTarget},
    },
    model::{EndpointId, LinkKind, NetworkId},
};

/// Makes and removes what an endpoint consists of.
///
/// The control plane calls this with everything validated and stored; one call at a time for each sandbox,
/// and for different sandboxes only while it takes over what an earlier daemon left.
pub trait Attacher: Send + Sync + 'static {
    /// Creates the device in the container, or takes over the one that an earlier daemon left there, and
    /// connects it to the network's switch. When this fails, neither is there.
    fn attach(&self, target: NetnsTarget, link: LinkConfig, spec: EndpointSpec) -> Pending<'_>;

    /// Removes the port and its device. What is missing already is no error.
    fn detach(&self, device: Device) -> Pending<'_>;

    /// Makes these default routes of the container the only ones.
    fn set_routes(&self, target: NetnsTarget, routes: Vec<DefaultRoute>) -> Pending<'_>;

    /// Takes a mapping into service at an endpoint, and ports of the device uplink that lead there, too. When this fails,
    /// its listeners are closed.
    fn publish(
        &self,
        at: (NetworkId, EndpointId),
        spec: MappingSpec,
        listeners: Vec<Listener>,
        forwarding: Option<Forwarding>,
    ) -> Pending<'_>;

    /// Takes a mapping out of service; gives its listeners.
    fn unpublish(
        &self,
        network: NetworkId,
        mapping: MappingId,
        connections: Connections,
    ) -> Pending<'_, Vec<Listener>>;

    /// Changes how clients of a mapping are shown.
    fn reroute(&self, network: NetworkId, mapping: MappingId, routing: Routing) -> Pending<'_>;

    /// Makes some of the container's ports of a mapping one of their own, called `apart`.
    fn split(
        &self,
        network: NetworkId,
        mapping: MappingId,
        ports: RangeInclusive<u16>,
        apart: MappingId,
    ) -> Pending<'_>;

    /// Makes sockets inside the container, in the order of the counts' fields.
    fn make_sockets(&self, target: NetnsTarget, counts: SocketCounts) -> Pending<'_, Vec<OwnedFd>>;
}

/// An operation that takes some milliseconds.
pub type Pending<'a, T = ()> = Pin<Box<dyn Future<Output = Result<T, AttachFailure>> + Send + 'a>>;

/// What must be known of an endpoint to remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its network.
    pub network: NetworkId,
    /// Name of the device.
    pub interface: String,
    /// What it is.
    pub kind: LinkKind,
    /// The device's Ethernet address.
    pub mac: MacAddr,
    /// Where the device is; `None` when the container has gone and taken it along.
    pub target: Option<NetnsTarget>,
}

/// Why a device could not be made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum AttachFailure {
    /// The container's namespace, or the kernel, did not let us.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The packet loop did not take the port.
    #[error(transparent)]
    DataPlane(#[from] DataPlaneError),
    /// The blocking call did not end; a bug of ours.
    #[error("the attach call failed: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl AttachFailure {
    /// What kind of failure it is: the caller's choice of name or namespace, or the system's refusal.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Attach(AttachError::Busy { .. } | AttachError::NameTaken { .. }) => ErrorClass::Conflict,
            Self::Attach(AttachError::Restricted { .. } | AttachError::TunDenied) => ErrorClass::Forbidden,
            Self::Attach(AttachError::Namespace(error)) => namespace_class(error),
            Self::Attach(AttachError::HostNamespace | AttachError::Invalid(_)) => ErrorClass::Invalid,
            Self::Attach(
                AttachError::Deadline { .. }
                | AttachError::Failed { .. }
                | AttachError::NoTunDevice
                | AttachError::NoVeth
                | AttachError::Process { .. },
            )
            | Self::DataPlane(_)
            | Self::Interrupted(_) => ErrorClass::System,
        }
    }
}

fn namespace_class(error: &NetnsError) -> ErrorClass {
    match error {
        NetnsError::Failed { .. } => ErrorClass::System,
        NetnsError::Foreign { .. } => ErrorClass::Forbidden,
        NetnsError::Gone { .. } => ErrorClass::NotFound,
        NetnsError::NotANamespace { .. } => ErrorClass::Invalid,
    }
}

/// The real one: TAPs and veths made by attach processes, served by the packet loops.
#[derive(Debug, Clone)]
pub struct TapAttacher {
    client: AttachClient,
    plane: DataPlane,
}

impl TapAttacher {
    /// Attaches with `client` and connects to `plane`.
    pub fn new(client: AttachClient, plane: DataPlane) -> Self {
        Self { client, plane }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(AttachClient) -> Result<T, AttachError> + Send + 'static,
    ) -> Result<T, AttachFailure> {
        let client = self.client.clone();
        Ok(tokio::task::spawn_blocking(move || call(client)).await??)
    }

    async fn connect(
        &self,
        target: NetnsTarget,
        link: LinkConfig,
        spec: EndpointSpec,
    ) -> Result<(), AttachFailure> {
        let (name, mac) = (link.name.clone(), link.mac);
        let request = AttachRequest {
            target: target.clone(),
            link,
        };
        let attached = self.blocking(move |client| client.attach(&request)).await?;
        let Err(error) = self.plane.add_endpoint(spec, attached.device).await else {
            return Ok(());
        };
        // The device is persistent by now; without a port it must not stay.
        if let Err(left) = self
            .blocking(move |client| client.detach(&target, &name, mac))
            .await
        {
            tracing::warn!(error = %left, "a device without a port stays in the container");
        }
        Err(error.into())
    }

    async fn remove(&self, device: Device) -> Result<(), AttachFailure> {
        match self
            .plane
            .remove_endpoint(device.network, device.endpoint, DeviceFate::Delete)
            .await
        {
            Ok(()) if device.kind == LinkKind::Tap => return Ok(()),
            // The kernel deletes the veth of a closed socket in its own time, and until then its name is taken.
            Ok(()) => {}
            // Not served, for example because taking over failed; the device may be there still.
            Err(DataPlaneError::UnknownEndpoint(_) | DataPlaneError::UnknownNetwork(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(target) = device.target else {
            return Ok(());
        };
        let detach = move |client: AttachClient| client.detach(&target, &device.interface, device.mac);
        self.blocking(detach).await.map(drop)
    }
}

impl Attacher for TapAttacher {
    fn attach(&self, target: NetnsTarget, link: LinkConfig, spec: EndpointSpec) -> Pending<'_> {
        Box::pin(self.connect(target, link, spec))
    }

    fn detach(&self, device: Device) -> Pending<'_> {
        Box::pin(self.remove(device))
    }

    fn set_routes(&self, target: NetnsTarget, routes: Vec<DefaultRoute>) -> Pending<'_> {
        Box::pin(self.blocking(move |client| client.set_default_routes(&target, &routes)))
    }

    fn publish(
        &self,
        at: (NetworkId, EndpointId),
        spec: MappingSpec,
        listeners: Vec<Listener>,
        forwarding: Option<Forwarding>,
    ) -> Pending<'_> {
        Box::pin(async move { Ok(self.plane.publish(at, spec, listeners, forwarding).await?) })
    }

    fn unpublish(
        &self,
        network: NetworkId,
        mapping: MappingId,
        connections: Connections,
    ) -> Pending<'_, Vec<Listener>> {
        Box::pin(async move { Ok(self.plane.unpublish(network, mapping, connections).await?) })
    }

    fn reroute(&self, network: NetworkId, mapping: MappingId, routing: Routing) -> Pending<'_> {
        Box::pin(async move { Ok(self.plane.reroute(network, mapping, routing).await?) })
    }

    fn split(
        &self,
        network: NetworkId,
        mapping: MappingId,
        ports: RangeInclusive<u16>,
        apart: MappingId,
    ) -> Pending<'_> {
        Box::pin(async move { Ok(self.plane.split(network, mapping, ports, apart).await?) })
    }

    fn make_sockets(&self, target: NetnsTarget, counts: SocketCounts) -> Pending<'_, Vec<OwnedFd>> {
        Box::pin(self.blocking(move |client| client.sockets(&target, counts)))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_callers_mistakes_are_told_from_ours() {
        let name = || "eth0".to_owned();
        let path = || "/run/netns/a".into();
        let failed = || io::Error::from_raw_os_error(libc::EPERM);
        let cases = [
            (AttachError::Busy { name: name() }, ErrorClass::Conflict),
            (
                AttachError::NameTaken {
                    name: name(),
                    found: "no TAP".into(),
                },
                ErrorClass::Conflict,
            ),
            (NetnsError::Gone { path: path() }.into(), ErrorClass::NotFound),
            (
                NetnsError::Foreign {
                    path: path(),
                    owner: None,
                }
                .into(),
                ErrorClass::Forbidden,
            ),
            (
                NetnsError::NotANamespace { path: path() }.into(),
                ErrorClass::Invalid,
            ),
            (AttachError::TunDenied, ErrorClass::Forbidden),
            (AttachError::Invalid("MTU".into()), ErrorClass::Invalid),
            (AttachError::HostNamespace, ErrorClass::Invalid),
            (AttachError::NoTunDevice, ErrorClass::System),
            (
                AttachError::Failed {
                    operation: "set MAC".into(),
                    source: failed(),
                },
                ErrorClass::System,
            ),
        ];
        for (error, class) in cases {
            let text = error.to_string();
            assert_eq!(AttachFailure::from(error).class(), class, "{text}");
        }
    }
}
