//! Bars as SVG.

use std::fmt::Write as _;

use anyhow::Result;

/// One bar.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) title: String,
    /// Against the plot's line, which is 1; shown up to 2.
    pub(crate) length: f64,
    /// What is written at its end.
    pub(crate) label: String,
    /// Marks across it, on the same scale.
    pub(crate) ticks: Vec<f64>,
    /// Whether its goal is reached; none without a goal.
    pub(crate) reached: Option<bool>,
}

/// A plot of bars with a line at 1, which `line` names.
pub(crate) fn bars(title: &str, line: &str, bars: &[Bar]) -> Result<String> {
    const LEFT: f64 = 400.0;
    const UNIT: f64 = 260.0;
    const STEP: f64 = 34.0;
    const LABEL: f64 = 160.0;
    let height = 70.0 + STEP * bars.len() as f64;
    let width = LEFT + UNIT * 2.0 + LABEL;
    let mut svg = String::new();
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="10" y="22" font-size="15">{title}</text>"##
    )?;
    for (index, bar) in bars.iter().enumerate() {
        let y = 40.0 + STEP * index as f64;
        let length = bar.length.clamp(0.0, 2.0) * UNIT;
        let colour = match bar.reached {
            Some(true) => "#3a8f5c",
            Some(false) => "#c0533f",
            None => "#7d8ba0",
        };
        writeln!(svg, r##"<text x="10" y="{:.1}">{}</text>"##, y + 15.0, bar.title)?;
        writeln!(
            svg,
            r##"<rect x="{LEFT}" y="{y:.1}" width="{length:.1}" height="20" fill="{colour}"/>"##
        )?;
        writeln!(
            svg,
            r##"<text x="{:.1}" y="{:.1}">{}</text>"##,
            LEFT + length + 6.0,
            y + 15.0,
            bar.label
        )?;
        for tick in &bar.ticks {
            let x = LEFT + tick.min(2.0) * UNIT;
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
        r##"<text x="{x}" y="{:.1}" text-anchor="middle" fill="#666666">{line}</text>"##,
        height - 8.0
    )?;
    svg.push_str("</svg>\n");
    Ok(svg)
}
