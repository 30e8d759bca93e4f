//! Egress: what a frame needs so that the device behind a port can take it.
//!
//! Between two capable devices the frame and its vnet header pass untouched. A device without the
//! ability that a frame needs gets segments, or completed checksums (B-OFF-1 … 3). A flood serves the
//! capable ports first and the others in one pass after, so that segments are computed once, whoever
//! shares them.

use vswitch_proxy::Delivery;
use vswitch_switch::{DropReason, Egress, EgressOutcome, PortId, TagOp, VlanFiltering};
use vswitch_wire::{
    Abilities, EtherType, IpVersion, NetworkLayer, Offload, VnetHeader,
    segment::{self, Segmenter},
};

use super::{Engine, OutFrame, Transmit};

impl Engine {
    /// Delivers the frame that the switch has just decided on.
    pub(super) fn deliver(
        &mut self,
        frame: &mut [u8],
        offload: Offload,
        out: &mut impl Transmit,
    ) -> Delivered {
        let needs = needs(frame, &offload);
        let mut delivered = Delivered {
            for_gateway: None,
            delivery: Delivery::Sent,
        };
        let mut incapable = false;
        for index in 0..self.switch.egress().len() {
            let egress = self.switch.egress()[index];
            if egress.port == self.gateway_port {
                delivered.for_gateway = Some(egress.tag);
                self.switch
                    .count_egress(egress.port, frame.len(), EgressOutcome::Sent);
            } else if self.abilities(egress.port).contains(needs) {
                delivered.note(self.send(egress, &offload, [frame, &[]], out));
            } else {
                incapable = true;
            }
        }
        if incapable {
            delivered.note(self.deliver_plain(frame, &offload, needs, out));
        }
        delivered
    }

    /// Serves the ports that lack an ability in `needs`.
    fn deliver_plain(
        &mut self,
        frame: &mut [u8],
        offload: &Offload,
        needs: Abilities,
        out: &mut impl Transmit,
    ) -> Delivery {
        // Neither can fail: the offload was validated against this very frame.
        if offload.gso.is_some() {
            let Ok(mut segments) = Segmenter::new(frame, offload) else {
                return Delivery::Refused;
            };
            let mut delivery = Delivery::Sent;
            while let Some(segment) = segments.next_segment() {
                delivery = self.send_to_incapable(needs, [segment.header, segment.payload], out);
                if delivery == Delivery::Full {
                    // What follows a gap would be of little use; the sender may try all of it again.
                    break;
                }
            }
            delivery
        } else if let Some(partial) = offload.checksum
            && segment::complete_checksum(frame, partial).is_ok()
        {
            self.send_to_incapable(needs, [frame, &[]], out)
        } else {
            Delivery::Refused
        }
    }

    fn send_to_incapable(
        &mut self,
        needs: Abilities,
        pieces: [&[u8]; 2],
        out: &mut impl Transmit,
    ) -> Delivery {
        let mut delivery = Delivery::Sent;
        for index in 0..self.switch.egress().len() {
            let egress = self.switch.egress()[index];
            if egress.port != self.gateway_port && !self.abilities(egress.port).contains(needs) {
                delivery = self.send(egress, &Offload::NONE, pieces, out);
            }
        }
        delivery
    }

    /// Sends one frame, given in two pieces of which the first holds all headers, by one port.
    fn send(
        &mut self,
        egress: Egress,
        offload: &Offload,
        [head, tail]: [&[u8]; 2],
        out: &mut impl Transmit,
    ) -> Delivery {
        let outcome = match TagEdit::new(egress.tag, self.tag_protocol(), head, offload) {
            Some(edit) => {
                let frame = OutFrame {
                    vnet: edit.vnet,
                    parts: [edit.addresses, edit.tag(), edit.rest, tail],
                };
                (frame.len(), out.transmit(egress.port, &frame))
            }
            None => (
                head.len() + tail.len(),
                EgressOutcome::Dropped(DropReason::Offload),
            ),
        };
        self.switch.count_egress(egress.port, outcome.0, outcome.1);
        match outcome.1 {
            EgressOutcome::Sent => Delivery::Sent,
            EgressOutcome::Dropped(DropReason::QueueFull) => Delivery::Full,
            EgressOutcome::Dropped(_) => Delivery::Refused,
        }
    }

    /// The EtherType of the tags that this switch puts in.
    pub(super) fn tag_protocol(&self) -> EtherType {
        match self.switch.config().vlan_filtering {
            VlanFiltering::On { tpid, .. } => tpid,
            VlanFiltering::Off => EtherType::VLAN,
        }
    }

    fn abilities(&self, port: PortId) -> Abilities {
        self.links
            .get(port.index())
            .map_or(Abilities::EMPTY, |link| link.abilities)
    }
}

/// What became of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivered {
    /// Whether the gateway is to see it, and with what done to its tag.
    pub(super) for_gateway: Option<TagOp>,
    /// How it went; a port that is full, if one was.
    pub(super) delivery: Delivery,
}

impl Delivered {
    fn note(&mut self, delivery: Delivery) {
        if self.delivery != Delivery::Full {
            self.delivery = delivery;
        }
    }
}

/// A frame's headers with a tag put in or taken out, without moving a byte.
struct TagEdit<'a> {
    vnet: VnetHeader,
    addresses: &'a [u8],
    tag: [u8; TAG],
    tag_len: usize,
    rest: &'a [u8],
}

impl<'a> TagEdit<'a> {
    /// `None` if the frame is too short for its tag, or the offsets of its offload leave their range.
    fn new(op: TagOp, protocol: EtherType, head: &'a [u8], offload: &Offload) -> Option<Self> {
        let none = [0; TAG];
        let (addresses, after) = head.split_at_checked(ADDRESSES)?;
        let (shift, tag, rest) = match op {
            TagOp::Keep => {
                return Some(Self {
                    vnet: offload.header(),
                    addresses: head,
                    tag: none,
                    tag_len: 0,
                    rest: &[],
                });
            }
            TagOp::Pop => (-4, None, after.get(TAG..)?),
            TagOp::Push(tag) => (4, Some(tag), after),
            TagOp::Replace(tag) => (0, Some(tag), after.get(TAG..)?),
        };
        let vnet = offload.shifted(shift)?.header();
        let (tag, tag_len) = match tag {
            Some(tag) => {
                let ([a, b], [c, d]) = (protocol.value().to_be_bytes(), tag.tci().to_be_bytes());
                ([a, b, c, d], TAG)
            }
            None => (none, 0),
        };
        Some(Self {
            vnet,
            addresses,
            tag,
            tag_len,
            rest,
        })
    }

    fn tag(&self) -> &[u8] {
        &self.tag[..self.tag_len]
    }
}

/// Bytes of a VLAN tag.
pub(super) const TAG: usize = 4;
/// Bytes of the two addresses before it.
pub(super) const ADDRESSES: usize = 12;

/// What a port must be able to do to take the frame as it is.
pub(crate) fn needs(frame: &[u8], offload: &Offload) -> Abilities {
    if offload.is_none() {
        return Abilities::EMPTY;
    }
    // The version matters to UDP super-frames only.
    let version = match NetworkLayer::parse(frame) {
        Ok(NetworkLayer {
            ethertype: EtherType::IPV6,
            ..
        }) => IpVersion::V6,
        _ => IpVersion::V4,
    };
    offload.needs(version)
}

#[cfg(test)]
mod tests;
