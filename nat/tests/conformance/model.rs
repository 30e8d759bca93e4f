//! Operation sequences against a simple model of endpoint-independent mapping: UDP flows of a few hosts, a published port, time.

use std::collections::HashMap;

use proptest::prelude::*;
use vswitch_nat::{MappingId, Verdict};

use crate::{
    packets::{End, UDP, ends, udp},
    site::*,
};

#[derive(Clone, Debug)]
enum Operation {
    /// Host, port, server.
    Ask(usize, u16, usize),
    /// A server sends to an external port.
    Tell(usize, u16),
    /// With the engine's timers.
    Wait(u32),
    /// Without: what is over is over all the same.
    Stall(u32),
    Publish(usize),
    Unpublish,
    Flush(usize),
    RemoveNetwork,
}

fn operation() -> impl Strategy<Value = Operation> {
    let port = || 5000u16..5003;
    prop_oneof![
        8 => (0usize..3, port(), 0usize..3).prop_map(|(host, port, server)| Operation::Ask(host, port, server)),
        8 => (0usize..3, port()).prop_map(|(server, port)| Operation::Tell(server, port)),
        3 => (1u32..70).prop_map(Operation::Wait),
        1 => (1u32..70).prop_map(Operation::Stall),
        1 => (0usize..3).prop_map(Operation::Publish),
        1 => Just(Operation::Unpublish),
        1 => (0usize..3).prop_map(Operation::Flush),
        1 => Just(Operation::RemoveNetwork),
    ]
}

const HOSTS: [std::net::IpAddr; 3] = [A, B, C];
const SERVERS: [End; 3] = [(S, 9), (S3, 9), (S4, 10)];
const PUBLISHED: u16 = 5001;
const TARGET_PORT: u16 = 77;

#[derive(Clone, Copy, Debug)]
struct Session {
    /// Who is inside.
    inside: End,
    began: u32,
    replied: bool,
    ends: u32,
    by_publication: bool,
}

/// What a NAT with endpoint-independent mapping is.
#[derive(Debug, Default)]
struct Model {
    now: u32,
    /// By external end and server.
    sessions: HashMap<(u16, End), Session>,
    /// Inside to external port.
    mappings: HashMap<End, u16>,
    /// Index of the target.
    published: Option<usize>,
    /// Mappings that are over but, because the engine's timers have not run, may not be free yet.
    former: HashMap<End, u16>,
}

impl Model {
    fn expire(&mut self) {
        let now = self.now;
        self.sessions.retain(|_, session| session.ends > now);
        self.drop_mappings();
    }

    fn drop_mappings(&mut self) {
        let sessions = &self.sessions;
        self.mappings.retain(|inside, _| {
            sessions
                .values()
                .any(|session| session.inside == *inside && !session.by_publication)
        });
    }

    /// The session of an inside end with a server, and whether the inside is where it began.
    fn of_inside(&self, inside: End, server: End) -> Option<u16> {
        let mut all = self.sessions.iter();
        all.find(|((_, other), session)| *other == server && session.inside == inside)
            .map(|((port, _), _)| *port)
    }

