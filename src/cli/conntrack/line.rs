//! Lines as conntrack(8) prints them (libnetfilter_conntrack's default format), and what we add at their end.

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

use super::super::print;
use crate::api::types::{ConnectionEntry, ConnectionEvent, ConnectionSide};

/// What lines have besides what they always have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// The version of IP.
    pub(super) is_extended: bool,
    /// When it happened.
    pub(super) is_timed: bool,
}

/// A time since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(pub(super) Duration);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:<8}.{:<06}]\t", self.0.as_secs(), self.0.subsec_micros())
    }
}

/// Prints a connection of a list.
///
/// # Errors
///
/// Those of the writer.
pub(super) fn print_connection(
    out: &mut impl Write,
    connection: &ConnectionEntry,
    style: Style,
) -> io::Result<()> {
    let body = Body {
        connection,
        style,
        timeout: Some(seconds(connection)),
    };
    // Nothing here marks connections, and each is held by its table alone.
    writeln!(out, "{body} mark=0 use=1{}", Places(connection))
}

/// Prints an event. A loss is told, too, where the events stand that it comes before.
///
/// # Errors
///
/// Those of the writer.
pub(super) fn print_event(
    out: &mut impl Write,
    event: &ConnectionEvent,
    style: Style,
    now: Moment,
) -> io::Result<()> {
    let (tag, connection) = match event {
        ConnectionEvent::Destroy(connection) => ("[DESTROY]", connection),
        ConnectionEvent::Lost(lost) => return writeln!(out, "   [LOST] {} events", lost.count),
        ConnectionEvent::New(connection) => ("[NEW]", connection),
        ConnectionEvent::Update(connection) => ("[UPDATE]", connection),
    };
    if style.is_timed {
        write!(out, "{now}")?;
    }
    let is_end = matches!(event, ConnectionEvent::Destroy(_));
    let body = Body {
        connection,
        style,
        // As the kernel: one whose time was over has none left to show.
        timeout: Some(seconds(connection)).filter(|&seconds| !is_end || seconds > 0),
    };
    writeln!(out, "{tag:>9} {body}{}", Places(connection))
}

/// What lists and events have in common.
struct Body<'a> {
    connection: &'a ConnectionEntry,
    style: Style,
    timeout: Option<u64>,
}

impl fmt::Display for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = self.connection;
        let ConnectionEntry { original, reply, .. } = connection;
        if self.style.is_extended {
            // Numbered as address families are: AF_INET, AF_INET6.
            f.write_str(if original.source.is_ipv4() {
                "ipv4     2 "
            } else {
                "ipv6     10 "
            })?;
        }
        let protocol = print::plain(&connection.protocol);
        write!(f, "{protocol:<8} {}", connection.protocol_number)?;
        if let Some(timeout) = self.timeout {
            write!(f, " {timeout}")?;
        }
        if let Some(state) = &connection.state {
            write!(f, " {}", print::plain(state))?;
        }
        write!(f, " {}", Side(original, "orig"))?;
        if !connection.replied {
            f.write_str(" [UNREPLIED]")?;
        }
        write!(f, " {}", Side(reply, "reply"))?;
        if connection.assured {
            f.write_str(" [ASSURED]")?;
        }
        Ok(())
    }
}

/// One direction, and what its zone is called after.
struct Side<'a>(&'a ConnectionSide, &'static str);

impl fmt::Display for Side<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(side, direction) = self;
        write!(f, "src={} dst={}", side.source, side.destination)?;
        if let (Some(source), Some(destination)) = (side.source_port, side.destination_port) {
            write!(f, " sport={source} dport={destination}")?;
        }
        if let Some(icmp) = side.icmp {
            write!(f, " type={} code={} id={}", icmp.kind, icmp.code, icmp.id)?;
        }
        if side.zone != 0 {
            write!(f, " zone-{direction}={}", side.zone)?;
        }
        write!(f, " packets={} bytes={}", side.packets, side.bytes)
    }
}

/// Where the sides of a connection are.
struct Places<'a>(&'a ConnectionEntry);

impl fmt::Display for Places<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (side, direction) in [(&self.0.original, "orig"), (&self.0.reply, "reply")] {
            for (what, name) in [("network", &side.network), ("sandbox", &side.sandbox)] {
                if !name.is_empty() {
                    write!(f, " {what}-{direction}={}", print::plain(name))?;
                }
            }
        }
        Ok(())
    }
}

/// Whole seconds until it ends. The daemon's number is not trusted to be one.
fn seconds(connection: &ConnectionEntry) -> u64 {
    Duration::try_from_secs_f64(connection.timeout_seconds).map_or(0, |left| left.as_secs())
}
