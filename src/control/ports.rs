//! The host's ports that are published: who has which, and the sockets that are bound to them.
//!
//! A port is *held* from the moment that it is bound for a mapping until the mapping gives it back. Holding is what
//! tells a clash among ourselves from one with another process, and what keeps apart users of a socket that the
//! service manager has bound, where the kernel sees no second bind.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use vswitch_proxy::publish::{Bound, Listener};

pub(super) use self::requests::{check, check_limit};
use self::{
    ephemeral::Ephemeral,
    socket::{Versions, open},
};
pub use self::{error::PortError, inherited::InheritedSockets};
use crate::model::{PortMapping, PortRange, PortRequest, Transport};

mod ephemeral;
mod error;
mod inherited;
mod requests;
mod socket;

/// The host's ports, as far as they are ours to give.
#[derive(Debug, Default)]
pub(super) struct HostPorts {
    held: HashMap<(Transport, u16), Holders>,
    /// The ephemeral port that was given last, by [`Transport`].
    last: HashMap<Transport, u16>,
    inherited: InheritedSockets,
    /// Addresses of the device uplink, where ports are held without sockets.
    external: Vec<IpAddr>,
}

/// A mapping whose ports are bound.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) mapping: PortMapping,
    pub(super) listeners: Vec<Listener>,
}

impl HostPorts {
    /// Nothing is held; `inherited` are bound already, and `external` are no addresses of the host's but the device
    /// uplink's.
    pub(super) fn new(inherited: InheritedSockets, external: Vec<IpAddr>) -> Self {
        Self {
            inherited,
            external,
            ..Self::default()
        }
    }

    /// Binds and holds all that is asked for, or nothing. The requests have passed [`check`].
    ///
    /// # Errors
    ///
    /// A port is taken, or the kernel refuses it.
    pub(super) fn publish(&mut self, requests: &[PortRequest]) -> Result<Vec<Taken>, PortError> {
        let mut taken = Vec::new();
        let ephemeral = Ephemeral::read();
        for request in requests {
            if let Err(error) = self.take(request, &ephemeral, &mut taken) {
                taken.iter().for_each(|taken| self.release(&taken.mapping));
                return Err(error);
            }
        }
        Ok(taken)
    }

    /// Binds and holds the ports of a mapping that was there before.
    ///
    /// # Errors
    ///
    /// As of [`publish`](Self::publish); nothing is held then.
    pub(super) fn restore(&mut self, mapping: &PortMapping) -> Result<Vec<Listener>, PortError> {
        let taken = self.publish(&[mapping.into()])?;
        Ok(taken.into_iter().flat_map(|taken| taken.listeners).collect())
    }

    /// Holds a mapping's ports no longer. Its listeners are the caller's to close.
    pub(super) fn release(&mut self, mapping: &PortMapping) {
        let place = Place::of(mapping.host_ip);
        for offset in 0..mapping.count {
            let key = (mapping.protocol, mapping.host_port.saturating_add(offset));
            let is_free = match self.held.get_mut(&key) {
                None => false,
                Some(Holders::One(holder)) => *holder == place,
                Some(Holders::Several(holders)) => {
                    if let Some(index) = holders.iter().position(|holder| *holder == place) {
                        holders.swap_remove(index);
                    }
                    holders.is_empty()
                }
            };
            if is_free {
                self.held.remove(&key);
            }
        }
    }

    /// Takes the ports of one request; consecutive ones become one mapping.
    fn take(
        &mut self,
        request: &PortRequest,
        ephemeral: &Ephemeral,
        taken: &mut Vec<Taken>,
    ) -> Result<(), PortError> {
        let (container, place) = (request.container_ports, Place::of(request.host_ip));
        let begin = taken.len();
        let mut bound = Vec::new();
        for offset in 0..container.count() {
            let wanted = Wanted {
                transport: request.protocol,
                place,
                container_port: container.first + offset,
            };
            let host_port = match request.host_ports {
                None => self.take_ephemeral(wanted, ephemeral, &mut bound)?,
                Some(range) if container.count() == 1 => self.take_lowest(wanted, range, &mut bound)?,
                Some(range) => {
                    let port = range.first.saturating_add(offset);
                    self.take_port(wanted, port, &mut bound)?;
                    port
                }
            };
            match taken[begin..].last_mut() {
                Some(last) if last.mapping.host_port.checked_add(last.mapping.count) == Some(host_port) => {
                    last.mapping.count += 1;
                    last.listeners.append(&mut bound);
                }
                _ => {
                    let mut listeners = Vec::with_capacity(container.count().into());
                    listeners.append(&mut bound);
                    taken.push(Taken {
                        mapping: PortMapping {
                            host_ip: request.host_ip,
                            host_port,
                            container_port: wanted.container_port,
                            count: 1,
                            protocol: request.protocol,
                            rules: request.rules.clone(),
                        },
                        listeners,
                    });
                }
            }
        }
        Ok(())
    }

    /// Takes the next free ephemeral port after the last that was given (P3).
    fn take_ephemeral(
        &mut self,
        wanted: Wanted,
        ephemeral: &Ephemeral,
        into: &mut Vec<Listener>,
    ) -> Result<u16, PortError> {
        let last = self.last.get(&wanted.transport).copied();
        let port = self.take_first_free(wanted, ephemeral.ports_after(last), into)?;
        self.last.insert(wanted.transport, port);
        Ok(port)
    }

    fn take_lowest(
        &mut self,
        wanted: Wanted,
        range: PortRange,
        into: &mut Vec<Listener>,
    ) -> Result<u16, PortError> {
        if range.first == range.last {
            return self.take_port(wanted, range.first, into).map(|()| range.first);
        }
        self.take_first_free(wanted, range.first..=range.last, into)
    }

