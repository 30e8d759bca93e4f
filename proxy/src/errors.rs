//! What a host socket's errors are to a container: the error queue, and errors of sending.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
};

use vswitch_wire::{Icmpv4Error, Icmpv6Error, IpVersion, Refusal};

use crate::{
    Path,
    datagram_socket::DatagramSocket,
    payload::{Fragmentation, Headers},
    report::IcmpError,
    sys::{self, Origin, QueuedError},
};

/// The oldest entry of the socket's error queue, whose payload goes to `payload`; `None` if there is none, or
/// if the kernel cannot give it now: no call fails and takes an entry with it.
pub(crate) fn next(socket: BorrowedFd<'_>, payload: &mut [u8]) -> Option<QueuedError> {
    sys::receive_error(socket, payload).ok()
}

/// The ICMP error that tells a container of an entry (R-UDP-6); `None` where there is nothing to tell: an
/// error that this host made while sending was the result of that call already.
pub(crate) fn explain(error: &QueuedError, version: IpVersion) -> Option<IcmpError> {
    let error = match error.origin {
        Origin::Icmp => IcmpError::V4(explain_v4(error)?),
        Origin::Icmpv6 => IcmpError::V6(explain_v6(error)?),
        Origin::Local | Origin::Other => return None,
    };
    match (error, version) {
        (IcmpError::V4(_), IpVersion::V4) | (IcmpError::V6(_), IpVersion::V6) => Some(error),
        // The container asked the gateway over one version and the host's service is reached over the other.
        (IcmpError::V4(error), IpVersion::V6) => Some(IcmpError::V6(refusal_of_v4(error)?.v6())),
        (IcmpError::V6(error), IpVersion::V4) => Some(IcmpError::V4(refusal_of_v6(error)?.v4())),
    }
}

/// From whom the container hears it: the node that made the error, as the container knows it; the gateway
/// where that is nobody whom the container could reach (R-UDP-6).
pub(crate) fn reporter(error: &QueuedError, target: SocketAddr, path: &Path, gateway: IpAddr) -> IpAddr {
    match error.offender {
        Some(offender) if offender == target.ip() => path.remote.ip(),
        Some(offender) if is_node(offender) && offender.is_ipv4() == gateway.is_ipv4() => offender,
        _ => gateway,
    }
}

/// What a container is told when opening or sending failed with this error; `None` if it hears nothing,
/// because the host is short of something and later packets may go.
pub(crate) fn refusal(error: &io::Error) -> Option<Refusal> {
    match error.raw_os_error()? {
        libc::ECONNREFUSED => Some(Refusal::PortUnreachable),
        libc::EACCES | libc::EPERM => Some(Refusal::Prohibited),
        libc::EHOSTUNREACH | libc::EHOSTDOWN => Some(Refusal::HostUnreachable),
        // The last three: the host has no address of that version, the chosen one is gone, or so is IPv6.
        libc::ENETUNREACH | libc::ENETDOWN | libc::ENODEV | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT => {
            Some(Refusal::NoRoute)
        }
        libc::ENOPROTOOPT | libc::EPROTONOSUPPORT => Some(Refusal::ProtocolUnreachable),
        _ => None,
    }
}

/// The answer to a packet that must not be fragmented and that the host's kernel found too big, `len` bytes
/// behind its IP header.
pub(crate) fn too_big(socket: &DatagramSocket, len: usize, headers: Headers) -> Option<IcmpError> {
    let mtu = socket.path_mtu().ok()?;
    let header_len = match socket.version() {
        IpVersion::V4 => 20,
        IpVersion::V6 => 40,
    };
    if headers.fragmentation == Fragmentation::Allowed || len + header_len <= mtu as usize {
        return None;
    }
    Some(match socket.version() {
        IpVersion::V4 => IcmpError::V4(Icmpv4Error::FragmentationNeeded {
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        }),
        IpVersion::V6 => IcmpError::V6(Icmpv6Error::PacketTooBig { mtu }),
    })
}

