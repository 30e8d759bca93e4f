//! `/vswitch/v1/`.

use std::collections::HashMap;

use axum::{
    Json,
    extract::{ConnectInfo, Path, Query, State},
};
use hyper::StatusCode;
use vswitch_proxy::publish::{MappingId, MappingView};

use super::{
    conntrack,
    error::{ApiError, Body},
    networks::Parameters,
    server::{Api, PeerInfo},
    types::{
        Bridge, BridgePort, DaemonInfo, FdbEntry, FlowEntry, PortEntry, PortStats, PortsPublish,
        PortsPublished, PortsUnpublish, SandboxCreate, SandboxCreated, UplinkInfo,
    },
    views,
};
use crate::{
    control::{ControlError, NewSandbox, State as Objects, Verb},
    dataplane::{FdbKind, FlowRow, PortRow, UplinkView},
    model::{Driver, Network, NetworkId, SandboxId},
    uplink::{DeviceUplink, Standing},
};

pub(super) async fn info(State(api): State<Api>) -> Result<Json<DaemonInfo>, ApiError> {
    let view = api
        .control
        .dataplane()
        .uplink()
        .await
        .map_err(ControlError::from)?;
    let uplink = api.control.uplink().zip(view);
    Ok(Json(DaemonInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: api.control.started().to_string(),
        workers: api.control.dataplane().workers(),
        rootless: !rustix::process::geteuid().is_root(),
        api_socket: api.socket.to_string(),
        state_dir: api.control.state_dir().display().to_string(),
        hints: api.control.hints().to_vec(),
        uplink: uplink.map(|(configured, view)| uplink_info(configured, view)),
    }))
}

fn uplink_info(configured: &DeviceUplink, view: UplinkView) -> UplinkInfo {
    let addresses = view.addresses.into_iter().map(|(net, standing)| {
        let standing = match standing {
            Standing::Announcing(_) | Standing::Settled => "in use".to_owned(),
            Standing::Taken(mac) => format!("taken by {mac}"),
            Standing::Tentative(_) => "testing".to_owned(),
        };
        (net.to_string(), standing)
    });
    let counters = view.counters.into_iter();
    UplinkInfo {
        interface: configured.interface.clone(),
        mac_address: view.mac.to_string(),
        mtu: view.mtu,
        gateways: configured.gateways.clone(),
        addresses: addresses.collect(),
        neighbours: view.neighbours,
        counters: counters.map(|(name, count)| (name.to_owned(), count)).collect(),
    }
}

pub(super) async fn create_sandbox(
    State(api): State<Api>,
    ConnectInfo(peer): PeerInfo,
    Body(wish): Body<SandboxCreate>,
) -> Result<(StatusCode, Json<SandboxCreated>), ApiError> {
    let NewSandbox { id, warnings } = api.control.create_sandbox(wish, peer.caller()?).await?;
    let (endpoints, name_servers) = api.control.read(|state| {
        let endpoints = state.endpoints_of(id);
        let name_servers = views::name_servers(&endpoints);
        let endpoints = endpoints
            .into_iter()
            .map(|(endpoint, network)| views::sandbox_endpoint(endpoint, network))
            .collect();
        (endpoints, name_servers)
    });
    let created = SandboxCreated {
        id: id.to_string(),
        warnings,
        endpoints,
        name_servers,
    };
    Ok((StatusCode::CREATED, Json(created)))
}

