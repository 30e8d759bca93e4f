//! From what a client wrote to a network that can be built.
//!
//! `NetworkPlan::check` finds all that is wrong with the request in itself; what depends on other networks
//! (overlaps, automatic subnets) comes after, in `NetworkPlan::build`. Texts are those of moby 28
//! (api/types/network, `ValidateIPAM`; libnetwork, bridge driver).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use vswitch_wire::MacAddr;

use self::options::{ENABLE_IPV4, ENABLE_IPV6, Options};
use super::{
    error::{ControlError, Problems},
    ipam,
    pools::{self, SubnetPool},
    uplink::without_effect,
};
use crate::{
    api::types::{IpamConfig, NetworkCreate},
    model::{Driver, Network, NetworkId, NetworkSettings, Origin, Subnet, Timestamp},
    uplink::DeviceUplink,
};

pub(super) use self::options::{DEFAULT_MTU, DEFAULT_PREFIX, MTU, SOURCE, UPLINK};

mod options;

/// A network as it was asked for, every value checked.
#[derive(Debug, Clone)]
pub(super) struct NetworkPlan {
    name: String,
    ipv4: Option<Wish>,
    ipv6: Option<Wish>,
    settings: NetworkSettings,
    request: NetworkCreate,
    /// What was ignored whatever the uplink is.
    warning: String,
}

/// What is wanted of one family.
#[derive(Debug, Clone)]
enum Wish {
    Automatic,
    Subnet {
        prefix: IpNet,
        range: Option<IpNet>,
        gateway: Option<IpAddr>,
        auxiliary: BTreeMap<String, IpAddr>,
    },
}

/// Where automatic subnets come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pools<'a> {
    pub(super) configured: &'a [SubnetPool],
    /// Used for IPv6 when no IPv6 pool is configured.
    pub(super) unique_local: SubnetPool,
}

impl NetworkPlan {
    /// Checks a client's request in itself.
    pub(super) fn check(request: NetworkCreate) -> Result<Self, ControlError> {
        check_name(&request.name)?;
        Self::parse(request)
    }

    /// The plan of a network whose name no client may use.
    pub(super) fn predefined(name: &str, request: NetworkCreate) -> Result<Self, ControlError> {
        Self::parse(NetworkCreate {
            name: name.to_owned(),
            ..request
        })
    }

    fn parse(request: NetworkCreate) -> Result<Self, ControlError> {
        check_kind(&request)?;
        let mut options = Options::new(&request.options);
        let mut flag = |given: Option<bool>, option: &str, default| {
            given.unwrap_or_else(|| options.boolean(option, default))
        };
        let enable_ipv4 = flag(request.enable_ipv4, ENABLE_IPV4, true);
        let enable_ipv6 = flag(request.enable_ipv6, ENABLE_IPV6, false);
        let settings = options.settings(enable_ipv6);
        let mut problems = Vec::new();
        if !enable_ipv4 && !enable_ipv6 {
            problems.push("IPv4 or IPv6 must be enabled".to_owned());
        }
        let (mut ipv4, mut ipv6, mut ignored) = (Vec::new(), Vec::new(), Vec::new());
        for config in request.ipam.iter().flat_map(|ipam| &ipam.config) {
            match subnet(config, &mut problems) {
                Some(wish) if config.subnet.contains(':') => {
                    if enable_ipv6 {
                        ipv6.push(wish)
                    } else {
                        ignored.push(config.subnet.as_str())
                    }
                }
                Some(wish) => {
                    if enable_ipv4 {
                        ipv4.push(wish)
                    } else {
                        ignored.push(config.subnet.as_str())
                    }
                }
                None => {}
            }
        }
        refuse(std::mem::take(&mut options.problems), problems)?;
        if ipv4.len() > 1 || ipv6.len() > 1 {
            return Err(ControlError::MultipleSubnets);
        }
        let mut warnings = Vec::new();
        let mut ignore = |why: &str, what: Vec<&str>| {
            if !what.is_empty() {
                warnings.push(format!("ignored, because {why}: {}", what.join(", ")));
            }
        };
        if request.internal {
            ignore(
                "an internal network has no way out",
                options.outbound_labels().collect(),
            );
        } else {
            ignored.extend(options.ipv4_labels().filter(|_| !enable_ipv4));
            ignored.extend(options.ipv6_labels().filter(|_| !enable_ipv6));
        }
        ignore("their address family is not enabled", ignored);
        let warning = warnings.join("; ");
        let choose =
            |enabled: bool, mut wishes: Vec<Wish>| enabled.then(|| wishes.pop().unwrap_or(Wish::Automatic));
        let (ipv4, ipv6) = (choose(enable_ipv4, ipv4), choose(enable_ipv6, ipv6));
        Ok(Self {
            name: request.name.clone(),
            ipv4,
            ipv6,
            settings,
            request,
            warning,
        })
    }

