//! `vswitch replay`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::FormatArgs;

/// `vswitch replay`.
#[derive(Debug, Args)]
#[command(after_help = CONFIGURATION)]
pub struct ReplayArgs {
    /// TOML file that says how the engine is configured and what its networks are
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// What arrives at the router: pcap or pcapng, of Ethernet, raw IP or Linux cooked frames
    #[arg(long = "in", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub input: PathBuf,
    /// Where to write what leaves it, as pcapng with an interface for each side
    #[arg(long = "out", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Print the counters
    #[arg(long)]
    pub stats: bool,
    /// Print a line for each packet: what it was, and what became of it or why it was dropped
    #[arg(short = 'v', long, conflicts_with = "format")]
    pub explain: bool,
    /// How to print the counters.
    #[command(flatten)]
    pub format: FormatArgs,
}

const CONFIGURATION: &str = r#"A configuration:
  profile = "standard"              # or rfc, linux; everything below changes single things
  seed = 1                          # random choices follow from it
  checksums = "verify"              # believe: captured where a device completes them
  mapping = "endpoint-independent"  # or overlapping
  filtering = "address-and-port"    # or address, endpoint-independent
  port-choice = "preserve"          # or random, fully-random
  ports = "1024-65535"
  timeouts = { udp = 30, tcp-established = 7440 }
  limits = { connections = 1000 }   # per-network, per-host, rate-per-host
  tcp = { loose = false }           # liberal, max-retrans, watch-unacknowledged

  [outside]
  addresses = ["198.51.100.1"]
  prefixes = ["198.51.100.0/24"]
  mtu = 1500
  interface = "wan0"                # its name or number in the capture [default: outside]
  mac = "02:00:00:00:00:01"         # or the router's address there, if all is on one interface

  [[network]]
  name = "lan"
  prefixes = ["10.0.0.0/24"]
  gateways = ["10.0.0.1"]
  interface = "lan0"                # [default: the network's name]
  egress = "masquerade"             # routed, routed-open, npt (with internal and external prefix)

  [[publish]]
  protocol = "tcp"
  ports = "8080"
  network = "lan"
  target = "10.0.0.3"
  target-port = 80

Where neither interface nor mac tells the side of a packet, its source does."#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::config::{Config, RawConfig};

    #[test]
    fn the_configuration_that_help_shows_is_valid() {
        let lines = CONFIGURATION
            .lines()
            .filter(|line| line.is_empty() || line.starts_with("  "));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        let raw: RawConfig = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
        let config = Config::try_from(raw).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!((config.networks.len(), config.mappings.len()), (1, 1));
    }
}
