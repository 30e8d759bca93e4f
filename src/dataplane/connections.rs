//! Connections of the translation: which of them are asked for, and how they are listed, removed and watched.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ipnet::IpNet;
use tokio::sync::mpsc;
use vswitch_nat::{ConnView, Egress, Event, Filtering, Tuple, Zone};
use vswitch_wire::IpProtocol;

use super::{DataPlane, DataPlaneError};
use crate::{model::NetworkId, worker::Command};

impl DataPlane {
    /// Lists a part of the connections that pass the filter, from `from` on. What is there all the while comes once.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::Stopped`].
    pub async fn connections(
        &self,
        filter: &Arc<ConnFilter>,
        from: Place,
    ) -> Result<ConnPage, DataPlaneError> {
        self.visit(Visit::List, filter, from).await
    }

    /// Removes a part of the connections that pass the filter, from `from` on, and lists it.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::Stopped`].
    pub async fn remove_connections(
        &self,
        filter: &Arc<ConnFilter>,
        from: Place,
    ) -> Result<ConnPage, DataPlaneError> {
        self.visit(Visit::Remove, filter, from).await
    }

    /// Watches connections that pass the filter, from now on. The packet loops never wait for the watcher: what it does not
    /// take in time is lost, and it is told how much.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::Stopped`].
    pub async fn connection_events(&self, filter: Arc<ConnFilter>) -> Result<ConnEvents, DataPlaneError> {
        let (watcher, events) = Watcher::new(filter);
        for worker in 0..self.workers() {
            let watcher = watcher.clone();
            self.ask(worker, |reply| Command::ConnectionEvents { watcher, reply })
                .await?;
        }
        Ok(events)
    }

    /// What each translation does, and what it has counted.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::Stopped`].
    pub async fn translations(&self) -> Result<Vec<TranslationView>, DataPlaneError> {
        let mut views = Vec::new();
        for worker in 0..self.workers() {
            views.extend(self.ask(worker, |reply| Command::Translations { reply }).await?);
        }
        Ok(views)
    }

    async fn visit(
        &self,
        visit: Visit,
        filter: &Arc<ConnFilter>,
        from: Place,
    ) -> Result<ConnPage, DataPlaneError> {
        let visited = self.ask(from.worker, |reply| Command::Connections {
            visit,
            filter: Arc::clone(filter),
            from: from.table,
            reply,
        });
        let (rows, table) = visited.await?;
        let next = match table {
            Some(table) => Some(Place { table, ..from }),
            None => Some(Place {
                worker: from.worker + 1,
                ..Place::START
            })
            .filter(|place| place.worker < self.workers()),
        };
        Ok(ConnPage { rows, next })
    }
}

/// Where a listing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    worker: usize,
    table: TablePlace,
}

impl Place {
    /// The beginning of everything.
    pub const START: Self = Self {
        worker: 0,
        table: TablePlace::START,
    };
}

/// Where a listing of a worker goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TablePlace {
    /// Which of its tables.
    pub(crate) table: usize,
    /// Which entry.
    pub(crate) entry: u32,
}

impl TablePlace {
    /// The beginning.
    pub(crate) const START: Self = Self { table: 0, entry: 0 };
}

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnPage {
    /// What was found.
    pub rows: Vec<ConnRow>,
    /// Where to go on, if that was not all.
    pub next: Option<Place>,
}

/// What is done with connections that are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// Nothing.
    List,
    /// They end.
    Remove,
}

/// A connection with the networks that its sides are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnRow {
    /// The initiator's network and the responder's; `None` for one that is outside.
    pub networks: [Option<NetworkId>; 2],
    /// What it looks like.
    pub view: ConnView,
}

impl ConnRow {
    /// The connection with its zones' networks.
    pub(crate) fn new(view: ConnView, network: impl Fn(Zone) -> Option<NetworkId>) -> Self {
        Self {
            networks: [network(view.original.zone), network(view.reply.zone)],
            view,
        }
    }
}