    /// What is ignored on a daemon with this device uplink, for the client to print.
    pub(super) fn warning_beside(&self, uplink: Option<&DeviceUplink>) -> String {
        let own = Some(self.warning.clone()).filter(|warning| !warning.is_empty());
        let without_effect = uplink
            .filter(|_| !self.request.internal)
            .into_iter()
            .flat_map(|uplink| without_effect(&self.settings.outbound, uplink));
        let warnings: Vec<String> = own.into_iter().chain(without_effect).collect();
        warnings.join("; ")
    }

    /// Chooses what was left open. `used` are the subnets of other networks, `avoided` what the host uses.
    pub(super) fn build(
        self,
        used: &[IpNet],
        avoided: &[IpNet],
        pools: Pools<'_>,
    ) -> Result<Network, ControlError> {
        let unique_local = [pools.unique_local];
        let is_ipv4 = |pool: &&SubnetPool| matches!(pool.base(), IpNet::V4(_));
        let build = |wish: Option<Wish>, ipv4: bool| -> Result<Option<Subnet>, ControlError> {
            let Some(wish) = wish else { return Ok(None) };
            let Wish::Automatic = wish else {
                return place(wish, used).map(Some);
            };
            let taken: Vec<IpNet> = used.iter().chain(avoided).copied().collect();
            let mut family: Vec<&SubnetPool> = pools
                .configured
                .iter()
                .filter(|pool| is_ipv4(pool) == ipv4)
                .collect();
            if family.is_empty() && !ipv4 {
                family.extend(&unique_local);
            }
            let prefix = pools::first_free(family, &taken).ok_or(ControlError::PoolsExhausted)?;
            Ok(Some(Subnet {
                prefix,
                range: None,
                gateway: ipam::default_gateway(prefix, None, []),
                auxiliary: BTreeMap::new(),
                origin: Origin::Automatic,
                gateway_origin: Origin::Automatic,
            }))
        };
        let (ipv4, ipv6) = (build(self.ipv4, true)?, build(self.ipv6, false)?);
        let gateway_mac = match ipv4.as_ref().and_then(|subnet| subnet.gateway) {
            Some(IpAddr::V4(gateway)) => MacAddr::from_ipv4(gateway),
            _ => random_mac()?,
        };
        Ok(Network {
            id: NetworkId::random().map_err(|error| ControlError::system("get random numbers", error))?,
            name: self.name,
            created: Timestamp::now(),
            driver: Driver::Bridge,
            ipam_options: self.request.ipam.and_then(|ipam| ipam.options),
            ipv4,
            ipv6,
            internal: self.request.internal,
            attachable: self.request.attachable,
            options: self.request.options,
            labels: self.request.labels,
            settings: self.settings,
            gateway_mac,
        })
    }
}

/// `02:42` and four random bytes: locally administered, unicast, and recognisable as ours and Docker's.
pub(super) fn random_mac() -> Result<MacAddr, ControlError> {
    let mut octets = [0x02, 0x42, 0, 0, 0, 0];
    rustix::rand::getrandom(&mut octets[2..], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| ControlError::system("get random numbers", error))?;
    Ok(MacAddr(octets))
}

