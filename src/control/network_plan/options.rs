//! Driver options: what a client wrote, and what it means. Texts are those of moby 28 (libnetwork, bridge
//! driver).

use std::collections::BTreeMap;

use super::super::{error::ControlError, interface::check_interface};
use crate::model::NetworkSettings;

pub(super) fn settings(
    options: &BTreeMap<String, String>,
    ipv6: bool,
) -> Result<NetworkSettings, ControlError> {
    for label in RECORDED_BOOLEANS {
        boolean(options, label, true)?;
    }
    let smallest = if ipv6 { SMALLEST_IPV6_MTU } else { SMALLEST_MTU };
    let mtu = match options.get(MTU) {
        None => DEFAULT_MTU,
        Some(text) => match text.parse::<i64>() {
            Err(_) => {
                let why = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
                return Err(bad_option(MTU, text, why));
            }
            // Docker's word for "the default".
            Ok(0) => DEFAULT_MTU,
            Ok(mtu) => u16::try_from(mtu)
                .ok()
                .filter(|mtu| (smallest..=LARGEST_MTU).contains(mtu))
                .ok_or_else(|| {
                    bad_option(MTU, text, format!("must be between {smallest} and {LARGEST_MTU}"))
                })?,
        },
    };
    let interface_prefix = match options.get(INTERFACE_PREFIX).filter(|prefix| !prefix.is_empty()) {
        None => DEFAULT_PREFIX.to_owned(),
        Some(prefix) => {
            // Room for four digits.
            check_interface(&format!("{prefix}9999"))
                .map_err(|_| bad_option(INTERFACE_PREFIX, prefix, "must start an interface name".into()))?;
            prefix.clone()
        }
    };
    Ok(NetworkSettings {
        mtu,
        inter_container: boolean(options, ENABLE_ICC, true)?,
        interface_prefix,
    })
}

/// Go's `strconv.ParseBool`.
pub(super) fn boolean(
    options: &BTreeMap<String, String>,
    label: &str,
    default: bool,
) -> Result<bool, ControlError> {
    match options.get(label).map(String::as_str) {
        None => Ok(default),
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
        Some(text) => Err(bad_option(
            label,
            text,
            format!("strconv.ParseBool: parsing {text:?}: invalid syntax"),
        )),
    }
}

fn bad_option(label: &str, value: &str, why: String) -> ControlError {
    ControlError::DriverOption {
        label: label.to_owned(),
        value: value.to_owned(),
        why,
    }
}

pub(in crate::control) const MTU: &str = "com.docker.network.driver.mtu";
pub(in crate::control) const DEFAULT_MTU: u16 = 1500;
pub(in crate::control) const DEFAULT_PREFIX: &str = "eth";
const ENABLE_ICC: &str = "com.docker.network.bridge.enable_icc";
pub(super) const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
pub(super) const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
pub(super) const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
/// Options that are recorded for later, but whose values must be right already.
const RECORDED_BOOLEANS: [&str; 2] = [
    "com.docker.network.bridge.enable_ip_masquerade",
    "com.docker.network.bridge.inhibit_ipv4",
];

/// RFC 791: every host must forward 68 bytes.
const SMALLEST_MTU: u16 = 68;
/// RFC 8200 section 5.
const SMALLEST_IPV6_MTU: u16 = 1280;
/// A TAP's limit is 65 535 less the Ethernet header (kernel: drivers/net/tun.c); 65 520 keeps it even to 16.
const LARGEST_MTU: u16 = 65_520;
