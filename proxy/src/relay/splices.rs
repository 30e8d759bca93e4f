//! Clients of published ports on this host: brought to the container from socket to socket.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use socket2::Socket;

use super::{Readiness, Relay, published::Mapping};
use crate::{
    Link,
    config::Lease,
    link::{Side, SocketRole, SpliceId},
    listing::{FlowView, Protocol},
    publish::{Local, MappingId, SocketKind},
    splice::{Connect, Ends, Progress, Splicer},
};

/// The splices of a relay.
#[derive(Debug, Default)]
pub(super) struct Splices {
    splicer: Splicer,
    /// What each is, by its number.
    places: Vec<Option<Place>>,
}

/// One splice.
#[derive(Debug)]
struct Place {
    mapping: MappingId,
    endpoint: u32,
    client: SocketAddr,
    container: SocketAddr,
    began: Instant,
    active: Instant,
    /// Waits in [`Relay::turns`].
    turn: bool,
    _descriptors: [Lease; 2],
}

/// How a splice has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It has had its time.
    Over,
    /// The container did not take it.
    Refused,
}

/// A client on this host and what of it is known.
#[derive(Debug)]
pub(super) struct LocalClient {
    pub(super) mapping: MappingId,
    pub(super) address: SocketAddr,
    pub(super) container_port: u16,
    pub(super) socket: Socket,
    /// What the container gets first.
    pub(super) prefix: Vec<u8>,
}

impl Relay {
    /// Brings a client to the container inside its namespace. Gives the client back if there is no way now; it may
    /// be relayed.
    pub(super) fn splice(
        &mut self,
        now: Instant,
        client: LocalClient,
        link: &mut impl Link,
    ) -> Result<(), LocalClient> {
        let Some((back, container)) = self
            .published
            .mapping(client.mapping)
            .and_then(|mapping| inside(mapping, &client))
        else {
            return Err(client);
        };
        let endpoint = self
            .published
            .mapping(client.mapping)
            .map_or(0, |mapping| mapping.station().0);
        let LocalClient {
            mapping,
            address,
            socket: front,
            prefix,
            ..
        } = client;
        let has_place = self.make_place_for_client(now, Protocol::Tcp, endpoint);
        let leases = self
            .lease_for_client(endpoint)
            .zip(self.lease_for_client(endpoint));
        let Some((one, other)) = leases.filter(|_| has_place) else {
            self.count_turned_away(mapping);
            super::inbound::reset(front);
            return Ok(());
        };
        let connect = match back.connect(&container.into()) {
            Ok(()) => Connect::Done,
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Connect::Begun,
            Err(_) => {
                // R-IN-2: nobody listens there.
                self.count_failed(mapping);
                super::inbound::reset(front);
                return Ok(());
            }
        };
        let ends = Ends {
            front,
            back,
            connect,
            prefix,
        };
        let token = |id, side| link.token(SocketRole::Splice(id, side).id());
        match self.splices.splicer.open(ends, link.registry(), token) {
            Ok(id) => {
                let place = Place {
                    mapping,
                    endpoint,
                    client: address,
                    container,
                    began: now,
                    active: now,
                    turn: false,
                    _descriptors: [one, other],
                };
                self.splices.insert(id, place);
                let share = self.shares.of(endpoint);
                (share.flows, share.clients) = (share.flows + 1, share.clients + 1);
                share.descriptors += 2;
                self.published.count_in(mapping);
                self.advance_splice(now, id, Side::Back, READY);
            }
            Err(_) => self.count_turned_away(mapping),
        }
        Ok(())
    }

    /// Something has happened to a splice's socket.
    pub(super) fn advance_splice(&mut self, now: Instant, id: SpliceId, side: Side, readiness: Readiness) {
        let Some(place) = self.splices.place_mut(id) else {
            return;
        };
        place.active = now;
        match self.splices.splicer.handle_ready(id, side, readiness) {
            Progress::Open => {}
            Progress::More => {
                if let Some(place) = self.splices.place_mut(id)
                    && !std::mem::replace(&mut place.turn, true)
                {
                    self.turns.push_back(SocketRole::Splice(id, side).id());
                }
            }
            Progress::Ended(summary) => {
                // The container's socket has failed before it said anything.
                let is_refused = summary.reset && summary.to_front == 0 && side == Side::Back;
                self.finish_splice(
                    id,
                    if is_refused {
                        Outcome::Refused
                    } else {
                        Outcome::Over
                    },
                );
            }
        }
    }