/// Which connections are meant: those that fit everything that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnFilter {
    /// Version of IP.
    pub family: Option<Family>,
    /// Transport protocol.
    pub protocol: Option<IpProtocol>,
    /// As the initiator sends.
    pub original: EndsFilter,
    /// As the responder answers.
    pub reply: EndsFilter,
    /// State of TCP or SCTP, as [`ConnView::state`] has it.
    pub state: Option<String>,
    /// How far it is, whatever the protocol.
    pub status: Option<Status>,
    /// A network that one of its sides is on.
    pub network: Option<NetworkId>,
    /// Addresses on networks, of which one of its sides has one.
    pub hosts: Option<Vec<(NetworkId, IpAddr)>>,
}

impl ConnFilter {
    /// Whether it is one of them.
    pub fn matches(&self, row: &ConnRow) -> bool {
        let ConnRow { networks, view } = row;
        let sides = || networks.iter().zip([&view.original, &view.reply]);
        let is_on = |wanted: NetworkId| networks.contains(&Some(wanted));
        let is_of = |hosts: &Vec<(NetworkId, IpAddr)>| {
            sides().any(|(network, tuple)| {
                network.is_some_and(|network| hosts.contains(&(network, tuple.src.ip())))
            })
        };
        self.family.is_none_or(|family| family.is_of(&view.original))
            && self
                .protocol
                .is_none_or(|protocol| protocol == view.original.protocol())
            && self.original.matches(&view.original)
            && self.reply.matches(&view.reply)
            && self
                .state
                .as_deref()
                .is_none_or(|state| view.state.is_some_and(|of| of.eq_ignore_ascii_case(state)))
            && self.status.is_none_or(|status| status.is_of(view))
            && self.network.is_none_or(is_on)
            && self.hosts.as_ref().is_none_or(is_of)
    }
}

/// Addresses and ports of one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndsFilter {
    /// Where the source is.
    pub src: Option<IpNet>,
    /// Where the destination is.
    pub dst: Option<IpNet>,
    /// Source port, of protocols that have ports.
    pub src_port: Option<u16>,
    /// Destination port, of protocols that have ports.
    pub dst_port: Option<u16>,
}

impl EndsFilter {
    fn matches(&self, tuple: &Tuple) -> bool {
        let is_in = |net: Option<IpNet>, address: vswitch_nat::Address| {
            net.is_none_or(|net| net.contains(&address.ip()))
        };
        let is_port = |wanted: Option<u16>, port: u16| {
            wanted.is_none_or(|wanted| has_ports(tuple.protocol) && wanted == port)
        };
        is_in(self.src, tuple.src)
            && is_in(self.dst, tuple.dst)
            && is_port(self.src_port, tuple.src_port)
            && is_port(self.dst_port, tuple.dst_port)
    }
}

/// Whether the ports of a tuple of this protocol are ports, rather than the identifier of a query or nothing.
pub fn has_ports(protocol: u8) -> bool {
    const UDP_LITE: IpProtocol = IpProtocol(136);
    matches!(
        IpProtocol(protocol),
        IpProtocol::SCTP | IpProtocol::TCP | IpProtocol::UDP | UDP_LITE
    )
}

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// 4.
    Ipv4,
    /// 6.
    Ipv6,
}

impl Family {
    fn is_of(self, tuple: &Tuple) -> bool {
        match self {
            Self::Ipv4 => tuple.src.is_v4(),
            Self::Ipv6 => !tuple.src.is_v4(),
        }
    }
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is spared when room is needed.
    Assured,
    /// An answer was seen.
    SeenReply,
    /// No answer was seen.
    Unreplied,
}

impl Status {
    const fn is_of(self, view: &ConnView) -> bool {
        match self {
            Self::Assured => view.is_assured,
            Self::SeenReply => view.is_replied,
            Self::Unreplied => !view.is_replied,
        }
    }
}

/// What happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnEvent {
    /// It has ended.
    Destroyed(ConnRow),
    /// So many events were lost before the next one, of which some may not have passed the filter.
    Lost(u64),
    /// It has begun.
    New(ConnRow),
    /// Its state has changed.
    Updated(ConnRow),
}

/// The watcher's end of [`DataPlane::connection_events`].
#[derive(Debug)]
pub struct ConnEvents {
    receiver: mpsc::Receiver<Option<ConnEvent>>,
    lost: Arc<AtomicU64>,
}

