//! The DNS queries of a flow to the host's resolvers: which wait for an answer, whom to ask, how long to stay.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use vswitch_wire::IpVersion;

use crate::datagram_socket::version_of;

/// The queries of one flow, sans-IO. Answers are never kept.
#[derive(Debug)]
pub(crate) struct Queries {
    resolvers: Arc<[SocketAddr]>,
    /// Oldest first; at most [`WAITING_MAX`].
    waiting: Vec<Waiting>,
    last_query: Instant,
    last_answer: Option<Instant>,
    /// Resolvers that failed since the container asked last.
    failures: usize,
}

/// How the container asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// For the first time, or again in haste.
    Early,
    /// Again, after the resolver had [`PATIENCE`].
    Overdue,
}

impl Queries {
    /// No query yet.
    pub(crate) fn new(now: Instant, resolvers: Arc<[SocketAddr]>) -> Self {
        Self {
            resolvers,
            waiting: Vec::new(),
            last_query: now,
            last_answer: None,
            failures: 0,
        }
    }

    /// The container asks.
    pub(crate) fn ask(&mut self, now: Instant, query: &[u8]) -> Asked {
        self.last_query = now;
        self.failures = 0;
        let Some(id) = id_of(query) else {
            return Asked::Early;
        };
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            if now.saturating_duration_since(waiting.asked) < PATIENCE {
                return Asked::Early;
            }
            waiting.asked = now;
            return Asked::Overdue;
        }
        if self.waiting.len() == WAITING_MAX {
            self.waiting.remove(0);
        }
        self.waiting.push(Waiting {
            id,
            len: query.len(),
            asked: now,
        });
        Asked::Early
    }

    /// A resolver answers.
    pub(crate) fn answer(&mut self, now: Instant, answer: &[u8]) {
        self.last_answer = Some(now);
        self.failures = 0;
        if let Some(id) = id_of(answer) {
            self.waiting.retain(|waiting| waiting.id != id);
        }
    }

    /// Whom to ask now that `current` has failed; `None` if all have, since the container asked last.
    pub(crate) fn next_resolver(&mut self, current: SocketAddr) -> Option<SocketAddr> {
        let version = version_of(current);
        let candidates = self.of_version(version).count();
        if self.failures + 1 >= candidates {
            return None;
        }
        self.failures += 1;
        let place = self.of_version(version).position(|resolver| resolver == current);
        let next = place.map_or(0, |place| (place + 1) % candidates);
        self.of_version(version).nth(next)
    }

    /// Whether this, which came back with an error, is a whole query that still waits.
    pub(crate) fn waits_for(&self, query: &[u8]) -> bool {
        let id = id_of(query);
        self.waiting
            .iter()
            .any(|waiting| Some(waiting.id) == id && waiting.len == query.len())
    }

    /// The host's resolvers are these now; gives whom to ask if `current` is none of them any more.
    pub(crate) fn set_resolvers(
        &mut self,
        resolvers: &Arc<[SocketAddr]>,
        current: SocketAddr,
    ) -> Option<SocketAddr> {
        if Arc::ptr_eq(&self.resolvers, resolvers) {
            return None;
        }
        self.resolvers = Arc::clone(resolvers);
        if self.resolvers.contains(&current) {
            return None;
        }
        self.of_version(version_of(current)).next()
    }

    /// How many queries wait for an answer.
    pub(crate) fn outstanding(&self) -> usize {
        self.waiting.len()
    }

    /// When the flow ends, unless there is a query or an answer before.
    pub(crate) fn deadline(&self) -> Instant {
        let latest = self.last_query + WAIT;
        match self.last_answer {
            Some(answer) if self.waiting.is_empty() => latest.min(answer.max(self.last_query) + LINGER),
            _ => latest,
        }
    }

    /// A socket has one version; resolvers of the other are not asked by this flow.
    fn of_version(&self, version: IpVersion) -> impl Iterator<Item = SocketAddr> + '_ {
        let resolvers = self.resolvers.iter().copied();
        resolvers.filter(move |&resolver| version_of(resolver) == version)
    }
}

#[derive(Debug)]
struct Waiting {
    id: u16,
    len: usize,
    asked: Instant,
}

