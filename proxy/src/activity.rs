//! What has moved in a flow of datagrams.

use std::time::Instant;

/// What a flow of datagrams or pings has moved, and when.
///
/// # States
/// `UNREPLIED` until the first answer of the other end, then `ASSURED`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activity {
    /// Payload bytes that the host socket has taken.
    pub(crate) sent: u64,
    /// Payload bytes that were sent to the container.
    pub(crate) received: u64,
    /// When anything last moved.
    pub(crate) last: Instant,
    /// Whether the other end has never answered: such flows are the first to go.
    pub(crate) is_one_way: bool,
}

impl Activity {
    /// Nothing but the beginning.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            sent: 0,
            received: 0,
            last: now,
            is_one_way: true,
        }
    }

    /// The other end has answered.
    pub(crate) fn note_answer(&mut self, now: Instant) {
        self.last = now;
        self.is_one_way = false;
    }

    /// State in the words of `conntrack`.
    pub(crate) fn state(&self) -> &'static str {
        match self.is_one_way {
            true => "UNREPLIED",
            false => "ASSURED",
        }
    }
}
