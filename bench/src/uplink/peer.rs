//! The peers and how each is started.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::{
    compare, daemon, program,
    publish::{Sandboxed, publish_by_dnat},
    stage::{Link, Stage},
    topology::Netns,
    traffic::Ends,
};

/// What leads from a container to the outside and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Our device uplink, with a TAP for the container.
    Tap,
    /// Our device uplink, with a veth for the container.
    Veth,
    /// A veth pair and nftables masquerade.
    Kernel,
}

impl compare::Peer for Peer {
    fn title(self) -> &'static str {
        match self {
            Self::Tap => "vswitchd, TAP",
            Self::Veth => "vswitchd, veth",
            Self::Kernel => "veth + masquerade",
        }
    }
}

impl Peer {
    /// Who is who on the link to the outside.
    fn addresses(self) -> Addresses {
        let address = |last| Ipv4Addr::new(203, 0, 113, last);
        match self {
            Self::Tap => Addresses {
                external: address(10),
                outside: address(2),
            },
            Self::Veth => Addresses {
                external: address(74),
                outside: address(66),
            },
            Self::Kernel => Addresses {
                external: Ipv4Addr::new(198, 51, 100, 1),
                outside: Ipv4Addr::new(198, 51, 100, 2),
            },
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Addresses {
    /// What the container is seen by.
    external: Ipv4Addr,
    outside: Ipv4Addr,
}

/// A peer at work: a container that reaches the outside through it, and a port of it that the outside reaches. Ended
/// when dropped.
#[derive(Debug)]
pub(crate) struct Way {
    peer: Peer,
    carrier: Carrier,
    container: Netns,
    /// How the peer was started, as one would type it.
    command: String,
    version: String,
}

/// What carries a container's traffic, and where.
#[derive(Debug)]
enum Carrier {
    // Fields go in this order.
    Daemon { sandboxed: Sandboxed, _host: Netns },
    Kernel { _router: Netns },
}

impl Way {
    /// Starts a peer and waits until both directions work.
    pub(super) fn start(peer: Peer, stage: &Stage, daemon_flags: &[String]) -> Result<Self> {
        let way = match peer {
            Peer::Kernel => kernel(stage)?,
            Peer::Tap => ours(peer, ("tap", TAP_LINK), stage, daemon_flags)?,
            Peer::Veth => ours(peer, ("veth", VETH_LINK), stage, daemon_flags)?,
        };
        let reach = |ends: Ends<'_>, towards| {
            let seen = ends.reach();
            seen.with_context(|| format!("`{}` does not lead {towards}", way.command))
        };
        let Addresses { external, .. } = peer.addresses();
        let seen = reach(way.outward(stage), "outside")?;
        ensure!(
            seen == IpAddr::V4(external),
            "the outside sees {seen}, not {external}"
        );
        reach(way.inward(stage), "to the container")?;
        Ok(way)
    }

    /// The process whose processor time is the relay's own; none for the kernel.
    pub(super) fn process(&self) -> Option<u32> {
        match &self.carrier {
            Carrier::Daemon { sandboxed, .. } => Some(sandboxed.daemon.pid()),
            Carrier::Kernel { .. } => None,
        }
    }

    /// Traffic from the container to the outside.
    pub(super) fn outward<'a>(&'a self, stage: &'a Stage) -> Ends<'a> {
        Ends {
            client: &self.container,
            server: &stage.outside,
            address: self.peer.addresses().outside,
            port: None,
        }
    }

    /// Traffic from the outside to the container's published port.
    pub(super) fn inward<'a>(&'a self, stage: &'a Stage) -> Ends<'a> {
        Ends {
            client: &stage.outside,
            server: &self.container,
            address: self.peer.addresses().external,
            port: Some(PORT),
        }
    }
}

impl compare::Way<Peer> for Way {
    fn peer(&self) -> Peer {
        self.peer
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn command(&self) -> &str {
        &self.command
    }
}

fn ours(peer: Peer, (kind, link): (&str, Link), stage: &Stage, flags: &[String]) -> Result<Way> {
    let host = Netns::with_cubic(&format!("host-{kind}"))?;
    link.lay(&host, &stage.outside)?;
    let Addresses { external, outside } = peer.addresses();
    let uplink = format!("device=uplink,address={external}/26,gateway={outside}");
    let flags = [&["--uplink".to_owned(), uplink], flags].concat();
    let [tcp, udp] = ["tcp", "udp"].map(|protocol| format!("{PORT}:{PORT}/{protocol}"));
    let words = ["--endpoint", kind, "-p", &tcp, "-p", &udp];
    let (sandboxed, container) = Sandboxed::start(&host, &flags, kind, &words)?;
    Ok(Way {
        peer,
        carrier: Carrier::Daemon {
            sandboxed,
            _host: host,
        },
        container,
        command: format!(
            "vswitchd {}; vswitch {}",
            flags.join(" "),
            Sandboxed::run(&words).join(" ")
        ),
        version: daemon::version()?,
    })
}

fn kernel(stage: &Stage) -> Result<Way> {
    let container = Netns::with_cubic("kernel")?;
    let router = stage.router(&container)?;
    let published = publish_by_dnat(&router, SocketAddrV4::new(BEHIND_ROUTER, PORT))?;
    Ok(Way {
        peer: Peer::Kernel,
        carrier: Carrier::Kernel { _router: router },
        container,
        command: format!("nft add rule ip bench out oifname uplink masquerade; {published}"),
        version: program::kernel_version(),
    })
}

/// The container's, that the outside reaches by the same number.
const PORT: u16 = 8080;

/// The container's address behind the router ([`Stage::router`]).
const BEHIND_ROUTER: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 2);

const TAP_LINK: Link = Link {
    device: "eth2",
    inner: ["203.0.113.1/26", "2001:db8:2::1/64"],
    outer: ["203.0.113.2/26", "2001:db8:2::2/64"],
};

const VETH_LINK: Link = Link {
    device: "eth3",
    inner: ["203.0.113.65/26", "2001:db8:3::1/64"],
    outer: ["203.0.113.66/26", "2001:db8:3::2/64"],
};
