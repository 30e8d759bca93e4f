//! Commands that are refused change nothing and say why, in Docker's words where it has some.

use serde_json::Value;

use crate::support::{
    MAC, attacher,
    daemon::{Daemon, text},
    eth0, idle_sandbox,
};

#[test]
fn refused_commands_change_nothing() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.84.0.0/24 lan");
    daemon.ok("network create --subnet 10.84.1.0/24 --subnet fd84::/64 --ipv6 dual");
    daemon.ok("network create automatic");
    daemon.run("one", "--network lan --ip 10.84.0.2");
    let prepared = idle_sandbox();
    let run = |flags: &str| format!("run -d {flags} -- true");
    let attach = |flags: &str| format!("attach --pid {} {flags}", prepared.pid());
    let before = everything(&daemon);
    for (words, reason) in [
        (
            "network create --subnet 10.84.0.128/25 x1".to_owned(),
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            "network create --subnet 10.80.0.0/12 x2".to_owned(),
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            "network create lan".to_owned(),
            "network with name lan already exists",
        ),
        (
            "network create --subnet 10.84.5.0/24 --gateway 10.84.6.1 x3".to_owned(),
            "no matching subnet for gateway 10.84.6.1",
        ),
        (
            "network create -d nosuch x4".to_owned(),
            "plugin \"nosuch\" not found",
        ),
        (
            "network create -o com.docker.network.driver.mtu=x x5".to_owned(),
            "com.docker.network.driver.mtu",
        ),
        (
            "network rm lan".to_owned(),
            "error while removing network: network lan has active endpoints (name:\"one\" id:",
        ),
        (
            "network rm bridge".to_owned(),
            "bridge is a pre-defined network and cannot be removed",
        ),
        ("network rm nosuch".to_owned(), "network nosuch not found"),
        ("network inspect nosuch".to_owned(), "network nosuch not found"),
        (
            "network connect nosuch one".to_owned(),
            "network nosuch not found",
        ),
        (
            "network connect lan nosuch".to_owned(),
            "No such container: nosuch",
        ),
        (
            "network connect lan one".to_owned(),
            "endpoint with name one already exists in network lan",
        ),
        (
            "network connect --ip 10.84.9.9 dual one".to_owned(),
            "no configured subnet or ip-range contain the IP address 10.84.9.9",
        ),
        (
            "network connect --ip 172.30.0.9 automatic one".to_owned(),
            "user specified IP address is supported only when connecting to networks with user configured \
             subnets",
        ),
        (
            "network connect --ip 10.84.1.1 dual one".to_owned(),
            "Address already in use",
        ),
        (
            "network connect --ifname eth0 dual one".to_owned(),
            "container one already has an interface named eth0",
        ),
        (
            "network disconnect dual one".to_owned(),
            "is not connected to network dual",
        ),
        (
            "network disconnect lan nosuch".to_owned(),
            "No such container: nosuch",
        ),
        ("detach nosuch".to_owned(), "No such container: nosuch"),
        ("exec nosuch true".to_owned(), "No such container: nosuch"),
        ("inspect nosuch".to_owned(), "no such sandbox or network: nosuch"),
        ("fdb nosuch".to_owned(), "network nosuch not found"),
        ("show nosuch".to_owned(), "network nosuch not found"),
        ("stats nosuch".to_owned(), "no such sandbox or network: nosuch"),
        ("flows nosuch".to_owned(), "no such sandbox or network: nosuch"),
        (
            run("--name two --network lan --ip 10.84.0.2"),
            "Address already in use",
        ),
        (
            run("--name two --network lan --ip 10.84.0.1"),
            "Address already in use",
        ),
        (
            run("--name two --network lan --ip 10.84.7.2"),
            "no configured subnet or ip-range contain the IP address 10.84.7.2",
        ),
        (
            run("--name two --network lan --mac 02:42:0a:54:00:02"),
            "MAC address 02:42:0a:54:00:02 is already in use on network lan",
        ),
        (
            run("--name two --network lan --network nosuch"),
            "network nosuch not found",
        ),
        // The second network fails after the first has been planned.
        (
            run("--name two --network dual --network lan:ip=10.84.0.2"),
            "Address already in use",
        ),
        (
            run("--name one --network lan"),
            "Conflict. The container name \"/one\" is already in use by container",
        ),
        (run("--name a/b"), "Invalid container name (a/b)"),
        (
            attach("--name one"),
            "Conflict. The container name \"/one\" is already in use by container",
        ),
        (
            attach("--name two --network lan:ip=10.84.0.2"),
            "Address already in use",
        ),
        (
            "attach --pid 4194305 --name two".to_owned(),
            "no process with id 4194305 is running",
        ),
        (
            "attach --netns /nonexistent --name two".to_owned(),
            "/nonexistent",
        ),
        (
            "attach --netns /proc/self/status --name two".to_owned(),
            "/proc/self/status",
        ),
    ] {
        let said = daemon.refused(&words);
        assert!(said.contains(reason), "vswitch {words}: {said}");
        assert_eq!(everything(&daemon), before, "after vswitch {words}");
    }
    // The client knows by itself that a group is no station.
    let outcome = daemon.vswitch(&["run", "-d", "--mac", "01:00:5e:00:00:01", "true"]);
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(
        outcome.stderr.contains("is not the address of one station"),
        "{outcome:?}"
    );
    assert_eq!(everything(&daemon), before);
    // Nothing was kept back, neither addresses nor names.
    daemon.ok(&attach(
        "--name two --network lan:ip=10.84.0.3 --network dual:ip=10.84.1.2",
    ));
}

