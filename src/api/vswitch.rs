//! `/vswitch/v1/`.

use axum::{
    Json,
    extract::{ConnectInfo, Path, Query, State},
};
use hyper::StatusCode;

use super::{
    error::{ApiError, Body},
    networks::Parameters,
    server::{Api, PeerInfo},
    types::{Bridge, BridgePort, DaemonInfo, FdbEntry, PortStats, SandboxCreate, SandboxCreated},
    views,
};
use crate::{
    control::{ControlError, State as Objects, Verb},
    dataplane::{FdbKind, PortRow},
    model::{Driver, Network, NetworkId},
};

pub(super) async fn info(State(api): State<Api>) -> Json<DaemonInfo> {
    Json(DaemonInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: api.control.started().to_string(),
        workers: api.control.dataplane().workers(),
        rootless: !rustix::process::geteuid().is_root(),
        api_socket: api.socket.to_string(),
        state_dir: api.control.state_dir().display().to_string(),
    })
}

pub(super) async fn create_sandbox(
    State(api): State<Api>,
    ConnectInfo(peer): PeerInfo,
    Body(wish): Body<SandboxCreate>,
) -> Result<(StatusCode, Json<SandboxCreated>), ApiError> {
    let id = api.control.create_sandbox(wish, peer.caller()?).await?;
    let endpoints = api.control.read(|state| {
        let endpoints = state.endpoints_of(id);
        endpoints
            .into_iter()
            .map(|(endpoint, network)| views::sandbox_endpoint(endpoint, network))
            .collect()
    });
    let created = SandboxCreated {
        id: id.to_string(),
        warnings: Vec::new(),
        endpoints,
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
        let sandbox = query
            .get("sandbox")
            .map(|term| state.resolve_sandbox(term).map(|sandbox| sandbox.id));
        Ok::<_, ControlError>((wanted(state, query.get("network"))?, sandbox.transpose()?))
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
    Ok(Json(stats))
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
