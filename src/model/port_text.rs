//! Published ports as text: the grammar of `-p`, and how ports are written where people read them.
//!
//! ```text
//! [IP:][HOSTPORT|RANGE:]CONTPORT|RANGE[/tcp|udp][,KEY=VALUE…]
//! ```
//!
//! Words and order of Docker's errors are those of github.com/docker/go-connections, `nat/nat.go`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;

use super::{PortMapping, PortRange, PortRequest, PortRules, ProxyProtocol, Transport};

/// Reads what `-p` takes.
///
/// A missing host port, or 0, asks for one that is free; a range of the host's ports for one container port, for one of
/// them. The key `allow` may have several values: what follows without a key belongs to it.
impl FromStr for PortRequest {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        let (ports, rules) = text.split_once(',').map_or((text, None), |(a, b)| (a, Some(b)));
        let (address, host, container) = sections(ports)?;
        let (container, protocol) = container.split_once('/').unwrap_or((container, ""));
        let protocol = match protocol {
            "" => Transport::Tcp,
            _ => protocol.parse()?,
        };
        let host_ip = address.map(host_address).transpose()?;
        if container.is_empty() {
            return Err(InvalidPort::Missing(ports.to_owned()));
        }
        let container_ports: PortRange = container
            .parse()
            .map_err(|_| InvalidPort::Container(container.to_owned()))?;
        let host_ports = match host {
            // Docker's way to ask for a free one, too.
            "" | "0" => None,
            _ => Some(
                host.parse::<PortRange>()
                    .map_err(|_| InvalidPort::Host(host.to_owned()))?,
            ),
        };
        if let Some(host_ports) = host_ports
            && container_ports.count() > 1
            && host_ports.count() != container_ports.count()
        {
            return Err(InvalidPort::Unequal {
                container: container.to_owned(),
                host: host.to_owned(),
            });
        }
        Ok(Self {
            host_ip,
            host_ports,
            container_ports,
            protocol,
            rules: rules.map_or(Ok(PortRules::default()), |rules| read_rules(rules, protocol))?,
        })
    }
}

/// As [`FromStr`] reads it.
impl fmt::Display for PortRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            None => {}
        }
        match self.host_ports {
            Some(ports) => write!(f, "{ports}:")?,
            None if self.host_ip.is_some() => f.write_str(":")?,
            None => {}
        }
        write!(f, "{}/{}{}", self.container_ports, self.protocol, self.rules)
    }
}

/// One port, or `FIRST-LAST`.
impl FromStr for PortRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(InvalidRange);
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl PortRange {
    /// How many ports it has.
    pub fn count(&self) -> u16 {
        // Port 0 is never in it; what is read from JSON is not trusted to have its ends in order.
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// Whether it has the port.
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// In any case, as in Docker.
impl FromStr for Transport {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        match text.to_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Err(InvalidPort::Sctp),
            other => Err(InvalidPort::Protocol(other.to_owned())),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Each with a comma before it, as they follow ports.
impl fmt::Display for PortRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, prefix) in self.allow.iter().enumerate() {
            let key = if index == 0 { "allow=" } else { "" };
            write!(f, ",{key}{prefix}")?;
        }
        if let Some(most) = self.max_connections {
            write!(f, ",max-conns={most}")?;
        }
        if let Some(most) = self.connections_per_second {
            write!(f, ",rate={most}")?;
        }
        match self.proxy_protocol {
            Some(ProxyProtocol::V1) => f.write_str(",proxy-protocol=v1")?,
            Some(ProxyProtocol::V2) => f.write_str(",proxy-protocol=v2")?,
            None => {}
        }
        if self.relay_local {
            f.write_str(",local=relay")?;
        }
        Ok(())
    }
}

/// As `docker ps` writes published ports: `0.0.0.0:8080-8081->80-81/tcp, [::]:8080-8081->80-81/tcp`.
impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ip) in self.host_addresses().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let container = range(self.container_port, self.count);
            match ip {
                IpAddr::V4(ip) => write!(f, "{separator}{ip}")?,
                IpAddr::V6(ip) => write!(f, "{separator}[{ip}]")?,
            }
            let host = range(self.host_port, self.count);
            write!(f, ":{host}->{container}/{}", self.protocol)?;
        }
        Ok(())
    }
}

/// What asks for the same ports again.
impl From<&PortMapping> for PortRequest {
    fn from(mapping: &PortMapping) -> Self {
        Self {
            host_ip: mapping.host_ip,
            host_ports: Some(range(mapping.host_port, mapping.count)),
            container_ports: range(mapping.container_port, mapping.count),
            protocol: mapping.protocol,
            rules: mapping.rules.clone(),
        }
    }
}

impl PortMapping {
    /// The host's addresses: those of no particular one are `0.0.0.0` and `::`.
    pub fn host_addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (one, other) = match self.host_ip {
            Some(ip) => (ip, None),
            None => (
                Ipv4Addr::UNSPECIFIED.into(),
                Some(IpAddr::from(Ipv6Addr::UNSPECIFIED)),
            ),
        };
        [Some(one), other].into_iter().flatten()
    }

    /// Each port of the container, with each address and port of the host that leads to it.
    pub fn bindings(&self) -> impl Iterator<Item = (u16, SocketAddr)> + '_ {
        (0..self.count).flat_map(move |offset| {
            let container = self.container_port.saturating_add(offset);
            let host = self.host_port.saturating_add(offset);
            self.host_addresses()
                .map(move |ip| (container, SocketAddr::new(ip, host)))
        })
    }
}

