//! The switch as an engineer looks at it: ports, forwarding database, counters.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use super::{
    args::{FdbArgs, ShowArgs, StatsArgs},
    failure::Failure,
    print::{self, Columns},
};
use crate::api::{
    client::Client,
    types::{Bridge, BridgePort, FdbEntry, PortStats},
};

/// `vswitch show`.
///
/// # Errors
///
/// Those of the daemon and of standard output.
pub async fn show(client: &Client, args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let bridges = client.bridges(args.network.as_deref()).await?;
    if args.format.is_json() {
        return Ok(print::json(out, &bridges)?);
    }
    Ok(print_bridges(out, &bridges)?)
}

/// `vswitch fdb`.
///
/// # Errors
///
/// Those of the daemon and of standard output.
pub async fn fdb(client: &Client, args: &FdbArgs, out: &mut impl Write) -> Result<(), Failure> {
    let entries = client.fdb(args.network.as_deref()).await?;
    if args.format.is_json() {
        return Ok(print::json(out, &entries)?);
    }
    Ok(print_fdb(out, &entries)?)
}

/// `vswitch stats`: of a sandbox, else of a network, else of everything.
///
/// # Errors
///
/// Those of the daemon and of standard output.
pub async fn stats(client: &Client, args: &StatsArgs, out: &mut impl Write) -> Result<(), Failure> {
    let ports = match &args.name {
        Some(name) => ports_of(client, name).await?,
        None => client.stats().await?,
    };
    if args.format.is_json() {
        return Ok(print::json(out, &ports)?);
    }
    let counters = if args.all {
        Counters::All
    } else {
        Counters::Traffic
    };
    Ok(print_stats(out, &ports, counters)?)
}

/// Which counters a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counters {
    /// Also those that are neither traffic nor drops.
    All,
    /// Frames, bytes and drops.
    Traffic,
}

/// Prints switches in the manner of `brctl show`: the bridge's columns only beside its first port.
///
/// # Errors
///
/// Those of the writer.
pub fn print_bridges(out: &mut impl Write, bridges: &[Bridge]) -> io::Result<()> {
    let mut columns = Columns::new([
        "NETWORK",
        "BRIDGE ID",
        "FLAGS",
        "PORT",
        "NAME",
        "STATE",
        "MTU",
        "MAC ADDRESS",
        "ADDRESSES",
    ])
    .numbers(&[3, 6]);
    for bridge in bridges {
        let mut heading = [
            bridge.network.clone(),
            bridge_id(&bridge.gateway_mac),
            flags(bridge),
        ];
        if bridge.ports.is_empty() {
            let [network, id, flags] = std::mem::take(&mut heading);
            let none = String::new;
            columns.row([network, id, flags, none(), none(), none(), none(), none(), none()]);
        }
        for port in &bridge.ports {
            // Empty from the second port on.
            let [network, id, flags] = std::mem::take(&mut heading);
            let (mac, addresses) = station(bridge, port);
            columns.row([
                network,
                id,
                flags,
                port.port.to_string(),
                port.label.clone(),
                port.state.clone(),
                port.mtu.to_string(),
                mac,
                addresses,
            ]);
        }
    }
    columns.print(out)
}

/// Prints forwarding entries in the manner of `ovs-appctl fdb/show`.
///
/// # Errors
///
/// Those of the writer.
pub fn print_fdb(out: &mut impl Write, entries: &[FdbEntry]) -> io::Result<()> {
    let mut columns =
        Columns::new(["NETWORK", "MAC ADDRESS", "VLAN", "PORT", "NAME", "KIND", "AGE"]).numbers(&[2, 3, 6]);
    for entry in entries {
        // Only dynamic entries age. The daemon's number is not trusted to be a duration.
        let age = match entry.kind.as_str() {
            "dynamic" => Duration::try_from_secs_f64(entry.age_seconds).ok(),
            _ => None,
        };
        columns.row([
            entry.network.clone(),
            entry.mac_address.clone(),
            entry.vlan.map_or_else(dash, |vlan| vlan.to_string()),
            entry.port.to_string(),
            entry.label.clone(),
            entry.kind.clone(),
            age.map_or_else(dash, print::short_duration),
        ]);
    }
    columns.print(out)
}

