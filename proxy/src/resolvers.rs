//! The host's resolvers, and which of them is asked first.

use std::{net::SocketAddr, sync::Arc, time::Duration};

/// The host's resolvers in its own order, and the one that new flows begin with: the first, until another has
/// answered in its place (R-DNS-3).
///
/// All flows of a network share what one of them has found out, so that a resolver that is gone costs one
/// question its patience and not each of them.
#[derive(Debug, Clone)]
pub(crate) struct Resolvers {
    list: Arc<[SocketAddr]>,
    /// Place of the one to begin with; 0 if there are none.
    preferred: usize,
}

impl Resolvers {
    /// These, of which the first is preferred.
    pub(crate) fn new(list: Arc<[SocketAddr]>) -> Self {
        Self { list, preferred: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether the host still has that one.
    pub(crate) fn contains(&self, resolver: SocketAddr) -> bool {
        self.list.contains(&resolver)
    }

    /// The one to ask first; `None` if there are none.
    pub(crate) fn first(&self) -> Option<SocketAddr> {
        self.list.get(self.preferred).copied()
    }

    /// All, in the order in which to ask them.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = SocketAddr> {
        let (before, from) = self.list.split_at(self.preferred);
        from.iter().chain(before).copied()
    }

    /// This one has answered.
    pub(crate) fn note_answer(&mut self, resolver: SocketAddr) {
        if let Some(place) = self.list.iter().position(|&known| known == resolver) {
            self.preferred = place;
        }
    }

    /// This one has not answered. Gives whom to ask instead, `None` if there is nobody else; new flows begin
    /// with that one, too.
    pub(crate) fn replace(&mut self, failed: SocketAddr) -> Option<SocketAddr> {
        let next = self.in_turn().find(|&resolver| resolver != failed)?;
        if self.first() == Some(failed) {
            self.note_answer(next);
        }
        Some(next)
    }
}

/// How long a resolver may take before a repeated question goes to the next one: below the 5 s after which
/// libraries repeat (resolv.conf(5), `timeout`), above any round trip.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_dns_3_flows_begin_with_the_resolver_that_answered_last() {
        let [a, b, c] = ["127.0.0.53:53", "[2001:db8::1]:53", "192.0.2.3:53"].map(address);
        let mut resolvers = Resolvers::new([a, b, c].into());
        assert_eq!(resolvers.first(), Some(a));
        assert_eq!(resolvers.replace(a), Some(b), "whatever its family");
        assert_eq!(resolvers.first(), Some(b));
        assert_eq!(resolvers.replace(a), Some(b), "another flow finds that out later");
        assert_eq!(resolvers.replace(b), Some(c));
        assert_eq!(resolvers.replace(c), Some(a), "and round again");
        resolvers.note_answer(c);
        assert_eq!(resolvers.in_turn().collect::<Vec<_>>(), [c, a, b]);
        resolvers.note_answer(address("192.0.2.9:53"));
        assert_eq!(resolvers.first(), Some(c), "it is none of them any more");
    }

    #[test]
    fn r_dns_3_without_another_resolver_there_is_no_next() {
        let only = address("192.0.2.1:53");
        assert_eq!(Resolvers::new([].into()).first(), None);
        assert_eq!(Resolvers::new([].into()).replace(only), None);
        assert_eq!(
            Resolvers::new([only, only].into()).replace(only),
            None,
            "twice the same"
        );
    }

    fn address(address: &str) -> SocketAddr {
        address.parse().expect("an address")
    }
}
