use proptest::prelude::*;

use super::*;

fn read(text: &str) -> PortRequest {
    text.parse()
        .unwrap_or_else(|error: InvalidPort| panic!("{text}: {error}"))
}

fn one(port: u16) -> PortRange {
    PortRange {
        first: port,
        last: port,
    }
}

fn ranged(first: u16, last: u16) -> PortRange {
    PortRange { first, last }
}

fn request(host_ip: &str, host_ports: Option<PortRange>, container_ports: PortRange) -> PortRequest {
    PortRequest {
        host_ip: (!host_ip.is_empty()).then(|| host_ip.parse().expect("an address")),
        host_ports,
        container_ports,
        protocol: Transport::Tcp,
        rules: PortRules::default(),
    }
}

#[test]
fn p1_dockers_forms_are_understood() {
    for (text, wanted) in [
        ("80", request("", None, one(80))),
        ("8080:80", request("", Some(one(8080)), one(80))),
        (":80", request("", None, one(80))),
        ("0:80", request("", None, one(80))),
        ("::80", request("", None, one(80))),
        (
            "127.0.0.1:8080:80",
            request("127.0.0.1", Some(one(8080)), one(80)),
        ),
        ("127.0.0.1::80", request("127.0.0.1", None, one(80))),
        ("0.0.0.0:8080:80", request("0.0.0.0", Some(one(8080)), one(80))),
        ("[::1]:8080:80", request("::1", Some(one(8080)), one(80))),
        ("[::1]::80", request("::1", None, one(80))),
        ("[::]:8080:80", request("::", Some(one(8080)), one(80))),
        (
            "[::ffff:127.0.0.1]:8080:80",
            request("127.0.0.1", Some(one(8080)), one(80)),
        ),
        ("7000-7010", request("", None, ranged(7000, 7010))),
        (
            "8000-8002:9000-9002",
            request("", Some(ranged(8000, 8002)), ranged(9000, 9002)),
        ),
        // One of the range.
        ("7000-7010:90", request("", Some(ranged(7000, 7010)), one(90))),
        ("8080:80/", request("", Some(one(8080)), one(80))),
        ("08080:080", request("", Some(one(8080)), one(80))),
        ("65535:65535", request("", Some(one(65535)), one(65535))),
    ] {
        assert_eq!(read(text), wanted, "{text}");
    }
    for text in ["53/udp", "53/UDP", "53/Udp"] {
        assert_eq!(read(text).protocol, Transport::Udp, "{text}");
    }
    assert_eq!(read("80/TCP").protocol, Transport::Tcp);
}

