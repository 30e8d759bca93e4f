//! What became of a packet, for people: one line each.

use std::io::{self, Write};

use vswitch_nat::Zone;

use super::{
    Emitted, Fate, Origin, Step, Summary,
    capture::Timestamp,
    config::{Config, Side},
};

/// Writes a line about a step: number, seconds since `start`, where it came from, what it was, what became of it.
///
/// # Errors
///
/// Those of `out`.
pub fn explain(out: &mut impl Write, config: &Config, start: Timestamp, step: &Step<'_>) -> io::Result<()> {
    let since = step.time.0.saturating_sub(start.0);
    let side = step.side.map_or("-", |side| &side.name);
    write!(
        out,
        "{} {}.{:06} {side} ",
        step.number,
        since / 1_000_000_000,
        since / 1000 % 1_000_000
    )?;
    match &step.before {
        Some(before) => write!(out, "{before} => ")?,
        None => write!(out, "=> ")?,
    }
    match step.fate {
        Fate::Consumed if step.emitted.is_empty() => write!(out, "kept")?,
        Fate::Consumed => write!(out, "sent on")?,
        Fate::Dropped(reason) => write!(out, "drop {reason}")?,
        Fate::Forwarded => {}
        Fate::Local => write!(out, "local")?,
        Fate::Skipped(skip) => write!(out, "skip: {}", skip.reason())?,
    }
    for emitted in &step.emitted {
        let Emitted {
            zone, origin, packet, ..
        } = emitted;
        let zone = name_of(config, *zone);
        match origin {
            Origin::Forwarded => write!(out, "{zone} ")?,
            Origin::Made => write!(out, "; to {zone} ")?,
        }
        match Summary::of(packet) {
            Some(summary) => write!(out, "{summary}")?,
            None => write!(out, "{} bytes", packet.len())?,
        }
    }
    writeln!(out)
}

fn name_of(config: &Config, zone: Zone) -> &str {
    let side = config.sides.iter().find(|side: &&Side| side.zone == zone);
    side.map_or("?", |side| &side.name)
}
