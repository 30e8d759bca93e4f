//! Lists of networks and sandboxes, and their descriptions in full.

use std::{
    cmp::Ordering,
    io::{self, Write},
};

use serde::Serialize;

use super::{
    args::{Format, FormatArgs, InspectArgs, ListArgs, PsArgs},
    failure::{Failure, report},
    port,
    print::{self, Columns},
};
use crate::api::{
    client::{Client, ClientError, Listed},
    types::{Container, ContainerSummary, EndpointSettings, Network},
};

/// `vswitch ps`.
///
/// # Errors
///
/// Those of the daemon and of standard output.
pub async fn ps(client: &Client, args: &PsArgs, out: &mut impl Write) -> Result<(), Failure> {
    let which = if args.all { Listed::All } else { Listed::Running };
    let mut summaries = client.containers(which, &pairs(&args.filter)).await?;
    summaries.sort_by(|a, b| natural(name(a), name(b)));
    if args.list.quiet {
        return Ok(ids(
            out,
            summaries.iter().map(|summary| summary.id.as_str()),
            &args.list,
        )?);
    }
    if args.list.format.is_json() {
        return Ok(print::json(out, &summaries)?);
    }
    Ok(sandboxes(out, &summaries, args.list.no_trunc)?)
}

/// `vswitch inspect`: each name is a sandbox or else a network.
///
/// # Errors
///
/// Those of the daemon and of standard output; names that nothing has are reported one by one.
pub async fn inspect(client: &Client, args: &InspectArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut found = Vec::new();
    let mut missing = false;
    for name in &args.names {
        match find(client, name).await {
            Ok(object) => found.push(object),
            Err(error) if error.is_not_found() => {
                missing = true;
                report(&format!("no such sandbox or network: {name}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    describe(out, &found, args.format)?;
    if missing { Err(Failure::reported()) } else { Ok(()) }
}

/// `vswitch network inspect`.
///
/// # Errors
///
/// Those of the daemon and of standard output; unknown names are reported one by one.
pub async fn inspect_networks(
    client: &Client,
    names: &[String],
    format: FormatArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut found = Vec::new();
    let mut missing = false;
    for name in names {
        match client.network(name).await {
            Ok(network) => found.push(Object::Network(Box::new(network))),
            Err(error @ ClientError::Refused { .. }) => {
                missing = true;
                report(&error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
    }
    describe(out, &found, format)?;
    if missing { Err(Failure::reported()) } else { Ok(()) }
}

/// Prints networks as `docker network ls` does, sorted by name.
///
/// # Errors
///
/// Those of the writer.
pub fn networks(out: &mut impl Write, mut networks: Vec<Network>, args: &ListArgs) -> io::Result<()> {
    networks.sort_by(|a, b| natural(&a.name, &b.name));
    if args.quiet {
        return ids(out, networks.iter().map(|network| network.id.as_str()), args);
    }
    if args.format.is_json() {
        return print::json(out, &networks);
    }
    network_columns(out, networks.iter(), args.no_trunc)
}

/// Prints sandboxes with their process ids.
///
/// # Errors
///
/// Those of the writer.
pub fn sandboxes(out: &mut impl Write, summaries: &[ContainerSummary], no_trunc: bool) -> io::Result<()> {
    let mut columns = Columns::new(["SANDBOX ID", "NAME", "PID", "NETWORKS", "STATUS", "PORTS"]);
    for summary in summaries {
        columns.row([
            print::id(&summary.id, no_trunc).to_owned(),
            name(summary).to_owned(),
            process(summary.pid),
            attachments(summary.network_settings.networks.iter()),
            summary.status.clone(),
            port::folded(&summary.ports),
        ]);
    }
    columns.print(out)
}

/// The pairs as the client takes them.
pub fn pairs(filters: &[(String, String)]) -> Vec<(&str, &str)> {
    filters
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

/// What a name on the command line may mean, and `inspect` describes.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Object {
    Network(Box<Network>),
    Sandbox(Box<Container>),
}

/// Docker's order: containers, then networks; but nobody's full name loses to the start of another's id.
pub(super) async fn find(client: &Client, name: &str) -> Result<Object, ClientError> {
    let sandbox = match client.container(name).await {
        Err(error) if error.is_not_found() => {
            return client.network(name).await.map(Box::new).map(Object::Network);
        }
        sandbox => sandbox?,
    };
    let is_its_name = sandbox.name.trim_start_matches('/') == name || sandbox.id == name;
    if !is_its_name && let Some(network) = network_named(client, name).await? {
        return Ok(Object::Network(Box::new(network)));
    }
    Ok(Object::Sandbox(Box::new(sandbox)))
}

/// The network of exactly this name.
async fn network_named(client: &Client, name: &str) -> Result<Option<Network>, ClientError> {
    match client.network(name).await {
        Ok(network) => Ok(Some(network).filter(|network| network.name == name)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn describe(out: &mut impl Write, objects: &[Object], format: FormatArgs) -> io::Result<()> {
    if format.format != Some(Format::Table) {
        return print::json(out, &objects);
    }
    let networks = objects.iter().filter_map(|object| match object {
        Object::Network(network) => Some(&**network),
        Object::Sandbox(_) => None,
    });
    let sandboxes = objects.iter().filter_map(|object| match object {
        Object::Network(_) => None,
        Object::Sandbox(container) => Some(&**container),
    });
    if sandboxes.clone().next().is_some() {
        container_columns(out, sandboxes.clone())?;
    }
    if networks.clone().next().is_some() {
        if sandboxes.clone().next().is_some() {
            writeln!(out)?;
        }
        network_columns(out, networks, false)?;
    }
    Ok(())
}

fn network_columns<'a>(
    out: &mut impl Write,
    networks: impl Iterator<Item = &'a Network>,
    no_trunc: bool,
) -> io::Result<()> {
    let mut columns = Columns::new(["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
    for network in networks {
        columns.row([
            print::id(&network.id, no_trunc).to_owned(),
            network.name.clone(),
            network.driver.clone(),
            network.scope.clone(),
        ]);
    }
    columns.print(out)
}

fn container_columns<'a>(
    out: &mut impl Write,
    containers: impl Iterator<Item = &'a Container>,
) -> io::Result<()> {
    let mut columns = Columns::new(["SANDBOX ID", "NAME", "PID", "NETWORKS", "STATUS"]);
    for container in containers {
        columns.row([
            print::id(&container.id, false).to_owned(),
            container.name.trim_start_matches('/').to_owned(),
            process(container.state.pid),
            attachments(container.network_settings.networks.iter()),
            container.state.status.clone(),
        ]);
    }
    columns.print(out)
}

fn ids<'a>(out: &mut impl Write, mut ids: impl Iterator<Item = &'a str>, args: &ListArgs) -> io::Result<()> {
    ids.try_for_each(|id| writeln!(out, "{}", print::id(id, args.no_trunc)))
}

/// The name without Docker's leading slash.
fn name(summary: &ContainerSummary) -> &str {
    summary
        .names
        .first()
        .map_or("", |name| name.trim_start_matches('/'))
}

fn process(pid: u32) -> String {
    if pid == 0 { "-".to_owned() } else { pid.to_string() }
}

/// `lan 192.168.0.10 fd00::10, dmz 10.0.0.2`.
fn attachments<'a>(networks: impl Iterator<Item = (&'a String, &'a EndpointSettings)>) -> String {
    let texts: Vec<String> = networks
        .map(|(network, endpoint)| {
            [network, &endpoint.ip_address, &endpoint.global_ipv6_address]
                .into_iter()
                .filter(|text| !text.is_empty())
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.join(", ")
    }
}

/// Order in which `net2` comes before `net10`, as in Docker's lists.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (Some(l), Some(r)) = (left.chars().next(), right.chars().next()) else {
            // What is left over decides; names that differ only in leading zeros need an order too.
            return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
        };
        let order = if l.is_ascii_digit() && r.is_ascii_digit() {
            let (l, r) = (take_number(&mut left), take_number(&mut right));
            l.len().cmp(&r.len()).then_with(|| l.cmp(r))
        } else {
            left = &left[l.len_utf8()..];
            right = &right[r.len_utf8()..];
            l.cmp(&r)
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Splits the leading digits off; gives them without leading zeros.
fn take_number<'a>(text: &mut &'a str) -> &'a str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    digits.trim_start_matches('0')
}

#[cfg(test)]
mod tests;