#[test]
fn p1_wrong_ports_are_refused_in_dockers_words() {
    for (text, message) in [
        ("99999:80", "invalid hostPort: 99999"),
        ("-1:80", "invalid hostPort: -1"),
        ("+8080:80", "invalid hostPort: +8080"),
        ("127.0.0.1:80", "invalid hostPort: 127.0.0.1"),
        ("[::1]:80", "invalid hostPort: [::1]"),
        ("8002-8000:80", "invalid hostPort: 8002-8000"),
        ("0-5:80", "invalid hostPort: 0-5"),
        ("8000-:80", "invalid hostPort: 8000-"),
        ("x", "invalid containerPort: x"),
        ("80:x", "invalid containerPort: x"),
        ("0", "invalid containerPort: 0"),
        ("8080:0", "invalid containerPort: 0"),
        ("8080:65536", "invalid containerPort: 65536"),
        ("9001-9000", "invalid containerPort: 9001-9000"),
        ("1-2-3", "invalid containerPort: 1-2-3"),
        ("80 ", "invalid containerPort: 80 "),
        ("80/xyz", "invalid proto: xyz"),
        ("80/XYZ", "invalid proto: xyz"),
        ("80/tcp/udp", "invalid proto: tcp/udp"),
        ("80/sctp", "sctp ports cannot be published, only tcp and udp ones"),
        ("127.0.0.300:8080:80", "invalid IP address: 127.0.0.300"),
        ("localhost:8080:80", "invalid IP address: localhost"),
        ("[::g]:8080:80", "invalid IP address: ::g"),
        ("[::1:8080:80", "invalid IP address: [::1:8080:80"),
        ("[fe80::1%eth0]:80:80", "invalid IP address: fe80::1%eth0"),
        (
            "::1:8080:80",
            "invalid IP address: ::1; write an IPv6 address in brackets: [::1]",
        ),
        (
            "2001:db8::7:8080:80",
            "invalid IP address: 2001:db8::7; write an IPv6 address in brackets: [2001:db8::7]",
        ),
        (
            "8000-8002:9000-9001",
            "invalid ranges specified for container and host Ports: 9000-9001 and 8000-8002",
        ),
        (
            "8080:9000-9001",
            "invalid ranges specified for container and host Ports: 9000-9001 and 8080",
        ),
        ("", "no port specified: <empty>"),
        ("8080:", "no port specified: 8080:<empty>"),
        ("127.0.0.1:8080:", "no port specified: 127.0.0.1:8080:<empty>"),
        ("/tcp", "no port specified: /tcp<empty>"),
        (",allow=10.0.0.0/8", "no port specified: <empty>"),
    ] {
        let error = text.parse::<PortRequest>().expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
    }
}

#[test]
fn rules_follow_the_ports() {
    let rules = read(
        "80,allow=10.1.2.3/8,192.0.2.7,2001:db8::7,max-conns=5,rate=7,proxy-protocol=v2,local=relay,allow=::/0",
    )
    .rules;
    let prefixes = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::7/128", "::/0"];
    let wanted = PortRules {
        allow: prefixes.map(|text| text.parse().expect("a prefix")).to_vec(),
        max_connections: Some(5),
        connections_per_second: Some(7),
        proxy_protocol: Some(ProxyProtocol::V2),
        relay_local: true,
    };
    assert_eq!(rules, wanted);
    let rules = read("127.0.0.1::80/tcp,local=splice,proxy-protocol=v1").rules;
    assert_eq!(rules.proxy_protocol, Some(ProxyProtocol::V1));
    assert!(!rules.relay_local);
}

#[test]
fn wrong_rules_are_refused() {
    let nothing = "a rule is missing after the comma";
    let most = "4294967295";
    for (rules, message) in [
        ("", nothing),
        (",allow=10.0.0.0/8", nothing),
        ("on", "on is not KEY=VALUE"),
        ("max-conns=1,192.0.2.7", "192.0.2.7 is not KEY=VALUE"),
        (
            "allow=",
            "allow= lacks an address or a prefix such as 192.0.2.0/24",
        ),
        ("allow=10.0.0.0/8,", nothing),
        (
            "allow=10.0.0.0/33",
            "invalid allow: 10.0.0.0/33 is neither an address nor a prefix such as 192.0.2.0/24",
        ),
        (
            "max-conns=0",
            &format!("invalid max-conns: 0 is not a number from 1 to {most}"),
        ),
        (
            "max-conns=4294967296",
            &format!("invalid max-conns: 4294967296 is not a number from 1 to {most}"),
        ),
        (
            "rate=+5",
            &format!("invalid rate: +5 is not a number from 1 to {most}"),
        ),
        ("rate=5,rate=6", "rate is given twice"),
        (
            "proxy-protocol=v3",
            "invalid proxy-protocol: v3 is neither v1 nor v2",
        ),
        ("local=no", "invalid local: no is neither relay nor splice"),
        (
            "retry=1",
            "unknown key retry: there are allow, max-conns, rate, proxy-protocol and local",
        ),
    ] {
        let error = format!("80,{rules}").parse::<PortRequest>().expect_err(rules);
        assert_eq!(error.to_string(), message, "{rules}");
    }
    assert_eq!(
        "53/udp,proxy-protocol=v1".parse::<PortRequest>(),
        Err(InvalidPort::ProxyProtocol)
    );
}

