//! The peers, and a port that each has published.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::{
    carrier::Published,
    stage::{HOST, ROUTER},
};
use crate::{compare, daemon, program, stage::Stage, traffic::Ends};

/// What leads from a host's port to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Our switch with a published port.
    Ours,
    /// Docker's userland proxy.
    DockerProxy,
    /// Ours in its place.
    OurDockerProxy,
    /// RootlessKit with its builtin port driver.
    Rootlesskit,
    /// pasta -t.
    Pasta,
    /// slirp4netns with add_hostfwd.
    Slirp4netns,
    /// nftables DNAT to a container behind a bridge.
    Kernel,
}

impl compare::Peer for Peer {
    fn title(self) -> &'static str {
        match self {
            Self::Ours => "vswitchd -p",
            Self::DockerProxy => "docker-proxy",
            Self::OurDockerProxy => "our docker-proxy",
            Self::Rootlesskit => "RootlessKit builtin",
            Self::Pasta => "pasta -t",
            Self::Slirp4netns => "slirp4netns hostfwd",
            Self::Kernel => "bridge + DNAT",
        }
    }
}

impl Peer {
    /// The same on the host and in the container: RootlessKit and pasta forward so by default.
    fn port(self) -> u16 {
        7000 + self as u16
    }

    /// The peer's version, as its Debian package or itself tells it.
    fn version(self) -> Result<String> {
        Ok(match self {
            Self::Ours => daemon::version()?,
            Self::DockerProxy => program::version("docker.io", "dockerd"),
            Self::OurDockerProxy => concat!("vswitch ", env!("CARGO_PKG_VERSION")).to_owned(),
            Self::Rootlesskit => program::version("rootlesskit", "rootlesskit"),
            Self::Pasta => program::version("passt", "pasta"),
            Self::Slirp4netns => program::version("slirp4netns", "slirp4netns"),
            Self::Kernel => program::kernel_version(),
        })
    }
}

/// A peer at work: a port that leads to a container. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Way {
    peer: Peer,
    published: Published,
    version: String,
    /// Whose address the server saw.
    seen: Seen,
}

/// A client's address as the server sees it.
#[derive(Debug)]
struct Seen {
    /// With its own.
    remote: (IpAddr, IpAddr),
    loopback: Option<IpAddr>,
}

/// Where a client comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Loopback,
    Outside,
}

impl Way {
    /// Starts a peer and waits until its port leads to the container.
    pub(super) fn start(peer: Peer, stage: &Stage, daemon_flags: &[String]) -> Result<Self> {
        let version = peer.version()?;
        let published = Published::start(peer, peer.port(), stage, daemon_flags)?;
        let seen = seen(peer, &published, stage);
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => bail!(
                "`{}` does not lead to the container: {error:#}{}",
                published.command,
                published.carrier.complaint()
            ),
        };
        Ok(Self {
            peer,
            published,
            version,
            seen,
        })
    }

    /// The processes whose processor time is the peer's own; none for the kernel.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.published.carrier.processes()
    }

    pub(super) fn ends<'a>(&'a self, stage: &'a Stage, from: From) -> Ends<'a> {
        ends(self.peer, &self.published, stage, from)
    }

    /// Whether the server sees who calls from outside.
    pub(super) fn keeps_address(&self) -> bool {
        let (own, seen) = self.seen.remote;
        own == seen
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
        &self.published.command
    }

    fn remark(&self) -> Option<String> {
        let (own, seen) = self.seen.remote;
        let verdict = if self.keeps_address() { "kept" } else { "LOST" };
        let loopback = self.seen.loopback;
        let loopback = loopback.map(|seen| format!("; a loopback client as {seen}"));
        Some(format!(
            "the server sees the remote client {own} as {seen} ({verdict}){}",
            loopback.unwrap_or_default()
        ))
    }
}

fn ends<'a>(peer: Peer, published: &'a Published, stage: &'a Stage, from: From) -> Ends<'a> {
    let (client, address) = match (from, peer) {
        (From::Loopback, _) => (&stage.host, Ipv4Addr::LOCALHOST),
        (From::Outside, Peer::Kernel) => (&stage.outside, ROUTER),
        (From::Outside, _) => (&stage.outside, HOST),
    };
    Ends {
        client,
        server: &published.container,
        address,
        port: Some(peer.port()),
    }
}

fn seen(peer: Peer, published: &Published, stage: &Stage) -> Result<Seen> {
    let reach = |from| {
        let seen = ends(peer, published, stage, from).reach();
        seen.with_context(|| format!("from {from:?}"))
    };
    // What the host's routes to the outside begin with, on either link.
    let own = match peer {
        Peer::Kernel => Ipv4Addr::new(198, 51, 100, 2),
        _ => Ipv4Addr::new(192, 0, 2, 2),
    };
    Ok(Seen {
        remote: (IpAddr::V4(own), reach(From::Outside)?),
        loopback: match peer {
            Peer::Kernel => None,
            _ => Some(reach(From::Loopback)?),
        },
    })
}
