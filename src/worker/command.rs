//! What the control plane asks of a worker.

use std::{net::SocketAddr, ops::RangeInclusive, sync::Arc};

use ipnet::IpNet;
use tokio::sync::oneshot;
use vswitch_proxy::publish::{Connections, Listener, MappingId, MappingSpec, MappingView, Routing};

use crate::{
    dataplane::{
        ConnFilter, ConnRow, DataPlaneError, EndpointSpec, FdbRow, FlowRow, Forwarding, NetworkSpec, PortRow,
        TablePlace, TranslationView, UplinkView, Visit, Watcher,
    },
    io::{device::Device, packet::PacketSocket},
    model::{EndpointId, NetworkId},
    uplink::DeviceUplink,
};

/// Where the answer to a command goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, DataPlaneError>>;

/// A request to the worker that owns the network.
#[derive(Debug)]
pub(crate) enum Command {
    AddEndpoint {
        spec: EndpointSpec,
        device: Device,
        reply: Reply<()>,
    },
    AddNetwork {
        spec: NetworkSpec,
        reply: Reply<()>,
    },
    AddUplink {
        uplink: DeviceUplink,
        mtu: u16,
        socket: PacketSocket,
        reply: Reply<()>,
    },
    ConnectionEvents {
        watcher: Watcher,
        reply: Reply<()>,
    },
    /// Visits a part of the tables of connections; answers with where to go on.
    Connections {
        visit: Visit,
        filter: Arc<ConnFilter>,
        from: TablePlace,
        reply: Reply<(Vec<ConnRow>, Option<TablePlace>)>,
    },
    Fdb {
        network: Option<NetworkId>,
        reply: Reply<Vec<FdbRow>>,
    },
    Flows {
        network: Option<NetworkId>,
        reply: Reply<Vec<FlowRow>>,
    },
    Mappings {
        network: Option<NetworkId>,
        reply: Reply<Vec<MappingView>>,
    },
    Ports {
        network: Option<NetworkId>,
        reply: Reply<Vec<PortRow>>,
    },
    Publish {
        at: (NetworkId, EndpointId),
        spec: MappingSpec,
        listeners: Vec<Listener>,
        forwarding: Option<Forwarding>,
        reply: Reply<()>,
    },
    /// Answers with the device, so that closing it (which waits for the kernel) is not the packet
    /// loop's work.
    RemoveEndpoint {
        network: NetworkId,
        endpoint: EndpointId,
        reply: Reply<Device>,
    },
    RemoveNetwork {
        id: NetworkId,
        reply: Reply<Vec<Device>>,
    },
    Reroute {
        network: NetworkId,
        mapping: MappingId,
        routing: Routing,
        reply: Reply<()>,
    },
    /// The prefixes of all networks of this daemon: what a gateway refuses as prohibited rather than
    /// as unknown.
    SetNeighbours {
        prefixes: Arc<[IpNet]>,
    },
    /// The host's resolvers, in order of preference.
    SetResolvers {
        resolvers: Arc<[SocketAddr]>,
    },
    Split {
        network: NetworkId,
        mapping: MappingId,
        part: (RangeInclusive<u16>, MappingId),
        reply: Reply<()>,
    },
    Stop,
    Translations {
        reply: Reply<Vec<TranslationView>>,
    },
    Unpublish {
        network: NetworkId,
        mapping: MappingId,
        connections: Connections,
        reply: Reply<Vec<Listener>>,
    },
    Uplink {
        reply: Reply<Option<UplinkView>>,
    },
}
