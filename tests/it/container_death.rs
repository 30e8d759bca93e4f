//! Containers that end, and devices that they delete.

use std::fs::File;

use rustix::process::{Resource, Rlimit, setrlimit};
use vswitch::io::netns::Liveness;
use vswitch_wire::MacAddr;

use crate::support::{
    attacher,
    daemon::{Daemon, PATIENCE, text},
    in_sandbox, within,
};

#[test]
fn a_killed_container_leaves_nothing_and_its_address_is_free() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.82.0.0/24 lan");
    daemon.run("stays", "--network lan --ip 10.82.0.2");
    daemon.run("dies", "--network lan --ip 10.82.0.3");
    daemon.ping("stays", "10.82.0.3");
    daemon.kill_sandbox("dies");
    within(PATIENCE, "the container is forgotten", || {
        daemon.ps() == ["stays"]
    });
    assert_eq!(stations(&daemon), ["02:42:0a:52:00:02"]);
    assert_eq!(labels(&daemon), ["gateway", "stays/eth0"]);
    let reason = daemon.refused("inspect dies");
    assert!(reason.contains("no such sandbox or network: dies"), "{reason}");

    daemon.run("dies", "--network lan --ip 10.82.0.3");
    daemon.ping("stays", "10.82.0.3");
}

#[test]
fn a_network_is_free_once_its_last_container_has_died() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create lan");
    daemon.run("dies", "--network lan");
    daemon.kill_sandbox("dies");
    within(PATIENCE, "the container is forgotten", || daemon.ps().is_empty());
    daemon.ok("network rm lan");
}

#[test]
fn a_device_that_the_container_deletes_costs_it_its_endpoint_only() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.82.0.0/24 lan");
    daemon.ok("network create --subnet 10.82.1.0/24 second");
    daemon.run(
        "deletes",
        "--network lan:ip=10.82.0.2 --network second:ip=10.82.1.2",
    );
    daemon.run("other", "--network lan --ip 10.82.0.3");
    let mac = MacAddr([0x02, 0x42, 10, 82, 0, 2]);
    let deleted = attacher().detach(&daemon.target("deletes"), "eth0", mac);
    assert!(deleted.expect("our sandbox"), "it was there");
    within(PATIENCE, "the endpoint is removed", || {
        stations(&daemon) == ["02:42:0a:52:00:03"]
    });
    assert_eq!(labels(&daemon), ["gateway", "other/eth0"]);
    assert_eq!(daemon.ps(), ["deletes", "other"]);
    let container = daemon.inspect("deletes");
    let networks = container["NetworkSettings"]["Networks"]
        .as_object()
        .expect("a map");
    assert_eq!(networks.keys().collect::<Vec<_>>(), ["second"]);
    daemon.ping("deletes", "10.82.1.1");
    daemon.ping("other", "10.82.0.1");

    daemon.ok("network connect --ip 10.82.0.2 lan deletes");
    assert!(
        daemon.probe("deletes", "eth0").is_some(),
        "the name is free again"
    );
    daemon.ping("other", "10.82.0.2");
}

#[test]
fn a_lack_of_descriptors_is_not_taken_for_a_processes_end() {
    in_sandbox(
        "container_death::a_lack_of_descriptors_is_not_taken_for_a_processes_end",
        || {
            let limit = Rlimit {
                current: Some(64),
                maximum: Some(64),
            };
            setrlimit(Resource::Nofile, limit).expect("it is lowered");
            let mut all: Vec<File> = Vec::new();
            all.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
            // One for the process, none to read about it.
            all.pop().expect("some were opened");
            let outcome = Liveness::again(std::process::id(), 0);
            drop(all);
            let error = outcome.expect_err("nothing is known").to_string();
            assert!(error.contains("Too many open files"), "{error}");
        },
    );
}

/// The containers' MAC addresses on `lan`.
fn stations(daemon: &Daemon) -> Vec<String> {
    let rows = daemon.fdb("lan").into_iter();
    rows.filter(|(_, kind)| kind != "local")
        .map(|(mac, _)| mac)
        .collect()
}

/// What the ports of `lan` are called.
fn labels(daemon: &Daemon) -> Vec<String> {
    let bridge = daemon.json("show lan")[0].take();
    let ports = bridge["Ports"].as_array().expect("a list");
    ports.iter().map(|port| text(&port["Label"])).collect()
}
