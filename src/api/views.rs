//! Our objects in Docker's shapes.

use std::{collections::BTreeMap, fs, net::IpAddr, time::Duration};

use ipnet::IpNet;

use super::types::{
    ConfigReference, Container, ContainerConfig, ContainerState, ContainerSummary, EndpointIpam,
    EndpointSettings, HostConfig, Ipam, IpamConfig, Network, NetworkContainer, NetworkSettings, Nothing,
    Port, PortBinding, PortBindings, SandboxEndpoint, StringMap, SummaryNetworks,
};
use crate::{
    control::{Publication, State, route_gateway},
    io::netns::Liveness,
    model::{self, Endpoint, Namespace, Origin, PortMapping, Sandbox, Subnet, Timestamp},
};

/// A network without its endpoints.
pub(super) fn network(network: &model::Network) -> Network {
    Network {
        name: network.name.clone(),
        id: network.id.to_string(),
        created: network.created.to_string(),
        scope: "local".into(),
        driver: network.driver.name().into(),
        enable_ipv4: network.ipv4.is_some() || network.driver != model::Driver::Bridge,
        enable_ipv6: network.ipv6.is_some(),
        ipam: Ipam {
            driver: "default".into(),
            options: network.ipam_options.clone(),
            config: network.subnets().map(ipam_config).collect(),
        },
        internal: network.internal,
        attachable: network.attachable,
        ingress: false,
        config_from: ConfigReference::default(),
        config_only: false,
        containers: BTreeMap::new(),
        options: network.options.clone(),
        labels: network.labels.clone(),
    }
}

/// A network with its endpoints.
pub(super) fn network_with_endpoints(state: &State, described: &model::Network) -> Network {
    let containers = state.endpoints_on(described.id).map(|endpoint| {
        let sandbox = state.sandbox(endpoint.sandbox);
        let container = NetworkContainer {
            name: sandbox.map_or_else(String::new, |sandbox| sandbox.name.clone()),
            endpoint_id: endpoint.id.to_string(),
            mac_address: endpoint.mac.to_string(),
            ipv4_address: text(endpoint.ipv4),
            ipv6_address: text(endpoint.ipv6),
        };
        (endpoint.sandbox.to_string(), container)
    });
    Network {
        containers: containers.collect(),
        ..network(described)
    }
}

/// What the creator wrote; where nothing was written, what was chosen.
fn ipam_config(subnet: &Subnet) -> IpamConfig {
    // A gateway that was chosen inside a requested subnet is not shown, as in Docker.
    let shows_gateway = subnet.origin == Origin::Automatic || subnet.gateway_origin == Origin::Requested;
    let auxiliary = subnet
        .auxiliary
        .iter()
        .map(|(name, address)| (name.clone(), address.to_string()));
    IpamConfig {
        subnet: subnet.prefix.to_string(),
        ip_range: text(subnet.range),
        gateway: text(subnet.gateway.filter(|_| shows_gateway)),
        auxiliary_addresses: auxiliary.collect(),
    }
}

/// A sandbox in a list; its [`command`] is left empty.
pub(super) fn summary(state: &State, sandbox: &Sandbox, now: Timestamp) -> ContainerSummary {
    let networks = state
        .endpoints_of(sandbox.id)
        .into_iter()
        .map(|(endpoint, network)| {
            // Lists say nothing about names and options.
            let settings = EndpointSettings {
                aliases: None,
                driver_opts: None,
                dns_names: None,
                ..endpoint_settings(sandbox, endpoint, network)
            };
            (network.name.clone(), settings)
        });
    let (status, words) = match sandbox.finished {
        None => ("running", format!("Up {}", in_words(now.since(sandbox.created)))),
        Some(finished) => ("exited", format!("Exited {} ago", in_words(now.since(finished)))),
    };
    ContainerSummary {
        id: sandbox.id.to_string(),
        names: vec![format!("/{}", sandbox.name)],
        image: String::new(),
        image_id: String::new(),
        command: String::new(),
        created: sandbox.created.seconds(),
        ports: summary_ports(state.publications_of(sandbox.id)),
        labels: StringMap::new(),
        state: status.into(),
        status: words,
        host_config: host_config(state, sandbox),
        network_settings: SummaryNetworks {
            networks: networks.collect(),
        },
        mounts: Vec::new(),
        pid: process(sandbox).map_or(0, |(pid, _)| pid),
    }
}

