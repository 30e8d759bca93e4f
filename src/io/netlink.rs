//! Interfaces, addresses and routes of the calling thread's network namespace, by rtnetlink(7).

use std::{io, net::IpAddr};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
    link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage},
    route::RouteMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use link::{address_message, link_address};

pub use link::{Link, LinkAddress, LinkChange, LinkDriver, LinkState};
pub use route::Route;
pub use veth::VethEnd;

mod link;
mod route;
mod veth;

/// A blocking rtnetlink socket. It stays in the namespace where it was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// Those of socket(2).
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| NetlinkError {
            operation: "open a netlink socket".into(),
            source,
        })?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The interface of this name, if there is one.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.find_link(&format!("find {name}"), message)
    }

    /// The interface of this index, if there is one.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.find_link(&format!("find interface {index}"), message)
    }

    /// All interfaces.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let replies = self.dump("list interfaces", request)?;
        Ok(replies
            .iter()
            .filter_map(|reply| match reply {
                RouteNetlinkMessage::NewLink(message) => Some(Link::from_message(message)),
                _ => None,
            })
            .collect())
    }

    /// Changes an interface; nothing is changed if `change` is empty.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `EINVAL` for an MTU out of the device's range. Name, MAC, MTU, queue and
    /// flags are applied in this order, and those before the failing one stay applied.
    pub fn change_link(&mut self, link: &Link, change: &LinkChange) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        let attributes = &mut message.attributes;
        attributes.extend(change.name.clone().map(LinkAttribute::IfName));
        attributes.extend(change.alias.clone().map(LinkAttribute::IfAlias));
        attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.extend(change.mtu.map(LinkAttribute::Mtu));
        attributes.extend(change.txqueuelen.map(LinkAttribute::TxQueueLen));
        if let Some(state) = change.state {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = match state {
                LinkState::Down => LinkFlags::empty(),
                LinkState::Up => LinkFlags::Up,
            };
        }
        self.command(
            || format!("set {change} of {}", link.name),
            RouteNetlinkMessage::SetLink(message),
            0,
        )
    }

    /// Deletes an interface.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for one that cannot be deleted, such as `lo`.
    pub fn delete_link(&mut self, link: &Link) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        self.command(
            || format!("delete {}", link.name),
            RouteNetlinkMessage::DelLink(message),
            0,
        )
    }

    /// Adds an address with its prefix route; an IPv6 address is usable at once (`IFA_F_NODAD`).
    ///
    /// # Errors
    ///
    /// `EEXIST` if the interface has it already.
    pub fn add_address(&mut self, link: &Link, address: IpNet) -> Result<(), NetlinkError> {
        let mut message = address_message(link, address);
        if address.addr().is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        if let IpNet::V4(net) = address
            && net.prefix_len() < 31
        {
            message
                .attributes
                .push(AddressAttribute::Broadcast(net.broadcast()));
        }
        self.command(
            || format!("add address {address} to {}", link.name),
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Removes an address.
    ///
    /// # Errors
    ///
    /// `EADDRNOTAVAIL` if the interface does not have it.
    pub fn remove_address(&mut self, link: &Link, address: IpNet) -> Result<(), NetlinkError> {
        let message = address_message(link, address);
        self.command(
            || format!("remove address {address} from {}", link.name),
            RouteNetlinkMessage::DelAddress(message),
            0,
        )
    }

    /// The interface's addresses, including link-local ones.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn addresses(&mut self, link: &Link) -> Result<Vec<LinkAddress>, NetlinkError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let mut addresses = Vec::new();
        for reply in self.dump(&format!("list addresses of {}", link.name), request)? {
            if let RouteNetlinkMessage::NewAddress(message) = reply
                && message.header.index == link.index
            {
                addresses.extend(link_address(&message));
            }
        }
        Ok(addresses)
    }

    /// Adds a route.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is one to the same destination; `ENETUNREACH` if the gateway is not on-link.
    pub fn add_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.command(
            || format!("add route {route}"),
            RouteNetlinkMessage::NewRoute(route.message()),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Adds a route in place of the one to the same destination, if there is one.
    ///
    /// # Errors
    ///
    /// `ENETUNREACH` if the gateway is not on-link.
    pub fn replace_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.command(
            || format!("replace route {route}"),
            RouteNetlinkMessage::NewRoute(route.message()),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Deletes a route, whoever made it and with whatever metric.
    ///
    /// # Errors
    ///
    /// `ESRCH` if there is no such route.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.command(
            || format!("delete route {route}"),
            RouteNetlinkMessage::DelRoute(route.pattern()),
            0,
        )
    }

    /// The unicast routes of the main table that have an outgoing interface.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        let replies = self.dump("list routes", request)?;
        Ok(replies
            .iter()
            .filter_map(|reply| match reply {
                RouteNetlinkMessage::NewRoute(message) => Route::from_message(message),
                _ => None,
            })
            .collect())
    }

    fn find_link(&mut self, operation: &str, mut message: LinkMessage) -> Result<Option<Link>, NetlinkError> {
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let request = RouteNetlinkMessage::GetLink(message);
        match self.exchange(operation, request, NLM_F_REQUEST | NLM_F_ACK) {
            Ok(replies) => Ok(replies.iter().find_map(|reply| match reply {
                RouteNetlinkMessage::NewLink(message) => Some(Link::from_message(message)),
                _ => None,
            })),
            Err(error) if error.source.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn command(
        &mut self,
        operation: impl FnOnce() -> String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.exchange(&operation(), message, NLM_F_REQUEST | NLM_F_ACK | flags)
            .map(drop)
    }

    fn dump(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.exchange(operation, message, NLM_F_REQUEST | NLM_F_DUMP)
    }

    fn exchange(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.attempt(message.clone(), flags) {
                Ok(Outcome::Complete(replies)) => return Ok(replies),
                Ok(Outcome::Interrupted) => {}
                Err(source) => {
                    return Err(NetlinkError {
                        operation: operation.to_owned(),
                        source,
                    });
                }
            }
        }
        let source = io::Error::new(io::ErrorKind::Interrupted, "the table keeps changing");
        Err(NetlinkError {
            operation: operation.to_owned(),
            source,
        })
    }

    fn attempt(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Outcome> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut replies = Vec::new();
        let mut interrupted = false;
        loop {
            let (datagram, sender) = self.socket.recv_from_full()?;
            if sender.port_number() != 0 {
                continue; // not from the kernel
            }
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let reply =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                // Messages are padded to four bytes; the last one of a datagram need not be.
                let length = (reply.header.length as usize)
                    .next_multiple_of(4)
                    .clamp(4, rest.len());
                rest = &rest[length..];
                // An answer to an earlier request that failed half-way.
                if reply.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= reply.header.flags & NLM_F_DUMP_INTR != 0;
                match reply.payload {
                    NetlinkPayload::InnerMessage(message) => replies.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Done(done) if done.code != 0 => {
                        return Err(io::Error::from_raw_os_error(done.code.saturating_abs()));
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => {
                        return Ok(if interrupted {
                            Outcome::Interrupted
                        } else {
                            Outcome::Complete(replies)
                        });
                    }
                    NetlinkPayload::Overrun(_) => return Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
                    _ => {}
                }
            }
        }
    }
}

