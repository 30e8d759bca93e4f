//! Which networks leave by the device uplink, how, and which published ports it serves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vswitch_nat::Egress;

use super::ports::PortError;
use crate::{
    dataplane::{External, Forwarding, Way},
    model::{Endpoint, GatewayMode, Inbound, OutboundSettings, PortMapping, PortRules, UplinkKind},
    uplink::DeviceUplink,
};

/// By what packets leave a network with these settings, on a daemon with this uplink.
///
/// # Errors
///
/// What cannot be, and what to do about it.
pub(super) fn way(settings: &OutboundSettings, uplink: Option<&DeviceUplink>) -> Result<Way, InvalidWay> {
    let uplink = match (settings.uplink, uplink) {
        (Some(UplinkKind::Device), None) => return Err(InvalidWay::NoDevice),
        (Some(UplinkKind::Sockets), _) | (None, None) => return Ok(Way::Sockets),
        (Some(UplinkKind::Device) | None, Some(uplink)) => uplink,
    };
    let egress = |mode, source: Option<IpAddr>| match (mode, source) {
        (GatewayMode::Routed, _) => Ok(Egress::Routed {
            open: settings.inbound == Inbound::Open,
        }),
        (GatewayMode::Nat, None) => Ok(Egress::Masquerade(Vec::new())),
        (GatewayMode::Nat, Some(source)) if has(uplink, source) => Ok(Egress::Masquerade(vec![source])),
        (GatewayMode::Nat, Some(source)) => Err(InvalidWay::Source {
            address: source,
            addresses: listed(uplink),
        }),
    };
    Ok(Way::Device {
        v4: egress(settings.gateway_mode_v4, settings.ipv4.map(IpAddr::V4))?,
        v6: egress(settings.gateway_mode_v6, settings.ipv6.map(IpAddr::V6))?,
    })
}

/// What the settings of a network say in vain, on a daemon with this uplink; nothing if it does not leave by that.
pub(super) fn without_effect(settings: &OutboundSettings, uplink: &DeviceUplink) -> Vec<String> {
    if !matches!(way(settings, Some(uplink)), Ok(Way::Device { .. })) {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    if let Some(interface) = &settings.interface {
        warnings.push(format!(
            "outbound_interface={interface} binds only the sockets by which the gateway's address leads to the host: other \
             packets leave by the device {}; to have them leave by {interface}, say -o vswitch.uplink=sockets",
            uplink.interface
        ));
    }
    let sources = [
        (settings.gateway_mode_v4, settings.ipv4.map(IpAddr::V4)),
        (settings.gateway_mode_v6, settings.ipv6.map(IpAddr::V6)),
    ];
    for (mode, source) in sources {
        if let (GatewayMode::Routed, Some(source)) = (mode, source) {
            warnings.push(format!(
                "the outbound address {source} is not used, because packets of routed networks keep their own: leave it \
                 out, or have them translated (gateway mode nat)"
            ));
        }
    }
    warnings
}

/// Why packets cannot leave like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidWay {
    /// There is no device to leave by.
    #[error(
        "this daemon has no device uplink: start vswitchd with --uplink device=IFACE,address=CIDR, or say sockets"
    )]
    NoDevice,
    /// Answers would not come back.
    #[error("{address} is not an address of the device uplink, which has {addresses}")]
    Source {
        /// What was asked for.
        address: IpAddr,
        /// What there is.
        addresses: String,
    },
}

/// Which ports of the uplink a mapping is, on a network that leaves by it or not.
///
/// # Errors
///
/// Nothing else would serve it, and the uplink cannot.
pub(super) fn forwarding(
    mapping: &PortMapping,
    way: &Way,
    uplink: Option<&DeviceUplink>,
) -> Result<Option<Forwarding>, PortError> {
    let Some(uplink) = uplink else { return Ok(None) };
    let external = match mapping.host_ip {
        None => External::All,
        Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => External::AllV4,
        Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => External::AllV6,
        Some(address) if has(uplink, address) => External::One(address),
        Some(_) => return Ok(None),
    };
    let is_device = *way != Way::Sockets;
    let is_served = is_device && !has_rules(&mapping.rules);
    match external {
        External::One(address) if !is_device => Err(PortError::OtherUplink { address }),
        External::One(address) if !is_served => Err(PortError::UplinkRules { address }),
        _ if !is_served => {
            if is_device {
                tracing::warn!(
                    ports = %mapping,
                    "is not published on the device uplink, which keeps no rules of ports: only on addresses of the host"
                );
            }
            Ok(None)
        }
        external => Ok(Some(Forwarding {
            external,
            ports: mapping.host_port..=mapping.host_port.saturating_add(mapping.count.saturating_sub(1)),
            container_port: mapping.container_port,
        })),
    }
}

