//! Containers behind a bridge, as dockerd builds them, and a host that publishes by the kernel's DNAT.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;

use crate::{
    stage::{Link, Stage},
    topology::Netns,
};

/// A container's link to a bridge of its own on a host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bridged {
    /// The container's.
    pub(crate) address: Ipv4Addr,
}

impl Bridged {
    /// Lays the link; `number` tells the bridges of one host apart.
    pub(crate) fn lay(host: &Netns, container: &Netns, number: u8) -> Result<Self> {
        let (bridge, port) = (format!("br{number}"), format!("veth{number}"));
        // Docker's own subnets are 172.17.0.0/16 and the ones after it.
        let [gateway, address] = [1, 2].map(|last| Ipv4Addr::new(172, 28, number, last));
        host.ip(&["link", "add", &bridge, "type", "bridge"])?;
        host.ip(&["addr", "add", &format!("{gateway}/24"), "dev", &bridge])?;
        host.ip(&["link", "set", &bridge, "up"])?;
        let peer = ["peer", "name", "eth0", "netns", container.name()];
        host.ip(&[&["link", "add", &port, "type", "veth"][..], &peer].concat())?;
        host.ip(&["link", "set", &port, "master", &bridge, "up"])?;
        container.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        container.ip(&["link", "set", "eth0", "up"])?;
        container.ip(&["route", "add", "default", "via", &gateway.to_string()])?;
        Ok(Self { address })
    }
}

/// A second host, whose kernel publishes the container's port: its connection tracking would cost the relays on
/// the first one. It and its rules.
pub(super) fn router(stage: &Stage, container: &Netns, port: u16) -> Result<(Netns, String)> {
    let router = Netns::with_cubic("router")?;
    let link = Link {
        device: "eth1",
        inner: ["198.51.100.1/24", "2001:db8:1::1/64"],
        outer: ["198.51.100.2/24", "2001:db8:1::2/64"],
    };
    link.lay(&router, &stage.outside)?;
    router.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"])?;
    let Bridged { address } = Bridged::lay(&router, container, 0)?;
    let command = publish_by_dnat(&router, SocketAddrV4::new(address, port))?;
    Ok((router, command))
}

/// Has a router's kernel publish a container's port as one of its own; how, as one would type it.
pub(crate) fn publish_by_dnat(router: &Netns, container: SocketAddrV4) -> Result<String> {
    router.run("nft", &["add table ip bench"])?;
    let chain = "add chain ip bench in { type nat hook prerouting priority dstnat; }";
    router.run("nft", &[chain])?;
    let port = container.port();
    let rules = ["tcp", "udp"].map(|protocol| {
        format!("add rule ip bench in iifname uplink {protocol} dport {port} dnat to {container}")
    });
    for rule in &rules {
        router.run("nft", &[rule])?;
    }
    Ok(format!("nft {}", rules.join("; nft ")))
}

/// The address of the relays' host as the outside sees it.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// That of the kernel's.
pub(super) const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
