//! The DNS queries of a flow to the host's resolvers: which wait for an answer, and how long to stay.

use std::time::{Duration, Instant};

/// The queries of one flow, sans-IO. Answers are never kept.
#[derive(Debug)]
pub(crate) struct Queries {
    /// At most [`WAITING_MAX`], those that were asked last behind the others.
    waiting: Vec<Waiting>,
    /// Buffers of queries that wait no more.
    spare: Vec<Vec<u8>>,
    last_query: Instant,
    last_answer: Option<Instant>,
    /// Resolvers that failed since the container asked last.
    failures: usize,
}

impl Queries {
    /// No query yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            waiting: Vec::new(),
            spare: Vec::new(),
            last_query: now,
            last_answer: None,
            failures: 0,
        }
    }

    /// The container asks. Gives since when this query waits already, if it is repeated; it does not any more
    /// until [`wait`](Self::wait).
    pub(crate) fn ask(&mut self, now: Instant, query: &[u8]) -> Option<Instant> {
        self.last_query = now;
        self.failures = 0;
        self.expire(now);
        let id = id_of(query)?;
        let place = self.waiting.iter().position(|waiting| waiting.id == id)?;
        let asked = self.waiting[place].asked;
        self.forget(place);
        Some(asked)
    }

    /// The query is under way to a resolver, which was asked at `asked`.
    pub(crate) fn wait(&mut self, asked: Instant, query: &[u8]) {
        let Some(id) = id_of(query) else { return };
        if self.waiting.len() == WAITING_MAX {
            self.forget(0);
        }
        let mut message = self.spare.pop().unwrap_or_default();
        if query.len() <= KEPT_MAX {
            message.extend_from_slice(query);
        }
        self.waiting.push(Waiting { id, asked, message });
    }

    /// A resolver answers; whether anybody waits for that.
    pub(crate) fn answer(&mut self, now: Instant, answer: &[u8]) -> bool {
        self.last_answer = Some(now);
        let id = id_of(answer);
        let place = self.waiting.iter().position(|waiting| Some(waiting.id) == id);
        if let Some(place) = place {
            self.failures = 0;
            self.forget(place);
        }
        place.is_some()
    }

    /// A resolver has failed; gives how many have, since the container asked last or an answer came.
    pub(crate) fn fail(&mut self) -> usize {
        self.failures += 1;
        self.failures
    }

    /// Gives up queries that nobody waits for any longer.
    pub(crate) fn expire(&mut self, now: Instant) {
        let is_over = |waiting: &Waiting| now.saturating_duration_since(waiting.asked) >= WAIT;
        while let Some(place) = self.waiting.iter().position(is_over) {
            self.forget(place);
        }
    }

    /// The queries that wait, to be asked again elsewhere: those that were kept.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let messages = self.waiting.iter().map(|waiting| &*waiting.message);
        messages.filter(|message| !message.is_empty())
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

    fn forget(&mut self, place: usize) {
        let mut message = self.waiting.remove(place).message;
        if self.spare.len() < SPARE_MAX {
            message.clear();
            self.spare.push(message);
        }
    }
}

#[derive(Debug)]
struct Waiting {
    id: u16,
    asked: Instant,
    /// Empty if it was too long to be kept.
    message: Vec<u8>,
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
/// Queries that are remembered (R-DNS-3).
const WAITING_MAX: usize = 256;
/// Bytes of the largest query that is kept: RFC 1035 §2.3.4 has no larger ones, and the container repeats what
/// it hears nothing of.
const KEPT_MAX: usize = 512;
/// Buffers kept for the next queries: A and AAAA.
const SPARE_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn r_dns_3_a_flow_ends_a_second_after_its_last_answer() {
        let start = now();
        let mut queries = Queries::new(start);
        ask(&mut queries, start, 1);
        ask(&mut queries, start, 2);
        assert_eq!(queries.outstanding(), 2);
        assert!(queries.answer(start + SECOND, &query(1)));
        assert!(!queries.answer(start + SECOND, &query(1)), "twice");
        assert_eq!(queries.deadline(), start + 10 * SECOND, "one still waits");
        assert!(queries.answer(start + 2 * SECOND, &query(2)));
        assert_eq!(queries.outstanding(), 0);
        assert_eq!(queries.deadline(), start + 3 * SECOND);
        ask(&mut queries, start + 3 * SECOND, 3);
        assert_eq!(queries.deadline(), start + 13 * SECOND);
    }

    #[test]
    fn r_dns_3_a_repeated_query_is_known_by_its_number() {
        let start = now();
        let mut queries = Queries::new(start);
        assert_eq!(queries.ask(start, &query(1)), None);
        queries.wait(start, &query(1));
        assert_eq!(queries.ask(start + SECOND, &query(2)), None);
        assert_eq!(queries.ask(start + SECOND, &query(1)), Some(start));
        assert_eq!(queries.outstanding(), 0, "it is not under way now");
        queries.wait(start, &query(1));
        assert_eq!(queries.messages().collect::<Vec<_>>(), [query(1)]);
    }

    #[test]
    fn r_dns_3_queries_that_nobody_answers_are_given_up() {
        let start = now();
        let mut queries = Queries::new(start);
        ask(&mut queries, start, 1);
        ask(&mut queries, start + 5 * SECOND, 2);
        ask(&mut queries, start + 10 * SECOND, 3);
        assert_eq!(queries.outstanding(), 2);
        queries.expire(start + 15 * SECOND);
        assert_eq!(queries.outstanding(), 1);
    }

    #[test]
    fn r_lim_the_memory_of_queries_is_bounded() {
        let start = now();
        let mut queries = Queries::new(start);
        for id in 0..1000 {
            ask(&mut queries, start, id);
        }
        assert_eq!(queries.outstanding(), WAITING_MAX);
        let large = [&query(1)[..], &[0; KEPT_MAX]].concat();
        queries.wait(start, &large);
        assert_eq!(
            queries.messages().count(),
            WAITING_MAX - 1,
            "too large to be kept"
        );
        queries.wait(start, &[]);
        assert_eq!(queries.outstanding(), WAITING_MAX, "no message at all");
    }

    fn ask(queries: &mut Queries, now: Instant, id: u16) {
        queries.ask(now, &query(id));
        queries.wait(now, &query(id));
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
