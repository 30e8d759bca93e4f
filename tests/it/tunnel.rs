//! Overlays that containers make themselves, over our switch.

use std::net::SocketAddr;

use crate::support::{
    agent::Role,
    daemon::{Daemon, Outcome},
    ip, skip,
};

/// Linux leaves the checksums inside to us (`VnetHeader::complete_inner`).
#[test]
fn tcp_runs_through_a_vxlan_between_containers() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 192.168.0.0/24 lan");
    daemon.run("one", "--network lan --ip 192.168.0.11");
    daemon.run("two", "--network lan --ip 192.168.0.12");
    for checksum in ["udpcsum", "noudpcsum"] {
        for (name, own, other) in [("one", 11, 12), ("two", 12, 11)] {
            let link = format!(
                "link add t0 type vxlan id 5 local 192.168.0.{own} remote 192.168.0.{other} dstport 4789 {checksum}"
            );
            let made = ip_in(&daemon, name, &link);
            if made.code != 0 {
                return skip(format_args!("ip {link}: {}", made.stderr.trim_end()));
            }
            for words in [&format!("address add 10.99.0.{own}/24 dev t0"), "link set t0 up"] {
                let done = ip_in(&daemon, name, words);
                assert_eq!(done.code, 0, "{words}: {done:?}");
            }
        }
        let sink = daemon.agent("two", &Role::Sink);
        let port = sink.word().parse().expect("a port");
        let source = Role::Source {
            to: SocketAddr::new(ip("10.99.0.12"), port),
            limit: Some(1 << 20),
        };
        let sent = daemon.act("one", &source);
        assert_eq!(sink.last_word(), sent, "{checksum}");
        for name in ["one", "two"] {
            let done = ip_in(&daemon, name, "link delete t0");
            assert_eq!(done.code, 0, "{done:?}");
        }
    }
    let port = daemon.port("one");
    assert_eq!(port["Drops"].get("offload"), None, "{port}");
}

fn ip_in(daemon: &Daemon, sandbox: &str, words: &str) -> Outcome {
    let words: Vec<&str> = words.split_whitespace().collect();
    daemon.vswitch(&[&["exec", sandbox, "--", "ip"], &words[..]].concat())
}
