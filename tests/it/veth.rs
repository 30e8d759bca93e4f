//! Containers whose interface is a veth: beside TAPs on one network, outside and published, and what becomes of
//! them when the daemon or the interface goes.

use std::net::SocketAddr;

use vswitch::{
    io::{
        attach::{AttachError, AttachRequest, Origin},
        device::Device,
        netlink::LinkDriver,
        netns::NetnsTarget,
    },
    model::LinkKind,
};
use vswitch_wire::{Abilities, MacAddr};

use crate::support::{
    MAC,
    agent::{Dialogue, Role, Service},
    attacher,
    daemon::{Daemon, PATIENCE, text},
    eth0, idle_sandbox, ip, namespaces_and_tap, net,
    outside::{ANY, BOTH, HOST4, Outside, Place},
    target, within, without_duplicate_address_detection,
};

#[test]
fn an_attached_veth_is_as_configured_and_usable_at_once() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let attached = attacher().attach(&veth(target(&sandbox))).expect("attached");
    assert_eq!(attached.origin, Origin::Created);
    let Device::Packet(socket) = &attached.device else {
        panic!("{:?} is no veth", attached.device);
    };
    assert_eq!(socket.abilities(), Abilities::ALL);
    let found = attacher()
        .probe(&target(&sandbox), "eth0")
        .expect("probed")
        .expect("eth0 exists");
    assert_eq!((found.index, found.mac, found.mtu), (attached.index, MAC, 1400));
    assert!(found.driver == LinkDriver::Veth && found.is_up, "{found:?}");
    for address in [net("10.9.0.2/24"), net("fd09::2/64")] {
        assert!(found.addresses.contains(&address), "{:?}", found.addresses);
    }
    without_duplicate_address_detection(&target(&sandbox));
    let mut gateways = found.default_gateways;
    gateways.sort();
    assert_eq!(gateways, [ip("10.9.0.1"), ip("fd09::1")]);
}

#[test]
fn a_veth_goes_with_its_socket_and_is_made_anew() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let probe = || attacher().probe(&target(&sandbox), "eth0").expect("probed");
    for _ in 0..5 {
        let attached = attacher().attach(&veth(target(&sandbox))).expect("attached");
        assert!(probe().is_some());
        drop(attached); // as the kernel does it for a killed process
    }
    within(PATIENCE, "the veth is gone", || probe().is_none());
}

#[test]
fn a_veth_that_is_served_and_what_is_not_ours_are_left_alone() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let request = veth(target(&sandbox));
    let first = attacher().attach(&request).expect("attached");
    let busy = attacher().attach(&request).expect_err("it is served");
    assert!(
        matches!(&busy, AttachError::Busy { name } if name == "eth0"),
        "{busy}"
    );
    let mut other = request.clone();
    other.link.mac = MacAddr([2, 0, 0, 0, 0, 9]);
    for kind in [LinkKind::Tap, LinkKind::Veth] {
        other.link.kind = kind;
        let taken = attacher().attach(&other).expect_err("the name is another's");
        assert!(
            matches!(&taken, AttachError::NameTaken { found, .. } if found.starts_with("veth, MAC 02:42:")),
            "{taken}"
        );
    }
    assert!(
        !attacher()
            .detach(&target(&sandbox), "eth0", other.link.mac)
            .expect("asked")
    );
    assert!(
        attacher()
            .detach(&target(&sandbox), "eth0", MAC)
            .expect("deleted")
    );
    let read = first
        .device
        .read(&mut [0; 100])
        .expect_err("the container's end is gone");
    assert!(first.device.is_lost(&read), "{read}");
    let tap = attacher().attach(&eth0(target(&sandbox))).expect("attached");
    let taken = attacher().attach(&request).expect_err("the name is a TAP's");
    assert!(
        matches!(&taken, AttachError::NameTaken { found, .. } if found.starts_with("TUN or TAP")),
        "{taken}"
    );
    drop(tap);
}

