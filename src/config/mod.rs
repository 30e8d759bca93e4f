//! The daemon's configuration: what was written, and what it means.
//!
//! Three sources, the later one winning: the built-in defaults, a TOML file, the command line (whose
//! flags also read `VSWITCH_*` variables). [`RawConfig`] is what was written; [`Config`] is what it
//! means, and exists only when all of it is valid.

mod raw;

pub use raw::{RawConfig, RawPool};

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use tracing_subscriber::filter::LevelFilter;

use crate::{
    api::socket::DaemonSocket, control::SubnetPool, dataplane::PollMode, paths, uplink::UplinkChoice,
};

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The API socket.
    pub socket: DaemonSocket,
    /// Directory of the database.
    pub state_dir: PathBuf,
    /// Number of packet loops.
    pub workers: usize,
    /// How packet loops wait.
    pub poll: PollMode,
    /// What is logged to standard error.
    pub log_level: LevelFilter,
    /// By what networks leave that do not say so themselves.
    pub uplink: UplinkChoice,
    /// Pools that networks without a subnet of their own are cut from; empty for the built-in ones.
    pub address_pools: Vec<SubnetPool>,
}

impl Config {
    /// Reads the file, if one is named, and lets the flags win over it.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is not the TOML that we know, or values are invalid; the error lists
    /// every invalid value with its path.
    pub fn load(file: Option<&Path>, flags: RawConfig) -> Result<Self, ConfigError> {
        let written = match file {
            Some(path) => read(path)?,
            None => RawConfig::default(),
        };
        Self::try_from(written.overridden_by(flags))
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let default_socket = || DaemonSocket::new(paths::default_socket());
        let socket = raw
            .host
            .as_deref()
            .map_or_else(|| Ok(default_socket()), str::parse);
        let socket = socket.unwrap_or_else(|error| {
            problems.push(format!("host: {error}"));
            default_socket()
        });
        let state_dir = raw.state_dir.unwrap_or_else(paths::default_state_dir);
        if !state_dir.is_absolute() {
            problems.push(format!(
                "state-dir: {} is not an absolute path",
                state_dir.display()
            ));
        }
        let workers = raw.workers.unwrap_or_else(default_workers);
        if !(1..=MAX_WORKERS).contains(&workers) {
            problems.push(format!("workers: {workers} is not between 1 and {MAX_WORKERS}"));
        }
        let level = raw.log_level.as_deref().unwrap_or("info");
        let log_level = level.parse().unwrap_or_else(|_| {
            problems.push(format!(
                "log-level: {level} is none of error, warn, info, debug, trace, off"
            ));
            LevelFilter::INFO
        });
        let uplink = raw
            .uplink
            .as_deref()
            .map_or(Ok(UplinkChoice::Sockets), str::parse);
        let uplink = uplink.unwrap_or_else(|error| {
            problems.push(format!("uplink: {error}"));
            UplinkChoice::Sockets
        });
        let pools = raw.default_address_pools.unwrap_or_default();
        let address_pools = pools.iter().enumerate().filter_map(|(index, pool)| {
            pool.validate()
                .map_err(|problem| problems.push(format!("default-address-pools[{index}]: {problem}")))
                .ok()
        });
        let address_pools = address_pools.collect();
        if problems.is_empty() {
            let poll = raw.poll.unwrap_or_default();
            Ok(Self {
                socket,
                state_dir,
                workers,
                poll,
                log_level,
                uplink,
                address_pools,
            })
        } else {
            Err(ConfigError::Invalid(Problems(problems)))
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Values are invalid; all of them are listed.
    #[error("{0}")]
    Invalid(Problems),
    /// The file is not TOML or has a field that we do not know.
    #[error("{path}: {source}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Every invalid value, one line each.
#[derive(Debug)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

fn read(path: &Path) -> Result<RawConfig, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|source| ConfigError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// One packet loop for two cores: the containers need the others.
fn default_workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / 2).clamp(1, MAX_WORKERS)
}

/// More loops than any host has cores to spare for is a slip of the finger.
const MAX_WORKERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::try_from(toml::from_str::<RawConfig>(text).expect("the sample is TOML"))
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = parse("").expect("defaults are valid");
        assert_eq!(config.poll, PollMode::Adaptive);
        assert_eq!(config.log_level, LevelFilter::INFO);
        assert!(config.workers >= 1 && config.address_pools.is_empty());
    }

    #[test]
    fn every_field_is_understood() {
        let config = parse(
            r#"
            host = "unix:///run/v.sock"
            state-dir = "/var/lib/v"
            workers = 3
            poll = "sleep"
            log-level = "debug"
            uplink = "device=eth1,address=192.0.2.10/24"
            default-address-pools = [{ base = "10.8.0.0/14", size = 24 }]
            "#,
        );
        let pool = SubnetPool::new("10.8.0.0/14".parse().expect("a prefix"), 24).expect("a valid pool");
        assert_eq!(
            config.expect("the sample is valid"),
            Config {
                socket: DaemonSocket::new("/run/v.sock"),
                state_dir: "/var/lib/v".into(),
                workers: 3,
                poll: PollMode::Sleep,
                log_level: LevelFilter::DEBUG,
                uplink: "device=eth1,address=192.0.2.10/24".parse().expect("valid"),
                address_pools: vec![pool],
            }
        );
    }

    #[test]
    fn all_problems_are_reported_together() {
        let error = parse(
            r#"
            host = "tcp://1.2.3.4:5"
            state-dir = "here"
            workers = 0
            log-level = "loud"
            uplink = "device=eth1"
            default-address-pools = [{ base = "10.8.0.0/14", size = 8 }, { base = "10.0.0.1/8", size = 16 }]
            "#,
        );
        let text = error.expect_err("nothing in it is valid").to_string();
        let fields = [
            "host:",
            "state-dir:",
            "workers:",
            "log-level:",
            "uplink:",
            "default-address-pools[0]:",
        ];
        for field in fields.into_iter().chain(["default-address-pools[1]:"]) {
            assert!(
                text.lines().any(|line| line.starts_with(field)),
                "{field} is missing in\n{text}"
            );
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let error = toml::from_str::<RawConfig>("wokers = 2").expect_err("a slip of the finger");
        assert!(error.to_string().contains("wokers"), "{error}");
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = RawConfig {
            workers: Some(2),
            log_level: Some("warn".into()),
            ..RawConfig::default()
        };
        let flags = RawConfig {
            workers: Some(5),
            ..RawConfig::default()
        };
        let config = Config::try_from(file.overridden_by(flags)).expect("valid");
        assert_eq!((config.workers, config.log_level), (5, LevelFilter::WARN));
    }
}
