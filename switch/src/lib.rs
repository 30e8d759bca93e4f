//! A learning Ethernet switch: who is where, who may talk to whom, and how much.
//!
//! The crate does no I/O. Time and frames come in, decisions go out; see [`Switch`] for the order of
//! calls. It holds no payload and no queue: whoever calls [`Switch::handle_frame`] writes the frame to the
//! ports of [`Switch::egress`] before the next one, so frames of a flow keep their order (B-FWD-4) and a
//! slow port holds up nobody (B-FWD-5).
//!
//! IDs such as B-LRN-3 are requirements of the project's bridge conformance reference; the tests carry
//! them in their names.
#![forbid(unsafe_code)]

mod event;
mod fdb;
mod flood;
mod guard;
mod loop_guard;
mod port;
mod storm;
mod switch;
mod timeline;
mod verdict;
mod vlan;

pub use event::{BlockCause, EVENT_QUEUE, Event, Station};
pub use fdb::{EntryKind, Eviction, FdbEntryView, Limit};
pub use flood::Egress;
pub use guard::{Guard, LinkLocal};
pub use loop_guard::FlapLimits;
pub use port::{
    AddPortError, BpduGuard, ConfigurePortError, DEFAULT_MTU, FloodScope, Hairpin, InvalidReservedMask,
    Isolation, Learning, LinkState, LoopGuard, PinError, PortConfig, PortId, PortKind, ReservedMask,
    UnknownPort,
};
pub use storm::{BURST_DIVISOR, OnWire, Rate, StormLimits};
pub use switch::{BpduPolicy, FlushScope, MAX_PORTS, PinViolation, SWEEP_BUDGET, Switch, SwitchConfig};
pub use verdict::{Counters, DropReason, EgressOutcome, Verdict};
pub use vlan::{PortVlans, TagOp, VlanFiltering, VlanSet};