    fn refresh(&mut self, key: (u16, End), is_reply: bool) {
        let now = self.now;
        if let Some(session) = self.sessions.get_mut(&key) {
            let life = if session.replied && now >= session.began + 2 {
                300
            } else {
                120
            };
            session.ends = now + life;
            session.replied |= is_reply;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p_n_map_1_sequences_of_operations_behave_as_the_model(
        operations in prop::collection::vec(operation(), 1..80)
    ) {
        let mut site = Site::new();
        let mut model = Model::default();
        for operation in operations {
            apply(&mut site, &mut model, &operation)?;
            let alive = site.conns();
            prop_assert_eq!(alive.len(), model.sessions.len(), "after {:?}: {:#?} and {:#?}", operation, alive, model);
            for conn in alive {
                let remaining = seconds(conn.remaining) as u32;
                let matching = model.sessions.values().any(|session| session.ends == model.now + remaining);
                prop_assert!(matching, "after {:?}: {:?} and {:#?}", operation, conn, model);
            }
        }
    }
}

fn apply(site: &mut Site, model: &mut Model, operation: &Operation) -> Result<(), TestCaseError> {
    match *operation {
        Operation::Ask(host, port, server) => ask(site, model, (HOSTS[host], port), SERVERS[server])?,
        Operation::Tell(server, port) => tell(site, model, SERVERS[server], port)?,
        Operation::Wait(seconds) => {
            site.settle(secs(seconds.into()));
            model.now += seconds;
            model.expire();
            model.former.clear();
        }
        Operation::Stall(seconds) => {
            site.advance(secs(seconds.into()));
            model.now += seconds;
            model.former.extend(model.mappings.clone());
            model.expire();
        }
        Operation::Publish(target) => {
            let mapping = mapping(MappingId(1), UDP, PUBLISHED, (HOSTS[target], TARGET_PORT));
            let result = site.nat.publish(mapping);
            prop_assert_eq!(result.is_ok(), model.published.is_none());
            model.published.get_or_insert(target);
        }
        Operation::Unpublish => {
            let was = site.nat.unpublish(site.clock.now(), MappingId(1));
            prop_assert_eq!(was, model.published.take().is_some());
            model.sessions.retain(|_, session| !session.by_publication);
        }
        Operation::Flush(host) => {
            site.nat.flush_host(site.clock.now(), INSIDE, HOSTS[host]);
            model
                .sessions
                .retain(|_, session| session.inside.0 != HOSTS[host]);
            model.drop_mappings();
        }
        Operation::RemoveNetwork => {
            site.nat.remove_network(site.clock.now(), INSIDE);
            site.add(network(INSIDE));
            *model = Model {
                now: model.now,
                ..Model::default()
            };
        }
    }
    Ok(())
}

fn ask(site: &mut Site, model: &mut Model, inside: End, server: End) -> Result<(), TestCaseError> {
    let outcome = site.put(INSIDE, &udp(inside, server));
    if let Some(external) = model.of_inside(inside, server) {
        prop_assert_eq!(ends(&outcome.bytes), ((X, external), server));
        let is_reply = model.sessions[&(external, server)].by_publication;
        model.refresh((external, server), is_reply);
        return Ok(());
    }
    let held = model.mappings.get(&inside);
    let former = model.former.get(&inside);
    let is_called = |external: &u16| model.sessions.contains_key(&(*external, server));
    let is_refused = matches!(outcome.verdict, Verdict::Drop(_));
    if held.is_some_and(is_called) || is_refused && former.is_some_and(is_called) {
        // The port was published after it was given, and that server has called it: the answers would be the target's.
        prop_assert!(is_refused);
        return Ok(());
    }
    prop_assert_eq!(outcome.verdict, Verdict::Forward(OUTSIDE));
    let ((address, external), _) = ends(&outcome.bytes);
    prop_assert_eq!(address, X);
    match model.mappings.get(&inside) {
        Some(&held) => prop_assert_eq!(external, held, "one mapping towards all"),
        None => {
            let is_taken = |port| {
                model.mappings.values().any(|&held| held == port)
                    || (port == PUBLISHED && model.published.is_some())
            };
            let is_former = former == Some(&external);
            prop_assert!(!is_taken(external) || is_former, "{} is somebody's", external);
            if !is_taken(inside.1) && model.former.is_empty() {
                prop_assert_eq!(external, inside.1, "what is free is kept");
            }
            model.mappings.insert(inside, external);
        }
    }
    let session = Session {
        inside,
        began: model.now,
        replied: false,
        ends: model.now + 120,
        by_publication: false,
    };
    model.sessions.insert((external, server), session);
    Ok(())
}

fn tell(site: &mut Site, model: &mut Model, server: End, port: u16) -> Result<(), TestCaseError> {
    let outcome = site.put(OUTSIDE, &udp(server, (X, port)));
    if let Some(session) = model.sessions.get(&(port, server)).copied() {
        prop_assert_eq!(outcome.verdict, Verdict::Forward(INSIDE));
        prop_assert_eq!(ends(&outcome.bytes), (server, session.inside));
        model.refresh((port, server), !session.by_publication);
        return Ok(());
    }
    match model.published.filter(|_| port == PUBLISHED) {
        Some(target) => {
            let inside = (HOSTS[target], TARGET_PORT);
            prop_assert_eq!(outcome.verdict, Verdict::Forward(INSIDE));
            prop_assert_eq!(ends(&outcome.bytes), (server, inside));
            let session = Session {
                inside,
                began: model.now,
                replied: false,
                ends: model.now + 120,
                by_publication: true,
            };
            model.sessions.insert((port, server), session);
        }
        None => prop_assert!(matches!(outcome.verdict, Verdict::Drop(_))),
    }
    Ok(())
}