    /// Its turn has come.
    pub(super) fn clear_splice_turn(&mut self, id: SpliceId) {
        if let Some(place) = self.splices.place_mut(id) {
            place.turn = false;
        }
    }

    /// Resets the splices of a mapping.
    pub(super) fn abort_splices_of(&mut self, mapping: MappingId) {
        self.abort_splices(|place| place.mapping == mapping);
    }

    /// Resets the splices of a container.
    pub(super) fn abort_splices_to(&mut self, endpoint: u32) {
        self.abort_splices(|place| place.endpoint == endpoint);
    }

    /// Resets all splices.
    pub(super) fn abort_all_splices(&mut self) {
        self.abort_splices(|_| true);
    }

    fn abort_splices(&mut self, chosen: impl Fn(&Place) -> bool) {
        let places = (0..).map(SpliceId).zip(&self.splices.places);
        let ids: Vec<SpliceId> = places
            .filter(|(_, place)| place.as_ref().is_some_and(&chosen))
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            if self.splices.splicer.abort(id).is_some() {
                self.finish_splice(id, Outcome::Over);
            }
        }
    }

    fn finish_splice(&mut self, id: SpliceId, outcome: Outcome) {
        let Some(place) = self.splices.places.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        if outcome == Outcome::Refused {
            self.count_failed(place.mapping);
        }
        let share = self.shares.of(place.endpoint);
        (share.flows, share.clients) = (share.flows - 1, share.clients - 1);
        share.descriptors -= 2;
        self.published.count_out(place.mapping);
    }

    /// Every splice, as flows are listed.
    pub(super) fn splice_views(&self, now: Instant) -> impl Iterator<Item = FlowView> {
        self.splices.splicer.views().filter_map(move |view| {
            let place = self.splices.places.get(view.id.0 as usize)?.as_ref()?;
            Some(FlowView {
                endpoint: place.endpoint,
                protocol: Protocol::Tcp,
                state: "SPLICED",
                container: place.container,
                remote: place.client,
                target: None,
                sent: view.to_front,
                received: view.to_back,
                age: now.saturating_duration_since(place.began),
                idle: now.saturating_duration_since(place.active),
                timeout: Duration::ZERO,
            })
        })
    }
}

impl Splices {
    /// Makes those that fit, by their mapping and the container's port, another mapping's; how many they are.
    pub(super) fn move_to(&mut self, other: MappingId, fits: impl Fn(MappingId, u16) -> bool) -> usize {
        let mut moved = 0;
        for place in self.places.iter_mut().flatten() {
            if fits(place.mapping, place.container.port()) {
                place.mapping = other;
                moved += 1;
            }
        }
        moved
    }

    fn place_mut(&mut self, id: SpliceId) -> Option<&mut Place> {
        self.places.get_mut(id.0 as usize)?.as_mut()
    }

    fn insert(&mut self, id: SpliceId, place: Place) {
        let index = id.0 as usize;
        if self.places.len() <= index {
            self.places.resize_with(index + 1, || None);
        }
        self.places[index] = Some(place);
    }
}

/// A socket in the container's namespace and where to connect it.
fn inside(mapping: &Mapping, client: &LocalClient) -> Option<(Socket, SocketAddr)> {
    let (rules, backend) = (&mapping.spec.rules, &mapping.spec.backend);
    let sockets = backend
        .sockets
        .as_ref()
        .filter(|_| rules.local == Local::Splice)?;
    let address = backend.address_for(client.address.ip())?;
    let socket = sockets.take(SocketKind::tcp(address))?;
    Some((socket.into(), SocketAddr::new(address, client.container_port)))
}

/// A new pair's sockets are asked, not waited for.
const READY: Readiness = Readiness {
    readable: true,
    writable: true,
    error: false,
};
