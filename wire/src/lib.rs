//! Packet headers as views of the bytes that carry them, and the offloads of a vnet header.
//!
//! All of it is sans-IO and, but for the buffer of a [`reassembly::Partial`], allocates nothing: bytes come in, views
//! and decisions go out.
//!
//! - **Headers** ([`EthernetHeader`], [`Ipv4Header`], [`TcpHeader`], …) are the fixed part of a header laid
//!   over bytes. Any bytes of that length are one; accessors give what is there and cannot panic.
//! - **Packets** ([`Ipv4Packet`], [`TcpSegment`], [`UdpDatagram`], [`ArpPacket`], …) come only from a checked
//!   constructor, which says that lengths fit each other and the buffer. Payloads exclude Ethernet padding.
//!   Nothing reads a checksum unless asked to.
//! - **[`FlowKey`]** is what of a packet identifies its flow, read once.
//! - **Offloads**: [`VnetHeader::validate`] turns what a TAP claims about a frame into an [`Offload`] that
//!   fits the frame. [`segment`] does that work where a receiver cannot.
//! - **[`reassembly`]** puts one datagram together from its fragments.
//! - **[`checksum`]** has the Internet checksum and its incremental update, for rewriting in place.
//!
//! Bad input is an error value and never a panic: [`Truncated`], [`Malformed`], [`VnetError`],
//! [`segment::OffloadMismatch`]. A buffer of the caller that is too small to write to is [`NoRoom`].
#![forbid(unsafe_code)]

pub mod checksum;
pub mod message;
pub mod ndp;
pub mod reassembly;
pub mod segment;

mod arp;
mod error;
mod ethernet;
mod flow;
mod icmp;
mod icmpv6;
mod ip;
mod ipv4;
mod ipv6;
mod mac;
mod offload;
mod reasons;
mod tcp;
mod transport;
mod udp;
mod vlan;
mod vnet;

#[cfg(test)]
mod tests;

pub use arp::{ArpOperation, ArpPacket};
pub use error::{Malformed, NoRoom, Truncated};
pub use ethernet::{EtherType, EthernetHeader};
pub use flow::{FlowKey, Ports};
pub use icmp::{
    Echo, ICMPV4_ERROR_MAX_LEN, IcmpHeader, Icmpv4Error, Icmpv4Message, Icmpv4Packet, answer_echo_v4,
    may_report_v4,
};
pub use icmpv6::{
    ICMPV6_ERROR_MAX_LEN, Icmpv6Error, Icmpv6Message, Icmpv6Packet, answer_echo_v6, may_report_v6,
};
pub use ip::{Fragment, IpProtocol, IpVersion, UpperLayer};
pub use ipv4::{Ipv4Header, Ipv4Packet};
pub use ipv6::{Ipv6Header, Ipv6Packet, MAX_EXTENSIONS, PlacedFragment};
pub use mac::{InvalidMac, MacAddr};
pub use message::{Refusal, Stations};
pub use offload::{Abilities, Gso, GsoKind, Offload, PartialChecksum};
pub use tcp::{TcpFlags, TcpHeader, TcpOption, TcpOptions, TcpSegment};
pub use udp::{UdpDatagram, UdpHeader};
pub use vlan::{InvalidVlanId, MAX_TAGS, NetworkLayer, OuterTag, VlanHeader, VlanId, VlanTag};
pub use vnet::{MAX_FRAME, MAX_GSO_HEADER, MAX_TCP_SEGMENTS, MAX_UDP_SEGMENTS, VnetError, VnetHeader};
