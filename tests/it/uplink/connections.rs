//! Connections as `vswitch conntrack` shows, watches and removes them, and the rules by which they are translated.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{BOTH_TRANSPORTS, FAR, INNER, OPEN, OUTER, Scene, UPLINK, WEB4, at};
use crate::support::{
    agent::{Dialogue, Role, Service, Transport},
    daemon::{Outcome, PATIENCE, split},
    ends_within,
    outside::Place,
    within,
};

#[test]
fn connections_are_shown_and_removed_as_conntrack_does_it() {
    let Some(scene) = Scene::new("") else { return };
    let conntrack = |flags: &str| scene.daemon.vswitch(&split(&format!("conntrack {flags}")));
    let nothing = conntrack("-L");
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""), "{nothing:?}");
    assert!(
        nothing.stderr.contains("0 flow entries have been shown."),
        "{nothing:?}"
    );
    let (_server, port) = scene.serve(Place::Far, Service::Echo);
    // Kept open by its client.
    let role = Role::Dial {
        to: at(FAR[0], port),
        dialogue: Dialogue::Hold,
        connections: 1,
    };
    let client = scene.daemon.agent("web", &role);
    assert_eq!(client.word(), "held");
    scene.daemon.ping("web", &FAR[0].to_string());
    scene.daemon.ping("web", &FAR[1].to_string());
    let listed = conntrack("-L");
    let tcp = line(&listed, "tcp ");
    let start = format!("src={WEB4} dst={}", FAR[0]);
    assert!(
        tcp.starts_with("tcp      6 ") && tcp.contains(&format!(" ESTABLISHED {start} sport=")),
        "{tcp}"
    );
    assert!(
        tcp.contains(&format!(" dport={port} zone-orig=2 packets=")),
        "{tcp}"
    );
    assert!(
        tcp.contains(&format!(" src={} dst=198.51.100.1", FAR[0])),
        "{tcp}"
    );
    assert!(
        tcp.ends_with(" [ASSURED] mark=0 use=1 network-orig=lan sandbox-orig=web"),
        "{tcp}"
    );
    let icmp = line(&listed, "icmp ");
    assert!(
        icmp.contains(" type=8 code=0 id=") && icmp.contains(" type=0 code=0 id="),
        "{icmp}"
    );
    let icmpv6 = line(&listed, "icmpv6 ");
    assert!(
        icmpv6.starts_with("icmpv6   58 ") && icmpv6.contains(" type=129 code=0 id="),
        "{icmpv6}"
    );
    // Filters, JSON and the count.
    for (flags, count) in [
        ("-p tcp", 1),
        (&*format!("-s {WEB4}"), 2),
        ("-s 10.90.0.0/24 -p icmp", 1),
        ("-s 10.91.0.0/24", 0),
        ("-f ipv6", 1),
        ("--state ESTABLISHED -u ASSURED", 1),
        (&*format!("--dport {port}"), 1),
        ("--network lan", 3),
        ("--sandbox web", 3),
        ("--sandbox app", 0),
    ] {
        let json = scene.daemon.json(&format!("conntrack -L {flags}"));
        assert_eq!(json.as_array().map(Vec::len), Some(count), "{flags}: {json}");
    }
    assert_eq!(conntrack("-C").stdout, "3\n");
    // One is removed, with what conntrack says and how it ends; its packets are then nobody's (N-TCP-9).
    let removed = conntrack(&format!("-D -p tcp --dport {port}"));
    assert_eq!(removed.code, 0, "{removed:?}");
    assert!(
        removed.stdout.starts_with("tcp      6 ") && removed.stdout.lines().count() == 1,
        "{removed:?}"
    );
    assert!(
        removed.stderr.contains("1 flow entries have been deleted."),
        "{removed:?}"
    );
    let again = conntrack(&format!("-D -p tcp --dport {port}"));
    assert_eq!((again.code, again.stdout.as_str()), (1, ""), "{again:?}");
    assert!(
        again.stderr.contains("0 flow entries have been deleted."),
        "{again:?}"
    );
    let flushed = conntrack("-F");
    assert_eq!(flushed.code, 0, "{flushed:?}");
    assert!(
        flushed
            .stderr
            .contains("connection tracking table has been emptied."),
        "{flushed:?}"
    );
    assert_eq!(conntrack("-C").stdout, "0\n");
    let wrong = conntrack("-L -p nonsense");
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.stderr.contains("use tcp, udp, icmp"), "{wrong:?}");
    assert_eq!(conntrack("-L -D").code, 2);
}

