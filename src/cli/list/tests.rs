use serde_json::json;

use super::*;

fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).expect("a vector takes everything");
    String::from_utf8(out).expect("printers write UTF-8")
}

fn network(name: &str, digit: &str) -> Network {
    serde_json::from_value(json!({
        "Name": name, "Id": digit.repeat(64), "Created": "2026-11-20T16:50:01.415896873Z",
        "Scope": "local", "Driver": "bridge", "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": [{"Subnet": "192.168.0.0/24"}]},
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""},
        "ConfigOnly": false, "Containers": {}, "Options": {}, "Labels": {}
    }))
    .expect("this is a network")
}

fn summary(name: &str, pid: u32, networks: serde_json::Value) -> ContainerSummary {
    serde_json::from_value(json!({
        "Id": "c".repeat(64), "Names": [format!("/{name}")], "Image": "", "ImageID": "",
        "Command": "sh", "Created": 1_795_193_441, "Ports": [], "Labels": {}, "State": "running",
        "Status": "Up 5 minutes", "HostConfig": {"NetworkMode": "lan"},
        "NetworkSettings": {"Networks": networks}, "Mounts": [], "Pid": pid
    }))
    .expect("this is a container")
}

#[test]
fn networks_are_listed_as_docker_lists_them() {
    let all = || {
        vec![
            network("lan10", "a"),
            network("lan2", "b"),
            network("bridge", "0"),
        ]
    };
    assert_eq!(
        printed(|out| networks(out, all(), &ListArgs::default())),
        "NETWORK ID     NAME     DRIVER   SCOPE\n\
         000000000000   bridge   bridge   local\n\
         bbbbbbbbbbbb   lan2     bridge   local\n\
         aaaaaaaaaaaa   lan10    bridge   local\n"
    );
    let quiet = ListArgs {
        quiet: true,
        no_trunc: true,
        ..ListArgs::default()
    };
    assert_eq!(
        printed(|out| networks(out, all(), &quiet)),
        format!("{}\n{}\n{}\n", "0".repeat(64), "b".repeat(64), "a".repeat(64))
    );
}

#[test]
fn json_lists_can_be_read_back() {
    let json = ListArgs {
        format: FormatArgs {
            format: Some(Format::Json),
        },
        ..ListArgs::default()
    };
    let text = printed(|out| networks(out, vec![network("lan", "a")], &json));
    assert!(text.starts_with("[\n    {\n        \"Name\": \"lan\","), "{text}");
    let back: Vec<Network> = serde_json::from_str(&text).expect("this is JSON");
    assert_eq!(back, [network("lan", "a")]);
    assert_eq!(printed(|out| networks(out, vec![], &json)), "[]\n");
}

#[test]
fn sandboxes_are_listed_with_process_and_addresses() {
    let mut rows = [
        summary(
            "web",
            4711,
            json!({
                "dmz": {"IPAddress": "10.0.0.2"},
                "lan": {"IPAddress": "192.168.0.10", "GlobalIPv6Address": "fd00::10"}
            }),
        ),
        summary("quiet_heron", 0, json!({})),
    ];
    let port = json!({"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"});
    rows[0].ports = vec![serde_json::from_value(port).expect("this is a port")];
    assert_eq!(
        printed(|out| sandboxes(out, &rows, false)),
        "SANDBOX ID     NAME          PID    NETWORKS                                  STATUS         PORTS\n\
         cccccccccccc   web           4711   dmz 10.0.0.2, lan 192.168.0.10 fd00::10   Up 5 minutes   0.0.0.0:8080->80/tcp\n\
         cccccccccccc   quiet_heron   -      -                                         Up 5 minutes\n"
    );
}

#[test]
fn descriptions_are_one_array_whatever_was_found() {
    let objects = [Object::Network(Box::new(network("lan", "a")))];
    let text = printed(|out| describe(out, &objects, FormatArgs::default()));
    let back: Vec<Network> = serde_json::from_str(&text).expect("this is JSON");
    assert_eq!(back, [network("lan", "a")]);
    assert_eq!(printed(|out| describe(out, &[], FormatArgs::default())), "[]\n");
    let table = FormatArgs {
        format: Some(Format::Table),
    };
    assert_eq!(
        printed(|out| describe(out, &objects, table)),
        "NETWORK ID     NAME   DRIVER   SCOPE\n\
         aaaaaaaaaaaa   lan    bridge   local\n"
    );
}

#[test]
fn numbers_in_names_count() {
    let mut names = [
        "net10", "net2", "net", "net02", "a", "net2b", "10", "9", "é2", "net1x",
    ];
    names.sort_by(|a, b| natural(a, b));
    assert_eq!(
        names,
        [
            "9", "10", "a", "net", "net1x", "net02", "net2", "net2b", "net10", "é2"
        ]
    );
}
