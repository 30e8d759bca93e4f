//! The host that relays run on and the outside that they reach.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::{topology::Netns, traffic::Ends};

/// A "host" and an "outside" namespace with a link between them.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) host: Netns,
    pub(crate) outside: Netns,
}

impl Stage {
    pub(crate) fn new() -> Result<Self> {
        let (host, outside) = (Netns::with_cubic("host")?, Netns::with_cubic("out")?);
        let link = Link {
            device: "eth0",
            inner: ["192.0.2.1/24", "2001:db8::1/64"],
            outer: ["192.0.2.2/24", "2001:db8::2/64"],
        };
        link.lay(&host, &outside)?;
        for gateway in ["192.0.2.2", "2001:db8::2"] {
            host.ip(&["route", "add", "default", "via", gateway])?;
        }
        Ok(Self { host, outside })
    }

    /// A second host, for a container behind the kernel's own masquerade: its connection tracking would
    /// cost the relays on the first one.
    pub(crate) fn router(&self, container: &Netns) -> Result<Netns> {
        let router = Netns::with_cubic("router")?;
        let link = Link {
            device: "eth1",
            inner: ["198.51.100.1/24", "2001:db8:1::1/64"],
            outer: ["198.51.100.2/24", "2001:db8:1::2/64"],
        };
        link.lay(&router, &self.outside)?;
        router.ip(&["route", "add", "default", "via", "198.51.100.2"])?;
        let link = Link {
            device: "eth0",
            inner: ["10.97.0.2/24", "fd97::2/64"],
            outer: ["10.97.0.1/24", "fd97::1/64"],
        };
        link.lay(container, &router)?;
        container.ip(&["route", "add", "default", "via", "10.97.0.1"])?;
        router.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"])?;
        for rule in [
            "add table ip bench",
            "add chain ip bench out { type nat hook postrouting priority srcnat; }",
            "add rule ip bench out oifname uplink masquerade",
        ] {
            router.run("nft", &[rule])?;
        }
        Ok(router)
    }

    /// Traffic from a container to the outside.
    pub(crate) fn ends<'a>(&'a self, container: &'a Netns) -> Ends<'a> {
        Ends {
            client: container,
            server: &self.outside,
            address: Ipv4Addr::new(192, 0, 2, 2),
            port: None,
        }
    }

    /// Traffic from a container behind the router to the outside: to the address that the outside answers
    /// the router from.
    pub(crate) fn routed_ends<'a>(&'a self, container: &'a Netns) -> Ends<'a> {
        Ends {
            address: Ipv4Addr::new(198, 51, 100, 2),
            ..self.ends(container)
        }
    }
}

/// A veth pair between two namespaces.
pub(crate) struct Link {
    /// The device's name on the outer side; on the inner one it is called `uplink`.
    pub(crate) device: &'static str,
    pub(crate) inner: [&'static str; 2],
    pub(crate) outer: [&'static str; 2],
}

impl Link {
    pub(crate) fn lay(&self, inner: &Netns, outer: &Netns) -> Result<()> {
        let peer = ["peer", "name", self.device, "netns", outer.name()];
        inner.ip(&[&["link", "add", "uplink", "type", "veth"][..], &peer].concat())?;
        for (netns, device, addresses) in [(inner, "uplink", self.inner), (outer, self.device, self.outer)] {
            let [v4, v6] = addresses;
            netns.ip(&["addr", "add", v4, "dev", device])?;
            netns.ip(&["addr", "add", v6, "dev", device, "nodad"])?;
            netns.ip(&["link", "set", device, "up"])?;
        }
        Ok(())
    }
}
