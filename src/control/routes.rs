//! Which of a container's networks leads outside.

use std::{cmp::Reverse, net::IpAddr};

use crate::{
    io::attach::DefaultRoute,
    model::{Endpoint, Network, Subnet},
};

/// The default routes of a container with these endpoints, at most one per family.
///
/// Docker's choice (moby: daemon/libnetwork, `selectGatewayEndpoint`), for each family by itself: internal
/// networks lead nowhere; dual-stack networks come before others; then the names' order decides.
pub(super) fn default_routes(endpoints: &[(&Endpoint, &Network)]) -> Vec<DefaultRoute> {
    let mut candidates: Vec<_> = endpoints
        .iter()
        .filter(|(_, network)| !network.internal)
        .collect();
    candidates
        .sort_by_key(|(endpoint, network)| (Reverse(endpoint.addresses().count()), network.name.as_str()));
    let first = |gateway: fn(&Endpoint, &Network) -> Option<IpAddr>| {
        candidates.iter().find_map(|(endpoint, network)| {
            let gateway = gateway(endpoint, network)?;
            Some(DefaultRoute {
                interface: endpoint.interface.clone(),
                gateway,
            })
        })
    };
    let ipv4 = first(|endpoint, network| endpoint.ipv4.and(network.ipv4.as_ref()).and_then(route_gateway));
    let ipv6 = first(|endpoint, network| endpoint.ipv6.and(network.ipv6.as_ref()).and_then(route_gateway));
    ipv4.into_iter().chain(ipv6).collect()
}

/// Where the containers of a subnet send what is not theirs: our gateway, unless an auxiliary address of a
/// special name points elsewhere (moby: bridge driver, `DefaultGatewayV4AuxKey`).
pub fn route_gateway(subnet: &Subnet) -> Option<IpAddr> {
    let name = match subnet.prefix {
        ipnet::IpNet::V4(_) => "DefaultGatewayIPv4",
        ipnet::IpNet::V6(_) => "DefaultGatewayIPv6",
    };
    subnet.auxiliary.get(name).copied().or(subnet.gateway)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixtures;

    #[test]
    fn the_gateway_is_chosen_as_docker_does() {
        let (mut zoo, _, zoo_end) = fixtures::objects();
        zoo.name = "zoo".into();
        let (mut alpha, mut alpha_end) = (zoo.clone(), zoo_end.clone());
        alpha.name = "alpha".into();
        alpha_end.interface = "eth1".into();
        let through = |endpoints: &[(&Endpoint, &Network)]| {
            let routes = default_routes(endpoints);
            routes
                .into_iter()
                .map(|r| format!("{} {}", r.interface, r.gateway))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            through(&[(&zoo_end, &zoo), (&alpha_end, &alpha)]),
            ["eth1 10.0.0.1", "eth1 fd00::1"]
        );

        alpha_end.ipv6 = None;
        assert_eq!(
            through(&[(&zoo_end, &zoo), (&alpha_end, &alpha)]),
            ["eth0 10.0.0.1", "eth0 fd00::1"],
            "dual stack comes first"
        );
        zoo.internal = true;
        assert_eq!(
            through(&[(&zoo_end, &zoo), (&alpha_end, &alpha)]),
            ["eth1 10.0.0.1"]
        );
        alpha.internal = true;
        assert_eq!(through(&[(&zoo_end, &zoo), (&alpha_end, &alpha)]), [""; 0]);

        zoo.internal = false;
        let subnet = zoo.ipv4.as_mut().expect("it has IPv4");
        subnet.auxiliary.insert(
            "DefaultGatewayIPv4".into(),
            "10.0.0.9".parse().expect("an address"),
        );
        assert_eq!(through(&[(&zoo_end, &zoo)]), ["eth0 10.0.0.9", "eth0 fd00::1"]);
    }
}