impl ConnEvents {
    /// What is there already.
    #[cfg(test)]
    pub(crate) fn try_recv(&mut self) -> Result<Option<ConnEvent>, mpsc::error::TryRecvError> {
        self.receiver.try_recv()
    }

    /// The next event; `None` when the packet loops have ended. Nothing is lost if this is dropped while it waits.
    pub async fn recv(&mut self) -> Option<ConnEvent> {
        loop {
            match self.lost.swap(0, Ordering::Relaxed) {
                0 => {}
                lost => return Some(ConnEvent::Lost(lost)),
            }
            if let Some(event) = self.receiver.recv().await? {
                return Some(event);
            }
        }
    }
}

/// A packet loop's end of the same.
#[derive(Debug, Clone)]
pub(crate) struct Watcher {
    filter: Arc<ConnFilter>,
    /// Nothing in it means that something was lost.
    sender: mpsc::Sender<Option<ConnEvent>>,
    lost: Arc<AtomicU64>,
}

impl Watcher {
    /// Both ends.
    pub(crate) fn new(filter: Arc<ConnFilter>) -> (Self, ConnEvents) {
        Self::with_room(filter, BACKLOG)
    }

    fn with_room(filter: Arc<ConnFilter>, room: usize) -> (Self, ConnEvents) {
        let (sender, receiver) = mpsc::channel(room);
        let lost = Arc::new(AtomicU64::new(0));
        let watcher = Self {
            filter,
            sender,
            lost: Arc::clone(&lost),
        };
        (watcher, ConnEvents { receiver, lost })
    }

    /// Whether nobody listens any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    /// Tells an event, if it is wanted and there is room.
    pub(crate) fn tell(&self, event: &Event, network: impl Fn(Zone) -> Option<NetworkId>) {
        let row = |view: &ConnView| {
            Some(ConnRow::new(view.clone(), &network)).filter(|row| self.filter.matches(row))
        };
        let event = match event {
            Event::Destroyed(view) => row(view).map(ConnEvent::Destroyed),
            Event::New(view) => row(view).map(ConnEvent::New),
            Event::Updated(view) => row(view).map(ConnEvent::Updated),
        };
        if event.is_some() && self.sender.try_send(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells that events were lost before they came here.
    pub(crate) fn tell_lost(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
        // If there is no room the other end is awake in any case.
        let _ = self.sender.try_send(None);
    }
}

/// Events that wait for a watcher, some 300 bytes each; the kernel's default for conntrack's socket is about as many.
const BACKLOG: usize = 4096;

/// What a table of connections is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// Calls of published ports between containers.
    Inside,
    /// What leaves and enters by the device uplink.
    Uplink,
}

/// A translation as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranslationView {
    /// What it is for.
    pub kind: TableKind,
    /// External addresses in use, in order of preference.
    pub addresses: Vec<IpAddr>,
    /// Networks that are translated or routed.
    pub networks: Vec<TranslatedNetwork>,
    /// Published ports.
    pub ports: Vec<TranslatedPort>,
    /// Connections in the table.
    pub connections: usize,
    /// Dropped packets by reason, only those above zero.
    pub drops: Vec<(&'static str, u64)>,
    /// Other counters above zero.
    pub other: Vec<(&'static str, u64)>,
}

/// A network of a translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranslatedNetwork {
    /// The network.
    pub network: Option<NetworkId>,
    /// Its zone; a network whose versions are translated differently has two.
    pub zone: Zone,
    /// Its prefixes there.
    pub prefixes: Vec<IpNet>,
    /// How its packets leave.
    pub egress: Egress,
    /// Who may answer, if the network has a rule of its own.
    pub filtering: Option<Filtering>,
    /// Connections that count for it now.
    pub connections: usize,
}

/// A published port of a translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranslatedPort {
    /// The network of the target.
    pub network: Option<NetworkId>,
    /// What leads where.
    pub mapping: vswitch_nat::PortMapping,
    /// Connections that have come by it since it was published.
    pub hits: u64,
}

#[cfg(test)]
mod tests;
