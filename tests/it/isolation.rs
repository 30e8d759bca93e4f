//! Several networks at once, and sandboxes on more than one of them.

use std::net::IpAddr;

use crate::support::{daemon::Daemon, ip};

#[test]
fn networks_on_two_workers_serve_their_own_containers_only() {
    let Some(mut daemon) = Daemon::start_with(&["--workers", "2"]) else {
        return;
    };
    assert_eq!(daemon.json("info")["Workers"], 2);
    for network in 1..=4 {
        daemon.ok(&format!(
            "network create --subnet 10.87.{network}.0/24 --subnet fd87:{network}::/64 --ipv6 net{network}"
        ));
        for host in [2, 3] {
            let flags =
                format!("--network net{network} --ip 10.87.{network}.{host} --ip6 fd87:{network}::{host}");
            daemon.run(&format!("s{network}{host}"), &flags);
        }
    }
    for network in 1..=4 {
        let sandbox = format!("s{network}2");
        daemon.ping(&sandbox, &format!("10.87.{network}.3"));
        daemon.ping(&sandbox, &format!("fd87:{network}::3"));
        let next = network % 4 + 1;
        daemon.no_ping(&sandbox, &format!("10.87.{next}.3"));
        assert_eq!(daemon.fdb(&format!("net{network}")).len(), 3);
    }
    assert_eq!(
        daemon.json("show").as_array().map(Vec::len),
        Some(5),
        "and `bridge`"
    );
    daemon.no_ping("s12", "fd87:2::3");
}

#[test]
fn networks_with_the_same_addresses_inside_do_not_mix() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.87.0.0/24 first");
    daemon.run("one", "--network first --ip 10.87.0.2 --mac 02:00:00:00:00:99");
    // Subnets must differ; MAC addresses need not.
    daemon.ok("network create --subnet 10.87.1.0/24 second");
    daemon.run("two", "--network second --ip 10.87.1.2 --mac 02:00:00:00:00:99");
    daemon.run("three", "--network second --ip 10.87.1.3");
    daemon.ping("three", "10.87.1.2");
    daemon.ping("one", "10.87.0.1");
    let sent = |name: &str| daemon.port(name)["TxFrames"].as_u64().expect("a number");
    let before = sent("one");
    daemon.ping("three", "10.87.1.2");
    assert_eq!(sent("one"), before, "the other network's frames");
}

#[test]
fn a_sandbox_on_two_networks_talks_on_both_and_routes_between_neither() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.87.1.0/24 left");
    daemon.ok("network create --subnet 10.87.2.0/24 right");
    daemon.run("both", "--network left:ip=10.87.1.2 --network right:ip=10.87.2.2");
    daemon.run("lefty", "--network left --ip 10.87.1.3");
    daemon.run("righty", "--network right --ip 10.87.2.3");
    daemon.ping("both", "10.87.1.3");
    daemon.ping("both", "10.87.2.3");
    daemon.ping("lefty", "10.87.1.2");
    daemon.ping("righty", "10.87.2.2");
    daemon.no_ping("lefty", "10.87.2.3");
    daemon.no_ping("righty", "10.87.1.3");
    let addresses = |interface| {
        let probed = daemon.probe("both", interface).expect("it is attached");
        probed.addresses
    };
    assert_eq!(addresses("eth0"), [crate::support::net("10.87.1.2/24")]);
    assert_eq!(addresses("eth1"), [crate::support::net("10.87.2.2/24")]);
}

#[test]
fn default_routes_follow_connect_and_disconnect() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.87.1.0/24 beta");
    daemon.ok("network create --subnet 10.87.2.0/24 alpha");
    daemon.ok("network create --internal --subnet 10.87.3.0/24 aaa-internal");
    daemon.run("one", "--network beta");
    assert_eq!(gateways(&daemon, &["eth0"]), [vec![ip("10.87.1.1")]]);

    // Docker's choice: the first name that leads outside.
    daemon.ok("network connect alpha one");
    assert_eq!(
        gateways(&daemon, &["eth0", "eth1"]),
        [vec![], vec![ip("10.87.2.1")]]
    );
    daemon.ok("network connect aaa-internal one");
    assert_eq!(
        gateways(&daemon, &["eth0", "eth1", "eth2"]),
        [vec![], vec![ip("10.87.2.1")], vec![]]
    );
    daemon.ok("network disconnect alpha one");
    assert_eq!(
        gateways(&daemon, &["eth0", "eth2"]),
        [vec![ip("10.87.1.1")], vec![]]
    );
    daemon.ping("one", "10.87.1.1");
    daemon.ping("one", "10.87.3.1");
    daemon.ok("network disconnect beta one");
    assert_eq!(gateways(&daemon, &["eth2"]), [[] as [IpAddr; 0]]);

    // The lowest free name is used again.
    daemon.ok("network connect alpha one");
    assert_eq!(gateways(&daemon, &["eth0"]), [vec![ip("10.87.2.1")]]);
}

/// The default gateways by interface of sandbox `one`.
#[track_caller]
fn gateways(daemon: &Daemon, interfaces: &[&str]) -> Vec<Vec<IpAddr>> {
    let probe = |interface: &&str| daemon.probe("one", interface).expect("it is attached");
    interfaces
        .iter()
        .map(|interface| probe(interface).default_gateways)
        .collect()
}
