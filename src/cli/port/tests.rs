use serde_json::json;

use super::*;

fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).expect("a vector takes everything");
    String::from_utf8(out).expect("printers write UTF-8")
}

fn published() -> PortBindings {
    let both =
        |port: &str| json!([{"HostIp": "::", "HostPort": port}, {"HostIp": "0.0.0.0", "HostPort": port}]);
    let published = json!({
        "443/tcp": both("8443"),
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}],
        "80/tcp": both("8080"),
        "90/tcp": null,
        "91/tcp": []
    });
    serde_json::from_value(published).expect("these are ports")
}

#[test]
fn p16_ports_are_printed_as_docker_port_prints_them() {
    assert_eq!(
        printed(|out| print_lines(out, lines(&published()))),
        "53/udp -> 127.0.0.1:5353\n\
         80/tcp -> 0.0.0.0:8080\n\
         80/tcp -> [::]:8080\n\
         443/tcp -> 0.0.0.0:8443\n\
         443/tcp -> [::]:8443\n"
    );
    assert_eq!(printed(|out| print_lines(out, Vec::new())), "");
}

#[test]
fn p16_one_port_is_printed_by_its_addresses() {
    for (port, wanted) in [
        ("80", "0.0.0.0:8080\n[::]:8080\n"),
        ("80/tcp", "0.0.0.0:8080\n[::]:8080\n"),
        ("53/udp", "127.0.0.1:5353\n"),
        ("53", ""),
        ("90", ""),
        ("91", ""),
        ("8080", ""),
    ] {
        let port: ContainerPort = port.parse().expect("a port");
        assert_eq!(
            printed(|out| print_lines(out, addresses(&published(), &port))),
            wanted,
            "{port:?}"
        );
    }
}

#[test]
fn what_was_published_is_printed_the_same_way() {
    let mapping = json!({
        "HostPort": 32768, "ContainerPort": 9, "Count": 2, "Protocol": "tcp"
    });
    let mapping: PortMapping = serde_json::from_value(mapping).expect("this is a mapping");
    assert_eq!(
        printed(|out| print_lines(out, mapping_lines(&[mapping]))),
        "9/tcp -> 0.0.0.0:32768\n\
         9/tcp -> [::]:32768\n\
         10/tcp -> 0.0.0.0:32769\n\
         10/tcp -> [::]:32769\n"
    );
}

#[test]
fn counters_are_printed_with_reasons_and_rules() {
    let entries: Vec<PortEntry> = serde_json::from_value(json!([
        {
            "Sandbox": "web", "Network": "lan", "HostIP": "127.0.0.1", "HostPort": 8080, "ContainerPort": 80,
            "Count": 1, "Protocol": "tcp", "Rules": {"Allow": ["10.0.0.0/8"], "ConnectionsPerSecond": 5},
            "Active": 3, "Counters": {
                "accepted": 12, "failed": 1, "refused_allow": 4, "refused_connections": 0, "refused_rate": 2
            }
        },
        {
            "Sandbox": "db", "Network": "", "HostPort": 5353, "ContainerPort": 53, "Count": 1,
            "Protocol": "udp", "Active": 0, "Counters": {}
        }
    ]))
    .expect("these are entries");
    assert_eq!(
        printed(|out| print_entries(out, &entries)),
        "\
SANDBOX   NETWORK   PORTS                                     ACTIVE   ACCEPTED   FAILED   REFUSED           RULES
web       lan       127.0.0.1:8080->80/tcp                         3         12        1   allow 4, rate 2   allow=10.0.0.0/8,rate=5
db        -         0.0.0.0:5353->53/udp, [::]:5353->53/udp        0          0        0   -                 -
"
    );
}
