//! Where our opinion of a TCP connection differs from Linux's on purpose, although the packet was treated alike.

use super::{router::Entry, world::Step};

/// A difference that is accepted, and why. The conversation is not continued after it.
pub(super) struct StateRow {
    pub(super) name: &'static str,
    /// The requirement, and what it says.
    pub(super) reason: &'static str,
    pub(super) matches: fn(&Parting<'_>) -> bool,
}

/// A packet after which the routers think differently of its connection.
pub(super) struct Parting<'a> {
    pub(super) step: &'a Step,
    /// What both thought before.
    pub(super) before: Option<&'a Entry>,
    pub(super) kernel: Option<&'a Entry>,
    pub(super) ours: Option<&'a Entry>,
}

/// All of them.
pub(super) const PARTINGS: &[StateRow] = &[];
