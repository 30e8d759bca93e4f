//! Whole connections: smoltcp in the container, a model server behind the host socket, and bad weather on the
//! container's link. All time is virtual; a seed makes a run.

mod container;
mod link;
mod random;
mod script;
mod server;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use smoltcp::socket::tcp::State;
use vswitch_proxy::{
    Delivery,
    seq::SeqNum,
    tcp::{Connection, EarlyBudget, End, FlowIo, Outgoing, Room, Settings},
};
use vswitch_testkit::Clock;
use vswitch_wire::{Refusal, TcpFlags};

use container::Container;
use link::{Link, Weather};
use random::Random;
use script::Closing;
use server::Server;

/// A connection with everything around it.
struct World {
    plan: Plan,
    random: Random,
    start: Instant,
    now: Duration,
    container: Container,
    flow: Option<Connection>,
    host: HostSide,
    /// Frames to the relay.
    outward: Link,
    settings: Settings,
    /// When the host's connect ends.
    connects: Duration,
    /// Calls of the flow's timer.
    timeouts: u64,
}

/// What the flow sees of the world.
struct HostSide {
    server: Server,
    /// Frames to the container.
    inward: Link,
    random: Random,
    now: Duration,
    /// How many segments in a thousand find the device full.
    full: u64,
    payload: Vec<u8>,
    peeked: usize,
    early: Arc<EarlyBudget>,
}

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
struct Plan {
    seed: u64,
    weather: Weather,
    full: u64,
    sizes: (usize, usize),
    closings: (Closing, Closing),
    mtu: u16,
    /// Bytes that may be kept of what comes out of order.
    early: usize,
}