/// The forwarding as far as it can lead to a container: no version is translated to the other on the uplink.
///
/// # Errors
///
/// Nothing else would serve it.
pub(super) fn to_container(
    forwarding: Option<Forwarding>,
    mapping: &PortMapping,
    container: &Endpoint,
) -> Result<Option<Forwarding>, PortError> {
    let Some(forwarding) = forwarding else {
        return Ok(None);
    };
    let (has_v4, has_v6) = (container.ipv4.is_some(), container.ipv6.is_some());
    let is_reached = match forwarding.external {
        External::All => has_v4 || has_v6,
        External::AllV4 | External::One(IpAddr::V4(_)) => has_v4,
        External::AllV6 | External::One(IpAddr::V6(_)) => has_v6,
    };
    match forwarding.external {
        _ if is_reached => Ok(Some(forwarding)),
        External::One(address) => Err(PortError::OtherVersion { address }),
        External::All | External::AllV4 | External::AllV6 => {
            tracing::warn!(
                ports = %mapping,
                "is not published on the device uplink, because the container has no address of that version: only on \
                 addresses of the host"
            );
            Ok(None)
        }
    }
}

/// Whether it is one of the uplink's addresses.
fn has(uplink: &DeviceUplink, address: IpAddr) -> bool {
    uplink.addresses.iter().any(|net| net.addr() == address)
}

fn listed(uplink: &DeviceUplink) -> String {
    let addresses: Vec<String> = uplink
        .addresses
        .iter()
        .map(|net| net.addr().to_string())
        .collect();
    addresses.join(", ")
}

