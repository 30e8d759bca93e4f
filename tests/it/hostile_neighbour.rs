//! A container that floods its network while two others talk.

use std::net::SocketAddr;

use crate::support::{
    agent::Role,
    daemon::{Daemon, PATIENCE},
    within,
};

#[test]
fn a_flooding_container_does_not_disturb_two_others() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.85.0.0/24 lan");
    daemon.run("client", "--network lan --ip 10.85.0.2");
    daemon.run("server", "--network lan --ip 10.85.0.3");
    daemon.run("hostile", "--network lan --ip 10.85.0.4");
    let quiet = daemon.fdb("lan");
    assert_eq!(quiet.len(), 4, "{quiet:?}");

    let interface = "eth0".to_owned();
    let victim = [10, 85, 0, 3].into();
    let flood = daemon.agent("hostile", &Role::Flood { interface, victim });
    // It is under way.
    let number = |word: String| word.parse::<u64>().expect("a number of frames");
    while number(flood.word()) < 1000 {}

    let sink = daemon.agent("server", &Role::Sink);
    let port = sink.word().parse().expect("a port");
    let to = SocketAddr::new([10, 85, 0, 3].into(), port);
    let limit = Some(8 << 20);
    let sent = daemon.act("client", &Role::Source { to, limit });
    assert_eq!(sink.last_word(), sent);
    assert_eq!(daemon.fdb("lan"), quiet, "while it floods");
    let taken = number(flood.last_word());
    assert!(taken > 1000, "{taken}");

    let drops = |reason: &str| daemon.port("hostile")["Drops"][reason].as_u64().unwrap_or(0);
    let reasons = ["spoofed_mac", "spoofed_arp", "storm_broadcast"];
    within(PATIENCE, "everything is counted", || {
        reasons.iter().all(|reason| drops(reason) > 0)
    });
    // One frame in four had a wrong source, two in four lied by ARP; some may have been lost on the way.
    assert!(
        drops("spoofed_arp") > drops("spoofed_mac"),
        "{}",
        daemon.port("hostile")
    );
    for peaceful in ["client", "server"] {
        let port = daemon.port(peaceful);
        let drops = port["Drops"].as_object().expect("a map");
        assert!(
            !reasons.iter().any(|reason| drops.contains_key(*reason)),
            "{port}"
        );
    }
    assert_eq!(daemon.fdb("lan"), quiet, "after it");
    daemon.ping("client", "10.85.0.3");
    daemon.ping("hostile", "10.85.0.3");
}
