//! The real docker client, where there is one, against the real daemon.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::support::{
    daemon::{Daemon, Outcome, split},
    skip,
};

#[test]
fn the_docker_client_sees_published_ports() {
    let Some(program) = docker() else { return };
    let Some(mut daemon) = Daemon::start() else { return };
    let host = format!("unix://{}", daemon.socket().display());
    let ok = |words: &[&str]| {
        let outcome = docker_command(&program, &host, words);
        assert_eq!(outcome.code, 0, "docker {words:?}: {outcome:?}");
        outcome.stdout.trim().to_owned()
    };
    // Other tests are on this host's loopback, too: only the kernel knows a free port.
    daemon.run("one", "-p 127.0.0.1::80 -p 127.0.0.1::53/udp");
    daemon.run("two", "");
    let address = ok(&["port", "one", "80"]);
    let number = address.strip_prefix("127.0.0.1:").expect("the address");
    assert!(number.parse::<u16>().is_ok(), "{address}");
    assert_eq!(ok(&["port", "one", "80/tcp"]), address);
    assert_eq!(daemon.ok("port one 80").trim(), address);
    // Debian's client does not sort them.
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&ok(&["port", "one"])), sorted(&daemon.ok("port one")));
    assert_eq!(ok(&["port", "two"]), "");
    let missing = docker_command(&program, &host, &["port", "one", "81"]);
    assert!(
        missing.code == 1 && missing.stderr.contains("No public port '81"),
        "{missing:?}"
    );
    let listed = ok(&["ps", "--filter", "name=one", "--format", "{{.Ports}}"]);
    assert!(listed.contains(&format!("{address}->80/tcp")), "{listed}");
    let ours = daemon.ok("ps");
    assert!(ours.contains(&listed), "{listed}: {ours}");
    let inspected = ok(&["inspect", "-f", "{{json .NetworkSettings.Ports}}", "one"]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).expect("this is JSON");
    assert_eq!(
        inspected["80/tcp"],
        serde_json::json!([{"HostIp": "127.0.0.1", "HostPort": number}])
    );
    daemon.ok("unpublish one 80");
    assert_eq!(ok(&["port", "one"]).lines().count(), 1);
}

#[test]
fn the_docker_client_manages_networks_and_sees_sandboxes() {
    let Some(program) = docker() else { return };
    let Some(mut daemon) = Daemon::start() else { return };
    let host = format!("unix://{}", daemon.socket().display());
    let docker = |words: &str| docker_command(&program, &host, &split(words));
    let ok = |words: &str| {
        let outcome = docker(words);
        assert_eq!(outcome.code, 0, "docker {words}: {outcome:?}");
        outcome.stdout.trim().to_owned()
    };
    let id = ok("network create --subnet 10.88.0.0/24 --gateway 10.88.0.1 --label a=b lan");
    assert_eq!(daemon.inspect("lan")["Id"], id.as_str());
    assert_eq!(ok("network inspect -f {{.Id}} lan"), id);
    assert_eq!(ok("network ls -q --no-trunc --filter label=a=b"), id);
    assert_eq!(
        ok("network ls --format {{.Name}}").lines().collect::<Vec<_>>(),
        ["bridge", "host", "lan", "none"]
    );

    daemon.run("one", "--network lan --ip 10.88.0.2");
    daemon.run("two", "");
    daemon.no_ping("one", "172.17.0.3");
    ok("network connect --ip 10.88.0.3 --alias www lan two");
    daemon.ping("one", "10.88.0.3");
    let format =
        "network inspect -f {{range.Containers}}{{.Name}}={{.IPv4Address}}={{.MacAddress}};{{end}} lan";
    let mut members: Vec<String> = ok(format).split_terminator(';').map(str::to_owned).collect();
    members.sort();
    assert_eq!(
        members,
        [
            "one=10.88.0.2/24=02:42:0a:58:00:02",
            "two=10.88.0.3/24=02:42:0a:58:00:03"
        ]
    );
    let mut listed: Vec<String> = ok("ps --format {{.Names}}:{{.State}}:{{.Networks}}")
        .lines()
        .map(str::to_owned)
        .collect();
    listed.sort();
    assert_eq!(listed[0], "one:running:lan");
    // The client walks a Go map, whose order is random.
    assert!(
        ["two:running:bridge,lan", "two:running:lan,bridge"].contains(&&*listed[1]),
        "{listed:?}"
    );
    assert_eq!(
        ok("inspect -f {{.State.Pid}}:{{.NetworkSettings.Networks.lan.IPAddress}} two"),
        format!("{}:10.88.0.3", daemon.sandbox_pid("two"))
    );

    let refused = docker("network rm lan");
    assert!(
        refused.code == 1 && refused.stderr.contains("network lan has active endpoints"),
        "{refused:?}"
    );
    ok("network disconnect lan two");
    daemon.no_ping("one", "10.88.0.3");
    assert_eq!(daemon.probe("two", "eth1"), None);
    ok("network disconnect lan one");
    assert_eq!(ok("network rm lan"), "lan");
    let reason = daemon.refused("network inspect lan");
    assert!(reason.contains("network lan not found"), "{reason}");
}

/// Runs the docker client to its end.
fn docker_command(program: &Path, host: &str, words: &[&str]) -> Outcome {
    let mut command = Command::new(program);
    command
        .args(words)
        .env("DOCKER_HOST", host)
        .env("DOCKER_CONFIG", "/nonexistent")
        .env_remove("DOCKER_CONTEXT")
        .stdin(Stdio::null());
    Outcome::of(&mut command)
}

/// The docker client, or a visible reason why its test is skipped.
fn docker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|directory| directory.join("docker"))
        .find(|file| file.is_file());
    if found.is_none() {
        skip(format_args!("there is no docker client in PATH"));
    }
    found
}