pub(super) async fn delete_sandbox(
    State(api): State<Api>,
    Path(term): Path<String>,
) -> Result<StatusCode, ApiError> {
    api.control.delete_sandbox(&term).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Publishes ports: 201.
pub(super) async fn publish_ports(
    State(api): State<Api>,
    Path(term): Path<String>,
    Body(wish): Body<PortsPublish>,
) -> Result<(StatusCode, Json<PortsPublished>), ApiError> {
    let published = api.control.publish(&term, wish.ports).await?;
    Ok((StatusCode::CREATED, Json(published)))
}

/// Takes ports back: 204.
pub(super) async fn unpublish_ports(
    State(api): State<Api>,
    Path(term): Path<String>,
    Body(wish): Body<PortsUnpublish>,
) -> Result<StatusCode, ApiError> {
    api.control.unpublish(&term, wish).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn ports(
    State(api): State<Api>,
    Query(query): Parameters,
) -> Result<Json<Vec<PortEntry>>, ApiError> {
    let sandbox = api
        .control
        .read(|state| wanted_sandbox(state, query.get("name")))?;
    let views = api.control.dataplane().mappings(None).await?;
    Ok(Json(
        api.control.read(|state| port_entries(state, views, sandbox)),
    ))
}

/// The published ports of `only`, or of all sandboxes, by name and port.
fn port_entries(state: &Objects, views: Vec<MappingView>, only: Option<SandboxId>) -> Vec<PortEntry> {
    let mut views: HashMap<MappingId, MappingView> = views.into_iter().map(|view| (view.id, view)).collect();
    let wanted = state
        .sandboxes()
        .filter(|sandbox| only.is_none_or(|only| only == sandbox.id));
    let mut entries: Vec<PortEntry> = wanted
        .flat_map(|sandbox| {
            state
                .publications_of(sandbox.id)
                .iter()
                .map(move |one| (sandbox, one))
        })
        .map(|(sandbox, publication)| {
            // Without a view it is not in service at this moment.
            let (active, counters) = match views.remove(&publication.id) {
                Some(view) => (view.active, view.counters),
                None => (0, Vec::new()),
            };
            PortEntry {
                sandbox: sandbox.name.clone(),
                network: publication
                    .at
                    .map_or_else(String::new, |(network, _)| name(state, network)),
                mapping: publication.shown(),
                active,
                counters: counters
                    .into_iter()
                    .map(|(name, count)| (name.to_owned(), count))
                    .collect(),
            }
        })
        .collect();
    let order = |entry: &PortEntry| {
        let mapping = &entry.mapping;
        (
            mapping.container_port,
            mapping.protocol,
            mapping.host_ip,
            mapping.host_port,
        )
    };
    entries.sort_by(|a, b| (&a.sandbox, order(a)).cmp(&(&b.sandbox, order(b))));
    entries
}

pub(super) async fn bridges(
    State(api): State<Api>,
    Query(query): Parameters,
) -> Result<Json<Vec<Bridge>>, ApiError> {
    let network = api.control.read(|state| wanted(state, query.get("network")))?;
    let rows = api.control.dataplane().ports(network).await?;
    Ok(Json(api.control.read(|state| {
        let is_wanted = |candidate: &&Network| {
            candidate.driver == Driver::Bridge && network.is_none_or(|wanted| wanted == candidate.id)
        };
        let mut networks: Vec<&Network> = state.networks().filter(is_wanted).collect();
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        networks
            .into_iter()
            .map(|network| bridge(state, network, &rows))
            .collect()
    })))
}

fn bridge(state: &Objects, network: &Network, rows: &[PortRow]) -> Bridge {
    let mut ports: Vec<BridgePort> = rows
        .iter()
        .filter(|row| row.network == network.id)
        .map(|row| {
            let endpoint = row.endpoint.and_then(|id| state.endpoint(id));
            let sandbox = endpoint.and_then(|endpoint| state.sandbox(endpoint.sandbox));
            BridgePort {
                port: row.port,
                label: row.label.clone(),
                state: row.state.clone(),
                mtu: row.mtu,
                endpoint: endpoint.map(|endpoint| views::sandbox_endpoint(endpoint, network)),
                sandbox: sandbox.map_or_else(String::new, |sandbox| sandbox.name.clone()),
            }
        })
        .collect();
    ports.sort_by_key(|port| port.port);
    Bridge {
        network: network.name.clone(),
        network_id: network.id.to_string(),
        gateway_mac: network.gateway_mac.to_string(),
        gateways: network.gateways().iter().map(ToString::to_string).collect(),
        mtu: network.settings.mtu,
        internal: network.internal,
        inter_container: network.settings.inter_container,
        ports,
    }
}

pub(super) async fn fdb(
    State(api): State<Api>,
    Query(query): Parameters,
) -> Result<Json<Vec<FdbEntry>>, ApiError> {
    let network = api.control.read(|state| wanted(state, query.get("network")))?;
    let rows = api.control.dataplane().fdb(network).await?;
    let mut entries: Vec<FdbEntry> = api.control.read(|state| {
        let entries = rows.into_iter().map(|row| FdbEntry {
            network: name(state, row.network),
            network_id: row.network.to_string(),
            mac_address: row.mac.to_string(),
            vlan: row.vlan,
            port: row.port,
            label: row.label,
            age_seconds: row.age.as_secs_f64(),
            kind: match row.kind {
                FdbKind::Dynamic => "dynamic",
                FdbKind::Local => "local",
                FdbKind::Static => "static",
            }
            .to_owned(),
        });
        entries.collect()
    });
    entries.sort_by(|a, b| (&a.network, a.port, &a.mac_address).cmp(&(&b.network, b.port, &b.mac_address)));
    Ok(Json(entries))
}

pub(super) async fn stats(
    State(api): State<Api>,
    Query(query): Parameters,
) -> Result<Json<Vec<PortStats>>, ApiError> {
    let (network, sandbox) = api.control.read(|state| {
        let sandbox = wanted_sandbox(state, query.get("sandbox"))?;
        Ok::<_, ControlError>((wanted(state, query.get("network"))?, sandbox))
    })?;
    let rows = api.control.dataplane().ports(network).await?;
    let mut stats: Vec<PortStats> = api.control.read(|state| {
        let stats = rows.into_iter().filter_map(|row| {
            let endpoint = row.endpoint.and_then(|id| state.endpoint(id));
            let owner = endpoint.and_then(|endpoint| state.sandbox(endpoint.sandbox));
            if sandbox.is_some() && owner.map(|owner| owner.id) != sandbox {
                return None;
            }
            let named = |counters: Vec<(&'static str, u64)>| {
                counters
                    .into_iter()
                    .map(|(name, count)| (name.to_owned(), count))
                    .collect()
            };
            Some(PortStats {
                network: name(state, row.network),
                network_id: row.network.to_string(),
                port: row.port,
                label: row.label,
                sandbox: owner.map_or_else(String::new, |owner| owner.name.clone()),
                interface: endpoint.map_or_else(String::new, |endpoint| endpoint.interface.clone()),
                rx_frames: row.rx_frames,
                rx_bytes: row.rx_bytes,
                tx_frames: row.tx_frames,
                tx_bytes: row.tx_bytes,
                other: named(row.other),
                drops: named(row.drops),
            })
        });
        stats.collect()
    });
    stats.sort_by(|a, b| (&a.network, a.port).cmp(&(&b.network, b.port)));
    if network.is_none() && sandbox.is_none() {
        stats.extend(conntrack::stats(&api.control).await?);
    }
    Ok(Json(stats))
}

pub(super) async fn flows(
    State(api): State<Api>,
    Query(query): Parameters,
) -> Result<Json<Vec<FlowEntry>>, ApiError> {
    let (network, sandbox) = api.control.read(|state| {
        let sandbox = wanted_sandbox(state, query.get("sandbox"))?;
        Ok::<_, ControlError>((wanted(state, query.get("network"))?, sandbox))
    })?;
    let rows = api.control.dataplane().flows(network).await?;
    Ok(Json(api.control.read(|state| flow_entries(state, rows, sandbox))))
}

/// The flows of `only`, or of all sandboxes, in an order that depends on nothing else than what they are.
fn flow_entries(state: &Objects, rows: Vec<FlowRow>, only: Option<SandboxId>) -> Vec<FlowEntry> {
    let mut named: Vec<_> = rows
        .into_iter()
        .filter_map(
            |FlowRow {
                 network,
                 endpoint,
                 view,
             }| {
                let endpoint = endpoint.and_then(|id| state.endpoint(id));
                let owner = endpoint.and_then(|endpoint| state.sandbox(endpoint.sandbox));
                if only.is_some() && owner.map(|owner| owner.id) != only {
                    return None;
                }
                let sandbox = owner.map_or_else(String::new, |owner| owner.name.clone());
                let interface = endpoint.map_or_else(String::new, |endpoint| endpoint.interface.clone());
                Some((name(state, network), sandbox, network, interface, view))
            },
        )
        .collect();
    // By address and port as numbers, which their texts would not give.
    named.sort_by(|(a_network, a_sandbox, .., a), (b_network, b_sandbox, .., b)| {
        (a_network, a_sandbox, a.protocol, a.container, a.remote, a.target)
            .cmp(&(b_network, b_sandbox, b.protocol, b.container, b.remote, b.target))
            // Two with the same ends differ in age: one is ending.
            .then_with(|| b.age.cmp(&a.age))
    });
    named
        .into_iter()
        .map(|(network, sandbox, id, interface, view)| FlowEntry {
            network,
            network_id: id.to_string(),
            sandbox,
            interface,
            protocol: view.protocol.name().to_owned(),
            state: view.state.to_owned(),
            container: view.container.to_string(),
            remote: view.remote.to_string(),
            target: view.target.map(|target| target.to_string()),
            sent_bytes: view.sent,
            received_bytes: view.received,
            age_seconds: view.age.as_secs_f64(),
            idle_seconds: view.idle.as_secs_f64(),
            timeout_seconds: view.timeout.as_secs_f64(),
        })
        .collect()
}

/// The sandbox that the query names.
fn wanted_sandbox(state: &Objects, term: Option<&String>) -> Result<Option<SandboxId>, ControlError> {
    term.map(|term| state.resolve_sandbox(term).map(|sandbox| sandbox.id))
        .transpose()
}

/// The network that the query names, which must have a switch.
fn wanted(state: &Objects, term: Option<&String>) -> Result<Option<NetworkId>, ControlError> {
    let Some(term) = term else { return Ok(None) };
    let network = state.resolve_network(term, Verb::Inspect)?;
    match network.driver {
        Driver::Bridge => Ok(Some(network.id)),
        Driver::Host | Driver::Null => Err(ControlError::Invalid(format!(
            "network {} has no switch",
            network.name
        ))),
    }
}

fn name(state: &Objects, id: NetworkId) -> String {
    state
        .network(id)
        .map_or_else(|| id.short(), |network| network.name.clone())
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use vswitch_proxy::listing::{FlowView, Protocol};

    use super::*;
    use crate::{
        control::fixtures,
        model::{EndpointId, SandboxId},
    };

    fn flow(endpoint: Option<EndpointId>, protocol: Protocol, container: &str, age: u64) -> FlowRow {
        let end = |text: &str| text.parse::<SocketAddr>().expect("an address and a port");
        FlowRow {
            network: fixtures::id(1),
            endpoint,
            view: FlowView {
                endpoint: 1,
                protocol,
                state: "ESTABLISHED",
                container: end(container),
                remote: end("10.0.0.1:53"),
                target: Some(end("127.0.0.53:53")),
                sent: 40,
                received: 7,
                age: Duration::from_millis(age),
                idle: Duration::from_millis(250),
                timeout: Duration::from_secs(30),
            },
        }
    }

    #[test]
    fn a_flow_is_named_after_its_endpoint() {
        let (state, endpoint) = fixtures::state();
        let rows = vec![flow(Some(endpoint.id), Protocol::Udp, "10.0.0.2:4000", 1500)];
        let entries = flow_entries(&state, rows, Some(endpoint.sandbox));
        let text = serde_json::to_value(&entries).expect("it is JSON");
        assert_eq!(
            text,
            serde_json::json!([{
                "Network": "net", "NetworkID": "01".repeat(32), "Sandbox": "web", "Interface": "eth0",
                "Protocol": "udp", "State": "ESTABLISHED", "Container": "10.0.0.2:4000",
                "Remote": "10.0.0.1:53", "Target": "127.0.0.53:53", "SentBytes": 40, "ReceivedBytes": 7,
                "AgeSeconds": 1.5, "IdleSeconds": 0.25, "TimeoutSeconds": 30.0
            }])
        );
        assert_eq!(
            serde_json::from_value::<Vec<FlowEntry>>(text).expect("and back"),
            entries
        );
    }

    #[test]
    fn flows_are_ordered_by_what_they_are_and_kept_apart_by_sandbox() {
        let (state, endpoint) = fixtures::state();
        let own = Some(endpoint.id);
        let rows = vec![
            flow(own, Protocol::Udp, "10.0.0.2:4000", 0),
            flow(own, Protocol::Tcp, "10.0.0.2:10000", 0),
            flow(own, Protocol::Tcp, "10.0.0.2:9000", 1000),
            flow(own, Protocol::Tcp, "10.0.0.2:9000", 2000),
            flow(None, Protocol::Tcp, "10.0.0.3:9000", 0),
        ];
        let ends = |entries: Vec<FlowEntry>| -> Vec<String> {
            let texts = entries.into_iter().map(|entry| {
                format!(
                    "{}/{} {} {}",
                    entry.sandbox, entry.protocol, entry.container, entry.age_seconds
                )
            });
            texts.collect()
        };
        assert_eq!(
            ends(flow_entries(&state, rows.clone(), None)),
            [
                "/tcp 10.0.0.3:9000 0",
                "web/tcp 10.0.0.2:9000 2",
                "web/tcp 10.0.0.2:9000 1",
                "web/tcp 10.0.0.2:10000 0",
                "web/udp 10.0.0.2:4000 0",
            ]
        );
        let of_others = flow_entries(&state, rows, Some(SandboxId::from_bytes([8; 32])));
        assert!(of_others.is_empty(), "{of_others:?}");
    }
}
