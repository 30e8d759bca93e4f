//! Where our engine differs from Linux on purpose: everything that the comparison accepts.

use vswitch_nat::DropReason;

use super::{
    compare::Chosen,
    flow::Flow,
    packet::{ACK, RST, SYN},
    plan::Side,
    world::Step,
};

mod packets;
mod segments;

/// All of them.
pub(super) const ROWS: &[&[Row]] = &[packets::ROWS, segments::ROWS];

/// A difference that is accepted, and why.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// The requirement, and what it says.
    pub(super) reason: &'static str,
    pub(super) matches: fn(&Case) -> bool,
    pub(super) aftermath: Aftermath,
}

/// What an accepted difference does to what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aftermath {
    /// The routers' tables have parted: the conversation is not continued.
    Burns,
    /// Nothing.
    None,
}

/// A packet for which the routers did different things.
pub(super) struct Case<'a> {
    pub(super) step: &'a Step,
    /// What came out, made comparable.
    pub(super) kernel: &'a [(Side, Vec<u8>)],
    pub(super) ours: &'a [(Side, Vec<u8>)],
    /// Ports that are the routers' choice.
    pub(super) chosen: Chosen,
    /// The conversation that it is of.
    pub(super) flow: Option<&'a Flow>,
    /// The state of the connection before, if it is one of TCP.
    pub(super) opinion: &'a str,
    /// Why we dropped it.
    pub(super) reason: Option<DropReason>,
}

impl Case<'_> {
    /// The packet as it was given to us.
    pub(super) fn packet(&self) -> &[u8] {
        &self.step.packets[1]
    }

    /// The flags of a segment; 0 of anything else.
    fn flags(&self) -> u8 {
        self.step.flags()
    }

    /// We alone sent it on, and to where and as whom it should go.
    pub(super) fn is_passed(&self) -> bool {
        let Some((flow, from)) = self.flow.zip(self.step.from) else {
            return false;
        };
        let is_right = |(side, packet): &(Side, Vec<u8>)| {
            *side == flow.side(from.opposite()) && flow.is_translated(from, packet)
        };
        self.kernel.is_empty() && !self.ours.is_empty() && self.ours.iter().all(is_right)
    }

    /// Whether it has those of the flags SYN, RST and ACK.
    fn is_segment(&self, flags: u8) -> bool {
        self.step.flags() & (SYN | RST | ACK) == flags
    }

    /// We dropped it for that reason, without a word.
    fn is_dropped(&self, reason: DropReason) -> bool {
        self.ours.is_empty() && self.reason == Some(reason)
    }
}
