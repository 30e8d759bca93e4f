//! `vswitch show`, `fdb`, `stats`, `flows` and `info`: which question is asked, and that the answer is printed.

use serde_json::{Value, json};

use super::{FakeDaemon, client_of, outcome};

fn port(label: &str) -> Value {
    json!({
        "Network": "lan", "NetworkID": "a".repeat(64), "Port": 1, "Label": label, "Sandbox": label,
        "Interface": "eth0", "RxFrames": 3, "RxBytes": 300, "TxFrames": 4, "TxBytes": 4000,
        "Other": {"flooded": 2}, "Drops": {"spoofed-mac": 5}
    })
}

#[test]
fn stats_take_a_sandbox_or_else_a_network() {
    let missing = r#"{"message":"No such container: lan"}"#;
    let daemon = FakeDaemon::new(&[
        (
            "GET /vswitch/v1/stats",
            200,
            &json!([port("web"), port("db")]).to_string(),
        ),
        (
            "GET /vswitch/v1/stats?sandbox=web",
            200,
            &json!([port("web")]).to_string(),
        ),
        ("GET /vswitch/v1/stats?sandbox=lan", 404, missing),
        (
            "GET /vswitch/v1/stats?network=lan",
            200,
            &json!([port("db")]).to_string(),
        ),
    ]);
    for (args, labels) in [
        (&["stats"][..], &["web", "db"][..]),
        (&["stats", "web"], &["web"]),
        (&["stats", "lan"], &["db"]),
    ] {
        let (code, stdout, stderr) = outcome(client_of(&daemon.socket()).args(args));
        assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}");
        let named: Vec<&str> = stdout
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(2))
            .collect();
        assert_eq!(named, labels, "{args:?}");
        assert!(
            stdout.contains("spoofed-mac 5") && !stdout.contains("flooded"),
            "{stdout}"
        );
    }
    let (_, stdout, _) = outcome(client_of(&daemon.socket()).args(["stats", "--all"]));
    assert!(stdout.contains("flooded 2"), "{stdout}");
    let (code, _, stderr) = outcome(client_of(&daemon.socket()).args(["stats", "nothing"]));
    assert_eq!(code, 1);
    assert_eq!(
        stderr,
        "vswitch: no such sandbox or network: nothing; `vswitch ps` and `vswitch network ls` list them\n"
    );
}

#[test]
fn a_network_can_be_singled_out() {
    let entry = json!([{
        "Network": "lan", "NetworkID": "a".repeat(64), "MacAddress": "02:42:c0:a8:00:0a", "Vlan": null,
        "Port": 1, "Label": "web", "AgeSeconds": 12.7, "Kind": "dynamic"
    }]);
    let daemon = FakeDaemon::new(&[
        ("GET /vswitch/v1/fdb?network=lan", 200, &entry.to_string()),
        ("GET /vswitch/v1/bridges?network=lan", 200, "[]"),
    ]);
    let (code, stdout, _) = outcome(client_of(&daemon.socket()).args(["fdb", "lan"]));
    assert_eq!(code, 0);
    assert_eq!(
        stdout,
        "NETWORK   MAC ADDRESS         VLAN   PORT   NAME   KIND      AGE\n\
         lan       02:42:c0:a8:00:0a      -      1   web    dynamic   12s\n"
    );
    let (_, stdout, _) = outcome(client_of(&daemon.socket()).args(["fdb", "lan", "--format", "json"]));
    assert_eq!(
        serde_json::from_str::<Value>(&stdout).expect("this is JSON"),
        entry
    );
    let (code, stdout, _) = outcome(client_of(&daemon.socket()).args(["show", "lan", "--format", "json"]));
    assert_eq!((code, stdout.as_str()), (0, "[]\n"));
}

#[test]
fn flows_take_a_sandbox_or_else_a_network() {
    let flow = |sandbox: &str| {
        json!([{
            "Network": "lan", "NetworkID": "a".repeat(64), "Sandbox": sandbox, "Interface": "eth0",
            "Protocol": "udp", "State": "ASSURED", "Container": "10.0.0.2:4000", "Remote": "10.0.0.1:53",
            "Target": "127.0.0.53:53", "SentBytes": 40, "ReceivedBytes": 1500, "AgeSeconds": 3.5,
            "IdleSeconds": 0.1, "TimeoutSeconds": 299.9
        }])
    };
    let network = json!({
        "Name": "lan", "Id": "a".repeat(64), "Created": "2026-11-20T16:50:01.415896873Z", "Scope": "local",
        "Driver": "bridge", "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": []}, "Internal": false, "Attachable": false,
        "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false
    });
    let of_network = format!("GET /vswitch/v1/flows?network={}", "a".repeat(64));
    let daemon = FakeDaemon::new(&[
        ("GET /vswitch/v1/flows", 200, &flow("web").to_string()),
        (
            "GET /containers/lan/json",
            404,
            r#"{"message":"No such container: lan"}"#,
        ),
        ("GET /networks/lan", 200, &network.to_string()),
        (&of_network, 200, &flow("db").to_string()),
    ]);
    let (code, stdout, _) = outcome(client_of(&daemon.socket()).arg("flows"));
    assert_eq!(code, 0);
    assert_eq!(
        stdout,
        "NETWORK   SANDBOX   PROTO   STATE     CONTAINER       REMOTE                          SENT   RECEIVED   AGE   IDLE   TIMEOUT\n\
         lan       web       udp     ASSURED   10.0.0.2:4000   10.0.0.1:53 via 127.0.0.53:53    40B     1.50kB    3s     0s     4m59s\n"
    );
    let (code, stdout, _) = outcome(client_of(&daemon.socket()).args(["flows", "lan", "--format", "json"]));
    assert_eq!(code, 0);
    assert_eq!(
        serde_json::from_str::<Value>(&stdout).expect("this is JSON"),
        flow("db")
    );
    let (code, _, stderr) = outcome(client_of(&daemon.socket()).args(["flows", "nothing"]));
    assert_eq!(code, 1);
    assert_eq!(
        stderr,
        "vswitch: no such sandbox or network: nothing; `vswitch ps` and `vswitch network ls` list them\n"
    );
}

#[test]
fn an_answer_that_is_not_understood_is_an_error() {
    let daemon = FakeDaemon::new(&[("GET /vswitch/v1/info", 200, "{}")]);
    let (code, stdout, stderr) = outcome(client_of(&daemon.socket()).arg("info"));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(
        stderr.starts_with("vswitch: unexpected answer of the daemon: "),
        "{stderr}"
    );
}
