//! One network's data path, without any I/O: a learning switch, the gateway on it, and what a frame
//! needs to suit the device that it leaves by.
//!
//! Time and frames come in, frames go out through [`Transmit`]; a virtual clock and a vector serve as
//! well as a packet loop and TAPs. Methods: `handle_*` (world → engine), commands (`add_endpoint`,
//! `remove_port`, `announce`, `set_neighbours`), listings (`fdb`, `ports`), and [`Engine::poll_timeout`],
//! which names the time by which [`Engine::handle_timeout`] wants to be called. Calling it early or twice
//! does no harm.
//!
//! The journey of a frame: its vnet header is validated ([`vswitch_wire::VnetHeader::validate`]); the
//! switch decides where it goes; each egress gets the frame untouched when its device can take it, else
//! segments or completed checksums ([`deliver`]). A copy for the gateway is answered at once, the answer
//! entering the switch at the gateway's port like any other frame, or it is given back to the caller for the
//! relay, which sends by [`Engine::send_from_gateway`].

pub(crate) mod allowance;
mod announce;
mod deliver;
mod gateway;
pub(crate) mod icmp;
mod listing;

use std::{sync::Arc, time::Instant};

use ipnet::IpNet;
use vswitch_proxy::{Delivery, Outbound};
use vswitch_switch::{
    DropReason, EgressOutcome, Guard, Isolation, OnWire, PortConfig, PortId, Switch, SwitchConfig, TagOp,
    Verdict,
};
use vswitch_wire::{Abilities, Offload, Refusal, VnetHeader};
use zerocopy::FromBytes;

use crate::{
    dataplane::{DataPlaneError, EndpointSpec, NetworkSpec},
    model::EndpointId,
};
use announce::Announcements;
pub(crate) use deliver::needs;
use deliver::{ADDRESSES, TAG};
use gateway::{Gateway, Outcome};

/// Where the engine's frames go.
pub trait Transmit {
    /// Sends one frame by the device behind `port`. Never blocks: a full device drops.
    fn transmit(&mut self, port: PortId, frame: &OutFrame<'_>) -> EgressOutcome;
}

/// A frame on its way out: the vnet header, and the Ethernet bytes in up to four pieces, so that a tag
/// can be edited and a super-frame segmented without copying the payload. Empty pieces count for nothing.
#[derive(Debug, Clone, Copy)]
pub struct OutFrame<'a> {
    /// Describes the frame's offloads to the device.
    pub vnet: VnetHeader,
    /// The frame's bytes.
    pub parts: [&'a [u8]; 4],
}

impl OutFrame<'_> {
    /// Length of the Ethernet bytes.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One network's switch and gateway.
#[derive(Debug)]
pub struct Engine {
    switch: Switch,
    gateway: Gateway,
    gateway_port: PortId,
    /// What we know of each port that the switch does not, by port number.
    links: Vec<Link>,
    announcements: Announcements,
    mtu: u16,
    inter_container: bool,
    /// What the gateway answers.
    reply: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
struct Link {
    label: String,
    endpoint: Option<EndpointId>,
    abilities: Abilities,
}

impl Engine {
    /// Builds the switch and puts the gateway on its first port.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::PortsExhausted`] if the switch refuses even the gateway's port.
    pub fn new(now: Instant, spec: &NetworkSpec) -> Result<Self, DataPlaneError> {
        let mut switch = Switch::new(SwitchConfig::new(spec.gateway_mac, hash_seed()));
        let gateway_port = switch
            .add_port(
                now,
                PortConfig {
                    mtu: spec.mtu,
                    ..PortConfig::gateway()
                },
            )
            .map_err(|_| DataPlaneError::PortsExhausted)?;
        let mut engine = Self {
            switch,
            gateway: Gateway::new(spec),
            gateway_port,
            links: Vec::new(),
            announcements: Announcements::default(),
            mtu: spec.mtu,
            inter_container: spec.inter_container,
            reply: Vec::with_capacity(REPLY_CAPACITY),
        };
        let link = Link {
            label: "gateway".to_owned(),
            ..Link::default()
        };
        engine.set_link(gateway_port, link);
        Ok(engine)
    }

