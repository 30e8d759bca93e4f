//! Tables, JSON and a plot of medians.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    plot::{self, Bar},
    stats::{median, range},
};

/// One measure of both sides.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// The ratio ours ÷ peer to reach: at least this if higher is better, else at most.
    pub(crate) goal: Option<f64>,
    pub(crate) ours: Summary,
    pub(crate) peer: Summary,
}

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One value per round.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) values: Vec<f64>,
    pub(crate) cores: Vec<f64>,
    pub(crate) daemon_cores: Vec<f64>,
    pub(crate) retransmits: Vec<f64>,
}

impl Better {
    pub(crate) fn arrow(self) -> char {
        match self {
            Self::Higher => '↑',
            Self::Lower => '↓',
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
        }
    }
}

impl Row {
    /// Median of the rounds' ratios: each round compares what ran side by side.
    fn ratio(&self) -> f64 {
        let ratios = self
            .ours
            .values
            .iter()
            .zip(&self.peer.values)
            .map(|(ours, peer)| ours / peer);
        median(&ratios.collect::<Vec<_>>())
    }

    fn reached(&self) -> Option<bool> {
        self.goal.map(|goal| match self.better {
            Better::Higher => self.ratio() >= goal,
            Better::Lower => self.ratio() <= goal,
        })
    }
}

pub(crate) fn print(ours: &str, peer: &str, rows: &[Row], load: &str) {
    println!(
        "\n{ours} beside {peer}: medians of {} rounds",
        rows.first().map_or(0, |row| row.ours.values.len())
    );
    for row in rows {
        println!("\n{} ({}, {} is better)", row.title, row.unit, row.better.word(),);
        for (name, side) in [(ours, &row.ours), (peer, &row.peer)] {
            let (low, high) = range(&side.values);
            println!(
                "  {name:<22} {:>9.2}  (from {low:.2} to {high:.2})  busy cores {:.2}, of them the switch's process {:.2}, retransmits {:.0}",
                median(&side.values),
                median(&side.cores),
                median(&side.daemon_cores),
                median(&side.retransmits),
            );
        }
        let verdict = match (row.goal, row.reached()) {
            (Some(goal), Some(true)) => format!("goal {goal:.2}: reached"),
            (Some(goal), _) => format!("goal {goal:.2}: MISSED"),
            (None, _) => "no goal".to_owned(),
        };
        println!("  {:<22} {:>9.2}  {verdict}", "ratio", row.ratio());
    }
    println!("\nload average at end: {load}");
}

/// Writes `<name>.json` with every round and `<name>.svg` with the ratios.
pub(crate) fn write(dir: &Path, name: &str, ours: &str, peer: &str, rows: &[Row]) -> Result<()> {
    write_files(dir, name, &rows, &plot(ours, peer, rows)?)
}

/// Writes `<name>.json` and `<name>.svg`.
pub(crate) fn write_files(dir: &Path, name: &str, results: &impl Serialize, plot: &str) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let json = dir.join(format!("{name}.json"));
    fs::write(&json, serde_json::to_string_pretty(results)?)
        .with_context(|| format!("write {}", json.display()))?;
    let svg = dir.join(format!("{name}.svg"));
    fs::write(&svg, plot).with_context(|| format!("write {}", svg.display()))?;
    println!("wrote {} and {}", json.display(), svg.display());
    Ok(())
}

/// One bar per measure, its length the ratio; a line marks the peer's 1.0 and a tick the goal.
fn plot(ours: &str, peer: &str, rows: &[Row]) -> Result<String> {
    let bars = rows.iter().map(|row| Bar {
        title: format!("{} {}", row.better.arrow(), row.title),
        length: row.ratio(),
        label: format!("{:.2}", row.ratio()),
        ticks: row.goal.into_iter().collect(),
        reached: row.reached(),
    });
    plot::bars(
        &format!("{ours} ÷ {peer} (median of per-round ratios; black tick: goal)"),
        &format!("{peer} = 1.0"),
        &bars.collect::<Vec<_>>(),
    )
}
