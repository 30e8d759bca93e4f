//! The configuration as it was written.

use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;

use crate::{control::SubnetPool, dataplane::PollMode};

/// What a file or a command line says; `None` where it says nothing.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawConfig {
    /// API socket [default: unix://$XDG_RUNTIME_DIR/vswitch.sock, root: unix:///run/vswitch.sock]
    #[arg(short = 'H', long, env = "VSWITCH_HOST", value_name = "unix://PATH")]
    pub host: Option<String>,
    /// Directory of the database [default: ~/.local/state/vswitch, root: /var/lib/vswitch]
    #[arg(long, env = "VSWITCH_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Packet loops (threads) [default: one for two cores, at least one]
    #[arg(long, env = "VSWITCH_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// How packet loops wait for frames [default: adaptive]
    #[arg(long, env = "VSWITCH_POLL", value_enum)]
    pub poll: Option<PollMode>,
    /// error, warn, info, debug, trace or off [default: info]
    #[arg(short = 'l', long, env = "VSWITCH_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// By what networks leave: by sockets of the host, or by a device on which the daemon is a host of its own.
    /// [default: sockets]
    #[arg(
        long,
        env = "VSWITCH_UPLINK",
        value_name = "sockets|device=IFACE,address=CIDR[,address=CIDR][,gateway=IP][,mac=MAC][,mtu=BYTES]"
    )]
    pub uplink: Option<String>,
    /// Pools for networks without a subnet of their own; in the file only.
    #[arg(skip)]
    pub default_address_pools: Option<Vec<RawPool>>,
}

impl RawConfig {
    /// Takes each value from `winner` where it has one.
    #[must_use]
    pub fn overridden_by(self, winner: Self) -> Self {
        Self {
            host: winner.host.or(self.host),
            state_dir: winner.state_dir.or(self.state_dir),
            workers: winner.workers.or(self.workers),
            poll: winner.poll.or(self.poll),
            log_level: winner.log_level.or(self.log_level),
            uplink: winner.uplink.or(self.uplink),
            default_address_pools: winner.default_address_pools.or(self.default_address_pools),
        }
    }
}

/// One entry of `default-address-pools`, in the words of Docker's daemon.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPool {
    /// The whole range.
    pub base: IpNet,
    /// Prefix length of the subnets.
    pub size: u8,
}

impl RawPool {
    pub(super) fn validate(&self) -> Result<SubnetPool, String> {
        let Self { base, size } = *self;
        if base.trunc() != base {
            return Err(format!(
                "base {base} has host bits set: it should be {}",
                base.trunc()
            ));
        }
        SubnetPool::new(base, size).map_err(|error| error.to_string())
    }
}