fn explain_v4(error: &QueuedError) -> Option<Icmpv4Error> {
    let code = error.code;
    match error.kind {
        // RFC 792, RFC 1191 §4.
        3 if code == 4 => Some(Icmpv4Error::FragmentationNeeded {
            mtu: u16::try_from(error.info).unwrap_or(u16::MAX),
        }),
        3 => Some(Icmpv4Error::DestinationUnreachable { code }),
        11 => Some(Icmpv4Error::TimeExceeded { code }),
        12 => Some(Icmpv4Error::ParameterProblem {
            code,
            pointer: error.info as u8,
        }),
        _ => None,
    }
}

fn explain_v6(error: &QueuedError) -> Option<Icmpv6Error> {
    let code = error.code;
    match error.kind {
        // RFC 4443 §3.
        1 => Some(Icmpv6Error::DestinationUnreachable { code }),
        2 => Some(Icmpv6Error::PacketTooBig { mtu: error.info }),
        3 => Some(Icmpv6Error::TimeExceeded { code }),
        4 => Some(Icmpv6Error::ParameterProblem {
            code,
            pointer: error.info,
        }),
        _ => None,
    }
}

/// RFC 7915 §4.2 has the same table for translators.
fn refusal_of_v4(error: Icmpv4Error) -> Option<Refusal> {
    match error {
        Icmpv4Error::DestinationUnreachable { code: 3 } => Some(Refusal::PortUnreachable),
        Icmpv4Error::DestinationUnreachable { code: 9 | 10 | 13 } => Some(Refusal::Prohibited),
        Icmpv4Error::DestinationUnreachable { code: 2 } => Some(Refusal::ProtocolUnreachable),
        Icmpv4Error::DestinationUnreachable { .. } => Some(Refusal::NoRoute),
        Icmpv4Error::TimeExceeded { code: 0 } => Some(Refusal::TimeExceeded),
        _ => None,
    }
}

/// RFC 7915 §5.2.
fn refusal_of_v6(error: Icmpv6Error) -> Option<Refusal> {
    match error {
        Icmpv6Error::DestinationUnreachable { code: 4 } => Some(Refusal::PortUnreachable),
        Icmpv6Error::DestinationUnreachable { code: 1 } => Some(Refusal::Prohibited),
        Icmpv6Error::DestinationUnreachable { .. } => Some(Refusal::HostUnreachable),
        Icmpv6Error::TimeExceeded { code: 0 } => Some(Refusal::TimeExceeded),
        _ => None,
    }
}

/// Whether the address is that of one node, not only within this host.
fn is_node(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_broadcast)
}

