use vswitch_proxy::config::Denial;

use super::{options::INTERFACE_PREFIX, *};
use crate::{
    api::types::Ipam,
    model::{GatewayMode, Inbound, LinkKind, OutboundSettings, UplinkKind},
};

fn request(configs: &[(&str, &str, &str)]) -> NetworkCreate {
    let config = configs.iter().map(|(subnet, range, gateway)| IpamConfig {
        subnet: subnet.to_string(),
        ip_range: range.to_string(),
        gateway: gateway.to_string(),
        auxiliary_addresses: BTreeMap::new(),
    });
    NetworkCreate {
        name: "n".into(),
        enable_ipv6: Some(configs.iter().any(|(subnet, ..)| subnet.contains(':'))),
        ipam: Some(Ipam {
            driver: "default".into(),
            options: None,
            config: config.collect(),
        }),
        ..NetworkCreate::default()
    }
}

fn with_option(key: &str, value: &str) -> NetworkCreate {
    let mut request = request(&[]);
    request.options.insert(key.into(), value.into());
    request
}

fn build(request: NetworkCreate, used: &[&str]) -> Result<Network, ControlError> {
    let used: Vec<IpNet> = used.iter().map(|net| net.parse().expect("a prefix")).collect();
    let defaults = SubnetPool::defaults();
    let pools = Pools {
        configured: &defaults,
        unique_local: SubnetPool::unique_local("x"),
    };
    NetworkPlan::check(request)?.build(&used, &[], pools)
}

fn refusal(request: NetworkCreate) -> String {
    build(request, &["10.0.0.0/8"])
        .expect_err("it is wrong")
        .to_string()
}

#[test]
fn an_empty_request_gets_all_from_the_pools() {
    let mut network = build(
        NetworkCreate {
            name: "n".into(),
            enable_ipv6: Some(true),
            ..Default::default()
        },
        &["172.17.0.0/16"],
    )
    .expect("pools have room");
    assert_eq!(network.gateways()[0].to_string(), "172.18.0.1/16");
    assert!(
        network.gateways()[1].to_string().starts_with("fd"),
        "{:?}",
        network.gateways()
    );
    assert_eq!(network.gateway_mac.to_string(), "02:42:ac:12:00:01");
    assert_eq!(network.settings.mtu, 1500);
    assert!(network.ipam_options.take().is_none());
}

#[test]
fn requested_values_are_kept() {
    let mut wish = request(&[
        ("10.7.0.0/16", "10.7.4.0/24", ""),
        ("fd12:7::/64", "", "fd12:7::fe"),
    ]);
    let ipam = wish.ipam.as_mut().expect("it has one");
    ipam.config[0]
        .auxiliary_addresses
        .insert("dns".into(), "10.7.4.0".into());
    let network = build(wish, &[]).expect("all is well");
    let gateways: Vec<String> = network.gateways().iter().map(ToString::to_string).collect();
    assert_eq!(
        gateways,
        ["10.7.4.1/16", "fd12:7::fe/64"],
        "inside the range, beside the auxiliary address"
    );
    let subnet = network.ipv4.expect("it has IPv4");
    assert_eq!(
        (subnet.origin, subnet.gateway_origin),
        (Origin::Requested, Origin::Automatic)
    );
}