#[test]
fn containers_with_either_kind_of_interface_reach_each_other() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.83.0.0/24 --ipv6 --subnet fd83::/64 lan");
    daemon.run(
        "veth",
        "--network lan --ip 10.83.0.2 --ip6 fd83::2 --endpoint veth",
    );
    daemon.run("tap", "--network lan:ip=10.83.0.3,ip6=fd83::3,endpoint=tap");
    daemon.run("more", "--network lan:ip=10.83.0.4,ip6=fd83::4,endpoint=veth");
    let kinds = ["veth", "tap", "more"].map(|name| daemon.probe(name, "eth0").expect("it is there").driver);
    assert_eq!(kinds, [LinkDriver::Veth, LinkDriver::Tun, LinkDriver::Veth]);
    let shown = ["veth", "tap"].map(|name| {
        let options = &daemon.inspect(name)["NetworkSettings"]["Networks"]["lan"]["DriverOpts"];
        options["endpoint"].as_str().map(str::to_owned)
    });
    assert_eq!(shown, [Some("veth".to_owned()), None]);

    for address in [
        "10.83.0.1",
        "fd83::1",
        "10.83.0.3",
        "fd83::3",
        "10.83.0.4",
        "fd83::4",
    ] {
        daemon.ping("veth", address);
    }
    daemon.ping("tap", "10.83.0.2");
    daemon.ping("tap", "fd83::2");
    for (from, to, address) in [
        ("veth", "tap", "10.83.0.3"),
        ("tap", "veth", "fd83::2"),
        ("veth", "more", "fd83::4"),
    ] {
        let sink = daemon.agent(to, &Role::Sink);
        let to = SocketAddr::new(ip(address), sink.word().parse().expect("a port"));
        let source = Role::Source {
            to,
            limit: Some(BULK),
        };
        let sent = daemon.act(from, &source);
        assert_eq!(
            (sink.last_word(), sent),
            (BULK.to_string(), BULK.to_string()),
            "{from}"
        );
    }
    // Each has sent or received two bulks; in frames of MTU size that would be more than 1500 bytes a frame never.
    for (name, frames, bytes) in [("veth", "RxFrames", "RxBytes"), ("veth", "TxFrames", "TxBytes")] {
        let port = daemon.port(name);
        let count = |key: &str| port[key].as_u64().unwrap_or_else(|| panic!("{key} of {port}"));
        assert!(count(bytes) > BULK, "{port}");
        assert!(count(bytes) / count(frames) > 2000, "super-frames: {port}");
    }
}

#[test]
fn a_network_says_what_its_containers_get() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.83.0.0/24 -o endpoint=veth lan");
    daemon.run("one", "--network lan");
    daemon.run("two", "--network lan --endpoint tap");
    daemon.ok("network create --subnet 10.84.0.0/24 second");
    daemon.ok("network connect --endpoint veth second two");
    let driver = |name, interface| daemon.probe(name, interface).map(|found| found.driver);
    assert_eq!(driver("one", "eth0"), Some(LinkDriver::Veth));
    assert_eq!(driver("two", "eth0"), Some(LinkDriver::Tun));
    assert_eq!(driver("two", "eth1"), Some(LinkDriver::Veth));
    let reason = daemon.refused("network create -o endpoint=macvlan third");
    assert!(reason.contains("must be tap or veth"), "{reason}");
}

#[test]
fn the_next_daemon_makes_the_veths_of_a_killed_one_anew() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.83.0.0/24 --ipv6 --subnet fd83::/64 lan");
    daemon.run("one", "--network lan --endpoint veth");
    daemon.run("two", "--network lan --endpoint veth");
    daemon.run("tap", "--network lan");
    let before = seen(&daemon, "one");
    for _ in 0..2 {
        daemon.kill9();
        daemon.restart();
        assert_eq!(seen(&daemon, "one"), before);
        daemon.ping("one", "10.83.0.1");
        daemon.ping("one", "fd83::3");
        daemon.ping("tap", "10.83.0.2");
    }
    // Renamed interfaces lose their new name, as TAPs do.
    let renamed = daemon.vswitch(&["exec", "two", "--", "ip", "link", "set", "eth0", "name", "lan0"]);
    daemon.kill9();
    daemon.restart();
    daemon.ping("two", "10.83.0.2");
    assert!(renamed.code != 0 || daemon.probe("two", "lan0").is_none());
}

