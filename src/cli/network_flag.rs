//! `--network` of `run` and `attach`: which networks, and which addresses on them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vswitch_wire::MacAddr;

use super::args::{AddressArgs, AttachmentArgs};
use crate::model::{InvalidLinkKind, LinkKind};

/// A network to attach to, with what was asked for on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFlag {
    /// Name or id of the network.
    pub network: String,
    /// IPv4 address.
    pub ip: Option<IpAddr>,
    /// IPv6 address.
    pub ip6: Option<IpAddr>,
    /// Ethernet address.
    pub mac: Option<MacAddr>,
    /// Name of the interface.
    pub interface: Option<String>,
    /// What the interface is.
    pub endpoint: Option<LinkKind>,
    /// Further names of the sandbox on this network.
    pub aliases: Vec<String>,
}

impl NetworkFlag {
    fn new(network: &str) -> Result<Self, String> {
        match network {
            "" => Err("a network's name is missing".to_owned()),
            _ => Ok(Self {
                network: network.to_owned(),
                ip: None,
                ip6: None,
                mac: None,
                interface: None,
                endpoint: None,
                aliases: Vec::new(),
            }),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let taken = match key {
            "alias" => {
                self.aliases.push(value.to_owned());
                false
            }
            "endpoint" => self.endpoint.replace(endpoint(value)?).is_some(),
            "ip" => self.ip.replace(ipv4(value)?).is_some(),
            "ip6" => self.ip6.replace(ipv6(value)?).is_some(),
            "mac" | "mac-address" => self.mac.replace(mac(value)?).is_some(),
            "ifname" => self.interface.replace(value.to_owned()).is_some(),
            _ => {
                return Err(format!(
                    "unknown key {key}: there are ip, ip6, mac, ifname, endpoint and alias"
                ));
            }
        };
        if taken {
            return Err(format!("{key} is given twice for network {}", self.network));
        }
        Ok(())
    }
}

/// Reads one `--network` value: `NET`, `NET,NET`, `NET:ip=…,mac=…` or Docker's `name=NET,ip=…`.
///
/// # Errors
///
/// A sentence that names what is wrong.
pub fn parse(text: &str) -> Result<Vec<NetworkFlag>, String> {
    let Some(equals) = text.find('=') else {
        return text.split(',').map(NetworkFlag::new).collect();
    };
    // A colon before the first `=` ends the name; a later one belongs to an address.
    let (name, settings) = match text.find(':') {
        Some(colon) if colon < equals => (Some(&text[..colon]), &text[colon + 1..]),
        _ => (None, text),
    };
    let mut settings: Vec<(&str, &str)> = settings
        .split(',')
        .map(|setting| {
            setting
                .split_once('=')
                .ok_or_else(|| format!("{setting} is not KEY=VALUE"))
        })
        .collect::<Result<_, _>>()?;
    let name = match name {
        Some(name) => name,
        None => {
            let at = settings
                .iter()
                .position(|&(key, _)| key == "name")
                .ok_or_else(|| format!("{text} names no network: write NET:{text}"))?;
            settings.remove(at).1
        }
    };
    let mut flag = NetworkFlag::new(name)?;
    settings
        .into_iter()
        .try_for_each(|(key, value)| flag.set(key, value))?;
    Ok(vec![flag])
}

/// The networks that `--network`, `--ip`, `--ip6`, `--mac` and `--endpoint` ask for together; empty when none was
/// asked for, which leaves the choice to the daemon.
///
/// As in Docker the plain address flags belong to the first network; `--endpoint` to all that do not say otherwise.
///
/// # Errors
///
/// The same address asked for twice, the same network twice, or networks beside `none`.
pub fn combine(args: &AttachmentArgs) -> Result<Vec<NetworkFlag>, String> {
    let AddressArgs { ip, ip6, mac } = args.addresses;
    let mut flags: Vec<NetworkFlag> = args.networks.iter().flatten().cloned().collect();
    if flags.is_empty() {
        if ip.is_none() && ip6.is_none() && mac.is_none() && args.endpoint.is_none() {
            return Ok(flags);
        }
        flags.push(NetworkFlag::new(DEFAULT_NETWORK)?);
    }
    if flags.len() > 1 && flags.iter().any(|flag| flag.network == NO_NETWORK) {
        return Err("conflicting options: `none` cannot be combined with other networks".to_owned());
    }
    for (index, flag) in flags.iter().enumerate() {
        if flags[..index].iter().any(|other| other.network == flag.network) {
            return Err(format!("network {} is given twice", flag.network));
        }
    }
    let first = &mut flags[0];
    let conflict = |flag, per_network| {
        Err(format!(
            "conflicting options: cannot specify both {flag} and per-network {per_network}"
        ))
    };
    if ip.is_some() && first.ip.is_some() {
        return conflict("--ip", "IPv4 address");
    }
    if ip6.is_some() && first.ip6.is_some() {
        return conflict("--ip6", "IPv6 address");
    }
    if mac.is_some() && first.mac.is_some() {
        return conflict("--mac-address", "MAC address");
    }
    first.ip = first.ip.or(ip);
    first.ip6 = first.ip6.or(ip6);
    first.mac = first.mac.or(mac);
    for flag in &mut flags {
        flag.endpoint = flag.endpoint.or(args.endpoint);
    }
    Ok(flags)
}

/// An IPv4 address for clap.
pub fn ipv4(text: &str) -> Result<IpAddr, String> {
    text.parse::<Ipv4Addr>()
        .map(IpAddr::V4)
        .map_err(|_| format!("invalid IPv4 address: {text}"))
}

/// An IPv6 address for clap.
pub fn ipv6(text: &str) -> Result<IpAddr, String> {
    text.parse::<Ipv6Addr>()
        .map(IpAddr::V6)
        .map_err(|_| format!("invalid IPv6 address: {text}"))
}

/// A unicast Ethernet address for clap.
pub fn mac(text: &str) -> Result<MacAddr, String> {
    let mac: MacAddr = text.parse().map_err(|_| format!("invalid MAC address: {text}"))?;
    if mac.is_multicast() || mac.is_zero() {
        return Err(format!(
            "invalid MAC address: {text} is not the address of one station"
        ));
    }
    Ok(mac)
}

/// What an interface is, for clap.
pub fn endpoint(text: &str) -> Result<LinkKind, String> {
    text.parse()
        .map_err(|error: InvalidLinkKind| format!("invalid kind of endpoint {text}: {error}"))
}

/// Where a sandbox goes that named no network (Docker's default network).
const DEFAULT_NETWORK: &str = "bridge";

/// Docker's word for no network at all.
const NO_NETWORK: &str = "none";

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(network: &str) -> NetworkFlag {
        NetworkFlag::new(network).expect("the name is not empty")
    }

