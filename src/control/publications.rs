//! What is published of a sandbox, and the endpoint that it leads to.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use vswitch_proxy::{
    listing::Protocol,
    publish::{
        Backend, Listener, Local, MappingId, MappingSpec, NamespaceSockets, ProxyProtocol, Routing, Rules,
    },
};

use super::{routes::default_routes, state::State};
use crate::model::{
    self, Driver, Endpoint, EndpointId, Network, NetworkId, PortMapping, PortRules, SandboxId, Transport,
};

/// A mapping of a living sandbox, and where it is in service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its name.
    pub id: MappingId,
    /// What is published.
    pub mapping: PortMapping,
    /// Where it is in service; `None` while the sandbox has no endpoint that leads outside.
    pub at: Option<(NetworkId, EndpointId)>,
    /// The host's addresses on which its listeners are; none while it is not in service.
    pub addresses: Vec<IpAddr>,
}

impl Publication {
    /// A mapping that is not in service.
    pub(super) fn dormant(id: MappingId, mapping: PortMapping) -> Self {
        Self {
            id,
            mapping,
            at: None,
            addresses: Vec::new(),
        }
    }

    /// The mapping as it is in service: of all addresses, those that the host has.
    pub fn shown(&self) -> PortMapping {
        let host_ip = match (self.mapping.host_ip, &*self.addresses) {
            (None, &[only]) => Some(only),
            (asked, _) => asked,
        };
        PortMapping {
            host_ip,
            ..self.mapping.clone()
        }
    }
}

/// The endpoint that a sandbox's ports lead to.
#[derive(Debug, Clone)]
pub(super) struct Home {
    pub(super) network: NetworkId,
    pub(super) endpoint: Endpoint,
    pub(super) routing: Routing,
}

impl Home {
    /// The endpoint with the default route, of IPv4 if there is one (G2).
    pub(super) fn of(endpoints: &[(&Endpoint, &Network)], networks: Arc<[IpNet]>) -> Option<Self> {
        let routes = default_routes(endpoints);
        let main = routes
            .iter()
            .find(|route| route.gateway.is_ipv4())
            .or(routes.first())?;
        let (endpoint, network) = endpoints.iter().find(|(endpoint, network)| {
            endpoint.interface == main.interface && network.driver == Driver::Bridge && !network.internal
        })?;
        let is_routed = |is_family: fn(&IpAddr) -> bool| {
            let ours = network.gateways();
            let mut through = routes
                .iter()
                .filter(|route| route.interface == endpoint.interface && is_family(&route.gateway));
            through.any(|route| ours.iter().any(|gateway| gateway.addr() == route.gateway))
        };
        Some(Self {
            network: network.id,
            endpoint: (*endpoint).clone(),
            routing: Routing {
                routed_v4: is_routed(IpAddr::is_ipv4),
                routed_v6: is_routed(IpAddr::is_ipv6),
                on_link: networks,
            },
        })
    }

    /// Where that is.
    pub(super) fn at(&self) -> (NetworkId, EndpointId) {
        (self.network, self.endpoint.id)
    }

    /// What the relay must know of a mapping that leads here.
    pub(super) fn spec(
        &self,
        id: MappingId,
        mapping: &PortMapping,
        sockets: Option<Arc<NamespaceSockets>>,
    ) -> MappingSpec {
        let Routing {
            routed_v4,
            routed_v6,
            ref on_link,
        } = self.routing;
        MappingSpec {
            id,
            protocol: match mapping.protocol {
                Transport::Tcp => Protocol::Tcp,
                Transport::Udp => Protocol::Udp,
            },
            backend: Backend {
                // The worker's to know.
                endpoint: 0,
                station: self.endpoint.mac,
                v4: self.endpoint.ipv4.map(|net| net.addr()),
                v6: self.endpoint.ipv6.map(|net| net.addr()),
                routed_v4,
                routed_v6,
                on_link: Arc::clone(on_link),
                sockets,
            },
            rules: rules(&mapping.rules),
        }
    }
}

impl State {
    /// Where a sandbox's ports lead to.
    pub(super) fn home_of(&self, sandbox: SandboxId) -> Option<Home> {
        Home::of(&self.endpoints_of(sandbox), self.prefixes())
    }

    /// The prefixes of all networks: a container reaches those of its own without a gateway, and the gateways refuse
    /// answers to the others.
    pub(super) fn prefixes(&self) -> Arc<[IpNet]> {
        self.networks()
            .flat_map(|network| network.subnets().map(|subnet| subnet.prefix))
            .collect()
    }
}

/// What becomes of ports of a sandbox that nothing leads to, with these endpoints.
pub(super) fn why_dormant(name: &str, endpoints: &[(&Endpoint, &Network)]) -> String {
    let networks = match endpoints.first() {
        None => "it is connected to no network".to_owned(),
        Some((_, network)) => format!(
            "none of its networks leads outside (network {} is internal or has no gateway)",
            network.name
        ),
    };
    format!(
        "Published ports of container {name} are not open yet: {networks}; they will be published when it is \
         connected to a network that leads outside"
    )
}

/// Docker's words for a container without networks (moby: daemon/container_operations.go).
pub(super) const DISCARDED: &str = "Published ports are discarded when using none network mode";

/// The host's addresses that listeners serve, IPv4 first.
pub(super) fn addresses(listeners: &[Listener]) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let mut add = |address: IpAddr| {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    };
    for listener in listeners {
        if listener.bound.dual_stack {
            add(IpAddr::from([0; 4]));
        }
        add(listener.bound.address.ip());
    }
    addresses
}

fn rules(rules: &PortRules) -> Rules {
    Rules {
        allow: rules.allow.clone(),
        max_connections: rules.max_connections,
        connections_per_second: rules.connections_per_second,
        proxy_protocol: rules.proxy_protocol.map(|version| match version {
            model::ProxyProtocol::V1 => ProxyProtocol::V1,
            model::ProxyProtocol::V2 => ProxyProtocol::V2,
        }),
        local: match rules.relay_local {
            true => Local::Relay,
            false => Local::Splice,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_shown_where_it_is_bound() {
        let mapping = PortMapping {
            host_ip: None,
            host_port: 8080,
            container_port: 80,
            count: 1,
            protocol: Transport::Tcp,
            rules: PortRules::default(),
        };
        let mut publication = Publication::dormant(MappingId(1), mapping);
        for (addresses, shown) in [
            (&[][..], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
            (&["0.0.0.0"], "0.0.0.0:8080->80/tcp"),
            (&["::"], "[::]:8080->80/tcp"),
            (&["0.0.0.0", "::"], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
        ] {
            let parsed = addresses.iter().map(|text| text.parse().expect("an address"));
            publication.addresses = parsed.collect();
            assert_eq!(publication.shown().to_string(), shown, "{addresses:?}");
        }
    }
}
