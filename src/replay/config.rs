//! What a replay is told: the engine's configuration, the networks, and where in the capture they are.
//!
//! [`RawConfig`] is what was written; [`Config`] is what it means, and exists only when all of it is valid.

mod parse;
mod raw;
mod validate;

pub use raw::{RawConfig, RawFragments, RawLimits, RawNetwork, RawOutside, RawPublish, RawReserve, RawTcp};

use std::{
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Instant,
};

use ipnet::IpNet;
use vswitch_nat::{Config as EngineConfig, Nat, Network, Outside, PortMapping, Zone};
use vswitch_wire::{IpProtocol, MacAddr};

use self::{
    parse::Problems,
    validate::{CHECKSUMS, OUTSIDE},
};

/// A valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How the engine behaves.
    pub engine: EngineConfig,
    /// Whether checksums in the capture are verified.
    pub checksums: Checksums,
    /// The outside.
    pub outside: Outside,
    /// The networks; zones count from 1.
    pub networks: Vec<Network>,
    /// The published ports.
    pub mappings: Vec<PortMapping>,
    /// Ports that are not given.
    pub reserved: Vec<(IpProtocol, RangeInclusive<u16>)>,
    /// Where in the capture the outside is, and each network after it.
    pub sides: Vec<Side>,
}

/// What the checksums of a capture are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// Nothing: whoever captured left them to a device. They are not looked at.
    Believed,
    /// What they should be.
    #[default]
    Verified,
}

/// One side of the router: a zone, and how its packets are told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The zone.
    pub zone: Zone,
    /// Its name: `outside`, or the network's.
    pub name: String,
    /// The name of its interface in the capture, or the number.
    pub interface: String,
    /// The router's Ethernet address there.
    pub mac: Option<MacAddr>,
    /// Where its packets come from; none for the outside.
    pub prefixes: Vec<IpNet>,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, is not the TOML that we know, or has invalid values, which are all listed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let raw: RawConfig = toml::from_str(&text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        Self::try_from(raw).map_err(|problems| ConfigError::Invalid {
            path: path.to_owned(),
            problems,
        })
    }

    /// An engine so configured, at the beginning of its time. What it refuses is listed; a configuration that exists
    /// has been tried.
    pub(super) fn engine(&self, now: Instant, mut refused: impl FnMut(String)) -> Nat {
        let mut nat = Nat::new(now, self.engine.clone());
        nat.set_outside(now, self.outside.clone());
        for (index, network) in self.networks.iter().enumerate() {
            if let Err(error) = nat.add_network(network.clone()) {
                refused(format!("network[{index}]: {error}"));
            }
        }
        for (protocol, ports) in &self.reserved {
            nat.reserve(*protocol, ports.clone());
        }
        for (index, mapping) in self.mappings.iter().enumerate() {
            if let Err(error) = nat.publish(mapping.clone()) {
                refused(format!("publish[{index}]: {error}"));
            }
        }
        nat
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = Problems;

    fn try_from(raw: RawConfig) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let engine = problems.engine(&raw);
        let checksums = problems.choice("checksums", raw.checksums.as_deref(), CHECKSUMS);
        let outside_side = problems.side(
            "outside",
            OUTSIDE,
            raw.outside.interface.as_deref(),
            &raw.outside.mac,
        );
        let outside = problems.outside(&raw.outside);
        let mut sides = vec![Side {
            zone: Zone::OUTSIDE,
            ..outside_side
        }];
        let mut networks = Vec::new();
        for (index, written) in raw.network.iter().enumerate() {
            let (network, side) = problems.network(index, written);
            if sides.iter().any(|other| other.name == side.name) {
                problems.add(
                    &format!("network[{index}].name"),
                    format_args!("{} is taken; each side needs its own", side.name),
                );
            }
            networks.push(network);
            sides.push(side);
        }
        if networks.is_empty() {
            problems.add(
                "network",
                "there is none; add a [[network]] with name, prefixes and gateways",
            );
        }
        let mappings = raw.publish.iter().enumerate();
        let mappings = mappings.filter_map(|(index, written)| problems.mapping(index, written, &sides));
        let mappings = mappings.collect();
        let reserved = raw.reserve.iter().enumerate();
        let reserved = reserved.filter_map(|(index, written)| {
            let path = format!("reserve[{index}]");
            let protocol = problems.protocol(&format!("{path}.protocol"), &written.protocol);
            let ports = problems.ports(&format!("{path}.ports"), &written.ports);
            Some((protocol?, ports?))
        });
        let reserved = reserved.collect();
        let config = Self {
            engine,
            checksums: checksums.unwrap_or_default(),
            outside,
            networks,
            mappings,
            reserved,
            sides,
        };
        if problems.is_empty() {
            // The engine has rules of its own; ports that collide, for example.
            config.engine(Instant::now(), |problem| problems.push(problem));
        }
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(problems)
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Values are invalid; all of them are listed.
    #[error("{path} is not valid:\n{problems}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problems: Problems,
    },
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

#[cfg(test)]
mod tests;
