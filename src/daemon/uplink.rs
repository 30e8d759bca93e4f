//! Opening the device by which networks leave.

use std::{io, time::Duration};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use tokio::time::{self, Instant};

use crate::{
    dataplane::DataPlane,
    io::{
        netlink::{Link, LinkState, Netlink},
        packet::{Interface, Options, PacketSocket, Promiscuity},
    },
    uplink::{DeviceUplink, Standing},
};

/// Gives the packet loops the device.
pub(super) async fn open(uplink: &DeviceUplink, dataplane: &DataPlane) -> Result<()> {
    let interface = &uplink.interface;
    let link = link(interface)?;
    check_apart(uplink, &link)?;
    let mtu = mtu(uplink, &link)?;
    if link.state == LinkState::Down {
        tracing::warn!("{interface} is down; set it up: `ip link set {interface} up`");
    }
    let options = Options {
        filter: Some(uplink.mac),
        // It is not the interface's own address that frames come to.
        promiscuity: Promiscuity::Promiscuous,
    };
    let socket = PacketSocket::open(Interface::Index(link.index), options);
    let socket = socket.map_err(|error| refusal(interface, error))?;
    dataplane
        .add_uplink(uplink.clone(), mtu, socket)
        .await
        .with_context(|| format!("serve {interface}"))
}

/// Waits until it is known whether the uplink's addresses are free, for a while.
pub(super) async fn settle(dataplane: &DataPlane) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Some(view) = dataplane.uplink().await? {
        let is_open = |&(_, standing): &(_, Standing)| matches!(standing, Standing::Tentative(_));
        if !view.addresses.iter().any(is_open) {
            break;
        }
        if Instant::now() >= deadline {
            tracing::warn!("the uplink's addresses are not in use yet; see `vswitch info`");
            break;
        }
        time::sleep(LOOK).await;
    }
    Ok(())
}

fn link(interface: &str) -> Result<Link> {
    let mut netlink = Netlink::open()?;
    let Some(link) = netlink.link_by_name(interface)? else {
        bail!("uplink device={interface}: there is no such interface here; `ip link` lists those there are");
    };
    if link.mac.is_zero() {
        bail!(
            "uplink device={interface}: the interface has no Ethernet address; give an Ethernet device, such as a veth, a NIC or a VLAN on one"
        );
    }
    Ok(link)
}

/// The uplink is another station than the host, on the same link: what both have, both would answer for. Our probes are the
/// device's own outgoing frames, so that the host's stack never hears them and does not object.
fn check_apart(uplink: &DeviceUplink, link: &Link) -> Result<()> {
    let interface = &uplink.interface;
    if uplink.mac == link.mac {
        bail!(
            "uplink mac={}: this is {interface}'s own, so that the host would take every packet as well: leave mac= out, or \
             give another",
            link.mac
        );
    }
    let own = Netlink::open()?.addresses(link)?;
    if let Some(address) = uplink
        .addresses
        .iter()
        .map(IpNet::addr)
        .find(|&address| own.iter().any(|own| own.net.addr() == address))
    {
        bail!(
            "uplink address={address}: the host itself has this address on {interface}, and both would answer for it: give \
             the uplink another one of the link, or take it from the host (`ip address del {address} dev {interface}`)"
        );
    }
    Ok(())
}

fn mtu(uplink: &DeviceUplink, link: &Link) -> Result<u16> {
    // No IP packet is longer.
    let own = u16::try_from(link.mtu).unwrap_or(u16::MAX);
    match uplink.mtu {
        Some(mtu) if mtu > own => bail!(
            "uplink mtu={mtu} is more than {} takes, which is {own}: give less, or `ip link set {} mtu {mtu}`",
            link.name,
            link.name
        ),
        asked => Ok(asked.unwrap_or(own)),
    }
}

fn refusal(interface: &str, error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        anyhow::anyhow!(
            "uplink device={interface}: {error}: a packet socket needs CAP_NET_RAW in the interface's network \
             namespace. Run vswitchd as root, or `setcap cap_net_raw+ep` its program, or start it in a user and \
             network namespace of your own that has the interface (`unshare -Urn`)"
        )
    } else {
        anyhow::Error::new(error).context(format!("uplink device={interface}: open a packet socket"))
    }
}

/// Probing takes 0.8 s for IPv4 and 1 s for IPv6.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);
