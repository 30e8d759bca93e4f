//! `vswitch run`, `exec`, `attach`, `detach` and `ps`.
//!
//! The namespaces are real, the daemon is not: it attaches nothing, so these tests need no TAP.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{FakeDaemon, client_of, outcome};
use crate::support::{client_program, skip};

const CREATED: &str = r#"{"Id":"5a5a","Warnings":[],"Endpoints":[{"EndpointID":"ee","Network":"lan",
    "Interface":"eth0","MacAddress":"02:42:0a:00:00:09","IPv4Address":"10.0.0.9/24","IPv6Address":""}]}"#;

/// A daemon that takes every sandbox.
fn willing() -> FakeDaemon {
    FakeDaemon::new(&[
        ("POST /vswitch/v1/sandboxes", 201, CREATED),
        ("DELETE /vswitch/v1/sandboxes/5a5a", 204, ""),
    ])
}

/// Whether this system lets us make namespaces; says so visibly if not.
fn namespaces() -> bool {
    let (code, _, stderr) = outcome(client_of(&willing().socket()).args(["run", "true"]));
    let missing = code == 125 && stderr.contains("create the sandbox's namespaces");
    if missing {
        skip(format_args!("{stderr}"));
    }
    !missing
}

fn wish(daemon: &FakeDaemon, at: usize) -> Value {
    serde_json::from_str(&daemon.asked()[at].body).expect("the client sends JSON")
}

#[test]
fn run_passes_the_commands_exit_code_through() {
    if !namespaces() {
        return;
    }
    for (command, exit_code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["/etc/passwd"], 126),
        (&["/nonexistent/command"], 127),
    ] {
        let daemon = willing();
        let (code, _, stderr) = outcome(client_of(&daemon.socket()).args(["run", "--"]).args(command));
        assert_eq!(code, exit_code, "{command:?}: {stderr}");
        assert_eq!(
            daemon.lines(),
            ["POST /vswitch/v1/sandboxes", "DELETE /vswitch/v1/sandboxes/5a5a"],
            "{command:?} is forgotten"
        );
    }
}

#[test]
fn run_asks_for_networks_and_names_itself() {
    if !namespaces() {
        return;
    }
    let daemon = willing();
    let (code, stdout, stderr) = outcome(client_of(&daemon.socket()).args([
        "run",
        "--name",
        "web",
        "--ip",
        "10.0.0.9",
        "--network",
        "lan",
        "--network",
        "dmz:ip=10.1.0.9,mac=02:00:00:00:00:09",
        "-e",
        "GREETING=hi",
        "sh",
        "-c",
        "uname -n; echo $GREETING; grep 10.0.0.9 /etc/hosts",
    ]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, "web\nhi\n10.0.0.9\tweb\n");
    let wish = wish(&daemon, 0);
    assert_eq!(wish["Name"], "web");
    assert_eq!(wish["Hostname"], "web");
    assert_eq!(
        wish["Networks"],
        json!([
            {"Network": "lan", "IPv4Address": "10.0.0.9"},
            {"Network": "dmz", "IPv4Address": "10.1.0.9", "MacAddress": "02:00:00:00:00:09"}
        ])
    );
    assert!(wish["Pid"].as_u64().is_some_and(|pid| pid > 1), "{wish}");
}

#[test]
fn a_refused_sandbox_never_runs_its_command() {
    if !namespaces() {
        return;
    }
    let daemon = FakeDaemon::new(&[(
        "POST /vswitch/v1/sandboxes",
        404,
        r#"{"message":"network lan not found"}"#,
    )]);
    let trace = daemon.directory().join("trace");
    let (code, stdout, stderr) = outcome(
        client_of(&daemon.socket())
            .args(["run", "--network", "lan", "touch"])
            .arg(&trace),
    );
    assert_eq!((code, stdout.as_str()), (125, ""));
    assert_eq!(stderr, "vswitch: network lan not found\n");
    assert!(!trace.exists(), "the command ran");
    let pid = wish(&daemon, 0)["Pid"].as_u64().expect("a process was offered");
    assert!(
        !fs::exists(format!("/proc/{pid}/ns/net")).unwrap_or(true),
        "the process is still there"
    );
}

#[test]
fn made_up_names_give_way_to_taken_ones() {
    if !namespaces() {
        return;
    }
    let taken = r#"{"message":"Conflict. The container name \"/x\" is already in use"}"#;
    let daemon = FakeDaemon::new(&[("POST /vswitch/v1/sandboxes", 409, taken)]);
    let (code, ..) = outcome(client_of(&daemon.socket()).args(["run", "--name", "x", "true"]));
    assert_eq!((code, daemon.asked().len()), (125, 1));
    let (code, ..) = outcome(client_of(&daemon.socket()).args(["run", "true"]));
    assert_eq!((code, daemon.asked().len()), (125, 10));
    let names: Vec<Value> = (1..10).map(|at| wish(&daemon, at)["Name"].clone()).collect();
    assert!(names.iter().any(|name| *name != names[0]), "{names:?}");
}

#[test]
fn a_detached_command_outlives_the_client() {
    if !namespaces() {
        return;
    }
    let daemon = willing();
    let log = daemon.directory().join("log");
    let fifo = daemon.directory().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("the directory is ours");
    let script = format!("read word < {}; echo $word", fifo.display());
    let (code, stdout, stderr) = outcome(
        client_of(&daemon.socket())
            .args(["run", "-d", "--log-file"])
            .arg(&log)
            .args(["sh", "-c", &script]),
    );
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "5a5a\n", ""));
    assert_eq!(
        daemon.lines(),
        ["POST /vswitch/v1/sandboxes"],
        "it is not forgotten while it runs"
    );
    // Opening for writing waits for the command to read: it still runs.
    fs::write(&fifo, "late\n").expect("the command reads");
    let said = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        fs::read_to_string(&log).is_ok_and(|text| text == "late\n")
    });
    assert!(said, "the log is {:?}", fs::read_to_string(&log));
}