#[test]
fn bad_subnets_are_listed_together_in_dockers_words() {
    let head = "invalid network config:\n";
    for (subnet, range, gateway, text) in [
        (
            "999.1.1.0/24",
            "",
            "",
            "invalid subnet 999.1.1.0/24: invalid CIDR block notation",
        ),
        ("", "", "", "invalid subnet : invalid CIDR block notation"),
        (
            "11.9.0.5/24",
            "",
            "",
            "invalid subnet 11.9.0.5/24: it should be 11.9.0.0/24",
        ),
        (
            "224.0.1.0/24",
            "",
            "",
            "invalid subnet 224.0.1.0/24: multicast addresses are no addresses of hosts",
        ),
        (
            "fe80::/64",
            "",
            "",
            "invalid subnet fe80::/64: link-local addresses are no addresses of hosts",
        ),
        (
            "127.0.0.0/24",
            "",
            "",
            "invalid subnet 127.0.0.0/24: loopback addresses are no addresses of hosts",
        ),
        (
            "11.9.0.0/24",
            "x",
            "",
            "invalid ip-range x: invalid CIDR block notation",
        ),
        (
            "11.9.0.0/24",
            "11.9.0.1/25",
            "",
            "invalid ip-range 11.9.0.1/25: it should be 11.9.0.0/25",
        ),
        (
            "11.9.0.0/24",
            "11.8.0.0/25",
            "",
            "invalid ip-range 11.8.0.0/25: parent subnet 11.9.0.0/24 doesn't contain ip-range",
        ),
        (
            "11.9.0.0/24",
            "11.8.0.0/15",
            "",
            "invalid ip-range 11.8.0.0/15: CIDR block is bigger than its parent subnet 11.9.0.0/24",
        ),
        (
            "11.9.0.0/24",
            "fd00::/64",
            "",
            "invalid ip-range fd00::/64: parent subnet is an IPv4 block",
        ),
        (
            "11.9.0.0/24",
            "",
            "11.8.0.1",
            "invalid gateway 11.8.0.1: parent subnet 11.9.0.0/24 doesn't contain this address",
        ),
        ("11.9.0.0/24", "", "x", "invalid gateway x: invalid address"),
        (
            "fd00::/64",
            "",
            "11.8.0.1",
            "invalid gateway 11.8.0.1: parent subnet is an IPv6 block",
        ),
    ] {
        assert_eq!(
            refusal(request(&[(subnet, range, gateway)])),
            format!("{head}{text}")
        );
    }
    let several = refusal(request(&[("11.9.0.5/24", "x", ""), ("y", "", "")]));
    assert_eq!(
        several,
        "invalid network config:\n* invalid subnet 11.9.0.5/24: it should be 11.9.0.0/24\n\
         * invalid ip-range x: invalid CIDR block notation\n* invalid subnet y: invalid CIDR block notation"
    );
}

#[test]
fn what_is_taken_or_of_another_kind_is_refused() {
    let overlap = "invalid pool request: Pool overlaps with other one on this address space";
    for (wish, text) in [
        (request(&[("10.9.0.0/24", "", "")]), overlap),
        (request(&[("0.0.0.0/0", "", "")]), overlap),
        (
            request(&[("11.0.0.0/24", "", ""), ("12.0.0.0/24", "", "")]),
            "bridge driver doesn't support multiple subnets",
        ),
        (
            request(&[("11.0.0.0/24", "", "11.0.0.0")]),
            "Address already in use",
        ),
        (NetworkCreate::default(), "invalid name: name is empty"),
        (
            NetworkCreate {
                name: "host".into(),
                ..Default::default()
            },
            "operation is not permitted on predefined host network ",
        ),
        (
            NetworkCreate {
                driver: "nosuch".into(),
                ..request(&[])
            },
            "plugin \"nosuch\" not found",
        ),
        (
            NetworkCreate {
                driver: "overlay".into(),
                ..request(&[])
            },
            "cannot create a swarm scoped network when swarm is not active",
        ),
        (
            NetworkCreate {
                driver: "host".into(),
                ..request(&[])
            },
            "only one instance of \"host\" network is allowed",
        ),
        (
            NetworkCreate {
                config_only: true,
                ..request(&[])
            },
            "a configuration-only network is not supported by vswitchd",
        ),
        (
            NetworkCreate {
                enable_ipv4: Some(false),
                ..request(&[])
            },
            "invalid network config:\nIPv4 or IPv6 must be enabled",
        ),
    ] {
        assert_eq!(refusal(wish), text);
    }
    let full: Vec<String> = SubnetPool::defaults()
        .iter()
        .map(|pool| pool.base().to_string())
        .collect();
    let full: Vec<&str> = full.iter().map(String::as_str).collect();
    let error = build(request(&[]), &full).expect_err("nothing is left");
    assert_eq!(
        error.to_string(),
        "all predefined address pools have been fully subnetted"
    );
}