fn mapping(host_ip: Option<&str>, host_port: u16, container_port: u16, count: u16) -> PortMapping {
    PortMapping {
        host_ip: host_ip.map(|text| text.parse().expect("an address")),
        host_port,
        container_port,
        count,
        protocol: Transport::Tcp,
        rules: PortRules::default(),
    }
}

#[test]
fn p2_a_mapping_without_address_is_on_all_of_both_families() {
    let both = mapping(None, 8080, 80, 2);
    assert_eq!(
        both.to_string(),
        "0.0.0.0:8080-8081->80-81/tcp, [::]:8080-8081->80-81/tcp"
    );
    let bindings: Vec<String> = both
        .bindings()
        .map(|(container, host)| format!("{container} {host}"))
        .collect();
    assert_eq!(
        bindings,
        [
            "80 0.0.0.0:8080",
            "80 [::]:8080",
            "81 0.0.0.0:8081",
            "81 [::]:8081"
        ]
    );
    assert_eq!(
        mapping(Some("::1"), 8080, 80, 1).to_string(),
        "[::1]:8080->80/tcp"
    );
    // What a document says is not trusted.
    assert_eq!(mapping(Some("::1"), 65535, 80, 2).bindings().count(), 2);
    assert_eq!(ranged(9, 1).count(), 1);
    assert_eq!(ranged(1, u16::MAX).count(), u16::MAX);
}

prop_compose! {
    fn ranges()(first in 1_u16.., count in 1_u16..200) -> PortRange {
        ranged(first, first.saturating_add(count - 1))
    }
}

prop_compose! {
    fn rules()(
        allow in proptest::collection::vec((any::<IpAddr>(), 0_u8..=128), 0..3),
        max_connections in proptest::option::of(1_u32..),
        connections_per_second in proptest::option::of(1_u32..),
        proxy_protocol in proptest::option::of(prop_oneof![Just(ProxyProtocol::V1), Just(ProxyProtocol::V2)]),
        relay_local: bool,
    ) -> PortRules {
        let prefix = |(ip, len): (IpAddr, u8)| IpNet::new(ip, len.min(if ip.is_ipv4() { 32 } else { 128 }));
        let allow = allow.into_iter().map(|pair| prefix(pair).expect("it is short enough").trunc()).collect();
        PortRules { allow, max_connections, connections_per_second, proxy_protocol, relay_local }
    }
}

prop_compose! {
    fn requests()(
        host_ip in proptest::option::of(any::<IpAddr>()),
        container_ports in ranges(),
        start in proptest::option::of(1_u16..),
        some in ranges(),
        protocol in prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)],
        rules in rules(),
    ) -> PortRequest {
        let count = container_ports.count();
        let host_ports = match count {
            1 => start.map(|_| some),
            _ => start.map(|start| start.min(u16::MAX - (count - 1))).map(|first| ranged(first, first + (count - 1))),
        };
        let proxy_protocol = rules.proxy_protocol.filter(|_| protocol == Transport::Tcp);
        PortRequest {
            host_ip: host_ip.map(|ip| ip.to_canonical()),
            host_ports,
            container_ports,
            protocol,
            rules: PortRules { proxy_protocol, ..rules },
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(request in requests()) {
        prop_assert_eq!(request.to_string().parse(), Ok(request));
    }

    #[test]
    fn no_text_is_fatal(text in ".*") {
        let _ = text.parse::<PortRequest>();
    }

    #[test]
    fn no_text_of_the_grammars_characters_is_fatal(text in r"[\[\]:0-9,/=.a-z-]{0,40}") {
        if let Ok(request) = text.parse::<PortRequest>() {
            prop_assert_eq!(request.to_string().parse(), Ok(request));
        }
    }
}
