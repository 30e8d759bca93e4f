//! Where a flow leads, and whether it may (R-LIM-6).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Instant,
};

use vswitch_wire::Refusal;

use super::{
    host::{Host, Owner},
    table::Tuple,
};
use crate::{config::Policy, link::Hop, listing::Protocol, publish::PublishedPorts};

/// Where the host socket of a new flow is to be connected.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// The destination of the packet.
    Itself,
    /// The host, for the gateway's address.
    Host(SocketAddr),
    /// A published port of the host, whose listener has to learn which container comes.
    Published(SocketAddr),
    /// The host's resolver, for ports 53 and 853 of the gateway's address.
    Resolver(SocketAddr),
}

impl Target {
    /// Whether a query to one resolver may as well go to another. One of DNS over TLS may not: it is not known of the
    /// others that they speak it.
    pub(super) fn is_query(&self, tuple: &Tuple) -> bool {
        matches!(self, Self::Resolver(_)) && tuple.remote.port() == DNS
    }
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
    /// The host cannot reach it.
    Host(Refusal),
}

/// A new flow, as far as its target depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) protocol: Protocol,
    pub(super) hop: Hop,
    pub(super) remote: SocketAddr,
}

/// What a new flow's target depends on beside the flow.
#[derive(Debug)]
pub(super) struct Around<'a> {
    pub(super) now: Instant,
    pub(super) policy: &'a Policy,
    pub(super) host: &'a mut Host,
    /// The host's preferred resolver.
    pub(super) resolver: Option<SocketAddr>,
    pub(super) published: &'a PublishedPorts,
}

impl Wish {
    /// Decides where the flow leads.
    pub(super) fn target(self, around: &mut Around<'_>) -> Result<Target, Refused> {
        match self.hop {
            Hop::Gateway => self.target_behind_gateway(around),
            Hop::Beyond => {
                let Around {
                    now, policy, host, ..
                } = around;
                let checked = check(*now, policy, host, self.remote.ip());
                match checked {
                    Err(Refused::Denied) => self.hairpin(around, self.remote).ok_or(Refused::Denied),
                    checked => checked.map(|()| Target::Itself),
                }
            }
        }
    }

