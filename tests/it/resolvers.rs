//! Who resolves a sandbox's names, and what the daemon says of the host at its start.

use std::fs;

use crate::support::{daemon::Daemon, skip};

#[test]
fn r_dns_1_a_sandbox_asks_its_gateway_where_that_leads_outside() {
    let Some(daemon) = Daemon::start() else { return };
    let Ok(host) = fs::read_to_string(HOSTS_OWN) else {
        skip(format_args!("the host has no {HOSTS_OWN}"));
        return;
    };
    daemon.ok("network create --subnet 10.84.0.0/24 --subnet fd84::/64 --ipv6 out");
    daemon.ok("network create --subnet 10.85.0.0/24 --internal in");
    for (networks, expected) in [
        ("out", Some("nameserver 10.84.0.1\nnameserver fd84::1\n")),
        ("in,out", Some("nameserver 10.84.0.1\nnameserver fd84::1\n")),
        ("bridge", Some("nameserver 172.17.0.1\n")),
        ("in", None),
        ("none", None),
    ] {
        let outcome = daemon.vswitch(&["run", "--network", networks, "--", "cat", HOSTS_OWN]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{networks}");
        match expected {
            Some(servers) => {
                assert!(outcome.stdout.starts_with(servers), "{networks}: {outcome:?}");
                let count = outcome.stdout.matches("nameserver").count();
                assert_eq!(
                    count,
                    servers.matches("nameserver").count(),
                    "{networks}: {outcome:?}"
                );
            }
            None => assert_eq!(outcome.stdout, host, "{networks}"),
        }
    }
}

#[test]
fn r_dns_2_the_daemon_knows_the_hosts_resolvers_before_it_is_ready() {
    let Some(daemon) = Daemon::start() else { return };
    // Whoever is answered asks a daemon that is ready.
    daemon.ok("info");
    let log = daemon.log();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text} in\n{log}"));
    assert!(at("name servers of the host") < at(" ready "), "{log}");
}

#[test]
fn r_icmp_1_a_host_that_forbids_ping_sockets_is_told_once() {
    let Some(daemon) = Daemon::start() else { return };
    let hint = "sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"";
    let info = daemon.ok("info");
    let told = daemon.log().matches(hint).count();
    assert!(told <= 1, "{}", daemon.log());
    let lines = info
        .lines()
        .filter(|line| line.starts_with("Hint: ") && line.ends_with(hint));
    assert_eq!(lines.count(), told, "{info}");
    if told == 0 {
        skip(format_args!(
            "this host allows ping sockets, so there is nothing to say"
        ));
    }
}

#[test]
fn flows_of_what_has_none_are_an_empty_table() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.run("box", "");
    for args in ["flows", "flows box", "flows bridge"] {
        let table = daemon.ok(args);
        assert!(
            table.starts_with("NETWORK   SANDBOX   PROTO   STATE"),
            "{args}: {table}"
        );
        assert_eq!(table.lines().count(), 1, "{args}: {table}");
    }
    assert_eq!(daemon.json("flows bridge"), serde_json::json!([]));
    assert_ne!(daemon.vswitch(&["flows", "nosuch"]).code, 0);
}

const HOSTS_OWN: &str = "/etc/resolv.conf";
