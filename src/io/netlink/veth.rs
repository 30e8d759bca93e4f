//! Pairs of interfaces of which each receives what the other sends.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};
use vswitch_wire::MacAddr;

use super::{Netlink, NetlinkError};

/// One end of a pair that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethEnd<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address; the kernel's choice when missing.
    pub mac: Option<MacAddr>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
}

impl VethEnd<'_> {
    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.to_owned()));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.push(LinkAttribute::Mtu(self.mtu.into()));
        message
    }
}

impl Netlink {
    /// Makes a pair: `near` in the namespace of this socket, set up, and `far` in the other one, down. There are both or
    /// none.
    ///
    /// # Errors
    ///
    /// `EEXIST` if one of the names is taken; `EOPNOTSUPP` if the kernel has no veth driver; `EPERM` without
    /// `CAP_NET_ADMIN` in either namespace.
    pub fn add_veth(
        &mut self,
        near: &VethEnd<'_>,
        far: &VethEnd<'_>,
        far_namespace: BorrowedFd<'_>,
    ) -> Result<(), NetlinkError> {
        let mut peer = far.message();
        peer.attributes
            .push(LinkAttribute::NetNsFd(far_namespace.as_raw_fd()));
        // The far end could not be set up here: its driver wants the near one first (drivers/net/veth.c: veth_open).
        let mut message = near.message();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.command(
            || format!("create the veth pair of {}", far.name),
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }
}