/// Whether there are rules that only host sockets keep.
fn has_rules(rules: &PortRules) -> bool {
    let PortRules {
        allow,
        max_connections,
        connections_per_second,
        proxy_protocol,
        relay_local: _,
    } = rules;
    !allow.is_empty()
        || max_connections.is_some()
        || connections_per_second.is_some()
        || proxy_protocol.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control::fixtures, model::Transport};

    fn uplink() -> DeviceUplink {
        "device=eth1,address=192.0.2.10/24,address=192.0.2.11/24,address=2001:db8::a/64"
            .parse()
            .expect("valid")
    }

    fn mapping(host_ip: Option<&str>) -> PortMapping {
        PortMapping {
            host_ip: host_ip.map(|ip| ip.parse().expect("an address")),
            host_port: 8080,
            container_port: 80,
            count: 3,
            protocol: Transport::Tcp,
            rules: PortRules::default(),
        }
    }

    fn any() -> Egress {
        Egress::Masquerade(Vec::new())
    }

    #[test]
    fn networks_leave_by_the_device_if_there_is_one_unless_they_say_otherwise() {
        let uplink = uplink();
        let device = || Way::Device { v4: any(), v6: any() };
        let cases = [
            (None, None, Ok(Way::Sockets)),
            (None, Some(&uplink), Ok(device())),
            (Some(UplinkKind::Device), Some(&uplink), Ok(device())),
            (Some(UplinkKind::Sockets), Some(&uplink), Ok(Way::Sockets)),
            (Some(UplinkKind::Sockets), None, Ok(Way::Sockets)),
            (Some(UplinkKind::Device), None, Err(InvalidWay::NoDevice)),
        ];
        for (kind, uplink, expected) in cases {
            let settings = OutboundSettings {
                uplink: kind,
                ..OutboundSettings::default()
            };
            assert_eq!(way(&settings, uplink), expected, "{kind:?}");
        }
    }

    #[test]
    fn each_version_is_translated_as_its_options_say() {
        let settings = OutboundSettings {
            ipv4: Some([192, 0, 2, 11].into()),
            gateway_mode_v6: GatewayMode::Routed,
            ..OutboundSettings::default()
        };
        let expected = Way::Device {
            v4: Egress::Masquerade(vec![[192, 0, 2, 11].into()]),
            v6: Egress::Routed { open: false },
        };
        assert_eq!(way(&settings, Some(&uplink())), Ok(expected));
        let foreign = OutboundSettings {
            ipv4: Some([192, 0, 2, 12].into()),
            ..OutboundSettings::default()
        };
        let error = way(&foreign, Some(&uplink())).expect_err("nobody would answer there");
        assert!(error.to_string().contains("192.0.2.10, 192.0.2.11"), "{error}");
    }

    #[test]
    fn what_a_device_cannot_heed_is_told() {
        let uplink = uplink();
        let settings = OutboundSettings {
            ipv4: Some([192, 0, 2, 11].into()),
            metadata: true,
            ..OutboundSettings::default()
        };
        assert_eq!(without_effect(&settings, &uplink), [""; 0]);
        let settings = OutboundSettings {
            gateway_mode_v4: GatewayMode::Routed,
            interface: Some("wan0".to_owned()),
            ..settings
        };
        let told = without_effect(&settings, &uplink);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("say -o vswitch.uplink=sockets"), "{told:?}");
        assert!(told[1].contains("192.0.2.11 is not used"), "{told:?}");
        let by_sockets = OutboundSettings {
            uplink: Some(UplinkKind::Sockets),
            ..settings
        };
        assert_eq!(without_effect(&by_sockets, &uplink), [""; 0]);
    }

    #[test]
    fn ports_are_forwarded_on_the_addresses_that_they_are_published_on() {
        let device = Way::Device { v4: any(), v6: any() };
        let external = |host_ip| {
            let forwarding = forwarding(&mapping(host_ip), &device, Some(&uplink()));
            let forwarding = forwarding.expect("it can be served");
            forwarding.map(|forwarding| {
                assert_eq!((forwarding.ports, forwarding.container_port), (8080..=8082, 80));
                forwarding.external
            })
        };
        let one = |text: &str| External::One(text.parse().expect("an address"));
        assert_eq!(external(None), Some(External::All));
        assert_eq!(external(Some("0.0.0.0")), Some(External::AllV4));
        assert_eq!(external(Some("::")), Some(External::AllV6));
        assert_eq!(external(Some("192.0.2.11")), Some(one("192.0.2.11")));
        assert_eq!(external(Some("127.0.0.1")), None);
        assert_eq!(
            forwarding(&mapping(None), &device, None).expect("nothing to serve"),
            None
        );
    }

    #[test]
    fn what_the_uplink_cannot_serve_is_left_to_the_host_or_refused() {
        let device = Way::Device { v4: any(), v6: any() };
        let ruled = |host_ip| PortMapping {
            rules: PortRules {
                max_connections: Some(3),
                ..PortRules::default()
            },
            ..mapping(host_ip)
        };
        let uplink = uplink();
        let forwarded = |mapping: &PortMapping, way| forwarding(mapping, way, Some(&uplink));
        assert!(matches!(forwarded(&ruled(None), &device), Ok(None)));
        assert!(matches!(forwarded(&mapping(None), &Way::Sockets), Ok(None)));
        let address = Some("192.0.2.10");
        assert!(matches!(
            forwarded(&ruled(address), &device),
            Err(PortError::UplinkRules { .. })
        ));
        assert!(matches!(
            forwarded(&mapping(address), &Way::Sockets),
            Err(PortError::OtherUplink { .. })
        ));
    }

    #[test]
    fn a_port_that_could_not_lead_to_the_container_is_not_the_uplinks() {
        let (_, _, both) = fixtures::objects();
        let only_v4 = Endpoint {
            ipv6: None,
            ..both.clone()
        };
        let only_v6 = Endpoint {
            ipv4: None,
            ..both.clone()
        };
        let (device, uplink) = (Way::Device { v4: any(), v6: any() }, uplink());
        let external = |container: &Endpoint, host_ip| {
            let mapping = mapping(host_ip);
            let forwarding = forwarding(&mapping, &device, Some(&uplink)).expect("it can be served");
            let forwarding = to_container(forwarding, &mapping, container);
            forwarding.map(|forwarding| forwarding.is_some())
        };
        for (host_ip, with_v4, with_v6) in [
            (None, Some(true), Some(true)),
            (Some("0.0.0.0"), Some(true), Some(false)),
            (Some("::"), Some(false), Some(true)),
            (Some("192.0.2.11"), Some(true), None),
            (Some("2001:db8::a"), None, Some(true)),
            (Some("127.0.0.1"), Some(false), Some(false)),
        ] {
            assert_eq!(external(&only_v4, host_ip).ok(), with_v4, "{host_ip:?}");
            assert_eq!(external(&only_v6, host_ip).ok(), with_v6, "{host_ip:?}");
        }
        assert!(matches!(external(&both, Some("2001:db8::a")), Ok(true)));
        let error = external(&only_v4, Some("2001:db8::a")).expect_err("nobody would answer");
        assert!(error.to_string().contains("has no IPv6 address"), "{error}");
    }
}