impl Plan {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let weather = match random.below(4) {
            0 => Weather::default(),
            1 => Weather {
                lost: 10,
                doubled: 10,
                late: 10,
                ..Weather::default()
            },
            _ => Weather {
                lost: random.below(60),
                doubled: random.below(60),
                late: random.below(100),
                ..Weather::default()
            },
        };
        let delay = random.pick(&[(5, 5), (100, 200), (5000, 1000)]);
        let sizes = [0, 1, 1000, 30_000, 150_000];
        // At least one ends by itself.
        let closings = random.pick(&[
            (Closing::Early, Closing::Early),
            (Closing::Early, Closing::AfterPeer),
            (Closing::AfterPeer, Closing::Early),
        ]);
        Self {
            seed,
            weather: Weather { delay, ..weather },
            full: random.pick(&[0, 0, 50, 300]),
            sizes: (random.pick(&sizes), random.pick(&sizes)),
            closings,
            mtu: random.pick(&[576, 1500, 9000]),
            early: random.pick(&[0, 5000, 1 << 20]),
        }
    }
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut random = Random::new(!plan.seed);
        let settings = Settings {
            isn: SeqNum(random.number() as u32),
            mss: plan.mtu - 40,
            default_mss: 536,
            largest_payload: 65_000,
            connect_timeout: Duration::from_secs(130),
            idle_timeout: Duration::from_secs(7200),
        };
        let container = Container::new(&mut random, plan.sizes.0, plan.closings.0, plan.mtu.into());
        let server = Server::new(&mut random, plan.sizes.1, plan.closings.1);
        let host = HostSide {
            server,
            inward: Link::new(plan.weather),
            random: Random::new(random.number()),
            now: Duration::ZERO,
            full: plan.full,
            payload: vec![0; 1 << 17],
            peeked: 0,
            early: Arc::new(EarlyBudget::new(plan.early)),
        };
        Self {
            plan,
            start: Clock::new().now(),
            now: Duration::ZERO,
            container,
            flow: None,
            host,
            outward: Link::new(plan.weather),
            settings,
            connects: Duration::MAX,
            timeouts: 0,
            random,
        }
    }

    /// Does all that is due now, then lets time pass until something is.
    fn step(&mut self) {
        while let Some(frame) = self.host.inward.receive(self.now) {
            self.container.device.inward.push_back(frame);
        }
        self.container.poll(self.now, &mut self.random);
        while let Some(frame) = self.container.device.outward.pop_front() {
            match link::arp_reply(&frame) {
                Some(reply) => self.container.device.inward.push_back(reply),
                None => self.outward.send(self.now, &mut self.random, frame),
            }
        }
        self.relay();
        self.advance();
    }

    fn relay(&mut self) {
        self.host.now = self.now;
        let now = self.start + self.now;
        while let Some(frame) = self.outward.receive(self.now) {
            self.handle_frame(&frame);
        }
        let Some(flow) = &mut self.flow else { return };
        if flow.is_connecting() && self.connects <= self.now {
            flow.handle_connected(now, &mut self.host);
        }
        if self.host.server.wakes <= self.now && !flow.is_connecting() {
            let events = self.host.server.act(self.now, &mut self.random);
            if events.readable {
                flow.handle_readable(now, &mut self.host);
            }
            if events.writable {
                flow.handle_writable(now, &mut self.host);
            }
        }
        let mut turns = 0;
        while flow.wants_turn() {
            flow.handle_readable(now, &mut self.host);
            turns += 1;
            assert!(turns < 1000, "turns without end");
        }
        flow.flush(now, &mut self.host);
        assert!(!flow.wants_flush(), "a batch without end");
        if flow.end().is_none() && flow.poll_timeout() <= now {
            self.timeouts += 1;
            flow.handle_timeout(now, &mut self.host);
            flow.flush(now, &mut self.host);
            assert!(
                flow.end().is_some() || flow.poll_timeout() > now,
                "the timer does not move on"
            );
        }
    }

    fn handle_frame(&mut self, frame: &[u8]) {
        let now = self.start + self.now;
        let Some(segment) = link::read(frame) else { return };
        let flow = self.flow.get_or_insert_with(|| {
            self.connects = self.now + Duration::from_micros(self.random.below(300_000));
            Connection::new(now, &segment, self.settings)
        });
        match flow.end() {
            None => flow.handle_segment(now, &segment, &mut self.host),
            // What the relay remembers of it answers (R-CL-4).
            Some(End::Closed { .. }) if !segment.header().flags().contains(TcpFlags::RST) => {
                let (seq, ack) = flow.sequence();
                self.host.emit(&Outgoing {
                    seq,
                    ack,
                    flags: TcpFlags::ACK,
                    window: 1000,
                    payload_len: 0,
                    mss: self.settings.mss,
                    syn_options: None,
                });
            }
            Some(_) => {}
        }
    }

    fn advance(&mut self) {
        let mut next = self.container.due(self.now);
        next = [self.host.inward.due(), self.outward.due()]
            .into_iter()
            .flatten()
            .fold(next, Duration::min);
        if let Some(flow) = self.flow.as_ref().filter(|flow| flow.end().is_none()) {
            let flow_due = match flow.is_connecting() {
                true => self.connects,
                false => (flow.poll_timeout() - self.start).min(self.host.server.wakes),
            };
            next = next.min(flow_due);
        }
        self.now = next.max(self.now);
    }

    /// What to tell when a run fails.
    fn story(&self, steps: u64) -> String {
        let (plan, container, server) = (self.plan, &self.container, &self.host.server);
        format!(
            "{plan:?} at {:?} after {steps} steps: container {:?} read {} of {}; server took {} of {}, done {}; \
             flow {:#?}",
            self.now,
            container.state(),
            container.read,
            plan.sizes.1,
            server.taken,
            plan.sizes.0,
            server.is_done(),
            self.flow
        )
    }

    fn end(&self) -> Option<End> {
        self.flow.as_ref().and_then(Connection::end)
    }

    /// Whether nothing is on its way.
    fn is_quiet(&self) -> bool {
        self.host.inward.due().is_none() && self.outward.due().is_none()
    }

    /// Whether both sides and the flow have come to their end.
    fn is_done(&self) -> bool {
        self.container.is_done() && self.end().is_some()
    }
}

impl FlowIo for HostSide {
    fn send(&mut self, payload: &[u8]) -> io::Result<usize> {
        self.server.send(payload)
    }

    fn room(&mut self) -> Room {
        self.server.room()
    }

    fn watch_room(&mut self) {
        self.server.watch();
    }

    fn peek(&mut self, offset: u32, max: usize) -> io::Result<usize> {
        self.peeked = self.server.peek(offset as usize, &mut self.payload[..max])?;
        Ok(self.peeked)
    }

    fn is_drained(&self) -> bool {
        // As on kernels that do not tell.
        false
    }

    fn discard(&mut self, len: u32) -> io::Result<()> {
        if self.random.happens(DISCARDS_FAIL) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.server.discard(len as usize);
        Ok(())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.server.shut = true;
        Ok(())
    }

    fn keep_alive(&mut self) {}

