//! Networks that leave by a device on which the daemon is a host of its own.

mod addresses;
mod connections;
mod inward;
mod outward;
mod policy;
mod refusals;
mod routed;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::support::{
    agent::{Agent, Role, Service, Transport},
    daemon::{Daemon, Outcome},
    outside::{FAR4, FAR6, Outside, Place},
    skip,
};

/// A daemon with an uplink in the host, `web` on its network `lan` and `app` on `other`.
struct Scene {
    // Ends before the machines do.
    daemon: Daemon,
    outside: Outside,
}

impl Scene {
    /// With these words for `web`'s `run`; `None` if skipped.
    #[must_use]
    fn new(flags: &str) -> Option<Self> {
        Self::on(Outside::with_device()?, "", flags)
    }

    /// The same on machines that are there, and with these options for `lan`.
    #[must_use]
    fn on(outside: Outside, options: &str, flags: &str) -> Option<Self> {
        let daemon = outside.daemon(&["--uplink", DEVICE])?;
        let mut scene = Self { daemon, outside };
        scene.populate(options, flags);
        Some(scene)
    }

    /// Makes the networks, with these options for `lan`, and the sandboxes.
    fn populate(&mut self, options: &str, flags: &str) {
        let daemon = &mut self.daemon;
        daemon.ok(&format!(
            "network create --subnet 10.90.0.0/24 --ipv6 --subnet fd90::/64 {options} lan"
        ));
        daemon.ok("network create --subnet 10.91.0.0/24 --ipv6 --subnet fd91::/64 other");
        daemon.run("web", &format!("--network lan --ip {WEB4} --ip6 {WEB6} {flags}"));
        daemon.run("app", "--network other");
    }

    /// Runs a program in a sandbox.
    fn inside(&self, sandbox: &str, words: &str) -> Outcome {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.daemon
            .vswitch(&[&["exec", sandbox, "--"], &words[..]].concat())
    }

    /// Whether a program is there; says so visibly if not.
    fn has(&self, program: &str) -> bool {
        let is_there = self
            .outside
            .sh(Place::Host, &format!("command -v {program}"))
            .code
            == 0;
        if !is_there {
            skip(format_args!("{program} is not installed"));
        }
        is_there
    }

    /// Starts a server at a machine; the agent and its port.
    #[track_caller]
    fn serve(&self, place: Place, service: Service) -> (Agent, u16) {
        let at = SocketAddr::new(UNSPECIFIED, 0);
        self.outside.server(place, &Role::Serve { at, service })
    }

    /// Starts a server of [`INNER`] in a sandbox.
    #[track_caller]
    fn introduce(&self, sandbox: &str) -> Agent {
        let at = SocketAddr::new(UNSPECIFIED, INNER);
        let agent = self.daemon.agent(sandbox, &Role::Introduce { at, ports: 1 });
        assert_eq!(agent.word(), "ready");
        agent
    }

    /// Starts the same at a machine outside.
    #[track_caller]
    fn introduce_outside(&self, place: Place) -> Agent {
        let at = SocketAddr::new(UNSPECIFIED, INNER);
        let agent = self.outside.agent(place, &Role::Introduce { at, ports: 1 });
        assert_eq!(agent.word(), "ready");
        agent
    }

    /// Who a server takes a sandbox for.
    #[track_caller]
    fn visit_from(&self, sandbox: &str, to: SocketAddr, transport: Transport) -> String {
        self.daemon.act(sandbox, &Role::Visit { to, transport })
    }

    /// Who a server takes a machine for.
    #[track_caller]
    fn visit(&self, place: Place, to: SocketAddr, transport: Transport) -> String {
        self.outside
            .agent(place, &Role::Visit { to, transport })
            .last_word()
    }

    /// `connected`, or how a TCP connection fails.
    #[track_caller]
    fn reach(&self, place: Place, to: SocketAddr) -> String {
        self.begin_reach(place, to).last_word()
    }

    /// The same, for those that fail by silence: the last word takes two seconds.
    fn begin_reach(&self, place: Place, to: SocketAddr) -> Agent {
        self.outside.agent(place, &Role::Reach { to })
    }
}

const DEVICE: &str = "device=up0,address=198.51.100.10/24,address=198.51.100.11/24,address=2001:db8:3::10/64,\
                      address=2001:db8:3::11/64,gateway=198.51.100.2,gateway=2001:db8:3::2";

/// The uplink's addresses: the first, and the second.
const UPLINK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 0x10)),
];
const SECOND: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 11)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 0x11)),
];

const WEB4: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 5);
const WEB6: Ipv6Addr = Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, 5);

/// The machine behind a router.
const FAR: [IpAddr; 2] = [IpAddr::V4(FAR4), IpAddr::V6(FAR6)];

/// Of `lan`.
const GATEWAYS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 90, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, 1)),
];

const UNSPECIFIED: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Whether a text names one of the uplink's addresses of one version, which containers are spread over, and what follows.
fn is_ours(text: &str, version: usize, rest: &str) -> bool {
    [UPLINK, SECOND]
        .iter()
        .any(|own| text.ends_with(&format!("{}{rest}", own[version])))
}

/// The container's port, and the published one.
const INNER: u16 = 7000;
const OUTER: u16 = 8080;

/// [`OUTER`] leads to [`INNER`], TCP and UDP, on all addresses.
const OPEN: &str = "-p 8080:7000 -p 8080:7000/udp";

const BOTH_TRANSPORTS: [(Transport, &str); 2] = [(Transport::Tcp, "tcp"), (Transport::Udp, "udp")];

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}
