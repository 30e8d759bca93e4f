//! Routes, to and from netlink messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use super::family;

/// A unicast route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// What it reaches; a prefix of length 0 is the default route.
    pub destination: IpNet,
    /// The next hop; `None` when the destination is on-link.
    pub gateway: Option<IpAddr>,
    /// Index of the outgoing interface.
    pub interface: u32,
}

impl Route {
    /// The default route through a gateway that is on-link on the interface.
    pub fn default_through(gateway: IpAddr, interface: u32) -> Self {
        Self {
            destination: default_destination(gateway.is_ipv6()),
            gateway: Some(gateway),
            interface,
        }
    }

    /// Whether this is a default route.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }

    pub(super) fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(self.destination.addr()),
            destination_prefix_length: self.destination.prefix_len(),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: if self.gateway.is_some() {
                RouteScope::Universe
            } else {
                RouteScope::Link
            },
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        if self.destination.prefix_len() > 0 {
            message
                .attributes
                .push(RouteAttribute::Destination(self.destination.network().into()));
        }
        message.attributes.extend(
            self.gateway
                .map(|gateway| RouteAttribute::Gateway(gateway.into())),
        );
        message.attributes.push(RouteAttribute::Oif(self.interface));
        message
    }

    /// What names the route for deletion. The kernel compares all that is said, so origin and scope are not
    /// (net/ipv4/fib_trie.c: `fib_table_delete`, net/ipv6/route.c: `ip6_route_del`).
    pub(super) fn pattern(&self) -> RouteMessage {
        let mut message = self.message();
        message.header.protocol = RouteProtocol::Unspec;
        message.header.scope = RouteScope::NoWhere;
        message
    }

    pub(super) fn from_message(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
            return None;
        }
        let mut destination = default_destination(header.address_family == AddressFamily::Inet6).addr();
        let (mut gateway, mut interface) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => destination = ip(address)?,
                RouteAttribute::Gateway(address) => gateway = Some(ip(address)?),
                RouteAttribute::Oif(index) => interface = Some(*index),
                _ => {}
            }
        }
        let destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
        Some(Self {
            destination,
            gateway,
            interface: interface?,
        })
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " on interface {}", self.interface)
    }
}

fn default_destination(v6: bool) -> IpNet {
    let unspecified: IpAddr = if v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    IpNet::new_assert(unspecified, 0)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_survives_its_message() {
        let routes = [
            Route::default_through("10.0.0.1".parse().expect("an address"), 3),
            Route::default_through("fd00::1".parse().expect("an address"), 3),
            Route {
                destination: "10.9.0.0/16".parse().expect("a prefix"),
                gateway: None,
                interface: 4,
            },
        ];
        for route in routes {
            assert_eq!(Route::from_message(&route.message()), Some(route));
        }
    }
}
