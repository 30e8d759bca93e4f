//! Why a command was refused, in Docker's words where Docker has some (28.x).

use std::{fmt, io};

use ipnet::IpNet;

use super::{attacher::AttachFailure, ipam::AddressError, ports::PortError, store::StoreError};
use crate::{
    dataplane::DataPlaneError,
    model::{EndpointId, NetworkId, SandboxId},
};

/// Why a command of the control plane failed. Nothing of it has been done then, except where the variant
/// says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A given address is taken.
    #[error("Address already in use")]
    AddressInUse,
    /// The network has no address left.
    #[error("no available {family} addresses on this network's address pools: {network} ({id})")]
    AddressesExhausted {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The network's name.
        network: String,
        /// Its id.
        id: NetworkId,
    },
    /// The sandbox is on the network already.
    #[error("endpoint with name {sandbox} already exists in network {network}")]
    AlreadyConnected {
        /// The sandbox's name.
        sandbox: String,
        /// The network's name.
        network: String,
    },
    /// The term fits several networks; give a longer one.
    #[error("{}", ambiguous(.term, *.count, .found, .verb))]
    AmbiguousNetwork {
        /// What the caller wrote.
        term: String,
        /// How many networks it fits.
        count: usize,
        /// `name` or `ID prefix`.
        found: &'static str,
        /// Docker words it differently for looking and for changing.
        verb: Verb,
    },
    /// The term fits several sandboxes; give a longer one.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousSandbox(String),
    /// The device could not be made or changed.
    #[error("failed to set up container networking: {0}")]
    Attach(#[from] AttachFailure),
    /// Networks do not share configuration here.
    #[error("configuration network {0:?} does not exist")]
    ConfigNetwork(String),
    /// Nothing can be connected to the host's network.
    #[error("cannot connect container to host network - container must be created in host network mode")]
    ConnectHost,
    /// `none` is the absence of networks.
    #[error(
        "container cannot be connected to multiple networks with one of the networks in private (none) mode"
    )]
    ConnectNone,
    /// A worker refused.
    #[error("{0}")]
    DataPlane(#[from] DataPlaneError),
    /// A driver option has a bad value.
    #[error("failed to parse {label} value: {value} ({why})")]
    DriverOption {
        /// The option's key.
        label: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The endpoint that a forced disconnect looked for.
    #[error("endpoint {0} not found")]
    EndpointNotFound(String),
    /// The namespace belongs to somebody else than the caller.
    #[error("network namespace {} belongs to user {owner}; only that user and root may attach it", path.display())]
    ForeignNamespace {
        /// The namespace's file.
        path: std::path::PathBuf,
        /// Its owner's uid.
        owner: u32,
    },
    /// The process belongs to somebody else than the caller.
    #[error("process {pid} belongs to user {owner}; only that user and root may attach or signal it")]
    ForeignProcess {
        /// The process.
        pid: u32,
        /// Its owner's uid.
        owner: u32,
    },
    /// The container has a device of this name, from us.
    #[error("container {sandbox} already has an interface named {interface}")]
    InterfaceInUse {
        /// The sandbox's name.
        sandbox: String,
        /// The device's name.
        interface: String,
    },
    /// The request contradicts itself or misses something.
    #[error("{0}")]
    Invalid(String),
    /// The endpoint's settings are wrong.
    #[error("invalid endpoint settings:\n{0}")]
    InvalidEndpoint(Problems),
    /// The network's configuration is wrong.
    #[error("invalid network config:\n{0}")]
    InvalidNetwork(Problems),
    /// Another endpoint of the network has this Ethernet address.
    #[error("MAC address {mac} is already in use on network {network}")]
    MacInUse {
        /// The address.
        mac: String,
        /// The network's name.
        network: String,
    },
    /// The bridge driver takes one subnet of a family.
    #[error("bridge driver doesn't support multiple subnets")]
    MultipleSubnets,
    /// Endpoints are on the network; disconnect them first.
    #[error("error while removing network: network {name} has active endpoints ({})", list(.endpoints))]
    NetworkActive {
        /// The network's name.
        name: String,
        /// Names of the sandboxes with the ids of their endpoints.
        endpoints: Vec<(String, EndpointId)>,
    },
    /// There is a network of this name.
    #[error("network with name {0} already exists")]
    NetworkExists(String),
    /// No network fits the term.
    #[error("network {0} not found")]
    NetworkNotFound(String),
    /// The sandbox was attached by its namespace's path, so there is no process to signal.
    #[error("container {0} was attached by the path of its namespace: end it where it was started")]
    NoProcess(String),
    /// The sandbox is not on the network.
    #[error("container {sandbox} is not connected to network {network}")]
    NotConnected {
        /// The sandbox.
        sandbox: SandboxId,
        /// The network's name.
        network: String,
    },
    /// No port that is published fits what was to be taken back.
    #[error("no public port '{port}' published for {sandbox}; {published}")]
    NotPublished {
        /// What was to be taken back, as it was asked.
        port: String,
        /// The sandbox's name.
        sandbox: String,
        /// A sentence on what is published.
        published: String,
    },
    /// The sandbox has ended.
    #[error("container {0} is not running")]
    NotRunning(SandboxId),
    /// The subnet shares addresses with another network's.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    Overlap,
    /// A subnet has addresses of the link that the device uplink is on.
    #[error(
        "invalid subnet {subnet}: hosts on the link of the device uplink have addresses of {outside}, and containers could \
         not tell them from their own neighbours: choose another subnet, or -o vswitch.uplink=sockets"
    )]
    UplinkOverlap {
        /// What was asked for.
        subnet: IpNet,
        /// The uplink's prefix.
        outside: IpNet,
    },
    /// No subnet is left.
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    /// The name belongs to a network that the daemon makes.
    #[error("operation is not permitted on predefined {0} network ")]
    PredefinedName(String),
    /// The daemon made the network and keeps it.
    #[error("{0} is a pre-defined network and cannot be removed")]
    PredefinedNetwork(String),
    /// A port could not be published.
    #[error(
        "driver failed programming external connectivity on endpoint {sandbox}{}: {error}",
        .endpoint.map_or_else(String::new, |id| format!(" ({id})"))
    )]
    Publish {
        /// The sandbox's name.
        sandbox: String,
        /// The endpoint that the port would have led to; `None` if there is none yet.
        endpoint: Option<EndpointId>,
        /// Why not.
        error: Box<PublishFailure>,
    },
    /// There is a sandbox of this name.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove \
         (or rename) that container to be able to reuse that name."
    )]
    SandboxExists {
        /// The name.
        name: String,
        /// Whose it is.
        id: SandboxId,
    },
    /// No sandbox fits the term.
    #[error("No such container: {0}")]
    SandboxNotFound(String),
    /// The daemon is ending.
    #[error("vswitchd is shutting down")]
    ShuttingDown,
    /// The state could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are no swarms here.
    #[error("cannot create a swarm scoped network when swarm is not active")]
    SwarmScope,
    /// The kernel failed us.
    #[error("{operation}: {error}")]
    System {
        /// What was tried on what.
        operation: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// Everything was taken down as far as possible; the list says what did not work.
    #[error("removed, but not everything could be cleaned up: {}", .0.join("; "))]
    Teardown(Vec<String>),
    /// There is no such driver.
    #[error("plugin {0:?} not found")]
    UnknownDriver(String),
    /// Docker can, we cannot.
    #[error("{0} is not supported by vswitchd")]
    Unsupported(String),
}

