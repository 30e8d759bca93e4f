//! What may be asked for.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::PortError;
use crate::{
    control::ControlError,
    model::{InvalidPort, PortRange, PortRequest, Transport},
};

/// Refuses requests that contradict themselves: the API brings what the grammar of `-p` does not let through. Gives
/// them with IPv4 written as IPv4.
///
/// # Errors
///
/// [`ControlError::Invalid`].
pub(in crate::control) fn check(mut requests: Vec<PortRequest>) -> Result<Vec<PortRequest>, ControlError> {
    requests.iter_mut().for_each(canonicalise);
    let is_range = |range: &PortRange| range.first != 0 && range.first <= range.last;
    for request in &requests {
        let (host, container, rules) = (request.host_ports, request.container_ports, &request.rules);
        let unusable = request.host_ip.and_then(|ip| Some((ip, why_unusable(ip)?)));
        let problem = if let Some((ip, why)) = unusable {
            Some(InvalidPort::Unusable { ip, why })
        } else if !is_range(&container) {
            Some(InvalidPort::Container(container.to_string()))
        } else if let Some(host) = host.filter(|host| !is_range(host)) {
            Some(InvalidPort::Host(host.to_string()))
        } else if let Some(host) = host
            && container.count() > 1
            && host.count() != container.count()
        {
            Some(InvalidPort::Unequal {
                container: container.to_string(),
                host: host.to_string(),
            })
        } else if rules.proxy_protocol.is_some() && request.protocol == Transport::Udp {
            Some(InvalidPort::ProxyProtocol)
        } else if rules.max_connections == Some(0) {
            Some(InvalidPort::Rule("max-conns must be at least 1".into()))
        } else if rules.connections_per_second == Some(0) {
            Some(InvalidPort::Rule("rate must be at least 1".into()))
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(ControlError::Invalid(problem.to_string()));
        }
    }
    Ok(requests)
}

/// Clients over IPv4 are known by their IPv4 addresses.
fn canonicalise(request: &mut PortRequest) {
    request.host_ip = request.host_ip.map(|ip| ip.to_canonical());
    for prefix in &mut request.rules.allow {
        if let Some(length) = prefix.prefix_len().checked_sub(MAPPED)
            && let IpAddr::V6(ip) = prefix.addr()
            && let Some(ip) = ip.to_ipv4_mapped()
            && let Ok(net) = Ipv4Net::new(ip, length)
        {
            *prefix = net.into();
        }
    }
}

/// Bits before the IPv4 address in `::ffff:0:0/96` (RFC 4291, 2.5.5.2).
const MAPPED: u8 = 96;

/// Why an address of the host cannot be published on.
fn why_unusable(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_multicast() => {
            Some("it is a multicast address, which nobody connects to; name an address of this host, or none")
        }
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some(
            "it is the broadcast address, which nobody connects to; name an address of this host, or none",
        ),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(
            "a link-local address needs its interface, which cannot be said here; name another address of this \
             host, or none",
        ),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// Refuses what takes more sockets than there are descriptors left, before the first is bound: packet loops take a
/// lease for each only when all are bound.
///
/// # Errors
///
/// [`PortError::Limit`].
pub(in crate::control) fn check_limit(
    counts: impl Iterator<Item = u16>,
    left: usize,
) -> Result<(), PortError> {
    let needed = counts.map(usize::from).sum();
    match needed <= left {
        true => Ok(()),
        false => Err(PortError::Limit { needed, left }),
    }
}
