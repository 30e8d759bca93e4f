//! A daemon that is killed, and the next one that takes over.

use std::{net::SocketAddr, process::Stdio, thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use vswitch::demo::AGENT;
use vswitch_wire::MacAddr;

use crate::support::{
    agent::{Agent, Role},
    attacher,
    daemon::{Daemon, PATIENCE, split},
    program, skip, within,
};

#[test]
fn a_connection_outlives_the_daemon() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.81.0.0/24 lan");
    daemon.run("client", "--network lan --ip 10.81.0.2");
    daemon.run("server", "--network lan --ip 10.81.0.3");
    let before = endpoints(&daemon);
    let devices = ["client", "server"].map(|name| daemon.probe(name, "eth0"));
    assert!(devices.iter().all(Option::is_some), "{devices:?}");
    let network = daemon.inspect("lan")["Id"].take();

    let sink = daemon.agent("server", &Role::Sink);
    let port = sink.word().parse().expect("a port");
    let to = SocketAddr::new([10, 81, 0, 3].into(), port);
    let source = daemon.agent("client", &Role::Source { to, limit: None });
    for _ in 0..4 {
        mebibytes(&sink);
    }
    daemon.kill9();
    daemon.restart();

    assert_eq!(endpoints(&daemon), before, "addresses, MAC addresses and ids");
    assert_eq!(daemon.inspect("lan")["Id"], network);
    let now = ["client", "server"].map(|name| daemon.probe(name, "eth0"));
    assert_eq!(now, devices, "the same devices, not new ones of the same name");
    // More than can have been under way: the server's receive buffer grows to 6 MiB (tcp_rmem).
    let resumed = mebibytes(&sink) + 16;
    while mebibytes(&sink) < resumed {}
    let sent = source.last_word();
    assert_eq!(sink.last_word(), sent, "bytes received and bytes sent");
    daemon.ping("server", "10.81.0.2");
}

#[test]
fn containers_that_ended_without_a_daemon_are_forgotten() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.81.0.0/24 lan");
    daemon.ok("network create --internal --label a=b empty");
    daemon.run("stays", "--network lan --ip 10.81.0.2");
    daemon.run("dies", "--network lan --ip 10.81.0.3");
    let networks = daemon.json("network ls");
    let empty = daemon.inspect("empty");

    daemon.kill9();
    daemon.kill_sandbox("dies");
    daemon.restart();
    assert_eq!(daemon.ps(), ["stays"]);
    assert_eq!(daemon.json("network ls"), networks);
    assert_eq!(daemon.inspect("empty"), empty);
    assert_eq!(stations(&daemon), ["02:42:0a:51:00:02"]);

    daemon.run("heir", "--network lan --ip 10.81.0.3");
    daemon.ping("stays", "10.81.0.3");
    daemon.ping("heir", "10.81.0.2");
}

#[test]
fn what_a_container_did_to_its_device_meanwhile_is_repaired_or_forgotten() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.81.0.0/24 lan");
    daemon.run("deletes", "--network lan --ip 10.81.0.2");
    daemon.run("other", "--network lan --ip 10.81.0.3");
    daemon.run("renames", "--network lan --ip 10.81.0.4");
    let target = daemon.target("deletes");
    let renamed = daemon.vswitch(&split("exec renames -- ip link set eth0 name lan0"));
    if renamed.code != 0 {
        skip(format_args!("renaming: {}", renamed.stderr.trim_end()));
    }
    daemon.kill9();
    let mac = MacAddr([0x02, 0x42, 10, 81, 0, 2]);
    let deleted = attacher().detach(&target, "eth0", mac);
    assert!(deleted.expect("our sandbox"), "it was there");
    daemon.restart();
    // The endpoint is what was asked for; a device that is missing is made again.
    daemon.ping("deletes", "10.81.0.3");
    daemon.ping("other", "10.81.0.2");
    // One that has another name gets its own back.
    assert!(daemon.probe("renames", "lan0").is_none());
    daemon.ping("renames", "10.81.0.3");
    daemon.ping("other", "10.81.0.4");
}

#[test]
fn a_daemon_that_is_killed_while_it_starts_a_sandbox_leaves_a_clean_state() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.81.0.0/24 lan");
    let program = program();
    let words = [
        "run",
        "--name",
        "victim",
        "--network",
        "lan",
        "--ip",
        "10.81.0.2",
        "--",
    ];
    let agent = [program.to_str().expect("UTF-8"), AGENT, "wait"];
    // Wherever it is hit: before the request, between its steps, or after the answer.
    for pause in [0, 5, 10, 20, 40, 80] {
        let mut client = daemon.client(&[&words[..], &agent].concat());
        client.stderr(Stdio::null()).stdout(Stdio::null());
        let mut client = client.spawn().expect("the client starts");
        thread::sleep(Duration::from_millis(pause));
        daemon.kill9();
        client.kill().expect("our child");
        client.wait().expect("our child");
        daemon.restart();
        within(PATIENCE, "the sandbox ends and is forgotten", || {
            // One that waits ends with its launcher; one that runs is still the daemon's.
            if let Some(pid) = victim(&daemon) {
                let _ = kill_process(pid, Signal::KILL);
            }
            daemon.ps().is_empty()
        });
        assert_eq!(stations(&daemon), [""; 0], "after {pause} ms");
    }
    daemon.run("heir", "--network lan --ip 10.81.0.2");
}

/// The process of the sandbox that the daemon may or may not know.
fn victim(daemon: &Daemon) -> Option<Pid> {
    let outcome = daemon.vswitch(&["inspect", "victim"]);
    let found: Value = serde_json::from_str(&outcome.stdout).ok()?;
    Pid::from_raw(found[0]["State"]["Pid"].as_i64()?.try_into().ok()?)
}

/// The number of the next MiB that has come.
fn mebibytes(sink: &Agent) -> u64 {
    sink.word().parse().expect("a number")
}

/// Everything that is known of the sandboxes' endpoints.
fn endpoints(daemon: &Daemon) -> Vec<Value> {
    ["client", "server"]
        .map(|name| daemon.inspect(name)["NetworkSettings"]["Networks"].take())
        .to_vec()
}

/// The containers' MAC addresses on `lan`.
fn stations(daemon: &Daemon) -> Vec<String> {
    let rows = daemon.fdb("lan").into_iter();
    rows.filter(|(_, kind)| kind != "local")
        .map(|(mac, _)| mac)
        .collect()
}
