//! Which connections a filter means, and what becomes of events that nobody takes.

use std::time::Duration;

use vswitch_nat::{Address, Traffic};

use super::*;

#[test]
fn an_empty_filter_means_everything() {
    assert!(ConnFilter::default().matches(&row()));
}

#[test]
fn each_condition_must_fit() {
    let net = |text: &str| Some(text.parse::<IpNet>().expect("a prefix"));
    let original = |ends: EndsFilter| ConnFilter {
        original: ends,
        ..ConnFilter::default()
    };
    let reply = |ends: EndsFilter| ConnFilter {
        reply: ends,
        ..ConnFilter::default()
    };
    let ends = EndsFilter::default;
    let any = ConnFilter::default;
    let cases = [
        (
            "family",
            ConnFilter {
                family: Some(Family::Ipv4),
                ..any()
            },
            true,
        ),
        (
            "other family",
            ConnFilter {
                family: Some(Family::Ipv6),
                ..any()
            },
            false,
        ),
        (
            "protocol",
            ConnFilter {
                protocol: Some(IpProtocol::TCP),
                ..any()
            },
            true,
        ),
        (
            "other protocol",
            ConnFilter {
                protocol: Some(IpProtocol::UDP),
                ..any()
            },
            false,
        ),
        (
            "state",
            ConnFilter {
                state: Some("established".into()),
                ..any()
            },
            true,
        ),
        (
            "other state",
            ConnFilter {
                state: Some("CLOSE".into()),
                ..any()
            },
            false,
        ),
        (
            "assured",
            ConnFilter {
                status: Some(Status::Assured),
                ..any()
            },
            true,
        ),
        (
            "seen reply",
            ConnFilter {
                status: Some(Status::SeenReply),
                ..any()
            },
            true,
        ),
        (
            "unreplied",
            ConnFilter {
                status: Some(Status::Unreplied),
                ..any()
            },
            false,
        ),
        (
            "network",
            ConnFilter {
                network: Some(network(1)),
                ..any()
            },
            true,
        ),
        (
            "other network",
            ConnFilter {
                network: Some(network(2)),
                ..any()
            },
            false,
        ),
        (
            "host",
            ConnFilter {
                hosts: Some(vec![host(1, "10.0.0.2")]),
                ..any()
            },
            true,
        ),
        (
            "same address elsewhere",
            ConnFilter {
                hosts: Some(vec![host(2, "10.0.0.2")]),
                ..any()
            },
            false,
        ),
        (
            "outside is no host",
            ConnFilter {
                hosts: Some(vec![host(1, "198.51.100.2")]),
                ..any()
            },
            false,
        ),
        (
            "no host",
            ConnFilter {
                hosts: Some(Vec::new()),
                ..any()
            },
            false,
        ),
        (
            "source",
            original(EndsFilter {
                src: net("10.0.0.2/32"),
                ..ends()
            }),
            true,
        ),
        (
            "source prefix",
            original(EndsFilter {
                src: net("10.0.0.0/8"),
                ..ends()
            }),
            true,
        ),
        (
            "other source",
            original(EndsFilter {
                src: net("10.0.0.3/32"),
                ..ends()
            }),
            false,
        ),
        (
            "source of IPv6",
            original(EndsFilter {
                src: net("::/0"),
                ..ends()
            }),
            false,
        ),
        (
            "destination",
            original(EndsFilter {
                dst: net("198.51.100.2/32"),
                ..ends()
            }),
            true,
        ),
        (
            "ports",
            original(EndsFilter {
                src_port: Some(5000),
                dst_port: Some(80),
                ..ends()
            }),
            true,
        ),
        (
            "other port",
            original(EndsFilter {
                dst_port: Some(81),
                ..ends()
            }),
            false,
        ),
        (
            "reply source",
            reply(EndsFilter {
                src: net("198.51.100.2/32"),
                ..ends()
            }),
            true,
        ),
        (
            "reply destination",
            reply(EndsFilter {
                dst: net("198.51.100.1/32"),
                ..ends()
            }),
            true,
        ),
        (
            "inside is no reply destination",
            reply(EndsFilter {
                dst: net("10.0.0.2/32"),
                ..ends()
            }),
            false,
        ),
        (
            "reply ports",
            reply(EndsFilter {
                src_port: Some(80),
                dst_port: Some(5000),
                ..ends()
            }),
            true,
        ),
    ];
    for (name, filter, expected) in cases {
        assert_eq!(filter.matches(&row()), expected, "{name}");
    }
}

