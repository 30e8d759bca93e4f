//! The peers and how each is started.

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{
    compare,
    daemon::{self, Daemon, NETWORK},
    program::{self, Program},
    stage::Stage,
    topology::Netns,
    traffic::Ends,
};

/// A way from a container to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Our switch with its relay.
    Ours,
    /// slirp4netns.
    Slirp4netns,
    /// pasta as shipped.
    Pasta,
    /// pasta with a longer queue on the container's device.
    PastaTuned,
    /// A veth pair and nftables masquerade.
    Kernel,
    /// Our switch at MTU 65520.
    #[value(name = "ours-65520")]
    OursJumbo,
    /// slirp4netns at MTU 65520.
    #[value(name = "slirp4netns-65520")]
    Slirp4netnsJumbo,
    /// pasta at MTU 65520.
    #[value(name = "pasta-65520")]
    PastaJumbo,
}

impl compare::Peer for Peer {
    fn title(self) -> &'static str {
        match self {
            Self::Ours => "vswitchd",
            Self::Slirp4netns => "slirp4netns",
            Self::Pasta => "pasta as shipped",
            Self::PastaTuned => "pasta, txqueuelen 8000",
            Self::Kernel => "veth + masquerade",
            Self::OursJumbo => "vswitchd, MTU 65520",
            Self::Slirp4netnsJumbo => "slirp4netns, MTU 65520",
            Self::PastaJumbo => "pasta, MTU 65520",
        }
    }
}

impl Peer {
    pub(super) fn is_jumbo(self) -> bool {
        self.mtu() != "1500"
    }

    fn mtu(self) -> &'static str {
        match self {
            Self::OursJumbo | Self::Slirp4netnsJumbo | Self::PastaJumbo => "65520",
            _ => "1500",
        }
    }

    /// The container's namespace is named for it.
    fn role(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Slirp4netns => "slirp",
            Self::Pasta => "pasta",
            Self::PastaTuned => "pastat",
            Self::Kernel => "kernel",
            Self::OursJumbo => "oursj",
            Self::Slirp4netnsJumbo => "slirpj",
            Self::PastaJumbo => "pastaj",
        }
    }
}

/// A peer at work: a container that reaches the outside through it. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Way {
    peer: Peer,
    carrier: Carrier,
    container: Netns,
    /// How the peer was started, as one would type it.
    command: String,
    version: String,
}

impl Way {
    /// Starts a peer and waits until its container reaches the outside.
    pub(super) fn start(peer: Peer, stage: &Stage, daemon_flags: &[String]) -> Result<Self> {
        let container = Netns::new(peer.role())?;
        let path = container.path();
        let path = path.to_str().context("the namespace's path is not text")?;
        let (carrier, command) = match peer {
            Peer::Ours | Peer::OursJumbo => ours(peer, stage, &container, daemon_flags)?,
            Peer::Slirp4netns | Peer::Slirp4netnsJumbo => {
                let mtu = format!("--mtu={}", peer.mtu());
                let args = [
                    "--configure",
                    &mtu,
                    "--disable-dns",
                    "--netns-type=path",
                    path,
                    TAP,
                ];
                foreign(&stage.host, "slirp4netns", &args)?
            }
            Peer::Pasta | Peer::PastaTuned | Peer::PastaJumbo => {
                let args = [&PASTA_FLAGS[..], &["--mtu", peer.mtu(), "--netns", path]].concat();
                foreign(&stage.host, "pasta", &args)?
            }
            Peer::Kernel => (
                Carrier::Kernel {
                    _router: stage.router(&container)?,
                },
                "nft add rule ip bench out oifname uplink masquerade".to_owned(),
            ),
        };
        let mut way = Self {
            peer,
            carrier,
            container,
            command,
            version: version(peer)?,
        };
        let reached = way.ends(stage).reach();
        if let Err(error) = reached {
            bail!(
                "`{}` does not lead outside: {error:#}{}",
                way.command,
                way.carrier.complaint()
            );
        }
        if peer == Peer::PastaTuned {
            let tuning = ["link", "set", TAP, "txqueuelen", "8000"];
            way.container.ip(&tuning)?;
            way.command = format!("{}; in the container: ip {}", way.command, tuning.join(" "));
        }
        Ok(way)
    }

    /// The process whose processor time is the relay's own; none for the kernel.
    pub(super) fn process(&self) -> Option<u32> {
        match &self.carrier {
            Carrier::Daemon(daemon) => Some(daemon.pid()),
            Carrier::Kernel { .. } => None,
            Carrier::Program(program) => Some(program.pid()),
        }
    }

    pub(super) fn ends<'a>(&'a self, stage: &'a Stage) -> Ends<'a> {
        match self.carrier {
            Carrier::Kernel { .. } => stage.routed_ends(&self.container),
            _ => stage.ends(&self.container),
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

/// What carries a container's traffic.
#[derive(Debug)]
enum Carrier {
    Daemon(Daemon),
    Kernel { _router: Netns },
    Program(Program),
}

impl Carrier {
    /// What it has said, in brackets.
    fn complaint(&self) -> String {
        match self {
            Self::Program(program) => program.complaint(),
            _ => String::new(),
        }
    }
}

fn ours(peer: Peer, stage: &Stage, container: &Netns, flags: &[String]) -> Result<(Carrier, String)> {
    let daemon = Daemon::start_in(&stage.host, flags)?;
    let mtu = format!("com.docker.network.driver.mtu={}", peer.mtu());
    let create = [
        "network",
        "create",
        "--subnet",
        "10.98.0.0/16",
        "-o",
        &mtu,
        NETWORK,
    ];
    daemon.vswitch(&create)?;
    daemon.attach(container, "client", None)?;
    let command = format!("vswitchd {}; vswitch {}", flags.join(" "), create.join(" "));
    Ok((Carrier::Daemon(daemon), command))
}

/// Starts a foreign relay inside `host`; also the command as one would type it.
fn foreign(host: &Netns, program: &str, args: &[&str]) -> Result<(Carrier, String)> {
    let mut command = host.command(program);
    command.args(args);
    let program = Program::start(command)?;
    let line = program.line.clone();
    Ok((Carrier::Program(program), line))
}

/// The peer's version, as its Debian package or itself tells it.
fn version(peer: Peer) -> Result<String> {
    Ok(match peer {
        Peer::Ours | Peer::OursJumbo => daemon::version()?,
        Peer::Slirp4netns | Peer::Slirp4netnsJumbo => program::version("slirp4netns", "slirp4netns"),
        Peer::Pasta | Peer::PastaTuned | Peer::PastaJumbo => program::version("passt", "pasta"),
        Peer::Kernel => program::kernel_version(),
    })
}

/// The name of the container's device; slirp4netns and pasta are told it.
const TAP: &str = "tap0";

/// In the foreground so that its process is ours to watch; no published ports; the gateway's address is the
/// server's, so it must not mean the host's loopback; as root it must not drop to a user that may not join
/// the container's namespace.
const PASTA_FLAGS: [&str; 17] = [
    "--foreground",
    "--quiet",
    "--config-net",
    "--no-map-gw",
    "-t",
    "none",
    "-u",
    "none",
    "-T",
    "none",
    "-U",
    "none",
    "--ns-ifname",
    TAP,
    "--runas",
    "0",
    "--netns-only",
];
