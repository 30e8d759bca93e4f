//! Veth pairs: the container's end in its namespace, our end in one of its own, the *carrier*.
//!
//! The carrier belongs to the container's user namespace, as it must for an ordinary user to make it. Nothing is in it
//! but the pair's other end, without an address, and nobody but us has a way into it: the attach process leaves it
//! again, and the packet socket that it opened there is what keeps it. When that is closed, at the latest when the
//! daemon ends, the kernel takes the carrier down, and with it both ends. So a veth does not survive its daemon; the
//! next one makes it anew.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::getppid;
use vswitch_wire::MacAddr;

use super::{
    super::{
        netlink::{Link, LinkDriver, Netlink, NetlinkError, VethEnd},
        netns::Liveness,
        packet::{self, Interface, Options, PacketSocket},
        sys::ethtool,
    },
    AttachError, LinkConfig,
};

/// Makes the pair, with the container's end in the namespace that this process is in, where it is again afterwards.
/// That end is down yet.
pub(super) fn open(config: &LinkConfig) -> Result<OwnedFd, AttachError> {
    let container = File::open(OWN_NAMESPACE)
        .map_err(|source| AttachError::failed("open the container's network namespace", source))?;
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| AttachError::failed("make a network namespace for a veth", errno.into()))?;
    let made = fill(config, &container);
    // Whatever happened: the pair goes with the namespace unless a socket holds it.
    setns(&container, CloneFlags::CLONE_NEWNET).map_err(|errno| {
        AttachError::failed("enter the container's network namespace again", errno.into())
    })?;
    let socket = made?;
    quiet(&config.name)?;
    Ok(socket.into())
}

/// The mark of the daemon that this process works for.
pub(super) fn mark() -> io::Result<String> {
    let daemon = getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    let daemon = Liveness::of(daemon)?;
    Ok(format!("{MARK}{} {}", daemon.pid(), daemon.started()))
}

/// Whether a daemon made this interface, for an endpoint of this address.
pub(super) fn is_ours(link: &Link, mac: MacAddr) -> bool {
    link.driver == LinkDriver::Veth && link.mac == mac && link.alias.starts_with(MARK)
}

/// Whether the daemon that made this veth still lives.
pub(super) fn is_served(link: &Link) -> bool {
    let numbers = link
        .alias
        .strip_prefix(MARK)
        .and_then(|rest| rest.split_once(' '));
    let Some((pid, started)) = numbers else {
        return false;
    };
    match (pid.parse(), started.parse()) {
        (Ok(pid), Ok(started)) => matches!(Liveness::again(pid, started), Ok(Some(_))),
        _ => false,
    }
}

/// Makes the pair in a namespace that is new and empty.
fn fill(config: &LinkConfig, container: &File) -> Result<PacketSocket, AttachError> {
    // Before there is an interface, so that it never says anything. Without IPv6 in the kernel there is nothing to do.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let near = VethEnd {
        name: PORT,
        mac: None,
        mtu: config.mtu,
    };
    let far = VethEnd {
        name: &config.name,
        mac: Some(config.mac),
        mtu: config.mtu,
    };
    let made = Netlink::open().and_then(|mut netlink| netlink.add_veth(&near, &far, container.as_fd()));
    made.map_err(|error| refusal(&config.name, error))?;
    PacketSocket::open(Interface::Name(PORT), Options::default())
        .map_err(|source| AttachError::failed(format!("open a packet socket for {}", config.name), source))
}

fn refusal(name: &str, error: NetlinkError) -> AttachError {
    match error.source.raw_os_error() {
        Some(libc::EOPNOTSUPP) => AttachError::NoVeth,
        Some(libc::EPERM | libc::EACCES) => super::inside::refused(format!("create {name}"), error.source),
        _ => error.into(),
    }
}

/// Has the container's stack finish what vnet headers cannot describe, before it hands a frame over: SCTP's checksum,
/// and super-frames that are neither TCP nor UDP or are inside a tunnel.
fn quiet(name: &str) -> Result<(), AttachError> {
    let features = match packet::describes_udp_segments() {
        true => &FEATURES[1..],
        false => &FEATURES[..],
    };
    match ethtool::switch_off(name, features) {
        // Such frames are lost then, others not.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        other => other.map_err(|source| AttachError::failed(format!("set features of {name}"), source)),
    }
}

/// Name of our end, alone in its namespace.
const PORT: &str = "port";

/// What the alias of a container's end begins with; the daemon's process id and start time follow.
const MARK: &str = "vswitchd ";

const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Of what a veth has (drivers/net/veth.c: `VETH_FEATURES`), by the names of net/ethtool/common.c. The first
/// can be described since Linux 6.2.
const FEATURES: [&str; 13] = [
    "tx-udp-segmentation",
    "tx-checksum-sctp",
    "tx-esp-segmentation",
    "tx-fcoe-segmentation",
    "tx-gre-csum-segmentation",
    "tx-gre-segmentation",
    "tx-gso-list",
    "tx-gso-partial",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-sctp-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-udp_tnl-segmentation",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::netlink::LinkState;

    fn link(alias: &str) -> Link {
        Link {
            index: 2,
            name: "eth0".into(),
            mac: MAC,
            mtu: 1500,
            txqueuelen: 1000,
            state: LinkState::Up,
            driver: LinkDriver::Veth,
            alias: alias.into(),
        }
    }

    #[test]
    fn a_veth_is_ours_by_its_mark_and_served_while_its_daemon_lives() {
        let us = Liveness::of(std::process::id()).expect("we live");
        let (pid, started) = (us.pid(), us.started());
        for (alias, ours, served) in [
            (format!("vswitchd {pid} {started}"), true, true),
            (format!("vswitchd {pid} {}", started + 1), true, false),
            (format!("vswitchd {pid}"), true, false),
            ("vswitchd x y".to_owned(), true, false),
            (format!("{pid} {started}"), false, false),
            (String::new(), false, false),
        ] {
            let link = link(&alias);
            assert_eq!((is_ours(&link, MAC), is_served(&link)), (ours, served), "{alias}");
        }
        let other = MacAddr([2, 0, 0, 0, 0, 9]);
        assert!(!is_ours(&link("vswitchd 1 2"), other));
        let tap = Link {
            driver: LinkDriver::Tun,
            ..link("vswitchd 1 2")
        };
        assert!(!is_ours(&tap, MAC));
    }

    const MAC: MacAddr = MacAddr([0x02, 0x42, 10, 0, 0, 2]);
}
