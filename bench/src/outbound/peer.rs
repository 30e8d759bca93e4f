//! The peers and how each is started.

use std::{
    fs::File,
    io::Read,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use tempfile::NamedTempFile;

use super::Stage;
use crate::{
    daemon::{Daemon, NETWORK, sibling},
    topology::{Netns, line_of, terminate},
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

impl Peer {
    pub(super) fn title(self) -> &'static str {
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
    pub(super) command: String,
    pub(super) version: String,
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
                Program::start(&stage.host, "slirp4netns", &args)?
            }
            Peer::Pasta | Peer::PastaTuned | Peer::PastaJumbo => {
                let args = [&PASTA_FLAGS[..], &["--mtu", peer.mtu(), "--netns", path]].concat();
                Program::start(&stage.host, "pasta", &args)?
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

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// The process whose processor time is the relay's own; none for the kernel.
    pub(super) fn process(&self) -> Option<u32> {
        match &self.carrier {
            Carrier::Daemon(daemon) => Some(daemon.pid()),
            Carrier::Kernel { .. } => None,
            Carrier::Program(program) => Some(program.child.id()),
        }
    }

    pub(super) fn ends<'a>(&'a self, stage: &'a Stage) -> Ends<'a> {
        match self.carrier {
            Carrier::Kernel { .. } => stage.routed_ends(&self.container),
            _ => stage.ends(&self.container),
        }
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

/// A foreign relay's process.
#[derive(Debug)]
struct Program {
    child: Child,
    log: NamedTempFile,
}

impl Program {
    /// Starts it inside `host`; also the command as one would type it.
    fn start(host: &Netns, program: &str, args: &[&str]) -> Result<(Carrier, String)> {
        let log = NamedTempFile::new()?;
        let mut command = host.command(program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.reopen()?)
            .stderr(log.reopen()?);
        let line = line_of(&command);
        let child = command.spawn().with_context(|| format!("run {line}"))?;
        Ok((Carrier::Program(Self { child, log }), line))
    }

    fn complaint(&self) -> String {
        let mut said = String::new();
        let read = File::open(self.log.path()).and_then(|mut log| log.read_to_string(&mut said));
        match read {
            Ok(_) if !said.trim().is_empty() => format!(" (it said: {})", said.trim()),
            _ => String::new(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        terminate(&mut self.child);
    }
}

/// The peer's version, as its Debian package or itself tells it.
fn version(peer: Peer) -> Result<String> {
    let (package, program) = match peer {
        Peer::Ours | Peer::OursJumbo => ("", sibling("vswitchd")?),
        Peer::Slirp4netns | Peer::Slirp4netnsJumbo => ("slirp4netns", "slirp4netns".into()),
        Peer::Pasta | Peer::PastaTuned | Peer::PastaJumbo => ("passt", "pasta".into()),
        Peer::Kernel => ("", "nft".into()),
    };
    let mut command = Command::new(program);
    let own = first_line(command.arg("--version"));
    let mut query = Command::new("dpkg-query");
    let packaged = first_line(query.args(["-W", "-f", "${Package} ${Version}\\n", package]));
    let version = match peer {
        Peer::Kernel => {
            let kernel = rustix::system::uname();
            format!("Linux {}, {own}", kernel.release().to_string_lossy())
        }
        _ if packaged.is_empty() => own,
        _ => packaged,
    };
    Ok(version)
}

/// What a command prints first; empty if it cannot be run.
fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().next().unwrap_or_default().trim().to_owned()
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
