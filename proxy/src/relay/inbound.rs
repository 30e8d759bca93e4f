//! TCP clients of published ports (R-IN).

use std::time::Instant;

use super::Relay;
use crate::{Link, Scratch, link::ListenerId, listing::Protocol};

impl Relay {
    /// Somebody is at a listener.
    pub(super) fn handle_listener_ready(
        &mut self,
        now: Instant,
        id: ListenerId,
        scratch: &mut Scratch,
        link: &mut impl Link,
    ) {
        let Some(door) = self.published.door_mut(id) else {
            return;
        };
        door.turn = false;
        let mapping = door.mapping;
        match self
            .published
            .mapping(mapping)
            .map(|mapping| mapping.spec.protocol)
        {
            Some(Protocol::Udp) => self.handle_udp_listener(now, id, scratch, link),
            _ => {}
        }
    }
}
