//! The attach process: enters the container's namespace, does one operation there and ends.

use std::{
    fs, io,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use socket2::{Domain, Socket, Type};
use vswitch_proxy::splice;
use vswitch_wire::MacAddr;

use crate::io::{
    message,
    netlink::{Link, LinkChange, LinkDriver, LinkState, Netlink, NetlinkError, Route},
    netns::{NetnsIdentity, NetnsTarget},
    restriction::Restriction,
    sys::{self, TunNumber},
    tap::{self, OpenError, Opening},
};

use super::{
    AttachError, AttachRequest, DefaultRoute, LinkConfig, LinkKind, Origin, Probed, Reply, Request,
    SocketCounts, carrier,
};

/// What a program runs when its first argument is [`ATTACH_HELPER`](super::ATTACH_HELPER): serves the one
/// request that waits on standard input, which is a socket.
///
/// The process must have one thread.
pub fn helper_main() -> ExitCode {
    let socket = io::stdin();
    let request = match message::receive::<Request>(&socket) {
        Ok(Some((request, _))) => request,
        Ok(None) => return ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vswitchd attaches containers with this; it is not for use by hand ({error})");
            return ExitCode::FAILURE;
        }
    };
    let (reply, descriptors) = match serve(request) {
        Ok((reply, descriptors)) => (Ok(reply), descriptors),
        Err(error) => (Err(error), Vec::new()),
    };
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    match message::send(&socket, &reply, &descriptors) {
        Ok(()) => ExitCode::SUCCESS,
        // The daemon has gone or given up. A new interface goes away with our descriptor.
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(request: Request) -> Result<(Reply, Vec<OwnedFd>), AttachError> {
    match request {
        Request::Attach(request) => {
            validate(&request.link)?;
            let mut namespace = Namespace::enter_foreign(&request.target)?;
            let (reply, device) = namespace.attach(&request)?;
            Ok((reply, vec![device]))
        }
        Request::Detach { target, name, mac } => {
            let deleted = Namespace::enter(&target)?.detach(&name, MacAddr(mac))?;
            Ok((Reply::Detached(deleted), Vec::new()))
        }
        Request::Probe { target, name } => {
            let probed = Namespace::enter(&target)?.probe(&name)?;
            Ok((Reply::Probed(probed), Vec::new()))
        }
        Request::Routes { target, defaults } => {
            Namespace::enter_foreign(&target)?.set_default_routes(&defaults)?;
            Ok((Reply::Done, Vec::new()))
        }
        Request::Sockets { target, counts } => {
            // In the host's namespace they would reach what is the host's.
            Namespace::enter_foreign(&target)?;
            Ok((Reply::Done, sockets(counts)?))
        }
    }
}

/// Makes sockets in the namespace that this process is in.
fn sockets(counts: SocketCounts) -> Result<Vec<OwnedFd>, AttachError> {
    let kinds = [(counts.tcp_v4, Domain::IPV4), (counts.tcp_v6, Domain::IPV6)];
    let each = kinds
        .into_iter()
        .flat_map(|(count, domain)| (0..count).map(move |_| domain));
    let make = |domain| {
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
        // Here, where it costs the packet loop nothing.
        splice::prepare(&socket)?;
        Ok(socket.into())
    };
    each.map(make)
        .collect::<io::Result<_>>()
        .map_err(|source| AttachError::failed("make sockets in the container", source))
}

/// The namespace that this process is in.
struct Namespace {
    identity: NetnsIdentity,
    netlink: Netlink,
}

impl Namespace {
    fn enter(target: &NetnsTarget) -> Result<Self, AttachError> {
        let namespace = target.open()?;
        namespace.enter()?;
        let identity = namespace
            .identity()
            .map_err(|source| AttachError::failed("identify the network namespace", source))?;
        Ok(Self {
            identity,
            netlink: Netlink::open()?,
        })
    }

    /// Enters a namespace that is to be changed, which must not be the one that we come from.
    fn enter_foreign(target: &NetnsTarget) -> Result<Self, AttachError> {
        let failed = |source| AttachError::failed("identify the own network namespace", source);
        let own = NetnsIdentity::current().map_err(failed)?;
        let namespace = Self::enter(target)?;
        if namespace.identity == own {
            return Err(AttachError::HostNamespace);
        }
        Ok(namespace)
    }

    fn attach(&mut self, request: &AttachRequest) -> Result<(Reply, OwnedFd), AttachError> {
        let config = &request.link;
        let (device, origin, alias) = match config.kind {
            LinkKind::Tap => {
                let (tap, origin) = self.open_tap(config)?;
                if origin == Origin::Created {
                    set_owner(&tap, &config.name)?;
                }
                (tap, origin, None)
            }
            LinkKind::Veth => {
                self.clear_way(config)?;
                let mark = carrier::mark()
                    .map_err(|source| AttachError::failed("find out who asks for a veth", source))?;
                (carrier::open(config)?, Origin::Created, Some(mark))
            }
        };
        let link = self.link(&config.name)?;
        self.set_up_loopback()?;
        if origin == Origin::Created {
            prepare_ipv6(config);
        }
        let mtu = u32::from(config.mtu);
        let change = LinkChange {
            name: None,
            alias,
            mac: (link.mac != config.mac).then_some(config.mac),
            mtu: (link.mtu != mtu).then_some(mtu),
            txqueuelen: (link.txqueuelen != config.txqueuelen).then_some(config.txqueuelen),
            state: Some(LinkState::Up),
        };
        self.netlink.change_link(&link, &change)?;
        let present = self.netlink.addresses(&link)?;
        for &address in &config.addresses {
            if present.iter().all(|found| found.net != address) {
                self.netlink.add_address(&link, address)?;
            }
        }
        for &gateway in &config.default_gateways {
            self.netlink
                .replace_route(&Route::default_through(gateway, link.index))?;
        }
        Ok((
            Reply::Attached {
                index: link.index,
                origin,
                namespace: self.identity,
            },
            device,
        ))
    }

    fn detach(&mut self, name: &str, mac: MacAddr) -> Result<bool, AttachError> {
        match self.netlink.link_by_name(name)? {
            Some(link) if link.driver != LinkDriver::Other && link.mac == mac => self.delete(&link),
            _ => Ok(false),
        }
    }

    /// Deletes an interface; `false` if it went by itself.
    fn delete(&mut self, link: &Link) -> Result<bool, AttachError> {
        match self.netlink.delete_link(link) {
            Err(error) if error.source.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    }

    /// Makes room for a veth: what an earlier daemon left of it goes, also under another name. The kernel may be about
    /// to delete it anyway.
    fn clear_way(&mut self, config: &LinkConfig) -> Result<(), AttachError> {
        let deadline = Instant::now() + FAREWELL;
        loop {
            let mut served = false;
            for link in self.netlink.links()? {
                let is_ours = carrier::is_ours(&link, config.mac);
                match (is_ours, link.name == config.name) {
                    (true, _) if !carrier::is_served(&link) => drop(self.delete(&link)?),
                    (true, true) => served = true,
                    (false, true) => return Err(name_taken(&link)),
                    (_, false) => {}
                }
            }
            if !served {
                return Ok(());
            }
            if Instant::now() > deadline {
                let name = config.name.clone();
                return Err(AttachError::Busy { name });
            }
            thread::sleep(FAREWELL / 100);
        }
    }

    fn probe(&mut self, name: &str) -> Result<Option<Probed>, AttachError> {
        let Some(link) = self.netlink.link_by_name(name)? else {
            return Ok(None);
        };
        let addresses = self.netlink.addresses(&link)?;
        let routes = self.netlink.routes()?;
        Ok(Some(Probed {
            index: link.index,
            mac: link.mac,
            mtu: link.mtu,
            txqueuelen: link.txqueuelen,
            driver: link.driver,
            is_up: link.state == LinkState::Up,
            addresses: addresses
                .iter()
                .filter(|found| !found.tentative)
                .map(|found| found.net)
                .collect(),
            default_gateways: routes
                .iter()
                .filter(|route| route.is_default() && route.interface == link.index)
                .filter_map(|route| route.gateway)
                .collect(),
            namespace: self.identity,
        }))
    }

    fn set_default_routes(&mut self, defaults: &[DefaultRoute]) -> Result<(), AttachError> {
        let gateways: Vec<IpAddr> = defaults.iter().map(|route| route.gateway).collect();
        at_most_one_per_family(&gateways)?;
        let mut wanted = Vec::new();
        for route in defaults {
            wanted.push(Route::default_through(
                route.gateway,
                self.link(&route.interface)?.index,
            ));
        }
        for route in &wanted {
            self.netlink.replace_route(route)?;
        }
        for route in self.netlink.routes()? {
            if route.is_default() && !wanted.contains(&route) {
                self.netlink.delete_route(&route)?;
            }
        }
        Ok(())
    }

    /// Takes over the TAP with our MAC that the container has given another name, which it loses again; `None`
    /// if there is none that nobody serves.
    ///
    /// A second device with the same addresses would otherwise be made beside it, and the kernel would go on
    /// sending by the one that is dead.
    fn take_renamed(&mut self, config: &LinkConfig) -> Result<Option<OwnedFd>, AttachError> {
        for link in self.netlink.links()? {
            if link.driver != LinkDriver::Tun || link.mac != config.mac {
                continue;
            }
            // Another endpoint may have the same MAC; what is served cannot be opened.
            let Ok(tap) = tap::open(&link.name, Opening::Any) else {
                continue;
            };
            // Kernels before 6.2 rename no interface that is up.
            let down = LinkChange {
                state: Some(LinkState::Down),
                ..LinkChange::default()
            };
            let name = LinkChange {
                name: Some(config.name.clone()),
                ..LinkChange::default()
            };
            self.netlink.change_link(&link, &down)?;
            self.netlink.change_link(&link, &name)?;
            return Ok(Some(tap));
        }
        Ok(None)
    }

    fn open_tap(&mut self, config: &LinkConfig) -> Result<(OwnedFd, Origin), AttachError> {
        let name = &config.name;
        let (opening, origin) = match self.netlink.link_by_name(name)? {
            None => match self.take_renamed(config)? {
                Some(tap) => return Ok((tap, Origin::TakenOver)),
                None => (Opening::New, Origin::Created),
            },
            Some(link) if link.driver == LinkDriver::Tun && link.mac == config.mac => {
                (Opening::Any, Origin::TakenOver)
            }
            Some(link) => return Err(name_taken(&link)),
        };
        match tap::open(name, opening) {
            Ok(tap) => Ok((tap, origin)),
            Err(error) => Err(open_error(name, error)),
        }
    }

    fn link(&mut self, name: &str) -> Result<Link, AttachError> {
        self.netlink.link_by_name(name)?.ok_or_else(|| {
            AttachError::failed(format!("find {name}"), io::Error::from_raw_os_error(libc::ENODEV))
        })
    }

    fn set_up_loopback(&mut self) -> Result<(), AttachError> {
        let lo = self.link("lo")?;
        if lo.state == LinkState::Down {
            let change = LinkChange {
                state: Some(LinkState::Up),
                ..LinkChange::default()
            };
            self.netlink.change_link(&lo, &change)?;
        }
        Ok(())
    }
}

impl From<NetlinkError> for AttachError {
    fn from(error: NetlinkError) -> Self {
        Self::Failed {
            operation: error.operation,
            source: error.source,
        }
    }
}

fn validate(link: &LinkConfig) -> Result<(), AttachError> {
    let invalid = |text: String| Err(AttachError::Invalid(text));
    let name = &link.name;
    let bad = |byte: u8| {
        byte.is_ascii_whitespace() || byte.is_ascii_control() || matches!(byte, b'/' | b':' | b'%')
    };
    if name.is_empty()
        || name.len() > sys::INTERFACE_NAME_MAX
        || matches!(name.as_str(), "." | ".." | "lo" | "all" | "default")
        || name.bytes().any(bad)
    {
        return invalid(format!("{name:?} cannot be an interface's name"));
    }
    if link.mac.is_multicast() || link.mac.is_zero() {
        return invalid(format!("{} cannot be an interface's MAC", link.mac));
    }
    if !MTU_RANGE.contains(&link.mtu) {
        return invalid(format!("MTU {} is not within {MTU_RANGE:?}", link.mtu));
    }
    if link.txqueuelen == 0 {
        return invalid("a txqueuelen of 0 would drop every frame".to_owned());
    }
    if link.mtu < IPV6_MTU_MIN && link.addresses.iter().any(|net| net.addr().is_ipv6()) {
        return invalid(format!(
            "IPv6 needs an MTU of at least {IPV6_MTU_MIN}, not {}",
            link.mtu
        ));
    }
    at_most_one_per_family(&link.default_gateways)
}

fn name_taken(link: &Link) -> AttachError {
    AttachError::NameTaken {
        name: link.name.clone(),
        found: format!("{}, MAC {}", link.driver, link.mac),
    }
}

fn at_most_one_per_family(gateways: &[IpAddr]) -> Result<(), AttachError> {
    let v6 = gateways.iter().filter(|gateway| gateway.is_ipv6()).count();
    if v6 > 1 || gateways.len() - v6 > 1 {
        let text = "a namespace has at most one default gateway per address family";
        return Err(AttachError::Invalid(text.to_owned()));
    }
    Ok(())
}

fn open_error(name: &str, error: OpenError) -> AttachError {
    let operation = format!("create {name}");
    match error {
        OpenError::Device(source) => match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => AttachError::NoTunDevice,
            Some(libc::EACCES | libc::EPERM) => AttachError::TunDenied,
            _ => AttachError::failed(format!("open {}", tap::TUN_DEVICE), source),
        },
        OpenError::Interface(source) => match source.raw_os_error() {
            Some(libc::EBUSY) => AttachError::Busy {
                name: name.to_owned(),
            },
            Some(libc::EPERM | libc::EACCES) => refused(operation, source),
            _ => AttachError::failed(operation, source),
        },
    }
}

/// Explains a refusal. We are root in the namespace: only a confinement can take `CAP_NET_ADMIN` away.
pub(super) fn refused(operation: String, source: io::Error) -> AttachError {
    match Restriction::detect() {
        Some(restriction) => AttachError::Restricted {
            operation,
            restriction,
        },
        None => AttachError::failed(operation, source),
    }
}

/// While nobody serves it, only the namespace's root may attach to the interface. Without an owner any
/// process in the container might (drivers/net/tun.c: `tun_not_capable`).
fn set_owner(tap: &OwnedFd, name: &str) -> Result<(), AttachError> {
    match sys::tun_set_number(tap.as_fd(), TunNumber::Owner, 0) {
        // No user 0 is mapped in this namespace, so there is no root to name.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other.map_err(|source| AttachError::failed(format!("set the owner of {name}"), source)),
    }
}

/// Decides about IPv6 on a new interface before it comes up, as far as `/proc/sys` may be written.
///
/// Duplicate address detection would keep the link-local address unusable for a second or more, and with
/// it neighbour discovery; addresses are ours to give, so there are no duplicates. An interface without an
/// IPv6 address does without the protocol, as Docker 26 and later have it.
fn prepare_ipv6(config: &LinkConfig) {
    let has_ipv6 = config.addresses.iter().any(|net| matches!(net, IpNet::V6(_)));
    let settings: &[(&str, &str)] = if has_ipv6 {
        &[("disable_ipv6", "0"), ("accept_dad", "0")]
    } else {
        &[("disable_ipv6", "1")]
    };
    for (setting, value) in settings {
        // `/proc/sys/net` shows the namespace of the task that opens it. Where it is mounted read-only or
        // the kernel lacks IPv6, the interface works all the same, only not from the first second.
        let _ = fs::write(
            format!("/proc/sys/net/ipv6/conf/{}/{setting}", config.name),
            value,
        );
    }
}

/// How long a veth whose carrier has no socket any more may stay until the kernel deletes it; it needs some
/// milliseconds.
const FAREWELL: Duration = Duration::from_millis(500);

/// `ETH_MIN_MTU` (linux/if_ether.h) and the largest MTU of a TAP: 65 535 less the Ethernet header
/// (drivers/net/tun.c).
const MTU_RANGE: std::ops::RangeInclusive<u16> = 68..=65_521;

/// `IPV6_MIN_MTU` (RFC 8200 section 5); below it the kernel switches IPv6 off on the interface.
const IPV6_MTU_MIN: u16 = 1280;

#[cfg(test)]
mod tests;
