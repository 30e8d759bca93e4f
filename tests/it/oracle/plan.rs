//! The topology of nat-conformance §0, and what both routers are told of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vswitch_nat::Timer;
use vswitch_wire::{IpProtocol, IpVersion};

/// Where a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Inside = 0,
    Outside = 1,
}

impl Side {
    pub(super) const fn opposite(self) -> Self {
        match self {
            Self::Inside => Self::Outside,
            Self::Outside => Self::Inside,
        }
    }
}

/// Host `last` of a side.
pub(super) fn host(side: Side, version: IpVersion, last: u8) -> IpAddr {
    match (side, version) {
        (Side::Inside, IpVersion::V4) => Ipv4Addr::new(10, 0, 0, last).into(),
        (Side::Outside, IpVersion::V4) => Ipv4Addr::new(198, 51, 100, last).into(),
        (Side::Inside, IpVersion::V6) => Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, last.into()).into(),
        (Side::Outside, IpVersion::V6) => Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, last.into()).into(),
    }
}

/// The router on a side.
pub(super) fn router(side: Side, version: IpVersion) -> IpAddr {
    host(side, version, 1)
}

/// Whether it is one of the router's addresses.
pub(super) fn is_router(address: IpAddr) -> bool {
    let version = if address.is_ipv4() {
        IpVersion::V4
    } else {
        IpVersion::V6
    };
    [Side::Inside, Side::Outside]
        .iter()
        .any(|&side| router(side, version) == address)
}

/// Largest packets, inside and outside.
pub(super) const MTU: [u16; 2] = [1300, 1400];

/// Prefixes, inside and outside.
pub(super) const PREFIXES: [[&str; 2]; 2] = [
    ["10.0.0.0/24", "2001:db8:a::/64"],
    ["198.51.100.0/24", "2001:db8:b::/64"],
];

/// Published ports: protocol, version, first and last port, last byte of the target, first port of the target.
pub(super) const PUBLISHED: [(IpProtocol, IpVersion, [u16; 2], u8, u16); 5] = [
    (IpProtocol::TCP, IpVersion::V4, [8080, 8080], 3, 80),
    (IpProtocol::UDP, IpVersion::V4, [5353, 5353], 3, 53),
    (IpProtocol::UDP, IpVersion::V4, [9000, 9003], 4, 7000),
    (IpProtocol::TCP, IpVersion::V6, [8080, 8080], 3, 80),
    (IpProtocol::UDP, IpVersion::V6, [5353, 5353], 3, 53),
];

/// Who sends what marks the end of a packet's outputs.
pub(super) const SENTINEL_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 250);
pub(super) const SENTINEL_OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 250);

/// The time of every timer in seconds, with its name in the kernel: so long that none ends during a run, and so
/// different that the remaining time says which it was. Their order is that of the defaults, because the tracker
/// compares some.
pub(super) fn timers() -> impl Iterator<Item = (Timer, Option<&'static str>, u32)> {
    TIMERS
        .into_iter()
        .map(|(timer, name, rank)| (timer, name, rank * TIMER_STEP))
}

/// Seconds between two timers: more than a run takes, by any clock.
pub(super) const TIMER_STEP: u32 = 10_000;

const TIMERS: [(Timer, Option<&str>, u32); 27] = [
    (Timer::Generic, Some("generic_timeout"), 3),
    (Timer::Gre, Some("gre_timeout"), 4),
    (Timer::GreStream, Some("gre_timeout_stream"), 5),
    (Timer::Icmp, Some("icmp_timeout"), 6),
    (Timer::Icmpv6, Some("icmpv6_timeout"), 7),
    (Timer::SctpClosed, Some("sctp_timeout_closed"), 1),
    (Timer::SctpCookieWait, Some("sctp_timeout_cookie_wait"), 2),
    (Timer::SctpCookieEchoed, Some("sctp_timeout_cookie_echoed"), 3),
    (Timer::SctpShutdownSent, Some("sctp_timeout_shutdown_sent"), 4),
    (Timer::SctpShutdownReceived, Some("sctp_timeout_shutdown_recd"), 5),
    (
        Timer::SctpShutdownAckSent,
        Some("sctp_timeout_shutdown_ack_sent"),
        6,
    ),
    (Timer::SctpHeartbeatSent, Some("sctp_timeout_heartbeat_sent"), 7),
    (Timer::SctpEstablished, Some("sctp_timeout_established"), 8),
    (Timer::TcpClose, Some("tcp_timeout_close"), 1),
    (Timer::TcpLastAck, Some("tcp_timeout_last_ack"), 2),
    (Timer::TcpCloseWait, Some("tcp_timeout_close_wait"), 20),
    (Timer::TcpSynReceived, Some("tcp_timeout_syn_recv"), 4),
    (Timer::TcpFinWait, Some("tcp_timeout_fin_wait"), 5),
    (Timer::TcpTimeWait, Some("tcp_timeout_time_wait"), 6),
    (Timer::TcpSynSent, Some("tcp_timeout_syn_sent"), 7),
    // The kernel's is not to be changed.
    (Timer::TcpSynSent2, None, 7),
    (Timer::TcpMaxRetrans, Some("tcp_timeout_max_retrans"), 8),
    (Timer::TcpUnacknowledged, Some("tcp_timeout_unacknowledged"), 9),
    (Timer::TcpEstablished, Some("tcp_timeout_established"), 40),
    (Timer::Udp, Some("udp_timeout"), 3),
    // The kernel does not ask which port it is.
    (Timer::UdpShort, None, 3),
    (Timer::UdpStream, Some("udp_timeout_stream"), 5),
];
