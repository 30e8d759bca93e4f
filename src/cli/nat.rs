//! What is translated to what.

use std::{
    io::{self, Write},
    net::IpAddr,
};

use super::{
    args::FormatArgs,
    failure::Failure,
    print::{self, Columns},
};
use crate::api::{
    client::Client,
    types::{NatEgress, NatInfo, NatPort},
};

/// `vswitch nat rules`.
///
/// # Errors
///
/// Those of the daemon and of standard output.
pub async fn rules(client: &Client, format: FormatArgs, out: &mut impl Write) -> Result<(), Failure> {
    let info = client.nat().await?;
    if format.is_json() {
        return Ok(print::json(out, &info)?);
    }
    Ok(print_rules(out, &info)?)
}

/// Prints external addresses, networks, and published ports.
///
/// # Errors
///
/// Those of the writer.
pub fn print_rules(out: &mut impl Write, info: &NatInfo) -> io::Result<()> {
    writeln!(out, "External addresses:  {}", listed(&info.external_addresses))?;
    writeln!(out, "Connections:         {}", info.connections)?;
    writeln!(out)?;
    let mut networks =
        Columns::new(["NETWORK", "ZONE", "PREFIXES", "TRANSLATION", "CONNECTIONS"]).numbers(&[1, 4]);
    for network in &info.networks {
        networks.row([
            network.network.clone(),
            network.zone.to_string(),
            network.prefixes.join(" "),
            egress(&network.egress),
            network.connections.to_string(),
        ]);
    }
    networks.print(out)?;
    writeln!(out)?;
    let mut ports = Columns::new([
        "FROM",
        "PROTO",
        "PUBLISHED",
        "TARGET",
        "NETWORK",
        "SANDBOX",
        "HITS",
    ])
    .numbers(&[6]);
    for port in &info.ports {
        ports.row([
            port.from.clone(),
            port.protocol.clone(),
            external(port),
            format!(
                "{}:{}",
                bracketed(port.target),
                span(port.target_port, port.count)
            ),
            port.network.clone(),
            or_dash(&port.sandbox),
            port.hits.to_string(),
        ]);
    }
    ports.print(out)
}

fn egress(egress: &NatEgress) -> String {
    match egress {
        NatEgress::Masquerade { addresses } if addresses.is_empty() => "masquerade".into(),
        NatEgress::Masquerade { addresses } => format!("masquerade to {}", listed(addresses)),
        NatEgress::Prefix { internal, external } => {
            format!("prefix {internal} to {external}; IPv4 masquerade")
        }
        NatEgress::Routed { open: true } => "routed, open to what begins outside".into(),
        NatEgress::Routed { open: false } => "routed".into(),
    }
}

/// `192.0.2.1:8080-8082`, or `0.0.0.0:8080` for all addresses of the target's version.
fn external(port: &NatPort) -> String {
    let address = match (port.external, port.target) {
        (Some(address), _) => bracketed(address),
        (None, IpAddr::V4(_)) => "0.0.0.0".into(),
        (None, IpAddr::V6(_)) => "[::]".into(),
    };
    format!("{address}:{}", span(port.port, port.count))
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn span(first: u16, count: u16) -> String {
    match count {
        0 | 1 => first.to_string(),
        _ => format!("{first}-{}", first.saturating_add(count - 1)),
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    or_dash(&texts.join(" "))
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(info: &NatInfo) -> String {
        let mut out = Vec::new();
        print_rules(&mut out, info).expect("a vector takes everything");
        String::from_utf8(out).expect("printers write UTF-8")
    }

    #[test]
    fn rules_say_how_each_network_leaves_and_what_comes_in() {
        let network = |name: &str, zone: u16, prefix: &str, egress| {
            json!({
                "Network": name, "NetworkID": "a".repeat(64), "Zone": zone, "Prefixes": [prefix], "Egress": egress,
                "Connections": 3
            })
        };
        let info = serde_json::from_value(json!({
            "ExternalAddresses": ["192.0.2.1", "2001:db8::1"],
            "Networks": [
                network("lan", 1, "10.0.0.0/24", json!({"Mode": "masquerade", "Addresses": ["192.0.2.1"]})),
                network("any", 2, "10.1.0.0/24", json!({"Mode": "masquerade", "Addresses": []})),
                network("six", 3, "fd00::/48",
                        json!({"Mode": "prefix", "Internal": "fd00::/48", "External": "2001:db8:1::/48"})),
                network("dmz", 4, "203.0.113.0/24", json!({"Mode": "routed", "Open": true}))
            ],
            "Ports": [
                {
                    "From": "outside", "Protocol": "tcp", "External": null, "Port": 8080, "Count": 3, "Target": "10.0.0.2",
                    "TargetPort": 80, "Network": "lan", "NetworkID": "a".repeat(64), "Sandbox": "web", "Hits": 12
                },
                {
                    "From": "inside", "Protocol": "udp", "External": "2001:db8::1", "Port": 53, "Count": 1, "Target": "fd00::2",
                    "TargetPort": 53, "Network": "six", "NetworkID": "a".repeat(64), "Sandbox": "", "Hits": 0
                }
            ],
            "Connections": 12,
            "Counters": {"created": 12}
        }));
        assert_eq!(
            printed(&info.expect("it is one")),
            "\
External addresses:  192.0.2.1 2001:db8::1
Connections:         12

NETWORK   ZONE   PREFIXES         TRANSLATION                                            CONNECTIONS
lan          1   10.0.0.0/24      masquerade to 192.0.2.1                                          3
any          2   10.1.0.0/24      masquerade                                                       3
six          3   fd00::/48        prefix fd00::/48 to 2001:db8:1::/48; IPv4 masquerade             3
dmz          4   203.0.113.0/24   routed, open to what begins outside                              3

FROM      PROTO   PUBLISHED           TARGET           NETWORK   SANDBOX   HITS
outside   tcp     0.0.0.0:8080-8082   10.0.0.2:80-82   lan       web         12
inside    udp     [2001:db8::1]:53    [fd00::2]:53     six       -            0
"
        );
    }

    #[test]
    fn without_translation_there_are_headers() {
        let text = printed(&NatInfo::default());
        assert!(
            text.starts_with("External addresses:  -\nConnections:         0\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 6);
    }
}