#[test]
fn the_identifier_of_a_query_is_no_port() {
    let mut row = row();
    row.view.original = Tuple {
        protocol: IpProtocol::ICMP.0,
        query: 8,
        ..row.view.original
    };
    let filter = ConnFilter {
        original: EndsFilter {
            src_port: Some(5000),
            ..EndsFilter::default()
        },
        ..ConnFilter::default()
    };
    assert!(!filter.matches(&row));
}

#[test]
fn what_a_watcher_does_not_take_is_counted_and_told_first() {
    let (watcher, mut events) = Watcher::with_room(ConnFilter::default().into(), 2);
    for _ in 0..5 {
        watcher.tell(&Event::New(row().view), zones);
    }
    let new = || Some(ConnEvent::New(row()));
    assert_eq!(next(&mut events), Some(ConnEvent::Lost(3)));
    assert_eq!([next(&mut events), next(&mut events)], [new(), new()]);
    watcher.tell(&Event::Updated(row().view), zones);
    assert_eq!(
        next(&mut events),
        Some(ConnEvent::Updated(row())),
        "and no further loss"
    );
    watcher.tell_lost(7);
    assert_eq!(
        next(&mut events),
        Some(ConnEvent::Lost(7)),
        "of the translation's own"
    );
    drop(watcher);
    assert_eq!(next(&mut events), None);
}

#[test]
fn what_a_filter_keeps_out_takes_no_room() {
    let filter = ConnFilter {
        protocol: Some(IpProtocol::UDP),
        ..ConnFilter::default()
    };
    let (watcher, mut events) = Watcher::with_room(filter.into(), 1);
    for _ in 0..5 {
        watcher.tell(&Event::New(row().view), zones);
    }
    let mut datagrams = row().view;
    datagrams.original.protocol = IpProtocol::UDP.0;
    watcher.tell(&Event::Destroyed(datagrams), zones);
    assert!(matches!(next(&mut events), Some(ConnEvent::Destroyed(_))));
    assert!(!watcher.is_gone());
    drop(events);
    assert!(watcher.is_gone());
}

/// What is there already.
fn next(events: &mut ConnEvents) -> Option<ConnEvent> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(events.recv())
}

fn row() -> ConnRow {
    let address = |text: &str| Address::from(text.parse::<IpAddr>().expect("an address"));
    let original = Tuple {
        src: address("10.0.0.2"),
        dst: address("198.51.100.2"),
        src_port: 5000,
        dst_port: 80,
        zone: Zone(1),
        protocol: IpProtocol::TCP.0,
        query: 0,
    };
    let reply = Tuple {
        dst: address("198.51.100.1"),
        ..original.inverted().in_zone(Zone::OUTSIDE)
    };
    let view = ConnView {
        original,
        reply,
        state: Some("ESTABLISHED"),
        is_replied: true,
        is_assured: true,
        remaining: Duration::from_secs(5),
        traffic: [Traffic::default(); 2],
        mapping: None,
    };
    ConnRow::new(view, zones)
}

fn zones(zone: Zone) -> Option<NetworkId> {
    (zone == Zone(1)).then(|| network(1))
}

fn network(byte: u8) -> NetworkId {
    crate::control::fixtures::id(byte)
}

fn host(byte: u8, address: &str) -> (NetworkId, IpAddr) {
    (network(byte), address.parse().expect("an address"))
}
