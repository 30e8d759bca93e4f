//! What the relay needs of the packet loop around it.

use std::net::SocketAddr;

use mio::{Registry, Token};
use vswitch_wire::{MAX_FRAME, MacAddr, Offload, Refusal, Stations};

/// The packet loop, as a relay sees it: the way to the containers and the poll set.
pub trait Link {
    /// Sends a frame from the gateway into the network. The offload must fit the frame; a device that
    /// cannot take it gets segments or completed checksums.
    fn send(&mut self, frame: &mut [u8], offload: Offload) -> Delivery;

    /// Tells the sender of `frame`, a container's frame, by ICMP why it goes nowhere, as far as the
    /// gateway's limits on errors allow.
    fn refuse(&mut self, endpoint: u32, frame: &mut [u8], offload: Offload, refusal: Refusal);

    /// The poll set of the packet loop, in which flows have their sockets (edge-triggered).
    fn registry(&self) -> &Registry;

    /// The token under which events of the socket come back to this relay.
    fn token(&self, socket: SocketId) -> Token;
}

/// What became of a frame to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the container's device.
    Sent,
    /// The device cannot take it now; nothing was sent, try again later.
    Full,
    /// The switch or the device refused it, and will again.
    Refused,
}

/// A host socket of a relay, in its poll set. A number is used again after its socket has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u32);

/// What a host socket is there for. The two topmost bits of its [`SocketId`] tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketRole {
    /// One end of a splice.
    Splice(SpliceId, Side),
    /// The other end of a container's flow.
    Flow(FlowId),
    /// Clients of a published port come in by it.
    Listener(ListenerId),
}

impl SocketRole {
    pub(crate) fn of(id: SocketId) -> Self {
        let place = id.0 & PLACE;
        match id.0 >> ROLE_SHIFT {
            FLOW => Self::Flow(FlowId(place)),
            LISTENER => Self::Listener(ListenerId(place)),
            FRONT => Self::Splice(SpliceId(place), Side::Front),
            _ => Self::Splice(SpliceId(place), Side::Back),
        }
    }

    pub(crate) fn id(self) -> SocketId {
        let (role, place) = match self {
            Self::Flow(FlowId(place)) => (FLOW, place),
            Self::Listener(ListenerId(place)) => (LISTENER, place),
            Self::Splice(SpliceId(place), Side::Front) => (FRONT, place),
            Self::Splice(SpliceId(place), Side::Back) => (BACK, place),
        };
        SocketId(role << ROLE_SHIFT | place)
    }
}

/// A flow's place in its relay. A place is used again after its flow has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FlowId(pub(crate) u32);

/// A listener's place in its relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ListenerId(pub(crate) u32);

/// A splice's place in its [`Splicer`](crate::splice::Splicer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpliceId(pub u32);

/// The two sockets of a splice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The container's.
    Back,
    /// The client's.
    Front,
}

const ROLE_SHIFT: u32 = 30;
const PLACE: u32 = (1 << ROLE_SHIFT) - 1;
const FLOW: u32 = 0;
const LISTENER: u32 = 1;
const FRONT: u32 = 2;
const BACK: u32 = 3;

/// A container's packet that is for the gateway's relay: unicast to the gateway's MAC, with a valid IP header,
/// from an address that the container may use; TTL of at least 2 where it leads beyond the gateway.
#[derive(Debug)]
pub struct Outbound<'a> {
    /// Number of the switch port by which it came; names the container.
    pub endpoint: u32,
    /// The frame, without VLAN tag.
    pub frame: &'a mut [u8],
    /// What the container's kernel left undone. Fits `frame`.
    pub offload: Offload,
    /// Where it is addressed to.
    pub hop: Hop,
}

/// Where a packet for the relay is addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// Beyond the network and outside this daemon's other networks.
    Beyond,
    /// An address of the gateway itself.
    Gateway,
}

/// Both ends of a flow as its frames to the container have them.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// The container's end: destination of frames to it. An echo flow has its identifier as port.
    pub container: SocketAddr,
    /// The other end as the container knows it: source of frames to it. Of the same family.
    pub remote: SocketAddr,
    /// The gateway's MAC and the container's.
    pub stations: Stations,
    /// Largest IP packet to the container, in bytes.
    pub mtu: u16,
}

impl Path {
    /// The container's MAC.
    pub fn station(&self) -> MacAddr {
        self.stations.dst
    }

    /// The same for frames of the container: what an ICMP error to it is about.
    pub fn reversed(&self) -> Self {
        Self {
            container: self.remote,
            remote: self.container,
            stations: Stations {
                src: self.stations.dst,
                dst: self.stations.src,
            },
            mtu: self.mtu,
        }
    }
}

/// Buffers that all relays of a worker share, so that none allocates per packet.
#[derive(Debug)]
pub struct Scratch {
    /// One outgoing frame: headers and the largest payload.
    pub frame: Box<[u8]>,
    /// Payloads of datagrams received at once, [`Scratch::SLOTS`] of [`Scratch::SLOT_LEN`] bytes.
    pub datagrams: Box<[u8]>,
}

impl Scratch {
    /// Datagrams received by one system call at most.
    pub const SLOTS: usize = 16;
    /// Bytes of the largest datagram, coalesced ones included.
    pub const SLOT_LEN: usize = 65_536;

    /// Allocates the buffers; their pages are the kernel's zero page until used.
    pub fn new() -> Self {
        Self {
            frame: vec![0; MAX_FRAME].into_boxed_slice(),
            datagrams: vec![0; Self::SLOTS * Self::SLOT_LEN].into_boxed_slice(),
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