/// A refused or failed netlink request.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {source}")]
pub struct NetlinkError {
    /// What was asked for, and of what object: `set MAC 02:42:0a:00:00:01 of eth0`.
    pub operation: String,
    /// The kernel's answer.
    pub source: io::Error,
}

enum Outcome {
    Complete(Vec<RouteNetlinkMessage>),
    /// The table changed during the dump (`NLM_F_DUMP_INTR`).
    Interrupted,
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}

/// How often a dump that the table changed under is started again.
const DUMP_ATTEMPTS: usize = 8;

#[cfg(test)]
mod tests {
    use vswitch_wire::MacAddr;

    use super::*;

    #[test]
    fn the_loopback_interface_is_described() {
        let mut netlink = Netlink::open().expect("netlink needs no right");
        let lo = netlink
            .link_by_name("lo")
            .expect("lo can be asked for")
            .expect("lo exists");
        assert_eq!(
            (lo.index, lo.name.as_str(), lo.driver),
            (1, "lo", LinkDriver::Other)
        );
        assert_eq!(
            netlink.link_by_index(1).expect("lo can be asked for"),
            Some(lo.clone())
        );
        for address in netlink.addresses(&lo).expect("addresses can be listed") {
            assert!(
                address.net.addr().is_loopback() || !address.link_local,
                "{address:?}"
            );
        }
        netlink.routes().expect("routes can be listed");
    }

    #[test]
    fn an_interface_that_is_not_there_is_none() {
        let mut netlink = Netlink::open().expect("netlink needs no right");
        assert_eq!(
            netlink
                .link_by_name("not-there-0")
                .expect("a question, not an error"),
            None
        );
        assert_eq!(
            netlink
                .link_by_index(0x7fff_fffe)
                .expect("a question, not an error"),
            None
        );
    }

    #[test]
    fn errors_name_operation_and_object() {
        let mut netlink = Netlink::open().expect("netlink needs no right");
        let nothing = Link {
            index: 0x7fff_fffe,
            name: "eth7".into(),
            mac: MacAddr::ZERO,
            mtu: 0,
            txqueuelen: 0,
            state: LinkState::Down,
            driver: LinkDriver::Other,
            alias: String::new(),
        };
        let change = LinkChange {
            mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            ..LinkChange::default()
        };
        let error = netlink
            .change_link(&nothing, &change)
            .expect_err("there is no such interface");
        assert!(
            error
                .to_string()
                .starts_with("set MAC 02:00:00:00:00:01 of eth7: "),
            "{error}"
        );
    }
}
