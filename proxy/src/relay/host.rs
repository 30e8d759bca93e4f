//! What the host's kernel says of addresses.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAttribute, RouteMessage, RouteType},
};
use netlink_sys::protocols::NETLINK_ROUTE;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Source;

/// The host as its kernel's routes describe it.
#[derive(Debug)]
pub(super) struct Host {
    source: Source,
    /// What was asked a moment ago, and until when the answer is believed.
    answers: HashMap<IpAddr, (Owner, Instant), foldhash::fast::RandomState>,
    /// To ask the kernel by; opened when it is needed first.
    routes: Option<Routes>,
    /// The host's own addresses of both versions as they were a moment ago.
    own: [Option<(Option<IpAddr>, Instant)>; 2],
}

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// One station elsewhere, as far as the host knows.
    Elsewhere,
    /// The host's own: primary or secondary address, anycast, or a broadcast address of its links.
    Host,
}

impl Host {
    pub(super) fn new(source: &Source) -> Self {
        Self {
            source: source.clone(),
            answers: HashMap::default(),
            routes: None,
            own: [None; 2],
        }
    }

    /// Whose the address is as a destination. While the kernel cannot be asked, every address counts as the host's.
    pub(super) fn owner(&mut self, now: Instant, address: IpAddr) -> Owner {
        self.known_owner(now, address).unwrap_or(Owner::Host)
    }

    /// Whose the address is; `None` while the kernel cannot be asked.
    pub(super) fn known_owner(&mut self, now: Instant, address: IpAddr) -> Option<Owner> {
        match self.answers.get(&address) {
            Some(&(owner, until)) if now < until => return Some(owner),
            _ => {}
        }
        let owner = self.ask(address).ok()?;
        if self.answers.len() >= MOST {
            self.answers.clear();
        }
        self.answers.insert(address, (owner, now + BELIEVED));
        Some(owner)
    }

    fn ask(&mut self, address: IpAddr) -> io::Result<Owner> {
        let mut routes = match self.routes.take() {
            Some(routes) => routes,
            None => Routes::open()?,
        };
        let owner = routes.owner(address)?;
        // After a failure an answer may be left over, so that one is not used again.
        self.routes = Some(routes);
        Ok(owner)
    }

    /// An address that the host's services listen on, for the gateway's address of that family.
    pub(super) fn address(&mut self, now: Instant, gateway: IpAddr, with_loopback: bool) -> Option<IpAddr> {
        let (loopback, outside, version) = match gateway {
            IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::LOCALHOST), OUTSIDE_V4, 0),
            IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::LOCALHOST), OUTSIDE_V6, 1),
        };
        if with_loopback {
            return Some(loopback);
        }
        match self.own[version] {
            Some((address, until)) if now < until => return address,
            _ => {}
        }
        let address = self.source_towards(outside).ok();
        let address = address.filter(|address| !address.is_loopback() && !address.is_unspecified());
        self.own[version] = Some((address, now + BELIEVED));
        address
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

/// The host's routes (`RTM_GETROUTE`, rtnetlink(7)); the kernel answers at once.
struct Routes {
    socket: netlink_sys::Socket,
    sequence: u32,
}

impl Routes {
    fn open() -> io::Result<Self> {
        let socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Looks an address up.
    fn owner(&mut self, address: IpAddr) -> io::Result<Owner> {
        let mut message = RouteMessage::default();
        let (family, prefix_len) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = prefix_len;
        message
            .attributes
            .push(RouteAttribute::Destination(address.into()));
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(message));
        request.header.flags = NLM_F_REQUEST;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket
            .send_to(&bytes, &netlink_sys::SocketAddr::new(0, 0), 0)?;
        let (reply, _) = self.socket.recv_from_full()?;
        let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply).map_err(io::Error::other)?;
        if reply.header.sequence_number != self.sequence {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match reply.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                Ok(match route.header.kind {
                    RouteType::Unicast
                    | RouteType::Unreachable
                    | RouteType::Prohibit
                    | RouteType::BlackHole => Owner::Elsewhere,
                    _ => Owner::Host,
                })
            }
            // There is no way to it; connecting will say so.
            NetlinkPayload::Error(error) if NO_ROUTE.contains(&-error.raw_code()) => Ok(Owner::Elsewhere),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").finish_non_exhaustive()
    }
}

/// How long an answer is believed: a new address of the host is closed to containers after that.
const BELIEVED: Duration = Duration::from_secs(1);
/// Answers that are remembered.
const MOST: usize = 1024;

/// What a lookup fails with when no route, or one of the types `unreachable`, `prohibit`, `blackhole` and
/// `throw`, leads to the address (fib_props, net/ipv4/fib_semantics.c).
const NO_ROUTE: [i32; 5] = [
    libc::ENETUNREACH,
    libc::EHOSTUNREACH,
    libc::EACCES,
    libc::EINVAL,
    libc::EAGAIN,
];

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
        // All of 127/8 is here, and none of it but 127.0.0.1 would be chosen as a source.
        for own in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 7)] {
            assert_eq!(host.owner(now, own.into()), Owner::Host);
        }
        assert_eq!(host.owner(now, Ipv6Addr::LOCALHOST.into()), Owner::Host);
        // TEST-NET-3 (RFC 5737).
        let foreign = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
        assert_eq!(host.owner(now, foreign), Owner::Elsewhere);
        assert!(host.answers.contains_key(&foreign), "it is not asked twice");
        assert_eq!(
            host.address(now, foreign, true),
            Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
        );
    }
}
