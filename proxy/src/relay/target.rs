//! Where a flow leads, and whether it may (R-LIM-6).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    config::{RelayConfig, Source},
    link::Hop,
    listing,
};

/// Where the host socket of a new flow is to be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The destination of the packet.
    Itself,
    /// The host, for the gateway's address.
    Host(SocketAddr),
    /// The host's resolver, for port 53 of the gateway's address.
    Resolver(SocketAddr),
}

/// Why a flow is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// By policy.
    Denied,
    /// Nobody can have that address or port.
    Impossible,
    /// The host has nothing there: no address, no resolver.
    Nobody,
}

/// Decides where a new flow to `remote` leads. `resolver` is the host's first one.
pub(super) fn choose(
    config: &RelayConfig,
    protocol: listing::Protocol,
    hop: Hop,
    remote: SocketAddr,
    resolver: Option<SocketAddr>,
) -> Result<Target, Refused> {
    let address = remote.ip();
    match hop {
        Hop::Gateway if remote.port() == DNS && is_transport(protocol) => {
            resolver.map(Target::Resolver).ok_or(Refused::Nobody)
        }
        Hop::Gateway => host_address(config, address)
            .map(|host| Target::Host(SocketAddr::new(host, remote.port())))
            .ok_or(Refused::Nobody),
        Hop::Beyond => check(config, address).map(|()| Target::Itself),
    }
}

fn is_transport(protocol: listing::Protocol) -> bool {
    matches!(protocol, listing::Protocol::Tcp | listing::Protocol::Udp)
}

fn check(config: &RelayConfig, address: IpAddr) -> Result<(), Refused> {
    if !is_possible(address) {
        return Err(Refused::Impossible);
    }
    if METADATA.contains(&address) {
        return match config.policy.metadata {
            true => Ok(()),
            false => Err(Refused::Denied),
        };
    }
    if is_link_local(address) || is_own(address, &config.source) {
        return Err(Refused::Denied);
    }
    Ok(())
}

/// Whether a packet may be addressed to one station by that (R-OUT-6).
pub(super) fn is_possible(address: IpAddr) -> bool {
    match address {
        // RFC 1122 §3.2.1.3: 0/8 and 127/8 never appear outside a host; 240/4 is no unicast.
        IpAddr::V4(v4) => {
            !(v4.octets()[0] == 0 || v4.is_loopback() || v4.is_multicast() || v4.octets()[0] >= 240)
        }
        // RFC 4291 §2.5.5: IPv4 addresses in IPv6 ones would get round every check of IPv4.
        IpAddr::V6(v6) => {
            !(v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.to_ipv4_mapped().is_some()
                || v6.segments()[..6] == [0; 6])
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Whether the address is one of the host's own: the kernel then answers from that very address.
fn is_own(address: IpAddr, source: &Source) -> bool {
    // Without the configured source address, which would be the answer whatever the destination.
    let source = Source {
        v4: None,
        v6: None,
        ..source.clone()
    };
    // Where the kernel knows no way, connecting says why.
    source_towards(address, &source).is_ok_and(|from| from == address)
}

/// A host address that services listen on, for the gateway's address of that family.
fn host_address(config: &RelayConfig, gateway: IpAddr) -> Option<IpAddr> {
    let (loopback, outside) = match gateway {
        IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::LOCALHOST), OUTSIDE_V4),
        IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::LOCALHOST), OUTSIDE_V6),
    };
    if config.policy.host_loopback {
        return Some(loopback);
    }
    let address = source_towards(outside, &config.source).ok()?;
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// The address from which the host would send there. Sends nothing.
fn source_towards(address: IpAddr, source: &Source) -> io::Result<IpAddr> {
    let to = SocketAddr::new(address, DNS);
    let socket = Socket::new(
        Domain::for_address(to),
        Type::DGRAM.nonblocking().cloexec(),
        Some(Protocol::UDP),
    )?;
    source.apply(&socket, to)?;
    socket.connect(&to.into())?;
    let from = socket.local_addr()?.as_socket();
    from.map(|from| from.ip())
        .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// RFC 1035 §4.2.
pub(super) const DNS: u16 = 53;

/// The metadata services of clouds: of all of them, and Amazon's over IPv6.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Addresses that stand for the outside: TEST-NET-1 (RFC 5737) and the documentation prefix (RFC 3849).
const OUTSIDE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const OUTSIDE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_out_6_only_addresses_of_one_station_are_possible() {
        for impossible in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "224.0.0.251",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:192.0.2.1",
            "ff02::1",
        ] {
            let address = impossible.parse().expect("an address");
            assert!(!is_possible(address), "{impossible}");
        }
        for possible in [
            "192.0.2.1",
            "10.0.0.1",
            "169.254.169.254",
            "223.255.255.254",
            "2001:db8::1",
            "fe80::1",
        ] {
            let address = possible.parse().expect("an address");
            assert!(is_possible(address), "{possible}");
        }
    }
}
