//! What containers may not reach by the device either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Scene, at};
use crate::support::{
    agent::{Role, Service},
    outside::{Outside, Place},
};

/// A cloud's that is not link-local, one by IPv6, and the link-local one, which the host's sockets carry.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
];

#[test]
fn r_lim_6_metadata_addresses_are_closed_by_the_device_too_unless_allowed() {
    let cases = [
        ("", None),
        ("-o outbound_denied=reset", Some("ConnectionRefused")),
        ("-o allow_metadata=true", Some("connected")),
    ];
    for (option, expected) in cases {
        let Some(outside) = Outside::with_device() else {
            return;
        };
        let Some(scene) = Scene::on(outside, option, "") else {
            return;
        };
        let (_server, port) = scene.serve(Place::Outside, Service::Echo);
        for address in METADATA {
            let add = format!("ip address add {address} dev lo");
            scene.outside.ok(Place::Outside, &add);
            let to = at(address, port);
            let word = scene.daemon.act("web", &Role::Connect { to });
            match expected {
                Some(expected) => assert_eq!(word, expected, "{option}: {to}"),
                // ICMP's `prohibited` has a different error number in each family and code.
                None => {
                    let denied = ["HostUnreachable", "NetworkUnreachable", "PermissionDenied"];
                    assert!(denied.contains(&word.as_str()), "{to}: {word}");
                }
            }
        }
    }
}