/// RFC 1035 §4.1.1: the first field of every message.
fn id_of(message: &[u8]) -> Option<u16> {
    message.first_chunk().map(|&id| u16::from_be_bytes(id))
}

/// Two resolvers at 5 s each (R-DNS-3).
const WAIT: Duration = Duration::from_secs(10);
/// A resolver's library asks for A and AAAA by one socket and is done; ours, so that its questions do not keep
/// descriptors.
const LINGER: Duration = Duration::from_secs(1);
/// When a repeated query goes to the next resolver: below the 5 s after which libraries repeat
/// (resolv.conf(5), `timeout`), above any round trip.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// Queries that are remembered (R-DNS-3).
const WAITING_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn r_dns_3_a_flow_ends_a_second_after_its_last_answer() {
        let start = now();
        let mut queries = queries(start, &["192.0.2.1:53"]);
        queries.ask(start, &query(1));
        queries.ask(start, &query(2));
        assert_eq!(queries.outstanding(), 2);
        queries.answer(start + SECOND, &query(1));
        assert_eq!(queries.deadline(), start + 10 * SECOND, "one still waits");
        queries.answer(start + 2 * SECOND, &query(2));
        assert_eq!(queries.outstanding(), 0);
        assert_eq!(queries.deadline(), start + 3 * SECOND);
        queries.ask(start + 3 * SECOND, &query(3));
        assert_eq!(queries.deadline(), start + 13 * SECOND);
    }

    #[test]
    fn r_dns_3_a_query_repeated_in_time_goes_to_the_next_resolver() {
        let start = now();
        let mut queries = queries(start, &["192.0.2.1:53", "192.0.2.2:53"]);
        assert_eq!(queries.ask(start, &query(1)), Asked::Early);
        assert_eq!(queries.ask(start + SECOND, &query(1)), Asked::Early);
        assert_eq!(queries.ask(start + 2 * SECOND, &query(1)), Asked::Overdue);
        assert_eq!(queries.ask(start + 3 * SECOND, &query(1)), Asked::Early);
        assert_eq!(queries.ask(start + 3 * SECOND, &query(2)), Asked::Early);
        assert_eq!(queries.outstanding(), 2);
    }

    #[test]
    fn r_dns_3_each_resolver_is_asked_once_per_question() {
        let start = now();
        let list = ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53", "192.0.2.3:53"];
        let mut queries = queries(start, &list);
        queries.ask(start, &query(1));
        let [first, second, third] = [list[0], list[2], list[3]].map(address);
        assert_eq!(queries.next_resolver(first), Some(second));
        assert_eq!(queries.next_resolver(second), Some(third));
        assert_eq!(queries.next_resolver(third), None);
        queries.ask(start, &query(1));
        assert_eq!(queries.next_resolver(third), Some(first));
        assert!(queries.waits_for(&query(1)));
        assert!(!queries.waits_for(&query(1)[..8]), "cut");
    }

    #[test]
    fn r_dns_2_new_resolvers_replace_one_that_is_gone() {
        let start = now();
        let mut queries = queries(start, &["192.0.2.1:53"]);
        let current = address("192.0.2.1:53");
        let list: Arc<[SocketAddr]> = [address("192.0.2.9:53"), current].into();
        assert_eq!(queries.set_resolvers(&list, current), None);
        let list: Arc<[SocketAddr]> = [address("192.0.2.9:53")].into();
        assert_eq!(queries.set_resolvers(&list, current), Some(list[0]));
    }

    #[test]
    fn r_lim_the_memory_of_queries_is_bounded() {
        let start = now();
        let mut queries = queries(start, &["192.0.2.1:53"]);
        for id in 0..1000 {
            queries.ask(start, &query(id));
        }
        assert_eq!(queries.outstanding(), WAITING_MAX);
        assert_eq!(queries.ask(start, &[]), Asked::Early, "no message at all");
    }

    fn queries(now: Instant, resolvers: &[&str]) -> Queries {
        Queries::new(now, resolvers.iter().map(|resolver| address(resolver)).collect())
    }

    fn address(address: &str) -> SocketAddr {
        address.parse().expect("an address")
    }

    fn query(id: u16) -> [u8; 12] {
        let mut message = [0; 12];
        message[..2].copy_from_slice(&id.to_be_bytes());
        message
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn now() -> Instant {
        Instant::now()
    }
}