#[test]
fn n_tbl_7_events_are_shown_until_ctrl_c() {
    let Some(scene) = Scene::new("") else { return };
    let server = scene.introduce_outside(Place::Far);
    let mut all = Watch::new(&scene, "-E --network lan");
    let mut ends = Watch::new(&scene, "-E -e DESTROY -o json -p udp");
    scene.visit_from("web", at(FAR[0], INNER), Transport::Udp);
    scene.visit_from("app", at(FAR[0], INNER), Transport::Tcp);
    server.word();
    let new = all.next();
    assert!(
        new.starts_with(&format!("    [NEW] udp      17 120 src={WEB4} dst={}", FAR[0])),
        "{new}"
    );
    assert!(new.contains(" [UNREPLIED] "), "{new}");
    let update = all.next();
    assert!(
        update.starts_with(" [UPDATE] udp      17 ") && !update.contains("[UNREPLIED]"),
        "{update}"
    );
    assert!(scene.daemon.vswitch(&["conntrack", "-D", "-p", "udp"]).code == 0);
    let end = all.next();
    assert!(
        end.starts_with("[DESTROY] udp      17 ") && end.contains("sandbox-orig=web"),
        "{end}"
    );
    let json: serde_json::Value = serde_json::from_str(&ends.next()).expect("a line of JSON");
    assert_eq!(
        (json["Type"].as_str(), json["Protocol"].as_str()),
        (Some("destroy"), Some("udp"))
    );
    assert_eq!(json["Original"]["Sandbox"], "web");
    // What a network takes with it is told with its name.
    scene.visit_from("web", at(FAR[0], INNER), Transport::Udp);
    assert!(all.next().starts_with("    [NEW] udp "));
    assert!(all.next().starts_with(" [UPDATE] udp "));
    scene.daemon.ok("network disconnect lan web");
    let end = all.next();
    assert!(
        end.starts_with("[DESTROY] udp ") && end.contains(" network-orig=lan"),
        "{end}"
    );
    let (code, said) = all.interrupt();
    assert_eq!(code, Some(0));
    assert!(said.contains("6 flow events have been shown."), "{said}");
    ends.interrupt();
}

#[test]
fn rules_and_drops_are_shown() {
    let Some(scene) = Scene::new(OPEN) else { return };
    let _server = scene.introduce("web");
    for (transport, _) in BOTH_TRANSPORTS {
        scene.visit(Place::Far, at(UPLINK[0], OUTER), transport);
    }
    assert_ne!(scene.reach(Place::Far, at(UPLINK[0], 9)), "connected");
    let rules = scene.daemon.ok("nat rules");
    assert!(
        rules.starts_with("External addresses:  198.51.100.10 198.51.100.11 2001:db8:3::10 2001:db8:3::11\n"),
        "{rules}"
    );
    let row = |start: &str| {
        let found = rules.lines().find(|line| line.starts_with(start));
        found
            .unwrap_or_else(|| panic!("{start}: {rules}"))
            .split_whitespace()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        row("lan ")[1..5],
        ["2", "10.90.0.0/24", "fd90::/64", "masquerade"]
    );
    let json = scene.daemon.json("nat rules");
    let ports = json["Ports"].as_array().expect("a list");
    let hits = |protocol: &str, target: &str| {
        let found = ports.iter().find(|port| {
            port["From"] == "outside" && port["Protocol"] == protocol && port["Target"] == target
        });
        found.map(|port| (port["Hits"].as_u64(), port["Sandbox"].as_str().map(str::to_owned)))
    };
    let web = Some("web".to_owned());
    assert_eq!(
        hits("tcp", &WEB4.to_string()),
        Some((Some(1), web.clone())),
        "{json}"
    );
    assert_eq!(hits("udp", &WEB4.to_string()), Some((Some(1), web)), "{json}");
    let stats = scene.daemon.json("stats");
    let nat = stats.as_array().and_then(|ports| ports.last()).expect("a row");
    assert_eq!(nat["Label"], "nat", "{stats}");
    assert!(nat["Drops"]["nat_unsolicited"].as_u64() > Some(0), "{nat}");
    assert!(nat["Other"]["nat_created"].as_u64() >= Some(2), "{nat}");
    let table = scene.daemon.ok("stats --all");
    let last = table.lines().last().expect("a row");
    assert!(
        last.starts_with("-") && last.contains("nat_unsolicited ") && last.contains("nat_forwarded "),
        "{last}"
    );
}

