//! UDP clients of published ports (R-UDP-4, 5, 7).

use std::time::Instant;

use super::Relay;
use crate::{Link, Scratch, link::ListenerId};

impl Relay {
    /// The socket of a published UDP port may have something: errors first, then datagrams.
    pub(super) fn handle_udp_listener(
        &mut self,
        _now: Instant,
        _id: ListenerId,
        _scratch: &mut Scratch,
        _link: &mut impl Link,
    ) {
    }
}
