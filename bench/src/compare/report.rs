//! The tables, the file and the plot of a comparison.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::{Goal, Measure, Peer, Sample, Way};
use crate::{
    plot::{self, Bar},
    report::{Better, write_files},
    stats::{median, range},
};

/// One peer's rounds of one measure.
#[derive(Debug, Serialize)]
#[serde(bound = "")]
pub(crate) struct Side<P: Peer> {
    #[serde(serialize_with = "title_of")]
    pub(crate) peer: P,
    /// One per round; none where the measurement failed.
    pub(crate) samples: Vec<Option<Sample>>,
}

impl<P: Peer> Side<P> {
    pub(super) fn new(peer: P) -> Self {
        Self {
            peer,
            samples: Vec::new(),
        }
    }

    fn each(&self, read: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
        self.samples.iter().flatten().filter_map(read).collect()
    }
}

fn title_of<P: Peer, S: serde::Serializer>(peer: &P, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(peer.title())
}

/// A peer that could not be measured.
#[derive(Debug, Serialize)]
pub(crate) struct LeftOut {
    pub(crate) peer: &'static str,
    pub(crate) why: String,
}

/// Everything that a run has shown.
#[derive(Debug, Serialize)]
#[serde(bound = "")]
pub(crate) struct Report<P: Peer> {
    peers: Vec<Started>,
    left_out: Vec<LeftOut>,
    measures: Vec<Row<P>>,
    goals: Vec<Outcome>,
}

/// A peer that was measured.
#[derive(Debug, Serialize)]
struct Started {
    peer: &'static str,
    version: String,
    command: String,
    remark: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(bound = "")]
struct Row<P: Peer> {
    title: &'static str,
    unit: &'static str,
    better: Better,
    sides: Vec<Side<P>>,
}

/// A goal beside what was measured.
#[derive(Debug, Serialize)]
struct Outcome {
    title: &'static str,
    better: Better,
    /// None if nothing is promised.
    must: Option<f64>,
    aim: Option<f64>,
    /// None where ours or a peer was not measured.
    ratio: Option<f64>,
    reached: Option<bool>,
}

impl<P: Peer> Report<P> {
    /// `sides` are those of each of [`Measure::ALL`], as [`rounds`](super::rounds) gives them.
    pub(crate) fn new<M: Measure<P>>(
        ways: &[impl Way<P>],
        left_out: Vec<LeftOut>,
        sides: Vec<Vec<Side<P>>>,
        goals: &[Goal<P, M>],
    ) -> Self {
        let goals = goals.iter().map(|goal| {
            let sides = M::ALL
                .iter()
                .zip(&sides)
                .find(|(measure, _)| **measure == goal.measure);
            let ratio = sides.and_then(|(_, sides)| goal.ratio(sides));
            Outcome {
                title: goal.title,
                better: goal.better(),
                must: goal.must,
                aim: goal.aim,
                ratio,
                reached: ratio.and_then(|ratio| goal.is_reached(ratio)),
            }
        });
        let goals = goals.collect();
        let peers = ways.iter().map(|way| Started {
            peer: way.peer().title(),
            version: way.version().to_owned(),
            command: way.command().to_owned(),
            remark: way.remark(),
        });
        let rows = M::ALL.iter().zip(sides).map(|(measure, sides)| Row {
            title: measure.title(),
            unit: measure.unit(),
            better: measure.better(),
            sides,
        });
        Self {
            goals,
            peers: peers.collect(),
            left_out,
            measures: rows.collect(),
        }
    }

    pub(crate) fn print(&self, load: &str) {
        println!();
        for peer in &self.peers {
            println!("{}: {}\n    {}", peer.peer, peer.version, peer.command);
            if let Some(remark) = &peer.remark {
                println!("    {remark}");
            }
        }
        for row in &self.measures {
            println!("\n{} ({}, {} is better)", row.title, row.unit, row.better.word());
            for side in &row.sides {
                println!("  {:<23}{}", side.peer.title(), describe(side));
            }
        }
        println!("\ngoals, as medians of per-round ratios:");
        for goal in &self.goals {
            println!("  {:<43}{}", goal.title, goal.verdict());
        }
        for peer in &self.left_out {
            println!("LEFT OUT: {}: {}", peer.peer, peer.why);
        }
        println!("\nload average at end: {load}");
    }