    /// Adds a container's port: its MAC is known from now on and the only one that it may use, its
    /// addresses are the only ones it may speak for.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::PortsExhausted`] when the switch has no room for the port or its MAC.
    pub fn add_endpoint(
        &mut self,
        now: Instant,
        spec: &EndpointSpec,
        abilities: Abilities,
    ) -> Result<PortId, DataPlaneError> {
        let guard = Guard {
            forbidden: self.gateway.link_local_addresses().collect(),
            ..Guard::new(spec.mac, spec.addresses.clone())
        };
        let isolation = if self.inter_container {
            Isolation::Open
        } else {
            Isolation::Isolated
        };
        let config = PortConfig {
            mtu: self.mtu,
            isolation,
            ..PortConfig::container(guard)
        };
        let port = self
            .switch
            .add_port(now, config)
            .map_err(|_| DataPlaneError::PortsExhausted)?;
        let link = Link {
            label: spec.label.clone(),
            endpoint: Some(spec.id),
            abilities,
        };
        self.set_link(port, link);
        Ok(port)
    }

    /// Removes a port with everything learnt on it.
    pub fn remove_port(&mut self, now: Instant, port: PortId) {
        self.announcements.forget(port);
        self.gateway.forget(port);
        if self.switch.remove_port(now, port).is_ok()
            && let Some(link) = self.links.get_mut(port.index())
        {
            *link = Link::default();
        }
    }

    /// Tells the network which station owns the endpoint's addresses, now and twice more (B-ARP-6).
    pub fn announce(&mut self, now: Instant, port: PortId, spec: &EndpointSpec, out: &mut impl Transmit) {
        self.announcements.begin(now, port, spec.mac, &spec.addresses);
        self.handle_timeout(now, out);
    }

    /// Sets the prefixes of this daemon's other networks, which a gateway calls prohibited rather than
    /// unknown.
    pub fn set_neighbours(&mut self, prefixes: Arc<[IpNet]>) {
        self.gateway.set_neighbours(prefixes);
    }

    /// Takes one read from the device behind `ingress`: a vnet header and a frame. Both are whatever the
    /// container wrote; a bad one is dropped and counted. Returns what is for the relay.
    pub fn handle_frame<'f>(
        &mut self,
        now: Instant,
        ingress: PortId,
        read: &'f mut [u8],
        out: &mut impl Transmit,
    ) -> Option<Outbound<'f>> {
        let len = read.len();
        let Some((header, frame)) = read.split_at_mut_checked(VnetHeader::LEN) else {
            self.switch.count_ingress_refusal(ingress, len, DropReason::Runt);
            return None;
        };
        let offload = offload(header, frame);
        let Some(offload) = offload else {
            self.switch
                .count_ingress_refusal(ingress, frame.len(), DropReason::Offload);
            return None;
        };
        self.forward(now, ingress, frame, offload, out)
    }

    /// Sends a frame of the relay's from the gateway's port.
    pub fn send_from_gateway(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        offload: Offload,
        out: &mut impl Transmit,
    ) -> Delivery {
        let on_wire = on_wire(frame.len(), &offload);
        match self.switch.handle_frame(now, self.gateway_port, frame, on_wire) {
            Verdict::Forward => self.deliver(frame, offload, out).delivery,
            Verdict::Drop(_) => Delivery::Refused,
        }
    }

    /// Tells the sender of a packet by ICMP why the relay does not carry it on.
    pub fn refuse(
        &mut self,
        now: Instant,
        ingress: PortId,
        (frame, offload): (&mut [u8], Offload),
        refusal: Refusal,
        out: &mut impl Transmit,
    ) {
        let mut reply = std::mem::take(&mut self.reply);
        if self
            .gateway
            .refuse(now, ingress, (frame, offload), refusal, &mut reply)
            .is_some()
        {
            self.switch_frame(now, self.gateway_port, &mut reply, Offload::NONE, out);
        }
        self.reply = reply;
    }

    /// Answers a packet for an address that is ours without being the gateway's: an echo request by its reply, anything
    /// else by an ICMP error.
    pub fn answer(
        &mut self,
        now: Instant,
        ingress: PortId,
        (frame, offload): (&mut [u8], Offload),
        out: &mut impl Transmit,
    ) {
        let mut reply = std::mem::take(&mut self.reply);
        let answer = self.gateway.answer_as_another(frame, &mut reply);
        if let Some(Ok(())) = answer {
            self.switch_frame(now, self.gateway_port, &mut reply, Offload::NONE, out);
        }
        self.reply = reply;
        if let Some(Err(refusal)) = answer {
            self.refuse(now, ingress, (frame, offload), refusal, out);
        }
    }

