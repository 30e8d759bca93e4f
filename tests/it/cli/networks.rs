//! `vswitch network …`: the requests are those of Docker's client, and so is the output.

use serde_json::{Value, json};

use super::{FakeDaemon, client_of, outcome};

fn network(name: &str, digit: &str) -> Value {
    json!({
        "Name": name, "Id": digit.repeat(64), "Created": "2026-11-20T16:50:01.415896873Z",
        "Scope": "local", "Driver": "bridge", "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": []},
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""},
        "ConfigOnly": false, "Containers": {}, "Options": {}, "Labels": {}
    })
}

fn body(daemon: &FakeDaemon, at: usize) -> Value {
    serde_json::from_str(&daemon.asked()[at].body).expect("the client sends JSON")
}

#[test]
fn create_sends_what_dockers_client_sends() {
    let daemon = FakeDaemon::new(&[("POST /networks/create", 201, r#"{"Id":"abc","Warning":""}"#)]);
    let (code, stdout, stderr) = outcome(client_of(&daemon.socket()).args([
        "network",
        "create",
        "--gateway",
        "fd12:7::1,10.7.4.254",
        "--subnet",
        "10.7.0.0/16",
        "--subnet",
        "fd12:7::/64",
        "--ip-range",
        "10.7.4.0/24",
        "--aux-address",
        "dns=10.7.0.5",
        "--ipv6",
        "--internal",
        "--label",
        "a=b",
        "--label",
        "solo",
        "-o",
        "com.docker.network.driver.mtu=1400",
        "foo",
    ]));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "abc\n", ""));
    let sent = body(&daemon, 0);
    let wanted = json!({
        "Name": "foo", "Driver": "bridge", "EnableIPv6": true, "Internal": true, "Attachable": false,
        "IPAM": {
            "Driver": "default", "Options": {},
            "Config": [
                {
                    "Subnet": "10.7.0.0/16", "IPRange": "10.7.4.0/24", "Gateway": "10.7.4.254",
                    "AuxiliaryAddresses": {"dns": "10.7.0.5"}
                },
                {"Subnet": "fd12:7::/64", "Gateway": "fd12:7::1"}
            ]
        },
        "Options": {"com.docker.network.driver.mtu": "1400"}, "Labels": {"a": "b", "solo": ""}
    });
    for (key, value) in wanted.as_object().expect("an object") {
        assert_eq!(&sent[key], value, "{key}");
    }
    assert_eq!(sent.get("EnableIPv4"), None, "only what was typed is sent");
}

#[test]
fn a_warning_does_not_mix_with_the_answer() {
    let daemon = FakeDaemon::new(&[("POST /networks/create", 201, r#"{"Id":"abc","Warning":"beware"}"#)]);
    let (code, stdout, stderr) = outcome(client_of(&daemon.socket()).args(["network", "create", "a"]));
    assert_eq!(
        (code, stdout.as_str(), stderr.as_str()),
        (0, "abc\n", "vswitch: warning: beware\n")
    );
}

#[test]
fn lists_are_sorted_filtered_and_shortened() {
    let all = json!([network("lan10", "a"), network("lan2", "b")]).to_string();
    let filtered = "GET /networks?filters=%7B%22driver%22%3A%7B%22bridge%22%3Atrue%7D%2C\
                    %22name%22%3A%7B%22a%22%3Atrue%2C%22b%22%3Atrue%7D%7D";
    let daemon = FakeDaemon::new(&[("GET /networks", 200, &all), (filtered, 200, "[]")]);
    let (code, stdout, _) = outcome(client_of(&daemon.socket()).args(["network", "ls"]));
    assert_eq!(code, 0);
    assert_eq!(
        stdout,
        "NETWORK ID     NAME    DRIVER   SCOPE\n\
         bbbbbbbbbbbb   lan2    bridge   local\n\
         aaaaaaaaaaaa   lan10   bridge   local\n"
    );
    let (_, stdout, _) = outcome(client_of(&daemon.socket()).args(["net", "list", "-q"]));
    assert_eq!(stdout, "bbbbbbbbbbbb\naaaaaaaaaaaa\n");
    let (_, stdout, _) = outcome(client_of(&daemon.socket()).args(["network", "ls", "--format", "json"]));
    let json: Value = serde_json::from_str(&stdout).expect("this is JSON");
    assert_eq!(json, json!([network("lan2", "b"), network("lan10", "a")]));
    let (_, stdout, stderr) = outcome(client_of(&daemon.socket()).args([
        "network",
        "ls",
        "--filter",
        "name=a",
        "-f",
        "name=b",
        "-f",
        "driver=bridge",
    ]));
    assert_eq!(stdout, "NETWORK ID   NAME   DRIVER   SCOPE\n", "{stderr}");
}

#[test]
fn removal_goes_on_after_a_failure() {
    let missing = r#"{"message":"network b not found"}"#;
    let daemon = FakeDaemon::new(&[
        ("DELETE /networks/a", 204, ""),
        ("DELETE /networks/b", 404, missing),
        ("DELETE /networks/c", 204, ""),
        (
            "DELETE /networks/d",
            403,
            r#"{"message":"d has active endpoints"}"#,
        ),
    ]);
    let (code, stdout, stderr) = outcome(client_of(&daemon.socket()).args(["network", "rm", "a", "b", "c"]));
    assert_eq!(
        (code, stdout.as_str(), stderr.as_str()),
        (1, "a\nc\n", "vswitch: network b not found\n")
    );
    let (code, stdout, stderr) =
        outcome(client_of(&daemon.socket()).args(["network", "rm", "-f", "a", "b", "c"]));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "a\nc\n", ""));
    let (code, _, stderr) = outcome(client_of(&daemon.socket()).args(["network", "rm", "-f", "d", "a"]));
    assert_eq!((code, stderr.as_str()), (1, "vswitch: d has active endpoints\n"));
    assert_eq!(
        daemon.lines().last().map(String::as_str),
        Some("DELETE /networks/a")
    );
}

#[test]
fn pruning_asks_first() {
    let daemon = FakeDaemon::new(&[("POST /networks/prune", 200, r#"{"NetworksDeleted":["a","b"]}"#)]);
    let prune = || {
        let mut command = client_of(&daemon.socket());
        command.args(["network", "prune"]);
        command
    };
    let (code, stdout, _) = outcome(prune().write_stdin("n\n"));
    assert_eq!(code, 0);
    assert!(
        stdout.ends_with("Are you sure you want to continue? [y/N] "),
        "{stdout}"
    );
    assert_eq!(daemon.lines(), [""; 0]);
    let (_, stdout, _) = outcome(prune().write_stdin("y\n"));
    assert!(stdout.ends_with("[y/N] Deleted Networks:\na\nb\n\n"), "{stdout}");
    let (code, stdout, _) = outcome(prune().arg("--force"));
    assert_eq!((code, stdout.as_str()), (0, "Deleted Networks:\na\nb\n\n"));
    assert_eq!(daemon.lines(), ["POST /networks/prune"; 2]);
}

#[test]
fn connect_and_disconnect_send_what_dockers_client_sends() {
    let daemon = FakeDaemon::new(&[
        ("POST /networks/my%20net/connect", 200, ""),
        ("POST /networks/lan/disconnect", 200, ""),
    ]);
    let (code, stdout, stderr) = outcome(client_of(&daemon.socket()).args([
        "network",
        "connect",
        "--ip",
        "10.7.4.9",
        "--ip6",
        "fd12:7::9",
        "--mac-address",
        "02:00:00:00:00:09",
        "--alias",
        "www",
        "--alias",
        "web2",
        "--ifname",
        "lan0",
        "my net",
        "web",
    ]));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", ""));
    let sent = body(&daemon, 0);
    assert_eq!(sent["Container"], "web");
    let endpoint = &sent["EndpointConfig"];
    assert_eq!(
        endpoint["IPAMConfig"],
        json!({"IPv4Address": "10.7.4.9", "IPv6Address": "fd12:7::9"})
    );
    assert_eq!(endpoint["Aliases"], json!(["www", "web2"]));
    assert_eq!(endpoint["MacAddress"], "02:00:00:00:00:09");
    assert_eq!(
        endpoint["DriverOpts"],
        json!({"com.docker.network.endpoint.ifname": "lan0"})
    );
    let (code, ..) = outcome(client_of(&daemon.socket()).args(["network", "disconnect", "-f", "lan", "web"]));
    assert_eq!(code, 0);
    assert_eq!(body(&daemon, 1), json!({"Container": "web", "Force": true}));
}

#[test]
fn inspection_prints_what_was_found_and_fails_for_the_rest() {
    let daemon = FakeDaemon::new(&[
        ("GET /networks/lan", 200, &network("lan", "a").to_string()),
        (
            "GET /networks/gone",
            404,
            r#"{"message":"network gone not found"}"#,
        ),
    ]);
    let (code, stdout, stderr) =
        outcome(client_of(&daemon.socket()).args(["network", "inspect", "gone", "lan"]));
    assert_eq!((code, stderr.as_str()), (1, "vswitch: network gone not found\n"));
    let json: Value = serde_json::from_str(&stdout).expect("this is JSON");
    assert_eq!(json, json!([network("lan", "a")]));
    // Docker's order: containers, then networks.
    let (code, stdout, _) = outcome(client_of(&daemon.socket()).args(["inspect", "lan"]));
    assert_eq!(code, 0);
    assert!(stdout.contains("\"Name\": \"lan\""), "{stdout}");
    assert_eq!(
        daemon.lines()[2..],
        ["GET /containers/lan/json", "GET /networks/lan"]
    );
    let (code, stdout, stderr) = outcome(client_of(&daemon.socket()).args(["inspect", "nothing"]));
    assert_eq!((code, stdout.as_str()), (1, "[]\n"));
    assert_eq!(stderr, "vswitch: no such sandbox or network: nothing\n");
}
