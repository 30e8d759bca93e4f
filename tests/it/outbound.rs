//! The rootless way out: containers reach real servers in namespaces that stand for the outside.

mod closing;
mod dns;
mod errors;
mod flows;
mod hostile;
mod lifecycle;
mod ping;
mod policy;
mod programs;
mod tcp;
mod udp;
mod world;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use crate::support::{
    agent::{Agent, Dialogue, Role, Service},
    daemon::Daemon,
    outside::{ANY, Outside, Place},
};

/// A daemon in the host, and sandbox `box` at [`BOX4`] and [`BOX6`] of its network `lan`.
struct Scene {
    // Ends before the machines do.
    daemon: Daemon,
    outside: Outside,
}

impl Scene {
    /// With these words for `network create`; `None` if skipped.
    #[must_use]
    fn new(options: &str) -> Option<Self> {
        Self::on(Outside::new()?, options)
    }

    #[must_use]
    fn on(outside: Outside, options: &str) -> Option<Self> {
        let mut daemon = outside.daemon(&[])?;
        daemon.ok(&format!(
            "network create --subnet 10.90.0.0/24 --ipv6 --subnet fd90::/64 {options} lan"
        ));
        daemon.run("box", &format!("--network lan --ip {BOX4} --ip6 {BOX6}"));
        Some(Self { daemon, outside })
    }

    /// Starts a TCP server on a port of both families.
    #[track_caller]
    fn serve(&self, place: Place, service: Service) -> (Agent, u16) {
        self.outside.server(place, &Role::Serve { at: ANY, service })
    }

    /// What `box` says of one TCP connection.
    #[track_caller]
    fn dial(&self, to: SocketAddr, dialogue: Dialogue) -> String {
        let connections = 1;
        self.daemon.act(
            "box",
            &Role::Dial {
                to,
                dialogue,
                connections,
            },
        )
    }

    /// `connected`, or how `box` fails to connect.
    #[track_caller]
    fn reach(&self, to: SocketAddr) -> String {
        self.daemon.act("box", &Role::Connect { to })
    }

    /// Connects, has a byte sent back, and holds the connection.
    #[track_caller]
    fn hold(&self, to: SocketAddr) -> Agent {
        let role = Role::Dial {
            to,
            dialogue: Dialogue::Hold,
            connections: 1,
        };
        let agent = self.daemon.agent("box", &role);
        assert_eq!(agent.word(), "held", "{to}");
        agent
    }

    /// A counter, of all the network's ports.
    #[track_caller]
    fn counter(&self, name: &str) -> u64 {
        let rows = self.daemon.json("stats lan");
        let rows = rows.as_array().expect("a list");
        // Those that are zero are not there.
        rows.iter().filter_map(|row| row["Other"][name].as_u64()).sum()
    }

    /// How many descriptors the daemon has open.
    fn descriptors(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.daemon.pid());
        fs::read_dir(directory).expect("it runs").count()
    }
}

/// The word of an agent for a connection that was not made, because it must not be.
#[track_caller]
fn assert_denied(word: &str, to: SocketAddr) {
    // ICMP's `prohibited` has a different error number in each family and code.
    let denied = ["HostUnreachable", "NetworkUnreachable", "PermissionDenied"];
    assert!(denied.contains(&word), "{to}: {word}");
}

const BOX4: &str = "10.90.0.2";
const BOX6: &str = "fd90::2";

/// The gateway's addresses.
const GATEWAYS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(10, 90, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, 1)),
];
