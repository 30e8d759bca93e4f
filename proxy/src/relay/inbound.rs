//! TCP clients of published ports: from the host's listening socket to the container (R-IN).

use std::{
    hash::BuildHasher,
    io, iter,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::net::SocketFlags;
use socket2::Socket;

use super::{
    Flow, Kind, Pending, Relay,
    host::Owner,
    published::{Mapping, Shown},
    splices::LocalClient,
    table::Tuple,
};
use crate::{
    Link, Scratch, errors,
    link::{ListenerId, SocketRole},
    listing::Protocol,
    publish::{Caller, MappingId},
    stream::{Attempt, HostSocket, TcpFlow},
    tcp::Connection,
};

impl Relay {
    /// Somebody is at a listener.
    pub(super) fn handle_listener_ready(
        &mut self,
        now: Instant,
        id: ListenerId,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        let Some(door) = self.published.door_mut(id) else {
            return;
        };
        door.turn = false;
        let mapping = door.mapping;
        match self
            .published
            .mapping(mapping)
            .map(|mapping| mapping.spec.protocol)
        {
            Some(Protocol::Tcp) => self.accept_clients(now, id, scratch, link),
            Some(Protocol::Udp) => self.handle_udp_listener(now, id, scratch, link),
            Some(Protocol::Icmp | Protocol::Icmpv6) | None => {}
        }
    }

    /// Accepts some of those who wait.
    fn accept_clients(&mut self, now: Instant, id: ListenerId, scratch: &mut Scratch, link: &mut impl Link) {
        for _ in 0..ACCEPTED_AT_ONCE {
            let Some(door) = self.published.door(id) else {
                return;
            };
            match accept(&door.socket) {
                Ok((socket, client)) => {
                    let mapping = door.mapping;
                    let client = Client {
                        listener: id,
                        mapping,
                        address: client,
                    };
                    if let Err(turned_away) = self.take_client(now, client, socket, scratch, link) {
                        reset(turned_away);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // accept(2): "Linux accept() passes already-pending network errors on the new socket as an error code";
                // that one is gone.
                Err(error) if errors::is_of_client(&error) => {}
                Err(_) => {
                    // R-LIM-2: asking again at once would spin. Those who wait stay in the kernel's queue.
                    self.counters.no_descriptor += 1;
                    return self.published.pause(now + PAUSE, id);
                }
            }
        }
        if let Some(door) = self.published.door_mut(id)
            && !std::mem::replace(&mut door.turn, true)
        {
            self.turns.push_back(SocketRole::Listener(id).id());
        }
    }

    /// Brings a client to its container. The error is its socket, to be reset: whoever is not let in hears so at
    /// once (R-IN-5).
    fn take_client(
        &mut self,
        now: Instant,
        client: Client,
        socket: Socket,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) -> Result<(), Socket> {
        let origin = self.identify(now, Protocol::Tcp, client.address);
        let client = Client {
            address: origin.address(),
            ..client
        };
        let Some((door, mapping)) = self.published.entrance(client.listener) else {
            return Err(socket);
        };
        let container_port = door.container_port;
        let is_stray = origin.is_stray(door.bound.address.ip());
        if is_stray {
            mapping.counters.refused_allow += 1;
        }
        if is_stray || !mapping.admit(now, client.address.ip()) {
            return Err(socket);
        }
        let prefix = match mapping.spec.rules.proxy_protocol {
            None => Vec::new(),
            Some(version) => match socket.local_addr().ok().and_then(|address| address.as_socket()) {
                Some(server) => version.header(client.address, canonical(server)),
                None => return Err(socket),
            },
        };
        let (socket, prefix) = match origin {
            Origin::Host(_) => {
                let local = LocalClient {
                    mapping: client.mapping,
                    address: client.address,
                    container_port,
                    socket,
                    prefix,
                };
                match self.splice(now, local, link) {
                    Ok(()) => return Ok(()),
                    Err(LocalClient { socket, prefix, .. }) => (socket, prefix),
                }
            }
            Origin::Container(_) | Origin::Elsewhere(_) => (socket, prefix),
        };
        self.inject(now, client, (socket, prefix), scratch, link)
    }

    /// Carries a client's connection to the container in frames.
    fn inject(
        &mut self,
        now: Instant,
        client: Client,
        (socket, prefix): (Socket, Vec<u8>),
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) -> Result<(), Socket> {
        let Some(shown) = self.shown(now, client.listener, client.address.ip()) else {
            self.count_failed(client.mapping);
            return Err(socket);
        };
        let Some((endpoint, station)) = self.published.mapping(client.mapping).map(Mapping::station) else {
            return Err(socket);
        };
        let limits = &self.config.limits;
        let has_room = self.shares.of(endpoint).initiating < limits.initiating_per_endpoint;
        let tuple = match has_room {
            true => self.free_tuple(endpoint, shown, client.address),
            false => None,
        };
        let Some(tuple) = tuple.filter(|_| self.make_place_for_client(now, Protocol::Tcp, endpoint)) else {
            self.count_turned_away(client.mapping);
            return Err(socket);
        };
        let Some(descriptor) = self.lease_for_client(endpoint) else {
            self.count_turned_away(client.mapping);
            return Err(socket);
        };
        let Ok(socket) = HostSocket::accepted(socket, prefix) else {
            // The client has gone already.
            return Ok(());
        };
        self.time_wait.remove(&tuple);
        let settings = self.settings(now, &tuple);
        let flow = Flow {
            tuple,
            station,
            target: None,
            is_query: false,
            began: now,
            pending: Pending::Container,
            unflushed: false,
            turn: false,
            evictable_place: None,
            mapping: Some(client.mapping),
            _caller: None,
            kind: Kind::Tcp(TcpFlow {
                connection: Connection::inbound(now, settings),
                socket,
                attempt: Attempt::new(now),
            }),
            descriptor: Some(descriptor),
        };
        match self.insert(flow, link) {
            Some(id) => {
                self.with_stream(now, id, scratch, link, |connection, io| {
                    connection.initiate(now, io);
                });
            }
            None => self.count_turned_away(client.mapping),
        }
        Ok(())
    }

    /// Says whose a host socket is that is about to call a published port.
    pub(super) fn announce(&self, tuple: &Tuple, own: SocketAddr) -> Caller {
        let container = tuple.container.ip();
        self.config.published.announce(tuple.protocol, own, container)
    }

    /// Who a client is: a container's address for one that calls from inside the daemon.
    pub(super) fn identify(&mut self, now: Instant, protocol: Protocol, client: SocketAddr) -> Origin {
        if !self.is_local(now, client.ip()) {
            return Origin::Elsewhere(client);
        }
        match self.config.published.caller(protocol, client) {
            Some(container) => Origin::Container(SocketAddr::new(container, client.port())),
            None => Origin::Host(client),
        }
    }

    /// Whether somebody with that address is on this host. Who may be remote is not taken for local
    /// (CVE-2021-20199).
    pub(super) fn is_local(&mut self, now: Instant, client: IpAddr) -> bool {
        client.is_loopback() || self.host.known_owner(now, client) == Some(Owner::Host)
    }

    /// Both ends as the container is to know them. The client keeps its port unless somebody else has it towards the
    /// container: clients that are shown as the gateway share its address, and the container may have begun the same
    /// flow itself. Answers come back by the same tuple, so the change is undone by itself (R-UDP-13).
    pub(super) fn free_tuple(&self, endpoint: u32, shown: Shown, client: SocketAddr) -> Option<Tuple> {
        let own = client.port();
        // A container may ask its gateway for names, and that from the published port: those ports stay free.
        let may_keep = own != 0 && (shown.remote == client.ip() || own >= FIRST_SUBSTITUTE);
        let substitutes = (0..PORTS_TRIED).map(|attempt: u32| {
            let random = self.secret.hash_one((client, shown, attempt)) as u16;
            FIRST_SUBSTITUTE + random % (u16::MAX - FIRST_SUBSTITUTE + 1)
        });
        let ports = iter::once(own).filter(|_| may_keep).chain(substitutes);
        let mut tuples = ports.map(|port| Tuple {
            endpoint,
            protocol: shown.protocol,
            container: shown.container,
            remote: SocketAddr::new(shown.remote, port),
        });
        tuples.find(|tuple| self.flows.find(tuple).is_none())
    }

    /// The container has refused a client, or kept silent for too long.
    pub(super) fn count_failed(&mut self, mapping: MappingId) {
        if let Some(mapping) = self.published.mapping_mut(mapping) {
            mapping.counters.failed += 1;
        }
    }

    /// There was no room for a client.
    pub(super) fn count_turned_away(&mut self, mapping: MappingId) {
        if let Some(mapping) = self.published.mapping_mut(mapping) {
            mapping.counters.refused_limit += 1;
        }
    }
}

/// Where a client is, with its address: a container's own for one that calls from inside the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A container of this daemon, which calls an address of the host.
    Container(SocketAddr),
    /// Not on this host.
    Elsewhere(SocketAddr),
    /// A process of this host.
    Host(SocketAddr),
}

impl Origin {
    pub(super) fn address(self) -> SocketAddr {
        let (Self::Container(address) | Self::Elsewhere(address) | Self::Host(address)) = self;
        address
    }

    /// Whether somebody from elsewhere has reached a loopback address of this host: the kernel drops such packets, but
    /// `route_localnet` lets them in (CVE-2020-8558), and a port published there is for this host alone.
    pub(super) fn is_stray(self, to: IpAddr) -> bool {
        to.is_loopback() && matches!(self, Self::Elsewhere(_))
    }
}

/// Who has come, and by what.
#[derive(Debug, Clone, Copy)]
struct Client {
    listener: ListenerId,
    mapping: MappingId,
    address: SocketAddr,
}

fn accept(listener: &Socket) -> io::Result<(Socket, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, address): (OwnedFd, _) = rustix::net::acceptfrom_with(listener, flags)?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    // Without an address the connection is gone.
    let address = address.ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((socket.into(), canonical(address)))
}

/// IPv4 clients of a socket of both versions are IPv4 clients (R-IN-6).
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// R-IN-2: the client sees a reset, not the end of a stream.
pub(super) fn reset(socket: Socket) {
    // It is closed either way.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// Connections accepted at a listener before the next socket's turn (R-IN-5).
const ACCEPTED_AT_ONCE: u32 = 16;

/// How long nobody is accepted when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Ports that are tried for a client whose own is taken. With half of all taken, one client in 2^64 finds none.
pub(super) const PORTS_TRIED: u32 = 64;

/// Below are the ports of services (RFC 6335 §6), whose use means privilege to some servers.
pub(super) const FIRST_SUBSTITUTE: u16 = 1024;
