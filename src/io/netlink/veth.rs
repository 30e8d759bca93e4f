//! Pairs of interfaces of which each receives what the other sends.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};
use vswitch_wire::MacAddr;

use super::{LinkState, Netlink, NetlinkError};

/// One end of a pair that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethEnd<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address; the kernel's choice when missing.
    pub mac: Option<MacAddr>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Whether it is set up at once.
    pub state: LinkState,
}

impl VethEnd<'_> {
    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.to_owned()));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.push(LinkAttribute::Mtu(self.mtu.into()));
        if self.state == LinkState::Up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        message
    }
}

impl Netlink {
    /// Makes a pair: `near` in the namespace of this socket, `far` in the other one. There are both or none.
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
        let mut message = near.message();
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