/// Nothing if nothing is wrong; Docker's own error for one driver option, else a list of everything.
fn refuse(options: Vec<ControlError>, mut others: Vec<String>) -> Result<(), ControlError> {
    let mut options = options.into_iter();
    match (options.next(), options.as_slice(), others.as_slice()) {
        (None, _, []) => Ok(()),
        (Some(only), [], []) => Err(only),
        (first, ..) => {
            let mut problems: Vec<String> = first
                .iter()
                .chain(options.as_slice())
                .map(ToString::to_string)
                .collect();
            problems.append(&mut others);
            Err(ControlError::InvalidNetwork(Problems(problems)))
        }
    }
}

/// Docker takes any other name.
fn check_name(name: &str) -> Result<(), ControlError> {
    if name.trim().is_empty() {
        return Err(ControlError::Invalid("invalid name: name is empty".into()));
    }
    if Network::PREDEFINED.contains(&name) || name == "default" {
        return Err(ControlError::PredefinedName(name.to_owned()));
    }
    Ok(())
}

/// Refuses what is no bridge network of one host.
fn check_kind(request: &NetworkCreate) -> Result<(), ControlError> {
    if let Some(source) = request
        .config_from
        .as_ref()
        .filter(|source| !source.network.is_empty())
    {
        return Err(ControlError::ConfigNetwork(source.network.clone()));
    }
    if request.config_only {
        return Err(ControlError::Unsupported("a configuration-only network".into()));
    }
    if request.ingress || request.scope == "swarm" || request.driver == "overlay" {
        return Err(ControlError::SwarmScope);
    }
    if !matches!(request.scope.as_str(), "" | "local") {
        return Err(ControlError::Invalid(format!(
            "invalid network scope {:?}",
            request.scope
        )));
    }
    match request.driver.as_str() {
        "" | "bridge" | "default" => {}
        // moby: libnetwork, `NewNetwork` of the host and null drivers.
        "host" | "null" => {
            let text = format!("only one instance of {:?} network is allowed", request.driver);
            return Err(ControlError::Invalid(text));
        }
        other => return Err(ControlError::UnknownDriver(other.to_owned())),
    }
    match request.ipam.as_ref().map(|ipam| ipam.driver.as_str()) {
        None | Some("" | "default") => Ok(()),
        Some(other) => Err(ControlError::UnknownDriver(other.to_owned())),
    }
}

/// Reads one subnet; what is wrong with it goes to `problems`.
fn subnet(config: &IpamConfig, problems: &mut Vec<String>) -> Option<Wish> {
    let text = &config.subnet;
    let Ok(subnet) = text.parse::<IpNet>() else {
        problems.push(format!("invalid subnet {text}: invalid CIDR block notation"));
        return None;
    };
    let before = problems.len();
    if subnet != subnet.trunc() {
        problems.push(format!(
            "invalid subnet {subnet}: it should be {}",
            subnet.trunc()
        ));
    }
    let prefix = subnet.trunc();
    if let Some((_, why)) = UNUSABLE.iter().find(|(unusable, _)| {
        unusable
            .parse()
            .is_ok_and(|unusable: IpNet| unusable.contains(&prefix))
    }) {
        problems.push(format!(
            "invalid subnet {subnet}: {why} are no addresses of hosts"
        ));
    }
    let range = range(&config.ip_range, prefix, problems);
    let mut address = |text: &str, what: String| match address(text, prefix) {
        Ok(address) => address,
        Err(why) => {
            problems.push(format!("invalid {what}: {why}"));
            None
        }
    };
    let gateway = address(&config.gateway, format!("gateway {}", config.gateway));
    let mut auxiliary = BTreeMap::new();
    for (name, text) in &config.auxiliary_addresses {
        if let Some(address) = address(text, format!("auxiliary address {name}")) {
            auxiliary.insert(name.clone(), address);
        }
    }
    (problems.len() == before).then_some(Wish::Subnet {
        prefix,
        range,
        gateway,
        auxiliary,
    })
}