    fn emit(&mut self, segment: &Outgoing) -> Delivery {
        if self.random.happens(self.full) {
            return Delivery::Full;
        }
        assert!(segment.payload_len <= self.peeked || segment.payload_len == 0);
        for frame in link::frames(segment, &self.payload[..segment.payload_len]) {
            self.inward.send(self.now, &mut self.random, frame);
        }
        Delivery::Sent
    }

    fn allow_challenge(&mut self) -> bool {
        true
    }

    fn early_budget(&self) -> &Arc<EarlyBudget> {
        &self.early
    }

    fn refuse(&mut self, _: SeqNum, refusal: Refusal) {
        panic!("the connect succeeds: {refusal:?}");
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Arrived,
    /// The container's stack does not go on by itself, whatever its peer does.
    Forgotten,
}

/// Runs a plan to its end and looks at what became of both streams.
fn run(plan: Plan) -> Outcome {
    let mut world = World::new(plan);
    let mut steps = 0_u64;
    while !world.is_done() {
        world.step();
        steps += 1;
        assert!(
            world.now < LONGEST && steps < MOST_STEPS,
            "stuck: {}",
            world.story(steps)
        );
        assert!(world.end() != Some(End::Reset), "reset: {}", world.story(steps));
        if world.now > PATIENCE && world.is_quiet() && world.container.has_forgotten(world.now) {
            return Outcome::Forgotten;
        }
        let timeouts = 1000 + 400 * world.now.as_secs();
        assert!(
            world.timeouts <= timeouts,
            "{} timeouts: {}",
            world.timeouts,
            world.story(steps)
        );
    }
    assert_eq!(world.container.read, plan.sizes.1, "{plan:?}");
    assert_eq!(world.host.server.taken, plan.sizes.0, "{plan:?}");
    assert!(world.host.server.shut, "{plan:?}");
    assert_eq!(world.host.early.used(), 0, "{plan:?}");
    Outcome::Arrived
}

#[test]
fn both_streams_arrive_whole_in_any_weather() {
    // `STREAMS_SEED` repeats one run, `STREAMS_SEEDS` makes more of them.
    if let Ok(seed) = std::env::var("STREAMS_SEED") {
        let plan = Plan::new(seed.parse().expect("a number"));
        assert_eq!(run(plan), Outcome::Arrived);
        return;
    }
    let seeds = std::env::var("STREAMS_SEEDS").map_or(200_usize, |seeds| seeds.parse().expect("a number"));
    let outcomes = (0..seeds).map(|seed| run(Plan::new(seed as u64)));
    let forgotten = outcomes.filter(|outcome| *outcome == Outcome::Forgotten).count();
    assert!(
        forgotten <= seeds / 100,
        "{forgotten} of {seeds} connections forgotten by smoltcp"
    );
}

#[test]
fn a_reset_of_the_server_reaches_the_container() {
    for seed in 0..20 {
        let mut world = midway(seed);
        world.host.server.failed = true;
        let flow = world.flow.as_mut().expect("a flow");
        flow.handle_host_error(&mut world.host);
        assert_eq!(world.end(), Some(End::Reset));
        let until = world.now + Duration::from_millis(20);
        while world.now < until {
            world.step();
        }
        assert_eq!(world.container.state(), State::Closed, "seed {seed}");
    }
}

#[test]
fn a_reset_of_the_container_ends_the_flow() {
    for seed in 0..20 {
        let mut world = midway(seed);
        world.container.abort(world.now);
        let until = world.now + Duration::from_millis(20);
        while world.now < until {
            world.step();
        }
        assert_eq!(world.end(), Some(End::Reset), "seed {seed}");
    }
}

/// A connection without bad weather in the middle of long streams.
fn midway(seed: u64) -> World {
    let plan = Plan {
        weather: Weather {
            delay: (100, 200),
            ..Weather::default()
        },
        full: 0,
        sizes: (100_000_000, 100_000_000),
        closings: (Closing::Early, Closing::Early),
        ..Plan::new(seed)
    };
    let mut world = World::new(plan);
    while world.container.state() != State::Established {
        world.step();
    }
    let until = world.now + Duration::from_millis(seed * 10);
    while world.now < until {
        world.step();
    }
    world
}

/// How many discards in a thousand fail.
const DISCARDS_FAIL: u64 = 2;
/// No run may take longer.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// When to look whether the container's stack still does something.
const PATIENCE: Duration = Duration::from_secs(600);
const MOST_STEPS: u64 = 5_000_000;
