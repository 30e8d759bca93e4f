use serde_json::json;

use super::*;

fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).expect("a vector takes everything");
    String::from_utf8(out).expect("printers write UTF-8")
}

fn bridges() -> Vec<Bridge> {
    serde_json::from_value(json!([
        {
            "Network": "bridge", "NetworkID": "0".repeat(64), "GatewayMac": "02:42:ac:11:00:01",
            "Gateways": ["172.17.0.1/16"], "Mtu": 1500, "Internal": false, "InterContainer": true,
            "Ports": []
        },
        {
            "Network": "lan", "NetworkID": "a".repeat(64), "GatewayMac": "02:42:c0:a8:00:01",
            "Gateways": ["192.168.0.1/24", "fd00::1/64"], "Mtu": 1500, "Internal": true,
            "InterContainer": false,
            "Ports": [
                {"Port": 0, "Label": "gateway", "State": "forwarding", "Mtu": 1500, "Sandbox": ""},
                {
                    "Port": 1, "Label": "web", "State": "forwarding", "Mtu": 1500, "Sandbox": "web",
                    "Endpoint": {
                        "EndpointID": "e".repeat(64), "Network": "lan", "Interface": "eth0",
                        "MacAddress": "02:42:c0:a8:00:0a", "IPv4Address": "192.168.0.10/24",
                        "IPv6Address": "fd00::10/64"
                    }
                }
            ]
        }
    ]))
    .expect("these are bridges")
}

fn entry(kind: &str, port: u32, age: f64, vlan: Option<u16>) -> FdbEntry {
    FdbEntry {
        network: "lan".into(),
        network_id: "a".repeat(64),
        mac_address: format!("02:42:c0:a8:00:{port:02x}"),
        vlan,
        port,
        label: if port == 0 {
            "gateway".into()
        } else {
            format!("web{port}")
        },
        age_seconds: age,
        kind: kind.into(),
    }
}

fn port(label: &str, drops: &[(&str, u64)], other: &[(&str, u64)]) -> PortStats {
    let map = |pairs: &[(&str, u64)]| pairs.iter().map(|&(name, n)| (name.to_owned(), n)).collect();
    PortStats {
        network: "lan".into(),
        network_id: "a".repeat(64),
        port: 1,
        label: label.into(),
        sandbox: label.into(),
        interface: "eth0".into(),
        rx_frames: 1200,
        rx_bytes: 1_234_567,
        tx_frames: 7,
        tx_bytes: 512,
        other: map(other),
        drops: map(drops),
    }
}

#[test]
fn a_bridge_is_named_beside_its_first_port_only() {
    assert_eq!(
        printed(|out| print_bridges(out, &bridges())),
        "\
NETWORK   BRIDGE ID           FLAGS                PORT   NAME      STATE         MTU   MAC ADDRESS         ADDRESSES
bridge    8000.0242ac110001   -
lan       8000.0242c0a80001   internal,icc=false      0   gateway   forwarding   1500   02:42:c0:a8:00:01   192.168.0.1/24 fd00::1/64
                                                      1   web       forwarding   1500   02:42:c0:a8:00:0a   192.168.0.10/24 fd00::10/64
"
    );
}

#[test]
fn only_dynamic_entries_have_an_age() {
    let entries = [
        entry("local", 0, 0.0, None),
        entry("static", 1, 0.0, None),
        entry("dynamic", 2, 75.4, Some(100)),
        entry("dynamic", 3, -1.0, None),
    ];
    assert_eq!(
        printed(|out| print_fdb(out, &entries)),
        "\
NETWORK   MAC ADDRESS         VLAN   PORT   NAME      KIND        AGE
lan       02:42:c0:a8:00:00      -      0   gateway   local         -
lan       02:42:c0:a8:00:01      -      1   web1      static        -
lan       02:42:c0:a8:00:02    100      2   web2      dynamic   1m15s
lan       02:42:c0:a8:00:03      -      3   web3      dynamic       -
"
    );
}

#[test]
fn drops_are_summed_and_told_apart() {
    let ports = [
        port(
            "web",
            &[("egress-full", 2), ("spoofed-mac", 30)],
            &[("flooded", 4)],
        ),
        port("db", &[], &[]),
    ];
    assert_eq!(
        printed(|out| print_stats(out, &ports, Counters::Traffic)),
        "\
NETWORK   PORT   NAME   RX FRAMES   RX BYTES   TX FRAMES   TX BYTES   DROPPED   DROPS BY REASON
lan          1   web         1200     1.23MB           7       512B        32   spoofed-mac 30, egress-full 2
lan          1   db          1200     1.23MB           7       512B         0   -
"
    );
    assert_eq!(
        printed(|out| print_stats(out, &ports, Counters::All)),
        "\
NETWORK   PORT   NAME   RX FRAMES   RX BYTES   TX FRAMES   TX BYTES   DROPPED   DROPS BY REASON                 OTHER
lan          1   web         1200     1.23MB           7       512B        32   spoofed-mac 30, egress-full 2   flooded 4
lan          1   db          1200     1.23MB           7       512B         0   -                               -
"
    );
}

#[test]
fn a_sum_of_drops_stays_at_the_top() {
    let ports = [port("web", &[("a", u64::MAX), ("b", 1)], &[])];
    let text = printed(|out| print_stats(out, &ports, Counters::Traffic));
    assert!(
        text.contains("18446744073709551615   a 18446744073709551615, b 1\n"),
        "{text}"
    );
}

#[test]
fn the_translation_has_drops_and_no_frames() {
    let nat = PortStats {
        network: String::new(),
        network_id: String::new(),
        port: 0,
        ..port("nat", &[("nat_unsolicited", 3)], &[])
    };
    let text = printed(|out| print_stats(out, &[nat], Counters::Traffic));
    let row = text.lines().nth(1).unwrap_or_default();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        cells,
        ["-", "-", "nat", "-", "-", "-", "-", "3", "nat_unsolicited", "3"]
    );
}
