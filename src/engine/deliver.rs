//! Egress: what a frame needs so that the device behind a port can take it.
//!
//! Between two capable devices the frame and its vnet header pass untouched. A device without the
//! ability that a frame needs gets segments, or completed checksums (B-OFF-1 … 3). A flood serves the
//! capable ports first and the others in one pass after, so that segments are computed once, whoever
//! shares them.

use vswitch_switch::{DropReason, Egress, EgressOutcome, PortId, TagOp, VlanFiltering};
use vswitch_wire::{
    Abilities, EtherType, IpVersion, NetworkLayer, Offload, VnetHeader,
    segment::{self, Segmenter},
};

use super::{Engine, OutFrame, Transmit};

impl Engine {
    /// Delivers the frame that the switch has just decided on; returns whether the gateway is to see it,
    /// and with what done to its tag.
    pub(super) fn deliver(
        &mut self,
        frame: &mut [u8],
        offload: Offload,
        out: &mut impl Transmit,
    ) -> Option<TagOp> {
        let needs = needs(frame, &offload);
        let mut for_gateway = None;
        let mut incapable = false;
        for index in 0..self.switch.egress().len() {
            let egress = self.switch.egress()[index];
            if egress.port == self.gateway_port {
                for_gateway = Some(egress.tag);
                self.switch
                    .count_egress(egress.port, frame.len(), EgressOutcome::Sent);
            } else if self.abilities(egress.port).contains(needs) {
                self.send(egress, &offload, [frame, &[]], out);
            } else {
                incapable = true;
            }
        }
        if incapable {
            self.deliver_plain(frame, &offload, needs, out);
        }
        for_gateway
    }

    /// Serves the ports that lack an ability in `needs`.
    fn deliver_plain(
        &mut self,
        frame: &mut [u8],
        offload: &Offload,
        needs: Abilities,
        out: &mut impl Transmit,
    ) {
        // Neither can fail: the offload was validated against this very frame.
        if offload.gso.is_some() {
            let Ok(mut segments) = Segmenter::new(frame, offload) else {
                return;
            };
            while let Some(segment) = segments.next_segment() {
                self.send_to_incapable(needs, [segment.header, segment.payload], out);
            }
        } else if let Some(partial) = offload.checksum
            && segment::complete_checksum(frame, partial).is_ok()
        {
            self.send_to_incapable(needs, [frame, &[]], out);
        }
    }

    fn send_to_incapable(&mut self, needs: Abilities, pieces: [&[u8]; 2], out: &mut impl Transmit) {
        for index in 0..self.switch.egress().len() {
            let egress = self.switch.egress()[index];
            if egress.port != self.gateway_port && !self.abilities(egress.port).contains(needs) {
                self.send(egress, &Offload::NONE, pieces, out);
            }
        }
    }

    /// Sends one frame, given in two pieces of which the first holds all headers, by one port.
    fn send(&mut self, egress: Egress, offload: &Offload, [head, tail]: [&[u8]; 2], out: &mut impl Transmit) {
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

/// A frame's headers with a tag put in or taken out, without moving a byte.
pub(super) struct TagEdit<'a> {
    pub(super) vnet: VnetHeader,
    addresses: &'a [u8],
    tag: [u8; TAG],
    tag_len: usize,
    rest: &'a [u8],
}

impl<'a> TagEdit<'a> {
    /// `None` if the frame is too short for its tag, or the offsets of its offload leave their range.
    pub(super) fn new(op: TagOp, protocol: EtherType, head: &'a [u8], offload: &Offload) -> Option<Self> {
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

    /// Writes the edited frame in one piece.
    pub(super) fn copy_to(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        for part in [self.addresses, self.tag(), self.rest] {
            buffer.extend_from_slice(part);
        }
    }
}

/// Bytes of a VLAN tag.
const TAG: usize = 4;
/// Bytes of the two addresses before it.
const ADDRESSES: usize = 12;

/// What a port must be able to do to take the frame as it is.
fn needs(frame: &[u8], offload: &Offload) -> Abilities {
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
