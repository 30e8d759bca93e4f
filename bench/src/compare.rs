//! Peers beside ours: rounds that take every measure through each of them, what they show, and what was promised.

mod goal;
mod options;
mod report;
mod sample;

use anyhow::{Error, Result};

pub(crate) use self::{
    goal::{Goal, Quantity},
    options::Options,
    report::{LeftOut, Paper, Report, Side},
    sample::{Processor, Sample, Seen},
};
use crate::report::Better;

/// Something that does the job that is measured.
pub(crate) trait Peer: Copy + PartialEq + 'static {
    fn title(self) -> &'static str;
}

/// A thing to measure.
pub(crate) trait Measure<P: Peer>: Copy + PartialEq + 'static {
    /// In the order in which a round takes them.
    const ALL: &'static [Self];

    fn title(self) -> &'static str;

    fn unit(self) -> &'static str;

    fn better(self) -> Better {
        match self.unit() {
            "µs" | "segments" => Better::Lower,
            _ => Better::Higher,
        }
    }

    /// Whether the measure is taken through this peer.
    fn concerns(self, peer: P) -> bool;
}

/// A peer at work.
pub(crate) trait Way<P: Peer> {
    fn peer(&self) -> P;

    fn title(&self) -> &'static str {
        self.peer().title()
    }

    fn version(&self) -> &str;

    /// How it was started, as one would type it.
    fn command(&self) -> &str;

    /// What else is to be told about it.
    fn remark(&self) -> Option<String> {
        None
    }
}

/// Every chosen peer that can be started, and why the others cannot; all peers if none is chosen.
pub(crate) fn start<P: Peer, W>(
    all: &[P],
    chosen: &[P],
    start: impl Fn(P) -> Result<W>,
) -> (Vec<W>, Vec<LeftOut>) {
    let chosen = if chosen.is_empty() { all } else { chosen };
    let (mut ways, mut left_out) = (Vec::new(), Vec::new());
    for &peer in chosen {
        match start(peer) {
            Ok(way) => ways.push(way),
            Err(error) => {
                let why = format!("{error:#}");
                eprintln!("LEFT OUT: {}: {why}", peer.title());
                left_out.push(LeftOut {
                    peer: peer.title(),
                    why,
                });
            }
        }
    }
    (ways, left_out)
}

/// Takes every measure through every peer that it concerns, one after the other, in each round. The answer is
/// that of each of [`Measure::ALL`].
pub(crate) fn rounds<P: Peer, M: Measure<P>, W: Way<P>>(
    rounds: usize,
    ways: &[W],
    run: impl Fn(M, &W) -> Result<Sample>,
) -> Vec<Vec<Side<P>>> {
    let mut sides: Vec<Vec<_>> = M::ALL
        .iter()
        .map(|measure| {
            let taking_part = ways.iter().filter(|way| measure.concerns(way.peer()));
            taking_part.map(|way| Side::new(way.peer())).collect()
        })
        .collect();
    for round in 0..rounds {
        for (&measure, sides) in M::ALL.iter().zip(&mut sides) {
            // No peer always runs into what the same other one has warmed or throttled.
            let count = sides.len().max(1);
            let order = (0..sides.len()).map(|turn| (turn + round) % count);
            for side in order.collect::<Vec<_>>() {
                let side = &mut sides[side];
                let Some(way) = ways.iter().find(|way| way.peer() == side.peer) else {
                    continue;
                };
                let tell = |error: &Error| {
                    eprintln!("{}, {}: {error:#}", measure.title(), side.peer.title());
                };
                side.samples.push(run(measure, way).inspect_err(tell).ok());
            }
        }
        eprintln!("round {} of {rounds} done", round + 1);
    }
    sides
}
