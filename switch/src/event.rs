//! What the switch tells its owner.

use std::{collections::VecDeque, time::Instant};

use vswitch_wire::{MacAddr, VlanId};

use crate::{Limit, PortId};

/// Something happened that people or other switches may want to know.
///
/// Events about stations are limited to 100 a second per port (B-LIM-4), and all events to a queue of
/// [`EVENT_QUEUE`]; what exceeds either is counted in [`Counters::events_suppressed`](crate::Counters).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A station was not heard for the ageing time.
    Aged {
        /// The station.
        station: Station,
        /// Where it was.
        port: PortId,
    },
    /// A station had to make room for another.
    Evicted {
        /// The station that is no longer known.
        station: Station,
        /// Where it was.
        port: PortId,
    },
    /// A station moved too often and is frozen on the port that had it first (B-LIM-4).
    Flapping {
        /// The station.
        station: Station,
        /// The port that keeps it.
        older: PortId,
        /// The other port, which the loop guard may disable.
        younger: PortId,
    },
    /// A station became known.
    Learned {
        /// The station.
        station: Station,
        /// Where it is.
        port: PortId,
    },
    /// A station could not become known.
    LimitReached {
        /// The station.
        station: Station,
        /// The port that it was heard on.
        port: PortId,
        /// What is full.
        limit: Limit,
    },
    /// A known station was heard on another port.
    Moved {
        /// The station.
        station: Station,
        /// Where it was.
        from: PortId,
        /// Where it is.
        to: PortId,
    },
    /// A static entry's address was used as source on another port (B-LRN-7).
    PinViolated {
        /// The station.
        station: Station,
        /// The port that the address belongs to.
        owner: PortId,
        /// The port that used it.
        offender: PortId,
    },
    /// A guard disabled a port.
    PortBlocked {
        /// The port.
        port: PortId,
        /// Why.
        cause: BlockCause,
        /// When it works again.
        until: Instant,
    },
    /// The time of a disabled port is over.
    PortUnblocked {
        /// The port.
        port: PortId,
    },
}

/// A station: its address and the VLAN that it was heard in, if the switch filters VLANs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Station {
    /// The address.
    pub mac: MacAddr,
    /// The VLAN; `None` without VLAN filtering.
    pub vlan: Option<VlanId>,
}

/// Why a port was disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockCause {
    /// It sent a bridge protocol data unit (B-STP-2).
    Bpdu,
    /// A station alternated between it and an older port (B-LOOP-1).
    Loop,
}

/// Events waiting to be polled.
#[derive(Debug)]
pub(crate) struct EventQueue(VecDeque<Event>);

impl EventQueue {
    pub(crate) fn new() -> Self {
        Self(VecDeque::with_capacity(EVENT_QUEUE))
    }

    /// Appends an event; false if there is no room.
    pub(crate) fn push(&mut self, event: Event) -> bool {
        let has_room = self.0.len() < EVENT_QUEUE;
        if has_room {
            self.0.push_back(event);
        }
        has_room
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.0.pop_front()
    }
}

/// How many events wait at most. Ten ports at their full rate for about a second.
pub const EVENT_QUEUE: usize = 1024;

/// Events about stations per port: 50 at once and 50 a second, hence never more than 100 within any
/// second (B-LIM-4).
pub(crate) const STATION_EVENT_RATE: u64 = 50;
/// See [`STATION_EVENT_RATE`].
pub(crate) const STATION_EVENT_BURST: u64 = 50;