impl ControlError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Attach(failure) => failure.class(),
            Self::AmbiguousNetwork { .. }
            | Self::AmbiguousSandbox(_)
            | Self::ConnectHost
            | Self::ConnectNone
            | Self::DriverOption { .. }
            | Self::Invalid(_)
            | Self::InvalidEndpoint(_)
            | Self::InvalidNetwork(_)
            | Self::PoolsExhausted => ErrorClass::Invalid,
            Self::AddressInUse
            | Self::AlreadyConnected { .. }
            | Self::ForeignNamespace { .. }
            | Self::ForeignProcess { .. }
            | Self::InterfaceInUse { .. }
            | Self::MacInUse { .. }
            | Self::MultipleSubnets
            | Self::NetworkActive { .. }
            | Self::Overlap
            | Self::UplinkOverlap { .. }
            | Self::PredefinedName(_)
            | Self::PredefinedNetwork(_)
            | Self::SwarmScope => ErrorClass::Forbidden,
            Self::ConfigNetwork(_)
            | Self::EndpointNotFound(_)
            | Self::NetworkNotFound(_)
            | Self::NotPublished { .. }
            | Self::SandboxNotFound(_)
            | Self::UnknownDriver(_) => ErrorClass::NotFound,
            Self::NetworkExists(_)
            | Self::NoProcess(_)
            | Self::NotRunning(_)
            | Self::SandboxExists { .. } => ErrorClass::Conflict,
            Self::Unsupported(_) => ErrorClass::Unsupported,
            Self::ShuttingDown => ErrorClass::Unavailable,
            // Untyped in Docker, hence 500 there and here.
            Self::AddressesExhausted { .. }
            | Self::DataPlane(_)
            | Self::NotConnected { .. }
            | Self::Publish { .. }
            | Self::Store(_)
            | Self::System { .. }
            | Self::Teardown(_) => ErrorClass::System,
        }
    }

    pub(super) fn system(operation: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self::System {
            operation: operation.into(),
            error: error.into(),
        }
    }

    pub(super) fn address(
        error: AddressError,
        family: &'static str,
        network: &crate::model::Network,
    ) -> Self {
        match error {
            AddressError::Exhausted => Self::AddressesExhausted {
                family,
                network: network.name.clone(),
                id: network.id,
            },
            AddressError::Outside | AddressError::Taken => Self::AddressInUse,
        }
    }
}

/// Why a port could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishFailure {
    /// The host's port is not to be had.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The packet loop did not take it.
    #[error(transparent)]
    Serve(#[from] AttachFailure),
}

/// Kinds of failures; the API has a status for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// It collides with something that exists.
    Conflict,
    /// It is understood but not allowed.
    Forbidden,
    /// The request is wrong in itself.
    Invalid,
    /// The object does not exist.
    NotFound,
    /// Something below failed.
    System,
    /// The daemon is ending.
    Unavailable,
    /// Docker can, we cannot.
    Unsupported,
}

/// What a term was resolved for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// To change the object.
    Change,
    /// To look at it.
    Inspect,
}

/// Problems that were found together, printed as moby's `multierror` does: one as it is, several as a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return f.write_str(only);
        }
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}* {problem}")?;
        }
        Ok(())
    }
}

fn ambiguous(term: &str, count: usize, found: &str, verb: &Verb) -> String {
    match verb {
        Verb::Change => format!("network {term} is ambiguous ({count} matches found based on {found})"),
        Verb::Inspect => format!("{count} matches found based on {found}: network {term} is ambiguous"),
    }
}

fn list(endpoints: &[(String, EndpointId)]) -> String {
    let texts = endpoints
        .iter()
        .map(|(name, id)| format!("name:{name:?} id:{:?}", id.short()));
    texts.collect::<Vec<_>>().join(", ")
}