#[test]
fn an_interface_name_that_the_container_uses_itself_is_refused() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.84.0.0/24 lan");
    daemon.ok("network create --subnet 10.84.1.0/24 second");
    daemon.run("one", "--network lan");
    // A device of the container's own: not ours, as its MAC address shows.
    let mut own = eth0(daemon.target("one"));
    own.link.name = "wan0".into();
    own.link.default_gateways.clear();
    let _served = attacher().attach(&own).expect("attached");
    let before = everything(&daemon);
    let said = daemon.refused("network connect --ifname wan0 second one");
    assert!(
        said.contains(
            "failed to set up container networking: the container has an interface wan0 of its own"
        ),
        "{said}"
    );
    let said = daemon.refused("network connect --ifname lo second one");
    assert!(said.contains("lo"), "{said}");
    assert_eq!(everything(&daemon), before);
    daemon.ok("network connect --ip 10.84.1.2 second one");
    daemon.ping("one", "10.84.1.1");
    let kept = daemon.probe("one", "wan0").expect("the container keeps its own");
    assert_eq!(kept.mac, MAC);
}

#[test]
fn a_process_that_has_ended_is_not_attached() {
    let Some(daemon) = Daemon::start() else { return };
    let sandbox = idle_sandbox();
    let pid = sandbox.pid();
    drop(sandbox);
    let before = everything(&daemon);
    let said = daemon.refused(&format!("attach --pid {pid} --name gone"));
    assert_eq!(said, format!("no process with id {pid} is running"));
    assert_eq!(everything(&daemon), before);
}

/// All that the daemon tells about its objects.
fn everything(daemon: &Daemon) -> Vec<Value> {
    let mut all: Vec<Value> = ["network ls", "ps -a", "fdb"]
        .map(|words| daemon.json(words))
        .to_vec();
    for row in all[1].as_array_mut().expect("a list") {
        // It tells the time.
        row["Status"] = Value::Null;
    }
    let networks: Vec<String> = all[0]
        .as_array()
        .expect("a list")
        .iter()
        .map(|network| text(&network["Name"]))
        .collect();
    all.push(daemon.json(&format!("network inspect {}", networks.join(" "))));
    all.push(daemon.json("show"));
    all
}