#[test]
fn a_veth_goes_at_once_and_may_come_back() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.83.0.0/24 lan");
    daemon.run("one", "--network lan --ip 10.83.0.2 --endpoint veth");
    daemon.run("two", "--network lan --ip 10.83.0.3 --endpoint veth");
    for _ in 0..3 {
        daemon.ok("network disconnect lan one");
        assert_eq!(daemon.probe("one", "eth0"), None);
        daemon.ok("network connect --ip 10.83.0.2 --endpoint veth lan one");
        daemon.ping("two", "10.83.0.2");
    }
    // The container deletes it.
    let mac = MacAddr([0x02, 0x42, 10, 83, 0, 2]);
    assert!(
        attacher()
            .detach(&daemon.target("one"), "eth0", mac)
            .expect("our sandbox")
    );
    within(PATIENCE, "the endpoint is removed", || {
        daemon
            .fdb("lan")
            .iter()
            .all(|(station, _)| station != "02:42:0a:53:00:02")
    });
    daemon.ok("network connect --ip 10.83.0.2 --endpoint veth lan one");
    daemon.ping("two", "10.83.0.2");
    // The container ends.
    daemon.kill_sandbox("one");
    within(PATIENCE, "the container is forgotten", || daemon.ps() == ["two"]);
    daemon.run("one", "--network lan --ip 10.83.0.2 --endpoint veth");
    daemon.ping("two", "10.83.0.2");
}

#[test]
fn a_container_with_a_veth_reaches_the_outside_and_is_reached() {
    let Some(outside) = Outside::new() else { return };
    let Some(mut daemon) = outside.daemon(&[]) else {
        return;
    };
    daemon.ok("network create --subnet 10.90.0.0/24 --ipv6 --subnet fd90::/64 lan");
    daemon.run("web", "--network lan --endpoint veth -p 8080:80");
    let (_server, port) = outside.server(
        Place::Outside,
        &Role::Serve {
            at: ANY,
            service: Service::Echo,
        },
    );
    for address in BOTH {
        let dial = dial((address, port).into());
        assert_eq!(daemon.act("web", &dial), BULK.to_string(), "{address}");
    }
    let server = daemon.agent(
        "web",
        &Role::Serve {
            at: SocketAddr::new(ANY.ip(), 80),
            service: Service::Echo,
        },
    );
    assert_eq!(server.word(), "80");
    let dial = dial((HOST4, 8080).into());
    assert_eq!(outside.agent(Place::Outside, &dial).last_word(), BULK.to_string());
}

fn dial(to: SocketAddr) -> Role {
    Role::Dial {
        to,
        dialogue: Dialogue::Echo { bytes: BULK },
        connections: 1,
    }
}

fn veth(target: NetnsTarget) -> AttachRequest {
    let mut request = eth0(target);
    request.link.kind = LinkKind::Veth;
    request
}

/// What a client and the container see of its only endpoint.
fn seen(daemon: &Daemon, name: &str) -> (String, String, Vec<String>) {
    let endpoint = &daemon.inspect(name)["NetworkSettings"]["Networks"]["lan"];
    let found = daemon.probe(name, "eth0").expect("it is there");
    let mut addresses: Vec<String> = found
        .addresses
        .iter()
        .filter(|net| !matches!(net.addr(), std::net::IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .map(ToString::to_string)
        .chain(found.default_gateways.iter().map(ToString::to_string))
        .collect();
    addresses.sort();
    (text(&endpoint["EndpointID"]), found.mac.to_string(), addresses)
}

/// Enough for TCP to open its window.
const BULK: u64 = 16 << 20;
