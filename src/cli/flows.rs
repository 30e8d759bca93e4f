//! Connections of containers to the outside, as `conntrack -L` looks at them.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::{
    args::FlowsArgs,
    failure::Failure,
    list::{self, Object},
    print::{self, Columns},
};
use crate::api::{client::Client, types::FlowEntry};

/// `vswitch flows`: of a sandbox, else of a network, else of everything.
///
/// # Errors
///
/// Those of the daemon and of standard output.
pub async fn flows(client: &Client, args: &FlowsArgs, out: &mut impl Write) -> Result<(), Failure> {
    let flows = match &args.name {
        Some(name) => flows_of(client, name).await?,
        None => client.flows().await?,
    };
    if args.format.is_json() {
        return Ok(print::json(out, &flows)?);
    }
    Ok(print_flows(out, &flows)?)
}

/// Prints flows in the order in which the daemon lists them.
///
/// # Errors
///
/// Those of the writer.
pub fn print_flows(out: &mut impl Write, flows: &[FlowEntry]) -> io::Result<()> {
    let mut columns = Columns::new([
        "NETWORK",
        "SANDBOX",
        "PROTO",
        "STATE",
        "CONTAINER",
        "REMOTE",
        "SENT",
        "RECEIVED",
        "AGE",
        "IDLE",
        "TIMEOUT",
    ])
    .numbers(&[6, 7, 8, 9, 10]);
    for flow in flows {
        columns.row([
            flow.network.clone(),
            or_dash(&flow.sandbox),
            flow.protocol.clone(),
            flow.state.clone(),
            flow.container.clone(),
            match &flow.target {
                Some(target) => format!("{} via {target}", flow.remote),
                None => flow.remote.clone(),
            },
            print::bytes(flow.sent_bytes),
            print::bytes(flow.received_bytes),
            span(flow.age_seconds),
            span(flow.idle_seconds),
            span(flow.timeout_seconds),
        ]);
    }
    columns.print(out)
}

/// As everywhere, a sandbox wins over a network of the same name, and a whole name over the start of an id.
async fn flows_of(client: &Client, name: &str) -> Result<Vec<FlowEntry>, Failure> {
    let flows = match list::find(client, name).await {
        Ok(Object::Sandbox(sandbox)) => client.sandbox_flows(&sandbox.id).await,
        Ok(Object::Network(network)) => client.network_flows(&network.id).await,
        Err(error) if error.is_not_found() => {
            return Err(Failure::new(format_args!(
                "no such sandbox or network: {name}; `vswitch ps` and `vswitch network ls` list them"
            )));
        }
        Err(error) => Err(error),
    };
    Ok(flows?)
}

/// The daemon's number is not trusted to be a duration.
fn span(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "-".to_owned(), print::short_duration)
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(flows: &[FlowEntry]) -> String {
        let mut out = Vec::new();
        print_flows(&mut out, flows).expect("a vector takes everything");
        String::from_utf8(out).expect("printers write UTF-8")
    }

    fn flows() -> Vec<FlowEntry> {
        serde_json::from_value(json!([
            {
                "Network": "lan", "NetworkID": "a".repeat(64), "Sandbox": "web", "Interface": "eth0",
                "Protocol": "tcp", "State": "ESTABLISHED", "Container": "10.0.0.2:40000",
                "Remote": "198.51.100.7:443", "Target": null, "SentBytes": 1_234_567,
                "ReceivedBytes": 1_234_567_890, "AgeSeconds": 75.4, "IdleSeconds": 0.2,
                "TimeoutSeconds": 7199.8
            },
            {
                "Network": "lan", "NetworkID": "a".repeat(64), "Sandbox": "", "Interface": "",
                "Protocol": "udp", "State": "UNREPLIED", "Container": "[fd00::2]:4000",
                "Remote": "[fd00::1]:53", "Target": "127.0.0.53:53", "SentBytes": 40, "ReceivedBytes": 0,
                "AgeSeconds": 1.0, "IdleSeconds": 1.0, "TimeoutSeconds": -1.0
            }
        ]))
        .expect("these are flows")
    }

    #[test]
    fn a_flow_shows_both_ends_and_where_the_host_turns_it() {
        assert_eq!(
            printed(&flows()),
            "\
NETWORK   SANDBOX   PROTO   STATE         CONTAINER        REMOTE                             SENT   RECEIVED     AGE   IDLE   TIMEOUT
lan       web       tcp     ESTABLISHED   10.0.0.2:40000   198.51.100.7:443                 1.23MB     1.23GB   1m15s     0s     1h59m
lan       -         udp     UNREPLIED     [fd00::2]:4000   [fd00::1]:53 via 127.0.0.53:53      40B         0B      1s     1s         -
"
        );
    }

    #[test]
    fn no_flows_are_a_header() {
        assert_eq!(printed(&[]).lines().count(), 1);
    }
}
