//! What the host's kernel says of addresses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Source;

/// The host as its kernel's routes describe it.
#[derive(Debug)]
pub(super) struct Host {
    source: Source,
    /// Addresses that are not the host's, and until when that is believed.
    foreign: HashMap<IpAddr, Instant, foldhash::fast::RandomState>,
}

impl Host {
    pub(super) fn new(source: &Source) -> Self {
        Self {
            // Not the configured source address, which would be the answer whatever the destination.
            source: Source {
                v4: None,
                v6: None,
                ..source.clone()
            },
            foreign: HashMap::default(),
        }
    }

    /// Whether the address is one of the host's own: the kernel then answers from that very address.
    pub(super) fn owns(&mut self, now: Instant, address: IpAddr) -> bool {
        if self.foreign.get(&address).is_some_and(|&until| now < until) {
            return false;
        }
        // Where the kernel knows no way, connecting says why.
        if self.source_towards(address).is_ok_and(|from| from == address) {
            return true;
        }
        if self.foreign.len() >= MOST {
            self.foreign.clear();
        }
        self.foreign.insert(address, now + BELIEVED);
        false
    }

    /// An address that the host's services listen on, for the gateway's address of that family.
    pub(super) fn address(&self, gateway: IpAddr, with_loopback: bool) -> Option<IpAddr> {
        let (loopback, outside) = match gateway {
            IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::LOCALHOST), OUTSIDE_V4),
            IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::LOCALHOST), OUTSIDE_V6),
        };
        if with_loopback {
            return Some(loopback);
        }
        let address = self.source_towards(outside).ok()?;
        (!address.is_loopback() && !address.is_unspecified()).then_some(address)
    }

    /// The address from which the host would send there. Sends nothing.
    fn source_towards(&self, address: IpAddr) -> io::Result<IpAddr> {
        let to = SocketAddr::new(address, DISCARD);
        let socket = Socket::new(
            Domain::for_address(to),
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        self.source.apply(&socket, to)?;
        socket.connect(&to.into())?;
        let from = socket.local_addr()?.as_socket();
        from.map(|from| from.ip())
            .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

/// How long an address is believed not to be the host's: a new address of the host is closed to containers
/// after that.
const BELIEVED: Duration = Duration::from_secs(1);
/// Addresses that are remembered.
const MOST: usize = 1024;

/// A port is needed and never used (RFC 863).
const DISCARD: u16 = 9;

/// Addresses that stand for the outside: TEST-NET-1 (RFC 5737) and the documentation prefix (RFC 3849).
const OUTSIDE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const OUTSIDE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

#[cfg(test)]
mod tests {
    use vswitch_testkit::Clock;

    use super::*;

    #[test]
    fn r_lim_6_the_hosts_own_addresses_are_known() {
        let mut host = Host::new(&Source::default());
        let now = Clock::new().now();
        assert!(host.owns(now, IpAddr::V4(Ipv4Addr::LOCALHOST)));
        // TEST-NET-3 (RFC 5737).
        let foreign = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
        assert!(!host.owns(now, foreign) && !host.owns(now, foreign));
        assert_eq!(host.foreign.len(), 1, "it is not asked twice");
        assert_eq!(host.address(foreign, true), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
