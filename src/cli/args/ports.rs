//! The grammar of commands and flags that publish ports.

use std::str::FromStr;

use clap::Args;

use super::FormatArgs;
use crate::model::{PortRequest, Transport};

/// `-p` of a command that makes a sandbox.
#[derive(Debug, Clone, Default, Args)]
pub struct PublishFlag {
    /// Publish ports, repeatable: [IP:][HOSTPORT:]PORT[/tcp|udp][,KEY=VALUE…]
    #[arg(short = 'p', long = "publish", value_name = "PORTS", long_help = PORTS)]
    pub ports: Vec<PortRequest>,
}

/// `vswitch publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Name or id
    pub sandbox: String,
    /// What to publish, repeatable: [IP:][HOSTPORT:]PORT[/tcp|udp][,KEY=VALUE…]
    #[arg(
        short = 'p',
        long = "publish",
        value_name = "PORTS",
        required = true,
        long_help = PORTS
    )]
    pub ports: Vec<PortRequest>,
}

/// `vswitch unpublish`.
#[derive(Debug, Args)]
pub struct UnpublishArgs {
    /// Name or id
    pub sandbox: String,
    /// Ports as `publish` takes them, or a container's port such as 80 or 53/udp for all that lead to it
    #[arg(required = true, value_name = "PORTS")]
    pub ports: Vec<PortRequest>,
    /// Also reset the connections that are open; else they go on to their end
    #[arg(long)]
    pub close: bool,
}

/// `vswitch port`.
#[derive(Debug, Args)]
pub struct PortArgs {
    /// Name or id of a sandbox; without it everything is listed, with counters
    pub sandbox: Option<String>,
    /// Only the addresses that lead to this port of it
    #[arg(value_name = "PORT[/PROTO]", conflicts_with_all = ["counters", "format"])]
    pub port: Option<ContainerPort>,
    /// List what has come by each, and what was refused and why
    #[arg(long)]
    pub counters: bool,
    /// How to print them; either has the counters.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// A port of a container, by default a TCP one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// As it was written.
    pub text: String,
    /// The port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Transport,
}

impl FromStr for ContainerPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (port, protocol) = text.split_once('/').unwrap_or((text, ""));
        let protocol = match protocol {
            "" => Transport::Tcp,
            _ => protocol
                .parse()
                .map_err(|error: crate::model::InvalidPort| error.to_string())?,
        };
        Ok(Self {
            text: text.to_owned(),
            port: port.parse().map_err(|_| format!("invalid port ({port})"))?,
            protocol,
        })
    }
}

/// What `-p` takes, at length.
const PORTS: &str = "\
Publish ports, repeatable: [IP:][HOSTPORT:]PORT[/tcp|udp][,KEY=VALUE…]

  80                      a free port of the host leads to port 80; `vswitch port` says which
  8080:80                 port 8080 of all the host's addresses
  127.0.0.1:8080:80       only of this address; IPv6 ones in brackets: [::1]:8080:80
  8000-8009:9000-9009     ten ports
  8000-8009:80            the first of these that is free
  5353:53/udp             UDP

Keys:
  allow=CIDR,…            only these clients may come
  max-conns=N             at most so many connections, or UDP clients, at a time
  rate=N                  at most so many new ones a second
  proxy-protocol=v1|v2    tell the container who comes by this header, before the first byte (tcp)
  local=relay|splice      bring clients of this host to the container as from its gateway, or socket to
                          socket (the default, faster)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p16_a_containers_port_is_a_tcp_one_unless_it_says_otherwise() {
        for (text, port, protocol) in [
            ("80", 80, Transport::Tcp),
            ("80/tcp", 80, Transport::Tcp),
            ("53/UDP", 53, Transport::Udp),
            ("0", 0, Transport::Tcp),
        ] {
            let text = text.to_owned();
            let wanted = ContainerPort {
                text: text.clone(),
                port,
                protocol,
            };
            assert_eq!(text.parse(), Ok(wanted));
        }
        for (text, reason) in [
            ("", "invalid port ()"),
            ("http", "invalid port (http)"),
            ("65536/tcp", "invalid port (65536)"),
            ("80/x", "invalid proto: x"),
        ] {
            assert_eq!(text.parse::<ContainerPort>(), Err(reason.to_owned()));
        }
    }
}
