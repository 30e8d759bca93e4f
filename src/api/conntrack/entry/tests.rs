//! Connections and rules in the API's JSON.

use std::time::Duration;

use serde_json::{json, to_value};
use vswitch_nat::{Address, ConnView, MappingId, PortMapping, Zone};

use super::*;
use crate::control::fixtures;

#[test]
fn a_connection_is_named_after_the_sandboxes_at_its_sides() {
    let (state, _) = fixtures::state();
    let row = ConnRow::new(view(IpProtocol::TCP, 0), zones);
    let owners = Owners::new(&state, std::slice::from_ref(&row));
    assert_eq!(
        to_value(entry(&state, &owners, &row)).expect("it is JSON"),
        json!({
            "Protocol": "tcp", "ProtocolNumber": 6, "State": "ESTABLISHED", "TimeoutSeconds": 5.5,
            "Replied": true, "Assured": false,
            "Original": {
                "Source": "10.0.0.2", "Destination": "198.51.100.2", "SourcePort": 77, "DestinationPort": 80,
                "Zone": 1, "Network": "net", "NetworkID": "01".repeat(32), "Sandbox": "web",
                "Packets": 3, "Bytes": 180
            },
            "Reply": {
                "Source": "198.51.100.2", "Destination": "198.51.100.1", "SourcePort": 80, "DestinationPort": 77,
                "Zone": 0, "Network": "", "NetworkID": "", "Sandbox": "", "Packets": 2, "Bytes": 120
            }
        })
    );
}

#[test]
fn the_same_address_on_another_network_is_somebody_else() {
    let (state, _) = fixtures::state();
    let row = ConnRow::new(view(IpProtocol::TCP, 0), |zone| {
        (zone == Zone(1)).then(|| fixtures::id(2))
    });
    let owners = Owners::new(&state, std::slice::from_ref(&row));
    let side = entry(&state, &owners, &row).original;
    // The network has gone: its id is left.
    assert_eq!(
        (side.network.as_str(), side.sandbox.as_str()),
        ("020202020202", "")
    );
}

#[test]
fn a_query_of_icmp_has_its_types_and_its_identifier_in_place_of_ports() {
    let (state, _) = fixtures::state();
    for (protocol, request, reply) in [
        (IpProtocol::ICMP, 8, 0),
        (IpProtocol::ICMP, 13, 14),
        (IpProtocol::ICMPV6, 128, 129),
    ] {
        let mut view = view(protocol, request);
        view.original.dst_port = 0;
        view.reply.src_port = 0;
        let row = ConnRow::new(view, zones);
        let entry = entry(&state, &Owners::new(&state, &[]), &row);
        let icmp = |kind| {
            Some(IcmpQuery {
                kind,
                code: 0,
                id: 77,
            })
        };
        assert_eq!(
            (entry.original.icmp, entry.reply.icmp),
            (icmp(request), icmp(reply))
        );
        assert_eq!(
            (entry.original.source_port, entry.reply.destination_port),
            (None, None)
        );
    }
}

#[test]
fn protocols_have_conntracks_names() {
    for (number, name) in [(6, "tcp"), (136, "udplite"), (47, "gre"), (89, "unknown")] {
        assert_eq!(protocol_name(number), name);
    }
}

#[test]
fn rules_are_in_the_order_of_names_and_ports() {
    let (state, _) = fixtures::state();
    let port = |protocol, first: u16, hits| TranslatedPort {
        network: Some(fixtures::id(1)),
        mapping: PortMapping {
            id: MappingId(hits),
            protocol,
            external: None,
            ports: first..=first + 2,
            zone: Zone(1),
            target: [10, 0, 0, 2].into(),
            target_port: 80,
        },
        hits,
    };
    let view = TranslationView {
        kind: TableKind::Uplink,
        addresses: vec![[192, 0, 2, 1].into()],
        networks: vec![TranslatedNetwork {
            network: Some(fixtures::id(1)),
            zone: Zone(1),
            prefixes: vec!["10.0.0.0/24".parse().expect("a prefix")],
            egress: Egress::Routed { open: false },
            filtering: None,
            connections: 4,
        }],
        ports: vec![
            port(IpProtocol::UDP, 8000, 1),
            port(IpProtocol::TCP, 9000, 2),
            port(IpProtocol::TCP, 8000, 3),
        ],
        connections: 5,
        drops: vec![("invalid", 2)],
        other: vec![("created", 7)],
    };
    // Of what is between networks only the ports are rules.
    let inside = TranslationView {
        kind: TableKind::Inside,
        ports: vec![port(IpProtocol::TCP, 8000, 4)],
        ..view.clone()
    };
    let info = nat_info(&state, vec![inside, view]);
    let hits: Vec<u64> = info.ports.iter().map(|port| port.hits).collect();
    assert_eq!(hits, [3, 4, 2, 1]);
    assert_eq!(
        (info.ports[1].from.as_str(), info.external_addresses.len()),
        ("inside", 1)
    );
    assert_eq!(info.connections, 10);
    assert_eq!(
        to_value(&info.networks).expect("it is JSON"),
        json!([{
            "Network": "net", "NetworkID": "01".repeat(32), "Zone": 1, "Prefixes": ["10.0.0.0/24"],
            "Egress": {"Mode": "routed", "Open": false}, "Connections": 4
        }])
    );
    assert_eq!(
        to_value(&info.ports[0]).expect("it is JSON"),
        json!({
            "From": "outside", "Protocol": "tcp", "External": null, "Port": 8000, "Count": 3, "Target": "10.0.0.2", "TargetPort": 80,
            "Network": "net", "NetworkID": "01".repeat(32), "Sandbox": "web", "Hits": 3
        })
    );
    assert_eq!(
        to_value(&info.counters).expect("it is JSON"),
        json!({"created": 14, "invalid": 4})
    );
}

fn view(protocol: IpProtocol, query: u8) -> ConnView {
    let address = |text: &str| Address::from(text.parse::<IpAddr>().expect("an address"));
    let original = Tuple {
        src: address("10.0.0.2"),
        dst: address("198.51.100.2"),
        src_port: 77,
        dst_port: 80,
        zone: Zone(1),
        protocol: protocol.0,
        query,
    };
    ConnView {
        original,
        reply: Tuple {
            dst: address("198.51.100.1"),
            ..original.inverted().in_zone(Zone::OUTSIDE)
        },
        state: (protocol == IpProtocol::TCP).then_some("ESTABLISHED"),
        is_replied: true,
        is_assured: false,
        remaining: Duration::from_millis(5500),
        traffic: [(3, 180), (2, 120)].map(|(packets, bytes)| Traffic { packets, bytes }),
        mapping: None,
    }
}

fn zones(zone: Zone) -> Option<NetworkId> {
    (zone == Zone(1)).then(|| fixtures::id(1))
}
