//! The real docker client, where there is one, against the real daemon.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::support::{
    daemon::{Daemon, Outcome, split},
    skip,
};

#[test]
fn the_docker_client_manages_networks_and_sees_sandboxes() {
    let Some(program) = docker() else { return };
    let Some(mut daemon) = Daemon::start() else { return };
    let socket = daemon.socket();
    let docker = |words: &str| {
        let mut command = Command::new(&program);
        command
            .args(split(words))
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("DOCKER_CONFIG", "/nonexistent")
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null());
        Outcome::of(&mut command)
    };
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
