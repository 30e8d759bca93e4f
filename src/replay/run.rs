//! The run itself.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use vswitch_nat::{Counters, DropReason, Nat, Output, Verdict, Zone};
use vswitch_wire::{MacAddr, Offload};

use super::{
    Summary,
    capture::{CaptureError, LinkType, Reader, Record, Timestamp},
    config::{Checksums, Config, Side},
    link::{self, Skip},
};

/// What became of one packet of the capture.
#[derive(Debug)]
pub struct Step<'a> {
    /// Its number in the capture, from 1.
    pub number: u64,
    /// When it was captured.
    pub time: Timestamp,
    /// The side that it came from; `None` if it was skipped before that was known.
    pub side: Option<&'a Side>,
    /// What it said before anything was rewritten; `None` if it is no IP packet.
    pub before: Option<Summary>,
    /// What became of it.
    pub fate: Fate,
    /// What left, in order.
    pub emitted: Vec<Emitted>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The engine has it, or has sent it in pieces.
    Consumed,
    /// It went nowhere.
    Dropped(DropReason),
    /// It left.
    Forwarded,
    /// It was for the router itself.
    Local,
    /// The engine did not see it.
    Skipped(Skip),
}

/// A packet that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// Where to.
    pub zone: Zone,
    /// Whose it is.
    pub origin: Origin,
    /// The Ethernet header.
    pub header: Vec<u8>,
    /// From the IP header on.
    pub packet: Vec<u8>,
}

/// Whose a packet is that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is the packet that came.
    Forwarded,
    /// The engine made it, of the packet that came or about it.
    Made,
}

/// A run in numbers.
#[derive(Debug)]
pub struct Report {
    /// Packets of the capture.
    pub packets: u64,
    /// Those that the engine did not see, in the order of [`Skip::ALL`].
    pub skipped: [u64; Skip::ALL.len()],
    /// Packets that left.
    pub emitted: u64,
    /// What the engine counted.
    pub engine: Counters,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The capture cannot be read on.
    #[error("{0}")]
    Capture(#[from] CaptureError),
    /// It has frames of a kind that is not known.
    #[error(
        "packet {packet}: link type {link} is not known here; capture Ethernet, raw IP or Linux cooked frames"
    )]
    LinkType {
        /// The first such packet.
        packet: u64,
        /// Its link type.
        link: LinkType,
    },
    /// What became of a packet could not be written.
    #[error("packet {packet}: {error}")]
    Output {
        /// The packet.
        packet: u64,
        /// Why.
        error: io::Error,
    },
}

/// Plays a capture; `each` is told what became of every packet.
///
/// # Errors
///
/// See [`RunError`]. Everything before has happened.
pub fn run<R: Read>(
    config: &Config,
    reader: &mut Reader<R>,
    mut each: impl FnMut(&Step<'_>) -> io::Result<()>,
) -> Result<Report, RunError> {
    let mut router = Router::new(config);
    while let Some(record) = reader.read()? {
        let (packet, link) = (record.number, record.interface.link);
        let step = router.handle(record).ok_or(RunError::LinkType { packet, link })?;
        router.count(&step);
        each(&step).map_err(|error| RunError::Output { packet, error })?;
    }
    Ok(Report {
        engine: router.nat.counters().clone(),
        ..router.report
    })
}

/// The engine and its made-up surroundings.
struct Router<'a> {
    config: &'a Config,
    nat: Nat,
    clock: Clock,
    report: Report,
}

impl<'a> Router<'a> {
    fn new(config: &'a Config) -> Self {
        let start = Instant::now();
        Self {
            config,
            // It took this configuration when that was made.
            nat: config.engine(start, |_| {}),
            clock: Clock {
                now: start,
                last: None,
            },
            report: Report {
                packets: 0,
                skipped: [0; Skip::ALL.len()],
                emitted: 0,
                engine: Counters::default(),
            },
        }
    }

