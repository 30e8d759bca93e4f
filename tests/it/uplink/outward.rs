//! What containers begin.

use super::{BOTH_TRANSPORTS, FAR, GATEWAYS, INNER, OPEN, SECOND, Scene, UPLINK, at, is_ours};
use crate::support::{
    agent::{Dialogue, PAGE, Role, Service, Transport},
    outside::{BOTH, NEAR4, NEAR6, Outside, Place},
};

#[test]
fn containers_of_two_networks_leave_by_one_device_with_its_address() {
    let Some(scene) = Scene::new("") else { return };
    let server = scene.introduce_outside(Place::Far);
    for sandbox in ["web", "app"] {
        for (version, far) in FAR.into_iter().enumerate() {
            scene.daemon.ping(sandbox, &far.to_string());
            let mut seen = Vec::new();
            for (transport, name) in BOTH_TRANSPORTS {
                let who = scene.visit_from(sandbox, at(far, INNER), transport);
                assert!(
                    is_ours(&who, version, &format!(" {INNER}")),
                    "{sandbox} {name}: {who}"
                );
                assert!(is_ours(&server.word(), version, ""), "{sandbox} {name}");
                seen.push(who);
            }
            // N-PORT-3: a host inside has one address outside.
            assert_eq!(seen[0], seen[1], "{sandbox}");
        }
    }
    // The machine on the link itself needs no gateway, and the other network is as far as ever.
    scene.daemon.ping("web", &NEAR4.to_string());
    scene.daemon.ping("web", &NEAR6.to_string());
    scene.daemon.no_ping("web", "10.91.0.2");
    for own in UPLINK.into_iter().chain(SECOND) {
        scene.daemon.ping("web", &own.to_string());
        scene.outside.ok(Place::Far, &format!("ping -n -c 1 -W 5 {own}"));
    }
}

#[test]
fn bulk_goes_both_ways_at_once_unchanged() {
    let Some(scene) = Scene::new("") else { return };
    let bytes = 20 << 20;
    let (server, port) = scene.serve(Place::Far, Service::Exchange { send: bytes });
    for far in FAR {
        let role = Role::Dial {
            to: at(far, port),
            dialogue: Dialogue::Exchange {
                send: bytes,
                receive: bytes,
            },
            connections: 1,
        };
        assert_eq!(scene.daemon.act("web", &role), "complete", "{far}");
        assert!(server.word().starts_with("from "));
        assert_eq!(server.word(), bytes.to_string(), "{far}");
    }
}

#[test]
fn programs_that_people_run() {
    let Some(scene) = Scene::new("") else { return };
    if !["curl", "ping", "traceroute"]
        .iter()
        .all(|program| scene.has(program))
    {
        return;
    }
    let (_web, http) = scene.serve(Place::Far, Service::Http);
    let (ftp, port) = scene.serve(Place::Far, Service::Ftp);
    for (version, (far, gateway)) in FAR.into_iter().zip(GATEWAYS).enumerate() {
        let page = scene.inside(
            "web",
            &format!("curl -sS --max-time 20 http://{}/", at(far, http)),
        );
        assert_eq!((page.code, page.stdout.as_str()), (0, PAGE), "{page:?}");
        let file = scene.inside(
            "web",
            &format!("curl -sS --max-time 20 ftp://{}/file", at(far, port)),
        );
        assert_eq!((file.code, file.stdout.as_str()), (0, PAGE), "{file:?}");
        let words = [ftp.word(), ftp.word(), ftp.word()];
        assert!(is_ours(&words[0], version, ""), "{words:?}");
        assert_eq!(words[1..], [format!("data {}", words[0]), "fetched".to_owned()]);
        // In fragments, too.
        for size in [56, 4000] {
            let ping = scene.inside("web", &format!("ping -n -c 1 -W 5 -s {size} {far}"));
            assert_eq!(ping.code, 0, "{size}: {ping:?}");
        }
        let trace = scene.inside("web", &format!("traceroute -n -q 1 -w 2 {far}"));
        let router = if far.is_ipv4() { NEAR4.into() } else { NEAR6.into() };
        let hops: Vec<&str> = trace
            .stdout
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        assert_eq!(
            hops,
            [gateway, router, far].map(|hop| hop.to_string()),
            "{trace:?}"
        );
    }
    // Active mode would need somebody to read along (N-ALG-1): nobody does.
}

