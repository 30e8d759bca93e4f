//! The walk-through that the README offers.

use crate::support::daemon::{Daemon, text};

#[test]
fn sandboxes_of_one_network_talk_and_another_joins_and_leaves() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 192.168.0.0/24 --gateway 192.168.0.1 my_net2");
    daemon.ok("network create --subnet 192.168.7.0/24 other");
    daemon.run("one", "--network my_net2 --ip 192.168.0.10");
    daemon.run("two", "--network my_net2 --ip 192.168.0.11");
    daemon.run("three", "--network other --ip 192.168.7.12");
    for address in ["192.168.0.11", "192.168.0.1"] {
        daemon.ping("one", address);
    }
    daemon.ping("two", "192.168.0.10");

    daemon.no_ping("three", "192.168.0.10");
    daemon.no_ping("one", "192.168.7.12");
    daemon.ok("network connect --ip 192.168.0.12 my_net2 three");
    daemon.ping("one", "192.168.0.12");
    daemon.ping("three", "192.168.0.11");
    assert_eq!(
        daemon.fdb("my_net2"),
        with_gateway(&daemon, "my_net2", &[ONE, TWO, THREE])
    );

    daemon.ok("network disconnect my_net2 three");
    assert_eq!(
        daemon.fdb("my_net2"),
        with_gateway(&daemon, "my_net2", &[ONE, TWO])
    );
    assert_eq!(daemon.probe("three", "eth1"), None);
    daemon.no_ping("one", "192.168.0.12");
    daemon.ping("three", "192.168.7.1");
}

#[test]
fn show_and_fdb_list_what_an_engineer_expects() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon
        .ok("network create --subnet 192.168.0.0/24 --gateway 192.168.0.1 --subnet fd42::/64 --ipv6 my_net2");
    daemon.run("one", "--network my_net2 --ip 192.168.0.10 --ip6 fd42::10");
    daemon.run("two", "--network my_net2 --ip 192.168.0.11");

    let bridge = daemon.json("show my_net2")[0].take();
    let gateway = text(&bridge["GatewayMac"]);
    let shown = daemon.ok("show my_net2");
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let id = format!("8000.{}", gateway.replace(':', ""));
    assert_eq!(lines.len(), 4, "{shown}");
    assert_eq!(&lines[1][..4], ["my_net2", &id, "-", "0"], "{shown}");
    assert_eq!(
        &lines[1][4..],
        [
            "gateway",
            "forwarding",
            "1500",
            &gateway,
            "192.168.0.1/24",
            "fd42::1/64"
        ]
    );
    assert_eq!(
        lines[2],
        [
            "1",
            "one/eth0",
            "forwarding",
            "1500",
            ONE,
            "192.168.0.10/24",
            "fd42::10/64"
        ]
    );
    assert_eq!(lines[3][..5], ["2", "two/eth0", "forwarding", "1500", TWO]);

    let fdb = daemon.ok("fdb my_net2");
    for (mac, port, name, kind) in [
        (gateway.as_str(), "0", "gateway", "local"),
        (ONE, "1", "one/eth0", "static"),
        (TWO, "2", "two/eth0", "static"),
    ] {
        let row = ["my_net2", mac, "-", port, name, kind, "-"];
        let found = |line: &str| line.split_whitespace().eq(row);
        assert!(fdb.lines().any(found), "{row:?} is not in\n{fdb}");
    }
    assert_eq!(fdb.lines().count(), 4, "{fdb}");
}

/// From the addresses, as Docker made them.
const ONE: &str = "02:42:c0:a8:00:0a";
const TWO: &str = "02:42:c0:a8:00:0b";
const THREE: &str = "02:42:c0:a8:00:0c";

/// The forwarding entries of a network with these stations.
fn with_gateway(daemon: &Daemon, network: &str, stations: &[&str]) -> Vec<(String, String)> {
    let gateway = text(&daemon.json(&format!("show {network}"))[0]["GatewayMac"]);
    let stations = stations.iter().map(|&mac| (mac.to_owned(), "static".to_owned()));
    let mut rows: Vec<_> = stations.chain([(gateway, "local".to_owned())]).collect();
    rows.sort();
    rows
}

#[test]
fn a_whole_name_wins_over_the_start_of_an_id() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.run("web", "");
    let id = text(&daemon.inspect("web")["Id"]);
    let start = &id[..4];
    daemon.ok(&format!("network create {start}"));
    assert_eq!(text(&daemon.inspect(start)["Name"]), start);
    let rows = daemon.json(&format!("stats {start}"));
    assert!(
        rows.as_array()
            .is_some_and(|rows| !rows.is_empty() && rows.iter().all(|row| row["Network"] == start)),
        "{rows}"
    );
    assert_eq!(text(&daemon.inspect(&id[..5])["Name"]), "/web");
}