    /// `None` if the frame's link type is not known.
    fn handle(&mut self, record: Record<'_>) -> Option<Step<'a>> {
        let now = self.clock.advance(record.time);
        self.expire(now);
        let mut step = Step {
            number: record.number,
            time: record.time,
            side: None,
            before: None,
            fate: Fate::Skipped(Skip::NotIp),
            emitted: Vec::new(),
        };
        let envelope = match link::open(record.interface.link, record.bytes)? {
            Ok(envelope) => envelope,
            Err(skip) => {
                step.fate = Fate::Skipped(skip);
                return Some(step);
            }
        };
        let is_whole = record.bytes.len() as u64 >= u64::from(record.len);
        let (header, packet) = record.bytes.split_at_mut(envelope.offset);
        let header = match record.interface.link {
            LinkType::ETHERNET => &*header,
            _ => &[],
        };
        step.before = Summary::of(packet);
        let name = record.interface.name.as_deref();
        step.side = self.side((name, record.interface_id), envelope.dst, step.before.as_ref());
        step.fate = match step.side {
            None => Fate::Skipped(Skip::OtherSide),
            Some(_) if !is_whole => Fate::Skipped(Skip::Cut),
            Some(side) => {
                let mut leaving = Leaving {
                    from: side.zone,
                    header,
                    emitted: &mut step.emitted,
                };
                let offload = Offload {
                    data_valid: self.config.checksums == Checksums::Believed,
                    ..Offload::NONE
                };
                let verdict = self
                    .nat
                    .handle_packet(now, side.zone, packet, &offload, &mut leaving);
                match verdict {
                    Verdict::Consumed => Fate::Consumed,
                    Verdict::Drop(reason) => Fate::Dropped(reason),
                    Verdict::Forward(zone) => {
                        leaving.push(zone, Origin::Forwarded, packet);
                        Fate::Forwarded
                    }
                    Verdict::Local => Fate::Local,
                }
            }
        };
        Some(step)
    }

    /// See the module's documentation.
    fn side(
        &self,
        (name, number): (Option<&str>, u32),
        dst: Option<MacAddr>,
        packet: Option<&Summary>,
    ) -> Option<&'a Side> {
        let sides = &self.config.sides;
        let is_of = |side: &&Side| name == Some(&*side.interface) || side.interface.parse() == Ok(number);
        if let Some(side) = sides.iter().find(is_of) {
            return Some(side);
        }
        if sides.iter().any(|side| side.mac.is_some()) {
            return sides.iter().find(|side| side.mac.is_some() && side.mac == dst);
        }
        let is_inside = |side: &&Side| {
            packet.is_some_and(|packet| side.prefixes.iter().any(|prefix| prefix.contains(&packet.src)))
        };
        sides.iter().find(is_inside).or(sides.first())
    }

    /// Lets the engine remove what is over.
    fn expire(&mut self, now: Instant) {
        for _ in 0..MAX_ROUNDS {
            if self.nat.poll_timeout().is_none_or(|deadline| deadline > now) {
                return;
            }
            self.nat.handle_timeout(now);
        }
    }

    fn count(&mut self, step: &Step<'_>) {
        self.report.packets += 1;
        self.report.emitted += step.emitted.len() as u64;
        if let Fate::Skipped(skip) = step.fate {
            self.report.skipped[skip as usize] += 1;
        }
    }
}

/// Takes what leaves because of one packet.
struct Leaving<'a> {
    from: Zone,
    header: &'a [u8],
    emitted: &'a mut Vec<Emitted>,
}

impl Leaving<'_> {
    fn push(&mut self, zone: Zone, origin: Origin, packet: &[u8]) {
        let packet = link::trimmed(packet);
        let header = match self.header {
            [] => link::made_up(packet),
            header if origin == Origin::Made && zone == self.from => link::turned(header),
            header => header.to_vec(),
        };
        self.emitted.push(Emitted {
            zone,
            origin,
            header,
            packet: packet.to_vec(),
        });
    }
}

impl Output for Leaving<'_> {
    fn send(&mut self, to: Zone, packet: &mut [u8], _: Offload) {
        self.push(to, Origin::Made, packet);
    }
}

/// Time as the capture has it. Packets of several interfaces are not always in order; time stands still until the
/// latest is reached again.
struct Clock {
    now: Instant,
    last: Option<Timestamp>,
}

impl Clock {
    fn advance(&mut self, time: Timestamp) -> Instant {
        let last = self.last.unwrap_or(time);
        let passed = Duration::from_nanos(time.0.saturating_sub(last.0));
        // A damaged timestamp must not lead beyond what the system can say.
        self.now = self.now.checked_add(passed).unwrap_or(self.now);
        self.last = Some(last.max(time));
        self.now
    }
}

/// The engine does a bounded part of its work at a time; more parts than this would be a fault of its own.
const MAX_ROUNDS: usize = 1 << 16;