/// Whether an accept has failed because of the one who came, and the next may succeed (accept(2), "Error handling").
pub(crate) fn is_of_client(error: &io::Error) -> bool {
    let of_client = [
        libc::ECONNABORTED,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::EINTR,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::ENONET,
        libc::ENOPROTOOPT,
        libc::EPERM,
        libc::EPROTO,
    ];
    error
        .raw_os_error()
        .is_some_and(|errno| of_client.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "203.0.113.5:80";

    #[test]
    fn r_udp_6_types_codes_and_mtus_are_kept() {
        let v4 = |kind, code, info| explain(&queued(Origin::Icmp, kind, code, info), IpVersion::V4);
        let v6 = |kind, code, info| explain(&queued(Origin::Icmpv6, kind, code, info), IpVersion::V6);
        assert_eq!(v4(3, 3, 0), Some(IcmpError::V4(Icmpv4Error::PORT_UNREACHABLE)));
        assert_eq!(
            v4(3, 4, 1400),
            Some(IcmpError::V4(Icmpv4Error::FragmentationNeeded { mtu: 1400 }))
        );
        assert_eq!(v4(11, 0, 0), Some(IcmpError::V4(Icmpv4Error::HOPS_EXCEEDED)));
        assert_eq!(
            v4(12, 0, 20),
            Some(IcmpError::V4(Icmpv4Error::ParameterProblem {
                code: 0,
                pointer: 20
            }))
        );
        assert_eq!(v4(5, 0, 0), None);
        assert_eq!(v6(1, 4, 0), Some(IcmpError::V6(Icmpv6Error::PORT_UNREACHABLE)));
        assert_eq!(
            v6(2, 0, 1280),
            Some(IcmpError::V6(Icmpv6Error::PacketTooBig { mtu: 1280 }))
        );
        assert_eq!(v6(3, 0, 0), Some(IcmpError::V6(Icmpv6Error::HOPS_EXCEEDED)));
        assert_eq!(v6(129, 0, 0), None);
    }

    #[test]
    fn r_udp_6_errors_of_this_host_are_not_told_twice() {
        let local = queued(Origin::Local, 0, 0, 1500);
        assert_eq!(explain(&local, IpVersion::V4), None);
    }

    #[test]
    fn r_udp_6_errors_cross_versions_by_their_meaning() {
        let v4_to_v6 = |kind, code| explain(&queued(Origin::Icmp, kind, code, 0), IpVersion::V6);
        let v6_to_v4 = |kind, code| explain(&queued(Origin::Icmpv6, kind, code, 0), IpVersion::V4);
        assert_eq!(v4_to_v6(3, 3), Some(IcmpError::V6(Icmpv6Error::PORT_UNREACHABLE)));
        assert_eq!(v6_to_v4(1, 4), Some(IcmpError::V4(Icmpv4Error::PORT_UNREACHABLE)));
        assert_eq!(v4_to_v6(3, 13), Some(IcmpError::V6(Icmpv6Error::PROHIBITED)));
        assert_eq!(v4_to_v6(3, 4), None);
    }

    #[test]
    fn r_udp_6_the_offender_is_the_source_if_it_is_a_node() {
        let path = Path {
            container: "10.0.0.2:40000".parse().expect("an address"),
            remote: "10.0.0.1:80".parse().expect("an address"),
            stations: vswitch_wire::Stations {
                src: vswitch_wire::MacAddr::ZERO,
                dst: vswitch_wire::MacAddr::ZERO,
            },
            mtu: 1500,
        };
        let gateway: IpAddr = "10.0.0.1".parse().expect("an address");
        let target: SocketAddr = TARGET.parse().expect("an address");
        let from = |offender: Option<&str>| {
            let mut error = queued(Origin::Icmp, 11, 0, 0);
            error.offender = offender.map(|offender| offender.parse().expect("an address"));
            reporter(&error, target, &path, gateway)
        };
        assert_eq!(from(Some("198.51.100.1")).to_string(), "198.51.100.1");
        for nobody in [
            "127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "2001:db8::1",
        ] {
            assert_eq!(from(Some(nobody)), gateway, "{nobody}");
        }
        assert_eq!(from(None), gateway);
        assert_eq!(from(Some("203.0.113.5")), path.remote.ip());
    }

    #[test]
    fn r_out_2_failures_to_send_have_their_refusals() {
        let of = |errno| refusal(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(libc::ENETUNREACH), Some(Refusal::NoRoute));
        assert_eq!(of(libc::EHOSTUNREACH), Some(Refusal::HostUnreachable));
        assert_eq!(of(libc::EPERM), Some(Refusal::Prohibited));
        assert_eq!(of(libc::ENOBUFS), None);
        assert_eq!(of(libc::EMFILE), None);
    }

    fn queued(origin: Origin, kind: u8, code: u8, info: u32) -> QueuedError {
        QueuedError {
            errno: libc::ECONNREFUSED,
            origin,
            kind,
            code,
            info,
            destination: None,
            offender: None,
            len: 0,
        }
    }
}