    /// The time by which [`Engine::handle_timeout`] should be called; `None` if nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (a, b) = (self.switch.poll_timeout(), self.announcements.poll_timeout());
        a.into_iter().chain(b).min()
    }

    /// Does what is due at `now`: ages stations, repeats announcements.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl Transmit) {
        self.switch.handle_timeout(now);
        while let Some((port, mut frame)) = self.announcements.poll_frame(now) {
            if self.switch.announce(now, port, &frame) == Verdict::Forward {
                // The gateway learns nothing from it: it asks nobody.
                self.deliver(&mut frame, Offload::NONE, out);
            }
        }
    }

    /// Runs a frame through the switch, and whatever the gateway answers after it.
    fn forward<'f>(
        &mut self,
        now: Instant,
        ingress: PortId,
        frame: &'f mut [u8],
        offload: Offload,
        out: &mut impl Transmit,
    ) -> Option<Outbound<'f>> {
        let tag = self.switch_frame(now, ingress, frame, offload, out)?;
        let (frame, offload) = untag(tag, frame, offload)?;
        let mut reply = std::mem::take(&mut self.reply);
        let outcome = self
            .gateway
            .handle_frame(now, ingress, frame, offload, &mut reply);
        if outcome == Outcome::Replied {
            // Its own port is no egress of what the gateway sends, so it is not asked again.
            self.switch_frame(now, self.gateway_port, &mut reply, Offload::NONE, out);
        }
        self.reply = reply;
        match outcome {
            Outcome::Relay(hop) => Some(Outbound {
                endpoint: ingress.0,
                frame,
                offload,
                hop,
            }),
            Outcome::Ignored | Outcome::Replied => None,
        }
    }

    /// Returns what is to be done to the tag of the gateway's copy, if it is to get one.
    fn switch_frame(
        &mut self,
        now: Instant,
        ingress: PortId,
        frame: &mut [u8],
        offload: Offload,
        out: &mut impl Transmit,
    ) -> Option<TagOp> {
        match self
            .switch
            .handle_frame(now, ingress, frame, on_wire(frame.len(), &offload))
        {
            Verdict::Forward => self.deliver(frame, offload, out).for_gateway,
            Verdict::Drop(_) => None,
        }
    }

    fn set_link(&mut self, port: PortId, link: Link) {
        let index = port.index();
        if self.links.len() <= index {
            self.links.resize_with(index + 1, Link::default);
        }
        self.links[index] = link;
    }
}

/// What the vnet header in front of a frame says, if that can be true.
#[inline]
pub(crate) fn offload(header: &[u8], frame: &mut [u8]) -> Option<Offload> {
    let header = VnetHeader::ref_from_bytes(header).ok()?;
    let offload = header.validate(frame).or_else(|_| {
        let completed = header.complete_inner(frame);
        completed.map(|()| Offload::NONE)
    });
    offload.ok()
}

/// The frame as the gateway gets it, in place: every other egress has had it. The gateway's port carries
/// untagged frames, so a tag is taken off and never put on.
fn untag(tag: TagOp, frame: &mut [u8], offload: Offload) -> Option<(&mut [u8], Offload)> {
    match tag {
        TagOp::Keep => Some((frame, offload)),
        TagOp::Pop => {
            if frame.len() < ADDRESSES + TAG {
                return None;
            }
            frame.copy_within(..ADDRESSES, TAG);
            Some((&mut frame[TAG..], offload.shifted(-(TAG as i16))?))
        }
        TagOp::Push(_) | TagOp::Replace(_) => None,
    }
}

/// What a frame is on the wire, for MTUs and storm limits.
#[inline]
fn on_wire(frame_len: usize, offload: &Offload) -> OnWire {
    let Some(gso) = offload.gso else {
        return OnWire::one(frame_len);
    };
    // A validated super-frame has at most `MAX_TCP_SEGMENTS` segments, so both fit.
    let segments = offload.segments(frame_len);
    OnWire {
        frames: segments as u32,
        bytes: (frame_len + (segments - 1) * usize::from(gso.header_len)) as u32,
        largest: offload.largest_frame(frame_len),
    }
}

/// The longest answer of a gateway: an echo of the largest packet.
const REPLY_CAPACITY: usize = vswitch_wire::MAX_FRAME;

/// A seed that a container cannot guess, for the table whose keys containers choose.
fn hash_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};

    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests;
