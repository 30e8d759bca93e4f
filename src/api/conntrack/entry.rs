//! Connections and rules of the translation in the API's shapes.

use std::{collections::HashMap, net::IpAddr};

use vswitch_nat::{Egress, Traffic, Tuple};
use vswitch_wire::IpProtocol;

use super::super::types::{
    ConnectionEntry, ConnectionSide, IcmpQuery, NatEgress, NatInfo, NatNetwork, NatPort,
};
use crate::{
    control::State as Objects,
    dataplane::{ConnRow, TableKind, TranslatedNetwork, TranslatedPort, TranslationView, has_ports},
    model::NetworkId,
};

/// Whose addresses on some networks are.
#[derive(Debug)]
pub(super) struct Owners<'a>(HashMap<(NetworkId, IpAddr), &'a str>);

impl<'a> Owners<'a> {
    /// Those of the networks of these connections.
    pub(super) fn new(state: &'a Objects, rows: &[ConnRow]) -> Self {
        Self::on(state, rows.iter().flat_map(|row| row.networks))
    }

    fn on(state: &'a Objects, networks: impl Iterator<Item = Option<NetworkId>>) -> Self {
        let mut networks: Vec<NetworkId> = networks.flatten().collect();
        networks.sort_unstable();
        networks.dedup();
        let endpoints = networks
            .into_iter()
            .flat_map(|network| state.endpoints_on(network));
        let owned = endpoints.filter_map(|endpoint| {
            let owner = state.sandbox(endpoint.sandbox)?;
            Some(endpoint.addresses().map(|address| {
                let place = (endpoint.network, address.addr());
                (place, owner.name.as_str())
            }))
        });
        Self(owned.flatten().collect())
    }

    fn name(&self, network: NetworkId, address: IpAddr) -> String {
        self.0
            .get(&(network, address))
            .copied()
            .unwrap_or_default()
            .to_owned()
    }
}

/// A connection in words.
pub(super) fn entry(state: &Objects, owners: &Owners<'_>, row: &ConnRow) -> ConnectionEntry {
    let ConnRow { networks, view } = row;
    let side = |tuple: &Tuple, network: Option<NetworkId>, traffic: Traffic| {
        let ports = has_ports(tuple.protocol);
        ConnectionSide {
            source: tuple.src.ip(),
            destination: tuple.dst.ip(),
            source_port: ports.then_some(tuple.src_port),
            destination_port: ports.then_some(tuple.dst_port),
            icmp: None,
            zone: tuple.zone.0,
            network: network.map_or_else(String::new, |network| name(state, network)),
            network_id: network.map_or_else(String::new, |network| network.to_string()),
            sandbox: network.map_or_else(String::new, |network| owners.name(network, tuple.src.ip())),
            packets: traffic.packets,
            bytes: traffic.bytes,
        }
    };
    let asked = query(&view.original, view.original.query, view.original.src_port);
    let answered = query(&view.reply, answer_to(view.original.query), view.reply.dst_port);
    ConnectionEntry {
        protocol: protocol_name(view.original.protocol).to_owned(),
        protocol_number: view.original.protocol,
        state: view.state.map(str::to_owned),
        timeout_seconds: view.remaining.as_secs_f64(),
        replied: view.is_replied,
        assured: view.is_assured,
        original: ConnectionSide {
            icmp: asked,
            ..side(&view.original, networks[0], view.traffic[0])
        },
        reply: ConnectionSide {
            icmp: answered,
            ..side(&view.reply, networks[1], view.traffic[1])
        },
    }
}

/// What translations do, all together.
pub(super) fn nat_info(state: &Objects, views: Vec<TranslationView>) -> NatInfo {
    let owners = Owners::on(
        state,
        views
            .iter()
            .flat_map(|view| view.ports.iter().map(|port| port.network)),
    );
    let mut info = NatInfo::default();
    for view in views {
        info.connections += view.connections as u64;
        for (name, count) in view.drops.into_iter().chain(view.other) {
            *info.counters.entry(name.to_owned()).or_default() += count;
        }
        let from = match view.kind {
            TableKind::Inside => "inside",
            TableKind::Uplink => {
                info.external_addresses.extend(view.addresses);
                let networks = view.networks.into_iter();
                info.networks
                    .extend(networks.map(|network| nat_network(state, network)));
                "outside"
            }
        };
        let ports = view.ports.into_iter();
        info.ports
            .extend(ports.map(|port| nat_port(state, &owners, from, port)));
    }
    info.networks
        .sort_by(|a, b| (&a.network, a.zone).cmp(&(&b.network, b.zone)));
    info.ports.sort_by(|a, b| {
        let order = |port: &NatPort| (port.port, port.external, port.target);
        (&a.protocol, order(a), &b.from).cmp(&(&b.protocol, order(b), &a.from))
    });
    info
}

fn nat_network(state: &Objects, of: TranslatedNetwork) -> NatNetwork {
    NatNetwork {
        network: of
            .network
            .map_or_else(String::new, |network| name(state, network)),
        network_id: of.network.map_or_else(String::new, |network| network.to_string()),
        zone: of.zone.0,
        prefixes: of.prefixes.iter().map(ToString::to_string).collect(),
        egress: match of.egress {
            Egress::Masquerade(addresses) => NatEgress::Masquerade { addresses },
            Egress::Prefix(pair) => NatEgress::Prefix {
                internal: pair.internal().to_string(),
                external: pair.external().to_string(),
            },
            Egress::Routed { open } => NatEgress::Routed { open },
        },
        connections: of.connections as u64,
    }
}

fn nat_port(state: &Objects, owners: &Owners<'_>, from: &str, port: TranslatedPort) -> NatPort {
    let TranslatedPort {
        network,
        mapping,
        hits,
    } = port;
    let (first, last) = (*mapping.ports.start(), *mapping.ports.end());
    NatPort {
        from: from.to_owned(),
        protocol: protocol_name(mapping.protocol.0).to_owned(),
        external: mapping.external,
        port: first,
        // Ports begin at 1, so it fits.
        count: last.saturating_sub(first).saturating_add(1),
        target: mapping.target,
        target_port: mapping.target_port,
        network: network.map_or_else(String::new, |network| name(state, network)),
        network_id: network.map_or_else(String::new, |network| network.to_string()),
        sandbox: network.map_or_else(String::new, |network| owners.name(network, mapping.target)),
        hits,
    }
}

fn name(state: &Objects, id: NetworkId) -> String {
    state
        .network(id)
        .map_or_else(|| id.short(), |network| network.name.clone())
}

fn query(tuple: &Tuple, kind: u8, id: u16) -> Option<IcmpQuery> {
    let is_icmp = matches!(tuple.protocol(), IpProtocol::ICMP | IpProtocol::ICMPV6);
    is_icmp.then_some(IcmpQuery { kind, code: 0, id })
}

/// Type of the reply to a query (RFC 792, RFC 950, RFC 4443 §4).
const fn answer_to(request: u8) -> u8 {
    match request {
        8 => 0,
        other => other.wrapping_add(1),
    }
}

fn protocol_name(number: u8) -> &'static str {
    PROTOCOLS
        .iter()
        .find(|&&(_, of)| of == number)
        .map_or("unknown", |&(name, _)| name)
}

/// What conntrack(8) has names for.
pub(super) const PROTOCOLS: [(&str, u8); 8] = [
    ("dccp", 33),
    ("gre", 47),
    ("icmp", 1),
    ("icmpv6", 58),
    ("sctp", 132),
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
];

#[cfg(test)]
mod tests;