    /// The gateway's address stands for the host.
    fn target_behind_gateway(self, around: &mut Around<'_>) -> Result<Target, Refused> {
        let Self { remote, .. } = self;
        if self.is_query() {
            return around.resolver.map(Target::Resolver).ok_or(Refused::Nobody);
        }
        if self.is_encrypted_query() {
            // The list says nothing of resolvers that speak TLS; who does not refuses.
            let resolver = around.resolver.ok_or(Refused::Nobody)?;
            return Ok(Target::Resolver(with_port(resolver, DNS_OVER_TLS)));
        }
        let with_loopback = around.policy.host_loopback;
        let address = around.host.address(around.now, remote.ip(), with_loopback);
        let address = address.map(|address| SocketAddr::new(address, remote.port()));
        if let Some(published) = address.and_then(|address| self.hairpin(around, address)) {
            return Ok(published);
        }
        // A host without an address has its published ports all the same. Only those of all addresses fit, which
        // loopback reaches.
        if around.published.has(self.protocol, remote) {
            let loopback = match remote {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            return Ok(Target::Published(SocketAddr::new(loopback, remote.port())));
        }
        address.map(Target::Host).ok_or(Refused::Nobody)
    }

    /// R-IN-7: what is published may be called by containers, too, by the host's addresses.
    fn hairpin(self, around: &mut Around<'_>, to: SocketAddr) -> Option<Target> {
        let is_published = around.published.has(self.protocol, to);
        let is_hairpin = is_published && around.host.known_owner(around.now, to.ip()) == Some(Owner::Host);
        is_hairpin.then_some(Target::Published(to))
    }

    fn is_query(&self) -> bool {
        self.remote.port() == DNS && matches!(self.protocol, Protocol::Tcp | Protocol::Udp)
    }

    fn is_encrypted_query(&self) -> bool {
        self.remote.port() == DNS_OVER_TLS && self.protocol == Protocol::Tcp
    }
}

/// Keeps the scope of a link-local address.
fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

fn check(now: Instant, policy: &Policy, host: &mut Host, address: IpAddr) -> Result<(), Refused> {
    if !is_possible(address) {
        return Err(Refused::Impossible);
    }
    if let IpAddr::V6(outer) = address
        && let Some(inner) = embedded(outer)
    {
        // Whoever translates or carries it on has IPv4 there.
        check(now, policy, host, IpAddr::V4(inner))?;
    }
    if METADATA.contains(&address) {
        return match policy.metadata {
            true => Ok(()),
            false => Err(Refused::Denied),
        };
    }
    if is_link_local(address) || host.owner(now, address) == Owner::Host {
        return Err(Refused::Denied);
    }
    Ok(())
}

/// Whether only the relay may carry packets there, or refuse them, on a network whose other packets leave by a device: what
/// is closed there, and IPv4 link-local addresses, which a router must not forward (RFC 3927 §7).
pub(super) fn is_reserved(policy: &Policy, address: IpAddr) -> bool {
    let is_metadata = |address: IpAddr| METADATA.contains(&address);
    if let IpAddr::V6(outer) = address
        && let Some(inner) = embedded(outer).map(IpAddr::V4)
    {
        return match is_metadata(inner) {
            true => !policy.metadata,
            false => is_link_local(inner),
        };
    }
    is_link_local(address) || (is_metadata(address) && !policy.metadata)
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

/// The IPv4 address that a translator or relay of the host's network finds in an IPv6 address: NAT64
/// (RFC 6052 §2.1, RFC 8215) and 6to4 (RFC 3056 §2).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let words = address.segments();
    let from = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    match words {
        [0x64, 0xff9b, 0 | 1, _, _, _, high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// RFC 1035 §4.2.
const DNS: u16 = 53;

/// RFC 7858 §3.1.
const DNS_OVER_TLS: u16 = 853;

/// The metadata services of clouds: the address that most share, those of Alibaba and Azure, and over IPv6
/// those of Amazon and Google, as their manuals have them.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

#[cfg(test)]
mod tests {
    use vswitch_testkit::Clock;

    use super::*;
    use crate::config::Source;

    #[test]
    fn r_dns_1_the_resolvers_ports_at_the_gateway_lead_to_the_resolver() {
        let mut host = Host::new(&Source::default());
        let mut target = |protocol, port, resolver: Option<&str>| {
            let wish = Wish {
                protocol,
                hop: Hop::Gateway,
                remote: SocketAddr::from(([10, 0, 0, 1], port)),
            };
            let resolver = resolver.map(|resolver| resolver.parse().expect("an address"));
            let policy = Policy {
                host_loopback: true,
                ..Policy::default()
            };
            let target = wish.target(&mut Around {
                now: Clock::new().now(),
                policy: &policy,
                host: &mut host,
                resolver,
                published: &PublishedPorts::default(),
            });
            target.map(|target| match target {
                Target::Host(address) => ("host", address),
                Target::Resolver(address) => ("resolver", address),
                other => panic!("{other:?}"),
            })
        };
        let resolver = |address: &str| Ok(("resolver", address.parse().expect("an address")));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let to = target(protocol, 53, Some("127.0.0.53:53"));
            assert_eq!(to, resolver("127.0.0.53:53"));
        }
        let to = target(Protocol::Tcp, 853, Some("[fe80::53%2]:53"));
        assert_eq!(to, resolver("[fe80::53%2]:853"));
        let to = target(Protocol::Udp, 853, Some("127.0.0.53:53"));
        assert_eq!(to, Ok(("host", SocketAddr::from(([127, 0, 0, 1], 853)))));
        for port in [53, 853] {
            assert_eq!(target(Protocol::Tcp, port, None), Err(Refused::Nobody));
        }
    }

    #[test]
    fn r_lim_6_ipv4_inside_ipv6_is_checked_too() {
        let mut host = Host::new(&Source::default());
        let now = Clock::new().now();
        let mut outcome = |address: &str| {
            let address = address.parse().expect("an address");
            check(now, &Policy::default(), &mut host, address)
        };
        for denied in [
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "fd00:ec2::254",
            "fe80::1",
            "169.254.1.1",
        ] {
            assert_eq!(outcome(denied), Err(Refused::Denied), "{denied}");
        }
        assert_eq!(outcome("64:ff9b::127.0.0.1"), Err(Refused::Impossible));
        assert_eq!(outcome("64:ff9b::203.0.113.9"), Ok(()));
    }

    #[test]
    fn r_lim_6_what_is_closed_or_link_local_does_not_leave_by_a_device() {
        let is_kept = |metadata, address: &str| {
            let policy = Policy {
                metadata,
                ..Policy::default()
            };
            is_reserved(&policy, address.parse().expect("an address"))
        };
        // By default, and with `allow_metadata`. The host's sockets carry what no router may.
        for (address, closed, open) in [
            ("169.254.169.254", true, true),
            ("169.254.1.1", true, true),
            ("100.100.100.200", true, false),
            ("168.63.129.16", true, false),
            ("fd00:ec2::254", true, false),
            ("fd20:ce::254", true, false),
            ("64:ff9b::a9fe:a9fe", true, false),
            ("2002:a9fe:a9fe::1", true, false),
            ("64:ff9b::169.254.1.1", true, true),
            ("fe80::1", true, true),
            ("192.0.2.1", false, false),
            ("100.100.100.201", false, false),
            ("fd00:ec2::253", false, false),
            ("64:ff9b::c000:201", false, false),
        ] {
            assert_eq!(
                (is_kept(false, address), is_kept(true, address)),
                (closed, open),
                "{address}"
            );
        }
    }

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
