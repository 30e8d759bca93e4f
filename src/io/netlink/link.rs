//! Interfaces and their addresses, to and from netlink messages.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::{
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};
use serde::{Deserialize, Serialize};
use vswitch_wire::MacAddr;

use super::family;

/// An interface as the kernel described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The interface's number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; zero where it has none.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Frames that wait for us at most.
    pub txqueuelen: u32,
    /// Whether it is set up.
    pub state: LinkState,
    /// What drives it.
    pub driver: LinkDriver,
    /// A text that whoever made it left with it (`IFLA_IFALIAS`), or none.
    pub alias: String,
}

impl Link {
    pub(super) fn from_message(message: &LinkMessage) -> Self {
        let state = if message.header.flags.contains(LinkFlags::Up) {
            LinkState::Up
        } else {
            LinkState::Down
        };
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: MacAddr::ZERO,
            mtu: 0,
            txqueuelen: 0,
            state,
            driver: LinkDriver::Other,
            alias: String::new(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(bytes) => {
                    link.mac = bytes.as_slice().try_into().map_or(MacAddr::ZERO, MacAddr);
                }
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::TxQueueLen(frames) => link.txqueuelen = *frames,
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::LinkInfo(infos) => {
                    let driver = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(InfoKind::Tun) => Some(LinkDriver::Tun),
                        LinkInfo::Kind(InfoKind::Veth) => Some(LinkDriver::Veth),
                        _ => None,
                    });
                    link.driver = driver.unwrap_or(LinkDriver::Other);
                }
                _ => {}
            }
        }
        link
    }
}

/// What drives an interface, as far as we tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkDriver {
    /// Neither of the others.
    Other,
    /// A TUN or TAP device.
    Tun,
    /// One end of a veth pair.
    Veth,
}

impl std::fmt::Display for LinkDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Other => "neither TAP nor veth",
            Self::Tun => "TUN or TAP",
            Self::Veth => "veth",
        })
    }
}

/// Whether an interface is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// It neither sends nor receives; writing to its TAP fails with `EIO`.
    Down,
    /// It works.
    Up,
}

/// What to change on an interface; `None` leaves as is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// A new name; old kernels want the interface down for it.
    pub name: Option<String>,
    /// A text to leave with it.
    pub alias: Option<String>,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// Largest IP packet in bytes.
    pub mtu: Option<u32>,
    /// Frames that wait for us at most.
    pub txqueuelen: Option<u32>,
    /// Up or down.
    pub state: Option<LinkState>,
}

impl std::fmt::Display for LinkChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            self.name.as_ref().map(|name| format!("name {name}")),
            self.alias.as_ref().map(|alias| format!("alias {alias}")),
            self.mac.map(|mac| format!("MAC {mac}")),
            self.mtu.map(|mtu| format!("MTU {mtu}")),
            self.txqueuelen.map(|frames| format!("txqueuelen {frames}")),
            self.state.map(|state| format!("state {state:?}").to_lowercase()),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkAddress {
    /// The address and the prefix that is on-link.
    pub net: IpNet,
    /// Duplicate address detection has not finished: the address cannot be used yet.
    pub tentative: bool,
    /// The address reaches no further than the link.
    pub link_local: bool,
}

pub(super) fn address_message(link: &Link, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.index = link.index;
    message.header.scope = match address.addr() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => AddressScope::Link,
        _ => AddressScope::Universe,
    };
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message
}

pub(super) fn link_address(message: &AddressMessage) -> Option<LinkAddress> {
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let (mut local, mut peer) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // On a point-to-point interface IFA_ADDRESS is the peer's; IPv6 has no IFA_LOCAL without a peer.
    let net = IpNet::new(local.or(peer)?, message.header.prefix_len).ok()?;
    Some(LinkAddress {
        net,
        tentative: flags.contains(AddressFlags::Tentative),
        link_local: message.header.scope == AddressScope::Link,
    })
}