#[test]
fn signals_reach_the_command() {
    if !namespaces() {
        return;
    }
    let daemon = willing();
    let mut client = Command::new(client_program())
        .env("VSWITCH_HOST", daemon.socket())
        .args([
            "run",
            "sh",
            "-c",
            "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the client can be started");
    let mut line = String::new();
    let stdout = client.stdout.take().expect("it is piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("the command says when it is ready");
    assert_eq!(line, "ready\n");
    let pid = i32::try_from(client.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it is our child");
    let status = client.wait().expect("it is our child");
    assert_eq!(status.code(), Some(9));
    assert_eq!(
        daemon.lines().last().map(String::as_str),
        Some("DELETE /vswitch/v1/sandboxes/5a5a")
    );
}

#[test]
fn exec_runs_beside_the_first_command() {
    if !namespaces() {
        return;
    }
    let daemon = willing();
    let mut client = Command::new(client_program())
        .env("VSWITCH_HOST", daemon.socket())
        .args(["run", "--name", "box1", "sh", "-c", "echo ready; read word"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the client can be started");
    let mut line = String::new();
    let stdout = client.stdout.take().expect("it is piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("the command says when it is ready");
    let pid = wish(&daemon, 0)["Pid"].as_u64().expect("a process was offered");
    let host = FakeDaemon::new(&[
        (
            "GET /containers/box1/json",
            200,
            &container("box1", pid, true).to_string(),
        ),
        (
            "GET /containers/dead/json",
            200,
            &container("dead", 0, false).to_string(),
        ),
        (
            "GET /containers/bare/json",
            200,
            &container("bare", 0, true).to_string(),
        ),
    ]);
    for (args, wanted) in [
        (&["box1", "uname", "-n"][..], (0, "box1\n", "")),
        (
            &["-e", "A=b", "box1", "sh", "-c", "echo $A; exit 3"],
            (3, "b\n", ""),
        ),
        (
            &["dead", "true"],
            (125, "", "vswitch: sandbox dead is not running\n"),
        ),
    ] {
        let (code, stdout, stderr) = outcome(client_of(&host.socket()).arg("exec").args(args));
        assert_eq!((code, stdout.as_str(), stderr.as_str()), wanted, "{args:?}");
    }
    let (code, _, stderr) = outcome(client_of(&host.socket()).args(["exec", "box1", "/nonexistent/x"]));
    assert_eq!(code, 127, "{stderr}");
    let (code, _, stderr) = outcome(client_of(&host.socket()).args(["exec", "bare", "true"]));
    assert_eq!(code, 125);
    assert!(stderr.contains("nsenter --net=/run/netns/bare"), "{stderr}");
    drop(client.stdin.take());
    client.wait().expect("it is our child");
}

#[test]
fn attach_offers_a_process_or_a_path() {
    let daemon = willing();
    let attach = |args: &[&str]| outcome(client_of(&daemon.socket()).arg("attach").args(args));
    assert_eq!(
        attach(&["--pid", "4711", "--name", "pod"]),
        (0, "5a5a\n".into(), String::new())
    );
    assert_eq!(
        wish(&daemon, 0),
        json!({"Name": "pod", "Pid": 4711, "Networks": [], "AutoRemove": true})
    );
    assert_eq!(attach(&["--netns", "relative", "--network", "none"]).0, 0);
    let wish = wish(&daemon, 1);
    let here = std::env::current_dir()
        .expect("tests have a directory")
        .join("relative");
    assert_eq!(wish["Netns"].as_str(), here.to_str());
    assert_eq!(wish["Networks"], json!([{"Network": "none"}]));
    assert!(
        wish["Name"].as_str().is_some_and(|name| name.contains('_')),
        "{wish}"
    );
}

#[test]
fn ports_are_asked_for_with_the_sandbox() {
    let daemon = willing();
    let words = "attach --pid 4711 --name pod -p 127.0.0.1:8080:80,max-conns=5 --publish 53/udp";
    let (code, _, stderr) = outcome(client_of(&daemon.socket()).args(words.split(' ')));
    assert_eq!((code, stderr.as_str()), (0, ""));
    let one = |port: u16| json!({"First": port, "Last": port});
    assert_eq!(
        wish(&daemon, 0)["Ports"],
        json!([
            {
                "HostIP": "127.0.0.1", "HostPorts": one(8080), "ContainerPorts": one(80), "Protocol": "tcp",
                "Rules": {"MaxConnections": 5}
            },
            {"ContainerPorts": one(53), "Protocol": "udp", "Rules": {}}
        ])
    );
}

#[test]
fn what_the_daemon_did_differently_is_said() {
    let created = CREATED.replace(r#""Warnings":[]"#, r#""Warnings":["no network, no ports"]"#);
    let daemon = FakeDaemon::new(&[("POST /vswitch/v1/sandboxes", 201, &created)]);
    let words = "attach --pid 4711 --network none -p 80";
    assert_eq!(
        outcome(client_of(&daemon.socket()).args(words.split(' '))),
        (
            0,
            "5a5a\n".into(),
            "vswitch: warning: no network, no ports\n".into()
        )
    );
}

#[test]
fn detach_goes_on_after_a_failure() {
    let daemon = FakeDaemon::new(&[
        (
            "DELETE /vswitch/v1/sandboxes/a",
            404,
            r#"{"message":"No such container: a"}"#,
        ),
        ("DELETE /vswitch/v1/sandboxes/b", 204, ""),
    ]);
    let result = outcome(client_of(&daemon.socket()).args(["detach", "a", "b"]));
    assert_eq!(
        result,
        (1, "b\n".into(), "vswitch: No such container: a\n".into())
    );
}

#[test]
fn ps_lists_processes_by_one_request() {
    let ports = |pid: u32| match pid {
        4712 => json!([
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}
        ]),
        _ => json!([]),
    };
    let summary = |name: &str, digit: &str, pid: u32| {
        json!({
            "Id": digit.repeat(64), "Names": [format!("/{name}")], "Image": "", "ImageID": "",
            "Command": "sh", "Created": 1_795_193_441, "Ports": ports(pid), "Labels": {}, "State": "running",
            "Status": "Up 5 minutes", "HostConfig": {"NetworkMode": "lan"},
            "NetworkSettings": {"Networks": {"lan": {"IPAddress": "10.0.0.9"}}}, "Mounts": [],
            "Pid": pid
        })
    };
    let list = json!([summary("web", "b", 4712), summary("db", "a", 4711)]).to_string();
    let daemon = FakeDaemon::new(&[
        ("GET /containers/json?all=0", 200, &list),
        ("GET /containers/json?all=1", 200, "[]"),
    ]);
    let (code, stdout, stderr) = outcome(client_of(&daemon.socket()).arg("ps"));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(
        stdout,
        "SANDBOX ID     NAME   PID    NETWORKS       STATUS         PORTS\n\
         aaaaaaaaaaaa   db     4711   lan 10.0.0.9   Up 5 minutes\n\
         bbbbbbbbbbbb   web    4712   lan 10.0.0.9   Up 5 minutes   0.0.0.0:8080->80/tcp, [::]:8080->80/tcp\n"
    );
    assert_eq!(daemon.lines(), ["GET /containers/json?all=0"]);
    let (_, stdout, _) = outcome(client_of(&daemon.socket()).args(["ps", "-q", "--no-trunc"]));
    assert_eq!(stdout, ["a", "b"].map(|digit| digit.repeat(64) + "\n").concat());
    let (_, stdout, _) = outcome(client_of(&daemon.socket()).args(["ps", "-a", "--format", "json"]));
    assert_eq!(stdout, "[]\n");
}

pub(super) fn container(name: &str, pid: u64, running: bool) -> Value {
    json!({
        "Id": "5".repeat(64), "Created": "2026-11-20T16:50:01Z", "Name": format!("/{name}"), "Path": "sh",
        "Args": [], "Image": "",
        "State": {
            "Status": if running { "running" } else { "exited" }, "Running": running, "Pid": pid,
            "StartedAt": "2026-11-20T16:50:01Z", "FinishedAt": "0001-01-01T00:00:00Z"
        },
        "HostConfig": {"NetworkMode": "lan"},
        "Config": {"Hostname": name, "Image": "", "Labels": {}},
        "NetworkSettings": {
            "Bridge": "", "SandboxID": "", "SandboxKey": format!("/run/netns/{name}"), "Ports": {},
            "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": null, "SecondaryIPv6Addresses": null, "EndpointID": "", "Gateway": "",
            "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPAddress": "", "IPPrefixLen": 0,
            "IPv6Gateway": "", "MacAddress": "", "Networks": {}
        }
    })
}