#[test]
fn names_are_resolved_outside_and_by_the_gateway() {
    let Some(outside) = Outside::with_device() else {
        return;
    };
    outside.resolve_by(&[FAR[0]]);
    let Some(scene) = Scene::on(outside, "", "") else {
        return;
    };
    let answer = [203, 0, 113, 80].into();
    let far = at(FAR[0], 53);
    let resolve = Role::Resolve { at: far, answer };
    let (_resolver, _) = scene.outside.server(Place::Far, &resolve);
    // The host's own way to the resolver is another one; a container's is the device, or its gateway's socket.
    for server in [far, at(GATEWAYS[0], 53)] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let query = Role::Query {
                server,
                name: "name.example".to_owned(),
                transport,
            };
            let heard = scene.daemon.act("web", &query);
            assert!(heard.contains("203.0.113.80"), "{server}: {heard}");
        }
    }
}

#[test]
fn a_narrow_path_is_discovered() {
    let Some(mut scene) = Scene::new(OPEN) else { return };
    // Beyond the router packets of 1400 bytes fit; it says so.
    scene.outside.ok(Place::Outside, "ip link set far0 mtu 1400");
    let bytes = 4 << 20;
    let (server, port) = scene.serve(Place::Far, Service::Exchange { send: 0 });
    for far in FAR {
        let ping = scene.inside("web", &format!("ping -n -c 2 -i 0.2 -W 2 -M do -s 1420 {far}"));
        let is_told = ping.stdout.contains("1400") || ping.stderr.contains("1400");
        assert!(ping.code != 0 && is_told, "{far}: {ping:?}");
        let upload = Role::Dial {
            to: at(far, port),
            dialogue: Dialogue::Exchange {
                send: bytes,
                receive: 0,
            },
            connections: 1,
        };
        assert_eq!(scene.daemon.act("app", &upload), "complete", "{far}");
        assert!(server.word().starts_with("from "));
        assert_eq!(server.word(), bytes.to_string());
    }
    // A network with a smaller MTU than the link: what comes in is made to fit (N-FWD-9).
    scene.outside.ok(Place::Outside, "ip link set far0 mtu 1500");
    scene.daemon.ok(
        "network create --subnet 10.92.0.0/24 --ipv6 --subnet fd92::/64 -o com.docker.network.driver.mtu=1300 narrow",
    );
    scene.daemon.run("small", "--network narrow");
    let (_server, port) = scene.serve(Place::Far, Service::Exchange { send: bytes });
    for far in FAR {
        let download = Role::Dial {
            to: at(far, port),
            dialogue: Dialogue::Exchange {
                send: 0,
                receive: bytes,
            },
            connections: 1,
        };
        assert_eq!(scene.daemon.act("small", &download), "complete", "{far}");
    }
}

#[test]
fn networks_may_choose_the_hosts_sockets() {
    let Some(mut scene) = Scene::new("") else { return };
    scene
        .daemon
        .ok("network create --subnet 10.93.0.0/24 -o vswitch.uplink=sockets by-host");
    scene.daemon.run("guest", "--network by-host");
    let server = scene.introduce_outside(Place::Outside);
    let host = crate::support::outside::HOST4;
    scene.visit_from("guest", at(BOTH[0], INNER), Transport::Tcp);
    assert_eq!(server.word(), format!("tcp from {host}"));
    scene.visit_from("web", at(BOTH[0], INNER), Transport::Tcp);
    assert!(is_ours(&server.word(), 0, ""));
}
