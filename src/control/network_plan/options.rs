//! Driver options: what a client wrote, and what it means. Docker's own options have the texts of moby 28
//! (libnetwork, bridge driver).

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use vswitch_proxy::config::Denial;

use super::super::{error::ControlError, interface::check_interface};
use crate::model::{
    GatewayMode, Inbound, InvalidLinkKind, LinkKind, NetworkSettings, OutboundSettings, UplinkKind,
};

/// Driver options as given, and what was found wrong with them so far.
pub(super) struct Options<'a> {
    given: &'a BTreeMap<String, String>,
    pub(super) problems: Vec<ControlError>,
}

impl<'a> Options<'a> {
    pub(super) fn new(given: &'a BTreeMap<String, String>) -> Self {
        Self {
            given,
            problems: Vec::new(),
        }
    }

    /// Go's `strconv.ParseBool`.
    pub(super) fn boolean(&mut self, label: &str, default: bool) -> bool {
        let Some(text) = self.given.get(label) else {
            return default;
        };
        parse_boolean(text).unwrap_or_else(|| {
            let why = format!("strconv.ParseBool: parsing {text:?}: invalid syntax");
            self.refuse(label, why);
            default
        })
    }

    /// What all of them say; where one is wrong, its default.
    pub(super) fn settings(&mut self, enable_ipv6: bool) -> NetworkSettings {
        for label in RECORDED_BOOLEANS {
            self.boolean(label, true);
        }
        NetworkSettings {
            mtu: self.mtu(enable_ipv6),
            inter_container: self.boolean(ENABLE_ICC, true),
            interface_prefix: self.interface_prefix(),
            link_kind: self.link_kind(),
            outbound: self.outbound(),
        }
    }

    /// Those of the options of the way out that are given.
    pub(super) fn outbound_labels(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.present(&OUTBOUND)
    }

    /// The same of those that concern IPv4 alone.
    pub(super) fn ipv4_labels(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.present(&OF_V4)
    }

    /// The same of those that concern IPv6 alone.
    pub(super) fn ipv6_labels(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.present(&OF_V6)
    }

