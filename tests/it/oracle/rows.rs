//! Where our engine differs from Linux on purpose: everything that the comparison accepts.

use vswitch_nat::DropReason;

use super::{plan::Side, world::Step};

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
    /// Why we dropped it.
    pub(super) reason: Option<DropReason>,
}

impl Case<'_> {
    /// The packet as it was given to us.
    pub(super) fn packet(&self) -> &[u8] {
        &self.step.packets[1]
    }

    /// We dropped it for that reason, without a word.
    fn is_dropped(&self, reason: DropReason) -> bool {
        self.ours.is_empty() && self.reason == Some(reason)
    }
}

/// All of them.
pub(super) const ROWS: &[Row] = &[];