    fn attachment(networks: &[&str], ip: Option<&str>) -> AttachmentArgs {
        AttachmentArgs {
            networks: networks
                .iter()
                .map(|text| parse(text).expect("the flag is right"))
                .collect(),
            addresses: AddressArgs {
                ip: ip.map(|ip| ip.parse().expect("the address is right")),
                ..AddressArgs::default()
            },
            endpoint: None,
        }
    }

    #[test]
    fn both_ways_of_writing_mean_the_same() {
        let wanted = NetworkFlag {
            ip: Some(IpAddr::from([10, 0, 0, 9])),
            ip6: Some("fd00::9".parse().expect("an address")),
            mac: Some(MacAddr([2, 0, 0, 0, 0, 9])),
            interface: Some("lan0".into()),
            endpoint: Some(LinkKind::Veth),
            aliases: vec!["www".into(), "web".into()],
            ..plain("lan")
        };
        for text in [
            "lan:ip=10.0.0.9,ip6=fd00::9,mac=02:00:00:00:00:09,ifname=lan0,endpoint=veth,alias=www,alias=web",
            "name=lan,ip=10.0.0.9,ip6=fd00::9,mac-address=02:00:00:00:00:09,ifname=lan0,endpoint=veth,alias=www,alias=web",
            "ip6=fd00::9,endpoint=veth,alias=www,ip=10.0.0.9,ifname=lan0,name=lan,alias=web,mac=02:00:00:00:00:09",
        ] {
            assert_eq!(parse(text).as_deref(), Ok(&[wanted.clone()][..]), "{text}");
        }
    }