    fn present(&self, labels: &'static [&'static str]) -> impl Iterator<Item = &'a str> + use<'a> {
        let given = self.given;
        labels
            .iter()
            .filter_map(|&label| given.get_key_value(label).map(|(label, _)| label.as_str()))
    }

    fn mtu(&mut self, enable_ipv6: bool) -> u16 {
        let Some(text) = self.given.get(MTU) else {
            return DEFAULT_MTU;
        };
        let smallest = if enable_ipv6 {
            SMALLEST_IPV6_MTU
        } else {
            SMALLEST_MTU
        };
        let mtu = match text.parse::<i64>() {
            Err(_) => Err(format!("strconv.Atoi: parsing {text:?}: invalid syntax")),
            // Docker's word for "the default".
            Ok(0) => Ok(DEFAULT_MTU),
            Ok(mtu) => u16::try_from(mtu)
                .ok()
                .filter(|mtu| (smallest..=LARGEST_MTU).contains(mtu))
                .ok_or_else(|| format!("must be between {smallest} and {LARGEST_MTU}")),
        };
        self.checked(MTU, mtu).unwrap_or(DEFAULT_MTU)
    }

    fn interface_prefix(&mut self) -> String {
        match self.given.get(INTERFACE_PREFIX) {
            Some(prefix) if !prefix.is_empty() => {
                // Room for four digits.
                if check_interface(&format!("{prefix}9999")).is_err() {
                    self.refuse(INTERFACE_PREFIX, "must start an interface name".into());
                }
                prefix.clone()
            }
            _ => DEFAULT_PREFIX.to_owned(),
        }
    }

    fn link_kind(&mut self) -> LinkKind {
        let Some(text) = self.given.get(LinkKind::OPTION) else {
            return LinkKind::default();
        };
        let kind = text.parse().map_err(|error: InvalidLinkKind| error.to_string());
        self.checked(LinkKind::OPTION, kind).unwrap_or_default()
    }

    fn outbound(&mut self) -> OutboundSettings {
        OutboundSettings {
            host_loopback: self.switch(ALLOW_HOST_LOOPBACK),
            metadata: self.switch(ALLOW_METADATA),
            denied: self.denial(),
            ipv4: self.source(&OUTBOUND_ADDR, is_source_v4, SOURCE_V4),
            ipv6: self.source(&OUTBOUND_ADDR6, is_source_v6, SOURCE_V6),
            interface: self.outbound_interface(),
            uplink: self.word(UPLINK, &UPLINKS),
            gateway_mode_v4: self.gateway_mode(GATEWAY_MODE_V4),
            gateway_mode_v6: self.gateway_mode(GATEWAY_MODE_V6),
            inbound: self.word(INBOUND, &INBOUNDS).unwrap_or_default(),
        }
    }

    /// Docker's own option for one version, else the older one for both.
    fn gateway_mode(&mut self, label: &'static str) -> GatewayMode {
        let masquerades = self
            .given
            .get(ENABLE_MASQUERADE)
            .and_then(|text| parse_boolean(text));
        let both = match masquerades {
            Some(false) => GatewayMode::Routed,
            Some(true) | None => GatewayMode::Nat,
        };
        self.word(label, &GATEWAY_MODES).unwrap_or(both)
    }

    /// One of some words.
    fn word<T: Copy>(&mut self, label: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.given.get(label)?;
        let value = words
            .iter()
            .find(|(word, _)| word == text)
            .map(|&(_, value)| value);
        let all: Vec<&str> = words.iter().map(|&(word, _)| word).collect();
        self.checked(
            label,
            value.ok_or_else(|| format!("must be {}", all.join(" or "))),
        )
    }

    /// A boolean of ours, off by default.
    fn switch(&mut self, label: &str) -> bool {
        let Some(text) = self.given.get(label) else {
            return false;
        };
        let on = parse_boolean(text).ok_or_else(|| "must be true or false".to_owned());
        self.checked(label, on).unwrap_or(false)
    }

    fn denial(&mut self) -> Denial {
        let denial = match self.given.get(OUTBOUND_DENIED).map(String::as_str) {
            None => Ok(Denial::default()),
            Some("drop") => Ok(Denial::Drop),
            Some("prohibited") => Ok(Denial::Prohibited),
            Some("reset") => Ok(Denial::Reset),
            Some(_) => Err("must be prohibited, reset or drop".to_owned()),
        };
        self.checked(OUTBOUND_DENIED, denial).unwrap_or_default()
    }

    /// An address that goes by several labels, of which the first is ours. `what` says which may be given.
    fn source<A: Copy + FromStr + PartialEq>(
        &mut self,
        labels: &'static [&'static str],
        is_usable: fn(&A) -> bool,
        what: &str,
    ) -> Option<A> {
        let mut found: Option<(&str, A)> = None;
        for label in self.present(labels) {
            let given = self.given.get(label).and_then(|text| text.parse().ok());
            let address = match (given.filter(is_usable), found) {
                (None, _) => Err(format!("must be {what}")),
                (Some(address), Some((other, earlier))) if address != earlier => {
                    Err(format!("must be the same as {other}, or leave one of them out"))
                }
                (Some(address), _) => Ok(address),
            };
            let address = self.checked(label, address);
            found = found.or(address.map(|address| (label, address)));
        }
        found.map(|(_, address)| address)
    }

    fn outbound_interface(&mut self) -> Option<String> {
        let name = self.given.get(OUTBOUND_INTERFACE)?;
        let valid = match check_interface(name) {
            Ok(()) => Ok(name.clone()),
            Err(error) => Err(error.to_string()),
        };
        self.checked(OUTBOUND_INTERFACE, valid)
    }

    /// The value, or `None` after a note of what is wrong with it.
    fn checked<T>(&mut self, label: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|why| self.refuse(label, why)).ok()
    }

    fn refuse(&mut self, label: &str, why: String) {
        self.problems.push(ControlError::DriverOption {
            label: label.to_owned(),
            value: self.given.get(label).cloned().unwrap_or_default(),
            why,
        });
    }
}

fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Whether a socket that is bound to the address can reach others. Whether the host has it is for the moment
/// of use: addresses come and go.
fn is_source_v4(address: &Ipv4Addr) -> bool {
    // RFC 1122 section 3.2.1.3: 0/8 is "this network"; RFC 1112 section 4: 240/4 is reserved.
    let first = address.octets()[0];
    first != 0 && !address.is_loopback() && !address.is_multicast() && first < 240
}

fn is_source_v6(address: &Ipv6Addr) -> bool {
    // A link-local address means nothing without its interface.
    !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !address.is_unicast_link_local()
        && address.to_ipv4_mapped().is_none()
}

const SOURCE_V4: &str = "a unicast IPv4 address of this host that is not loopback";
const SOURCE_V6: &str = "a unicast IPv6 address of this host that is neither loopback nor link-local";

pub(in crate::control) const MTU: &str = "com.docker.network.driver.mtu";
pub(in crate::control) const DEFAULT_MTU: u16 = 1500;
pub(in crate::control) const DEFAULT_PREFIX: &str = "eth";
const ENABLE_ICC: &str = "com.docker.network.bridge.enable_icc";
pub(super) const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
pub(super) const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
pub(super) const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
const ENABLE_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// Options whose values must be right, although they are read elsewhere or not at all.
const RECORDED_BOOLEANS: [&str; 2] = [ENABLE_MASQUERADE, "com.docker.network.bridge.inhibit_ipv4"];

const ALLOW_HOST_LOOPBACK: &str = "allow_host_loopback";
const ALLOW_METADATA: &str = "allow_metadata";
const OUTBOUND_DENIED: &str = "outbound_denied";
const OUTBOUND_INTERFACE: &str = "outbound_interface";
/// Ours, and Docker's for the source address of masquerading (moby: bridge driver, `HostIPv4`).
const OUTBOUND_ADDR: [&str; 2] = ["outbound_addr", "com.docker.network.host_ipv4"];
/// Ours and Docker's (`HostIPv6`).
const OUTBOUND_ADDR6: [&str; 2] = ["outbound_addr6", "com.docker.network.host_ipv6"];
/// By what packets leave.
pub(in crate::control) const UPLINK: &str = "vswitch.uplink";
const UPLINKS: [(&str, UplinkKind); 2] = [("device", UplinkKind::Device), ("sockets", UplinkKind::Sockets)];
/// Whether what begins outside reaches routed containers.
const INBOUND: &str = "vswitch.inbound";
const INBOUNDS: [(&str, Inbound); 2] = [("closed", Inbound::Closed), ("open", Inbound::Open)];
/// moby 28: bridge driver, `IPv4GatewayMode`, `IPv6GatewayMode`; of its modes these two.
const GATEWAY_MODE_V4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const GATEWAY_MODE_V6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const GATEWAY_MODES: [(&str, GatewayMode); 2] = [("nat", GatewayMode::Nat), ("routed", GatewayMode::Routed)];
/// The address that packets leave with.
pub(in crate::control) const SOURCE: &str = OUTBOUND_ADDR[0];
/// Options of the way out that concern one version.
const OF_V4: [&str; 3] = [OUTBOUND_ADDR[0], OUTBOUND_ADDR[1], GATEWAY_MODE_V4];
const OF_V6: [&str; 3] = [OUTBOUND_ADDR6[0], OUTBOUND_ADDR6[1], GATEWAY_MODE_V6];
/// All options of the way out.
const OUTBOUND: [&str; 12] = [
    ALLOW_HOST_LOOPBACK,
    ALLOW_METADATA,
    OUTBOUND_ADDR[0],
    OUTBOUND_ADDR[1],
    OUTBOUND_ADDR6[0],
    OUTBOUND_ADDR6[1],
    OUTBOUND_DENIED,
    OUTBOUND_INTERFACE,
    UPLINK,
    INBOUND,
    GATEWAY_MODE_V4,
    GATEWAY_MODE_V6,
];

/// RFC 791: every host must forward 68 bytes.
const SMALLEST_MTU: u16 = 68;
/// RFC 8200 section 5.
const SMALLEST_IPV6_MTU: u16 = 1280;
/// A TAP's limit is 65 535 less the Ethernet header (kernel: drivers/net/tun.c); 65 520 keeps it even to 16.
const LARGEST_MTU: u16 = 65_520;