/// Why a text is no published port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPort {
    /// The host's address is none.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// The container's ports are none.
    #[error("invalid containerPort: {0}")]
    Container(String),
    /// The host's ports are none.
    #[error("invalid hostPort: {0}")]
    Host(String),
    /// The container's port is missing.
    #[error("no port specified: {0}<empty>")]
    Missing(String),
    /// Neither TCP nor UDP.
    #[error("invalid proto: {0}")]
    Protocol(String),
    /// The PROXY protocol begins a stream.
    #[error("proxy-protocol is for tcp ports only: udp has no stream that a header could begin")]
    ProxyProtocol,
    /// What follows the ports is wrong.
    #[error("{0}")]
    Rule(String),
    /// Docker publishes it, we do not.
    #[error("sctp ports cannot be published, only tcp and udp ones")]
    Sctp,
    /// An IPv6 address without brackets.
    #[error("invalid IP address: {0}; write an IPv6 address in brackets: [{0}]")]
    Unbracketed(Ipv6Addr),
    /// The ranges differ in size.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Unequal {
        /// The container's.
        container: String,
        /// The host's.
        host: String,
    },
    /// Nobody can connect to the host's address, or it cannot be bound.
    #[error("cannot publish on {ip}: {why}")]
    Unusable {
        /// The host's address.
        ip: IpAddr,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
}

/// A port is 0 or none, or a range is reversed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ports are 1 to 65535, and a range's first is not above its last")]
pub struct InvalidRange;

/// The host's address and ports and the container's ports, as they are written; the address without brackets.
fn sections(text: &str) -> Result<(Option<&str>, &str, &str), InvalidPort> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let Some((address, rest)) = bracketed.split_once(']') else {
            return Err(InvalidPort::Address(text.to_owned()));
        };
        let invalid = || InvalidPort::Host(format!("[{address}]"));
        let (host, container) = rest
            .strip_prefix(':')
            .and_then(|rest| rest.split_once(':'))
            .ok_or_else(invalid)?;
        return Ok((Some(address), host, container));
    }
    let Some((rest, container)) = text.rsplit_once(':') else {
        return Ok((None, "", text));
    };
    let Some((address, host)) = rest.rsplit_once(':') else {
        return Ok((None, rest, container));
    };
    match address.parse() {
        Ok(address) => Err(InvalidPort::Unbracketed(address)),
        Err(_) => Ok((Some(address).filter(|text| !text.is_empty()), host, container)),
    }
}

/// An IPv4 address that is written as IPv6 is one.
fn host_address(text: &str) -> Result<IpAddr, InvalidPort> {
    text.parse::<IpAddr>()
        .map(|ip| ip.to_canonical())
        .map_err(|_| InvalidPort::Address(text.to_owned()))
}

fn port(text: &str) -> Result<u16, InvalidRange> {
    // The standard library also takes a sign.
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(InvalidRange),
    }
}

fn range(first: u16, count: u16) -> PortRange {
    let last = first.saturating_add(count.saturating_sub(1));
    PortRange { first, last }
}

fn read_rules(text: &str, protocol: Transport) -> Result<PortRules, InvalidPort> {
    let mut rules = PortRules::default();
    let mut given = Vec::new();
    for word in text.split(',') {
        if word.is_empty() {
            return Err(InvalidPort::Rule("a rule is missing after the comma".into()));
        }
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, value),
            // One more of the list that has begun.
            None if given.last() == Some(&"allow") => ("allow", word),
            None => return Err(InvalidPort::Rule(format!("{word} is not KEY=VALUE"))),
        };
        if key != "allow" && given.contains(&key) {
            return Err(InvalidPort::Rule(format!("{key} is given twice")));
        }
        given.push(key);
        set(&mut rules, key, value)?;
    }
    if rules.proxy_protocol.is_some() && protocol == Transport::Udp {
        return Err(InvalidPort::ProxyProtocol);
    }
    Ok(rules)
}

fn set(rules: &mut PortRules, key: &str, value: &str) -> Result<(), InvalidPort> {
    match (key, value) {
        ("allow", "") => {
            return Err(InvalidPort::Rule(
                "allow= lacks an address or a prefix such as 192.0.2.0/24".into(),
            ));
        }
        ("allow", _) => rules.allow.push(prefix(value)?),
        ("max-conns", _) => rules.max_connections = Some(number(key, value)?),
        ("rate", _) => rules.connections_per_second = Some(number(key, value)?),
        ("proxy-protocol", "v1") => rules.proxy_protocol = Some(ProxyProtocol::V1),
        ("proxy-protocol", "v2") => rules.proxy_protocol = Some(ProxyProtocol::V2),
        ("proxy-protocol", _) => {
            return Err(InvalidPort::Rule(format!(
                "invalid proxy-protocol: {value} is neither v1 nor v2"
            )));
        }
        ("local", "relay") => rules.relay_local = true,
        ("local", "splice") => rules.relay_local = false,
        ("local", _) => {
            return Err(InvalidPort::Rule(format!(
                "invalid local: {value} is neither relay nor splice"
            )));
        }
        _ => {
            return Err(InvalidPort::Rule(format!(
                "unknown key {key}: there are allow, max-conns, rate, proxy-protocol and local"
            )));
        }
    }
    Ok(())
}

/// An address alone is a prefix of its full length.
fn prefix(text: &str) -> Result<IpNet, InvalidPort> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse().map(|ip: IpAddr| IpNet::from(ip.to_canonical())))
        .map(|prefix| prefix.trunc())
        .map_err(|_| {
            InvalidPort::Rule(format!(
                "invalid allow: {text} is neither an address nor a prefix such as 192.0.2.0/24"
            ))
        })
}

fn number(key: &str, text: &str) -> Result<u32, InvalidPort> {
    match text.parse() {
        Ok(number) if number > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(InvalidPort::Rule(format!(
            "invalid {key}: {text} is not a number from 1 to {}",
            u32::MAX
        ))),
    }
}

#[cfg(test)]
mod tests;
