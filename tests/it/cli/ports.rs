//! `vswitch publish`, `unpublish` and `port`.

use serde_json::{Value, json};

use super::{FakeDaemon, client_of, outcome, sandboxes::container, vswitch};

fn run(daemon: &FakeDaemon, words: &str) -> (i32, String, String) {
    outcome(client_of(&daemon.socket()).args(words.split(' ')))
}

fn body(daemon: &FakeDaemon, at: usize) -> Value {
    serde_json::from_str(&daemon.asked()[at].body).expect("the client sends JSON")
}

fn one(port: u16) -> Value {
    json!({"First": port, "Last": port})
}

#[test]
fn publish_says_which_ports_the_daemon_chose() {
    let answer = json!({
        "Ports": [{"HostPort": 32768, "ContainerPort": 80, "Count": 1, "Protocol": "tcp", "Rules": {}}],
        "Warnings": ["only IPv4 ones"]
    });
    let daemon = FakeDaemon::new(&[("POST /vswitch/v1/sandboxes/web/ports", 200, &answer.to_string())]);
    assert_eq!(
        run(&daemon, "publish web -p 80 -p [::1]::81/udp,allow=::1,rate=9"),
        (
            0,
            "80/tcp -> 0.0.0.0:32768\n80/tcp -> [::]:32768\n".into(),
            "vswitch: warning: only IPv4 ones\n".into()
        )
    );
    assert_eq!(
        body(&daemon, 0),
        json!({"Ports": [
            {"ContainerPorts": one(80), "Protocol": "tcp", "Rules": {}},
            {
                "HostIP": "::1", "ContainerPorts": one(81), "Protocol": "udp",
                "Rules": {"Allow": ["::1/128"], "ConnectionsPerSecond": 9}
            }
        ]})
    );
}

#[test]
fn unpublish_takes_host_ports_or_a_containers() {
    let daemon = FakeDaemon::new(&[("DELETE /vswitch/v1/sandboxes/web/ports", 204, "")]);
    let nothing = (0, String::new(), String::new());
    assert_eq!(run(&daemon, "unpublish web 80 127.0.0.1:8080:80"), nothing);
    assert_eq!(run(&daemon, "unpublish --close web 53/udp"), nothing);
    let rules = json!({});
    assert_eq!(
        body(&daemon, 0),
        json!({
            "Ports": [
                {"ContainerPorts": one(80), "Protocol": "tcp", "Rules": rules},
                {
                    "HostIP": "127.0.0.1", "HostPorts": one(8080), "ContainerPorts": one(80),
                    "Protocol": "tcp", "Rules": rules
                }
            ],
            "CloseConnections": false
        })
    );
    assert_eq!(
        body(&daemon, 1),
        json!({
            "Ports": [{"ContainerPorts": one(53), "Protocol": "udp", "Rules": rules}],
            "CloseConnections": true
        })
    );
}

#[test]
fn p16_port_prints_as_docker_port_does() {
    let mut web = container("web", 4711, true);
    web["NetworkSettings"]["Ports"] = json!({
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "9/udp": [{"HostIp": "127.0.0.1", "HostPort": "9"}]
    });
    let daemon = FakeDaemon::new(&[
        ("GET /containers/web/json", 200, &web.to_string()),
        (
            "GET /containers/bare/json",
            200,
            &container("bare", 4712, true).to_string(),
        ),
    ]);
    for (words, stdout) in [
        (
            "port web",
            "9/udp -> 127.0.0.1:9\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n",
        ),
        ("port web 80", "0.0.0.0:8080\n[::]:8080\n"),
        ("port web 9/udp", "127.0.0.1:9\n"),
        ("port bare", ""),
    ] {
        assert_eq!(
            run(&daemon, words),
            (0, stdout.to_owned(), String::new()),
            "{words}"
        );
    }
    for (words, stderr) in [
        ("port web 81", "vswitch: No public port '81' published for web\n"),
        (
            "port web 9/tcp",
            "vswitch: No public port '9/tcp' published for web\n",
        ),
        (
            "port bare 80",
            "vswitch: No public port '80' published for bare\n",
        ),
    ] {
        assert_eq!(
            run(&daemon, words),
            (1, String::new(), stderr.to_owned()),
            "{words}"
        );
    }
}

#[test]
fn counters_are_of_one_sandbox_or_of_all() {
    let entry = |sandbox: &str| {
        json!([{
            "Sandbox": sandbox, "Network": "lan", "HostPort": 8080, "ContainerPort": 80, "Count": 1,
            "Protocol": "tcp", "Rules": {}, "Active": 2,
            "Counters": {"accepted": 5, "failed": 0, "refused_allow": 3}
        }])
    };
    let daemon = FakeDaemon::new(&[
        ("GET /vswitch/v1/ports", 200, &entry("web").to_string()),
        ("GET /vswitch/v1/ports?name=db", 200, &entry("db").to_string()),
    ]);
    let (code, stdout, _) = run(&daemon, "port");
    assert_eq!(code, 0);
    assert_eq!(
        stdout,
        "SANDBOX   NETWORK   PORTS                                     ACTIVE   ACCEPTED   FAILED   REFUSED   RULES\n\
         web       lan       0.0.0.0:8080->80/tcp, [::]:8080->80/tcp        2          5        0   allow 3   -\n"
    );
    let (_, stdout, _) = run(&daemon, "port --counters db");
    assert!(
        stdout.lines().nth(1).is_some_and(|line| line.starts_with("db ")),
        "{stdout}"
    );
    let (_, stdout, _) = run(&daemon, "port db --format json");
    assert_eq!(
        serde_json::from_str::<Value>(&stdout).expect("this is JSON"),
        entry("db")
    );
    assert_eq!(daemon.lines().len(), 3);
}

#[test]
fn the_grammar_is_explained_at_length() {
    for command in ["run", "attach", "publish"] {
        let (code, help, _) = outcome(vswitch().args([command, "--help"]));
        assert_eq!(code, 0);
        for word in [
            "[IP:][HOSTPORT:]PORT[/tcp|udp]",
            "127.0.0.1:8080:80",
            "allow=CIDR",
            "proxy-protocol=v1|v2",
        ] {
            assert!(help.contains(word), "{command}: {word}: {help}");
        }
        let (_, short, _) = outcome(vswitch().args([command, "-h"]));
        assert!(!short.contains("proxy-protocol"), "{short}");
    }
}
