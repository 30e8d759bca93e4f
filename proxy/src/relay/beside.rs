//! What others need who bring a mapping's container clients by another way than its listeners.

use std::{net::IpAddr, time::Instant};

use super::{Relay, host::Owner};
use crate::publish::MappingId;

impl Relay {
    /// Whether an address is one of the host's, as far as the kernel tells.
    pub fn is_hosts(&mut self, now: Instant, address: IpAddr) -> bool {
        self.host.known_owner(now, address) == Some(Owner::Host)
    }

    /// Whether a mapping's rules let a client in, who then counts for their rate. Who is not let in was not counted: the
    /// listener will refuse it.
    pub fn admits(&mut self, now: Instant, id: MappingId, client: IpAddr) -> bool {
        let mapping = self.published.mapping_mut(id);
        mapping.is_some_and(|mapping| mapping.admits(now, client))
    }

    /// Counts a client's connection that has begun.
    pub fn count_in(&mut self, id: MappingId) {
        self.published.count_in(id);
    }

    /// Counts one that has ended.
    pub fn count_out(&mut self, id: MappingId) {
        self.published.count_out(id);
    }

    /// Counts connections of a mapping for another from now on, into which it was split.
    pub fn move_counts(&mut self, from: MappingId, to: MappingId, count: u32) {
        self.published.move_counts(from, to, count);
    }
}
