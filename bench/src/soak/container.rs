//! A container behind a link that loses frames.

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{
    agent::{Carried, Odds},
    daemon::Daemon,
    topology::{Netns, Running},
};

/// A namespace with the addresses of an endpoint whose device is in another one, and the link between them.
#[derive(Debug)]
pub(super) struct LossyContainer {
    link: Running,
    pub(super) netns: Netns,
    _middle: Netns,
}

impl LossyContainer {
    pub(super) fn start(daemon: &Daemon, odds: Odds, seed: u64) -> Result<Self> {
        let (middle, netns) = (Netns::new("middle")?, Netns::new("lossy")?);
        daemon.attach(&middle, "lossy", None)?;
        let [device]: [Device; 1] = middle.ip_json(&["address", "show", "dev", ENDPOINT])?;
        let routes = ["-4", "-6"].map(|family| {
            let routes: Result<Vec<Route>> = middle.ip_json(&[family, "route", "show", "default"]);
            routes.map(|routes| (family, routes))
        });

        // The kernel in the middle must neither answer for the addresses nor say anything itself.
        for scope in ["all", "default"] {
            let setting = format!("net.ipv6.conf.{scope}.disable_ipv6=1");
            middle.run("sysctl", &["-qw", &setting])?;
        }
        middle.ip(&["address", "flush", "dev", ENDPOINT])?;
        middle.ip(&["link", "set", ENDPOINT, "arp", "off"])?;

        let mtu = device.mtu.to_string();
        let near = [
            "link", "add", FAR, "arp", "off", "mtu", &mtu, "type", "veth", "peer",
        ];
        // One segment a frame, so that a loss takes one; the other way, the agent cuts.
        let peer = [
            "name",
            ENDPOINT,
            "netns",
            netns.name(),
            "address",
            &device.address,
            "mtu",
            &mtu,
            "gso_max_segs",
            "1",
        ];
        middle.ip(&[&near[..], &peer].concat())?;
        middle.ip(&["link", "set", FAR, "up"])?;
        netns.ip(&["link", "set", ENDPOINT, "up"])?;
        for address in device
            .addresses
            .iter()
            .filter(|address| address.scope == "global")
        {
            let prefix = format!("{}/{}", address.local, address.prefix_len);
            let add = ["address", "add", &prefix, "dev", ENDPOINT];
            match address.family.as_str() {
                "inet6" => netns.ip(&[&add[..], &["nodad"]].concat())?,
                _ => netns.ip(&add)?,
            }
        }
        for routes in routes {
            let (family, routes) = routes?;
            for route in routes {
                let add = [
                    family,
                    "route",
                    "replace",
                    "default",
                    "via",
                    &route.gateway,
                    "dev",
                    ENDPOINT,
                ];
                netns.ip(&add)?;
            }
        }

        let Odds {
            loss,
            reorder,
            duplicate,
        } = odds;
        let agent = [
            "lossy",
            ENDPOINT,
            FAR,
            &format!("--seed={seed}"),
            &format!("--loss={loss}"),
            &format!("--reorder={reorder}"),
            &format!("--duplicate={duplicate}"),
        ];
        let link = middle.agent(None, &agent).context("start the link")?;
        Ok(Self {
            link,
            netns,
            _middle: middle,
        })
    }

    /// Takes the link down; what it did.
    pub(super) fn end(mut self) -> Result<Carried> {
        self.link.end_input();
        self.link.result()
    }
}

/// The endpoint's device in a container.
const ENDPOINT: &str = "eth0";
/// The other end of the container's veth pair.
const FAR: &str = "wire0";

/// `ip -j address`.
#[derive(Debug, Deserialize)]
struct Device {
    address: String,
    mtu: u32,
    #[serde(rename = "addr_info")]
    addresses: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Address {
    family: String,
    local: String,
    #[serde(rename = "prefixlen")]
    prefix_len: u8,
    scope: String,
}

/// `ip -j route`.
#[derive(Debug, Deserialize)]
struct Route {
    gateway: String,
}