#[test]
fn driver_options_are_checked() {
    let icc = "com.docker.network.bridge.enable_icc";
    for (value, expected) in [("false", false), ("0", false), ("T", true)] {
        let network = build(with_option(icc, value), &[]).expect("a boolean");
        assert_eq!(network.settings.inter_container, expected);
    }
    assert_eq!(
        refusal(with_option(icc, "maybe")),
        "failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing \"maybe\": invalid syntax)"
    );
    for (value, mtu) in [("68", 68), ("65520", 65_520), ("0", 1500)] {
        assert_eq!(
            build(with_option(MTU, value), &[]).expect("an MTU").settings.mtu,
            mtu
        );
    }
    for value in ["67", "65521", "-1", "x", ""] {
        assert!(
            refusal(with_option(MTU, value)).starts_with(&format!("failed to parse {MTU} value: {value} ("))
        );
    }
    let mut narrow = with_option(MTU, "1279");
    narrow.enable_ipv6 = Some(true);
    assert!(refusal(narrow).ends_with("(must be between 1280 and 65520)"));
    assert_eq!(
        build(with_option(INTERFACE_PREFIX, "lan"), &[])
            .expect("a prefix")
            .settings
            .interface_prefix,
        "lan"
    );
    refusal(with_option(INTERFACE_PREFIX, "much-too-long"));
    build(with_option("unknown.key", "x"), &[]).expect("unknown options are recorded");
}

#[test]
fn a_subnet_of_a_family_that_is_off_is_ignored_aloud() {
    let wish = NetworkCreate {
        enable_ipv6: None,
        ..request(&[("fd00::/64", "", "")])
    };
    let plan = NetworkPlan::check(wish).expect("Docker ignores it too");
    assert_eq!(
        plan.warning,
        "ignored, because their address family is not enabled: fd00::/64"
    );
    assert!(plan.ipv6.is_none());
}