/// A sandbox by itself; its [`command`] is left empty.
pub(super) fn container(state: &State, sandbox: &Sandbox) -> Container {
    let key = match &sandbox.namespace {
        Namespace::Path { path, .. } => path.display().to_string(),
        Namespace::Process { pid, .. } => format!("/proc/{pid}/ns/net"),
    };
    let running = sandbox.finished.is_none();
    Container {
        id: sandbox.id.to_string(),
        created: sandbox.created.to_string(),
        name: format!("/{}", sandbox.name),
        path: String::new(),
        args: Vec::new(),
        state: ContainerState {
            status: if running { "running" } else { "exited" }.into(),
            running,
            pid: process(sandbox).map_or(0, |(pid, _)| pid),
            start_ticks: process(sandbox).map(|(_, start_time)| start_time),
            started_at: sandbox.created.to_string(),
            // Go's zero time.
            finished_at: sandbox
                .finished
                .map_or_else(|| "0001-01-01T00:00:00Z".into(), |at| at.to_string()),
        },
        image: String::new(),
        host_config: HostConfig {
            port_bindings: Some(wished_ports(&sandbox.ports)),
            ..host_config(state, sandbox)
        },
        config: ContainerConfig {
            hostname: sandbox.hostname.clone(),
            exposed_ports: exposed_ports(&sandbox.ports),
            image: String::new(),
            labels: StringMap::new(),
        },
        network_settings: network_settings(state, sandbox, key),
    }
}

/// One object for each address and port of the host.
fn summary_ports(publications: &[Publication]) -> Vec<Port> {
    let mut ports = Vec::new();
    for Publication {
        mapping, addresses, ..
    } in publications
    {
        for ip in addresses {
            ports.extend(pairs(mapping).map(|(host_port, container_port)| Port {
                ip: Some(ip.to_string()),
                private_port: container_port,
                public_port: Some(host_port),
                transport: mapping.protocol.to_string(),
            }));
        }
    }
    ports
}

/// Where the container's ports are, as far as they are in service.
fn bound_ports(publications: &[Publication]) -> PortBindings {
    let mut bound = PortBindings::new();
    for Publication {
        mapping, addresses, ..
    } in publications
    {
        for (host_port, container_port) in pairs(mapping).filter(|_| !addresses.is_empty()) {
            let places = bound
                .entry(format!("{container_port}/{}", mapping.protocol))
                .or_default()
                .get_or_insert_default();
            places.extend(addresses.iter().map(|ip| PortBinding {
                host_ip: ip.to_string(),
                host_port: host_port.to_string(),
            }));
        }
    }
    bound
}

/// What was asked for, in service or not; a port that was chosen is shown as if it had been asked for.
fn wished_ports(mappings: &[PortMapping]) -> PortBindings {
    let mut wished = PortBindings::new();
    for mapping in mappings {
        for (host_port, container_port) in pairs(mapping) {
            let places = wished
                .entry(format!("{container_port}/{}", mapping.protocol))
                .or_default()
                .get_or_insert_default();
            places.push(PortBinding {
                host_ip: text(mapping.host_ip),
                host_port: host_port.to_string(),
            });
        }
    }
    wished
}

fn exposed_ports(mappings: &[PortMapping]) -> BTreeMap<String, Nothing> {
    let ports = mappings.iter().flat_map(|mapping| {
        pairs(mapping).map(|(_, container_port)| format!("{container_port}/{}", mapping.protocol))
    });
    ports.map(|port| (port, Nothing {})).collect()
}

/// Each port of the host with the container's that it leads to.
fn pairs(mapping: &PortMapping) -> impl Iterator<Item = (u16, u16)> + use<> {
    let (host, container) = (mapping.host_port, mapping.container_port);
    (0..mapping.count).map(move |offset| (host.saturating_add(offset), container.saturating_add(offset)))
}

/// Id and start time of the sandbox's process while it lives.
fn process(sandbox: &Sandbox) -> Option<(u32, u64)> {
    match sandbox.namespace {
        Namespace::Process { pid, start_time } if sandbox.finished.is_none() => Some((pid, start_time)),
        Namespace::Path { .. } | Namespace::Process { .. } => None,
    }
}

fn network_settings(state: &State, sandbox: &Sandbox, key: String) -> NetworkSettings {
    let mut settings = NetworkSettings {
        sandbox_id: sandbox.id.to_string(),
        sandbox_key: key,
        ports: bound_ports(state.publications_of(sandbox.id)),
        ..NetworkSettings::default()
    };
    for (endpoint, network) in state.endpoints_of(sandbox.id) {
        let one = endpoint_settings(sandbox, endpoint, network);
        if network.name == "bridge" {
            settings = NetworkSettings {
                endpoint_id: one.endpoint_id.clone(),
                gateway: one.gateway.clone(),
                global_ipv6_address: one.global_ipv6_address.clone(),
                global_ipv6_prefix_len: one.global_ipv6_prefix_len,
                ip_address: one.ip_address.clone(),
                ip_prefix_len: one.ip_prefix_len,
                ipv6_gateway: one.ipv6_gateway.clone(),
                mac_address: one.mac_address.clone(),
                ..settings
            };
        }
        settings.networks.insert(network.name.clone(), one);
    }
    settings
}