    /// Writes `<name>.json` and `<name>.svg`.
    pub(crate) fn write(&self, dir: &Path, paper: Paper<'_>) -> Result<()> {
        let bars: Vec<_> = self.goals.iter().map(Outcome::bar).collect();
        let title = format!(
            "{} beside its goals (right of the line: reached; black tick: aim)",
            paper.title
        );
        write_files(dir, paper.name, self, &plot::bars(&title, "goal", &bars)?)
    }
}

/// How a report is written down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paper<'a> {
    /// Of the files.
    pub(crate) name: &'a str,
    /// What was measured.
    pub(crate) title: &'a str,
}

/// Medians of a side's rounds, and what else they tell.
fn describe<P: Peer>(side: &Side<P>) -> String {
    let values = side.each(|sample| Some(sample.value));
    if values.is_empty() {
        return "  FAILED in every round".to_owned();
    }
    let (low, high) = range(&values);
    let mut text = format!("{:>9.2}  (from {low:.2} to {high:.2})", median(&values));
    let failed = side.samples.len() - values.len();
    if failed > 0 {
        text += &format!("  FAILED in {failed} rounds");
    }
    let mut add = |name: &str, decimals: usize, values: Vec<f64>| {
        if !values.is_empty() {
            text += &format!("  {name} {:.decimals$}", median(&values));
        }
    };
    add("p99", 1, side.each(|sample| sample.p99));
    add("Gbit/s", 2, side.each(|sample| sample.gbit_per_second));
    add("busy cores", 2, side.each(|sample| Some(sample.cores)));
    add("relay's", 2, side.each(|sample| sample.process_cores));
    add("s/Gbit", 4, side.each(|sample| sample.processor_per_gbit));
    let retransmits = side.each(|sample| sample.retransmits.map(|count| count as f64));
    add("retransmits", 0, retransmits);
    let failed = side.each(|sample| sample.failed.map(|count| count as f64));
    if failed.iter().any(|&count| count > 0.0) {
        add("failed", 0, failed);
    }
    text
}

impl Outcome {
    fn verdict(&self) -> String {
        let wish = match self.better {
            Better::Higher => "at least",
            Better::Lower => "at most",
        };
        let aim = self.aim.map(|aim| format!(", aim {aim}")).unwrap_or_default();
        let goal = match self.must {
            Some(must) => format!("goal {wish} {must}{aim}"),
            None => "no goal".to_owned(),
        };
        match (self.ratio, self.reached) {
            (Some(ratio), Some(true)) => format!("{ratio:>8.3}  {goal}: reached"),
            (Some(ratio), Some(false)) => format!("{ratio:>8.3}  {goal}: MISSED"),
            (Some(ratio), None) => format!("{ratio:>8.3}  {goal}"),
            (None, _) => format!("{:>8}  {goal}: not measured", "-"),
        }
    }

    /// How far along the way to the goal, whichever direction is good.
    fn bar(&self) -> Bar {
        // Without a goal, along the way to the peer.
        let line = self.must.unwrap_or(1.0);
        let along = |ratio: f64| match self.better {
            Better::Higher => ratio / line,
            Better::Lower => line / ratio,
        };
        let goal = match self.must {
            Some(must) => format!("goal {must}"),
            None => "no goal".to_owned(),
        };
        Bar {
            title: format!("{} {}", self.better.arrow(), self.title),
            length: self.ratio.map_or(0.0, along),
            label: match self.ratio {
                Some(ratio) => format!("{ratio:.3} ({goal})"),
                None => format!("not measured ({goal})"),
            },
            ticks: self.aim.map(along).into_iter().collect(),
            reached: self.reached,
        }
    }
}