#[test]
fn r_lim_6_options_of_the_way_out_are_understood() {
    let mut wish = request(&[("10.7.0.0/24", "", ""), ("fd12:7::/64", "", "")]);
    wish.options = [
        ("allow_host_loopback", "true"),
        ("allow_metadata", "1"),
        ("com.docker.network.host_ipv6", "2001:db8::9"),
        ("outbound_addr", "192.0.2.9"),
        ("outbound_denied", "reset"),
        ("outbound_interface", "wan0"),
        ("vswitch.inbound", "open"),
        ("vswitch.uplink", "sockets"),
        ("com.docker.network.bridge.enable_ip_masquerade", "false"),
        ("com.docker.network.bridge.gateway_mode_ipv4", "nat"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let plan = NetworkPlan::check(wish.clone()).expect("all is well");
    assert_eq!(plan.warning, "");
    let network = build(wish.clone(), &[]).expect("all is well");
    assert_eq!(network.options, wish.options, "shown as given");
    assert_eq!(
        network.settings.outbound,
        OutboundSettings {
            host_loopback: true,
            metadata: true,
            denied: Denial::Reset,
            ipv4: Some([192, 0, 2, 9].into()),
            ipv6: Some("2001:db8::9".parse().expect("an address")),
            interface: Some("wan0".into()),
            uplink: Some(UplinkKind::Sockets),
            gateway_mode_v4: GatewayMode::Nat,
            gateway_mode_v6: GatewayMode::Routed,
            inbound: Inbound::Open,
        }
    );
    let plain = build(request(&[]), &[]).expect("all is well");
    assert_eq!(plain.settings.outbound, OutboundSettings::default());
    assert!(!plain.settings.outbound.host_loopback && !plain.settings.outbound.metadata);
}

#[test]
fn r_lim_6_each_bad_option_of_the_way_out_says_what_is_allowed() {
    let switch = "must be true or false";
    let ipv4 = "must be a unicast IPv4 address of this host that is not loopback";
    let ipv6 = "must be a unicast IPv6 address of this host that is neither loopback nor link-local";
    for (label, value, why) in [
        ("allow_host_loopback", "", switch),
        ("allow_metadata", "yes", switch),
        ("outbound_denied", "silent", "must be prohibited, reset or drop"),
        ("vswitch.uplink", "eth0", "must be device or sockets"),
        ("vswitch.inbound", "yes", "must be closed or open"),
        (
            "com.docker.network.bridge.gateway_mode_ipv4",
            "isolated",
            "must be nat or routed",
        ),
        ("outbound_addr", "", ipv4),
        ("outbound_addr", "127.0.0.2", ipv4),
        ("outbound_addr", "0.0.0.0", ipv4),
        ("outbound_addr", "224.0.0.1", ipv4),
        ("outbound_addr", "255.255.255.255", ipv4),
        ("outbound_addr", "fd00::1", ipv4),
        ("com.docker.network.host_ipv4", "x", ipv4),
        ("outbound_addr6", "::1", ipv6),
        ("outbound_addr6", "::", ipv6),
        ("outbound_addr6", "fe80::1", ipv6),
        ("outbound_addr6", "ff02::1", ipv6),
        ("outbound_addr6", "::ffff:10.0.0.1", ipv6),
        ("com.docker.network.host_ipv6", "10.0.0.1", ipv6),
        (
            "outbound_interface",
            "lo",
            "invalid interface name \"lo\": 1 to 15 visible characters without '/', ':' and '%', and not \"lo\"",
        ),
    ] {
        assert_eq!(
            refusal(with_option(label, value)),
            format!("failed to parse {label} value: {value} ({why})")
        );
    }
    let mut contradiction = with_option("outbound_addr", "192.0.2.1");
    let docker = "com.docker.network.host_ipv4";
    contradiction.options.insert(docker.into(), "192.0.2.2".into());
    assert_eq!(
        refusal(contradiction.clone()),
        format!(
            "failed to parse {docker} value: 192.0.2.2 (must be the same as outbound_addr, or leave one of them out)"
        )
    );
    contradiction.options.insert(docker.into(), "192.0.2.1".into());
    build(contradiction, &[]).expect("both say the same");
}

#[test]
fn a_network_says_what_its_containers_get_for_an_interface() {
    let network = build(with_option("endpoint", "veth"), &[]).expect("there is veth");
    assert_eq!(network.settings.link_kind, LinkKind::Veth);
    let plain = build(request(&[]), &[]).expect("all is well");
    assert_eq!(plain.settings.link_kind, LinkKind::Tap);
    assert_eq!(
        refusal(with_option("endpoint", "macvlan")),
        "failed to parse endpoint value: macvlan (must be tap or veth)"
    );
}

#[test]
fn all_that_is_wrong_with_options_and_subnets_is_reported_together() {
    let mut wish = request(&[("11.9.0.5/24", "", "")]);
    wish.options = [(MTU, "7"), ("allow_metadata", "maybe")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    assert_eq!(
        refusal(wish),
        "invalid network config:\n\
         * failed to parse com.docker.network.driver.mtu value: 7 (must be between 68 and 65520)\n\
         * failed to parse allow_metadata value: maybe (must be true or false)\n\
         * invalid subnet 11.9.0.5/24: it should be 11.9.0.0/24"
    );
}

#[test]
fn options_of_the_way_out_that_have_no_effect_are_ignored_aloud() {
    let mut internal = with_option("outbound_addr", "192.0.2.1");
    internal.options.insert("allow_metadata".into(), "true".into());
    internal.internal = true;
    assert_eq!(
        NetworkPlan::check(internal)
            .expect("pointless, not wrong")
            .warning,
        "ignored, because an internal network has no way out: allow_metadata, outbound_addr"
    );
    assert_eq!(
        NetworkPlan::check(with_option("outbound_addr6", "2001:db8::1"))
            .expect("pointless, not wrong")
            .warning,
        "ignored, because their address family is not enabled: outbound_addr6"
    );
}

#[test]
fn settings_of_earlier_versions_have_the_defaults_of_the_way_out() {
    let stored = r#"{"mtu":1400,"inter_container":true,"interface_prefix":"eth"}"#;
    let settings: NetworkSettings = serde_json::from_str(stored).expect("it was written by us");
    assert_eq!(settings.outbound, OutboundSettings::default());
    assert_eq!(settings.link_kind, LinkKind::Tap);
    for denied in [Denial::Drop, Denial::Prohibited, Denial::Reset] {
        let settings = NetworkSettings {
            outbound: OutboundSettings {
                denied,
                ..OutboundSettings::default()
            },
            ..settings.clone()
        };
        let text = serde_json::to_string(&settings).expect("it can be written");
        assert_eq!(
            serde_json::from_str::<NetworkSettings>(&text).expect("and read"),
            settings
        );
    }
}