fn endpoint_settings(sandbox: &Sandbox, endpoint: &Endpoint, network: &model::Network) -> EndpointSettings {
    let request = &endpoint.request;
    let wished = EndpointIpam {
        ipv4_address: text(request.ipv4),
        ipv6_address: text(request.ipv6),
        link_local_ips: Vec::new(),
    };
    // An internal network has no way out, so no gateway is shown.
    let gateway = |subnet: &Option<Subnet>| -> Option<IpAddr> {
        subnet
            .as_ref()
            .filter(|_| !network.internal)
            .and_then(route_gateway)
    };
    // What is no TAP is shown, whoever chose it.
    let mut options = request.options.clone();
    if endpoint.kind != model::LinkKind::default() {
        options.insert(model::LinkKind::OPTION.to_owned(), endpoint.kind.to_string());
    }
    EndpointSettings {
        ipam_config: (wished != EndpointIpam::default()).then_some(wished),
        links: None,
        aliases: (!request.aliases.is_empty()).then(|| request.aliases.clone()),
        mac_address: endpoint.mac.to_string(),
        driver_opts: (!options.is_empty()).then_some(options),
        network_id: network.id.to_string(),
        endpoint_id: endpoint.id.to_string(),
        gateway: text(endpoint.ipv4.and(gateway(&network.ipv4))),
        ip_address: text(endpoint.ipv4.map(|net| net.addr())),
        ip_prefix_len: endpoint.ipv4.map_or(0, |net| net.prefix_len()),
        ipv6_gateway: text(endpoint.ipv6.and(gateway(&network.ipv6))),
        global_ipv6_address: text(endpoint.ipv6.map(|net| net.addr())),
        global_ipv6_prefix_len: endpoint.ipv6.map_or(0, |net| net.prefix_len()),
        // Names are resolved on user-defined networks only.
        dns_names: (!network.is_predefined()).then(|| dns_names(sandbox, endpoint)),
    }
}

/// Container name, aliases, short id and hostname, each once.
fn dns_names(sandbox: &Sandbox, endpoint: &Endpoint) -> Vec<String> {
    let mut names = vec![sandbox.name.clone()];
    let further = endpoint
        .request
        .aliases
        .iter()
        .cloned()
        .chain([sandbox.id.short(), sandbox.hostname.clone()]);
    for name in further {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// An endpoint in our own shape.
pub(super) fn sandbox_endpoint(endpoint: &Endpoint, network: &model::Network) -> SandboxEndpoint {
    SandboxEndpoint {
        endpoint_id: endpoint.id.to_string(),
        network: network.name.clone(),
        interface: endpoint.interface.clone(),
        kind: endpoint.kind,
        mac_address: endpoint.mac.to_string(),
        ipv4_address: text(endpoint.ipv4),
        ipv6_address: text(endpoint.ipv6),
    }
}

/// The gateways, which are resolvers too, of the first network that has a way out; IPv4 first.
pub(super) fn name_servers(endpoints: &[(&Endpoint, &model::Network)]) -> Vec<IpAddr> {
    let outside = endpoints.iter().filter(|(_, network)| !network.internal);
    outside
        .map(|(_, network)| network.gateways().iter().map(IpNet::addr).collect::<Vec<_>>())
        .find(|gateways| !gateways.is_empty())
        .unwrap_or_default()
}

fn host_config(state: &State, sandbox: &Sandbox) -> HostConfig {
    let endpoints = state.endpoints_of(sandbox.id);
    let network_mode = endpoints
        .first()
        .map_or_else(|| "none".into(), |(_, network)| network.name.clone());
    HostConfig {
        network_mode,
        auto_remove: sandbox.auto_remove,
        port_bindings: None,
    }
}

/// The process's command line, or the namespace's path; empty when the process has ended.
///
/// Blocks as long as somebody holds the lock of the process's memory map, which may be for ever: a page
/// fault on a file system that hangs does.
pub(super) fn command(sandbox: &Sandbox) -> Vec<String> {
    match &sandbox.namespace {
        Namespace::Path { path, .. } => vec![path.display().to_string()],
        Namespace::Process { .. } if sandbox.finished.is_some() => Vec::new(),
        Namespace::Process { pid, start_time } => {
            let Ok(Some(process)) = Liveness::again(*pid, *start_time) else {
                return Vec::new();
            };
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            // While it lives, nobody else has its number.
            if !process.is_alive().unwrap_or(false) {
                return Vec::new();
            }
            let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
            words
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect()
        }
    }
}

fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// docker/go-units: `HumanDuration`.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_worded_as_docker_words_them() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 21, "3 weeks"),
            (86_400 * 90, "3 months"),
            (86_400 * 365 * 3, "3 years"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