/// Prints the counters of ports. Directions are the switch's: RX is what the container sent.
///
/// # Errors
///
/// Those of the writer.
pub fn print_stats(out: &mut impl Write, ports: &[PortStats], counters: Counters) -> io::Result<()> {
    const TITLES: [&str; 9] = [
        "NETWORK",
        "PORT",
        "NAME",
        "RX FRAMES",
        "RX BYTES",
        "TX FRAMES",
        "TX BYTES",
        "DROPPED",
        "DROPS BY REASON",
    ];
    const NUMBERS: [usize; 6] = [1, 3, 4, 5, 6, 7];
    let common = |port: &PortStats| {
        // The translation has drops only.
        let of_port = |text: String| if port.network.is_empty() { dash() } else { text };
        [
            of_port(port.network.clone()),
            of_port(port.port.to_string()),
            port.label.clone(),
            of_port(port.rx_frames.to_string()),
            of_port(print::bytes(port.rx_bytes)),
            of_port(port.tx_frames.to_string()),
            of_port(print::bytes(port.tx_bytes)),
            port.drops
                .values()
                .copied()
                .fold(0, u64::saturating_add)
                .to_string(),
            listed(&port.drops),
        ]
    };
    match counters {
        Counters::All => {
            let [a, b, c, d, e, f, g, h, i] = TITLES;
            let mut columns = Columns::new([a, b, c, d, e, f, g, h, i, "OTHER"]).numbers(&NUMBERS);
            for port in ports {
                let [a, b, c, d, e, f, g, h, i] = common(port);
                columns.row([a, b, c, d, e, f, g, h, i, listed(&port.other)]);
            }
            columns.print(out)
        }
        Counters::Traffic => {
            let mut columns = Columns::new(TITLES).numbers(&NUMBERS);
            ports.iter().for_each(|port| columns.row(common(port)));
            columns.print(out)
        }
    }
}

/// As everywhere, a sandbox wins over a network of the same name, and a whole name over the start of an id.
async fn ports_of(client: &Client, name: &str) -> Result<Vec<PortStats>, Failure> {
    let of_sandbox = match client.sandbox_stats(name).await {
        Err(error) if error.is_not_found() => None,
        ports => Some(ports?),
    };
    let of_sandbox = match of_sandbox {
        Some(ports) if ports.iter().any(|port| port.sandbox == name) => return Ok(ports),
        other => other,
    };
    let of_network = match client.network_stats(name).await {
        Err(error) if error.is_not_found() => None,
        ports => Some(ports?),
    };
    let is_its_name = |ports: &[PortStats]| ports.iter().any(|port| port.network == name);
    match (of_sandbox, of_network) {
        (Some(_), Some(ports)) if is_its_name(&ports) => Ok(ports),
        (Some(ports), _) | (None, Some(ports)) => Ok(ports),
        (None, None) => Err(Failure::new(format_args!(
            "no such sandbox or network: {name}; `vswitch ps` and `vswitch network ls` list them"
        ))),
    }
}

/// The bridge's id as IEEE 802.1D writes it: priority 0x8000 (the default) and its MAC address.
fn bridge_id(mac: &str) -> String {
    format!("8000.{}", mac.replace(':', ""))
}

fn flags(bridge: &Bridge) -> String {
    match (bridge.internal, bridge.inter_container) {
        (false, true) => dash(),
        (true, true) => "internal".to_owned(),
        (false, false) => "icc=false".to_owned(),
        (true, false) => "internal,icc=false".to_owned(),
    }
}

/// MAC address and addresses behind a port.
fn station(bridge: &Bridge, port: &BridgePort) -> (String, String) {
    let Some(endpoint) = &port.endpoint else {
        return (bridge.gateway_mac.clone(), bridge.gateways.join(" "));
    };
    let addresses: Vec<&str> = [&endpoint.ipv4_address, &endpoint.ipv6_address]
        .into_iter()
        .map(String::as_str)
        .filter(|address| !address.is_empty())
        .collect();
    (endpoint.mac_address.clone(), addresses.join(" "))
}

/// `reason 3, other-reason 1`, the most frequent first.
fn listed(counters: &BTreeMap<String, u64>) -> String {
    let mut counters: Vec<(&String, &u64)> = counters.iter().collect();
    counters.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let texts: Vec<String> = counters
        .into_iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if texts.is_empty() {
        dash()
    } else {
        texts.join(", ")
    }
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests;
