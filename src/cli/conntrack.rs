//! Connections of the translation, as conntrack(8) shows and removes them.

mod line;

use std::{io::Write, time::SystemTime};

use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use self::line::{Moment, Style, print_connection, print_event};
use super::{
    args::{ConnectionFilterArgs, ConntrackArgs, EventKind, Output},
    failure::{self, Failure},
    print,
};
use crate::api::{client::Client, types::ConnectionEvent};

/// `vswitch conntrack`. What conntrack says on stderr is said there, too.
///
/// # Errors
///
/// Those of the daemon and of standard output; nothing was found to remove.
pub async fn conntrack(client: &Client, args: &ConntrackArgs, out: &mut impl Write) -> Result<(), Failure> {
    if args.events {
        return watch(client, args, out).await;
    }
    if args.flush {
        client.flush_connections().await?;
        failure::say("connection tracking table has been emptied.");
        return Ok(());
    }
    if args.count {
        return Ok(writeln!(out, "{}", client.connection_count().await?)?);
    }
    let conditions = conditions(&args.filter);
    let found = match args.delete {
        true => client.remove_connections(&borrowed(&conditions)).await?,
        false => client.connections(&borrowed(&conditions)).await?,
    };
    if args.is_json() {
        print::json(out, &found)?;
    } else {
        let style = Style::of(&args.output);
        found
            .iter()
            .try_for_each(|connection| print_connection(out, connection, style))?;
    }
    out.flush()?;
    let count = found.len();
    match (args.delete, args.is_json()) {
        (true, _) => failure::say(&format!("{count} flow entries have been deleted.")),
        (false, false) => failure::say(&format!("{count} flow entries have been shown.")),
        // A script counts for itself.
        (false, true) => {}
    }
    match args.delete && count == 0 {
        true => Err(Failure::reported()),
        false => Ok(()),
    }
}

/// Prints events until a signal, a failure or the daemon's end.
async fn watch(client: &Client, args: &ConntrackArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut conditions = conditions(&args.filter);
    if let Some(types) = kinds(&args.event_mask) {
        conditions.push(("types", types));
    }
    let signal =
        |kind| signal(kind).map_err(|error| Failure::new(format_args!("watch for a signal to end: {error}")));
    let mut events = client.connection_events(&borrowed(&conditions)).await?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (style, is_json) = (Style::of(&args.output), args.is_json());
    let mut shown = 0u64;
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        };
        let Some(event) = event else {
            return Err(Failure::new(format_args!(
                "the daemon has ended after {shown} flow events"
            )));
        };
        if let ConnectionEvent::Lost(lost) = &event {
            failure::report(&format!(
                "warning: {} flow events were lost, because they came faster than they were read",
                lost.count
            ));
        } else {
            shown += 1;
        }
        if is_json {
            serde_json::to_writer(&mut *out, &event).map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            print_event(out, &event, style, Moment(time.unwrap_or_default()))?;
        }
        out.flush()?;
    }
    failure::say(&format!("{shown} flow events have been shown."));
    Ok(())
}

/// The filters in the API's words.
fn conditions(args: &ConnectionFilterArgs) -> Vec<(&'static str, String)> {
    let port = |port: Option<u16>| port.map(|port| port.to_string());
    let all = [
        ("family", args.family.map(word)),
        ("protocol", args.protocol.clone()),
        ("orig_src", args.orig_src.clone()),
        ("orig_dst", args.orig_dst.clone()),
        ("orig_sport", port(args.orig_sport)),
        ("orig_dport", port(args.orig_dport)),
        ("reply_src", args.reply_src.clone()),
        ("reply_dst", args.reply_dst.clone()),
        ("reply_sport", port(args.reply_sport)),
        ("reply_dport", port(args.reply_dport)),
        ("state", args.state.clone()),
        ("status", args.status.map(word)),
        ("network", args.network.clone()),
        ("sandbox", args.sandbox.clone()),
    ];
    all.into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

fn borrowed<'a>(conditions: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    conditions
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect()
}

/// Kinds of events in the API's words; `None` for all.
fn kinds(mask: &[EventKind]) -> Option<String> {
    let names = mask.iter().map(|kind| match kind {
        EventKind::All => None,
        EventKind::Destroy => Some("destroy"),
        EventKind::New => Some("new"),
        EventKind::Updates => Some("update"),
    });
    let names: Vec<&str> = names.collect::<Option<_>>()?;
    (!names.is_empty()).then(|| names.join(","))
}

fn word(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Style {
    fn of(output: &[Output]) -> Self {
        Self {
            is_extended: output.contains(&Output::Extended),
            is_timed: output.contains(&Output::Timestamp),
        }
    }
}

#[cfg(test)]
mod tests;
