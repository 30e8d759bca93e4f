use std::net::IpAddr;

use vswitch_nat::{Egress, Eviction, Filtering, HairpinSource, Mapping, PortChoice, Timer, Unsolicited};

use super::*;

const SMALLEST: &str = r#"
    [[network]]
    name = "lan"
    prefixes = ["10.0.0.0/24"]
"#;

fn parse(text: &str) -> Result<Config, Problems> {
    Config::try_from(toml::from_str::<RawConfig>(text).expect("the sample is TOML"))
}

#[test]
fn a_network_is_enough() {
    let config = parse(SMALLEST).expect("it is valid");
    assert_eq!(config.engine, EngineConfig::standard(0));
    assert_eq!(config.checksums, Checksums::Verified);
    assert_eq!(config.outside.mtu, 1500);
    assert_eq!(config.networks[0].egress, Egress::Masquerade(Vec::new()));
    let sides: Vec<_> = config
        .sides
        .iter()
        .map(|side| (side.zone, &*side.name, &*side.interface))
        .collect();
    assert_eq!(
        sides,
        [(Zone::OUTSIDE, "outside", "outside"), (Zone(1), "lan", "lan")]
    );
}

#[test]
fn profiles_are_the_engines() {
    for (name, profile) in [
        ("standard", EngineConfig::standard(7)),
        ("rfc", EngineConfig::rfc(7)),
        ("linux", EngineConfig::linux(7)),
    ] {
        let config = parse(&format!("profile = \"{name}\"\nseed = 7\n{SMALLEST}")).expect("it is valid");
        assert_eq!(config.engine, profile, "{name}");
    }
}

#[test]
fn every_field_is_understood() {
    let config = parse(
        r#"
        profile = "rfc"
        seed = 9
        checksums = "believe"
        mapping = "overlapping"
        filtering = "address"
        port-choice = "fully-random"
        ports = "1024-2047"
        eviction = "offender"
        unsolicited = "port-unreachable"
        hairpin-source = "gateway"
        unchecked-ports = [4789]
        timeouts = { udp = 31, tcp-established = 32, reassembly-v4 = 33, reassembly-v6 = 34 }
        limits = { connections = 41, per-network = 42, per-host = 43, rate-per-host = 44 }
        fragments = { network-bytes = 51, total-bytes = 52, pieces = 53, per-source = 54 }
        tcp = { loose = true, liberal = true, max-retrans = 5, watch-unacknowledged = true }

        [outside]
        interface = "wan0"
        mac = "02:00:00:00:00:01"
        addresses = ["198.51.100.1", "2001:db8::1"]
        prefixes = ["198.51.100.0/24"]
        mtu = 1400

        [[network]]
        name = "lan"
        interface = "3"
        mac = "02:00:00:00:00:02"
        prefixes = ["10.0.0.0/24"]
        gateways = ["10.0.0.1"]
        mtu = 9000
        egress = "masquerade"
        addresses = ["198.51.100.1"]
        filtering = "endpoint-independent"

        [[network]]
        name = "open"
        prefixes = ["192.0.2.0/24"]
        egress = "routed-open"

        [[publish]]
        protocol = "udp"
        external = "198.51.100.1"
        ports = "8000-8010"
        network = "lan"
        target = "10.0.0.3"
        target-port = 80

        [[reserve]]
        protocol = "tcp"
        ports = "22"
        "#,
    )
    .expect("it is valid");
    let engine = &config.engine;
    assert_eq!(
        (engine.mapping, engine.filtering),
        (Mapping::Overlapping, Filtering::Address)
    );
    assert_eq!(
        (engine.port_choice, &engine.ports),
        (PortChoice::FullyRandom, &(1024..=2047))
    );
    assert_eq!(
        (engine.eviction, engine.hairpin),
        (Eviction::Offender, HairpinSource::Gateway)
    );
    assert_eq!(
        (engine.unsolicited, &engine.unchecked_ports[..]),
        (Unsolicited::PortUnreachable, &[4789][..])
    );
    let seconds = |timer| engine.timeouts.of(timer).as_secs();
    assert_eq!((seconds(Timer::Udp), seconds(Timer::TcpEstablished)), (31, 32));
    assert_eq!(engine.timeouts.reassembly_v4.as_secs(), 33);
    assert_eq!(engine.timeouts.reassembly_v6.as_secs(), 34);
    let limits = engine.limits;
    assert_eq!(
        (
            limits.connections,
            limits.per_zone,
            limits.per_host,
            limits.rate_per_host
        ),
        (41, 42, 43, 44)
    );
    let fragments = engine.fragments;
    assert_eq!(
        (
            fragments.zone_bytes,
            fragments.total_bytes,
            fragments.pieces,
            fragments.per_source
        ),
        (51, 52, 53, 54)
    );
    let tcp = engine.tcp;
    assert!(tcp.loose && tcp.liberal && tcp.watch_unacknowledged && tcp.max_retrans == 5);
    assert_eq!(config.checksums, Checksums::Believed);
    let address: IpAddr = "198.51.100.1".parse().expect("an address");
    assert_eq!((config.outside.addresses[0], config.outside.mtu), (address, 1400));
    assert_eq!(config.networks[0].egress, Egress::Masquerade(vec![address]));
    assert_eq!(config.networks[0].filtering, Some(Filtering::EndpointIndependent));
    assert_eq!(config.networks[1].egress, Egress::Routed { open: true });
    let mapping = &config.mappings[0];
    assert_eq!(
        (mapping.zone, &mapping.ports, mapping.target_port),
        (Zone(1), &(8000..=8010), 80)
    );
    assert_eq!(
        (mapping.protocol, mapping.external),
        (IpProtocol::UDP, Some(address))
    );
    assert_eq!(config.reserved, [(IpProtocol::TCP, 22..=22)]);
    let sides: Vec<_> = config
        .sides
        .iter()
        .map(|side| (&*side.interface, side.mac.is_some()))
        .collect();
    assert_eq!(sides, [("wan0", true), ("3", true), ("open", false)]);
}