    /// Takes the first port that nobody has and that we may bind.
    fn take_first_free(
        &mut self,
        wanted: Wanted,
        ports: impl Iterator<Item = u16>,
        into: &mut Vec<Listener>,
    ) -> Result<u16, PortError> {
        let mut refused = None;
        for port in ports {
            match self.take_port(wanted, port, into) {
                Ok(()) => return Ok(port),
                Err(PortError::Activated { .. } | PortError::Allocated(_) | PortError::InUse { .. }) => {}
                Err(error @ PortError::Privileged { .. }) => {
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or(PortError::Exhausted))
    }

    fn take_port(&mut self, wanted: Wanted, port: u16, into: &mut Vec<Listener>) -> Result<(), PortError> {
        let address = SocketAddr::new(wanted.place.shown(), port);
        let key = (wanted.transport, port);
        let holders = self.held.get(&key).map_or(&[][..], Holders::all);
        if holders.iter().any(|holder| holder.clashes(wanted.place)) {
            return Err(PortError::Allocated(address));
        }
        self.bind(wanted, port, into).map_err(|error| {
            let in_use = error.raw_os_error() == Some(libc::EADDRINUSE);
            let inherited = in_use.then(|| self.inherited.in_the_way(wanted.transport, address));
            match inherited.flatten() {
                Some(bound) => PortError::Activated {
                    address,
                    transport: wanted.transport,
                    container_port: wanted.container_port,
                    bound,
                },
                None => PortError::bind(address, wanted.transport, error),
            }
        })?;
        self.held
            .entry(key)
            .and_modify(|holders| holders.add(wanted.place))
            .or_insert(Holders::One(wanted.place));
        Ok(())
    }

    /// Binds a port, or takes what is bound there already.
    fn bind(&self, wanted: Wanted, port: u16, into: &mut Vec<Listener>) -> io::Result<()> {
        let (any_v4, any_v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        if self.external.contains(&wanted.place.shown()) {
            return Ok(());
        }
        match wanted.place {
            Place::V4(ip) => {
                into.push(self.bind_one(wanted, SocketAddr::new(ip.into(), port), Versions::One)?)
            }
            Place::V6(ip) => {
                into.push(self.bind_one(wanted, SocketAddr::new(ip.into(), port), Versions::One)?)
            }
            Place::Any => {
                let (v4, v6) = (SocketAddr::new(any_v4, port), SocketAddr::new(any_v6, port));
                if self.inherited.has(wanted.transport, v4)
                    || self.inherited.has_v6_only(wanted.transport, v6)
                {
                    return self.bind_halves(wanted, [v4, v6], into);
                }
                match self.bind_one(wanted, v6, Versions::Both) {
                    Ok(listener) => into.push(listener),
                    // The host has no IPv6.
                    Err(error)
                        if matches!(
                            error.raw_os_error(),
                            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                        ) =>
                    {
                        into.push(self.bind_one(wanted, v4, Versions::One)?);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// One socket for each version, where the service manager has bound at least one of them. The other may be
    /// missing: it was not asked of the service manager, and we may not be allowed to bind it.
    fn bind_halves(
        &self,
        wanted: Wanted,
        addresses: [SocketAddr; 2],
        into: &mut Vec<Listener>,
    ) -> io::Result<()> {
        for address in addresses {
            match self.bind_one(wanted, address, Versions::One) {
                Ok(listener) => into.push(listener),
                Err(error) if self.inherited.has(wanted.transport, address) => return Err(error),
                Err(error) => tracing::info!(%address, %error, "only the inherited socket serves the port"),
            }
        }
        Ok(())
    }

    fn bind_one(&self, wanted: Wanted, address: SocketAddr, versions: Versions) -> io::Result<Listener> {
        let bound = Bound {
            address,
            dual_stack: versions == Versions::Both,
        };
        let socket = match self.inherited.hand_over(wanted.transport, bound) {
            Some(socket) => socket?,
            None => open(wanted.transport, address, versions)?,
        };
        Ok(Listener {
            socket,
            bound,
            container_port: wanted.container_port,
        })
    }
}

/// What a port of the host is wanted for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    transport: Transport,
    place: Place,
    container_port: u16,
}

/// Where on the host a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On all addresses of both versions.
    Any,
    /// On this address, or on all of IPv4.
    V4(Ipv4Addr),
    /// On this address, or on all of IPv6.
    V6(Ipv6Addr),
}

impl Place {
    fn of(host_ip: Option<IpAddr>) -> Self {
        match host_ip.map(|ip| ip.to_canonical()) {
            None => Self::Any,
            Some(IpAddr::V4(ip)) => Self::V4(ip),
            Some(IpAddr::V6(ip)) => Self::V6(ip),
        }
    }

    /// Whether both cannot have the same port (P5).
    fn clashes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::V4(a), Self::V4(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
            (Self::V6(a), Self::V6(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
            (Self::V4(_), Self::V6(_)) | (Self::V6(_), Self::V4(_)) => false,
        }
    }

    /// The address that messages name.
    fn shown(self) -> IpAddr {
        match self {
            Self::Any => Ipv4Addr::UNSPECIFIED.into(),
            Self::V4(ip) => ip.into(),
            Self::V6(ip) => ip.into(),
        }
    }
}

/// Who holds a port: nearly always one.
#[derive(Debug)]
enum Holders {
    One(Place),
    Several(Vec<Place>),
}

impl Holders {
    fn all(&self) -> &[Place] {
        match self {
            Self::One(place) => std::slice::from_ref(place),
            Self::Several(places) => places,
        }
    }

    fn add(&mut self, place: Place) {
        match self {
            Self::One(other) => *self = Self::Several(vec![*other, place]),
            Self::Several(places) => places.push(place),
        }
    }
}

#[cfg(test)]
mod tests;
