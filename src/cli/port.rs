//! `vswitch publish`, `unpublish` and `port`, and the PORTS column of `ps`.

mod fold;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::IpAddr,
};

use super::{
    args::{ContainerPort, PortArgs, PublishArgs, UnpublishArgs},
    failure::{Failure, warn},
    list,
    print::{self, Columns},
};
use crate::{
    api::{
        client::Client,
        types::{PortBinding, PortBindings, PortEntry, PortsPublish, PortsUnpublish},
    },
    model::PortMapping,
};

pub use self::fold::folded;

/// `vswitch publish`: prints what leads where, as [`port`] does, because the host's ports may be of the daemon's
/// choice.
///
/// # Errors
///
/// Those of the daemon and of standard output.
pub async fn publish(client: &Client, args: PublishArgs, out: &mut impl Write) -> Result<(), Failure> {
    let wish = PortsPublish { ports: args.ports };
    let published = client.publish_ports(&args.sandbox, &wish).await?;
    warn(&published.warnings);
    Ok(print_lines(out, mapping_lines(&published.ports))?)
}

/// `vswitch unpublish`.
///
/// # Errors
///
/// Those of the daemon.
pub async fn unpublish(client: &Client, args: UnpublishArgs) -> Result<(), Failure> {
    let wish = PortsUnpublish {
        ports: args.ports,
        close_connections: args.close,
    };
    Ok(client.unpublish_ports(&args.sandbox, &wish).await?)
}

/// `vswitch port`: as `docker port`, or a table of everything with counters.
///
/// # Errors
///
/// Those of the daemon and of standard output; nothing is published for the port that was asked for.
pub async fn port(client: &Client, args: &PortArgs, out: &mut impl Write) -> Result<(), Failure> {
    let sandbox = match &args.sandbox {
        Some(sandbox) if !args.counters && args.format.format.is_none() => sandbox,
        sandbox => {
            let entries = client.ports(sandbox.as_deref()).await?;
            if args.format.is_json() {
                return Ok(print::json(out, &entries)?);
            }
            return Ok(print_entries(out, &entries)?);
        }
    };
    let published = client.container(sandbox).await?.network_settings.ports;
    let Some(port) = &args.port else {
        return Ok(print_lines(out, lines(&published))?);
    };
    let addresses = addresses(&published, port);
    if addresses.is_empty() {
        return Err(Failure::new(format_args!(
            "No public port '{}' published for {sandbox}",
            port.text
        )));
    }
    Ok(print_lines(out, addresses)?)
}

/// Prints published ports with what has come by them.
///
/// # Errors
///
/// Those of the writer.
pub fn print_entries(out: &mut impl Write, entries: &[PortEntry]) -> io::Result<()> {
    let mut columns = Columns::new([
        "SANDBOX", "NETWORK", "PORTS", "ACTIVE", "ACCEPTED", "FAILED", "REFUSED", "RULES",
    ])
    .numbers(&[3, 4, 5]);
    for entry in entries {
        let count = |name| entry.counters.get(name).copied().unwrap_or_default();
        columns.row([
            entry.sandbox.clone(),
            or_dash(&entry.network),
            entry.mapping.to_string(),
            entry.active.to_string(),
            count("accepted").to_string(),
            count("failed").to_string(),
            or_dash(&refused(&entry.counters)),
            or_dash(entry.mapping.rules.to_string().trim_start_matches(',')),
        ]);
    }
    columns.print(out)
}

/// `allow 3, rate 12`: how many were refused, by reason.
fn refused(counters: &BTreeMap<String, u64>) -> String {
    let reasons: Vec<String> = counters
        .iter()
        .filter(|&(_, &count)| count > 0)
        .filter_map(|(name, count)| Some(format!("{} {count}", name.strip_prefix("refused_")?)))
        .collect();
    reasons.join(", ")
}

/// `80/tcp -> 0.0.0.0:8080`, of Docker's map.
fn lines(published: &PortBindings) -> Vec<String> {
    let lines = published.iter().flat_map(|(port, bindings)| {
        let bindings = bindings.iter().flatten();
        bindings.map(move |binding| format!("{port} -> {}", host_end(binding)))
    });
    lines.collect()
}

/// The same, of mappings.
fn mapping_lines(mappings: &[PortMapping]) -> Vec<String> {
    let lines = mappings.iter().flat_map(|mapping| {
        mapping
            .bindings()
            .map(|(container, host)| format!("{container}/{} -> {host}", mapping.protocol))
    });
    lines.collect()
}

fn addresses(published: &PortBindings, port: &ContainerPort) -> Vec<String> {
    let bindings = published.get(&format!("{}/{}", port.port, port.protocol));
    bindings.into_iter().flatten().flatten().map(host_end).collect()
}

fn host_end(binding: &PortBinding) -> String {
    join(&binding.host_ip, &binding.host_port)
}

/// An address and ports, IPv6 in brackets.
fn join(ip: &str, ports: &str) -> String {
    match ip.parse() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{ports}"),
        _ => format!("{ip}:{ports}"),
    }
}

/// In the order in which `docker port` prints them.
fn print_lines(out: &mut impl Write, mut lines: Vec<String>) -> io::Result<()> {
    lines.sort_by(|a, b| list::natural(a, b));
    lines
        .iter()
        .try_for_each(|line| writeln!(out, "{}", print::plain(line)))
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

#[cfg(test)]
mod tests;
