//! Tables, JSON and a plot of medians.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::stats::median;

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
        println!(
            "\n{} ({}, {} is better)",
            row.title,
            row.unit,
            match row.better {
                Better::Higher => "higher",
                Better::Lower => "lower",
            }
        );
        for (name, side) in [(ours, &row.ours), (peer, &row.peer)] {
            let (low, high) = side
                .values
                .iter()
                .fold((f64::MAX, f64::MIN), |(low, high), &value| {
                    (low.min(value), high.max(value))
                });
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
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let json = dir.join(format!("{name}.json"));
    fs::write(&json, serde_json::to_string_pretty(rows)?)
        .with_context(|| format!("write {}", json.display()))?;
    let svg = dir.join(format!("{name}.svg"));
    fs::write(&svg, plot(ours, peer, rows)?).with_context(|| format!("write {}", svg.display()))?;
    println!("wrote {} and {}", json.display(), svg.display());
    Ok(())
}

/// One bar per measure, its length the ratio; a line marks the peer's 1.0 and a tick the goal.
fn plot(ours: &str, peer: &str, rows: &[Row]) -> Result<String> {
    const LEFT: f64 = 400.0;
    const UNIT: f64 = 260.0;
    const STEP: f64 = 34.0;
    let height = 70.0 + STEP * rows.len() as f64;
    let width = LEFT + UNIT * 2.0 + 60.0;
    let mut svg = String::new();
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="10" y="22" font-size="15">{ours} ÷ {peer} (median of per-round ratios; black tick: goal)</text>"##
    )?;
    for (index, row) in rows.iter().enumerate() {
        let y = 40.0 + STEP * index as f64;
        let ratio = row.ratio();
        let bar = (ratio.clamp(0.0, 2.0)) * UNIT;
        let colour = match row.reached() {
            Some(true) => "#3a8f5c",
            Some(false) => "#c0533f",
            None => "#7d8ba0",
        };
        let arrow = match row.better {
            Better::Higher => "↑",
            Better::Lower => "↓",
        };
        writeln!(
            svg,
            r##"<text x="10" y="{:.1}">{arrow} {}</text>"##,
            y + 15.0,
            row.title
        )?;
        writeln!(
            svg,
            r##"<rect x="{LEFT}" y="{y:.1}" width="{bar:.1}" height="20" fill="{colour}"/>"##
        )?;
        writeln!(
            svg,
            r##"<text x="{:.1}" y="{:.1}">{ratio:.2}</text>"##,
            LEFT + bar + 6.0,
            y + 15.0
        )?;
        if let Some(goal) = row.goal {
            let x = LEFT + goal.min(2.0) * UNIT;
            writeln!(
                svg,
                r##"<path d="M{x:.1} {:.1}v28" stroke="#000000" stroke-width="2"/>"##,
                y - 4.0
            )?;
        }
    }
    let x = LEFT + UNIT;
    writeln!(
        svg,
        r##"<path d="M{x} 34V{:.1}" stroke="#999999" stroke-dasharray="4 3"/>"##,
        height - 24.0
    )?;
    writeln!(
        svg,
        r##"<text x="{x}" y="{:.1}" text-anchor="middle" fill="#666666">{peer} = 1.0</text>"##,
        height - 8.0
    )?;
    svg.push_str("</svg>\n");
    Ok(svg)
}