/// Prefixes that no network can use (RFC 6890), and what they are called. Link-local IPv6 addresses every
/// station has anyway, and may choose itself.
const UNUSABLE: [(&str, &str); 9] = [
    ("0.0.0.0/8", "addresses of \"this network\""),
    ("127.0.0.0/8", "loopback addresses"),
    ("224.0.0.0/4", "multicast addresses"),
    ("240.0.0.0/4", "reserved addresses"),
    ("::/127", "the unspecified and the loopback address"),
    ("::ffff:0:0/96", "IPv4-mapped addresses"),
    ("fe80::/10", "link-local addresses"),
    ("fec0::/10", "site-local addresses"),
    ("ff00::/8", "multicast addresses"),
];

fn range(text: &str, subnet: IpNet, problems: &mut Vec<String>) -> Option<IpNet> {
    if text.is_empty() {
        return None;
    }
    let mut problem = |why: String| problems.push(format!("invalid ip-range {text}: {why}"));
    let Ok(range) = text.parse::<IpNet>() else {
        problem("invalid CIDR block notation".into());
        return None;
    };
    if range.max_prefix_len() != subnet.max_prefix_len() {
        problem(format!("parent subnet is an {} block", family(subnet)));
        return None;
    }
    if range.prefix_len() < subnet.prefix_len() {
        problem(format!("CIDR block is bigger than its parent subnet {subnet}"));
    }
    if range != range.trunc() {
        problem(format!("it should be {}", range.trunc()));
    }
    if !pools::overlap(subnet, range.trunc()) {
        problem(format!("parent subnet {subnet} doesn't contain ip-range"));
    }
    Some(range.trunc())
}

fn address(text: &str, subnet: IpNet) -> Result<Option<IpAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let address: IpAddr = text.parse().map_err(|_| "invalid address".to_owned())?;
    if address.is_ipv4() != matches!(subnet, IpNet::V4(_)) {
        return Err(format!("parent subnet is an {} block", family(subnet)));
    }
    if !subnet.contains(&address) {
        return Err(format!("parent subnet {subnet} doesn't contain this address"));
    }
    Ok(Some(address))
}

/// `IPv4` or `IPv6`.
pub(super) fn family(prefix: IpNet) -> &'static str {
    match prefix {
        IpNet::V4(_) => "IPv4",
        IpNet::V6(_) => "IPv6",
    }
}

/// Places a wished subnet among the others.
fn place(wish: Wish, used: &[IpNet]) -> Result<Subnet, ControlError> {
    let Wish::Subnet {
        prefix,
        range,
        gateway,
        auxiliary,
    } = wish
    else {
        return Err(ControlError::PoolsExhausted);
    };
    if used.iter().any(|used| pools::overlap(*used, prefix)) {
        return Err(ControlError::Overlap);
    }
    let is_reserved = |address: IpAddr| ipam::is_special(prefix, address);
    let gateway_origin = if gateway.is_some() {
        Origin::Requested
    } else {
        Origin::Automatic
    };
    // The gateway, like the auxiliary addresses, is claimed from the same pool in Docker.
    let clash =
        gateway.is_some_and(|gateway| is_reserved(gateway) || auxiliary.values().any(|aux| *aux == gateway));
    let distinct: BTreeSet<_> = auxiliary.values().collect();
    if clash || distinct.len() < auxiliary.len() || auxiliary.values().any(|address| is_reserved(*address)) {
        return Err(ControlError::AddressInUse);
    }
    let gateway = gateway.or_else(|| ipam::default_gateway(prefix, range, auxiliary.values().copied()));
    Ok(Subnet {
        prefix,
        range,
        gateway,
        auxiliary,
        origin: Origin::Requested,
        gateway_origin,
    })
}

#[cfg(test)]
mod tests;
