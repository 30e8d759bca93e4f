//! Published ports: clients outside, on the host and in containers reach containers, which see who comes.

mod clients;
mod hairpin;
mod hostile;
mod lifecycle;
mod loopback;
mod refusals;
mod rules;
mod streams;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;
use vswitch_wire::MacAddr;

use crate::support::{
    agent::{Agent, Dialogue, Role, Service, Transport},
    daemon::Daemon,
    outside::{FAR4, FAR6, HOST4, HOST6, Outside, Place},
};

/// A daemon in the host, and sandbox `web` at [`WEB4`] and [`WEB6`] of its network `lan`.
struct Scene {
    // Ends before the machines do.
    daemon: Daemon,
    outside: Outside,
}

impl Scene {
    /// With these words for `run`; `None` if skipped.
    #[must_use]
    fn new(flags: &str) -> Option<Self> {
        let outside = Outside::new()?;
        let daemon = outside.daemon(&[])?;
        Some(Self::with(outside, daemon, flags))
    }

    fn with(outside: Outside, mut daemon: Daemon, flags: &str) -> Self {
        daemon.ok("network create --subnet 10.90.0.0/24 --ipv6 --subnet fd90::/64 lan");
        daemon.run("web", &format!("--network lan --ip {WEB4} --ip6 {WEB6} {flags}"));
        Self { daemon, outside }
    }

    /// Starts a server of so many ports from [`INNER`] on in a sandbox.
    #[track_caller]
    fn introduce(&self, sandbox: &str, ports: u16) -> Agent {
        let at = at(UNSPECIFIED, INNER);
        let agent = self.daemon.agent(sandbox, &Role::Introduce { at, ports });
        assert_eq!(agent.word(), "ready");
        agent
    }

    /// Starts a TCP server at [`INNER`] in `web`.
    #[track_caller]
    fn serve(&self, service: Service) -> Agent {
        let at = at(UNSPECIFIED, INNER);
        let agent = self.daemon.agent("web", &Role::Serve { at, service });
        assert_eq!(agent.word(), INNER.to_string());
        agent
    }

    /// Who [`introduce`](Self::introduce) takes a visitor for.
    #[track_caller]
    fn visit(&self, place: Place, to: SocketAddr, transport: Transport) -> String {
        self.outside
            .agent(place, &Role::Visit { to, transport })
            .last_word()
    }

    /// The same for a visitor from a sandbox.
    #[track_caller]
    fn visit_from(&self, sandbox: &str, to: SocketAddr, transport: Transport) -> String {
        self.daemon.act(sandbox, &Role::Visit { to, transport })
    }

    /// `connected`, or how a TCP connection fails.
    #[track_caller]
    fn reach(&self, place: Place, to: SocketAddr) -> String {
        self.outside.agent(place, &Role::Reach { to }).last_word()
    }

    /// A connection that is held.
    #[track_caller]
    fn hold(&self, place: Place, to: SocketAddr) -> Agent {
        let role = Role::Dial {
            to,
            dialogue: Dialogue::Hold,
            connections: 1,
        };
        let agent = self.outside.agent(place, &role);
        assert_eq!(agent.word(), "held", "{to}");
        agent
    }

    /// The row of the only mapping.
    #[track_caller]
    fn entry(&self) -> Value {
        let rows = self.daemon.json("port --counters web");
        let rows = rows.as_array().expect("a list");
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].clone()
    }

    /// A counter of the only mapping.
    #[track_caller]
    fn counter(&self, name: &str) -> u64 {
        self.entry()["Counters"][name].as_u64().unwrap_or_default()
    }
}

/// The container's port.
const INNER: u16 = 7000;

/// The host's port.
const OUTER: u16 = 8080;

/// [`OUTER`] leads to [`INNER`], TCP and UDP, on all addresses.
const OPEN: &str = "-p 8080:7000 -p 8080:7000/udp";

const WEB4: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 2);
const WEB6: Ipv6Addr = Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, 2);

const UNSPECIFIED: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Of `web`.
const OWN: [IpAddr; 2] = [IpAddr::V4(WEB4), IpAddr::V6(WEB6)];

/// Of `lan`.
const GATEWAYS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 90, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, 1)),
];

/// The host as others know it.
const HOST: [IpAddr; 2] = [IpAddr::V4(HOST4), IpAddr::V6(HOST6)];

/// The machine behind a router.
const FAR: [IpAddr; 2] = [IpAddr::V4(FAR4), IpAddr::V6(FAR6)];

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

const BOTH_TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// The host's MAC address as the machine beside it knows it.
#[track_caller]
fn host_station(outside: &Outside) -> [u8; 6] {
    let text = outside.ok(Place::Host, "ip -o link show dev out0");
    let mut words = text.split_whitespace().skip_while(|&word| word != "link/ether");
    let station: Option<MacAddr> = words.nth(1).and_then(|word| word.parse().ok());
    station.unwrap_or_else(|| panic!("{text}")).0
}