#[test]
fn calls_between_containers_are_connections_too() {
    let Some(mut scene) = Scene::new(OPEN) else { return };
    scene
        .daemon
        .ok("network create --subnet 10.93.0.0/24 -o vswitch.uplink=sockets by-host");
    scene.daemon.run("guest", "--network by-host");
    scene.daemon.run("shop", "--network by-host -p 9090:7000/udp");
    // By the uplink, and without it in the packet loop itself.
    let host = crate::support::outside::HOST4.into();
    for (caller, address, callee) in [
        (("app", "other"), at(UPLINK[0], OUTER), ("web", "lan")),
        (("guest", "by-host"), at(host, 9090), ("shop", "by-host")),
    ] {
        let server = scene.introduce(callee.0);
        scene.visit_from(caller.0, address, Transport::Udp);
        assert!(server.word().starts_with("udp from "));
        let listed = scene.daemon.vswitch(&["conntrack", "-L", "-p", "udp"]);
        let udp = line(&listed, "udp ");
        let places = format!(
            " network-orig={} sandbox-orig={} network-reply={} sandbox-reply={}",
            caller.1, caller.0, callee.1, callee.0
        );
        assert!(udp.ends_with(&places), "{address}: {udp}");
        for (sandbox, network) in [caller, callee] {
            for flags in [format!("--sandbox {sandbox}"), format!("--network {network}")] {
                let json = scene.daemon.json(&format!("conntrack -L {flags}"));
                assert_eq!(
                    json.as_array().map(Vec::len),
                    Some(1),
                    "{address} {flags}: {json}"
                );
            }
        }
        let removed = scene.daemon.vswitch(&["conntrack", "-D", "--sandbox", callee.0]);
        assert_eq!(removed.code, 0, "{address}: {removed:?}");
        assert_eq!(scene.daemon.ok("conntrack -C"), "0\n", "{address}");
    }
    let rules = scene.daemon.json("nat rules");
    let ports = rules["Ports"].as_array().expect("a list");
    let inside = ports
        .iter()
        .find(|port| port["From"] == "inside" && port["Port"] == 9090);
    let inside = inside.unwrap_or_else(|| panic!("{rules}"));
    assert_eq!(
        (&inside["Sandbox"], &inside["Hits"]),
        (&"shop".into(), &1.into()),
        "{rules}"
    );
}

/// `vswitch conntrack -E`.
struct Watch {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Watch {
    #[track_caller]
    fn new(scene: &Scene, flags: &str) -> Self {
        let flags = format!("conntrack {flags}");
        let mut child = scene
            .daemon
            .client(&split(&flags))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        // It takes signals from when it hears events.
        let status = format!("/proc/{}/status", child.id());
        within(PATIENCE, "it watches", || {
            let status = std::fs::read_to_string(&status).expect("it lives");
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            caught.is_some_and(|mask| mask & 1 << (SIGINT - 1) != 0)
        });
        Self { child, lines }
    }

    /// The next line, without its end.
    #[track_caller]
    fn next(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    /// The exit code after Ctrl-C, and what it says then.
    fn interrupt(mut self) -> (Option<i32>, String) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).expect("it lives");
        let status = ends_within(&mut self.child, PATIENCE).expect("it ends");
        let stderr = self.child.stderr.take().expect("it is piped");
        (status.code(), std::io::read_to_string(stderr).expect("text"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// signal(7).
const SIGINT: u32 = 2;

#[track_caller]
fn line<'a>(outcome: &'a Outcome, start: &str) -> &'a str {
    let found = outcome.stdout.lines().find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("{start}: {outcome:?}"))
}