    #[test]
    fn names_alone_may_be_listed() {
        assert_eq!(parse("a,b"), Ok(vec![plain("a"), plain("b")]));
        assert_eq!(parse("a"), Ok(vec![plain("a")]));
    }

    #[test]
    fn wrong_flags_say_what_is_wrong() {
        for (text, message) in [
            ("", "a network's name is missing"),
            ("a,,b", "a network's name is missing"),
            (":ip=10.0.0.1", "a network's name is missing"),
            ("name=", "a network's name is missing"),
            (
                "ip=10.0.0.1",
                "ip=10.0.0.1 names no network: write NET:ip=10.0.0.1",
            ),
            ("lan:ip=10.0.0", "invalid IPv4 address: 10.0.0"),
            ("lan:ip=fd00::1", "invalid IPv4 address: fd00::1"),
            ("lan:ip6=10.0.0.1", "invalid IPv6 address: 10.0.0.1"),
            ("lan:mac=02", "invalid MAC address: 02"),
            (
                "lan:mac=01:00:5e:00:00:01",
                "invalid MAC address: 01:00:5e:00:00:01 is not the address of one station",
            ),
            ("lan:ip=10.0.0.1,ip=10.0.0.2", "ip is given twice for network lan"),
            (
                "lan:up=1",
                "unknown key up: there are ip, ip6, mac, ifname, endpoint and alias",
            ),
            (
                "lan:endpoint=macvlan",
                "invalid kind of endpoint macvlan: must be tap or veth",
            ),
            (
                "lan:endpoint=tap,endpoint=veth",
                "endpoint is given twice for network lan",
            ),
            ("lan:ip=10.0.0.1,web", "web is not KEY=VALUE"),
        ] {
            assert_eq!(parse(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn plain_address_flags_belong_to_the_first_network() {
        let address = Some(IpAddr::from([10, 0, 0, 9]));
        let flags = combine(&attachment(&["a", "b"], Some("10.0.0.9")));
        assert_eq!(
            flags,
            Ok(vec![
                NetworkFlag {
                    ip: address,
                    ..plain("a")
                },
                plain("b")
            ])
        );
        let flags = combine(&attachment(&[], Some("10.0.0.9")));
        assert_eq!(
            flags,
            Ok(vec![NetworkFlag {
                ip: address,
                ..plain("bridge")
            }])
        );
        assert_eq!(combine(&attachment(&[], None)), Ok(vec![]));
    }

    #[test]
    fn the_plain_kind_of_endpoint_holds_where_nothing_else_is_said() {
        let asked = |networks: &[&str]| {
            let args = AttachmentArgs {
                endpoint: Some(LinkKind::Veth),
                ..attachment(networks, None)
            };
            let flags = combine(&args).expect("they go together");
            flags
                .into_iter()
                .map(|flag| (flag.network, flag.endpoint))
                .collect::<Vec<_>>()
        };
        let (tap, veth) = (Some(LinkKind::Tap), Some(LinkKind::Veth));
        assert_eq!(asked(&[]), [("bridge".to_owned(), veth)]);
        assert_eq!(
            asked(&["a", "b:endpoint=tap"]),
            [("a".to_owned(), veth), ("b".to_owned(), tap)]
        );
    }

    #[test]
    fn contradictions_are_refused() {
        for (networks, ip, message) in [
            (
                &["a:ip=10.0.0.1"][..],
                Some("10.0.0.2"),
                "conflicting options: cannot specify both --ip and per-network IPv4 address",
            ),
            (&["a,a"], None, "network a is given twice"),
            (&["a", "b", "a"], None, "network a is given twice"),
            (
                &["none", "a"],
                None,
                "conflicting options: `none` cannot be combined with other networks",
            ),
        ] {
            assert_eq!(combine(&attachment(networks, ip)), Err(message.to_owned()));
        }
    }
}