#[test]
fn each_timer_can_be_set_by_its_name() {
    for &(timer, name) in Timer::ALL {
        let config = parse(&format!("timeouts = {{ {name} = 12345 }}\n{SMALLEST}")).expect("it is valid");
        assert_eq!(config.engine.timeouts.of(timer).as_secs(), 12_345, "{name}");
    }
}

#[test]
fn prefixes_stand_for_each_other() {
    let config = parse(
        r#"
        [[network]]
        name = "lan"
        prefixes = ["fd01:203:405::/48"]
        egress = "npt"
        internal = "fd01:203:405::/48"
        external = "2001:db8:1::/48"
        "#,
    );
    let config = config.expect("it is valid");
    let Egress::Prefix(pair) = &config.networks[0].egress else {
        panic!("{:?}", config.networks[0].egress)
    };
    assert_eq!(pair.external().to_string(), "2001:db8:1::/48");
}

#[test]
fn all_problems_are_reported_together_with_their_paths() {
    let problems = parse(
        r#"
        profile = "loose"
        checksums = "maybe"
        mapping = "any"
        filtering = "none"
        port-choice = "fully-random"
        ports = "9-8"
        timeouts = { udb = 1 }

        [outside]
        mac = "02:00"
        addresses = ["198.51.100.1", "here"]
        prefixes = ["198.51.100.1/24"]
        mtu = 12

        [[network]]
        prefixes = []
        gateways = ["x"]

        [[network]]
        name = "outside"
        prefixes = ["10.0.0.0/24"]
        gateways = ["10.0.1.1"]
        egress = "npt"
        addresses = ["198.51.100.1"]
        internal = "10.0.0.0/8"

        [[publish]]
        protocol = "icmp"
        external = "all"
        ports = "0"
        network = "dmz"
        target = "b"

        [[reserve]]
        protocol = ""
        ports = "a"
        "#,
    );
    let text = problems.expect_err("nothing in it is valid").to_string();
    for problem in [
        "profile: \"loose\" is none of standard, rfc, linux",
        "checksums: \"maybe\"",
        "mapping: \"any\" is none of",
        "filtering: \"none\"",
        "port-choice: fully-random",
        "ports: \"9-8\" is neither a port nor a range",
        "timeouts.udb: there is no such timer; there are generic,",
        "outside.mac: \"02:00\" is not an Ethernet address",
        "outside.addresses[1]: \"here\" is not an address",
        "outside.prefixes: 198.51.100.1/24 has host bits set: it should be 198.51.100.0/24",
        "outside.mtu: 12",
        "network[0].name: it needs one",
        "network[0].prefixes: it needs one",
        "network[0].gateways[0]: \"x\"",
        "network[1].name: outside is taken",
        "network[1].gateways: 10.0.1.1 is in none",
        "network[1].addresses: only egress = \"masquerade\"",
        "network[1].internal: \"10.0.0.0/8\" is not an IPv6 prefix",
        "network[1].external: egress = \"npt\" needs it",
        "publish[0].protocol: \"icmp\" is none of tcp, udp, sctp",
        "publish[0].external: \"all\"",
        "publish[0].ports: \"0\"",
        "publish[0].network: there is no network \"dmz\"",
        "publish[0].target: \"b\"",
        "reserve[0].protocol: \"\"",
        "reserve[0].ports: \"a\"",
    ] {
        let found = text.lines().filter(|line| line.starts_with(problem)).count();
        assert_eq!(found, 1, "{problem} in\n{text}");
    }
    assert_eq!(text.lines().count(), 26, "{text}");
}

#[test]
fn no_networks_are_a_problem() {
    let text = parse("").expect_err("there is nothing to do").to_string();
    assert!(
        text.starts_with("network: there is none; add a [[network]]"),
        "{text}"
    );
}

#[test]
fn unknown_fields_are_refused_with_their_line() {
    for (text, word) in [
        ("\nmaping = \"any\"", "maping"),
        ("[limits]\nconections = 1", "conections"),
        ("[[network]]\nprefix = []", "prefix"),
    ] {
        let error = toml::from_str::<RawConfig>(text)
            .expect_err("a slip of the finger")
            .to_string();
        assert!(error.contains(word) && error.contains("line 2"), "{error}");
    }
}
